//! What a plan promised: an apply moves traffic only where its plan said so.

use std::fmt::Write as _;

use crate::rollout::{Intent, RouteSpec, Runbook, Step, Terminal, World, label, labeled, terminal_summary};
use crate::tf_provider::{Diagnostics, Path};

/// Where the plan saw the traffic.
pub(super) struct Promise<'a> {
    /// What the last refresh before the plan saw.
    pub world: &'a World,
    /// What was configured then.
    pub prior: &'a Intent,
}

impl Promise<'_> {
    /// Tells if an apply would move traffic that was elsewhere when it was planned; whether it is refused.
    pub fn bars(
        &self,
        name: &str,
        (intent, world, runbook): (&Intent, &World, &Runbook),
        diagnostics: &mut Diagnostics,
    ) -> bool {
        let changed: Vec<(&RouteSpec, &Terminal, Option<&Terminal>)> =
            intent.routes.iter().filter_map(|route| self.changed(route, intent, world)).collect();
        let moves = |route: &RouteSpec| {
            runbook.steps().any(|(_, step)| match step {
                Step::Route { route: own, before, after, .. } if own.key() == route.key() => {
                    before.as_ref().is_none_or(|before| !before.terminal.shares_like(after))
                }
                _ => false,
            })
        };
        if !changed.iter().any(|(route, ..)| moves(route)) {
            return false;
        }
        let mut text = "The traffic is not where it was when this was planned, so that this apply would move it in another way than the plan says. Nothing was changed.\n".to_owned();
        let words = |terminal: &Terminal| {
            terminal_summary(terminal, |arn| {
                if intent.color_of(arn).is_some() { intent.called(arn) } else { self.prior.called(arn) }
            })
        };
        for (route, was, is) in changed {
            let is = is.map_or_else(|| "not there".to_owned(), words);
            let _ = write!(text, "\n  {route}: {} when it was planned, {is} now", words(was));
        }
        if let (Some(record), Some(says)) = (&intent.record, &world.record) {
            let _ = write!(text, "\nThe record {record} says {says}.");
        }
        text.push_str(
            "\n\nNext: find out who moved it (another pipeline, another Terraform, a person), then plan again and read what the plan says.",
        );
        diagnostics.error_at(
            Path::attribute("routes"),
            format!("The traffic of {name} was moved since the plan"),
            text,
        );
        true
    }

    /// A route that led elsewhere when it was planned: where it led, and where it leads.
    fn changed<'w>(
        &'w self,
        route: &'w RouteSpec,
        intent: &Intent,
        world: &'w World,
    ) -> Option<(&'w RouteSpec, &'w Terminal, Option<&'w Terminal>)> {
        let was = &self.world.routes.get(&route.key())?.terminal;
        let is = world.routes.get(&route.key()).map(|seen| &seen.terminal);
        let is_as_planned = is.is_some_and(|is| is.shares_like(was) || self.is_detached(was, is, intent));
        (!is_as_planned).then_some((route, was, is))
    }

    /// Whether a route is as it was but for target groups that were made anew since: an environment that goes is taken out
    /// of its routes, and where nothing is left they answer 503.
    fn is_detached(&self, was: &Terminal, is: &Terminal, intent: &Intent) -> bool {
        let Terminal::Forward(forward) = was else { return false };
        let gone = |group: &str| {
            let known_by = label(&self.prior.environments, group);
            known_by.and_then(|label| labeled(&intent.environments, &label)).is_some_and(|now| now != group)
        };
        let mut left = forward.clone();
        left.groups.retain(|(group, _)| !gone(group));
        if left.groups.len() == forward.groups.len() {
            return false;
        }
        let serves = left.groups.iter().any(|(_, weight)| *weight > 0);
        match is {
            Terminal::FixedResponse { status, .. } => !serves && status == "503",
            other => serves && other.shares_like(&Terminal::Forward(left)),
        }
    }
}
