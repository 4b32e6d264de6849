//! Source `caml-csv`: the tables that CAML's scripts write (`train_full.csv` and so on), or any of their form.

use std::collections::HashSet;

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_data::{Split, kind};
use plmicd_pipeline::{BadInput, StageContext, StageError};

use crate::codes::icd9_system;
use crate::config::{Compat, PreprocessConfig};
use crate::corpus::{CodeBook, CodeId, Corpus, DraftNote, Exclusions};
use crate::descriptions::Descriptions;
use crate::encoding::mend;
use crate::own::name_fault;
use crate::spill::SpillWriter;
use crate::table::{self, Table};
use crate::text::count_words;

const TEXT: usize = 0;
/// CAML's name, then the one that PLM-ICD's script wants.
const LABELS: [usize; 2] = [1, 2];
const SUBJECT: usize = 3;
const ADMISSION: usize = 4;

/// The tables of the splits: `{split}_full.csv`, else `{split}.csv`, else `{split}_{N}.csv` for one N; a dev table may be
/// missing.
///
/// # Errors
/// No table of train or test, or several that fit.
pub fn find(dir: &Utf8Path) -> Result<Vec<(Split, Utf8PathBuf)>, StageError> {
    for pattern in ["{split}_full", "{split}"] {
        let found = with_names(dir, |split| pattern.replace("{split}", split.as_str()))?;
        if found.iter().any(|(split, _)| *split == Split::Train) {
            return complete(dir, found);
        }
    }
    let mut numbers: Vec<String> = Vec::new();
    for entry in fs_err::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().to_ascii_lowercase();
        let number = name.strip_prefix("train_").and_then(|rest| rest.split('.').next().map(str::to_owned));
        numbers.extend(number.filter(|number| number.parse::<u32>().is_ok()));
    }
    numbers.sort();
    numbers.dedup();
    match numbers.as_slice() {
        [number] => complete(dir, with_names(dir, |split| format!("{split}_{number}"))?),
        [] => Err(missing(dir).into()),
        several => Err(BadInput::new(
            dir,
            format!("tables of {} codes; expected one number only", several.join(" and of ")),
        )
        .into()),
    }
}

fn with_names(
    dir: &Utf8Path,
    name: impl Fn(Split) -> String,
) -> Result<Vec<(Split, Utf8PathBuf)>, StageError> {
    let mut found = Vec::new();
    for split in Split::ALL {
        found.extend(table::find(dir, &name(split))?.map(|path| (split, path)));
    }
    Ok(found)
}

fn complete(
    dir: &Utf8Path,
    found: Vec<(Split, Utf8PathBuf)>,
) -> Result<Vec<(Split, Utf8PathBuf)>, StageError> {
    let has = |wanted| found.iter().any(|(split, _)| *split == wanted);
    if has(Split::Train) && has(Split::Test) { Ok(found) } else { Err(missing(dir).into()) }
}

fn missing(dir: &Utf8Path) -> BadInput {
    BadInput::new(
        dir.join("train_full.csv"),
        "missing: expected train_full.csv, dev_full.csv and test_full.csv, or tables named train, dev and test",
    )
    .hint("CAML's notebooks write them, and so does `preprocess` with compat = \"caml\" and caml_files = true")
}

/// Reads the source in `dir`. Texts are cleaned once more, which leaves CAML's as they are.
///
/// # Errors
/// A table is missing or damaged or lacks a column; a note is in two of them.
pub fn read(
    config: &PreprocessConfig,
    dir: &Utf8Path,
    context: &StageContext<'_>,
) -> Result<Corpus, StageError> {
    let rules = config.text_rules();
    let mut spill = SpillWriter::create(context.work_dir())?;
    let mut codes = CodeBook::default();
    let mut notes: Vec<DraftNote> = Vec::new();
    let mut seen: HashSet<String> = HashSet::new();
    let (mut empty, mut repeated, mut other_kind, mut mended_bytes) = (0, 0, 0, 0);
    for (split, path) in find(dir)? {
        let further = ["LABELS", "label", "SUBJECT_ID", "HADM_ID"];
        // The published scripts read with pandas, which takes text after a closing quote as part of the field.
        let as_pandas = config.compat == Compat::Caml;
        let mut table = Table::open(&path, b',', &["TEXT"], &further)?.keeping_stray_text(as_pandas);
        let Some(labels) = LABELS.into_iter().find(|column| table.has(*column)) else {
            return Err(BadInput::new(&path, "no such column in the header").line(1).column("LABELS").into());
        };
        let progress = table.progress();
        let mut row: u64 = 0;
        while table.advance()? {
            if row.is_multiple_of(1 << 12) {
                context.check_interrupt()?;
                context.progress(&format!("reading {split}"), progress.done(), Some(progress.total), "bytes");
            }
            row += 1;
            let name = |column| Some(table.text(column)).filter(|text| table.has(column) && !text.is_empty());
            let note_id = name(ADMISSION).unwrap_or_else(|| format!("{split}-{row}"));
            if let Some(fault) = name_fault(&note_id, "the admission") {
                return Err(table.bad(ADMISSION, fault).into());
            }
            if let Some(fault) = name(SUBJECT).and_then(|subject| name_fault(&subject, "the patient")) {
                return Err(table.bad(SUBJECT, fault).into());
            }
            if !seen.insert(note_id.clone()) {
                return Err(table
                    .bad(ADMISSION, "this admission has another row, here or in another table")
                    .into());
            }
            let (text, mended) = mend(table.field(TEXT).to_vec());
            mended_bytes += mended;
            let text = rules.apply(&text);
            let words = count_words(&text);
            if words == 0 {
                empty += 1;
                continue;
            }
            let mut of_note: Vec<CodeId> = Vec::new();
            for code in table.text(labels).split(';').map(str::trim).filter(|code| !code.is_empty()) {
                let system = icd9_system(code);
                if (system.is_diagnosis() && !config.codes.diagnoses())
                    || (system.is_procedure() && !config.codes.procedures())
                {
                    other_kind += 1;
                    continue;
                }
                let id = codes.intern(code.to_owned(), system);
                if config.compat == Compat::Corrected && of_note.contains(&id) {
                    repeated += 1;
                } else {
                    of_note.push(id);
                }
            }
            mended_bytes += table.take_mended();
            notes.push(DraftNote {
                subject_id: name(SUBJECT).unwrap_or_else(|| note_id.clone()),
                note_id,
                split: (!config.splits.are_made()).then_some(split),
                codes: of_note,
                pieces: vec![spill.push(&text)?],
                words,
            });
        }
        table.stray_texts().into_iter().for_each(|warning| context.warn(warning));
    }
    let mut exclusions = Exclusions::default();
    exclusions.add(empty, "rows", "empty after cleaning");
    exclusions.add(repeated, "codes", "repeating a code of the same note");
    exclusions.add(other_kind, "codes", "of another kind than `codes` asks for");
    exclusions.add_mended(mended_bytes);
    let descriptions = Descriptions::default();
    Ok(Corpus { source: kind::CAML_CSV, notes, codes, spill: spill.finish()?, descriptions, exclusions })
}
