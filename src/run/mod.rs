//! Effects: what carries a runbook out. It decides nothing; `rollout::machine` does.

mod executor;
pub mod ports;

#[cfg(test)]
pub mod fake;
#[cfg(test)]
mod tests;

pub use executor::{Outcome, execute, observe};
