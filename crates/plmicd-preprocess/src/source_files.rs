//! Which files of a source count: those this crate reads, found by the same rules. Their content is the source's
//! digest, so a file that is read but not listed here would change results behind the cache's back.

use camino::Utf8Path;
use plmicd_data::{CorpusStats, LabelSpace, NoteWriter, TextForm};
use plmicd_pipeline::registry::SourceFiles;
use plmicd_pipeline::{BadInput, StageError};

use crate::{caml_csv, files, label_list, mimic2, mimic4, own, table};

/// Tables of MIMIC-III, and whether a source must have them. Which of the code tables are needed is the config's
/// affair: the stage asks for those before it reads anything.
const MIMIC3_TABLES: [(&str, bool); 5] = [
    ("NOTEEVENTS", true),
    ("DIAGNOSES_ICD", false),
    ("PROCEDURES_ICD", false),
    ("D_ICD_DIAGNOSES", false),
    ("D_ICD_PROCEDURES", false),
];

/// Tables as `.csv` or `.csv.gz` in any case, and the id lists in `splits/` where there are any.
///
/// # Errors
/// No `NOTEEVENTS`, no table of codes, a folder that cannot be listed.
pub fn mimic3_files(dir: &Utf8Path) -> Result<SourceFiles, BadInput> {
    let mut files = SourceFiles::new();
    for (name, required) in MIMIC3_TABLES {
        match table::find(dir, name).map_err(|error| located(dir, error))? {
            Some(path) => files.push((path.file_name().unwrap_or(name).to_owned(), path)),
            None if required => return Err(missing(dir, name)),
            None => {}
        }
    }
    if !files.iter().any(|(name, _)| name.to_ascii_uppercase().contains("S_ICD.")) {
        return Err(missing(dir, "DIAGNOSES_ICD"));
    }
    files.extend(lists(dir)?);
    readable(files)
}

/// The files, if each can be read: their content is hashed before any stage looks at them.
fn readable(files: SourceFiles) -> Result<SourceFiles, BadInput> {
    files.iter().try_for_each(|(_, path)| files::check(path))?;
    Ok(files)
}

/// Lists of admissions in the folder `splits`, where there is one.
fn lists(dir: &Utf8Path) -> Result<SourceFiles, BadInput> {
    let folder = dir.join(mimic4::LISTS);
    if !folder.is_dir() {
        return Ok(SourceFiles::new());
    }
    let found = entries(&folder)?.into_iter().filter(|(name, _)| name.ends_with(".csv"));
    Ok(found.map(|(name, path)| (format!("{}/{name}", mimic4::LISTS), path)).collect())
}

fn missing(dir: &Utf8Path, name: &str) -> BadInput {
    BadInput::new(
        dir.join(format!("{name}.csv")),
        format!("missing: expected {name}.csv or {name}.csv.gz in {dir}"),
    )
    .hint("MIMIC-III v1.4 is at PhysioNet (credentialed access)")
}

fn located(dir: &Utf8Path, error: StageError) -> BadInput {
    match error {
        StageError::BadInput(bad) => *bad,
        other => BadInput::new(dir, other.to_string()),
    }
}

/// Tables of the modules `hosp` and `note`, as `.csv` or `.csv.gz` in any case.
///
/// # Errors
/// No table of notes or none of codes, a folder that cannot be listed.
pub fn mimic4_files(dir: &Utf8Path) -> Result<SourceFiles, BadInput> {
    let mut files = SourceFiles::new();
    for name in ["diagnoses_icd", "procedures_icd"] {
        add_mimic4(dir, name, &mut files)?;
    }
    if files.is_empty() {
        return Err(mimic4::missing(dir, "diagnoses_icd"));
    }
    if !add_mimic4(dir, mimic4::NOTES, &mut files)? {
        return Err(mimic4::missing(dir, mimic4::NOTES));
    }
    for name in ["d_icd_diagnoses", "d_icd_procedures"] {
        add_mimic4(dir, name, &mut files)?;
    }
    files.extend(lists(dir)?);
    readable(files)
}

fn add_mimic4(dir: &Utf8Path, name: &str, files: &mut SourceFiles) -> Result<bool, BadInput> {
    let found = mimic4::find(dir, name).map_err(|error| located(dir, error))?;
    let is_there = found.is_some();
    files.extend(found.map(|path| (path.strip_prefix(dir).unwrap_or(&path).to_string(), path)));
    Ok(is_there)
}

