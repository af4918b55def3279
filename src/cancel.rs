//! Cooperative cancellation: Terraform's StopProvider, as running operations see it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// A running operation's view of the stop signal. Clones see the same signal.
#[derive(Clone, Debug)]
pub struct Cancel(watch::Receiver<bool>);

impl Cancel {
    /// A signal that never comes, for operations that nobody can stop.
    pub fn never() -> Cancel {
        Cancel(watch::channel(false).1)
    }

    /// Whether the operation was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once the operation is asked to stop; never, if that never happens.
    pub async fn cancelled(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(|stopped| *stopped).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// How long a stop counts for operations that begin after it: those were on their way already.
const ON_THEIR_WAY: Duration = Duration::from_secs(1);

/// Where the stop signal comes from.
#[derive(Debug)]
pub struct CancelSource(Mutex<Signals>);

#[derive(Debug)]
struct Signals {
    next: watch::Sender<bool>,
    stopped_at: Option<Instant>,
}

impl CancelSource {
    /// A source whose signal was not given yet.
    pub fn new() -> CancelSource {
        CancelSource(Mutex::new(Signals { next: watch::channel(false).0, stopped_at: None }))
    }

    /// The signal that the next stop gives, or the one that was just given.
    pub fn token(&self) -> Cancel {
        let signals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if signals.stopped_at.is_some_and(|at| at.elapsed() < ON_THEIR_WAY) {
            return Cancel(watch::channel(true).1);
        }
        Cancel(signals.next.subscribe())
    }

    /// Stops every operation that holds a token. Operations that begin later are not affected, but for those that were on
    /// their way: Terraform may still read and close after a stop.
    pub fn stop(&self) {
        let mut signals = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stopped = std::mem::replace(&mut signals.next, watch::channel(false).0);
        signals.stopped_at = Some(Instant::now());
        stopped.send_replace(true);
    }
}

impl Default for CancelSource {
    fn default() -> CancelSource {
        CancelSource::new()
    }
}
