//! Checkpoints: everything a run needs to go on as if it had never stopped.
//!
//! ```text
//! <dir>/checkpoint-000017/
//!   state.json           format, identity of the run, progress, sizes and BLAKE3 digests of the files beside it
//!   state.safetensors    flat weights, AdamW's two moments, buffers, history of losses, learning rates and norms
//!   best.safetensors     weights and buffers of the best epoch so far (hard-linked while they stay the same)
//! <dir>/checkpoint-000018.partial/    being written; never read
//! ```
//!
//! A checkpoint is written beside the old one, synced, renamed into place, and only then is the old one removed,
//! unless it is [`Kept`]: a crash or a full disk at any moment leaves one whole checkpoint.

use std::collections::BTreeMap;
use std::io::Write;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err::os::unix::fs::OpenOptionsExt;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::progress::Progress;
use crate::tensor_file;

const FORMAT: u32 = 1;
const STATE_JSON: &str = "state.json";
const STATE: &str = "state.safetensors";
const BEST: &str = "best.safetensors";
const PREFIX: &str = "checkpoint-";
const PARTIAL: &str = ".partial";

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The file is not what its name says.
    #[error("{file}: {message}")]
    Damaged {
        /// File at fault.
        file: Utf8PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The checkpoint is whole, but another run's.
    #[error("{dir} belongs to a run with other settings, inputs or parameters")]
    OtherRun {
        /// The checkpoint.
        dir: Utf8PathBuf,
    },
}

impl CheckpointError {
    pub(crate) fn damaged(file: &Utf8Path, message: impl Into<String>) -> Self {
        Self::Damaged { file: file.to_owned(), message: message.into() }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileFacts {
    bytes: u64,
    blake3: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    format: u32,
    identity: String,
    progress: Progress,
    files: BTreeMap<String, FileFacts>,
}

/// What a checkpoint gives back.
#[derive(Debug)]
pub struct Restored {
    /// Where the run stood.
    pub progress: Progress,
    /// Tensors by the names they were saved under, on the CPU.
    pub tensors: BTreeMap<String, Tensor>,
    /// Weights and buffers of the best epoch by the names they were saved under, if one had been evaluated.
    pub best: Option<BTreeMap<String, Tensor>>,
}

/// The best weights as they lie on disk: which epoch's, and where.
#[derive(Debug)]
struct SavedBest {
    epoch: u32,
    file: Utf8PathBuf,
    facts: FileFacts,
}

/// Which checkpoints stay beside the newest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// That at the end of the best epoch so far.
    pub best: bool,
    /// Those at the end of every so many epochs; 0 for none.
    pub every_epochs: u32,
}

/// The checkpoints of one run.
#[derive(Debug)]
pub struct CheckpointStore {
    dir: Utf8PathBuf,
    identity: String,
    kept: Kept,
    sequence: u64,
    last_step: Option<u64>,
    best: Option<SavedBest>,
    /// Whole checkpoints of this run that end an epoch, and which.
    epoch_ends: BTreeMap<u64, u32>,
}

impl CheckpointStore {
    /// Opens the folder of a run, creating it where needed, and loads its newest usable checkpoint. `identity`
    /// names everything the result depends on. Checkpoints that cannot be used are left out; each gives a reason.
    pub fn open(
        dir: &Utf8Path,
        identity: &str,
        kept: Kept,
    ) -> Result<(Self, Option<Restored>, Vec<CheckpointError>), CheckpointError> {
        fs_err::create_dir_all(dir)?;
        let mut store = Self {
            dir: dir.to_owned(),
            identity: identity.to_owned(),
            kept,
            sequence: 0,
            last_step: None,
            best: None,
            epoch_ends: BTreeMap::new(),
        };
        let mut found = Vec::new();
        for entry in fs_err::read_dir(dir)? {
            let name = entry?.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else { continue };
            match rest.strip_suffix(PARTIAL) {
                Some(_) => remove(&dir.join(format!("{PREFIX}{rest}")))?,
                None => found.extend(rest.parse::<u64>()),
            }
        }
        found.sort_unstable();
        store.sequence = found.last().copied().unwrap_or(0);
        let ends = found.iter().filter_map(|&number| {
            let state = store.read_state(&store.path(number)).ok()?;
            Some((number, epoch_end(&state.progress)?))
        });
        store.epoch_ends = ends.collect();
        let mut unusable = Vec::new();
        for number in found.into_iter().rev() {
            match store.load(&store.path(number)) {
                Ok((restored, best)) => {
                    store.last_step = Some(restored.progress.step);
                    store.best = best;
                    return Ok((store, Some(restored), unusable));
                }
                Err(reason) => unusable.push(reason),
            }
        }
        Ok((store, None, unusable))
    }

