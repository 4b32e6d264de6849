//! Who is admitted: subjects, their admissions, identifiers, and the split each subject falls into.

use plmicd_data::Split;

use crate::clinic::Clinic;
use crate::config::SynthConfig;
use crate::random::{Permutation, Purpose, Stream};

/// Chance of each further admission of an adult.
const READMITTED: f64 = 0.18;
const MOST_ADMISSIONS: usize = 8;
/// MIMIC-III numbers subjects from 1 and admissions from 100,001, each below 100,000 numbers further.
const IDENTIFIERS: u64 = 99_999;
const FIRST_ADMISSION_ID: u64 = 100_001;

/// Every admission and the subject it belongs to. Four bytes an admission, so that corpora of any size fit.
pub(crate) struct Cohort {
    /// Subject index of each admission, ascending.
    subject_of: Vec<u32>,
    subjects: u64,
    subject_ids: Permutation,
    admission_ids: Permutation,
    split_ranks: Permutation,
    dev: u64,
    test: u64,
}

impl Cohort {
    /// Draws how often each subject is admitted until there are enough admissions.
    pub(crate) fn new(config: &SynthConfig, clinic: &Clinic) -> Self {
        let mut subject_of = Vec::with_capacity(config.admissions as usize);
        let mut subject = 0u32;
        while (subject_of.len() as u64) < config.admissions {
            let mut stream = Stream::new(config.seed, Purpose::Subject, u64::from(subject));
            let mut count = 1;
            if !clinic.is_newborn(&mut stream) {
                let mut visits = Stream::new(config.seed, Purpose::Visits, u64::from(subject));
                while count < MOST_ADMISSIONS && visits.chance(READMITTED) {
                    count += 1;
                }
            }
            let room = (config.admissions - subject_of.len() as u64).min(count as u64);
            subject_of.extend(std::iter::repeat_n(subject, room as usize));
            subject += 1;
        }
        let subjects = u64::from(subject);
        let mut ids = Stream::new(config.seed, Purpose::Ids, 0);
        let subject_ids = Permutation::new(subjects.max(IDENTIFIERS), &mut ids);
        let admission_ids = Permutation::new(config.admissions.max(IDENTIFIERS), &mut ids);
        let split_ranks = Permutation::new(subjects, &mut ids);
        let share = |fraction: f64| {
            let count = (fraction * subjects as f64).round() as u64;
            // A list asked for is not empty, even in the smallest corpus.
            if fraction > 0.0 && subjects >= 3 { count.max(1) } else { count }
        };
        let (dev, test) = (share(config.dev_fraction), share(config.test_fraction));
        Self { subject_of, subjects, subject_ids, admission_ids, split_ranks, dev, test }
    }

    /// Number of admissions.
    pub(crate) fn admissions(&self) -> u64 {
        self.subject_of.len() as u64
    }

    /// Number of subjects.
    pub(crate) fn subjects(&self) -> u64 {
        self.subjects
    }

    /// The subject index of an admission, and which of the subject's admissions it is (from 0).
    pub(crate) fn subject(&self, admission: u64) -> (u32, u64) {
        let subject = self.subject_of[admission as usize];
        let first = self.subject_of.partition_point(|other| *other < subject) as u64;
        (subject, admission - first)
    }

    /// SUBJECT_ID of a subject index.
    pub(crate) fn subject_id(&self, subject: u32) -> u64 {
        1 + self.subject_ids.at(u64::from(subject))
    }

    /// HADM_ID of an admission index.
    pub(crate) fn admission_id(&self, admission: u64) -> u64 {
        FIRST_ADMISSION_ID + self.admission_ids.at(admission)
    }

    /// The split of all admissions of a subject.
    pub(crate) fn split(&self, subject: u32) -> Split {
        match self.split_ranks.at(u64::from(subject)) {
            rank if rank < self.test => Split::Test,
            rank if rank < self.test + self.dev => Split::Dev,
            _ => Split::Train,
        }
    }
}
