//! Between Terraform's values and a stack: specs, ids, and a state that keeps what was written where it still holds.

use std::collections::BTreeSet;

use serde_json::json;

use crate::stack::{Part, Spec};
use crate::tf_provider::{Path, Schema, Type, Value, msgpack};

/// The attributes that are the wish.
const WISH: [&str; 12] = [
    "name",
    "color",
    "release",
    "vpc_id",
    "target_group",
    "target_group_arn",
    "listener_arn",
    "instances",
    "service",
    "targets",
    "protect_live",
    "tags",
];

/// Reads a configuration or a state; none while something in it is unknown.
pub(super) fn spec(value: &Value) -> Option<Spec> {
    let own_group = !value.get("target_group").is_null();
    let wish = WISH.iter().filter(|name| !(own_group && **name == "target_group_arn"));
    let object = Value::object(wish.map(|name| (*name, value.get(name).clone())));
    serde_json::from_value(object.to_json()?).ok()
}

/// The configuration with the state's attributes where its own are not wholly known yet.
pub(super) fn known_part(config: &Value, prior: &Value) -> Value {
    let attribute = |name: &&'static str| {
        let own = config.get(name);
        (*name, if own.is_wholly_known() { own.clone() } else { prior.get(name).clone() })
    };
    Value::object(WISH.iter().map(attribute))
}

/// The path that a stack's steps name.
pub(super) fn path(steps: &[String]) -> Path {
    steps.iter().fold(Path::root(), |path, step| path.attr(step))
}

/// What of a stack is there, as a state says it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Ids {
    pub target_group: Option<String>,
    pub security_group: Option<String>,
    pub template: Option<String>,
    pub template_version: Option<i64>,
    pub scaling_group: Option<String>,
    pub service: Option<String>,
    pub task_definition: Option<String>,
}

impl Ids {
    pub fn read(state: &Value) -> Ids {
        let text = |name: &str| state.get(name).as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        Ids {
            target_group: text("target_group_arn"),
            security_group: text("security_group_id"),
            template: text("launch_template_id"),
            template_version: state.get("launch_template_version").as_i64(),
            scaling_group: text("autoscaling_group_name"),
            service: text("service_arn"),
            task_definition: text("task_definition_arn"),
        }
    }

    pub fn write(&self, state: &mut Value) {
        let mut set = |name: &str, id: &Option<String>| state.set(name, Value::from(id.clone()));
        set("target_group_arn", &self.target_group);
        let name = self.target_group.as_deref().map(crate::rollout::short);
        set("target_group_name", &name);
        set("security_group_id", &self.security_group);
        set("launch_template_id", &self.template);
        set("autoscaling_group_name", &self.scaling_group);
        set("service_arn", &self.service);
        set("task_definition_arn", &self.task_definition);
        state.set("launch_template_version", Value::from(self.template_version));
    }

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
    pub fn words(&self) -> String {
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

    /// Whether there is anything at all.
    pub fn is_empty(&self) -> bool {
        *self == Ids::default()
    }
}

/// A spec as values of the resource's schema.
fn values(spec: &Spec, schema: &Schema) -> Value {
    msgpack::from_json(&json!(spec), schema.ty()).unwrap_or(Value::Null)
}

/// The state after a look: what was written stays where it means what was seen, and gives way where it doesn't.
pub(super) fn overlay(state: &mut Value, written: &Spec, seen: &Spec, schema: &Schema) {
    let (written, seen) = (values(written, schema), values(seen, schema));
    let Type::Object(types) = schema.ty() else { return };
    for name in WISH.iter().filter(|name| **name != "target_group_arn") {
        let Some(ty) = types.get(*name) else { continue };
        let merged = merge(state.get(name), written.get(name), seen.get(name), ty);
        state.set(name, merged);
    }
}

fn merge(state: &Value, written: &Value, seen: &Value, ty: &Type) -> Value {
    if written == seen {
        return state.clone();
    }
    match (state, ty) {
        (Value::Map(map), Type::Object(types)) if !seen.is_null() => {
            let member = |(name, value): (&String, &Value)| {
                let ty = types.get(name).unwrap_or(&Type::Dynamic);
                (name.clone(), merge(value, written.get(name), seen.get(name), ty))
            };
            Value::Map(map.iter().map(member).collect())
        }
        _ => seen.clone(),
    }
}
