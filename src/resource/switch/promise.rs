//! What a plan promised: an apply moves traffic only where its plan said so.

use std::fmt::Write as _;

use crate::rollout::{Intent, RouteSpec, Runbook, Step, Terminal, World, short, terminal_words};
use crate::tf_provider::{Diagnostics, Path};

/// Where the plan saw the traffic.
pub(super) struct Promise<'a> {
    /// What the last refresh before the plan saw.
    pub world: &'a World,
    /// What was configured then.
    pub prior: &'a Intent,
    /// Whether the plan could tell its steps. Where it could not, a target group may have been made anew in this apply.
    pub is_known: bool,
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
            terminal_words(terminal, |arn| intent.color_of(arn).or_else(|| self.prior.color_of(arn)))
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
        if is.is_some_and(|is| is.shares_like(was)) || (!self.is_known && self.was_replaced(was, intent)) {
            return None;
        }
        Some((route, was, is))
    }

    /// Whether a color that had a part of this traffic has another target group by now.
    fn was_replaced(&self, was: &Terminal, intent: &Intent) -> bool {
        let mut had = self.prior.environments.iter().filter(|(_, one)| was.mentions(&one.target_group_arn));
        had.any(|(color, before)| {
            let now = intent.environments.get(color).map(|one| one.target_group_arn.as_str());
            let replaced = now != Some(before.target_group_arn.as_str());
            if replaced {
                tracing::info!(
                    color,
                    group = short(&before.target_group_arn),
                    "its target group was made anew since the plan"
                );
            }
            replaced
        })
    }
}
