//! Effects: carries a runbook out through ports, and tells what came of it. Decides nothing.

mod checks;
pub mod command;
pub mod events;
pub mod executor;
#[cfg(test)]
pub(crate) mod fake;
mod holder;
pub mod lock;
pub mod ports;

#[cfg(test)]
mod tests;
