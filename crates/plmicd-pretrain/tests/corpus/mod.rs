//! A tiny invented language as token shards: a note keeps to the words of one of four topics.

use std::collections::BTreeMap;
use std::sync::Mutex;

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_artifact::Digest;
use plmicd_data::{ShardWriter, SpecialTokens, Split, TokenizedNote, TrainingHistory};
use plmicd_pipeline::{Event, EventSink, Input, Interrupt, Runtime, Stage, StageContext, StageError};
use plmicd_pretrain::{EncoderShape, Family, Pretrain, PretrainConfig};

pub const VOCABULARY: usize = 45;
/// Ids 0 to 4 are special, 5 to 24 begin words, 25 to 44 go on.
const WORDS: i32 = 20;

/// A folder with shards, an output and a work folder.
pub struct Workplace {
    _dir: tempfile::TempDir,
    pub root: Utf8PathBuf,
}

impl Workplace {
    /// With 60 training and 20 dev notes.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = Utf8PathBuf::from_path_buf(dir.path().to_owned()).expect("UTF-8");
        let place = Self { _dir: dir, root };
        let shards = place.shards();
        std::fs::create_dir_all(&shards).expect("a folder");
        write_split(&shards, Split::Train, (0..60).map(note));
        write_split(&shards, Split::Dev, (1000..1020).map(note));
        write_specials(&shards, specials());
        std::fs::write(shards.join("tokenizer.json"), tokenizer()).expect("written");
        place
    }

    pub fn shards(&self) -> Utf8PathBuf {
        self.root.join("shards")
    }

    /// Runs the stage into `out`, with checkpoints in `work`.
    pub fn run(
        &self,
        config: &PretrainConfig,
        out: &str,
        work: &str,
        events: &dyn EventSink,
        interrupt: Interrupt,
        encoder: Option<&Utf8Path>,
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
        if let Some(dir) = encoder {
            inputs.insert("encoder".to_owned(), input("encoder", dir));
        }
        let runtime = Runtime { threads: 1, device: "cpu".to_owned(), ..Runtime::default() };
        let context = StageContext::new(inputs, out.clone(), work, runtime, events, interrupt);
        Pretrain::run(config, &context).map(|()| out)
    }
}

pub fn specials() -> SpecialTokens {
    SpecialTokens {
        cls: Some(2),
        sep: Some(3),
        pad: Some(0),
        mask: Some(4),
        unk: Some(1),
        vocab_size: VOCABULARY,
    }
}

pub fn write_specials(shards: &Utf8Path, specials: SpecialTokens) {
    specials.write(&shards.join(SpecialTokens::FILE)).expect("written");
}

pub fn write_split(shards: &Utf8Path, split: Split, notes: impl Iterator<Item = TokenizedNote>) {
    let _ = std::fs::remove_file(shards.join(format!("{split}-00000.parquet")));
    let mut writer = ShardWriter::create(shards, split, 1000).expect("a shard");
    for note in notes {
        writer.write(&note).expect("written");
    }
    writer.finish().expect("finished");
}

/// A WordPiece tokenizer with these ids.
fn tokenizer() -> String {
    let names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned).into_iter();
    let words = (0..WORDS).map(|word| format!("w{word}")).chain((0..WORDS).map(|word| format!("##p{word}")));
    let vocabulary: BTreeMap<String, i32> = names.chain(words).zip(0..).collect();
    let model =
        serde_json::json!({"type": "WordPiece", "continuing_subword_prefix": "##", "vocab": vocabulary});
    serde_json::json!({"model": model, "added_tokens": []}).to_string()
}

/// Note `i`: 16 to 60 tokens of its topic, five that begin words and five that go on.
pub fn note(i: i32) -> TokenizedNote {
    let random =
        |salt: i32| (i.wrapping_mul(7919).wrapping_add(salt.wrapping_mul(104_729)) >> 3).rem_euclid(1009);
    let length = 16 + random(50) % 45;
    let token = |at: i32| 5 + WORDS * (random(300 + at) % 2) + 5 * (i % 4) + random(100 + at) % 5;
    let tokens = (0..length).map(token).collect();
    TokenizedNote { note_id: format!("note-{i}"), tokens, labels: Vec::new(), words: length as u32 }
}

/// A note of these tokens.
pub fn bare(i: i32, tokens: &[i32]) -> TokenizedNote {
    TokenizedNote { note_id: format!("note-{i}"), tokens: tokens.to_vec(), labels: Vec::new(), words: 1 }
}

/// A model and a schedule that learn the language in seconds.
pub fn config() -> PretrainConfig {
    let mut config = PretrainConfig {
        sequence_length: 24,
        epochs: 3,
        batch_size: 8,
        encoder: Some(shape(Family::Bert)),
        ..PretrainConfig::default()
    };
    config.optimizer.learning_rate = 5e-3;
    config
}

pub fn shape(model_type: Family) -> EncoderShape {
    EncoderShape {
        model_type,
        hidden_size: 16,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        intermediate_size: 32,
    }
}

pub fn history(encoder: &Utf8Path) -> TrainingHistory {
    TrainingHistory::read(&encoder.join(TrainingHistory::FILE)).expect("a history")
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

impl Events {
    /// Whether a message has this part.
    pub fn said(&self, part: &str) -> bool {
        self.messages.lock().expect("not poisoned").iter().any(|message| message.contains(part))
    }
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
