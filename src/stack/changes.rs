//! From what is to what shall be: the changes in order, in words, and whom they would hurt.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::rules::{Rule, RuleDirection, rules, uncovered};
use super::spec::{Instances, MixedInstances, Service, Spec, Target, TargetGroup};
use crate::argument::{Arguments, Class};

/// A thing that AWS keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Part {
    /// The target group, unless it is adopted.
    TargetGroup,
    /// The instances' security group.
    SecurityGroup,
    /// The launch template.
    LaunchTemplate,
    /// The Auto Scaling group.
    ScalingGroup,
    /// Instances of the version that the Auto Scaling group has, and none of a former one.
    Instances,
    /// The ECS service.
    Service,
    /// Instances or tasks behind the target group.
    Attachment,
}

impl Part {
    /// As AWS calls it.
    pub fn summary(self) -> &'static str {
        match self {
            Part::TargetGroup => "target group",
            Part::SecurityGroup => "security group",
            Part::LaunchTemplate => "launch template",
            Part::ScalingGroup => "Auto Scaling group",
            Part::Instances => "instances of its version",
            Part::Service => "ECS service",
            Part::Attachment => "target group",
        }
    }
}

/// One change. The names are those of the attributes that ask for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A thing is made.
    Create(Part),
    /// The target group's health check or attributes.
    TargetGroup(Vec<String>),
    /// Rules of the security group.
    Rules {
        /// Those to come.
        come: Vec<Rule>,
        /// Those to go.
        gone: Vec<Rule>,
        /// What of those that go nothing else lets through, and a color that serves can't be without: its port, its health
        /// check's, and everything that goes out.
        closes: Vec<Rule>,
    },
    /// A new version of the launch template, and instances made of it.
    Roll(Vec<String>),
    /// A new version of a launch template that was gone, for the instances to come; those that are there stay.
    Repoint,
    /// A new version of the launch template, for a group that is yet to be made.
    Version,
    /// Other settings of the Auto Scaling group; subnets that it loses.
    ScalingGroup(Vec<String>, Vec<String>),
    /// The size of the Auto Scaling group: minimum, maximum, and how many there shall be now.
    Resize {
        /// The minimum, before and after.
        min: (i32, i32),
        /// The maximum after.
        max: i32,
        /// How many there shall be now, if that was changed.
        desired: Option<i32>,
    },
    /// A new deployment of the service.
    Deploy(Vec<String>),
    /// Settings of the service that take effect without one.
    Service(Vec<String>),
    /// The number of the service's tasks.
    Scale(i32),
    /// Fixed targets that come.
    Register(Vec<Target>),
    /// Fixed targets that go.
    Deregister(Vec<Target>),
}

impl Change {
    /// What it would do to a color that serves users, if it would hurt: `running` instances or tasks are there now.
    pub fn harm(&self, running: Option<i32>) -> Option<String> {
        match self {
            Change::Roll(what) => Some(format!("{} changed, so every instance would be replaced", list(what))),
            Change::Deploy(what) => Some(format!("{} changed, so every task would be replaced", list(what))),
            Change::ScalingGroup(_, lost) if !lost.is_empty() => {
                Some(format!("instances in {} would be terminated", lost.join(", ")))
            }
            Change::Resize { min, max, desired } => {
                let running = running.unwrap_or(i32::MAX);
                if let Some(desired) = desired.filter(|desired| *desired < running && running != i32::MAX) {
                    return Some(format!("it has {running} instances and would be left with {desired}"));
                }
                if *max < running && running != i32::MAX {
                    return Some(format!("it has {running} instances and max_size would be {max}"));
                }
                (min.1 < min.0 && min.1 < running)
                    .then(|| format!("min_size would go from {} to {}, below the {running} that run", min.0, min.1))
            }
            Change::Scale(count) => running
                .filter(|running| count < running)
                .map(|running| format!("it has {running} tasks and would be left with {count}")),
            Change::Deregister(targets) => {
                let names: Vec<&str> = targets.iter().map(|target| target.id.as_str()).collect();
                Some(format!("its targets {} would be taken out", names.join(", ")))
            }
            Change::Rules { closes, .. } if !closes.is_empty() => {
                let closed: Vec<String> = closes.iter().map(ToString::to_string).collect();
                Some(format!("its instances would no longer be open for: {}", closed.join("; ")))
            }
            Change::TargetGroup(what) => {
                let judged: Vec<String> = what.iter().filter(|name| JUDGED.contains(&name.as_str())).cloned().collect();
                (!judged.is_empty()).then(|| {
                    format!(
                        "{} changed: if its targets don't pass the new check, none of them gets requests any more, and the \
                         Auto Scaling group replaces them all",
                        list(&judged)
                    )
                })
            }
            Change::Create(_) | Change::Rules { .. } | Change::ScalingGroup(..) | Change::Repoint => None,
            Change::Service(_) | Change::Register(_) | Change::Version => None,
        }
    }

