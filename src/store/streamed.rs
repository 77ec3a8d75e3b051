//! Streamed writes: whose slot is not known while their shards are written. Each has a register of its own, keyed by its write id.
//!
//! Before the writer votes in a slot, it has that slot decided in the write's register; a collector that wants the shards gone has *given
//! up* decided there. Exactly one of the two comes first. Cost: one round trip for each slot that is tried.

use std::sync::Arc;

use object_store::path::Path;

use super::Inner;
use super::decide::{Attempt, Condition, Draft, LOST_LIMIT, contended, next_slot};
use super::resolve::Version;
use super::upload::Uploader;
use crate::error::{Error, ErrorKind, Result};
use crate::failpoint::failpoint;
use crate::format::binding::Binding;
use crate::format::manifest::Content;
use crate::id::WriteId;
use crate::region::layout;
use crate::register::Proposed;

/// Has what `upload` wrote decided in a slot behind `before`, as long as `condition` admits it.
///
/// When this fails, but for an unknown outcome, nothing is visible and the shards are discarded.
pub(super) async fn decide(
    inner: &Inner,
    path: &Path,
    condition: &Condition,
    mut before: Option<Arc<Version>>,
    (upload, write_id, draft): (Uploader, WriteId, Draft),
) -> Result<Arc<Version>> {
    // A small object lies in its manifest: there are no shards that anybody could delete.
    let is_sharded = matches!(draft.content, Content::Shards(_));
    for step in 0..LOST_LIMIT as u64 {
        if is_sharded {
            let bound = match next_slot(before.as_deref()) {
                Ok(slot) => inner.bind(path, write_id, step, slot).await,
                Err(error) => Err(error),
            };
            if let Err(error) = bound {
                // Every vote so far was lost, and no further one is cast.
                upload.discard();
                return Err(error);
            }
        }
        let newest = match inner.propose(path, before.as_deref(), write_id, draft.clone()).await {
            Ok(Attempt::Won(version)) => {
                upload.won();
                return Ok(version);
            }
            Ok(Attempt::Lost(newest)) => newest,
            Err(error) => return Err(upload.failed(error)),
        };
        before = match inner.admitted_behind(path, condition, newest).await {
            Ok(before) => before,
            Err(error) => {
                upload.discard();
                return Err(error);
            }
        };
    }
    upload.discard();
    Err(contended(path))
}

impl Inner {
    /// Binds a streamed write to the next slot that it is voted for in.
    async fn bind(&self, path: &Path, write_id: WriteId, step: u64, slot: u64) -> Result<()> {
        let binding = Binding::Bind { path: path.to_string(), slot };
        failpoint!("streamed.before-bind");
        let decided = self.decide_binding(write_id, step, &binding).await.map_err(|error| match error.kind() {
            // Whichever way the binding went: without a vote there is no version.
            ErrorKind::OutcomeUnknown => {
                Error::new(ErrorKind::Unavailable, "too few regions answered to bind the upload to a version; nothing was written")
                    .with("path", path)
                    .caused_by(error)
            }
            _ => error,
        })?;
        failpoint!("streamed.after-bind");
        match decided {
            decided if decided == binding => Ok(()),
            Binding::Abort => {
                Err(Error::new(ErrorKind::Unavailable, "a collector gave this upload up, for it was not completed in time; upload again")
                    .with("path", path)
                    .with("write id", write_id))
            }
            Binding::Bind { .. } => {
                Err(Error::new(ErrorKind::Corrupt, "an upload is bound to another version").with("path", path).with("write id", write_id))
            }
        }
    }

    /// Has `binding` decided at `step` of a write's register, or learns what was.
    pub(super) async fn decide_binding(&self, write_id: WriteId, step: u64, binding: &Binding) -> Result<Binding> {
        let lake = *self.regions.lake();
        let value = binding.encode(lake, write_id, step)?;
        match self.registers.propose(&layout::streamed_write(&write_id), step, value).await? {
            Proposed::Won => Ok(binding.clone()),
            Proposed::Lost(decided) => Binding::decode(&decided.value, lake, write_id, step),
        }
    }
}
