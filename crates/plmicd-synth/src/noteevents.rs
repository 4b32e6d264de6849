//! Rows of NOTEEVENTS.csv.
//!
//! The file is written in passes over all admissions, one per block of the file, so that categories lie
//! together as in MIMIC and memory stays bounded.

use crate::admission::{AddendumPlace, Admission};
use crate::block::{self, Block};
use crate::dates::Day;
use crate::note::other::{self, CATEGORIES, Category};
use crate::note::report;
use crate::random::Stream;
use crate::world::World;

/// Header cells.
pub(crate) const COLUMNS: &[&str] = &[
    "ROW_ID",
    "SUBJECT_ID",
    "HADM_ID",
    "CHARTDATE",
    "CHARTTIME",
    "STORETIME",
    "CATEGORY",
    "DESCRIPTION",
    "CGID",
    "ISERROR",
    "TEXT",
];

/// Share of other notes whose HADM_ID is empty.
const WITHOUT_ADMISSION: f64 = 0.1;
/// Share of charted notes that a caregiver marked as an error.
const MARKED_ERROR: f64 = 0.005;

const DISCHARGE: &str = "Discharge summary";

/// One block of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Discharge reports with the addenda beside them.
    Discharge,
    /// Addenda far from their reports.
    LateAddenda,
    /// One other category, by its place in [`CATEGORIES`].
    Other(usize),
}

/// All passes, in the order of the file.
pub(crate) fn passes() -> Vec<Pass> {
    let mut passes = vec![Pass::Discharge, Pass::LateAddenda];
    passes.extend((0..CATEGORIES.len()).map(Pass::Other));
    passes
}

/// Makes the rows of the admissions `range` for one pass. `words` of the block counts discharge summaries only.
pub(crate) fn make(world: &World, pass: Pass, range: std::ops::Range<u64>) -> Block {
    let mut block = Block::default();
    let mut text = String::new();
    for index in range {
        match pass {
            Pass::Discharge => {
                let admission = Admission::draw(world, index);
                discharge_rows(world, &admission, &mut text, &mut block);
            }
            Pass::LateAddenda => {
                let admission = Admission::draw(world, index);
                if admission.addendum == Some(AddendumPlace::Late) {
                    addendum_row(world, &admission, &mut text, &mut block);
                }
            }
            Pass::Other(category) => {
                let mut stream = other::stream(world, category, index);
                let count = other::count(world, category, &mut stream);
                if count > 0 {
                    let admission = Admission::draw(world, index);
                    other_rows(world, category, &admission, count, stream, &mut text, &mut block);
                }
            }
        }
    }
    block
}

fn discharge_rows(world: &World, admission: &Admission, text: &mut String, block: &mut Block) {
    if !admission.has_note {
        return;
    }
    if admission.addendum == Some(AddendumPlace::BeforeReport) {
        addendum_row(world, admission, text, block);
    }
    for second in [false, true] {
        if second && !admission.second_report {
            break;
        }
        text.clear();
        report::write_report(world, admission, second, text);
        discharge_row(admission, "Report", text, block);
    }
    if admission.addendum == Some(AddendumPlace::AfterReport) {
        addendum_row(world, admission, text, block);
    }
}

fn addendum_row(world: &World, admission: &Admission, text: &mut String, block: &mut Block) {
    text.clear();
    report::write_addendum(world, admission, text);
    discharge_row(admission, "Addendum", text, block);
}

fn discharge_row(admission: &Admission, description: &str, text: &str, block: &mut Block) {
    block.words += text.split_ascii_whitespace().count() as u64;
    let row = block.row();
    block::number(row, admission.subject_id);
    block::number(row, admission.hadm_id);
    block::text(row, &admission.discharged.to_string());
    block::empty(row);
    block::empty(row);
    block::text(row, DISCHARGE);
    block::text(row, description);
    block::empty(row);
    block::empty(row);
    block::text(row, text);
    block.end_row();
}

fn other_rows(
    world: &World,
    category: usize,
    admission: &Admission,
    count: usize,
    mut stream: Stream,
    text: &mut String,
    block: &mut Block,
) {
    let kind: &Category = &CATEGORIES[category];
    for _ in 0..count {
        text.clear();
        stream = other::write(world, category, admission, stream, text);
        let stay = admission.discharged.0 - admission.admitted.0;
        let day = admission.admitted.plus(stream.between(0, stay));
        let row = block.row();
        block::number(row, admission.subject_id);
        if stream.chance(WITHOUT_ADMISSION) {
            block::empty(row);
        } else {
            block::number(row, admission.hadm_id);
        }
        block::text(row, &day.to_string());
        let minute = stream.between(0, 1_379);
        if kind.has_time {
            block::text(row, &time(day, minute));
        } else {
            block::empty(row);
        }
        if kind.has_caregiver {
            block::text(row, &time(day, minute + stream.between(1, 59)));
        } else {
            block::empty(row);
        }
        block::text(row, kind.name);
        let description = *stream.pick(kind.descriptions);
        block::text(row, description);
        if kind.has_caregiver {
            block::number(row, 14_000 + stream.below(7_000) as u64);
        } else {
            block::empty(row);
        }
        if kind.has_caregiver && stream.chance(MARKED_ERROR) {
            block::text(row, "1");
        } else {
            block::empty(row);
        }
        block::text(row, text);
        block.end_row();
    }
}

/// `2119-03-04 05:30:00`.
fn time(day: Day, minute: i64) -> String {
    format!("{day} {:02}:{:02}:00", minute / 60, minute % 60)
}
