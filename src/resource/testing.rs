//! What tests of resources have in common: Terraform's own rules for plans, and random stories that can be told again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestCaseResult, TestRng, TestRunner};
use tokio::time::{sleep, timeout};

use super::Context;
use crate::platform::{Adapters, Lifetime, Platform, Regions};
use crate::run::migration::in_memory::{Server, Way};
use crate::run::ports::{FailureKind, PortError};
use crate::run::rollout::in_memory::Fake;
use crate::run::stack::in_memory::Cloud;
use crate::settings::Settings;
use crate::tf_provider::{
    ApplyRequest, Cancel, Checkpoint, DestroyRequest, Diagnostic, Diagnostics, PlanRequest, Planned, ReadRequest,
    Schema, Stored, Value,
};

/// A platform that is configured, in a region that nobody named, or in this one.
struct Nowhere(Settings, Lifetime, Option<String>);

/// Worlds in memory: the provider's own, and those of other regions.
#[derive(Clone)]
struct Worlds {
    home: World,
    elsewhere: BTreeMap<String, World>,
}

/// What there is in one region.
#[derive(Clone)]
pub(super) struct World {
    pub routes: Arc<Fake>,
    pub cloud: Arc<Cloud>,
    database: Arc<Server>,
    lifetime: Lifetime,
}

impl World {
    /// A world with credentials that don't end.
    pub fn new(routes: &Arc<Fake>, cloud: &Arc<Cloud>) -> World {
        World { routes: routes.clone(), cloud: cloud.clone(), database: Server::new(), lifetime: Lifetime::Renewed }
    }

    fn adapters(&self, region: Option<String>) -> Adapters {
        let platform = Arc::new(Nowhere(Settings::default(), self.lifetime.clone(), region));
        let databases = Arc::new(Way(self.database.clone()));
        Adapters { platform, ports: self.routes.ports(), stacks: self.cloud.ports(), databases }
    }
}

impl Regions for Worlds {
    fn home(&self) -> Adapters {
        self.home.adapters(None)
    }

    fn elsewhere(&self, region: &str) -> Adapters {
        self.elsewhere.get(region).unwrap_or(&self.home).adapters(Some(region.to_owned()))
    }
}

#[async_trait]
impl Platform for Nowhere {
    fn settings(&self) -> Option<&Settings> {
        Some(&self.0)
    }

    async fn region(&self) -> Option<String> {
        self.2.clone()
    }

    async fn region_in_use(&self) -> Result<String, PortError> {
        Ok(self.2.clone().unwrap_or_else(|| "eu-central-1".to_owned()))
    }

    fn profile(&self) -> Option<String> {
        self.0.profile.clone()
    }

    async fn lifetime(&self) -> Result<Lifetime, PortError> {
        Ok(self.1.clone())
    }

    async fn database_token(&self, _: &str, _: u16, _: &str) -> Result<String, PortError> {
        Err(PortError::new(FailureKind::Denied, "there are no AWS credentials"))
    }
}

impl Context {
    /// A context over worlds in memory, with an empty database.
    pub(super) fn over(routes: &Arc<Fake>, cloud: &Arc<Cloud>) -> Context {
        let context = Context::default();
        context.set(routes, cloud, &Server::new());
        context
    }

    /// Goes over to other worlds in memory.
    pub(super) fn set(&self, routes: &Arc<Fake>, cloud: &Arc<Cloud>, database: &Arc<Server>) {
        self.set_with(routes, cloud, database, Lifetime::Renewed);
    }

    /// A context whose credentials last so long.
    pub(super) fn lasting(routes: &Arc<Fake>, cloud: &Arc<Cloud>, lifetime: Lifetime) -> Context {
        let context = Context::default();
        context.set_with(routes, cloud, &Server::new(), lifetime);
        context
    }

    fn set_with(&self, routes: &Arc<Fake>, cloud: &Arc<Cloud>, database: &Arc<Server>, lifetime: Lifetime) {
        let home = World { lifetime, database: database.clone(), ..World::new(routes, cloud) };
        self.take(home, None, BTreeMap::new());
    }

    /// A context over worlds of several regions, of which the first is the provider's own.
    pub(super) fn over_regions<const N: usize>(worlds: [(&str, World); N]) -> Context {
        let context = Context::default();
        let elsewhere = worlds.iter().map(|(region, world)| ((*region).to_owned(), world.clone())).collect();
        let [(region, home), ..] = worlds.as_slice() else { return context };
        context.take(home.clone(), Some((*region).to_owned()), elsewhere);
        context
    }

