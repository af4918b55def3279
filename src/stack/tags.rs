//! The tags of what a stack is made of.

use std::collections::BTreeMap;

use super::names::name;
use super::spec::Spec;

/// Says whose it is: `name/color`.
pub const TAG: &str = "bluegreen:environment";
/// The colour.
pub const COLOR_TAG: &str = "bluegreen:color";
/// What runs there.
pub const RELEASE_TAG: &str = "bluegreen:release";

/// All tags: the user's, and those by which the provider knows its own again.
pub fn tags(spec: &Spec, defaults: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut tags = defaults.clone();
    tags.entry("Name".to_owned()).or_insert_with(|| name(&spec.name, &spec.color));
    tags.extend(spec.tags.clone());
    tags.insert(TAG.to_owned(), format!("{}/{}", spec.name, spec.color));
    tags.insert(COLOR_TAG.to_owned(), spec.color.clone());
    if let Some(release) = &spec.release {
        tags.insert(RELEASE_TAG.to_owned(), release.clone());
    }
    tags
}
