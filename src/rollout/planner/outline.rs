//! What a rollout will do as far as its intent alone tells, in words.

use super::route_steps::about;
use crate::duration::shown;
use crate::rollout::capacity::Before;
use crate::rollout::check::{Block, Check, Checking, Subject};
use crate::rollout::intent::Intent;
use crate::rollout::route::RouteSpec;
use crate::rollout::runbook::Waits;
use crate::rollout::situation::idle;

/// The steps in words, as far as the intent alone tells them: whatever the world is like, these hold.
pub fn outline(intent: &Intent) -> Vec<String> {
    let Some(color) = intent.active.as_deref() else {
        let join = |route: &RouteSpec| format!("add the colors that {route} lacks, at weight 0");
        let record = intent.record.iter().map(|name| format!("create {name} with the live color, if it isn't there"));
        return intent.routes.iter().map(join).chain(record).collect();
    };
    let share = |color: &str| {
        let part = |name: &String| format!("{name} {} %", if name == color { 100 } else { 0 });
        intent.environments.keys().map(part).collect::<Vec<_>>().join(", ")
    };
    let mut words: Vec<String> = Vec::new();
    match intent.capacity.map(|policy| policy.before) {
        Some(Before::MatchLive) => words.push(format!("raise {color} to the size of the live color, if it is smaller")),
        Some(Before::Number(number)) => words.push(format!("raise {color} to {number}, if it is smaller")),
        None => {}
    }
    let subject = |name: Option<&str>| Subject {
        color: color.to_owned(),
        name: name.map(str::to_owned),
        route: intent.routes_of(name).next().map(RouteSpec::key),
        ..Subject::default()
    };
    let subjects: Vec<Subject> = intent.names().into_iter().map(subject).collect();
    let healthy = Checking {
        block: Block::Validation,
        index: None,
        subject: Subject::default(),
        check: Check::Healthy(intent.validation.healthy.clone()),
    };
    let whole = Subject { color: color.to_owned(), ..Subject::default() };
    let checks = [&[healthy], intent.validation.checks.as_slice()].concat();
    let checks = about(intent, &checks, (&subjects, &whole));
    words.extend(
        checks
            .iter()
            .map(|checking| format!("check that {}, unless it has all the traffic already", checking.summary())),
    );
    if !intent.preview_routes.is_empty() && !intent.validation.checks.is_empty() && !intent.strategy.settle.is_zero() {
        let settle = shown(intent.strategy.settle);
        words.push(format!("lead the preview routes to {color} and give them {settle} to settle, before those checks"));
    }
    if intent.strategy.rehearse {
        words.push(format!("lead 1 % of the traffic to {color} and back, unless {color} has traffic already"));
    }
    words.extend(intent.strategy.cohort.iter().map(|cohort| {
        format!("lead the cohort to {color} for {}, unless {color} has traffic already", shown(cohort.hold))
    }));
    let limit = intent.strategy.up_to;
    for shift in intent.strategy.steps.iter().filter(|shift| limit.is_none_or(|limit| shift.permille < limit)) {
        let (percent, hold) = (shift.percent(), shown(shift.hold));
        words.push(format!("lead {percent} % of the traffic to {color} for {hold}, unless it has more already"));
    }
    if let Some(permille) = limit {
        let waits = Waits { color: color.to_owned(), permille, approval: intent.strategy.approval.clone() };
        words.push(format!("{}, where another color has traffic; else:", waits.summary()));
    }
    words.extend(intent.routes.iter().map(|route| format!("set {route}: {}", share(color))));
    if let Some(verification) = intent.verification.as_ref().filter(|one| !one.duration.is_zero()) {
        let duration = shown(verification.duration);
        words.push(format!("watch {color} at 100 % for {duration}, unless it has all the traffic already"));
    }
    words.extend(intent.record.iter().map(|name| format!("write {name}: {color}")));
    if let Some(idle) = idle(&intent.environments, color) {
        words.extend(intent.preview_routes.iter().map(|route| format!("set {route}: {}", share(idle))));
    }
    words.extend(intent.removed.iter().map(|route| format!("delete {route}")));
    words
}
