//! ECS: services, their deployments, and the revisions of task definitions.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use aws_sdk_ecs::types::{
    AssignPublicIp, AvailabilityZoneRebalancing, AwsVpcConfiguration, CapacityProviderStrategyItem, DeploymentAlarms,
    DeploymentCircuitBreaker, DeploymentConfiguration, DeploymentRolloutState, DesiredStatus, LaunchType, LoadBalancer,
    NetworkConfiguration, PropagateTags, SchedulingStrategy, Service as AwsService, ServiceField, SortOrder, Tag,
    TaskDefinitionField, TaskDefinitionStatus,
};
use aws_smithy_types::body::SdkBody;

use super::batch::Gather;
use super::connection::Connection;
use super::error::{call_error, or_if_gone};
use crate::run::ports::{FailureKind, PortError};
use crate::run::stack::ports::{self, Deploy, Deployment, Rollout, SeenService, Tags};
use crate::stack::{self, CapacityProvider, CircuitBreaker, Service, TaskDefinition};

const SERVICE: &str = "ecs";
/// As many as DescribeServices takes.
const BATCH: usize = 10;
/// How many revisions are looked through for those of ours.
const REVISIONS: usize = 500;

/// ECS in one account and region.
pub struct Ecs {
    connection: Arc<Connection>,
    /// One batch for each cluster.
    services: Mutex<HashMap<String, Arc<Gather<String, SeenService>>>>,
}

fn to_tags(tags: &Tags) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

fn from_tags(tags: &[Tag]) -> Tags {
    let pair = |tag: &Tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned()));
    tags.iter().filter_map(pair).collect()
}

/// The cluster that a service's ARN names.
///
/// # Errors
/// An ARN of the form before 2018 names none.
pub fn cluster_of(service: &str) -> Result<&str, PortError> {
    let parts: Vec<&str> = service.split('/').collect();
    match parts.as_slice() {
        [_, cluster, _] => Ok(cluster),
        _ => Err(other(format!("{service} doesn't name its cluster"))),
    }
}

fn other(message: impl Into<String>) -> PortError {
    PortError::new(FailureKind::Other, message)
}

impl Ecs {
    /// Nothing is called before it is needed.
    pub fn new(connection: Arc<Connection>) -> Ecs {
        Ecs { connection, services: Mutex::default() }
    }

    /// A service as AWS has it, for what an update would leave out.
    async fn there(&self, cluster: &str, arn: &str) -> Result<AwsService, PortError> {
        let call = self.connection.ecs().await?.describe_services().cluster(cluster).services(arn);
        let answer = call.send().await.map_err(|error| call_error(SERVICE, "DescribeServices", &error))?;
        let gone = || PortError::new(FailureKind::Gone, format!("the service {arn} is gone"));
        answer.services.and_then(|services| services.into_iter().next()).ok_or_else(gone)
    }
}

#[async_trait]
impl ports::Ecs for Ecs {
    async fn find(&self, cluster: &str, service: &str) -> Result<Option<SeenService>, PortError> {
        let gather = {
            let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
            services.entry(cluster.to_owned()).or_insert_with(|| Arc::new(Gather::new(BATCH))).clone()
        };
        // By its name, since an ARN can have an old and a new form.
        let name = service.rsplit('/').next().unwrap_or(service).to_owned();
        let (connection, cluster) = (self.connection.clone(), cluster.to_owned());
        gather.get(name, move |names| describe(connection, cluster, names)).await
    }

    async fn register(&self, definition: &TaskDefinition, tags: &Tags) -> Result<String, PortError> {
        let mut body = definition.0.clone();
        // Tags that are written in the definition, and ours.
        let written = definition.tags().into_iter().filter(|(key, _)| !tags.contains_key(key));
        let tags: Vec<serde_json::Value> =
            written.chain(tags.clone()).map(|(key, value)| serde_json::json!({ "key": key, "value": value })).collect();
        body.insert("tags".to_owned(), tags.into());
        let body = serde_json::Value::Object(body).to_string();
        let call = self.connection.ecs().await?.register_task_definition().family(definition.family());
        let call = call.set_container_definitions(Some(Vec::new()));
        // The text goes to AWS as it was written: what this SDK doesn't know yet isn't lost.
        let call = call.customize().mutate_request(move |request| {
            request.headers_mut().insert("content-length", body.len().to_string());
            *request.body_mut() = SdkBody::from(body.as_str());
        });
        let answer = call.send().await.map_err(|error| call_error(SERVICE, "RegisterTaskDefinition", &error))?;
        let arn = answer.task_definition().and_then(|definition| definition.task_definition_arn());
        arn.map(str::to_owned).ok_or_else(|| other("ecs RegisterTaskDefinition named no ARN"))
    }

