//! Where the rules of a cohort stand, and the steps that lead it.

use std::collections::BTreeSet;

use super::{Draft, Refusal, route_steps};
use crate::rollout::check::Subject;
use crate::rollout::intent::Intent;
use crate::rollout::processing::Processing;
use crate::rollout::route::{ALL, Conditions, Forward, LAST_PRIORITY, Observed, RouteSpec, Terminal};
use crate::rollout::runbook::{Convergence, Runbook, Step, Watch, terminal_summary};
use crate::rollout::situation::{leads_only_to, target_color};
use crate::rollout::world::World;

/// The listeners whose rules have to be looked at for a cohort: where a rollout is to lead one, or an earlier one may have left
/// its rule.
pub fn cohort_listeners(intent: &Intent, world: &World, runbook: &Runbook) -> Vec<String> {
    let production: BTreeSet<String> = intent.routes.iter().map(RouteSpec::key).collect();
    let moves =
        runbook.steps().any(|(_, step)| matches!(step, Step::Route { route, .. } if production.contains(&route.key())));
    let is_asked = intent.strategy.cohort.is_some() && (moves || world.lock_record.is_some());
    let own = intent.routes.iter().filter(|route| is_asked && !route.is_network()).map(RouteSpec::listener);
    let noted = world.cohort.noted_rules().map(|rule| rule.listener());
    own.chain(noted).collect::<BTreeSet<String>>().into_iter().collect()
}

impl Draft<'_> {
    /// Leads the cohort to the color and stays there, before the first step.
    pub(super) fn lead_cohort(&mut self, color: &str, subjects: &[Subject]) {
        let intent = self.intent;
        // Whoever follows leads nobody.
        let Some(cohort) = intent.strategy.cohort.as_ref().filter(|_| intent.active.is_some()) else { return };
        let (mut steps, mut led) = (Vec::new(), BTreeSet::new());
        for route in &intent.routes {
            let Some(place) = self.world.cohort.places.get(&route.key()) else { continue };
            // Whoever has nothing else already needs no rule to be led there.
            let Some(group) = intent.group(route, color).filter(|_| self.share(route, color) < ALL) else { continue };
            let rule = match place {
                Ok(rule) => rule,
                Err(why) => {
                    let refusal = || Refusal::NoCohort { route: Box::new(route.clone()), why: why.clone() };
                    self.refused.get_or_insert_with(refusal);
                    continue;
                }
            };
            let after = Terminal::Forward(Forward { groups: vec![(group.to_owned(), 1)], stickiness: None });
            let mut step = route_steps::step((intent, &self.world), rule, self.world.routes.get(&rule.key()), after);
            if let Step::Route { words, .. } = &mut step {
                words.push_str(&format!(", for the cohort of {route}"));
            }
            led.insert(group.to_owned());
            if !step.holds(&self.world) {
                steps.push(step);
            }
        }
        self.push(steps);
        let led: Vec<Subject> = subjects.iter().filter(|subject| led.contains(&subject.group)).cloned().collect();
        if led.is_empty() {
            return;
        }
        self.has_cohort = true;
        let settle = intent.strategy.settle;
        // What answers without being of the cohort tells nothing of it.
        let convergence = (!settle.is_zero()).then(|| Convergence { settle, ..Convergence::default() });
        let watch = self.watch(&led, 0.0, cohort.hold);
        self.push(vec![Step::Watch(Watch { of_cohort: true, convergence, ..watch })]);
    }

    /// The rules that an earlier rollout made for a cohort are this one's to take back.
    pub(super) fn cohort_left(&self) -> Vec<Step> {
        let step = |rule: &RouteSpec| {
            let after = self.world.routes.get(&rule.key())?.terminal.clone();
            let words = format!("{}, for a cohort, as an earlier rollout left it", {
                terminal_summary(&after, |arn| self.intent.called(arn))
            });
            Some(Step::Route { route: rule.clone(), before: None, after, words })
        };
        self.world.cohort.rules().filter_map(step).collect()
    }

    /// Once all users are led by the routes, or none is any more, the cohort goes with them. It stays with the color as long as that waits.
    pub(super) fn dismiss(&mut self) {
        if self.runbook.waits.is_some() && self.intent.strategy.cohort.is_some() {
            return;
        }
        let steps = self.world.cohort.rules().filter_map(|rule| route_steps::remove(&self.world, rule)).collect();
        self.push(steps);
    }
}

/// A listener as a cohort's rules have to know it.
#[derive(Clone, Copy, Debug)]
pub struct Listener<'a> {
    /// Its ARN.
    pub arn: &'a str,
    /// Its rules with their places, without its default action.
    pub rules: &'a [Observed],
    /// The ARNs of rules that are known to be somebody else's, whatever they look like.
    pub foreign: &'a [String],
}

