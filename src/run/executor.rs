//! The loop: ask the machine, carry out what it says, look again.

use std::collections::BTreeMap;

use futures::future::join_all;

use super::ports::{Clock, Error, Freshness, Kind, Ports};
use crate::rollout::machine::{self, Decision};
use crate::rollout::{Entry, Intent, Journal, RouteSpec, Runbook, Step, StepId, World, gate};
use crate::tf_provider::Cancel;

/// How many times an undo is tried before a person is asked.
const UNDO_TRIES: u32 = 5;

/// How a runbook ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Everything is as it shall be.
    Done,
    /// It failed and everything is as it was.
    RolledBack {
        /// The step that failed, in words; none if the run was interrupted.
        step: Option<String>,
        /// What was seen.
        reason: String,
        /// Whether anything had been changed in between.
        moved: bool,
    },
    /// It failed, and so did the way back.
    Stuck {
        /// Why it failed.
        reason: String,
        /// What could not be undone, and why.
        left: Vec<String>,
    },
}

/// A running rollout: the parts that its steps share.
struct Run<'a> {
    ports: Ports<'a>,
    intent: &'a Intent,
    cancel: &'a Cancel,
    /// ARNs of the switch's own rules by route key; grows as rules are made.
    rules: BTreeMap<String, String>,
}

/// What a step came to.
enum Effect {
    /// Its call was answered; look whether it holds.
    Made,
    /// A rule was made.
    Created(String, String),
    /// A check passed.
    Passed,
    /// It can't be.
    Failed(String),
    /// Somebody asked to stop.
    Interrupted,
}

/// Sees the world that an intent is about.
///
/// # Errors
/// A read that failed after all retries.
pub async fn observe(
    intent: &Intent,
    ports: Ports<'_>,
    rules: &BTreeMap<String, String>,
    freshness: Freshness,
) -> Result<World, Error> {
    let routes: Vec<RouteSpec> = intent.routes.iter().chain(&intent.preview_routes).cloned().collect();
    let record = async {
        match &intent.record {
            Some(name) => ports.records.get(name, freshness).await,
            None => Ok(None),
        }
    };
    let (routes, record) = futures::future::join(ports.routing.observe(&routes, rules, freshness), record).await;
    Ok(World { routes: routes?, record: record? })
}

/// Carries a runbook out to its end, or back. Returns the ARNs of the switch's own rules as they are then.
pub async fn execute(
    intent: &Intent,
    runbook: &Runbook,
    world: World,
    ports: Ports<'_>,
    rules: BTreeMap<String, String>,
    cancel: &Cancel,
) -> (Outcome, BTreeMap<String, String>) {
    let mut run = Run { ports, intent, cancel, rules };
    let (mut journal, mut world) = (Journal::default(), world);
    loop {
        if cancel.is_cancelled() && !journal.is_broken() {
            journal.push(Entry::Interrupted);
        }
        match machine::next(runbook, &journal, &world) {
            Decision::Do(ids) => run.forward(runbook, &ids, &mut journal, &mut world).await,
            Decision::Undo(ids) => run.back(runbook, &ids, &mut journal, &mut world).await,
            Decision::Done => return (Outcome::Done, run.rules),
            Decision::RolledBack => return (rolled_back(runbook, &journal), run.rules),
            Decision::Stuck => return (stuck(runbook, &journal), run.rules),
        }
    }
}

fn rolled_back(runbook: &Runbook, journal: &Journal) -> Outcome {
    let (id, reason) = journal.reason().unwrap_or_default();
    let step = id.and_then(|id| runbook.step(id)).map(Step::words);
    let moved = runbook.steps().any(|(id, step)| !step.is_check() && journal.began(id));
    Outcome::RolledBack { step, reason, moved }
}

fn stuck(runbook: &Runbook, journal: &Journal) -> Outcome {
    let (_, reason) = journal.reason().unwrap_or_default();
    let words = |id: StepId| runbook.step(id).map(Step::words).unwrap_or_default();
    let left = journal.undo_failures().map(|(id, why)| format!("{}: {why}", words(id))).collect();
    Outcome::Stuck { reason, left }
}

