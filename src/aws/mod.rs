//! AWS behind the ports: the only room that knows the SDK. One file per service.

mod batch;
mod connection;
mod elbv2;
mod error;
mod http;
mod identity;
mod probe;
mod settings;
mod ssm;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use connection::Connection;
pub use elbv2::Elbv2;
pub use settings::{AssumeRole, Endpoints, RetryMode, Settings, WebIdentity};

use crate::run::ports::Ports;

/// The ports on AWS. Nothing is on the network before one of them is used.
pub fn ports(connection: &Arc<Connection>) -> Ports {
    Ports {
        load_balancer: Arc::new(Elbv2::new(connection.clone())),
        records: Arc::new(ssm::Ssm::new(connection.clone())),
        http: Arc::new(probe::Probe::new()),
    }
}
