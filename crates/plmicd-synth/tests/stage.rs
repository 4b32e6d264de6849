//! The generator as a stage of a pipeline.

use std::collections::BTreeMap;

use camino::Utf8Path;
use plmicd_pipeline::{Interrupt, NoEvents, Runtime, Stage, StageContext, StageError};
use plmicd_synth::{Synth, SynthConfig};

fn run(interrupt: Interrupt) -> (tempfile::TempDir, Result<(), StageError>) {
    let folder = tempfile::tempdir().unwrap();
    let path = Utf8Path::from_path(folder.path()).unwrap();
    let config = SynthConfig { admissions: 30, codes: 30, mean_words: 80, ..SynthConfig::default() };
    let runtime = Runtime { threads: 2, ..Runtime::default() };
    let events = NoEvents;
    let context =
        StageContext::new(BTreeMap::new(), path.join("out"), path.join("work"), runtime, &events, interrupt);
    let result = Synth::run(&config, &context);
    (folder, result)
}

#[test]
fn the_stage_writes_the_layout_of_a_mimic3_source() {
    let (folder, result) = run(Interrupt::default());
    result.unwrap();
    for name in ["NOTEEVENTS.csv", "D_ICD_PROCEDURES.csv", "splits/dev_full_hadm_ids.csv"] {
        assert!(folder.path().join("out").join(name).is_file(), "{name}");
    }
    assert_eq!(Synth::OUTPUT, "mimic3");
}

#[test]
fn an_interrupt_stops_it() {
    let interrupt = Interrupt::default();
    interrupt.raise();
    let (folder, result) = run(interrupt);
    assert!(matches!(result, Err(StageError::Interrupted)));
    assert!(!folder.path().join("out/NOTEEVENTS.csv").exists());
}

#[test]
fn settings_out_of_range_are_named() {
    let config: SynthConfig = serde_json::from_str(r#"{"mean_words": 10, "distractors": -1}"#).unwrap();
    let paths: Vec<String> = Synth::check(&config, &[]).into_iter().map(|issue| issue.path).collect();
    assert_eq!(paths, ["mean_words", "distractors"]);
    let unknown = serde_json::from_str::<SynthConfig>(r#"{"admission": 10}"#).unwrap_err();
    assert!(unknown.to_string().contains("admission"));
}
