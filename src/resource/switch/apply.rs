//! A create or an update: locks, looks, plans anew, runs, and tells what came of it.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::sleep;

use super::budgets::At;
use super::contracts::Outdated;
use super::diagnostics::{self, Failure, Place};
use super::private_state::{self, PrivateState, Report, TOLD_BY_APPLY};
use super::promise::Promise;
use super::{
    OWNER_TAG, Shared, TAG, budgets, credentials, freezes, is_barred_by_label, look, model, name, planned, tags,
    warnings,
};
use crate::clock;
use crate::rollout::lint::Purpose;
use crate::rollout::lock_record::{Status, Waiting};
use crate::rollout::situation;
use crate::rollout::{
    CohortRules, Intent, LockRecord, NEAR, Observed, OnTimeout, Raised, RouteSpec, Runbook, Step, Waits, World,
};
use crate::run::call::Call;
use crate::run::ports::{FailureKind, Freshness, PortError};
use crate::run::rollout::events::{RolloutContext, rfc3339};
use crate::run::rollout::executor::{Ending, Outcome, Run};
use crate::run::rollout::lock::{self, Lock, Refused};
use crate::run::rollout::ports::Lasting;
use crate::shell::Shell;
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
    /// For commands to paste.
    pub shell: Shell,
}

/// What a rollout is about, and an id for it that no other one has.
pub(super) fn about(intent: &Intent, world: &World, switch: &str, config: &Value) -> RolloutContext {
    let milliseconds = clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_millis();
    let random = RandomState::new().hash_one(milliseconds) & 0xffff_ffff;
    let to = situation::target_color(intent, world);
    let earlier = situation::begun(intent, world)
        .filter(|lock_record| lock_record.to == to)
        .and_then(|lock_record| lock_record.from.clone());
    RolloutContext {
        id: format!("{milliseconds:x}-{random:08x}"),
        switch: switch.to_owned(),
        from: earlier.or_else(|| situation::current(intent, world).live),
        release: to.as_ref().and_then(|to| intent.environments.get(to)?.release.clone()),
        to,
        environments: intent.environments.clone(),
        names: intent.names.clone(),
        routes: intent.routes.clone(),
        cohort: world.cohort.rules().cloned().collect(),
        topic: config.get("notify").get("sns_topic_arn").as_str().map(str::to_owned),
    }
}

/// The lock of the record, or of the routes where there is none. Who may not write that one goes without.
pub(super) async fn lock(
    shared: &Shared,
    intent: &Intent,
    (world, runbook): (&World, &Runbook),
    about: &RolloutContext,
    cancel: &Cancel,
    diagnostics: &mut Diagnostics,
) -> Result<Option<Lock>, Refused> {
    let mut mine = lock::draft(&about.switch, &about.id, &rfc3339(clock::wall()));
    fill(&mut mine, intent, (world, runbook), about);
    let tags = tags(shared, &about.switch, "");
    match lock::acquire(&shared.ports, &model::locked(intent), mine, &tags, cancel).await {
        Err(Refused::Failed(error)) if intent.record.is_none() => {
            diagnostics::unlocked(&error, intent, diagnostics);
            Ok(None)
        }
        lock => lock.map(Some),
    }
}

