//! What codes mean in words: from the source's own dictionaries and from tables the user names.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use plmicd_data::{CodeSystem, Label};
use plmicd_pipeline::{BadInput, StageError};

use crate::codes::format_code;
use crate::table::Table;

/// Descriptions by system and code (without its dot).
#[derive(Debug, Default)]
pub struct Descriptions {
    systems: BTreeMap<CodeSystem, Codes>,
}

/// Code (without its dot) to text.
type Codes = BTreeMap<String, String>;

impl Descriptions {
    /// Adds a description unless the code has one. Blank ones do not count.
    pub fn add(&mut self, system: CodeSystem, code: &str, text: &str) {
        let (code, text) = (compact(code), text.trim());
        if !code.is_empty() && !text.is_empty() {
            self.systems.entry(system).or_default().entry(code).or_insert_with(|| text.to_owned());
        }
    }

    /// The label of a code, with its own description or, failing that, what its nearest relatives say; see
    /// [`relative`].
    pub fn label(&self, code: &str, system: CodeSystem) -> Label {
        let key = compact(code);
        let mut label = Label { code: code.to_owned(), system, description: None, description_of: None };
        let Some(table) = self.systems.get(&system) else { return label };
        if let Some(text) = table.get(&key) {
            label.description = Some(text.clone());
        } else if let Some((of, text)) = relative(table, &key, system) {
            label.description = Some(text);
            label.description_of = Some(of);
        }
        label
    }

    /// Number of descriptions.
    pub fn len(&self) -> usize {
        self.systems.values().map(Codes::len).sum()
    }

    /// Adds what a `code-table` folder holds, where nothing is known yet: every `*.tsv` and `*.tsv.gz`, in the
    /// order of their names. Columns (by header): `code` or `prefix`; `description` or `long`; and `system`, unless
    /// the name of the file begins with `icd9cm_dx`, `icd9cm_px`, `icd10cm` or `icd10pcs`.
    ///
    /// # Errors
    /// No table, a column missing, an unknown system.
    pub fn add_folder(&mut self, dir: &Utf8Path) -> Result<(), StageError> {
        let mut files: Vec<Utf8PathBuf> = Vec::new();
        for entry in fs::read_dir(dir)? {
            if let Ok(path) = Utf8PathBuf::try_from(entry?.path())
                && (path.as_str().ends_with(".tsv") || path.as_str().ends_with(".tsv.gz"))
            {
                files.push(path);
            }
        }
        files.sort();
        if files.is_empty() {
            return Err(BadInput::new(dir, "no table of descriptions; expected *.tsv or *.tsv.gz")
                .hint("a table has a header line and the columns system, code and description, separated by tabs")
                .into());
        }
        files.iter().try_for_each(|file| self.add_table(file))
    }

    fn add_table(&mut self, path: &Utf8Path) -> Result<(), StageError> {
        let mut table = Table::open(path, b'\t', &[], &["system", "code", "prefix", "description", "long"])?;
        let pick = |table: &Table, first: usize, name: &str| {
            [first, first + 1].into_iter().find(|&column| table.has(column)).ok_or_else(|| {
                StageError::from(BadInput::new(path, "no such column in the header").line(1).column(name))
            })
        };
        let code = pick(&table, 1, "code (or prefix)")?;
        let text = pick(&table, 3, "description (or long)")?;
        let of_file = system_of_file(path.file_name().unwrap_or_default());
        if of_file.is_none() && !table.has(0) {
            return Err(BadInput::new(
                path,
                "no such column in the header, and the file's name tells no system",
            )
            .line(1)
            .column("system")
            .hint("name the file icd9cm_dx*, icd9cm_px*, icd10cm* or icd10pcs*, or add the column")
            .into());
        }
        while table.advance()? {
            let system = match of_file {
                Some(system) => system,
                None => {
                    let name = table.text(0);
                    SYSTEMS.into_iter().find(|system| system.as_str() == name).ok_or_else(|| {
                        table.bad(
                            0,
                            format!(
                                "unknown code system; expected one of {}",
                                SYSTEMS.map(|s| s.as_str()).join(", ")
                            ),
                        )
                    })?
                }
            };
            self.add(system, &table.text(code), &table.text(text));
        }
        Ok(())
    }
}

