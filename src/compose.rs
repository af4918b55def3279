//! The composition root: which adapters are behind the ports.

use std::sync::Arc;

use crate::aws::{self, Connection};
use crate::database::Sqlx;
use crate::platform::{Adapters, Regions};
use crate::process::Processes;
use crate::run::rollout::ports::HttpProbe;
use crate::run::rollout::probe::Probe;
use crate::settings::Settings;

/// AWS in each region, databases over the network, requests of our own, and processes on this machine.
struct OnAws {
    home: Arc<Connection>,
    http: Arc<dyn HttpProbe>,
}

impl OnAws {
    fn adapters(&self, connection: Arc<Connection>) -> Adapters {
        let ports = aws::ports(&connection, self.http.clone(), Arc::new(Processes));
        let stacks = aws::stack_ports(&connection);
        Adapters { platform: connection, ports, stacks, databases: Arc::new(Sqlx) }
    }
}

impl Regions for OnAws {
    fn home(&self) -> Adapters {
        self.adapters(self.home.clone())
    }

    fn elsewhere(&self, region: &str) -> Adapters {
        self.adapters(Arc::new(self.home.elsewhere(region)))
    }
}

/// What is reached with these settings.
pub fn on_aws(settings: Option<Settings>) -> Box<dyn Regions> {
    let http = Arc::new(Probe::new(settings.clone()));
    Box::new(OnAws { home: Arc::new(Connection::new(settings)), http })
}
