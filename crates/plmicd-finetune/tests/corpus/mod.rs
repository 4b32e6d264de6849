//! A tiny invented corpus as token shards: a code is present where one of its two tokens occurs.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::sync::Mutex;

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_artifact::Digest;
use plmicd_data::{
    CodeSystem, Label, LabelSpace, ShardWriter, SpecialTokens, Split, TokenizedNote, TrainingHistory,
};
use plmicd_finetune::{EncoderShape, Finetune, FinetuneConfig};
use plmicd_pipeline::{Event, EventSink, Input, Interrupt, Runtime, Stage, StageContext, StageError};

pub const VOCABULARY: i32 = 60;
pub const CODES: i32 = 6;

/// libtorch's generator is one for the whole process: tests that draw from it must not run at the same time.
pub fn alone() -> std::sync::MutexGuard<'static, ()> {
    static GENERATOR: Mutex<()> = Mutex::new(());
    GENERATOR.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A folder with shards, an output and a work folder.
pub struct Workplace {
    _dir: tempfile::TempDir,
    pub root: Utf8PathBuf,
}

impl Workplace {
    /// With 96 training, 40 dev and 40 test notes.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = Utf8PathBuf::from_path_buf(dir.path().to_owned()).expect("UTF-8");
        let place = Self { _dir: dir, root };
        let shards = place.shards();
        std::fs::create_dir_all(&shards).expect("a folder");
        for (split, first, count) in [(Split::Train, 0, 96), (Split::Dev, 1000, 40), (Split::Test, 2000, 40)]
        {
            write_split(&shards, split, (first..first + count).map(note));
        }
        let label = |i: i32| Label {
            code: format!("{}", 100 + i),
            system: CodeSystem::Icd9Diagnosis,
            description: Some(format!("invented {i}")),
            description_of: None,
        };
        let labels = LabelSpace::new((0..CODES).map(label).collect()).expect("unique");
        labels.write(&shards.join(LabelSpace::FILE)).expect("written");
        write_specials(&shards, VOCABULARY as usize);
        std::fs::write(shards.join("tokenizer.json"), "{}").expect("written");
        let tokens: Vec<Vec<i32>> = (0..CODES).map(|code| vec![10 + 2 * code, 11 + 2 * code]).collect();
        let text = format!("{{\"schema\":1,\"tokens\":{tokens:?}}}");
        std::fs::write(shards.join("label_tokens.json"), text).expect("written");
        place
    }

    pub fn shards(&self) -> Utf8PathBuf {
        self.root.join("shards")
    }

    /// Runs the stage into `out`, with checkpoints in `work`.
    pub fn run(
        &self,
        config: &FinetuneConfig,
        out: &str,
        work: &str,
        events: &dyn EventSink,
        interrupt: Interrupt,
    ) -> Result<Utf8PathBuf, StageError> {
        self.run_with(config, out, work, events, interrupt, None)
    }

    /// The same with an encoder wired.
    pub fn run_with(
        &self,
        config: &FinetuneConfig,
        out: &str,
        work: &str,
        events: &dyn EventSink,
        interrupt: Interrupt,
        encoder: Option<&Utf8Path>,
    ) -> Result<Utf8PathBuf, StageError> {
        let wired: Vec<_> = encoder.into_iter().map(|dir| ("encoder", "hf-model", dir)).collect();
        self.run_wired(config, out, work, events, interrupt, &wired)
    }

    /// The same with these inputs beside the shards: slot, kind, folder.
    pub fn run_wired(
        &self,
        config: &FinetuneConfig,
        out: &str,
        work: &str,
        events: &dyn EventSink,
        interrupt: Interrupt,
        wired: &[(&str, &str, &Utf8Path)],
    ) -> Result<Utf8PathBuf, StageError> {
        let out = self.root.join(out);
        let work = self.root.join(work);
        let _ = std::fs::remove_dir_all(&out);
        std::fs::create_dir_all(&out).expect("a folder");
        std::fs::create_dir_all(&work).expect("a folder");
        let input = |kind: &str, dir: &Utf8Path| Input {
            kind: kind.to_owned(),
            digest: Digest::of(dir.as_str().as_bytes()),
            dir: dir.to_owned(),
            restricted: false,
        };
        let mut inputs = BTreeMap::from([("shards".to_owned(), input("token-shards", &self.shards()))]);
        for (slot, kind, dir) in wired {
            inputs.insert((*slot).to_owned(), input(kind, dir));
        }
        let runtime = Runtime { threads: 1, device: "cpu".to_owned(), ..Runtime::default() };
        let context = StageContext::new(inputs, out.clone(), work, runtime, events, interrupt);
        Finetune::run(config, &context).map(|()| out)
    }
}