/// The one table.
///
/// # Errors
/// There is none, or several.
pub fn table_files(dir: &Utf8Path) -> Result<SourceFiles, BadInput> {
    let path = own::find(dir).map_err(|error| located(dir, error))?.ok_or_else(|| own::missing(dir))?;
    readable(vec![(path.file_name().unwrap_or(own::NAME).to_owned(), path)])
}

/// The table of summaries and the lists of the splits.
///
/// # Errors
/// There is no table.
pub fn mimic2_files(dir: &Utf8Path) -> Result<SourceFiles, BadInput> {
    if !dir.join(mimic2::SUMMARIES).exists() {
        return Err(BadInput::new(dir.join(mimic2::SUMMARIES), "missing: expected this table of summaries")
            .hint("\"ICD9 Coding of Discharge Summaries\" in PhysioNet's archive (credentialed access)"));
    }
    let names = std::iter::once(mimic2::SUMMARIES).chain(mimic2::LISTS.map(|(name, _)| name));
    readable(names.map(|name| (name.to_owned(), dir.join(name))).filter(|(_, path)| path.exists()).collect())
}

/// The tables of the splits.
///
/// # Errors
/// One is missing.
pub fn caml_csv_files(dir: &Utf8Path) -> Result<SourceFiles, BadInput> {
    let found = caml_csv::find(dir).map_err(|error| located(dir, error))?;
    readable(
        found.into_iter().map(|(_, path)| (path.file_name().unwrap_or_default().to_owned(), path)).collect(),
    )
}

/// The one list of labels.
///
/// # Errors
/// There is none, or several.
pub fn label_list_files(dir: &Utf8Path) -> Result<SourceFiles, BadInput> {
    let path = label_list::find(dir)?;
    readable(vec![(path.file_name().unwrap_or_default().to_owned(), path)])
}

/// Every text file below the folder.
///
/// # Errors
/// There is none, or a folder cannot be listed.
pub fn text_files(dir: &Utf8Path) -> Result<SourceFiles, BadInput> {
    own::text_files(dir)
}

/// The files of a `notes` artifact of another store or pipeline.
///
/// # Errors
/// One is missing.
pub fn notes_files(dir: &Utf8Path) -> Result<SourceFiles, BadInput> {
    // Folders of older versions do not say what form their texts have.
    let form = dir.join(TextForm::FILE);
    let form = form.is_file().then_some(TextForm::FILE);
    [NoteWriter::FILE, LabelSpace::FILE, CorpusStats::FILE]
        .into_iter()
        .chain(form)
        .map(|name| {
            let path = dir.join(name);
            if !path.is_file() {
                let hint =
                    "the path is an artifact of kind notes, such as artifacts/latest/PIPELINE/preprocess";
                return Err(
                    BadInput::new(path, "missing: expected the folder of a notes artifact").hint(hint)
                );
            }
            Ok((name.to_owned(), path))
        })
        .collect()
}

/// Texts in both languages and the code tables of every split.
///
/// # Errors
/// The folder of a split is missing, or cannot be listed.
pub fn codiesp_files(dir: &Utf8Path) -> Result<SourceFiles, BadInput> {
    let mut files = SourceFiles::new();
    for split in ["train", "dev", "test"] {
        let folder = dir.join(split);
        if !folder.is_dir() {
            let message = format!("missing: expected the folders train, dev and test in {dir}");
            return Err(BadInput::new(&folder, message));
        }
        for (name, path) in entries(&folder)? {
            if path.is_dir() && name.starts_with("text_files") {
                let texts = entries(&path)?.into_iter().filter(|(file, _)| file.ends_with(".txt"));
                files.extend(texts.map(|(file, path)| (format!("{split}/{name}/{file}"), path)));
            } else if name.ends_with(".tsv") {
                files.push((format!("{split}/{name}"), path));
            }
        }
    }
    readable(files)
}

/// Every table of descriptions.
///
/// # Errors
/// There is none, or one both packed and plain; the folder cannot be listed.
pub fn code_table_files(dir: &Utf8Path) -> Result<SourceFiles, BadInput> {
    let files: SourceFiles = entries(dir)?
        .into_iter()
        .filter(|(name, _)| name.ends_with(".tsv") || name.ends_with(".tsv.gz"))
        .collect();
    if files.is_empty() {
        return Err(BadInput::new(dir, "no table found: expected files ending in .tsv or .tsv.gz"));
    }
    for (name, path) in &files {
        if files.iter().any(|(other, _)| *other == format!("{name}.gz")) {
            return Err(BadInput::new(path, format!("there is {name}.gz too; expected one of them")));
        }
    }
    readable(files)
}

