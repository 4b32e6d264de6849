//! What a source gives and every cohort is made from: notes with their codes and splits, texts still on disk.

use std::collections::HashMap;

use plmicd_data::{CodeSystem, Exclusion, Split};

use crate::codes::{icd9_system, icd10_system};
use crate::descriptions::Descriptions;
use crate::spill::{Piece, Spill};

/// A note before the cohort is chosen.
#[derive(Clone, Debug)]
pub struct DraftNote {
    /// Unique id: the admission's, or the document's.
    pub note_id: String,
    /// The patient.
    pub subject_id: String,
    /// Where the source's lists put it; `None` while undecided.
    pub split: Option<Split>,
    /// Its codes in rank order, without repetition.
    pub codes: Vec<CodeId>,
    /// Its texts, to be joined by a space.
    pub pieces: Vec<Piece>,
    /// Number of words.
    pub words: u64,
}

/// Index of a code in a [`CodeBook`].
pub type CodeId = u32;

/// Every distinct code seen, each once.
#[derive(Debug, Default)]
pub struct CodeBook {
    codes: Vec<(String, CodeSystem)>,
    index: HashMap<(String, CodeSystem), CodeId>,
}

impl CodeBook {
    /// The id of a code, new or known.
    pub fn intern(&mut self, code: String, system: CodeSystem) -> CodeId {
        let next = CodeId::try_from(self.codes.len()).expect("fewer than 2^32 codes");
        *self.index.entry((code, system)).or_insert_with_key(|key| {
            self.codes.push(key.clone());
            next
        })
    }

    /// The id of a code whatever its system; a new one has that of the others, as its form tells.
    pub fn intern_any(&mut self, code: &str) -> CodeId {
        match self.codes.iter().position(|(known, _)| known == code) {
            Some(at) => at as CodeId,
            None => self.intern(code.to_owned(), self.system_of_new(code)),
        }
    }

    fn system_of_new(&self, code: &str) -> CodeSystem {
        let has = |of: &[CodeSystem]| self.codes.iter().any(|(_, system)| of.contains(system));
        let icd9 = has(&[CodeSystem::Icd9Diagnosis, CodeSystem::Icd9Procedure]);
        let icd10 = has(&[CodeSystem::Icd10CmDiagnosis, CodeSystem::Icd10PcsProcedure]);
        // Only where both editions are about does the first character have to tell: E and V begin codes of either.
        let begins_icd9 = code.starts_with(|c: char| c.is_ascii_digit());
        match (icd9, icd10) {
            (false, false) if has(&[CodeSystem::Other]) => CodeSystem::Other,
            (_, false) => icd9_system(code),
            (true, true) if begins_icd9 && code.len() < 7 => icd9_system(code),
            (_, true) => icd10_system(code),
        }
    }

    /// The code's text.
    pub fn code(&self, id: CodeId) -> &str {
        &self.codes[id as usize].0
    }

    /// The code's system.
    pub fn system(&self, id: CodeId) -> CodeSystem {
        self.codes[id as usize].1
    }

    /// Number of codes.
    pub fn len(&self) -> usize {
        self.codes.len()
    }
}

/// Counts of what was left out, in the order of the steps.
#[derive(Debug, Default)]
pub struct Exclusions(Vec<Exclusion>);

impl Exclusions {
    /// Records a step; steps that left nothing out are not recorded.
    pub fn add(&mut self, count: u64, unit: &str, reason: &str) {
        if count > 0 {
            self.0.push(Exclusion { reason: reason.to_owned(), count, unit: unit.to_owned() });
        }
    }

    /// The steps in words.
    pub fn sentence(&self) -> String {
        if self.0.is_empty() {
            return "nothing was left out".to_owned();
        }
        let steps: Vec<String> =
            self.0.iter().map(|step| format!("{} {} {}", step.count, step.unit, step.reason)).collect();
        format!("left out were {}", steps.join("; "))
    }

    /// The steps.
    pub fn as_slice(&self) -> &[Exclusion] {
        &self.0
    }
}

/// A source, read.
pub struct Corpus {
    /// Kind of the source.
    pub source: &'static str,
    /// Notes in the order of the artifact.
    pub notes: Vec<DraftNote>,
    /// Codes of the notes.
    pub codes: CodeBook,
    /// Texts of the notes.
    pub spill: Spill,
    /// The source's own descriptions.
    pub descriptions: Descriptions,
    /// What was left out so far.
    pub exclusions: Exclusions,
}
