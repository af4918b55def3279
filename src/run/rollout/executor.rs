//! Carries a runbook out: asks the machine what to do, does it, writes it down, looks again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use futures::future::{BoxFuture, join_all, select_all, try_join_all};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use crate::cancel::Cancel;
use crate::clock;
use crate::duration::shown;
use crate::rollout::machine::{self, Decision};
use crate::rollout::{
    Conditions, Entry, Environment, IllegalEntry, Journal, NEAR, Observed, OnFailure, RouteSpec, Runbook, Scalable,
    Step, StepId, Terminal, Waits, World, is_made_by, way_back,
};
use crate::run::call::{Call, SILENCE};
use crate::run::ports::{FailureKind, Freshness, PortError};
use crate::run::rollout::checks::{CheckRunner, Unmet};
use crate::run::rollout::events::{EventSink, Phase, RolloutContext};
use crate::run::rollout::kept::spread;
use crate::run::rollout::lock::{Lock, Lost};
use crate::run::rollout::ports::{Lasting, Ports};
use crate::secrets;

/// How long a call that is under way may still take once the run was stopped.
const GRACE: Duration = Duration::from_secs(4);
/// How often a call on the way back that is not answered is made again: it may be repeated.
const UNDO_TRIES: usize = 3;
/// How long the way back may take, whatever the run's own time was.
const WAY_BACK: Duration = Duration::from_secs(600);
/// How often, how long and with what pause the way back tries to see where the traffic is.
const LOOKS: usize = 4;
const LOOK_LIMIT: Duration = Duration::from_secs(30);
/// Before anything was put back, one short look: users are where they should not be, and putting back needs no eyes.
const FIRST_LOOK: Duration = Duration::from_secs(2);
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// How often to look again before it is believed that somebody else moves the same routes: an answer may be old.
const DOUBTS: usize = 3;
/// How often the record is written again where others use up the account's writes: for about two minutes.
const RECORD_TRIES: u64 = 25;
/// The shortest pause until then; up to so much more is added, so that not all come back at once.
const RECORD_PAUSE: Duration = Duration::from_secs(1);
const RECORD_SPREAD: Duration = Duration::from_secs(8);
/// While it holds, it looks this often whether somebody else moves the routes.
const GUARD: Duration = Duration::from_secs(10);
/// A machine that never ends would be a bug: each stage is decided a few times, on and back.
const MOST_DECISIONS_PER_STAGE: usize = 20;

/// One run of a runbook.
pub struct Run<'a> {
    /// How to reach the world.
    pub ports: &'a Ports,
    /// What to do.
    pub runbook: &'a Runbook,
    /// What to look at.
    pub scope: &'a Scope,
    /// What is made carries these.
    pub tags: &'a BTreeMap<String, String>,
    /// What it is about.
    pub about: &'a RolloutContext,
    /// What keeps others out meanwhile; none where there is no record to be locked.
    pub lock: Option<&'a Lock>,
    /// The stop signal.
    pub cancel: &'a Cancel,
    /// When users were watched for the first time, once they are.
    pub watched: OnceLock<SystemTime>,
    /// How long it may take.
    pub limit: Duration,
    /// How long the credentials last; none where it doesn't matter.
    pub lasting: Option<&'a dyn Lasting>,
}

/// What is looked at.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// The routes.
    pub routes: Vec<RouteSpec>,
    /// The record's name.
    pub record: Option<String>,
    /// What keeps the instances or tasks of the colors that are to be sized.
    pub scalables: BTreeMap<String, Scalable>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything is as it shall be.
    Done,
    /// It failed, and everything is as it was before.
    RolledBack,
    /// It failed, and stays as it is.
    Held,
    /// It failed, and so did the way back.
    Stuck,
    /// It failed, and a call that was not answered may still have its effect.
    Unknown,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// What happened.
    pub journal: Journal,
    /// What was seen last; none if nothing could be seen.
    pub world: Option<World>,
    /// How long the color to go live had traffic that it should not have kept, and at most how many percent.
    pub exposure: Option<(Duration, f64)>,
}

/// Since when the color to go live has traffic.
#[derive(Default)]
struct Exposure {
    since: Option<Instant>,
    until: Option<Instant>,
    most: f64,
}

/// Looks at the world.
///
/// # Errors
/// What could not be read.
pub async fn observe(ports: &Ports, scope: &Scope, age: Freshness) -> Result<World, PortError> {
    let value = async {
        match &scope.record {
            Some(name) => ports.records.get(name, age).await,
            None => Ok(None),
        }
    };
    let sizes = scope.scalables.iter().map(|(color, scalable)| async move {
        Ok::<_, PortError>(ports.capacities.get(scalable).await?.map(|size| (color.clone(), size)))
    });
    let routes = ports.load_balancer.observe(&scope.routes, age);
    let (routes, record, sizes) = futures::join!(routes, value, try_join_all(sizes));
    Ok(World {
        routes: routes?,
        record: record?,
        capacities: sizes?.into_iter().flatten().collect(),
        ..World::default()
    })
}

/// The rehearsed way back may take so long, with all repetitions of its calls: one takes a second or two.
const REHEARSED_WITHIN: Duration = Duration::from_secs(30);

