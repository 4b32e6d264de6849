//! Writes the assigned codes into a draft: by name at varied places, by drugs, laboratory values and findings.

use std::fmt::Write as _;

use super::draft::{Draft, FIRST_FREE_KEY};
use super::scene::NoteScene;
use super::section::Section;
use crate::codes::{Class, CodeId};
use crate::grammar::Rule;

/// A place for a mention, the rule that words it, and how usual it is.
type Place = (Section, Rule, f64);

const CHRONIC: &[Place] = &[
    (Section::PastHistory, Rule::PmhItem, 4.0),
    (Section::PresentIllness, Rule::HpiChronic, 3.0),
    (Section::Course, Rule::CourseChronic, 3.0),
    (Section::DischargeDiagnosis, Rule::DischargeItem, 2.0),
];
const ACUTE: &[Place] = &[
    (Section::PresentIllness, Rule::HpiAcute, 3.0),
    (Section::ChiefComplaint, Rule::CcAcute, 0.5),
    (Section::Course, Rule::CourseAcute, 4.0),
    (Section::Results, Rule::ResultsEvidence, 1.5),
    (Section::DischargeDiagnosis, Rule::DischargeItem, 2.5),
    (Section::Instructions, Rule::InstructionsAcute, 0.8),
];
const STATUS: &[Place] = &[
    (Section::PastHistory, Rule::PmhItem, 4.0),
    (Section::PresentIllness, Rule::HpiStatus, 2.0),
    (Section::Course, Rule::CourseStatus, 1.0),
];
const EXTERNAL: &[Place] = &[
    (Section::PresentIllness, Rule::HpiExternal, 4.0),
    (Section::ChiefComplaint, Rule::CcAcute, 0.7),
    (Section::Course, Rule::CourseExternal, 2.0),
];
const PROCEDURE: &[Place] = &[
    (Section::Procedures, Rule::ProceduresItem, 4.0),
    (Section::Course, Rule::CourseProcedure, 4.0),
    (Section::PresentIllness, Rule::HpiProcedure, 1.0),
    (Section::Results, Rule::ResultsProcedure, 0.8),
    (Section::Instructions, Rule::InstructionsProcedure, 0.6),
];
const NEWBORN: &[Place] = &[
    (Section::PresentIllness, Rule::HpiNewborn, 3.0),
    (Section::Course, Rule::CourseNewborn, 4.0),
    (Section::DischargeDiagnosis, Rule::DischargeItem, 2.5),
];

const fn places(class: Class) -> &'static [Place] {
    match class {
        Class::Chronic => CHRONIC,
        Class::Acute => ACUTE,
        Class::Status => STATUS,
        Class::External => EXTERNAL,
        Class::Procedure => PROCEDURE,
        Class::Newborn => NEWBORN,
    }
}

/// Mean number of mentions beyond the first, by the length of the note.
fn further_mentions(words: usize) -> f64 {
    match words {
        0..400 => 0.4,
        400..1_000 => 0.8,
        _ => 1.3,
    }
}

/// Writes all codes of the admission into the draft of a note of about `words` words.
pub(crate) fn add_codes(draft: &mut Draft, scene: &mut NoteScene<'_>, words: usize) {
    let admission = scene.admission;
    let config = &scene.world.config;
    for code in admission.codes.iter().copied() {
        let fate = scene.stream.unit();
        if fate < config.unmentioned {
            continue;
        }
        if fate < config.unmentioned + config.implied && add_hints(draft, scene, code) {
            continue;
        }
        add_mentions(draft, scene, code, words);
    }
}

