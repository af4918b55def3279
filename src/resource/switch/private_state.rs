//! What a switch remembers between runs, and the attributes that it computes.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::contracts::Outdated;
use crate::clock;
use crate::digest::sha256;
use crate::rollout::{
    Environment, Intent, Journal, Processing, RouteSpec, Runbook, Step, Terminal, Traffic, World, label, situation,
};
use crate::run::rollout::events::{RolloutContext, rfc3339};
use crate::run::rollout::executor::Ending;
use crate::tf_provider::{Number, Value};

/// What only an apply can tell, unless a plan can.
pub(super) const TOLD_BY_APPLY: [&str; 7] =
    ["live", "idle", "previous", "weights", "switched_at", "runbook", "last_rollout"];

/// What is stored beside the state, for the provider alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PrivateState {
    /// The format's version.
    version: u32,
    /// This very object, as what it made is tagged: another object of the same name is another owner.
    pub owner: String,
    /// What the last refresh or apply saw: a plan right after it need not look again.
    pub world: Option<World>,
    /// What was seen when something was planned that no refresh had looked at. Engines that keep planned data bring it to
    /// the apply of that plan; others plan once more then, and see what is.
    pub planned: Option<World>,
    /// Routes and record as they were before the switch, for `on_destroy = "restore"`.
    pub originals: World,
    /// The colors of the target groups in the originals, by ARN: a color may have another group by now.
    pub original_colors: BTreeMap<String, String>,
    /// The ARNs of the routes that are noted as previews on the environments' groups.
    pub previews: Vec<String>,
    /// The parameter that the originals' record is of, be it that there was none.
    pub original_record_of: Option<String>,
    /// Rules that the switch made and that were there last: their ARNs by route key.
    pub own: BTreeMap<String, String>,
    /// The parameter that the switch made.
    pub made_record: Option<String>,
    /// Releases that are older than the database's schema.
    pub outdated: Outdated,
    /// The color that has everything since the last apply, until it is seen without.
    pub arrived: Option<String>,
    /// The releases that colors had when they last had everything, where it was said.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub served: BTreeMap<String, String>,
    /// When traffic was seen to be led away from there by somebody else, in seconds since 1970.
    pub taken_back: Vec<u64>,
    /// The groups that went out of sticky actions with a way back, by route key.
    pub left_out: BTreeMap<String, BTreeSet<String>>,
    /// Whether the last plan went by the time for an approval having passed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub overdue: bool,
    /// What rules of the switch's own were told to do with requests, by route key.
    processed: BTreeMap<String, Processed>,
}

/// What a rule does with a request before it forwards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Processed {
    /// As it was told.
    processing: Processing,
    /// What tells its client secret apart, where the rule is known to have it.
    secret: Option<String>,
}

/// How long it counts that traffic was taken back.
const COUNTS_FOR: u64 = 30 * 24 * 3600;

