//! The temper of AWS: what it refuses and moto lets pass. Every rule is on unless a test turns it off by name.

use std::collections::BTreeSet;
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
}

impl Rule {
    /// Every rule.
    pub const ALL: [Rule; 3] = [Rule::ServiceModel, Rule::GroupStickiness, Rule::RulesPerLoadBalancer];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Rule::ServiceModel => "service-model",
            Rule::GroupStickiness => "group-stickiness",
            Rule::RulesPerLoadBalancer => "rules-per-load-balancer",
        }
    }
}

/// Which rules are on, and what broke AWS's service models so far.
#[derive(Debug, Default)]
pub(crate) struct Temper {
    off: BTreeSet<Rule>,
    violations: Mutex<Vec<String>>,
}

impl Temper {
    pub(crate) const fn without(off: BTreeSet<Rule>) -> Self {
        Self { off, violations: Mutex::new(Vec::new()) }
    }

    pub(crate) fn has(&self, rule: Rule) -> bool {
        !self.off.contains(&rule)
    }

    pub(crate) fn note(&self, violation: String) {
        self.violations.lock().unwrap_or_else(PoisonError::into_inner).push(violation);
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