impl Run<'_> {
    /// Runs to the end. The world is what was seen right before.
    pub async fn run(&self, world: World) -> Outcome {
        super::secrets::learn(self.runbook);
        let events = EventSink::new(self.ports, self.about);
        events.emit(Phase::Started, &self.weights(Some(&world)), &self.runbook.summary().join("; "));
        let (lost, is_lost) = watch::channel(None);
        let keep = async {
            if let Some(lock) = self.lock {
                let reason = lock.keep().await;
                let is_silent = matches!(reason, Lost::Silent(_));
                drop(lost.send_replace(Some(reason)));
                // On the way back it is renewed once that is possible again, so that nobody else begins meanwhile.
                if is_silent {
                    drop(lost.send_replace(Some(lock.keep_on().await)));
                }
            }
            std::future::pending::<()>().await;
        };
        let outcome = tokio::select! {
            outcome = self.steer(world, &events, is_lost) => outcome,
            () = keep => unreachable!("it never ends"),
        };
        let waits = self.runbook.waits.as_ref().map(Waits::summary).unwrap_or_default();
        let reason = outcome.journal.reason().map_or(waits, |(_, reason)| reason);
        let phase = match outcome.ending {
            Ending::Done if self.runbook.waits.is_some() => Phase::Waiting,
            Ending::Done => Phase::Completed,
            Ending::RolledBack => Phase::RolledBack,
            Ending::Held => Phase::Held,
            Ending::Stuck => Phase::Stuck,
            Ending::Unknown => Phase::Unknown,
        };
        events.emit(phase, &self.weights(outcome.world.as_ref()), &reason);
        events.finish().await;
        outcome
    }

    async fn steer(&self, world: World, events: &EventSink, is_lost: watch::Receiver<Option<Lost>>) -> Outcome {
        let deadline = Instant::now() + self.limit;
        let mut journal = Journal::default();
        for id in &self.runbook.taken_over {
            write(self.runbook, &mut journal, Entry::Began(*id));
            write(self.runbook, &mut journal, Entry::Done(*id));
        }
        let mut exposure = Exposure::default();
        let mut world = Some(world);
        let mut air = Air::default();
        let (mut doubts, mut decisions) = (0, 0);
        let most = MOST_DECISIONS_PER_STAGE * (self.runbook.stages.len() + 1);
        while decisions < most {
            exposure.note(self.share(world.as_ref()));
            air.learn(self.runbook, &mut journal, world.as_ref());
            self.note_stops(&is_lost, &mut journal);
            let decision = machine::next(self.runbook, &journal, world.as_ref());
            if !matches!(decision, Decision::ExternalChange(_) | Decision::Unseen(_) | Decision::Await(_)) {
                (doubts, decisions) = (0, decisions + 1);
            }
            let ending = match decision {
                Decision::Do(ids) => {
                    self.carry_out(&ids, (deadline, &is_lost), world.as_ref(), (&mut journal, &mut air)).await;
                    self.tell_progress(&ids, &journal, world.as_ref(), events);
                    None
                }
                Decision::Undo(ids) => {
                    self.undo(&ids, (world.as_ref(), &is_lost), (&mut journal, &mut air)).await;
                    None
                }
                Decision::Await(ids) => {
                    air.wait(self.runbook, &ids, &mut journal).await;
                    None
                }
                Decision::ExternalChange(_) | Decision::Unseen(_) if doubts < DOUBTS => {
                    doubts += 1;
                    sleep(LOOK_PAUSE).await;
                    None
                }
                Decision::ExternalChange(reason) => {
                    write(self.runbook, &mut journal, Entry::ExternalChange(reason));
                    None
                }
                Decision::Unseen(ids) => {
                    let words = "the call was answered, and what is there does not show it";
                    ids.into_iter()
                        .for_each(|id| write(self.runbook, &mut journal, Entry::UndoFailed(id, words.to_owned())));
                    None
                }
                Decision::Done => Some(Ending::Done),
                Decision::RolledBack => Some(Ending::RolledBack),
                Decision::Held => Some(Ending::Held),
                Decision::Stuck => Some(Ending::Stuck),
                Decision::Unknown => Some(Ending::Unknown),
            };
            if let Some(ending) = ending {
                let exposure = exposure.told();
                return Outcome { ending, journal, world, exposure };
            }
            self.look(deadline, &mut world, &mut journal).await;
        }
        Outcome { ending: Ending::Stuck, journal, world, exposure: exposure.told() }
    }

    /// Writes down that the lock was lost, or that somebody asked to stop. A rollout that has arrived is not undone for
    /// either: what is left of it is left.
    fn note_stops(&self, is_lost: &watch::Receiver<Option<Lost>>, journal: &mut Journal) {
        let lost = is_lost.borrow().clone();
        if machine::has_arrived(self.runbook, journal) {
            let (reason, is_ours) = match lost {
                Some(Lost::Taken(reason)) => (reason, false),
                Some(Lost::Silent(reason)) => (reason, true),
                None if self.cancel.is_cancelled() => ("the run was interrupted".to_owned(), true),
                None => return,
            };
            // Who is live is written down all the same: one call, and others go by it.
            let is_kept = |step: &Step| is_ours && matches!(step, Step::Record { .. });
            let rest = self.runbook.steps().filter(|(id, _)| self.runbook.is_afterwards(id.stage));
            let rest = rest.filter(|(_, step)| !is_kept(step));
            let open: Vec<StepId> = rest.map(|(id, _)| id).filter(|id| !journal.finished(*id)).collect();
            open.into_iter().for_each(|id| write(self.runbook, journal, Entry::Left(id, reason.clone())));
            return;
        }
        match lost {
            Some(Lost::Taken(reason)) if !journal.has_external_change() => {
                write(self.runbook, journal, Entry::ExternalChange(reason))
            }
            Some(Lost::Silent(reason)) if !journal.is_broken() => {
                let id = journal.last_began().unwrap_or(StepId { stage: 0, step: 0 });
                write(self.runbook, journal, Entry::Failed(id, reason));
            }
            _ => {}
        }
        if !journal.is_broken() && self.cancel.is_cancelled() {
            write(self.runbook, journal, Entry::Interrupted);
        }
    }

    /// What is looked at, with the rules that this run made by what they are and not by where they stand.
    fn scope(&self, journal: &Journal) -> Scope {
        let mut scope = self.scope.clone();
        for route in &mut scope.routes {
            let key = route.key();
            let RouteSpec::OwnRule { arn, .. } = route else { continue };
            if let Some(made) = self.runbook.made(&key, journal) {
                *arn = Some(made.to_owned());
            }
        }
        scope
    }

    /// The part of the color to go live, over all routes; of what it had before this rollout, nothing.
    fn share(&self, world: Option<&World>) -> Option<f64> {
        let (world, to) = (world?, self.about.to.as_ref()?);
        let gained = |route: &RouteSpec| {
            let origin = self.runbook.origin(&route.key())?;
            let had = origin.map_or(0.0, |before| self.about.share(route, to, &before.terminal));
            let share = self.about.share(route, to, &world.routes.get(&route.key())?.terminal);
            Some(if share > had + NEAR { share } else { 0.0 })
        };
        self.about.routes.iter().filter_map(gained).reduce(f64::max)
    }

    fn weights(&self, world: Option<&World>) -> BTreeMap<String, u32> {
        let first = world.and_then(|world| self.about.routes.iter().find_map(|route| world.routes.get(&route.key())));
        let share = |one: &Environment| first.map_or(0.0, |seen| one.share(&seen.terminal)).round() as u32;
        self.about.environments.iter().map(|(color, one)| (color.clone(), share(one))).collect()
    }

    fn tell_progress(&self, ids: &[StepId], journal: &Journal, world: Option<&World>, events: &EventSink) {
        let steps: Vec<&Step> = ids.iter().filter_map(|id| self.runbook.step(*id)).collect();
        let words = steps.iter().map(|step| step.summary()).collect::<Vec<_>>().join("; ");
        if journal.is_broken() {
            let reason = journal.reason().map(|(_, reason)| reason).unwrap_or_default();
            if machine::policy(self.runbook, journal) == OnFailure::Rollback && !journal.has_external_change() {
                events.emit(Phase::RollingBack, &self.weights(world), &reason);
            }
            return;
        }
        // Targets that are counted again before a further step are no validation of their own.
        let is_under_way = self.runbook.steps().any(|(id, step)| matches!(step, Step::Watch(_)) && journal.done(id));
        let phase = match steps.first() {
            Some(Step::Check(_)) if is_under_way => return,
            Some(Step::Check(_)) => Phase::Validated,
            // Previews, and a rule that no request takes, lead no users.
            Some(Step::Route { route, .. }) if !self.about.has_users(route) => return,
            Some(Step::Route { .. }) => Phase::Shifted,
            Some(Step::Watch(_)) => Phase::Watched,
            _ => return,
        };
        let mut weights = self.weights(world);
        // A cohort is told by its words.
        if let Some(Step::Route { route, after, .. }) = steps.first()
            && !self.about.leads_cohort(route)
        {
            for (color, environment) in &self.about.environments {
                weights.insert(color.clone(), environment.share(after).round() as u32);
            }
        }
        events.emit(phase, &weights, &words);
    }

    /// Looks again. What can't be seen can't be trusted: a rollout ends there, and what was seen before is forgotten,
    /// since it was before the last change. The way back tries some more, and then goes on blind.
    async fn look(&self, deadline: Instant, world: &mut Option<World>, journal: &mut Journal) {
        *world = None;
        if !journal.is_broken() {
            let arrived = machine::has_arrived(self.runbook, journal);
            let seen = tokio::select! {
                biased;
                // What is left then is told by what is seen: neither the run's time nor a stop closes the eyes.
                seen = self.observe_until(Instant::now() + LOOK_LIMIT, journal), if arrived => seen,
                seen = self.observe_until(deadline, journal), if !arrived => seen,
                () = self.cancel.cancelled(), if !arrived => {
                    write(self.runbook, journal, Entry::Interrupted);
                    Err(PortError::new(FailureKind::Other, "interrupted"))
                }
            };
            match seen {
                Ok(seen) => {
                    *world = Some(seen);
                    return;
                }
                // What was verified and written down is not undone because it can't be seen once more.
                Err(error) if arrived => {
                    tracing::warn!(%error, "what came of the last step can't be observed");
                    return;
                }
                Err(_) if journal.is_broken() => {}
                Err(error) => {
                    let id = journal.last_began().unwrap_or(StepId { stage: 0, step: 0 });
                    write(
                        self.runbook,
                        journal,
                        Entry::Failed(id, format!("what came of it can't be observed: {error}")),
                    );
                }
            }
        }
        let before_undoing = journal.undos().next().is_none();
        let (looks, limit) = if before_undoing { (1, FIRST_LOOK) } else { (LOOKS, LOOK_LIMIT) };
        for look in 1..=looks {
            match self.observe_until(Instant::now() + limit, journal).await {
                Ok(seen) => {
                    *world = Some(seen);
                    return;
                }
                Err(error) => tracing::warn!(%error, "the world can't be observed on the way back"),
            }
            if look < looks {
                sleep(LOOK_PAUSE).await;
            }
        }
    }

    async fn observe_until(&self, deadline: Instant, journal: &Journal) -> Result<World, PortError> {
        let scope = self.scope(journal);
        let seen = timeout_at(deadline, observe(self.ports, &scope, Freshness::Now)).await;
        seen.unwrap_or_else(|_| Err(timed_out("the load balancer and the record", self.limit)))
    }

    async fn carry_out<'r>(
        &'r self,
        ids: &[StepId],
        (deadline, is_lost): (Instant, &watch::Receiver<Option<Lost>>),
        world: Option<&World>,
        (journal, air): (&mut Journal, &mut Air<'r>),
    ) {
        for id in ids {
            write(self.runbook, journal, Entry::Began(*id));
        }
        if let Some(reason) = self.rolling(ids).await {
            write(self.runbook, journal, Entry::Failed(ids[0], reason));
            return;
        }
        if let Err(lost) = self.note_led(ids).await {
            match lost {
                Lost::Taken(reason) => write(self.runbook, journal, Entry::ExternalChange(reason)),
                Lost::Silent(reason) => write(self.runbook, journal, Entry::Failed(ids[0], reason)),
            }
            return;
        }
        let (so_far, began, dry) = (journal.clone(), Instant::now(), Mutex::default());
        let steps = ids.iter().filter_map(|id| Some((*id, self.runbook.step(*id)?)));
        let results = join_all(steps.map(|(id, step)| {
            let (so_far, dry) = (&so_far, &dry);
            async move {
                tracing::info!(step = step.summary(), "begins");
                let result = if step.is_check() {
                    let looked = self.within((deadline, is_lost), self.look_at(step, so_far, dry)).await;
                    Ended { result: looked.map(|()| None), call: Call::new(), flight: None }
                } else {
                    self.change((id, step), (deadline, is_lost), world, so_far).await
                };
                (id, step, result)
            }
        }));
        let mut interrupted = false;
        for (id, step, ended) in results.await {
            interrupted |= self.note((id, step), ended, journal, air);
        }
        for words in dry.into_inner().unwrap_or_else(PoisonError::into_inner) {
            write(self.runbook, journal, Entry::Noted(secrets::masked(&words)));
        }
        self.time_rehearsal(ids, began, journal);
        // A stop that came while the last step before the arrival was under way is heard.
        let heard = ids.iter().all(|id| !self.runbook.is_afterwards(id.stage)) && self.cancel.is_cancelled();
        if (interrupted || heard) && !journal.is_broken() {
            write(self.runbook, journal, Entry::Interrupted);
        }
    }

    /// Holds the rehearsed way back against the time that it may take.
    fn time_rehearsal(&self, ids: &[StepId], began: Instant, journal: &mut Journal) {
        let Some(id) = ids.iter().copied().find(|id| self.runbook.rehearsed == Some(id.stage)) else { return };
        let took = began.elapsed();
        tracing::info!(seconds = took.as_secs_f64(), "the way back was rehearsed");
        if took > REHEARSED_WITHIN && !journal.is_broken() {
            let words = format!(
                "the way back took {} in its rehearsal, and may take {}: a release that fails would be with its users for as long",
                shown(Duration::from_secs(took.as_secs())),
                shown(REHEARSED_WITHIN)
            );
            write(self.runbook, journal, Entry::Failed(id, words));
        }
    }

    /// Why a color can't get its first requests now: what serves there is just being replaced, by whomever. What can't be
    /// seen bars nobody: its targets are checked all the same.
    async fn rolling(&self, ids: &[StepId]) -> Option<String> {
        let colors = self.about.environments.iter().filter(|(_, environment)| {
            ids.iter().filter_map(|id| self.runbook.step(*id)).any(|step| match step {
                Step::Route { route, before, after, .. } if self.about.has_users(route) => {
                    let led = before.as_ref().map_or(0.0, |before| environment.share(&before.terminal));
                    led <= 0.0 && environment.share(after) > 0.0
                }
                _ => false,
            })
        });
        for (color, environment) in colors {
            let Some(scalable) = &environment.scalable else { continue };
            match self.ports.capacities.turnover(scalable).await {
                Ok(Some(what)) => {
                    return Some(format!("{color} is being replaced: {what}. Wait until that has ended, or cancel it"));
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, color, "it can't be seen whether it is being replaced"),
            }
        }
        None
    }

    /// Writes down where traffic is about to be led, for whoever finds it there.
    async fn note_led(&self, ids: &[StepId]) -> Result<(), Lost> {
        let Some(lock) = self.lock else { return Ok(()) };
        let led = ids.iter().filter_map(|id| match self.runbook.step(*id)? {
            Step::Route { route, before, after, .. } if self.about.routes.contains(route) => {
                let moves = before.as_ref().is_none_or(|before| !before.terminal.shares_like(after));
                moves.then(|| (route.clone(), after.clone()))
            }
            _ => None,
        });
        let led: Vec<(RouteSpec, Terminal)> = led.collect();
        if led.is_empty() {
            return Ok(());
        }
        let about = self.about.clone();
        let part = move |color: &str| {
            led.iter().map(|(route, after)| (about.share(route, color, after) * 10.0).round() as u32).collect()
        };
        lock.lead(part).await
    }

    /// Writes down how a step ended; whether it was interrupted.
    fn note<'r>(
        &self,
        (id, step): (StepId, &Step),
        Ended { result, call, flight }: Ended<'r>,
        journal: &mut Journal,
        air: &mut Air<'r>,
    ) -> bool {
        let in_doubt = call.unanswered() > 0 || flight.is_some();
        if in_doubt {
            air.doubt(id, call, flight);
        }
        let stop = match result {
            Ok(made) => {
                tracing::info!(step = step.summary(), "done");
                write(self.runbook, journal, Entry::Done(id));
                journal_made(self.runbook, journal, id, made);
                if in_doubt {
                    write(self.runbook, journal, Entry::Repeated(id));
                }
                return false;
            }
            Err(stop) => stop,
        };
        if in_doubt {
            write(self.runbook, journal, Entry::Unanswered(id));
        }
        match stop {
            Stop::Again => {}
            stop if self.runbook.is_afterwards(id.stage) => {
                tracing::warn!(step = step.summary(), reason = stop.summary(), "is left for the next apply");
                write(self.runbook, journal, Entry::Left(id, secrets::masked(&stop.summary())));
            }
            Stop::ExternalChange(reason) => write(self.runbook, journal, Entry::ExternalChange(reason)),
            Stop::Interrupted => return true,
            Stop::Unclear(reason) => {
                let reason = secrets::masked(&reason);
                tracing::warn!(step = step.summary(), reason, "is not clear");
                write(self.runbook, journal, Entry::Failed(id, reason));
                write(self.runbook, journal, Entry::Unclear(id));
            }
            Stop::Failed(error) => {
                let reason = secrets::masked(&error.message);
                tracing::warn!(step = step.summary(), reason, "failed");
                write(self.runbook, journal, Entry::Failed(id, reason));
                if let Some(evidence) = &error.evidence {
                    write(self.runbook, journal, Entry::Saw(id, evidence.clone()));
                }
                // What stands in the way was made by somebody else: there is nothing of ours to take back.
                if error.kind == FailureKind::Conflict && !in_doubt {
                    write(self.runbook, journal, Entry::Undone(id));
                }
            }
        }
        false
    }

    /// Bounds what only looks by the run's time and by the stop signal.
    async fn within<T>(
        &self,
        (deadline, is_lost): (Instant, &watch::Receiver<Option<Lost>>),
        work: impl Future<Output = Result<T, Stop>>,
    ) -> Result<T, Stop> {
        tokio::select! {
            biased;
            result = work => result,
            stop = self.stopped((deadline, is_lost)) => Err(stop),
        }
    }

    /// Returns when there is a reason to stop.
    async fn stopped(&self, (deadline, is_lost): (Instant, &watch::Receiver<Option<Lost>>)) -> Stop {
        tokio::select! {
            biased;
            lost = lost(is_lost) => lost.into(),
            () = self.cancel.cancelled() => Stop::Interrupted,
            () = self.credentials_end() => {
                let words = "the AWS credentials end soon, and what is undone has to be undone before".to_owned();
                Stop::Failed(PortError::new(FailureKind::Denied, words))
            }
            () = tokio::time::sleep_until(deadline) => {
                let words = format!("the operation's time of {} ended first", shown(self.limit));
                Stop::Failed(PortError::new(FailureKind::Other, words))
            }
        }
    }

    /// Returns when the way back would have to begin, for the credentials to last until its end.
    async fn credentials_end(&self) {
        let Some(lasting) = self.lasting else { return std::future::pending().await };
        loop {
            match lasting.left().await {
                None => return std::future::pending().await,
                Some(left) if left.is_zero() => return,
                Some(left) => sleep(left).await,
            }
        }
    }

    /// Makes the call of a step. When the run is stopped it is given a moment to end, since its answer tells more than a
    /// guess; what is still on its way then is not forgotten.
    async fn change<'r>(
        &'r self,
        (id, step): (StepId, &'r Step),
        (deadline, is_lost): (Instant, &watch::Receiver<Option<Lost>>),
        world: Option<&World>,
        journal: &Journal,
    ) -> Ended<'r> {
        let call = Call::new();
        let ended = |result, flight| Ended { result, call: call.clone(), flight };
        if let Some(lock) = self.lock
            && let Err(lost) = lock.confirm().await
        {
            return ended(Err(lost.into()), None);
        }
        // What an earlier step made is known by its ARN, whether a look shows it or not.
        let made = match step {
            Step::Remove { route, .. } => self.runbook.made(&route.key(), journal),
            _ => journal.made(id),
        };
        let (made, world) = (made.map(str::to_owned), world.cloned());
        let work = async move { self.effect(step, world.as_ref(), made.as_deref()).await };
        let mut answer: BoxFuture<'r, Answer> = Box::pin(call.clone().make(work));
        let stop = tokio::select! {
            biased;
            result = &mut answer => return ended(result.map_err(Stop::Failed), None),
            stop = self.stopped((deadline, is_lost)) => stop,
        };
        match timeout_at(Instant::now() + GRACE, &mut answer).await {
            Ok(Ok(made)) => ended(Ok(made), None),
            Ok(Err(_)) => ended(Err(stop), None),
            Err(_) => {
                call.give_up();
                ended(Err(stop), Some(answer))
            }
        }
    }

    async fn look_at(&self, step: &Step, journal: &Journal, dry: &Mutex<Vec<String>>) -> Result<(), Stop> {
        let (wrote, known) = (Mutex::default(), Mutex::default());
        let level = self.runbook.level_of_a_test();
        let (ports, about) = (self.ports, self.about);
        let watched = match step {
            Step::Watch(_) => *self.watched.get_or_init(clock::wall),
            _ => clock::wall(),
        };
        let looker = CheckRunner { ports, about, dry, wrote: &wrote, level, watched, known: &known };
        let failed = |unmet: Unmet| {
            let wrote = wrote.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let evidence = Some(wrote).filter(|wrote| !wrote.is_empty());
            match unmet {
                Unmet::Failed(reason) => {
                    Stop::Failed(PortError { evidence, ..PortError::new(FailureKind::Other, reason) })
                }
                Unmet::Unclear(reason) => Stop::Unclear(reason),
            }
        };
        match step {
            Step::Check(checking) => looker.validate(checking).await.map_err(failed),
            Step::Converge(convergence) => looker.converge(convergence).await.map_err(|seen| failed(seen.into())),
            Step::Watch(watch) => {
                let tell = async {
                    match self.lock {
                        Some(lock) => lock.tell(&watch.summary()).await.map_err(Stop::from),
                        None => Ok(()),
                    }
                };
                // What is written down must not keep the eyes off the traffic.
                let watched = async {
                    futures::future::try_join(tell, async { looker.watch(watch).await.map_err(failed) }).await.map(drop)
                };
                tokio::select! {
                    biased;
                    watched = watched => watched,
                    stop = self.guard(journal) => Err(stop),
                }
            }
            _ => Ok(()),
        }
    }

    /// Returns when somebody else moves the routes, or a late call of this very run does.
    async fn guard(&self, journal: &Journal) -> Stop {
        let (scope, mut doubts) = (self.scope(journal), 0);
        loop {
            sleep(if doubts == 0 { GUARD } else { LOOK_PAUSE }).await;
            let Ok(seen) = observe(self.ports, &scope, Freshness::Now).await else { continue };
            if !machine::echoed(self.runbook, journal, &seen).is_empty() {
                return Stop::Again;
            }
            match machine::crossed(self.runbook, journal, &seen) {
                Some(reason) if doubts >= DOUBTS => return Stop::ExternalChange(reason),
                Some(_) => doubts += 1,
                None => doubts = 0,
            }
        }
    }

    /// Carries a step out; the rule that it made, if it made one.
    async fn effect(&self, step: &Step, world: Option<&World>, made: Option<&str>) -> Answer {
        let load_balancer = &self.ports.load_balancer;
        let seen = |route: &RouteSpec| world.and_then(|world| world.routes.get(&route.key())).cloned();
        let is_made = |seen: &Observed| made == Some(seen.arn.as_str());
        match step {
            Step::Route { route, before: None, .. } if seen(route).is_some_and(|seen| !is_made(&seen)) => {
                let words = format!("{route} was made by somebody else in the meantime");
                Err(PortError::new(FailureKind::Conflict, words))
            }
            Step::Route { route, after, .. } => match (seen(route), route) {
                (Some(seen), _) => load_balancer.set_terminal(route, &seen.arn, after).await.map(|()| None),
                (None, RouteSpec::OwnRule { listener, priority, conditions, processing, .. }) => {
                    let of = (conditions, processing.as_ref());
                    let made = load_balancer.create_rule(listener, *priority, of, after, self.tags).await;
                    self.settle_conflict(step, made.map(Some)).await
                }
                (None, _) => Err(PortError::new(FailureKind::Gone, format!("{route} is gone"))),
            },
            Step::Priority { arn, after, .. } => load_balancer.set_priority(arn, *after).await.map(|()| None),
            Step::Conditions { arn, after, .. } => load_balancer.set_conditions(arn, after).await.map(|()| None),
            Step::Processing { before, after, .. } => {
                let former = before.processing.clone().unwrap_or_default();
                load_balancer.set_processing(&before.arn, &former, after).await.map(|()| None)
            }
            Step::Remove { route, before } => {
                // Made by an earlier step, it has the ARN that is seen.
                let arn = match before.arn.as_str() {
                    "" => made.map(str::to_owned).or_else(|| seen(route).map(|seen| seen.arn)),
                    arn => Some(arn.to_owned()),
                };
                match arn {
                    Some(arn) => load_balancer.delete_rule(&arn).await.map(|()| None),
                    None if world.is_some() => Ok(None),
                    None => Err(PortError::new(FailureKind::Other, format!("it can't be seen which one {route} is"))),
                }
            }
            Step::Record { parameter, before, after } => match after {
                None => self.ports.records.delete(parameter).await.map(|()| None),
                Some(after) if before.is_some() => {
                    patiently(parameter, || self.ports.records.write(parameter, after)).await.map(|_| None)
                }
                Some(after) => {
                    let made = patiently(parameter, || self.ports.records.create(parameter, after, self.tags)).await;
                    self.settle_conflict(step, made.map(|_| None)).await
                }
            },
            Step::Capacity { scalable, before, after, .. } => {
                self.ports.capacities.set(scalable, *before, *after).await.map(|()| None)
            }
            Step::Check(_) | Step::Converge(_) | Step::Watch(_) => Ok(None),
        }
    }

    /// A call that was repeated because its first answer was lost meets its own work: that is success.
    async fn settle_conflict(&self, step: &Step, result: Answer) -> Answer {
        match result {
            Err(error) if error.kind == FailureKind::Conflict => {
                let seen = observe(self.ports, self.scope, Freshness::Now).await?;
                let arn = |route: &RouteSpec| seen.routes.get(&route.key()).map(|seen| seen.arn.clone());
                match step {
                    Step::Route { route, after, .. }
                        if seen.routes.get(&route.key()).is_some_and(|seen| is_made_by(seen, route, after)) =>
                    {
                        Ok(arn(route))
                    }
                    Step::Route { .. } => Err(error),
                    _ if step.holds(&seen) => Ok(None),
                    _ => Err(error),
                }
            }
            other => other,
        }
    }

    async fn undo(
        &self,
        ids: &[StepId],
        (world, is_lost): (Option<&World>, &watch::Receiver<Option<Lost>>),
        (journal, air): (&mut Journal, &mut Air<'_>),
    ) {
        if let Some(reason) = self.taken_before(journal).await {
            write(self.runbook, journal, Entry::ExternalChange(reason));
            return;
        }
        let deadline = Instant::now() + WAY_BACK;
        let so_far = journal.clone();
        let (steps, before) = (ids.iter().filter_map(|id| Some((*id, self.runbook.step(*id)?))), &so_far);
        let results = join_all(steps.map(|(id, step)| async move {
            tracing::warn!(step = step.summary(), "goes back");
            let (made, call) = (before.made(id), Call::new());
            let result = tokio::select! {
                biased;
                result = timeout_at(deadline, self.take_back_surely(step, world, made, &call)) => result,
                // Whoever has the lock now goes on from what is there.
                reason = taken(is_lost) => Ok(Err(PortError::new(FailureKind::Conflict, reason))),
            };
            (id, call, result.unwrap_or_else(|_| Err(timed_out("the way back", WAY_BACK))))
        }));
        for (id, call, result) in results.await {
            let entry = match result {
                Ok(()) => Entry::Undone(id),
                Err(error) => Entry::UndoFailed(id, error.message),
            };
            write(self.runbook, journal, entry);
            // A call of the way back that was sent twice may have its effect when somebody has gone on already.
            if call.unanswered() > 0 {
                write(self.runbook, journal, Entry::Repeated(id));
                air.doubt(id, call, None);
            }
        }
    }

    /// Who took the lock, before anything is put back. Users wait for it: a lock that can't be renewed in time is still ours
    /// for as long as the first call takes. After a sleep it may be anybody's, and what is there may be theirs: that is
    /// found out first.
    async fn taken_before(&self, journal: &Journal) -> Option<String> {
        let lock = self.lock?;
        let slept = lock.has_lapsed() && journal.undos().next().is_none();
        let until = Instant::now() + if slept { SILENCE } else { FIRST_LOOK };
        loop {
            match timeout_at(until, lock.confirm()).await {
                Ok(Err(Lost::Taken(reason))) => return Some(reason),
                Ok(Err(Lost::Silent(_))) if slept && Instant::now() < until => sleep(LOOK_PAUSE).await,
                Ok(_) | Err(_) => return None,
            }
        }
    }

    /// Takes a step back, again where no answer came: the call may be repeated, and its effect may have come.
    async fn take_back_surely(
        &self,
        step: &Step,
        world: Option<&World>,
        made: Option<&str>,
        call: &Arc<Call>,
    ) -> Result<(), PortError> {
        for _ in 1..UNDO_TRIES {
            let before = call.unanswered();
            let result = call.clone().make(self.take_back(step, world, made)).await;
            if result.is_ok() || call.unanswered() == before || matches!(step, Step::Remove { .. }) {
                return result;
            }
            sleep(LOOK_PAUSE).await;
        }
        call.clone().make(self.take_back(step, world, made)).await
    }

    async fn take_back(&self, step: &Step, world: Option<&World>, made: Option<&str>) -> Result<(), PortError> {
        let load_balancer = &self.ports.load_balancer;
        match step {
            Step::Route { route, before: Some(before), .. } => {
                load_balancer.set_terminal(route, &before.arn, &way_back(&before.terminal)).await
            }
            Step::Route { route, before: None, after, .. } => match made {
                Some(made) => load_balancer.delete_rule(made).await,
                // What it made has a name that only a look tells.
                None => match self.made_by(route, after, world).await {
                    Some(made) => load_balancer.delete_rule(&made).await,
                    None => Ok(()),
                },
            },
            Step::Priority { arn, before, .. } => load_balancer.set_priority(arn, *before).await,
            Step::Conditions { arn, before, .. } if *before != Conditions::default() => {
                load_balancer.set_conditions(arn, before).await
            }
            Step::Processing { before, after, .. } => {
                let former = before.processing.clone().unwrap_or_default();
                load_balancer.set_processing(&before.arn, after, &former).await
            }
            Step::Remove { route: RouteSpec::OwnRule { listener, priority, conditions, processing, .. }, before } => {
                let seen = before.processing.clone().map(|seen| seen.with_secret_of(processing));
                let of = (before.conditions.as_ref().unwrap_or(conditions), seen.as_ref().unwrap_or(processing));
                load_balancer.create_rule(listener, *priority, of, &before.terminal, self.tags).await.map(drop)
            }
            Step::Record { parameter, before: Some(before), .. } => {
                self.ports.records.write(parameter, before).await.map(drop)
            }
            Step::Record { parameter, before: None, .. } => self.ports.records.delete(parameter).await,
            Step::Capacity { scalable, before, after, .. } => {
                self.ports.capacities.set(scalable, *after, *before).await
            }
            Step::Conditions { .. } | Step::Remove { .. } | Step::Check(_) | Step::Converge(_) | Step::Watch(_) => {
                Ok(())
            }
        }
    }

    /// The rule that a step made whose answer did not tell; none if it made none. It is looked for until it can be seen
    /// whether it is there.
    async fn made_by(&self, route: &RouteSpec, after: &Terminal, world: Option<&World>) -> Option<String> {
        let mut seen = world.cloned();
        loop {
            if let Some(world) = &seen {
                let there = world.routes.get(&route.key()).filter(|seen| is_made_by(seen, route, after));
                return there.map(|seen| seen.arn.clone());
            }
            sleep(LOOK_PAUSE).await;
            seen = observe(self.ports, self.scope, Freshness::Now).await.ok();
        }
    }
}

