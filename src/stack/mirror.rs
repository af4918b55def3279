//! What must be equal in both colours, as one document.

use serde_json::{Map, Value, json};

use super::rules::rules;
use super::spec::Spec;
use super::task_definition::TaskDefinition;

/// What the colour's own name is in the document.
const COLOR: &str = "{color}";

/// The canonical document: the settled stack without what differs on purpose (release, image, AMI, present size, the
/// addresses of fixed targets), the colour's own name replaced by `{color}`.
pub fn mirror(spec: &Spec) -> String {
    let spec = spec.clone().settled();
    let mut map = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            map.insert(name.to_owned(), value);
        }
    };
    put("vpc_id", json!(spec.vpc_id));
    put("target_group", json!(spec.target_group));
    if let Some(instances) = &spec.instances {
        let rules: Vec<String> = rules(instances).keys().map(ToString::to_string).collect();
        let mut value = json!(instances);
        for name in ["image_id", "desired_capacity", "instance_refresh", "ingress", "egress"] {
            value[name].take();
        }
        if let Some(text) = &instances.user_data {
            value["user_data"] = text.lines().map(|line| digest(&without_color(line, &spec.color))).collect();
        }
        value["security_rules"] = json!(rules);
        put("instances", value);
    }
    if let Some(service) = &spec.service {
        let mut value = json!(service);
        for name in ["image", "desired_count", "task_definition_arn", "keep_revisions"] {
            value[name].take();
        }
        if let Ok(Some(definition)) = TaskDefinition::of(service) {
            let mut task = definition.without_images();
            hide_environment(&mut task, &spec.color);
            value["task_definition"] = task;
        }
        put("service", value);
    }
    if let Some(targets) = &spec.targets {
        put(
            "targets",
            json!({ "ports": targets.iter().map(|target| target.port).collect::<std::collections::BTreeSet<_>>() }),
        );
    }
    put("tags", json!(spec.tags));
    neutral(&mut Value::Object(map), &spec.color).to_string()
}

/// A text that may hold secrets, as something that is equal where it is equal.
fn digest(text: &str) -> Value {
    Value::from(format!("{DIGEST}{}", &crate::digest::sha256(text)[..16]))
}

/// How a digest begins, so that differences don't show it.
const DIGEST: &str = "sha256:";

/// The values of environment variables, which often are secrets.
fn hide_environment(task: &mut Value, color: &str) {
    let containers = task.get_mut("containerDefinitions").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        let variables = container.get_mut("environment").and_then(Value::as_array_mut);
        for variable in variables.into_iter().flatten() {
            if let Some(value) = variable.get_mut("value") {
                *value = digest(&without_color(value.as_str().unwrap_or_default(), color));
            }
        }
    }
}

/// Takes nulls out and puts the place holder where the colour's name stands.
fn neutral(value: &mut Value, color: &str) -> Value {
    match value {
        Value::String(text) => Value::from(without_color(text, color)),
        Value::Array(items) => items.iter_mut().map(|item| neutral(item, color)).collect(),
        Value::Object(map) => {
            let kept = map.iter_mut().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(name, value)| (name.clone(), neutral(value, color))).collect())
        }
        other => other.take(),
    }
}

/// The colour as a word of its own; as a part of a longer word it is somebody else's.
fn without_color(text: &str, color: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(color).filter(|_| !color.is_empty()) {
        let (before, after) = (&rest[..at], &rest[at + color.len()..]);
        let joined = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let whole =
            !joined(before.chars().next_back().or_else(|| out.chars().next_back())) && !joined(after.chars().next());
        out.push_str(before);
        out.push_str(if whole { COLOR } else { color });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// What differs between the documents of two colours, attribute by attribute:
/// `instances.instance_type: blue "t3.medium", green "t3.large"`.
pub fn differences(one: (&str, &str), other: (&str, &str)) -> Vec<String> {
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|_| Value::from(text));
    let mut out = Vec::new();
    compare("", (one.0, &parse(one.1)), (other.0, &parse(other.1)), &mut out);
    out
}

fn compare(path: &str, one: (&str, &Value), other: (&str, &Value), out: &mut Vec<String>) {
    if one.1 == other.1 {
        return;
    }
    let join = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (one.1, other.1) {
        (Value::Object(a), Value::Object(b)) => {
            let names: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let side = |map: &Map<String, Value>| map.get(name).cloned().unwrap_or_default();
                compare(&join(name), (one.0, &side(a)), (other.0, &side(b)), out);
            }
        }
        (Value::Array(a), Value::Array(b)) if is_digested(a) || is_digested(b) => {
            let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
            out.push(format!("{path}: {} and {} differ from line {} on", one.0, other.0, same + 1));
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{n}]"), (one.0, a), (other.0, b), out);
            }
        }
        (Value::String(a), Value::String(b)) if a.starts_with(DIGEST) && b.starts_with(DIGEST) => {
            out.push(format!("{path}: {} and {} differ", one.0, other.0));
        }
        (a, b) => out.push(format!("{path}: {} {}, {} {}", one.0, shown(a), other.0, shown(b))),
    }
}

/// A value in a few words: texts bare, the rest as JSON, nothing long.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Null => "not set".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut lines = text.lines();
    let first: String = lines.next().unwrap_or_default().chars().take(60).collect();
    if first == text { first } else { format!("{first}…") }
}

fn is_digested(items: &[Value]) -> bool {
    items.first().and_then(Value::as_str).is_some_and(|text| text.starts_with(DIGEST))
}