    /// Step of the newest whole checkpoint.
    pub fn last_step(&self) -> Option<u64> {
        self.last_step
    }

    /// Writes a checkpoint and then removes older ones that are not to be kept. On an error they are all still there.
    /// `best` belongs to `progress.best`.
    pub fn save(
        &mut self,
        progress: &Progress,
        tensors: &[(&str, &Tensor)],
        best: Option<&[(&str, &Tensor)]>,
    ) -> Result<(), CheckpointError> {
        let number = self.sequence + 1;
        let partial = self.dir.join(format!("{PREFIX}{number:06}{PARTIAL}"));
        let saved_best = match self.write(&partial, number, progress, tensors, best) {
            Ok(saved_best) => saved_best,
            Err(error) => {
                // Room for others, and nothing half-written stays; the error that matters is the first.
                let _ = remove(&partial);
                return Err(error);
            }
        };
        self.sequence = number;
        self.last_step = Some(progress.step);
        self.best = saved_best;
        let end = epoch_end(progress);
        self.epoch_ends.retain(|_, other| Some(*other) != end);
        self.epoch_ends.extend(end.map(|epoch| (number, epoch)));
        let best = progress.best.as_ref().map(|best| best.epoch);
        for other in self.numbers()?.into_iter().filter(|&other| other < number) {
            // What cannot be removed now is tried again after the next one.
            if !self.is_kept(other, best) && remove(&self.path(other)).is_ok() {
                self.epoch_ends.remove(&other);
            }
        }
        Ok(())
    }

    /// Whether an older checkpoint stays.
    fn is_kept(&self, number: u64, best: Option<u32>) -> bool {
        let Some(&epoch) = self.epoch_ends.get(&number) else { return false };
        let Kept { best: keeps_best, every_epochs } = self.kept;
        (keeps_best && best == Some(epoch)) || (every_epochs > 0 && epoch.is_multiple_of(every_epochs))
    }

    fn write(
        &self,
        partial: &Utf8Path,
        number: u64,
        progress: &Progress,
        tensors: &[(&str, &Tensor)],
        best: Option<&[(&str, &Tensor)]>,
    ) -> Result<Option<SavedBest>, CheckpointError> {
        fs_err::create_dir(partial)?;
        let mut files = BTreeMap::new();
        let state = partial.join(STATE);
        tensor_file::write(&state, tensors)?;
        files.insert(STATE.to_owned(), facts(&state)?);
        let mut saved_best = None;
        if let (Some(tensors), Some(of)) = (best, &progress.best) {
            let file = partial.join(BEST);
            let facts = match &self.best {
                Some(old) if old.epoch == of.epoch && fs_err::hard_link(&old.file, &file).is_ok() => {
                    old.facts.clone()
                }
                _ => {
                    tensor_file::write(&file, tensors)?;
                    facts(&file)?
                }
            };
            files.insert(BEST.to_owned(), facts.clone());
            saved_best = Some(SavedBest { epoch: of.epoch, file: self.path(number).join(BEST), facts });
        }
        let state =
            StateFile { format: FORMAT, identity: self.identity.clone(), progress: progress.clone(), files };
        let json = serde_json::to_vec_pretty(&state).map_err(std::io::Error::other)?;
        let file = partial.join(STATE_JSON);
        let mut options = fs_err::OpenOptions::new();
        let mut state = options.write(true).create_new(true).mode(0o600).open(&file)?;
        state.write_all(&json)?;
        state.sync_all()?;
        fs_err::File::open(partial)?.sync_all()?;
        fs_err::rename(partial, self.path(number))?;
        fs_err::File::open(&self.dir)?.sync_all()?;
        Ok(saved_best)
    }

