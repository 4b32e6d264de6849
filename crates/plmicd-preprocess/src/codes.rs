//! Raw ICD strings to dotted codes, read as text (leading zeros kept), as the corrected studies do.

use plmicd_data::CodeSystem;

/// The dotted form of a raw code, whose own dots (if any) do not count: ICD-9 diagnoses get a dot after three
/// characters (four for `E` codes), ICD-9 procedures after two, ICD-10-CM after three, each only where
/// something follows; ICD-10-PCS has none. Case and blanks are the caller's matter.
pub fn format_code(raw: &str, system: CodeSystem) -> String {
    let mut code: String = raw.chars().filter(|&c| c != '.').collect();
    let stem = match system {
        CodeSystem::Icd9Diagnosis if code.starts_with('E') => 4,
        CodeSystem::Icd9Diagnosis | CodeSystem::Icd10CmDiagnosis => 3,
        CodeSystem::Icd9Procedure => 2,
        CodeSystem::Icd10PcsProcedure | CodeSystem::Other => return code,
    };
    if let Some((dot, _)) = code.char_indices().nth(stem) {
        code.insert(dot, '.');
    }
    code
}

/// The system of a dotted ICD-9 code: procedures have their dot after at most two digits, diagnoses later or none.
pub fn icd9_system(code: &str) -> CodeSystem {
    let procedure = code.find('.').is_some_and(|dot| dot <= 2);
    if procedure { CodeSystem::Icd9Procedure } else { CodeSystem::Icd9Diagnosis }
}

/// The system of an ICD-10 code: procedures have seven characters and no dot.
pub fn icd10_system(code: &str) -> CodeSystem {
    let procedure = code.len() == 7 && !code.contains('.');
    if procedure { CodeSystem::Icd10PcsProcedure } else { CodeSystem::Icd10CmDiagnosis }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_zeros_and_short_codes_stay() {
        for (raw, system, dotted) in [
            ("0017", CodeSystem::Icd9Procedure, "00.17"),
            ("17", CodeSystem::Icd9Procedure, "17"),
            ("E849", CodeSystem::Icd9Diagnosis, "E849"),
            ("E8490", CodeSystem::Icd9Diagnosis, "E849.0"),
            ("V5861", CodeSystem::Icd9Diagnosis, "V58.61"),
            ("401.9", CodeSystem::Icd9Diagnosis, "401.9"),
            ("K449", CodeSystem::Icd10CmDiagnosis, "K44.9"),
            ("I10", CodeSystem::Icd10CmDiagnosis, "I10"),
            ("0TJB8ZZ", CodeSystem::Icd10PcsProcedure, "0TJB8ZZ"),
        ] {
            assert_eq!(format_code(raw, system), dotted);
        }
    }
}
