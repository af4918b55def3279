//! What users write: the provider block, its resources and functions. Each turns configuration values into a wish free
//! of Terraform, has it planned and carried out, and tells what came of it.

mod arn;
mod duration;
mod environment;
mod functions;
mod migration;
#[cfg(test)]
mod pages;
mod provider;
mod switch;

use std::sync::{Arc, Mutex, PoisonError};

use crate::aws::{self, Connection};
use crate::run::ports::Ports;
use crate::tf_provider::Diagnostics;

pub use provider::Bluegreen;

/// What the resources share: the connection that the provider block describes.
#[derive(Default)]
pub struct Context(Mutex<Option<Shared>>);

#[derive(Clone)]
struct Shared {
    connection: Arc<Connection>,
    ports: Ports,
    services: Arc<aws::Services>,
}

impl Context {
    fn configure(&self, connection: Connection) {
        let connection = Arc::new(connection);
        let ports = aws::ports(&connection);
        let services = Arc::new(aws::Services::new(&connection));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Shared { connection, ports, services });
    }

    /// A context with ports that are not AWS.
    #[cfg(test)]
    fn with_ports(ports: Ports) -> Context {
        let context = Context::default();
        context.set_ports(ports);
        context
    }

    #[cfg(test)]
    fn set_ports(&self, ports: Ports) {
        let connection = Arc::new(Connection::new(Some(aws::Settings::default())));
        let services = Arc::new(aws::Services::new(&connection));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Shared { connection, ports, services });
    }

    /// The connection, or an error that there is none.
    fn shared(&self, diagnostics: &mut Diagnostics) -> Option<Shared> {
        let shared = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if shared.is_none() {
            diagnostics.error("The provider is not configured", "Terraform asked before it configured the provider.");
        }
        shared
    }
}
