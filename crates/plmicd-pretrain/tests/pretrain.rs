//! The stage on a tiny invented language.

mod corpus;

use camino::Utf8PathBuf;
use corpus::{
    Events, VOCABULARY, Workplace, bare, config, contents, history, note, shape, specials, write_specials,
    write_split,
};
use plmicd_data::{ExtendedVocabulary, SpecialTokens, Split};
use plmicd_nn::{EncoderConfig, HeadStart, MaskedLm, NnError, read_safetensors, write_safetensors};
use plmicd_pipeline::{Interrupt, NoEvents, Stage, StageError};
use plmicd_pretrain::{BestMetric, Family, Framing, Pretrain, PretrainConfig};

fn run(place: &Workplace, config: &PretrainConfig, out: &str) -> Utf8PathBuf {
    place
        .run(config, out, &format!("{out}-work"), &NoEvents, Interrupt::default(), None)
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
fn learns_a_language_and_leaves_a_whole_encoder() {
    let place = Workplace::new();
    for family in [Family::Bert, Family::Roberta] {
        let settings =
            PretrainConfig { epochs: 40, dropout: Some(0.0), encoder: Some(shape(family)), ..config() };
        let out = run(&place, &settings, "encoder");
        let history = history(&out);
        let (first, last) = (&history.epochs[0], history.epochs.last().expect("epochs"));
        // The topic shows in the other tokens, and has ten of the 40: who does not look at them stays at 40.
        let (before, after) = (first.dev["perplexity"], last.dev["perplexity"]);
        assert!(before > 30.0 && (9.0..18.0).contains(&after), "perplexity {before} and then {after}");
        let accuracy = last.dev["masked_accuracy"];
        assert!((0.05..0.2).contains(&accuracy), "about one of ten: {accuracy}");
        let best = &history.epochs[history.best_epoch as usize - 1];
        let lowest = history.epochs.iter().map(|epoch| epoch.dev["perplexity"]).fold(f64::MAX, f64::min);
        assert_eq!(best.dev["perplexity"], lowest);
        assert!((best.dev_loss.expect("a dev loss").exp() - lowest).abs() < 1e-9);
        let files: Vec<String> = contents(&out).into_keys().collect();
        let expected = [
            "README.md",
            "config.json",
            "model.safetensors",
            "special_tokens.json",
            "tokenizer.json",
            "training.json",
        ];
        assert_eq!(files, expected);
        let encoder = EncoderConfig::read(&out.join("config.json")).expect("a config");
        let model = MaskedLm::new(&encoder, 0, tch::Device::Cpu).expect("a model");
        let (report, head) = model.load(&out, None).expect("loads");
        assert!(head == HeadStart::Loaded && report.unexpected.is_empty(), "{report}");
    }
}

#[test]
fn two_runs_give_the_same_files_and_another_seed_others() {
    let place = Workplace::new();
    let one = contents(&run(&place, &config(), "one"));
    assert_eq!(one, contents(&run(&place, &config(), "two")));
    let other = contents(&run(&place, &PretrainConfig { seed: 2, ..config() }, "other"));
    assert_ne!(one["model.safetensors"], other["model.safetensors"]);
    let in_format = |precision, name| run(&place, &PretrainConfig { precision, ..config() }, name);
    let exact = in_format(plmicd_nn::Precision::Fp32, "exact");
    let rounded = in_format(plmicd_nn::Precision::Bf16, "rounded");
    assert_ne!(contents(&exact)["model.safetensors"], contents(&rounded)["model.safetensors"]);
    let perplexity = |out: &Utf8PathBuf| history(out).epochs.last().expect("epochs").dev["perplexity"];
    let (fine, coarse) = (perplexity(&exact), perplexity(&rounded));
    assert!((fine - coarse).abs() < 0.05 * fine, "{fine} in fp32, {coarse} in bf16");
    let words = contents(&run(&place, &PretrainConfig { whole_words: true, ..config() }, "words"));
    assert_ne!(one["model.safetensors"], words["model.safetensors"]);
}

#[test]
fn stopped_and_resumed_gives_the_same_files() {
    let place = Workplace::new();
    let settings = PretrainConfig { accumulation: 2, whole_words: true, evaluate_every: Some(4), ..config() };
    let whole = contents(&run(&place, &settings, "whole"));
    let course = history(&place.root.join("whole"));
    assert!(course.midway.len() >= 3 && course.midway.iter().all(|record| record.step.is_multiple_of(4)));
    assert!(course.midway.iter().all(|record| record.dev["perplexity"] > 1.0));
    let reports = course.total_steps as usize + 3;
    for stop_at in [1, 5, reports / 3, reports / 3 + 1, reports - 1] {
        let work = format!("work-{stop_at}");
        let events = Events { stop_at: Some(stop_at), ..Events::default() };
        let stopped = place.run(&settings, "resumed", &work, &events, events.interrupt.clone(), None);
        assert!(matches!(stopped, Err(StageError::Interrupted)), "at report {stop_at}");
        let events = Events::default();
        let out =
            place.run(&settings, "resumed", &work, &events, Interrupt::default(), None).expect("finishes");
        assert_eq!(contents(&out), whole, "stopped at report {stop_at}");
        assert!(events.said("resumed at step"));
    }
}

#[test]
fn goes_on_from_an_encoder_with_and_without_its_head() {
    let place = Workplace::new();
    let first = run(&place, &PretrainConfig { epochs: 40, ..config() }, "first");
    let reached = history(&first).epochs.iter().map(|e| e.dev["perplexity"]).fold(f64::MAX, f64::min);
    let mut settings = PretrainConfig { encoder: None, epochs: 1, ..config() };
    settings.optimizer.learning_rate = 1e-4;
    let go_on = |out: &str, events: &Events| {
        let out = place
            .run(&settings, out, &format!("{out}-work"), events, Interrupt::default(), Some(&first))
            .expect("finishes");
        history(&out).epochs[0].dev["perplexity"]
    };
    let events = Events::default();
    let with_head = go_on("second", &events);
    assert!(with_head < 1.1 * reached, "{reached} and then {with_head}");
    assert!(!events.said("no language-model head"));

    let weights = first.join("model.safetensors");
    let tensors = read_safetensors(&weights).expect("tensors");
    let kept: Vec<(&str, &tch::Tensor)> = tensors
        .iter()
        .filter(|(name, _)| !name.starts_with("cls."))
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    write_safetensors(&weights, &kept).expect("written");
    let events = Events::default();
    let without_head = go_on("third", &events);
    assert!(without_head > 1.3 * with_head, "{with_head} with, {without_head} without");
    assert!(events.said("no language-model head"));
}

#[test]
fn a_dev_split_is_needed_only_to_choose_an_epoch() {
    let place = Workplace::new();
    std::fs::remove_file(place.shards().join("dev-00000.parquet")).expect("was there");
    let error =
        place.run(&config(), "out", "work", &NoEvents, Interrupt::default(), None).expect_err("no dev notes");
    assert!(message(&error).contains("dev-00000.parquet"), "{}", message(&error));
    let settings = PretrainConfig { best_metric: BestMetric::LastEpoch, ..config() };
    let history = history(&run(&place, &settings, "out"));
    assert_eq!(history.best_epoch, 3);
    assert!(history.epochs.iter().all(|epoch| epoch.dev.is_empty() && epoch.dev_loss.is_none()));
}

#[test]
fn notes_of_one_token_are_left_out_and_counted() {
    let place = Workplace::new();
    let short = (100..107).map(|i| bare(i, &[5 + i % 20]));
    write_split(&place.shards(), Split::Train, (0..20).map(note).chain(short));
    let events = Events::default();
    // Long enough for every note to be one sequence.
    let settings = PretrainConfig { sequence_length: 200, epochs: 1, ..config() };
    let out = place.run(&settings, "out", "work", &events, Interrupt::default(), None).expect("finishes");
    assert!(events.said("train: 7 sequences of fewer than two known tokens are left out"));
    let card = std::fs::read_to_string(out.join("README.md")).expect("a card");
    assert!(card.contains("| train | 27 |") && card.contains("| 20 | 7 |"), "{card}");
    // Where notes may be crossed they are read with their neighbours.
    let events = Events::default();
    let crossed = PretrainConfig { cross_notes: true, framing: Framing::Note, ..settings };
    place.run(&crossed, "out", "work-2", &events, Interrupt::default(), None).expect("finishes");
    assert!(!events.said("left out"));
}

#[test]
fn inputs_that_cannot_work_are_refused_before_training() {
    let check = |settings: &PretrainConfig, spoil: &dyn Fn(&Workplace), expected: &[&str]| {
        let place = Workplace::new();
        spoil(&place);
        let error =
            place.run(settings, "out", "work", &NoEvents, Interrupt::default(), None).expect_err("refused");
        for part in expected {
            assert!(message(&error).contains(part), "{part} is not in: {}", message(&error));
        }
        assert!(contents(&place.root.join("out")).is_empty());
    };
    let with = |change: fn(&mut SpecialTokens)| {
        move |place: &Workplace| {
            let mut changed = specials();
            change(&mut changed);
            write_specials(&place.shards(), changed);
        }
    };
    let few = with(|s| s.vocab_size = 20);
    check(&config(), &few, &["train split, note note-0", "token id", "the vocabulary has 20 tokens"]);
    check(&config(), &with(|s| s.mask = None), &["special_tokens.json, column mask", "no mask token"]);
    check(&config(), &with(|s| s.pad = None), &["column pad", "no padding token"]);
    check(&config(), &with(|s| s.vocab_size = 5), &["vocabulary of 5 has no ordinary token"]);
    let empty = |p: &Workplace| write_split(&p.shards(), Split::Train, std::iter::empty());
    check(&config(), &empty, &["the train split has no notes", "stats.json"]);
    let single = |p: &Workplace| {
        write_split(&p.shards(), Split::Train, (0..9).map(|i| bare(i, &[7])));
    };
    check(
        &config(),
        &single,
        &["the train split has 9 notes of 9 tokens in all", "no sequence of at least 2"],
    );
    let unnamed = |p: &Workplace| std::fs::remove_file(p.shards().join("tokenizer.json")).expect("was there");
    let words = PretrainConfig { whole_words: true, ..config() };
    check(&words, &unnamed, &["tokenizer.json", "whole_words needs it"]);
}

#[test]
fn an_encoder_that_does_not_fit_is_refused_with_both_sides() {
    let place = Workplace::new();
    let encoder = run(&place, &PretrainConfig { epochs: 1, ..config() }, "encoder");
    let settings = PretrainConfig { encoder: None, ..config() };
    let refused = |settings: &PretrainConfig, expected: &[&str]| {
        let error = place
            .run(settings, "out", "work", &NoEvents, Interrupt::default(), Some(&encoder))
            .expect_err("refused");
        for part in expected {
            assert!(message(&error).contains(part), "{part} is not in: {}", message(&error));
        }
    };
    let long = PretrainConfig { sequence_length: 513, ..settings.clone() };
    refused(&long, &["sequence_length is 513", "at most 512 tokens"]);
    write_specials(&place.shards(), SpecialTokens { vocab_size: VOCABULARY + 1, ..specials() });
    refused(&settings, &["config.json", "45 token embeddings", "vocabulary of 46"]);
    write_specials(&place.shards(), SpecialTokens { pad: Some(1), unk: Some(0), ..specials() });
    refused(&settings, &["pads with token 0", "tokenizer with 1"]);

    // A table of another size than its config says.
    write_specials(&place.shards(), specials());
    let config = std::fs::read_to_string(encoder.join("config.json")).expect("a config");
    std::fs::write(encoder.join("config.json"), config.replace("\"vocab_size\": 45", "\"vocab_size\": 50"))
        .expect("written");
    refused(&settings, &["word_embeddings.weight is [45, 16], expected [50, 16]"]);
}

#[test]
fn fine_tuning_takes_the_encoder() -> Result<(), NnError> {
    let place = Workplace::new();
    let out = run(&place, &config(), "encoder");
    let config = plmicd_nn::ModelConfig { segment_length: 24, ..plmicd_nn::ModelConfig::default() };
    let (model, report) = plmicd_nn::PlmIcd::from_hf_encoder(&out, config, 3, 1, tch::Device::Cpu)?;
    assert!(report.missing.is_empty() && report.unexpected.iter().all(|name| name.starts_with("cls.")));
    let saved = read_safetensors(&out.join("model.safetensors"))?;
    for parameter in model.parameters().iter().filter(|parameter| !parameter.is_head) {
        assert!(parameter.tensor.equal(&saved[&parameter.name]), "{}", parameter.name);
    }
    let kinds = Pretrain::inputs().iter().map(|input| input.kinds).collect::<Vec<_>>();
    assert!(kinds[1].contains(&Pretrain::OUTPUT), "and can be pretrained further");
    Ok(())
}

#[test]
fn grows_with_its_vocabulary() {
    let place = Workplace::new();
    let first = run(&place, &PretrainConfig { epochs: 40, ..config() }, "first");
    // Two more ids, each of two old ones.
    let base_size = VOCABULARY;
    let extended = ExtendedVocabulary { base_size, pieces: vec![vec![6, 7], vec![8, 9, 9]] };
    extended.write(&place.shards()).expect("written");
    write_specials(&place.shards(), SpecialTokens { vocab_size: extended.size(), ..specials() });
    let mut settings = PretrainConfig { encoder: None, epochs: 1, ..config() };
    settings.optimizer.learning_rate = 1e-12;
    let events = Events::default();
    let go_on = |out: &str, encoder: &Utf8PathBuf, events: &Events| {
        place.run(&settings, out, &format!("{out}-work"), events, Interrupt::default(), Some(encoder))
    };
    let second = go_on("second", &first, &events).expect("finishes");
    assert!(events.said("extended from 45 to 47 ids"));
    let embeddings = |dir: &Utf8PathBuf| {
        let tensors = read_safetensors(&dir.join("model.safetensors")).expect("tensors");
        let name = tensors.keys().find(|name| name.ends_with("word_embeddings.weight")).expect("embeddings");
        tensors[name].shallow_clone()
    };
    let (old, new) = (embeddings(&first), embeddings(&second));
    assert_eq!(new.size()[0], 47);
    let close = |a: tch::Tensor, b: tch::Tensor| f64::try_from((a - b).abs().max()).expect("a number") < 1e-6;
    assert!(close(new.narrow(0, 0, 45), old.shallow_clone()));
    assert!(close(new.get(45), (old.get(6) + old.get(7)) / 2.0));
    assert!(close(new.get(46), (old.get(8) + old.get(9) * 2.0) / 3.0));

    // The grown encoder knows its vocabulary; one of another vocabulary is refused with both sides named.
    let events = Events::default();
    go_on("third", &second, &events).expect("finishes");
    assert!(!events.said("extended from"));
    ExtendedVocabulary { base_size, pieces: vec![vec![6], vec![7]] }.write(&second).expect("written");
    let wrong = message(&go_on("fourth", &second, &events).expect_err("another vocabulary"));
    assert!(wrong.contains("extended_vocabulary.json") && wrong.contains("45 to 47"), "{wrong}");
    ExtendedVocabulary { base_size: 50, pieces: vec![vec![6]] }.write(&place.shards()).expect("written");
    let wrong = message(&go_on("fifth", &first, &events).expect_err("too small an encoder"));
    assert!(wrong.contains("45 token embeddings") && wrong.contains("one of 50"), "{wrong}");
}
