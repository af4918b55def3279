//! What runs here in place of instances and tasks: one small application each, found by the id of its target.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::compute::app::{App, AppConfig};

/// How long an application outlives its deregistration, for requests under way.
const GRACE: Duration = Duration::from_millis(200);

/// The running applications, by target id.
#[derive(Debug)]
pub(crate) struct Hosts {
    grace: Duration,
    running: Mutex<BTreeMap<String, App>>,
}

impl Hosts {
    /// `lag`: how much later than moto the nodes know of a change.
    pub(crate) fn new(lag: Duration) -> Self {
        Self { grace: GRACE + lag, running: Mutex::default() }
    }

    /// Starts the application of a target; a sick one answers 500 to everything.
    pub(crate) async fn start(&self, id: &str, color: &str, release: &str, sick: bool) -> anyhow::Result<()> {
        let listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        let app = App::start(AppConfig { listen, color: color.to_owned(), release: release.to_owned(), handler: None })
            .await?;
        app.set_failing(sick.then_some(500));
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), app);
        Ok(())
    }

    /// Stops it once the nodes had time to turn away from it; its address is unknown from now on.
    pub(crate) fn stop(&self, id: &str) {
        let app = self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        let grace = self.grace;
        if let Some(app) = app {
            tokio::spawn(async move {
                tokio::time::sleep(grace).await;
                app.stop().await;
            });
        }
    }

    /// Where the targets are really found.
    pub(crate) fn addresses(&self) -> BTreeMap<String, SocketAddr> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().filter_map(|(id, app)| Some((id.clone(), *app.addresses().first()?))).collect()
    }

    pub(crate) fn stop_all(&self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
