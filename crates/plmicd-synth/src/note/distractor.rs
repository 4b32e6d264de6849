//! Mentions of codes that were not assigned: negated, ruled out, in the family, warned of. A model that only
//! looks for words takes them for evidence.

use super::draft::Draft;
use super::scene::NoteScene;
use super::section::Section;
use crate::codes::{Class, CodeId};
use crate::grammar::Rule;

type Place = (Section, Rule, f64);

const CHRONIC: &[Place] = &[
    (Section::PresentIllness, Rule::HpiDenied, 3.0),
    (Section::Course, Rule::CourseRuledOut, 2.0),
    (Section::Family, Rule::FamilyMention, 4.0),
    (Section::Family, Rule::FamilyNone, 1.0),
];
const ACUTE: &[Place] = &[
    (Section::PresentIllness, Rule::HpiDenied, 2.0),
    (Section::PresentIllness, Rule::HpiRuledOut, 1.5),
    (Section::Results, Rule::ResultsNegative, 3.0),
    (Section::Course, Rule::CourseRuledOut, 4.0),
    (Section::Course, Rule::CourseProphylaxis, 1.0),
    (Section::Family, Rule::FamilyMention, 1.0),
    (Section::Instructions, Rule::InstructionsWarning, 1.5),
];
const PROCEDURE: &[Place] = &[(Section::Course, Rule::ProcedureNotDone, 1.0)];
const STATUS: &[Place] =
    &[(Section::PresentIllness, Rule::StatusAbsent, 1.0), (Section::Course, Rule::StatusAbsent, 0.5)];
const EXTERNAL: &[Place] = &[(Section::PresentIllness, Rule::ExternalAbsent, 1.0)];
const NEWBORN: &[Place] =
    &[(Section::Course, Rule::NewbornAbsent, 1.0), (Section::PresentIllness, Rule::NewbornAbsent, 0.5)];

const fn places(class: Class) -> &'static [Place] {
    match class {
        Class::Chronic => CHRONIC,
        Class::Acute => ACUTE,
        Class::Procedure => PROCEDURE,
        Class::Status => STATUS,
        Class::External => EXTERNAL,
        Class::Newborn => NEWBORN,
    }
}

/// Adds the configured number of distractors per assigned code, on average.
pub(crate) fn add_distractors(draft: &mut Draft, scene: &mut NoteScene<'_>) {
    let mean = scene.world.config.distractors * scene.admission.codes.len() as f64;
    for _ in 0..scene.stream.poisson(mean) {
        let Some(code) = unassigned(scene) else { continue };
        let places = places(scene.world.codes.get(code).class);
        let choice = scene.stream.cumulative(&sums(places));
        let (section, rule, _) = places[choice];
        scene.set_code(code);
        draft.say(section, rule, scene);
    }
}

fn sums(places: &[Place]) -> Vec<f64> {
    places
        .iter()
        .scan(0.0, |sum, (_, _, weight)| {
            *sum += weight;
            Some(*sum)
        })
        .collect()
}

/// A code that fits the profile and was not assigned, nor anything close to it: "no evidence of heart
/// failure" beside chronic systolic heart failure would be false, not hard.
fn unassigned(scene: &mut NoteScene<'_>) -> Option<CodeId> {
    let (world, admission) = (scene.world, scene.admission);
    for _ in 0..8 {
        let code = world.clinic.plausible(admission.profile, &mut scene.stream)?;
        let fits = world.codes.get(code).sex.is_none_or(|sex| sex == admission.sex);
        let close = |other: &CodeId| *other == code || world.codes.related(*other, code);
        if fits && !admission.codes.iter().any(close) {
            return Some(code);
        }
    }
    None
}
