//! The stage `embed`: same seed, same bytes; words of one subject come out near each other.

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_artifact::Digest;
use plmicd_data::{EmbedStats, ShardWriter, SpecialTokens, Split, TokenizedNote, WordVectors};
use plmicd_embed::{Embed, EmbedConfig, EmbedModel};
use plmicd_pipeline::{
    Event, EventSink, Input, Interrupt, NoEvents, Runtime, Stage, StageContext, StageError,
};
use safetensors::SafeTensors;

const SUBJECTS: usize = 6;
const WORDS: usize = 10;
const EPOCHS: usize = 12;
/// Padding, unknown, words of subjects, a word that is everywhere, one that is nowhere.
const VOCABULARY: usize = 2 + SUBJECTS * WORDS + 2;
const EVERYWHERE: i32 = 2 + (SUBJECTS * WORDS) as i32;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Utf8Path {
        Utf8Path::from_path(self.0.path()).unwrap()
    }
}

/// Notes about one subject each: its words, with a word between them that all notes share.
fn shards() -> Folder {
    let folder = Folder::new();
    let mut writer = ShardWriter::create(folder.path(), Split::Train, 100).unwrap();
    let mut state = 1u64;
    let mut draw = |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    for note in 0..600 {
        let subject = note % SUBJECTS;
        let tokens = (0..60).map(|_| match draw(4) {
            0 => EVERYWHERE,
            _ => (2 + subject * WORDS + draw(WORDS)) as i32,
        });
        let note = TokenizedNote {
            note_id: format!("n{note}"),
            tokens: tokens.collect(),
            labels: vec![],
            words: 60,
        };
        writer.write(&note).unwrap();
    }
    writer.finish().unwrap();
    let specials =
        SpecialTokens { pad: Some(0), unk: Some(1), vocab_size: VOCABULARY, ..SpecialTokens::default() };
    specials.write(&folder.path().join(SpecialTokens::FILE)).unwrap();
    fs_err::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    folder
}

/// Raises an interrupt once the second epoch has begun.
struct StopInSecondEpoch(Interrupt);

impl EventSink for StopInSecondEpoch {
    fn send(&self, event: Event) {
        if let Event::Progress { done, .. } = event
            && done > 600 * 60
        {
            self.0.raise();
        }
    }
}

fn run(
    config: &EmbedConfig,
    shards: &Utf8Path,
    work: &Utf8Path,
    threads: usize,
    stop: bool,
) -> Result<Folder, StageError> {
    let out = Folder::new();
    let input = Input {
        kind: "token-shards".to_owned(),
        digest: Digest::of(b"test"),
        dir: shards.to_owned(),
        restricted: false,
    };
    let inputs = [("shards".to_owned(), input)].into_iter().collect();
    let runtime = Runtime { threads, ..Runtime::default() };
    let interrupt = Interrupt::default();
    let stopping = StopInSecondEpoch(interrupt.clone());
    let sink: &dyn EventSink = if stop { &stopping } else { &NoEvents };
    let context = StageContext::new(inputs, out.path(), work, runtime, sink, interrupt);
    Embed::run(config, &context)?;
    Ok(out)
}

fn learn(config: &EmbedConfig, shards: &Utf8Path, threads: usize) -> Folder {
    run(config, shards, Folder::new().path(), threads, false).unwrap()
}

fn bytes(folder: &Folder) -> Vec<u8> {
    fs_err::read(folder.path().join(WordVectors::FILE)).unwrap()
}

