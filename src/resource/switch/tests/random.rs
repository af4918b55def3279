//! Random rollouts: whatever fails, dies or is meddled with, no client was ever led astray, the state tells the truth, and
//! the next apply comes right.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

use super::rollouts::bury;
use super::{BLUE, GREEN, Stage};
use crate::resource::Context;
use crate::resource::switch::Switch;
use crate::rollout::{Forward, Observed, Terminal, World};
use crate::run::fake::{Fake, Fault};
use crate::tf_provider::{Number, Stored, Value};

const RED: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/red/1";
const GROUPS: [&str; 3] = [BLUE, GREEN, RED];
const COLORS: [&str; 3] = ["blue", "green", "red"];
/// How many rollouts are tried.
const CASES: u32 = 2000;

#[derive(Clone, Debug)]
struct Case {
    colors: usize,
    routes: usize,
    own_rule: bool,
    weights: Vec<u32>,
    attached: bool,
    verified: bool,
    hold_on_failure: bool,
    /// What goes wrong at which changing call.
    faults: Vec<(usize, u8)>,
    /// After so many changing calls green answers with errors.
    breaks: Option<usize>,
    /// After so many seconds of an apply somebody else moves the first route.
    meddled: Option<u64>,
    /// The wishes, one after the other; the last one without anything wrong.
    wishes: Vec<usize>,
}

fn case() -> impl Strategy<Value = Case> {
    let weights = prop::collection::btree_set(1_u32..1000, 0..4);
    let shape = (2_usize..4, 1_usize..4, any::<bool>(), weights, any::<bool>(), any::<bool>(), any::<bool>());
    let trouble = (
        prop::collection::vec((0_usize..12, 0_u8..4), 0..3),
        prop::option::weighted(0.2, 0_usize..8),
        prop::option::weighted(0.2, 0_u64..120),
        prop::collection::vec(0_usize..3, 1..4),
    );
    (shape, trouble).prop_map(
        |((colors, routes, own_rule, weights, attached, verified, hold), (faults, breaks, meddled, wishes))| Case {
            colors,
            routes,
            own_rule,
            weights: weights.into_iter().collect(),
            attached,
            verified,
            hold_on_failure: hold,
            faults,
            breaks,
            meddled,
            wishes: wishes.into_iter().map(|wish| wish % colors).collect(),
        },
    )
}

fn listener(n: usize) -> String {
    format!("arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/1/{n}")
}

impl Case {
    fn world(&self) -> World {
        let idle = GROUPS[1..self.colors].iter().map(|group| ((*group).to_owned(), 0));
        let mut groups = vec![(BLUE.to_owned(), 100)];
        groups.extend(idle.filter(|_| self.attached));
        let terminal = Terminal::Forward(Forward { groups, stickiness: None });
        let observed =
            |n| (listener(n), Observed { arn: listener(n), terminal: terminal.clone(), conditions: None, place: None });
        let record = Some("blue".to_owned());
        World { routes: (0..self.routes).map(observed).collect(), record, ..World::default() }
    }

    fn config(&self, switch: &Switch, wish: usize) -> Value {
        let mut config = super::config(switch, Value::from(COLORS[wish]));
        let environment = |n: usize| (COLORS[n], Value::object([("target_group_arn", Value::from(GROUPS[n]))]));
        config.set("environments", Value::object((0..self.colors).map(environment)));
        let mut routes: Vec<Value> =
            (0..self.routes).map(|n| Value::object([("listener_arn", Value::from(listener(n)))])).collect();
        if self.own_rule {
            let paths = Value::List(vec![Value::from("/api/*")]);
            routes.push(Value::object([
                ("listener_arn", Value::from(listener(0))),
                ("priority", Value::Number(Number::Int(10))),
                ("conditions", Value::object([("path_patterns", paths)])),
            ]));
        }
        config.set("routes", Value::List(routes));
        let step = |weight: &u32| {
            let percent = Value::Number(Number::from_f64(f64::from(*weight) / 10.0));
            Value::object([("weight", percent), ("hold", Value::from("30s"))])
        };
        config.set("strategy", Value::object([("steps", Value::List(self.weights.iter().map(step).collect()))]));
        if self.verified {
            let check = Value::object([("url", Value::from("http://{color}.test/"))]);
            config.set(
                "verification",
                Value::object([("duration", Value::from("30s")), ("http", Value::List(vec![check]))]),
            );
        }
        if self.hold_on_failure {
            config.set("on_failure", Value::from("hold"));
        }
        config
    }

