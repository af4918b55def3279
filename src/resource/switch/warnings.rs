//! What a plan says before a rollout that would be learnt at night otherwise.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::{Shared, budgets, credentials, foresight};
use crate::duration::shown;
use crate::resource::capitalized as sentence;
use crate::rollout::lock_record::Status;
use crate::rollout::{
    Check, Intent, LockRecord, OnTimeout, Processing, RouteSpec, Runbook, Step, Terminal, World, called, short,
    situation,
};
use crate::run::rollout::events::rfc3339;
use crate::run::rollout::ports::{GroupFacts, ListenerFacts};
use crate::tf_provider::{Diagnostics, Path, Value};

/// Tells what is unwise about a rollout that moves traffic, as far as it can be seen. What can't be read is left out: a
/// warning is worth no failure.
pub(super) async fn tell(
    shared: &Shared,
    config: &Value,
    (intent, world, runbook): (&Intent, &World, &Runbook),
    diagnostics: &mut Diagnostics,
) {
    let moves = runbook.steps().any(|(_, step)| matches!(step, Step::Route { .. }));
    let followed = intent.active.is_none();
    let left = situation::unfinished(intent, world).map(|lock_record| (lock_record, false));
    let left = left.or_else(|| situation::overtaken(intent, world).map(|lock_record| (lock_record, true)));
    // One that waits for a person is where it was told to be, and goes on or back as it is told.
    let is_told = |(left, overtaken): &(&LockRecord, bool)| {
        let active = intent
            .active
            .as_ref()
            .filter(|active| left.to.as_ref() == Some(active) || left.from.as_ref() == Some(active));
        left.status == Status::Waiting && !overtaken && active.is_some()
    };
    if let Some((lock_record, overtaken)) = left.filter(|left| !is_told(left) && (followed || !runbook.is_empty())) {
        unfinished(lock_record, intent, overtaken, diagnostics);
    }
    waiting((intent, world), runbook, diagnostics);
    held_sizes(intent, world, diagnostics);
    unheld(shared, intent, !moves, diagnostics);
    needed_stickiness(intent, world, runbook, diagnostics);
    who_asks(shared, intent, runbook, diagnostics).await;
    unknown_processing(intent, world, diagnostics);
    credentials::warn(shared, runbook, diagnostics).await;
    let Some(color) = situation::target_color(intent, world).filter(|_| moves && intent.active.is_some()) else {
        return;
    };
    let live = situation::current(intent, world).live.filter(|live| *live != color);
    let splits =
        !intent.strategy.steps.is_empty() || intent.strategy.up_to.is_some() || intent.strategy.cohort.is_some();
    let is_rollout = runbook.steps().any(|(_, step)| matches!(step, Step::Check(_)));
    if !is_rollout || live.is_none() {
        return;
    }
    let mut facts: BTreeMap<&str, GroupFacts> = BTreeMap::new();
    for group in groups_in_use(intent) {
        match shared.ports.load_balancer.group_facts(group).await {
            Ok(seen) => drop(facts.insert(group, seen)),
            Err(error) => tracing::warn!(%error, "the target group's attributes can't be read"),
        }
    }
    if splits || intent.verification.is_some() {
        slow_to_leave(intent, &facts, diagnostics);
        sticky(intent, world, diagnostics);
        nothing_watches(config, diagnostics);
    }
    unrehearsed(intent, world, diagnostics);
    unseen_failures(shared, config, intent, diagnostics).await;
    slow_alarms(shared, intent, &color, diagnostics).await;
    foresight::tell(shared, runbook, diagnostics).await;
    budgets::tell(shared, runbook, diagnostics).await;
    for (group, facts) in &facts {
        thresholds(&intent.called(group), facts, diagnostics);
    }
    smaller(shared, intent, (&color, live.as_deref()), &facts, diagnostics).await;
}

