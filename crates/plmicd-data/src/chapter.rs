//! Chapters of the classifications: the coarsest level at which codes are compared.

use crate::code::{CodeSystem, IcdCode};

/// A range of categories and what it is about, as the tabular lists head it.
type Chapter = (&'static str, &'static str, &'static str);

/// ICD-9-CM, volume 1; categories compare as text of three characters (`E` and three digits for causes).
const ICD9_DIAGNOSES: [Chapter; 19] = [
    ("001", "139", "Infectious and parasitic diseases"),
    ("140", "239", "Neoplasms"),
    ("240", "279", "Endocrine, nutritional and metabolic diseases, and immunity disorders"),
    ("280", "289", "Diseases of the blood and blood-forming organs"),
    ("290", "319", "Mental disorders"),
    ("320", "389", "Diseases of the nervous system and sense organs"),
    ("390", "459", "Diseases of the circulatory system"),
    ("460", "519", "Diseases of the respiratory system"),
    ("520", "579", "Diseases of the digestive system"),
    ("580", "629", "Diseases of the genitourinary system"),
    ("630", "679", "Complications of pregnancy, childbirth and the puerperium"),
    ("680", "709", "Diseases of the skin and subcutaneous tissue"),
    ("710", "739", "Diseases of the musculoskeletal system and connective tissue"),
    ("740", "759", "Congenital anomalies"),
    ("760", "779", "Certain conditions originating in the perinatal period"),
    ("780", "799", "Symptoms, signs and ill-defined conditions"),
    ("800", "999", "Injury and poisoning"),
    ("E000", "E999", "External causes of injury and poisoning"),
    ("V01", "V91", "Factors influencing health status and contact with health services"),
];

/// ICD-9-CM, volume 3; categories of two digits.
const ICD9_PROCEDURES: [Chapter; 17] = [
    ("00", "00", "Procedures and interventions not elsewhere classified"),
    ("01", "05", "Operations on the nervous system"),
    ("06", "07", "Operations on the endocrine system"),
    ("08", "16", "Operations on the eye"),
    ("17", "17", "Other miscellaneous diagnostic and therapeutic procedures"),
    ("18", "20", "Operations on the ear"),
    ("21", "29", "Operations on the nose, mouth and pharynx"),
    ("30", "34", "Operations on the respiratory system"),
    ("35", "39", "Operations on the cardiovascular system"),
    ("40", "41", "Operations on the hemic and lymphatic system"),
    ("42", "54", "Operations on the digestive system"),
    ("55", "59", "Operations on the urinary system"),
    ("60", "64", "Operations on the male genital organs"),
    ("65", "71", "Operations on the female genital organs"),
    ("72", "75", "Obstetrical procedures"),
    ("76", "86", "Operations on the musculoskeletal and integumentary systems"),
    ("87", "99", "Miscellaneous diagnostic and therapeutic procedures"),
];

/// ICD-10-CM; categories of three characters.
const ICD10_CM: [Chapter; 22] = [
    ("A00", "B99", "Certain infectious and parasitic diseases"),
    ("C00", "D49", "Neoplasms"),
    ("D50", "D89", "Diseases of the blood and certain disorders involving the immune mechanism"),
    ("E00", "E89", "Endocrine, nutritional and metabolic diseases"),
    ("F01", "F99", "Mental, behavioral and neurodevelopmental disorders"),
    ("G00", "G99", "Diseases of the nervous system"),
    ("H00", "H59", "Diseases of the eye and adnexa"),
    ("H60", "H95", "Diseases of the ear and mastoid process"),
    ("I00", "I99", "Diseases of the circulatory system"),
    ("J00", "J99", "Diseases of the respiratory system"),
    ("K00", "K95", "Diseases of the digestive system"),
    ("L00", "L99", "Diseases of the skin and subcutaneous tissue"),
    ("M00", "M99", "Diseases of the musculoskeletal system and connective tissue"),
    ("N00", "N99", "Diseases of the genitourinary system"),
    ("O00", "O9A", "Pregnancy, childbirth and the puerperium"),
    ("P00", "P96", "Certain conditions originating in the perinatal period"),
    ("Q00", "Q99", "Congenital malformations, deformations and chromosomal abnormalities"),
    ("R00", "R99", "Symptoms, signs and abnormal clinical and laboratory findings"),
    ("S00", "T88", "Injury, poisoning and certain other consequences of external causes"),
    ("U00", "U85", "Codes for special purposes"),
    ("V00", "Y99", "External causes of morbidity"),
    ("Z00", "Z99", "Factors influencing health status and contact with health services"),
];

impl IcdCode {
    /// The chapter of its classification: its range of categories and its heading. ICD-10-PCS has sections instead: the
    /// first character, without heading. `None` outside every chapter.
    pub fn chapter(&self) -> Option<(String, &'static str)> {
        let chapters: &[Chapter] = match self.system() {
            CodeSystem::Icd9Diagnosis => &ICD9_DIAGNOSES,
            CodeSystem::Icd9Procedure => &ICD9_PROCEDURES,
            CodeSystem::Icd10CmDiagnosis => &ICD10_CM,
            CodeSystem::Icd10PcsProcedure => return Some((self.compact()[..1].to_owned(), "")),
            CodeSystem::Other => return None,
        };
        let category = self.category();
        // Ranges of the same length as the category: `E849` is not compared with `E00`.
        let (first, last, title) = chapters
            .iter()
            .find(|(first, last, _)| first.len() == category.len() && (*first..=*last).contains(&category))?;
        let range = if first == last { (*first).to_owned() } else { format!("{first}-{last}") };
        Some((range, title))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chapter(system: CodeSystem, code: &str) -> Option<String> {
        IcdCode::parse(system, code).unwrap().chapter().map(|(range, _)| range)
    }

    #[test]
    fn chapters_by_their_ranges() {
        use CodeSystem::*;
        for (system, code, expected) in [
            (Icd9Diagnosis, "428.0", "390-459"),
            (Icd9Diagnosis, "001", "001-139"),
            (Icd9Diagnosis, "999.9", "800-999"),
            (Icd9Diagnosis, "V45.81", "V01-V91"),
            (Icd9Diagnosis, "E849.7", "E000-E999"),
            (Icd9Procedure, "00.66", "00"),
            (Icd9Procedure, "38.93", "35-39"),
            (Icd10CmDiagnosis, "D49.9", "C00-D49"),
            (Icd10CmDiagnosis, "D50.0", "D50-D89"),
            (Icd10CmDiagnosis, "O9A.1", "O00-O9A"),
            (Icd10CmDiagnosis, "C7A.00", "C00-D49"),
            (Icd10CmDiagnosis, "H60.0", "H60-H95"),
            (Icd10PcsProcedure, "02100Z9", "0"),
        ] {
            assert_eq!(chapter(system, code).as_deref(), Some(expected), "{code}");
        }
        assert_eq!(chapter(Icd10CmDiagnosis, "U99"), None);
        assert_eq!(chapter(Other, "ABC"), None);
    }
}
