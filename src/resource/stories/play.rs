//! How a story is played, and what must hold at each of its turns.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::terraform::{Config, HURTS, Machine, NAMES, Plan, State};
use super::{Act, Story, Trouble, schema};
use crate::cancel::{Cancel, CancelSource};
use crate::resource::testing::{frozen, words};
use crate::rollout::lock_record::Status;
use crate::rollout::{Forward, LockRecord, Observed, Terminal, World};
use crate::run::holder::MACHINE;
use crate::run::migration::in_memory::Server;
use crate::run::rollout::in_memory::{Fake, Fault, Stacks};
use crate::run::stack::in_memory::Cloud;
use crate::tf_provider::Diagnostics;

const LISTENER: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/1/2";
const RECORD: &str = "/app/live";
const LOCK: &str = "/app/live.rollout";
/// What served before there were colors.
const ELSEWHERE: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/legacy/1";
/// How target groups of somebody else's are called.
const POOL: &str = "pool-";
/// Whatever was on its way has come by then.
const LATER: Duration = Duration::from_secs(300);

/// The machines that a story has; making their schemas anew for each would take longer than the story.
pub(super) struct Machines {
    first: Machine,
    second: Machine,
}

impl Machines {
    pub fn new() -> Machines {
        Machines { first: Machine::new(), second: Machine::new() }
    }
}

struct Play<'m> {
    machines: &'m Machines,
    routes: Arc<Fake>,
    cloud: Arc<Cloud>,
    database: Arc<Server>,
    config: Config,
    state: State,
    /// How many releases there were.
    releases: usize,
    /// How often Terraform ran: each time on a machine of its own.
    runs: usize,
    /// The machines whose process was killed.
    dead: Vec<String>,
    /// Where somebody else led the listener while an apply went on.
    meddled: Cell<Option<Terminal>>,
    /// How users were led when Terraform was asked to stop.
    stopped: Arc<Mutex<Option<Terminal>>>,
    /// The weights of the steps, in tenths of a percent.
    steps: Vec<u32>,
    /// Whether the record was not made by the switch that is in the state: then it stays when the switch goes.
    found_record: bool,
    /// Whether a call to a stack had its effect after its answer was given up.
    came_late: Cell<bool>,
    /// Whether the record says what somebody wrote by hand: a guard believes it.
    is_forged: bool,
    /// What each color ran when the schema contracted.
    outdated: Option<[serde_json::Value; 2]>,
    /// Whether the process was killed while it destroyed what it could not make: Terraform was not told what of it is gone.
    is_unsure: bool,
    /// What each group had of each route when an apply began: a rollback may bring that back.
    had: BTreeMap<(String, String), f64>,
}

fn color(name: &str, ecs: bool, pool: Option<String>) -> serde_json::Value {
    let mut color = json!({ "name": "myapp", "color": name, "release": "1", "vpc_id": "vpc-1" });
    match pool {
        Some(arn) => color["target_group_arn"] = json!(arn),
        None => {
            color["listener_arn"] = json!(LISTENER);
            color["target_group"] = json!({ "port": 80, "health_check": { "path": "/health" } });
        }
    }
    match ecs {
        true => {
            color["service"] = json!({
                "cluster": "main", "container_port": 80, "subnet_ids": ["subnet-a"], "desired_count": 2, "image": "app:1",
                "task_definition": r#"{"family":"app","containerDefinitions":[{"name":"app","portMappings":[{"containerPort":80}],"image":"x"}]}"#,
            });
        }
        false => {
            color["instances"] = json!({
                "image_id": "ami-1", "instance_type": "t3.medium", "subnet_ids": ["subnet-a", "subnet-b"],
                "min_size": 2, "max_size": 4, "desired_capacity": 2,
            });
        }
    }
    color
}

fn switch(story: &Story) -> serde_json::Value {
    let step = |weight: &u32| json!({ "weight": f64::from(*weight) / 10.0, "hold": "30s" });
    let steps: Vec<serde_json::Value> = story.steps.iter().map(step).collect();
    let mut switch = json!({
        "name": "app", "active": "blue", "parameter": RECORD, "routes": [{ "listener_arn": LISTENER }],
        "strategy": { "steps": steps },
    });
    if story.verified {
        switch["verification"] = json!({ "duration": "30s", "http": [{ "url": "http://{color}.test/" }] });
    }
    if story.hold {
        switch["on_failure"] = json!("hold");
    }
    switch
}

