//! A label space given as a list: three lists of "the 50 codes" are in circulation, and a published checkpoint's labels
//! are those of its own list, in its order.

use std::collections::HashSet;

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_data::LabelSpace;
use plmicd_pipeline::{BadInput, StageError};

use crate::codes::{icd9_system, icd10_system};
use crate::cohort::drop_notes;
use crate::corpus::{CodeBook, CodeId, DraftNote, Exclusions};
use crate::descriptions::Descriptions;
use crate::files;

/// The one list in the folder: `.txt` or `.csv`, a code a line.
///
/// # Errors
/// None or several.
pub fn find(dir: &Utf8Path) -> Result<Utf8PathBuf, BadInput> {
    let entries =
        dir.read_dir_utf8().map_err(|error| BadInput::new(dir, format!("cannot be listed: {error}")))?;
    let mut found: Vec<Utf8PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path().to_owned()))
        .filter(|path| matches!(path.extension(), Some("txt" | "csv")))
        .collect();
    found.sort();
    match found.as_slice() {
        [path] => Ok(path.clone()),
        all => {
            Err(BadInput::new(dir, format!("{} files .txt or .csv; expected one, a code a line", all.len())))
        }
    }
}

/// The codes of the list in a folder, sorted and each once.
///
/// # Errors
/// None or several lists, an empty one.
pub fn read(dir: &Utf8Path) -> Result<Vec<String>, StageError> {
    read_file(&find(dir)?)
}

/// The codes of a list, sorted by their bytes and each once: the order in which the published code numbers labels.
fn read_file(path: &Utf8Path) -> Result<Vec<String>, StageError> {
    let text = files::read_to_string(path)?;
    let lines = text.strip_prefix('\u{feff}').unwrap_or(&text).lines().map(str::trim);
    let mut codes: Vec<String> = Vec::new();
    for (line, code) in lines.enumerate() {
        if code.contains([',', ';', '\t', ' ']) {
            let message = "expected one code a line, without a header";
            return Err(BadInput::new(path, message).line(line as u64 + 1).into());
        }
        if !code.is_empty() {
            codes.push(code.to_owned());
        }
    }
    codes.sort_unstable();
    codes.dedup();
    if codes.is_empty() {
        return Err(BadInput::new(path, "the list is empty; expected a code a line").into());
    }
    Ok(codes)
}

/// The label space of a published checkpoint: the codes of its list in the order in which its code numbers them, with
/// what the tables in the folder `descriptions` say of them.
///
/// Codes whose first letter is neither E nor V are ICD-10, and so is every other code of a list that has one; the
/// rest is ICD-9. There a dot after two digits or fewer makes a procedure; in ICD-10, seven characters without one.
///
/// # Errors
/// The list is empty or has something else in it; see [`Descriptions::add_folder`] for the tables.
pub fn label_space(list: &Utf8Path, descriptions: Option<&Utf8Path>) -> Result<LabelSpace, StageError> {
    let codes = read_file(list)?;
    let mut tables = Descriptions::default();
    if let Some(dir) = descriptions {
        tables.add_folder(dir)?;
    }
    let icd10 =
        codes.iter().any(|code| code.starts_with(|c: char| c.is_alphabetic() && c != 'E' && c != 'V'));
    let label = |code: &String| {
        let system = match icd10 {
            false => icd9_system(code),
            true => icd10_system(code),
        };
        tables.label(code, system)
    };
    LabelSpace::new(codes.iter().map(label).collect())
        .map_err(|error| BadInput::new(list, error.to_string()).into())
}

