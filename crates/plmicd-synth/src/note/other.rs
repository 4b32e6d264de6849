//! Notes of the other categories: short, there for their shapes rather than for their content.

use super::layout;
use super::scene::NoteScene;
use crate::admission::Admission;
use crate::grammar::Rule;
use crate::random::{Purpose, Stream};
use crate::world::World;

/// A category of NOTEEVENTS besides discharge summaries.
pub(crate) struct Category {
    /// As in the CATEGORY column, with the trailing blank that two of MIMIC's have.
    pub(crate) name: &'static str,
    /// Of the DESCRIPTION column.
    pub(crate) descriptions: &'static [&'static str],
    /// Share of all other notes.
    share: f64,
    /// Whether CHARTTIME is filled (the rest have a date only).
    pub(crate) has_time: bool,
    /// Whether STORETIME and CGID are filled.
    pub(crate) has_caregiver: bool,
    body: Rule,
    /// Words a code of the admission.
    mention: Option<Rule>,
}

/// In the order of the file, as MIMIC has it: the charted categories between ECG and radiology.
pub(crate) const CATEGORIES: &[Category] = &[
    Category {
        name: "Echo",
        descriptions: &["Report"],
        share: 0.05,
        has_time: false,
        has_caregiver: false,
        body: Rule::Echo,
        mention: None,
    },
    Category {
        name: "ECG",
        descriptions: &["Report"],
        share: 0.12,
        has_time: false,
        has_caregiver: false,
        body: Rule::Ecg,
        mention: None,
    },
    Category {
        name: "Nursing",
        descriptions: &["Nursing Progress Note", "Nursing Transfer Note"],
        share: 0.17,
        has_time: true,
        has_caregiver: true,
        body: Rule::Nursing,
        mention: Some(Rule::NursingCode),
    },
    Category {
        name: "Physician ",
        descriptions: &[
            "Physician Resident Progress Note",
            "Intensivist Note",
            "Physician Resident Admission Note",
        ],
        share: 0.12,
        has_time: true,
        has_caregiver: true,
        body: Rule::Physician,
        mention: Some(Rule::PhysicianCode),
    },
    Category {
        name: "Respiratory ",
        descriptions: &["Respiratory Care Shift Note"],
        share: 0.04,
        has_time: true,
        has_caregiver: true,
        body: Rule::Respiratory,
        mention: None,
    },
    Category {
        name: "Radiology",
        descriptions: &[
            "CHEST (PORTABLE AP)",
            "CT HEAD W/O CONTRAST",
            "CHEST (PA & LAT)",
            "BABYGRAM (CHEST ONLY)",
        ],
        share: 0.25,
        has_time: true,
        has_caregiver: false,
        body: Rule::Radiology,
        mention: Some(Rule::RadiologyCode),
    },
    Category {
        name: "Nursing/other",
        descriptions: &["Report"],
        share: 0.25,
        has_time: true,
        has_caregiver: true,
        body: Rule::Nursing,
        mention: Some(Rule::NursingCode),
    },
];

/// The random numbers of one category's notes of an admission.
pub(crate) fn stream(world: &World, category: usize, admission: u64) -> Stream {
    Stream::with_offset(world.config.seed, Purpose::OtherNotes, category as u64, admission)
}

/// How many notes of the category the admission has.
pub(crate) fn count(world: &World, category: usize, stream: &mut Stream) -> usize {
    stream.poisson(world.config.other_notes_per_admission * CATEGORIES[category].share)
}

/// Appends one note of the category and hands the random numbers back.
pub(crate) fn write(
    world: &World,
    category: usize,
    admission: &Admission,
    stream: Stream,
    out: &mut String,
) -> Stream {
    let category = &CATEGORIES[category];
    let mut scene = NoteScene::new(world, admission, stream);
    let mut line = String::new();
    let lines = world.grammar.wordings(category.body);
    let mention_at = scene.stream.below(lines.len());
    for (place, wording) in lines.iter().enumerate() {
        if place == mention_at
            && let Some(rule) = category.mention
        {
            line.clear();
            let code = *scene.stream.pick(&admission.codes);
            scene.set_code(code);
            world.grammar.say(rule, &mut scene, &mut line);
            layout::wrap(out, "   ", &line, 72);
        }
        if scene.stream.chance(0.8) {
            line.clear();
            world.grammar.write(wording, &mut scene, &mut line);
            layout::wrap(out, "", &line, 72);
        }
    }
    scene.stream
}
