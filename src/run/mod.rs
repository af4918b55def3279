//! Effects: carries a runbook out through ports, and tells what came of it. Decides nothing.

pub mod call;
mod checks;
pub mod command;
pub mod contraction;
pub mod database;
pub mod events;
pub mod executor;
#[cfg(test)]
pub(crate) mod fake;
mod holder;
pub mod lock;
pub mod migrator;
pub mod ports;
mod secrets;
pub mod stack;
pub mod supervisor;

#[cfg(test)]
mod tests;
