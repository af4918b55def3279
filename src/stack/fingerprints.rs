//! What a configuration asked for when it was last applied, as far as it must be told from what others did since.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::spec::Spec;

/// A short digest of each attribute of a settled stack, by its path, such as `instances.image_id`. They can be kept where
/// the values can't: salted by the object's token, and too short to be more than a guess.
pub fn fingerprints(spec: &Spec, salt: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    collect("", &serde_json::json!(spec), salt, &mut out);
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

/// The attributes that a wish has otherwise than the configuration that was applied last; all of them where nothing is known
/// of that.
pub fn asked(wish: &Spec, applied: &BTreeMap<String, String>, salt: &str) -> BTreeSet<String> {
    let wish = fingerprints(wish, salt);
    let names = wish.keys().chain(applied.keys());
    names.filter(|name| applied.is_empty() || wish.get(*name) != applied.get(*name)).cloned().collect()
}
