//! What runs here in place of instances and tasks: one small application each, found by the id of its target.

use std::collections::BTreeMap;
use std::mem;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::compute::app::{App, AppConfig};

/// How long an application outlives the last node that leads to it, for requests under way. A real target has its
/// deregistration delay; this is long enough for a machine that something else keeps busy.
const GRACE: Duration = Duration::from_secs(2);

/// The running applications, by target id.
#[derive(Debug, Default)]
pub(crate) struct Hosts {
    running: Mutex<BTreeMap<String, App>>,
    /// Deregistered, but some node may not know it yet.
    leaving: Mutex<Vec<(SocketAddr, App)>>,
}

impl Hosts {
    /// Starts the application of a target; a sick one answers 500 to everything.
    pub(crate) async fn start(&self, id: &str, color: &str, release: &str, sick: bool) -> anyhow::Result<()> {
        let listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
        let app = App::start(AppConfig { listen, color: color.to_owned(), release: release.to_owned(), handler: None })
            .await?;
        app.set_failing(sick.then_some(500));
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), app);
        Ok(())
    }

    /// Stops it once every node has turned away from it; its address is unknown from now on.
    pub(crate) fn stop(&self, id: &str) {
        let app = self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        let app = app.and_then(|app| Some((*app.addresses().first()?, app)));
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).extend(app);
    }

    /// Every node leads to these at most: what was told to stop and is none of them ends.
    pub(crate) fn led_to_at_most(&self, known: &BTreeMap<String, SocketAddr>) {
        for app in self.not_led_to(known) {
            tokio::spawn(async move {
                tokio::time::sleep(GRACE).await;
                app.stop().await;
            });
        }
    }

    fn not_led_to(&self, known: &BTreeMap<String, SocketAddr>) -> Vec<App> {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        let all = mem::take(&mut *leaving);
        let (stay, go) = all.into_iter().partition(|(address, _)| known.values().any(|one| one == address));
        *leaving = stay;
        go.into_iter().map(|(_, app)| app).collect()
    }

    /// Where the targets are really found.
    pub(crate) fn addresses(&self) -> BTreeMap<String, SocketAddr> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.iter().filter_map(|(id, app)| Some((id.clone(), *app.addresses().first()?))).collect()
    }

    pub(crate) fn stop_all(&self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reading what changed takes long on a busy machine: no time says that the nodes know, only they do.
    #[tokio::test]
    async fn an_application_outlives_the_last_node_that_leads_to_it() -> anyhow::Result<()> {
        let hosts = Hosts::default();
        hosts.start("i-old", "blue", "1", false).await?;
        hosts.start("i-new", "blue", "2", false).await?;
        let before = hosts.addresses();
        hosts.stop("i-old");
        let after = hosts.addresses();
        assert_eq!(after.keys().collect::<Vec<_>>(), ["i-new"]);
        assert!(hosts.not_led_to(&before).is_empty(), "a node still leads there");
        assert_eq!(hosts.not_led_to(&after).len(), 1);
        assert!(hosts.not_led_to(&after).is_empty(), "it ends once");
        Ok(())
    }
}
