//! Random rollouts: whatever fails, dies or is meddled with, no client was ever led astray, the state tells the truth, and
//! the next apply comes right.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::rollouts::bury;
use super::{BLUE, GREEN, Stage};
use crate::cancel::CancelSource;
use crate::resource::switch::Switch;
use crate::resource::{Context, testing};
use crate::rollout::{Conditions, Forward, Observed, Terminal, World};
use crate::run::migration::in_memory::Server;
use crate::run::rollout::in_memory::{Fake, Fault};
use crate::run::stack::in_memory::Cloud;
use crate::tf_provider::{Cancel, Diagnostics, Number, Stored, Value};

const RED: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/red/1";
const GROUPS: [&str; 3] = [BLUE, GREEN, RED];
/// The target groups of the colors for routes that name another one.
const API: [&str; 3] = [
    "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/blue-api/2",
    "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/green-api/2",
    "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/red-api/2",
];
/// What requests of the cohort carry.
const TESTER: &str = "x-tester";
const COLORS: [&str; 3] = ["blue", "green", "red"];
/// How many rollouts are tried after each edit, and by `make test`.
const CASES: u32 = 400;
const ALL: u32 = 2000;

#[derive(Clone, Debug)]
struct Case {
    colors: usize,
    routes: usize,
    own_rule: bool,
    /// Whether every second route leads to target groups of its own, the rule too.
    named: bool,
    /// Whether a cohort comes first.
    cohort: bool,
    weights: Vec<u32>,
    attached: bool,
    verified: bool,
    hold_on_failure: bool,
    /// What goes wrong at which changing call.
    faults: Vec<(usize, Fault)>,
    /// After so many changing calls green answers with errors.
    breaks: Option<usize>,
    /// After so many seconds of an apply somebody else moves the first route.
    meddled: Option<u64>,
    /// After so many seconds somebody stops the run.
    stopped: Option<u64>,
    /// So many looks are old ones.
    stale: usize,
    /// What else is done about an apply.
    turn: Turn,
    /// The wishes, one after the other; the last one without anything wrong. None follows whatever is live.
    wishes: Vec<Option<usize>>,
    /// As far as each of them goes, in tenths of a percent, but for the last one, which goes all of the way.
    limits: Vec<Option<u32>>,
}

/// What else there may be about an apply.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Turn {
    /// Nothing.
    Plain,
    /// It is planned, and somebody moves the first route before it is applied.
    Saved,
    /// Something of a check is unknown when it is planned first.
    Unknown,
    /// The object is replaced, its heir made first.
    Replaced,
}

fn case() -> impl Strategy<Value = Case> {
    let weights = prop::collection::btree_set(1_u32..1000, 0..4);
    let shape = (2_usize..4, 1_usize..4, any::<[bool; 3]>(), weights, any::<bool>(), any::<bool>(), any::<bool>());
    let trouble = (
        prop::collection::vec((0_usize..12, Fault::any()), 0..3),
        prop::option::weighted(0.2, 0_usize..8),
        prop::option::weighted(0.2, 0_u64..120),
        prop::option::weighted(0.2, 0_u64..150),
        prop_oneof![4 => Just(0_usize), 1 => 1_usize..3],
        prop_oneof![4 => Just(Turn::Plain), 1 => Just(Turn::Saved), 1 => Just(Turn::Unknown), 1 => Just(Turn::Replaced)],
        prop::collection::vec(prop::option::weighted(0.85, 0_usize..3), 1..4),
        0_usize..3,
        prop::array::uniform3(prop::option::weighted(0.25, 1_u32..1000)),
    );
    (shape, trouble).prop_map(
        |(
            (colors, routes, [own_rule, named, cohort], weights, attached, verified, hold),
            (faults, breaks, meddled, stopped, stale, turn, wishes, last, limits),
        )| Case {
            colors,
            routes,
            own_rule,
            named,
            cohort,
            weights: weights.into_iter().collect(),
            attached,
            verified,
            hold_on_failure: hold,
            faults,
            breaks,
            meddled,
            stopped,
            stale,
            turn,
            // The last one is for a color: it must come right.
            limits: limits.into_iter().take(wishes.len()).chain([None]).collect(),
            wishes: wishes.into_iter().chain([Some(last)]).map(|wish| wish.map(|wish| wish % colors)).collect(),
        },
    )
}

fn listener(n: usize) -> String {
    format!("arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/1/{n}")
}

