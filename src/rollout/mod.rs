//! How traffic moves, decided without doing: pure, synchronous, deterministic.
//!
//! An [`Intent`] is what the user wants, a [`World`] is what was seen. [`planner::plan`] turns both into a [`Runbook`]:
//! stages of steps, each with its postcondition and its undo. [`machine::next`] says what to do now, from the runbook,
//! the [`Journal`] of what happened so far, and the world; it leaves no choice to whoever carries it out. Recovery
//! after a crash is the same two calls over what is seen then.
//!
//! No clock, no runtime, no network here; a test of the crate sees to it.

mod accepts;
mod budget;
mod capacity;
mod check;
mod cohort;
pub mod cookies;
pub mod freeze;
pub mod gate;
mod intent;
mod journal;
pub mod lint;
pub mod lock_record;
pub mod machine;
pub mod metrics;
pub mod planner;
mod processing;
mod route;
mod runbook;
pub mod situation;
pub mod spec;
pub mod spending;
pub mod statistics;
pub mod strategy;
mod world;

#[cfg(test)]
mod journal_tests;
#[cfg(test)]
mod tests;

pub use accepts::{condition_header, condition_value, wildcards};
pub use budget::{Budget, BudgetCheck, Source};
pub use capacity::{Before, Capacity, CapacityPolicy, PINNED_TAG, Scalable};
pub use check::{
    AlarmCheck, AlarmPolicy, Block, Check, Checking, CommandCheck, Counted, CountsAs, HealthyPolicy, HttpCheck,
    Inconclusive, LambdaCheck, METRIC_IDS, Metric, MetricCheck, MetricQuery, MetricSource, MetricTest, SessionCheck,
    Subject, fill, is_plain_url,
};
pub use cohort::{Cohort, CohortRules, MOST_VALUES, MOST_WILDCARDS};
pub use intent::{Environment, Intent, OnFailure, Removal, Validation, label, labeled};
pub use journal::{Entry, Illegal, IllegalEntry, Journal, StepId};
pub use lock_record::{LockRecord, Raised};
pub use processing::{
    Authentication, Claim, ClaimFormat, ClientSecret, Cognito, JwtValidation, Oidc, Processing, Rewrite, Session,
    Unauthenticated,
};
pub use route::{
    Ahead, Conditions, Forward, HeaderCondition, LAST_PRIORITY, NEAR, Observed, Place, QueryCondition, QueryValue,
    Redirect, RouteSpec, Stickiness, Terminal, called, short,
};
pub use runbook::{Convergence, Runbook, Stage, Step, Waits, Watch, is_made_by, terminal_summary, way_back};
pub use strategy::{Approval, OnTimeout, Prove, Shift, Strategy, Tell, Verification};
pub use world::{Traffic, World, traffic};
