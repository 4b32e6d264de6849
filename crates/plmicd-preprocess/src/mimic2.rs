//! Source `mimic2`: the discharge summaries of MIMIC-II with their codes as Perotte et al. 2014 published them
//! (`MIMIC_RAW_DSUMS`), read as CAML's scripts read them.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_data::{CodeSystem, Split, kind};
use plmicd_pipeline::{BadInput, StageContext, StageError};
use rayon::prelude::*;

use crate::codes::format_code;
use crate::config::{CodeKinds, PreprocessConfig};
use crate::corpus::{CodeBook, CodeId, Corpus, DraftNote, Exclusions};
use crate::descriptions::Descriptions;
use crate::files;
use crate::spill::SpillWriter;
use crate::text::count_words;

/// Name of the table.
pub const SUMMARIES: &str = "MIMIC_RAW_DSUMS";
/// The lists of the training and the test notes, by their number among the notes that are kept.
pub const LISTS: [(&str, Split); 2] =
    [("training_indices.data", Split::Train), ("testing_indices.data", Split::Test)];

/// There is no published dev split. As Vu et al. 2020 (LAAT) do, the last of the training notes serve: 1,141 of 20,533.
const DEV_OF_TRAIN: (usize, usize) = (1141, 20_533);

/// Lines cleaned at a time.
const BATCH_LINES: usize = 4096;

/// What stands before or after the text in nearly every summary, and is no content.
const HEADERS: [&str; 5] = ["admission date:", "discharge date:", "date of birth:", "sex:", "service:"];
/// What ends the content of a summary.
const ENDS: [&str; 3] = ["dictated by:", "completed by:", "signed electronically by:"];

/// A line of the table.
struct Line {
    number: u64,
    text: String,
}

/// A line taken apart and cleaned; `None` if nothing is left of its text.
type Cleaned = Option<Record>;

struct Record {
    subject: String,
    admission: String,
    codes: String,
    text: String,
}

/// Reads the source in `dir`.
///
/// # Errors
/// The table or, for the published splits, a list is missing or not as expected.
pub fn read(
    config: &PreprocessConfig,
    dir: &Utf8Path,
    context: &StageContext<'_>,
) -> Result<Corpus, StageError> {
    let lists = if config.splits.are_made() { None } else { Some(read_lists(dir, config)?) };
    let path = dir.join(SUMMARIES);
    if config.codes != CodeKinds::All {
        let message = "this table does not tell diagnoses from procedures; `codes` stays at \"all\"";
        return Err(BadInput::new(&path, message).into());
    }
    let file = files::open(&path)?;
    let total = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(1 << 20, file);
    check_header(&mut reader, &path)?;

    let workers = rayon::ThreadPoolBuilder::new()
        .num_threads(context.runtime().thread_count())
        .build()
        .map_err(|error| StageError::because("starting worker threads", error))?;
    let rules = config.text_rules();
    let mut spill = SpillWriter::create(context.work_dir())?;
    let mut codes = CodeBook::default();
    let mut notes: Vec<DraftNote> = Vec::new();
    let mut seen: HashMap<String, u32> = HashMap::new();
    let (mut kept, mut without_content, mut unlisted, mut short, mut repeated) =
        (0u64, 0u64, 0u64, 0u64, 0u64);
    let (mut number, mut bytes) = (1u64, 0u64);
    loop {
        context.check_interrupt()?;
        context.progress("reading MIMIC_RAW_DSUMS", bytes, Some(total), "bytes");
        let batch = lines(&mut reader, &mut number, &mut bytes)?;
        if batch.is_empty() {
            break;
        }
        let records: Vec<Cleaned> = workers.install(|| {
            batch
                .par_iter()
                .map(|line| {
                    let record = record(line, &path)?;
                    Ok(record.map(|record| Record { text: rules.apply(&record.text), ..record }))
                })
                .collect::<Result<_, StageError>>()
        })?;
        for record in records {
            let Some(record) = record else {
                without_content += 1;
                continue;
            };
            // The published lists number the notes that are kept.
            let split = lists.as_ref().and_then(|lists| lists.get(&kept).copied());
            kept += 1;
            if lists.is_some() && split.is_none() {
                unlisted += 1;
                continue;
            }
            let words = count_words(&record.text);
            if words <= 1 {
                short += 1;
                continue;
            }
            let mut of_note: Vec<CodeId> = Vec::new();
            for code in record.codes.split(',').map(str::trim).filter(|code| !code.is_empty()) {
                let code = match code.contains('.') {
                    true => code.to_owned(),
                    false => format_code(code, CodeSystem::Icd9Diagnosis),
                };
                let id = codes.intern(code, CodeSystem::Icd9Diagnosis);
                if of_note.contains(&id) {
                    repeated += 1;
                } else {
                    of_note.push(id);
                }
            }
            let times = seen.entry(record.admission.clone()).or_default();
            *times += 1;
            let note_id =
                if *times == 1 { record.admission } else { format!("{}-{times}", record.admission) };
            notes.push(DraftNote {
                note_id,
                subject_id: record.subject,
                split,
                codes: of_note,
                pieces: vec![spill.push(&record.text)?],
                words,
            });
        }
    }
    if lists.is_some() {
        carve_dev(&mut notes);
    }
    let mut exclusions = Exclusions::default();
    exclusions.add(without_content, "rows", "of MIMIC_RAW_DSUMS without content");
    exclusions.add(unlisted, "rows", "of MIMIC_RAW_DSUMS in no split list");
    exclusions.add(short, "rows", "of at most one word after cleaning");
    exclusions.add(repeated, "codes", "repeating a code of the same note");
    let descriptions = Descriptions::default();
    Ok(Corpus { source: kind::MIMIC2, notes, codes, spill: spill.finish()?, descriptions, exclusions })
}

