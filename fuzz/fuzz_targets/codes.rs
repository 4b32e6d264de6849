//! Any text as a code: formatting neither panics nor loses a letter.

#![no_main]

use libfuzzer_sys::fuzz_target;
use plmicd_data::{CodeSystem, IcdCode};
use plmicd_preprocess::{caml_code, caml_float, format_code};

fuzz_target!(|raw: &str| {
    let plain = |text: &str| text.replace('.', "");
    for system in [
        CodeSystem::Icd9Diagnosis,
        CodeSystem::Icd9Procedure,
        CodeSystem::Icd10CmDiagnosis,
        CodeSystem::Icd10PcsProcedure,
        CodeSystem::Other,
    ] {
        let code = format_code(raw, system);
        assert_eq!(plain(&code), plain(raw));
        assert_eq!(format_code(&code, system), code, "formatting twice changes nothing");
        if let Ok(code) = IcdCode::parse(system, &code) {
            let _ = (code.category().len(), code.chapter());
        }
    }
    for procedure in [false, true] {
        assert_eq!(plain(&caml_code(raw, procedure)), plain(raw));
    }
    let _ = caml_float(raw);
});