/// Routes whose clients would not come back from a rehearsal.
fn unrehearsed(intent: &Intent, world: &World, diagnostics: &mut Diagnostics) {
    if !intent.strategy.rehearse || situation::unfinished(intent, world).is_some() {
        return;
    }
    let is_sticky = |route: &&RouteSpec| world.routes.get(&route.key()).is_some_and(|seen| seen.terminal.is_sticky());
    let kept: Vec<String> = intent.routes.iter().filter(is_sticky).map(RouteSpec::to_string).collect();
    if !kept.is_empty() {
        let detail = format!(
            "{} keeps its clients at a color (group stickiness), so that those who were led there would not come back. It is left out of the rehearsal: whether it can be led back is only known when it has to be.",
            kept.join(", ")
        );
        let path = Path::attribute("strategy").attr("rehearse");
        diagnostics.warning_at(path, "The way back is not rehearsed everywhere", detail);
    }
}

/// What waits for a person, and what becomes of it.
fn waiting((intent, world): (&Intent, &World), runbook: &Runbook, diagnostics: &mut Diagnostics) {
    let (Some((left, waiting)), Some(approval)) = (situation::waiting(intent, world), &intent.strategy.approval) else {
        return;
    };
    let (to, from) = (left.to.as_deref().unwrap_or_default(), left.from.as_deref());
    let back = from.map(|from| format!(" To go back: set active to {from:?}.")).unwrap_or_default();
    let go_on = format!("To go on: raise strategy.up_to, or leave it out.{back}");
    let waits = format!("The rollout {}waits {}", left.way(), waiting.summary());
    let timeout = shown(approval.timeout.unwrap_or_default());
    let late = format!("{waits}, which is longer than {timeout}.");
    let (summary, detail) = match situation::overdue(intent, world) {
        Some(OnTimeout::Rollback) => (
            "Nobody approved in time",
            format!(
                "{late} on_timeout is \"rollback\": this apply leads all traffic back to {}, and then fails, so that nobody takes it for done. {go_on}",
                from.unwrap_or("where it was")
            ),
        ),
        Some(OnTimeout::Continue) => (
            "Nobody approved in time",
            format!(
                "{late} on_timeout is \"continue\": this apply leads all traffic to {to}, from the checks on.{back}"
            ),
        ),
        Some(OnTimeout::Hold) => ("Nobody approved in time", format!("{late} It waits on. {go_on}")),
        None if runbook.is_empty() => {
            let until = waiting.until.as_ref().map(|until| format!(", until {until}")).unwrap_or_default();
            ("A rollout waits for an approval", format!("{waits}{until}. {go_on}"))
        }
        None => return,
    };
    diagnostics.warning_at(Path::attribute("strategy").attr("approval"), summary, detail);
}

fn unfinished(lock_record: &LockRecord, intent: &Intent, overtaken: bool, diagnostics: &mut Diagnostics) {
    let what = lock_record.summary();
    let last =
        if lock_record.phase.is_empty() { String::new() } else { format!(" It said last: {}.", lock_record.phase) };
    let goes = match (&intent.active, &lock_record.from, &lock_record.to) {
        _ if overtaken && intent.active.is_some() => {
            "somebody has moved the traffic since: this apply starts from what is there, and goes back to there if it fails."
        }
        (None, ..) => "this apply moves no traffic, since active is omitted: set it to go on, or to go back.",
        (Some(active), _, Some(to)) if active == to => "this apply goes on from there, with the same step again.",
        (Some(active), Some(from), _) if active == from => "this apply takes it back, all at once.",
        _ => "this apply starts from what is there.",
    };
    let (summary, detail) = match lock_record.status {
        Status::Held => {
            ("A rollout was held", format!("{} stopped in place.{last} {}", sentence(&what), sentence(goes)))
        }
        Status::Waiting => {
            ("A rollout waits for a person", format!("{} waits.{last} {}", sentence(&what), sentence(goes)))
        }
        Status::Stuck => (
            "A rollout could not go back",
            format!("{} failed, and could not be taken back.{last} {}", sentence(&what), sentence(goes)),
        ),
        Status::Unknown => (
            "A rollout ended in doubt",
            format!(
                "{} failed, and a call of it was not answered, which may have had its effect since.{last} {}",
                sentence(&what),
                sentence(goes)
            ),
        ),
        Status::Running | Status::Free => (
            "A rollout has not ended",
            format!(
                "{} is under way, or was killed.{last} As long as it lives, this apply will be refused. If it is dead, {goes}",
                sentence(&what)
            ),
        ),
    };
    diagnostics.warning_at(Path::attribute("active"), summary, detail);
}