    /// The things that it replaces parts of, so that they have to be such as an environment can describe.
    pub fn rewrites(&self) -> &'static [Part] {
        match self {
            Change::Roll(_) | Change::Repoint | Change::Version => &[Part::ScalingGroup, Part::LaunchTemplate],
            Change::Deploy(_) | Change::Service(_) => &[Part::Service],
            _ => &[],
        }
    }

    /// Whether another change does the same kind of thing, whatever attributes ask for it.
    pub fn is_of_kind(&self, other: &Change) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// The attributes that ask for it, by their paths, where it is a configuration that does.
    pub fn paths(&self) -> Vec<String> {
        let under = |attribute: &str, names: &[String]| -> Vec<String> {
            let path = |name: &String| if name == "release" { name.clone() } else { format!("{attribute}.{name}") };
            names.iter().map(path).collect()
        };
        let fixed = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        match self {
            Change::TargetGroup(what) => under("target_group", what),
            Change::Rules { .. } => fixed(&["instances.ingress", "instances.egress"]),
            Change::Roll(what) | Change::ScalingGroup(what, _) => under("instances", what),
            Change::Resize { .. } => fixed(&["instances.min_size", "instances.max_size", "instances.desired_capacity"]),
            Change::Deploy(what) | Change::Service(what) => under("service", what),
            Change::Scale(_) => fixed(&["service.desired_count"]),
            Change::Register(_) | Change::Deregister(_) => fixed(&["targets"]),
            Change::Create(_) | Change::Repoint | Change::Version => Vec::new(),
        }
    }

    /// Whether somebody who wrote these attributes asked for it. Otherwise it would only undo what others did.
    pub fn is_asked(&self, asked: &BTreeSet<String>) -> bool {
        // What is asked may be a part of what the change names.
        let part_of = |path: &str, asked: &str| asked.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
        self.paths().iter().any(|path| asked.iter().any(|asked| asked == path || part_of(path, asked)))
    }

    /// Whether it would hurt a color that serves users, as far as can be told.
    fn hurts(&self, running: Option<i32>) -> bool {
        self.harm(running).is_some()
    }

    /// Whether nobody asked for it: a former replacement of instances didn't get to its end.
    pub fn is_left_over(&self) -> bool {
        matches!(self, Change::Roll(what) if *what == [FORMER])
    }

    /// What a person should know of it before it is done to a color that serves users.
    pub fn risk(&self) -> Option<String> {
        match self {
            Change::Rules { gone, closes, .. } if !gone.is_empty() && closes.is_empty() => {
                let gone: Vec<String> = gone.iter().map(ToString::to_string).collect();
                Some(format!("its instances will no longer be open for: {}", gone.join("; ")))
            }
            Change::TargetGroup(what) if self.harm(None).is_none() => {
                let of_check: Vec<String> =
                    what.iter().filter(|name| name.starts_with("health_check")).cloned().collect();
                (!of_check.is_empty()).then(|| {
                    format!("{} changed: targets that don't pass the new check get no more requests", list(&of_check))
                })
            }
            Change::ScalingGroup(what, _) if what.iter().any(|name| name == MIXED) => Some(format!(
                "{MIXED} changed: where shares of On-Demand and Spot Instances are others by that, Auto Scaling replaces instances one by one"
            )),
            _ => None,
        }
    }
}

