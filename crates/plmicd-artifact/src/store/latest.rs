//! Links for people: the newest artifact of each node of each pipeline.

use super::Store;
use crate::digest::Digest;
use crate::error::{Doing, StoreError};
use crate::fsops;
use crate::names::{check_component, check_token};

impl Store {
    /// Points `latest/<pipeline>/<node>` at an artifact, replacing an older link in one step. The link is relative, so it
    /// still works after the store is moved.
    pub fn set_latest(
        &self,
        pipeline: &str,
        node: &str,
        kind: &str,
        digest: Digest,
    ) -> Result<(), StoreError> {
        check_component("pipeline", pipeline)?;
        check_component("node", node)?;
        check_token("kind", kind)?;
        let folder = self.root.join("latest").join(pipeline);
        let in_making = self.temporary("link");
        fsops::create_dir_all(&folder)
            .and_then(|()| {
                fs_err::os::unix::fs::symlink(format!("../../objects/{kind}/{digest}"), &in_making)
            })
            .and_then(|()| fs_err::rename(&in_making, folder.join(node)))
            .doing(|| format!("linking the latest output of node `{node}` of pipeline `{pipeline}`"))
    }
}