    async fn revisions(&self, family: &str, tag: (&str, &str)) -> Result<Vec<(String, Tags)>, PortError> {
        let client = self.connection.ecs().await?;
        let call = client.list_task_definitions().family_prefix(family).status(TaskDefinitionStatus::Active);
        let pages = call.sort(SortOrder::Desc).into_paginator().items().send();
        let arns = pages.collect::<Result<Vec<String>, _>>().await;
        let arns = arns.map_err(|error| call_error(SERVICE, "ListTaskDefinitions", &error))?;
        let mut ours = Vec::new();
        for arn in arns.iter().take(REVISIONS) {
            // The prefix fits other families too.
            if !arn.contains(&format!("/{family}:")) {
                continue;
            }
            let call = client.describe_task_definition().task_definition(arn).include(TaskDefinitionField::Tags);
            let answer = call.send().await.map_err(|error| call_error(SERVICE, "DescribeTaskDefinition", &error))?;
            let tags = from_tags(answer.tags());
            if tags.get(tag.0).map(String::as_str) == Some(tag.1) {
                ours.push((arn.clone(), tags));
            }
        }
        Ok(ours)
    }

    async fn revision_tags(&self, arn: &str) -> Result<Tags, PortError> {
        let call = self.connection.ecs().await?.describe_task_definition().task_definition(arn);
        let answer = call.include(TaskDefinitionField::Tags).send().await.map(|answer| from_tags(answer.tags()));
        or_if_gone(answer.map_err(|error| call_error(SERVICE, "DescribeTaskDefinition", &error)), Tags::new())
    }

    async fn revisions_of_others(&self, cluster: &str, service: Option<&str>) -> Result<Vec<String>, PortError> {
        let client = self.connection.ecs().await?;
        let pages = client.list_services().cluster(cluster).into_paginator().items().send();
        let arns = pages.collect::<Result<Vec<String>, _>>().await;
        let arns = or_if_gone(arns.map_err(|error| call_error(SERVICE, "ListServices", &error)), Vec::new())?;
        let others: Vec<String> = arns.into_iter().filter(|arn| Some(arn.as_str()) != service).collect();
        let mut revisions = Vec::new();
        for some in others.chunks(BATCH) {
            let answer = client.describe_services().cluster(cluster).set_services(Some(some.to_vec())).send().await;
            let answer = answer.map_err(|error| call_error(SERVICE, "DescribeServices", &error))?;
            for service in answer.services().iter().filter(|service| service.status() != Some("INACTIVE")) {
                revisions.extend(service.task_definition().map(str::to_owned));
                let deployed = service.deployments().iter().filter_map(|deployment| deployment.task_definition());
                revisions.extend(deployed.map(str::to_owned));
            }
        }
        Ok(revisions)
    }

    async fn deregister(&self, arn: &str) -> Result<(), PortError> {
        let call = self.connection.ecs().await?.deregister_task_definition().task_definition(arn);
        let result = call.send().await.map(drop);
        or_if_gone(result.map_err(|error| call_error(SERVICE, "DeregisterTaskDefinition", &error)), ())
    }

