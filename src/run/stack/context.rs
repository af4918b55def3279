//! What the making of stacks shares within one run of Terraform.

use std::sync::Arc;

use crate::run::rollout::ports::LoadBalancer;
use crate::run::stack::objects::Objects;
use crate::run::stack::ports::StackPorts;
use crate::shell::Shell;

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
    /// For commands to paste.
    pub shell: Shell,
}
