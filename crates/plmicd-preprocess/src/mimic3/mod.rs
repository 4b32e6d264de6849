//! Source `mimic3`: MIMIC-III's tables, or anything in their shapes.
//!
//! The large table is streamed once: discharge summaries are cleaned in parallel and spilled to disk, only an
//! index of them stays in memory. Then they are brought into the order of (patient, admission), and an
//! admission's summaries are joined in the order of the file.

pub mod codes;
pub mod notes;

use std::collections::HashMap;

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_data::{CodeSystem, kind};
use plmicd_pipeline::{BadInput, StageContext, StageError};

use crate::cohort::drop_notes;
use crate::config::{PreprocessConfig, Splits};
use crate::corpus::{Corpus, DraftNote, Exclusions};
use crate::descriptions::Descriptions;
use crate::splits;
use crate::table::{self, Table};

use self::codes::CodeRows;
use self::notes::{Admission, Layout, NoteTable};

/// (subject, admission): what notes and codes are joined on.
pub type Key = (u64, u64);

/// Reads the source in `dir`.
///
/// # Errors
/// A table or list is missing or not as expected. Headers are checked before anything large is read.
pub fn read(
    config: &PreprocessConfig,
    dir: &Utf8Path,
    context: &StageContext<'_>,
) -> Result<Corpus, StageError> {
    let mut exclusions = Exclusions::default();
    let note_table = NoteTable::open(&locate(dir, "NOTEEVENTS")?, Layout::NoteEvents)?;
    let mut code_tables = Vec::new();
    let (diagnoses, procedures) = (config.codes.diagnoses(), config.codes.procedures());
    for (wanted, name, system) in [
        (diagnoses, "DIAGNOSES_ICD", CodeSystem::Icd9Diagnosis),
        (procedures, "PROCEDURES_ICD", CodeSystem::Icd9Procedure),
    ] {
        if wanted {
            code_tables.push((codes::open(&locate(dir, name)?)?, system));
        }
    }
    let mut dictionaries = Vec::new();
    for (wanted, name, system) in [
        (diagnoses, "D_ICD_DIAGNOSES", CodeSystem::Icd9Diagnosis),
        (procedures, "D_ICD_PROCEDURES", CodeSystem::Icd9Procedure),
    ] {
        match table::find(dir, name)? {
            _ if !wanted => {}
            Some(path) => dictionaries.push((open_dictionary(&path)?, system)),
            None => context.note(format!("no table {name}: its codes have no descriptions from the source")),
        }
    }
    let lists = match config.splits {
        Splits::Published | Splits::Caml => Some(splits::read_lists(&dir.join("splits"))?),
        Splits::Random | Splits::Stratified => None,
    };

    let mut code_rows = CodeRows::default();
    for (mut table, system) in code_tables {
        code_rows.read(&mut table, system, None, context)?;
    }
    let mut descriptions = Descriptions::default();
    for (mut table, system) in dictionaries {
        read_dictionary(&mut table, system, &mut descriptions)?;
    }
    let (admissions, spill) = note_table.read(config.text_rules(), context, &mut exclusions)?;
    if admissions.is_empty() {
        return Err(no_summaries(&locate(dir, "NOTEEVENTS")?, &exclusions).into());
    }
    one_subject_each(&admissions, &locate(dir, "NOTEEVENTS")?)?;

    let (mut by_admission, codes) = code_rows.group(&mut exclusions);
    let mut notes: Vec<DraftNote> = Vec::with_capacity(admissions.len());
    for admission in admissions {
        let key = (admission.subject, admission.admission);
        notes.push(DraftNote {
            note_id: admission.admission.to_string(),
            subject_id: admission.subject.to_string(),
            split: lists.as_ref().and_then(|lists| lists.get(&admission.admission).copied()),
            codes: by_admission.remove(&key).unwrap_or_default(),
            pieces: admission.pieces,
            words: admission.words,
        });
    }
    exclusions.add(by_admission.len() as u64, "admissions", "with codes but without a discharge summary");
    if let Some(lists) = &lists {
        let listed = notes.iter().filter(|note| note.split.is_some()).count();
        exclusions.add(
            (lists.len() - listed) as u64,
            "ids",
            "in a split list but without a discharge summary",
        );
        drop_notes(&mut notes, &mut exclusions, "in no split list", |note| note.split.is_some());
        if notes.is_empty() {
            return Err(BadInput::new(
                dir.join("splits"),
                "none of the listed admissions has a discharge summary",
            )
            .hint("do the lists belong to these tables?")
            .into());
        }
    }
    Ok(Corpus { source: kind::MIMIC3, notes, codes, spill, descriptions, exclusions })
}

/// Path of a table that must be there.
fn locate(dir: &Utf8Path, name: &str) -> Result<Utf8PathBuf, StageError> {
    table::find(dir, name)?.ok_or_else(|| {
        BadInput::new(dir.join(format!("{name}.csv")), format!("this table is missing; expected {name}.csv or {name}.csv.gz"))
            .hint("MIMIC-III 1.4 is on PhysioNet (credentialed access): https://physionet.org/content/mimiciii/1.4/")
            .into()
    })
}

fn no_summaries(path: &Utf8Path, exclusions: &Exclusions) -> BadInput {
    let message = format!("no discharge summary to read ({})", exclusions.sentence());
    BadInput::new(path, message)
        .column("CATEGORY")
        .hint("notes are the rows whose CATEGORY is \"Discharge summary\", in this spelling")
}

/// An admission belongs to one patient; notes are named by their admission.
pub fn one_subject_each(admissions: &[Admission], table: &Utf8Path) -> Result<(), StageError> {
    let mut subjects = HashMap::with_capacity(admissions.len());
    for admission in admissions {
        if let Some(other) = subjects.insert(admission.admission, admission.subject) {
            let message = format!(
                "admission {} has notes of two subjects, {} and {}",
                admission.admission, other, admission.subject
            );
            return Err(BadInput::new(table, message).column("SUBJECT_ID").into());
        }
    }
    Ok(())
}

fn open_dictionary(path: &Utf8Path) -> Result<Table, StageError> {
    Table::open(path, b',', &["ICD9_CODE", "LONG_TITLE"], &["SHORT_TITLE"])
}

fn read_dictionary(
    table: &mut Table,
    system: CodeSystem,
    descriptions: &mut Descriptions,
) -> Result<(), StageError> {
    while table.advance()? {
        let code = table.text(0);
        descriptions.add(system, &code, &table.text(1));
        descriptions.add(system, &code, &table.text(2));
    }
    Ok(())
}