impl Listener<'_> {
    /// Whether a rule may be one that an earlier rollout made for a cohort: no route of the switch, and nobody else's.
    fn may_be_ours(&self, intent: &Intent, world: &World, rule: &Observed) -> bool {
        let mut wanted = intent.routes.iter().chain(&intent.preview_routes);
        leads_only_to(&intent.environments, rule)
            && !self.foreign.contains(&rule.arn)
            && !wanted.any(|route| world.routes.get(&route.key()).is_some_and(|seen| seen.arn == rule.arn))
    }

    /// One of its rules as a route of the switch's own.
    fn route(&self, rule: &Observed) -> RouteSpec {
        let of = (rule.conditions.clone().unwrap_or_default(), rule.processing.clone().unwrap_or_default());
        own_rule(self.arn, stands(rule), of, Some(&rule.arn))
    }
}

/// The world with what a listener's rules tell of a cohort's: where each would stand, and what an earlier run left.
///
/// A cohort's rule takes of a route's requests those of the cohort, and no other rule's: it stands between the route and what
/// comes before that. Only routes of the switch that have a rule of the cohort, too, may be in between.
#[must_use]
pub fn placed(intent: &Intent, world: World, listener: Listener<'_>) -> World {
    let mut world = world;
    let own: Vec<&RouteSpec> =
        intent.routes.iter().filter(|route| !route.is_network() && route.listener() == listener.arn).collect();
    let mut cohort = world.cohort.clone();
    cohort.places.retain(|key, _| !own.iter().any(|route| route.key() == *key));
    cohort.left.retain(|rule| rule.listener() != listener.arn);
    let mut wanted: Vec<Wanted> = own.iter().filter_map(|route| Wanted::of(intent, &world, listener, route)).collect();
    // Of two routes with the same conditions each has a rule of its own.
    let mut met: BTreeSet<&str> = BTreeSet::new();
    wanted.iter_mut().for_each(|one| one.found = one.found.filter(|rule| met.insert(&rule.arn)));
    let found: Vec<&Observed> = wanted.iter().filter_map(|one| one.found).collect();
    let noted = noted(intent, &world, listener).into_iter().filter(|rule| !found.iter().any(|one| one.arn == rule.arn));
    let noted: Vec<&Observed> = noted.collect();
    for rule in found.iter().chain(&noted) {
        world.routes.insert(listener.route(rule).key(), (*rule).clone());
    }
    let there = [found, noted].concat();
    let mut placed = places(intent, listener, &wanted, &there);
    // One that an earlier rollout made may stand where there was room for it then, and for no other one now.
    if placed.iter().any(|(_, place)| place.is_err()) {
        wanted.iter_mut().for_each(|one| one.found = None);
        placed = places(intent, listener, &wanted, &there);
    }
    cohort.places.extend(placed);
    let used: Vec<String> = cohort.rules().map(RouteSpec::key).collect();
    let unused = there.iter().map(|rule| listener.route(rule)).filter(|rule| !used.contains(&rule.key()));
    let unused: Vec<RouteSpec> = unused.collect();
    cohort.left.extend(unused);
    world.cohort = cohort;
    world
}

/// The world where a listener's rules could not be seen, for this reason.
#[must_use]
pub fn unplaced(intent: &Intent, world: World, listener: &str, why: &str) -> World {
    let mut world = world;
    if intent.strategy.cohort.is_some() {
        let own = intent.routes.iter().filter(|route| !route.is_network() && route.listener() == listener);
        let places = own.map(|route| (route.key(), Err(format!("the rules of its listener can't be seen: {why}"))));
        world.cohort.places.extend(places);
    }
    world
}

/// A route that a rule of the cohort goes before.
struct Wanted<'a> {
    key: String,
    /// Where it stands: after all rules, where it is the default action.
    stands: i32,
    /// Which requests the rule takes, and what it does with them before it forwards.
    rule: Result<(Conditions, Processing), String>,
    /// The rule that is there already.
    found: Option<&'a Observed>,
    /// Whether the route has users whom a rule is still to lead.
    is_needed: bool,
}

