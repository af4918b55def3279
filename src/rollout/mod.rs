//! How traffic moves, decided without doing: pure, synchronous, deterministic.
//!
//! An [`Intent`] is what the user wants, a [`World`] is what was seen. [`planner::plan`] turns both into a [`Runbook`]:
//! stages of steps, each with its postcondition and its undo. [`machine::next`] says what to do now, from the runbook,
//! the [`Journal`] of what happened so far, and the world; it leaves no choice to whoever carries it out. Recovery
//! after a crash is the same two calls over what is seen then.
//!
//! No clock, no runtime, no network here; a test of the crate sees to it.

mod capacity;
pub mod gate;
mod intent;
mod journal;
pub mod lint;
pub mod machine;
pub mod planner;
mod runbook;
mod world;

#[cfg(test)]
mod tests;

pub use capacity::{Before, Capacity, CapacityPolicy, Scalable};
pub use intent::{Conditions, Environment, HealthyPolicy, HttpCheck, Intent, Removal, RouteSpec, Validation, short};
pub use journal::{Entry, Journal, StepId};
pub use runbook::{OnFailure, Runbook, Stage, Step, terminal_words};
pub use world::{Forward, Observed, Redirect, Stickiness, Terminal, Traffic, World, traffic};