/// What the next run has to know if this one is killed. As long as what a killed one left is not at its end, it is still
/// about what was there before that one, whatever this one leads to.
fn fill(lock_record: &mut LockRecord, intent: &Intent, (world, runbook): (&World, &Runbook), about: &RolloutContext) {
    let left = situation::begun(intent, world);
    let (from, to) = match left {
        Some(left) if left.to == about.to || left.from == about.to => (left.from.clone(), left.to.clone()),
        Some(left) => (left.from.clone(), about.to.clone()),
        None => (about.from.clone(), about.to.clone()),
    };
    (lock_record.from, lock_record.to) = (from, to);
    lock_record.record = left.map_or_else(|| world.record.clone(), |left| left.record.clone());
    lock_record.origins = left.map(|left| left.origins.clone()).unwrap_or_default();
    lock_record.led = left.map_or_else(|| Some(Vec::new()), |left| left.led.clone());
    let seen = intent.routes.iter().filter_map(|route| Some((route.key(), world.routes.get(&route.key())?)));
    lock_record.note_origins(seen, &intent.environments);
    lock_record.note_cohort(&intent.name, world.cohort.noted.iter().cloned());
    lock_record.note_cohort(
        &intent.name,
        runbook.steps().filter_map(|(_, step)| match step {
            Step::Route { route, .. } if world.cohort.has(route) => Some(route.key()),
            _ => None,
        }),
    );
    // A size that a killed run raised was another one before that.
    let mut sizes: BTreeMap<String, Raised> = world.lock_record.iter().flat_map(|left| left.sizes.clone()).collect();
    for (_, step) in runbook.steps() {
        let Step::Capacity { color, before, after, .. } = step else { continue };
        if after.desired > before.desired {
            let before = sizes.get(color).map_or(before.desired, |size| size.before);
            sizes.insert(color.clone(), Raised { before, raised: after.desired });
        }
    }
    lock_record.sizes = sizes;
    "begins".clone_into(&mut lock_record.phase);
}

/// The rules that a switch noted to make for its cohort.
fn noted(left: Option<&LockRecord>, intent: &Intent) -> Vec<String> {
    left.and_then(|left| left.cohort.get(&intent.name)).cloned().unwrap_or_default()
}

/// The world with what an earlier rollout of the switch wrote down.
pub(super) fn with_left(world: World, left: Option<LockRecord>, intent: &Intent) -> World {
    let cohort = CohortRules { noted: noted(left.as_ref(), intent), ..CohortRules::default() };
    World { lock_record: left.and_then(LockRecord::unless_free), cohort, ..world }
}

/// The world with what a rollout left that did not come to its end. It is only looked for where the traffic looks like it: refreshes
/// of many switches share their calls, and this is one more. For a cohort it is always looked, by calls that are shared.
pub(super) async fn with_what_was_left(shared: &Shared, intent: &Intent, world: World) -> World {
    // A run that was killed while it checked has moved nothing, but may have raised a size.
    // Without a record nothing but the lock says whether a rollout came to its end.
    let is_quiet = intent.capacity.is_none() && situation::is_settled(intent, &world);
    let seen = match is_quiet {
        true => shared.ports.records.get(&model::lock(intent), Freshness::Shared).await.map(read_lock),
        false => lock_parameter(shared, intent).await,
    };
    match seen {
        // Nothing else of it is unfinished there.
        Ok(seen) if is_quiet => World { lock_record: None, ..with_left(world, seen, intent) },
        Ok(seen) => with_left(world, seen, intent),
        Err(error) => {
            tracing::warn!(%error, "it can't be seen whether a rollout is under way");
            World { lock_record: None, ..world }
        }
    }
}

/// A lock record, as far as it can be read; that it is none is for whoever takes the lock to tell.
fn read_lock(value: Option<String>) -> Option<LockRecord> {
    value.and_then(|value| LockRecord::read(&value).ok())
}

/// What stands in the lock's place, also where it only says that it is free.
pub(super) async fn lock_parameter(shared: &Shared, intent: &Intent) -> Result<Option<LockRecord>, PortError> {
    let seen = match shared.ports.records.get_version(&model::lock(intent), None).await {
        // Where no record is kept, nobody may have thought of Parameter Store: that it can't be locked is told by the apply.
        Err(error) if intent.record.is_none() => {
            tracing::warn!(%error, "it can't be seen whether a rollout of these routes is under way");
            None
        }
        seen => seen?,
    };
    Ok(read_lock(seen.map(|(value, _)| value)))
}

/// How what a dead rollout left stood when its lock was taken over.
pub(super) fn as_found(lock: &Lock) -> Option<(Status, String)> {
    lock.as_found().map(|left| (left.status, shortened(&left.phase)))
}

/// Gives the lock up as it was found, by a run that did nothing.
async fn give_back(lock: &Lock, place: Place<'_>, diagnostics: &mut Diagnostics) {
    told(lock.give_back().await, lock.as_found().is_none(), place, diagnostics);
}