/// What a killed rollout holds is not given back by an apply that changes no size.
fn held_sizes(intent: &Intent, world: &World, diagnostics: &mut Diagnostics) {
    if intent.active.is_some() || intent.capacity.is_none() {
        return;
    }
    for (color, size) in &world.capacities {
        let (Some(min), Some(own)) = (size.min, size.pinned) else { continue };
        let detail = format!(
            "A rollout that did not come to its end holds the minimum of {color} at {min}; its own is {own}. With active omitted no apply changes a size. Set active to the color that is live: then it is given back."
        );
        diagnostics.warning_at(Path::attribute("capacity"), format!("The minimum of {color} is still held"), detail);
    }
}

/// The minimum of a service can't be held.
pub(super) fn unheld(shared: &Shared, intent: &Intent, is_idle: bool, diagnostics: &mut Diagnostics) {
    if intent.capacity.is_none() || intent.active.is_none() {
        return;
    }
    for (color, environment) in &intent.environments {
        let why = environment.scalable.as_ref().and_then(|scalable| shared.ports.capacities.unheld(scalable, is_idle));
        let Some(why) = why else { continue };
        let detail = format!(
            "{why}.\n\nThe size of {color} is set all the same. But if Application Auto Scaling keeps its service, it may scale it in while a rollout gives it little traffic. Allow application-autoscaling:DescribeScalableTargets and RegisterScalableTarget, and ecs:TagResource and UntagResource; where nothing scales the service, this means nothing."
        );
        let path = Path::attribute("capacity");
        diagnostics.warning_at(path, format!("The minimum of {color}'s service is not held"), detail);
    }
}

/// Where AWS wants clients kept at a group that nobody asked to be kept, that is told.
fn needed_stickiness(intent: &Intent, world: &World, runbook: &Runbook, diagnostics: &mut Diagnostics) {
    let mut routes: Vec<&RouteSpec> = Vec::new();
    for (_, step) in runbook.steps() {
        let Step::Route { route, before, after: Terminal::Forward(forward), .. } = step else { continue };
        let was_on = before.as_ref().is_some_and(|before| before.terminal.is_sticky());
        let is_needed = forward.groups.iter().any(|(group, _)| world.sticky.contains(group));
        if is_needed && forward.is_sticky() && !was_on && intent.stickiness.is_none() && !routes.contains(&route) {
            routes.push(route);
        }
    }
    let Some(first) = routes.first() else { return };
    let keeping = world.sticky.iter().map(|group| intent.called(group)).collect::<Vec<_>>().join(" and ");
    let verb = if world.sticky.len() == 1 { "keeps" } else { "keep" };
    let names = routes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let how = if first.is_network() {
        "A Network Load Balancer knows no time for it: clients that it has seen stay at their group, whatever its weight is"
    } else {
        "It is set for 1s, the shortest time, so that clients follow the weights"
    };
    let detail = format!(
        "The target group of {keeping} {verb} clients at a target (its own stickiness). AWS lets an action forward to several groups then only with group stickiness, so it is turned on for {names}. {how}."
    );
    diagnostics.warning_at(Path::attribute("routes"), "The routes get group stickiness", detail);
}

/// The target groups of all colors that production traffic comes to.
fn groups_in_use(intent: &Intent) -> impl Iterator<Item = &str> {
    let names = intent.names();
    intent.environments.values().flat_map(move |one| names.clone().into_iter().filter_map(|name| one.group(name)))
}

/// Traffic that somebody leads back after each apply is moved by two hands, and flips with every other apply.
pub(super) fn taken_back(times: &[u64], (intent, runbook): (&Intent, &Runbook), diagnostics: &mut Diagnostics) {
    let moves = |step: &Step| matches!(step, Step::Route { route, .. } if intent.routes.contains(route));
    let (Some(first), true) = (times.first(), times.len() > 1) else { return };
    if !runbook.steps().any(|(_, step)| moves(step)) {
        return;
    }
    let since = rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(*first));
    let detail = format!(
        "{} times since {since} somebody led the traffic away from where an apply of this switch had led it, and this apply leads it there once more: it flips as long as two hands move it. Find the other one. A listener or rule of another provider needs `lifecycle {{ ignore_changes = [default_action] }}` (`[action]` for a rule). Where that can't be set, as in somebody else's module, give this switch a rule of its own in front of it: listener_arn, a low priority, and conditions = {{ path_patterns = [\"/*\"] }}. A pipeline that moves weights has to stop, or active has to be omitted.",
        times.len()
    );
    diagnostics.warning_at(Path::attribute("routes"), "The traffic is led back again and again", detail);
}

