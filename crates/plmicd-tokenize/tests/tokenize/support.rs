//! Runs the stages in temporary folders.

use std::collections::BTreeMap;

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_artifact::Digest;
use plmicd_data::{CodeSystem, Label, LabelSpace, Note, NoteWriter, Split};
use plmicd_pipeline::{Input, Interrupt, NoEvents, Runtime, Stage, StageContext, StageError};

/// A temporary folder.
pub struct Dir {
    _dir: Option<tempfile::TempDir>,
    pub path: Utf8PathBuf,
}

impl Dir {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::try_from(dir.path().to_owned()).unwrap();
        Self { _dir: Some(dir), path }
    }

    /// A folder that stays.
    pub fn at(path: &Utf8Path) -> Self {
        Self { _dir: None, path: path.to_owned() }
    }

    /// Name and digest of every file.
    pub fn digests(&self) -> BTreeMap<String, String> {
        fs_err::read_dir(&self.path)
            .unwrap()
            .map(|entry| {
                let path = Utf8PathBuf::try_from(entry.unwrap().path()).unwrap();
                let digest = Digest::of(&fs_err::read(&path).unwrap()).to_string();
                (path.file_name().unwrap().to_owned(), digest)
            })
            .collect()
    }
}

/// A `notes` artifact with one code a note: `A`, `B`, `A`, …
pub fn notes(rows: &[(Split, &str)]) -> Dir {
    let dir = Dir::new();
    let label = |code: &str| Label {
        code: code.to_owned(),
        system: CodeSystem::Other,
        description: None,
        description_of: None,
    };
    LabelSpace::new(vec![label("A"), label("B")]).unwrap().write(&dir.path.join("labels.json")).unwrap();
    let mut writer = NoteWriter::create(dir.path.join("notes.parquet")).unwrap();
    for (i, (split, text)) in rows.iter().enumerate() {
        let codes = if i % 2 == 0 { vec!["A".to_owned()] } else { vec!["B".to_owned(), "A".to_owned()] };
        let note = Note {
            note_id: format!("n{i}"),
            subject_id: format!("s{i}"),
            split: *split,
            text: (*text).to_owned(),
            codes,
        };
        writer.write(&note).unwrap();
    }
    writer.finish().unwrap();
    dir
}

/// Invented notes, enough of them to learn from.
pub fn corpus() -> Vec<(Split, String)> {
    const WORDS: [&str; 24] = [
        "patient",
        "admitted",
        "with",
        "hypertension",
        "hypotension",
        "hyperglycemia",
        "diabetes",
        "mellitus",
        "pneumonia",
        "pneumothorax",
        "cardiac",
        "cardiomyopathy",
        "stable",
        "unstable",
        "discharged",
        "discharge",
        "Café",
        "10mg",
        "daily",
        "heparin",
        "insulin",
        "was",
        "given",
        "and",
    ];
    (0..200_usize)
        .map(|i| {
            let words: Vec<&str> =
                (0..40).map(|j| WORDS[(i * 7 + j * j * 5 + i * j) % WORDS.len()]).collect();
            let split = if i % 10 == 9 { Split::Dev } else { Split::Train };
            (split, words.join(" "))
        })
        .collect()
}

pub fn corpus_dir() -> Dir {
    let corpus = corpus();
    let rows: Vec<(Split, &str)> = corpus.iter().map(|(split, text)| (*split, text.as_str())).collect();
    notes(&rows)
}

/// Runs a stage; inputs are (slot, kind, folder).
pub fn run<S: Stage>(
    config: &S::Config,
    inputs: &[(&str, &str, &Utf8Path)],
    threads: usize,
) -> Result<Dir, StageError> {
    let (out, work) = (Dir::new(), Dir::new());
    let inputs = inputs
        .iter()
        .map(|(slot, kind, dir)| {
            let digest = Digest::of(b"test");
            let input = Input { kind: (*kind).to_owned(), digest, dir: (*dir).to_owned(), restricted: false };
            ((*slot).to_owned(), input)
        })
        .collect();
    let runtime = Runtime { threads, ..Runtime::default() };
    let context = StageContext::new(inputs, &out.path, &work.path, runtime, &NoEvents, Interrupt::default());
    S::run(config, &context)?;
    Ok(out)
}

/// The folder of published tokenizers, if it is here.
pub fn published(name: &str) -> Option<Utf8PathBuf> {
    let path = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/tokenizers").join(name);
    if !path.exists() {
        eprintln!("skipped: {path} is not here");
        return None;
    }
    Some(path)
}
