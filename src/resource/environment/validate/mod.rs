//! What can be told of a configuration before anything is asked.

mod instances;
mod service;
mod target_group;

use crate::arn;
use crate::resource::regions;
use crate::tf_provider::{Diagnostics, Path, Value};

pub(super) fn validate(config: &Value, diagnostics: &mut Diagnostics) {
    one_group(config, diagnostics);
    one_kind(config, diagnostics);
    target_group::validate(config, diagnostics);
    instances::validate(config, diagnostics);
    service::validate(config, diagnostics);
    if let Some(region) = config.get("region").as_str() {
        is_in(region, config, diagnostics);
    }
    crate::resource::reserved_tags(config.get("tags"), &Path::attribute("tags"), diagnostics);
}

fn needs(config: &Value, name: &str, by: &str, diagnostics: &mut Diagnostics) {
    if config.get(name).is_null() {
        let detail = format!("{by} needs {name}.");
        diagnostics.error_at(Path::attribute(by), format!("{name} is missing"), detail);
    }
}

fn one_group(config: &Value, diagnostics: &mut Diagnostics) {
    let (own, adopted) = (config.get("target_group"), config.get("target_group_arn"));
    match (own.is_null() && adopted.is_null(), own.is_set() && adopted.is_set()) {
        (true, _) => {
            let detail = "Set target_group to make one, or target_group_arn to adopt one.";
            diagnostics.error_at(Path::attribute("target_group"), "A target group is missing", detail);
        }
        // Terraform before 1.14 writes both for an import, and the region: whether it is the very same group, the plan sees.
        (_, true) if config.get("region").is_null() => two_groups(diagnostics),
        _ => {}
    }
}

/// One is made, and another one adopted.
pub(super) fn two_groups(diagnostics: &mut Diagnostics) {
    let detail = "target_group makes one, target_group_arn adopts one. Set one of them; in a configuration that was generated for an import, \
                  keep target_group.";
    diagnostics.error_at(Path::attribute("target_group_arn"), "Two target groups", detail);
}

/// What another region has would only be "not found" in this one.
pub(super) fn is_in(region: &str, config: &Value, diagnostics: &mut Diagnostics) {
    let attribute = |name| (Path::attribute(name), config.get(name));
    let (service, cluster) = attribute("service");
    let arns = [
        (attribute("target_group_arn"), "target group"),
        (attribute("listener_arn"), "listener"),
        ((service.attr("cluster"), cluster.get("cluster")), "cluster"),
    ];
    for ((path, value), what) in arns {
        let other = value.as_str().and_then(arn::region).filter(|other| *other != region);
        let Some(other) = other else { continue };
        let detail =
            format!("{path}: this {what} is in {other}, but the environment is in {region}. {}", regions::cure(other));
        diagnostics.error_at(path, format!("The {what} is in another region"), detail);
    }
}

fn one_kind(config: &Value, diagnostics: &mut Diagnostics) {
    let kinds = ["instances", "service", "targets"];
    let given: Vec<&str> = kinds.into_iter().filter(|name| config.get(name).is_set()).collect();
    for second in given.iter().skip(1) {
        let detail = format!(
            "An environment has instances, or a service, or targets, or none of them; {} is there as well.",
            given[0]
        );
        diagnostics.error_at(Path::attribute(second), "Two kinds of targets", detail);
    }
}

/// Tells what doesn't fit at an argument.
fn misfit(path: &Path, detail: &str, diagnostics: &mut Diagnostics) {
    let name = path.last_attribute().unwrap_or_default();
    diagnostics.error_at(path.clone(), format!("{name} doesn't fit"), format!("{path}: {detail}."));
}
