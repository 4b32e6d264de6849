//! What is true of one admission, before anything is written about it.

use plmicd_data::Split;

use crate::clinic::Constitution;
use crate::codes::{Class, CodeId, System};
use crate::dates::Day;
use crate::random::{Purpose, Stream};
use crate::world::World;

/// Share of admissions without a discharge summary (they have codes).
pub(crate) const WITHOUT_NOTE: f64 = 0.02;
/// Share of admissions without any row in the code tables (they have a discharge summary).
pub(crate) const WITHOUT_CODES: f64 = 0.005;
/// Share of discharge summaries with a second report.
pub(crate) const SECOND_REPORT: f64 = 0.02;
/// Of the addenda: share that stands in the file before the report it amends.
const ADDENDUM_BEFORE: f64 = 0.25;
/// Of the addenda: share that stands far behind, after all other discharge summaries.
const ADDENDUM_LATE: f64 = 0.15;
/// Share of adult stays that end in death.
const EXPIRED: f64 = 0.06;
/// 2100-01-01: shifted dates lie in the 100 years from here.
const FIRST_DAY: i64 = 47_482;

/// Where an addendum stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddendumPlace {
    BeforeReport,
    AfterReport,
    Late,
}

/// One admission.
pub(crate) struct Admission {
    /// Counter all its random numbers belong to.
    pub(crate) index: u64,
    pub(crate) subject_id: u64,
    pub(crate) hadm_id: u64,
    pub(crate) split: Split,
    pub(crate) sex: char,
    pub(crate) newborn: bool,
    pub(crate) birth: Day,
    pub(crate) admitted: Day,
    pub(crate) discharged: Day,
    pub(crate) expired: bool,
    /// Clinical theme (see [`crate::clinic::Clinic::profile_name`]).
    pub(crate) profile: usize,
    /// Codes in the order of their sequence numbers: all diagnoses, then all procedures, without duplicates.
    pub(crate) codes: Vec<CodeId>,
    pub(crate) has_note: bool,
    pub(crate) has_codes: bool,
    pub(crate) second_report: bool,
    pub(crate) addendum: Option<AddendumPlace>,
}

impl Admission {
    /// Draws admission `index` of the corpus.
    pub(crate) fn draw(world: &World, index: u64) -> Self {
        let seed = world.config.seed;
        let (subject, visit) = world.cohort.subject(index);
        let mut own = Stream::new(seed, Purpose::Subject, u64::from(subject));
        let constitution = world.clinic.constitution(&mut own);
        let first_admitted = Day(FIRST_DAY + own.between(0, 36_000));
        let age_days = if constitution.newborn { 0 } else { own.between(18 * 365, 92 * 365) };
        let birth = first_admitted.plus(-age_days);

        let mut stream = Stream::new(seed, Purpose::Admission, index);
        // Visits are at least four months apart, so that stays do not overlap.
        let admitted = first_admitted.plus(visit as i64 * 240 + stream.between(0, 60));
        let admitted = if constitution.newborn { birth } else { admitted };
        let discharged =
            admitted.plus(2 + stream.between(0, 6) + stream.between(0, 14) * stream.between(0, 1));
        let drawn = world.clinic.draw(&world.codes, &constitution, &mut stream);
        let codes = in_sequence(world, &constitution, drawn.profile, drawn.codes, &mut stream);
        let missing = stream.unit();
        let has_note = missing >= WITHOUT_NOTE;
        let place = stream.unit();
        let addendum = stream.chance(world.config.addendum_rate).then_some(match place {
            p if p < ADDENDUM_BEFORE => AddendumPlace::BeforeReport,
            p if p < ADDENDUM_BEFORE + ADDENDUM_LATE => AddendumPlace::Late,
            _ => AddendumPlace::AfterReport,
        });
        Self {
            index,
            subject_id: world.cohort.subject_id(subject),
            hadm_id: world.cohort.admission_id(index),
            split: world.cohort.split(subject),
            sex: constitution.sex,
            newborn: constitution.newborn,
            birth,
            admitted,
            discharged,
            expired: !constitution.newborn && stream.chance(EXPIRED),
            profile: drawn.profile,
            codes,
            has_note,
            has_codes: !(WITHOUT_NOTE..WITHOUT_NOTE + WITHOUT_CODES).contains(&missing),
            second_report: stream.chance(SECOND_REPORT),
            addendum: addendum.filter(|_| has_note),
        }
    }

    /// Age in years at admission.
    pub(crate) fn age(&self) -> i64 {
        ((self.admitted.0 - self.birth.0) as f64 / 365.25) as i64
    }
}

/// The principal diagnosis first (an acute problem of the profile's own theme if there is one), the other
/// diagnoses in any order, then the procedures.
fn in_sequence(
    world: &World,
    constitution: &Constitution,
    profile: usize,
    mut codes: Vec<CodeId>,
    stream: &mut Stream,
) -> Vec<CodeId> {
    stream.shuffle(&mut codes);
    let theme = world.clinic.profile_name(profile);
    codes.sort_by_key(|id| {
        let code = world.codes.get(*id);
        let principal = !constitution.newborn && code.class == Class::Acute && code.cluster == theme;
        let birth = code.code.starts_with("V3") && code.class == Class::Newborn;
        match code.system {
            System::Diagnosis if principal || birth => 0,
            System::Diagnosis if code.class == Class::External => 2,
            System::Diagnosis => 1,
            System::Procedure => 3,
        }
    });
    codes
}