impl PrivateState {
    /// Reads what was stored; nothing of it is needed to go on.
    pub fn read(bytes: &[u8]) -> PrivateState {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// What is to be stored.
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Notes that somebody else led the traffic away since the last apply. What a rollout left that is not at its end is nobody
    /// else's doing.
    pub fn note_taken_back(&mut self, intent: &Intent, world: &World) {
        let Some(arrived) = self.arrived.clone().filter(|_| world.lock_record.is_none()) else { return };
        let live = situation::current(intent, world).live;
        if live.is_none_or(|live| live == arrived) {
            return;
        }
        let now = clock::seconds();
        self.arrived = None;
        self.taken_back.retain(|at| now.saturating_sub(*at) < COUNTS_FOR);
        self.taken_back.push(now);
    }

    /// Notes where an apply left the traffic.
    pub fn note_arrived(&mut self, intent: &Intent, world: &World) {
        let live = situation::current(intent, world).live;
        self.arrived = live.filter(|live| intent.active.is_some() && situation::is_all_on(intent, world, live));
        let release =
            self.arrived.as_ref().and_then(|live| Some((live, intent.environments.get(live)?.release.clone())));
        if let Some((live, release)) = release {
            match release {
                Some(release) => drop(self.served.insert(live.clone(), release)),
                None => drop(self.served.remove(live)),
            }
        }
    }

    /// Whether a color runs what it ran when it last had everything, as far as that is known.
    pub fn has_served(&self, color: &str, intent: &Intent) -> bool {
        let release = intent.environments.get(color).and_then(|one| one.release.as_ref());
        release.is_some() && self.served.get(color) == release
    }

    /// Notes how routes and record were before the switch touched them.
    pub fn keep_originals(&mut self, intent: &Intent, world: &World) {
        let mut world = world.clone();
        // What a killed run had begun to move was elsewhere before.
        if let Some(left) = world.lock_record.clone().filter(|left| left.what.is_empty() && left.switch == intent.name)
        {
            for (key, seen) in &mut world.routes {
                if let Some(terminal) = left.origin(key, &intent.environments) {
                    seen.terminal = terminal;
                }
            }
            world.record = left.record;
        }
        for route in intent.routes.iter().chain(&intent.preview_routes) {
            let Some(observed) = world.routes.get(&route.key()) else { continue };
            if let Entry::Vacant(free) = self.originals.routes.entry(route.key()) {
                free.insert(observed.clone());
                let own = intent.groups().filter(|group| observed.terminal.mentions(group));
                let labels = own.filter_map(|group| Some((group.to_owned(), label(&intent.environments, group)?)));
                self.original_colors.extend(labels);
            }
        }
        if intent.record.is_some() && self.original_record_of != intent.record {
            self.originals.record.clone_from(&world.record);
            self.original_record_of.clone_from(&intent.record);
        }
    }

    /// Notes what a run left that no look tells.
    pub fn note_run(&mut self, intent: &Intent, (runbook, journal): (&Runbook, &Journal), worlds: (&World, &World)) {
        self.keep_made(intent, runbook, journal, worlds.1);
        self.keep_processed(intent, (runbook, journal), worlds.1);
        self.keep_left_out(intent, runbook, worlds);
    }

    /// Notes what the switch made and is there after a run: wanted rules, and those that could not be deleted.
    fn keep_made(&mut self, intent: &Intent, runbook: &Runbook, journal: &Journal, world: &World) {
        let tried = runbook.steps().filter_map(|(_, step)| match step {
            Step::Route { route, .. } | Step::Remove { route, .. } => Some(route),
            _ => None,
        });
        let is_removed = |key: &str| {
            let mut steps = runbook.steps();
            steps.any(|(id, step)| matches!(step, Step::Remove { route, .. } if route.key() == key) && journal.done(id))
        };
        let wanted = intent.routes.iter().chain(&intent.preview_routes).chain(&intent.removed).chain(tried);
        let own = wanted.filter(|route| matches!(route, RouteSpec::OwnRule { .. }));
        // One that could not be deleted is still there, whatever one look shows.
        let left = |key: &str| {
            runbook.steps().find_map(|(id, step)| match step {
                // What this very run was to make has no ARN to be known by.
                Step::Remove { route, before } if route.key() == key && !journal.done(id) && !before.arn.is_empty() => {
                    Some(before.arn.as_str())
                }
                _ => None,
            })
        };
        // What stands where no route is to be and isn't ours, somebody else made meanwhile.
        let configured: Vec<String> =
            intent.routes.iter().chain(&intent.preview_routes).chain(&intent.removed).map(RouteSpec::key).collect();
        let seen = |route: &RouteSpec| {
            let seen = world.routes.get(&route.key())?;
            let is_foreign = match route {
                RouteSpec::OwnRule { conditions, .. } if !configured.contains(&route.key()) => {
                    seen.conditions.as_ref() != Some(conditions)
                }
                _ => false,
            };
            (!is_foreign).then_some(seen.arn.as_str())
        };
        let named = |route: &RouteSpec| {
            let key = route.key();
            let arn = runbook.made(&key, journal).or_else(|| left(&key)).or_else(|| seen(route))?.to_owned();
            (!is_removed(&key)).then_some((key, arn))
        };
        self.own = own.filter_map(named).collect();
        for (id, step) in runbook.steps() {
            if let Step::Record { parameter, before: None, after: Some(_) } = step
                && journal.done(id)
                && !journal.undone(id)
            {
                self.made_record = Some(parameter.clone());
            }
        }
    }

    /// Notes which groups went out of sticky actions in a run: those that the routes had or got.
    fn keep_left_out(&mut self, intent: &Intent, runbook: &Runbook, (before, after): (&World, &World)) {
        for route in intent.routes.iter().filter(|route| !route.is_network()) {
            let key = route.key();
            let Some(now) = after.routes.get(&key) else { continue };
            let led = runbook.steps().filter_map(|(_, step)| match step {
                Step::Route { route: led, after, .. } if led == route => Some(after),
                _ => None,
            });
            // What the colors had there under another name is nobody's to join again.
            let own: Vec<&str> = intent.environments.keys().filter_map(|color| intent.group(route, color)).collect();
            let had: Vec<&Terminal> =
                before.routes.get(&key).map(|seen| &seen.terminal).into_iter().chain(led).collect();
            let has_led = |group: &&&str| had.iter().any(|terminal| terminal.share(group) > 0.0);
            let mut out = self.left_out.remove(&key).unwrap_or_default();
            out.extend(own.iter().filter(has_led).map(|group| (*group).to_owned()));
            out.retain(|group| {
                now.terminal.is_sticky() && !now.terminal.mentions(group) && own.contains(&group.as_str())
            });
            if !out.is_empty() {
                self.left_out.insert(key, out);
            }
        }
    }

    /// Notes what rules do with requests after a run: what others let them do is not the switch's to take away, and which secret
    /// they have AWS does not tell.
    fn keep_processed(&mut self, intent: &Intent, (runbook, journal): (&Runbook, &Journal), after: &World) {
        for (id, step) in runbook.steps().filter(|(id, _)| journal.began(*id)) {
            let route = match step {
                Step::Processing { route, .. } | Step::Route { route, before: None, .. } => route,
                Step::Remove { route, .. } if journal.done(id) => {
                    self.processed.remove(&route.key());
                    continue;
                }
                _ => continue,
            };
            let Some(wished) = route.processing() else { continue };
            let (key, former) = (route.key(), self.processed.remove(&route.key()));
            // What an earlier run made may have another secret.
            let is_sure = journal.done(id) && !journal.undone(id) && !runbook.taken_over.contains(&id);
            let secret = wished.secret().filter(|_| is_sure).map(|secret| told_apart(&key, &secret.text));
            let former = former.map(|former| former.processing).unwrap_or_default();
            let processing = if is_sure { wished.clone() } else { former.joined(wished) };
            if processing != Processing::default() {
                self.processed.insert(key, Processed { processing, secret });
            }
        }
        self.adopt_processed(intent, after);
    }

    /// What is as it is wished, whoever made it so, is the switch's to take away once it is no longer wished.
    fn adopt_processed(&mut self, intent: &Intent, after: &World) {
        for route in intent.routes.iter().chain(&intent.preview_routes) {
            let seen = after.routes.get(&route.key()).and_then(|seen| seen.processing.as_ref());
            let wished = route.processing().filter(|wished| **wished != Processing::default() && seen == Some(*wished));
            if let (Some(wished), Entry::Vacant(free)) = (wished, self.processed.entry(route.key())) {
                free.insert(Processed { processing: wished.clone(), secret: None });
            }
        }
    }

    /// What rules of the switch's own are known to do, with those secrets of these that they are known to have.
    pub fn processed<'i>(&self, of: impl Iterator<Item = &'i RouteSpec> + Clone) -> BTreeMap<String, Processing> {
        let known = |(key, noted): (&String, &Processed)| {
            let mut processing = noted.processing.clone();
            let mut secrets =
                of.clone().filter(|route| route.key() == *key).filter_map(|route| route.processing()?.secret());
            let its = secrets.find(|secret| noted.secret.as_ref() == Some(&told_apart(key, &secret.text)));
            if let (Some(secret), Some(its)) = (processing.secret_mut(), its) {
                *secret = its.clone();
            }
            (key.clone(), processing)
        };
        self.processed.iter().map(known).collect()
    }

