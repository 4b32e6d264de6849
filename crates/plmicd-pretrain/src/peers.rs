//! Meeting the other processes that train with this one.

use std::time::Duration;

use plmicd_pipeline::{Ranks, StageContext, StageError};
use plmicd_torch::distributed::{Meeting, Membership};
use plmicd_train::Peers;

/// Meets them. `None` where the first process has ended without needing this one.
pub(crate) fn join(ranks: &Ranks, context: &StageContext<'_>) -> Result<Option<Peers>, StageError> {
    let meeting = Meeting {
        host: ranks.host.clone(),
        port: ranks.port,
        is_host: ranks.is_host,
        timeout: Ranks::MEETING,
    };
    let membership = Membership {
        prefix: ranks.prefix.clone(),
        rank: ranks.rank,
        size: ranks.size,
        timeout: Duration::from_secs(context.runtime().peer_timeout_seconds.max(1)),
        interface: ranks.interface.clone(),
        is_local: ranks.is_local(),
    };
    Peers::join(&meeting, &membership)
        .map_err(|error| StageError::because("training with several processes", error))
}