/// What a rule does of a kind that isn't known can't be changed without losing it: it stays, and traffic moves all the same.
fn unknown_processing(intent: &Intent, world: &World, diagnostics: &mut Diagnostics) {
    for (list, routes) in [("routes", &intent.routes), ("preview_routes", &intent.preview_routes)] {
        for (n, route) in routes.iter().enumerate() {
            let is_wished = route.processing().is_some_and(|wished| *wished != Processing::default());
            let is_unknown = world.routes.get(&route.key()).is_some_and(|seen| seen.processing.is_none());
            if is_wished && is_unknown {
                let path = Path::attribute(list).index(n);
                let detail = format!(
                    "{path}: {route} does something with requests before it forwards that this provider does not know, so that authentication and rewrites stay as they are there. Take it away by hand, or leave them out of this route."
                );
                diagnostics.warning_at(path, "The rule does something unknown", detail);
            }
        }
    }
}

/// A rule of our own that finds out who is asking needs a listener on which AWS lets it; one that doesn't lets everybody pass, also
/// where the listener's own action doesn't.
async fn who_asks(shared: &Shared, intent: &Intent, runbook: &Runbook, diagnostics: &mut Diagnostics) {
    for (list, routes) in [("routes", &intent.routes), ("preview_routes", &intent.preview_routes)] {
        for (n, route) in routes.iter().enumerate() {
            let RouteSpec::OwnRule { listener, processing, .. } = route else { continue };
            // What it does by then, as far as this apply has a hand in it.
            let by_then = runbook.steps().find_map(|(_, step)| match step {
                Step::Route { route: made, before: None, .. } if made == route => Some(processing.as_ref()),
                Step::Processing { route: made, after, .. } if made == route => Some(after),
                _ => None,
            });
            let Some(processing) = by_then else { continue };
            let ListenerFacts { authentication, protocol } =
                match shared.ports.load_balancer.listener_facts(listener).await {
                    Ok(facts) => facts,
                    Err(error) => {
                        tracing::warn!(%error, "it can't be seen whether the listener authenticates");
                        continue;
                    }
                };
            let (path, shown) = (Path::attribute(list).index(n), RouteSpec::Listener(listener.clone()));
            match (&processing.authentication, authentication, protocol) {
                (Some(own), _, Some(protocol)) if protocol != "HTTPS" => {
                    let detail = format!(
                        "{path}: {shown} speaks {protocol}, and AWS takes {} only on HTTPS listeners. This would be refused when the rule is to be made.",
                        own.kind()
                    );
                    diagnostics.error_at(path, "The listener can't authenticate", detail);
                }
                (None, Some(how), _) => {
                    let detail = format!(
                        "{path}: the default action of {shown} has {how} before it forwards, and {route}, which this apply makes or changes, has nothing before: whoever matches its conditions gets to the colors without it. If that is not meant, write authenticate_oidc, authenticate_cognito or jwt_validation in the route."
                    );
                    diagnostics.warning_at(path, "The rule does not authenticate as its listener does", detail);
                }
                _ => {}
            }
        }
    }
}

/// A color whose instances leave while requests are under way answers longer than the rollout watches.
fn slow_to_leave(intent: &Intent, facts: &BTreeMap<&str, GroupFacts>, diagnostics: &mut Diagnostics) {
    let Some(hold) = shortest_hold(intent) else { return };
    let slow = facts.iter().filter_map(|(group, facts)| {
        let delay = facts.deregistration_delay.filter(|delay| *delay > hold)?;
        Some(format!("{} for up to {}", intent.called(group), shown(delay)))
    });
    let slow: Vec<String> = slow.collect();
    if slow.is_empty() {
        return;
    }
    let detail = format!(
        "Targets that are taken out go on with their requests: those of {} (deregistration_delay). The shortest hold is {}: what replaced targets still answer is seen after the step has passed. Hold longer, or lower the delay.",
        slow.join(", of "),
        shown(hold)
    );
    diagnostics.warning_at(Path::attribute("strategy"), "The deregistration delay is longer than a hold", detail);
}