/// What a call that changes something answers: the rule that it made, if it made one.
type Answer = Result<Option<String>, PortError>;

/// How a step's call ended.
struct Ended<'r> {
    result: Result<Option<String>, Stop>,
    call: Arc<Call>,
    /// The call, where it is still on its way.
    flight: Option<BoxFuture<'r, Answer>>,
}

/// Calls without an answer.
#[derive(Default)]
struct Air<'r>(BTreeMap<StepId, Flight<'r>>);

struct Flight<'r> {
    call: Arc<Call>,
    since: Instant,
    answer: Option<BoxFuture<'r, Answer>>,
}

impl<'r> Air<'r> {
    fn doubt(&mut self, id: StepId, call: Arc<Call>, answer: Option<BoxFuture<'r, Answer>>) {
        self.0.insert(id, Flight { call, since: Instant::now(), answer });
    }

    /// What can be seen of a single call's effect needs no answer any more.
    fn learn(&mut self, runbook: &Runbook, journal: &mut Journal, world: Option<&World>) {
        let Some(world) = world else { return };
        for id in journal.doubts() {
            // One that is still on its way was sent, too.
            let sent = |flight: &Flight<'_>| flight.call.unanswered() + u32::from(flight.answer.is_some());
            let sent_once = self.0.get(&id).is_some_and(|flight| sent(flight) <= 1);
            let is_there = runbook.step(id).is_some_and(|step| step.holds(world));
            if sent_once && is_there {
                // A record that was left is written after all.
                let is_record = matches!(runbook.step(id), Some(Step::Record { .. }));
                if is_record && !journal.is_broken() && journal.finished(id) && !journal.done(id) {
                    write(runbook, journal, Entry::Done(id));
                }
                write(runbook, journal, Entry::Answered(id));
                self.0.remove(&id);
            }
        }
    }

