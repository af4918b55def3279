//! Who gets traffic, and what is known of it before.

use super::{Gain, Kind, Purpose, Walk};
use crate::rollout::check::{Block, Check, Checking, Groups, Subject};
use crate::rollout::journal::StepId;
use crate::rollout::route::{NEAR, RouteSpec, Stickiness, Terminal};
use crate::rollout::runbook::{Convergence, Step, Waits, Watch};
use crate::rollout::situation;
use crate::rollout::world::World;

/// How much of a part is lost in rounding.
const ROUNDED: f64 = 0.011;

pub(super) fn judge(walk: &mut Walk<'_>) {
    if walk.purpose == Purpose::Removal {
        return;
    }
    checked_first(walk);
    watches(walk);
    arrival(walk);
    if walk.follows() {
        follower(walk);
    } else if walk.is_rollout() {
        rollout(walk);
    }
}

/// What gains traffic was checked before.
fn checked_first(walk: &mut Walk<'_>) {
    let mut found = Vec::new();
    let mut known: Vec<String> = Vec::new();
    for gain in walk.gains() {
        // Nobody knows the health of a group that is no color's.
        let is_served = walk.runbook.waits.is_some()
            && walk.intent.color_of(gain.group).is_none()
            && gain.before.is_some_and(|before| before.share(gain.group) > 0.0);
        // What a rehearsal leads back was there a moment ago.
        let is_back = walk.runbook.rehearsed == Some(gain.at.stage);
        if known.iter().any(|group| group == gain.group) || walk.is_exempt(&gain) || is_served || is_back {
            continue;
        }
        known.push(gain.group.to_owned());
        let name = walk.name(gain.group);
        let route = gain.route;
        let is_health = |checking: &Checking| matches!(checking.check, Check::Healthy(_));
        let about = validations(walk).filter(|(_, checking)| checking.subject.group == gain.group);
        let stages: Vec<usize> = about.filter(|(_, checking)| is_health(checking)).map(|(stage, _)| stage).collect();
        if !stages.iter().any(|stage| *stage < gain.at.stage) {
            let last = walk.production().map(|(id, ..)| id.stage).max().unwrap_or_default();
            if can_be_known(walk, &gain) {
                let message = format!("{route} would forward to {name} before the health of its targets is checked");
                found.push((Kind::TrafficBeforeChecks, gain.at, message));
            } else if !stages.iter().any(|stage| *stage > last) {
                let message = format!(
                    "{route} would forward to {name}, and the health of its targets would not be checked afterwards"
                );
                found.push((Kind::FirstColorNotProved, gain.at, message));
            }
        }
        if !is_whole(walk, &gain) {
            let message = format!("{route} would forward to {name} before all checks of validation were made");
            found.push((Kind::ValidationSkipped, gain.at, message));
        }
    }
    for (kind, at, message) in found {
        walk.find(kind, Some(at), message);
    }
}

/// Whether the load balancer checks a group's targets before it gains anything: some route has it from the beginning, or
/// one is given it first. A restoration knows only groups that were there.
fn can_be_known(walk: &Walk<'_>, gain: &Gain<'_>) -> bool {
    let given = walk.steps().filter(|(id, _)| id.stage < gain.at.stage);
    let is_given = |step: &Step| match step {
        Step::Route { route, after, .. } if walk.is_production(route) || walk.is_trial(route) => {
            after.mentions(gain.group)
        }
        _ => false,
    };
    !walk.is_rollout() || walk.before(0).mentions(gain.group) || given.map(|(_, step)| step).any(is_given)
}

/// The checks before traffic, with their stages.
fn validations<'a>(walk: &Walk<'a>) -> impl Iterator<Item = (usize, &'a Checking)> {
    walk.steps().filter_map(|(id, step)| match step {
        Step::Check(checking) if checking.block == Block::Validation => Some((id.stage, checking)),
        _ => None,
    })
}