/// Entries of a folder, sorted by name.
fn entries(dir: &Utf8Path) -> Result<SourceFiles, BadInput> {
    let fail = |error| BadInput::new(dir, format!("cannot be listed: {error}"));
    let mut found = SourceFiles::new();
    for entry in dir.read_dir_utf8().map_err(fail)? {
        let entry = entry.map_err(fail)?;
        found.push((entry.file_name().to_owned(), entry.into_path()));
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_in_any_case_counts_in_any_case() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = Utf8Path::from_path(folder.path()).expect("UTF-8");
        let names = |dir| -> Vec<String> {
            mimic3_files(dir).expect("complete").into_iter().map(|(name, _)| name).collect()
        };
        std::fs::write(dir.join("noteevents.csv.gz"), "").expect("written");
        assert!(mimic3_files(dir).expect_err("no codes").to_string().contains("DIAGNOSES_ICD"));
        for name in ["procedures_icd.csv", "D_icd_diagnoses.csv", "unrelated.csv"] {
            std::fs::write(dir.join(name), "").expect("written");
        }
        assert_eq!(names(dir), ["noteevents.csv.gz", "procedures_icd.csv", "D_icd_diagnoses.csv"]);
    }

    type Files = fn(&Utf8Path) -> Result<SourceFiles, BadInput>;

    /// The complaint about a folder with these files.
    fn complaint(files: Files, names: &[&str]) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = Utf8Path::from_path(folder.path()).expect("UTF-8");
        for name in names {
            std::fs::create_dir_all(dir.join(name).parent().expect("a folder")).expect("made");
            std::fs::write(dir.join(name), "").expect("written");
        }
        files(dir).expect_err("a complaint").to_string()
    }

    #[test]
    fn a_table_is_there_once() {
        let cases: [(Files, &[&str]); 7] = [
            (table_files, &["notes.csv", "notes.csv.gz"]),
            (table_files, &["Notes.csv.gz", "notes.parquet"]),
            (mimic3_files, &["NOTEEVENTS.csv", "noteevents.csv.gz", "DIAGNOSES_ICD.csv"]),
            (
                mimic3_files,
                &["NOTEEVENTS.csv", "DIAGNOSES_ICD.csv", "D_ICD_DIAGNOSES.csv", "D_ICD_DIAGNOSES.csv.gz"],
            ),
            (mimic4_files, &["discharge.csv", "note/discharge.csv.gz", "diagnoses_icd.csv"]),
            (caml_csv_files, &["train_50.csv", "train_50.csv.gz", "test_50.csv"]),
            (code_table_files, &["icd10cm.tsv", "icd10cm.tsv.gz"]),
        ];
        for (files, names) in cases {
            let message = complaint(files, names);
            assert!(message.contains("too; expected one of them"), "{names:?}: {message}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_files_that_can_be_read_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = Utf8Path::from_path(folder.path()).expect("UTF-8");
        let table = dir.join("notes.csv");
        std::os::unix::fs::symlink("nowhere.csv", &table).expect("a link");
        let complaint = || table_files(dir).expect_err("a complaint").to_string();
        assert!(complaint().contains("notes.csv: missing: this link leads to a file that is not there"));
        std::fs::write(dir.join("nowhere.csv"), "").expect("written");
        assert_eq!(table_files(dir).expect("a link to a file").len(), 1);
        std::fs::remove_file(&table).expect("removed");
        std::fs::create_dir(&table).expect("a folder");
        assert!(complaint().contains("notes.csv: is a folder; expected a file"));
        std::fs::remove_dir(&table).expect("removed");
        let made = std::process::Command::new("mkfifo").arg(&table).status().expect("mkfifo");
        assert!(made.success());
        assert!(complaint().contains("notes.csv: is a pipe or a device; expected a file"));
        std::fs::rename(&table, dir.join("a.txt")).expect("renamed");
        let message = text_files(dir).expect_err("a pipe").to_string();
        assert!(message.contains("a.txt: is a pipe or a device"), "{message}");
    }
}