impl Case {
    fn is_named(&self, route: usize) -> bool {
        self.named && route % 2 == 1
    }

    fn world(&self) -> World {
        let observed = |n| {
            let own = if self.is_named(n) { API } else { GROUPS };
            let idle = own[1..self.colors].iter().map(|group| ((*group).to_owned(), 0));
            let mut groups = vec![(own[0].to_owned(), 100)];
            groups.extend(idle.filter(|_| self.attached));
            let terminal = Terminal::Forward(Forward { groups, stickiness: None });
            let arn = listener(n);
            (listener(n), Observed::leading(arn, terminal))
        };
        let record = Some("blue".to_owned());
        World { routes: (0..self.routes).map(observed).collect(), record, ..World::default() }
    }

    fn config(&self, switch: &Switch, wish: Option<usize>, limit: Option<u32>) -> Value {
        let mut config = super::config(switch, Value::from(wish.map(|wish| COLORS[wish])));
        let environment = |n: usize| {
            let mut color = Value::object([("target_group_arn", Value::from(GROUPS[n]))]);
            if self.named {
                color.set("target_groups", Value::object([("api", Value::from(API[n]))]));
            }
            (COLORS[n], color)
        };
        config.set("environments", Value::object((0..self.colors).map(environment)));
        let route = |n: usize| {
            let mut route = Value::object([("listener_arn", Value::from(listener(n)))]);
            if self.is_named(n) {
                route.set("target_group", Value::from("api"));
            }
            route
        };
        let mut routes: Vec<Value> = (0..self.routes).map(route).collect();
        if self.own_rule {
            let paths = Value::List(vec![Value::from("/api/*")]);
            let mut rule = Value::object([
                ("listener_arn", Value::from(listener(0))),
                ("priority", Value::Number(Number::Int(10))),
                ("conditions", Value::object([("path_patterns", paths)])),
            ]);
            if self.named {
                rule.set("target_group", Value::from("api"));
            }
            routes.push(rule);
        }
        config.set("routes", Value::List(routes));
        let step = |weight: &u32| {
            let percent = Value::Number(Number::from_f64(f64::from(*weight) / 10.0));
            Value::object([("weight", percent), ("hold", Value::from("30s"))])
        };
        let mut strategy = Value::object([("steps", Value::List(self.weights.iter().map(step).collect()))]);
        if self.cohort {
            let headers = Value::object([(TESTER, Value::List(vec![Value::from("1")]))]);
            let conditions = Value::object([("http_headers", headers)]);
            strategy.set("cohort", Value::object([("conditions", conditions), ("hold", Value::from("30s"))]));
        }
        strategy.set("rehearse", Value::from(self.attached));
        if let Some(permille) = limit {
            strategy.set("up_to", Value::Number(Number::from_f64(f64::from(permille) / 10.0)));
        }
        config.set("strategy", strategy);
        if self.verified {
            let check = Value::object([("url", Value::from("http://{color}.test/"))]);
            config.set(
                "verification",
                Value::object([("duration", Value::from("30s")), ("http", Value::List(vec![check]))]),
            );
        }
        if self.hold_on_failure {
            config.set("on_failure", Value::from("hold"));
            config.set("on_interrupt", Value::from(if self.verified { "hold" } else { "rollback" }));
        }
        config
    }

