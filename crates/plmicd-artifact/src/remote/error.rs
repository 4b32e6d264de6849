//! What can go wrong with a shared store.

use crate::error::StoreError;
use crate::manifest::ArtifactRef;

/// A failed operation on a shared store.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The URL cannot be used.
    #[error(
        "`{url}` cannot be used as a shared store: {why}\n\
         hint: expected such as s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER/PATH or a folder"
    )]
    Url {
        /// As given, without a password.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// The folder that is shared is not there.
    #[error(
        "there is no folder {url} (is a disk not mounted?)\nhint: `plmicd artifact push` makes it, in a folder that is there"
    )]
    NoFolder {
        /// As given.
        url: String,
    },
    /// The object store refused or cannot be reached. The message holds no credentials.
    #[error("{doing} {object}: {source}")]
    Io {
        /// What was being done: `reading`, `writing`.
        doing: &'static str,
        /// The object, with the shared store's URL.
        object: String,
        /// What the object store said.
        #[source]
        source: Box<object_store::Error>,
    },
    /// An object is not what its name says. It is never used.
    #[error(
        "the shared object {object} {what}\n\
         hint: whoever has the artifact can mend it with `plmicd artifact push --again`"
    )]
    Damaged {
        /// The object, below the shared store's URL.
        object: String,
        /// What is wrong with it, to be read after its name.
        what: String,
    },
    /// It is not there.
    #[error("the shared store {url} has no artifact {artifact}")]
    Missing {
        /// The shared store.
        url: String,
        /// The artifact.
        artifact: ArtifactRef,
    },
    /// It must not leave this machine unasked.
    #[error(
        "artifact {artifact} derives from data under a use agreement and is not shared unasked\n\
         hint: --allow-restricted shares it; see that all who can read the shared store have signed the agreement"
    )]
    Restricted {
        /// The artifact.
        artifact: ArtifactRef,
    },
    /// `progress` asked to stop.
    #[error("stopped; the same command goes on from here")]
    Interrupted,
    /// The local store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
