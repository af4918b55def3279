//! What an environment remembers between runs, for the provider alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::model;
use crate::run::stack::survey::names;
use crate::run::stack::{Progress, Seen};
use crate::stack::{self, Ids, Part, Spec};
use crate::tf_provider::Value;

/// What is stored beside the state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PrivateState {
    /// The format's version.
    version: u32,
    /// This very object, as what it made is tagged: another object of the same name is another owner.
    pub owner: String,
    /// What everything of it is called; none where it was made before that was written down.
    pub name: Option<String>,
    /// The configuration that was applied last, attribute by attribute, as short salted digests.
    pub applied: BTreeMap<String, String>,
    /// The configuration that is being applied, likewise.
    pub planned: BTreeMap<String, String>,
    /// The configuration that an update began to apply and didn't get to the end of, likewise.
    pub attempted: BTreeMap<String, String>,
    /// The families that it registered revisions in.
    pub families: BTreeSet<String>,
    /// The tokens of objects whose leftovers it took over.
    pub heir_of: BTreeSet<String>,
    /// The digest of the task definition that runs, where one of ours does that the state doesn't know.
    pub running: Option<String>,
    /// The version and the revision that ran when all was as it was applied, while a color is spared that runs others.
    pub left: Option<(Option<i64>, Option<String>)>,
    /// Whether users got there at the last refresh, and it wasn't as it was applied: then it stays as it is for now.
    pub spared: bool,
    /// What a release would destroy or can't be done to, by what it is about, as it was seen last.
    pub unfit: BTreeMap<Part, String>,
    /// The keys of all tags that it ever gave to instances: those that are wished no more are nobody else's.
    pub tagged: BTreeSet<String>,
}

/// The version of the format. Since 1 all arguments of this release are among what was applied.
const VERSION: u32 = 1;

impl PrivateState {
    /// Reads what was stored; nothing of it is needed to go on.
    pub fn read(bytes: &[u8]) -> PrivateState {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// What is to be stored.
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// What everything of an object is called that is there.
    pub fn name_of(&self, prior: &Value, spec: &Spec) -> String {
        let group = model::ids(prior).target_group.filter(|_| spec.target_group.is_some());
        let group = group.map(|arn| crate::rollout::short(&arn));
        self.name.clone().or(group).unwrap_or_else(|| names(spec)[0].clone())
    }

    /// What a state knows of, for telling what is otherwise: of a color that is spared what it ran before.
    pub fn known(&self, ids: Ids) -> Ids {
        match &self.left {
            Some((version, revision)) => Ids { template_version: *version, task_definition: revision.clone(), ..ids },
            None => ids,
        }
    }

    /// Notes what ran before, or that nothing is spared any more.
    pub fn note_left(&mut self, known: &Ids) {
        let left = Some((known.template_version, known.task_definition.clone()));
        self.left = if self.spared { self.left.take().or(left) } else { None };
    }

    /// Takes over the token that stands on what was seen, where none is remembered, as after an import.
    pub fn learn(&mut self, seen: &Seen) {
        if self.owner.is_empty() {
            let owner = seen.tagged().into_iter().find_map(|tags| tags.get(stack::OWNER_TAG).cloned());
            self.owner = owner.unwrap_or_default();
        }
        self.note_unfit(seen);
        self.running = seen.revision_tags.as_ref().and_then(|tags| tags.get(stack::DEFINITION_TAG).cloned());
    }

    /// Notes what a release would destroy. What wasn't looked at is as it was.
    pub fn note_unfit(&mut self, seen: &Seen) {
        for (part, why) in seen.unfit() {
            match why {
                Some(why) => self.unfit.insert(part, why),
                None => self.unfit.remove(&part),
            };
        }
    }

    /// The attributes that something seen has otherwise than they were applied last.
    pub fn differing(&self, seen: &Spec) -> BTreeSet<String> {
        stack::asked(&stack::fingerprints(seen), &self.applied)
    }

    /// The attributes that a wish asks to be otherwise than they were applied last. What was asked for before and couldn't be
    /// finished isn't asked for anew: where users came meanwhile, it waits until they are gone.
    pub fn asked(&self, wish: &Spec) -> BTreeSet<String> {
        self.asked_by(&stack::fingerprints(wish))
    }

    /// Likewise of the wish that was planned.
    pub fn asked_as_planned(&self) -> BTreeSet<String> {
        self.asked_by(&self.planned)
    }

    fn asked_by(&self, wish: &BTreeMap<String, String>) -> BTreeSet<String> {
        let asked = stack::asked(wish, &self.applied);
        if self.attempted.is_empty() || self.applied.is_empty() {
            return asked;
        }
        let anew = stack::asked(wish, &self.attempted);
        asked.intersection(&anew).cloned().collect()
    }

    /// Notes the configuration that is planned: an apply is given another one where Terraform was told to ignore changes.
    pub fn note_planned(&mut self, wish: &Spec) {
        self.planned = stack::fingerprints(wish);
    }

    /// Notes that what was planned was applied.
    pub fn note_applied(&mut self) {
        self.applied = std::mem::take(&mut self.planned);
        self.version = VERSION;
        self.attempted.clear();
    }

    /// Notes that what was planned wasn't applied to its end.
    pub fn note_attempted(&mut self) {
        self.attempted = std::mem::take(&mut self.planned);
    }

    /// Notes what there is as what was applied, where nothing is known of that, as after an import.
    pub fn note_found(&mut self, found: &Spec) {
        if self.applied.is_empty() || self.version < VERSION {
            // Arguments that came since are as they are there: nobody changed them.
            let mut found = stack::fingerprints(found);
            found.extend(std::mem::take(&mut self.applied));
            self.applied = found;
        }
        self.version = VERSION;
    }

    /// Notes the tags that instances get; the keys of those that they ever got and are to have no more.
    pub fn retag(&mut self, gone: &[String], tags: &BTreeMap<String, String>) -> Vec<String> {
        let ever = self.tagged.iter().filter(|key| !tags.contains_key(*key));
        let gone = gone.iter().chain(ever).cloned().collect();
        self.tagged.extend(tags.keys().cloned());
        gone
    }

    /// Whether a former release of the provider wrote it, which knew fewer arguments.
    pub fn is_former(&self) -> bool {
        self.version < VERSION && !self.applied.is_empty()
    }

    /// What runs of it begin with.
    pub fn progress(&self) -> Progress {
        Progress::after(self.families.clone(), self.heir_of.clone())
    }

    /// Notes what came of a run.
    pub fn note_progress(&mut self, progress: &Progress) {
        self.families.clone_from(&progress.families);
        self.heir_of.clone_from(&progress.heir_of);
    }
}