pub fn write_specials(shards: &Utf8Path, vocab_size: usize) {
    let specials =
        SpecialTokens { cls: Some(2), sep: Some(3), pad: Some(0), mask: Some(4), unk: Some(1), vocab_size };
    specials.write(&shards.join(SpecialTokens::FILE)).expect("written");
}

pub fn write_split(shards: &Utf8Path, split: Split, notes: impl Iterator<Item = TokenizedNote>) {
    let mut writer = ShardWriter::create(shards, split, 50).expect("a shard");
    for note in notes {
        writer.write(&note).expect("written");
    }
    writer.finish().expect("finished");
}

/// Note `i`: filler tokens from 30 on, and among them tokens of its codes.
pub fn note(i: i32) -> TokenizedNote {
    let random =
        |salt: i32| (i.wrapping_mul(7919).wrapping_add(salt.wrapping_mul(104_729)) >> 3).rem_euclid(1009);
    let labels: Vec<i32> = (0..CODES).filter(|&code| random(code) % 3 == 0).collect();
    let length = 8 + random(50) % 40;
    let mut tokens: Vec<i32> = (0..length).map(|at| 30 + random(100 + at) % 30).collect();
    for &code in &labels {
        let place = (random(200 + code) % length) as usize;
        tokens.insert(place, 10 + 2 * code + random(300 + code) % 2);
    }
    TokenizedNote { note_id: format!("note-{i}"), tokens, labels, words: length as u32 }
}

/// A model and a schedule that learn the corpus in a second.
pub fn config() -> FinetuneConfig {
    let mut config = FinetuneConfig {
        max_length: 48,
        segment_length: 16,
        epochs: 3,
        batch_size: 4,
        encoder: Some(EncoderShape {
            hidden_size: 16,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            intermediate_size: 32,
        }),
        ..FinetuneConfig::default()
    };
    config.optimizer.learning_rate = 3e-3;
    config.optimizer.head_learning_rate = Some(2e-2);
    config
}

pub fn history(model: &Utf8Path) -> TrainingHistory {
    TrainingHistory::read(&model.join(TrainingHistory::FILE)).expect("a history")
}

/// Names and bytes of all files of a folder, sorted.
pub fn contents(folder: &Utf8Path) -> BTreeMap<String, Vec<u8>> {
    let entries = folder.read_dir_utf8().expect("a folder").map(|entry| entry.expect("an entry").into_path());
    entries
        .map(|path| (path.file_name().unwrap_or("").to_owned(), std::fs::read(&path).expect("a file")))
        .collect()
}

/// Collects warnings and notes; raises the interrupt at the `stop_at`th metrics event.
#[derive(Default)]
pub struct Events {
    pub messages: Mutex<Vec<String>>,
    pub seen: Mutex<usize>,
    pub stop_at: Option<usize>,
    pub interrupt: Interrupt,
}

impl EventSink for Events {
    fn send(&self, event: Event) {
        match event {
            Event::Warning { message } | Event::Note { message } => {
                self.messages.lock().expect("not poisoned").push(message);
            }
            Event::Metrics { .. } => {
                let mut seen = self.seen.lock().expect("not poisoned");
                *seen += 1;
                if Some(*seen) == self.stop_at {
                    self.interrupt.raise();
                }
            }
            _ => {}
        }
    }
}