    /// Waits a moment, or until one of these is answered.
    async fn wait(&mut self, runbook: &Runbook, ids: &[StepId], journal: &mut Journal) {
        let waiting = self.0.iter_mut().filter(|(id, _)| ids.contains(id));
        let answers: Vec<_> = waiting
            .filter_map(|(id, flight)| {
                let answer = flight.answer.as_mut()?;
                Some(Box::pin(async move { (*id, answer.await) }))
            })
            .collect();
        let answered = if answers.is_empty() {
            sleep(LOOK_PAUSE).await;
            None
        } else {
            tokio::select! {
                biased;
                ((id, answer), _, _) = select_all(answers) => Some((id, answer)),
                () = sleep(LOOK_PAUSE) => None,
            }
        };
        if let Some((id, answer)) = answered {
            let unanswered = self.0.get(&id).map_or(0, |flight| flight.call.unanswered());
            if let Some(flight) = self.0.get_mut(&id) {
                flight.answer = None;
            }
            match answer {
                Ok(made) => {
                    write(runbook, journal, Entry::Done(id));
                    journal_made(runbook, journal, id, made);
                    write(runbook, journal, Entry::Answered(id));
                    // It was sent before, too.
                    if unanswered > 0 {
                        write(runbook, journal, Entry::Repeated(id));
                    }
                }
                Err(_) if unanswered == 0 => write(runbook, journal, Entry::Answered(id)),
                Err(error) => tracing::warn!(%error, "a call has no answer"),
            }
        }
        for id in ids {
            let patience = |flight: &Flight<'_>| match flight.answer {
                Some(_) => SILENCE,
                None => flight.call.patience(),
            };
            let late = self.0.get(id).is_none_or(|flight| flight.since.elapsed() >= patience(flight));
            if late && !journal.is_expired(*id) {
                write(runbook, journal, Entry::Expired(*id));
            }
        }
    }
}