/// The next lines, read as Latin-1 as the scripts do.
fn lines(reader: &mut impl BufRead, number: &mut u64, bytes: &mut u64) -> Result<Vec<Line>, StageError> {
    let mut batch = Vec::new();
    let mut raw = Vec::new();
    while batch.len() < BATCH_LINES {
        raw.clear();
        let read = reader.read_until(b'\n', &mut raw)?;
        if read == 0 {
            break;
        }
        *bytes += read as u64;
        *number += 1;
        if !raw.trim_ascii().is_empty() {
            batch.push(Line { number: *number, text: raw.iter().map(|&byte| char::from(byte)).collect() });
        }
    }
    Ok(batch)
}

fn check_header(reader: &mut impl BufRead, path: &Utf8Path) -> Result<(), StageError> {
    let mut header = Vec::new();
    reader.read_until(b'\n', &mut header)?;
    let fields = header.split(|&byte| byte == b'|').count();
    if fields < 7 {
        let message = format!(
            "{fields} fields; expected 7 separated by `|`: subject, admission, time, category, title, codes, text"
        );
        return Err(BadInput::new(path, message).line(1).into());
    }
    if header.first().is_some_and(u8::is_ascii_digit) {
        return Err(BadInput::new(path, "begins with a number; expected a line of headers").line(1).into());
    }
    Ok(())
}

fn record(line: &Line, path: &Utf8Path) -> Result<Cleaned, StageError> {
    let bad = |message: &str| StageError::from(BadInput::new(path, message).line(line.number));
    // Whether a note counts is decided on the raw line, quotes and all.
    let raw = line.text.split('|').nth(6).ok_or_else(|| bad("fewer than 7 fields separated by `|`"))?;
    if !has_content(raw) {
        return Ok(None);
    }
    let mut parser = csv::ReaderBuilder::new();
    let mut parser =
        parser.delimiter(b'|').has_headers(false).flexible(true).from_reader(line.text.as_bytes());
    let mut fields = csv::StringRecord::new();
    let read =
        parser.read_record(&mut fields).map_err(|error| bad(&format!("not a row of fields: {error}")))?;
    match (read, fields.get(0), fields.get(1), fields.get(5), fields.get(6)) {
        (true, Some(subject), Some(admission), Some(codes), Some(text)) => {
            let (subject, admission) = (subject.trim(), admission.trim());
            if subject.is_empty() || admission.is_empty() {
                return Err(bad("no subject or no admission in the first two fields"));
            }
            Ok(Some(Record {
                subject: subject.to_owned(),
                admission: admission.to_owned(),
                codes: codes.to_owned(),
                text: text.replace("[NEWLINE]", "\n"),
            }))
        }
        _ => Err(bad("fewer than 7 fields once quotes are taken into account")),
    }
}

