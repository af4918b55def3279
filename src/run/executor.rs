//! Carries a runbook out: asks the machine what to do, does it, writes it down, looks again.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::checks::Looker;
use super::events::{About, Phase, Teller};
use super::lock::{Lock, Lost};
use super::ports::{FailureKind, Freshness, PortError, Ports};
use crate::rollout::machine::{self, Decision};
use crate::rollout::{Conditions, Entry, Journal, OnFailure, RouteSpec, Runbook, Scalable, Step, StepId, World};
use crate::tf_provider::Cancel;

/// How long a call that is under way may still take once the run was stopped.
const GRACE: Duration = Duration::from_secs(4);
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
    pub sight: &'a Sight,
    /// What is made carries these.
    pub tags: &'a BTreeMap<String, String>,
    /// What it is about.
    pub about: &'a About,
    /// What keeps others out meanwhile; none where there is no record to be locked.
    pub lock: Option<&'a Lock>,
    /// The stop signal.
    pub cancel: &'a Cancel,
    /// How long it may take.
    pub limit: Duration,
}

/// What is looked at.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// The routes.
    pub routes: Vec<RouteSpec>,
    /// The record's name.
    pub record: Option<String>,
    /// What keeps the instances or tasks of the colours that are to be sized.
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
    /// How long the colour to go live had traffic that it should not have kept, and at most how many percent.
    pub exposure: Option<(Duration, f64)>,
}

/// Since when the colour to go live has traffic.
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
pub async fn observe(ports: &Ports, sight: &Sight, age: Freshness) -> Result<World, PortError> {
    let value = async {
        match &sight.record {
            Some(name) => ports.records.get(name, age).await,
            None => Ok(None),
        }
    };
    let sizes = sight.scalables.iter().map(|(color, scalable)| async move {
        Ok::<_, PortError>(ports.capacities.get(scalable).await?.map(|size| (color.clone(), size)))
    });
    let routes = ports.load_balancer.observe(&sight.routes, age);
    let (routes, record, sizes) = futures::join!(routes, value, try_join_all(sizes));
    Ok(World { routes: routes?, record: record?, capacities: sizes?.into_iter().flatten().collect(), ledger: None })
}

