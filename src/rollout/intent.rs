//! What the user wants, free of Terraform and of AWS.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::capacity::{CapacityPolicy, Scalable};
use super::check::{Checking, HealthyPolicy};
use super::runbook::OnFailure;
use super::strategy::{Strategy, Verification};
use super::world::Observed;
use crate::argument::Arguments;

/// The whole wish for one switch.
#[derive(Clone, Debug, PartialEq)]
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
}

impl Intent {
    /// The color that a target group belongs to.
    pub fn color_of(&self, arn: &str) -> Option<&str> {
        let mut environments = self.environments.iter();
        environments.find(|(_, environment)| environment.target_group_arn == arn).map(|(color, _)| color.as_str())
    }
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
    /// The ARN of its target group.
    pub target_group_arn: String,
    /// What runs there, in the user's words.
    pub release: Option<String>,
    /// What keeps its instances or tasks.
    pub scalable: Option<Scalable>,
}

/// A place on a load balancer that forwards to the colors.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteSpec {
    /// A listener's default action.
    Listener(String),
    /// A rule that somebody else made, by ARN.
    Rule(String),
    /// A rule that the switch makes and owns.
    OwnRule {
        /// The listener's ARN.
        listener: String,
        /// 1 to 50000, unique on the listener.
        priority: i32,
        /// What a request must match.
        conditions: Conditions,
        /// The ARN of the rule that the switch made, once it is known: it is that rule wherever people move it.
        arn: Option<String>,
    },
}

impl RouteSpec {
    /// Whether this rule is the one that the switch made, and not one that somebody put in its place.
    pub fn is_made(&self, seen: &Observed) -> bool {
        matches!(self, RouteSpec::OwnRule { arn: Some(arn), .. } if *arn == seen.arn)
    }

    /// A name that stays the same as long as it is the same route.
    pub fn key(&self) -> String {
        match self {
            RouteSpec::Listener(arn) | RouteSpec::Rule(arn) => arn.clone(),
            RouteSpec::OwnRule { listener, priority, .. } => format!("{listener}#{priority}"),
        }
    }
}

impl fmt::Display for RouteSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteSpec::Listener(arn) => write!(f, "listener {}", short(arn)),
            RouteSpec::Rule(arn) => write!(f, "rule {}", short(arn)),
            RouteSpec::OwnRule { listener, priority, .. } => {
                write!(f, "rule {priority} of listener {}", short(listener))
            }
        }
    }
}

/// What a person tells resources apart by: `web/f2f7dc8efc522ab2` for a listener of the load balancer `web`, the name of
/// a target group, the end of any other ARN.
pub fn short(arn: &str) -> String {
    let Some(resource) = arn.splitn(6, ':').nth(5) else { return arn.to_owned() };
    let parts: Vec<&str> = resource.split('/').collect();
    match parts.as_slice() {
        ["listener" | "listener-rule", _, name, .., id] => format!("{name}/{id}"),
        ["targetgroup", name, _] => (*name).to_owned(),
        _ => resource.to_owned(),
    }
}

/// What a request must match to take a rule. A request matches if it matches every kind that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Arguments)]
#[arguments(change = InPlace)]
pub struct Conditions {
    /// Host names, any of which matches; `*` and `?` are wildcards.
    pub host_headers: Vec<String>,
    /// Paths, any of which matches; `*` and `?` are wildcards.
    pub path_patterns: Vec<String>,
    /// HTTP methods, any of which matches.
    pub http_request_methods: Vec<String>,
    /// Networks of clients in CIDR notation, any of which matches.
    pub source_ips: Vec<String>,
    /// HTTP headers by name, each with values, any of which matches.
    pub http_headers: BTreeMap<String, Vec<String>>,
    /// Query parameters by key, each with its value. All have to match.
    pub query_strings: BTreeMap<String, String>,
}

impl Conditions {
    /// With the values of each kind in order: they are alternatives, so their order means nothing.
    #[must_use]
    pub fn sorted(mut self) -> Conditions {
        let plain =
            [&mut self.host_headers, &mut self.path_patterns, &mut self.http_request_methods, &mut self.source_ips];
        for values in plain.into_iter().chain(self.http_headers.values_mut()) {
            values.sort();
        }
        self
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
