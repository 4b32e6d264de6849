//! Source `mimic3`: MIMIC-III's tables, or anything in their shapes.
//!
//! The large table is streamed once: discharge summaries are cleaned in parallel and spilled to disk, only an
//! index of them stays in memory. Then they are brought into the order of (patient, admission), and an
//! admission's summaries are joined in the order of the file.

pub mod caml;
mod caml_files;
pub mod codes;
pub mod columns;
pub mod notes;

use std::collections::{HashMap, HashSet};

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_data::{CodeSystem, Split, counted, kind};
use plmicd_pipeline::{BadInput, StageContext, StageError};

use crate::codes::icd9_system;
use crate::config::{Cohort, Compat, PreprocessConfig, Splits};
use crate::corpus::{CodeBook, CodeId, Corpus, DraftNote, Exclusions};
use crate::descriptions::Descriptions;
use crate::spill::Spill;
use crate::splits;
use crate::table::{self, Table};

use self::caml::CamlRow;
use self::caml_files::{CamlData, CamlNote};
use self::codes::CodeRows;
use self::notes::{Admission, Keep, Layout, NoteTable};

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
    // The published scripts read with pandas, which takes text after a closing quote as part of the field.
    let caml = config.compat == Compat::Caml;
    let note_table = NoteTable::open(&locate(dir, "NOTEEVENTS")?, Layout::NoteEvents, caml)?;
    let mut code_tables = Vec::new();
    let (diagnoses, procedures) = (config.codes.diagnoses(), config.codes.procedures());
    for (wanted, name, system) in [
        (diagnoses, "DIAGNOSES_ICD", CodeSystem::Icd9Diagnosis),
        (procedures, "PROCEDURES_ICD", CodeSystem::Icd9Procedure),
    ] {
        if wanted {
            code_tables.push((codes::open(&locate(dir, name)?)?.keeping_stray_text(caml), system));
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
        Splits::Caml50 => Some(splits::read_lists_of_50(&dir.join("splits"))?),
        Splits::Random | Splits::Stratified => None,
    };

    let mut code_rows = CodeRows::default();
    let mut caml_rows = Vec::new();
    match (caml, code_tables.as_mut_slice()) {
        (true, [(diagnoses, _), (procedures, _)]) => {
            caml_rows = caml::read(diagnoses, procedures, context, &mut exclusions)?;
        }
        _ => {
            for (table, system) in &mut code_tables {
                code_rows.read(table, *system, None, context)?;
            }
        }
    }
    code_tables.iter().for_each(|(table, _)| table.warn(context));
    let mut descriptions = Descriptions::default();
    for (mut table, system) in dictionaries {
        read_dictionary(&mut table, system, &mut descriptions)?;
        table.warn(context);
    }
    let (admissions, spill) =
        note_table.read(config.text_rules(), Keep::of(config), context, &mut exclusions)?;
    if admissions.is_empty() {
        return Err(no_summaries(&locate(dir, "NOTEEVENTS")?, &exclusions).into());
    }
    one_subject_each(&admissions, &locate(dir, "NOTEEVENTS")?)?;

    let (mut notes, codes) = if caml {
        let top_lists = splits::read_top_lists(&dir.join("splits"), config.top_codes)?;
        let published = Published { rows: caml_rows, admissions, lists: lists.as_ref(), top_lists };
        published.notes(config, &spill, context, &mut exclusions)?
    } else {
        corrected_notes(code_rows, admissions, lists.as_ref(), &mut exclusions)
    };
    if let Some(lists) = &lists {
        splits::keep_listed(&mut notes, lists, &dir.join("splits"), &mut exclusions)?;
    }
    Ok(Corpus { source: kind::MIMIC3, notes, codes, spill, descriptions, exclusions })
}