impl Run<'_> {
    /// Runs to the end. The world is what was seen right before.
    pub async fn run(&self, world: World) -> Outcome {
        let teller = Teller::new(self.ports, self.about);
        teller.tell(Phase::Started, &self.weights(Some(&world)), &self.runbook.words().join("; "));
        let (lost, is_lost) = watch::channel(None);
        let keep = async {
            if let Some(lock) = self.lock {
                drop(lost.send_replace(Some(lock.keep().await)));
            }
            std::future::pending::<()>().await;
        };
        let outcome = tokio::select! {
            outcome = self.steer(world, &teller, is_lost) => outcome,
            () = keep => unreachable!("it never ends"),
        };
        let reason = outcome.journal.reason().map(|(_, reason)| reason).unwrap_or_default();
        let phase = match outcome.ending {
            Ending::Done => Phase::Completed,
            Ending::RolledBack => Phase::RolledBack,
            Ending::Held => Phase::Held,
            Ending::Stuck => Phase::Stuck,
        };
        teller.tell(phase, &self.weights(outcome.world.as_ref()), &reason);
        teller.finish().await;
        outcome
    }

    async fn steer(&self, world: World, teller: &Teller, is_lost: watch::Receiver<Option<Lost>>) -> Outcome {
        let deadline = Instant::now() + self.limit;
        let mut journal = Journal::default();
        for id in &self.runbook.taken_over {
            journal.push(Entry::Began(*id));
            journal.push(Entry::Done(*id));
        }
        let mut exposure = Exposure::default();
        let mut world = Some(world);
        let mut doubts = 0;
        for _ in 0..MOST_DECISIONS_PER_STAGE * (self.runbook.stages.len() + 1) {
            exposure.note(self.share(world.as_ref()));
            match is_lost.borrow().clone() {
                Some(Lost::Taken(reason)) if !journal.is_crossed() => journal.push(Entry::Crossed(reason)),
                Some(Lost::Silent(reason)) if !journal.is_broken() => {
                    let id = journal.last_began().unwrap_or(StepId { stage: 0, step: 0 });
                    journal.push(Entry::Failed(id, reason));
                }
                _ => {}
            }
            if !journal.is_broken() && self.cancel.is_cancelled() {
                journal.push(Entry::Interrupted);
            }
            let decision = machine::next(self.runbook, &journal, world.as_ref());
            let ending = match decision {
                Decision::Do(ids) => {
                    doubts = 0;
                    self.carry_out(&ids, (deadline, &is_lost), world.as_ref(), &mut journal).await;
                    self.tell_progress(&ids, &journal, world.as_ref(), teller);
                    None
                }
                Decision::Undo(ids) => {
                    self.undo(&ids, (world.as_ref(), &is_lost), &mut journal).await;
                    None
                }
                Decision::Crossed(_) if doubts < DOUBTS => {
                    doubts += 1;
                    sleep(LOOK_PAUSE).await;
                    None
                }
                Decision::Crossed(reason) => {
                    journal.push(Entry::Crossed(reason));
                    None
                }
                Decision::Done => Some(Ending::Done),
                Decision::RolledBack => Some(Ending::RolledBack),
                Decision::Held => Some(Ending::Held),
                Decision::Stuck => Some(Ending::Stuck),
            };
            if let Some(ending) = ending {
                let exposure = exposure.told();
                return Outcome { ending, journal, world, exposure };
            }
            self.look(deadline, &mut world, &mut journal).await;
        }
        Outcome { ending: Ending::Stuck, journal, world, exposure: exposure.told() }
    }

    /// The part of the colour to go live, over all routes.
    fn share(&self, world: Option<&World>) -> Option<f64> {
        let (world, group) = (world?, self.about.groups.get(self.about.to.as_ref()?)?);
        let routes = self.about.routes.iter().filter_map(|route| world.routes.get(&route.key()));
        routes.map(|seen| seen.terminal.share(group)).reduce(f64::max)
    }

    fn weights(&self, world: Option<&World>) -> BTreeMap<String, u32> {
        let first = world.and_then(|world| self.about.routes.iter().find_map(|route| world.routes.get(&route.key())));
        let share = |group: &String| first.map_or(0.0, |seen| seen.terminal.share(group)).round() as u32;
        self.about.groups.iter().map(|(color, group)| (color.clone(), share(group))).collect()
    }

    fn tell_progress(&self, ids: &[StepId], journal: &Journal, world: Option<&World>, teller: &Teller) {
        let steps: Vec<&Step> = ids.iter().filter_map(|id| self.runbook.step(*id)).collect();
        let words = steps.iter().map(|step| step.words()).collect::<Vec<_>>().join("; ");
        if journal.is_broken() {
            let reason = journal.reason().map(|(_, reason)| reason).unwrap_or_default();
            let policy = if journal.is_interrupted() { self.runbook.on_interrupt } else { self.runbook.on_failure };
            if policy == OnFailure::Rollback && !journal.is_crossed() {
                teller.tell(Phase::RollingBack, &self.weights(world), &reason);
            }
            return;
        }
        let phase = match steps.first() {
            Some(Step::Check(_)) => Phase::Validated,
            Some(Step::Route { .. }) => Phase::Shifted,
            Some(Step::Watch(_)) => Phase::Watched,
            _ => return,
        };
        let mut weights = self.weights(world);
        if let Some(Step::Route { after, .. }) = steps.first() {
            for (color, group) in &self.about.groups {
                weights.insert(color.clone(), after.share(group).round() as u32);
            }
        }
        teller.tell(phase, &weights, &words);
    }

    /// Looks again. What can't be seen can't be trusted: a rollout ends there, and what was seen before is forgotten,
    /// since it was before the last change. The way back tries some more, and then goes on blind.
    async fn look(&self, deadline: Instant, world: &mut Option<World>, journal: &mut Journal) {
        *world = None;
        if !journal.is_broken() {
            let seen = tokio::select! {
                biased;
                seen = self.observe_until(deadline) => seen,
                () = self.cancel.cancelled() => {
                    journal.push(Entry::Interrupted);
                    Err(PortError::new(FailureKind::Other, "interrupted"))
                }
            };
            match seen {
                Ok(seen) => {
                    *world = Some(seen);
                    return;
                }
                Err(_) if journal.is_broken() => {}
                Err(error) => {
                    let id = journal.last_began().unwrap_or(StepId { stage: 0, step: 0 });
                    journal.push(Entry::Failed(id, format!("what came of it can't be observed: {error}")));
                }
            }
        }
        let before_undoing = journal.undos().next().is_none();
        let (looks, limit) = if before_undoing { (1, FIRST_LOOK) } else { (LOOKS, LOOK_LIMIT) };
        for look in 1..=looks {
            match self.observe_until(Instant::now() + limit).await {
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

    async fn observe_until(&self, deadline: Instant) -> Result<World, PortError> {
        let seen = timeout_at(deadline, observe(self.ports, self.sight, Freshness::Now)).await;
        seen.unwrap_or_else(|_| Err(timed_out("the load balancer and the record", self.limit)))
    }

    async fn carry_out(
        &self,
        ids: &[StepId],
        (deadline, is_lost): (Instant, &watch::Receiver<Option<Lost>>),
        world: Option<&World>,
        journal: &mut Journal,
    ) {
        for id in ids {
            journal.push(Entry::Began(*id));
        }
        let so_far = journal.clone();
        let steps = ids.iter().filter_map(|id| Some((*id, self.runbook.step(*id)?)));
        let results = join_all(steps.map(|(id, step)| {
            let so_far = &so_far;
            async move {
                tracing::info!(step = step.words(), "begins");
                (id, step, self.within((deadline, is_lost), step, self.effect(step, world, so_far)).await)
            }
        }));
        let mut interrupted = false;
        for (id, step, result) in results.await {
            match result {
                Err(Stop::Crossed(reason)) => journal.push(Entry::Crossed(reason)),
                Ok(()) => {
                    tracing::info!(step = step.words(), "done");
                    journal.push(Entry::Done(id));
                }
                Err(Stop::Interrupted) => interrupted = true,
                Err(Stop::Failed(error)) => {
                    tracing::warn!(step = step.words(), %error, "failed");
                    journal.push(Entry::Failed(id, error.message));
                    // What stands in the way was made by somebody else: there is nothing of ours to take back.
                    if error.kind == FailureKind::Conflict {
                        journal.push(Entry::Undone(id));
                    }
                }
            }
        }
        if interrupted && !journal.is_broken() {
            journal.push(Entry::Interrupted);
        }
    }

    /// Bounds an effect by the run's time and by the stop signal. A call that changes something is given a moment to
    /// end, since its answer tells more than a guess; a check is dropped at once.
    async fn within(
        &self,
        (deadline, is_lost): (Instant, &watch::Receiver<Option<Lost>>),
        step: &Step,
        effect: impl Future<Output = Result<(), Stop>>,
    ) -> Result<(), Stop> {
        tokio::pin!(effect);
        let stop = tokio::select! {
            biased;
            result = &mut effect => return result,
            lost = lost(is_lost) => lost.into(),
            () = self.cancel.cancelled() => Stop::Interrupted,
            () = tokio::time::sleep_until(deadline) => {
                let words = format!("the operation's time of {} ended first", humantime::format_duration(self.limit));
                Stop::Failed(PortError::new(FailureKind::Other, words))
            }
        };
        if step.is_check() {
            return Err(stop);
        }
        match timeout_at(Instant::now() + GRACE, effect).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(stop),
        }
    }

    async fn effect(&self, step: &Step, world: Option<&World>, journal: &Journal) -> Result<(), Stop> {
        let failed = |reason: String| Stop::Failed(PortError::new(FailureKind::Other, reason));
        let looker = Looker { ports: self.ports, about: self.about };
        match step {
            Step::Check(checking) => looker.validate(checking).await.map_err(failed),
            Step::Converge(convergence) => looker.converge(convergence).await.map_err(failed),
            Step::Watch(watch) => {
                let tell = async {
                    match self.lock {
                        Some(lock) => lock.tell(&watch.words()).await.map_err(Stop::from),
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
                    reason = self.guard(journal) => Err(Stop::Crossed(reason)),
                }
            }
            _ => {
                if let Some(lock) = self.lock {
                    lock.confirm().await?;
                }
                self.change(step, world).await.map_err(Stop::Failed)
            }
        }
    }

    /// Returns when somebody else moves the routes.
    async fn guard(&self, journal: &Journal) -> String {
        let mut doubts = 0;
        loop {
            sleep(if doubts == 0 { GUARD } else { LOOK_PAUSE }).await;
            let Ok(seen) = observe(self.ports, self.sight, Freshness::Now).await else { continue };
            match machine::crossed(self.runbook, journal, &seen) {
                Some(reason) if doubts >= DOUBTS => return reason,
                Some(_) => doubts += 1,
                None => doubts = 0,
            }
        }
    }

    async fn change(&self, step: &Step, world: Option<&World>) -> Result<(), PortError> {
        let load_balancer = &self.ports.load_balancer;
        let seen = |route: &RouteSpec| world.and_then(|world| world.routes.get(&route.key())).cloned();
        match step {
            Step::Route { route, before: None, .. } if seen(route).is_some() => {
                let words = format!("{route} was made by somebody else in the meantime");
                Err(PortError::new(FailureKind::Conflict, words))
            }
            Step::Route { route, after, .. } => match (seen(route), route) {
                (Some(seen), _) => load_balancer.set_terminal(route, &seen.arn, after).await,
                (None, RouteSpec::OwnRule { listener, priority, conditions }) => {
                    let made = load_balancer.create_rule(listener, *priority, conditions, after, self.tags).await;
                    self.settle_conflict(step, made).await
                }
                (None, _) => Err(PortError::new(FailureKind::Gone, format!("{route} is gone"))),
            },
            Step::Conditions { route, after, .. } => match seen(route) {
                Some(seen) => load_balancer.set_conditions(&seen.arn, after).await,
                None => Err(PortError::new(FailureKind::Gone, format!("{route} is gone"))),
            },
            Step::Remove { route, .. } => match seen(route) {
                Some(seen) => load_balancer.delete_rule(&seen.arn).await,
                None => Ok(()),
            },
            Step::Record { parameter, before, after } => match after {
                None => self.ports.records.delete(parameter).await,
                Some(after) if before.is_some() => self.ports.records.write(parameter, after).await.map(drop),
                Some(after) => {
                    let made = self.ports.records.create(parameter, after, self.tags).await.map(drop);
                    self.settle_conflict(step, made).await
                }
            },
            Step::Capacity { scalable, before, after, .. } => {
                self.ports.capacities.set(scalable, *before, *after).await
            }
            Step::Check(_) | Step::Converge(_) | Step::Watch(_) => Ok(()),
        }
    }

    /// A call that was repeated because its first answer was lost meets its own work: that is success.
    async fn settle_conflict(&self, step: &Step, result: Result<(), PortError>) -> Result<(), PortError> {
        match result {
            Err(error) if error.kind == FailureKind::Conflict => {
                let seen = observe(self.ports, self.sight, Freshness::Now).await?;
                if step.holds(&seen) { Ok(()) } else { Err(error) }
            }
            other => other,
        }
    }

    async fn undo(
        &self,
        ids: &[StepId],
        (world, is_lost): (Option<&World>, &watch::Receiver<Option<Lost>>),
        journal: &mut Journal,
    ) {
        if let Some(lock) = self.lock
            && let Err(Lost::Taken(reason)) = lock.confirm().await
        {
            journal.push(Entry::Crossed(reason));
            return;
        }
        let deadline = Instant::now() + WAY_BACK;
        let steps = ids.iter().filter_map(|id| Some((*id, self.runbook.step(*id)?)));
        let results = join_all(steps.map(|(id, step)| async move {
            tracing::warn!(step = step.words(), "goes back");
            let result = tokio::select! {
                biased;
                result = timeout_at(deadline, self.take_back(step, world)) => result,
                // Whoever has the lock now goes on from what is there.
                reason = taken(is_lost) => Ok(Err(PortError::new(FailureKind::Conflict, reason))),
            };
            (id, result.unwrap_or_else(|_| Err(timed_out("the way back", WAY_BACK))))
        }));
        for (id, result) in results.await {
            journal.push(match result {
                Ok(()) => Entry::Undone(id),
                Err(error) => Entry::UndoFailed(id, error.message),
            });
        }
    }

    async fn take_back(&self, step: &Step, world: Option<&World>) -> Result<(), PortError> {
        let load_balancer = &self.ports.load_balancer;
        let seen = |route: &RouteSpec| world.and_then(|world| world.routes.get(&route.key())).cloned();
        match step {
            Step::Route { route, before: Some(before), .. } => {
                load_balancer.set_terminal(route, &before.arn, &before.terminal).await
            }
            Step::Route { .. } | Step::Conditions { .. } if world.is_none() => {
                Err(PortError::new(FailureKind::Other, "it can't be seen whether it is there"))
            }
            Step::Route { route, before: None, .. } => match seen(route) {
                Some(seen) => load_balancer.delete_rule(&seen.arn).await,
                None => Ok(()),
            },
            Step::Conditions { route, before, .. } => match seen(route) {
                Some(seen) if *before != Conditions::default() => load_balancer.set_conditions(&seen.arn, before).await,
                _ => Ok(()),
            },
            Step::Remove { route: RouteSpec::OwnRule { listener, priority, conditions }, before } => {
                let conditions = before.conditions.as_ref().unwrap_or(conditions);
                load_balancer.create_rule(listener, *priority, conditions, &before.terminal, self.tags).await
            }
            Step::Record { parameter, before: Some(before), .. } => {
                self.ports.records.write(parameter, before).await.map(drop)
            }
            Step::Record { parameter, before: None, .. } => self.ports.records.delete(parameter).await,
            Step::Capacity { scalable, before, after, .. } => {
                self.ports.capacities.set(scalable, *after, *before).await
            }
            Step::Remove { .. } | Step::Check(_) | Step::Converge(_) | Step::Watch(_) => Ok(()),
        }
    }
}

/// Why a step did not get to its end.
enum Stop {
    Failed(PortError),
    Crossed(String),
    Interrupted,
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
            Lost::Taken(reason) => Stop::Crossed(reason),
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
    PortError::new(FailureKind::Other, format!("{what} took longer than {}", humantime::format_duration(limit)))
}
