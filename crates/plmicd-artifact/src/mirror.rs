//! Where finished outputs may be had from besides the store: what the store asks, whatever answers.

use crate::digest::Digest;
use crate::error::StoreError;
use crate::manifest::ArtifactRef;
use crate::record::ActionRecord;
use crate::store::Store;

/// Bytes done and bytes in all, as a transfer goes on; answers whether it is to go on.
pub type Progress<'p> = dyn FnMut(u64, u64) -> bool + 'p;

/// A second place that may have what the store lacks.
pub trait Mirror: std::fmt::Debug + Send + Sync {
    /// The record of a finished action whose artifact it has. Trouble counts as not having it, and is logged.
    fn find(&self, stage: &str, key: Digest) -> Option<ActionRecord>;

    /// Brings an artifact into the store, with the records that name it. One that could not be brought is not
    /// [found](Self::find) again by this process.
    ///
    /// # Errors
    /// [`FetchError`]. Nothing is left in the store but scratch that a later attempt goes on from.
    fn fetch(
        &self,
        store: &Store,
        record: &ActionRecord,
        progress: &mut Progress<'_>,
    ) -> Result<(), FetchError>;
}

/// Why an artifact could not be brought.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// `progress` asked to stop.
    #[error("stopped; the same command goes on from here")]
    Interrupted,
    /// It is not there, or damaged, or the place cannot be reached.
    #[error("artifact {artifact} could not be fetched: {why}")]
    Failed {
        /// The artifact.
        artifact: ArtifactRef,
        /// What went wrong, in words.
        why: String,
    },
    /// The store itself failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
