//! What can go wrong in the store.

use std::io::{self, ErrorKind};

use camino::Utf8PathBuf;

use crate::manifest::ArtifactRef;

/// A failed operation on the store. Every message is complete by itself: it names the path, what was being
/// done and, where there is one, the remedy on a line that begins with `hint:`.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused. `cause` names the path and the operation.
    #[error("{doing}: {cause}{}", advice(.cause.kind()))]
    Io {
        /// What the store was doing.
        doing: String,
        /// The failed operation.
        cause: io::Error,
    },
    /// The folder holds other things.
    #[error(
        "{root} is not an artifact store and is not empty (it holds `{found}`)\n\
         hint: name an empty or absent folder; plmicd will not mix its files with others"
    )]
    NotAStore {
        /// The folder that was to be opened.
        root: Utf8PathBuf,
        /// One of its entries.
        found: String,
    },
    /// There is nothing to look into.
    #[error("there is no artifact store {root}\nhint: --store names another one")]
    NoStore {
        /// The folder.
        root: Utf8PathBuf,
    },
    /// A file is where the folder should be.
    #[error("{root} is a file, not a folder\nhint: name an absent or empty folder, or a store")]
    NotAFolder {
        /// What was to be opened.
        root: Utf8PathBuf,
    },
    /// Made by another version.
    #[error(
        "{path}: format {found}, but this version reads format {supported}\n\
         hint: use the version of plmicd that wrote it, or another store folder"
    )]
    UnknownFormat {
        /// The file.
        path: Utf8PathBuf,
        /// Its format.
        found: u64,
        /// The one that is understood.
        supported: u32,
    },
    /// A file of the store does not hold what it should.
    #[error("{path}: {what}")]
    Damaged {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A name that cannot be used.
    #[error("`{}` cannot be the name of a {what}: expected {expected}", .name.escape_debug())]
    BadName {
        /// What is named.
        what: &'static str,
        /// The name.
        name: String,
        /// The rule.
        expected: &'static str,
    },
    /// A stage left something that cannot be published.
    #[error("the output of stage `{stage}` cannot be published: {path} {what}")]
    BadOutput {
        /// The stage.
        stage: String,
        /// The offending entry, relative to the output folder.
        path: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A stage left no file.
    #[error("the output of stage `{stage}` cannot be published: it holds no file")]
    EmptyOutput {
        /// The stage.
        stage: String,
    },
    /// The artifact is not in the store (any more).
    #[error("artifact {artifact} is not in the store (it may have been collected: run the pipeline again)")]
    Missing {
        /// The artifact.
        artifact: ArtifactRef,
    },
    /// A prefix of fewer than six characters.
    #[error("`{prefix}` is too short: give at least 6 characters of the digest, or the name of a pin")]
    TooShort {
        /// What was given.
        prefix: String,
    },
    /// Neither a digest nor a pin.
    #[error("no artifact's digest begins with `{}` and no pin has that name\nhint: `plmicd artifact ls` lists the artifacts", .prefix.escape_debug())]
    NotFound {
        /// What was given.
        prefix: String,
    },
    /// More than one digest begins so.
    #[error("`{prefix}` is ambiguous; it is the beginning of\n{}", lines(.candidates))]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// Everything it may mean.
        candidates: Vec<ArtifactRef>,
    },
    /// The artifact must stay.
    #[error("artifact {artifact} is in use: {}", .holders.join(", "))]
    InUse {
        /// The artifact.
        artifact: ArtifactRef,
        /// Pins and leases on it, in words.
        holders: Vec<String>,
    },
}

fn lines(candidates: &[ArtifactRef]) -> String {
    candidates.iter().map(|artifact| format!("  {artifact}")).collect::<Vec<_>>().join("\n")
}

/// The remedy for an I/O error, on a line of its own, where there is one.
fn advice(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::StorageFull => {
            "\nhint: the disk is full; free some space (`plmicd artifact gc` removes what nothing uses) and run the same command again"
        }
        ErrorKind::QuotaExceeded => {
            "\nhint: your disk quota is used up; free some space (`plmicd artifact gc` removes what nothing uses) or use another store folder (`--store`)"
        }
        ErrorKind::PermissionDenied => {
            "\nhint: check the owner and the permissions of that path (a store belongs to the user who created it)"
        }
        ErrorKind::ReadOnlyFilesystem => {
            "\nhint: the file system is read-only; the store must be writable (choose another folder with `--store`)"
        }
        ErrorKind::CrossesDevices => {
            "\nhint: all folders of a store must lie on one file system: do not mount or link its subfolders elsewhere"
        }
        ErrorKind::Unsupported => {
            "\nhint: the store needs file locks; on a network file system switch them on (Lustre: mount option `flock`) or use another folder"
        }
        _ => "",
    }
}

/// Says what the store was doing when an I/O operation failed.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, StoreError>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, StoreError> {
        self.map_err(|cause| StoreError::Io { doing: what(), cause })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_disk_carry_advice() {
        // ENOSPC, EACCES, EROFS, EDQUOT, EXDEV on Linux.
        for (code, expected) in
            [(28, "gc"), (13, "permissions"), (30, "read-only"), (122, "quota"), (18, "one file system")]
        {
            let result: io::Result<()> = Err(io::Error::from_raw_os_error(code));
            let text = result.doing(|| "publishing `notes`".to_owned()).unwrap_err().to_string();
            let (_, hint) = text.split_once("\nhint: ").expect(&text);
            assert!(hint.contains(expected), "{text}");
            assert!(text.starts_with("publishing `notes`: "), "{text}");
        }
    }
}