    async fn create(&self, name: &str, of: Deploy<'_>, tags: &Tags) -> Result<String, PortError> {
        let service = of.service;
        let call = self.connection.ecs().await?.create_service().service_name(name).cluster(&service.cluster);
        let strategy = strategy(&service.capacity_provider_strategy)?;
        let call = call
            .task_definition(of.task_definition)
            .desired_count(service.desired_count.unwrap_or(1))
            .set_launch_type(service.launch_type.as_deref().map(LaunchType::from))
            .set_platform_version(service.platform_version.clone())
            .set_capacity_provider_strategy(strategy)
            .set_network_configuration(network(service)?)
            .deployment_configuration(deployment(service, None))
            .set_propagate_tags(service.propagate_tags.as_deref().map(PropagateTags::from))
            .set_enable_ecs_managed_tags(service.enable_ecs_managed_tags.filter(|on| *on))
            .set_availability_zone_rebalancing(rebalancing(service))
            .set_health_check_grace_period_seconds(service.health_check_grace_period)
            .set_enable_execute_command(service.enable_execute_command)
            .set_load_balancers(Some(load_balancers(of, &[])))
            .set_tags(Some(to_tags(tags)));
        let answer = call.send().await.map_err(|error| call_error(SERVICE, "CreateService", &error))?;
        let arn = answer.service().and_then(|service| service.service_arn());
        arn.map(str::to_owned).ok_or_else(|| other("ecs CreateService named no ARN"))
    }

    async fn update(&self, arn: &str, service: &Service) -> Result<(), PortError> {
        let there = self.there(&service.cluster, arn).await?;
        let call = self.connection.ecs().await?.update_service().cluster(&service.cluster).service(arn);
        let call = call
            .deployment_configuration(deployment(service, there.deployment_configuration()))
            .set_propagate_tags(service.propagate_tags.as_deref().map(PropagateTags::from))
            .set_enable_ecs_managed_tags(service.enable_ecs_managed_tags)
            .set_availability_zone_rebalancing(rebalancing(service))
            .set_health_check_grace_period_seconds(service.health_check_grace_period);
        call.send().await.map(drop).map_err(|error| call_error(SERVICE, "UpdateService", &error))
    }

    async fn deploy(&self, arn: &str, of: Deploy<'_>) -> Result<Option<String>, PortError> {
        let service = of.service;
        let there = self.there(&service.cluster, arn).await?;
        let call = self.connection.ecs().await?.update_service().cluster(&service.cluster).service(arn);
        let call = call
            .task_definition(of.task_definition)
            .set_platform_version(service.platform_version.clone())
            .set_capacity_provider_strategy(strategy(&service.capacity_provider_strategy)?)
            .set_network_configuration(network(service)?)
            .set_enable_execute_command(service.enable_execute_command)
            .set_load_balancers(Some(load_balancers(of, there.load_balancers())))
            .force_new_deployment(of.force);
        let answer = call.send().await.map_err(|error| call_error(SERVICE, "UpdateService", &error))?;
        let deployments = answer.service().map(|service| service.deployments()).unwrap_or_default();
        let begun = deployments.iter().find(|deployment| deployment.status() == Some("PRIMARY"));
        Ok(begun.and_then(|deployment| deployment.id()).map(str::to_owned))
    }

    async fn scale(&self, cluster: &str, arn: &str, count: i32) -> Result<(), PortError> {
        let call = self.connection.ecs().await?.update_service().cluster(cluster).service(arn).desired_count(count);
        call.send().await.map(drop).map_err(|error| call_error(SERVICE, "UpdateService", &error))
    }

    async fn delete(&self, cluster: &str, arn: &str) -> Result<(), PortError> {
        let call = self.connection.ecs().await?.delete_service().cluster(cluster).service(arn).force(true);
        let result = call.send().await.map(drop);
        or_if_gone(result.map_err(|error| call_error(SERVICE, "DeleteService", &error)), ())
    }

    async fn set_tags(&self, arn: &str, set: &Tags, gone: &[String]) -> Result<(), PortError> {
        let client = self.connection.ecs().await?;
        if !gone.is_empty() {
            let result = client.untag_resource().resource_arn(arn).set_tag_keys(Some(gone.to_vec())).send().await;
            result.map_err(|error| call_error(SERVICE, "UntagResource", &error))?;
        }
        if !set.is_empty() {
            let result = client.tag_resource().resource_arn(arn).set_tags(Some(to_tags(set))).send().await;
            result.map_err(|error| call_error(SERVICE, "TagResource", &error))?;
        }
        Ok(())
    }

