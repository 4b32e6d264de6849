//! What a source gives and every cohort is made from: notes with their codes and splits, texts still on disk.

use std::collections::HashMap;

use plmicd_data::{CodeSystem, Exclusion, Split, counted};

use crate::codes::{icd9_system, icd10_system};
use crate::descriptions::Descriptions;
use crate::place::Place;
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
    /// Where each stands first, if that is known.
    places: HashMap<CodeId, Place>,
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

    /// Tells where a code stands; the first place counts.
    pub fn stands_at(&mut self, id: CodeId, place: Place) {
        self.places.entry(id).or_insert(place);
    }

    /// Where a code stands first, if that is known.
    pub fn place(&self, id: CodeId) -> Option<Place> {
        self.places.get(&id).copied()
    }

    /// Number of codes.
    pub fn len(&self) -> usize {
        self.codes.len()
    }
}

/// Counts of what was left out, in the order of the steps.
#[derive(Debug, Default)]
pub struct Exclusions(Vec<Exclusion>);

/// What becomes of bytes that are not UTF-8. It stands among the exclusions so that it is on record, though nothing is lost.
const MENDED: &str = "mended: not UTF-8, read as Windows-1252";

impl Exclusions {
    /// Records bytes that were read as Windows-1252.
    pub fn add_mended(&mut self, bytes: u64) {
        self.add(bytes, "bytes", MENDED);
    }

    /// A line for each step.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|step| match step.reason == MENDED {
            true => format!("{} {}", counted(step.count, &step.unit), step.reason),
            false => format!("left out: {}", described(step)),
        })
    }

    /// Records a step; steps that left nothing out are not recorded.
    pub fn add(&mut self, count: u64, unit: &str, reason: &str) {
        if count > 0 {
            self.0.push(Exclusion { reason: reason.to_owned(), count, unit: unit.to_owned() });
        }
    }

    /// The steps in words.
    pub fn sentence(&self) -> String {
        let steps: Vec<String> = self.0.iter().filter(|step| step.reason != MENDED).map(described).collect();
        if steps.is_empty() {
            return "nothing was left out".to_owned();
        }
        format!("left out were {}", steps.join("; "))
    }

    /// The steps.
    pub fn as_slice(&self) -> &[Exclusion] {
        &self.0
    }
}

fn described(step: &Exclusion) -> String {
    format!("{} {}", counted(step.count, &step.unit), step.reason)
}

/// A warning of bytes that were read as Windows-1252, in so many of the `units`.
pub fn mended_warning(bytes: u64, count: u64, units: &str) -> String {
    let (bytes, units) = (counted(bytes, "bytes"), counted(count, units));
    format!("not UTF-8, read as Windows-1252: {bytes} in {units}")
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

#[cfg(test)]
mod tests {
    use super::Exclusions;

    #[test]
    fn what_was_mended_was_not_left_out() {
        let mut exclusions = Exclusions::default();
        exclusions.add_mended(1);
        assert_eq!(exclusions.sentence(), "nothing was left out");
        exclusions.add(1, "notes", "without a code");
        exclusions.add(2, "rows", "without a split");
        let lines: Vec<String> = exclusions.lines().collect();
        let expected = [
            "1 byte mended: not UTF-8, read as Windows-1252",
            "left out: 1 note without a code",
            "left out: 2 rows without a split",
        ];
        assert_eq!(lines, expected);
        assert_eq!(exclusions.sentence(), "left out were 1 note without a code; 2 rows without a split");
    }
}
