//! Writes of the lock whose answer did not come: each may still have its effect.

use std::time::Duration;

use tokio::time::Instant;

/// What was written without an answer.
#[derive(Debug, Default)]
pub(super) struct LateWrites(Vec<LateWrite>);

#[derive(Debug)]
struct LateWrite {
    until: Instant,
    /// How many attempts had no effect yet that was seen.
    unseen: u32,
}

impl LateWrites {
    /// Remembers so many attempts, for so long.
    pub(super) fn note(&mut self, unseen: u32, patience: Duration) {
        if unseen > 0 {
            self.0.push(LateWrite { until: Instant::now() + patience, unseen });
        }
    }

    /// So many effects have come, as far as can be told of the oldest ones.
    pub(super) fn came(&mut self, effects: i64) {
        let mut effects = u32::try_from(effects).unwrap_or_default();
        for write in &mut self.0 {
            let came = write.unseen.min(effects);
            write.unseen -= came;
            effects -= came;
        }
        self.0.retain(|write| write.unseen > 0);
    }

    /// Whether one of them may still have its effect.
    pub(super) fn are_awaited(&self) -> bool {
        self.0.iter().any(|write| Instant::now() < write.until)
    }
}
