//! Whom a request goes to: a group by weight, and one of its targets in turn.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::core::metrics::Metrics;
use crate::core::upstream::Upstream;
use crate::node::checker::Checker;
use crate::node::config::{Forward, Known, Place, Target, TargetGroup, View};
use crate::node::health::State;
use crate::node::routing::weighted_group;

/// The nodes' shared state: what a request needs.
#[derive(Debug)]
pub(crate) struct Node {
    views: Vec<watch::Receiver<Known>>,
    checker: Arc<Checker>,
    pub upstream: Upstream,
    pub metrics: Arc<Metrics>,
    random: Mutex<fastrand::Rng>,
    turns: Mutex<HashMap<String, Arc<AtomicUsize>>>,
    started: Instant,
    /// Tells our cookies from those of an earlier run.
    pub instance: u32,
    pub target_limit: Duration,
}

impl Node {
    pub(crate) fn new(
        seed: u64,
        views: Vec<watch::Receiver<Known>>,
        checker: Arc<Checker>,
        target_limit: Duration,
        metrics: &Arc<Metrics>,
    ) -> Self {
        Self {
            views,
            checker,
            upstream: Upstream::default(),
            metrics: Arc::clone(metrics),
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
            turns: Mutex::default(),
            started: Instant::now(),
            instance: fastrand::u32(..),
            target_limit,
        }
    }

    /// What the first node knows.
    pub(crate) fn view(&self) -> Arc<View> {
        self.views.first().map(|view| Arc::clone(&view.borrow().1)).unwrap_or_default()
    }

    /// What the node knows that a client is connected to. One that does not know the listener yet has no open port: the client
    /// is connected to the first.
    pub(crate) fn view_of(&self, client: SocketAddr, listener: &str) -> Arc<View> {
        let node = usize::from(client.port()).checked_rem(self.views.len()).unwrap_or_default();
        let view = self.views.get(node).map(|view| Arc::clone(&view.borrow().1));
        view.filter(|view| view.listener(listener).is_some()).unwrap_or_else(|| self.view())
    }

    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A group by weight.
    pub(crate) fn draw<'f>(&self, forward: &'f Forward) -> Option<&'f str> {
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        weighted_group(forward, |below| random.u64(0..below))
    }

    /// The next target of a group: a healthy one, or any at all when none is healthy. One whose machine this node does
    /// not know yet is none, though a later reading found it healthy.
    pub(crate) fn next_target(&self, view: &View, group: &TargetGroup) -> Option<SocketAddr> {
        let known: Vec<(&Target, Place)> =
            group.targets.iter().filter_map(|target| Some((target, view.place(target)?))).collect();
        let is_healthy = |(target, _): &&(&Target, Place)| {
            !group.check.enabled || self.checker.state(&group.arn, target) == State::Healthy
        };
        let healthy: Vec<(&Target, Place)> = known.iter().filter(is_healthy).copied().collect();
        // As a real one: with nobody healthy it fails open.
        let candidates = if healthy.is_empty() { known } else { healthy };
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(group.arn.clone()).or_default())
        };
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        let (_, place) = candidates.get(turn.checked_rem(candidates.len())?)?;
        Some(place.address())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::describe;

    /// A reading between the start of an instance and the start of its application lists a target without a machine.
    #[tokio::test]
    async fn a_target_without_a_machine_gets_no_request() {
        let node = Node::new(1, Vec::new(), Arc::new(Checker::new(1.0)), Duration::ZERO, &Arc::default());
        let target = |id: &str| Target { id: id.to_owned(), port: 80 };
        let described = describe::TargetGroup { health_check_enabled: Some("false".to_owned()), ..Default::default() };
        let group = TargetGroup::new(described, vec![target("i-old"), target("i-new")]);
        let old = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut view = View::default();
        assert_eq!(node.next_target(&view, &group), None);
        view.hosts.insert("i-old".to_owned(), old);
        for _ in 0..4 {
            assert_eq!(node.next_target(&view, &group), Some(old));
        }
    }
}