/// Gives the lock up after a run, with what is written down of a rollout that did not come to its end, or of an earlier one
/// that still has not.
pub(super) async fn end(
    lock: &Lock,
    outcome: &Outcome,
    (place, cohort, waits): (Place<'_>, &CohortRules, Option<&Waits>),
    diagnostics: &mut Diagnostics,
) {
    let (intent, _) = place;
    // What was not looked at, and what a call may still make, is looked for by whoever comes next.
    let is_certain = outcome.ending != Ending::Unknown && outcome.journal.doubts().is_empty();
    if let Some(seen) = outcome.world.as_ref().filter(|_| is_certain) {
        let looked_at: Vec<String> = cohort.rules().map(RouteSpec::key).chain(cohort.noted.iter().cloned()).collect();
        let is_gone = |key: &str| looked_at.iter().any(|own| own == key) && !seen.routes.contains_key(key);
        lock.forget_cohort(&intent.name, is_gone).await;
    }
    let reason = shortened(&outcome.journal.reason().map(|(_, reason)| reason).unwrap_or_default());
    let left = match (outcome.ending, &outcome.world) {
        (Ending::Held, _) => Some((Status::Held, format!("was held: {reason}"))),
        (Ending::Stuck, _) => Some((Status::Stuck, format!("could not go back: {reason}"))),
        (Ending::Unknown, _) => Some((Status::Unknown, format!("has a call without an answer: {reason}"))),
        // What a dead rollout of another switch left is that one's to go on with.
        _ if lock.found.as_ref().is_some_and(|found| found.what.is_empty() && found.switch != intent.name) => {
            return give_back(lock, place, diagnostics).await;
        }
        (Ending::Done, _) if let Some(waits) = waits => {
            lock.wait_for(waiting(waits, &lock.lock_record().await, lock.found.as_ref())).await;
            Some((Status::Waiting, waits.summary()))
        }
        // Without a record it is this run's end that says that all of it is over.
        (Ending::Done, _) if intent.record.is_none() => None,
        // The next apply gives a size back by what the lock says of it.
        (Ending::RolledBack, _) if outcome.journal.undo_failures().next().is_some() => {
            Some((Status::Held, "could not give a size back".to_owned()))
        }
        // A run that moved nothing of it leaves it where it was.
        (_, Some(seen)) => {
            let world = World { lock_record: Some(lock.lock_record().await), ..seen.clone() };
            as_found(lock).filter(|_| situation::unfinished(intent, &world).is_some())
        }
        (Ending::Done, None) => None,
        (Ending::RolledBack, None) => as_found(lock),
    };
    release(lock, left, place, diagnostics).await;
}

/// What a rollout waits for from now on, or has waited for since an earlier apply.
fn waiting(waits: &Waits, mine: &LockRecord, found: Option<&LockRecord>) -> Waiting {
    let is_same = |found: &&LockRecord| found.to == mine.to && found.switch == mine.switch;
    let earlier = found.filter(is_same).and_then(|found| found.waiting.as_ref());
    let earlier = earlier.filter(|earlier| (earlier.percent - waits.percent()).abs() < NEAR);
    let since = earlier.and_then(|earlier| earlier.began()).unwrap_or_else(clock::wall);
    let approval = waits.approval.as_ref();
    let timeout = approval.and_then(|approval| approval.timeout);
    Waiting {
        percent: waits.percent(),
        by: approval.and_then(|approval| approval.by.clone()),
        since: rfc3339(since),
        until: timeout.map(|timeout| rfc3339(since + timeout)),
        on_timeout: timeout.and(approval).map(|approval| approval.on_timeout.name().to_owned()),
    }
}

/// Takes the lock away with the switch.
pub(super) async fn delete(lock: &Lock, place: Place<'_>, diagnostics: &mut Diagnostics) {
    told(lock.delete().await, true, place, diagnostics);
}

/// Gives the lock up, with what is left undone.
pub(super) async fn release(
    lock: &Lock,
    left: Option<(Status, String)>,
    place: Place<'_>,
    diagnostics: &mut Diagnostics,
) {
    let is_over = left.is_none();
    told(lock.release(left).await, is_over, place, diagnostics);
}

fn told(released: Result<(), PortError>, is_over: bool, place: Place<'_>, diagnostics: &mut Diagnostics) {
    // One that is somebody else's by now is theirs to give up.
    if let Err(error) = released
        && error.kind != FailureKind::Conflict
    {
        diagnostics::not_released(&error, is_over, place, diagnostics);
    }
}

impl Apply<'_> {
    fn place(&self) -> Place<'_> {
        (&self.intent, &self.shell)
    }

    pub async fn run(&self, diagnostics: &mut Diagnostics) -> Stored {
        let before = Stored { state: self.request.prior.clone(), private: self.request.private.clone() };
        let cancel = &self.request.cancel;
        let Some(seen) = self.look(diagnostics).await else { return before };
        // What a dead run left is a part of what is seen: the plan had it, too.
        let left = tokio::select! {
            left = lock_parameter(self.shared, &self.intent) => left,
            () = cancel.cancelled() => {
                diagnostics::refused(&Refused::Interrupted { in_doubt: false }, self.place(), diagnostics);
                return before;
            }
        };
        let left = match left {
            Ok(left) => left,
            Err(error) => {
                diagnostics::unreadable(name(self.planned), &error, diagnostics);
                return before;
            }
        };
        let world = with_left(seen, left, &self.intent);
        let is_left = world.lock_record.as_ref().is_some_and(lock::is_surely_dead);
        let Some((world, runbook)) = self.plan(world, diagnostics).await else { return before };
        if is_barred_by_label(self.shared, &self.intent, &runbook, diagnostics).await
            || credentials::are_too_short(self.shared, &runbook, diagnostics).await
        {
            return before;
        }
        let about = about(&self.intent, &world, name(self.planned), self.planned);
        // A lock that a dead run left is cleared away also where nothing else is to be done.
        if runbook.is_empty() && !is_left {
            return self.carry_out((world, runbook), &about, None, diagnostics).await;
        }
        // Another switch of this very run may have the record: it is waited for, and then looked at again.
        let locked = model::locked(&self.intent);
        let _turn = tokio::select! {
            turn = self.shared.switches.turn(&locked) => turn,
            () = cancel.cancelled() => {
                diagnostics::refused(&Refused::Interrupted { in_doubt: false }, self.place(), diagnostics);
                return before;
            }
        };
        let lock = match lock(self.shared, &self.intent, (&world, &runbook), &about, cancel, diagnostics).await {
            Ok(lock) => lock,
            Err(refused) => {
                diagnostics::refused(&refused, self.place(), diagnostics);
                return before;
            }
        };
        let Some(lock) = lock else {
            let noted = world.cohort.noted;
            let Some((world, runbook)) = self.look_as_planned((None, noted), diagnostics).await else { return before };
            return self.carry_out((world, runbook), &about, None, diagnostics).await;
        };
        match self.look_again(&lock, world, &about, diagnostics).await {
            // It may have been waited for long.
            Some((_, runbook, _)) if credentials::are_too_short(self.shared, &runbook, diagnostics).await => {
                give_back(&lock, self.place(), diagnostics).await;
                before
            }
            Some((world, runbook, about)) => self.carry_out((world, runbook), &about, Some(&lock), diagnostics).await,
            None => {
                give_back(&lock, self.place(), diagnostics).await;
                before
            }
        }
    }

    async fn look(&self, diagnostics: &mut Diagnostics) -> Option<World> {
        let before = self.request.prior.as_ref().and_then(model::parse);
        let looked = tokio::select! {
            looked = look(self.shared, (&self.intent, before.as_ref()), Freshness::Now, name(self.planned), diagnostics) => Some(looked),
            () = self.request.cancel.cancelled() => None,
        };
        if looked.is_none() {
            diagnostics.error("The run was interrupted", "It was still looking at the routes. Nothing was changed.");
        }
        looked.flatten()
    }

    async fn plan(&self, world: World, diagnostics: &mut Diagnostics) -> Option<(World, Runbook)> {
        // Time that passed since does what the plan told, and nothing else.
        let memory = PrivateState::read(&self.request.private);
        let world = World { overdue: memory.overdue, ..world };
        let (world, runbook) = match planned(self.shared, &self.intent, world).await {
            Ok(planned) => planned,
            Err(refusal) => {
                diagnostics::refusal(&refusal, &self.intent, diagnostics);
                return None;
            }
        };
        if !diagnostics::is_sound(&runbook, (&self.intent, &world), Purpose::Rollout, diagnostics) {
            return None;
        }
        let (config, all) = (&self.request.config, (&self.intent, &world, &runbook));
        let barred = self.outdated().bars(config, all, diagnostics)
            || freezes::bars(config, all, &memory, clock::wall(), diagnostics)
            || budgets::bars(self.shared, all, At::Apply, diagnostics).await;
        (!barred).then_some((world, runbook))
    }

    /// Whether traffic would be moved that was elsewhere when this was planned. A first apply has only its outline to keep.
    fn breaks_promise(&self, (world, runbook): (&World, &Runbook), diagnostics: &mut Diagnostics) -> bool {
        let prior = self.request.prior.as_ref().and_then(model::parse);
        let memory = PrivateState::read(&self.request.private);
        let Some(planned) = memory.planned.as_ref().or(memory.world.as_ref()) else { return false };
        let promise = Promise { world: planned, prior: prior.as_ref().unwrap_or(&self.intent) };
        promise.bars(name(self.planned), (&self.intent, world, runbook), diagnostics)
    }

    /// The releases that are older than the database's schema.
    fn outdated(&self) -> Outdated {
        let noted = PrivateState::read(&self.request.private).outdated;
        Outdated::of(&self.request.config, self.request.prior.as_ref(), &noted)
    }

    /// Looks, plans, and holds that against what was planned before. That somebody else moved the traffic is not believed of
    /// one look: it may be an old one.
    async fn look_as_planned(
        &self,
        (found, noted): (Option<&LockRecord>, Vec<String>),
        diagnostics: &mut Diagnostics,
    ) -> Option<(World, Runbook)> {
        let cohort = CohortRules { noted, ..CohortRules::default() };
        for look in 1.. {
            let seen = self.look(diagnostics).await?;
            let world = World { lock_record: found.cloned(), cohort: cohort.clone(), ..seen };
            let (world, runbook) = self.plan(world, diagnostics).await?;
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
        about: &RolloutContext,
        diagnostics: &mut Diagnostics,
    ) -> Option<(World, Runbook, RolloutContext)> {
        // What somebody else noted meanwhile is there, too.
        let mut noted = noted(lock.found.as_ref(), &self.intent);
        noted.extend(before.cohort.noted.iter().cloned());
        let (world, runbook) = self.look_as_planned((lock.found.as_ref(), noted), diagnostics).await?;
        let mut now = self::about(&self.intent, &world, name(self.planned), self.planned);
        now.id.clone_from(&about.id);
        // What was taken over still says what the dead one did.
        if world != before || lock.found.is_some() {
            let noted = lock.note(|lock_record| fill(lock_record, &self.intent, (&world, &runbook), &now)).await;
            if let Err(error) = noted {
                diagnostics::unreadable(name(self.planned), &error, diagnostics);
                return None;
            }
        }
        Some((world, runbook, now))
    }

    async fn carry_out(
        &self,
        (world, runbook): (World, Runbook),
        about: &RolloutContext,
        lock: Option<&Lock>,
        diagnostics: &mut Diagnostics,
    ) -> Stored {
        let intent = &self.intent;
        let mut memory = PrivateState::read(&self.request.private);
        let until = || Call::until(self.request.cancel.clone());
        let Some(claimed) = self.claims((&mut memory, &world), lock, diagnostics).await else {
            return Stored { state: self.request.prior.clone(), private: self.request.private.clone() };
        };
        let bound = credentials::Bound(self.shared);
        let lasting = (!runbook.least_duration().0.is_zero()).then_some(&bound as &dyn Lasting);
        (memory.planned, memory.overdue) = (None, false);
        memory.keep_originals(intent, &world);
        memory.outdated = self.outdated();
        let operation = if self.request.prior.is_none() { "create" } else { "update" };
        let started = clock::wall();
        let run = Run {
            ports: &self.shared.ports,
            runbook: &runbook,
            scope: &model::scope_of(intent, &world),
            tags: &tags(self.shared, name(self.planned), &memory.owner),
            about,
            lock,
            cancel: &self.request.cancel,
            watched: OnceLock::new(),
            limit: model::timeout(self.planned, operation),
            lasting,
        };
        let outcome = run.run(world.clone()).await;
        diagnostics::dry_runs(&outcome.journal, diagnostics);
        // What is only not seen was told by the plan.
        warnings::unheld(self.shared, intent, true, diagnostics);
        self.end((lock, &outcome), (&world, &runbook), diagnostics).await;
        let report = Report {
            about,
            before: &world,
            ending: outcome.ending,
            started,
            finished: clock::wall(),
            runbook: &runbook,
            journal: &outcome.journal,
        };
        // What could not be seen at the end is as far as what was done.
        let foreseen = || match outcome.ending {
            Ending::Done => runbook.after(&world, |id| outcome.journal.done(id)),
            _ => world.clone(),
        };
        let seen = outcome.world.clone().unwrap_or_else(foreseen);
        let former_record = memory.made_record.clone();
        memory.note_run(intent, (&runbook, &outcome.journal), (&world, &seen));
        if outcome.ending == Ending::Done {
            memory.note_arrived(intent, &seen);
        }
        memory.world = Some(World { lock_record: None, ..seen });
        if outcome.ending == Ending::Done {
            self.leave_former_record(former_record, &mut memory, diagnostics).await;
            until().make(self.mark_previews(&mut memory, diagnostics)).await;
            diagnostics::left(&runbook, &outcome, name(self.planned), diagnostics);
            return self.succeeded(&report, &memory, diagnostics);
        }
        if self.request.prior.is_none() && outcome.ending == Ending::RolledBack {
            // Nothing is left of this object: what it took over is its former owner's again.
            self.give_claims_back(claimed).await;
        }
        self.failed(&report, &outcome, memory, diagnostics)
    }

    /// Gives the lock up, where there is one.
    async fn end(
        &self,
        (lock, outcome): (Option<&Lock>, &Outcome),
        (world, runbook): (&World, &Runbook),
        diagnostics: &mut Diagnostics,
    ) {
        let Some(lock) = lock else { return };
        end(lock, outcome, (self.place(), &world.cohort, runbook.waits.as_ref()), diagnostics).await;
    }

    /// Claims what this object goes by; where that can't be done, nothing is, and it is told.
    async fn claims(
        &self,
        (memory, world): (&mut PrivateState, &World),
        lock: Option<&Lock>,
        diagnostics: &mut Diagnostics,
    ) -> Option<Vec<(Thing, String)>> {
        let mut claimed = Vec::new();
        let call = Call::until(self.request.cancel.clone());
        let Err(error) = call.make(self.claim(memory, world, &mut claimed)).await else { return Some(claimed) };
        self.give_claims_back(claimed).await;
        if let Some(lock) = lock {
            give_back(lock, self.place(), diagnostics).await;
        }
        diagnostics::unclaimed(name(self.planned), &error, diagnostics);
        None
    }

    /// Takes over what an earlier object made and this one will go by: whoever has it last is its owner. What was taken is
    /// noted with its owner before.
    async fn claim(
        &self,
        memory: &mut PrivateState,
        world: &World,
        claimed: &mut Vec<(Thing, String)>,
    ) -> Result<(), PortError> {
        let intent = &self.intent;
        if memory.owner.is_empty() {
            memory.owner = crate::resource::new_owner();
        }
        let routes = intent.routes.iter().chain(&intent.preview_routes);
        self.shared.switches.claim(routes.clone().map(RouteSpec::key), &memory.owner);
        let own = BTreeMap::from([(TAG, name(self.planned)), (OWNER_TAG, memory.owner.as_str())]);
        let own: BTreeMap<String, String> =
            own.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        let rules = routes.filter(|route| matches!(route, RouteSpec::OwnRule { .. }));
        let rules: Vec<(&RouteSpec, &Observed)> =
            rules.filter_map(|rule| Some((rule, world.routes.get(&rule.key())?))).collect();
        let arns: Vec<String> = rules.iter().map(|(_, seen)| seen.arn.clone()).collect();
        let tags = tolerated(self.shared.ports.load_balancer.rule_tags(&arns).await)?;
        for (route, seen) in rules {
            let Some(tags) = tags.get(&seen.arn) else { continue };
            if !route.is_made(seen) && tags.get(TAG).is_none_or(|owner| owner != name(self.planned)) {
                let words = format!(
                    "{route} has these conditions and leads to these colors, but it does not carry the tag {TAG} = {}: somebody else made it. Choose another priority, or adopt it with rule_arn instead of listener_arn, priority and conditions",
                    name(self.planned)
                );
                return Err(PortError::new(FailureKind::Conflict, words));
            }
            if own.iter().all(|(key, value)| tags.get(key) == Some(value)) {
                continue;
            }
            tolerated(self.shared.ports.load_balancer.tag_rule(&seen.arn, &own).await)?;
            claimed.push((Thing::Rule(seen.arn.clone()), tags.get(OWNER_TAG).cloned().unwrap_or_default()));
        }
        let Some(parameter) = intent.record.as_ref().filter(|_| world.record.is_some()) else { return Ok(()) };
        let tags = match self.shared.ports.records.tags(parameter).await {
            Err(error) if error.kind == FailureKind::Gone => BTreeMap::new(),
            tags => tolerated(tags)?,
        };
        let is_ours = tags.get(TAG).map(String::as_str) == Some(name(self.planned));
        if is_ours && tags.get(OWNER_TAG) != Some(&memory.owner) {
            tolerated(self.shared.ports.records.add_tags(parameter, &own).await)?;
            claimed.push((Thing::Record(parameter.clone()), tags.get(OWNER_TAG).cloned().unwrap_or_default()));
        }
        Ok(())
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

    /// Environments must know which routes are previews: their idle color has all the traffic there.
    async fn mark_previews(&self, memory: &mut PrivateState, diagnostics: &mut Diagnostics) {
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
        let groups: Vec<String> = self.intent.groups().map(str::to_owned).collect();
        match self.shared.ports.load_balancer.mark_previews(&groups, &former, &routes).await {
            Ok(()) => memory.previews = routes,
            Err(error) => {
                let detail = format!(
                    "The target groups could not be tagged with the preview routes: {error}. Until the next apply an environment takes its idle color for live there, and refuses to change it."
                );
                diagnostics.warning_at(Path::attribute("preview_routes"), "The previews are not marked", detail);
            }
        }
    }

    /// A free lock of ours that nobody is to use any more.
    async fn leave_former_lock(&self, lock: &str) {
        let records = &self.shared.ports.records;
        let Ok(Some((value, _))) = records.get_version(lock, None).await else { return };
        let is_ours = |left: LockRecord| left.status == Status::Free && left.switch == name(self.planned);
        if LockRecord::read(&value).is_ok_and(is_ours)
            && let Err(error) = records.delete(lock).await
        {
            tracing::warn!(%error, lock, "the lock of the former record is left");
        }
    }

    /// A record of ours under another name would go on naming a color that may no longer be live.
    async fn leave_former_record(
        &self,
        made: Option<String>,
        memory: &mut PrivateState,
        diagnostics: &mut Diagnostics,
    ) {
        let prior = self.request.prior.as_ref().map_or(&Value::Null, |prior| prior.get("parameter"));
        let former = prior.as_str().filter(|former| self.intent.record.as_deref() != Some(*former));
        let prior = self.request.prior.as_ref().and_then(model::parse).map(|prior| model::lock(&prior));
        if let Some(lock) = prior.filter(|lock| *lock != model::lock(&self.intent)) {
            self.leave_former_lock(&lock).await;
        }
        let Some(former) = former.filter(|former| made.as_deref() == Some(*former)) else { return };
        match self.shared.ports.records.delete(former).await {
            Ok(()) if memory.made_record == made => memory.made_record = None,
            Ok(()) => {}
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
    fn succeeded(&self, report: &Report<'_>, memory: &PrivateState, diagnostics: &mut Diagnostics) -> Stored {
        let (intent, world) = (&self.intent, memory.world.clone().unwrap_or_default());
        let traffic = situation::current(intent, &world);
        let mut truth = self.planned.clone();
        private_state::set_traffic(&mut truth, &intent.environments, &traffic);
        let prior = self.request.prior.clone().unwrap_or(Value::Null);
        let from = report.about.from.as_deref();
        let switched = from != traffic.live.as_deref();
        let switched_at = Value::from(rfc3339(report.finished));
        truth.set("switched_at", if switched { switched_at } else { prior.get("switched_at").clone() });
        truth.set("previous", if switched { Value::from(from) } else { prior.get("previous").clone() });
        truth.set("runbook", Value::from(report.runbook.summary()));
        let ran = !report.runbook.is_empty();
        truth.set("last_rollout", if ran { report.value() } else { prior.get("last_rollout").clone() });
        let mut state = self.planned.clone();
        for name in TOLD_BY_APPLY.iter().chain(&["active", "id"]) {
            if !state.get(name).is_wholly_known() {
                state.set(name, truth.get(name).clone());
            }
        }
        if situation::overdue(intent, report.before) == Some(OnTimeout::Rollback) {
            diagnostics::nobody_approved(report.before, (intent, &world), diagnostics);
            let mut last = truth.get("last_rollout").clone();
            last.set("status", Value::from("rolled_back"));
            last.set("reason", Value::from("nobody approved in time"));
            truth.set("last_rollout", last);
            return Stored { state: Some(truth), private: memory.bytes() };
        }
        let moved = ["live", "weights"].iter().any(|name| state.get(name) != truth.get(name));
        if moved {
            let what = if ran {
                "The apply did what was planned, but the traffic is not where it was planned to be: somebody else moves it at the same time."
            } else {
                "The traffic is not where it was when this was planned: somebody moved it since. This apply moved nothing."
            };
            let detail = format!(
                "{what}\n\n{}\n\nNext: find out who moves it (another pipeline, another Terraform), then plan again.",
                diagnostics::traffic_now(intent, Some(&world))
            );
            diagnostics.error(format!("The traffic of {} was moved by somebody else", name(self.planned)), detail);
            return Stored { state: Some(truth), private: memory.bytes() };
        }
        Stored { state: Some(state), private: memory.bytes() }
    }

    fn failed(
        &self,
        report: &Report<'_>,
        outcome: &Outcome,
        memory: PrivateState,
        diagnostics: &mut Diagnostics,
    ) -> Stored {
        let (from, to) = (report.about.from.as_ref(), report.about.to.as_ref());
        let summary = match to {
            Some(to) if from != Some(to) => format!("Failed to switch {} to {to}", name(self.planned)),
            _ => format!("Failed to change the switch {}", name(self.planned)),
        };
        let failure = Failure {
            summary,
            shell: &self.shell,
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
        // The state has its own colors and routes: those before, where everything went back.
        if let (Some(world), Some(own)) = (&outcome.world, model::parse(&state)) {
            private_state::set_traffic(&mut state, &own.environments, &situation::current(&own, world));
        }
        state.set("last_rollout", report.value());
        Stored { state: Some(state), private: memory.bytes() }
    }
}

/// Whoever may not read or write tags goes by what is known without them.
pub(super) fn tolerated<T: Default>(result: Result<T, PortError>) -> Result<T, PortError> {
    match result {
        Err(error) if error.kind == FailureKind::Denied => {
            tracing::warn!(%error, "tags can't be had: what another object takes over can't be told");
            Ok(T::default())
        }
        other => other,
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

/// The first line, which a lock record has room for.
fn shortened(reason: &str) -> String {
    reason.lines().next().unwrap_or_default().chars().take(300).collect()
}
