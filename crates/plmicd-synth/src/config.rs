//! Settings of the synthetic corpus.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::codes::CODES_AVAILABLE;

/// Everything that decides the corpus. The defaults give a realistic one; tests and demos take fewer codes
/// and shorter notes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct SynthConfig {
    /// Hospital admissions to invent.
    pub admissions: u64,
    /// Distinct codes in use: the most frequent first, out of 1,043 real ICD-9-CM codes.
    pub codes: usize,
    /// Mean number of codes of an admission if every code were in use; fewer codes give proportionally fewer
    /// per admission.
    pub codes_per_admission: f64,
    /// Exponent of the code frequencies: the code of rank r is drawn in proportion to 1 / (r + 4)^exponent.
    /// Lower is flatter.
    pub zipf_exponent: f64,
    /// Mean words of a discharge report (log-normal).
    pub mean_words: u32,
    /// Longest discharge report, in words.
    pub max_words: u32,
    /// Spread of the lengths: standard deviation of the logarithm of the word count.
    pub words_spread: f64,
    /// Mentions of codes that were NOT assigned (negated, in the family, ruled out, prophylaxis), per assigned code.
    pub distractors: f64,
    /// Share of assigned codes that the note does not mention at all.
    pub unmentioned: f64,
    /// Share of assigned codes that the note only implies (drug, laboratory value, finding), where it can.
    pub implied: f64,
    /// Share of wordings with a misspelling.
    pub misspelled: f64,
    /// Share of discharge summaries that have an addendum.
    pub addendum_rate: f64,
    /// Mean number of notes of other categories (nursing, radiology, ECG, ...) per admission.
    pub other_notes_per_admission: f64,
    /// Share of subjects in the dev list.
    pub dev_fraction: f64,
    /// Share of subjects in the test list.
    pub test_fraction: f64,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for SynthConfig {
    fn default() -> Self {
        Self {
            admissions: 2_000,
            codes: 800,
            codes_per_admission: 12.5,
            zipf_exponent: 1.0,
            mean_words: 1_500,
            max_words: 8_000,
            words_spread: 0.55,
            distractors: 0.6,
            unmentioned: 0.03,
            implied: 0.04,
            misspelled: 0.015,
            addendum_rate: 0.1,
            other_notes_per_admission: 3.0,
            dev_fraction: 0.1,
            test_fraction: 0.15,
            seed: 1,
        }
    }
}

impl SynthConfig {
    /// Settings out of range, as (field, what is wrong and what was expected).
    pub fn issues(&self) -> Vec<(&'static str, String)> {
        let mut issues = Vec::new();
        let mut expect = |fine: bool, field: &'static str, expected: &str, got: String| {
            if !fine {
                issues.push((field, format!("expected {expected}, got {got}")));
            }
        };
        let admissions = self.admissions;
        expect((1..=50_000_000).contains(&admissions), "admissions", "1 to 50000000", admissions.to_string());
        expect(
            (1..=CODES_AVAILABLE).contains(&self.codes),
            "codes",
            &format!("1 to {CODES_AVAILABLE}"),
            self.codes.to_string(),
        );
        let range = |low: f64, high: f64, value: f64| value >= low && value <= high;
        let codes = self.codes_per_admission;
        expect(range(0.5, 40.0, codes), "codes_per_admission", "0.5 to 40", codes.to_string());
        let exponent = self.zipf_exponent;
        expect(range(0.0, 3.0, exponent), "zipf_exponent", "0 to 3", exponent.to_string());
        expect(
            (50..=100_000).contains(&self.mean_words),
            "mean_words",
            "50 to 100000",
            self.mean_words.to_string(),
        );
        expect(
            self.max_words >= self.mean_words && self.max_words <= 1_000_000,
            "max_words",
            "mean_words to 1000000",
            self.max_words.to_string(),
        );
        expect(range(0.0, 1.5, self.words_spread), "words_spread", "0 to 1.5", self.words_spread.to_string());
        expect(range(0.0, 10.0, self.distractors), "distractors", "0 to 10", self.distractors.to_string());
        let others = self.other_notes_per_admission;
        expect(range(0.0, 500.0, others), "other_notes_per_admission", "0 to 500", others.to_string());
        for (field, value) in [
            ("unmentioned", self.unmentioned),
            ("implied", self.implied),
            ("misspelled", self.misspelled),
            ("addendum_rate", self.addendum_rate),
            ("dev_fraction", self.dev_fraction),
            ("test_fraction", self.test_fraction),
        ] {
            expect(range(0.0, 1.0, value), field, "0 to 1", value.to_string());
        }
        let held_out = self.dev_fraction + self.test_fraction;
        expect(held_out < 1.0, "test_fraction", "dev_fraction + test_fraction below 1", held_out.to_string());
        issues
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range_and_mistakes_are_named() {
        assert!(SynthConfig::default().issues().is_empty());
        let wrong = SynthConfig {
            codes: 5_000,
            admissions: 0,
            zipf_exponent: f64::NAN,
            dev_fraction: 0.6,
            test_fraction: 0.5,
            ..SynthConfig::default()
        };
        let fields: Vec<&str> = wrong.issues().iter().map(|(field, _)| *field).collect();
        assert_eq!(fields, ["admissions", "codes", "zipf_exponent", "test_fraction"]);
    }
}