    /// One apply, with everything that goes wrong, and what is left of it. None if the process was killed.
    async fn apply(&self, stage: &Stage, config: &Value, prior: Option<&Stored>) -> Option<Stored> {
        let breaking = async {
            loop {
                if self.breaks.is_some_and(|calls| stage.fake.calls().len() > calls) {
                    stage.fake.set_status(500);
                }
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        };
        let meddling = async {
            if let Some(seconds) = self.meddled {
                tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
                stage.fake.meddle(|world| {
                    if let Some(route) = world.routes.get_mut(&listener(0)) {
                        let groups = vec![(BLUE.to_owned(), 63), (GREEN.to_owned(), 37)];
                        route.terminal = Terminal::Forward(Forward { groups, stickiness: None });
                    }
                });
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            (stored, _) = stage.apply(config, prior) => Some(stored),
            () = stage.fake.died() => None,
            () = breaking => None,
            () = meddling => None,
        }
    }

    /// No route ever lost a request, and what a colour got was a step, or what it had before.
    fn check_history(&self, stage: &Stage, wish: usize, seen: &mut Vec<f64>) -> Result<(), TestCaseError> {
        let steps = self.weights.iter().map(|weight| f64::from(*weight) / 10.0).chain([0.0, 100.0]);
        let allowed: Vec<f64> = steps.chain(seen.iter().copied()).collect();
        for world in stage.fake.history() {
            for (key, seen) in &world.routes {
                let shares: Vec<f64> = GROUPS.iter().map(|group| seen.terminal.share(group)).collect();
                let sum: f64 = shares.iter().sum();
                prop_assert!((sum - 100.0).abs() < 0.01, "{key}: {shares:?}");
                let fits = allowed.iter().any(|step| (shares[wish] - step).abs() < 0.01);
                prop_assert!(fits, "{key}: {} of {shares:?} is no step of {allowed:?}", COLORS[wish]);
            }
        }
        for route in stage.fake.world().routes.values() {
            seen.extend(GROUPS.iter().map(|group| route.terminal.share(group)));
        }
        stage.fake.forget();
        Ok(())
    }

    async fn play(&self, switch: &Arc<Switch>) -> Result<(), TestCaseError> {
        let fake = Fake::new(self.world(), &GROUPS);
        switch.context.set_ports(fake.ports());
        let stage = Stage { fake, switch: switch.clone() };
        let mut stored: Option<Stored> = None;
        let mut seen: Vec<f64> = vec![63.0, 37.0];
        let faults: BTreeMap<usize, Fault> = self
            .faults
            .iter()
            .map(|(call, kind)| {
                let kinds = [Fault::Refused, Fault::LostAnswer, Fault::DiesBefore, Fault::DiesAfter];
                (*call, kinds[usize::from(*kind)])
            })
            .collect();
        for (n, wish) in self.wishes.iter().enumerate() {
            let config = self.config(&stage.switch, *wish);
            stage.fake.heal();
            stage.fake.set_status(200);
            let is_last = n + 1 == self.wishes.len();
            if !is_last {
                faults.iter().for_each(|(call, fault)| stage.fake.fault(*call, *fault));
            }
            let before = stage.fake.world();
            let result = if is_last {
                let (result, diagnostics) = stage.apply(&config, stored.as_ref()).await;
                prop_assert!(!diagnostics.has_errors(), "{diagnostics:?}");
                Some(result)
            } else {
                self.apply(&stage, &config, stored.as_ref()).await
            };
            match result {
                Some(result) => {
                    self.check_outcome(&stage, (&before, *wish), &result)?;
                    stored = result.state.is_some().then_some(result).or(stored);
                }
                None => bury(&stage),
            }
            self.check_history(&stage, *wish, &mut seen)?;
            if let Some(known) = &stored {
                stored = Some(stage.read(known).await);
            }
        }
        let wish = self.wishes.last().copied().unwrap_or_default();
        let world = stage.fake.world();
        prop_assert_eq!(world.record.as_deref(), Some(COLORS[wish]));
        for (key, seen) in &world.routes {
            prop_assert!((seen.terminal.share(GROUPS[wish]) - 100.0).abs() < 0.01, "{}: {:?}", key, seen);
        }
        // One that died before it moved anything is left until there is something to do.
        if !stage.fake.calls().is_empty() {
            prop_assert_eq!(stage.fake.parameter("/app/live.rollout"), None);
        }
        let (planned, _) = stage.plan(&self.config(&stage.switch, wish), stored.as_ref()).await;
        prop_assert_eq!(planned.state.as_ref(), stored.as_ref().and_then(|stored| stored.state.as_ref()));
        Ok(())
    }

    /// What an apply that came to its end says is what is there.
    fn check_outcome(
        &self,
        stage: &Stage,
        (before, wish): (&World, usize),
        result: &Stored,
    ) -> Result<(), TestCaseError> {
        let after = stage.fake.world();
        let Some(state) = &result.state else { return Ok(()) };
        let status = state.get("last_rollout").get("status").as_str().unwrap_or("completed").to_owned();
        let leads = |world: &World| -> Vec<String> {
            let shares = |seen: &Observed| GROUPS.map(|group| format!("{:.1}", seen.terminal.share(group))).join("/");
            world.routes.iter().map(|(key, seen)| format!("{key} {}", shares(seen))).collect()
        };
        match status.as_str() {
            "completed" => prop_assert_eq!(after.record.as_deref(), Some(COLORS[wish])),
            "rolled_back" if before.ledger.is_none() && stage.fake.parameter("/app/live.rollout").is_none() => {
                prop_assert_eq!(&after.record, &before.record);
                let all_on_one = leads(before).iter().all(|route| route.contains("100.0"));
                if all_on_one {
                    prop_assert_eq!(leads(&after), leads(before));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// The same rollouts each time, unless a seed is given: a failure tells the one it had.
fn play_many(offset: u64) {
    let seed: u64 = std::env::var("BLUEGREEN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let config = ProptestConfig { cases: CASES / 2, failure_persistence: None, ..ProptestConfig::default() };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&offset.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let switch = Arc::new(Switch::new(Arc::new(Context::default())));
    let result = TestRunner::new_with_rng(config, rng).run(&case(), |case| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.map_err(|error| TestCaseError::fail(error.to_string()))?.block_on(case.play(&switch))
    });
    if let Err(failure) = result {
        panic!("BLUEGREEN_SEED={seed}: {failure}");
    }
}

#[test]
fn random_rollouts_come_right() {
    play_many(0);
}

#[test]
fn more_random_rollouts_come_right() {
    play_many(1);
}
