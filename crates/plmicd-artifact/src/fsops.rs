//! File-system operations the way the store needs them: private modes, synced, errors that name the path.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, FileType, Metadata, Permissions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err::os::unix::fs::OpenOptionsExt;

/// Mode of every folder of the store.
pub(crate) const DIR_MODE: u32 = 0o700;
/// Mode of every file that may still change or be replaced.
pub(crate) const FILE_MODE: u32 = 0o600;
/// Mode of a published file.
pub(crate) const PUBLISHED_MODE: u32 = 0o400;

/// Adds the operation and the path to an error, as `fs_err` does for the operations it wraps.
pub(crate) fn at(path: &Utf8Path, operation: &str, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{operation} `{path}`: {error}"))
}

/// Turns "not found" into `None`.
pub(crate) fn optional<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates a private folder and those above it; existing ones stay as they are.
pub(crate) fn create_dir_all(path: &Utf8Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIR_MODE)
        .create(path)
        .map_err(|error| at(path, "creating folder", error))
}

/// Creates a private folder that must not exist yet.
pub(crate) fn create_new_dir(path: &Utf8Path) -> io::Result<()> {
    DirBuilder::new().mode(DIR_MODE).create(path).map_err(|error| at(path, "creating folder", error))
}

/// Creates a private file that must not exist yet, writes it and syncs it.
pub(crate) fn write_new(path: &Utf8Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs_err::OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

pub(crate) fn set_mode(path: &Utf8Path, mode: u32) -> io::Result<()> {
    fs_err::set_permissions(path, Permissions::from_mode(mode))
}

/// Makes sure that a file's content, or a folder's list of entries, survives a power failure.
pub(crate) fn sync(path: &Utf8Path) -> io::Result<()> {
    fs_err::File::open(path)?.sync_all()
}

/// Sets the modification time of a file or folder to now.
pub(crate) fn touch(path: &Utf8Path) -> io::Result<()> {
    fs_err::File::open(path)?.set_modified(SystemTime::now())
}

/// The content of a file, `None` where there is none.
pub(crate) fn read_optional(path: &Utf8Path) -> io::Result<Option<Vec<u8>>> {
    optional(fs_err::read(path))
}

/// What lies at a path (symlinks are not followed), `None` where there is nothing.
pub(crate) fn stat(path: &Utf8Path) -> io::Result<Option<Metadata>> {
    optional(fs_err::symlink_metadata(path))
}

/// The entries of a folder by name, in order; none where there is no folder.
pub(crate) fn entries(dir: &Utf8Path) -> io::Result<BTreeMap<String, FileType>> {
    let Some(listing) = optional(fs_err::read_dir(dir))? else { return Ok(BTreeMap::new()) };
    let mut entries = BTreeMap::new();
    for entry in listing {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|name| {
            let message = format!("file name {name:?} is not valid UTF-8");
            at(dir, "listing", io::Error::new(ErrorKind::InvalidData, message))
        })?;
        entries.insert(name, entry.file_type()?);
    }
    Ok(entries)
}

/// Bytes and latest modification of a folder and everything below it. Entries that vanish meanwhile count nothing.
pub(crate) fn tree_usage(path: &Utf8Path) -> io::Result<(u64, SystemTime)> {
    let Some(metadata) = stat(path)? else { return Ok((0, SystemTime::UNIX_EPOCH)) };
    let mut latest = metadata.modified()?;
    if !metadata.is_dir() {
        return Ok((metadata.len(), latest));
    }
    let mut bytes = 0;
    for entry in optional(fs_err::read_dir(path))?.into_iter().flatten() {
        let child = entry?.path();
        let Ok(child) = Utf8PathBuf::from_path_buf(child) else { continue };
        let (child_bytes, child_latest) = tree_usage(&child)?;
        bytes += child_bytes;
        latest = latest.max(child_latest);
    }
    Ok((bytes, latest))
}

/// Removes a file, a symlink or a whole folder; nothing there is fine.
pub(crate) fn remove_tree(path: &Utf8Path) -> io::Result<()> {
    let Some(metadata) = stat(path)? else { return Ok(()) };
    let result = if metadata.is_dir() {
        fs_err::remove_dir_all(path).or_else(|error| {
            if error.kind() != ErrorKind::PermissionDenied {
                return Err(error);
            }
            // A stage may have left folders without write permission.
            make_dirs_writable(path)?;
            fs_err::remove_dir_all(path)
        })
    } else {
        fs_err::remove_file(path)
    };
    optional(result).map(|_| ())
}

fn make_dirs_writable(dir: &Utf8Path) -> io::Result<()> {
    set_mode(dir, DIR_MODE)?;
    for (name, file_type) in entries(dir)? {
        if file_type.is_dir() {
            make_dirs_writable(&dir.join(name))?;
        }
    }
    Ok(())
}

/// A name no other process or thread uses.
pub(crate) fn unique_name() -> String {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    // `RandomState` is seeded by the operating system; process ids alone repeat across machines.
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(count);
    format!("{:x}-{count:x}-{:016x}", std::process::id(), hasher.finish())
}
