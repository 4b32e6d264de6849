//! Discharge summaries: the report and the addendum.

use std::fmt::Write as _;

use super::draft::Draft;
use super::scene::NoteScene;
use super::section::{self, Section};
use super::{distractor, evidence, layout};
use crate::admission::Admission;
use crate::grammar::{Rule, Scene as _, Slot, Wording};
use crate::random::{Purpose, Stream};
use crate::world::World;

/// Words of the heading and the signature, about.
const FRAME_WORDS: usize = 30;
/// A second report is this much shorter.
const SECOND_REPORT_SHARE: f64 = 0.35;
/// Notes below this length have no formal parts (allergies, disposition, condition).
const FORMAL_WORDS: usize = 160;

/// Where filler goes, and how often.
const FILLER: &[(Section, f64)] = &[
    (Section::PresentIllness, 0.16),
    (Section::Exam, 0.16),
    (Section::Results, 0.18),
    (Section::Course, 0.30),
    (Section::AdmissionDrugs, 0.04),
    (Section::DischargeDrugs, 0.06),
    (Section::Instructions, 0.05),
    (Section::FollowUp, 0.03),
    (Section::Social, 0.02),
];

/// Appends the main report (or a second one) of an admission.
pub(crate) fn write_report(world: &World, admission: &Admission, second: bool, out: &mut String) {
    let purpose = if second { Purpose::SecondReport } else { Purpose::Report };
    let stream = Stream::new(world.config.seed, purpose, admission.index);
    let mut scene = NoteScene::new(world, admission, stream);
    let mut words = target_words(world, &mut scene.stream);
    if second {
        words = (words as f64 * SECOND_REPORT_SHARE) as usize;
    }
    let mut draft = Draft::new(words);
    let opening = if admission.newborn { Rule::HpiOpenNewborn } else { Rule::HpiOpen };
    draft.add_at(0, Section::PresentIllness, &mut scene, |scene, out| {
        let world = scene.world;
        world.grammar.say(opening, scene, out);
    });
    evidence::add_codes(&mut draft, &mut scene, words);
    distractor::add_distractors(&mut draft, &mut scene);
    if words >= FORMAL_WORDS {
        add_formal_parts(&mut draft, &mut scene);
    }
    add_filler(&mut draft, &mut scene, words.saturating_sub(FRAME_WORDS));
    print(&mut draft, &mut scene, out);
}

/// Log-normal around the configured mean, within its bounds.
fn target_words(world: &World, stream: &mut Stream) -> usize {
    let config = &world.config;
    let spread = config.words_spread;
    let factor = (spread * stream.normal() - spread * spread / 2.0).exp();
    let (mean, most) = (f64::from(config.mean_words), f64::from(config.max_words));
    // One item of filler may overshoot.
    (mean * factor).clamp(mean / 8.0, most - 40.0) as usize
}

fn add_formal_parts(draft: &mut Draft, scene: &mut NoteScene<'_>) {
    draft.say(Section::Allergies, Rule::Allergies, scene);
    if draft.count(Section::ChiefComplaint) == 0 && !scene.admission.newborn {
        draft.say(Section::ChiefComplaint, Rule::CcFiller, scene);
    }
    if draft.count(Section::Family) == 0 && !scene.admission.newborn && scene.stream.chance(0.7) {
        draft.say(Section::Family, Rule::FamilyFiller, scene);
    }
    if draft.count(Section::Procedures) == 0 && scene.stream.chance(0.5) {
        draft.add(Section::Procedures, scene, |_, out| out.push_str("None"));
    }
    if scene.admission.expired {
        draft.add(Section::Disposition, scene, |_, out| out.push_str("Expired"));
        draft.say(Section::Condition, Rule::Expired, scene);
        return;
    }
    draft.say(Section::Disposition, Rule::Disposition, scene);
    if scene.stream.chance(0.3) {
        draft.say(Section::Disposition, Rule::Facility, scene);
    }
    draft.say(Section::Condition, Rule::Condition, scene);
    draft.say(Section::FollowUp, Rule::FollowUp, scene);
}

