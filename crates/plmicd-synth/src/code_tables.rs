//! Rows of DIAGNOSES_ICD.csv, PROCEDURES_ICD.csv and the two dictionaries.

use crate::admission::Admission;
use crate::block::{self, Block};
use crate::codes::System;
use crate::random::{Purpose, Stream};
use crate::world::World;

/// Header cells of the tables of assigned codes.
pub(crate) const COLUMNS: &[&str] = &["ROW_ID", "SUBJECT_ID", "HADM_ID", "SEQ_NUM", "ICD9_CODE"];
/// Header cells of the dictionaries.
pub(crate) const DICTIONARY_COLUMNS: &[&str] = &["ROW_ID", "ICD9_CODE", "SHORT_TITLE", "LONG_TITLE"];

/// Share of admissions whose first diagnosis or procedure stands there twice.
const DUPLICATED: f64 = 0.02;
/// Share of admissions with a row whose SEQ_NUM and ICD9_CODE are empty (diagnoses only, as in MIMIC).
const EMPTY_ROW: f64 = 0.01;

/// Makes the rows of the admissions `range`.
pub(crate) fn make(world: &World, system: System, range: std::ops::Range<u64>) -> Block {
    let mut block = Block::default();
    for index in range {
        let admission = Admission::draw(world, index);
        if !admission.has_codes {
            continue;
        }
        let mut stream =
            Stream::with_offset(world.config.seed, Purpose::CodeRows, (system as u64) << 32, index);
        let codes = admission.codes.iter().map(|id| world.codes.get(*id)).filter(|c| c.system == system);
        let mut codes: Vec<&str> = codes.map(|code| code.code).collect();
        if stream.chance(DUPLICATED) && !codes.is_empty() {
            codes.push(codes[stream.below(codes.len())]);
        }
        for (place, code) in codes.iter().enumerate() {
            cells(&mut block, &admission, Some((place as u64 + 1, code)));
        }
        if system == System::Diagnosis && stream.chance(EMPTY_ROW) {
            cells(&mut block, &admission, None);
        }
    }
    block
}

fn cells(block: &mut Block, admission: &Admission, code: Option<(u64, &str)>) {
    let row = block.row();
    block::number(row, admission.subject_id);
    block::number(row, admission.hadm_id);
    match code {
        Some((sequence, code)) => {
            block::number(row, sequence);
            block::text(row, code);
        }
        None => {
            block::empty(row);
            block::empty(row);
        }
    }
    block.end_row();
}

/// The dictionary of one system, in the order of the codes; a few codes are missing, as in MIMIC.
pub(crate) fn dictionary(world: &World, system: System) -> Block {
    let mut codes: Vec<_> =
        world.codes.codes.iter().filter(|c| c.system == system && c.in_dictionary).collect();
    codes.sort_unstable_by_key(|code| code.code);
    let mut block = Block::default();
    for code in codes {
        let row = block.row();
        block::text(row, code.code);
        block::text(row, code.short_title);
        block::text(row, code.long_title);
        block.end_row();
    }
    block
}
