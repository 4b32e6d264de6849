//! Stopped and resumed equals uninterrupted, bit for bit.

mod toy;

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_train::{Kept, Outcome, Reading, TrainError, TrainerConfig};
use toy::{Points, Toy, Watcher, alone, config, train, trainer};

const DROPOUT: f64 = 0.2;
const POINTS: usize = 75;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.0.path()).expect("UTF-8")
    }

    fn checkpoints(&self) -> Vec<Utf8PathBuf> {
        let entries = self.path().read_dir_utf8().expect("a folder");
        let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").into_path()).collect();
        paths.sort();
        paths
    }
}

fn run(dir: &Utf8Path, settings: TrainerConfig, watcher: &Watcher) -> Result<(Toy, Outcome), TrainError> {
    let mut toy = Toy::new(DROPOUT);
    let outcome = trainer(dir, settings).run(&mut toy, &Points::new(POINTS), watcher)?;
    Ok((toy, outcome))
}

fn stopping_after(questions: usize) -> Watcher {
    Watcher { after: Some(questions), ..Watcher::default() }
}

fn assert_same((toy, outcome): &(Toy, Outcome), (other, of_other): &(Toy, Outcome)) {
    assert_eq!(toy.bytes(), other.bytes());
    assert_eq!(toy.buffer_bytes(), other.buffer_bytes());
    assert_eq!(outcome.steps, of_other.steps);
    assert_eq!(outcome.epochs, of_other.epochs);
    assert_eq!(outcome.midway, of_other.midway);
    assert_eq!(outcome.best_epoch, of_other.best_epoch);
}

#[test]
fn evaluations_inside_epochs_inform_and_resume() {
    let _alone = alone();
    let plain = train(config(), DROPOUT, POINTS);
    let updates = plain.1.steps.records().len() as u64;
    let settings = TrainerConfig { evaluate_every: Some(2), ..config() };
    let whole = train(settings.clone(), DROPOUT, POINTS);
    assert_eq!((&whole.1.steps, &whole.1.epochs), (&plain.1.steps, &plain.1.epochs), "nothing else changes");
    let ends: Vec<u64> = whole.1.epochs.iter().map(|epoch| epoch.step).collect();
    let expected: Vec<u64> = (1..=updates).filter(|s| s.is_multiple_of(2) && !ends.contains(s)).collect();
    let steps: Vec<u64> = whole.1.midway.iter().map(|record| record.step).collect();
    assert!(!steps.is_empty());
    assert_eq!(steps, expected);
    assert!(whole.1.midway.iter().all(|record| record.dev.keys().eq(whole.1.epochs[0].dev.keys())));
    for questions in 0..33 + steps.len() {
        let folder = Folder::new();
        let stopped = run(folder.path(), settings.clone(), &stopping_after(questions));
        assert!(matches!(stopped, Err(TrainError::Interrupted)), "after {questions} questions");
        let resumed = run(folder.path(), settings.clone(), &Watcher::default()).expect("the run finishes");
        assert_same(&resumed, &whole);
    }
}

#[test]
fn resumed_at_any_micro_batch_equals_uninterrupted() {
    let _alone = alone();
    let whole = train(config(), DROPOUT, POINTS);
    // One question before each of 3 x 10 micro-batches and in each of 3 evaluations: every place a run can stop.
    for questions in 0..33 {
        let folder = Folder::new();
        let stopped = run(folder.path(), config(), &stopping_after(questions));
        assert!(matches!(stopped, Err(TrainError::Interrupted)), "after {questions} questions");
        let resumed = run(folder.path(), config(), &Watcher::default()).expect("the run finishes");
        assert_same(&resumed, &whole);
    }
}

/// A save that falls due at an epoch's last update comes before what marks its evaluation as due.
#[test]
fn resumed_between_the_last_update_and_its_evaluation_equals_uninterrupted() {
    let _alone = alone();
    let whole = train(config(), DROPOUT, POINTS);
    // The questions in the three evaluations, each after those of 10 micro-batches.
    for questions in [10, 21, 32] {
        let folder = Folder::new();
        let stopped = run(folder.path(), config(), &stopping_after(questions));
        assert!(matches!(stopped, Err(TrainError::Interrupted)), "after {questions} questions");
        let newest = folder.checkpoints().pop().expect("a checkpoint");
        let state = newest.join("state.json");
        let text = std::fs::read_to_string(&state).expect("readable");
        let before = text.replace("\"evaluating\": true", "\"evaluating\": false");
        assert_ne!(before, text, "saved in the evaluation");
        std::fs::write(&state, before).expect("writable");
        let resumed = run(folder.path(), config(), &Watcher::default()).expect("the run finishes");
        assert_same(&resumed, &whole);
    }
}

