//! Real health checks: one task per target of every group in use.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::Full;
use hyper::Request;
use hyper::body::Bytes;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::core::upstream::{UpstreamError, send_once};
use crate::node::config::{HealthCheck, Place, Target, View};
use crate::node::health::{Machine, Outcome, State};

/// No check runs more often, however small the scale.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);

type Key = (String, Target);

#[derive(Debug)]
struct Entry {
    check: HealthCheck,
    place: Option<Place>,
    machine: Arc<Mutex<Machine>>,
    task: JoinHandle<()>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The running checks and what they found.
#[derive(Debug)]
pub(crate) struct Checker {
    interval_scale: f64,
    entries: Mutex<HashMap<Key, Entry>>,
}

impl Checker {
    pub(crate) fn new(interval_scale: f64) -> Self {
        Self { interval_scale, entries: Mutex::default() }
    }

    /// Starts and ends checks so that they fit the view; known targets keep their state.
    pub(crate) fn apply(&self, view: &View) {
        let in_use = view.groups_in_use();
        let mut wanted: HashMap<Key, &HealthCheck> = HashMap::new();
        let groups = view.target_groups.values();
        for group in groups.filter(|group| group.check.enabled && in_use.contains(group.arn.as_str())) {
            for target in &group.targets {
                wanted.insert((group.arn.clone(), target.clone()), &group.check);
            }
        }
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|key, _| wanted.contains_key(key));
        for (key, check) in wanted {
            let place = view.place(&key.1);
            if entries.get(&key).is_some_and(|entry| entry.check == *check && entry.place == place) {
                continue;
            }
            let machine = match entries.get(&key) {
                Some(entry) => Arc::clone(&entry.machine),
                None => Arc::new(Mutex::new(Machine::new())),
            };
            let task = tokio::spawn(watch(place, check.clone(), Arc::clone(&machine), self.interval_scale));
            entries.insert(key, Entry { check: check.clone(), place, machine, task });
        }
    }

    /// The state of a target of a group in use.
    pub(crate) fn state(&self, group: &str, target: &Target) -> State {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries
            .get(&(group.to_owned(), target.clone()))
            .map_or(State::Registering, |entry| entry.machine.lock().unwrap_or_else(PoisonError::into_inner).state)
    }

    pub(crate) fn stop(&self) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

async fn watch(place: Option<Place>, check: HealthCheck, machine: Arc<Mutex<Machine>>, scale: f64) {
    let interval = check.interval.mul_f64(scale).max(SHORTEST_INTERVAL);
    loop {
        let started = Instant::now();
        machine.lock().unwrap_or_else(PoisonError::into_inner).started();
        let outcome = probe(place, &check).await;
        machine.lock().unwrap_or_else(PoisonError::into_inner).feed(
            outcome,
            check.healthy_threshold,
            check.unhealthy_threshold,
        );
        tokio::time::sleep_until(started + interval).await;
        // A check that outlasts its interval must not make the loop spin.
        tokio::task::yield_now().await;
    }
}

async fn probe(place: Option<Place>, check: &HealthCheck) -> Outcome {
    let address = match (place, check.port) {
        (None, _) => return Outcome::Failed,
        (Some(Place::Address(address)), Some(port)) => SocketAddr::new(address.ip(), port),
        (Some(place), _) => place.address(),
    };
    if check.http { probe_http(address, check).await } else { probe_tcp(address, check.timeout).await }
}

async fn probe_http(address: SocketAddr, check: &HealthCheck) -> Outcome {
    let request = Request::get(&check.path)
        .header("host", address.to_string())
        .header("user-agent", "ELB-HealthChecker/2.0")
        .header("connection", "close")
        .body(Full::<Bytes>::default());
    let Ok(request) = request else { return Outcome::Failed };
    match send_once(address, request, check.timeout).await {
        Ok(response) if check.matcher.passes(response.status().as_u16()) => Outcome::Passed,
        Ok(response) => Outcome::Mismatch(response.status().as_u16()),
        Err(UpstreamError::Timeout) => Outcome::TimedOut,
        Err(UpstreamError::Connect | UpstreamError::Broken) => Outcome::Failed,
    }
}

async fn probe_tcp(address: SocketAddr, limit: Duration) -> Outcome {
    match tokio::time::timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Outcome::Passed,
        Ok(Err(_)) => Outcome::Failed,
        Err(_) => Outcome::TimedOut,
    }
}