const SYSTEMS: [CodeSystem; 5] = [
    CodeSystem::Icd9Diagnosis,
    CodeSystem::Icd9Procedure,
    CodeSystem::Icd10CmDiagnosis,
    CodeSystem::Icd10PcsProcedure,
    CodeSystem::Other,
];

fn system_of_file(name: &str) -> Option<CodeSystem> {
    [
        ("icd9cm_dx", CodeSystem::Icd9Diagnosis),
        ("icd9cm_px", CodeSystem::Icd9Procedure),
        ("icd10cm", CodeSystem::Icd10CmDiagnosis),
        ("icd10pcs", CodeSystem::Icd10PcsProcedure),
    ]
    .into_iter()
    .find_map(|(prefix, system)| name.starts_with(prefix).then_some(system))
}

fn compact(code: &str) -> String {
    code.trim().chars().filter(|&c| c != '.').map(|c| c.to_ascii_uppercase()).collect()
}

/// Whose description stands in for a code without one, and that description. In this order:
///
/// 1. what the descriptions of all codes below it begin with, if that is two words or more (`E11` in a table of
///    billable codes: "Type 2 diabetes mellitus"), named `E11*`;
/// 2. the nearest code below it: the shortest, of those one that ends in 9 (which stands for "unspecified"), of those
///    the first;
/// 3. for each shorter prefix, down to the category (ICD-10-PCS: the section): its own description, or what those of the
///    codes below it begin with.
fn relative(table: &Codes, code: &str, system: CodeSystem) -> Option<(String, String)> {
    if let Some(found) = family(table, code, system) {
        return Some(found);
    }
    let nearest = below(table, code).min_by_key(|(other, _)| (other.len(), !other.ends_with('9')));
    if let Some((other, text)) = nearest {
        return Some((format_code(other, system), text.clone()));
    }
    let shortest = match system {
        CodeSystem::Icd10PcsProcedure => 1,
        CodeSystem::Icd9Procedure => 2,
        _ => 3,
    };
    (shortest..code.len()).rev().filter_map(|end| code.get(..end)).find_map(|stem| match table.get(stem) {
        Some(text) => Some((format_code(stem, system), text.clone())),
        None => family(table, stem, system),
    })
}

fn below<'a>(table: &'a Codes, stem: &str) -> impl Iterator<Item = (&'a String, &'a String)> {
    let stem = stem.to_owned();
    table.range(stem.clone()..).take_while(move |(other, _)| other.starts_with(&stem))
}

/// What the descriptions of all codes below a stem begin with.
fn family(table: &Codes, stem: &str, system: CodeSystem) -> Option<(String, String)> {
    let mut members = below(table, stem);
    let (first, text) = members.next()?;
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let mut alone = true;
    for (_, text) in members {
        alone = false;
        let common = words.iter().zip(text.split_whitespace()).take_while(|(a, b)| **a == *b).count();
        words.truncate(common);
    }
    if alone {
        return Some((format_code(first, system), text.clone()));
    }
    while let Some(last) = words.last()
        && JOINING.contains(last)
    {
        words.pop();
    }
    (words.len() >= 2).then(|| {
        let text = words.join(" ");
        (format!("{}*", format_code(stem, system)), text.trim_end_matches([',', ';']).to_owned())
    })
}