/// Whether any word of two letters is left without brackets, headers and signatures.
fn has_content(raw: &str) -> bool {
    let mut text = without_brackets(raw).to_ascii_lowercase();
    for header in HEADERS {
        text = text.replace(header, " ");
    }
    for end in ENDS {
        if let Some(at) = text.find(end) {
            text.truncate(at);
        }
    }
    text.split(|c: char| !c.is_ascii_alphabetic()).any(|word| word.len() > 1)
}

/// Without spans from `[` to the next `]`, if something stands between.
fn without_brackets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let inside = &rest[open + 1..];
        match inside.find(']') {
            Some(close) if close > 0 => {
                out.push_str(&rest[..open]);
                out.push(' ');
                rest = &inside[close + 1..];
            }
            // An empty pair is no span: what follows it may close a later one.
            Some(_) => match inside[1..].find(']') {
                Some(next) => {
                    out.push_str(&rest[..open]);
                    out.push(' ');
                    rest = &inside[1 + next + 1..];
                }
                None => break,
            },
            None => break,
        }
    }
    out.push_str(rest);
    out
}

fn read_lists(dir: &Utf8Path, config: &PreprocessConfig) -> Result<HashMap<u64, Split>, StageError> {
    if config.splits.are_camls() {
        return Err(BadInput::new(dir, "splits = \"caml\" is for mimic3 sources")
            .hint("\"published\" reads training_indices.data and testing_indices.data")
            .into());
    }
    let mut splits = HashMap::new();
    for (name, split) in LISTS {
        let path: Utf8PathBuf = dir.join(name);
        if !path.exists() {
            return Err(BadInput::new(&path, "this list of the notes of a split is missing")
                .hint("it comes with MIMIC_RAW_DSUMS (\"ICD9 Coding of Discharge Summaries\" at PhysioNet's archive); \
                       splits = \"stratified\" or \"random\" needs no lists")
                .into());
        }
        let mut numbers = HashSet::new();
        for (at, line) in files::read_to_string(&path)?.lines().enumerate() {
            let bad = |message: &str| StageError::from(BadInput::new(&path, message).line(at as u64 + 1));
            if line.trim().is_empty() {
                continue;
            }
            let number: u64 =
                line.trim().parse().map_err(|_| bad("not a number; expected the number of a note a line"))?;
            if !numbers.insert(number) || splits.insert(number, split).is_some_and(|other| other != split) {
                return Err(bad("this number is listed twice"));
            }
        }
    }
    Ok(splits)
}

/// Moves the last training notes to dev.
fn carve_dev(notes: &mut [DraftNote]) {
    let train = notes.iter().filter(|note| note.split == Some(Split::Train)).count();
    let dev = train * DEV_OF_TRAIN.0 / DEV_OF_TRAIN.1;
    let of_train = notes.iter_mut().rev().filter(|note| note.split == Some(Split::Train));
    of_train.take(dev).for_each(|note| note.split = Some(Split::Dev));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_signatures_are_no_content() {
        assert!(!has_content(
            "[**2999-1-1**] Admission Date: 12 Sex: M [NEWLINE] Signed electronically by: Dr. X"
        ));
        assert!(!has_content("a b c 1 2 3"));
        assert!(has_content("Admission Date: [**2999**] chest pain"));
        assert!(has_content("[ never closed"));
        assert!(!has_content("[] inside ]"), "an empty pair does not close");
        assert!(has_content("[] inside"));
    }

    #[test]
    fn the_last_training_notes_are_dev() {
        let note = |split| DraftNote {
            note_id: String::new(),
            subject_id: String::new(),
            split: Some(split),
            codes: Vec::new(),
            pieces: Vec::new(),
            words: 2,
        };
        let mut notes: Vec<DraftNote> = (0..20_533).map(|_| note(Split::Train)).collect();
        notes.push(note(Split::Test));
        carve_dev(&mut notes);
        let count = |split| notes.iter().filter(|note| note.split == Some(split)).count();
        assert_eq!((count(Split::Train), count(Split::Dev), count(Split::Test)), (19_392, 1141, 1));
        assert_eq!(notes[20_532].split, Some(Split::Dev));
    }
}
