//! The composition root: which adapters are behind the ports.

use std::sync::Arc;

use crate::aws::{self, Connection};
use crate::database::Sqlx;
use crate::platform::Adapters;
use crate::process::Processes;
use crate::run::rollout::probe::Probe;
use crate::settings::Settings;

/// AWS, databases over the network, requests of our own, and processes on this machine.
pub fn on_aws(settings: Option<Settings>) -> Adapters {
    let http = Arc::new(Probe::new(settings.clone()));
    let connection = Arc::new(Connection::new(settings));
    let (ports, stacks) = (aws::ports(&connection, http, Arc::new(Processes)), aws::stack_ports(&connection));
    Adapters { platform: connection, ports, stacks, databases: Arc::new(Sqlx) }
}