/// Writes an entry down. One that can't follow is a bug of ours: the run lost count of its own steps.
fn write(runbook: &Runbook, journal: &mut Journal, entry: Entry) {
    if let Err(refused) = journal.push(entry) {
        debug_assert!(false, "the journal refuses {refused}");
        give_up_counting(runbook, journal, &refused);
    }
}

/// What is written where an entry can't be. Nothing may end with it, least of all at night: a rollout that goes on counts as
/// failed, since every step that began is then undone, whatever else is known of it; one that has arrived stays, and the
/// step is left for the next apply; and one that is being undone ends with a call for a person, after all the rest is
/// undone, since what it says of itself can't be trusted.
pub(super) fn give_up_counting(runbook: &Runbook, journal: &mut Journal, refused: &IllegalEntry) {
    tracing::error!(%refused, "the provider has a bug: its journal refuses an entry");
    let reason = format!("the provider has a bug: its journal refuses an entry ({refused})");
    let of_step = refused.entry.step();
    let entry = if machine::has_arrived(runbook, journal) {
        of_step.filter(|id| runbook.is_afterwards(id.stage)).map(|id| Entry::Left(id, reason))
    } else if journal.is_broken() {
        journal.undos().last().map(|id| Entry::UndoFailed(id, reason))
    } else {
        let id = of_step.or_else(|| journal.last_began()).unwrap_or(StepId { stage: 0, step: 0 });
        Some(Entry::Failed(id, reason))
    };
    if let Some(Err(again)) = entry.map(|entry| journal.push(entry)) {
        tracing::error!(%again, "nor can the journal say that");
    }
}