    /// The state file of a checkpoint of this run.
    fn read_state(&self, dir: &Utf8Path) -> Result<StateFile, CheckpointError> {
        let file = dir.join(STATE_JSON);
        let state: StateFile = serde_json::from_slice(&fs_err::read(&file)?).map_err(|error| {
            CheckpointError::damaged(&file, format!("not a checkpoint's state ({error})"))
        })?;
        if state.format != FORMAT {
            return Err(CheckpointError::damaged(
                &file,
                format!("format {}, but this program reads {FORMAT}", state.format),
            ));
        }
        if state.identity != self.identity {
            return Err(CheckpointError::OtherRun { dir: dir.to_owned() });
        }
        Ok(state)
    }

    fn load(&self, dir: &Utf8Path) -> Result<(Restored, Option<SavedBest>), CheckpointError> {
        let state = self.read_state(dir)?;
        let read = |name: &str, expected: &FileFacts| {
            let path = dir.join(name);
            let bytes = fs_err::read(&path)?;
            if (FileFacts { bytes: bytes.len() as u64, blake3: digest(&bytes) }) != *expected {
                return Err(CheckpointError::damaged(&path, "size or digest differs from state.json's"));
            }
            tensor_file::parse(&path, &bytes)
        };
        let expected = |name: &str| {
            let missing = || CheckpointError::damaged(&dir.join(STATE_JSON), format!("no entry for {name}"));
            state.files.get(name).ok_or_else(missing)
        };
        let tensors = read(STATE, expected(STATE)?)?;
        let mut best = None;
        let mut saved_best = None;
        if let Some(of) = &state.progress.best {
            let facts = expected(BEST)?;
            best = Some(read(BEST, facts)?);
            saved_best = Some(SavedBest { epoch: of.epoch, file: dir.join(BEST), facts: facts.clone() });
        }
        Ok((Restored { progress: state.progress, tensors, best }, saved_best))
    }

    fn path(&self, number: u64) -> Utf8PathBuf {
        self.dir.join(format!("{PREFIX}{number:06}"))
    }

    fn numbers(&self) -> Result<Vec<u64>, CheckpointError> {
        let mut numbers = Vec::new();
        for entry in fs_err::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).map(str::parse::<u64>);
            numbers.extend(number.and_then(Result::ok));
        }
        Ok(numbers)
    }
}

/// The epoch, from 1, that was just finished where the run stood there.
fn epoch_end(progress: &Progress) -> Option<u32> {
    (progress.epoch > 0 && progress.batch == 0 && !progress.evaluating).then_some(progress.epoch)
}

/// Removes a checkpoint folder (or whatever bears its name).
fn remove(path: &Utf8Path) -> Result<(), CheckpointError> {
    if path.is_dir() {
        fs_err::remove_dir_all(path)?
    } else {
        fs_err::remove_file(path)?
    }
    Ok(())
}

fn digest(bytes: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update_rayon(bytes);
    hasher.finalize().to_hex().to_string()
}

fn facts(path: &Utf8Path) -> Result<FileFacts, CheckpointError> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_mmap_rayon(path)?;
    Ok(FileFacts { bytes: fs_err::metadata(path)?.len(), blake3: hasher.finalize().to_hex().to_string() })
}
