//! The stage with a small random model.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_artifact::Digest;
use plmicd_data::{CodeSystem, Label, LabelSpace, Scores, ShardWriter, SpecialTokens, Split, TokenizedNote};
use plmicd_nn::{Attention, EncoderConfig, ModelConfig, ModelType, Padding, PlmIcd, Pooling, Precision};
use plmicd_pipeline::{
    Event, EventSink, Input, Interrupt, NoEvents, Runtime, Stage, StageContext, StageError,
};
use plmicd_predict::{Predict, PredictConfig, Scorer};
use tch::Device;

const VOCABULARY: usize = 50;
const CODES: usize = 7;
const SPECIALS: SpecialTokens = SpecialTokens {
    cls: Some(2),
    sep: Some(3),
    pad: Some(0),
    mask: None,
    unk: Some(1),
    vocab_size: VOCABULARY,
};

fn labels(codes: usize) -> LabelSpace {
    let label = |i: usize| Label {
        code: format!("{}", 100 + i),
        system: CodeSystem::Icd9Diagnosis,
        description: None,
        description_of: None,
    };
    LabelSpace::new((0..codes).map(label).collect()).expect("unique")
}

fn note(i: usize) -> TokenizedNote {
    let length = (i * 37) % 90;
    let tokens = (0..length).map(|at| 5 + ((i * 13 + at * 7) % 45) as i32).collect();
    TokenizedNote {
        note_id: format!("note-{i}"),
        tokens,
        labels: vec![(i % CODES) as i32],
        words: length as u32,
    }
}

struct Workplace {
    _dir: tempfile::TempDir,
    root: Utf8PathBuf,
}

impl Workplace {
    fn new(padding: Padding) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = Utf8PathBuf::from_path_buf(dir.path().to_owned()).expect("UTF-8");
        let (model, shards) = (root.join("model"), root.join("shards"));
        for folder in [&model, &shards] {
            std::fs::create_dir(folder).expect("a folder");
            labels(CODES).write(&folder.join(LabelSpace::FILE)).expect("written");
            SPECIALS.write(&folder.join(SpecialTokens::FILE)).expect("written");
        }
        let encoder =
            EncoderConfig { initializer_range: 0.2, ..EncoderConfig::small(VOCABULARY as i64, 16, 2, 2) };
        let config = ModelConfig { segment_length: 16, max_length: 64, padding, ..ModelConfig::default() };
        let fresh = PlmIcd::new(&encoder, config, CODES, 1, Device::Cpu).expect("a model");
        fresh.save(&model).expect("saved");
        for (split, count) in [(Split::Dev, 30), (Split::Test, 1100)] {
            let mut writer = ShardWriter::create(&shards, split, 400).expect("a shard");
            (0..count).for_each(|i| writer.write(&note(i)).expect("written"));
            writer.finish().expect("finished");
        }
        Self { _dir: dir, root }
    }

    fn run(
        &self,
        config: &PredictConfig,
        events: &dyn EventSink,
        interrupt: Interrupt,
    ) -> Result<Utf8PathBuf, StageError> {
        let input = |kind: &str| Input {
            kind: kind.to_owned(),
            digest: Digest::of(kind.as_bytes()),
            dir: self.root.join(kind),
            restricted: false,
        };
        let inputs =
            BTreeMap::from(["model", "shards"].map(|name| (name.to_owned(), Input { ..input(name) })));
        let out = self.root.join("out");
        let _ = std::fs::remove_dir_all(&out);
        std::fs::create_dir(&out).expect("a folder");
        let runtime = Runtime { threads: 1, device: "cpu".to_owned(), ..Runtime::default() };
        let context =
            StageContext::new(inputs, out.clone(), self.root.join("work"), runtime, events, interrupt);
        Predict::run(config, &context).map(|()| out)
    }

    fn error(&self, config: &PredictConfig) -> String {
        let error = self.run(config, &NoEvents, Interrupt::default()).expect_err("refused");
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error}: {cause}")
    }
}

fn read(out: &Utf8Path, split: Split) -> Scores {
    Scores::read(out.join(Scores::file_name(split))).expect("valid scores")
}

