//! What one color's stack is made of, and what must change to make it so: pure and synchronous, like [`crate::rollout`].
//!
//! A [`Spec`] is the wish, in the shape of the configuration, or what was seen, in the same shape. [`changes()`] compares
//! two of them and says what must be done, in order, in words, and whether it would hurt a color that serves users.
//! `live` reads off the load balancer whether it does. [`mirror()`] is what both colors must have in common.

mod accepts;
mod changes;
mod defaults;
mod derived;
mod fingerprints;
mod ids;
mod kinds;
mod live;
mod mirror;
mod names;
mod register_model;
mod rules;
mod spec;
mod tags;
mod task_definition;

#[cfg(test)]
mod tests;

pub use changes::{Change, Part, changes, cluster_name, replaced, spared};
pub use defaults::{LOWEST_PRICE, usual_target_type};
pub use fingerprints::{asked, fingerprints, kept_back};
pub use ids::Ids;
pub use kinds::{CheckKind, GroupKind, ServiceKind};
pub use live::{Lead, leads, live_by};
pub use mirror::{Mirror, differences, mirror};
pub use names::{name, second_name};
pub use rules::{Peer, Rule, RuleDirection, Rules, rules};
pub use spec::{
    BlockDevice, Bounds, CapacityProvider, CircuitBreaker, Counts, DeploymentAlarms, GroupHealth, HealthCheck,
    InstanceOverride, InstanceRefresh, InstanceRequirements, Instances, InstancesDistribution, MaintenancePolicy,
    MetadataOptions, MixedInstances, SecurityRule, Service, Span, Spec, Stickiness, Target, TargetGroup, Timeouts,
};
pub use tags::{
    COLOR_TAG, DEFINITION_TAG, MADE_TAG, OWNER_TAG, PREVIEW_TAG, RELEASE_TAG, TAG, Whose, is_own, is_preview,
    preview_tag, tags, whose,
};
pub use task_definition::TaskDefinition;
