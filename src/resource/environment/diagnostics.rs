//! What is said of a color that would be hurt, and of changes that came to nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::model;
use crate::resource::capitalized;
use crate::run::ports::{FailureKind, PortError};
use crate::run::stack::Seen;
use crate::run::stack::survey::Survey;
use crate::stack::{Change, Ids, Lead, Part, Spec, live_by};
use crate::tf_provider::{Diagnostics, Path, Value};

/// What a plan would do to a color.
#[derive(Clone, Copy)]
pub(super) struct Harm<'a> {
    /// What is there now, which may have another name or color than what is wished.
    pub before: &'a Spec,
    pub spec: &'a Spec,
    /// Attributes that ask for a replacement.
    pub replaced: &'a [Vec<String>],
    pub changes: &'a [Change],
}

impl Harm<'_> {
    /// Tells what would hurt the users that come by these routes: errors while the color is protected, warnings if not.
    pub fn tell(&self, routes: &str, running: Option<i32>, diagnostics: &mut Diagnostics) {
        let (what, color) = (self.before.id(), &self.before.color);
        let paths = self.replaced.iter().map(|steps| {
            let path = model::path(steps);
            let text = format!("{path} forces replacement");
            (path, text)
        });
        let harms = self
            .changes
            .iter()
            .filter(|change| !change.is_left_over() || !self.spec.is_protected())
            .filter_map(|change| Some((Path::attribute(attribute(change)), change.harm(running)?)));
        for (path, harm) in paths.chain(harms) {
            let now = format!("Users reach {color} through {routes}. {harm}.");
            if self.spec.is_protected() {
                let detail = format!("{now}\n\n{WAY_OUT}");
                diagnostics.error_at(path, format!("{what} is live and would be hurt"), detail);
            } else {
                let detail = format!("{now} protect_live = false allows it.");
                diagnostics.warning_at(path, format!("{what} is live"), detail);
            }
        }
        for change in self.changes {
            if let Some(risk) = change.risk() {
                let detail = format!("Users reach {color} through {routes}: {risk}.");
                diagnostics.warning_at(Path::attribute(attribute(change)), format!("{what} is live"), detail);
            }
        }
    }
}

const WAY_OUT: &str = "Next: make the change on the idle color, switch to it (active of bluegreen_switch), and change this one \
                       when it is idle. To do it now, set protect_live = false on this environment.";

fn attribute(change: &Change) -> &'static str {
    match change {
        Change::TargetGroup(_) => "target_group",
        Change::Deploy(_) | Change::Service(_) | Change::Scale(_) => "service",
        Change::Register(_) | Change::Deregister(_) => "targets",
        Change::Create(_) | Change::Rules { .. } | Change::Roll(_) | Change::Version | Change::Repoint => "instances",
        Change::ScalingGroup(..) | Change::Resize { .. } => "instances",
    }
}

/// A release would destroy what no argument describes, or somebody else moves the traffic; whether it is so.
pub(super) fn unfit(
    spec: &Spec,
    changes: &[Change],
    unfit: &BTreeMap<Part, String>,
    diagnostics: &mut Diagnostics,
) -> bool {
    let of = |change: &Change| change.rewrites().iter().find_map(|part| unfit.get(part)).cloned();
    let Some((change, why)) = changes.iter().find_map(|change| Some((change, of(change)?))) else { return false };
    let detail =
        format!("{}.\n\nNothing was changed. Next: change that first, by the means that made it.", capitalized(&why));
    diagnostics.error_at(Path::attribute(attribute(change)), format!("{} can't be released to", spec.id()), detail);
    true
}

/// AWS could not be asked.
pub(super) fn unreadable(what: &str, error: &PortError, diagnostics: &mut Diagnostics) {
    let detail = format!("{error}\n\nNothing was changed. {}", next(error));
    diagnostics.error(format!("Failed to look at {what}"), detail);
}

fn next(error: &PortError) -> &'static str {
    match error.kind {
        FailureKind::Denied => "Next: check the credentials and their permissions, then run the same command again.",
        FailureKind::Throttled => "Next: AWS is throttling this account; run the same command again in a minute.",
        FailureKind::Conflict => "Next: find out who made it or uses it.",
        FailureKind::Gone
        | FailureKind::InvalidRequest
        | FailureKind::Passing
        | FailureKind::NeedsListener
        | FailureKind::Other => "Next: correct the cause, then run the same command again.",
    }
}

/// Instances that are behind no target group serve nobody.
pub(super) fn detached(spec: &Spec, seen: &Seen, diagnostics: &mut Diagnostics) {
    if !seen.is_attached() {
        let detail = format!(
            "The target group of {} has none of its instances or tasks any more, because somebody detached them. The next apply attaches them again.",
            spec.id()
        );
        diagnostics.warning(format!("{} is detached", spec.id()), detail);
    }
}

