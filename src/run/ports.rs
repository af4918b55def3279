//! What every port has in common: how calls fail, and how old what they read may be.

use std::fmt;

/// Why a call failed, as far as it makes a difference, and in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortError {
    /// What kind of failure.
    pub kind: FailureKind,
    /// For a person: what was called and what it answered.
    pub message: String,
    /// What others wrote about it, such as the output of a command: for the diagnostics alone.
    pub evidence: Option<String>,
}

/// The kinds of failure that somebody tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// Too many calls, still, after all retries.
    Throttled,
    /// Something of that name or place exists already.
    Conflict,
    /// It isn't there.
    Gone,
    /// The credentials don't allow it, or there are none.
    Denied,
    /// It was asked in a way that AWS takes from nobody: it stays so.
    InvalidRequest,
    /// It passes by itself: what it refers to, a role or an instance profile, is so new that not every part of AWS knows it,
    /// or a zone has no capacity right now.
    Passing,
    /// ECS takes a target group only once a listener or a rule has it.
    NeedsListener,
    /// Anything else.
    Other,
}

impl PortError {
    /// A failure of a kind.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> PortError {
        PortError { kind, message: message.into(), evidence: None }
    }
}

impl fmt::Display for PortError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for PortError {}

/// How old an observation may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Read now.
    Now,
    /// As a refresh needs it: reads of many resources that arrive together share calls.
    Shared,
}
