//! The rules that the program asks for by name.

macro_rules! rules {
    ($($variant:ident = $name:literal),+ $(,)?) => {
        /// A rule of `data/templates.txt` that the program uses. Its number is its place in the grammar.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub(crate) enum Rule { $(#[doc = concat!("`[", $name, "]`")] $variant),+ }

        impl Rule {
            /// All of them, in the order of their numbers.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name in the file.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

rules! {
    Service = "service", Allergies = "allergies", Social = "social",
    HpiOpen = "hpi.open", HpiOpenNewborn = "hpi.open.newborn",
    HpiFiller = "hpi.filler", HpiFillerNewborn = "hpi.filler.newborn",
    CcAcute = "cc.acute", CcFiller = "cc.filler",
    HpiChronic = "hpi.chronic", HpiAcute = "hpi.acute", HpiStatus = "hpi.status",
    HpiExternal = "hpi.external", HpiProcedure = "hpi.procedure", HpiNewborn = "hpi.newborn",
    PmhItem = "pmh.item",
    CourseChronic = "course.chronic", CourseAcute = "course.acute", CourseStatus = "course.status",
    CourseExternal = "course.external", CourseProcedure = "course.procedure", CourseNewborn = "course.newborn",
    CourseFiller = "course.filler", CourseFillerNewborn = "course.filler.newborn",
    ResultsEvidence = "results.evidence", ResultsProcedure = "results.procedure", ResultsFiller = "results.filler",
    ProceduresItem = "procedures.item", DischargeItem = "discharge_dx.item",
    InstructionsAcute = "instructions.acute", InstructionsProcedure = "instructions.procedure",
    InstructionsFiller = "instructions.filler",
    MedLine = "med.line", MedIndication = "med.indication",
    HpiDenied = "hpi.denied", HpiRuledOut = "hpi.ruled_out", ResultsNegative = "results.negative",
    CourseRuledOut = "course.ruled_out", CourseProphylaxis = "course.prophylaxis",
    FamilyMention = "family.mention", FamilyNone = "family.none", FamilyFiller = "family.filler",
    InstructionsWarning = "instructions.warning", ProcedureNotDone = "procedure.not_done",
    StatusAbsent = "status.absent", ExternalAbsent = "external.absent", NewbornAbsent = "newborn.absent",
    Exam = "exam", ExamNewborn = "exam.newborn",
    Disposition = "disposition", Facility = "facility", Condition = "condition", Expired = "condition.expired",
    FollowUp = "followup", Addendum = "addendum",
    Nursing = "nursing", NursingCode = "nursing.code", Radiology = "radiology", RadiologyCode = "radiology.code",
    Ecg = "ecg", Echo = "echo", Physician = "physician", PhysicianCode = "physician.code",
    Respiratory = "respiratory",
}

#[cfg(test)]
impl Rule {
    /// Whether each wording must name the code it is about.
    pub(crate) fn is_about_a_code(self) -> bool {
        let name = self.name();
        [".acute", ".chronic", ".status", ".external", ".procedure", ".code", ".item", ".mention", ".none"]
            .iter()
            .any(|end| name.ends_with(end))
            || [
                "denied",
                "ruled_out",
                "negative",
                "prophylaxis",
                "warning",
                "not_done",
                "absent",
                "indication",
            ]
            .iter()
            .any(|part| name.contains(part))
            || matches!(self, Self::HpiNewborn | Self::CourseNewborn | Self::ResultsEvidence)
    }
}
