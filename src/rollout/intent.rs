//! What the user wants, free of Terraform and of AWS.

use std::collections::BTreeMap;
use std::time::Duration;

use super::capacity::{CapacityPolicy, Scalable};
use super::check::{Checking, HealthyPolicy};
use super::route::RouteSpec;
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
