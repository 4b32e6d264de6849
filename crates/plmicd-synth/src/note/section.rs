//! The sections of a discharge summary: their headings, how their items are set, and their order.

use crate::random::Stream;

/// A section. The discriminant is its place in a draft.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Section {
    Allergies,
    ChiefComplaint,
    Procedures,
    PresentIllness,
    PastHistory,
    Social,
    Family,
    Exam,
    Results,
    Course,
    AdmissionDrugs,
    DischargeDrugs,
    Disposition,
    DischargeDiagnosis,
    Condition,
    Instructions,
    FollowUp,
}

/// How the items of a section are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setting {
    /// Running text in paragraphs.
    Paragraphs,
    /// A line an item.
    Lines,
    /// `1. ...`
    Numbered,
    /// `- ...`
    Dashes,
}

impl Section {
    /// All sections in their usual order.
    pub(crate) const ALL: [Self; 17] = [
        Self::Allergies,
        Self::ChiefComplaint,
        Self::Procedures,
        Self::PresentIllness,
        Self::PastHistory,
        Self::Social,
        Self::Family,
        Self::Exam,
        Self::Results,
        Self::Course,
        Self::AdmissionDrugs,
        Self::DischargeDrugs,
        Self::Disposition,
        Self::DischargeDiagnosis,
        Self::Condition,
        Self::Instructions,
        Self::FollowUp,
    ];

    /// The ways its heading is written.
    pub(crate) const fn headings(self) -> &'static [&'static str] {
        match self {
            Self::Allergies => &["Allergies:"],
            Self::ChiefComplaint => &["Chief Complaint:", "CC:", "CHIEF COMPLAINT:"],
            Self::Procedures => {
                &["Major Surgical or Invasive Procedure:", "Procedures:", "PROCEDURES PERFORMED:"]
            }
            Self::PresentIllness => &["History of Present Illness:", "HPI:", "HISTORY OF PRESENT ILLNESS:"],
            Self::PastHistory => &["Past Medical History:", "PMH:", "PAST MEDICAL HISTORY:"],
            Self::Social => &["Social History:", "SOCIAL HISTORY:"],
            Self::Family => &["Family History:", "FAMILY HISTORY:"],
            Self::Exam => &["Physical Exam:", "PHYSICAL EXAMINATION:", "Physical Exam on Admission:"],
            Self::Results => &["Pertinent Results:", "Labs and Studies:", "PERTINENT RESULTS:"],
            Self::Course => &["Brief Hospital Course:", "HOSPITAL COURSE:", "Hospital Course by Problem:"],
            Self::AdmissionDrugs => &["Medications on Admission:", "Home Medications:"],
            Self::DischargeDrugs => &["Discharge Medications:", "DISCHARGE MEDICATIONS:"],
            Self::Disposition => &["Discharge Disposition:"],
            Self::DischargeDiagnosis => &["Discharge Diagnosis:", "DISCHARGE DIAGNOSES:"],
            Self::Condition => &["Discharge Condition:", "CONDITION ON DISCHARGE:"],
            Self::Instructions => &["Discharge Instructions:", "DISCHARGE INSTRUCTIONS:"],
            Self::FollowUp => &["Followup Instructions:", "FOLLOW-UP:"],
        }
    }

    /// How this note sets it.
    pub(crate) fn setting(self, stream: &mut Stream) -> Setting {
        match self {
            Self::PresentIllness | Self::Course | Self::Instructions => Setting::Paragraphs,
            Self::AdmissionDrugs | Self::DischargeDrugs => Setting::Numbered,
            Self::PastHistory | Self::DischargeDiagnosis | Self::Procedures => {
                *stream.pick(&[Setting::Numbered, Setting::Dashes, Setting::Lines, Setting::Lines])
            }
            Self::Social | Self::Family | Self::Condition => {
                *stream.pick(&[Setting::Paragraphs, Setting::Lines])
            }
            _ => Setting::Lines,
        }
    }
}

/// The order of one note: the usual one, with the variations doctors allow themselves.
pub(crate) fn order(stream: &mut Stream) -> Vec<Section> {
    let mut order = Section::ALL.to_vec();
    let mut put = |chance: f64, section: Section, before: Section| {
        if stream.chance(chance) {
            order.retain(|s| *s != section);
            let at = order.iter().position(|s| *s == before).unwrap_or(order.len());
            order.insert(at, section);
        }
    };
    put(0.25, Section::PastHistory, Section::PresentIllness);
    put(0.2, Section::Results, Section::Exam);
    put(0.2, Section::Family, Section::Social);
    put(0.3, Section::AdmissionDrugs, Section::Social);
    put(0.15, Section::DischargeDiagnosis, Section::Allergies);
    put(0.1, Section::DischargeDrugs, Section::Instructions);
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Purpose;

    #[test]
    fn orders_vary_and_keep_every_section() {
        let mut stream = Stream::new(1, Purpose::Report, 0);
        let orders: Vec<Vec<Section>> = (0..50).map(|_| order(&mut stream)).collect();
        assert!(orders.iter().any(|o| *o != orders[0]));
        for order in orders {
            assert!(Section::ALL.iter().all(|s| order.contains(s)) && order.len() == Section::ALL.len());
        }
        assert!(Section::ALL.iter().enumerate().all(|(place, s)| *s as usize == place));
    }
}