    async fn stopped_tasks(
        &self,
        cluster: &str,
        name: &str,
        deployment: Option<&str>,
    ) -> Result<Vec<String>, PortError> {
        let client = self.connection.ecs().await?;
        let call = client.list_tasks().cluster(cluster).service_name(name).desired_status(DesiredStatus::Stopped);
        let answer = call.max_results(STOPPED).send().await;
        let mut arns = answer.map_err(|error| call_error(SERVICE, "ListTasks", &error))?.task_arns().to_vec();
        arns.truncate(100);
        if arns.is_empty() {
            return Ok(Vec::new());
        }
        let answer = client.describe_tasks().cluster(cluster).set_tasks(Some(arns)).send().await;
        let answer = answer.map_err(|error| call_error(SERVICE, "DescribeTasks", &error))?;
        let of = answer.tasks().iter().filter(|task| deployment.is_none_or(|id| task.started_by() == Some(id)));
        let mut reasons: BTreeMap<String, (usize, String)> = BTreeMap::new();
        for task in of {
            let id = task.task_arn().and_then(|arn| arn.rsplit('/').next()).unwrap_or("?");
            reasons.entry(why_stopped(task)).or_insert((0, id.to_owned())).0 += 1;
        }
        let words = reasons.into_iter().map(|(reason, (count, id))| match count {
            1 => format!("task {id} stopped: {reason}"),
            _ => format!("{count} tasks stopped, such as {id}: {reason}"),
        });
        Ok(words.collect())
    }
}

/// As many as DescribeTasks takes.
const STOPPED: i32 = 100;

fn why_stopped(task: &aws_sdk_ecs::types::Task) -> String {
    let mut words = task.stopped_reason().unwrap_or("no reason given").to_owned();
    for container in task.containers() {
        let name = container.name().unwrap_or("?");
        match (container.exit_code(), container.reason()) {
            (Some(code), Some(reason)) => words += &format!("; {name} exited with {code} ({reason})"),
            (Some(code), None) => words += &format!("; {name} exited with {code}"),
            (None, Some(reason)) => words += &format!("; {name}: {reason}"),
            (None, None) => {}
        }
    }
    words
}

fn strategy(providers: &[CapacityProvider]) -> Result<Option<Vec<CapacityProviderStrategyItem>>, PortError> {
    let item = |provider: &CapacityProvider| {
        let builder = CapacityProviderStrategyItem::builder().capacity_provider(&provider.capacity_provider);
        let builder = builder.weight(provider.weight.unwrap_or_default()).base(provider.base.unwrap_or_default());
        builder.build().map_err(|error| other(error.to_string()))
    };
    if providers.is_empty() {
        return Ok(None);
    }
    providers.iter().map(item).collect::<Result<_, _>>().map(Some)
}

fn network(service: &Service) -> Result<Option<NetworkConfiguration>, PortError> {
    if service.subnet_ids.is_empty() {
        return Ok(None);
    }
    let public = service.assign_public_ip == Some(true);
    let configuration = AwsVpcConfiguration::builder()
        .set_subnets(Some(service.subnet_ids.clone()))
        .set_security_groups(Some(service.security_group_ids.clone()))
        .assign_public_ip(if public { AssignPublicIp::Enabled } else { AssignPublicIp::Disabled })
        .build()
        .map_err(|error| other(error.to_string()))?;
    Ok(Some(NetworkConfiguration::builder().awsvpc_configuration(configuration).build()))
}

fn rebalancing(service: &Service) -> Option<AvailabilityZoneRebalancing> {
    service.availability_zone_rebalancing.as_deref().map(AvailabilityZoneRebalancing::from)
}

fn to_alarms(wish: &stack::DeploymentAlarms) -> Option<DeploymentAlarms> {
    let (enable, rollback) = (wish.enable == Some(true), wish.rollback == Some(true));
    let alarms = DeploymentAlarms::builder().set_alarm_names(Some(wish.alarm_names.clone()));
    alarms.enable(enable).rollback(rollback).build().ok()
}

