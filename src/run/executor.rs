//! Carries a runbook out: asks the machine what to do, does it, writes it down, looks again.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use tokio::time::{Instant, sleep, timeout_at};

use super::ports::{FailureKind, Freshness, PortError, Ports};
use crate::rollout::gate::{self, Verdict};
use crate::rollout::machine::{self, Decision};
use crate::rollout::{
    Conditions, Entry, HealthyPolicy, HttpCheck, Journal, RouteSpec, Runbook, Scalable, Step, StepId, World,
};
use crate::tf_provider::Cancel;

/// How long a call that is under way may still take once the run was stopped.
const GRACE: Duration = Duration::from_secs(4);
/// How long the way back may take, whatever the run's own time was.
const WAY_BACK: Duration = Duration::from_secs(600);
/// How often, how long and with what pause the way back tries to see where the traffic is.
const LOOKS: usize = 4;
const LOOK_LIMIT: Duration = Duration::from_secs(30);
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// A machine that never ends would be a bug; a run has a handful of decisions.
const MOST_DECISIONS: usize = 1000;

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
    Ok(World { routes: routes?, record: record?, capacities: sizes?.into_iter().flatten().collect() })
}

impl Run<'_> {
    /// Runs to the end. The world is what was seen right before.
    pub async fn run(&self, world: World) -> Outcome {
        let deadline = Instant::now() + self.limit;
        let mut journal = Journal::default();
        let mut world = Some(world);
        for _ in 0..MOST_DECISIONS {
            if !journal.is_broken() && self.cancel.is_cancelled() {
                journal.push(Entry::Interrupted);
            }
            let decision = machine::next(self.runbook, &journal, world.as_ref());
            let ending = match decision {
                Decision::Do(ids) => {
                    self.carry_out(&ids, deadline, world.as_ref(), &mut journal).await;
                    None
                }
                Decision::Undo(ids) => {
                    self.undo(&ids, world.as_ref(), &mut journal).await;
                    None
                }
                Decision::Done => Some(Ending::Done),
                Decision::RolledBack => Some(Ending::RolledBack),
                Decision::Held => Some(Ending::Held),
                Decision::Stuck => Some(Ending::Stuck),
            };
            if let Some(ending) = ending {
                tracing::info!(?ending, "the rollout ended");
                return Outcome { ending, journal, world };
            }
            self.look(deadline, &mut world, &mut journal).await;
        }
        Outcome { ending: Ending::Stuck, journal, world }
    }

    /// Looks again. What can't be seen can't be trusted: a rollout ends there, and what was seen before is forgotten,
    /// since it was before the last change. The way back tries some more, and then goes on blind.
    async fn look(&self, deadline: Instant, world: &mut Option<World>, journal: &mut Journal) {
        *world = None;
        for _ in 0..LOOKS {
            let on_the_way_back = journal.is_broken();
            let deadline = if on_the_way_back { Instant::now() + LOOK_LIMIT } else { deadline };
            let seen = timeout_at(deadline, observe(self.ports, self.sight, Freshness::Now)).await;
            match seen.unwrap_or_else(|_| Err(timed_out("the load balancer and the record", self.limit))) {
                Ok(seen) => {
                    *world = Some(seen);
                    return;
                }
                Err(error) if !on_the_way_back => {
                    let id = journal.last_began().unwrap_or(StepId { stage: 0, step: 0 });
                    journal.push(Entry::Failed(id, format!("what came of it can't be observed: {error}")));
                }
                Err(error) => {
                    tracing::warn!(%error, "the world can't be observed on the way back");
                }
            }
            sleep(LOOK_PAUSE).await;
        }
    }

    async fn carry_out(&self, ids: &[StepId], deadline: Instant, world: Option<&World>, journal: &mut Journal) {
        for id in ids {
            journal.push(Entry::Began(*id));
        }
        let steps = ids.iter().filter_map(|id| Some((*id, self.runbook.step(*id)?)));
        let results = join_all(steps.map(|(id, step)| async move {
            tracing::info!(step = step.words(), "begins");
            (id, step, self.within(deadline, step, self.effect(step, world)).await)
        }));
        let mut interrupted = false;
        for (id, step, result) in results.await {
            match result {
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
        deadline: Instant,
        step: &Step,
        effect: impl Future<Output = Result<(), PortError>>,
    ) -> Result<(), Stop> {
        tokio::pin!(effect);
        let stop = tokio::select! {
            biased;
            result = &mut effect => return result.map_err(Stop::Failed),
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

    async fn effect(&self, step: &Step, world: Option<&World>) -> Result<(), PortError> {
        let failed = |reason: String| PortError::new(FailureKind::Other, reason);
        match step {
            Step::CheckHealthy { color, group, live, policy } => {
                self.check_healthy(color, group, live.as_deref(), policy).await.map_err(failed)
            }
            Step::CheckHttp { check, .. } => self.check_http(check).await.map_err(failed),
            _ => self.change(step, world).await,
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
                Some(after) if before.is_some() => self.ports.records.write(parameter, after).await,
                Some(after) => {
                    let made = self.ports.records.create(parameter, after, self.tags).await;
                    self.settle_conflict(step, made).await
                }
            },
            Step::Capacity { scalable, before, after, .. } => {
                self.ports.capacities.set(scalable, *before, *after).await
            }
            Step::CheckHealthy { .. } | Step::CheckHttp { .. } => Ok(()),
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

    async fn check_healthy(
        &self,
        color: &str,
        group: &str,
        live: Option<&str>,
        policy: &HealthyPolicy,
    ) -> Result<(), String> {
        let end = Instant::now() + policy.timeout;
        loop {
            let load_balancer = &self.ports.load_balancer;
            let of_live = async {
                match live {
                    Some(live) => load_balancer.target_health(live).await.map(Some),
                    None => Ok(None),
                }
            };
            let (targets, of_live) = futures::future::join(load_balancer.target_health(group), of_live).await;
            let (targets, of_live) = (targets.map_err(|e| e.message)?, of_live.map_err(|e| e.message)?);
            match gate::healthy(color, &targets, of_live.as_deref(), policy) {
                Verdict::Pass => return Ok(()),
                Verdict::Pending(seen) if Instant::now() >= end => {
                    let waited = humantime::format_duration(policy.timeout);
                    return Err(format!("{seen}\nafter {waited} (validation.healthy.timeout)"));
                }
                Verdict::Pending(seen) => tracing::info!(seen, "waiting for healthy targets"),
            }
            sleep(policy.interval.min(end.saturating_duration_since(Instant::now()))).await;
        }
    }

    async fn check_http(&self, check: &HttpCheck) -> Result<(), String> {
        let mut tries = 0;
        loop {
            let seen = match self.ports.http.probe(check).await {
                Ok(answer) => match gate::http(check, &answer) {
                    Verdict::Pass => return Ok(()),
                    Verdict::Pending(seen) => seen,
                },
                Err(error) => error.message,
            };
            if tries >= check.retries {
                let plural = if tries == 0 { "try" } else { "tries" };
                return Err(format!("{seen} ({} {plural})", tries + 1));
            }
            tries += 1;
            tracing::info!(seen, "the check is repeated");
            sleep(check.retry_delay).await;
        }
    }

    async fn undo(&self, ids: &[StepId], world: Option<&World>, journal: &mut Journal) {
        let deadline = Instant::now() + WAY_BACK;
        let steps = ids.iter().filter_map(|id| Some((*id, self.runbook.step(*id)?)));
        let results = join_all(steps.map(|(id, step)| async move {
            tracing::warn!(step = step.words(), "goes back");
            let result = timeout_at(deadline, self.take_back(step, world)).await;
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
            Step::Record { parameter, before: Some(before), .. } => self.ports.records.write(parameter, before).await,
            Step::Record { parameter, before: None, .. } => self.ports.records.delete(parameter).await,
            Step::Capacity { scalable, before, after, .. } => {
                self.ports.capacities.set(scalable, *after, *before).await
            }
            Step::Remove { .. } | Step::CheckHealthy { .. } | Step::CheckHttp { .. } => Ok(()),
        }
    }
}

/// Why a step did not get to its end.
enum Stop {
    Failed(PortError),
    Interrupted,
}

fn timed_out(what: &str, limit: Duration) -> PortError {
    PortError::new(FailureKind::Other, format!("{what} took longer than {}", humantime::format_duration(limit)))
}
