//! The only place that asks the machine for the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The wall clock.
#[cfg(not(test))]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// The wall clock: goes with the runtime's, which tests move.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn wall() -> SystemTime {
    static START: std::sync::OnceLock<(SystemTime, std::time::Instant)> = std::sync::OnceLock::new();
    let (wall, instant) = START.get_or_init(|| (SystemTime::now(), std::time::Instant::now()));
    *wall + tokio::time::Instant::now().into_std().saturating_duration_since(*instant)
}

/// Seconds since 1970.
pub fn seconds() -> u64 {
    wall().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The beginning of the period that a time is in: periods are counted from 1970 on, as CloudWatch does. One of less than a second is one
/// of a second.
pub fn floor(time: SystemTime, period: Duration) -> SystemTime {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    UNIX_EPOCH + Duration::from_secs(seconds - seconds % period.as_secs().max(1))
}
