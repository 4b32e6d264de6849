//! Source `mimic4`: MIMIC-IV's modules `hosp` (codes) and `note` (discharge summaries), in one edition of the ICD.
//!
//! The tables lie in the folder itself or, as downloaded, in its folders `hosp` and `note`. Notes and codes are
//! joined as for MIMIC-III (Edin et al. 2023); the released data name no splits, lists that studies publish can be put
//! beside them.

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_data::{CodeSystem, kind};
use plmicd_pipeline::{BadInput, StageContext, StageError};

use crate::config::{IcdVersion, PreprocessConfig, Splits};
use crate::corpus::{Corpus, DraftNote, Exclusions};
use crate::descriptions::Descriptions;
use crate::mimic3::codes::CodeRows;
use crate::mimic3::notes::{Keep, Layout, NoteTable};
use crate::mimic3::one_subject_each;
use crate::splits;
use crate::table::{self, Table};
use crate::text::TextRules;

/// Table of notes.
pub const NOTES: &str = "discharge";

/// Folder of lists of admissions, where there are any.
pub const LISTS: &str = "splits";

const CODES: [&str; 5] = ["subject_id", "hadm_id", "seq_num", "icd_code", "icd_version"];

/// Reads the source in `dir`.
///
/// # Errors
/// A table is missing or not as expected; splits are asked for that MIMIC-IV does not have. Headers are checked before
/// anything large is read.
pub fn read(
    config: &PreprocessConfig,
    dir: &Utf8Path,
    context: &StageContext<'_>,
) -> Result<Corpus, StageError> {
    let lists = match config.splits {
        Splits::Random | Splits::Stratified => None,
        Splits::Published if dir.join(LISTS).is_dir() => Some(splits::read_lists(&dir.join(LISTS))?),
        _ => {
            return Err(BadInput::new(dir, "a mimic4 source has no splits of its own")
                .hint(
                    "use splits = \"stratified\" (as Edin et al. 2023) or \"random\"; or put published lists of \
                     admissions into its folder `splits`, as for mimic3",
                )
                .into());
        }
    };
    let mut exclusions = Exclusions::default();
    let note_path = locate(dir, NOTES)?;
    let note_table = NoteTable::open(&note_path, Layout::Discharge, false)?;
    let (diagnosis, procedure) = match config.icd_version {
        IcdVersion::Icd9 => (CodeSystem::Icd9Diagnosis, CodeSystem::Icd9Procedure),
        IcdVersion::Icd10 => (CodeSystem::Icd10CmDiagnosis, CodeSystem::Icd10PcsProcedure),
    };
    let mut code_tables = Vec::new();
    let mut dictionaries = Vec::new();
    for (wanted, codes, dictionary, system) in [
        (config.codes.diagnoses(), "diagnoses_icd", "d_icd_diagnoses", diagnosis),
        (config.codes.procedures(), "procedures_icd", "d_icd_procedures", procedure),
    ] {
        if !wanted {
            continue;
        }
        code_tables.push((Table::open(&locate(dir, codes)?, b',', &CODES, &[])?, system));
        match find(dir, dictionary)? {
            Some(path) => {
                let columns = ["icd_code", "icd_version", "long_title"];
                dictionaries.push((Table::open(&path, b',', &columns, &[])?, system));
            }
            None => {
                context
                    .note(format!("no table {dictionary}: its codes have no descriptions from the source"));
            }
        }
    }

    let version = config.icd_version.number();
    let mut code_rows = CodeRows::default();
    for (mut table, system) in code_tables {
        code_rows.read(&mut table, system, Some(version), context)?;
        table.warn(context);
    }
    let mut descriptions = Descriptions::default();
    for (mut table, system) in dictionaries {
        while table.advance()? {
            if table.number(1)? == Some(version) {
                descriptions.add(system, &table.text(0), &table.text(2));
            }
        }
        table.warn(context);
    }
    let rules = TextRules { blanks: true, ..config.text_rules() };
    let (admissions, spill) = note_table.read(rules, Keep::default(), context, &mut exclusions)?;
    if admissions.is_empty() {
        let message = format!("no discharge summary to read ({})", exclusions.sentence());
        return Err(BadInput::new(&note_path, message).into());
    }
    one_subject_each(&admissions, &note_path)?;

    let (mut by_admission, codes) = code_rows.group(&mut exclusions);
    let mut notes: Vec<DraftNote> = admissions
        .into_iter()
        .map(|admission| DraftNote {
            note_id: admission.admission.to_string(),
            subject_id: admission.subject.to_string(),
            split: lists.as_ref().and_then(|lists| lists.get(&admission.admission).copied()),
            codes: by_admission.remove(&(admission.subject, admission.admission)).unwrap_or_default(),
            pieces: admission.pieces,
            words: admission.words,
        })
        .collect();
    exclusions.add(by_admission.len() as u64, "admissions", "with codes but without a discharge summary");
    if let Some(lists) = &lists {
        splits::keep_listed(&mut notes, lists, &dir.join(LISTS), &mut exclusions)?;
    }
    Ok(Corpus { source: kind::MIMIC4, notes, codes, spill, descriptions, exclusions })
}

/// The file of a table, in the folder or in that of its module.
///
/// # Errors
/// Several are there, or a folder cannot be listed.
pub fn find(dir: &Utf8Path, name: &str) -> Result<Option<Utf8PathBuf>, StageError> {
    let module = dir.join(if name == NOTES { "note" } else { "hosp" });
    let mut found = Vec::new();
    for folder in [dir, &module] {
        if folder.is_dir() {
            found.extend(table::find(folder, name)?);
        }
    }
    table::only(found)
}

fn locate(dir: &Utf8Path, name: &str) -> Result<Utf8PathBuf, StageError> {
    find(dir, name)?.ok_or_else(|| missing(dir, name).into())
}

/// A table that must be there is not.
pub fn missing(dir: &Utf8Path, name: &str) -> BadInput {
    let module = if name == NOTES { "note" } else { "hosp" };
    let message = format!("missing: expected {name}.csv or {name}.csv.gz in {dir} or its folder {module}");
    BadInput::new(dir.join(format!("{name}.csv")), message).hint(
        "MIMIC-IV and MIMIC-IV-Note are at PhysioNet (credentialed access): physionet.org/content/mimiciv and \
         physionet.org/content/mimic-iv-note",
    )
}
