//! What users write: the provider block, its resources and functions. Each turns configuration values into a wish free
//! of Terraform, has it planned and carried out, and tells what came of it.

#[cfg(test)]
mod declarations;
mod environment;
mod functions;
mod migration;
#[cfg(test)]
mod numbers;
#[cfg(test)]
mod pages;
mod provider;
mod regions;
#[cfg(test)]
mod stories;
mod switch;
#[cfg(test)]
mod testing;

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock;
use crate::platform::Platform;
use crate::run::migration::ports::Databases;
use crate::run::rollout::ports::Ports;
use crate::run::stack::StackContext;
use crate::shell::Shell;
use crate::tf_provider::{Diagnostics, Path, Value};

use self::regions::Places;

pub use provider::Bluegreen;

/// What the resources share: the platform that the provider block describes, in each region.
#[derive(Default)]
pub struct Context(Mutex<Option<Places>>);

/// What resources of one region share.
#[derive(Clone)]
struct Shared {
    /// The region, where it is known without asking anybody.
    region: Option<String>,
    /// The region that the instance told on which this runs. No plan goes by it: another runner may have another one, and the plan that
    /// Terraform makes once more may not know it.
    told: Option<String>,
    platform: Arc<dyn Platform>,
    ports: Ports,
    stack: StackContext,
    databases: Arc<dyn Databases>,
    switches: Arc<Switches>,
}

/// What commands to paste have to name.
fn shell(platform: &dyn Platform, region: Option<String>) -> Shell {
    let settings = platform.settings();
    let assumed = settings.and_then(|settings| settings.assume_role.as_ref().map(|role| role.role_arn.clone()));
    let web = settings.and_then(|settings| settings.web_identity.as_ref().map(|role| role.role_arn.clone()));
    Shell { region, profile: platform.profile(), role: assumed.or(web) }
}

impl Shared {
    /// For commands to paste: of this region, where it is known, or of the provider's.
    fn shell(&self, region: Option<String>) -> Shell {
        shell(self.platform.as_ref(), region.or_else(|| self.region.clone()))
    }
}

/// With a capital at its beginning.
fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// Whether a tag is the provider's own, or AWS's.
fn is_reserved(key: &str) -> bool {
    key.starts_with("bluegreen:") || key.to_ascii_lowercase().starts_with("aws:")
}

/// Tells which of these tags are the provider's own, or AWS's.
fn reserved_tags(tags: &Value, path: &Path, diagnostics: &mut Diagnostics) {
    for (key, _) in tags.as_map().into_iter().flatten().filter(|(key, _)| is_reserved(key)) {
        let path = path.key(key);
        let detail = format!("{path}: tags that begin with bluegreen: or aws: are not yours to set.");
        diagnostics.error_at(path, "A reserved tag", detail);
    }
}

/// A token that no other object has.
fn new_owner() -> String {
    let time = clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{:016x}{:08x}", RandomState::new().hash_one(time), std::process::id())
}

/// What the switches of one Terraform run know of each other.
#[derive(Default)]
struct Switches {
    /// One rollout at a time for each record: a second switch waits for the first, which is no stranger.
    turns: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Which object had a route or a record last, by its token: an object that is replaced goes after its heir has come.
    claims: Mutex<BTreeMap<String, String>>,
    /// Which color the switches want live that keep a record: by the record, the first route of each and its color.
    wishes: Mutex<BTreeMap<String, BTreeMap<String, String>>>,
}

impl Switches {
    /// Waits for one's turn with a record.
    async fn turn(&self, record: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            turns.entry(record.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }

    /// Notes which color a switch wants live on a record; the color that another switch wants there, if it is another one.
    fn wish(&self, record: &str, route: &str, color: &str) -> Option<String> {
        let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        let of_record = wishes.entry(record.to_owned()).or_default();
        of_record.insert(route.to_owned(), color.to_owned());
        of_record.iter().find(|(other, wanted)| *other != route && *wanted != color).map(|(_, wanted)| wanted.clone())
    }

    /// Whether another switch is known to keep a record, by the first of its routes.
    fn is_shared(&self, record: &str, route: &str) -> bool {
        let wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        wishes.get(record).is_some_and(|of_record| of_record.keys().any(|other| other != route))
    }

    /// Notes that an object has these from now on.
    fn claim(&self, things: impl IntoIterator<Item = String>, owner: &str) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.extend(things.into_iter().map(|thing| (thing, owner.to_owned())));
    }

    /// Forgets who has these.
    fn unclaim(&self, things: impl IntoIterator<Item = String>) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        things.into_iter().for_each(|thing| drop(claims.remove(&thing)));
    }

    /// Whether another object has one of these.
    fn is_claimed_by_another<'t>(&self, things: impl IntoIterator<Item = &'t String>, owner: &str) -> bool {
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        things.into_iter().any(|thing| claims.get(thing).is_some_and(|other| other != owner))
    }
}
