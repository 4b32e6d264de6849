//! Config of the stage.

use plmicd_pipeline::ConfigIssue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::own::TableColumns;
use crate::text::{Deidentified, TextCleaning, TextRules};

/// Which notes and codes a corpus holds, and how they are written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PreprocessConfig {
    /// `full`: every code. `top`: the `top_codes` most frequent; notes without any of them are left out.
    pub cohort: Cohort,
    /// Number of codes of `cohort = "top"`. Counted over the notes of all splits; ties go to the code that sorts
    /// first.
    pub top_codes: usize,
    /// Which kinds of codes to keep: `all`, `diagnoses` or `procedures`.
    pub codes: CodeKinds,
    /// Codes on fewer notes than this are left out (10 in the corpora of Edin et al. 2023).
    pub min_code_frequency: u64,
    /// `published`: the source's own splits (CAML's id lists for `mimic3`, lists that lie beside a `mimic4` source, the
    /// folders of `codiesp`). `caml`: CAML's lists. `caml-50`: CAML's lists of the admissions with the 50 codes. `random`: by subject, so that no patient is on two sides. `stratified`: the same, and every code is spread
    /// over the splits in their proportions (iterative stratification, Sechidis et al. 2011).
    pub splits: Splits,
    /// Share of the notes in the dev split of `splits = "random"` and `"stratified"`.
    pub dev_fraction: f64,
    /// Share of the notes in the test split of `splits = "random"` and `"stratified"`.
    pub test_fraction: f64,
    /// Seed of `splits = "random"` and `"stratified"`.
    pub seed: u64,
    /// How texts are cleaned: `caml`, `caml-cased`, `raw`, `raw-lower` or `edin`.
    pub text: TextCleaning,
    /// What becomes of the marks that de-identification left: `keep`, `drop` or `replace`. Before cleaning.
    pub deidentified: Deidentified,
    /// What a label is: the `full` code, its `category` (what stands before the dot) or its `chapter`.
    pub code_level: CodeLevel,
    /// Which edition of the ICD a `mimic4` source is read in: `icd9` or `icd10`. Other sources have one.
    pub icd_version: IcdVersion,
    /// How a `mimic3` source's codes are read: `corrected` (as text, each once) or `caml` (as the scripts of Mullenbach
    /// et al. 2018 leave them, accidents included).
    pub compat: Compat,
    /// With `compat = "caml"`: also write CAML's own tables, into the folder `caml` of the artifact.
    pub caml_files: bool,
    /// Where things stand in a `table` source.
    pub table: TableColumns,
    /// Language of the texts of a `codiesp` source: `en` (machine translation) or `es` (original). Other sources
    /// have one language.
    pub language: Language,
}

impl Default for PreprocessConfig {
    fn default() -> Self {
        Self {
            cohort: Cohort::default(),
            top_codes: 50,
            codes: CodeKinds::default(),
            min_code_frequency: 1,
            splits: Splits::default(),
            dev_fraction: 0.1,
            test_fraction: 0.15,
            seed: 0,
            text: TextCleaning::default(),
            deidentified: Deidentified::default(),
            code_level: CodeLevel::default(),
            icd_version: IcdVersion::default(),
            compat: Compat::default(),
            caml_files: false,
            table: TableColumns::default(),
            language: Language::default(),
        }
    }
}

/// How codes are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compat {
    /// As text and without repetition, as the corrected studies do.
    #[default]
    Corrected,
    /// As CAML's scripts leave them.
    Caml,
}

/// Which codes make the label space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Cohort {
    /// All codes.
    #[default]
    Full,
    /// The most frequent codes.
    Top,
}

/// Which kinds of codes to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CodeKinds {
    /// Diagnoses and procedures.
    #[default]
    All,
    /// Diagnoses only.
    Diagnoses,
    /// Procedures only.
    Procedures,
}

impl CodeKinds {
    /// Whether diagnoses are kept.
    pub fn diagnoses(self) -> bool {
        self != Self::Procedures
    }

    /// Whether procedures are kept.
    pub fn procedures(self) -> bool {
        self != Self::Diagnoses
    }
}

/// Where the splits come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Splits {
    /// The source's own.
    #[default]
    Published,
    /// CAML's lists of admission ids.
    Caml,
    /// CAML's lists of the admissions with the 50 codes.
    #[serde(rename = "caml-50")]
    Caml50,
    /// By subject, seeded.
    Random,
    /// By subject, seeded, with every code spread over the splits.
    Stratified,
}

impl Splits {
    /// Whether the splits are made here, whatever the source says.
    pub fn are_made(self) -> bool {
        matches!(self, Self::Random | Self::Stratified)
    }

    /// Whether CAML's lists are asked for by name.
    pub fn are_camls(self) -> bool {
        matches!(self, Self::Caml | Self::Caml50)
    }
}

