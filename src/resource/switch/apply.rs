//! A create or an update: locks, looks, plans anew, runs, and tells what came of it.

use std::hash::{BuildHasher as _, RandomState};

use super::contracts::Outdated;
use super::state::{self, Memory, Report};
use super::story::{self, Failure};
use super::{Shared, TOLD_BY_APPLY, intent, look, name, tags};
use crate::clock;
use crate::rollout::ledger::Status;
use crate::rollout::planner;
use crate::rollout::{Intent, Ledger, RouteSpec, Runbook, World, lint};
use crate::run::events::{About, rfc3339};
use crate::run::executor::{Ending, Outcome, Run};
use crate::run::lock::{self, Lock, Refused};
use crate::run::ports::{FailureKind, Freshness};
use crate::tf_provider::{ApplyRequest, Cancel, Diagnostics, Path, Stored, Value};

/// A create or an update.
pub(super) struct Apply<'a> {
    pub shared: &'a Shared,
    pub request: &'a ApplyRequest,
    pub planned: &'a Value,
    pub intent: Intent,
}

/// What a rollout is about, and an id for it that no other one has.
pub(super) fn about(intent: &Intent, world: &World, switch: &str, config: &Value) -> About {
    let milliseconds = clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
    let random = RandomState::new().hash_one(milliseconds) & 0xffff_ffff;
    let to = planner::wish(intent, world);
    let earlier =
        planner::unfinished(intent, world).filter(|ledger| ledger.to == to).and_then(|ledger| ledger.from.clone());
    About {
        id: format!("{milliseconds:x}-{random:08x}"),
        switch: switch.to_owned(),
        from: earlier.or_else(|| planner::current(intent, world).live),
        release: to.as_ref().and_then(|to| intent.environments.get(to)?.release.clone()),
        to,
        groups: intent.environments.iter().map(|(color, one)| (color.clone(), one.target_group_arn.clone())).collect(),
        routes: intent.routes.clone(),
        topic: config.get("notify").get("sns_topic_arn").as_str().map(str::to_owned),
    }
}

/// The lock of the record; none where there is no record.
pub(super) async fn lock(
    shared: &Shared,
    intent: &Intent,
    world: &World,
    about: &About,
    cancel: &Cancel,
) -> Result<Option<Lock>, Refused> {
    let Some(parameter) = &intent.record else { return Ok(None) };
    let mut mine = lock::draft(&about.switch, &about.id, &rfc3339(clock::wall()));
    fill(&mut mine, intent, world, about);
    let tags = tags(shared, &about.switch);
    lock::acquire(&shared.ports, parameter, mine, &tags, cancel).await.map(Some)
}

/// What the next run has to know if this one is killed. What goes on with, or back from, a killed one's work is still
/// about what was there before that one.
fn fill(ledger: &mut Ledger, intent: &Intent, world: &World, about: &About) {
    let left = planner::unfinished(intent, world).filter(|left| left.to == about.to || left.from == about.to);
    let (from, to) =
        left.map_or_else(|| (about.from.clone(), about.to.clone()), |left| (left.from.clone(), left.to.clone()));
    (ledger.from, ledger.to) = (from, to);
    ledger.record = left.map_or_else(|| world.record.clone(), |left| left.record.clone());
    ledger.origins = left.map(|left| left.origins.clone()).unwrap_or_default();
    let seen = intent.routes.iter().filter_map(|route| Some((route.key(), world.routes.get(&route.key())?)));
    ledger.note_origins(seen, &intent.environments);
    "begins".clone_into(&mut ledger.phase);
}

/// What a rollout left that did not come to its end. It is only looked for where the traffic looks like it: refreshes of
/// many switches share their calls, and this is one more.
pub(super) async fn ledger_left(shared: &Shared, intent: &Intent, world: &World) -> Option<Ledger> {
    let parameter = intent.record.as_ref()?;
    if planner::is_settled(intent, world) {
        return None;
    }
    let seen = shared.ports.records.get_version(&lock::name(parameter), None).await;
    match seen {
        Ok(seen) => lock::read(&seen?.0).ok(),
        Err(error) => {
            tracing::warn!(%error, "it can't be seen whether a rollout is under way");
            None
        }
    }
}

