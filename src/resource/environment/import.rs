//! Finds an environment that exists: by its name and color, or by the things that it is to be made of.

use serde_json::Value as Json;

use super::private_state::PrivateState;
use super::{Shared, defaults, model, set_mirror, strings};
use crate::argument::Field as _;
use crate::arn::{self, Kind};
use crate::resource::{capitalized, is_reserved};
use crate::run::absence::believed;
use crate::run::ports::{Freshness, PortError};
use crate::run::stack::ports::Tags;
use crate::run::stack::{Seen, live_guard, observe};
use crate::stack::{self, Ids, Instances, Service, Spec, Target, TargetGroup};
use crate::tf_provider::{Schema, Stored, Value, msgpack};

const HELP: &str = "An id is NAME/COLOR for what this provider made, followed, for things with other names and for ECS, by \
                    commas and what it is made of: a target group's ARN, an ECS service's ARN, asg:NAME for an Auto \
                    Scaling group, adopt for a target group that somebody else keeps, targets for fixed targets. Such as \
                    myapp/blue,arn:aws:ecs:eu-central-1:123456789012:service/main/myapp-blue. What is in another region than \
                    the provider's is followed by it: myapp/blue@eu-west-1.";

/// # Errors
/// What is wrong with the id, or what isn't there.
pub(super) async fn import(shared: &Shared, schema: &Schema, text: &str) -> Result<Stored, String> {
    let mut parts = text.split(',').map(str::trim);
    let own = parts.next().and_then(|own| own.split_once('/'));
    let (name, color) = own.filter(|(name, color)| !name.is_empty() && !color.is_empty()).ok_or(HELP)?;
    let mut spec = Spec { name: name.to_owned(), color: color.to_owned(), ..Spec::default() };
    let mut ids = Ids::default();
    let (mut adopt, mut targets) = (false, false);
    for part in parts {
        match part {
            "adopt" => adopt = true,
            "targets" => targets = true,
            _ if part.starts_with("asg:") => ids.scaling_group = part.strip_prefix("asg:").map(str::to_owned),
            _ if part.contains(":ecs:") && part.contains(":service/") => ids.service = Some(part.to_owned()),
            _ => {
                arn::parse(part, Kind::TargetGroup).map_err(|error| format!("{error}\n\n{HELP}"))?;
                ids.target_group = Some(part.to_owned());
            }
        }
    }
    find(shared, &mut spec, &mut ids, adopt, targets).await?;
    if let Some(group) = ids.target_group.as_ref().filter(|_| !adopt) {
        spec.listener_arn = listener_of(shared, group, spec.service.is_some()).await.map_err(|error| error.message)?;
        if spec.service.is_some() && spec.listener_arn.is_none() {
            return Err(format!(
                "No Application Load Balancer leads to the target group {}, on whose listener an environment makes a rule for the target group of a service. Adopt it: append ,adopt to the id.",
                crate::rollout::short(group)
            ));
        }
    }
    let seen = observe(&shared.stack.ports, &spec.clone().with_defaults(), &ids).await;
    let seen = seen.map_err(|error| error.message)?;
    if let Some(why) = seen.unfit().into_values().flatten().next() {
        return Err(format!("{}.", capitalized(&why)));
    }
    // What isn't known yet is as AWS has it.
    let expected = Spec { release: Some(String::new()), ..spec };
    let mut found = seen.spec(&expected.with_defaults());
    found.release = found.release.filter(|release| !release.is_empty());
    if let (Some(instances), Some(group)) = (&mut found.instances, &seen.scaling_group) {
        instances.desired_capacity = group.instances.desired_capacity;
        instances.instance_refresh = None;
        instances.write_json_data();
    }
    if let (Some(service), Some(seen)) = (&mut found.service, &seen.service) {
        service.desired_count = seen.service.desired_count;
    }
    found.protect_live = None;
    found.tags = written_tags(&seen, &defaults(shared));
    let mut state = msgpack::from_json(&brief(&found), schema.ty())?;
    model::set_ids(&mut state, &seen.ids());
    state.set("id", Value::from(found.id()));
    set_mirror(&mut state, &found);
    let mut tags = defaults(shared);
    tags.extend(found.tags.clone());
    state.set("tags_all", strings(seen.tags_of(&tags)));
    let mut memory = PrivateState::default();
    memory.learn(&seen);
    memory.note_found(&found.with_defaults());
    Ok(Stored { state: Some(state), private: memory.bytes() })
}

