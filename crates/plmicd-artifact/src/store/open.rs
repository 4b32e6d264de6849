//! Opening and creating a store.

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::{Value, json};

use super::Store;
use super::locks::LockedFile;
use crate::canonical::canonical_json;
use crate::error::{Doing, StoreError};
use crate::fsops;

/// Version of the store's layout.
pub const STORE_FORMAT: u32 = 1;

const STORE_FILE: &str = "store.json";
const FOLDERS: [&str; 10] =
    ["objects", "actions", "work", "tmp", "locks", "leases", "pins", "sources", "runs", "latest"];
/// What a folder that becomes a store may already hold: a checkout's explanation, a fresh file system's folder.
const HARMLESS: [&str; 4] = ["README.md", ".gitignore", ".gitkeep", "lost+found"];
/// Prefix under which `store.json` is written before it is renamed.
const STORE_FILE_IN_MAKING: &str = ".store.json.";

impl Store {
    /// Opens the store at `root`, creating it where the folder is absent or empty.
    ///
    /// # Errors
    /// [`StoreError::NotAFolder`] for a file, [`StoreError::NotAStore`] for a folder with other things in it, [`StoreError::UnknownFormat`] for a store of
    /// another version, [`StoreError::Io`] where it cannot be written to (a read-only file system, say).
    pub fn open(root: &Utf8Path) -> Result<Self, StoreError> {
        let doing = || format!("opening the artifact store {root}");
        if root.is_file() {
            return Err(StoreError::NotAFolder { root: root.to_owned() });
        }
        fsops::create_dir_all(root).doing(doing)?;
        let store_file = root.join(STORE_FILE);
        if fsops::read_optional(&store_file).doing(doing)?.is_none() {
            Self::create_at(root, &store_file)?;
        }
        check_format(&store_file)?;
        for folder in FOLDERS {
            fsops::create_dir_all(&root.join(folder)).doing(doing)?;
        }
        let store = Self { root: root.to_owned(), mirror: None };
        // Says now, and not in the middle of a run, that the store cannot be written to or locked.
        LockedFile::create(&store.temporary("write")).doing(doing)?;
        Ok(store)
    }

    /// Opens a store that is there, to look into it: nothing is made or written, so it may be one that this process cannot
    /// write to.
    ///
    /// # Errors
    /// [`StoreError::NoStore`] where there is none; otherwise those of [`Store::open`].
    pub fn open_to_read(root: &Utf8Path) -> Result<Self, StoreError> {
        if root.is_file() {
            return Err(StoreError::NotAFolder { root: root.to_owned() });
        }
        let store_file = root.join(STORE_FILE);
        let found =
            fsops::read_optional(&store_file).doing(|| format!("opening the artifact store {root}"))?;
        if found.is_none() {
            return Err(StoreError::NoStore { root: root.to_owned() });
        }
        check_format(&store_file)?;
        Ok(Self { root: root.to_owned(), mirror: None })
    }

    /// Writes `store.json` into a folder that holds nothing of anybody else's. The file comes before the folders,
    /// so a kill in between leaves something that opens.
    fn create_at(root: &Utf8Path, store_file: &Utf8Path) -> Result<(), StoreError> {
        let doing = || format!("creating the artifact store {root}");
        let entries = fsops::entries(root).doing(doing)?;
        if entries.contains_key(STORE_FILE) {
            // Another process created it between our two looks.
            return Ok(());
        }
        let foreign = entries
            .keys()
            .find(|name| !HARMLESS.contains(&name.as_str()) && !name.starts_with(STORE_FILE_IN_MAKING));
        if let Some(found) = foreign {
            return Err(StoreError::NotAStore { root: root.to_owned(), found: found.clone() });
        }
        fsops::set_mode(root, fsops::DIR_MODE).doing(doing)?;
        let text = canonical_json(&json!({ "format": STORE_FORMAT }));
        let in_making: Utf8PathBuf = root.join(format!("{STORE_FILE_IN_MAKING}{}", fsops::unique_name()));
        fsops::write_new(&in_making, text.as_bytes())
            .and_then(|()| fs_err::rename(&in_making, store_file))
            .and_then(|()| fsops::sync(root))
            .doing(doing)
    }
}

fn check_format(store_file: &Utf8Path) -> Result<(), StoreError> {
    let damaged = |what: String| StoreError::Damaged { path: store_file.to_owned(), what };
    let bytes = fs_err::read(store_file).doing(|| "opening the artifact store".to_owned())?;
    let value: Value = serde_json::from_slice(&bytes)
        .map_err(|error| damaged(format!("expected {{\"format\": {STORE_FORMAT}}}: {error}")))?;
    match value.get("format").and_then(Value::as_u64) {
        Some(found) if found == u64::from(STORE_FORMAT) => Ok(()),
        Some(found) => {
            Err(StoreError::UnknownFormat { path: store_file.to_owned(), found, supported: STORE_FORMAT })
        }
        None => Err(damaged(format!("expected {{\"format\": {STORE_FORMAT}}}"))),
    }
}