/// Words that lead on to what is no longer common.
const JOINING: [&str; 14] =
    ["of", "using", "with", "without", "to", "and", "or", "by", "in", "for", "from", "into", "on", "the"];

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Descriptions {
        let mut table = Descriptions::default();
        for (code, text) in [
            ("E11.00", "Type 2 diabetes mellitus with hyperosmolarity"),
            ("E11.9", "Type 2 diabetes mellitus without complications"),
            ("H17.0", "Adherent leukoma"),
            ("H17.8", "Other corneal scars"),
            ("H17.9", "Unspecified corneal scar"),
            ("K44.9", "hernia"),
            ("T14.8XXA", "Other injury, initial encounter"),
        ] {
            table.add(CodeSystem::Icd10CmDiagnosis, code, text);
        }
        table.add(CodeSystem::Icd10PcsProcedure, "0TJ", "Inspection");
        table.add(
            CodeSystem::Icd10PcsProcedure,
            "5A1D70Z",
            "Performance of Urinary Filtration, Intermittent",
        );
        table.add(CodeSystem::Icd10PcsProcedure, "5A1D80Z", "Performance of Urinary Filtration, Prolonged");
        table.add(CodeSystem::Icd10CmDiagnosis, "K449", "a later one");
        table.add(CodeSystem::Icd10CmDiagnosis, "Z99", "  ");
        table
    }

    fn look(code: &str, system: CodeSystem) -> Option<(String, Option<String>)> {
        let label = table().label(code, system);
        assert_eq!(label.code, code);
        label.description.map(|text| (text, label.description_of))
    }

    #[test]
    fn a_code_without_a_text_takes_that_of_its_relatives() {
        let cm = CodeSystem::Icd10CmDiagnosis;
        let pcs = CodeSystem::Icd10PcsProcedure;
        let of = |text: &str, code: &str| Some((text.to_owned(), Some(code.to_owned())));
        assert_eq!(look("K44.9", cm), Some(("hernia".to_owned(), None)));
        assert_eq!(look("E11", cm), of("Type 2 diabetes mellitus", "E11*"));
        assert_eq!(
            look("H17", cm),
            of("Unspecified corneal scar", "H17.9"),
            "nothing in common: the unspecified one"
        );
        assert_eq!(
            look("T14.8", cm),
            of("Other injury, initial encounter", "T14.8XXA"),
            "the only one below"
        );
        assert_eq!(look("K44.9X", cm), of("hernia", "K44.9"), "the longest prefix");
        assert_eq!(look("0TJB8ZZ", pcs), of("Inspection", "0TJ"));
        assert_eq!(
            look("5A1D00Z", pcs),
            of("Performance of Urinary Filtration", "5A1D*"),
            "a sister's family"
        );
        assert_eq!(look("Z99", cm), None);
        assert_eq!(look("K44.9", CodeSystem::Icd9Diagnosis), None);
    }

    #[test]
    fn folders_of_tables() {
        let dir = tempfile::tempdir().unwrap();
        let dir = Utf8Path::from_path(dir.path()).unwrap();
        let add = || {
            let mut table = Descriptions::default();
            table.add_folder(dir).map(|()| table).map_err(|e| e.to_string())
        };
        assert!(add().unwrap_err().contains("expected *.tsv"));
        fs::write(
            dir.join("icd10cm_2024.tsv"),
            "code\tcode_dotted\tlong\nA000\tA00.0\tCholera \"classic\"\n",
        )
        .unwrap();
        fs::write(dir.join("mine.tsv"), "System\tCode\tDescription\nicd9-diagnosis\t401.9\tHypertension\n")
            .unwrap();
        let table = add().unwrap();
        assert_eq!(table.len(), 2);
        assert_eq!(
            table.label("A00.0", CodeSystem::Icd10CmDiagnosis).description.unwrap(),
            "Cholera \"classic\""
        );
        fs::write(dir.join("mine.tsv"), "system\tcode\tdescription\nicd9\t1\tx\n").unwrap();
        assert!(add().unwrap_err().contains("mine.tsv:2, column system: unknown code system"));
        fs::write(dir.join("mine.tsv"), "code\tdescription\n1\tx\n").unwrap();
        assert!(add().unwrap_err().contains("mine.tsv:1, column system"));
        fs::write(dir.join("mine.tsv"), "system\tdescription\n1\tx\n").unwrap();
        assert!(add().unwrap_err().contains("column code (or prefix)"));
    }
}
