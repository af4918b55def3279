//! What must hold before a schema contracts: the release that needs the old schema has been idle for long enough.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::spec::Guard;
use crate::duration::shown;
use crate::rollout::LockRecord;
use crate::rollout::lock_record::Status;

/// The record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The color that it names.
    pub color: String,
    /// Since when it has named that one.
    pub since: SystemTime,
}

/// Why it does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// There is no record.
    NoRecord,
    /// Another color is live.
    Other {
        /// That one.
        color: String,
    },
    /// It has not been live long enough.
    Young {
        /// How long it has been.
        age: Duration,
    },
    /// A rollout is under way, or was not brought to its end.
    Rollout {
        /// In words.
        words: String,
    },
}

impl Guard {
    /// Whether it holds, by what was read.
    ///
    /// # Errors
    /// Why it does not.
    pub fn holds(&self, record: Option<&Recorded>, rollout: Option<&LockRecord>, now: SystemTime) -> Result<(), Unmet> {
        let wrote_record = |lock_record: &LockRecord| {
            // The record is the last thing that a rollout writes: one that wrote it has only its lock to give up.
            lock_record.record.as_ref() != Some(&self.live) && record.is_some_and(|record| record.color == self.live)
        };
        let unfinished = |lock_record: &&LockRecord| {
            lock_record.what.is_empty() && (lock_record.status != Status::Running || !wrote_record(lock_record))
        };
        let left = rollout.filter(|lock_record| lock_record.status != Status::Free);
        if let Some(lock_record) = left.filter(unfinished) {
            let how = match lock_record.status {
                Status::Running | Status::Free => "has not ended",
                Status::Held => "was stopped half-way",
                Status::Waiting => "waits for an approval",
                Status::Stuck => "failed, and so did its way back",
                Status::Unknown => "failed, with a call that was not answered",
            };
            return Err(Unmet::Rollout { words: format!("{} {how}", lock_record.summary()) });
        }
        let record = record.ok_or(Unmet::NoRecord)?;
        if record.color != self.live {
            return Err(Unmet::Other { color: record.color.clone() });
        }
        // A record from the future is one of a clock that differs: it is as young as can be.
        let age = now.duration_since(record.since).unwrap_or_default();
        if age < self.stable_for { Err(Unmet::Young { age }) } else { Ok(()) }
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is live by {}", self.live, self.parameter)?;
        if self.stable_for.is_zero() { Ok(()) } else { write!(f, ", and has been for {}", shown(self.stable_for)) }
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unmet::NoRecord => f.write_str("there is no such record"),
            Unmet::Other { color } => write!(f, "the record says that {color} is live"),
            Unmet::Young { age } => write!(f, "it has been live for {} only", shown(*age)),
            Unmet::Rollout { words } => f.write_str(words),
        }
    }
}
