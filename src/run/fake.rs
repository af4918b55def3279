//! A world in memory behind the ports, that fails or dies at the call it is told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::ports::{Capacities, FailureKind, Freshness, HttpProbe, LoadBalancer, PortError, Ports, Records};
use crate::rollout::gate::{HttpAnswer, TargetHealth};
use crate::rollout::{Capacity, Conditions, HttpCheck, Observed, RouteSpec, Scalable, Terminal, World};

/// What goes wrong at a call that changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// An error, and no effect.
    Refused,
    /// The effect, and an error.
    LostAnswer,
    /// The process dies before the effect.
    DiesBefore,
    /// The process dies after the effect.
    DiesAfter,
}

/// The state of the world, and what goes wrong in it.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    state: Mutex<State>,
    died: Notify,
}

#[derive(Debug, Default)]
struct State {
    world: World,
    health: BTreeMap<String, Vec<TargetHealth>>,
    status: u16,
    calls: Vec<String>,
    /// Every world that there was, for what clients may have seen.
    history: Vec<World>,
    unseen: BTreeMap<String, Observed>,
    /// Reads fail once so many changing calls were made, so many times.
    blind: Option<(usize, usize)>,
    /// By the number of the changing call, from 0.
    faults: BTreeMap<usize, Fault>,
}

impl Fake {
    /// This world, with two healthy targets in each of these groups.
    pub(crate) fn new(world: World, groups: &[&str]) -> Arc<Fake> {
        let target =
            |n: u8| TargetHealth { target: format!("10.0.0.{n}:80"), state: "healthy".to_owned(), reason: None };
        let health = groups.iter().map(|group| ((*group).to_owned(), vec![target(1), target(2)])).collect();
        let history = vec![world.clone()];
        Arc::new(Fake {
            state: Mutex::new(State { world, health, status: 200, history, ..State::default() }),
            died: Notify::new(),
        })
    }