#[test]
fn scores_come_in_shard_order_and_equal_those_of_each_note_alone() {
    for padding in [Padding::Mask, Padding::Attend] {
        let place = Workplace::new(padding);
        let config = PredictConfig { precision: Precision::Fp32, ..PredictConfig::default() };
        let out = place.run(&config, &NoEvents, Interrupt::default()).expect("scored");
        assert_eq!(LabelSpace::read(&out.join(LabelSpace::FILE)).expect("labels"), labels(CODES));
        let scorer = Scorer::load(&place.root.join("model"), Device::Cpu).expect("loads");
        for (split, count) in [(Split::Dev, 30), (Split::Test, 1100)] {
            let scores = read(&out, split);
            assert_eq!(scores.note_ids, (0..count).map(|i| format!("note-{i}")).collect::<Vec<_>>());
            for i in (0..count).step_by(29) {
                let alone = scorer.score_note(&note(i).tokens).expect("scored");
                let row = &scores.scores[i * CODES..(i + 1) * CODES];
                let apart = alone.iter().zip(row).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(apart < 1e-6, "note {i} differs by {apart}");
                assert_eq!(scores.truth[i], note(i).labels);
            }
            let distinct: std::collections::BTreeSet<u32> =
                scores.scores.iter().map(|s| s.to_bits()).collect();
            assert!(distinct.len() > 10 * CODES, "a model that does not read would give few values");
        }
    }
}

#[test]
fn batch_size_moves_scores_by_rounding_only_and_a_repeat_not_at_all() {
    let place = Workplace::new(Padding::Mask);
    let dev = |batch_tokens| {
        let config = PredictConfig { splits: vec![Split::Dev], batch_tokens, ..PredictConfig::default() };
        let out = place.run(&config, &NoEvents, Interrupt::default()).expect("scored");
        assert!(!out.join("test.parquet").exists());
        (read(&out, Split::Dev), std::fs::read(out.join("dev.parquet")).expect("a file"))
    };
    let (large, bytes) = dev(16_384);
    assert_eq!(dev(16_384).1, bytes);
    let (small, _) = dev(1);
    assert!(large.scores.iter().zip(&small.scores).all(|(a, b)| (a - b).abs() < 1e-6));
}

#[test]
fn another_label_space_or_vocabulary_is_refused() {
    let place = Workplace::new(Padding::Mask);
    let shards = place.root.join("shards");
    labels(CODES + 1).write(&shards.join(LabelSpace::FILE)).expect("written");
    let message = place.error(&PredictConfig::default());
    assert!(message.contains("its label 7 is `107`, but the model's is none"), "{message}");
    labels(CODES).write(&shards.join(LabelSpace::FILE)).expect("written");
    SpecialTokens { vocab_size: VOCABULARY + 1, ..SPECIALS }
        .write(&shards.join(SpecialTokens::FILE))
        .expect("written");
    let message = place.error(&PredictConfig::default());
    assert!(message.contains("vocabulary of 51 tokens"), "{message}");
}