/// How deployments go. What no argument says, such as hooks and the thresholds of the breaker, is as it is there.
fn deployment(service: &Service, there: Option<&DeploymentConfiguration>) -> DeploymentConfiguration {
    let mut configuration = there.cloned().unwrap_or_else(|| DeploymentConfiguration::builder().build());
    let wished = service.circuit_breaker.clone().unwrap_or_default();
    let former = configuration.deployment_circuit_breaker.take();
    let mut breaker = former.unwrap_or_else(|| DeploymentCircuitBreaker::builder().build());
    breaker.enable = wished.enable == Some(true);
    breaker.rollback = wished.rollback == Some(true);
    configuration.deployment_circuit_breaker = Some(breaker);
    // An alarm that was there is only gone when none is named.
    let had = configuration.alarms.take();
    configuration.alarms = match &service.alarms {
        Some(alarms) => to_alarms(alarms),
        None => {
            had.filter(|had| !had.alarm_names.is_empty()).and_then(|_| to_alarms(&stack::DeploymentAlarms::default()))
        }
    };
    configuration.minimum_healthy_percent = service.minimum_healthy_percent;
    configuration.maximum_percent = service.maximum_percent;
    configuration
}

/// Where the traffic comes in. The list is replaced as a whole, so that target groups of others go with it as they are there.
fn load_balancers(of: Deploy<'_>, there: &[LoadBalancer]) -> Vec<LoadBalancer> {
    let is_own = |one: &LoadBalancer| one.target_group_arn() == Some(of.target_group);
    let mut all = there.to_vec();
    // The only one that there is stands for ours, also where that is another group by now.
    let at = match all.iter().position(is_own) {
        None if all.len() == 1 => Some(0),
        at => at,
    };
    let mut own = at.map_or_else(|| LoadBalancer::builder().build(), |at| all[at].clone());
    own.target_group_arn = Some(of.target_group.to_owned());
    own.container_name = Some(of.container.to_owned());
    own.container_port = of.service.container_port;
    match at {
        Some(at) => all[at] = own,
        None => all.insert(0, own),
    }
    all
}

async fn describe(
    connection: Arc<Connection>,
    cluster: String,
    names: Vec<String>,
) -> Result<HashMap<String, SeenService>, PortError> {
    let call = connection.ecs().await?.describe_services().cluster(&cluster).set_services(Some(names));
    let answer = call.include(ServiceField::Tags).send().await;
    let answer = answer.map_err(|error| call_error(SERVICE, "DescribeServices", &error));
    let services = or_if_gone(answer.map(|answer| answer.services().to_vec()), Vec::new())?;
    let there = services.iter().filter(|service| service.status() != Some("INACTIVE"));
    Ok(there.filter_map(|service| Some((service.service_name()?.to_owned(), seen(&cluster, service)?))).collect())
}

