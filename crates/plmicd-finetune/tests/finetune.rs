//! The stage on a tiny corpus.

mod corpus;

use corpus::{
    Events, VOCABULARY, Workplace, alone, config, contents, history, note, write_specials, write_split,
};
use plmicd_data::{LabelSpace, SpecialTokens, Split, TokenizedNote};
use plmicd_finetune::{BestMetric, FinetuneConfig, LabelInit};
use plmicd_nn::{PlmIcd, Precision};
use plmicd_pipeline::{Interrupt, NoEvents, StageError};

fn run(place: &Workplace, config: &FinetuneConfig, out: &str) -> camino::Utf8PathBuf {
    place
        .run(config, out, &format!("{out}-work"), &NoEvents, Interrupt::default())
        .expect("the stage finishes")
}

fn message(error: &StageError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

#[test]
fn learns_a_separable_corpus_and_leaves_a_whole_model() {
    let _alone = alone();
    let place = Workplace::new();
    let out = run(&place, &FinetuneConfig { epochs: 25, ..config() }, "model");
    let history = history(&out);
    let (first, last) = (&history.epochs[0], history.epochs.last().expect("epochs"));
    assert!(last.train_loss < 0.5 * first.train_loss, "{} to {}", first.train_loss, last.train_loss);
    let best = &history.epochs[history.best_epoch as usize - 1];
    assert!(best.dev["micro_f1"] > 0.9, "{:?}", best.dev);
    assert!(best.dev_loss.expect("a dev loss") < first.dev_loss.expect("a dev loss"));
    assert_eq!(history.total_steps, 25 * 24);
    let files: Vec<String> = contents(&out).into_keys().collect();
    let expected = [
        "README.md",
        "config.json",
        "labels.json",
        "model.safetensors",
        "special_tokens.json",
        "tokenizer.json",
        "training.json",
    ];
    assert_eq!(files, expected);

    // The weights on disk are the best epoch's: they give its dev loss.
    let mut model = PlmIcd::load(&out, tch::Device::Cpu).expect("loads");
    model.set_precision(Precision::Auto); // That of the training.
    let notes: Vec<TokenizedNote> = (1000..1040).map(note).collect();
    let tokens: Vec<&[i32]> = notes.iter().map(|note| note.tokens.as_slice()).collect();
    let rows: Vec<&[i32]> = notes.iter().map(|note| note.labels.as_slice()).collect();
    let specials = plmicd_nn::SpecialTokens { cls: Some(2), sep: Some(3), pad: 0 };
    let logits = model.logits(&model.batch(&tokens, &specials).expect("a batch"));
    let truth = plmicd_nn::LabelTargets::from_indices(&rows, 6, tch::Device::Cpu).expect("labels");
    let loss = model.config().loss.mean(&logits, truth.tensor()).double_value(&[]);
    assert!((loss - best.dev_loss.expect("a dev loss")).abs() < 1e-6);
}

#[test]
fn two_runs_give_the_same_files_and_another_seed_others() {
    let _alone = alone();
    let place = Workplace::new();
    let one = contents(&run(&place, &config(), "one"));
    assert_eq!(one, contents(&run(&place, &config(), "two")));
    let other = contents(&run(&place, &FinetuneConfig { seed: 2, ..config() }, "other"));
    assert_ne!(one["model.safetensors"], other["model.safetensors"]);
}

#[test]
fn stopped_and_resumed_gives_the_same_files() {
    let _alone = alone();
    let place = Workplace::new();
    let settings = FinetuneConfig { accumulation: 2, ..config() };
    let whole = contents(&run(&place, &settings, "whole"));
    // Metrics are reported after each of 12 updates an epoch and after each epoch.
    for stop_at in [1, 5, 12, 13, 20, 38] {
        let work = format!("work-{stop_at}");
        let events = Events { stop_at: Some(stop_at), ..Events::default() };
        let stopped = place.run(&settings, "resumed", &work, &events, events.interrupt.clone());
        assert!(matches!(stopped, Err(StageError::Interrupted)), "at report {stop_at}");
        let events = Events::default();
        let out = place.run(&settings, "resumed", &work, &events, Interrupt::default()).expect("finishes");
        assert_eq!(contents(&out), whole, "stopped at report {stop_at}");
        let messages = events.messages.lock().expect("not poisoned");
        assert!(messages.iter().any(|message| message.starts_with("resumed at step")), "{messages:?}");
    }
}

#[test]
fn descriptions_give_a_head_start() {
    let _alone = alone();
    let place = Workplace::new();
    // A pretrained encoder: what a first training leaves.
    let pretrained = run(&place, &FinetuneConfig { epochs: 25, ..config() }, "pretrained");
    let with = |label_init, out: &str| {
        let mut settings = FinetuneConfig { epochs: 1, encoder: None, label_init, ..config() };
        settings.projection = plmicd_nn::Projection::Identity;
        settings.optimizer.learning_rate = 1e-4;
        settings.optimizer.head_learning_rate = Some(1e-3);
        let out = place
            .run_with(
                &settings,
                out,
                &format!("{out}-work"),
                &NoEvents,
                Interrupt::default(),
                Some(&pretrained),
            )
            .expect("the stage finishes");
        history(&out).epochs[0].dev["micro_f1"]
    };
    let (random, described) = (with(LabelInit::Random, "random"), with(LabelInit::Descriptions, "described"));
    assert!(described > random + 0.1, "micro F1 {random} and {described}");
}

#[test]
fn descriptions_that_are_not_there_are_asked_for() {
    let _alone = alone();
    let place = Workplace::new();
    std::fs::remove_file(place.shards().join("label_tokens.json")).expect("was there");
    let settings = FinetuneConfig { label_init: LabelInit::Descriptions, ..config() };
    let error =
        place.run(&settings, "out", "work", &NoEvents, Interrupt::default()).expect_err("no descriptions");
    assert!(
        message(&error).contains("label_tokens.json")
            && message(&error).contains("make the token shards again")
    );
}

#[test]
fn inputs_that_cannot_work_are_refused_before_training() {
    let _alone = alone();
    let check = |spoil: &dyn Fn(&Workplace), expected: &[&str]| {
        let place = Workplace::new();
        spoil(&place);
        let error =
            place.run(&config(), "out", "work", &NoEvents, Interrupt::default()).expect_err("refused");
        for part in expected {
            assert!(message(&error).contains(part), "{part} is not in: {}", message(&error));
        }
        assert!(contents(&place.root.join("out")).is_empty());
    };
    let bare = |i| TokenizedNote { labels: Vec::new(), ..note(i) };
    check(&|p| write_specials(&p.shards(), 20), &["train split, note note-0", "token id", "20 tokens"]);
    check(&|p| rewrite(p, Split::Dev, (0..5).map(bare)), &["no note of the dev split has a label"]);
    check(&|p| rewrite(p, Split::Train, std::iter::empty()), &["the train split has no notes"]);
    check(&|p| remove(p, Split::Dev), &["there are no dev notes", "dev-00000.parquet"]);
    let unlabelled = |p: &Workplace| {
        let labels = LabelSpace::read(&p.shards().join(LabelSpace::FILE)).expect("labels");
        let fewer = LabelSpace::new(labels.labels()[..3].to_vec()).expect("unique");
        fewer.write(&p.shards().join(LabelSpace::FILE)).expect("written");
    };
    check(&unlabelled, &["label id", "there are 3 labels"]);
    let unpadded = |p: &Workplace| {
        let path = p.shards().join(SpecialTokens::FILE);
        let specials = SpecialTokens::read(&path).expect("specials");
        SpecialTokens { pad: None, ..specials }.write(&path).expect("written");
    };
    check(&unpadded, &["special_tokens.json", "no padding token"]);
}

#[test]
fn an_encoder_of_another_vocabulary_is_refused() {
    let _alone = alone();
    let place = Workplace::new();
    let encoder = run(&place, &FinetuneConfig { epochs: 1, ..config() }, "encoder");
    let settings = FinetuneConfig { encoder: None, ..config() };
    let refused = |encoder: &camino::Utf8Path, expected: &[&str]| {
        let error = place
            .run_with(&settings, "out", "work", &NoEvents, Interrupt::default(), Some(encoder))
            .expect_err("refused");
        for part in expected {
            assert!(message(&error).contains(part), "{part} is not in: {}", message(&error));
        }
    };
    write_specials(&place.shards(), VOCABULARY as usize + 1);
    refused(&encoder, &["60 token embeddings", "vocabulary of 61"]);
    // One that only happens to have room for the ids.
    let path = encoder.join("config.json");
    let text = fs_err::read_to_string(&path).expect("a config");
    fs_err::write(&path, text.replace("\"vocab_size\": 60", "\"vocab_size\": 1086")).expect("written");
    refused(&encoder, &["1086 token embeddings", "vocabulary of 61"]);
}

#[test]
fn without_dev_notes_the_last_epoch_is_kept() {
    let _alone = alone();
    let place = Workplace::new();
    remove(&place, Split::Dev);
    let settings = FinetuneConfig { best_metric: BestMetric::LastEpoch, ..config() };
    let history = history(&run(&place, &settings, "out"));
    assert_eq!(history.best_epoch, 3);
    assert!(history.epochs.iter().all(|epoch| epoch.dev.is_empty() && epoch.dev_loss.is_none()));
}

fn remove(place: &Workplace, split: Split) {
    for index in 0..3 {
        let _ = std::fs::remove_file(place.shards().join(format!("{split}-{index:05}.parquet")));
    }
}

fn rewrite(place: &Workplace, split: Split, notes: impl Iterator<Item = TokenizedNote>) {
    remove(place, split);
    write_split(&place.shards(), split, notes);
}