#[test]
fn shards_of_another_tokenizer_are_refused() {
    let place = Workplace::new(Padding::Mask);
    for (folder, vocabulary) in [("model", r#"{"a": 5, "b": 6}"#), ("shards", r#"{"a": 6, "b": 5}"#)] {
        let text = format!("{{\"model\": {{\"vocab\": {vocabulary}}}}}");
        std::fs::write(place.root.join(folder).join("tokenizer.json"), text).expect("written");
    }
    let message = place.error(&PredictConfig::default());
    assert!(message.contains("tokenizer.json") && message.contains("id 5 is another token"), "{message}");
}

#[test]
fn a_missing_split_shows_before_anything_is_scored() {
    let place = Workplace::new(Padding::Mask);
    let config = PredictConfig { splits: vec![Split::Dev, Split::Train], ..PredictConfig::default() };
    let message = place.error(&config);
    assert!(message.contains("train-00000.parquet"), "{message}");
    assert!(!place.root.join("out/dev.parquet").exists());
}

#[test]
fn a_token_outside_the_vocabulary_names_the_note() {
    let place = Workplace::new(Padding::Mask);
    let mut writer = ShardWriter::create(place.root.join("shards"), Split::Dev, 10).expect("a shard");
    writer.write(&TokenizedNote { tokens: vec![5, 50], ..note(3) }).expect("written");
    writer.finish().expect("finished");
    let message = place.error(&PredictConfig::default());
    assert!(message.contains("note note-3 of the dev split") && message.contains("token id 50"), "{message}");
}

/// Raises the interrupt at the first progress.
struct Stopper(Interrupt);

impl EventSink for Stopper {
    fn send(&self, event: Event) {
        if matches!(event, Event::Progress { .. }) {
            self.0.raise();
        }
    }
}

#[test]
fn an_interrupt_stops_it() {
    let place = Workplace::new(Padding::Mask);
    let interrupt = Interrupt::default();
    let stopped = place.run(&PredictConfig::default(), &Stopper(interrupt.clone()), interrupt);
    assert!(matches!(stopped, Err(StageError::Interrupted)));
}

/// Keeps how many notes of each split were said to be scored first, and raises the interrupt beyond 600.
#[derive(Default)]
struct Watcher {
    interrupt: Interrupt,
    first: std::sync::Mutex<BTreeMap<String, u64>>,
}

impl EventSink for Watcher {
    fn send(&self, event: Event) {
        if let Event::Progress { phase, done, .. } = event {
            self.first.lock().expect("sound").entry(phase).or_insert(done);
            if done > 600 {
                self.interrupt.raise();
            }
        }
    }
}

#[test]
fn an_interrupted_stage_goes_on_and_gives_the_same_bytes() {
    let config = PredictConfig::default();
    let bytes = |out: &Utf8Path| std::fs::read(out.join(Scores::file_name(Split::Test))).expect("scores");
    let whole = Workplace::new(Padding::Mask);
    let expected = bytes(&whole.run(&config, &NoEvents, Interrupt::default()).expect("scored"));
    let place = Workplace::new(Padding::Mask);
    let watcher = Watcher::default();
    let stopped = place.run(&config, &watcher, watcher.interrupt.clone());
    assert!(matches!(stopped, Err(StageError::Interrupted)));
    let again = Watcher::default();
    let out = place.run(&config, &again, Interrupt::default()).expect("scored");
    assert_eq!(bytes(&out), expected);
    let first = again.first.lock().expect("sound");
    assert!(first["scoring test notes"] > 512 && !first.contains_key("scoring dev notes"), "{first:?}");
}

#[test]
fn every_pooling_scores_a_note_alike_alone_and_among_others() {
    use Attention::{BertXml, Cross, Laat, None};
    for (family, pooling, attention) in [
        (ModelType::Bert, Pooling::SegmentMax, BertXml),
        (ModelType::Bert, Pooling::ClsMean, None),
        (ModelType::Roberta, Pooling::ClsMax, None),
        (ModelType::Bert, Pooling::Hierarchical, None),
        (ModelType::Bert, Pooling::Whole, Cross),
        (ModelType::Longformer, Pooling::Whole, Laat),
    ] {
        let case = format!("{family} {pooling:?} {attention:?}");
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folder = Utf8Path::from_path(dir.path()).expect("UTF-8");
        labels(CODES).write(&folder.join(LabelSpace::FILE)).expect("written");
        SPECIALS.write(&folder.join(SpecialTokens::FILE)).expect("written");
        let encoder = EncoderConfig {
            model_type: family,
            initializer_range: 0.2,
            ..EncoderConfig::small(VOCABULARY as i64, 16, 2, 2)
        };
        let config = ModelConfig {
            segment_length: 16,
            max_length: 64,
            pooling,
            attention,
            padding: Padding::Mask,
            ..ModelConfig::default()
        };
        let fresh = PlmIcd::new(&encoder, config, CODES, 1, Device::Cpu).expect("a model");
        fresh.save(folder).expect("saved");

        let scorer = Scorer::load(folder, Device::Cpu).expect("loads");
        // Some are longer than what is read, one is empty.
        let notes: Vec<Vec<i32>> = (0..40).map(|i| note(i).tokens).collect();
        let together = scorer.score_notes(&notes, 200, |_| true).expect("scored").expect("not stopped");
        for (tokens, row) in notes.iter().zip(together.chunks(CODES)) {
            let alone = scorer.score_note(tokens).expect("scored");
            for (a, b) in alone.iter().zip(row) {
                assert!((a - b).abs() < 1e-5, "{case}, {} tokens: {a} and {b}", tokens.len());
            }
        }
        let distinct: std::collections::BTreeSet<u32> =
            together.iter().map(|score| score.to_bits()).collect();
        assert!(distinct.len() > 40, "{case}: {} scores", distinct.len());
    }
}