fn add_mentions(draft: &mut Draft, scene: &mut NoteScene<'_>, code: CodeId, words: usize) {
    let world = scene.world;
    let places = places(world.codes.get(code).class);
    let mut weights: Vec<f64> = places.iter().map(|(_, _, weight)| *weight).collect();
    let mentions = 1 + scene.stream.poisson(further_mentions(words));
    for _ in 0..mentions.min(places.len()) {
        let choice = scene.stream.weighted(&weights);
        weights[choice] = 0.0;
        let (section, rule, _) = places[choice];
        scene.set_code(code);
        draft.say(section, rule, scene);
    }
    let wording = &world.wordings[usize::from(code)];
    for drug in wording.drugs.iter().copied() {
        if scene.stream.chance(if words < 400 { 0.3 } else { 0.6 }) {
            add_drug(draft, scene, drug, Some(code));
        }
    }
    if !wording.signs.is_empty() && scene.stream.chance(0.3) {
        add_sign(draft, scene, code);
    }
}

/// Hints at the code without naming it; false if nothing is known that would.
fn add_hints(draft: &mut Draft, scene: &mut NoteScene<'_>, code: CodeId) -> bool {
    let world = scene.world;
    let wording = &world.wordings[usize::from(code)];
    for drug in wording.drugs.iter().copied() {
        add_drug(draft, scene, drug, None);
    }
    if !wording.signs.is_empty() {
        add_sign(draft, scene, code);
    }
    for shift in &wording.shifts {
        let panel = world.pharmacy.panels.iter().position(|p| p.contains(&usize::from(shift.analyte)));
        add_panel(draft, scene, panel.unwrap_or(0));
    }
    !(wording.drugs.is_empty() && wording.signs.is_empty() && wording.shifts.is_empty())
}

fn add_sign(draft: &mut Draft, scene: &mut NoteScene<'_>, code: CodeId) {
    let section = if scene.stream.chance(0.6) { Section::PresentIllness } else { Section::Course };
    draft.add(section, scene, |scene, out| {
        let world = scene.world;
        let signs = &world.wordings[usize::from(code)].signs;
        let choice = scene.stream.below(signs.len());
        let start = out.len();
        world.grammar.write(&signs[choice], scene, out);
        if let Some(first) = out.get_mut(start..start + 1) {
            first.make_ascii_uppercase();
        }
        out.push('.');
    });
}

/// Lists a drug, sometimes with the code it is taken for.
fn add_drug(draft: &mut Draft, scene: &mut NoteScene<'_>, drug: u16, reason: Option<CodeId>) {
    scene.set_drug(drug);
    let on_admission = scene.admission.expired || scene.stream.chance(0.4);
    let section = if on_admission { Section::AdmissionDrugs } else { Section::DischargeDrugs };
    match reason {
        Some(code) if scene.stream.chance(0.15) => {
            scene.set_code(code);
            draft.say(section, Rule::MedIndication, scene);
        }
        _ => draft.say(section, Rule::MedLine, scene),
    }
}

/// Values that a code moves come back to normal in the last part of the stay.
const RECOVERED: f64 = 0.75;

/// Adds one line of laboratory values, moved by the assigned codes, at its place in time.
pub(crate) fn add_panel(draft: &mut Draft, scene: &mut NoteScene<'_>, panel: usize) {
    let time = scene.stream.unit();
    let key = (time * f64::from(u32::MAX)) as u32;
    draft.add_at(key.max(FIRST_FREE_KEY), Section::Results, scene, |scene, out| {
        let (world, admission) = (scene.world, scene.admission);
        let minutes = (time * (admission.discharged.0 - admission.admitted.0 + 1) as f64 * 1_440.0) as i64;
        admission.admitted.plus(minutes / 1_440).write_bracketed(out);
        let (hour, minute) = (minutes / 60 % 24, minutes % 60);
        let half = if hour < 12 { "AM" } else { "PM" };
        // Writing into a String cannot fail.
        let _ = write!(out, " {:02}:{minute:02}{half} BLOOD", (hour + 11) % 12 + 1);
        for analyte in world.pharmacy.panels[panel].clone() {
            let mut shifts =
                admission.codes.iter().flat_map(|code| &world.wordings[usize::from(*code)].shifts).copied();
            let shift = shifts.find(|shift| usize::from(shift.analyte) == analyte && time < RECOVERED);
            out.push(' ');
            world.pharmacy.push_value(analyte, shift, &mut scene.stream, out);
        }
    });
}
