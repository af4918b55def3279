//! When what a read doesn't show counts as gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use crate::run::ports::{Freshness, PortError};

/// So many looks in a row must not find a thing before it counts as gone: a read can be older than the thing, and one
/// answer of "not found" has been seen for things that are there.
const LOOKS: u32 = 4;
/// The pause before the second look; each one after it is twice as long.
const BETWEEN_LOOKS: Duration = Duration::from_millis(250);

/// Looks until everything was found, or so many looks agree that it isn't there; `or` adds what an earlier look found.
///
/// # Errors
/// When a look fails.
pub async fn believed<T, F>(
    look: impl Fn() -> F,
    has_all: impl Fn(&T) -> bool,
    or: impl Fn(T, T) -> T,
) -> Result<T, PortError>
where
    F: Future<Output = Result<T, PortError>>,
{
    let mut seen = look().await?;
    let mut pause = BETWEEN_LOOKS;
    for _ in 1..LOOKS {
        if has_all(&seen) {
            break;
        }
        sleep(pause).await;
        pause *= 2;
        seen = or(look().await?, seen);
    }
    Ok(seen)
}

/// How old each of several looks may be: the first one as old as its caller allows, the others are there to see more than it did.
pub fn ages(first: Freshness) -> impl Fn() -> Freshness {
    let is_first = AtomicBool::new(true);
    move || if is_first.swap(false, Ordering::Relaxed) { first } else { Freshness::Now }
}
