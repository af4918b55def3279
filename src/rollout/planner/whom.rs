//! Whom checks are about, and by what that is measured.

use super::{Direction, Draft};
use crate::rollout::check::Subject;
use crate::rollout::route::RouteSpec;
use crate::rollout::situation::busiest_but;

impl Draft<'_> {
    /// By whom a color's health is measured: by the one that carries the most. A color that carries the most itself, or
    /// that carried everything before the rollout that is taken back, is measured by nobody: the way back from a canary is
    /// not barred by the canary.
    pub(super) fn measured(&self, subject: &Subject, direction: Direction) -> Subject {
        let share = |group: &str| {
            let seen = self.intent.routes.iter().filter_map(|route| self.world.routes.get(&route.key()));
            seen.map(|seen| seen.terminal.share(group)).sum::<f64>()
        };
        let carries_most = subject.live_group.as_deref().is_some_and(|live| share(&subject.group) >= share(live));
        if direction == Direction::Rollback || (direction == Direction::Return && carries_most) {
            return Subject { live_color: None, live_group: None, live_name: None, ..subject.clone() };
        }
        subject.clone()
    }

    /// Whom the checks of a color are about: each of its target groups that production traffic comes to.
    pub(super) fn subjects(&self, color: &str, direction: Direction) -> Vec<Subject> {
        let subject = |name: Option<&str>| {
            let routes: Vec<&RouteSpec> = self.intent.routes_of(name).collect();
            let group = self.intent.environments.get(color)?.group(name)?;
            Some(self.subject(color, group, &routes, direction))
        };
        self.intent.names().into_iter().filter_map(subject).collect()
    }

    /// Whom checks are about that are of no target group: the color, beside what serves by any route.
    pub(super) fn whole(&self, color: &str, direction: Direction) -> Subject {
        let names = self.intent.names();
        let name = names.iter().find(|name| name.is_none()).or(names.first()).copied().flatten();
        let group = self.intent.environments.get(color).and_then(|one| one.group(name)).unwrap_or_default();
        // What else leads there by the same name comes first.
        let mut routes: Vec<&RouteSpec> = self.intent.routes.iter().collect();
        routes.sort_by_key(|route| self.intent.name(route) != name);
        let subject = self.subject(color, group, &routes, direction);
        if subject.live_color.as_deref() != Some(color) {
            return subject;
        }
        // It is compared with no target group of its own.
        let own: Vec<&str> = self.intent.environments.get(color).map(|one| one.groups().collect()).unwrap_or_default();
        let now = busiest_but(self.intent, &self.world, &routes, &own);
        self.beside(subject, now)
    }

    pub(super) fn subject(&self, color: &str, group: &str, routes: &[&RouteSpec], direction: Direction) -> Subject {
        let first = routes.first();
        let from = self
            .world
            .lock_record
            .as_ref()
            .filter(|_| direction == Direction::Resume)
            .and_then(|lock_record| lock_record.from.as_ref());
        let from = from.zip(first).and_then(|(from, first)| self.intent.group(first, from)).map(str::to_owned);
        // Where a color moves from one of its target groups to another one it is measured by what it had.
        let from = from.filter(|from| from != group);
        let now = from.or_else(|| busiest_but(self.intent, &self.world, routes, &[group]));
        let subject = Subject {
            color: color.to_owned(),
            name: self.intent.environments.get(color).and_then(|one| one.name_of(group)?).map(str::to_owned),
            group: group.to_owned(),
            route: first.map(|route| route.arn().to_owned()),
            ..Subject::default()
        };
        self.beside(subject, now)
    }

    /// The same, measured by a target group.
    fn beside(&self, subject: Subject, live_group: Option<String>) -> Subject {
        let intent = self.intent;
        Subject {
            live_color: live_group.as_deref().and_then(|live| intent.color_of(live)).map(str::to_owned),
            live_name: live_group.as_deref().map(|live| intent.called(live)),
            live_group,
            ..subject
        }
    }
}
