//! Making stacks: looks at what is there, carries changes out through ports, and keeps a color that serves users from harm.

mod build;
#[cfg(test)]
pub(crate) mod in_memory;
pub mod live_guard;
pub mod objects;
mod observe;
pub mod ports;
mod teardown;
mod wait;

use std::sync::Arc;

pub use build::{Build, Progress};
pub use observe::{Seen, observe};

use self::objects::Objects;
use self::ports::StackPorts;
use crate::run::rollout::ports::LoadBalancer;

/// What the making of stacks shares within one run of Terraform.
#[derive(Clone)]
pub struct StackContext {
    /// What environments are made of.
    pub ports: StackPorts,
    /// The routes to them.
    pub load_balancer: Arc<dyn LoadBalancer>,
    /// Held while routes are read, changed and written back outside of a rollout.
    pub routes: Arc<tokio::sync::Mutex<()>>,
    /// The objects of this run.
    pub objects: Arc<Objects>,
}