/// Adds neutral text until the draft has `words` words.
fn add_filler(draft: &mut Draft, scene: &mut NoteScene<'_>, words: usize) {
    let (world, newborn, expired) = (scene.world, scene.admission.newborn, scene.admission.expired);
    let weights: Vec<f64> = FILLER.iter().map(|(_, weight)| *weight).collect();
    let pick = |for_newborns, for_adults| if newborn { for_newborns } else { for_adults };
    let exam_lines = world.grammar.wordings(pick(Rule::ExamNewborn, Rule::Exam));
    let mut exam_next = 0;
    let mut history = Rota::new(world, pick(Rule::HpiFillerNewborn, Rule::HpiFiller), &mut scene.stream);
    let mut course = Rota::new(world, pick(Rule::CourseFillerNewborn, Rule::CourseFiller), &mut scene.stream);
    let mut advice = Rota::new(world, Rule::InstructionsFiller, &mut scene.stream);
    let mut social = Rota::new(world, Rule::Social, &mut scene.stream);
    while draft.words() < words {
        let (mut section, _) = FILLER[scene.stream.weighted(&weights)];
        let full = match section {
            Section::Exam => exam_next == exam_lines.len(),
            Section::Social => newborn || social.used_up(),
            Section::AdmissionDrugs => newborn || draft.count(section) >= 20,
            Section::DischargeDrugs => newborn || expired || draft.count(section) >= 25,
            Section::Instructions => newborn || expired || advice.used_up(),
            Section::FollowUp => expired || draft.count(section) >= 6,
            Section::PresentIllness => history.used_up(),
            _ => false,
        };
        if full {
            section = if scene.stream.chance(0.65) { Section::Course } else { Section::Results };
        }
        match section {
            Section::Exam => {
                let line = &exam_lines[exam_next];
                draft.add_at(exam_next as u32, section, scene, |scene, out| {
                    world.grammar.write(line, scene, out);
                });
                exam_next += 1;
            }
            Section::Results if scene.stream.chance(0.55) => {
                let panel = scene.stream.below(world.pharmacy.panels.len());
                evidence::add_panel(draft, scene, panel);
            }
            Section::AdmissionDrugs | Section::DischargeDrugs => {
                let drugs = &world.pharmacy.drugs;
                // One in eight is a drug that elsewhere hints at a code: taken for something else.
                let first = if scene.stream.chance(0.125) { 0 } else { world.pharmacy.first_neutral };
                let drug = first + scene.stream.below(drugs.len() - first);
                scene.set_drug(drug as u16);
                draft.say(section, Rule::MedLine, scene);
            }
            Section::PresentIllness => history.add(draft, section, scene),
            Section::Course => course.add(draft, section, scene),
            Section::Instructions => advice.add(draft, section, scene),
            Section::Social => social.add(draft, section, scene),
            Section::FollowUp => draft.say(section, Rule::FollowUp, scene),
            _ => draft.say(section, Rule::ResultsFiller, scene),
        }
    }
}

/// The wordings of a rule in random order, so that none comes back before all were used.
struct Rota<'a> {
    wordings: Vec<&'a Wording>,
    used: usize,
}

impl<'a> Rota<'a> {
    fn new(world: &'a World, rule: Rule, stream: &mut Stream) -> Self {
        let mut wordings: Vec<&Wording> = world.grammar.wordings(rule).iter().collect();
        stream.shuffle(&mut wordings);
        Self { wordings, used: 0 }
    }

    fn used_up(&self) -> bool {
        self.used >= self.wordings.len()
    }

    fn add(&mut self, draft: &mut Draft, section: Section, scene: &mut NoteScene<'_>) {
        let wording = self.wordings[self.used % self.wordings.len()];
        self.used += 1;
        draft.add(section, scene, |scene, out| {
            let world = scene.world;
            world.grammar.write(wording, scene, out);
        });
    }
}

fn print(draft: &mut Draft, scene: &mut NoteScene<'_>, out: &mut String) {
    print_heading(scene, out);
    let width = scene.stream.between(68, 78) as usize;
    let gap = if scene.stream.chance(0.25) { "\n\n" } else { "\n" };
    for section in section::order(&mut scene.stream) {
        let setting = section.setting(&mut scene.stream);
        let heading = *scene.stream.pick(section.headings());
        let sentences = scene.stream.between(4, 8) as usize;
        if draft.count(section) == 0 {
            continue;
        }
        out.push_str(heading);
        out.push('\n');
        layout::set(out, draft.items(section), setting, sentences, width);
        out.push_str(gap);
    }
    if scene.stream.chance(0.6) {
        print_signature(scene, out);
    }
}

fn print_signature(scene: &mut NoteScene<'_>, out: &mut String) {
    const INDENT: &str = "                             ";
    out.push_str("\n\n");
    out.push_str(INDENT);
    scene.fill(Slot::FirstName, out);
    out.push('\n');
    out.push_str(INDENT);
    let number = scene.stream.between(1, 4_999);
    // Writing into a String cannot fail.
    let _ = writeln!(out, "[**Name8 (MD) {number}**] MD [**MD Number(1) {}**]", number + 7);
    out.push_str("\nCompleted by:");
    scene.admission.discharged.write_bracketed(out);
    out.push('\n');
}

fn print_heading(scene: &mut NoteScene<'_>, out: &mut String) {
    let (world, admission) = (scene.world, scene.admission);
    out.push_str("Admission Date:  ");
    admission.admitted.write_bracketed(out);
    out.push_str("              Discharge Date:   ");
    admission.discharged.write_bracketed(out);
    out.push_str("\n\nDate of Birth:  ");
    admission.birth.write_bracketed(out);
    out.push_str("             Sex:   ");
    out.push(admission.sex);
    out.push_str("\n\nService: ");
    if admission.newborn {
        out.push_str("NEONATOLOGY");
    } else {
        world.grammar.say(Rule::Service, scene, out);
    }
    out.push_str("\n\n");
}

/// Appends the addendum of an admission: short, sometimes with a code of its own.
pub(crate) fn write_addendum(world: &World, admission: &Admission, out: &mut String) {
    let stream = Stream::new(world.config.seed, Purpose::Addendum, admission.index);
    let mut scene = NoteScene::new(world, admission, stream);
    print_heading(&mut scene, out);
    out.push_str("ADDENDUM:\n");
    let mut sentence = String::new();
    let count = scene.stream.between(2, 5);
    for place in 0..count {
        sentence.clear();
        if place == 1 && scene.stream.chance(0.3) {
            let code = *scene.stream.pick(&admission.codes);
            scene.set_code(code);
            world.grammar.say(Rule::PmhItem, &mut scene, &mut sentence);
            sentence.push('.');
        } else {
            world.grammar.say(Rule::Addendum, &mut scene, &mut sentence);
        }
        layout::wrap(out, "", &sentence, 74);
    }
}
