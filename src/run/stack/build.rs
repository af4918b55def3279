//! A stack as it is being made, and what is noted of it.

use std::collections::BTreeSet;

use tokio::time::Instant;

use crate::cancel::Cancel;
use crate::run::ports::PortError;
use crate::run::stack::context::StackContext;
use crate::run::stack::observe::Seen;
use crate::run::stack::ports::{Tags, failed};
use crate::stack::{self, Ids, Instances, Service, Spec};

/// A stack as it is being made.
pub struct Build<'a> {
    /// What it is made with.
    pub context: &'a StackContext,
    /// The wish, settled.
    pub spec: &'a Spec,
    /// What everything of it is called.
    pub name: &'a str,
    /// The object's token.
    pub owner: &'a str,
    /// The tags of everything that is made.
    pub tags: &'a Tags,
    /// Keys of tags that were ours and are wished no more.
    pub gone: &'a [String],
    /// Likewise of tags that instances ever got.
    pub gone_from_instances: &'a [String],
    /// What was there before.
    pub seen: &'a Seen,
    /// Whether the color serves users.
    pub live: bool,
    /// What is there now.
    pub ids: Ids,
    /// When it must be done.
    pub deadline: Instant,
    /// Whether somebody said so.
    pub is_limited: bool,
    /// Terraform's request to stop.
    pub cancel: &'a Cancel,
    /// What is remembered of it.
    pub progress: Progress,
    /// Scaling activities that had failed before this run, once they were asked for: they are nobody's reason now.
    pub former_failures: Option<Vec<String>>,
}

/// What a run notes for the runs after it.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// The families that revisions were registered in.
    pub families: BTreeSet<String>,
    /// The tokens of objects whose things this one took over.
    pub heir_of: BTreeSet<String>,
    /// The revision that was registered in this run.
    pub registered: Option<String>,
    /// Whether the launch template was made in this run, and says already what is wished.
    pub(super) fresh_template: bool,
}

impl Progress {
    /// Of a run that comes after others which noted this.
    pub fn after(families: BTreeSet<String>, heir_of: BTreeSet<String>) -> Progress {
        Progress { families, heir_of, ..Progress::default() }
    }
}

impl<'a> Build<'a> {
    pub(super) fn instances(&self) -> Result<&'a Instances, PortError> {
        self.spec.instances.as_ref().ok_or_else(|| failed("there are no instances in the configuration"))
    }

    pub(super) fn service(&self) -> Result<&Service, PortError> {
        self.spec.service.as_ref().ok_or_else(|| failed("there is no service in the configuration"))
    }

    /// The id of something that must be there by now.
    pub(super) fn need<'i>(id: &'i Option<String>, what: &str) -> Result<&'i str, PortError> {
        id.as_deref().ok_or_else(|| failed(format!("there is no {what}")))
    }

    /// Notes the family of a stack as it was, whose revisions may be ours.
    pub fn note_families(&mut self, before: &Spec) {
        let definition = before.service.as_ref().and_then(|service| service.definition().ok().flatten());
        self.progress.families.extend(definition.map(|definition| definition.family().to_owned()));
    }

    /// Whether a thing with these tags belongs to this object: by its token, or since it has none.
    pub(super) fn is_own(&self, tags: &Tags) -> bool {
        stack::is_own(tags, self.owner, &self.progress.heir_of)
    }
}