fn journal_made(runbook: &Runbook, journal: &mut Journal, id: StepId, made: Option<String>) {
    if let Some(arn) = made {
        write(runbook, journal, Entry::Made(id, arn));
    }
}

/// Why a step did not get to its end.
enum Stop {
    Failed(PortError),
    /// Nothing can be said, and a person is to decide.
    Unclear(String),
    ExternalChange(String),
    Interrupted,
    /// A late call of this very run moved what was done since: that is to be done again.
    Again,
}

impl Stop {
    fn summary(&self) -> String {
        match self {
            Stop::Failed(error) => error.message.clone(),
            Stop::ExternalChange(reason) | Stop::Unclear(reason) => reason.clone(),
            Stop::Interrupted => "the run was interrupted".to_owned(),
            Stop::Again => "a late call moved it".to_owned(),
        }
    }
}

/// Makes a call of Parameter Store again as long as others use up the account's three writes a second.
async fn patiently<T, F>(parameter: &str, call: impl Fn() -> F) -> Result<T, PortError>
where
    F: Future<Output = Result<T, PortError>>,
{
    for tried in 0..RECORD_TRIES {
        match call().await {
            Err(error) if error.kind == FailureKind::Throttled => {
                sleep(RECORD_PAUSE + spread(parameter, tried, RECORD_SPREAD)).await;
            }
            result => return result,
        }
    }
    call().await
}

