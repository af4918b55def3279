//! A world in memory behind the ports, that fails or dies at the call it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use proptest::sample::select;
use proptest::strategy::Strategy;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::migration::Recorded;
use crate::rollout::gate::{AlarmState, FunctionAnswer, HttpAnswer, TargetHealth};
use crate::rollout::metrics::Sample;
use crate::rollout::{
    Capacity, CommandCheck, Conditions, HttpCheck, LambdaCheck, MetricCheck, Observed, Place, Processing, RouteSpec,
    Scalable, Terminal, World,
};
use crate::run::call::Call;
use crate::run::ports::{FailureKind, Freshness, PortError};
use crate::run::rollout::ports::{
    Capacities, CommandEnd, Commands, Functions, GroupFacts, HttpProbe, ListenerFacts, LoadBalancer, MetricOf,
    Monitoring, Notifier, Ports, Records,
};

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
    /// The effect comes after so many seconds, whether anybody waits for it or not. The answer comes with it, unless the
    /// attempt was given up after twenty seconds.
    Late(u64),
    /// It is sent twice, the second time after twenty seconds: the first one has its effect after so many seconds, and the
    /// second one, with the answer, after so many.
    Twice(u64, u64),
    /// The effect comes at once, and after so many seconds once more; the answer comes at once, to the second attempt.
    Echo(u64),
}

impl Fault {
    /// One of each.
    const KINDS: [Fault; 9] = [
        Fault::Refused,
        Fault::LostAnswer,
        Fault::DiesBefore,
        Fault::DiesAfter,
        Fault::Late(10),
        Fault::Late(40),
        Fault::Echo(15),
        // Once a step that is held for half a minute is over.
        Fault::Echo(45),
        Fault::Twice(25, 35),
    ];

    /// Any of them, for random stories.
    pub(crate) fn any() -> impl Strategy<Value = Fault> {
        select(&Fault::KINDS)
    }
}

/// How long an attempt waits for its answer.
pub(crate) const ATTEMPT: std::time::Duration = std::time::Duration::from_secs(20);

/// The state of the world, and what goes wrong in it.
#[derive(Debug, Default)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
    died: Notify,
}

/// A group that got more of a route by a call.
#[derive(Clone, Debug)]
pub(crate) struct Gain {
    /// The route's key.
    pub route: String,
    /// The target group.
    pub group: String,
    /// What it has now, in percent.
    pub to: f64,
    /// Whether somebody had seen a healthy target of it.
    pub passed: bool,
    /// What went on with its instances or tasks, where it had nothing before.
    pub turnover: Option<String>,
}

/// Somebody who knows how the stacks are.
pub(crate) trait Stacks: Send + Sync {
    /// How the targets of a group are.
    fn health_of(&self, group: &str) -> Vec<TargetHealth>;
    /// Whether the instances or tasks behind a group are just being replaced.
    fn turnover_of(&self, group: &str) -> Option<String>;
    /// Likewise, by what keeps them.
    fn turnover(&self, of: &Scalable) -> Option<String>;
}

/// What an account may write to Parameter Store: so many calls a second, and as many at once.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: f64,
    left: Mutex<(f64, Instant)>,
    refused: std::sync::atomic::AtomicUsize,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(rate: f64) -> Arc<Bucket> {
        Arc::new(Bucket { rate, left: Mutex::new((rate, Instant::now())), refused: Default::default() })
    }

    fn take(&self) -> Result<(), PortError> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, since) = *left;
        let tokens = (tokens + since.elapsed().as_secs_f64() * self.rate).min(self.rate);
        *left = (if tokens >= 1.0 { tokens - 1.0 } else { tokens }, Instant::now());
        if tokens >= 1.0 {
            return Ok(());
        }
        self.refused.fetch_add(1, Ordering::SeqCst);
        Err(PortError::new(FailureKind::Throttled, "ThrottlingException: Rate exceeded"))
    }

    /// How many calls it had no room for.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }
}

struct Source(Arc<dyn Stacks>);