/// As on a GPU, where the figures of an update are read when the next one is under way.
#[test]
fn figures_read_late_change_nothing() {
    let _alone = alone();
    let settings = TrainerConfig { evaluate_every: Some(3), ..config() };
    let whole = train(settings.clone(), DROPOUT, POINTS);
    let late = |dir: &Utf8Path, every, watcher: &Watcher| {
        let mut trainer = trainer(dir, settings.clone());
        trainer.reading = Reading::Late;
        trainer.checkpoints.every = every;
        let mut toy = Toy::new(DROPOUT);
        trainer.run(&mut toy, &Points::new(POINTS), watcher).map(|outcome| (toy, outcome))
    };
    let watcher = Watcher::default();
    for every in [Duration::ZERO, Duration::from_secs(3600)] {
        assert_same(&late(Folder::new().path(), every, &watcher).expect("the run finishes"), &whole);
    }
    let told: Vec<u64> = watcher.steps.borrow().iter().map(|record| record.step).collect();
    assert_eq!(told, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    // Between any two micro-batches, at 3 epochs' ends and in the evaluations inside them.
    for questions in 0..35 {
        let folder = Folder::new();
        let stopped = late(folder.path(), Duration::from_secs(3600), &stopping_after(questions));
        assert!(matches!(stopped, Err(TrainError::Interrupted)), "after {questions} questions");
        let resumed = late(folder.path(), Duration::from_secs(3600), &Watcher::default());
        assert_same(&resumed.expect("the run finishes"), &whole);
    }
}

#[test]
fn stopped_again_and_again_it_still_ends_the_same() {
    let _alone = alone();
    let whole = train(config(), DROPOUT, POINTS);
    let folder = Folder::new();
    // 5 questions let at least one update of 3 micro-batches through, so every attempt gets further.
    let mut attempts = 0;
    let resumed = loop {
        attempts += 1;
        match run(folder.path(), config(), &stopping_after(5)) {
            Ok(finished) => break finished,
            Err(TrainError::Interrupted) => assert!(attempts < 30),
            Err(error) => panic!("{error}"),
        }
    };
    assert!(attempts > 5);
    assert_same(&resumed, &whole);
    // A finished run is taken up finished.
    assert_same(&run(folder.path(), config(), &stopping_after(0)).expect("nothing to do"), &whole);
}

#[test]
fn checkpoint_after_every_update_leaves_one_and_a_killed_writer_does_no_harm() {
    let _alone = alone();
    let whole = train(config(), DROPOUT, POINTS);
    let folder = Folder::new();
    let mut every_update = trainer(folder.path(), config());
    every_update.checkpoints.every = Duration::ZERO;
    let mut toy = Toy::new(DROPOUT);
    // The process "dies" at a NaN, which saves nothing: what resumes is the last checkpoint written on the way.
    toy.poison = Some(25);
    let died = every_update.run(&mut toy, &Points::new(POINTS), &Watcher::default());
    assert!(matches!(died, Err(TrainError::Diverged(_))));
    assert_eq!(folder.checkpoints().len(), 1);
    let partial = folder.path().join("checkpoint-999999.partial");
    std::fs::create_dir(&partial).expect("a folder");
    std::fs::write(partial.join("state.json"), "{").expect("a file");
    let resumed = run(folder.path(), config(), &Watcher::default()).expect("the run finishes");
    assert_same(&resumed, &whole);
    assert!(!partial.exists());
}

#[test]
fn checkpoints_are_kept_by_policy_and_can_be_gone_back_to() {
    let _alone = alone();
    let settings = TrainerConfig { epochs: 7, ..config() };
    let whole = train(settings.clone(), DROPOUT, POINTS);
    for (kept, expected) in [
        (Kept::default(), vec![7]),
        (Kept { every_epochs: 2, ..Kept::default() }, vec![2, 4, 6, 7]),
        (Kept { best: true, ..Kept::default() }, vec![whole.1.best_epoch, 7]),
    ] {
        let folder = Folder::new();
        let mut trainer = trainer(folder.path(), settings.clone());
        trainer.checkpoints.every = Duration::ZERO;
        trainer.checkpoints.kept = kept;
        // Stopped on the way: what is kept must not depend on one process having seen it all.
        for questions in [20, 17] {
            let stopped =
                trainer.run(&mut Toy::new(DROPOUT), &Points::new(POINTS), &stopping_after(questions));
            assert!(matches!(stopped, Err(TrainError::Interrupted)));
        }
        let mut toy = Toy::new(DROPOUT);
        let outcome = trainer.run(&mut toy, &Points::new(POINTS), &Watcher::default()).expect("finishes");
        assert_same(&(toy, outcome), &whole);
        let epochs: Vec<u32> = folder.checkpoints().iter().map(|path| epoch_of(path)).collect();
        let mut expected = expected;
        expected.dedup();
        assert_eq!(epochs, expected);
        // Without the newer ones the run goes on from an older one and ends the same.
        if let [first, newer @ ..] = &folder.checkpoints()[..] {
            newer.iter().for_each(|path| std::fs::remove_dir_all(path).expect("removed"));
            assert_eq!(epoch_of(first), expected[0]);
        }
        let mut toy = Toy::new(DROPOUT);
        let outcome = trainer.run(&mut toy, &Points::new(POINTS), &Watcher::default()).expect("finishes");
        assert_same(&(toy, outcome), &whole);
    }
}

/// The epoch at whose end a checkpoint was written.
fn epoch_of(checkpoint: &Utf8Path) -> u32 {
    let text = std::fs::read_to_string(checkpoint.join("state.json")).expect("a state");
    let state: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    state["progress"]["epoch"].as_u64().expect("a number") as u32
}

#[test]
fn damaged_checkpoint_is_left_out_with_a_warning() {
    let _alone = alone();
    let whole = train(config(), DROPOUT, POINTS);
    for (file, damage) in [("state.safetensors", 3), ("state.json", 1), ("best.safetensors", 5)] {
        let folder = Folder::new();
        assert!(run(folder.path(), config(), &stopping_after(25)).is_err());
        let path = folder.checkpoints()[0].join(file);
        let mut bytes = std::fs::read(&path).expect("a checkpoint file");
        let place = bytes.len() - bytes.len() / damage;
        bytes.truncate(place);
        std::fs::write(&path, bytes).expect("a damaged file");
        let watcher = Watcher::default();
        assert_same(&run(folder.path(), config(), &watcher).expect("from the start"), &whole);
        let warnings = watcher.warnings.borrow();
        assert!(warnings.len() == 1 && warnings[0].contains(file), "{warnings:?}");
        assert!(!watcher.notes.borrow().iter().any(|note| note.contains("resumed")), "nothing was resumed");
    }
}

#[test]
fn checkpoint_of_other_settings_is_left_out_with_a_warning() {
    let _alone = alone();
    let folder = Folder::new();
    assert!(run(folder.path(), config(), &stopping_after(25)).is_err());
    let other = TrainerConfig { seed: 6, ..config() };
    let watcher = Watcher::default();
    assert_same(
        &run(folder.path(), other.clone(), &watcher).expect("from the start"),
        &train(other, DROPOUT, POINTS),
    );
    assert!(watcher.warnings.borrow()[0].contains("other settings, inputs or parameters"));
}

#[test]
fn checkpoint_that_cannot_be_written_leaves_the_old_one_and_training_goes_on() {
    let _alone = alone();
    let whole = train(config(), DROPOUT, POINTS);
    let folder = Folder::new();
    assert!(run(folder.path(), config(), &stopping_after(5)).is_err());
    let old = folder.checkpoints();
    assert_eq!(old.len(), 1);
    // A folder in the place of the next one stands for a disk without room: the rename fails.
    let blocked = folder.path().join("checkpoint-000002");
    let watcher = BlockingWatcher { blocked: &blocked, inner: stopping_after(15) };
    let mut toy = Toy::new(DROPOUT);
    let stopped = trainer(folder.path(), config()).run(&mut toy, &Points::new(POINTS), &watcher);
    assert!(matches!(stopped, Err(TrainError::Interrupted)));
    let warnings = watcher.inner.warnings.borrow();
    assert!(warnings.iter().all(|warning| warning.contains("the one of step 1 stays")), "{warnings:?}");
    assert!(!warnings.is_empty());
    std::fs::remove_dir_all(&blocked).expect("the disk has room again");
    assert_same(&run(folder.path(), config(), &Watcher::default()).expect("finishes"), &whole);
}

/// Takes the place of the next checkpoint once the run has opened its folder.
struct BlockingWatcher<'a> {
    blocked: &'a Utf8Path,
    inner: Watcher,
}

impl plmicd_train::Observer for BlockingWatcher<'_> {
    fn interrupted(&self) -> bool {
        std::fs::create_dir_all(self.blocked.join("taken")).expect("a folder");
        self.inner.interrupted()
    }

    fn step(&self, _report: &plmicd_train::StepReport) {}

    fn evaluating(&self, _done: u64, _total: u64) {}

    fn epoch(&self, _record: &plmicd_train::EpochRecord, _best: bool) {}

    fn warn(&self, message: &str) {
        self.inner.warn(message);
    }

    fn note(&self, message: &str) {
        self.inner.note(message);
    }
}
