//! What the user wants, free of Terraform and of AWS.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::capacity::{CapacityPolicy, Scalable};
use super::check::{Checking, HealthyPolicy};
use super::processing::Processing;
use super::route::{RouteSpec, Terminal, called, short};
use super::strategy::{Strategy, Verification};

/// The whole wish for one switch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Intent {
    /// The switch's name.
    pub name: String,
    /// The color that is to be live; none: whichever is.
    pub active: Option<String>,
    /// The colors by name, two to five.
    pub environments: BTreeMap<String, Environment>,
    /// Where traffic comes from, in the order of the configuration.
    pub routes: Vec<RouteSpec>,
    /// Routes that always lead to the idle color.
    pub preview_routes: Vec<RouteSpec>,
    /// The names of the target groups that routes lead to, by the keys of the routes; one that isn't here leads to the colors'
    /// `target_group_arn`.
    pub names: BTreeMap<String, String>,
    /// The name of the SSM parameter that holds the live color.
    pub record: Option<String>,
    /// What must hold before a color goes live.
    pub validation: Validation,
    /// In which steps traffic moves.
    pub strategy: Strategy,
    /// What must hold while it does, and afterwards.
    pub verification: Option<Verification>,
    /// Group stickiness while traffic is split; none: as it is.
    pub stickiness: Option<Duration>,
    /// What happens when something does not hold.
    pub on_failure: OnFailure,
    /// What happens when the run is stopped.
    pub on_interrupt: OnFailure,
    /// How large the colors shall be; none: as they are.
    pub capacity: Option<CapacityPolicy>,
    /// Rules of our own that are no longer wanted.
    pub removed: Vec<RouteSpec>,
    /// What the switch made its own rules do with requests, by the keys of the routes, with secrets as far as they are known.
    pub processed: BTreeMap<String, Processing>,
    /// Target groups that a rollout that went back left out of actions with group stickiness, by the keys of the routes. Clients' cookies
    /// may still name them, so that they join again only when they are to get traffic.
    pub left_out: BTreeMap<String, BTreeSet<String>>,
}

impl Intent {
    /// Whether a way back left a target group out of some action.
    pub fn is_left_out(&self, group: &str) -> bool {
        self.left_out.values().any(|out| out.contains(group))
    }

    /// The color that a target group belongs to.
    pub fn color_of(&self, arn: &str) -> Option<&str> {
        owner(&self.environments, arn).map(|(color, _)| color)
    }

    /// Which of its target groups a color has for a route.
    pub fn group(&self, route: &RouteSpec, color: &str) -> Option<&str> {
        self.environments.get(color)?.group(self.name(route))
    }

    /// The name of the target groups that a route leads to; none for the colors' `target_group_arn`.
    pub fn name(&self, route: &RouteSpec) -> Option<&str> {
        self.names.get(&route.key()).map(String::as_str)
    }

    /// The names of the target groups that production traffic comes to, in the order of the routes.
    pub fn names(&self) -> Vec<Option<&str>> {
        let mut names: Vec<Option<&str>> = Vec::new();
        for name in self.routes.iter().map(|route| self.name(route)) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The routes of production that lead to the target groups of this name.
    pub fn routes_of<'i>(&'i self, name: Option<&'i str>) -> impl Iterator<Item = &'i RouteSpec> {
        self.routes.iter().filter(move |route| self.name(route) == name)
    }

    /// What a target group is called, by its color and its name: `green`, `green (api)`; by its own for one that is no color's.
    pub fn called(&self, arn: &str) -> String {
        owner(&self.environments, arn).map_or_else(|| short(arn), |(color, name)| called(color, name))
    }

    /// The target groups of all colors.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.environments.values().flat_map(Environment::groups)
    }
}

/// Whose a target group is, and its name there where it has one.
fn owner<'e>(environments: &'e BTreeMap<String, Environment>, arn: &str) -> Option<(&'e str, Option<&'e str>)> {
    environments.iter().find_map(|(color, one)| Some((color.as_str(), one.name_of(arn)?)))
}

/// What a target group is kept by, whatever its ARN is by then: its color, and its name where it has one.
pub fn label(environments: &BTreeMap<String, Environment>, arn: &str) -> Option<String> {
    let (color, name) = owner(environments, arn)?;
    Some(name.map_or_else(|| color.to_owned(), |name| format!("{color}/{name}")))
}

/// The target group that is kept by this label. No color has a `/` in it.
pub fn labeled<'e>(environments: &'e BTreeMap<String, Environment>, label: &str) -> Option<&'e str> {
    let (color, name) = label.split_once('/').map_or((label, None), |(color, name)| (color, Some(name)));
    environments.get(color)?.group(name)
}

/// What goes with a switch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Removal {
    /// Rules that the switch made.
    pub own_rules: Vec<RouteSpec>,
    /// The record's name and what it shall say; none to delete it.
    pub record: Option<(String, Option<String>)>,
}

/// One color.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Environment {
    /// The ARN of the target group of routes that name none.
    pub target_group_arn: String,
    /// The ARNs of its further target groups by name.
    pub target_groups: BTreeMap<String, String>,
    /// What runs there, in the user's words.
    pub release: Option<String>,
    /// What keeps its instances or tasks.
    pub scalable: Option<Scalable>,
}

impl Environment {
    /// Its target groups.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.target_group_arn).chain(self.target_groups.values()).map(String::as_str)
    }

    /// Its target group of that name; without one, that of routes that name none.
    pub fn group(&self, name: Option<&str>) -> Option<&str> {
        match name {
            Some(name) => self.target_groups.get(name).map(String::as_str),
            None => Some(&self.target_group_arn),
        }
    }

    /// Whether a target group is one of its own.
    pub fn has(&self, arn: &str) -> bool {
        self.name_of(arn).is_some()
    }

    /// The name of one of its target groups, if it has one; none for any other group.
    pub fn name_of(&self, arn: &str) -> Option<Option<&str>> {
        let named = self.target_groups.iter().find(|(_, group)| *group == arn);
        named.map(|(name, _)| Some(name.as_str())).or_else(|| (self.target_group_arn == arn).then_some(None))
    }

    /// The percentage of requests that an action leads to it, by whichever of its target groups.
    pub fn share(&self, terminal: &Terminal) -> f64 {
        self.groups().map(|group| terminal.share(group)).sum()
    }
}

/// What must hold before a color goes live.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Validation {
    /// How many of its targets must be healthy.
    pub healthy: HealthyPolicy,
    /// What else; the subjects are filled in when the runbook is made.
    pub checks: Vec<Checking>,
}

/// What happens when a rollout can't go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// What was done is undone.
    #[default]
    Rollback,
    /// It stays as it is then, all routes alike: where some of them moved in the last step, those go back one step.
    Hold,
    /// Everything stays to the letter.
    Leave,
}