/// Why an environment can't release there: somebody else moves the traffic, or decides what runs.
fn unfit(service: &AwsService) -> Option<String> {
    let name = service.service_name().unwrap_or("?");
    let controller = service.deployment_controller().map(|controller| controller.r#type().as_str());
    let strategy = service.deployment_configuration().and_then(|it| it.strategy()).map(|strategy| strategy.as_str());
    match (controller, strategy, service.scheduling_strategy()) {
        (Some(controller), ..) if controller != "ECS" => Some(format!(
            "the deployment controller of the service {name} is {controller}, which releases and moves the traffic by itself; an environment needs ECS"
        )),
        (_, Some(strategy), _) if strategy != "ROLLING" => Some(format!(
            "the deployment strategy of the service {name} is {strategy}: ECS moves the traffic by itself at each deployment, against the switch; an environment needs ROLLING"
        )),
        (.., Some(SchedulingStrategy::Daemon)) => Some(format!(
            "the scheduling strategy of the service {name} is DAEMON: the number of container instances decides how many tasks there are; an environment needs REPLICA"
        )),
        _ => None,
    }
}

/// The settings as they are written.
fn settings(cluster: &str, service: &AwsService) -> Service {
    let network = service.network_configuration().and_then(|network| network.awsvpc_configuration());
    let configuration = service.deployment_configuration();
    let breaker = configuration.and_then(|configuration| configuration.deployment_circuit_breaker());
    let load_balancer = service.load_balancers().first();
    let provider = |item: &CapacityProviderStrategyItem| CapacityProvider {
        capacity_provider: item.capacity_provider().to_owned(),
        weight: Some(item.weight()),
        base: Some(item.base()),
    };
    Service {
        cluster: cluster.to_owned(),
        task_definition_arn: service.task_definition().map(str::to_owned),
        container_name: load_balancer.and_then(|balancer| balancer.container_name()).map(str::to_owned),
        container_port: load_balancer.and_then(|balancer| balancer.container_port()),
        desired_count: Some(service.desired_count()),
        launch_type: service.launch_type().map(|kind| kind.as_str().to_owned()),
        platform_version: service.platform_version().map(str::to_owned),
        capacity_provider_strategy: service.capacity_provider_strategy().iter().map(provider).collect(),
        subnet_ids: network.map(|network| network.subnets().to_vec()).unwrap_or_default(),
        security_group_ids: network.map(|network| network.security_groups().to_vec()).unwrap_or_default(),
        assign_public_ip: Some(
            network.and_then(|network| network.assign_public_ip()) == Some(&AssignPublicIp::Enabled),
        ),
        circuit_breaker: Some(CircuitBreaker {
            enable: Some(breaker.is_some_and(DeploymentCircuitBreaker::enable)),
            rollback: Some(breaker.is_some_and(DeploymentCircuitBreaker::rollback)),
        }),
        health_check_grace_period: Some(service.health_check_grace_period_seconds().unwrap_or_default()),
        minimum_healthy_percent: configuration.and_then(|configuration| configuration.minimum_healthy_percent()),
        maximum_percent: configuration.and_then(|configuration| configuration.maximum_percent()),
        enable_execute_command: Some(service.enable_execute_command()),
        propagate_tags: service.propagate_tags().map(|from| from.as_str().to_owned()),
        enable_ecs_managed_tags: Some(service.enable_ecs_managed_tags()),
        availability_zone_rebalancing: service.availability_zone_rebalancing().map(|on| on.as_str().to_owned()),
        alarms: configuration.and_then(|it| it.alarms()).filter(|it| !it.alarm_names.is_empty()).map(|alarms| {
            stack::DeploymentAlarms {
                alarm_names: alarms.alarm_names.clone(),
                enable: Some(alarms.enable),
                rollback: Some(alarms.rollback),
            }
        }),
        ..Service::default()
    }
}

fn seen(cluster: &str, service: &AwsService) -> Option<SeenService> {
    let deployments = service.deployments().iter().map(|deployment| Deployment {
        id: deployment.id().unwrap_or_default().to_owned(),
        primary: deployment.status() == Some("PRIMARY"),
        task_definition: deployment.task_definition().unwrap_or_default().to_owned(),
        state: match deployment.rollout_state() {
            Some(DeploymentRolloutState::Completed) => Rollout::Completed,
            Some(DeploymentRolloutState::Failed) => Rollout::Failed,
            _ => Rollout::InProgress,
        },
        is_reported: deployment.rollout_state().is_some(),
        reason: deployment.rollout_state_reason().map(str::to_owned),
        counts: (deployment.desired_count(), deployment.running_count(), deployment.failed_tasks()),
    });
    let behind = |one: &LoadBalancer| {
        let container = (one.container_name().map(str::to_owned), one.container_port());
        Some((one.target_group_arn()?.to_owned(), container))
    };
    Some(SeenService {
        arn: service.service_arn()?.to_owned(),
        service: settings(cluster, service),
        containers: service.load_balancers().iter().filter_map(behind).collect(),
        unfit: unfit(service),
        target_groups: service
            .load_balancers()
            .iter()
            .filter_map(|one| one.target_group_arn())
            .map(str::to_owned)
            .collect(),
        tags: from_tags(service.tags()),
        running: service.running_count(),
        draining: service.status() == Some("DRAINING"),
        deployments: deployments.collect(),
        events: service.events().iter().filter_map(|event| event.message()).take(5).map(str::to_owned).collect(),
    })
}
