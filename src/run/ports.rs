//! What the executor needs of the world, as traits: real ones in `aws/` and `http`, one fake for tests.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::rollout::gate::TargetHealth;
use crate::rollout::{Conditions, HttpCheck, Observed, RouteSpec, Terminal};

/// What kind of failure it was, for branching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Too many requests, also after all retries.
    Throttled,
    /// Somebody else's object is in the way.
    Conflict,
    /// The object isn't there.
    Gone,
    /// Not allowed, or the credentials don't count any more.
    Denied,
    /// Anything else.
    Other,
}

/// A failure, in words that fit after "failed to …:".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Its kind.
    pub kind: Kind,
    /// What was tried, what was answered.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// How old an observation may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Seen by a call that is made now.
    Now,
    /// Seen by this process some seconds ago at most: a plan that follows its own refresh needn't ask twice.
    Recent,
}

/// The load balancer.
#[async_trait]
pub trait Routing: Send + Sync {
    /// Where the routes lead. A route that isn't there is missing in the answer.
    ///
    /// `rules` holds the ARNs of the switch's own rules by route key, as far as they are known; other own rules are
    /// looked for by priority.
    async fn observe(
        &self,
        routes: &[RouteSpec],
        rules: &BTreeMap<String, String>,
        freshness: Freshness,
    ) -> Result<BTreeMap<String, Observed>, Error>;

    /// Replaces the last action of a listener or rule and leaves what comes before it as it is.
    async fn lead(&self, arn: &str, terminal: &Terminal) -> Result<(), Error>;

    /// Makes a rule and returns its ARN.
    async fn create_rule(
        &self,
        listener: &str,
        priority: i32,
        conditions: &Conditions,
        terminal: &Terminal,
    ) -> Result<String, Error>;

    /// Replaces a rule's conditions.
    async fn set_conditions(&self, arn: &str, conditions: &Conditions) -> Result<(), Error>;

    /// Deletes a rule. One that is gone already is a success.
    async fn delete_rule(&self, arn: &str) -> Result<(), Error>;

    /// The health of every target of a group.
    async fn target_health(&self, group: &str) -> Result<Vec<TargetHealth>, Error>;
}

/// The parameters that hold records.
#[async_trait]
pub trait Records: Send + Sync {
    /// A parameter's value; none if it doesn't exist.
    async fn get(&self, name: &str, freshness: Freshness) -> Result<Option<String>, Error>;

    /// Writes a parameter, creating it if need be.
    async fn put(&self, name: &str, value: &str) -> Result<(), Error>;

    /// Deletes a parameter. One that is gone already is a success.
    async fn delete(&self, name: &str) -> Result<(), Error>;
}

/// Requests to a colour.
#[async_trait]
pub trait Probe: Send + Sync {
    /// Makes one request and judges the answer.
    ///
    /// # Errors
    /// Says what was seen instead of what was due.
    async fn http(&self, check: &HttpCheck) -> Result<(), String>;
}

/// Time, so that tests can move it.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Time since some fixed moment.
    fn now(&self) -> Duration;

    /// The wall clock in RFC 3339, UTC, whole seconds.
    fn rfc3339(&self) -> String;

    /// Returns that much later.
    async fn sleep(&self, time: Duration);
}

/// All of them.
#[derive(Clone, Copy)]
pub struct Ports<'a> {
    /// The load balancer.
    pub routing: &'a dyn Routing,
    /// The records.
    pub records: &'a dyn Records,
    /// Requests.
    pub probe: &'a dyn Probe,
    /// Time.
    pub clock: &'a dyn Clock,
}
