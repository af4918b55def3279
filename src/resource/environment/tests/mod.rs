//! The resource over a world in memory: what it plans, applies and reads, without a Terraform.

mod points;
mod random;
mod regions;
mod unfit;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Environment;
use crate::resource::Context;
use crate::resource::testing::{
    apply_request, assert_kept, assert_same_where_known, destroy_request, plan_request, read_request, words,
};
use crate::rollout::{Forward, Observed, Terminal, World};
use crate::run::rollout::in_memory::Fake;
use crate::run::stack::in_memory::Cloud;
use crate::tf_provider::{Cancel, Diagnostics, Planned, Resource as _, Stored, Type, Value, msgpack};

pub(super) const LISTENER: &str = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/1/2";

pub(super) struct Stage {
    pub cloud: Arc<Cloud>,
    pub fake: Arc<Fake>,
    pub environment: Arc<Environment>,
}

pub(super) fn stage() -> Stage {
    let fake = Fake::new(World::default(), &[]);
    let cloud = Cloud::new(fake.clone());
    over(cloud, fake)
}

fn over(cloud: Arc<Cloud>, fake: Arc<Fake>) -> Stage {
    let context = Arc::new(Context::over(&fake, &cloud));
    Stage { environment: Arc::new(Environment::new(context)), cloud, fake }
}

/// The seed stack of a color with some of its instances' attributes changed.
pub(super) fn instances(color: &str, changed: &serde_json::Value) -> serde_json::Value {
    let mut instances = serde_json::json!({
        "image_id": "ami-1", "instance_type": "t3.medium", "user_data": format!("#!/bin/sh\nexport ENV={color}\n"),
        "subnet_ids": ["subnet-a", "subnet-b"], "min_size": 2, "max_size": 4, "desired_capacity": 2,
        "ingress": [{ "protocol": "tcp", "from_port": 80, "to_port": 80, "cidr_blocks": ["0.0.0.0/0"] }],
    });
    merge(&mut instances, changed);
    serde_json::json!({
        "name": "myapp", "color": color, "release": "1", "vpc_id": "vpc-1",
        "target_group": { "port": 80, "health_check": { "path": "/health" } },
        "instances": instances,
    })
}

/// An ECS color.
pub(super) fn service(color: &str, changed: &serde_json::Value) -> serde_json::Value {
    let mut service = serde_json::json!({
        "cluster": "main", "container_port": 80, "subnet_ids": ["subnet-a"], "desired_count": 2, "image": "app:1",
        "task_definition": r#"{"family":"app","containerDefinitions":[{"name":"app","portMappings":[{"containerPort":80}],"image":"x"}]}"#,
    });
    merge(&mut service, changed);
    serde_json::json!({
        "name": "myapp", "color": color, "release": "1", "vpc_id": "vpc-1", "listener_arn": LISTENER,
        "target_group": { "port": 80 },
        "service": service,
    })
}

pub(super) fn merge(into: &mut serde_json::Value, changed: &serde_json::Value) {
    if let (Some(map), Some(changed)) = (into.as_object_mut(), changed.as_object()) {
        map.extend(changed.clone());
    }
}

impl Stage {
    /// Another process of the provider over the same world.
    pub fn restarted(&self) -> Stage {
        over(self.cloud.clone(), self.fake.clone())
    }

    pub fn config(&self, json: &serde_json::Value) -> Value {
        let ty: &Type = self.environment.schema.ty();
        msgpack::from_json(json, ty).expect("a configuration")
    }

    pub async fn plan(&self, config: &Value, prior: Option<&Stored>) -> (Planned, Diagnostics) {
        let mut diagnostics = Diagnostics::new();
        self.environment.validate(config, &mut diagnostics);
        let request = plan_request(&self.environment.schema, config, prior);
        (self.environment.plan(request, &mut diagnostics).await, diagnostics)
    }

    pub async fn plan_destroy(&self, prior: &Stored) -> Diagnostics {
        let mut diagnostics = Diagnostics::new();
        self.environment.plan_destroy(destroy_request(prior), &mut diagnostics).await;
        diagnostics
    }

    pub async fn apply(&self, config: &Value, prior: Option<&Stored>) -> (Stored, Diagnostics) {
        let planned = self.plan(config, prior).await;
        assert!(!planned.1.has_errors(), "{}", words(&planned.1));
        self.apply_planned(config, prior, planned, Cancel::never()).await
    }

