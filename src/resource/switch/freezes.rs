//! Times in which no rollout may begin. A way back may at any time.

use std::time::SystemTime;

use super::model;
use super::private_state::PrivateState;
use crate::argument::Field as _;
use crate::rollout::freeze::Freeze;
use crate::rollout::lock_record::Status;
use crate::rollout::{Intent, NEAR, Runbook, Step, World, situation};
use crate::run::rollout::events::rfc3339;
use crate::tf_provider::{Diagnostics, Path, Value};

/// What is wrong with the times themselves, each by itself.
pub(super) fn validate(config: &Value, diagnostics: &mut Diagnostics) {
    let windows = config.get("freeze").as_list().unwrap_or_default().iter().enumerate();
    for (n, window) in windows.filter(|(_, window)| window.as_map().is_some()) {
        let path = Path::attribute("freeze").index(n);
        let (set, none) = (|name: &str| window.get(name).is_set(), |name: &str| window.get(name).is_null());
        if set("cron") && set("from") || none("cron") && none("from") {
            let detail = format!(
                "{path}: set either cron and duration, for what comes again and again, or from and until, for what comes once."
            );
            diagnostics.error_at(path.clone(), "A freeze needs cron or from", detail);
        }
        let window = Freeze::read(&window.known_json());
        if let Some(path) = window.filter(Freeze::is_empty).map(|_| path.attr("until")) {
            let detail = format!("{path} is not after from: the freeze would be over before it begins.");
            diagnostics.error_at(path, "The freeze ends before it begins", detail);
        }
        for (name, needed) in [("cron", "duration"), ("from", "until")] {
            if set(name) && none(needed) {
                let detail = format!("{path} has {name}, and no {needed}: it would never end.");
                diagnostics.error_at(path.attr(needed), format!("{needed} is missing"), detail);
            }
        }
    }
}

/// Tells if a rollout would begin at a time in which none may; whether it is refused. The way back is open: from, and on with, what did not
/// come to its end, to less than there is, and to a color that runs what it ran when it was live.
pub(super) fn bars(
    config: &Value,
    (intent, world, runbook): (&Intent, &World, &Runbook),
    memory: &PrivateState,
    now: SystemTime,
    diagnostics: &mut Diagnostics,
) -> bool {
    let Some((n, window, until)) = self::now(config, now) else { return false };
    let Some(color) = begins(intent, world, runbook).filter(|color| !memory.has_served(color, intent)) else {
        return false;
    };
    let why = window.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let path = Path::attribute("freeze").index(n);
    let serves =
        situation::current(intent, world).live.map(|live| format!(" {live} serves as before.")).unwrap_or_default();
    let back = unknown_way_back(intent, &color);
    let detail = format!(
        "{path} lets no rollout begin until {}{why}, and this one would lead users to {color}. Nothing was changed.{serves} Wait until then, or set freeze = [] for this run, if it can't wait.{back}",
        rfc3339(until)
    );
    diagnostics.error_at(path, "No rollout may begin now", detail);
    true
}

/// Why what may be a way back isn't known to be one.
pub(super) fn unknown_way_back(intent: &Intent, color: &str) -> &'static str {
    match intent.environments.get(color).is_some_and(|one| one.release.is_some()) {
        true => "",
        false => {
            " Whether this is the way back to what was live is only known where environments tell the release of each color."
        }
    }
}

/// The freeze that it is by then, which of them, and when it ends; of several the longest.
pub(super) fn now(config: &Value, now: SystemTime) -> Option<(usize, Freeze, SystemTime)> {
    let windows: Vec<Freeze> = model::read(config, "freeze").unwrap_or_default();
    let ends = windows.into_iter().enumerate().filter_map(|(n, window)| {
        let until = window.until(now)?;
        Some((n, window, until))
    });
    ends.max_by_key(|(.., until)| *until)
}

/// The color that gets more users than it has beside others that have some, unless that is a way back.
pub(super) fn begins(intent: &Intent, world: &World, runbook: &Runbook) -> Option<String> {
    let color = situation::target_color(intent, world).filter(|_| intent.active.is_some())?;
    // What stopped half-way is open in both directions; what waits for a person begins with that person's word.
    let is_open = situation::unfinished(intent, world).is_some_and(|left| {
        left.from.as_ref() == Some(&color) || (left.to.as_ref() == Some(&color) && left.status != Status::Waiting)
    });
    // What it had until somebody moved it is put right.
    let waited = situation::begun(intent, world).and_then(|left| left.waiting.as_ref()).map(|waiting| waiting.percent);
    let is_right = waited.zip(runbook.waits.as_ref()).is_some_and(|(waited, waits)| waits.percent() < waited + NEAR);
    let gains = runbook.steps().any(|(id, step)| {
        let Step::Route { route, before: Some(before), after, .. } = step else { return false };
        let is_ours = intent.routes.contains(route) && !runbook.taken_over.contains(&id);
        let group = intent.group(route, &color);
        is_ours
            && group.is_some_and(|group| {
                before.terminal.serves_others(group) && after.gives_more(group, Some(&before.terminal))
            })
    });
    (gains && !is_open && !is_right).then_some(color)
}
