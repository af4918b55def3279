//! Whose the things are that have a stack's name, and which name a new object takes.

use std::collections::{BTreeMap, BTreeSet};

use crate::run::absence::believed;
use crate::run::ports::{FailureKind, Freshness, PortError};
use crate::run::stack::build::Build;
use crate::run::stack::context::StackContext;
use crate::run::stack::live_guard::leads_to;
use crate::stack::{self, Ids, Lead, Spec, Whose, live_by, whose};

/// What has a stack's name in AWS.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Everything of that name.
    pub found: Ids,
    /// Whose each thing is, in words: what it is, its id, whose, and its owner's token.
    pub things: Vec<Thing>,
    /// The routes that lead to the target group, those that no request takes excepted.
    pub leads: Vec<Lead>,
    /// Whether the target group is somebody else's: what leads there leads to him.
    adopts: bool,
}

/// A thing of a stack's name.
#[derive(Clone, Debug)]
pub struct Thing {
    /// What it is, such as `target group`.
    pub what: &'static str,
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub whose: Whose,
    /// The token of the object that it says it belongs to.
    pub owner: String,
}

/// A create that ended well so short a time ago may never have been told to Terraform: a process can die in between.
const JUST_NOW: u64 = 60;

impl Survey {
    /// Whether there is nothing.
    pub fn is_free(&self) -> bool {
        self.things.is_empty()
    }

    /// Something that isn't an environment's of this name and color.
    pub fn foreign(&self) -> Option<&Thing> {
        self.things.iter().find(|thing| matches!(thing.whose, Whose::Foreign))
    }

    /// Whether all of it was left behind by a create that didn't get to its end, or that nobody was told the end of, and no
    /// route leads there: what a route leads to belongs to somebody.
    pub fn is_left_behind(&self, now: u64) -> bool {
        let left = |thing: &Thing| match thing.whose {
            Whose::LeftOver | Whose::Ours => true,
            Whose::Another(since) => now.saturating_sub(since) <= JUST_NOW,
            Whose::Unmarked | Whose::Foreign => false,
        };
        (self.leads.is_empty() || self.adopts && self.is_unfinished()) && self.things.iter().all(left)
    }

    /// Whether a new object can have the name, with what is left there.
    ///
    /// # Errors
    /// When AWS can't be asked.
    pub async fn is_for_taking(&self, context: &StackContext, spec: &Spec, now: u64) -> Result<bool, PortError> {
        if self.is_free() {
            return Ok(true);
        }
        if !self.is_left_behind(now) {
            return Ok(false);
        }
        // A target group that was left behind may no longer be what can become what is wished.
        let (Some(arn), Some(_)) = (&self.found.target_group, &spec.target_group) else { return Ok(true) };
        let Some(seen) = context.ports.target_groups.find(arn).await? else { return Ok(true) };
        let found = Spec { target_group: Some(seen.group), vpc_id: seen.vpc_id, ..spec.clone() };
        Ok(stack::replaced(&found.with_defaults(), spec).is_empty())
    }

    /// Whether no create got to its end there.
    pub fn is_unfinished(&self) -> bool {
        self.things.iter().all(|thing| matches!(thing.whose, Whose::LeftOver | Whose::Ours))
    }

    /// What belongs to the object itself, by its token.
    pub fn ours(&self) -> Ids {
        let found = &self.found;
        let is_ours = |id: &String| self.things.iter().any(|it| it.id == *id && matches!(it.whose, Whose::Ours));
        let own = |id: &Option<String>| id.clone().filter(is_ours);
        Ids {
            target_group: own(&found.target_group),
            security_group: own(&found.security_group),
            template: own(&found.template),
            scaling_group: own(&found.scaling_group),
            service: own(&found.service),
            ..Ids::default()
        }
    }

    /// The objects that have it.
    pub fn owners(&self) -> BTreeSet<String> {
        self.things.iter().map(|thing| thing.owner.clone()).collect()
    }

    /// The routes by which users get there, in words.
    pub fn live_by(&self) -> Option<String> {
        live_by(&self.leads)
    }
}

/// Looks for everything that has a stack's usual name, or its second one. What nobody's tags are on is looked at again before
/// it counts as somebody's: what was deleted a moment ago may still be listed, and has none any more.
///
/// # Errors
/// When AWS can't be asked.
pub async fn survey(
    context: &StackContext,
    spec: &Spec,
    whose: (&str, &str),
    age: Freshness,
) -> Result<Survey, PortError> {
    believed(|| look(context, spec, whose, age), |seen| seen.foreign().is_none(), |later, _| later).await
}