/// The tags that a configuration would write: those that everything has, but for the provider's own, AWS's and `default_tags`.
fn written_tags(seen: &Seen, defaults: &Tags) -> Tags {
    let things = seen.tagged();
    let is_written = |(key, value): &(&String, &String)| {
        *key != "Name"
            && !is_reserved(key)
            && defaults.get(*key) != Some(*value)
            && things.iter().all(|tags| tags.get(*key) == Some(*value))
    };
    let first = things.first().into_iter().flat_map(|tags| tags.iter());
    first.filter(is_written).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Completes the ids, and what kind of stack it is.
async fn find(shared: &Shared, spec: &mut Spec, ids: &mut Ids, adopt: bool, targets: bool) -> Result<(), String> {
    let services = &shared.stack.ports;
    let name = stack::name(&spec.name, &spec.color);
    let told = |error: PortError| error.message;
    if let Some(arn) = ids.service.clone() {
        find_service(shared, (&arn, spec, ids)).await?;
    }
    let mut group = match &ids.target_group {
        Some(arn) => services.target_groups.find(arn).await.map_err(told)?,
        None => services.target_groups.named(&name).await.map_err(told)?,
    };
    if group.is_none() && ids.target_group.is_none() {
        // One that was made first, while the one that it replaced still had the usual name.
        let second = stack::second_name(&spec.name, &spec.color);
        group = services.target_groups.named(&second).await.map_err(told)?;
    }
    let group = group.ok_or_else(|| {
        format!("There is no target group {}.\n\n{HELP}", ids.target_group.as_deref().unwrap_or(&name))
    })?;
    ids.target_group = Some(group.arn.clone());
    // Everything of a stack has one name.
    let name = if adopt { name } else { group.name.clone() };
    spec.vpc_id = group.vpc_id.clone();
    if adopt {
        spec.target_group_arn = Some(group.arn.clone());
    } else {
        spec.target_group = Some(TargetGroup { target_type: group.group.target_type.clone(), ..group.group.clone() });
    }
    if spec.service.is_none() && !targets {
        let wanted = ids.scaling_group.clone();
        // One look that shows none would bring the color in without its instances.
        let find = || services.autoscaling.find(wanted.as_deref().unwrap_or(&name));
        let found = believed(find, Option::is_some, Option::or).await.map_err(told)?;
        if wanted.is_some() && found.is_none() {
            return Err(format!("there is no Auto Scaling group {}", wanted.unwrap_or_default()));
        }
        if let Some(found) = found {
            spec.instances = Some(Instances::default());
            let vpc = spec.vpc_id.as_deref().unwrap_or_default();
            let find = || services.security_groups.named(&found.name, vpc);
            let own = believed(find, Option::is_some, Option::or).await.map_err(told)?;
            ids.scaling_group = Some(found.name);
            ids.template = found.template.map(|(id, _)| id);
            ids.security_group = own.map(|group| group.id);
        }
    }
    if adopt && spec.instances.is_none() {
        // Nothing is made that would be in it.
        spec.vpc_id = None;
    }
    if targets {
        spec.targets = Some(vec![Target::default()]);
    }
    Ok(())
}

/// Completes what is known of a service.
async fn find_service(shared: &Shared, (arn, spec, ids): (&str, &mut Spec, &mut Ids)) -> Result<(), String> {
    let cluster = cluster_of(arn)?.to_owned();
    let seen = shared.stack.ports.ecs.find(&cluster, arn).await.map_err(|error| error.message)?;
    let seen = seen.ok_or_else(|| format!("there is no service {arn}"))?;
    // What decides the defaults of the rest.
    let capacity_provider_strategy = seen.service.capacity_provider_strategy.clone();
    let mut service = Service {
        cluster,
        launch_type: seen.service.launch_type.clone().filter(|_| capacity_provider_strategy.is_empty()),
        capacity_provider_strategy,
        subnet_ids: seen.service.subnet_ids.clone(),
        ..Service::default()
    };
    // What is no longer the newest one that AWS takes by itself was chosen.
    let newest = ["LATEST", "1.4.0", "1.0.0"];
    service.platform_version = seen.service.platform_version.clone().filter(|it| !newest.contains(&it.as_str()));
    service.task_definition_arn = seen.service.task_definition_arn.clone();
    if ids.target_group.is_none() && seen.target_groups.len() > 1 {
        return Err(format!(
            "The service has several target groups: {}. Name the one that a switch is to move in the id, behind a comma; the service keeps the others.\n\n{HELP}",
            seen.target_groups.join(", ")
        ));
    }
    ids.target_group = ids.target_group.take().or(seen.target_groups.first().cloned());
    let behind = ids.target_group.as_ref().map_or_else(|| seen.service.clone(), |group| seen.behind(group));
    service.container_name = behind.container_name;
    spec.service = Some(service);
    Ok(())
}

/// The listener on which the environment made the rule that no request matches. A service needs one: where no such rule is, it
/// is the one that leads to its target group.
async fn listener_of(shared: &Shared, group: &str, is_needed: bool) -> Result<Option<String>, PortError> {
    let leads = live_guard::leads_to(&shared.stack, group, Freshness::Shared).await?;
    let name = crate::rollout::short(group);
    let own = leads.iter().find(|lead| lead.makes_known(&name));
    let other = || leads.iter().find(|lead| is_needed && !arn::is_network(&lead.route.listener()));
    Ok(own.or_else(other).map(|lead| lead.route.listener()))
}

/// The cluster that a service's ARN names; one of the form before 2018 names none.
fn cluster_of(service: &str) -> Result<&str, String> {
    let parts: Vec<&str> = service.split('/').collect();
    match parts.as_slice() {
        [_, cluster, _] => Ok(cluster),
        _ => Err(format!("{service} doesn't name its cluster")),
    }
}

/// Attributes that are mostly written, also where they say what is usual.
const WRITTEN: [&str; 9] = [
    "target_group.port",
    "target_group.protocol",
    "target_group.health_check.path",
    "target_group.health_check.interval",
    "target_group.health_check.timeout",
    "target_group.health_check.healthy_threshold",
    "target_group.health_check.unhealthy_threshold",
    "instances.desired_capacity",
    "service.desired_count",
];

/// The spec as somebody would write it: without what means the same when it is left out.
fn brief(spec: &Spec) -> Json {
    let mut whole = spec.clone().with_defaults();
    if let Some(service) = &mut whole.service {
        // Which definition it was made of, nobody writes.
        service.running = None;
    }
    let mut json = serde_json::json!(spec);
    let mut paths = Vec::new();
    members(&json, &mut Vec::new(), &mut paths);
    for path in paths {
        let Some(slot) = path.iter().try_fold(&mut json, |json, step| step.of(json)) else { continue };
        let taken = slot.take();
        let same = Spec::read(&without_nulls(&json)).is_some_and(|spec| spec.with_defaults() == whole);
        if !same && let Some(slot) = path.iter().try_fold(&mut json, |json, step| step.of(json)) {
            *slot = taken;
        }
    }
    json
}

fn without_nulls(json: &Json) -> Json {
    match json {
        Json::Object(map) => {
            let kept = map.iter().filter(|(_, member)| !member.is_null());
            Json::Object(kept.map(|(name, member)| (name.clone(), without_nulls(member))).collect())
        }
        Json::Array(items) => items.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

#[derive(Clone)]
enum Step {
    Member(String),
    Item(usize),
}

impl Step {
    fn of<'j>(&self, json: &'j mut Json) -> Option<&'j mut Json> {
        match self {
            Step::Member(name) => json.get_mut(name),
            Step::Item(n) => json.get_mut(n),
        }
    }
}

/// The paths to all members of all objects, the outer ones first.
fn members(json: &Json, path: &mut Vec<Step>, out: &mut Vec<Vec<Step>>) {
    let (object, list) = (json.as_object().into_iter().flatten(), json.as_array().into_iter().flatten().enumerate());
    for (name, member) in object {
        path.push(Step::Member(name.clone()));
        if !member.is_null() && !WRITTEN.contains(&dotted(path).as_str()) {
            out.push(path.clone());
        }
        members(member, path, out);
        path.pop();
    }
    for (n, item) in list {
        path.push(Step::Item(n));
        members(item, path, out);
        path.pop();
    }
}

fn dotted(path: &[Step]) -> String {
    let names = path.iter().filter_map(|step| if let Step::Member(name) = step { Some(name.as_str()) } else { None });
    names.collect::<Vec<_>>().join(".")
}