    /// The rules that the switch made, as routes; of one that the state no longer has, the place is known.
    pub fn own_routes(&self, before: Option<&Intent>) -> Vec<RouteSpec> {
        let routes = before.into_iter().flat_map(|intent| intent.routes.iter().chain(&intent.preview_routes));
        let mut own: Vec<RouteSpec> =
            routes.filter(|route| matches!(route, RouteSpec::OwnRule { .. })).cloned().collect();
        for key in self.own.keys() {
            if !own.iter().any(|route| route.key() == *key) {
                own.extend(RouteSpec::own(key));
            }
        }
        own.iter_mut().for_each(|route| self.name(route));
        own
    }

    /// Names a rule that the switch made by what it is.
    pub fn name(&self, route: &mut RouteSpec) {
        let key = route.key();
        if let RouteSpec::OwnRule { arn, .. } = route {
            *arn = self.own.get(&key).cloned();
        }
    }
}

/// What tells a secret from another one without telling it.
fn told_apart(key: &str, secret: &str) -> String {
    sha256(&format!("{key} {secret}"))
}

fn percentages(weights: &BTreeMap<String, u32>) -> Value {
    let pairs = weights.iter().map(|(color, weight)| (color.clone(), Value::Number(Number::Int(i64::from(*weight)))));
    Value::object(pairs)
}