async fn look(
    context: &StackContext,
    spec: &Spec,
    (name, owner): (&str, &str),
    age: Freshness,
) -> Result<Survey, PortError> {
    let (ports, own) = (&context.ports, spec.id());
    let is_there = |id: &str| !context.objects.is_deleted(id);
    let mut survey = Survey { adopts: spec.target_group.is_none(), ..Survey::default() };
    let mut note = |what, id: &str, tags: &BTreeMap<String, String>| {
        let whose = if context.objects.is_another_s(id, owner) && tags.get(stack::TAG) == Some(&own) {
            Whose::Another(u64::MAX)
        } else {
            whose(tags, &own, owner)
        };
        let owner = tags.get(stack::OWNER_TAG).cloned().unwrap_or_default();
        survey.things.push(Thing { what, id: id.to_owned(), whose, owner });
    };
    if spec.target_group.is_some()
        && let Some(group) = ports.target_groups.named(name).await?.filter(|group| is_there(&group.arn))
    {
        note("target group", &group.arn, &ports.target_groups.tags(&group.arn).await?);
        survey.found.target_group = Some(group.arn);
    }
    if spec.instances.is_some() {
        let vpc = spec.vpc_id.as_deref().unwrap_or_default();
        if let Some(group) = ports.security_groups.named(name, vpc).await?.filter(|group| is_there(&group.id)) {
            note("security group", &group.id, &group.tags);
            survey.found.security_group = Some(group.id);
        }
        if let Some(template) = ports.launch_templates.named(name).await?.filter(|template| is_there(&template.id)) {
            note("launch template", &template.id, &template.tags);
            survey.found.template = Some(template.id);
        }
        if let Some(group) = ports.autoscaling.find(name).await? {
            note("Auto Scaling group", &group.name, &group.tags);
            survey.found.scaling_group = Some(group.name);
        }
    }
    if let Some(service) = &spec.service
        && let Some(seen) = ports.ecs.find(&service.cluster, name).await?
    {
        note("service", &seen.arn, &seen.tags);
        survey.found.service = Some(seen.arn);
    }
    let group = survey.found.target_group.clone();
    let adopted = spec.target_group_arn.clone().filter(|_| spec.target_group.is_none() && !survey.is_free());
    if let Some(group) = group.or(adopted) {
        let leads = leads_to(context, &group, age).await?;
        survey.leads = leads.into_iter().filter(|lead| !lead.nobody).collect();
    }
    Ok(survey)
}

impl Build<'_> {
    /// Looks for what a call made whose answer was lost: no state knows it, but its name and its token do.
    pub(super) async fn find_own(&mut self) -> Result<(), PortError> {
        let (ids, instances) = (&self.ids, self.spec.instances.is_some());
        let missing = self.spec.target_group.is_some() && ids.target_group.is_none()
            || instances && [&ids.security_group, &ids.template, &ids.scaling_group].into_iter().any(Option::is_none)
            || self.spec.service.is_some() && ids.service.is_none();
        if missing && !self.owner.is_empty() {
            let survey = survey(self.context, self.spec, (self.name, self.owner), Freshness::Now).await?;
            self.ids = std::mem::take(&mut self.ids).or(&survey.ours());
        }
        Ok(())
    }
}

/// The names that an object can have, the usual one first.
pub fn names(spec: &Spec) -> [String; 2] {
    [stack::name(&spec.name, &spec.color), stack::second_name(&spec.name, &spec.color)]
}

/// Takes a name for a new object, with what was left behind there: the usual name, or the second one while an object that
/// goes when this one has come still has the usual one.
///
/// # Errors
/// A conflict while both are another's.
pub async fn take_name(context: &StackContext, spec: &Spec, owner: &str, now: u64) -> Result<(String, Ids), PortError> {
    let conflict = |text: String| PortError::new(FailureKind::Conflict, text);
    let mut last = None;
    for name in names(spec) {
        let _gate = context.objects.gate(&name).await;
        if !context.objects.begin(&name, owner) {
            last = Some(format!("another object {} is being made, or goes, in this very run", spec.id()));
            continue;
        }
        let survey = survey(context, spec, (&name, owner), Freshness::Now).await?;
        if survey.is_for_taking(context, spec, now).await? {
            context.objects.claim(&survey.found, owner);
            return Ok((name, survey.found));
        }
        context.objects.end(&name, owner);
        if let Some(thing) = survey.foreign() {
            return Err(conflict(format!(
                "there is a {} named {name} already ({}), and it isn't tagged {} = {}",
                thing.what,
                thing.id,
                stack::TAG,
                spec.id()
            )));
        }
        let thing = survey.things.first();
        last = thing.map(|thing| format!("there is a {} named {name} already ({})", thing.what, thing.id));
    }
    Err(conflict(format!(
        "{}. If it is this environment's, import it: terraform import <address> {}. If it is another configuration's, choose another name",
        last.unwrap_or_default(),
        spec.id()
    )))
}