fn vectors(folder: &Folder) -> Vec<Vec<f32>> {
    let bytes = bytes(folder);
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor(WordVectors::TENSOR).unwrap();
    let numbers: Vec<f32> =
        view.data().as_chunks::<4>().0.iter().map(|number| f32::from_le_bytes(*number)).collect();
    assert_eq!(view.shape()[0], VOCABULARY);
    numbers.chunks(view.shape()[1]).map(<[f32]>::to_vec).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn config(model: EmbedModel) -> EmbedConfig {
    // Every word here is far more frequent than in a real text: none is left out.
    EmbedConfig {
        model,
        dimensions: 20,
        epochs: EPOCHS as u32,
        learning_rate: 0.05,
        subsample: 0.0,
        ..EmbedConfig::default()
    }
}

#[test]
fn words_of_one_subject_come_out_nearest_to_each_other() {
    let shards = shards();
    for model in [EmbedModel::SkipGram, EmbedModel::Cbow] {
        for strands in [1, 8] {
            let out = learn(&EmbedConfig { strands, ..config(model) }, shards.path(), 2);
            let vectors = vectors(&out);
            let words = 2..2 + SUBJECTS * WORDS;
            let mut right = 0;
            for word in words.clone() {
                let mut others: Vec<usize> = words.clone().filter(|other| *other != word).collect();
                let nearness = |other: usize| cosine(&vectors[word], &vectors[other]);
                others.sort_by(|a, b| nearness(*b).total_cmp(&nearness(*a)));
                let same = |other: &&usize| (**other - 2) / WORDS == (word - 2) / WORDS;
                right += others[..WORDS - 1].iter().filter(same).count();
            }
            let share = right as f64 / (SUBJECTS * WORDS * (WORDS - 1)) as f64;
            assert!(share > 0.95, "{model:?} in {strands} strands: {share}");
            let stats = EmbedStats::read(&out.path().join(EmbedStats::FILE)).unwrap();
            assert_eq!((stats.words, stats.distinct, stats.losses.len()), (36_000, 61, EPOCHS));
            // Vectors follow the subject of the note at hand, the more the higher the rate: the loss need not fall as the
            // rate does, but it stays well below that of vectors that tell nothing, each true and drawn word at even odds.
            let uninformed = (1 + EmbedConfig::default().negative) as f64 * std::f64::consts::LN_2;
            assert!(stats.losses.iter().all(|loss| *loss < uninformed), "{:?}", stats.losses);
            assert!(stats.losses[EPOCHS - 1] < uninformed / 2.0, "{:?}", stats.losses);
        }
    }
}

#[test]
fn same_seed_same_bytes_whatever_the_threads() {
    let shards = shards();
    for model in [EmbedModel::SkipGram, EmbedModel::Cbow] {
        let config = EmbedConfig { epochs: 2, ..config(model) };
        let first = learn(&config, shards.path(), 1);
        assert!(bytes(&first) == bytes(&learn(&config, shards.path(), 4)));
        let other = EmbedConfig { seed: 2, ..config };
        assert!(bytes(&first) != bytes(&learn(&other, shards.path(), 4)));
        // Padding has no vector; a word that never occurs keeps the one it started with.
        let vectors = vectors(&first);
        assert!(vectors[0].iter().all(|value| *value == 0.0));
        assert!(vectors[VOCABULARY - 1].iter().any(|value| *value != 0.0));
        assert!(first.path().join("tokenizer.json").exists());
    }
}

#[test]
fn stopped_and_run_again_equals_uninterrupted() {
    let shards = shards();
    let config = EmbedConfig { epochs: 3, ..config(EmbedModel::SkipGram) };
    let whole = learn(&config, shards.path(), 2);
    let work = Folder::new();
    let stopped = run(&config, shards.path(), work.path(), 2, true);
    assert!(matches!(stopped, Err(StageError::Interrupted)));
    assert!(work.path().join("checkpoint.json").exists());
    let resumed = run(&config, shards.path(), work.path(), 2, false).unwrap();
    assert!(bytes(&whole) == bytes(&resumed));
    let files = |folder: &Folder| EmbedStats::read(&folder.path().join(EmbedStats::FILE)).unwrap();
    assert_eq!(files(&whole), files(&resumed));
}

#[test]
fn vectors_that_run_away_are_not_published() {
    let folder = shards();
    let out = Folder::new();
    let config = EmbedConfig { learning_rate: 0.9, dimensions: 100, ..config(EmbedModel::SkipGram) };
    let message = run(&config, folder.path(), out.path(), 2, false).err().unwrap().to_string();
    assert!(
        message.contains("no longer finite") && message.contains("learning_rate = 0.9 is too high"),
        "{message}"
    );
}

#[test]
fn notes_without_words_are_refused() {
    let folder = shards();
    let config = EmbedConfig { min_count: 1_000_000, ..config(EmbedModel::SkipGram) };
    let refused = run(&config, folder.path(), Folder::new().path(), 1, false).err().unwrap();
    assert!(refused.to_string().contains("nothing to learn from"), "{refused}");
    let path: Utf8PathBuf = folder.path().join(SpecialTokens::FILE);
    let specials = SpecialTokens { pad: Some(0), vocab_size: 10, ..SpecialTokens::default() };
    specials.write(&path).unwrap();
    let refused = run(&EmbedConfig::default(), folder.path(), Folder::new().path(), 1, false).err().unwrap();
    assert!(refused.to_string().contains("the vocabulary has 10 tokens"), "{refused}");
}