/// Plays a story to its end.
pub(super) async fn play(machines: &Machines, story: &Story) -> Result<(), TestCaseError> {
    let routes = Fake::new(World::default(), &[]);
    let cloud = Cloud::new(routes.clone());
    routes.ask(cloud.clone());
    let record = routes.clone();
    let database = schema::server(move || record.world().record);
    let migration = story.migration.map(|kind| schema::config(kind, RECORD));
    let pool = |name: &str| story.adopted.then(|| cloud.adoptable(&format!("{POOL}{name}")));
    let colors = NAMES.map(|name| color(name, story.ecs, pool(name)));
    let config = Config { colors, migration, switch: switch(story) };
    let mut play = Play {
        machines,
        routes,
        cloud,
        database,
        config,
        state: State::default(),
        releases: 1,
        runs: 0,
        dead: Vec::new(),
        meddled: Cell::default(),
        stopped: Arc::default(),
        steps: story.steps.clone(),
        found_record: false,
        is_forged: false,
        came_late: Cell::default(),
        outdated: None,
        is_unsure: false,
        had: BTreeMap::new(),
    };
    play.lead(&[(ELSEWHERE, 100)]);
    play.turn(&story.first).await?;
    for (act, troubles) in &story.turns {
        let before = play.config.clone();
        play.act(act);
        if !play.turn(troubles).await? {
            // What is refused is taken out of the configuration again.
            play.config = before;
        }
    }
    play.end(story.back).await
}

/// After how many seconds another machine begins the same apply, if one does.
fn other_begins(troubles: &[Trouble]) -> Option<u64> {
    troubles.iter().find_map(|trouble| match trouble {
        Trouble::Machine(seconds) => Some(*seconds),
        Trouble::Freeze(seconds) => Some(seconds + 1),
        _ => None,
    })
}

/// Somebody leads the listener there.
fn lead(routes: &Fake, weights: &[(&str, u32)]) {
    let groups = weights.iter().map(|(group, weight)| ((*group).to_owned(), *weight)).collect();
    let terminal = Terminal::Forward(Forward { groups, stickiness: None });
    let observed = Observed::leading(LISTENER.to_owned(), terminal);
    routes.meddle(|world| drop(world.routes.insert(LISTENER.to_owned(), observed)));
}