impl Run<'_> {
    async fn forward(&mut self, runbook: &Runbook, ids: &[StepId], journal: &mut Journal, world: &mut World) {
        ids.iter().for_each(|id| journal.push(Entry::Began(*id)));
        let steps: Vec<(StepId, &Step)> = ids.iter().filter_map(|id| Some((*id, runbook.step(*id)?))).collect();
        for (_, step) in &steps {
            tracing::info!(step = %step.words(), "begin");
        }
        let effects = join_all(steps.iter().map(|(_, step)| self.act(step))).await;
        for effect in &effects {
            if let Effect::Created(key, arn) = effect {
                self.rules.insert(key.clone(), arn.clone());
            }
        }
        let unseen = if steps.iter().all(|(_, step)| step.is_check()) { None } else { self.look(world).await.err() };
        for ((id, step), effect) in steps.into_iter().zip(effects) {
            journal.push(match effect {
                Effect::Passed => Entry::Done(id),
                Effect::Interrupted => Entry::Interrupted,
                // Whatever the call answered, what is seen counts: an answer may have been lost after its effect.
                _ if unseen.is_none() && step.holds(world) => Entry::Done(id),
                Effect::Failed(reason) => Entry::Failed(id, reason),
                Effect::Made | Effect::Created(..) => {
                    let seen = unseen.as_ref().map_or_else(
                        || "the call was accepted, but the change is not there".to_owned(),
                        |error| format!("the call was accepted, but its result can't be seen: {error}"),
                    );
                    Entry::Failed(id, seen)
                }
            });
        }
    }

    async fn back(&mut self, runbook: &Runbook, ids: &[StepId], journal: &mut Journal, world: &mut World) {
        let steps: Vec<(StepId, &Step)> = ids.iter().filter_map(|id| Some((*id, runbook.step(*id)?))).collect();
        let mut reasons: BTreeMap<StepId, String> = BTreeMap::new();
        for attempt in 0..UNDO_TRIES {
            // A call that began may end late: look first, and only then undo.
            let mut open = Vec::new();
            match self.look(world).await {
                Ok(()) => open.extend(steps.iter().filter(|(_, step)| !step.is_undone(world))),
                Err(error) => {
                    reasons.extend(ids.iter().map(|id| (*id, format!("failed to see where it leads: {error}"))));
                    open.extend(steps.iter());
                }
            }
            if open.is_empty() {
                break;
            }
            if attempt > 0 {
                self.ports.clock.sleep(std::time::Duration::from_secs(1 << attempt)).await;
            }
            for (id, step) in open {
                tracing::warn!(step = %step.words(), "undo");
                if let Err(error) = self.undo(step, world).await {
                    reasons.insert(*id, error.message);
                }
            }
        }
        let seen = self.look(world).await;
        for (id, step) in steps {
            let undone = seen.is_ok() && step.is_undone(world);
            let reason = || reasons.remove(&id).unwrap_or_else(|| "it stayed as it was".to_owned());
            journal.push(if undone { Entry::Undone(id) } else { Entry::UndoFailed(id, reason()) });
        }
    }

    async fn look(&self, world: &mut World) -> Result<(), Error> {
        *world = observe(self.intent, self.ports, &self.rules, Freshness::Now).await?;
        Ok(())
    }

    async fn act(&self, step: &Step) -> Effect {
        let made = |result: Result<(), Error>| match result {
            Ok(()) => Effect::Made,
            Err(error) => Effect::Failed(error.message),
        };
        match step {
            Step::CheckHealthy { color, group, live, policy } => {
                self.check_healthy(color, group, live.as_deref(), policy).await
            }
            Step::CheckHttp { check, .. } => self.check_http(check).await,
            Step::Route { before: Some(before), after, .. } => made(self.ports.routing.lead(&before.arn, after).await),
            Step::Route { route: RouteSpec::OwnRule { listener, priority, conditions }, before: None, after, .. } => {
                let key = format!("{listener}#{priority}");
                // An attach of the same stage order may have made it already; then it only needs to lead elsewhere.
                if let Some(arn) = self.rules.get(&key) {
                    return made(self.ports.routing.lead(arn, after).await);
                }
                match self.ports.routing.create_rule(listener, *priority, conditions, after).await {
                    Ok(arn) => Effect::Created(key, arn),
                    Err(error) => Effect::Failed(error.message),
                }
            }
            Step::Route { route, before: None, .. } => Effect::Failed(format!("{route} isn't there")),
            Step::Conditions { route, after, .. } => match self.rules.get(&route.key()) {
                Some(arn) => made(self.ports.routing.set_conditions(arn, after).await),
                None => Effect::Failed(format!("{route} isn't there")),
            },
            Step::Record { parameter, after, .. } => made(self.ports.records.put(parameter, after).await),
        }
    }

    async fn undo(&self, step: &Step, world: &World) -> Result<(), Error> {
        match step {
            Step::CheckHealthy { .. } | Step::CheckHttp { .. } => Ok(()),
            Step::Route { before: Some(before), .. } => self.ports.routing.lead(&before.arn, &before.terminal).await,
            Step::Route { route, before: None, .. } => match world.routes.get(&route.key()) {
                Some(observed) => self.ports.routing.delete_rule(&observed.arn).await,
                None => Ok(()),
            },
            Step::Conditions { route, before, .. } => match world.routes.get(&route.key()) {
                Some(observed) => self.ports.routing.set_conditions(&observed.arn, before).await,
                None => Err(Error { kind: Kind::Gone, message: format!("{route} isn't there any more") }),
            },
            Step::Record { parameter, before: Some(before), .. } => self.ports.records.put(parameter, before).await,
            Step::Record { parameter, before: None, .. } => self.ports.records.delete(parameter).await,
        }
    }

    async fn check_healthy(
        &self,
        color: &str,
        group: &str,
        live: Option<&str>,
        policy: &crate::rollout::HealthyPolicy,
    ) -> Effect {
        let deadline = self.ports.clock.now() + policy.timeout;
        loop {
            let targets = match self.ports.routing.target_health(group).await {
                Ok(targets) => targets,
                Err(error) => return Effect::Failed(format!("failed to read the health of {color}: {error}")),
            };
            let beside = match live {
                Some(live) => match self.ports.routing.target_health(live).await {
                    Ok(targets) => Some(targets),
                    Err(error) => return Effect::Failed(format!("failed to read the live colour's health: {error}")),
                },
                None => None,
            };
            let seen = match gate::healthy(color, &targets, beside.as_deref(), policy) {
                gate::Verdict::Pass => return Effect::Passed,
                gate::Verdict::Pending(seen) => seen,
            };
            let now = self.ports.clock.now();
            if now >= deadline {
                return Effect::Failed(format!("{seen}\n  waited {} s for it", policy.timeout.as_secs()));
            }
            tracing::info!(%seen, "waiting for healthy targets");
            if self.pause(policy.interval.min(deadline - now)).await {
                return Effect::Interrupted;
            }
        }
    }

    async fn check_http(&self, check: &crate::rollout::HttpCheck) -> Effect {
        let mut seen = String::new();
        for attempt in 0..=check.retries {
            if attempt > 0 && self.pause(check.retry_delay).await {
                return Effect::Interrupted;
            }
            let result = tokio::select! {
                result = self.ports.probe.http(check) => result,
                () = self.cancel.cancelled() => return Effect::Interrupted,
            };
            match result {
                Ok(()) => return Effect::Passed,
                Err(error) => seen = error,
            }
            tracing::info!(%seen, attempt, url = %check.url, "a check failed");
        }
        let tries = check.retries + 1;
        let times = if tries == 1 { "once".to_owned() } else { format!("{tries} times") };
        Effect::Failed(format!("{} {} failed {times}, last: {seen}", check.method, check.url))
    }

    /// Waits; true if somebody asked to stop meanwhile.
    async fn pause(&self, time: std::time::Duration) -> bool {
        let clock: &dyn Clock = self.ports.clock;
        tokio::select! {
            () = clock.sleep(time) => false,
            () = self.cancel.cancelled() => true,
        }
    }
}