    /// One apply, with everything that goes wrong: what is left of it, and what was said. None if the process was killed.
    async fn apply(&self, stage: &Stage, config: &Value, prior: Option<&Stored>) -> Option<(Stored, Diagnostics)> {
        let breaking = async {
            loop {
                if self.breaks.is_some_and(|calls| stage.fake.calls().len() > calls) {
                    stage.fake.set_status(500);
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let meddling = async {
            if let Some(seconds) = self.meddled {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                move_by_hand(stage);
            }
            std::future::pending::<()>().await;
        };
        let source = CancelSource::new();
        let stopping = async {
            if let Some(seconds) = self.stopped {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                source.stop();
            }
            std::future::pending::<()>().await;
        };
        let planned = stage.plan(config, prior).await;
        if planned.1.has_errors() {
            return Some((prior.cloned().unwrap_or_default(), planned.1));
        }
        tokio::select! {
            applied = stage.apply_planned(config, prior, planned, source.token()) => Some(applied),
            () = stage.fake.died() => None,
            () = breaking => None,
            () = meddling => None,
            () = stopping => None,
        }
    }

    /// What is planned is kept, whatever was unknown first; and what somebody moved since the plan is left to them.
    async fn take_turn(
        &self,
        stage: &Stage,
        (config, wish): (&Value, Option<usize>),
        prior: Option<&Stored>,
    ) -> Result<(), TestCaseError> {
        let Some(known) = prior else { return Ok(()) };
        let mut unknown = config.clone();
        match self.turn {
            Turn::Unknown => {
                unknown.set("validation", Value::UNKNOWN);
                let (first, _) = stage.plan(&unknown, prior).await;
                let (second, _) = stage.plan(config, prior).await;
                let (first, second) = (first.state.unwrap_or(Value::Null), second.state.unwrap_or(Value::Null));
                for (name, value) in first.as_map().into_iter().flatten().filter(|(_, value)| value.is_wholly_known()) {
                    prop_assert_eq!(value, second.get(name), "{} with something unknown", name);
                }
            }
            Turn::Saved => {
                let planned = stage.plan(config, prior).await;
                let now = stage.fake.world();
                let nothing = planned.1.has_errors() || !planned.0.state.as_ref().is_some_and(is_a_rollout);
                if nothing && stage.fake.lock("/app/live.rollout").is_none() && wish.is_some() {
                    move_by_hand(stage);
                    let moved = stage.fake.world();
                    if !planned.1.has_errors() {
                        drop(stage.apply_planned(config, prior, planned, Cancel::never()).await);
                    }
                    prop_assert_eq!(&stage.fake.world().routes, &moved.routes, "a plan that told of no move");
                    stage.fake.meddle(|world| *world = now);
                }
            }
            Turn::Replaced => {
                let before = stage.fake.world();
                // An heir that only looks on, and the end of the one before it.
                let follower = self.config(&stage.switch, None, None);
                let (heir, diagnostics) = stage.apply(&follower, None).await;
                prop_assert!(!diagnostics.has_errors(), "{diagnostics:?}");
                let made = stage.fake.world();
                let (gone, diagnostics) = stage.destroy(known).await;
                prop_assert!(gone.state.is_none(), "{diagnostics:?}");
                prop_assert_eq!(&stage.fake.world(), &made, "what the heir has was taken away");
                for (key, seen) in with_users(&before) {
                    prop_assert!(made.routes.get(key).is_some_and(|now| now.terminal.shares_like(&seen.terminal)));
                }
                drop(heir);
            }
            Turn::Plain => {}
        }
        Ok(())
    }

    /// No route ever lost a request, and what a color got was a step, or what it had before. Whoever follows moves nothing.
    fn check_history(
        &self,
        stage: &Stage,
        (wish, limit): (Option<usize>, Option<u32>),
        seen: &mut Vec<f64>,
    ) -> Result<(), TestCaseError> {
        let steps = self.weights.iter().chain(&limit).map(|weight| f64::from(*weight) / 10.0).chain([0.0, 100.0]);
        let smallest = self.weights.iter().chain(&limit).copied().fold(10, u32::min);
        let steps = steps.chain(self.attached.then_some(f64::from(smallest) / 10.0));
        let allowed: Vec<f64> = steps.filter(|_| wish.is_some()).chain(seen.iter().copied()).collect();
        for world in stage.fake.history() {
            for (key, seen) in &world.routes {
                let shares = shares(&seen.terminal);
                let sum: f64 = shares.iter().sum();
                prop_assert!((sum - 100.0).abs() < 0.01, "{key}: {shares:?}");
                if is_passing(seen) {
                    continue;
                }
                let leads_to = |groups: [&str; 3]| groups.iter().any(|group| seen.terminal.share(group) > 0.0);
                prop_assert!(!(leads_to(GROUPS) && leads_to(API)), "{key} leads to both: {seen:?}");
                prop_assert!(
                    leads_to(API) == (self.named && (key.contains('#') || key.ends_with("/1"))),
                    "{key}: {seen:?}"
                );
                let own = wish.map_or(shares[0], |wish| shares[wish]);
                let fits = allowed.iter().any(|step| (own - step).abs() < 0.01);
                prop_assert!(fits, "{key}: {own} of {shares:?} is no step of {allowed:?}");
            }
        }
        for route in stage.fake.world().routes.values() {
            seen.extend(shares(&route.terminal));
        }
        stage.fake.forget();
        Ok(())
    }

    async fn play(&self, switch: &Arc<Switch>) -> Result<(), TestCaseError> {
        let fake = Fake::new(self.world(), &[GROUPS, API].concat());
        switch.context.set(&fake, &Cloud::new(fake.clone()), &Server::new());
        let stage = Stage { fake, switch: switch.clone() };
        let mut stored: Option<Stored> = None;
        let mut seen: Vec<f64> = vec![63.0, 37.0, 100.0, 0.0];
        for (n, (wish, limit)) in self.wishes.iter().zip(&self.limits).enumerate() {
            let config = self.config(&stage.switch, *wish, *limit);
            stage.fake.heal();
            stage.fake.set_status(200);
            let is_last = n + 1 == self.wishes.len();
            if n > 0 && !is_last {
                self.take_turn(&stage, (&config, *wish), stored.as_ref()).await?;
                if self.turn == Turn::Replaced {
                    stored = None;
                }
                stage.fake.forget();
            }
            stage.fake.heal();
            if !is_last {
                self.plant(&stage);
            }
            let before = stage.fake.world();
            let result = if is_last {
                let (result, diagnostics) = stage.apply(&config, stored.as_ref()).await;
                prop_assert!(!diagnostics.has_errors(), "{diagnostics:?}");
                Some((result, diagnostics))
            } else {
                self.apply(&stage, &config, stored.as_ref()).await
            };
            match result {
                Some((result, diagnostics)) => {
                    self.check_outcome(&stage, (&before, *wish), (&result, &diagnostics)).await?;
                    self.check_wait(&stage, (*wish, *limit), (&config, &result, &diagnostics)).await?;
                    stored = result.state.is_some().then_some(result).or(stored);
                }
                None => bury(&stage),
            }
            // Whatever is still on its way comes.
            tokio::time::sleep(Duration::from_secs(100)).await;
            stage.fake.be_stale(0);
            self.check_history(&stage, (*wish, *limit), &mut seen)?;
            if let Some(known) = &stored {
                stored = Some(stage.read(known).await);
            }
        }
        let wish = self.wishes.last().copied().flatten().unwrap_or_default();
        let world = stage.fake.world();
        prop_assert_eq!(world.record.as_deref(), Some(COLORS[wish]));
        for (key, seen) in with_users(&world) {
            prop_assert!((shares(&seen.terminal)[wish] - 100.0).abs() < 0.01, "{}: {:?}", key, seen);
        }
        prop_assert!(!world.routes.values().any(is_of_cohort), "a cohort is still led: {world:?}");
        // One that died before it moved anything is left until there is something to do.
        if !stage.fake.calls().is_empty() {
            prop_assert_eq!(stage.fake.lock("/app/live.rollout"), None);
        }
        let (planned, _) = stage.plan(&self.config(&stage.switch, Some(wish), None), stored.as_ref()).await;
        prop_assert_eq!(planned.state.as_ref(), stored.as_ref().and_then(|stored| stored.state.as_ref()));
        Ok(())
    }

    /// What waits is where it was told to be, and the next plan finds nothing to do.
    async fn check_wait(
        &self,
        stage: &Stage,
        (wish, limit): (Option<usize>, Option<u32>),
        (config, result, diagnostics): (&Value, &Stored, &Diagnostics),
    ) -> Result<(), TestCaseError> {
        let status = result.state.as_ref().map(|state| state.get("last_rollout").get("status").clone());
        let waits = status.is_some_and(|status| status.as_str() == Some("waiting"));
        let (Some(wish), Some(limit)) = (wish.filter(|_| waits && !diagnostics.has_errors()), limit) else {
            return Ok(());
        };
        // What could not be written after it is told, and the next apply's work.
        let is_left = diagnostics.iter().any(|one| one.summary.starts_with("Not everything after the rollout"));
        if self.meddled.is_some() || self.stale > 0 || is_left {
            return Ok(());
        }
        let world = stage.fake.world();
        prop_assert!(world.record.as_deref() != Some(COLORS[wish]), "{:?} says that it is live", world.record);
        for (key, seen) in with_users(&world) {
            prop_assert!((shares(&seen.terminal)[wish] - f64::from(limit) / 10.0).abs() < 0.05, "{}: {:?}", key, seen);
        }
        let read = stage.read(result).await;
        let (planned, _) = stage.plan(config, Some(&read)).await;
        prop_assert_eq!(planned.state.as_ref(), read.state.as_ref(), "what waits has nothing to do");
        Ok(())
    }

    /// What goes wrong in an apply.
    fn plant(&self, stage: &Stage) {
        for (call, fault) in &self.faults {
            stage.fake.fault(*call, *fault);
        }
        stage.fake.be_stale(self.stale);
    }

    /// What an apply that came to its end says is what is there, and stays so.
    async fn check_outcome(
        &self,
        stage: &Stage,
        (before, wish): (&World, Option<usize>),
        (result, diagnostics): (&Stored, &Diagnostics),
    ) -> Result<(), TestCaseError> {
        let after = stage.fake.world();
        let lock = stage.fake.lock("/app/live.rollout");
        tokio::time::sleep(Duration::from_secs(100)).await;
        let later = stage.fake.world();
        let said: String = diagnostics.iter().map(|one| one.detail.as_str()).collect();
        prop_assert!(!said.contains("the provider's own rules"), "{}", said);
        let moved = self.meddled.is_some();
        if !said.contains("IT IS NOT KNOWN") && !moved {
            prop_assert_eq!(leads(&after), leads(&later), "{}", said);
            prop_assert_eq!(&after.record, &later.record, "{}", said);
        }
        if said.contains("IT IS NOT KNOWN") {
            prop_assert!(lock.is_some(), "{}", said);
        }
        let put_back = said.contains("Rolled back: all routes are as before.");
        let Some(state) = &result.state else { return Ok(()) };
        let status = state.get("last_rollout").get("status").as_str().unwrap_or("completed").to_owned();
        match (status.as_str(), wish) {
            ("completed", Some(wish)) if !diagnostics.has_errors() && !said.contains("may still say") => {
                prop_assert_eq!(after.record.as_deref(), Some(COLORS[wish]));
            }
            ("rolled_back", _) if put_back && !moved && lock.is_none() => {
                prop_assert_eq!(&after.record, &before.record);
                // Where an earlier one was stuck halfway, or killed before it wrote the record, it goes back to where that one
                // began.
                let has_all =
                    |n: usize| before.routes.values().all(|seen| (shares(&seen.terminal)[n] - 100.0).abs() < 0.01);
                let recorded = |n: usize| before.record.as_deref().is_none_or(|record| record == COLORS[n]);
                if (0..COLORS.len()).any(|n| has_all(n) && recorded(n)) {
                    prop_assert_eq!(leads(&after), leads(before));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Where every route leads.
fn leads(world: &World) -> Vec<String> {
    let parts = |seen: &Observed| shares(&seen.terminal).map(|share| format!("{share:.1}")).join("/");
    with_users(world).map(|(key, seen)| format!("{key} {}", parts(seen))).collect()
}

/// The routes but for rules that no request takes, or only a cohort: those come and go.
fn with_users(world: &World) -> impl Iterator<Item = (&String, &Observed)> {
    world.routes.iter().filter(|(_, seen)| !is_passing(seen))
}

fn is_passing(seen: &Observed) -> bool {
    seen.conditions.as_ref().is_some_and(Conditions::is_nobody) || is_of_cohort(seen)
}

fn is_of_cohort(seen: &Observed) -> bool {
    seen.conditions.as_ref().is_some_and(|conditions| conditions.http_headers.contains_key(TESTER))
}

/// What each color gets, by whichever of its target groups.
fn shares(terminal: &Terminal) -> [f64; 3] {
    std::array::from_fn(|n| terminal.share(GROUPS[n]) + terminal.share(API[n]))
}

/// Whether a plan tells of a rollout.
fn is_a_rollout(planned: &Value) -> bool {
    !planned.get("last_rollout").is_wholly_known()
}

/// Somebody moves the first route.
fn move_by_hand(stage: &Stage) {
    stage.fake.meddle(|world| {
        if let Some(route) = world.routes.get_mut(&listener(0)) {
            let groups = vec![(BLUE.to_owned(), 63), (GREEN.to_owned(), 37)];
            route.terminal = Terminal::Forward(Forward { groups, stickiness: None });
        }
    });
}

/// The same rollouts each time, unless a seed is given: a failure tells the one it had.
fn play_many(offset: u64) {
    let switch = Arc::new(Switch::new(Arc::new(Context::default())));
    let cases = if testing::told().is_some() { ALL } else { CASES };
    testing::tell(cases / 2, offset, &case(), async |case| case.play(&switch).await);
}

#[test]
fn random_rollouts_come_right() {
    play_many(0);
}

#[test]
fn more_random_rollouts_come_right() {
    play_many(1);
}
