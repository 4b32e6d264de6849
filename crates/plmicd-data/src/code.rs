//! ICD codes: the systems, the forms with and without a dot, and the category before it.
//!
//! The rules are those of the classifications themselves. How a data set mangles its codes (numbers read as
//! floats, lost zeros) is the business of the stage that reads it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// The classification a code belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CodeSystem {
    /// ICD-9-CM volumes 1 and 2: `428.0`, `V45.81`, `E849.7`.
    #[serde(rename = "icd9-diagnosis")]
    Icd9Diagnosis,
    /// ICD-9-CM volume 3: `38.93`.
    #[serde(rename = "icd9-procedure")]
    Icd9Procedure,
    /// ICD-10-CM (and the WHO's ICD-10, whose form it shares): `I50.9`.
    #[serde(rename = "icd10-cm-diagnosis")]
    Icd10CmDiagnosis,
    /// ICD-10-PCS: `02100Z9`.
    #[serde(rename = "icd10-pcs-procedure")]
    Icd10PcsProcedure,
    /// Anything else.
    Other,
}

impl CodeSystem {
    /// Name in files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Icd9Diagnosis => "icd9-diagnosis",
            Self::Icd9Procedure => "icd9-procedure",
            Self::Icd10CmDiagnosis => "icd10-cm-diagnosis",
            Self::Icd10PcsProcedure => "icd10-pcs-procedure",
            Self::Other => "other",
        }
    }

    /// Name for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Icd9Diagnosis => "ICD-9-CM diagnosis",
            Self::Icd9Procedure => "ICD-9-CM procedure",
            Self::Icd10CmDiagnosis => "ICD-10-CM diagnosis",
            Self::Icd10PcsProcedure => "ICD-10-PCS procedure",
            Self::Other => "other",
        }
    }

    /// Whether its codes are diagnoses.
    pub const fn is_diagnosis(self) -> bool {
        matches!(self, Self::Icd9Diagnosis | Self::Icd10CmDiagnosis)
    }

    /// Whether its codes are procedures.
    pub const fn is_procedure(self) -> bool {
        matches!(self, Self::Icd9Procedure | Self::Icd10PcsProcedure)
    }
}

impl fmt::Display for CodeSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A code in its normal form: upper case, the dot implied by the system.
///
/// | system | form | dot |
/// |---|---|---|
/// | ICD-9-CM diagnosis | 3 to 5 characters, the first a digit or `V`; or `E` and 3 or 4 digits | after 3, after 4 for `E` |
/// | ICD-9-CM procedure | 2 to 4 digits | after 2 |
/// | ICD-10-CM | a letter, a digit, then 1 to 5 letters or digits | after 3 |
/// | ICD-10-PCS | 3 to 7 letters or digits (full codes have 7; data sets also use prefixes) | none |
/// | other | letters and digits | none |
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IcdCode {
    system: CodeSystem,
    /// Without dot.
    compact: String,
}

impl IcdCode {
    /// Parses a code with or without its dot, in either case, with surrounding blanks.
    ///
    /// # Errors
    /// [`DataError::Code`] if the text does not have the system's form or its dot is in the wrong place.
    pub fn parse(system: CodeSystem, text: &str) -> Result<Self, DataError> {
        let fail = |message| DataError::Code { text: text.to_owned(), system: system.title(), message };
        let upper = text.trim().to_ascii_uppercase();
        let (head, tail) = match upper.split_once('.') {
            Some((head, tail)) => (head, Some(tail)),
            None => (upper.as_str(), None),
        };
        let compact = format!("{head}{}", tail.unwrap_or(""));
        if !compact.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(fail("expected letters and digits with at most one dot"));
        }
        check_form(system, compact.as_bytes()).map_err(fail)?;
        let code = Self { system, compact };
        if tail.is_some() && (tail == Some("") || code.dot() != Some(head.len())) {
            return Err(fail("its dot is in the wrong place"));
        }
        Ok(code)
    }

    /// The classification.
    pub fn system(&self) -> CodeSystem {
        self.system
    }

    /// Without dot: `4280`.
    pub fn compact(&self) -> &str {
        &self.compact
    }

    /// With the dot where the system has one and something follows it: `428.0`.
    pub fn dotted(&self) -> String {
        match self.dot() {
            Some(at) if at < self.compact.len() => {
                format!("{}.{}", &self.compact[..at], &self.compact[at..])
            }
            _ => self.compact.clone(),
        }
    }

    /// What stands before the dot: `428`, `E849`, `38`, `I50`. For systems without a dot, the first three
    /// characters.
    pub fn category(&self) -> &str {
        &self.compact[..self.dot().unwrap_or(3).min(self.compact.len())]
    }

    fn dot(&self) -> Option<usize> {
        match self.system {
            CodeSystem::Icd9Diagnosis if self.compact.starts_with('E') => Some(4),
            CodeSystem::Icd9Diagnosis | CodeSystem::Icd10CmDiagnosis => Some(3),
            CodeSystem::Icd9Procedure => Some(2),
            CodeSystem::Icd10PcsProcedure | CodeSystem::Other => None,
        }
    }
}

impl fmt::Display for IcdCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.dotted())
    }
}

fn check_form(system: CodeSystem, code: &[u8]) -> Result<(), &'static str> {
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    match (system, code) {
        (CodeSystem::Icd9Diagnosis, [b'E', rest @ ..]) => {
            if (3..=4).contains(&rest.len()) && digits(rest) {
                Ok(())
            } else {
                Err("expected E and three or four digits")
            }
        }
        (CodeSystem::Icd9Diagnosis, [first, rest @ ..]) => {
            if (*first == b'V' || first.is_ascii_digit()) && (2..=4).contains(&rest.len()) && digits(rest) {
                Ok(())
            } else {
                Err("expected three to five digits, of which the first may be V")
            }
        }
        (CodeSystem::Icd9Procedure, code) => {
            if (2..=4).contains(&code.len()) && digits(code) {
                Ok(())
            } else {
                Err("expected two to four digits")
            }
        }
        (CodeSystem::Icd10CmDiagnosis, [letter, digit, rest @ ..]) => {
            if letter.is_ascii_alphabetic() && digit.is_ascii_digit() && (1..=5).contains(&rest.len()) {
                Ok(())
            } else {
                Err("expected a letter, a digit and one to five letters or digits")
            }
        }
        (CodeSystem::Icd10PcsProcedure, code) if !(3..=7).contains(&code.len()) => {
            Err("expected three to seven letters or digits")
        }
        (CodeSystem::Icd9Diagnosis | CodeSystem::Icd10CmDiagnosis, _) | (_, []) => Err("it is too short"),
        (CodeSystem::Icd10PcsProcedure | CodeSystem::Other, _) => Ok(()),
    }
}