    /// Applies what was planned before, as Terraform does: it plans once more.
    pub async fn apply_planned(
        &self,
        config: &Value,
        prior: Option<&Stored>,
        (planned, mut diagnostics): (Planned, Diagnostics),
        cancel: Cancel,
    ) -> (Stored, Diagnostics) {
        let (stored, told) = self.restarted().apply_in(config, prior, planned, cancel).await;
        diagnostics.extend(told);
        (stored, diagnostics)
    }

    /// A create in this very process.
    pub async fn apply_here(&self, config: &Value, (planned, _): (Planned, Diagnostics)) -> (Stored, Diagnostics) {
        self.apply_in(config, None, planned, Cancel::never()).await
    }

    async fn apply_in(
        &self,
        config: &Value,
        prior: Option<&Stored>,
        planned: Planned,
        cancel: Cancel,
    ) -> (Stored, Diagnostics) {
        let (again, mut diagnostics) = self.plan(config, prior).await;
        if diagnostics.has_errors() {
            return (prior.cloned().unwrap_or_default(), diagnostics);
        }
        let state = again.state.clone().expect("a plan");
        assert_same_where_known(planned.state.as_ref().expect("a plan"), &state);
        let request = apply_request(config, prior, again, cancel);
        let stored = self.environment.apply(request, &mut diagnostics).await;
        if !diagnostics.has_errors() {
            assert_kept(&state, stored.state.as_ref().expect("a state"));
        }
        (stored, diagnostics)
    }

    pub async fn destroy(&self, stored: &Stored) -> (Stored, Diagnostics) {
        self.restarted().destroy_here(stored).await
    }

    /// A destroy in this very process.
    pub async fn destroy_here(&self, stored: &Stored) -> (Stored, Diagnostics) {
        let mut diagnostics = Diagnostics::new();
        let request = destroy_request(stored);
        (self.environment.destroy(request, &mut diagnostics).await, diagnostics)
    }

    pub async fn read(&self, stored: &Stored) -> (Stored, Diagnostics) {
        let mut diagnostics = Diagnostics::new();
        let Some(state) = stored.state.clone() else { return (stored.clone(), diagnostics) };
        let request = read_request(state, &stored.private);
        let stored = self.environment.read(request, &mut diagnostics).await;
        (stored, diagnostics)
    }

    /// Makes it, and sees that nothing is left to do.
    pub async fn made(&self, json: &serde_json::Value) -> Stored {
        let config = self.config(json);
        let (stored, diagnostics) = self.apply(&config, None).await;
        assert!(!diagnostics.has_errors(), "{}", words(&diagnostics));
        let (read, told) = self.restarted().read(&stored).await;
        assert!(told.iter().next().is_none(), "{}", words(&told));
        let (planned, _) = self.plan(&config, Some(&read)).await;
        assert_eq!(planned.state, read.state, "the plan right after an apply is empty");
        read
    }

    /// Leads traffic: to each group its weight.
    pub fn lead(&self, weights: &[(&str, u32)]) {
        let groups = weights.iter().map(|(group, weight)| ((*group).to_owned(), *weight)).collect();
        let terminal = Terminal::Forward(Forward { groups, stickiness: None });
        let observed = Observed::leading(LISTENER.to_owned(), terminal);
        self.fake.meddle(|world| drop(world.routes.insert(LISTENER.to_owned(), observed)));
    }
}

pub(super) fn text(stored: &Stored, name: &str) -> String {
    stored.state.as_ref().map(|state| state.get(name).as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

pub(super) fn group(stored: &Stored) -> String {
    text(stored, "target_group_arn")
}

/// Everything that a state names is there.
#[track_caller]
pub(super) fn assert_there(stage: &Stage, stored: &Stored) {
    let ids: BTreeMap<&str, String> =
        ["target_group_arn", "security_group_id", "launch_template_id", "autoscaling_group_name", "service_arn"]
            .into_iter()
            .map(|name| (name, text(stored, name)))
            .collect();
    for (name, id) in ids.iter().filter(|(_, id)| !id.is_empty()) {
        assert!(stage.cloud.has(id), "{name} {id} is in the state and not in AWS: {:?}", stage.cloud.inventory());
    }
}
