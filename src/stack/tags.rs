//! The tags of what a stack is made of.

use std::collections::{BTreeMap, BTreeSet};

use super::spec::Spec;

/// Says whose it is: `name/color`.
pub const TAG: &str = "bluegreen:environment";
/// The color.
pub const COLOR_TAG: &str = "bluegreen:color";
/// Which object it is: a token of its own, in its private state and on everything that it made. Another object of the same
/// name and color, such as the one that replaces it, is another owner.
pub const OWNER_TAG: &str = "bluegreen:owner";
/// Since when, in seconds since 1970, all of it is there: without it a create didn't get to its end.
pub const MADE_TAG: &str = "bluegreen:made";
/// On a revision: the digest of the definition that it was registered from.
pub const DEFINITION_TAG: &str = "bluegreen:definition";
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
pub fn tags(spec: &Spec, defaults: &BTreeMap<String, String>, name: &str, owner: &str) -> BTreeMap<String, String> {
    let mut tags = defaults.clone();
    tags.entry("Name".to_owned()).or_insert_with(|| name.to_owned());
    tags.extend(spec.tags.clone());
    tags.insert(TAG.to_owned(), spec.id());
    tags.insert(OWNER_TAG.to_owned(), owner.to_owned());
    tags.insert(COLOR_TAG.to_owned(), spec.color.clone());
    if let Some(release) = &spec.release {
        tags.insert(RELEASE_TAG.to_owned(), release.clone());
    }
    tags
}

/// What a thing's tags say of whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// This very object's.
    Ours,
    /// Nobody's who is known: it was made before objects had tokens, or by hand.
    Unmarked,
    /// Left behind by an object of the same name and color whose create didn't get to its end.
    LeftOver,
    /// Another object's of the same name and color, since so many seconds after 1970.
    Another(u64),
    /// Something else's.
    Foreign,
}

/// Whether a thing with these tags belongs to the object with this token, which took over what some others had left: by the
/// token, or since one of the two has none.
pub fn is_own(tags: &BTreeMap<String, String>, owner: &str, heir_of: &BTreeSet<String>) -> bool {
    match tags.get(OWNER_TAG).filter(|other| !other.is_empty()) {
        Some(other) => owner.is_empty() || other == owner || heir_of.contains(other),
        None => true,
    }
}

/// Whose a thing with these tags is, to the object with this token.
pub fn whose(tags: &BTreeMap<String, String>, id: &str, owner: &str) -> Whose {
    if tags.get(TAG).map(String::as_str) != Some(id) {
        return Whose::Foreign;
    }
    let since = tags.get(MADE_TAG).map(|text| text.parse().unwrap_or_default());
    match (tags.get(OWNER_TAG).filter(|other| !other.is_empty()), since) {
        (Some(other), _) if other == owner => Whose::Ours,
        (Some(_), None) => Whose::LeftOver,
        (Some(_), Some(since)) => Whose::Another(since),
        (None, _) => Whose::Unmarked,
    }
}
