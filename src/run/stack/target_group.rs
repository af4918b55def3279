//! Target groups: made, changed, and led to their instances.

use crate::run::absence::believed;
use crate::run::ports::{FailureKind, PortError};
use crate::run::stack::build::Build;
use crate::run::stack::live_guard::keep_clients;
use crate::run::stack::ports::failed;
use crate::stack::{self, Spec};

impl Build<'_> {
    pub(super) async fn create_target_group(&mut self) -> Result<(), PortError> {
        let ports = &self.context.ports;
        let group = self.spec.target_group.as_ref().ok_or_else(|| failed("there is no target group"))?;
        let vpc = self.spec.vpc_id.as_deref();
        let arn = ports.target_groups.create(self.name, group, vpc, self.tags).await?;
        self.ids.target_group = Some(arn.clone());
        // What AWS begins with is what a group has that says nothing.
        let usual = stack::TargetGroup {
            protocol: group.protocol.clone(),
            target_type: group.target_type.clone(),
            ..stack::TargetGroup::default()
        };
        let usual = Spec { target_group: Some(usual), ..Spec::default() }.with_defaults().target_group;
        let usual = usual.unwrap_or_default();
        let what = "AWS did not find yet what was just made";
        self.while_new(
            |kind| kind == FailureKind::Gone,
            what,
            || ports.target_groups.set_attributes(&arn, group, &usual),
        )
        .await
    }

    pub(super) async fn modify_target_group(&self, what: &[String]) -> Result<(), PortError> {
        let arn = Self::need(&self.ids.target_group, "target group")?;
        let group = self.spec.target_group.as_ref().ok_or_else(|| failed("there is no target group"))?;
        let before = self.seen.group.as_ref().map(|seen| seen.group.clone()).unwrap_or_default();
        if what.iter().any(|name| name.starts_with("health_check.")) {
            self.context.ports.target_groups.set_health_check(arn, group).await?;
        }
        if group.keeps_clients() && !before.keeps_clients() {
            keep_clients(self.context, arn).await?;
        }
        self.context.ports.target_groups.set_attributes(arn, group, &before).await
    }

    /// Puts the instances behind the target group again.
    pub(super) async fn attach(&self) -> Result<(), PortError> {
        let group = Self::need(&self.ids.target_group, "target group")?;
        let Some(scaling) = &self.seen.scaling_group else { return Ok(()) };
        let mut gone = Vec::new();
        for other in &scaling.target_groups {
            // One of somebody else's, who has more than us behind it, stays.
            let find = || self.context.ports.target_groups.find(other);
            if believed(find, Option::is_some, Option::or).await?.is_none() {
                gone.push(other.clone());
            }
        }
        self.context.ports.autoscaling.attach(&scaling.name, group, &gone).await
    }
}
