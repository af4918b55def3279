//! Moving traffic: carries a runbook out through ports, and tells what came of it. Decides nothing.

mod checks;
pub mod events;
pub mod executor;
#[cfg(test)]
pub(crate) mod in_memory;
mod kept;
mod late_writes;
pub mod lock;
pub mod ports;
pub mod probe;
mod secrets;
pub mod spending;

#[cfg(test)]
mod tests;