/// What of a color is not as it was applied.
pub(super) struct Found {
    /// Attributes, by their paths.
    pub differs: Vec<String>,
    /// Instances of other versions than new ones get.
    pub former: BTreeMap<(String, String), usize>,
    /// Whether there is no launch template.
    pub lacks_template: bool,
}

/// A color that serves users is not as it was applied: it is left as it is.
pub(super) fn spared(
    spec: &Spec,
    routes: &str,
    Found { differs, former, lacks_template }: &Found,
    diagnostics: &mut Diagnostics,
) {
    let what = spec.id();
    let mut found = Vec::new();
    if !differs.is_empty() {
        found.push(format!("{} changed since", differs.join(", ")));
    }
    if differs.is_empty() && former.is_empty() && !lacks_template {
        found.push("its last update did not complete".to_owned());
    }
    if *lacks_template {
        found.push("its launch template is gone".to_owned());
    }
    for ((template, version), count) in former {
        found.push(format!(
            "{count} of its instances are of {}, and new ones are not",
            if version.is_empty() { "another template".to_owned() } else { format!("version {version} of {template}") }
        ));
    }
    let detail = format!(
        "Users reach {} through {routes}, and it is not as Terraform made it: {}. What would hurt it is left as it is for now.\n\nNext: a switch to another color (active of bluegreen_switch) is possible. Once this color is idle, a plan corrects it.",
        spec.color,
        found.join("; ")
    );
    diagnostics.warning(format!("{what} is live, and not as it was applied"), detail);
}

/// Something that others did is left for the next plan.
pub(super) fn left_for_later(spec: &Spec, left: &[String], diagnostics: &mut Diagnostics) {
    let paths: Vec<&str> = left.iter().map(String::as_str).collect::<BTreeSet<&str>>().into_iter().collect();
    if left.is_empty() {
        return;
    }
    let detail = format!(
        "{} is not as Terraform made it ({}), and the plan of this apply did not show that, or the correction would hurt a color that serves users. It was left as it is.\n\nNext: plan again. What hurts nobody is corrected then.",
        spec.id(),
        if paths.is_empty() { "others changed it".to_owned() } else { paths.join(", ") }
    );
    diagnostics.warning(format!("{} was changed by others", spec.id()), detail);
}

/// Another object has these by now.
pub(super) fn let_go(spec: &Spec, kept: &str, diagnostics: &mut Diagnostics) {
    let detail = format!(
        "Another object of the same name and color has it by now ({kept}), as the one that replaced this one. It stays; this object is forgotten."
    );
    diagnostics.warning(format!("{} lives on as another object", spec.id()), detail);
}

/// Revisions that stay.
pub(super) fn still_used(spec: &Spec, used: &[String], diagnostics: &mut Diagnostics) {
    if used.is_empty() {
        return;
    }
    let detail = format!(
        "Services that are still there, such as that of the object which replaced it, run revisions that {} registered: {}. They stay active.",
        spec.id(),
        used.join(", ")
    );
    diagnostics.warning("Revisions are still in use", detail);
}

/// What was just made, and no state of this run has, is taken over.
pub(super) fn taken_over(spec: &Spec, found: &Survey, diagnostics: &mut Diagnostics) {
    let things: Vec<String> = found.things.iter().map(|thing| format!("{} {}", thing.what, thing.id)).collect();
    let detail = format!(
        "There is an environment {} ({}) that was made within the last minute, no route leads there, and no state of this run has it. It is taken for what a create left behind that was killed at its very end, and is taken over.\n\nIf it is another configuration's, choose another name.",
        spec.id(),
        things.join(", ")
    );
    diagnostics.warning_at(Path::attribute("name"), format!("{} is taken over", spec.id()), detail);
}

/// Two environments would be called alike.
pub(super) fn same_name(spec: &Spec, other: &str, name: &str, diagnostics: &mut Diagnostics) {
    let detail = format!(
        "Everything of {} and of {other} would be called {name} in AWS. Choose another name for one of them.",
        spec.id()
    );
    diagnostics.error_at(Path::attribute("name"), "Two environments with one name", detail);
}

/// An environment of this name and color is there, and no state of this run has it.
pub(super) fn exists(spec: &Spec, found: &Survey, second: Option<&str>, diagnostics: &mut Diagnostics) {
    let things: Vec<String> = found.things.iter().map(|thing| format!("{} {}", thing.what, thing.id)).collect();
    let mut detail = format!(
        "There is an environment {} already ({}), and it is another object's. It is left alone.",
        spec.id(),
        things.join(", ")
    );
    if let Some(second) = second {
        detail += &format!(" This one is made beside it, as {second}.");
    }
    detail += &format!(
        "\n\nThat is as it should be where this object replaces the other one and is made first. If it isn't meant: a moved block if the resource was renamed; terraform import <address> {} if it was lost from the state; another name if it is another configuration's.",
        spec.id()
    );
    let summary = format!("{} exists already", spec.id());
    match second {
        Some(_) => diagnostics.warning_at(Path::attribute("name"), summary, detail),
        None => diagnostics.error_at(Path::attribute("name"), summary, detail),
    }
}

