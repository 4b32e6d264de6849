//! Sources: data from outside the store, known by the digest of their files.

use std::collections::BTreeMap;
use std::sync::Mutex;

use camino::{Utf8Path, Utf8PathBuf};
use plmicd_artifact::{FolderMark, Store, StoreError};

use crate::pipeline::{Pipeline, PipelineSource};
use crate::registry::Registry;
use crate::stage::{BadInput, Input};

/// Why a source cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The variable that names its folder is not set.
    #[error(
        "source `{source_name}` ({kind}) takes its folder from the environment variable {variable}, which is not set\n\
         hint: {help}"
    )]
    Variable {
        /// Name in the pipeline file.
        source_name: String,
        /// Kind of source.
        kind: String,
        /// The variable.
        variable: String,
        /// What should lie there, and where to get it.
        help: &'static str,
    },
    /// Its folder does not exist or is not a folder.
    #[error("source `{source_name}` ({kind}): {}\nhint: {help}", no_folder(.path))]
    NoFolder {
        /// Name in the pipeline file.
        source_name: String,
        /// Kind of source.
        kind: String,
        /// Where it was looked for.
        path: Utf8PathBuf,
        /// What should lie there, and where to get it.
        help: &'static str,
    },
    /// A file is missing.
    #[error("source `{source_name}`: {problem}")]
    Files {
        /// Name in the pipeline file.
        source_name: String,
        /// Which file, and what was expected.
        problem: Box<BadInput>,
    },
    /// The kind is not registered in this build.
    #[error("no kind of source is called `{0}`")]
    UnknownKind(String),
    /// Reading failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn no_folder(path: &Utf8Path) -> String {
    match path.is_file() {
        true => format!("{path} is a file; expected the folder that it is in"),
        false => format!("there is no folder {path}"),
    }
}

/// Digests of the sources of one pipeline, each read once.
pub struct Sources<'a> {
    pipeline: &'a Pipeline,
    store: &'a Store,
    registry: &'a Registry,
    known: Mutex<BTreeMap<String, Input>>,
    progress: &'a (dyn Fn(&str, u64, u64) + Sync),
}

impl<'a> Sources<'a> {
    /// `progress` gets the source's name and the bytes done and to do, while files are read.
    pub fn new(
        pipeline: &'a Pipeline,
        store: &'a Store,
        registry: &'a Registry,
        progress: &'a (dyn Fn(&str, u64, u64) + Sync),
    ) -> Self {
        Self { pipeline, store, registry, known: Mutex::new(BTreeMap::new()), progress }
    }

    /// The source as an input.
    pub fn input(&self, name: &str) -> Result<Input, SourceError> {
        if let Some(input) = self.known.lock().unwrap_or_else(|e| e.into_inner()).get(name) {
            return Ok(input.clone());
        }
        let input = self.read(name)?;
        self.known.lock().unwrap_or_else(|e| e.into_inner()).insert(name.to_owned(), input.clone());
        Ok(input)
    }

    /// Reads the files' state again (cheap where nothing changed: the store remembers their digests).
    pub fn read(&self, name: &str) -> Result<Input, SourceError> {
        let source: &PipelineSource =
            self.pipeline.sources.get(name).ok_or_else(|| SourceError::UnknownKind(name.to_owned()))?;
        let kind = self
            .registry
            .find_source(&source.kind)
            .ok_or_else(|| SourceError::UnknownKind(source.kind.clone()))?;
        let path = source.path.as_ref().map_err(|missing| SourceError::Variable {
            source_name: name.to_owned(),
            kind: source.kind.clone(),
            variable: missing.0.clone(),
            help: kind.help,
        })?;
        if !path.is_dir() {
            return Err(SourceError::NoFolder {
                source_name: name.to_owned(),
                kind: source.kind.clone(),
                path: path.clone(),
                help: kind.help,
            });
        }
        let files = (kind.files)(path).map_err(|problem| SourceError::Files {
            source_name: name.to_owned(),
            problem: Box::new(problem),
        })?;
        // What comes out of a store stays what it was there.
        let restricted = source.restricted || FolderMark::read(path).restricted;
        let manifest = self.store.source_manifest(kind.name, restricted, &files, &mut |done, total| {
            (self.progress)(name, done, total);
        })?;
        Ok(Input { kind: source.kind.clone(), digest: manifest.digest(), dir: path.clone(), restricted })
    }
}
