//! The only place that asks the machine for the time.

use std::time::SystemTime;

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
    wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