    pub(crate) fn ports(self: &Arc<Fake>) -> Ports {
        Ports { load_balancer: self.clone(), records: self.clone(), http: self.clone(), capacities: self.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn world(&self) -> World {
        self.state().world.clone()
    }

    pub(crate) fn history(&self) -> Vec<World> {
        self.state().history.clone()
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    pub(crate) fn set_health(&self, group: &str, states: &[&str]) {
        let target = |(n, state): (usize, &&str)| TargetHealth {
            target: format!("10.0.0.{}:80", n + 1),
            state: (*state).to_owned(),
            reason: (*state != "healthy").then(|| "Target.Timeout: Request timed out".to_owned()),
        };
        self.state().health.insert(group.to_owned(), states.iter().enumerate().map(target).collect());
    }

    pub(crate) fn set_status(&self, status: u16) {
        self.state().status = status;
    }

    pub(crate) fn fault(&self, call: usize, fault: Fault) {
        self.state().faults.insert(call, fault);
    }

    /// A rule that only becomes visible when somebody tries to make one in its place.
    pub(crate) fn insert_unseen(&self, key: &str, observed: Observed) {
        self.state().unseen.insert(key.to_owned(), observed);
    }

    /// After so many changing calls, so many looks fail.
    pub(crate) fn blind(&self, after_calls: usize, looks: usize) {
        self.state().blind = Some((after_calls, looks));
    }

    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.calls.clear();
    }

    /// Returns when a fault killed the process: whoever runs must be dropped then.
    pub(crate) async fn died(&self) {
        self.died.notified().await;
    }

    async fn change(&self, what: String, effect: impl FnOnce(&mut World) + Send) -> Result<(), PortError> {
        let fault = {
            let mut state = self.state();
            let fault = state.faults.get(&state.calls.len()).copied();
            state.calls.push(what);
            if !matches!(fault, Some(Fault::Refused | Fault::DiesBefore)) {
                effect(&mut state.world);
                let world = state.world.clone();
                state.history.push(world);
            }
            fault
        };
        match fault {
            None => Ok(()),
            Some(Fault::Refused | Fault::LostAnswer) => Err(PortError::new(FailureKind::Other, "it broke")),
            Some(Fault::DiesBefore | Fault::DiesAfter) => {
                self.died.notify_one();
                std::future::pending().await
            }
        }
    }
}

#[async_trait]
impl LoadBalancer for Fake {
    async fn observe(&self, routes: &[RouteSpec], _: Freshness) -> Result<BTreeMap<String, Observed>, PortError> {
        let mut state = self.state();
        let calls = state.calls.len();
        if let Some((after, looks)) = &mut state.blind
            && calls >= *after
            && *looks > 0
        {
            *looks -= 1;
            return Err(PortError::new(FailureKind::Denied, "the token expired"));
        }
        let find = |route: &RouteSpec| Some((route.key(), state.world.routes.get(&route.key())?.clone()));
        Ok(routes.iter().filter_map(find).collect())
    }

    async fn set_terminal(&self, route: &RouteSpec, _: &str, terminal: &Terminal) -> Result<(), PortError> {
        let (key, terminal) = (route.key(), terminal.clone());
        let effect = |world: &mut World| {
            if let Some(observed) = world.routes.get_mut(&key) {
                observed.terminal = terminal;
            }
        };
        self.change(format!("set {}", route.key()), effect).await
    }

    async fn create_rule(
        &self,
        listener: &str,
        priority: i32,
        conditions: &Conditions,
        terminal: &Terminal,
        _: &BTreeMap<String, String>,
    ) -> Result<(), PortError> {
        let key = format!("{listener}#{priority}");
        let unseen = self.state().unseen.remove(&key);
        if let Some(observed) = unseen {
            self.state().world.routes.insert(key.clone(), observed);
        }
        if self.state().world.routes.contains_key(&key) {
            return Err(PortError::new(FailureKind::Conflict, "PriorityInUse"));
        }
        let conditions = Some(conditions.clone());
        let observed = Observed { arn: key.clone(), terminal: terminal.clone(), conditions };
        self.change(format!("create {key}"), |world| drop(world.routes.insert(key.clone(), observed))).await
    }

    async fn set_conditions(&self, arn: &str, conditions: &Conditions) -> Result<(), PortError> {
        let conditions = Some(conditions.clone());
        let effect = |world: &mut World| {
            if let Some(observed) = world.routes.get_mut(arn) {
                observed.conditions = conditions;
            }
        };
        self.change(format!("conditions {arn}"), effect).await
    }

    async fn delete_rule(&self, arn: &str) -> Result<(), PortError> {
        self.change(format!("delete {arn}"), |world| drop(world.routes.remove(arn))).await
    }

    async fn target_health(&self, group: &str) -> Result<Vec<TargetHealth>, PortError> {
        Ok(self.state().health.get(group).cloned().unwrap_or_default())
    }

    async fn mark_previews(&self, _: &[String], _: &[String]) -> Result<(), PortError> {
        Ok(())
    }

    async fn routes_of(&self, _: &[String], _: Freshness) -> Result<Vec<(RouteSpec, Observed)>, PortError> {
        self.splitting_routes().await
    }

    async fn splitting_routes(&self) -> Result<Vec<(RouteSpec, Observed)>, PortError> {
        let routes = self.state().world.routes.clone();
        Ok(routes.into_iter().map(|(key, observed)| (RouteSpec::Listener(key), observed)).collect())
    }

    async fn group_names(&self, arns: Vec<String>) -> Result<BTreeMap<String, String>, PortError> {
        Ok(arns.into_iter().map(|arn| (arn.clone(), crate::rollout::short(&arn))).collect())
    }
}

#[async_trait]
impl Records for Fake {
    async fn get(&self, _: &str, _: Freshness) -> Result<Option<String>, PortError> {
        Ok(self.state().world.record.clone())
    }

    async fn create(&self, name: &str, value: &str, _: &BTreeMap<String, String>) -> Result<(), PortError> {
        if self.state().world.record.is_some() {
            return Err(PortError::new(FailureKind::Conflict, "ParameterAlreadyExists"));
        }
        let value = Some(value.to_owned());
        self.change(format!("create {name}"), |world| world.record = value).await
    }

    async fn write(&self, name: &str, value: &str) -> Result<(), PortError> {
        let value = Some(value.to_owned());
        self.change(format!("write {name}"), |world| world.record = value).await
    }

    async fn delete(&self, name: &str) -> Result<(), PortError> {
        self.change(format!("delete {name}"), |world| world.record = None).await
    }

    async fn tags(&self, _: &str) -> Result<BTreeMap<String, String>, PortError> {
        Ok(BTreeMap::new())
    }
}

/// A colour's group is named after it.
fn color_of(of: &Scalable) -> String {
    match of {
        Scalable::ScalingGroup(name) | Scalable::Service(name) => name.clone(),
    }
}

#[async_trait]
impl Capacities for Fake {
    async fn get(&self, of: &Scalable) -> Result<Option<Capacity>, PortError> {
        Ok(self.state().world.capacities.get(&color_of(of)).copied())
    }

    async fn set(&self, of: &Scalable, _: Capacity, after: Capacity) -> Result<(), PortError> {
        let color = color_of(of);
        let effect = |world: &mut World| {
            world.capacities.insert(color.clone(), after);
        };
        self.change(format!("size {color}"), effect).await
    }
}

#[async_trait]
impl HttpProbe for Fake {
    async fn probe(&self, _: &HttpCheck) -> Result<HttpAnswer, PortError> {
        let status = self.state().status;
        let latency = std::time::Duration::from_millis(5);
        Ok(HttpAnswer { status, latency, excerpt: "hello".to_owned(), matches: None })
    }
}
