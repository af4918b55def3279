//! Rules of a service that look at several arguments.

use super::misfit;
use crate::argument::{Arguments as _, Field as _};
use crate::stack::{Service, TaskDefinition};
use crate::tf_provider::{Diagnostics, Path, Value};

pub(super) fn validate(config: &Value, diagnostics: &mut Diagnostics) {
    let service = config.get("service");
    if service.as_map().is_none() {
        return;
    }
    let base = Path::attribute("service");
    if config.get("target_group").as_map().is_some() && config.get("listener_arn").is_null() {
        let detail = "ECS takes a target group only when a listener or a rule has it. Name a listener of the load balancer \
                      in listener_arn: the environment makes a rule there that no request matches. Or keep the group \
                      elsewhere, in a listener's action, and adopt it with target_group_arn.";
        diagnostics.error_at(base.clone(), "listener_arn is missing", detail);
    }
    one_definition(service, &base, diagnostics);
    network(config, service, &base, diagnostics);
    capacity_providers(service, &base, diagnostics);
    percentages(service, &base, diagnostics);
    container(service, &base, diagnostics);
}

fn one_definition(service: &Value, base: &Path, diagnostics: &mut Diagnostics) {
    let set = |name: &str| service.get(name).is_set();
    let none = |name: &str| service.get(name).is_null();
    let both = set("task_definition") && set("task_definition_arn");
    if both || none("task_definition") && none("task_definition_arn") {
        let path = base.attr("task_definition");
        let detail = format!("{path}: set either task_definition, the JSON, or task_definition_arn.");
        diagnostics.error_at(path, "One task definition is needed", detail);
    }
    if set("image") && none("task_definition") {
        let path = base.attr("image");
        let detail = format!(
            "{path}: image replaces the image in task_definition. A task definition that is named by its ARN is not changed."
        );
        diagnostics.error_at(path, "image needs task_definition", detail);
    }
    if set("task_definition_arn") && none("container_name") {
        let path = base.attr("container_name");
        let detail = format!("{path}: task_definition_arn needs the name of the container that serves.");
        diagnostics.error_at(path, "container_name is missing", detail);
    }
    if set("launch_type") && set("capacity_provider_strategy") {
        let path = base.attr("launch_type");
        diagnostics.error_at(
            path.clone(),
            "Conflicting arguments",
            format!("{path}: capacity_provider_strategy replaces launch_type. Set one of them."),
        );
    }
}

fn container(service: &Value, base: &Path, diagnostics: &mut Diagnostics) {
    // What is wrong with the text itself, the schema says.
    let Some(definition) = service.get("task_definition").as_str().and_then(|text| TaskDefinition::parse(text).ok())
    else {
        return;
    };
    let names = definition.containers();
    let container = service.get("container_name");
    let missing = container.as_str().filter(|name| !names.contains(name));
    let path = base.attr("container_name");
    if let Some(name) = missing {
        let detail = format!("{path}: there is no container {name:?}; there are {}.", names.join(", "));
        diagnostics.error_at(path, "No such container", detail);
    } else if container.is_null() && names.len() > 1 {
        let detail = format!("{path}: the task definition has several containers ({}).", names.join(", "));
        diagnostics.error_at(path, "container_name is missing", detail);
    } else if !container.is_unknown() {
        serves(service, &definition, container.as_str(), base, diagnostics);
    }
}

/// What AWS would refuse of the container that serves, and of those beside it.
fn serves(
    service: &Value,
    definition: &TaskDefinition,
    container: Option<&str>,
    base: &Path,
    diagnostics: &mut Diagnostics,
) {
    let (port, ports) = (service.get("container_port").as_i64(), definition.ports(container));
    if let Some((port, ports)) = port.zip(ports).filter(|(port, ports)| !ports.contains(port)) {
        let mapped: Vec<String> = ports.iter().map(ToString::to_string).collect();
        let mapped = if mapped.is_empty() { "none".to_owned() } else { mapped.join(", ") };
        let detail = format!(
            "the container has to map port {port} (containerPort in its portMappings), or ECS doesn't take it; it maps {mapped}"
        );
        misfit(&base.attr("container_port"), &detail, diagnostics);
    }
    let image = service.get("image");
    let only = definition.containers();
    let named = container.or(only.first().copied()).filter(|_| !image.is_null());
    let bare: Vec<&str> = definition.without_image().into_iter().filter(|name| Some(*name) != named).collect();
    if !bare.is_empty() {
        let detail = format!("ECS takes no container without an image, and {} has none", bare.join(", "));
        misfit(&base.attr("task_definition"), &detail, diagnostics);
    }
}

