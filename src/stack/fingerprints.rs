//! What a configuration asked for when it was last applied, as far as it must be told from what others did since.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::spec::Spec;
use crate::argument::Field as _;

/// A short digest of each attribute of a settled stack, by its path, such as `instances.image_id`. They can be kept where
/// the values can't: salted by the stack's name, and too short to be more than a guess.
pub fn fingerprints(spec: &Spec) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    collect("", &serde_json::json!(spec), &spec.id(), &mut out);
    out
}

fn collect(path: &str, value: &Value, salt: &str, out: &mut BTreeMap<String, String>) {
    // Below `health_check.path` everything is one.
    match value.as_object().filter(|_| path.matches('.').count() < 2) {
        Some(map) => {
            for (name, member) in map {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                collect(&path, member, salt, out);
            }
        }
        None => {
            let digest = crate::digest::sha256(&format!("{salt} {path} {value}"));
            out.insert(path.to_owned(), digest[..8].to_owned());
        }
    }
}

/// A wish for a color that is left as it is but for what was asked: whatever was seen to be otherwise, and nobody asked to
/// change, stays as it was seen. With the paths of what stays. Both are settled.
pub fn kept_back(wish: &Spec, seen: &Spec, asked: &BTreeSet<String>) -> (Spec, Vec<String>) {
    let (mut json, seen_json) = (serde_json::json!(wish), serde_json::json!(seen));
    let is_asked = |path: &str| match TASK.contains(&path) {
        // What a task is made of is said in several ways, of which one counts.
        true => TASK.iter().any(|one| asked.contains(*one)),
        false => asked.contains(path),
    };
    let mut kept = Vec::new();
    keep("", (&mut json, &seen_json), &is_asked, &mut kept);
    let mut spec: Spec = Spec::read(&json).unwrap_or_else(|| wish.clone());
    if let (Some(service), Some(seen)) = (&mut spec.service, &seen.service)
        && kept.iter().any(|path| TASK.contains(&path.as_str()))
    {
        service.running.clone_from(&seen.running);
    }
    (spec, kept)
}

/// What runs in a service.
const TASK: [&str; 4] = ["service.task_definition", "service.task_definition_arn", "service.image", "release"];
/// What isn't seen in a stack, or is another stack where it differs.
const FIXED: [&str; 8] = [
    "name",
    "color",
    "vpc_id",
    "target_group_arn",
    "listener_arn",
    "protect_live",
    "tags",
    "instances.desired_capacity",
];

fn keep(path: &str, (wish, seen): (&mut Value, &Value), is_asked: &impl Fn(&str) -> bool, kept: &mut Vec<String>) {
    if FIXED.contains(&path) || wish == seen {
        return;
    }
    match (wish, seen) {
        (Value::Object(wish), Value::Object(seen)) if path.matches('.').count() < 2 => {
            for (name, member) in wish {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                keep(&path, (member, seen.get(name).unwrap_or(&Value::Null)), is_asked, kept);
            }
        }
        (wish, seen) if (path.contains('.') || matches!(path, "release" | "targets")) && !is_asked(path) => {
            *wish = seen.clone();
            kept.push(path.to_owned());
        }
        _ => {}
    }
}

/// The attributes that a wish has otherwise than the configuration that was applied last, both as fingerprints; all of them
/// where nothing is known of that.
pub fn asked(wish: &BTreeMap<String, String>, applied: &BTreeMap<String, String>) -> BTreeSet<String> {
    let names = wish.keys().chain(applied.keys());
    names.filter(|name| applied.is_empty() || wish.get(*name) != applied.get(*name)).cloned().collect()
}
