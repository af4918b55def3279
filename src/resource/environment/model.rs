//! Between Terraform's values and a stack: specs, ids, and a state that keeps what was written where it still holds.

use serde_json::json;

use crate::argument::{Arguments as _, Field as _};
use crate::stack::{Ids, Spec};
use crate::tf_provider::{Path, Schema, Type, Value, msgpack};

/// The arguments that say what is to be there.
fn wished() -> impl Iterator<Item = &'static str> {
    Spec::arguments().iter().map(|argument| argument.name).filter(|name| *name != "timeouts")
}

/// Reads a configuration or a state; none while something in it is unknown.
pub(super) fn spec(value: &Value) -> Option<Spec> {
    let own_group = !value.get("target_group").is_null();
    let wish = wished().filter(|name| !(own_group && *name == "target_group_arn"));
    Spec::read(&Value::object(wish.map(|name| (name, value.get(name).clone()))).to_json()?)
}

/// The configuration with the state's attributes where its own are not wholly known yet.
pub(super) fn known_part(config: &Value, prior: &Value) -> Value {
    let attribute = |name: &'static str| {
        let own = config.get(name);
        (name, if own.is_wholly_known() { own.clone() } else { prior.get(name).clone() })
    };
    Value::object(wished().map(attribute))
}

/// The path that a stack's steps name.
pub(super) fn path(steps: &[String]) -> Path {
    steps.iter().fold(Path::root(), |path, step| path.attr(step))
}

/// What of a stack is there, as a state says it.
pub(super) fn ids(state: &Value) -> Ids {
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

/// Writes down what is there. The ARN of an adopted target group is what was configured, whether it is there or not: only
/// another one is another wish.
pub(super) fn set_ids(state: &mut Value, ids: &Ids) {
    let adopted = Some(state.get("target_group_arn").clone()).filter(|_| state.get("target_group").is_null());
    let mut set = |name: &str, id: &Option<String>| state.set(name, Value::from(id.clone()));
    set("target_group_arn", &ids.target_group);
    let name = ids.target_group.as_deref().map(crate::rollout::short);
    set("target_group_name", &name);
    set("security_group_id", &ids.security_group);
    set("launch_template_id", &ids.template);
    set("autoscaling_group_name", &ids.scaling_group);
    set("service_arn", &ids.service);
    set("task_definition_arn", &ids.task_definition);
    state.set("launch_template_version", Value::from(ids.template_version));
    if let (Some(adopted), None) = (adopted, &ids.target_group) {
        state.set("target_group_arn", adopted);
    }
}

/// A spec as values of the resource's schema.
fn values(spec: &Spec, schema: &Schema) -> Value {
    msgpack::from_json(&json!(spec), schema.ty()).unwrap_or(Value::Null)
}

/// The state after a look: what was written stays where it means what was seen, and gives way where it doesn't. Of a color
/// that is spared only what can stay in a plan gives way: Terraform lets a plan keep a value, but not the lack of one.
pub(super) fn overlay(state: &mut Value, written: &Spec, seen: &Spec, schema: &Schema, spared: bool) {
    let (written, seen) = (values(written, schema), values(seen, schema));
    let Type::Object(types) = schema.ty() else { return };
    for name in wished().filter(|name| *name != "target_group_arn") {
        let Some(ty) = types.get(name) else { continue };
        let merged = merge(state.get(name), written.get(name), seen.get(name), ty, spared);
        state.set(name, merged);
    }
}

fn merge(state: &Value, written: &Value, seen: &Value, ty: &Type, spared: bool) -> Value {
    if written == seen || spared && (state.is_null() || seen.is_null()) {
        return state.clone();
    }
    match (state, ty) {
        (Value::Map(map), Type::Object(types)) if !seen.is_null() => {
            let member = |(name, value): (&String, &Value)| {
                let ty = types.get(name).unwrap_or(&Type::Dynamic);
                (name.clone(), merge(value, written.get(name), seen.get(name), ty, spared))
            };
            Value::Map(map.iter().map(member).collect())
        }
        _ => seen.clone(),
    }
}

/// Keeps in a plan what the state has at these paths, where both say something: `instances.image_id`.
pub(super) fn keep(planned: &mut Value, prior: &Value, path: &str) {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let (own, before) = (planned.get(first), prior.get(first));
    if own.is_null() || before.is_null() {
        return;
    }
    let mut value = own.clone();
    match rest {
        Some(rest) => keep(&mut value, before, rest),
        None => value = before.clone(),
    }
    planned.set(first, value);
}