/// The configuration names the ARN of the target group that the environment made, and the group is gone.
pub(super) fn group_gone(config: &Value, refused: bool, diagnostics: &mut Diagnostics) {
    let path = Path::attribute("target_group_arn");
    let arn = config.get("target_group_arn").as_str().unwrap_or_default();
    let summary = "The target group is gone";
    let detail = format!(
        "target_group_arn is {arn}, and there is no such target group any more. One that is made again has another ARN.\n\nNext: remove target_group_arn; target_group says what is to be there."
    );
    match refused {
        true => diagnostics.error_at(path, summary, format!("{detail} Nothing was changed.")),
        false => diagnostics.warning_at(path, summary, detail),
    }
}

/// A target group of somebody else's is not there.
pub(super) fn not_found(spec: &Spec, seen: &Seen, diagnostics: &mut Diagnostics) {
    let adopted = spec.target_group_arn.as_deref().filter(|_| spec.target_group.is_none() && seen.group.is_none());
    if let Some(arn) = adopted {
        let detail = format!(
            "The target group that {} adopts does not exist: {arn}. It is not created.\n\nNext: find out who deleted it. Another target_group_arn forces a new environment.",
            spec.id()
        );
        diagnostics.warning_at(Path::attribute("target_group_arn"), "The target group does not exist", detail);
    }
}

/// A name is somebody else's.
pub(super) fn taken(what: &str, name: &str, arn: &str, spec: &Spec, diagnostics: &mut Diagnostics) {
    let detail = format!(
        "There is a {what} {name} already ({arn}), and this provider didn't make it for {}. Choose another name, or adopt it with target_group_arn, or import it: terraform import <address> '{},{arn}'.",
        spec.id(),
        spec.id()
    );
    diagnostics.error_at(Path::attribute("name"), "The name is taken", detail);
}

/// A replacement would begin by destroying what serves users.
pub(super) fn exists_live(spec: &Spec, routes: &str, diagnostics: &mut Diagnostics) {
    let detail = format!(
        "There is an environment {} already, and users reach it through {routes}. This plan would make it anew: it is tainted (terraform untaint <address>), or replaced by -replace, or of another configuration with the same name, or was lost from the state (terraform import <address> {}).\n\n{WAY_OUT}",
        spec.id(),
        spec.id()
    );
    let summary = format!("{} is live and would be replaced", spec.id());
    if spec.is_protected() {
        diagnostics.error(summary, detail);
    } else {
        diagnostics.warning(summary, detail);
    }
}

/// A destroy of a live color.
pub(super) fn destroys_live(spec: &Spec, routes: &str, refused: bool, diagnostics: &mut Diagnostics) {
    if refused {
        let detail = format!(
            "Users reach {} through {routes}. Destroying it would take the service down.\n\nNext: switch to another color first (active of bluegreen_switch). To destroy everything on purpose, apply protect_live = false on this environment, then destroy.",
            spec.color
        );
        diagnostics.error(format!("{} is live and would be destroyed", spec.id()), detail);
    } else {
        let detail = format!(
            "Users reach {} through {routes}. {}: nobody else is given the traffic unchecked. protect_live = false allows it.",
            spec.color,
            match spec.target_group {
                Some(_) => "These routes will answer 503, unless they are destroyed as well",
                None => "What serves them goes, and they get errors unless something else is behind the target group",
            }
        );
        diagnostics.warning(format!("{} is live and will be destroyed", spec.id()), detail);
    }
}

/// The world is another one than the plan was made for.
pub(super) fn changed_meanwhile(spec: &Spec, what: &str, diagnostics: &mut Diagnostics) {
    let detail = format!("Something changed between plan and apply: {what}. Nothing was changed.\n\nNext: plan again.");
    diagnostics.error(format!("{} is not as it was when planning", spec.id()), detail);
}

/// What failed, what is there, and where the traffic is.
pub(super) fn failed(
    verb: &str,
    spec: &Spec,
    error: &PortError,
    ids: &Ids,
    leads: Option<&[Lead]>,
    diagnostics: &mut Diagnostics,
) {
    let mut detail = format!("{error}\n");
    let there = ids.summary();
    if !there.is_empty() {
        detail += &format!("\nThere now, and in the state: {there}.");
    }
    if let Some(leads) = leads {
        match live_by(leads) {
            Some(routes) => detail += &format!("\nTraffic: users reach {} through {routes}.", spec.color),
            None => detail += &format!("\nTraffic: no user reaches {}.", spec.color),
        }
    }
    detail += &format!("\n{}", next(error));
    if error.kind == FailureKind::NeedsListener {
        detail += " ECS takes a target group only when a listener or rule has it: set listener_arn, and the environment makes a rule there that no request matches.";
    }
    diagnostics.error(format!("Failed to {verb} {}", spec.id()), detail);
}
