//! Content-hashed artifact store: digests, manifests, publish, leases, gc, verify; with feature `remote`, sharing over
//! object stores.
//!
//! Start at [`Store`]; the module documentation of `store` draws the layout on disk and gives the protocol.
//! The crate knows nothing of stages, configs or ICD codes: it keeps folders of files by their content and
//! remembers which key led to which content.

mod canonical;
mod digest;
mod error;
mod fsops;
mod hashing;
mod manifest;
mod mirror;
mod names;
mod record;
#[cfg(feature = "remote")]
pub mod remote;
pub mod store;

pub use canonical::canonical_json;
pub use digest::{BadDigest, Digest};
pub use error::StoreError;
pub use manifest::{
    ArtifactManifest, ArtifactRef, FileEntry, FolderMark, MANIFEST_FILE, MANIFEST_FORMAT, ManifestError,
};
pub use mirror::{FetchError, Mirror, Progress};
pub use record::{ActionRecord, PendingAction, RECORD_FORMAT};
pub use store::{
    ActionLock, ArtifactSummary, GcOptions, GcReport, Lease, Lookup, Pin, Problem, STORE_FORMAT, Staging,
    Store, Tally, VerifyReport,
};
