//! Writes of the lock whose answer did not come: each may still have its effect, and bring back a lock that was deleted.

use std::sync::Arc;

use tokio::time::Instant;

use crate::run::call::Call;

/// What was written without an answer.
#[derive(Debug, Default)]
pub(super) struct LateWrites(Vec<LateWrite>);

#[derive(Debug)]
struct LateWrite {
    call: Arc<Call>,
    since: Instant,
    /// How many of its attempts had no effect yet that was seen.
    unseen: u32,
}

impl LateWrites {
    /// Remembers a call that has come to its end, if one of its attempts was not answered.
    pub(super) fn note(&mut self, call: Arc<Call>) {
        let unseen = call.unanswered();
        if unseen > 0 {
            self.0.push(LateWrite { call, since: Instant::now(), unseen });
        }
    }

    /// So many versions were written beside those that were answered: the effects of the oldest ones have come.
    pub(super) fn came(&mut self, versions: i64) {
        let mut versions = u32::try_from(versions).unwrap_or_default();
        for write in &mut self.0 {
            let came = write.unseen.min(versions);
            write.unseen -= came;
            versions -= came;
        }
        self.0.retain(|write| write.unseen > 0);
    }

    /// Whether one of them may still have its effect.
    pub(super) fn are_awaited(&self) -> bool {
        self.0.iter().any(|write| write.since.elapsed() < write.call.patience())
    }
}