/// Something that somebody else does.
pub(crate) struct Hook(pub Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

#[derive(Debug, Default)]
struct State {
    world: World,
    source: Option<Source>,
    /// When the record came to say what it says.
    recorded_at: Option<std::time::SystemTime>,
    /// Groups that were seen to have a healthy target.
    passed: BTreeSet<String>,
    gains: Vec<Gain>,
    health: BTreeMap<String, Vec<TargetHealth>>,
    status: u16,
    calls: Vec<String>,
    /// When those of them were sent that change routes, and by which machine.
    moves: Vec<(Instant, String)>,
    /// What happens when the call of this number begins.
    at_call: Option<(usize, Hook)>,
    /// Every world that there was, for what clients may have seen.
    history: Vec<World>,
    unseen: BTreeMap<String, Observed>,
    /// Reads fail once so many changing calls were made, so many times.
    blind: Option<(usize, usize)>,
    /// The look after so many more fails.
    blind_after: Option<usize>,
    /// So many reads of an earlier version find none.
    hidden_versions: usize,
    /// So many looks show the world as it was before the last change.
    stale: usize,
    /// How long a look takes.
    slow: std::time::Duration,
    /// Reads of the lock that show this instead, one after the other.
    odd: Vec<Option<String>>,
    /// So many looks don't show this route or this record, though it is there.
    overlooked: BTreeMap<String, usize>,
    /// The tags of rules and parameters.
    tags: BTreeMap<String, BTreeMap<String, String>>,
    /// How listeners find out who is asking.
    listener: ListenerFacts,
    secrets: Vec<String>,
    /// Whether parameters may be neither read nor written.
    denied: bool,
    /// What the account may write.
    bucket: Option<Arc<Bucket>>,
    /// The label that bars a further version of a parameter, and the version that has it.
    labels: BTreeMap<String, (String, i64)>,
    /// The routes that are noted as previews, by group.
    previews: BTreeMap<String, Vec<String>>,
    /// Groups that are gone.
    gone: Vec<String>,
    /// Groups that speak gRPC.
    grpc: BTreeSet<String>,
    /// What is being replaced, by what keeps it.
    rolled: BTreeMap<String, String>,
    /// By the number of the changing call, from 0.
    faults: BTreeMap<usize, Fault>,
    /// The same for the calls that write a lock.
    lock_faults: BTreeMap<usize, Fault>,
    lock_calls: usize,
    /// Other parameters than the record, with all their versions.
    parameters: BTreeMap<String, Vec<String>>,
    /// Whatever was written to a lock, and when.
    written: Vec<(Instant, String)>,
    /// Whether these can be reached no more.
    lost: bool,
    /// Whether these are not answered any more.
    silent: bool,
    /// What functions, commands, alarms and metrics say, in turn; the last one stays.
    functions: Vec<FunctionAnswer>,
    commands: Vec<CommandEnd>,
    ran: Vec<BTreeMap<String, String>>,
    alarms: BTreeMap<String, String>,
    /// How long something has to last for an alarm to go off.
    least: BTreeMap<String, Duration>,
    samples: BTreeMap<String, Sample>,
    /// What is measured of those that are not among these.
    measures: Option<Measures>,
    /// Until when metrics were asked for, and when.
    sampled: Vec<(std::time::SystemTime, std::time::SystemTime)>,
    answers: Vec<HttpAnswer>,
    asked: Vec<HttpCheck>,
    told: Vec<String>,
}

type Window = (std::time::SystemTime, std::time::SystemTime);

/// Measures a group, given what is counted and from when to when.
type Measure = dyn Fn(&str, &[f64], Window) -> Sample + Send + Sync;

struct Measures(Arc<Measure>);

impl std::fmt::Debug for Measures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Measures")
    }
}

/// The first of what is to be said, which stays if it is the last.
fn in_turn<T: Clone>(list: &mut Vec<T>) -> Option<T> {
    if list.len() > 1 { Some(list.remove(0)) } else { list.first().cloned() }
}

impl Fake {
    /// This world, with two healthy targets in each of these groups.
    pub(crate) fn new(world: World, groups: &[&str]) -> Arc<Fake> {
        let target = |n: u8| TargetHealth {
            target: format!("10.0.0.{n}:80"),
            state: "healthy".to_owned(),
            reason: None,
            zone: Some(format!("zone-{n}")),
        };
        let health = groups.iter().map(|group| ((*group).to_owned(), vec![target(1), target(2)])).collect();
        let history = vec![world.clone()];
        Arc::new(Fake {
            state: Arc::new(Mutex::new(State { world, health, status: 200, history, ..State::default() })),
            died: Notify::new(),
        })
    }