    fn take(&self, home: World, region: Option<String>, elsewhere: BTreeMap<String, World>) {
        let adapters = home.adapters(region.clone());
        self.configure(Box::new(Worlds { home, elsewhere }), adapters, region);
    }
}

/// A plan of a configuration, as Terraform asks for it.
pub(super) fn plan_request(schema: &Schema, config: &Value, prior: Option<&Stored>) -> PlanRequest {
    let before = prior.and_then(|prior| prior.state.clone());
    PlanRequest {
        proposed: proposed(schema, config, before.as_ref()),
        prior: before,
        config: config.clone(),
        private: prior.map(|prior| prior.private.clone()).unwrap_or_default(),
        cancel: Cancel::never(),
    }
}

/// The apply of a plan.
pub(super) fn apply_request(config: &Value, prior: Option<&Stored>, planned: Planned, cancel: Cancel) -> ApplyRequest {
    ApplyRequest {
        prior: prior.and_then(|prior| prior.state.clone()),
        planned: planned.state.unwrap_or(Value::Null),
        config: config.clone(),
        private: planned.private,
        checkpoint: Checkpoint::default(),
        cancel,
    }
}

/// A destroy, or its plan.
pub(super) fn destroy_request(stored: &Stored) -> DestroyRequest {
    let prior = stored.state.clone().unwrap_or(Value::Null);
    DestroyRequest { prior, private: stored.private.clone(), cancel: Cancel::never() }
}

/// The refresh of a state.
pub(super) fn read_request(state: Value, private: &[u8]) -> ReadRequest {
    ReadRequest { state, private: private.to_vec(), cancel: Cancel::never() }
}

/// As Terraform proposes it: the configuration, and what was computed before.
fn proposed(schema: &Schema, config: &Value, prior: Option<&Value>) -> Value {
    let mut value = config.clone();
    for attribute in schema.attributes() {
        if config.get(attribute.name()).is_null() && attribute.is_computed() {
            let before = prior.map_or(Value::UNKNOWN, |prior| prior.get(attribute.name()).clone());
            value.set(attribute.name(), before);
        }
    }
    value
}

/// Everything that was said, in words.
pub(super) fn words(diagnostics: &Diagnostics) -> String {
    let one = |one: &Diagnostic| {
        format!("{:?} {} {}\n{}\n", one.severity, one.path.clone().unwrap_or_default(), one.summary, one.detail)
    };
    diagnostics.iter().map(one).collect()
}

/// What was known in the plan is the same after the apply, and nothing is unknown.
#[track_caller]
pub(super) fn assert_kept(planned: &Value, applied: &Value) {
    assert!(applied.is_wholly_known(), "{applied:?}");
    assert_same_where_known(planned, applied);
}

/// What was known first is the same later.
#[track_caller]
pub(super) fn assert_same_where_known(first: &Value, later: &Value) {
    for (name, value) in first.as_map().expect("an object") {
        if value.is_wholly_known() {
            assert_eq!(value, later.get(name), "{name}");
        }
    }
}

/// The seed of random stories: the same each time, unless another one is given, which a failure tells.
pub(super) fn seed() -> u64 {
    std::env::var("BLUEGREEN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// How many stories are told: `BLUEGREEN_STORIES`, if it is set.
pub(super) fn told() -> Option<u32> {
    std::env::var("BLUEGREEN_STORIES").ok().and_then(|count| count.parse().ok())
}

/// Tells so many random stories on a clock that goes by itself, others for each offset.
#[track_caller]
pub(super) fn tell<S: Strategy>(cases: u32, offset: u64, stories: &S, play: impl AsyncFn(S::Value) -> TestCaseResult) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed().to_le_bytes());
    bytes[8..16].copy_from_slice(&offset.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let result = runner.run(stories, |story| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.map_err(|error| TestCaseError::fail(error.to_string()))?.block_on(play(story))
    });
    if let Err(failure) = result {
        let told = told().map_or(String::new(), |told| format!(" BLUEGREEN_STORIES={told}"));
        panic!("BLUEGREEN_SEED={}{told}: {failure}", seed());
    }
}

/// How long a process is frozen: longer than another machine waits for its lock.
const FREEZE: Duration = Duration::from_secs(150);

/// Work of a process that is frozen once, at that second: all that it waits for comes at once when it thaws.
pub(super) async fn frozen<T>(at: Option<u64>, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    if let Some(seconds) = at {
        if let Ok(done) = timeout(Duration::from_secs(seconds), &mut work).await {
            return done;
        }
        sleep(FREEZE).await;
    }
    work.await
}
