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

/// On a target group: the routes that are previews, by the last part of their ARNs. The switch writes it.
pub const PREVIEW_TAG: &str = "bluegreen:preview";

/// A tag's value has no more characters.
const LONGEST: usize = 256;

fn id(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// What [`PREVIEW_TAG`] says once `former` routes are struck out of what it said and `routes` are noted. What others noted
/// stays. Those that it has no room for count as production, which is the safe side.
pub fn preview_tag(before: &str, former: &[String], routes: &[String]) -> String {
    let is_of = |list: &[String], own: &str| list.iter().any(|arn| id(arn) == own);
    let kept = before.split(' ').filter(|own| !own.is_empty() && !is_of(former, own) && !is_of(routes, own));
    let mut value = String::new();
    for id in kept.chain(routes.iter().map(|arn| id(arn))) {
        if value.len() + 1 + id.len() <= LONGEST {
            value += if value.is_empty() { "" } else { " " };
            value += id;
        }
    }
    value
}

/// Whether a route is one of the previews that a target group's tags tell of.
pub fn is_preview(tags: &BTreeMap<String, String>, arn: &str) -> bool {
    tags.get(PREVIEW_TAG).is_some_and(|value| value.split(' ').any(|own| own == id(arn)))
}

/// All tags: the user's, and those by which the provider knows its own again.
pub fn tags(spec: &Spec, defaults: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut tags = defaults.clone();
    tags.entry("Name".to_owned()).or_insert_with(|| name(&spec.name, &spec.color));
    tags.extend(spec.tags.clone());
    tags.insert(TAG.to_owned(), spec.id());
    tags.insert(COLOR_TAG.to_owned(), spec.color.clone());
    if let Some(release) = &spec.release {
        tags.insert(RELEASE_TAG.to_owned(), release.clone());
    }
    tags
}
