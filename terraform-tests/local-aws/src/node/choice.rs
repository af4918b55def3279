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
use crate::node::config::{Forward, Known, Place, TargetGroup, View};
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

    /// The next target of a group: a healthy one, or any at all when none is healthy.
    pub(crate) fn next_target(&self, view: &View, group: &TargetGroup) -> Option<SocketAddr> {
        let healthy: Vec<_> = group
            .targets
            .iter()
            .filter(|target| !group.check.enabled || self.checker.state(&group.arn, target) == State::Healthy)
            .collect();
        // As a real one: with nobody healthy it fails open.
        let candidates = if healthy.is_empty() { group.targets.iter().collect() } else { healthy };
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(turns.entry(group.arn.clone()).or_default())
        };
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        let target = candidates.get(turn.checked_rem(candidates.len())?)?;
        view.place(target).map(Place::address)
    }
}