/// What a label is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CodeLevel {
    /// The code itself.
    #[default]
    Full,
    /// What stands before the dot; the first three characters of ICD-10-PCS.
    Category,
    /// The chapter of its classification; the section of ICD-10-PCS.
    Chapter,
}

/// Edition of the ICD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum IcdVersion {
    /// ICD-9-CM.
    Icd9,
    /// ICD-10-CM and ICD-10-PCS.
    #[default]
    Icd10,
}

impl IcdVersion {
    /// Its number in the tables.
    pub fn number(self) -> u64 {
        match self {
            Self::Icd9 => 9,
            Self::Icd10 => 10,
        }
    }
}

/// Language of the texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Spanish.
    Es,
}

impl PreprocessConfig {
    /// How a note's text is written.
    pub fn text_rules(&self) -> TextRules {
        TextRules { cleaning: self.text, deidentified: self.deidentified, blanks: false }
    }

    /// What types cannot express.
    pub fn issues(&self) -> Vec<ConfigIssue> {
        let mut issues = self.table.issues();
        if self.top_codes == 0 {
            issues.push(ConfigIssue::new("top_codes", "must be at least 1"));
        }
        if self.min_code_frequency == 0 {
            issues.push(ConfigIssue::new("min_code_frequency", "must be at least 1 (1 keeps every code)"));
        }
        for (path, value) in [("dev_fraction", self.dev_fraction), ("test_fraction", self.test_fraction)] {
            if !(0.0..1.0).contains(&value) {
                issues.push(ConfigIssue::new(path, format!("is {value}; must be at least 0 and below 1")));
            }
        }
        let system = self.table.system;
        for (kept, is_kind) in [
            (self.codes.diagnoses(), system.is_diagnosis()),
            (self.codes.procedures(), system.is_procedure()),
        ] {
            if is_kind && !kept {
                let message =
                    format!("leaves out every code of a table with table.system = \"{}\"", system.as_str());
                issues.push(ConfigIssue::new("codes", message));
            }
        }
        if self.compat == Compat::Caml {
            let usual = Self::default();
            for (path, same) in [
                ("codes", self.codes == usual.codes),
                ("min_code_frequency", self.min_code_frequency == 1),
                ("text", self.text == usual.text),
                ("deidentified", self.deidentified == usual.deidentified),
                ("code_level", self.code_level == usual.code_level),
            ] {
                if !same {
                    issues.push(ConfigIssue::new(path, "with compat = \"caml\" it stays at its default"));
                }
            }
            if self.caml_files && self.splits == Splits::Caml50 {
                issues
                    .push(ConfigIssue::new("caml_files", "needs the lists of all codes: splits = \"caml\""));
            }
        } else if self.caml_files {
            issues.push(ConfigIssue::new("caml_files", "needs compat = \"caml\""));
        }
        let held_out = self.dev_fraction + self.test_fraction;
        if issues.is_empty() && held_out >= 1.0 {
            issues.push(ConfigIssue::new(
                "test_fraction",
                format!(
                    "dev_fraction + test_fraction is {held_out}; must be below 1, to leave notes for training"
                ),
            ));
        }
        issues
    }
}

#[cfg(test)]
mod tests {
    use plmicd_data::CodeSystem;

    use super::*;

    #[test]
    fn values_out_of_range_are_named() {
        assert!(PreprocessConfig::default().issues().is_empty());
        let paths = |config: PreprocessConfig| -> Vec<String> {
            config.issues().into_iter().map(|issue| issue.path).collect()
        };
        let base = PreprocessConfig::default();
        assert_eq!(paths(PreprocessConfig { top_codes: 0, ..base.clone() }), ["top_codes"]);
        assert_eq!(paths(PreprocessConfig { min_code_frequency: 0, ..base.clone() }), ["min_code_frequency"]);
        assert_eq!(paths(PreprocessConfig { dev_fraction: f64::NAN, ..base.clone() }), ["dev_fraction"]);
        for (codes, system, is_wrong) in [
            (CodeKinds::Procedures, CodeSystem::Icd10CmDiagnosis, true),
            (CodeKinds::Diagnoses, CodeSystem::Icd9Procedure, true),
            (CodeKinds::Diagnoses, CodeSystem::Icd10CmDiagnosis, false),
            (CodeKinds::Procedures, CodeSystem::Other, false),
        ] {
            let table = TableColumns { system, ..TableColumns::default() };
            let found = paths(PreprocessConfig { codes, table, ..base.clone() });
            assert_eq!(found == ["codes"], is_wrong, "{codes:?} {system}");
        }
        assert_eq!(
            paths(PreprocessConfig { dev_fraction: 0.5, test_fraction: 0.5, ..base }),
            ["test_fraction"]
        );
    }
}
