//! The only place that asks the machine for the time.

use std::time::SystemTime;

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Seconds since 1970.
pub fn seconds() -> u64 {
    wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
}
