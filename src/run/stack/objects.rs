//! Which objects there are in one run of Terraform, and what each of them has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::stack::{Ids, Target};

/// What the environments of one Terraform run know of each other.
#[derive(Debug)]
pub struct Objects {
    /// The tokens of the objects that this run's states have.
    known: watch::Sender<BTreeSet<String>>,
    /// The environments that this run's states have, as `name/color`.
    there: Mutex<BTreeSet<String>>,
    /// Which object has a thing now, by the thing's id: tags can be read late.
    claims: Mutex<BTreeMap<String, String>>,
    /// Which environment has a name in AWS, by that name.
    names: Mutex<BTreeMap<String, String>>,
    /// Which object is being made, or goes, under a name in AWS.
    busy: Mutex<BTreeMap<String, String>>,
    /// The ids of what this run has deleted: a read may show it still.
    deleted: Mutex<BTreeSet<String>>,
    /// Held while it is decided who has what of a name.
    gates: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Default for Objects {
    fn default() -> Objects {
        let (known, _) = watch::channel(BTreeSet::new());
        Objects {
            known,
            there: Mutex::default(),
            claims: Mutex::default(),
            names: Mutex::default(),
            busy: Mutex::default(),
            deleted: Mutex::default(),
            gates: Mutex::default(),
        }
    }
}

/// A refresh of the object that is replaced or renamed goes on beside the plan of its heir.
const UNTIL_KNOWN: Duration = Duration::from_secs(3);

impl Objects {
    /// A state has this object.
    pub fn note(&self, owner: &str) {
        if !owner.is_empty() {
            self.known.send_if_modified(|known| known.insert(owner.to_owned()));
        }
    }

    /// A state has an environment of this name and color.
    pub fn note_there(&self, id: &str) {
        self.there.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
    }

    /// Whether a state of this run has an environment of this name and color.
    pub fn is_there(&self, id: &str) -> bool {
        self.there.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    /// Whether a state of this run has this object, once there was time to read it.
    pub async fn is_known(&self, owner: &str) -> bool {
        let mut known = self.known.subscribe();
        timeout(UNTIL_KNOWN, known.wait_for(|known| known.contains(owner))).await.is_ok()
    }

    /// Notes that AWS has deleted this, whose id nothing else will ever have.
    pub fn note_deleted(&self, id: &str) {
        self.deleted.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
    }

    /// Whether this run has deleted it, whatever a read shows.
    pub fn is_deleted(&self, id: &str) -> bool {
        self.deleted.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    /// Notes that an object has these from now on.
    pub fn claim(&self, things: &Ids, owner: &str) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.extend(each(things).into_iter().map(|thing| (thing, owner.to_owned())));
    }

    /// Notes that an object has these targets of a group.
    pub fn claim_targets(&self, group: &str, targets: &[Target], owner: &str) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.extend(targets.iter().map(|target| (target_key(group, target), owner.to_owned())));
    }

    /// Whether another object has this target of a group by now.
    pub fn is_target_of_another(&self, group: &str, target: &Target, owner: &str) -> bool {
        self.is_another_s(&target_key(group, target), owner)
    }

    /// Whether another object has this thing by now.
    pub fn is_another_s(&self, thing: &str, owner: &str) -> bool {
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.get(thing).is_some_and(|other| other != owner)
    }

    /// Notes which environment has a name in AWS; the other one that has it as well, if there is one.
    pub fn name(&self, name: &str, id: &str) -> Option<String> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = names.entry(name.to_owned()).or_insert_with(|| id.to_owned());
        (owner != id).then(|| owner.clone())
    }

    /// Waits until nobody else decides who has what of a name: one that goes and its heir come at the same time where a
    /// resource was renamed.
    pub async fn gate(&self, name: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let gate = {
            let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
            gates.entry(name.to_owned()).or_default().clone()
        };
        gate.lock_owned().await
    }

    /// Begins to make, or to take away, things of a name; refused while another object does.
    pub fn begin(&self, name: &str, owner: &str) -> bool {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.entry(name.to_owned()).or_insert_with(|| owner.to_owned()) == owner
    }

    /// What was begun has ended, or was given up.
    pub fn end(&self, name: &str, owner: &str) {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        if busy.get(name).is_some_and(|own| own == owner) {
            busy.remove(name);
        }
    }
}

fn target_key(group: &str, target: &Target) -> String {
    format!("{group} {} {:?}", target.id, target.port)
}

fn each(ids: &Ids) -> Vec<String> {
    [&ids.target_group, &ids.security_group, &ids.template, &ids.scaling_group, &ids.service]
        .into_iter()
        .flatten()
        .cloned()
        .collect()
}
