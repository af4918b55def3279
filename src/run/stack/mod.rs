//! Making stacks: looks at what is there, carries changes out through ports, and keeps a color that serves users from harm.

mod build;
mod by_hand;
mod carry_out;
mod context;
#[cfg(test)]
pub(crate) mod in_memory;
mod instances;
pub mod live_guard;
mod objects;
mod observe;
pub mod ports;
mod service;
pub mod survey;
mod target_group;
mod teardown;
mod wait;

pub use build::{Build, Progress};
pub use context::StackContext;
pub use observe::{Seen, observe};