/// How what a dead rollout left stood when its lock was taken over.
pub(super) fn as_found(lock: &Lock) -> Option<(Status, String)> {
    lock.found.as_ref().map(|left| (left.status, left.phase.clone()))
}

/// Gives the lock up, with what is left undone.
pub(super) async fn release(
    lock: &Lock,
    left: Option<(Status, String)>,
    intent: &Intent,
    diagnostics: &mut Diagnostics,
) {
    // One that is somebody else's by now is theirs to give up.
    if let Err(error) = lock.release(left).await
        && error.kind != FailureKind::Conflict
    {
        story::not_released(&error, intent, diagnostics);
    }
}

impl Apply<'_> {
    pub async fn run(&self, diagnostics: &mut Diagnostics) -> Stored {
        let before = Stored { state: self.request.prior.clone(), private: self.request.private.clone() };
        let cancel = &self.request.cancel;
        let Some(world) = self.look(diagnostics).await else { return before };
        let Some(runbook) = self.plan(&world, diagnostics) else { return before };
        let about = about(&self.intent, &world, name(self.planned), self.planned);
        if runbook.is_empty() {
            return self.carry_out((world, runbook), &about, None, diagnostics).await;
        }
        let lock = match lock(self.shared, &self.intent, &world, &about, cancel).await {
            Ok(lock) => lock,
            Err(refused) => {
                story::refused(&refused, &self.intent, diagnostics);
                return before;
            }
        };
        let Some(lock) = lock else { return self.carry_out((world, runbook), &about, None, diagnostics).await };
        match self.look_again(&lock, world, &about, diagnostics).await {
            Some((world, runbook, about)) => self.carry_out((world, runbook), &about, Some(&lock), diagnostics).await,
            None => {
                release(&lock, as_found(&lock), &self.intent, diagnostics).await;
                before
            }
        }
    }

    async fn look(&self, diagnostics: &mut Diagnostics) -> Option<World> {
        let looked = tokio::select! {
            looked = look(self.shared, &self.intent, Freshness::Now, name(self.planned), diagnostics) => Some(looked),
            () = self.request.cancel.cancelled() => None,
        };
        if looked.is_none() {
            diagnostics.error("The run was interrupted", "It was still looking at the routes. Nothing was changed.");
        }
        looked.flatten()
    }

    fn plan(&self, world: &World, diagnostics: &mut Diagnostics) -> Option<Runbook> {
        let runbook = match planner::plan(&self.intent, world) {
            Ok(runbook) => runbook,
            Err(refusal) => {
                story::refusal(&refusal, &self.intent, diagnostics);
                return None;
            }
        };
        if let Some(broken) = lint::lint(&runbook).first() {
            diagnostics
                .error("The provider has a bug", format!("Nothing was changed. The runbook is wrong: {broken}."));
            return None;
        }
        let barred = self.outdated().bars(&self.request.config, (&self.intent, world), diagnostics);
        (!barred).then_some(runbook)
    }

    /// The releases that are older than the database's schema.
    fn outdated(&self) -> Outdated {
        let noted = Memory::read(&self.request.private).outdated;
        Outdated::of(&self.request.config, self.request.prior.as_ref(), &noted)
    }

    /// With the lock, nobody else of this provider moves anything: what is seen now holds, and so does what a dead
    /// rollout left.
    async fn look_again(
        &self,
        lock: &Lock,
        before: World,
        about: &About,
        diagnostics: &mut Diagnostics,
    ) -> Option<(World, Runbook, About)> {
        let seen = self.look(diagnostics).await?;
        let world = World { ledger: lock.found.clone(), ..seen };
        let runbook = self.plan(&world, diagnostics)?;
        let mut now = self::about(&self.intent, &world, name(self.planned), self.planned);
        now.id.clone_from(&about.id);
        if world != before {
            let noted = lock.note(|ledger| fill(ledger, &self.intent, &world, &now)).await;
            if let Err(error) = noted {
                story::unreadable(name(self.planned), &error, diagnostics);
                return None;
            }
        }
        Some((world, runbook, now))
    }

    async fn carry_out(
        &self,
        (world, runbook): (World, Runbook),
        about: &About,
        lock: Option<&Lock>,
        diagnostics: &mut Diagnostics,
    ) -> Stored {
        let intent = &self.intent;
        let mut memory = Memory::read(&self.request.private);
        memory.keep_originals(intent, &world);
        memory.outdated = self.outdated();
        let operation = if self.request.prior.is_none() { "create" } else { "update" };
        let started = clock::wall();
        let run = Run {
            ports: &self.shared.ports,
            runbook: &runbook,
            sight: &intent::sight(intent),
            tags: &tags(self.shared, name(self.planned)),
            about,
            lock,
            cancel: &self.request.cancel,
            limit: intent::timeout(self.planned, operation),
        };
        let outcome = run.run(world.clone()).await;
        if let Some(lock) = lock {
            let reason = outcome.journal.reason().map(|(_, reason)| reason).unwrap_or_default();
            let left = match outcome.ending {
                Ending::Done | Ending::RolledBack => None,
                Ending::Held => Some((Status::Held, format!("was held: {}", shortened(&reason)))),
                Ending::Stuck => Some((Status::Stuck, format!("could not go back: {}", shortened(&reason)))),
            };
            release(lock, left, intent, diagnostics).await;
        }
        let report = Report {
            about,
            ending: outcome.ending,
            started,
            finished: clock::wall(),
            runbook: &runbook,
            journal: &outcome.journal,
        };
        let seen = outcome.world.clone().unwrap_or_else(|| world.clone());
        memory.keep_made(intent, &runbook, &outcome.journal, &seen);
        memory.world = Some(World { ledger: None, ..seen });
        if outcome.ending == Ending::Done {
            self.leave_former_record(&mut memory, diagnostics).await;
            self.mark_previews(memory.world.as_ref(), diagnostics).await;
            return self.succeeded(&report, &memory, diagnostics);
        }
        self.failed(&report, &outcome, memory, diagnostics)
    }

    /// Environments must know which routes are previews: their idle colour has all the traffic there.
    async fn mark_previews(&self, world: Option<&World>, diagnostics: &mut Diagnostics) {
        let had = self.request.prior.as_ref().is_some_and(|prior| !prior.get("preview_routes").is_null());
        let previews = &self.intent.preview_routes;
        if previews.is_empty() && !had {
            return;
        }
        let arn = |route: &RouteSpec| Some(world?.routes.get(&route.key())?.arn.clone());
        let routes: Vec<String> = previews.iter().filter_map(arn).collect();
        let groups: Vec<String> = self.intent.environments.values().map(|one| one.target_group_arn.clone()).collect();
        if let Err(error) = self.shared.ports.load_balancer.mark_previews(&groups, &routes).await {
            let detail = format!(
                "The target groups could not be tagged with the preview routes: {error}. Until the next apply an environment takes its idle colour for live there, and refuses to change it."
            );
            diagnostics.warning_at(Path::attribute("preview_routes"), "The previews are not marked", detail);
        }
    }

    /// A record of ours under another name would go on naming a colour that may no longer be live.
    async fn leave_former_record(&self, memory: &mut Memory, diagnostics: &mut Diagnostics) {
        let prior = self.request.prior.as_ref().map_or(&Value::Null, |prior| prior.get("parameter"));
        let former = prior.as_str().filter(|former| self.intent.record.as_deref() != Some(*former));
        let Some(former) = former.filter(|former| memory.made_record.as_deref() == Some(*former)) else { return };
        match self.shared.ports.records.delete(former).await {
            Ok(()) => memory.made_record = None,
            Err(error) => {
                let detail = format!(
                    "The record is {} now, and the former one, {former}, could not be deleted: {error}. Delete it by hand.",
                    self.intent.record.as_deref().unwrap_or("gone")
                );
                diagnostics.warning_at(Path::attribute("parameter"), "The former record is left", detail);
            }
        }
    }

    /// The planned state with what only the apply could tell. What was planned is kept, or said to be wrong.
    fn succeeded(&self, report: &Report<'_>, memory: &Memory, diagnostics: &mut Diagnostics) -> Stored {
        let (intent, world) = (&self.intent, memory.world.clone().unwrap_or_default());
        let traffic = planner::current(intent, &world);
        let mut truth = self.planned.clone();
        state::set_traffic(&mut truth, &intent.environments, &traffic);
        let prior = self.request.prior.clone().unwrap_or(Value::Null);
        let from = report.about.from.as_deref();
        let switched = from != traffic.live.as_deref();
        let switched_at = Value::from(rfc3339(report.finished));
        truth.set("switched_at", if switched { switched_at } else { prior.get("switched_at").clone() });
        truth.set("previous", if switched { Value::from(from) } else { prior.get("previous").clone() });
        truth.set("runbook", Value::from(report.runbook.words()));
        let ran = !report.runbook.is_empty();
        truth.set("last_rollout", if ran { report.value() } else { prior.get("last_rollout").clone() });
        let mut state = self.planned.clone();
        for name in TOLD_BY_APPLY.iter().chain(&["active", "id"]) {
            if !state.get(name).is_wholly_known() {
                state.set(name, truth.get(name).clone());
            }
        }
        let moved = ["live", "weights"].iter().any(|name| state.get(name) != truth.get(name));
        if moved {
            let detail = format!(
                "The apply did what was planned, but the traffic is not where it was planned to be: somebody else moves it at the same time.\n\n{}\n\nNext: find out who moves it (another pipeline, another Terraform), then plan again.",
                story::traffic_now(intent, Some(&world))
            );
            diagnostics.error(format!("The traffic of {} was moved by somebody else", name(self.planned)), detail);
            return Stored { state: Some(truth), private: memory.bytes() };
        }
        Stored { state: Some(state), private: memory.bytes() }
    }

    fn failed(&self, report: &Report<'_>, outcome: &Outcome, memory: Memory, diagnostics: &mut Diagnostics) -> Stored {
        let (from, to) = (report.about.from.as_ref(), report.about.to.as_ref());
        let summary = match to {
            Some(to) if from != Some(to) => format!("Failed to switch {} to {to}", name(self.planned)),
            _ => format!("Failed to change the switch {}", name(self.planned)),
        };
        let failure = Failure {
            summary,
            intent: &self.intent,
            config: &self.request.config,
            runbook: report.runbook,
            outcome,
            from: from.map(String::as_str),
            is_new: self.request.prior.is_none(),
        };
        failure.tell(diagnostics);
        let back = outcome.ending == Ending::RolledBack;
        let mut state = match (&self.request.prior, back) {
            // Nothing of ours is left: an object that isn't there can't be tainted, and the next plan creates it.
            (None, true) => return Stored::default(),
            (Some(prior), true) => prior.clone(),
            (_, false) => self.planned.without_unknowns(),
        };
        // It may still go either way, so the last switch is still the one before.
        if let (Some(prior), false) = (&self.request.prior, back) {
            for name in ["previous", "switched_at"] {
                state.set(name, prior.get(name).clone());
            }
        }
        // The state has its own colours and routes: those before, where everything went back.
        if let (Some(world), Some(own)) = (&outcome.world, intent::parse(&state)) {
            state::set_traffic(&mut state, &own.environments, &planner::current(&own, world));
        }
        state.set("last_rollout", report.value());
        Stored { state: Some(state), private: memory.bytes() }
    }
}

/// The first line, which a ledger has room for.
fn shortened(reason: &str) -> String {
    reason.lines().next().unwrap_or_default().chars().take(300).collect()
}