impl Play<'_> {
    fn groups(&self) -> [Option<String>; 2] {
        let arn = |n| Some(self.state.color(n)?.get("target_group_arn").as_str()?.to_owned());
        [0, 1].map(|n| arn(n).filter(|arn| self.cloud.has(arn)))
    }

    fn lead(&self, weights: &[(&str, u32)]) {
        lead(&self.routes, weights);
    }

    /// Somebody gives a color so many percent of the traffic, and the other one the rest.
    fn weigh(&self, color: usize, percent: u32) {
        let groups = self.groups();
        let (Some(own), Some(other)) = (&groups[color], &groups[1 - color]) else { return };
        self.lead(&[(own, percent), (other, 100 - percent)]);
    }

    /// Likewise, and it is noted if that is another place than before.
    fn interfere(&self, percent: u32) {
        let terminal = || self.routes.world().routes[LISTENER].terminal.clone();
        let before = terminal();
        self.weigh(0, percent);
        self.meddled.set(Some(terminal()).filter(|now| !now.shares_like(&before)));
    }

    fn act(&mut self, act: &Act) {
        self.releases += 1;
        let release = self.releases.to_string();
        match act {
            Act::Release(color) => {
                let color = &mut self.config.colors[*color];
                color["release"] = json!(release);
                match color.get_mut("instances") {
                    Some(instances) => instances["image_id"] = json!(format!("ami-{release}")),
                    None => color["service"]["image"] = json!(format!("app:{release}")),
                }
            }
            Act::Edit(color) => self.config.colors[*color]["tags"] = json!({ "round": release }),
            Act::Switch(color) => self.config.switch["active"] = json!(NAMES[*color]),
            Act::Follow => drop(self.config.switch["active"].take()),
            Act::Phase(phase) => {
                if let Some(migration) = &mut self.config.migration {
                    migration["phase"] = json!(phase.name());
                }
            }
            Act::Weights(color, percent) => self.weigh(*color, *percent),
            Act::Record(color) => {
                self.found_record |= self.routes.world().record.is_none();
                self.is_forged = true;
                self.routes.meddle(|world| world.record = Some(NAMES[*color].to_owned()));
            }
            Act::Drift(color, kind) => self.drift(*color, *kind),
            Act::Again => {}
        }
    }

    fn drift(&self, color: usize, kind: u8) {
        let Some(state) = self.state.color(color) else { return };
        let text = |name: &str| state.get(name).as_str().unwrap_or_default().to_owned();
        match kind {
            0 => self.cloud.meddle(&text("autoscaling_group_name"), |group| group.settings.max_size = 5),
            1 => self.cloud.retag(&text("target_group_arn"), |tags| drop(tags.remove("round"))),
            3 => self.cloud.replace_by_hand(&text("target_group_arn")),
            _ => self.cloud.meddle_with_group(&text("target_group_arn"), |group| group.deregistration_delay = Some(7)),
        }
    }

    fn arm(&self, trouble: &Trouble, source: &Arc<CancelSource>) {
        match trouble {
            Trouble::StopInside(call, long, seconds) => {
                self.routes.fault(*call, Fault::Late(if *long { 40 } else { 10 }));
                let (stop, seconds) = (self.stop(source), *seconds);
                self.routes.at_call(*call, move || {
                    drop(tokio::spawn(async move {
                        sleep(Duration::from_secs(seconds)).await;
                        stop();
                    }));
                });
            }
            Trouble::Traffic(call, fault) => self.routes.fault(*call, *fault),
            Trouble::Lock(call, fault) => self.routes.lock_fault(*call, *fault),
            Trouble::Stack(call, fault) => {
                if matches!(fault, Fault::Late(_) | Fault::Twice(..) | Fault::Echo(_)) {
                    self.came_late.set(true);
                }
                self.cloud.fault(*call, *fault);
            }
            Trouble::Database(call, fault) => self.database.fault(*call, *fault),
            Trouble::Down => self.database.be_down(),
            Trouble::Stale(looks) => self.routes.be_stale(*looks),
            Trouble::Hidden(reads) => {
                for state in (0..2).filter_map(|n| self.state.color(n)) {
                    for name in ["target_group_arn", "security_group_id", "launch_template_id", "service_arn"] {
                        self.cloud.hide(state.get(name).as_str().unwrap_or_default(), *reads);
                    }
                }
            }
            Trouble::Saved(percent) if self.state.switch.is_some() => self.interfere(*percent),
            Trouble::Saved(percent) => self.weigh(0, *percent),
            _ => {}
        }
    }

    /// Asks Terraform to stop, and notes where users were led then.
    fn stop(&self, source: &Arc<CancelSource>) -> impl FnOnce() + Send + 'static {
        let (source, routes, stopped) = (source.clone(), self.routes.clone(), self.stopped.clone());
        move || {
            let now = routes.world().routes.get(LISTENER).map(|seen| seen.terminal.clone());
            *stopped.lock().unwrap_or_else(PoisonError::into_inner) = now;
            source.stop();
        }
    }

    /// What happens while an apply goes on, and never ends by itself.
    async fn meanwhile(&self, troubles: &[Trouble], source: &Arc<CancelSource>) {
        futures::future::join_all(troubles.iter().map(|trouble| self.befall(trouble, source))).await;
        std::future::pending::<()>().await;
    }

    async fn befall(&self, trouble: &Trouble, source: &Arc<CancelSource>) {
        match trouble {
            Trouble::Stop(seconds) => {
                sleep(Duration::from_secs(*seconds)).await;
                self.stop(source)();
            }
            Trouble::Breaks(seconds) => {
                sleep(Duration::from_secs(*seconds)).await;
                self.routes.set_status(500);
            }
            Trouble::Meddled(seconds, percent) => {
                // Not in the very moment in which a step begins: nobody could tell which of the two came first.
                sleep(Duration::from_secs(*seconds) + Duration::from_millis(137)).await;
                self.interfere(*percent);
            }
            _ => {}
        }
    }

    /// Another machine begins the same apply, from the same state, and comes to its end; its state file is lost.
    async fn other_machine(&self, troubles: &[Trouble]) {
        let Some(seconds) = other_begins(troubles) else { return };
        // Two machines that make the same at once have two states, of which one is lost here.
        if self.state.colors.iter().any(Option::is_none) {
            return;
        }
        sleep(Duration::from_secs(seconds)).await;
        let (mut state, mut told) = (self.state.clone(), Diagnostics::new());
        let other = &self.machines.second;
        other.restart(&self.routes, &self.cloud, &self.database);
        let run = async {
            if let Some(plan) = other.plan(&self.config, &state, &mut told).await {
                other.apply(&self.config, &plan, &mut state, &Cancel::never(), &mut told).await;
            }
        };
        MACHINE.scope(self.other(), run).await;
    }

    /// The machine of this run.
    fn machine(&self) -> String {
        format!("machine {}", self.runs)
    }

    /// The machine that begins the same beside it.
    fn other(&self) -> String {
        format!("another {}", self.runs)
    }

    /// A new process, on a new machine, in a world where nothing goes wrong by itself; reads everything.
    async fn arrive(&mut self, told: &mut Diagnostics) {
        self.runs += 1;
        self.routes.heal();
        self.cloud.heal();
        self.database.heal();
        self.routes.set_status(200);
        self.machines.first.restart(&self.routes, &self.cloud, &self.database);
        if let Some(migration) = &mut self.config.migration {
            schema::tend(migration, &self.database);
        }
        MACHINE.scope(self.machine(), self.machines.first.refresh(&mut self.state, told)).await;
        self.is_unsure = false;
    }

    /// The lock record that is there.
    fn lock(&self) -> Option<LockRecord> {
        serde_json::from_str(&self.routes.lock(LOCK)?).ok()
    }

    /// Whatever was written to the lock, and when.
    fn lock_records(&self) -> Vec<(Instant, LockRecord)> {
        let read = |(at, text): (Instant, String)| Some((at, serde_json::from_str(&text).ok()?));
        self.routes.lock_writes().into_iter().filter_map(read).collect()
    }

    async fn plan(&self, told: &mut Diagnostics) -> Option<Plan> {
        MACHINE.scope(self.machine(), self.machines.first.plan(&self.config, &self.state, told)).await
    }

    /// One run of Terraform, with everything that goes wrong; whether its plan was one.
    async fn turn(&mut self, troubles: &[Trouble]) -> Result<bool, TestCaseError> {
        let mut told = Diagnostics::new();
        self.arrive(&mut told).await;
        prop_assert!(!told.has_errors(), "a refresh: {}", words(&told));
        let Some(plan) = self.plan(&mut told).await else {
            self.check(None)?;
            self.check_spared(&words(&told))?;
            return Ok(false);
        };
        self.begin();
        let source = Arc::new(CancelSource::new());
        for trouble in troubles {
            self.arm(trouble, &source);
        }
        let is_other = other_begins(troubles).is_some();
        // One that takes over goes back to where the dead one began.
        let (world, begins) = (self.routes.world(), self.lock().is_none());
        if self.state.switch.is_none() {
            self.found_record |= world.record.is_some() || is_other;
        }
        // What is deployed in the same apply as the contract counts as made for it.
        let ran = [0, 1].map(|n| self.state.color(n).and_then(|state| state.get("release").to_json()));
        let moves = plan.moves(&self.state);
        let (died, said) = self.carry_out(&plan, troubles, &source).await;
        let failed = said.is_some();
        if died {
            // A create that failed is destroyed in the same run.
            self.is_unsure = troubles.len() > 1;
            self.dead.push(self.machine());
            self.clear_up();
        }
        if self.outdated.is_none() && !self.is_forged && schema::is_contracted(&self.database) {
            self.outdated = Some(ran.map(Option::unwrap_or_default));
        }
        let others = is_other || troubles.iter().any(|it| matches!(it, Trouble::Meddled(..)));
        let quiet = (!moves && !others).then_some(&world);
        if is_other {
            self.check_frozen()?;
        }
        self.check(quiet)?;
        // Whatever is on its way comes, and what it does was told too.
        let left = self.routes.world();
        sleep(LATER).await;
        self.routes.be_stale(0);
        self.check(quiet)?;
        let stays = self.routes.world().routes[LISTENER].terminal.shares_like(&left.routes[LISTENER].terminal);
        let doubts = self.lock().is_some_and(|lock| lock.status != Status::Running);
        prop_assert!(died || stays || doubts, "users were led elsewhere after the end, which nobody said could come");
        self.check_stop(begins && !others && !died)?;
        let blamed = said.is_some_and(|said| said.contains("find out who"));
        let is_saved = troubles.iter().any(|it| matches!(it, Trouble::Saved(_)));
        prop_assert!(
            !blamed || others || is_saved || !begins,
            "it says that somebody else moves traffic, and nobody does"
        );
        if !died && !failed && !others && !is_saved {
            self.check_told()?;
        }
        // Of two troubles at once either one may bar what the other one alone must not.
        match troubles {
            [trouble] => self.check_place(trouble, Some(&world).filter(|_| failed && begins))?,
            _ => drop(self.meddled.take()),
        }
        Ok(true)
    }

    /// Of a create that was killed after its end, before Terraform was told, nobody knows but whoever looks.
    fn clear_up(&self) {
        for (name, _) in NAMES.iter().zip(&self.state.colors).filter(|(_, stored)| stored.is_none()) {
            self.cloud.clear_finished(&format!("myapp-{name}"));
        }
    }

    /// What was asked of a color before, and could not be finished, bars nothing once users are there: it waits.
    fn check_spared(&self, refused: &str) -> Result<(), TestCaseError> {
        for (n, name) in NAMES.iter().enumerate() {
            let is_old = self.state.broken[n].as_ref() == Some(&self.config.colors[n]);
            let hurts = refused.contains(&format!("myapp/{name} {HURTS}"));
            prop_assert!(!is_old || !hurts, "a plan is barred by what was asked of {name} before: {refused}");
        }
        Ok(())
    }

    /// Who asked it to stop gets no more users led to a color than there were then, or than there were before.
    fn check_stop(&self, is_alone: bool) -> Result<(), TestCaseError> {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(then) = stopped.filter(|_| is_alone) else { return Ok(()) };
        for group in self.groups().into_iter().flatten() {
            let had = self.had.get(&(LISTENER.to_owned(), group.clone())).copied().unwrap_or_default();
            let now = self.routes.world().routes[LISTENER].terminal.share(&group);
            prop_assert!(now <= had.max(then.share(&group)) + 0.05, "it was asked to stop, and {group} got {now} %");
        }
        Ok(())
    }

    /// The state of a switch says where users are.
    fn check_told(&self) -> Result<(), TestCaseError> {
        let Some(state) = self.state.switch.as_ref().and_then(|stored| stored.state.as_ref()) else { return Ok(()) };
        let now = &self.routes.world().routes[LISTENER].terminal;
        for (name, group) in NAMES.iter().zip(self.groups()) {
            let told = state.get("weights").get(name).to_json().and_then(|weight| weight.as_f64());
            let share = now.share(&group.unwrap_or_default());
            // Whole percentages that add up to 100 are each within one of what it is.
            let fits = told.is_some_and(|told| (told - share).abs() <= 1.0);
            prop_assert!(fits, "the state gives {name} {told:?} %, and it has {share}");
        }
        Ok(())
    }

    /// Who was frozen and taken over meanwhile moves no traffic any more.
    fn check_frozen(&self) -> Result<(), TestCaseError> {
        let (own, written) = (self.machine(), self.lock_records());
        let by = |machine: &str| -> Vec<Instant> {
            written.iter().filter(|(_, record)| record.machine == machine).map(|(at, _)| *at).collect()
        };
        let (beats, heirs) = (by(&own), by(&self.other()));
        let Some(taken) = heirs.first().copied() else { return Ok(()) };
        let is_ours = |at: Instant| beats.iter().any(|beat| *beat > taken && *beat <= at);
        let late = |(at, machine): (Instant, String)| machine == own && at > taken && !is_ours(at);
        let moved = self.routes.moves().into_iter().any(late);
        prop_assert!(!moved, "a process that was taken over moved traffic");
        Ok(())
    }

    /// What others did since the plan stays, and what failed leaves users where they were `before`.
    fn check_place(&self, trouble: &Trouble, before: Option<&World>) -> Result<(), TestCaseError> {
        let now = self.routes.world();
        // Nothing at all, or everything, is where a rollout may be itself, and so is each of its steps.
        let own = |percent: &u32| self.steps.contains(&(percent * 10)) || self.steps.contains(&(1000 - percent * 10));
        let is_theirs = match trouble {
            Trouble::Meddled(_, percent) => !matches!(percent, 0 | 100) && !own(percent),
            Trouble::Saved(percent) => !matches!(percent, 0 | 100),
            _ => false,
        };
        if let Some(theirs) = self.meddled.take().filter(|_| is_theirs) {
            let same = now.routes[LISTENER].terminal.shares_like(&theirs);
            prop_assert!(same, "what somebody else did since the plan was overwritten");
        }
        // Where no call is refused the way back gets to its end.
        let goes_back = matches!(trouble, Trouble::Breaks(_)) && self.config.switch["on_failure"].is_null();
        if let Some(before) = before.filter(|_| goes_back) {
            let back = now.routes[LISTENER].terminal.shares_like(&before.routes[LISTENER].terminal);
            prop_assert!(back, "it failed, and users are elsewhere than before");
        }
        Ok(())
    }

    /// Whether the process was killed, and how it told of a failure.
    async fn carry_out(
        &mut self,
        plan: &Plan,
        troubles: &[Trouble],
        source: &Arc<CancelSource>,
    ) -> (bool, Option<String>) {
        let is_stopped = troubles.iter().any(|it| matches!(it, Trouble::Stop(_) | Trouble::StopInside(..)));
        let cancel = if is_stopped { source.token() } else { Cancel::never() };
        let (mut state, mut told) = (self.state.clone(), Diagnostics::new());
        let died = {
            let apply = self.machines.first.apply(&self.config, plan, &mut state, &cancel, &mut told);
            let freeze = troubles.iter().find_map(|it| if let Trouble::Freeze(at) = it { Some(*at) } else { None });
            let apply = frozen(freeze, MACHINE.scope(self.machine(), apply));
            let both = async { futures::join!(apply, self.other_machine(troubles)) };
            tokio::select! {
                _ = both => false,
                () = self.routes.died() => true,
                () = self.cloud.died() => true,
                () = self.database.died() => true,
                () = self.meanwhile(troubles, source) => false,
            }
        };
        self.state = state;
        (died, told.has_errors().then(|| words(&told)))
    }

    /// Notes what there is before an apply.
    fn begin(&mut self) {
        self.routes.forget();
        self.routes.forget_checks();
        for (key, seen) in &self.routes.world().routes {
            let Terminal::Forward(forward) = &seen.terminal else { continue };
            for (group, _) in &forward.groups {
                let had = self.had.entry((key.clone(), group.clone())).or_default();
                *had = had.max(seen.terminal.share(group));
            }
        }
    }

    /// What holds after each turn. `quiet`: how routes and record were, where the plan told of no move.
    fn check(&self, quiet: Option<&World>) -> Result<(), TestCaseError> {
        for world in self.routes.history() {
            for (key, seen) in world.routes.iter().filter(|(key, _)| *key == LISTENER) {
                let Terminal::Forward(forward) = &seen.terminal else { continue };
                let sum: f64 = forward.groups.iter().map(|(group, _)| seen.terminal.share(group)).sum();
                prop_assert!((sum - 100.0).abs() < 0.01, "{key} loses requests: {:?}", forward.groups);
            }
        }
        // Rules that no request matches lead nobody anywhere.
        for gain in self.routes.gains().into_iter().filter(|gain| gain.route == LISTENER) {
            let had = self.had.get(&(gain.route.clone(), gain.group.clone())).copied().unwrap_or_default();
            let fine = gain.passed || gain.to <= had + 0.05;
            prop_assert!(fine, "{} gets {} % of {} and never was healthy", gain.group, gain.to, gain.route);
            let back = had > 0.0;
            prop_assert!(
                back || gain.turnover.is_none(),
                "{} gets its first users, and {:?}",
                gain.group,
                gain.turnover
            );
        }
        if let Some(before) = quiet {
            let now = self.routes.world();
            for (key, seen) in before.routes.iter().filter(|(key, _)| *key == LISTENER) {
                let same = now.routes.get(key).is_some_and(|now| now.terminal.shares_like(&seen.terminal));
                prop_assert!(same, "{key} moved, and no plan told it");
            }
        }
        for call in self.cloud.calls().iter().filter(|call| call.live) {
            prop_assert!(call.is_harmless(), "of a color that serves users: {}", call.what);
        }
        schema::check(&self.database)?;
        if let Some(outdated) = &self.outdated {
            for gain in self.routes.gains().into_iter().filter(|gain| gain.route == LISTENER) {
                let of = |n: &usize| self.groups()[*n].as_ref() == Some(&gain.group) && NAMES[*n] != schema::GUARDED;
                let color = [0, 1].into_iter().find(of);
                let fine = color.is_none_or(|color| self.config.colors[color]["release"] != outdated[color]);
                prop_assert!(fine, "{} gets {} %, and the schema contracted without it", gain.group, gain.to);
            }
        }
        for state in (0..2).filter(|_| !self.is_unsure).filter_map(|n| self.state.color(n)) {
            for name in ["security_group_id", "launch_template_id", "autoscaling_group_name", "service_arn"] {
                let id = state.get(name).as_str().unwrap_or_default();
                prop_assert!(id.is_empty() || self.cloud.has(id), "{name} {id} is in the state and not in AWS");
            }
        }
        Ok(())
    }

    /// What a run left that died at its very end, or ended in doubt, stays until there is something to do.
    fn check_lock(&self) -> Result<(), TestCaseError> {
        let left = self.lock();
        let over = |left: &LockRecord| left.status != Status::Running || self.dead.contains(&left.machine);
        prop_assert!(left.as_ref().is_none_or(over), "the lock record is left: {left:?}");
        Ok(())
    }

    /// Nobody takes a lock from somebody who shows that he lives.
    fn check_locks(&self) -> Result<(), TestCaseError> {
        let mut shown: BTreeMap<String, (Instant, Duration)> = BTreeMap::new();
        for (at, record) in self.lock_records() {
            // The one that was taken over may write once more, which the other one overrules.
            let former = record.took_over.as_ref().filter(|_| !shown.contains_key(&record.run));
            if let Some((last, lease)) = former.and_then(|former| shown.get(former)) {
                prop_assert!(at - *last >= *lease, "{} is taken over after {:?}", record.holder, at - *last);
            }
            let lease = match record.status {
                Status::Running => Duration::from_secs(record.lease_seconds),
                _ => Duration::ZERO,
            };
            shown.insert(record.run, (at, lease));
        }
        Ok(())
    }

    /// Everything comes right, and goes.
    async fn end(&mut self, back: Option<(usize, usize)>) -> Result<(), TestCaseError> {
        // Where the schema contracts, the other color may have a release from before.
        if schema::contracts(self.config.migration.as_ref(), &self.database) {
            self.config.switch["active"] = json!(schema::GUARDED);
        } else if self.config.switch["active"].is_null() {
            self.config.switch["active"] = json!(NAMES[0]);
        }
        let active = self.config.switch["active"].as_str().unwrap_or_default().to_owned();
        let position = NAMES.iter().position(|name| *name == active).unwrap_or_default();
        let (mut told, mut is_settled) = (Diagnostics::new(), false);
        // The first one may have to end what a dead one began, and what was left on a live color is put right once it is idle.
        for _ in 0..5 {
            told = Diagnostics::new();
            self.arrive(&mut told).await;
            let Some(plan) = self.plan(&mut told).await else {
                self.give_in();
                continue;
            };
            is_settled = plan.is_empty(&self.state);
            if is_settled {
                break;
            }
            self.begin();
            let (mut state, never) = (self.state.clone(), Cancel::never());
            let apply = self.machines.first.apply(&self.config, &plan, &mut state, &never, &mut told);
            MACHINE.scope(self.machine(), apply).await;
            self.state = state;
            sleep(LATER).await;
        }
        prop_assert!(!told.has_errors(), "it does not come right: {}", words(&told));
        prop_assert!(is_settled, "there always is something to do");
        self.check(None)?;
        let world = self.routes.world();
        prop_assert_eq!(world.record.as_deref(), Some(active.as_str()));
        let group = self.groups()[position].clone();
        let share = world.routes[LISTENER].terminal.share(&group.unwrap_or_default());
        prop_assert!((share - 100.0).abs() < 0.01, "{active} has {share} %");
        self.check_locks()?;
        self.check_lock()?;
        self.leave(back).await
    }

    /// What was asked of a color that is live by now is taken out of the configuration: it is as the state has it.
    fn give_in(&mut self) {
        if let Some(migration) = &mut self.config.migration {
            schema::give_in(migration, &self.database);
        }
        for (n, color) in self.config.colors.iter_mut().enumerate() {
            let Some(state) = self.state.color(n) else { continue };
            let known = state.known_json();
            color["release"] = known["release"].clone();
            color["tags"] = known["tags"].clone();
            for (part, name) in [("instances", "image_id"), ("service", "image")] {
                if color.get(part).is_some() {
                    color[part][name] = known[part][name].clone();
                }
            }
        }
    }

    /// A destroy in whose midst somebody leads users to a color again: up to the call that takes its targets out of a group
    /// that stays, it stays whole.
    async fn come_back(&mut self, call: usize, color: usize) -> Result<(), TestCaseError> {
        let Some(group) = self.groups()[color].clone() else { return Ok(()) };
        self.cloud.heal();
        let (cloud, led) = (self.cloud.clone(), group.clone());
        self.cloud.after(call, move || {
            // AWS leads nobody to a group that is gone.
            if cloud.has(&led) {
                lead(&cloud.routes, &[(&led, 100)]);
            }
        });
        let mut told = Diagnostics::new();
        self.machines.first.destroy(&mut self.state, &mut told).await;
        sleep(LATER).await;
        let name = format!("myapp-{}", NAMES[color]);
        let leaves = |it: &String| (it.starts_with("detach") || it.starts_with("scale")) && it.contains(&name);
        let in_time = !self.cloud.summary().iter().take(call).any(leaves);
        if in_time && self.routes.world().routes[LISTENER].terminal.share(&group) > 0.0 {
            prop_assert!(told.has_errors(), "users came back, and nothing was said of it");
            let serves = self.cloud.health_of(&group).iter().any(|target| target.state == "healthy");
            prop_assert!(serves, "users came back, and nobody serves them: {:?}", self.cloud.summary());
        }
        Ok(())
    }

    /// A destroy, once nobody is led to a color any more, leaves nothing.
    async fn leave(&mut self, back: Option<(usize, usize)>) -> Result<(), TestCaseError> {
        self.lead(&[(ELSEWHERE, 100)]);
        if let Some((call, color)) = back {
            self.come_back(call, color).await?;
            self.lead(&[(ELSEWHERE, 100)]);
        }
        let mut told = Diagnostics::new();
        self.machines.first.destroy(&mut self.state, &mut told).await;
        prop_assert!(!told.has_errors(), "a destroy: {}", words(&told));
        // A revision that is registered after its object went has a token that nobody has any more.
        let is_lost = |thing: &String| self.came_late.get() && thing.starts_with("revision ");
        let is_pool = |thing: &String| thing.starts_with(&format!("target group {POOL}"));
        let left = self.cloud.inventory().into_iter().filter(|thing| !is_lost(thing) && !is_pool(thing));
        let left: Vec<String> = left.collect();
        prop_assert_eq!(left, Vec::<String>::new());
        let world = self.routes.world();
        let keys: Vec<&String> = world.routes.keys().collect();
        prop_assert_eq!(keys, [LISTENER]);
        prop_assert!(world.record.is_none() || self.found_record, "the record is left");
        self.check_lock()?;
        Ok(())
    }
}
