//! One call that changes something, from both its sides: whoever makes it may give it up, and learns whether an attempt
//! went without an answer; the adapter asks whether it may still try.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use crate::cancel::Cancel;

/// How long a call without an answer may still have its effect: AWS's control planes answer within seconds, and give up
/// themselves within a minute.
pub const SILENCE: Duration = Duration::from_secs(60);
/// The same where the other side closed the connection: whoever was at it then has it done within seconds.
const CLOSED: Duration = Duration::from_secs(10);

tokio::task_local! {
    static CURRENT: Arc<Call>;
}

/// A call that changes something.
#[derive(Debug, Default)]
pub struct Call {
    given_up: AtomicBool,
    unanswered: AtomicU32,
    silent: AtomicBool,
    is_once: bool,
    stop: Option<Cancel>,
}

impl Call {
    /// A call that is about to be made.
    pub fn new() -> Arc<Call> {
        Arc::default()
    }

    /// A call that is not sent again once it was sent without an answer.
    pub fn once() -> Arc<Call> {
        Arc::new(Call { is_once: true, ..Call::default() })
    }

    /// Calls that are made one after the other until this signal comes: what is read then is let go, and nothing is sent
    /// again that was begun before. What is begun after it, on the way back, is not affected.
    pub fn until(stop: Cancel) -> Arc<Call> {
        Arc::new(Call { stop: Some(stop), ..Call::default() })
    }

    /// The signal that ends what has begun before it.
    pub fn stop(&self) -> Option<&Cancel> {
        self.stop.as_ref()
    }

    /// The call that the adapter is asked to make right now, if whoever asks wants to know.
    pub fn current() -> Option<Arc<Call>> {
        CURRENT.try_with(Arc::clone).ok()
    }

    /// Makes it: the adapter finds it as [`Call::current`] meanwhile.
    pub async fn make<F: Future>(self: Arc<Call>, work: F) -> F::Output {
        CURRENT.scope(self, work).await
    }

    /// No further attempt may begin: what is on its way can't be called back, and must not be sent again.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::SeqCst);
    }

    /// Whether no further attempt may begin.
    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::SeqCst) || (self.is_once && self.unanswered() > 0)
    }

    /// An attempt was sent, and its answer did not come: the other side fell silent, or it closed the connection.
    pub fn note_unanswered(&self, silent: bool) {
        self.unanswered.fetch_add(1, Ordering::SeqCst);
        self.silent.fetch_or(silent, Ordering::SeqCst);
    }

    /// Whether the other side fell silent at an attempt: it may still be at it, where one that closed the connection is
    /// done, or never began.
    pub fn fell_silent(&self) -> bool {
        self.silent.load(Ordering::SeqCst)
    }

    /// How long its attempts without an answer may still have their effect, from now on: [`SILENCE`], or less where the other
    /// side closed the connection.
    pub fn patience(&self) -> Duration {
        if self.fell_silent() { SILENCE } else { CLOSED }
    }

    /// How many attempts were sent whose answer did not come: each may have its effect, now or later.
    pub fn unanswered(&self) -> u32 {
        self.unanswered.load(Ordering::SeqCst)
    }
}