/// Where tasks run, as far as it is known: in subnets, with addresses of their own, or on instances.
fn network(config: &Value, service: &Value, base: &Path, diagnostics: &mut Diagnostics) {
    let subnets = service.get("subnet_ids");
    if subnets.is_unknown() {
        return;
    }
    let has_subnets = subnets.as_list().is_some_and(|subnets| !subnets.is_empty());
    if !has_subnets {
        let groups = service.get("security_group_ids");
        if groups.as_list().is_some_and(|groups| !groups.is_empty()) {
            misfit(&base.attr("security_group_ids"), "only tasks with subnet_ids have security groups", diagnostics);
        }
        if service.get("assign_public_ip").as_bool() == Some(true) {
            misfit(&base.attr("assign_public_ip"), "only tasks with subnet_ids get a public address", diagnostics);
        }
        if service.get("launch_type").as_str() == Some("FARGATE") {
            misfit(&base.attr("launch_type"), "FARGATE needs subnet_ids", diagnostics);
        }
    }
    if service.get("launch_type").as_str() == Some("EC2") && service.get("platform_version").is_set() {
        misfit(&base.attr("platform_version"), "only FARGATE has platform versions", diagnostics);
    }
    for (name, most) in [("subnet_ids", 16), ("security_group_ids", 5)] {
        let count = service.get(name).as_list().unwrap_or_default().len();
        if count > most {
            misfit(&base.attr(name), &format!("ECS takes {most} at most, not {count}"), diagnostics);
        }
    }
    let wanted = if has_subnets { "ip" } else { "instance" };
    let kind = config.get("target_group").get("target_type").as_str();
    if let Some(kind) = kind.filter(|kind| *kind != wanted) {
        let why = if has_subnets {
            "with subnet_ids have addresses of their own"
        } else {
            "without subnet_ids run on instances"
        };
        let path = Path::attribute("target_group").attr("target_type");
        let detail = format!("{path}: tasks {why}: they are targets of type {wanted}, not {kind}.");
        diagnostics.error_at(path, "The target type doesn't fit", detail);
    }
}

fn capacity_providers(service: &Value, base: &Path, diagnostics: &mut Diagnostics) {
    let path = base.attr("capacity_provider_strategy");
    let Some(items) = service.get("capacity_provider_strategy").as_list().filter(|items| !items.is_empty()) else {
        return;
    };
    if items.len() > 20 {
        misfit(&path, &format!("ECS takes 20 capacity providers at most, not {}", items.len()), diagnostics);
    }
    let above_zero = |name: &str| items.iter().filter(|item| item.get(name).as_i64().unwrap_or_default() > 0).count();
    if above_zero("base") > 1 {
        misfit(&path, "only one capacity provider can have a base", diagnostics);
    }
    if above_zero("weight") == 0 && items.iter().all(Value::is_wholly_known) {
        misfit(
            &path,
            "at least one capacity provider needs a weight above 0: with none, ECS starts no task",
            diagnostics,
        );
    }
}

/// ECS could neither start a task nor stop one otherwise.
fn percentages(service: &Value, base: &Path, diagnostics: &mut Diagnostics) {
    if ["minimum_healthy_percent", "maximum_percent"].iter().any(|name| service.get(name).is_unknown()) {
        return;
    }
    let Some(mut read) = Service::read(&service.known_json()) else { return };
    read.fill(read.kind());
    if let (Some(least), Some(most)) = (read.minimum_healthy_percent, read.maximum_percent)
        && most <= least
    {
        let name = if service.get("maximum_percent").is_null() { "minimum_healthy_percent" } else { "maximum_percent" };
        let detail = format!("maximum_percent, {most}, must be more than minimum_healthy_percent, {least}");
        misfit(&base.attr(name), &detail, diagnostics);
    }
}