/// Whether the user's checks are all made before a color gains anything. They are about colors, and one that a dead rollout
/// has not even left needs none.
fn is_whole(walk: &Walk<'_>, gain: &Gain<'_>) -> bool {
    let Some(color) = walk.intent.color_of(gain.group) else { return true };
    let world = walk.before(0);
    let left =
        situation::unfinished(walk.intent, world).filter(|lock_record| lock_record.from.as_deref() == Some(color));
    let environment = &walk.intent.environments[color];
    let is_back =
        left.is_some_and(|lock_record| lock_record.to.as_deref() != Some(color)) && walk.most(0, environment) > 0.0;
    // What serves beside a color that waits gets back what that one has beyond its part.
    let is_served = walk.runbook.waits.as_ref().is_some_and(|waits| waits.color != color);
    let is_made = |wanted: &Checking| {
        let is_about = |subject: &Subject| match wanted.check.groups() {
            Groups::Each => subject.group == gain.group,
            Groups::EachOfRequests | Groups::Named(_) | Groups::Any => subject.color == color,
        };
        // One of another target group says nothing of this one.
        let name = environment.name_of(gain.group).flatten();
        if matches!(wanted.check.groups(), Groups::Named(named) if name != Some(named)) {
            return true;
        }
        let mut made = validations(walk).filter(|(stage, _)| *stage < gain.at.stage);
        made.any(|(_, checking)| {
            checking.index == wanted.index && checking.check == wanted.check && is_about(&checking.subject)
        })
    };
    (walk.is_rollout() && (is_back || is_served)) || walk.intent.validation.checks.iter().all(is_made)
}

/// What is watched, and what the nodes are to converge to, is there.
fn watches(walk: &mut Walk<'_>) {
    for (id, step) in walk.steps() {
        let convergence = match step {
            Step::Watch(watch) if !is_led(walk, id, watch) => None,
            Step::Watch(watch) => watch.convergence.as_ref(),
            Step::Converge(convergence) => Some(convergence),
            _ => None,
        };
        if convergence.is_some_and(|it| !it.previews && !is_weighted_so(walk, id.stage, it)) {
            let message = format!("no route has the weights that the nodes are to converge to: {}", step.summary());
            walk.find(Kind::ConvergesToOtherWeights, Some(id), message);
        }
    }
}

/// Whether who is watched has traffic, as much as is said.
fn is_led(walk: &mut Walk<'_>, id: StepId, Watch { subject, percent, of_cohort, .. }: &Watch) -> bool {
    let color = &subject.color;
    // A cohort has it whole.
    let (percent, rules) = match of_cohort {
        true => (&100.0, walk.worlds[0].cohort.rules().collect()),
        false => (percent, walk.intent.routes.iter().collect::<Vec<_>>()),
    };
    let routes = rules.into_iter().filter_map(|route| walk.before(id.stage).routes.get(&route.key()));
    let shares: Vec<f64> = routes.map(|observed| observed.terminal.share(&subject.group)).collect();
    if shares.iter().all(|share| *share <= 0.0) {
        let message = format!("{color} would be watched, but no route forwards to it");
        walk.find(Kind::WatchWithoutTraffic, Some(id), message);
    } else if !shares.iter().any(|share| (share - percent).abs() < NEAR) {
        let most = shares.iter().copied().fold(0.0, f64::max);
        let message = format!("{color} would be watched at {percent} %, but gets {most:.1} % at most");
        walk.find(Kind::WatchAtOtherWeight, Some(id), message);
    } else {
        return true;
    }
    false
}

/// Whether some route has these weights before a stage.
fn is_weighted_so(walk: &Walk<'_>, stage: usize, convergence: &Convergence) -> bool {
    let mut routes = walk.intent.routes.iter().filter_map(|route| walk.before(stage).routes.get(&route.key()));
    routes.any(|observed| {
        convergence.shares.iter().all(|(color, share)| {
            let environment = walk.intent.environments.get(color);
            let now = environment.map_or(0.0, |one| one.share(&observed.terminal));
            (now - share * 100.0).abs() < ROUNDED
        })
    })
}

/// Where the traffic is in the end.
fn arrival(walk: &mut Walk<'_>) {
    let end = walk.end();
    let mut astray = Vec::new();
    if let Purpose::Restoration(originals) = walk.purpose {
        for (route, original) in originals {
            let now = end.routes.get(&route.key());
            let is_as_far_as_can_be =
                |now: &Terminal| now.is_same(original) || (now.shares_like(original) && must_stick(walk, now));
            if now.is_some_and(|now| !is_as_far_as_can_be(&now.terminal)) {
                astray.push(format!("{route} would not be as it was before the switch"));
            }
        }
    }
    if let Some(waits) = &walk.runbook.waits {
        astray.extend(walk.intent.routes.iter().filter_map(|route| not_up_to(walk, waits, route)));
    } else if let Some(color) = walk.target().filter(|_| !walk.follows()) {
        for route in &walk.intent.routes {
            let (now, group) = (end.routes.get(&route.key()), walk.intent.group(route, &color));
            if !now.zip(group).is_some_and(|(now, group)| now.terminal.share(group) > super::ALL) {
                astray.push(format!("{route} would not forward to {color} alone in the end"));
            }
        }
    }
    for message in astray {
        walk.find(Kind::NotArrived, None, message);
    }
}

