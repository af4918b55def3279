//! Changing the schema: runs the phases of a migration through ports, under the database's lock and, for a contract, under
//! that of rollouts.

pub mod contraction;
#[cfg(test)]
pub(crate) mod in_memory;
pub mod migrator;
pub mod ports;