/// The shortest time that a step is watched for, the last one's among them.
fn shortest_hold(intent: &Intent) -> Option<Duration> {
    let steps = intent.strategy.steps.iter().map(|step| step.hold).filter(|hold| !hold.is_zero()).min();
    let last = intent.verification.as_ref().map(|one| one.duration).filter(|duration| !duration.is_zero());
    steps.into_iter().chain(last).chain(intent.strategy.cohort.as_ref().map(|cohort| cohort.hold)).min()
}

/// An alarm that takes longer to go off than a hold takes has nothing to say of it.
async fn slow_alarms(shared: &Shared, intent: &Intent, color: &str, diagnostics: &mut Diagnostics) {
    let (Some(verification), Some(hold)) = (&intent.verification, shortest_hold(intent)) else { return };
    for checking in &verification.checks {
        let Check::Alarms(check) = &checking.check else { continue };
        // Who can't read them is told by the check.
        let Ok(seen) = shared.ports.monitoring.alarms(&check.for_color(color).names).await else { continue };
        for alarm in seen {
            let Some(least) = alarm.least.filter(|least| *least > hold) else { continue };
            let detail = format!(
                "verification.alarms: {} goes off when something has lasted for {} at least, and the shortest hold is {}: of what begins in that hold it says nothing before the hold is over. Hold longer, or take an alarm with a shorter period or fewer datapoints.",
                alarm.name,
                shown(least),
                shown(hold)
            );
            let path = Path::attribute("verification").attr("alarms");
            diagnostics.warning_at(path, "An alarm is slower than a hold", detail);
        }
    }
}

/// Clients that are kept at a color don't follow the weights.
fn sticky(intent: &Intent, world: &World, diagnostics: &mut Diagnostics) {
    let Some(hold) = intent.strategy.steps.iter().map(|step| step.hold).min() else { return };
    let own = intent.stickiness.filter(|own| *own > hold);
    let of_route = intent.routes.iter().find_map(|route| {
        let seen = world.routes.get(&route.key())?.terminal.stickiness().filter(|one| one.enabled)?;
        let seconds = u64::try_from(seen.duration_seconds?).ok()?;
        (seconds > hold.as_secs()).then(|| (Duration::from_secs(seconds), route.to_string()))
    });
    let (duration, whose, path) = match (own, of_route) {
        (Some(own), _) => (own, "stickiness.duration".to_owned(), "stickiness"),
        (None, Some((duration, route))) => (duration, format!("the stickiness of {route}"), "routes"),
        (None, None) => return,
    };
    let detail = format!(
        "{whose} keeps a client at its color for {}, and the shortest step holds for {}: who came before a step stays where they are, so a step's share is reached by new clients only, and those on a color with weight 0 may stay there until it lapses.",
        shown(duration),
        shown(hold)
    );
    diagnostics.warning_at(Path::attribute(path), "Clients stick longer than a step holds", detail);
}

fn nothing_watches(config: &Value, diagnostics: &mut Diagnostics) {
    if config.get("verification").is_null() {
        let detail = "Traffic moves in steps, and nothing is watched while it does: the steps only delay it. Add verification with metrics, alarms, http or healthy.";
        diagnostics.warning_at(Path::attribute("strategy"), "Nothing is verified", detail);
    }
}