/// Returns when the lock is lost.
async fn lost(is_lost: &watch::Receiver<Option<Lost>>) -> Lost {
    let mut is_lost = is_lost.clone();
    let lost = is_lost.wait_for(Option::is_some).await.ok().and_then(|lost| lost.clone());
    match lost {
        Some(lost) => lost,
        None => std::future::pending().await,
    }
}

/// Returns when somebody else has the lock.
async fn taken(is_lost: &watch::Receiver<Option<Lost>>) -> String {
    match lost(is_lost).await {
        Lost::Taken(reason) => reason,
        Lost::Silent(_) => std::future::pending().await,
    }
}

impl From<Lost> for Stop {
    fn from(lost: Lost) -> Stop {
        match lost {
            Lost::Taken(reason) => Stop::ExternalChange(reason),
            // Nobody else can have it yet: there is time to go back.
            Lost::Silent(reason) => Stop::Failed(PortError::new(FailureKind::Other, reason)),
        }
    }
}

impl Exposure {
    fn note(&mut self, share: Option<f64>) {
        let Some(share) = share else { return };
        self.most = self.most.max(share);
        match (self.since, share > 0.0) {
            (None, true) => (self.since, self.until) = (Some(Instant::now()), None),
            (Some(_), false) if self.until.is_none() => self.until = Some(Instant::now()),
            _ => {}
        }
    }

    fn told(&self) -> Option<(Duration, f64)> {
        let until = self.until.unwrap_or_else(Instant::now);
        self.since.map(|since| (until.saturating_duration_since(since), self.most))
    }
}

fn timed_out(what: &str, limit: Duration) -> PortError {
    PortError::new(FailureKind::Other, format!("{what} took longer than {}", shown(limit)))
}
