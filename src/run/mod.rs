//! Effects: carries a runbook out through ports, and tells what came of it. Decides nothing.

pub mod executor;
pub mod ports;