    pub(crate) fn ports(self: &Arc<Fake>) -> Ports {
        Ports {
            load_balancer: self.clone(),
            records: self.clone(),
            http: self.clone(),
            capacities: self.clone(),
            functions: self.clone(),
            commands: self.clone(),
            monitoring: self.clone(),
            notifier: self.clone(),
        }
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

    /// Whatever was written to locks, and when, in its order.
    pub(crate) fn lock_writes(&self) -> Vec<(Instant, String)> {
        self.state().written.clone()
    }

    /// Begins the history anew.
    pub(crate) fn forget(&self) {
        self.state().history.clear();
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    pub(crate) fn set_health(&self, group: &str, states: &[&str]) {
        let target = |(n, state): (usize, &&str)| TargetHealth {
            target: format!("10.0.0.{}:80", n + 1),
            state: (*state).to_owned(),
            reason: (*state != "healthy").then(|| "Target.Timeout: Request timed out".to_owned()),
            zone: Some(format!("zone-{}", n + 1)),
        };
        self.state().health.insert(group.to_owned(), states.iter().enumerate().map(target).collect());
    }

    /// From now on this tells how the stacks are.
    pub(crate) fn ask(&self, stacks: Arc<dyn Stacks>) {
        self.state().source = Some(Source(stacks));
    }

    /// When the call of this number begins, counted from 0 since it was healed, something happens.
    pub(crate) fn at_call(&self, call: usize, act: impl FnOnce() + Send + 'static) {
        self.state().at_call = Some((call, Hook(Box::new(act))));
    }

    /// When calls were sent that change routes, and by which machine.
    pub(crate) fn moves(&self) -> Vec<(Instant, String)> {
        self.state().moves.clone()
    }

    /// What groups got by calls since the checks were forgotten.
    pub(crate) fn gains(&self) -> Vec<Gain> {
        self.state().gains.clone()
    }

    /// Forgets which groups were seen to be healthy, and what they got.
    pub(crate) fn forget_checks(&self) {
        let mut state = self.state();
        state.passed.clear();
        state.gains.clear();
    }

    pub(crate) fn set_status(&self, status: u16) {
        self.state().status = status;
    }

    /// Answers in turn, instead of the usual one.
    pub(crate) fn set_answers(&self, answers: Vec<HttpAnswer>) {
        self.state().answers = answers;
    }

    pub(crate) fn set_functions(&self, answers: Vec<FunctionAnswer>) {
        self.state().functions = answers;
    }

    /// The environments that commands got.
    pub(crate) fn ran(&self) -> Vec<BTreeMap<String, String>> {
        self.state().ran.clone()
    }

    pub(crate) fn set_commands(&self, ends: Vec<CommandEnd>) {
        self.state().commands = ends;
    }

    pub(crate) fn set_least(&self, name: &str, least: Duration) {
        self.state().least.insert(name.to_owned(), least);
    }

    pub(crate) fn set_alarm(&self, name: &str, state: &str) {
        self.state().alarms.insert(name.to_owned(), state.to_owned());
    }

    /// So many looks don't show this route, by its key, or this record.
    pub(crate) fn overlook(&self, what: &str, looks: usize) {
        self.state().overlooked.insert(what.to_owned(), looks);
    }

    /// A group speaks gRPC.
    pub(crate) fn set_grpc(&self, group: &str) {
        self.state().grpc.insert(group.to_owned());
    }

    /// What is measured of a group, by its dimension.
    pub(crate) fn set_sample(&self, group: &str, sample: Sample) {
        self.state().samples.insert(group.to_owned(), sample);
    }

    /// Measures groups by their dimension, by what is counted, and from when to when.
    pub(crate) fn measure(&self, measures: impl Fn(&str, &[f64], Window) -> Sample + Send + Sync + 'static) {
        self.state().measures = Some(Measures(Arc::new(measures)));
    }

    /// Until when metrics were asked for, and when.
    pub(crate) fn sampled(&self) -> Vec<(std::time::SystemTime, std::time::SystemTime)> {
        self.state().sampled.clone()
    }

    /// The requests that were made.
    pub(crate) fn asked(&self) -> Vec<HttpCheck> {
        self.state().asked.clone()
    }

    /// The messages that were published.
    pub(crate) fn told(&self) -> Vec<String> {
        self.state().told.clone()
    }

    /// Changes the world as somebody else would.
    pub(crate) fn meddle(&self, change: impl FnOnce(&mut World)) {
        let mut state = self.state();
        let before = state.world.record.clone();
        change(&mut state.world);
        if state.world.record != before {
            state.recorded_at = Some(crate::clock::wall());
        }
    }

    /// As AWS does: where a group keeps clients at a target, an action with several must keep them at a group.
    fn refuse_unsticky(&self, terminal: &Terminal) -> Result<(), PortError> {
        let Terminal::Forward(forward) = terminal else { return Ok(()) };
        let keeps = forward.groups.iter().any(|(group, _)| self.state().world.sticky.contains(group));
        if forward.groups.len() < 2 || forward.is_sticky() || !keeps {
            return Ok(());
        }
        let words =
            "You must enable group stickiness on a rule if you enabled target stickiness on one of its target groups";
        Err(PortError::new(FailureKind::Other, words))
    }

    /// From now on nothing but the record can be read or written in Parameter Store.
    pub(crate) fn lose_parameters(&self) {
        self.state().lost = true;
    }

    /// From now on nothing but the record is answered in Parameter Store.
    pub(crate) fn silence_parameters(&self) {
        self.state().silent = true;
    }

    pub(crate) fn delete_parameter(&self, name: &str) {
        self.state().parameters.remove(name);
    }

    /// The names of the parameters that are there, the record excepted.
    pub(crate) fn parameters(&self) -> Vec<String> {
        self.state().parameters.keys().cloned().collect()
    }

    /// What anybody sees of it: a secret is told once, and to nobody again.
    fn keeping(&self, processing: &Processing) -> Processing {
        let mut seen = processing.clone();
        if let Some(secret) = seen.secret_mut() {
            self.state().secrets.push(std::mem::take(&mut secret.text));
        }
        seen
    }

    /// From now on listeners speak this.
    pub(crate) fn speak(&self, protocol: &str) {
        self.state().listener.protocol = Some(protocol.to_owned());
    }

    /// The client secrets that rules were given, in order.
    pub(crate) fn secrets(&self) -> Vec<String> {
        self.state().secrets.clone()
    }

    /// From now on listeners find out who is asking.
    pub(crate) fn authenticate(&self, how: &str) {
        self.state().listener.authentication = Some(how.to_owned());
    }

    /// From now on no parameter may be read or written.
    pub(crate) fn deny_parameters(&self) {
        self.state().denied = true;
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<String> {
        self.state().parameters.get(name)?.last().cloned()
    }

    /// What a lock says, unless it is free or not there.
    pub(crate) fn lock(&self, name: &str) -> Option<String> {
        self.parameter(name).filter(|value| !value.contains("\"status\":\"free\""))
    }

    pub(crate) fn set_parameter(&self, name: &str, value: &str) {
        self.state().parameters.entry(name.to_owned()).or_default().push(value.to_owned());
    }

    pub(crate) fn fault(&self, call: usize, fault: Fault) {
        self.state().faults.insert(call, fault);
    }

    /// What goes wrong at the writes of the lock that follow, by their number from 0.
    pub(crate) fn lock_fault(&self, call: usize, fault: Fault) {
        let mut state = self.state();
        let number = state.lock_calls + call;
        state.lock_faults.insert(number, fault);
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
        state.lock_faults.clear();
        state.calls.clear();
        state.at_call = None;
    }

    /// Returns when a fault killed the process: whoever runs must be dropped then.
    pub(crate) async fn died(&self) {
        self.died.notified().await;
    }

    /// So many looks are old ones, as they were before the last change.
    pub(crate) fn be_stale(&self, looks: usize) {
        self.state().stale = looks;
    }

    /// The look after so many more fails.
    pub(crate) fn blind_after(&self, looks: usize) {
        self.state().blind_after = Some(looks);
    }

    /// So many reads of a version of a parameter find none: they are old ones.
    pub(crate) fn hide_versions(&self, reads: usize) {
        self.state().hidden_versions = reads;
    }

    /// Looks take so long from now on.
    pub(crate) fn be_slow(&self, time: std::time::Duration) {
        self.state().slow = time;
    }

    /// Moves a rule to another priority, as somebody else would; what stands there goes nowhere.
    pub(crate) fn move_rule(&self, from: &str, to: &str) {
        self.meddle(|world| {
            if let Some(seen) = world.routes.remove(from) {
                world.routes.insert(to.to_owned(), seen);
            }
        });
    }

    /// The tags of a rule, by ARN, or of a parameter.
    pub(crate) fn tags_of(&self, thing: &str) -> BTreeMap<String, String> {
        self.state().tags.get(thing).cloned().unwrap_or_default()
    }

    pub(crate) fn remove_parameter(&self, name: &str) {
        self.state().parameters.remove(name);
    }

    /// The next reads of a lock show these: nothing, or a text.
    pub(crate) fn be_odd(&self, reads: Vec<Option<String>>) {
        self.state().odd = reads;
    }

    /// From now on it writes parameters with others of its account.
    pub(crate) fn share(&self, bucket: &Arc<Bucket>) {
        self.state().bucket = Some(bucket.clone());
    }

    fn may_write(&self) -> Result<(), PortError> {
        if self.state().denied {
            return Err(PortError::new(FailureKind::Denied, "AccessDeniedException"));
        }
        let bucket = self.state().bucket.clone();
        bucket.map_or(Ok(()), |bucket| bucket.take())
    }

    /// Parameter Store has no room for a further version of this.
    pub(crate) fn bar(&self, name: &str, label: &str, version: i64) {
        self.state().labels.insert(name.to_owned(), (label.to_owned(), version));
    }

    /// The routes that are noted as previews on a group.
    pub(crate) fn previews(&self, group: &str) -> Vec<String> {
        self.state().previews.get(group).cloned().unwrap_or_default()
    }

    /// The instances or tasks of this are being replaced from now on.
    pub(crate) fn roll(&self, of: &str) {
        self.state().rolled.insert(of.to_owned(), "the instance refresh r-1 goes on (40 %)".to_owned());
    }

    /// Deletes a target group, as somebody else would.
    pub(crate) fn delete_group(&self, group: &str) {
        self.state().gone.push(group.to_owned());
    }

    async fn change(&self, what: String, effect: impl Fn(&mut World) + Send + Sync + 'static) -> Result<(), PortError> {
        let (fault, hook) = {
            let mut state = self.state();
            let number = state.calls.len();
            if what.starts_with("set ") {
                state.moves.push((Instant::now(), crate::run::holder::this().machine));
            }
            state.calls.push(what);
            (state.faults.get(&number).copied(), state.at_call.take_if(|(call, _)| *call == number))
        };
        if let Some((_, Hook(act))) = hook {
            act();
        }
        self.make(fault, move |state: &mut State| state.have(&effect)).await
    }

    /// Writes the lock; its version. One that is to be made, and is there, is a conflict.
    async fn write_lock(&self, name: &str, value: &str, is_new: bool) -> Result<i64, PortError> {
        let fault = {
            let mut state = self.state();
            state.lock_calls += 1;
            let number = state.lock_calls - 1;
            state.lock_faults.get(&number).copied()
        };
        let (to, with) = (name.to_owned(), value.to_owned());
        let refused = Arc::new(AtomicBool::new(false));
        let is_refused = refused.clone();
        let effect = move |state: &mut State| {
            // AWS makes no parameter without a type, which only a creation names.
            let is_wrong = is_new == state.parameters.contains_key(&to);
            is_refused.store(is_wrong, Ordering::SeqCst);
            if !is_wrong {
                state.parameters.entry(to.clone()).or_default().push(with.clone());
                state.written.push((Instant::now(), with.clone()));
            }
        };
        self.make(fault, effect).await?;
        if refused.load(Ordering::SeqCst) {
            return Err(match is_new {
                true => PortError::new(FailureKind::Conflict, "ParameterAlreadyExists"),
                false => {
                    PortError::new(FailureKind::Other, "A parameter type is required when you create a parameter.")
                }
            });
        }
        Ok(self.state().parameters.get(name).map_or(0, Vec::len) as i64)
    }

    /// Makes a call with that fault.
    async fn make(
        &self,
        fault: Option<Fault>,
        effect: impl Fn(&mut State) + Send + Sync + 'static,
    ) -> Result<(), PortError> {
        let lost = || PortError::new(FailureKind::Other, "it broke");
        if !matches!(fault, Some(Fault::Refused | Fault::DiesBefore | Fault::Late(_) | Fault::Twice(..))) {
            effect(&mut self.state());
        }
        match fault {
            None => Ok(()),
            Some(Fault::Refused) => Err(lost()),
            Some(Fault::LostAnswer) => {
                unanswered();
                Err(lost())
            }
            Some(Fault::DiesBefore | Fault::DiesAfter) => {
                self.died.notify_one();
                std::future::pending().await
            }
            Some(Fault::Late(seconds)) => {
                let answer = self.come_late(seconds, effect);
                match timeout(ATTEMPT, answer).await {
                    Ok(_) => Ok(()),
                    Err(_) => {
                        unanswered();
                        Err(PortError::new(FailureKind::Other, "no answer in time"))
                    }
                }
            }
            Some(Fault::Twice(first, second)) => {
                let effect = Arc::new(effect);
                let again = effect.clone();
                drop(self.come_late(first, move |state: &mut State| effect(state)));
                sleep(ATTEMPT).await;
                unanswered();
                // A call that was given up meanwhile begins no further attempt.
                if Call::current().is_some_and(|call| call.is_given_up()) {
                    return Err(PortError::new(FailureKind::Other, "no answer in time"));
                }
                let rest = second.saturating_sub(ATTEMPT.as_secs());
                drop(self.come_late(rest, move |state: &mut State| again(state)).await);
                Ok(())
            }
            Some(Fault::Echo(seconds)) => {
                unanswered();
                drop(self.come_late(seconds, effect));
                Ok(())
            }
        }
    }

    /// The effect, later, whoever waits for it.
    fn come_late(&self, seconds: u64, effect: impl Fn(&mut State) + Send + 'static) -> JoinHandle<()> {
        let state = self.state.clone();
        tokio::spawn(async move {
            sleep(std::time::Duration::from_secs(seconds)).await;
            effect(&mut state.lock().unwrap_or_else(PoisonError::into_inner));
        })
    }
}

fn unanswered() {
    if let Some(call) = Call::current() {
        call.note_unanswered(true);
    }
}

impl State {
    /// Whether this look misses it.
    fn overlooks(&mut self, what: &str) -> bool {
        let left = self.overlooked.get_mut(what).filter(|left| **left > 0);
        left.map(|left| *left -= 1).is_some()
    }

    fn have(&mut self, effect: &impl Fn(&mut World)) {
        let before = self.world.clone();
        effect(&mut self.world);
        self.refuse_gone(&before);
        if self.world.record != before.record {
            self.recorded_at = Some(crate::clock::wall());
        }
        for (key, seen) in &self.world.routes {
            let Terminal::Forward(forward) = &seen.terminal else { continue };
            for (group, _) in &forward.groups {
                let had = before.routes.get(key).map_or(0.0, |before| before.terminal.share(group));
                let to = seen.terminal.share(group);
                if to > had + 0.01 {
                    let passed = self.passed.contains(group);
                    let source = self.source.as_ref().filter(|_| had <= 0.0);
                    let turnover = source.and_then(|Source(stacks)| stacks.turnover_of(group));
                    self.gains.push(Gain { route: key.clone(), group: group.clone(), to, passed, turnover });
                }
            }
        }
        let world = self.world.clone();
        self.history.push(world);
    }

    /// What names a group that is gone is refused, also where it comes late.
    fn refuse_gone(&mut self, before: &World) {
        let gone = &self.gone;
        self.world.routes.retain(|key, seen| {
            let names_gone = gone.iter().any(|group| seen.terminal.mentions(group));
            match before.routes.get(key) {
                Some(before) if names_gone => seen.terminal.clone_from(&before.terminal),
                None if names_gone => return false,
                _ => {}
            }
            true
        });
    }

    /// What a look shows.
    fn shown(&mut self) -> World {
        if self.stale > 0 && self.history.len() > 1 {
            self.stale -= 1;
            return self.history[self.history.len() - 2].clone();
        }
        self.world.clone()
    }
}

/// A rule that is to be at a priority, as AWS would be asked for it.
fn find(world: &World, route: &RouteSpec) -> Option<Observed> {
    let RouteSpec::OwnRule { listener, priority, arn, .. } = route else {
        return world.routes.get(&route.key()).cloned();
    };
    // Rules stand in the map by their priority, and keep their ARN when they are moved.
    let of_listener = |key: &&String| key.starts_with(&format!("{listener}#"));
    let known = world.routes.iter().find(|(key, seen)| of_listener(key) && Some(&seen.arn) == arn.as_ref());
    let there = world.routes.get_key_value(&route.key());
    let (key, seen) = known.or(there)?;
    let taken_by = there.map(|(_, there)| there.arn.clone()).filter(|there| *there != seen.arn);
    let stands = key.rsplit('#').next()?.parse().ok()?;
    let place = (stands != *priority || taken_by.is_some()).then_some(Place { priority: stands, taken_by });
    Some(Observed { place, ..seen.clone() })
}

#[async_trait]
impl LoadBalancer for Fake {
    async fn observe(&self, routes: &[RouteSpec], _: Freshness) -> Result<BTreeMap<String, Observed>, PortError> {
        let slow = self.state().slow;
        sleep(slow).await;
        let mut state = self.state();
        let calls = state.calls.len();
        if let Some(left) = state.blind_after {
            state.blind_after = left.checked_sub(1);
            if left == 0 {
                return Err(PortError::new(FailureKind::Denied, "the token expired"));
            }
        }
        if let Some((after, looks)) = &mut state.blind
            && calls >= *after
            && *looks > 0
        {
            *looks -= 1;
            return Err(PortError::new(FailureKind::Denied, "the token expired"));
        }
        let shown = state.shown();
        let mut seen: BTreeMap<String, Observed> =
            routes.iter().filter_map(|route| Some((route.key(), find(&shown, route)?))).collect();
        seen.retain(|key, _| !state.overlooks(key));
        Ok(seen)
    }

    async fn rules_of(&self, listener: &str) -> Result<Vec<Observed>, PortError> {
        let world = self.state().shown();
        let rules = world.routes.iter().filter_map(|(key, seen)| {
            let priority = key.strip_prefix(listener)?.strip_prefix('#')?.parse().ok()?;
            Some(Observed { place: Some(Place { priority, taken_by: None }), ..seen.clone() })
        });
        Ok(rules.collect())
    }

    async fn listener_facts(&self, _: &str) -> Result<ListenerFacts, PortError> {
        Ok(self.state().listener.clone())
    }

    async fn set_terminal(&self, route: &RouteSpec, arn: &str, terminal: &Terminal) -> Result<(), PortError> {
        if let Terminal::Forward(forward) = terminal
            && let Some((group, _)) = forward.groups.iter().find(|(group, _)| self.state().gone.contains(group))
        {
            return Err(PortError::new(FailureKind::Gone, format!("TargetGroupNotFound: {group}")));
        }
        self.refuse_unsticky(terminal)?;
        let (arn, key, terminal) = (arn.to_owned(), route.key(), terminal.clone());
        let effect = move |world: &mut World| {
            let named = world.routes.iter_mut().find(|(own, seen)| seen.arn == arn && own.contains('#'));
            let route = named.map(|(_, seen)| seen);
            match route {
                Some(observed) => observed.terminal = terminal.clone(),
                None => {
                    if let Some(observed) = world.routes.get_mut(&key) {
                        observed.terminal = terminal.clone();
                    }
                }
            }
        };
        self.change(format!("set {}", route.key()), effect).await
    }

    async fn create_rule(
        &self,
        listener: &str,
        priority: i32,
        (conditions, processing): (&Conditions, &Processing),
        terminal: &Terminal,
        tags: &BTreeMap<String, String>,
    ) -> Result<String, PortError> {
        let key = format!("{listener}#{priority}");
        let unseen = self.state().unseen.remove(&key);
        if let Some(observed) = unseen {
            self.state().world.routes.insert(key.clone(), observed);
        }
        if self.state().world.routes.contains_key(&key) {
            return Err(PortError::new(FailureKind::Conflict, "PriorityInUse"));
        }
        self.refuse_unsticky(terminal)?;
        let conditions = Some(conditions.clone());
        let arn = if self.state().tags.contains_key(&key) { format!("{key} again") } else { key.clone() };
        self.state().tags.insert(arn.clone(), tags.clone());
        let processing = self.keeping(processing);
        let observed = Observed {
            arn: arn.clone(),
            terminal: terminal.clone(),
            conditions,
            processing: Some(processing),
            place: None,
            ahead: Default::default(),
        };
        let words = format!("create {key}");
        self.change(words, move |world| drop(world.routes.insert(key.clone(), observed.clone()))).await.map(|()| arn)
    }

    async fn set_priority(&self, arn: &str, priority: i32) -> Result<(), PortError> {
        let own = arn.to_owned();
        let effect = move |world: &mut World| {
            let key = world.routes.iter().find(|(_, seen)| seen.arn == own).map(|(key, _)| key.clone());
            let Some((key, seen)) = key.and_then(|key| world.routes.remove_entry(&key)) else { return };
            let listener = key.rsplit_once('#').map_or(key.as_str(), |(listener, _)| listener);
            world.routes.insert(format!("{listener}#{priority}"), seen);
        };
        self.change(format!("priority {arn}"), effect).await
    }

    async fn rule_tags(&self, arns: &[String]) -> Result<BTreeMap<String, BTreeMap<String, String>>, PortError> {
        let state = self.state();
        let there = arns.iter().filter(|arn| state.world.routes.values().any(|seen| seen.arn == **arn));
        Ok(there.map(|arn| (arn.clone(), state.tags.get(arn).cloned().unwrap_or_default())).collect())
    }

    async fn tag_rule(&self, arn: &str, tags: &BTreeMap<String, String>) -> Result<(), PortError> {
        self.state().tags.entry(arn.to_owned()).or_default().extend(tags.clone());
        Ok(())
    }

    async fn set_conditions(&self, arn: &str, conditions: &Conditions) -> Result<(), PortError> {
        let (own, conditions) = (arn.to_owned(), Some(conditions.clone()));
        let effect = move |world: &mut World| {
            if let Some(observed) = world.routes.values_mut().find(|seen| seen.arn == own) {
                observed.conditions = conditions.clone();
            }
        };
        self.change(format!("conditions {arn}"), effect).await
    }

    async fn set_processing(&self, arn: &str, _: &Processing, after: &Processing) -> Result<(), PortError> {
        let (own, after) = (arn.to_owned(), Some(self.keeping(after)));
        let effect = move |world: &mut World| {
            if let Some(observed) = world.routes.values_mut().find(|seen| seen.arn == own) {
                observed.processing = after.clone();
            }
        };
        self.change(format!("processing {arn}"), effect).await
    }

    async fn delete_rule(&self, arn: &str) -> Result<(), PortError> {
        let own = arn.to_owned();
        self.change(format!("delete {arn}"), move |world| world.routes.retain(|_, seen| seen.arn != own)).await
    }

    async fn target_health(&self, group: &str, _: bool) -> Result<Vec<TargetHealth>, PortError> {
        if self.state().gone.iter().any(|gone| gone == group) {
            return Err(PortError::new(FailureKind::Gone, format!("TargetGroupNotFound: {group}")));
        }
        let mut state = self.state();
        let seen = match &state.source {
            Some(Source(stacks)) => stacks.health_of(group),
            None => state.health.get(group).cloned().unwrap_or_default(),
        };
        // Nobody checks the targets of a group that no load balancer has.
        let is_used = state.world.mentions(group);
        let unused = |target: TargetHealth| TargetHealth { state: "unused".to_owned(), ..target };
        let seen: Vec<TargetHealth> = if is_used { seen } else { seen.into_iter().map(unused).collect() };
        if seen.iter().any(|target| target.state == "healthy") {
            state.passed.insert(group.to_owned());
        }
        Ok(seen)
    }

    async fn group_facts(&self, group: &str) -> Result<GroupFacts, PortError> {
        Ok(GroupFacts { is_sticky: self.state().world.sticky.contains(group), ..GroupFacts::default() })
    }

    async fn speaking_grpc(&self, groups: &[String]) -> Result<BTreeSet<String>, PortError> {
        let state = self.state();
        Ok(groups.iter().filter(|group| state.grpc.contains(*group)).cloned().collect())
    }

    async fn mark_previews(&self, groups: &[String], former: &[String], routes: &[String]) -> Result<(), PortError> {
        let mut state = self.state();
        for group in groups {
            let noted = state.previews.entry(group.clone()).or_default();
            noted.retain(|one| !former.contains(one) && !routes.contains(one));
            noted.extend(routes.iter().cloned());
        }
        Ok(())
    }

    async fn routes_of(&self, of: &[String], _: Freshness) -> Result<Vec<(RouteSpec, Observed)>, PortError> {
        if of.is_empty() { Ok(Vec::new()) } else { self.forwarding_routes(Freshness::Now).await }
    }

    async fn forwarding_routes(&self, _: Freshness) -> Result<Vec<(RouteSpec, Observed)>, PortError> {
        let routes = self.state().world.routes.clone();
        Ok(routes.into_iter().map(|(key, observed)| (RouteSpec::Listener(key), observed)).collect())
    }

    async fn group_names(&self, arns: Vec<String>) -> Result<BTreeMap<String, String>, PortError> {
        // Of none in particular, of all.
        let arns = if arns.is_empty() { self.state().health.keys().cloned().collect() } else { arns };
        Ok(arns.into_iter().map(|arn| (arn.clone(), crate::rollout::short(&arn))).collect())
    }
}

#[async_trait]
impl Records for Fake {
    async fn get(&self, name: &str, _: Freshness) -> Result<Option<String>, PortError> {
        let mut state = self.state();
        if name.ends_with(".rollout") {
            return Ok(state.parameters.get(name).and_then(|versions| versions.last().cloned()));
        }
        Ok(state.shown().record.filter(|_| !state.overlooks(name)))
    }

    async fn get_version(&self, name: &str, version: Option<i64>) -> Result<Option<(String, i64)>, PortError> {
        if self.state().silent {
            sleep(10 * ATTEMPT).await;
            return Err(PortError::new(FailureKind::Other, "no answer in time"));
        }
        let mut state = self.state();
        if state.denied {
            return Err(PortError::new(FailureKind::Denied, "AccessDeniedException"));
        }
        if state.lost {
            return Err(PortError::new(FailureKind::Other, "no answer in time"));
        }
        if version.is_some() && state.hidden_versions > 0 {
            state.hidden_versions -= 1;
            return Ok(None);
        }
        if version.is_none() && !state.odd.is_empty() {
            return Ok(state.odd.remove(0).map(|value| (value, 1)));
        }
        let Some(versions) = state.parameters.get(name) else { return Ok(None) };
        let version = version.unwrap_or(versions.len() as i64);
        let index = usize::try_from(version - 1).unwrap_or(usize::MAX);
        Ok(versions.get(index).map(|value| (value.clone(), version)))
    }

    async fn barring_label(&self, name: &str) -> Result<Option<(String, i64)>, PortError> {
        Ok(self.state().labels.get(name).cloned())
    }

    async fn recorded(&self, _: &str) -> Result<Option<Recorded>, PortError> {
        let state = self.state();
        let since = state.recorded_at.unwrap_or(std::time::SystemTime::UNIX_EPOCH);
        Ok(state.world.record.clone().map(|color| Recorded { color, since }))
    }

    async fn create(&self, name: &str, value: &str, tags: &BTreeMap<String, String>) -> Result<i64, PortError> {
        self.may_write()?;
        if name.ends_with(".rollout") {
            return self.write_lock(name, value, true).await;
        }
        if self.state().world.record.is_some() {
            return Err(PortError::new(FailureKind::Conflict, "ParameterAlreadyExists"));
        }
        self.state().tags.insert(name.to_owned(), tags.clone());
        let value = Some(value.to_owned());
        self.change(format!("create {name}"), move |world| world.record.clone_from(&value)).await.map(|()| 1)
    }

    async fn write(&self, name: &str, value: &str) -> Result<i64, PortError> {
        self.may_write()?;
        if name.ends_with(".rollout") {
            return self.write_lock(name, value, false).await;
        }
        let value = Some(value.to_owned());
        self.change(format!("write {name}"), move |world| world.record.clone_from(&value)).await.map(|()| 1)
    }

    async fn delete(&self, name: &str) -> Result<(), PortError> {
        if name.ends_with(".rollout") {
            self.state().parameters.remove(name);
            return Ok(());
        }
        self.change(format!("delete {name}"), |world| world.record = None).await
    }

    async fn tags(&self, name: &str) -> Result<BTreeMap<String, String>, PortError> {
        let state = self.state();
        if state.world.record.is_none() {
            return Err(PortError::new(FailureKind::Gone, "InvalidResourceId"));
        }
        Ok(state.tags.get(name).cloned().unwrap_or_default())
    }

    async fn add_tags(&self, name: &str, tags: &BTreeMap<String, String>) -> Result<(), PortError> {
        self.state().tags.entry(name.to_owned()).or_default().extend(tags.clone());
        Ok(())
    }
}

/// A color's group is named after it.
fn color_of(of: &Scalable) -> String {
    match of {
        Scalable::ScalingGroup(name) | Scalable::Service(name) => name.clone(),
    }
}

#[async_trait]
impl Capacities for Fake {
    fn unheld(&self, _: &Scalable, _: bool) -> Option<String> {
        None
    }

    async fn get(&self, of: &Scalable) -> Result<Option<Capacity>, PortError> {
        Ok(self.state().world.capacities.get(&color_of(of)).copied())
    }

    async fn turnover(&self, of: &Scalable) -> Result<Option<String>, PortError> {
        let state = self.state();
        let seen = state.source.as_ref().and_then(|Source(stacks)| stacks.turnover(of));
        Ok(seen.or_else(|| state.rolled.get(&color_of(of)).cloned()))
    }

    async fn set(&self, of: &Scalable, _: Capacity, after: Capacity) -> Result<(), PortError> {
        let color = color_of(of);
        let words = format!("size {color}");
        let effect = move |world: &mut World| {
            world.capacities.insert(color.clone(), after);
        };
        self.change(words, effect).await
    }
}

#[async_trait]
impl HttpProbe for Fake {
    async fn probe(&self, check: &HttpCheck) -> Result<HttpAnswer, PortError> {
        let mut state = self.state();
        state.asked.push(check.clone());
        if let Some(answer) = in_turn(&mut state.answers) {
            return Ok(answer);
        }
        let latency = std::time::Duration::from_millis(5);
        let (excerpt, body) = ("hello".to_owned(), "hello".to_owned());
        Ok(HttpAnswer { status: state.status, latency, excerpt, body, matches: None, headers: Vec::new() })
    }
}

#[async_trait]
impl Functions for Fake {
    async fn invoke(&self, _: &LambdaCheck, _: &str) -> Result<FunctionAnswer, PortError> {
        let answer = in_turn(&mut self.state().functions);
        answer.ok_or_else(|| PortError::new(FailureKind::Gone, "ResourceNotFoundException"))
    }
}

#[async_trait]
impl Commands for Fake {
    async fn run(&self, _: &CommandCheck, variables: &BTreeMap<String, String>) -> Result<CommandEnd, PortError> {
        self.state().ran.push(variables.clone());
        let end = in_turn(&mut self.state().commands);
        end.ok_or_else(|| PortError::new(FailureKind::Gone, "no such program"))
    }
}

#[async_trait]
impl Monitoring for Fake {
    async fn alarms(&self, names: &[String]) -> Result<Vec<AlarmState>, PortError> {
        let state = self.state();
        let alarm = |name: &String| AlarmState {
            name: name.clone(),
            state: state.alarms.get(name).cloned(),
            reason: None,
            least: state.least.get(name).copied(),
        };
        Ok(names.iter().map(alarm).collect())
    }

    async fn sample(
        &self,
        _: &MetricCheck,
        of: MetricOf<'_>,
        (from, to): (std::time::SystemTime, std::time::SystemTime),
    ) -> Result<Sample, PortError> {
        if from >= to {
            return Err(PortError::new(FailureKind::InvalidRequest, "StartTime must be less than EndTime"));
        }
        let mut state = self.state();
        state.sampled.push((to, crate::clock::wall()));
        let measured = || state.measures.as_ref().map(|Measures(measures)| measures(of.group, of.over, (from, to)));
        Ok(state.samples.get(of.group).cloned().or_else(measured).unwrap_or_default())
    }
}

#[async_trait]
impl Notifier for Fake {
    async fn publish(&self, _: &str, _: &str, message: &str) -> Result<(), PortError> {
        self.state().told.push(message.to_owned());
        Ok(())
    }
}
