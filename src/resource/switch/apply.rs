//! A create or an update: locks, looks, plans anew, runs, and tells what came of it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use tokio::time::sleep;

use super::contracts::Outdated;
use super::promise::Promise;
use super::state::{self, Memory, Report};
use super::story::{self, Failure};
use super::{OWNER_TAG, Shared, TAG, TOLD_BY_APPLY, intent, look, name, tags};
use crate::clock;
use crate::rollout::ledger::Status;
use crate::rollout::planner;
use crate::rollout::{Intent, Ledger, Raised, RouteSpec, Runbook, Step, World, lint};
use crate::run::events::{About, rfc3339};
use crate::run::executor::{Ending, Outcome, Run};
use crate::run::lock::{self, Lock, Refused};
use crate::run::ports::{FailureKind, Freshness, PortError};
use crate::run::secrets::Secrets;
use crate::tf_provider::{ApplyRequest, Cancel, Diagnostics, Path, Stored, Value};

/// How often it is looked before it is believed that somebody moved the traffic since the plan, and with what pause.
pub(super) const LOOKS: usize = 4;
pub(super) const LOOK_PAUSE: Duration = Duration::from_secs(1);

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
    (world, runbook): (&World, &Runbook),
    about: &About,
    cancel: &Cancel,
) -> Result<Option<Lock>, Refused> {
    let Some(parameter) = &intent.record else { return Ok(None) };
    let mut mine = lock::draft(&about.switch, &about.id, &rfc3339(clock::wall()));
    fill(&mut mine, intent, (world, runbook), about);
    let tags = tags(shared, &about.switch, "");
    lock::acquire(&shared.ports, parameter, mine, &tags, cancel).await.map(Some)
}

/// What the next run has to know if this one is killed. As long as what a killed one left is not at its end, it is still
/// about what was there before that one, whatever this one leads to.
fn fill(ledger: &mut Ledger, intent: &Intent, (world, runbook): (&World, &Runbook), about: &About) {
    let left = planner::unfinished(intent, world);
    let (from, to) = match left {
        Some(left) if left.to == about.to || left.from == about.to => (left.from.clone(), left.to.clone()),
        Some(left) => (left.from.clone(), about.to.clone()),
        None => (about.from.clone(), about.to.clone()),
    };
    (ledger.from, ledger.to) = (from, to);
    ledger.record = left.map_or_else(|| world.record.clone(), |left| left.record.clone());
    ledger.origins = left.map(|left| left.origins.clone()).unwrap_or_default();
    let seen = intent.routes.iter().filter_map(|route| Some((route.key(), world.routes.get(&route.key())?)));
    ledger.note_origins(seen, &intent.environments);
    // A size that a killed run raised was another one before that.
    let mut sizes: BTreeMap<String, Raised> = world.ledger.iter().flat_map(|left| left.sizes.clone()).collect();
    for (_, step) in runbook.steps() {
        let Step::Capacity { color, before, after, .. } = step else { continue };
        if after.desired > before.desired {
            let before = sizes.get(color).map_or(before.desired, |size| size.before);
            sizes.insert(color.clone(), Raised { before, raised: after.desired });
        }
    }
    ledger.sizes = sizes;
    "begins".clone_into(&mut ledger.phase);
}

/// What the provider block says in confidence.
pub(super) fn known_secrets(shared: &Shared) -> Vec<String> {
    let Some(settings) = shared.connection.settings() else { return Vec::new() };
    [&settings.access_key, &settings.secret_key, &settings.token].into_iter().flatten().cloned().collect()
}

/// A token that no other object has.
fn new_owner() -> String {
    let time = clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{:016x}{:08x}", RandomState::new().hash_one(time), std::process::id())
}