/// A gRPC call that fails is a request that was answered with 200 to the load balancer.
async fn unseen_failures(shared: &Shared, config: &Value, intent: &Intent, diagnostics: &mut Diagnostics) {
    let mut rates = Vec::new();
    for block in ["validation", "verification"] {
        let metrics = config.get(block).get("metrics").as_list().unwrap_or_default().iter().enumerate();
        let of_rate = metrics.filter(|(_, metric)| metric.get("metric").as_str() == Some("error_rate"));
        rates.extend(of_rate.map(|(n, _)| Path::attribute(block).attr("metrics").index(n)));
    }
    if rates.is_empty() {
        return;
    }
    let groups: Vec<String> = groups_in_use(intent).map(str::to_owned).collect();
    let speaking = match shared.ports.load_balancer.speaking_grpc(&groups).await {
        Ok(speaking) => speaking,
        Err(error) => {
            tracing::warn!(%error, "it can't be seen what the target groups speak");
            return;
        }
    };
    let colors: Vec<String> = speaking.iter().map(|group| intent.called(group)).collect();
    if colors.is_empty() {
        return;
    }
    let verb = if colors.len() == 1 { "speaks" } else { "speak" };
    for path in rates {
        let detail = format!(
            "{path}: {} {verb} gRPC, where a call that fails is answered with the HTTP status 200 and says so in its trailers. The load balancer counts it as a success, and error_rate stays at 0. Judge such calls by a query over metrics of your own, by alarms, or by a command.",
            colors.join(" and ")
        );
        diagnostics.warning_at(path, "error_rate does not see gRPC calls that fail", detail);
    }
}

fn thresholds(name: &str, facts: &GroupFacts, diagnostics: &mut Diagnostics) {
    let path = || Path::attribute("environments");
    if let Some(below) = facts.fail_open_below.as_deref().filter(|below| *below != "1") {
        let detail = format!(
            "The target group of {name} fails open below {below} healthy targets (target_group_health.unhealthy_state_routing): then the load balancer sends requests to unhealthy ones too. Set validation.healthy.min_count above that."
        );
        diagnostics.warning_at(path(), format!("{name} fails open early"), detail);
    }
    if let Some(below) = facts.dns_failover_below.as_deref().filter(|below| *below != "1") {
        let detail = format!(
            "Below {below} healthy targets in {name}'s target group Route 53 takes the whole load balancer for unhealthy (target_group_health.dns_failover), also while {name} is idle. Set minimum_healthy_targets_count to \"off\" there."
        );
        diagnostics.warning_at(path(), format!("{name} can take the load balancer out of DNS"), detail);
    }
}

/// A color with fewer targets than the live one carries less; one without any can take the load balancer out of DNS.
async fn smaller(
    shared: &Shared,
    intent: &Intent,
    (color, live): (&str, Option<&str>),
    facts: &BTreeMap<&str, GroupFacts>,
    diagnostics: &mut Diagnostics,
) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for group in groups_in_use(intent) {
        if let Ok(targets) = shared.ports.load_balancer.target_health(group, false).await {
            counts.insert(group, targets.len());
        }
    }
    for of in intent.names() {
        let count = |color: &str| counts.get(intent.environments.get(color)?.group(of)?).copied();
        let (Some(own), Some(of_live), Some(live)) = (count(color), live.and_then(count), live) else { continue };
        if own >= of_live || (intent.capacity.is_some() && of.is_none()) {
            continue;
        }
        let (small, live) = (called(color, of), called(live, of));
        // A color has one thing that capacity sizes.
        let cure = match of {
            None => format!("; capacity = {{ before = \"match_live\" }} makes {color} as large first"),
            Some(_) => {
                "; capacity sizes what autoscaling_group_name or service_arn names, and targets that are none of it stay as many"
                    .to_owned()
            }
        };
        let detail = format!(
            "{small} has {own} registered targets, {live} has {of_live}. validation.healthy.min_percent_of_live ({} %) decides whether that is enough{cure}.",
            intent.validation.healthy.min_percent_of_live
        );
        diagnostics.warning_at(Path::attribute("environments"), format!("{small} is smaller than {live}"), detail);
    }
    for (group, count) in counts {
        let set_off = facts.get(group).is_some_and(|facts| facts.dns_failover_below.is_none());
        let name = intent.called(group);
        if count == 0 && !set_off {
            let detail = format!(
                "The target group of {name} ({}) has no target. With an alias record that evaluates target health, Route 53 takes the whole load balancer for unhealthy while one of its groups is empty, also at weight 0. Set target_group_health.dns_failover.minimum_healthy_targets_count to \"off\" on it.",
                short(group)
            );
            diagnostics.warning_at(Path::attribute("environments"), format!("{name} is empty"), detail);
        }
    }
}