/// Writes into a state what holds once a color has everything.
pub(super) fn set_all_on<T>(state: &mut Value, environments: &BTreeMap<String, T>, live: &str) {
    let weight = |color: &String| (color.clone(), if color == live { 100 } else { 0 });
    state.set("live", Value::from(live));
    state.set("idle", Value::from(situation::idle(environments, live)));
    state.set("weights", percentages(&environments.keys().map(weight).collect()));
}

/// Writes what a refresh saw into a state. Where a rollout waits for a person at the part that it was to reach, `active` is what was
/// asked for: it is not somebody else's doing that another color is live.
pub(super) fn set_seen(state: &mut Value, intent: &Intent, world: &World) {
    set_traffic(state, &intent.environments, &situation::current(intent, world));
    if situation::is_up_to(intent, world) {
        state.set("active", Value::from(intent.active.clone()));
    }
}

/// Writes what was seen into a state.
pub(super) fn set_traffic(state: &mut Value, environments: &BTreeMap<String, Environment>, traffic: &Traffic) {
    let live = traffic.live.clone();
    let idle = live.as_deref().and_then(|live| situation::idle(environments, live)).map(str::to_owned);
    state.set("active", Value::from(live.clone()));
    state.set("live", Value::from(live));
    state.set("idle", Value::from(idle));
    state.set("weights", percentages(&traffic.weights));
}

/// One rollout, as `last_rollout` tells it.
pub(super) struct Report<'a> {
    pub about: &'a RolloutContext,
    /// What was seen right before.
    pub before: &'a World,
    pub ending: Ending,
    pub started: SystemTime,
    pub finished: SystemTime,
    pub runbook: &'a Runbook,
    pub journal: &'a Journal,
}

impl Report<'_> {
    pub fn value(&self) -> Value {
        let status = match self.ending {
            Ending::Done if self.runbook.waits.is_some() => "waiting",
            Ending::Done => "completed",
            Ending::RolledBack => "rolled_back",
            Ending::Held => "held",
            Ending::Stuck => "stuck",
            Ending::Unknown => "unknown",
        };
        let done = self.runbook.steps().filter(|(id, _)| self.journal.done(*id));
        let steps: Vec<String> = done.map(|(_, step)| step.summary()).collect();
        Value::object([
            ("id", Value::from(self.about.id.as_str())),
            ("from", Value::from(self.about.from.clone())),
            ("to", Value::from(self.about.to.clone())),
            ("status", Value::from(status)),
            ("started_at", Value::from(rfc3339(self.started))),
            ("finished_at", Value::from(rfc3339(self.finished))),
            ("steps", Value::from(steps)),
            ("reason", Value::from(self.journal.reason().map(|(_, reason)| reason))),
        ])
    }
}