/// Notes with codes read as text and without repetition, in the order of (subject, admission).
fn corrected_notes(
    rows: CodeRows,
    admissions: Vec<Admission>,
    lists: Option<&HashMap<u64, Split>>,
    exclusions: &mut Exclusions,
) -> (Vec<DraftNote>, CodeBook) {
    let (mut by_admission, codes) = rows.group(exclusions);
    let mut notes: Vec<DraftNote> = Vec::with_capacity(admissions.len());
    for admission in admissions {
        let key = (admission.subject, admission.admission);
        notes.push(DraftNote {
            note_id: admission.admission.to_string(),
            subject_id: admission.subject.to_string(),
            split: lists.and_then(|lists| lists.get(&admission.admission).copied()),
            codes: by_admission.remove(&key).unwrap_or_default(),
            pieces: admission.pieces,
            words: admission.words,
        });
    }
    exclusions.add(by_admission.len() as u64, "admissions", "with codes but without a discharge summary");
    (notes, codes)
}

/// What CAML's scripts join.
struct Published<'a> {
    rows: Vec<CamlRow>,
    admissions: Vec<Admission>,
    lists: Option<&'a HashMap<u64, Split>>,
    top_lists: Option<HashMap<u64, Split>>,
}

impl Published<'_> {
    /// Notes as CAML's scripts make them, and CAML's own files where the config asks for them.
    fn notes(
        self,
        config: &PreprocessConfig,
        spill: &Spill,
        context: &StageContext<'_>,
        exclusions: &mut Exclusions,
    ) -> Result<(Vec<DraftNote>, CodeBook), StageError> {
        let ids: HashSet<u64> = self.admissions.iter().map(|admission| admission.admission).collect();
        let without: HashSet<u64> =
            self.rows.iter().map(|row| row.key.1).filter(|id| !ids.contains(id)).collect();
        exclusions.add(without.len() as u64, "admissions", "with codes but without a discharge summary");
        let filtered = caml::filter_and_sort(&self.rows, &ids);
        let mut labels = caml::by_admission(&filtered);
        let mut notes = Vec::with_capacity(self.admissions.len());
        for admission in &self.admissions {
            let key = (admission.subject, admission.admission);
            let Some(labels) = labels.remove(&key) else { continue };
            let split = self.lists.and_then(|lists| lists.get(&admission.admission).copied());
            let (pieces, words) = (admission.pieces.clone(), admission.words);
            notes.push(CamlNote { key, pieces, words, labels, split });
        }
        let lost = ids.len() - notes.len();
        if lost > 0 {
            let admissions = counted(lost as u64, "admissions");
            context.warn(format!(
                "with a summary but without a row of codes: {admissions}; CAML's scripts would stop at the first"
            ));
            exclusions.add(lost as u64, "admissions", "with a summary but without a row of codes");
        }
        if config.caml_files {
            let data = CamlData {
                all_codes: &self.rows,
                admissions: &self.admissions,
                filtered: &filtered,
                notes: &notes,
                top_lists: self.top_lists.as_ref(),
                top_codes: config.top_codes,
            };
            caml_files::write(&data, spill, context)?;
        }
        let top = match config.cohort {
            Cohort::Top => Some(caml_files::top_codes(&notes, config.top_codes)),
            Cohort::Full => None,
        };
        let mut codes = CodeBook::default();
        let mut drafts = Vec::with_capacity(notes.len());
        let mut empty = 0;
        for note in notes {
            let mut split = note.split;
            if top.is_some()
                && self.lists.is_some()
                && let Some(lists) = &self.top_lists
            {
                split = lists.get(&note.key.1).copied();
            }
            if note.words == 0 {
                empty += 1;
                continue;
            }
            let ids: Vec<CodeId> = match &top {
                Some(top) => {
                    let labels = caml_files::top_labels(&note.labels, top);
                    labels.into_iter().map(|code| intern(&mut codes, code)).collect()
                }
                None => {
                    let labels = note.labels.iter().filter(|label| !label.is_empty());
                    labels.map(|code| intern(&mut codes, code)).collect()
                }
            };
            drafts.push(DraftNote {
                note_id: note.key.1.to_string(),
                subject_id: note.key.0.to_string(),
                split,
                codes: ids,
                pieces: note.pieces,
                words: note.words,
            });
        }
        exclusions.add(empty, "admissions", "whose summaries are empty after cleaning");
        Ok((drafts, codes))
    }
}

fn intern(codes: &mut CodeBook, code: &str) -> CodeId {
    codes.intern(code.to_owned(), icd9_system(code))
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
