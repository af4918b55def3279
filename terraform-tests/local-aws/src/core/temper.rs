//! The temper of AWS: what it refuses and moto lets pass. Every rule is on unless a test turns it off by name.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// A rule of AWS's, with where it is written in the README of this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Requests keep AWS's own service models.
    ServiceModel,
    /// An action with several groups keeps clients at a group where one of them keeps them at a target.
    GroupStickiness,
    /// A load balancer has 100 rules at most, its default ones not counted.
    RulesPerLoadBalancer,
    /// An action has five groups at most.
    GroupsPerAction,
    /// A group is of one load balancer alone.
    OneLoadBalancerPerGroup,
    /// Only listeners with TLS find out who asks, and an identity provider wants a secret.
    Authentication,
    /// The reads after something was made, or deleted, may not see that yet.
    LateReads,
    /// The nodes of a load balancer follow one after the other.
    LateNodes,
    /// Metrics arrive late, errors before requests.
    LateMetrics,
    /// A change is refused now and then because another one is under way.
    Contention,
    /// Credentials that have ended are refused.
    ExpiredToken,
    /// There are so many calls a second, and no more.
    Throttling,
}

impl Rule {
    /// Every rule.
    pub const ALL: [Rule; 12] = [
        Rule::ServiceModel,
        Rule::GroupStickiness,
        Rule::RulesPerLoadBalancer,
        Rule::GroupsPerAction,
        Rule::OneLoadBalancerPerGroup,
        Rule::Authentication,
        Rule::LateReads,
        Rule::LateNodes,
        Rule::LateMetrics,
        Rule::Contention,
        Rule::ExpiredToken,
        Rule::Throttling,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Rule::ServiceModel => "service-model",
            Rule::GroupStickiness => "group-stickiness",
            Rule::RulesPerLoadBalancer => "rules-per-load-balancer",
            Rule::GroupsPerAction => "groups-per-action",
            Rule::OneLoadBalancerPerGroup => "one-load-balancer-per-group",
            Rule::Authentication => "authentication",
            Rule::LateReads => "late-reads",
            Rule::LateNodes => "late-nodes",
            Rule::LateMetrics => "late-metrics",
            Rule::Contention => "contention",
            Rule::ExpiredToken => "expired-token",
            Rule::Throttling => "throttling",
        }
    }
}

impl std::str::FromStr for Rule {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|rule| rule.name() == name).ok_or_else(|| format!("the rules are {}", known()))
    }
}

/// Which rules are on, what broke AWS's service models so far, and what was asked too often.
#[derive(Debug, Default)]
pub(crate) struct Temper {
    off: BTreeSet<Rule>,
    violations: Mutex<Vec<String>>,
    throttled: Mutex<BTreeMap<String, usize>>,
}

impl Temper {
    pub(crate) fn without(off: BTreeSet<Rule>) -> Self {
        Self { off, ..Self::default() }
    }

    pub(crate) fn has(&self, rule: Rule) -> bool {
        !self.off.contains(&rule)
    }

    pub(crate) fn note(&self, violation: String) {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).push(violation);
    }

    pub(crate) fn note_throttled(&self, operation: &str) {
        let mut throttled = self.throttled.lock().unwrap_or_else(PoisonError::into_inner);
        *throttled.entry(operation.to_owned()).or_default() += 1;
    }

    pub(crate) fn throttled(&self) -> BTreeMap<String, usize> {
        self.throttled.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What broke a model, which is forgotten by that: whoever broke it on purpose has seen it.
    pub(crate) fn violations(&self) -> Vec<String> {
        std::mem::take(&mut *self.violations.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_says_where_each_rule_is_from() {
        let readme = include_str!("../../README.md");
        for rule in Rule::ALL {
            let row = readme.lines().find(|line| line.starts_with(&format!("| `{}` |", rule.name())));
            assert!(
                row.is_some_and(|row| row.contains("https://docs.aws.amazon.com/") || row.contains("botocore")),
                "{rule:?}"
            );
        }
    }
}