/// Makes the list the label space: other codes and notes without any of these are left out. Codes of the list that no
/// note has stay labels. Gives their ids in the order of the list, and how many no note has.
pub fn apply(
    list: &[String],
    notes: &mut Vec<DraftNote>,
    codes: &mut CodeBook,
    exclusions: &mut Exclusions,
) -> (Vec<CodeId>, usize) {
    drop_notes(notes, exclusions, "without a code", |note| !note.codes.is_empty());
    let ids: Vec<CodeId> = list.iter().map(|code| codes.intern_any(code)).collect();
    let wanted: HashSet<CodeId> = ids.iter().copied().collect();
    let mut left_out: HashSet<CodeId> = HashSet::new();
    let mut present: HashSet<CodeId> = HashSet::new();
    for note in notes.iter_mut() {
        note.codes.retain(|id| {
            let keep = wanted.contains(id);
            if keep {
                present.insert(*id)
            } else {
                left_out.insert(*id)
            };
            keep
        });
    }
    exclusions.add(left_out.len() as u64, "codes", "not in the list of labels");
    drop_notes(notes, exclusions, "without any of the listed codes", |note| !note.codes.is_empty());
    (ids, wanted.len() - present.len())
}

#[cfg(test)]
mod tests {
    use plmicd_data::CodeSystem;

    use super::*;

    fn list(text: &str) -> (tempfile::TempDir, Utf8PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = Utf8PathBuf::from_path_buf(folder.path().join("codes.txt")).expect("UTF-8");
        fs_err::write(&path, text).expect("written");
        (folder, path)
    }

    #[test]
    fn labels_are_numbered_by_the_bytes_of_their_codes() {
        let (_keep, path) = list("\u{feff}V45.81\n401.9\n\n17.\n401.9\nE849.7\n38.93\n");
        let space = label_space(&path, None).expect("a list");
        let labels: Vec<(&str, CodeSystem)> =
            space.labels().iter().map(|label| (label.code.as_str(), label.system)).collect();
        assert_eq!(
            labels,
            [
                ("17.", CodeSystem::Icd9Procedure),
                ("38.93", CodeSystem::Icd9Procedure),
                ("401.9", CodeSystem::Icd9Diagnosis),
                ("E849.7", CodeSystem::Icd9Diagnosis),
                ("V45.81", CodeSystem::Icd9Diagnosis),
            ]
        );
    }

    #[test]
    fn one_letter_tells_that_a_list_is_icd10() {
        let (_keep, path) = list("E11.9\nI10.\n02100Z9\n");
        let space = label_space(&path, None).expect("a list");
        let systems: Vec<CodeSystem> = space.labels().iter().map(|label| label.system).collect();
        let diagnosis = CodeSystem::Icd10CmDiagnosis;
        assert_eq!(systems, [CodeSystem::Icd10PcsProcedure, diagnosis, diagnosis]);
    }

    #[test]
    fn another_layout_is_located() {
        let (_keep, path) = list("401.9\n\ncode,count\n");
        let wrong = label_space(&path, None).expect_err("a header").to_string();
        assert!(wrong.contains("codes.txt:3: expected one code a line"), "{wrong}");
        let (_keep, path) = list("\n");
        assert!(label_space(&path, None).expect_err("empty").to_string().contains("the list is empty"));
    }

    #[test]
    fn codes_that_no_note_has_are_of_the_notes_systems() {
        let system_beside = |systems: &[CodeSystem], code: &str| {
            let mut book = CodeBook::default();
            for (at, system) in systems.iter().enumerate() {
                book.intern(format!("{at}"), *system);
            }
            let id = book.intern_any(code);
            book.system(id)
        };
        let icd10 = [CodeSystem::Icd10CmDiagnosis];
        assert_eq!(system_beside(&icd10, "V43.0"), CodeSystem::Icd10CmDiagnosis);
        assert_eq!(system_beside(&icd10, "0TJB8ZZ"), CodeSystem::Icd10PcsProcedure);
        assert_eq!(system_beside(&[CodeSystem::Icd9Diagnosis], "V43.0"), CodeSystem::Icd9Diagnosis);
        assert_eq!(system_beside(&[CodeSystem::Icd9Procedure], "38.93"), CodeSystem::Icd9Procedure);
        assert_eq!(system_beside(&[CodeSystem::Other], "V43.0"), CodeSystem::Other);
        let both = [CodeSystem::Icd9Diagnosis, CodeSystem::Icd10CmDiagnosis];
        assert_eq!(system_beside(&both, "401.9"), CodeSystem::Icd9Diagnosis);
        assert_eq!(system_beside(&both, "V43.0"), CodeSystem::Icd10CmDiagnosis);
    }
}
