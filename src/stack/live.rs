//! Whether a color serves users, read off the routes that lead to its target group.

use crate::rollout::{Conditions, Observed, RouteSpec, Terminal};

/// A route that has a color's target group in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Lead {
    /// The route.
    pub route: RouteSpec,
    /// What it does now.
    pub observed: Observed,
    /// Percent of its requests that go to the group.
    pub share: f64,
    /// Whether the group is the only one there: then nothing is left when it is taken out.
    pub alone: bool,
    /// Whether it is a switch's preview, which no user comes by.
    pub preview: bool,
    /// Whether it is a rule that no request matches.
    pub nobody: bool,
}

impl Lead {
    /// Whether users get there. A group alone in a route is taken to serve whatever its weight says.
    pub fn is_live(&self) -> bool {
        !self.preview && !self.nobody && (self.share > 0.0 || self.alone)
    }

    /// Whether it is the rule that an environment of this name made, so that its targets are checked. A switch makes such rules,
    /// too.
    pub fn makes_known(&self, name: &str) -> bool {
        self.observed.conditions.as_ref().is_some_and(|conditions| conditions.is_nobody_of(name))
    }

    /// The forward without the group, for taking it out where it has weight 0; none where nothing would be left.
    pub fn without(&self, group: &str) -> Option<Terminal> {
        let Terminal::Forward(forward) = &self.observed.terminal else { return None };
        let mut forward = forward.clone();
        forward.groups.retain(|(arn, _)| arn != group);
        let serves = forward.groups.iter().any(|(_, weight)| *weight > 0);
        serves.then_some(Terminal::Forward(forward))
    }
}

/// The routes by which users get to the color, in words; none if there are none.
pub fn live_by(leads: &[Lead]) -> Option<String> {
    let live = leads.iter().filter(|lead| lead.is_live());
    let words: Vec<String> =
        live.map(|lead| format!("{} ({})", lead.route, percent(if lead.alone { 100.0 } else { lead.share }))).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// A share that is never rounded to nothing or to all.
fn percent(share: f64) -> String {
    let places = if share < 0.1 || (share > 99.9 && share < 100.0) { 2 } else { 1 };
    let text = format!("{share:.places$}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match text {
        "0" if share > 0.0 => "less than 0.01 %".to_owned(),
        "100" if share < 100.0 => "more than 99.99 %".to_owned(),
        text => format!("{text} %"),
    }
}

/// The routes that have this group in them.
pub fn leads(group: &str, routes: impl IntoIterator<Item = (RouteSpec, Observed)>) -> Vec<Lead> {
    let of = routes.into_iter().filter(|(_, observed)| observed.terminal.mentions(group));
    of.map(|(route, observed)| {
        let share = observed.terminal.share(group);
        let groups = match &observed.terminal {
            Terminal::Forward(forward) => forward.groups.as_slice(),
            _ => &[],
        };
        let alone = groups.iter().all(|(arn, _)| arn == group);
        let nobody = observed.conditions.as_ref().is_some_and(Conditions::is_nobody);
        Lead { route, observed, share, alone, preview: false, nobody }
    })
    .collect()
}
