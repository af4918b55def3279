//! As far as a person lets it: a rollout that waits at a part of the traffic.

use super::route_steps::{self, health_check, lead, part, split, with_all};
use super::{Direction, Draft, Refusal};
use crate::rollout::check::Subject;
use crate::rollout::intent::{Environment, Intent};
use crate::rollout::lock_record::Status;
use crate::rollout::route::{NEAR, Observed, RouteSpec, Terminal};
use crate::rollout::runbook::{Step, Waits};
use crate::rollout::situation::{begun, current, overdue};
use crate::rollout::strategy::{self, OnTimeout, Shift};
use crate::rollout::world::World;

impl Draft<'_> {
    /// Where the color waits, and how long it is watched there; none where it is to get everything: where it is live already, on a way
    /// back, where nobody else has traffic to share, and where the time for a word has passed and that means yes.
    pub(super) fn limit(&self, color: &str, direction: Direction) -> Option<Shift> {
        let (intent, written) = (self.intent, &self.intent.strategy);
        let permille = written.up_to.filter(|_| intent.active.as_deref() == Some(color))?;
        let is_approved = overdue(intent, &self.world) == Some(OnTimeout::Continue);
        let leads = matches!(direction, Direction::Start | Direction::Resume);
        if !leads || is_approved || !self.is_on_trial(color) {
            return None;
        }
        let lasting = intent.verification.as_ref().map(|verification| verification.duration).unwrap_or_default();
        Some(strategy::limit(permille, &written.steps, lasting))
    }

    /// Whether the color is the one that a rollout leads to: what is live is not taken from for it.
    fn is_on_trial(&self, color: &str) -> bool {
        let is_shared = self.intent.routes.iter().any(|route| self.is_shared(route, color));
        match begun(self.intent, &self.world) {
            Some(left) if left.to.as_deref() == Some(color) => {
                // Who has everything without its record was led there by somebody else.
                let waits = left.status == Status::Waiting && self.world.record.as_deref() != Some(color);
                left.from.as_deref() != Some(color) && (is_shared || waits)
            }
            Some(left) if left.from.as_deref() == Some(color) => false,
            _ => is_shared && current(self.intent, &self.world).live.as_deref() != Some(color),
        }
    }

    /// Whether others than the color have traffic of a route.
    pub(super) fn is_shared(&self, route: &RouteSpec, color: &str) -> bool {
        let seen = self.world.routes.get(&route.key()).zip(self.intent.group(route, color));
        seen.is_some_and(|(seen, group)| seen.terminal.serves_others(group))
    }

    /// Leads the color to just that part, from below with its checks and steps, from above at once; whether any traffic is moved.
    pub(super) fn lead_part(
        &mut self,
        color: &str,
        limit: Shift,
        (subjects, direction): (&[Subject], Direction),
    ) -> bool {
        let (intent, was) = (self.intent, self.world.clone());
        let approval = intent.strategy.approval.clone();
        let left = begun(intent, &was);
        let before = left.and_then(|left| left.from.clone()).or_else(|| current(intent, &was).live);
        self.before = before.filter(|before| before != color && intent.environments.contains_key(before));
        let goes_back =
            approval.as_ref().is_some_and(|one| one.timeout.is_some() && one.on_timeout == OnTimeout::Rollback);
        self.runbook.waits = Some(Waits { color: color.to_owned(), permille: limit.permille, approval });
        // What stopped, or was killed, has not passed what it stopped in.
        let is_open = direction == Direction::Resume && left.is_some_and(|left| left.status != Status::Waiting);
        let rises = intent.routes.iter().any(|route| part(intent, &self.world, route, color, limit).is_some());
        if rises || is_open {
            self.rise(color, limit, (subjects, direction));
        }
        let falls = self.fall(color, limit);
        // A rule that is to be made leads where those lead that are there.
        let made: Vec<Step> = intent.routes.iter().filter_map(|route| self.joined(route)).collect();
        self.push(made);
        let astray = intent.routes.iter().find(|route| (self.share(route, color) - limit.percent()).abs() >= NEAR);
        if let Some(route) = astray {
            self.refused = Some(Refusal::CannotWait { route: Box::new(route.clone()), permille: limit.permille });
        }
        if goes_back && self.before.is_none() {
            self.refused = Some(Refusal::NoWayBack);
        }
        rises || is_open || falls
    }

    fn rise(&mut self, color: &str, limit: Shift, (subjects, direction): (&[Subject], Direction)) {
        let intent = self.intent;
        self.take_over(true, true);
        self.close();
        let unseen = self.make_ready(color, subjects, direction);
        let mut shifts = self.steps_left(direction, color);
        shifts.retain(|shift| shift.permille < limit.permille);
        shifts.push(limit);
        self.take(&shifts, color, (subjects, direction));
        self.push(unseen.iter().map(|subject| health_check(intent, subject)).collect());
        self.process();
    }

    /// Takes back what the color has beyond the limit. Who serves beside it gets more by that, and is counted first.
    fn fall(&mut self, color: &str, limit: Shift) -> bool {
        let intent = self.intent;
        let before = self.before.clone();
        let less = |world: &World, route| less((intent, world), route, (color, before.as_deref()), limit);
        let steps =
            |world: &World| -> Vec<Step> { intent.routes.iter().filter_map(|route| less(world, route)).collect() };
        if steps(&self.world).is_empty() {
            return false;
        }
        // What a rollout moved that did not come to its end is not taken back for what happens now, but its cohort is.
        if self.runbook.is_empty() {
            self.take_over(true, false);
        }
        let serves = |name: &String| {
            let mut seen = intent.routes.iter().filter_map(|route| self.world.routes.get(&route.key()));
            name != color && seen.any(|seen| intent.environments[name].share(&seen.terminal) > 0.0)
        };
        let is_alone = intent.routes.iter().any(|route| !self.is_shared(route, color));
        let is_asked = |name: &String| serves(name) || (is_alone && self.before.as_ref() == Some(name));
        let serving: Vec<String> = intent.environments.keys().filter(|name| is_asked(name)).cloned().collect();
        let checks = serving.iter().flat_map(|name| self.subjects(name, Direction::Rollback));
        let known = checks.filter(|subject| self.world.mentions(&subject.group));
        let checks = known.map(|subject| health_check(intent, &self.measured(&subject, Direction::Rollback))).collect();
        self.push(checks);
        let steps = steps(&self.world);
        self.push(steps);
        self.converge();
        true
    }

    /// A route that isn't there yet, leading where those do that lead to the same target groups; none where there are none.
    pub(super) fn joined(&self, route: &RouteSpec) -> Option<Step> {
        let (intent, world) = (self.intent, &self.world);
        let model = self.model(route).filter(|_| !world.routes.contains_key(&route.key()))?;
        Some(route_steps::step((intent, world), route, None, with_all(intent, route, model)))
    }

    /// Where the routes lead that lead to the same target groups.
    pub(super) fn model(&self, route: &RouteSpec) -> Option<&Terminal> {
        let (intent, name) = (self.intent, self.intent.name(route));
        let has =
            |one: &Environment, seen: &Observed| one.group(name).is_some_and(|group| seen.terminal.share(group) > 0.0);
        let serves = |seen: &&Observed| intent.environments.values().any(|one| has(one, seen));
        let mut beside = intent.routes_of(name).filter_map(|route| self.world.routes.get(&route.key()));
        beside.find(serves).map(|seen| &seen.terminal)
    }
}

/// The step that takes back what a color has of a route beyond a limit; the others share that as they share the rest. Where it has
/// everything, the color before gets it.
fn less(
    (intent, world): (&Intent, &World),
    route: &RouteSpec,
    (color, from): (&str, Option<&str>),
    limit: Shift,
) -> Option<Step> {
    let seen = world.routes.get(&route.key())?;
    let group = intent.group(route, color)?;
    if seen.terminal.share(group) < limit.percent() + NEAR {
        return None;
    }
    if seen.terminal.serves_others(group) {
        return split(intent, world, route, color, limit);
    }
    let back = lead(intent, world, route, from?, (seen.terminal.stickiness(), false))?;
    let Step::Route { after, .. } = back else { return None };
    let mut between = world.clone();
    between.routes.insert(route.key(), Observed { terminal: after, ..seen.clone() });
    let Some(Step::Route { after, .. }) = split(intent, &between, route, color, limit) else { return None };
    Some(route_steps::step((intent, world), route, Some(seen), after))
}