/// What a rollout left that did not come to its end. It is only looked for where the traffic looks like it: refreshes of
/// many switches share their calls, and this is one more.
pub(super) async fn ledger_left(shared: &Shared, intent: &Intent, world: &World) -> Option<Ledger> {
    let parameter = intent.record.as_ref()?;
    // A run that was killed while it checked has moved nothing, but may have raised a size.
    if planner::is_settled(intent, world) && intent.capacity.is_none() {
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

/// How what a dead rollout left stood when its lock was taken over. Nobody runs it any more.
pub(super) fn as_found(lock: &Lock) -> Option<(Status, String)> {
    lock.found.as_ref().map(|left| match left.status {
        Status::Running => (Status::Held, format!("was killed, and has been left since: {}", shortened(&left.phase))),
        status => (status, left.phase.clone()),
    })
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
        // Another switch of this very run may have the record: it is waited for, and then looked at again.
        let record = self.intent.record.clone().unwrap_or_default();
        let turn = async { if record.is_empty() { None } else { Some(self.shared.switches.turn(&record).await) } };
        let _turn = tokio::select! {
            turn = turn => turn,
            () = cancel.cancelled() => {
                story::refused(&Refused::Interrupted, &self.intent, diagnostics);
                return before;
            }
        };
        let lock = match lock(self.shared, &self.intent, (&world, &runbook), &about, cancel).await {
            Ok(lock) => lock,
            Err(refused) => {
                story::refused(&refused, &self.intent, diagnostics);
                return before;
            }
        };
        let Some(lock) = lock else {
            let Some((world, runbook)) = self.look_as_planned(None, diagnostics).await else { return before };
            return self.carry_out((world, runbook), &about, None, diagnostics).await;
        };
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

    /// Whether traffic would be moved that was elsewhere when this was planned. A first apply has only its outline to keep.
    fn breaks_promise(&self, (world, runbook): (&World, &Runbook), diagnostics: &mut Diagnostics) -> bool {
        let prior = self.request.prior.as_ref().and_then(intent::parse);
        let memory = Memory::read(&self.request.private);
        let (Some(prior), Some(planned)) = (prior, &memory.world) else { return false };
        let promise = Promise { world: planned, prior: &prior };
        promise.bars(name(self.planned), (&self.intent, world, runbook), diagnostics)
    }

    /// The releases that are older than the database's schema.
    fn outdated(&self) -> Outdated {
        let noted = Memory::read(&self.request.private).outdated;
        Outdated::of(&self.request.config, self.request.prior.as_ref(), &noted)
    }

    /// Looks, plans, and holds that against what was planned before. That somebody else moved the traffic is not believed of
    /// one look: it may be an old one.
    async fn look_as_planned(&self, found: Option<&Ledger>, diagnostics: &mut Diagnostics) -> Option<(World, Runbook)> {
        for look in 1.. {
            let seen = self.look(diagnostics).await?;
            let world = World { ledger: found.cloned(), ..seen };
            let runbook = self.plan(&world, diagnostics)?;
            let mut broken = Diagnostics::new();
            if !self.breaks_promise((&world, &runbook), &mut broken) {
                return Some((world, runbook));
            }
            if look == LOOKS {
                diagnostics.extend(broken);
                break;
            }
            sleep(LOOK_PAUSE).await;
        }
        None
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
        let (world, runbook) = self.look_as_planned(lock.found.as_ref(), diagnostics).await?;
        let mut now = self::about(&self.intent, &world, name(self.planned), self.planned);
        now.id.clone_from(&about.id);
        if world != before {
            let noted = lock.note(|ledger| fill(ledger, &self.intent, (&world, &runbook), &now)).await;
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
        let claimed = match self.claim(&mut memory, &world).await {
            Ok(claimed) => claimed,
            Err(error) => {
                if let Some(lock) = lock {
                    release(lock, as_found(lock), intent, diagnostics).await;
                }
                story::unclaimed(name(self.planned), &error, diagnostics);
                return Stored { state: self.request.prior.clone(), private: self.request.private.clone() };
            }
        };
        memory.keep_originals(intent, &world);
        memory.outdated = self.outdated();
        let operation = if self.request.prior.is_none() { "create" } else { "update" };
        let started = clock::wall();
        let run = Run {
            ports: &self.shared.ports,
            runbook: &runbook,
            sight: &intent::sight(intent),
            tags: &tags(self.shared, name(self.planned), &memory.owner),
            about,
            lock,
            cancel: &self.request.cancel,
            limit: intent::timeout(self.planned, operation),
            secrets: &Secrets::of(&runbook, known_secrets(self.shared)),
        };
        let outcome = run.run(world.clone()).await;
        if let Some(lock) = lock {
            let left = self.left(lock, &outcome).await;
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
        let foreseen = || if outcome.ending == Ending::Done { runbook.after(&world) } else { world.clone() };
        let seen = outcome.world.clone().unwrap_or_else(foreseen);
        memory.keep_made(intent, &runbook, &outcome.journal, &seen);
        memory.world = Some(World { ledger: None, ..seen });
        if outcome.ending == Ending::Done {
            self.leave_former_record(&mut memory, diagnostics).await;
            self.mark_previews(&mut memory, diagnostics).await;
            story::left(&runbook, &outcome, name(self.planned), diagnostics);
            return self.succeeded(&report, &memory, diagnostics);
        }
        if self.request.prior.is_none() && outcome.ending == Ending::RolledBack {
            // Nothing is left of this object: what it took over is its former owner's again.
            self.give_claims_back(claimed).await;
        }
        self.failed(&report, &outcome, memory, diagnostics)
    }

    /// What is written down of a rollout that did not come to its end, or of an earlier one that still has not.
    async fn left(&self, lock: &Lock, outcome: &Outcome) -> Option<(Status, String)> {
        let reason = outcome.journal.reason().map(|(_, reason)| reason).unwrap_or_default();
        match outcome.ending {
            Ending::Done => None,
            Ending::RolledBack => {
                let found = as_found(lock)?;
                let Some(seen) = outcome.world.clone() else { return Some(found) };
                let world = World { ledger: Some(lock.ledger().await), ..seen };
                planner::unfinished(&self.intent, &world).is_some().then_some(found)
            }
            Ending::Held => Some((Status::Held, format!("was held: {}", shortened(&reason)))),
            Ending::Stuck => Some((Status::Stuck, format!("could not go back: {}", shortened(&reason)))),
            Ending::Unknown => Some((Status::Unknown, format!("has a call without an answer: {}", shortened(&reason)))),
        }
    }

    /// Takes over what an earlier object made and this one will go by: whoever has it last is its owner. What was taken,
    /// with its owner before.
    async fn claim(&self, memory: &mut Memory, world: &World) -> Result<Vec<(Thing, String)>, PortError> {
        let intent = &self.intent;
        let is_new = memory.owner.is_empty();
        if is_new {
            memory.owner = new_owner();
        }
        let routes = intent.routes.iter().chain(&intent.preview_routes);
        self.shared.switches.claim(routes.clone().map(RouteSpec::key), &memory.owner);
        let mut claimed = Vec::new();
        if !is_new {
            return Ok(claimed);
        }
        let own = tags(self.shared, name(self.planned), &memory.owner);
        let own: BTreeMap<String, String> =
            own.into_iter().filter(|(key, _)| [TAG, OWNER_TAG].contains(&key.as_str())).collect();
        let rules = routes.filter(|route| matches!(route, RouteSpec::OwnRule { .. }));
        let arns: Vec<String> = rules.filter_map(|rule| Some(world.routes.get(&rule.key())?.arn.clone())).collect();
        if !arns.is_empty() {
            let tags = match self.shared.ports.load_balancer.rule_tags(&arns).await {
                Err(error) if error.kind == FailureKind::Denied => BTreeMap::new(),
                tags => tags?,
            };
            for (arn, tags) in tags {
                self.shared.ports.load_balancer.tag_rule(&arn, &own).await?;
                claimed.extend(tags.get(OWNER_TAG).map(|owner| (Thing::Rule(arn), owner.clone())));
            }
        }
        let Some(parameter) = intent.record.as_ref().filter(|_| world.record.is_some()) else { return Ok(claimed) };
        let tags = match self.shared.ports.records.tags(parameter).await {
            Ok(tags) => tags,
            // Whoever may not read tags made none.
            Err(error) if matches!(error.kind, FailureKind::Gone | FailureKind::Denied) => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        if tags.get(TAG).map(String::as_str) == Some(name(self.planned)) {
            self.shared.ports.records.add_tags(parameter, &own).await?;
            claimed.extend(tags.get(OWNER_TAG).map(|owner| (Thing::Record(parameter.clone()), owner.clone())));
        }
        Ok(claimed)
    }

    async fn give_claims_back(&self, claimed: Vec<(Thing, String)>) {
        for (thing, owner) in claimed {
            let tags = BTreeMap::from([(OWNER_TAG.to_owned(), owner)]);
            let given = match &thing {
                Thing::Rule(arn) => self.shared.ports.load_balancer.tag_rule(arn, &tags).await,
                Thing::Record(parameter) => self.shared.ports.records.add_tags(parameter, &tags).await,
            };
            if let Err(error) = given {
                tracing::warn!(%error, ?thing, "it could not be given back to the object that it was taken over from");
            }
        }
        let routes = self.intent.routes.iter().chain(&self.intent.preview_routes);
        self.shared.switches.unclaim(routes.map(RouteSpec::key));
    }

    /// Environments must know which routes are previews: their idle colour has all the traffic there.
    async fn mark_previews(&self, memory: &mut Memory, diagnostics: &mut Diagnostics) {
        let previews = &self.intent.preview_routes;
        let had = self.request.prior.as_ref().is_some_and(|prior| !prior.get("preview_routes").is_null());
        if previews.is_empty() && !had {
            return;
        }
        let world = memory.world.as_ref();
        let arn = |route: &RouteSpec| Some(world?.routes.get(&route.key())?.arn.clone());
        let routes: Vec<String> = previews.iter().filter_map(arn).collect();
        let production: Vec<String> = self.intent.routes.iter().filter_map(arn).collect();
        let former: Vec<String> = memory.previews.iter().cloned().chain(production).collect();
        let groups: Vec<String> = self.intent.environments.values().map(|one| one.target_group_arn.clone()).collect();
        match self.shared.ports.load_balancer.mark_previews(&groups, &former, &routes).await {
            Ok(()) => memory.previews = routes,
            Err(error) => {
                let detail = format!(
                    "The target groups could not be tagged with the preview routes: {error}. Until the next apply an environment takes its idle colour for live there, and refuses to change it."
                );
                diagnostics.warning_at(Path::attribute("preview_routes"), "The previews are not marked", detail);
            }
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

/// Something that a switch makes.
#[derive(Debug)]
enum Thing {
    /// A rule, by ARN.
    Rule(String),
    /// The record, by name.
    Record(String),
}

/// The first line, which a ledger has room for.
fn shortened(reason: &str) -> String {
    reason.lines().next().unwrap_or_default().chars().take(300).collect()
}