impl<'a> Wanted<'a> {
    /// None for a route that has no users whom a rule could lead.
    fn of(intent: &Intent, world: &World, listener: Listener<'a>, route: &RouteSpec) -> Option<Wanted<'a>> {
        let cohort = intent.strategy.cohort.as_ref()?;
        let seen = world.routes.get(&route.key())?;
        if !matches!(seen.terminal, Terminal::Forward(_)) {
            return None;
        }
        let of = |conditions: &Conditions| cohort.of_route(conditions);
        let own = listener.rules.iter().find(|rule| rule.arn == seen.arn);
        let (stands, conditions) = match (route, own) {
            (RouteSpec::Listener(_), _) => (LAST_PRIORITY + 1, of(&Conditions::default())),
            (_, Some(rule)) => {
                let unknown = "its conditions have a kind that this provider does not know".to_owned();
                (stands(rule), rule.conditions.as_ref().ok_or(unknown).and_then(of))
            }
            (_, None) => (0, Err("it is not among the rules of its listener".to_owned())),
        };
        let rule = conditions.and_then(|conditions| Ok((conditions, same(intent, route, own.unwrap_or(seen))?)));
        let is_it = |seen: &&Observed| {
            let is_so = |(conditions, processing): &(Conditions, Processing)| {
                // Which secret one has that an earlier rollout left, nobody tells.
                let is_known = processing.secret().is_none();
                seen.conditions.as_ref() == Some(conditions) && seen.processing.as_ref() == Some(processing) && is_known
            };
            rule.as_ref().is_ok_and(is_so) && listener.may_be_ours(intent, world, seen)
        };
        let found = listener.rules.iter().find(is_it);
        let target = target_color(intent, world);
        let group = target.as_deref().and_then(|color| intent.group(route, color));
        let is_needed = group.is_some_and(|group| seen.terminal.share(group) < ALL);
        Some(Wanted { key: route.key(), stands, rule, found, is_needed })
    }
}

/// What a rule before a route has to do with a request before it forwards: the same, or the cohort would come in without it.
fn same(intent: &Intent, route: &RouteSpec, seen: &Observed) -> Result<Processing, String> {
    let unknown = "it does something with a request before it forwards that this provider does not know";
    // What changes with this very release, it does from the first moment.
    let (_, processing) = route_steps::processed(intent, route, seen).ok_or(unknown)?;
    if processing.secret().is_some_and(|secret| secret.text.is_empty()) {
        let why = "it lets users sign in with a client secret (authenticate-oidc) that AWS tells nobody, and a rule for the cohort needs the same. Of a rule that the switch made with authenticate_oidc it is known once an apply has written it";
        return Err(why.to_owned());
    }
    Ok(processing)
}

/// Rules that a dead rollout noted to make for its cohort, as far as they are there and nobody else's.
fn noted<'a>(intent: &Intent, world: &World, listener: Listener<'a>) -> Vec<&'a Observed> {
    let is_noted = |rule: &Observed| world.cohort.noted.contains(&listener.route(rule).key());
    let is_left = |rule: &&Observed| is_noted(rule) && listener.may_be_ours(intent, world, rule);
    listener.rules.iter().filter(is_left).collect()
}

/// Where each rule stands, or is to.
fn places(
    intent: &Intent,
    listener: Listener<'_>,
    wanted: &[Wanted<'_>],
    met: &[&Observed],
) -> Vec<(String, Result<RouteSpec, String>)> {
    let is_met = |rule: &Observed| met.iter().any(|met| met.arn == rule.arn);
    let has_cohort =
        |rule: &Observed| wanted.iter().any(|one| one.is_needed && one.rule.is_ok() && one.stands == stands(rule));
    let is_nobody = |rule: &Observed| rule.conditions.as_ref().is_some_and(Conditions::is_nobody);
    let barring: Vec<i32> = listener
        .rules
        .iter()
        .filter(|rule| !is_met(rule) && !has_cohort(rule) && !is_nobody(rule))
        .map(stands)
        .collect();
    let configured = intent.routes.iter().chain(&intent.preview_routes).map(RouteSpec::key);
    let configured: Vec<String> = configured.collect();
    let mut taken: Vec<i32> = listener.rules.iter().map(stands).collect();
    let mut order: Vec<&Wanted<'_>> = wanted.iter().filter(|one| one.is_needed || one.found.is_some()).collect();
    order.sort_by_key(|one| std::cmp::Reverse(one.stands));
    let (mut places, mut before) = (Vec::new(), LAST_PRIORITY + 1);
    for one in order {
        let place = match (&one.rule, one.found) {
            (Err(why), _) => Err(why.clone()),
            (Ok(of), Some(rule)) => Ok(own_rule(listener.arn, stands(rule), of.clone(), Some(&rule.arn))),
            (Ok(of), None) => {
                let after = barring.iter().copied().filter(|bar| *bar < one.stands).max().unwrap_or_default();
                let is_free = |priority: &i32| {
                    let key = own_rule(listener.arn, *priority, Default::default(), None).key();
                    !taken.contains(priority) && !configured.contains(&key)
                };
                let mut between = after + 1..one.stands.min(before);
                // What others add to a listener goes after its last rule: there is to be room.
                let last = taken.iter().copied().filter(|priority| *priority < one.stands).max().unwrap_or_default();
                let found = if one.stands > LAST_PRIORITY {
                    (last.max(after) + 1..before).find(is_free).or_else(|| between.rfind(is_free))
                } else {
                    between.rfind(is_free)
                };
                found.map(|priority| own_rule(listener.arn, priority, of.clone(), None)).ok_or_else(|| {
                    let between = format!("no priority is free between it and the rule before it, which has {after}");
                    if after == 0 { "no priority is free before it".to_owned() } else { between }
                })
            }
        };
        if let Ok(RouteSpec::OwnRule { priority, .. }) = &place {
            taken.push(*priority);
            before = before.min(*priority);
        }
        places.push((one.key.clone(), place));
    }
    places
}

fn stands(rule: &Observed) -> i32 {
    rule.place.as_ref().map_or(LAST_PRIORITY + 1, |place| place.priority)
}

fn own_rule(
    listener: &str,
    priority: i32,
    (conditions, processing): (Conditions, Processing),
    arn: Option<&String>,
) -> RouteSpec {
    let (listener, processing) = (listener.to_owned(), Box::new(processing));
    RouteSpec::OwnRule { listener, priority, conditions, processing, arn: arn.cloned() }
}
