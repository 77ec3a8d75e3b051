//! What the register of configurations decided, where no more regions show it than may lie.

use std::sync::Arc;

use bytes::Bytes;

use super::open::Lake;
use super::record::LakeRecord;
use crate::region::layout;
use crate::register::Registers;

/// A configuration that its register is known to have decided.
pub(super) struct Proven {
    pub(super) record: LakeRecord,
    pub(super) bytes: Bytes,
}

/// The configuration after the lake's, if the regions of the lake's decided one. With a writer's key, what a stopped operator left half
/// decided is completed.
///
/// Whoever published it may have been stopped when no more regions had it than may lie. They prove nothing, and without another proof it could be
/// neither used nor published further, while everybody who meets it is told to open the lake again.
///
/// No lease is asked for. Slot N + 1 is decided by the regions of N alone, in the lives that N has them in: who was replaced since is down for
/// whoever reads by N, and all others still hold what they said. So what is counted here is right however old N is.
pub(super) async fn next_decided(lake: &Lake) -> Option<Proven> {
    let number = lake.record.number.checked_add(1)?;
    // A key that is none of the lake's is refused later; what it signed would make regions unreadable here.
    let writer = lake.writer.clone().filter(|writer| lake.record.writers.contains(&writer.public()));
    let registers = Registers::new(Arc::clone(&lake.region_set), writer);
    let bytes = match registers.at_without_lease(&layout::configurations_path(), number).await {
        Ok(decided) => decided?.value,
        Err(error) => {
            tracing::debug!(number, %error, "it could not be learned whether a configuration was decided");
            return None;
        }
    };
    let record = LakeRecord::open(&bytes, &lake.config.root_key).ok()?;
    (record.lake == lake.config.id && record.number == number).then_some(Proven { record, bytes })
}