/// What decides whether a target passes its health check at all.
const JUDGED: [&str; 5] =
    ["health_check.enabled", "health_check.protocol", "health_check.port", "health_check.path", "health_check.matcher"];

/// The changes to a protected color that serves users: those that stay, and those that are kept back since they would hurt it
/// and only undo what others did.
pub fn spared(changes: Vec<Change>, asked: &BTreeSet<String>, running: Option<i32>) -> (Vec<Change>, Vec<Change>) {
    let (mut stay, mut kept) = (Vec::new(), Vec::new());
    for change in changes {
        if change.is_asked(asked) || !change.hurts(running) {
            stay.push(change);
            continue;
        }
        // Without a template the group could not make a single instance more.
        if matches!(&change, Change::Roll(what) if what.iter().any(|name| name == NO_TEMPLATE)) {
            stay.push(Change::Repoint);
        }
        kept.push(change);
    }
    (stay, kept)
}

/// Why instances are replaced whose template is gone.
const NO_TEMPLATE: &str = "the launch template";
/// Why instances are replaced that a cancelled or failed refresh left behind.
const FORMER: &str = "the template before, of which there are still instances,";

fn list(names: &[String]) -> String {
    match names {
        [] => "something".to_owned(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// A cluster's name, also where it is given by its ARN.
pub fn cluster_name(cluster: &str) -> &str {
    cluster.rsplit('/').next().unwrap_or(cluster)
}

/// Which arguments of a class differ.
fn differing<A: Arguments + Serialize>(one: &A, other: &A, class: Class) -> Vec<String> {
    differing_of(one, other, A::of_class(class))
}

/// Which of these arguments differ.
fn differing_of(
    one: &impl Serialize,
    other: &impl Serialize,
    names: impl IntoIterator<Item = &'static str>,
) -> Vec<String> {
    let (one, other) = (serde_json::json!(one), serde_json::json!(other));
    names.into_iter().filter(|name| one.get(*name) != other.get(*name)).map(str::to_owned).collect()
}

/// The attributes whose change AWS allows only by making the thing anew, as paths. Both specs are settled.
pub fn replaced(from: &Spec, to: &Spec) -> Vec<Vec<String>> {
    // Where nothing of ours is in the VPC, it is only written down.
    let in_vpc = to.target_group.is_some() || to.instances.is_some();
    let differing_here = differing(from, to, Class::Replaces).into_iter().filter(|name| in_vpc || name != "vpc_id");
    let moves = from.region.as_ref().zip(to.region.as_ref()).is_some_and(|(from, to)| from != to);
    let differing_here = moves.then(|| "region".to_owned()).into_iter().chain(differing_here);
    let mut paths: Vec<Vec<String>> = differing_here.map(|name| vec![name]).collect();
    let kinds = |spec: &Spec| {
        [
            ("target_group", spec.target_group.is_some()),
            ("instances", spec.instances.is_some()),
            ("service", spec.service.is_some()),
            ("targets", spec.targets.is_some()),
        ]
    };
    for ((name, before), (_, after)) in kinds(from).into_iter().zip(kinds(to)) {
        // Targets can come to a group that had none, and go.
        if before != after && name != "targets" {
            paths.push(vec![name.to_owned()]);
        }
    }
    let mut inside = |attribute: &str, names: Vec<String>| {
        paths.extend(names.into_iter().map(|name| vec![attribute.to_owned(), name]));
    };
    if let (Some(from), Some(to)) = (&from.target_group, &to.target_group) {
        inside("target_group", differing(from, to, Class::Replaces));
    }
    if let (Some(from), Some(to)) = (&from.service, &to.service) {
        let moved = (cluster_name(&from.cluster) != cluster_name(&to.cluster)).then(|| "cluster".to_owned());
        inside("service", moved.into_iter().chain(differing(from, to, Class::Replaces)).collect());
    }
    paths
}

/// What must be done to come from one settled spec to the other, where only these parts exist. In an order in which
/// each finds what it needs; what is added comes before what is taken away.
pub fn changes(from: &Spec, to: &Spec, there: &BTreeSet<Part>) -> Vec<Change> {
    let mut out = Vec::new();
    if let Some(group) = &to.target_group {
        if there.contains(&Part::TargetGroup) {
            let before = from.target_group.clone().unwrap_or_default();
            let check = |group: &TargetGroup| group.health_check.clone().unwrap_or_default();
            let mut what = differing(&check(&before), &check(group), Class::InPlace);
            what.iter_mut().for_each(|name| name.insert_str(0, "health_check."));
            what.extend(differing(&before, group, Class::InPlace));
            push(&mut out, Change::TargetGroup(what));
        } else {
            out.push(Change::Create(Part::TargetGroup));
        }
    }
    if let Some(instances) = &to.instances {
        let before = from.instances.as_ref().map(Instances::with_plain_data).unwrap_or_default();
        let release = (from.release != to.release).then(|| "release".to_owned());
        let ports = serving_ports(to.target_group.as_ref());
        instance_changes((&before, &instances.with_plain_data()), (release, &ports), there, &mut out);
    }
    if let Some(service) = &to.service {
        let before = from.service.clone().unwrap_or_default();
        let release = (from.release != to.release).then(|| "release".to_owned());
        service_changes(&before, service, release, there, &mut out);
    }
    let targets = |spec: &Spec| -> BTreeSet<Target> { spec.targets.iter().flatten().cloned().collect() };
    let (before, after) = (targets(from), targets(to));
    let before =
        if to.target_group.is_some() && !there.contains(&Part::TargetGroup) { BTreeSet::new() } else { before };
    push(&mut out, Change::Register(after.difference(&before).cloned().collect()));
    // The same address and port is the same target to AWS, whatever else is said of it.
    let same = |one: &Target, other: &Target| one.id == other.id && one.port == other.port;
    let gone = before.difference(&after).filter(|target| !after.iter().any(|other| same(target, other)));
    push(&mut out, Change::Deregister(gone.cloned().collect()));
    out
}

/// A change about nothing is none.
fn push(out: &mut Vec<Change>, change: Change) {
    let empty = match &change {
        Change::TargetGroup(what) | Change::Roll(what) | Change::ScalingGroup(what, _) => what.is_empty(),
        Change::Deploy(what) | Change::Service(what) => what.is_empty(),
        Change::Rules { come, gone, .. } => come.is_empty() && gone.is_empty(),
        Change::Register(targets) | Change::Deregister(targets) => targets.is_empty(),
        Change::Create(_) | Change::Version | Change::Repoint | Change::Resize { .. } | Change::Scale(_) => false,
    };
    if !empty {
        out.push(change);
    }
}

/// Nothing is behind a target group that is made anew.
fn is_attached(there: &BTreeSet<Part>) -> bool {
    there.contains(&Part::TargetGroup) && there.contains(&Part::Attachment)
}

/// The ports that a color serves and is checked at; none where somebody else's group decides that.
fn serving_ports(group: Option<&TargetGroup>) -> Vec<i32> {
    let Some(group) = group else { return Vec::new() };
    let check = group.health_check.as_ref().and_then(|check| check.port.as_deref());
    group.port.into_iter().chain(check.and_then(|port| port.parse().ok())).collect()
}

/// The argument with the types and their distribution.
const MIXED: &str = "mixed_instances_policy";

fn instance_changes(
    (from, to): (&Instances, &Instances),
    (release, ports): (Option<String>, &[i32]),
    there: &BTreeSet<Part>,
    out: &mut Vec<Change>,
) {
    let (before, after) = (from.mixed_instances_policy.as_ref(), to.mixed_instances_policy.as_ref());
    let types = |policy: Option<&MixedInstances>| policy.map(|policy| policy.overrides.clone());
    // Instances of another type have to go; how many of them are Spot Instances is for those to come.
    let other_types = (types(before) != types(after)).then(|| MIXED.to_owned());
    let template: Vec<String> =
        differing(from, to, Class::Rolls).into_iter().chain(other_types.clone()).chain(release).collect();
    if there.contains(&Part::SecurityGroup) {
        let (before, after) = (rules(from), rules(to));
        let changed = |(rule, text): &(&Rule, &Option<String>)| before.get(*rule) != Some(*text);
        let come = after.iter().filter(changed).map(|(rule, _)| rule.clone()).collect();
        let gone = before.keys().filter(|rule| !after.contains_key(rule)).cloned().collect();
        let matters = |rule: &Rule| rule.direction == RuleDirection::Egress || rule.opens_one_of(ports);
        let closes = uncovered(before.keys().filter(|rule| matters(rule)), after.keys());
        push(out, Change::Rules { come, gone, closes });
    } else {
        out.push(Change::Create(Part::SecurityGroup));
    }
    if !there.contains(&Part::LaunchTemplate) {
        out.push(Change::Create(Part::LaunchTemplate));
    }
    if !there.contains(&Part::ScalingGroup) {
        if there.contains(&Part::LaunchTemplate) {
            // Whatever its newest version says, nobody knows who wrote it.
            out.push(Change::Version);
        }
        out.push(Change::Create(Part::ScalingGroup));
        return;
    }
    let gone = |part: Part| (!there.contains(&part)).then(|| format!("the {}", part.summary()));
    let former = (!there.contains(&Part::Instances)).then(|| FORMER.to_owned());
    let missing = [gone(Part::SecurityGroup), gone(Part::LaunchTemplate), former];
    let template: Vec<String> = template.into_iter().chain(missing.into_iter().flatten()).collect();
    let lost = from.subnet_ids.iter().filter(|subnet| !to.subnet_ids.contains(subnet)).cloned().collect();
    let spread = (before != after && other_types.is_none()).then(|| MIXED.to_owned());
    let settings = differing(from, to, Class::InPlace).into_iter().chain(spread).collect();
    push(out, Change::ScalingGroup(settings, lost));
    // As it is written: where nothing is, scaling has it alone.
    let desired = to.desired_capacity.filter(|_| from.desired_capacity != to.desired_capacity);
    if !is_attached(there) {
        out.push(Change::Create(Part::Attachment));
    }
    // Before the size: instances of a release that is broken would never be there in any number.
    push(out, Change::Roll(template));
    if (from.min_size, from.max_size) != (to.min_size, to.max_size) || desired.is_some() {
        out.push(Change::Resize { min: (from.min_size, to.min_size), max: to.max_size, desired });
    }
}

fn service_changes(
    from: &Service,
    to: &Service,
    release: Option<String>,
    there: &BTreeSet<Part>,
    out: &mut Vec<Change>,
) {
    if !there.contains(&Part::Service) {
        out.push(Change::Create(Part::Service));
        return;
    }
    let mut what: Vec<String> = release.into_iter().collect();
    if !from.runs_like(to) {
        what.extend(differing_of(from, to, ["task_definition", "task_definition_arn", "image"]));
    }
    what.extend(differing(from, to, Class::Rolls));
    what.extend((!is_attached(there)).then(|| format!("the {}", Part::Attachment.summary())));
    push(out, Change::Service(differing(from, to, Class::InPlace)));
    push(out, Change::Deploy(what));
    if let Some(count) = to.desired_count.filter(|_| from.desired_count != to.desired_count) {
        out.push(Change::Scale(count));
    }
}
