//! What of a stack is there, by the names that AWS has for it.

use std::collections::BTreeSet;

use super::changes::Part;

/// The ids of what is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ids {
    /// The target group's ARN.
    pub target_group: Option<String>,
    /// The security group, `sg-…`.
    pub security_group: Option<String>,
    /// The launch template, `lt-…`.
    pub template: Option<String>,
    /// The version that all instances are made of; none while there are others.
    pub template_version: Option<i64>,
    /// The Auto Scaling group's name.
    pub scaling_group: Option<String>,
    /// The ECS service's ARN.
    pub service: Option<String>,
    /// The revision that the service runs, by ARN.
    pub task_definition: Option<String>,
}

impl Ids {
    /// The parts that are there. What is attached to its target group, the ids don't tell.
    pub fn parts(&self, attached: bool) -> BTreeSet<Part> {
        let parts = [
            (Part::TargetGroup, self.target_group.is_some()),
            (Part::SecurityGroup, self.security_group.is_some()),
            (Part::LaunchTemplate, self.template.is_some()),
            (Part::ScalingGroup, self.scaling_group.is_some()),
            // While there are instances of several versions, none is known.
            (Part::Instances, self.template_version.is_some() || self.scaling_group.is_none()),
            (Part::Service, self.service.is_some()),
            (Part::Attachment, attached),
        ];
        parts.into_iter().filter(|(_, there)| *there).map(|(part, _)| part).collect()
    }

    /// What is there, for a person.
    pub fn summary(&self) -> String {
        let parts = [
            ("target group", self.target_group.as_deref().map(crate::rollout::short)),
            ("security group", self.security_group.clone()),
            ("launch template", self.template.clone()),
            ("Auto Scaling group", self.scaling_group.clone()),
            ("service", self.service.as_deref().map(crate::rollout::short)),
        ];
        let there = parts.into_iter().filter_map(|(what, id)| Some(format!("{what} {}", id?)));
        there.collect::<Vec<_>>().join(", ")
    }

    /// These, and the others where one is missing.
    #[must_use]
    pub fn or(self, other: &Ids) -> Ids {
        Ids {
            target_group: self.target_group.or_else(|| other.target_group.clone()),
            security_group: self.security_group.or_else(|| other.security_group.clone()),
            template: self.template.or_else(|| other.template.clone()),
            template_version: self.template_version.or(other.template_version),
            scaling_group: self.scaling_group.or_else(|| other.scaling_group.clone()),
            service: self.service.or_else(|| other.service.clone()),
            task_definition: self.task_definition.or_else(|| other.task_definition.clone()),
        }
    }

    /// These, but for things that are among the others.
    #[must_use]
    pub fn without(self, others: &Ids) -> Ids {
        let left = |own: Option<String>, other: &Option<String>| own.filter(|_| other.is_none());
        Ids {
            target_group: left(self.target_group, &others.target_group),
            security_group: left(self.security_group, &others.security_group),
            template: left(self.template, &others.template),
            scaling_group: left(self.scaling_group, &others.scaling_group),
            service: left(self.service, &others.service),
            ..self
        }
    }

    /// Whether there is anything at all.
    pub fn is_empty(&self) -> bool {
        *self == Ids::default()
    }
}