/// How a route would not be where a rollout is to wait: it has just that part, and goes nowhere else where it wasn't.
fn not_up_to(walk: &Walk<'_>, waits: &Waits, route: &RouteSpec) -> Option<String> {
    let (was, now) = (walk.before(0).routes.get(&route.key()), walk.end().routes.get(&route.key())?);
    let group = walk.intent.group(route, &waits.color)?;
    let share = now.terminal.share(group);
    let is_there = (share - waits.percent()).abs() < NEAR;
    let stays = was.is_some_and(|was| was.terminal.shares_like(&now.terminal));
    (!is_there && !stays).then(|| {
        format!("{route} would forward {share:.1} % to {}, which is to wait at {} %", waits.color, waits.percent())
    })
}

/// What a switch without `active` leaves alone.
fn follower(walk: &mut Walk<'_>) {
    for (id, route, after) in walk.production().collect::<Vec<_>>() {
        let Some(now) = walk.before(id.stage).routes.get(&route.key()) else { continue };
        let (was, is) = (sticky(&now.terminal), sticky(after));
        let is_needed = was.is_none() && must_stick(walk, after);
        if !now.terminal.shares_like(after) || (was != is && !is_needed) {
            let message = format!("{route} would get other weights or stickiness, although active is omitted");
            walk.find(Kind::FollowerMovesTraffic, Some(id), message);
        }
    }
}

/// What a rollout to a named color keeps.
fn rollout(walk: &mut Walk<'_>) {
    let Some(color) = walk.target() else { return };
    for (id, route, after) in walk.production().collect::<Vec<_>>() {
        let Some(group) = walk.intent.group(route, &color) else { continue };
        let had = walk.before(id.stage).routes.get(&route.key()).map_or(0.0, |now| now.terminal.share(group));
        let share = after.share(group);
        let least = walk.runbook.waits.as_ref().map_or(100.0, Waits::percent);
        let is_rehearsed = walk.runbook.rehearsed == Some(id.stage);
        if share < had - ROUNDED && share < least - NEAR && !is_rehearsed {
            let message = format!("{color} would fall from {had:.1} % to {share:.1} % of {route}");
            walk.find(Kind::TargetLosesWeight, Some(id), message);
        }
    }
    // Where it waits, traffic is still split.
    for route in walk.intent.routes.iter().filter(|_| walk.runbook.waits.is_none()) {
        let key = route.key();
        let (was, now) = (may_be_sticky(walk, &key), walk.end().routes.get(&key));
        let is_needed = now.is_some_and(|now| was.contains(&None) && must_stick(walk, &now.terminal));
        if now.is_some_and(|now| !was.contains(&sticky(&now.terminal))) && !is_needed {
            let message =
                format!("the group stickiness of {route} would not be what it was before the traffic was split");
            walk.find(Kind::StickinessNotRestored, None, message);
        }
    }
}

/// How sticky a route may be in the end: as it was before a dead rollout where that one is not at its end, else as it is,
/// or was by the last that was written down.
fn may_be_sticky(walk: &Walk<'_>, key: &str) -> Vec<Option<Option<i32>>> {
    let world: &World = walk.before(0);
    let written = world.lock_record.as_ref().and_then(|lock_record| lock_record.origin(key, &walk.intent.environments));
    let written = written.map(|terminal| sticky(&terminal));
    let now = world.routes.get(key).and_then(|observed| sticky(&observed.terminal));
    match (written, situation::unfinished(walk.intent, world).is_some()) {
        (Some(written), true) => vec![written],
        (Some(written), false) => vec![written, now],
        (None, _) => vec![now],
    }
}

/// Whether AWS takes a forward only with group stickiness, as short as it is here.
fn must_stick(walk: &Walk<'_>, terminal: &Terminal) -> bool {
    let Terminal::Forward(forward) = terminal else { return false };
    let asked = forward.groups.iter().any(|(group, _)| walk.before(0).sticky.contains(group));
    asked && forward.groups.len() > 1 && matches!(sticky(terminal), Some(None | Some(1)))
}

/// The seconds of group stickiness where it is on.
fn sticky(terminal: &Terminal) -> Option<Option<i32>> {
    let on = terminal.stickiness().filter(|stickiness: &Stickiness| stickiness.enabled);
    on.map(|stickiness| stickiness.duration_seconds)
}
