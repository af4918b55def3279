//! Effects: carries a runbook out through ports, and tells what came of it. Decides nothing.

pub mod executor;
#[cfg(test)]
pub(crate) mod fake;
pub mod ports;

#[cfg(test)]
mod tests;
