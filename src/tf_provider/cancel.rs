//! Cooperative cancellation: Terraform's StopProvider, as running operations see it.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

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

/// Where the stop signal comes from.
#[derive(Debug)]
pub struct CancelSource(Mutex<watch::Sender<bool>>);

impl CancelSource {
    /// A source whose signal was not given yet.
    pub fn new() -> CancelSource {
        CancelSource(Mutex::new(watch::channel(false).0))
    }

    /// The signal that the next stop gives.
    pub fn token(&self) -> Cancel {
        Cancel(self.0.lock().unwrap_or_else(PoisonError::into_inner).subscribe())
    }

    /// Stops every operation that holds a token. Operations that begin later are not affected: Terraform may still
    /// read and close after a stop.
    pub fn stop(&self) {
        let mut sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stopped = std::mem::replace(&mut *sender, watch::channel(false).0);
        stopped.send_replace(true);
    }
}

impl Default for CancelSource {
    fn default() -> CancelSource {
        CancelSource::new()
    }
}
