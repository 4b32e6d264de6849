//! Source `codiesp`: the CodiEsp corpus as published. `{split}/text_files/ID.txt` (Spanish) or
//! `{split}/text_files_en/ID.txt` (English), and the codes in `{split}/{split}D.tsv` (ICD-10-CM) and
//! `{split}/{split}P.tsv` (ICD-10-PCS), lines of `ID<TAB>code` without a header.

use std::collections::{BTreeMap, HashMap};

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use plmicd_data::{CodeSystem, Split, kind};
use plmicd_pipeline::{BadInput, StageContext, StageError};

use crate::codes::format_code;
use crate::config::{Language, PreprocessConfig, Splits};
use crate::corpus::{CodeBook, CodeId, Corpus, DraftNote, Exclusions, mended_warning};
use crate::descriptions::Descriptions;
use crate::encoding::{mend, plain};
use crate::files;
use crate::spill::SpillWriter;
use crate::text::count_words;

/// Reads the source in `dir`. A document is its own subject.
///
/// # Errors
/// A folder or file is missing, a file of codes is not UTF-8 or has a line that is not `ID<TAB>code`; a document in two splits.
pub fn read(
    config: &PreprocessConfig,
    dir: &Utf8Path,
    context: &StageContext<'_>,
) -> Result<Corpus, StageError> {
    if config.splits.are_camls() {
        return Err(BadInput::new(
            dir,
            "splits = \"caml\" is for mimic3 sources; codiesp has splits of its own",
        )
        .hint("use splits = \"published\" or \"random\"")
        .into());
    }
    let mut notes: Vec<DraftNote> = Vec::new();
    let mut codes = CodeBook::default();
    let mut exclusions = Exclusions::default();
    let mut spill = SpillWriter::create(context.work_dir())?;
    let (mut repeated, mut empty) = (0, 0);
    let (mut mended_bytes, mut mended_texts) = (0, 0);
    let mut without_text: BTreeMap<String, ()> = BTreeMap::new();
    let mut seen: HashMap<String, Split> = HashMap::new();
    for split in Split::ALL {
        let folder = dir.join(split.as_str());
        let texts = list_texts(&folder, config.language)?;
        let mut of_document: HashMap<String, Vec<CodeId>> = HashMap::new();
        for (wanted, letter, system) in [
            (config.codes.diagnoses(), 'D', CodeSystem::Icd10CmDiagnosis),
            (config.codes.procedures(), 'P', CodeSystem::Icd10PcsProcedure),
        ] {
            if wanted {
                let file = folder.join(format!("{split}{letter}.tsv"));
                repeated += read_codes(&file, system, &mut codes, &mut of_document)?;
            }
        }
        for (i, (id, path)) in texts.iter().enumerate() {
            context.check_interrupt()?;
            context.progress(&format!("reading {split}"), i as u64 + 1, Some(texts.len() as u64), "notes");
            if let Some(other) = seen.insert(id.clone(), split) {
                return Err(BadInput::new(path, format!("this document is also in {other}")).into());
            }
            let (text, mended) = mend(plain(files::read(path)?));
            mended_bytes += mended;
            mended_texts += u64::from(mended > 0);
            let text = config.text_rules().apply(&text);
            let words = count_words(&text);
            let document_codes = of_document.remove(id).unwrap_or_default();
            if words == 0 {
                empty += 1;
                continue;
            }
            notes.push(DraftNote {
                note_id: id.clone(),
                subject_id: id.clone(),
                split: (config.splits == Splits::Published).then_some(split),
                codes: document_codes,
                pieces: vec![spill.push(&text)?],
                words,
            });
        }
        without_text.extend(of_document.into_keys().map(|id| (id, ())));
    }
    exclusions.add(repeated, "lines", "repeating a code of the same document");
    exclusions.add(without_text.len() as u64, "documents", "with codes but without a text");
    exclusions.add(empty, "documents", "empty after cleaning");
    if mended_bytes > 0 {
        context.warn(mended_warning(mended_bytes, mended_texts, "texts"));
        exclusions.add_mended(mended_bytes);
    }
    let spill = spill.finish()?;
    Ok(Corpus {
        source: kind::CODIESP,
        notes,
        codes,
        spill,
        descriptions: Descriptions::default(),
        exclusions,
    })
}

/// Id and path of every text of a split, by id.
fn list_texts(folder: &Utf8Path, language: Language) -> Result<Vec<(String, Utf8PathBuf)>, StageError> {
    let texts = folder.join(match language {
        Language::En => "text_files_en",
        Language::Es => "text_files",
    });
    if !texts.is_dir() {
        return Err(missing(&texts, "this folder of texts is missing; expected one ID.txt a document"));
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(&texts)? {
        let Ok(path) = Utf8PathBuf::try_from(entry?.path()) else { continue };
        if path.extension() == Some("txt")
            && let Some(id) = path.file_stem()
        {
            found.push((id.to_owned(), path));
        }
    }
    found.sort();
    Ok(found)
}

/// Adds the codes of a file to their documents; gives the number of repeated ones.
fn read_codes(
    path: &Utf8Path,
    system: CodeSystem,
    codes: &mut CodeBook,
    of_document: &mut HashMap<String, Vec<CodeId>>,
) -> Result<u64, StageError> {
    if !path.exists() {
        return Err(missing(path, "this file of codes is missing; expected lines of ID<TAB>code"));
    }
    let mut repeated = 0;
    for (i, line) in read_utf8(path)?.lines().enumerate() {
        let bad = |message: &str| StageError::from(BadInput::new(path, message).line(i as u64 + 1));
        if line.trim().is_empty() {
            continue;
        }
        let mut fields = line.split('\t').map(str::trim);
        let (Some(id), Some(code), None) = (fields.next(), fields.next(), fields.next()) else {
            return Err(bad("expected two fields, ID<TAB>code"));
        };
        if id.is_empty() || code.is_empty() {
            return Err(bad("an empty field; expected ID<TAB>code"));
        }
        let code = format_code(&code.to_uppercase(), system);
        if code.is_empty() {
            return Err(bad("a code of nothing but dots; expected ID<TAB>code"));
        }
        let code = codes.intern(code, system);
        let document = of_document.entry(id.to_owned()).or_default();
        if document.contains(&code) {
            repeated += 1;
        } else {
            document.push(code);
        }
    }
    Ok(repeated)
}

/// A whole file of codes, without its byte order mark.
fn read_utf8(path: &Utf8Path) -> Result<String, StageError> {
    String::from_utf8(plain(files::read(path)?)).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..valid].iter().filter(|&&b| b == b'\n').count() as u64 + 1;
        BadInput::new(path, "not UTF-8").line(line).into()
    })
}

fn missing(path: &Utf8Path, message: &str) -> StageError {
    BadInput::new(path, message)
        .hint(
            "CodiEsp is on Zenodo (\"CodiEsp corpus: gold standard Spanish clinical cases coded in ICD10\"); the source's path \
             is the folder that holds train, dev and test",
        )
        .into()
}
