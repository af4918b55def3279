//! Schedules the tasks of ECS services: moto keeps the services, and here their tasks run.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use hyper::Response;
use hyper::body::Bytes;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::compute::ecs_model::{Kind, Made, Plan, Service, Task};
use crate::compute::hosts::Hosts;
use crate::core::aws_call::AwsCall;
use crate::core::clock;
use crate::core::moto::{MotoClient, Scope};
use crate::node::checker::Checker;
use crate::node::config::Target;
use crate::node::converge::Converge;
use crate::node::health::State;

const TICK: Duration = Duration::from_millis(20);

/// What moto takes at a creation or an update and then forgets, or keeps after an update only.
const SETTINGS: [&str; 9] = [
    "capacityProviderStrategy",
    "deploymentConfiguration",
    "healthCheckGracePeriodSeconds",
    "enableExecuteCommand",
    "enableECSManagedTags",
    "placementConstraints",
    "placementStrategy",
    "availabilityZoneRebalancing",
    "serviceConnectConfiguration",
];

/// A change of these makes new tasks.
const DEPLOYED: [&str; 5] =
    ["capacityProviderStrategy", "networkConfiguration", "loadBalancers", "platformVersion", "serviceRegistries"];

/// The services.
#[derive(Debug)]
pub(crate) struct Ecs {
    moto: MotoClient,
    hosts: Arc<Hosts>,
    converge: Arc<Converge>,
    checker: Arc<Checker>,
    /// By ARN.
    services: Mutex<BTreeMap<String, Service>>,
    /// Of the services made and of the tasks started so far.
    counts: [AtomicU64; 2],
    loops: Mutex<Vec<JoinHandle<()>>>,
}

/// When to look at a service again.
enum Next {
    Now,
    Soon,
    WhenWoken,
    Never,
}

impl Ecs {
    pub(crate) fn new(moto: MotoClient, hosts: Arc<Hosts>, converge: Arc<Converge>, checker: Arc<Checker>) -> Self {
        let (counts, loops) = (Default::default(), Mutex::default());
        Self { moto, hosts, converge, checker, services: Mutex::default(), counts, loops }
    }

    pub(crate) fn stop(&self) {
        for task in self.loops.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }

    fn with<T>(&self, arn: &str, what: impl FnOnce(&mut Service) -> T) -> Option<T> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).get_mut(arn).map(what)
    }

    fn find<T>(&self, call: &AwsCall, name: &str, what: impl FnOnce(&mut Service) -> T) -> Option<T> {
        let region = format!(":{}:", call.scope.as_ref()?.region);
        let cluster = last_part(call.parameter("cluster").unwrap_or("default"));
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = services.values_mut();
        let is_it = |service: &&mut Service| {
            service.arn.contains(&region) && last_part(&service.cluster_arn) == cluster && service.name == name
        };
        found.find(is_it).map(what)
    }

    /// The answer to calls that moto gets wrong as a whole; `None`: moto has to answer.
    pub(crate) async fn answer(&self, call: &AwsCall) -> Option<Response<Bytes>> {
        match call.operation.as_str() {
            "CreateService" => {
                let name = call.parameter("serviceName")?;
                if self.find(call, name, |service| !service.deleted) == Some(true) {
                    return Some(call.refuse("InvalidParameterException", "Creation of service was not idempotent."));
                }
                self.refuse_unattached(call).await
            }
            "UpdateService" => {
                let name = last_part(call.parameter("service")?);
                let deleted = self.find(call, name, |service| service.deleted) == Some(true);
                deleted.then(|| call.refuse("ServiceNotActiveException", "Service was not ACTIVE."))
            }
            "StopTask" => self.stop_task(call).await,
            _ => None,
        }
    }

    async fn refuse_unattached(&self, call: &AwsCall) -> Option<Response<Bytes>> {
        let groups = registrations(&call.parameters["loadBalancers"]);
        if groups.is_empty() {
            return None;
        }
        self.converge.refresh().await.ok()?;
        let view = self.converge.control();
        let in_use = view.groups_in_use();
        let (group, _) = groups.iter().find(|(group, _)| !in_use.contains(group.as_str()))?;
        let why = format!("The target group with targetGroupArn {group} does not have an associated load balancer.");
        Some(call.refuse("InvalidParameterException", &why))
    }

    async fn stop_task(&self, call: &AwsCall) -> Option<Response<Bytes>> {
        let asked = call.parameter("task")?;
        let reason = call.parameter("reason").unwrap_or("Task stopped by user");
        let (arn, task) = {
            let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
            services.values_mut().find_map(|service| {
                let mut deployments = service.deployments.iter_mut();
                let task = deployments.find_map(|deployment| {
                    let place = deployment.tasks.iter().position(|task| is_same(&task.arn, asked))?;
                    Some(deployment.tasks.remove(place))
                })?;
                Some((service.arn.clone(), task))
            })?
        };
        self.stop_tasks(&arn, vec![task], ("UserInitiated", reason)).await;
        let shown = self.with(&arn, |service| {
            service.wake.notify_one();
            service.stopped.front().cloned().unwrap_or_default()
        })?;
        let mut response = Response::new(Bytes::from(json!({ "task": shown }).to_string()));
        let kind = hyper::header::HeaderValue::from_static("application/x-amz-json-1.1");
        response.headers_mut().insert("content-type", kind);
        Some(response)
    }

    /// What is sent to moto in place of the call: it wants security groups with every network.
    pub(crate) fn onward(call: &AwsCall) -> Option<Bytes> {
        let network = call.parameters.pointer("/networkConfiguration/awsvpcConfiguration")?;
        if call.operation != "CreateService" || network.get("securityGroups").is_some() {
            return None;
        }
        let mut parameters = call.parameters.clone();
        parameters["networkConfiguration"]["awsvpcConfiguration"]["securityGroups"] = json!([]);
        Some(Bytes::from(parameters.to_string()))
    }

    /// Follows a call that moto has accepted, and corrects moto's answer.
    pub(crate) async fn corrected(self: &Arc<Self>, call: &AwsCall, answer: &[u8]) -> Option<String> {
        let mut answer: Value = serde_json::from_slice(answer).ok()?;
        let scope = call.scope.as_ref()?;
        match call.operation.as_str() {
            "CreateService" => self.created(call, scope, &answer["service"]).await.ok()?,
            "UpdateService" => self.updated(call, scope, &answer["service"]).await.ok()?,
            "DeleteService" => self.deleted(&answer["service"]).await,
            "ListTasks" => {
                answer["taskArns"].as_array_mut()?.extend(self.list_tasks(call));
                return Some(answer.to_string());
            }
            "DescribeTasks" => {
                self.describe_tasks(call, &mut answer);
                return Some(answer.to_string());
            }
            "ListServices" => {
                let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
                let is_deleted =
                    |arn: &Value| arn.as_str().and_then(|arn| services.get(arn)).is_some_and(|found| found.deleted);
                answer["serviceArns"].as_array_mut()?.retain(|arn| !is_deleted(arn));
                return Some(answer.to_string());
            }
            "DescribeServices" => {}
            _ => return None,
        }
        self.correct(&mut answer["service"]);
        for shown in answer["services"].as_array_mut().into_iter().flatten() {
            self.correct(shown);
        }
        let fields = answer.as_object_mut()?;
        // Indexing an answer for its service has made one of null.
        fields.retain(|_, value| !value.is_null());
        Some(answer.to_string())
    }

    fn correct(&self, shown: &mut Value) {
        let Some(arn) = shown["serviceArn"].as_str().map(str::to_owned) else { return };
        self.with(&arn, |service| service.correct(shown));
    }

    async fn created(self: &Arc<Self>, call: &AwsCall, scope: &Scope, shown: &Value) -> anyhow::Result<()> {
        let text = |name: &str| shown[name].as_str().unwrap_or_default().to_owned();
        let made = self.made(scope, &text("taskDefinition")).await?;
        let generation = self.counts[0].fetch_add(1, Ordering::Relaxed);
        let mut service = Service {
            arn: text("serviceArn"),
            name: text("serviceName"),
            cluster_arn: text("clusterArn"),
            scope: scope.clone(),
            generation,
            color: text("serviceName"),
            desired: count(&call.parameters["desiredCount"]).unwrap_or(0),
            registrations: registrations(&call.parameters["loadBalancers"]),
            settings: Map::new(),
            deployed: Map::new(),
            deployments: Vec::new(),
            events: VecDeque::new(),
            stopped: VecDeque::new(),
            last_good: None,
            deleted: false,
            created: clock::epoch_seconds(),
            wake: Arc::new(Notify::new()),
        };
        let defaults = json!({ "maximumPercent": 200, "minimumHealthyPercent": 100 });
        service.settings.insert("deploymentConfiguration".to_owned(), defaults);
        learn(&mut service, &call.parameters);
        learn_deployed(&mut service, &call.parameters);
        service.color = self.color(&service).await;
        service.deploy(made, None);
        let (arn, wake) = (service.arn.clone(), Arc::clone(&service.wake));
        self.services.lock().unwrap_or_else(PoisonError::into_inner).insert(arn.clone(), service);
        let this = Arc::clone(self);
        let task = tokio::spawn(async move { this.run(&arn, generation, &wake).await });
        let mut loops = self.loops.lock().unwrap_or_else(PoisonError::into_inner);
        loops.retain(|task| !task.is_finished());
        loops.push(task);
        Ok(())
    }

    async fn updated(&self, call: &AwsCall, scope: &Scope, shown: &Value) -> anyhow::Result<()> {
        let arn = shown["serviceArn"].as_str().context("no ARN")?;
        let asked = &call.parameters;
        let made = match asked["taskDefinition"].as_str() {
            Some(task_definition) => Some(self.made(scope, task_definition).await?),
            None => None,
        };
        let color = match self.with(arn, |service| (service.arn.clone(), service.scope.clone(), service.name.clone())) {
            Some((arn, scope, name)) => self.color_of(&scope, &arn, &name).await,
            None => return Ok(()),
        };
        self.with(arn, |service| {
            let changes = learn_deployed(service, asked);
            let forced = asked["forceNewDeployment"].as_bool().unwrap_or(false);
            let current = service.deployments.first().map(|primary| primary.made.clone()).unwrap_or_default();
            let other = made.as_ref().is_some_and(|made| *made != current);
            learn(service, asked);
            if asked["loadBalancers"].is_array() {
                service.registrations = registrations(&asked["loadBalancers"]);
            }
            if let Some(desired) = count(&asked["desiredCount"]) {
                service.scale_to(desired);
            }
            if other || forced || changes {
                service.color = color;
                service.deploy(made.unwrap_or(current), None);
            }
        });
        Ok(())
    }

    async fn deleted(&self, shown: &Value) {
        let Some(arn) = shown["serviceArn"].as_str() else { return };
        let tasks = self.with(arn, |service| {
            service.deleted = true;
            service.desired = 0;
            service.wake.notify_one();
            service.deployments.drain(..).flat_map(|deployment| deployment.tasks).collect::<Vec<Task>>()
        });
        let why = ("ServiceSchedulerInitiated", "The service was deleted.");
        self.stop_tasks(arn, tasks.unwrap_or_default(), why).await;
    }

    /// What a task definition is made of.
    async fn made(&self, scope: &Scope, task_definition: &str) -> anyhow::Result<Made> {
        let asked = json!({ "taskDefinition": task_definition });
        let found = self.moto.ecs(scope, "DescribeTaskDefinition", &asked).await?;
        let found = &found["taskDefinition"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let container = &found["containerDefinitions"][0];
        Ok(Made {
            task_definition: text(&found["taskDefinitionArn"]),
            container: text(&container["name"]),
            image: text(&container["image"]),
        })
    }

    async fn color(&self, service: &Service) -> String {
        self.color_of(&service.scope, &service.arn, &service.name).await
    }

    async fn color_of(&self, scope: &Scope, arn: &str, name: &str) -> String {
        let tags = self.moto.ecs(scope, "ListTagsForResource", &json!({ "resourceArn": arn })).await;
        let tags = tags.unwrap_or_default();
        let mut tags = tags["tags"].as_array().into_iter().flatten();
        let tag = tags.find(|tag| tag["key"] == "bluegreen:color");
        tag.and_then(|tag| tag["value"].as_str()).unwrap_or(name).to_owned()
    }

    async fn run(&self, arn: &str, generation: u64, wake: &Notify) {
        loop {
            match self.step(arn, generation).await {
                Next::Now => {}
                Next::Soon => tokio::time::sleep(TICK).await,
                Next::WhenWoken => wake.notified().await,
                Next::Never => return,
            }
        }
    }

    async fn step(&self, arn: &str, generation: u64) -> Next {
        let plan = self.with(arn, |service| {
            let is_mine = service.generation == generation && !service.deleted;
            is_mine.then(|| service.plan(|task| self.is_healthy(task)))
        });
        match plan.flatten() {
            None => return Next::Never,
            Some(Plan::Idle) => return Next::WhenWoken,
            Some(Plan::Later) => return Next::Soon,
            Some(Plan::Start(made, deployment)) => {
                if let Err(error) = self.start_task(arn, made, &deployment).await {
                    eprintln!("local-aws: a task of {arn}: {error:#}");
                    return Next::Soon;
                }
            }
            Some(Plan::Stop(tasks)) => {
                self.stop_tasks(arn, tasks, ("ServiceSchedulerInitiated", "Scaling activity initiated")).await;
            }
            Some(Plan::Complete(tasks)) => {
                self.stop_tasks(arn, tasks, ("ServiceSchedulerInitiated", "Scaling activity initiated")).await;
                self.with(arn, |service| service.event("has reached a steady state."));
            }
        }
        Next::Now
    }

    fn is_healthy(&self, task: &Task) -> bool {
        let view = self.converge.control();
        let in_use = view.groups_in_use();
        let healthy = |(group, port): &(String, u16)| {
            let Some(found) = view.target_groups.get(group) else { return true };
            let target = Target { id: task.address.clone(), port: *port };
            !found.check.enabled
                || !in_use.contains(group.as_str())
                || self.checker.state(group, &target) == State::Healthy
        };
        task.made.kind() != Kind::Sick && task.registrations.iter().all(healthy)
    }

    async fn start_task(&self, arn: &str, made: Made, deployment: &str) -> anyhow::Result<()> {
        let known = self.with(arn, |service| {
            (service.new_task_arn(), service.scope.clone(), service.color.clone(), service.registrations.clone())
        });
        let Some((task_arn, scope, color, registrations)) = known else { return Ok(()) };
        let address = self.next_address();
        self.hosts.start(&address, &color, made.release(), made.kind() == Kind::Sick).await?;
        for (group, port) in &registrations {
            self.target(&scope, "RegisterTargets", group, &address, *port).await;
        }
        let started = clock::epoch_seconds();
        let task = Task { arn: task_arn, address, registrations, deployment: deployment.to_owned(), made, started };
        let late = self.with(arn, |service| {
            let place = service.deployments.iter().position(|found| found.id == deployment);
            let Some(found) = place.and_then(|place| service.deployments.get_mut(place)) else { return Some(task) };
            let short = last_part(&task.arn).to_owned();
            found.tasks.push(task);
            service.event(&format!("has started 1 tasks: (task {short})."));
            for (group, _) in service.registrations.clone() {
                service.event(&format!("registered 1 targets in (target-group {group})"));
            }
            None
        });
        if let Some(task) = late.flatten() {
            // Its deployment went while it started.
            let why = ("ServiceSchedulerInitiated", "Scaling activity initiated");
            self.stop_tasks(arn, vec![task], why).await;
        }
        self.converge.refresh().await
    }

    async fn stop_tasks(&self, arn: &str, tasks: Vec<Task>, (code, reason): (&str, &str)) {
        let Some(scope) = self.with(arn, |service| service.scope.clone()).filter(|_| !tasks.is_empty()) else { return };
        // What takes their place is healthy once every node knows it.
        if let Err(error) = self.converge.settled().await {
            eprintln!("local-aws: before the end of tasks: {error:#}");
        }
        for task in &tasks {
            for (group, port) in &task.registrations {
                self.target(&scope, "DeregisterTargets", group, &task.address, *port).await;
            }
        }
        if let Err(error) = self.converge.refresh().await {
            eprintln!("local-aws: after the end of tasks: {error:#}");
        }
        for task in tasks {
            self.hosts.stop(&task.address);
            self.with(arn, |service| {
                let mut shown = service.show_task(&task, "STOPPED");
                shown["stopCode"] = code.into();
                shown["stoppedReason"] = reason.into();
                shown["containers"][0]["exitCode"] = 0.into();
                service.push_stopped(shown);
                service.event(&format!("has stopped 1 running tasks: (task {}).", last_part(&task.arn)));
            });
        }
    }

    /// A refusal only says that the group is gone or knows no such target; either way there is nothing to do.
    async fn target(&self, scope: &Scope, action: &str, group: &str, address: &str, port: u16) {
        let port = port.to_string();
        let parameters =
            [("TargetGroupArn", group), ("Targets.member.1.Id", address), ("Targets.member.1.Port", &port)];
        let _ = self.moto.call(scope, action, &parameters).await;
    }

    /// An address that no other task has: moto tells targets apart by address only.
    fn next_address(&self) -> String {
        let n = self.counts[1].fetch_add(1, Ordering::Relaxed);
        format!("127.1.{}.{}", n / 254 % 254, n % 254 + 1)
    }

    fn list_tasks(&self, call: &AwsCall) -> Vec<Value> {
        let status = call.parameter("desiredStatus").unwrap_or("RUNNING");
        let name = call.parameter("serviceName").map(last_part);
        let tasks = self.tasks(call, |service| name.is_none_or(|name| name == service.name));
        let wanted = |task: &Value| {
            let started_by = call.parameter("startedBy").is_none_or(|id| task["startedBy"] == id);
            let definition = task["taskDefinitionArn"].as_str().unwrap_or_default();
            let family = last_part(definition).split(':').next().unwrap_or_default();
            task["desiredStatus"] == status
                && started_by
                && call.parameter("family").is_none_or(|asked| asked == family)
        };
        tasks.into_iter().filter(wanted).map(|task| task["taskArn"].clone()).collect()
    }

    fn describe_tasks(&self, call: &AwsCall, answer: &mut Value) {
        let asked: Vec<&str> =
            call.parameters["tasks"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let found: Vec<Value> = self
            .tasks(call, |_| true)
            .into_iter()
            .filter(|task| asked.iter().any(|asked| is_same(task["taskArn"].as_str().unwrap_or_default(), asked)))
            .collect();
        let Some(tasks) = answer["tasks"].as_array_mut() else { return };
        tasks.extend(found);
        let known: Vec<String> = tasks.iter().filter_map(|task| task["taskArn"].as_str()).map(str::to_owned).collect();
        let missing = asked.iter().filter(|asked| !known.iter().any(|known| is_same(known, asked)));
        answer["failures"] = missing.map(|arn| json!({ "arn": arn, "reason": "MISSING" })).collect();
    }

    /// All tasks of the call's cluster, as shown.
    fn tasks(&self, call: &AwsCall, of: impl Fn(&Service) -> bool) -> Vec<Value> {
        let region = call.scope.as_ref().map(|scope| format!(":{}:", scope.region)).unwrap_or_default();
        let cluster = last_part(call.parameter("cluster").unwrap_or("default"));
        let services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let services = services.values().filter(|service| {
            service.arn.contains(&region) && last_part(&service.cluster_arn) == cluster && of(service)
        });
        let mut shown = Vec::new();
        for service in services {
            let running = service.deployments.iter().flat_map(|deployment| &deployment.tasks);
            shown.extend(running.map(|task| service.show_task(task, "RUNNING")));
            shown.extend(service.stopped.iter().cloned());
        }
        shown
    }
}

fn learn(service: &mut Service, asked: &Value) {
    for name in SETTINGS {
        match asked.get(name) {
            None | Some(Value::Null) => {}
            // Parts that an update leaves out stay as they are.
            Some(Value::Object(new)) => {
                let known = service.settings.entry(name).or_insert_with(|| json!({}));
                if let Some(known) = known.as_object_mut() {
                    known.extend(new.clone());
                }
            }
            Some(value) => drop(service.settings.insert(name.to_owned(), value.clone())),
        }
    }
}

/// Whether anything changed.
fn learn_deployed(service: &mut Service, asked: &Value) -> bool {
    let given = DEPLOYED.iter().filter_map(|&name| Some((name, asked.get(name).filter(|value| !value.is_null())?)));
    let mut changed = false;
    for (name, value) in given {
        changed |= service.deployed.insert(name.to_owned(), value.clone()).as_ref() != Some(value);
    }
    changed
}

fn registrations(load_balancers: &Value) -> Vec<(String, u16)> {
    let listed = load_balancers.as_array().into_iter().flatten();
    let registration = |one: &Value| {
        let port = one["containerPort"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or(80);
        Some((one["targetGroupArn"].as_str()?.to_owned(), port))
    };
    listed.filter_map(registration).collect()
}

fn count(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|count| usize::try_from(count).ok())
}

fn last_part(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

/// A task may be asked for by its ARN or by its id.
fn is_same(arn: &str, asked: &str) -> bool {
    arn == asked || last_part(arn) == asked
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::testing::{Local, get, until};

    async fn register(local: &Local, image: &str) {
        let container = json!({ "name": "app", "image": image, "memory": 128, "essential": true });
        local.ecs("RegisterTaskDefinition", json!({ "family": "web", "containerDefinitions": [container] })).await;
    }

    /// A service of two tasks that serve, with a circuit breaker.
    async fn service(local: &Local) -> (String, SocketAddr) {
        let (group, listener) = local.stage("ip").await;
        local.ecs("CreateCluster", json!({ "clusterName": "c" })).await;
        register(local, "app:v1").await;
        let subnets = local.subnets().await;
        let made = json!({
            "cluster": "c", "serviceName": "web", "taskDefinition": "web:1", "desiredCount": 2,
            "loadBalancers": [{ "targetGroupArn": group, "containerName": "app", "containerPort": 8080 }],
            "networkConfiguration": { "awsvpcConfiguration": { "subnets": [subnets[0]] } },
            "deploymentConfiguration": { "deploymentCircuitBreaker": { "enable": true, "rollback": true } },
            "capacityProviderStrategy": [{ "capacityProvider": "FARGATE", "weight": 1 }],
            "healthCheckGracePeriodSeconds": 5,
            "tags": [{ "key": "bluegreen:color", "value": "blue" }],
        });
        let answer = local.ecs("CreateService", made.clone()).await;
        assert_eq!(answer["service"]["deployments"][0]["rolloutState"], "IN_PROGRESS");
        assert!(local.try_ecs("CreateService", made).await.is_err());
        until("two tasks", async || describe(local).await["deployments"][0]["rolloutState"] == "COMPLETED").await;
        local.aws.settled().await.expect("moto answers");
        (group, listener)
    }

    async fn describe(local: &Local) -> Value {
        local.ecs("DescribeServices", json!({ "cluster": "c", "services": ["web"] })).await["services"][0].clone()
    }

    async fn update(local: &Local, mut what: Value) {
        (what["cluster"], what["service"]) = ("c".into(), "web".into());
        local.ecs("UpdateService", what).await;
    }

    #[tokio::test]
    async fn a_service_deploys_scales_and_ends() {
        let local = Local::start().await;
        let (group, listener) = service(&local).await;
        assert_eq!(local.get(listener).await, (200, "blue v1".to_owned()));
        let shown = describe(&local).await;
        assert_eq!((&shown["runningCount"], &shown["pendingCount"]), (&json!(2), &json!(0)));
        assert_eq!((&shown["launchType"], &shown["healthCheckGracePeriodSeconds"]), (&Value::Null, &json!(5)));
        register(&local, "app:v2").await;
        update(&local, json!({ "taskDefinition": "web:2" })).await;
        until("the second release", async || {
            assert_eq!(get(listener).await.0, 200);
            let shown = describe(&local).await;
            shown["deployments"][0]["rolloutState"] == "COMPLETED" && shown["events"][0]["message"] == STEADY
        })
        .await;
        let shown = describe(&local).await;
        assert_eq!(shown["deployments"].as_array().map(Vec::len), Some(1), "{shown}");
        assert_eq!(local.get(listener).await, (200, "blue v2".to_owned()));
        let id = shown["deployments"][0]["id"].clone();
        update(&local, json!({ "desiredCount": 3 })).await;
        until("a third task", async || local.healthy(&group).await == 3).await;
        assert_eq!(describe(&local).await["deployments"][0]["id"], id);
        let tasks = local.ecs("ListTasks", json!({ "cluster": "c", "serviceName": "web" })).await;
        assert_eq!(tasks["taskArns"].as_array().map(Vec::len), Some(3));
        local.ecs("DeleteService", json!({ "cluster": "c", "service": "web", "force": true })).await;
        assert_eq!(local.get(listener).await.0, 503);
        let shown = describe(&local).await;
        assert_eq!((&shown["status"], &shown["runningCount"]), (&json!("INACTIVE"), &json!(0)));
        local.aws.stop().await;
    }

    const STEADY: &str = "(service web) has reached a steady state.";

    #[tokio::test]
    async fn a_broken_image_trips_the_breaker_and_rolls_back() {
        let local = Local::start().await;
        let (_, listener) = service(&local).await;
        register(&local, "app:broken").await;
        update(&local, json!({ "taskDefinition": "web:2" })).await;
        until("a rollback", async || {
            assert_eq!(get(listener).await, (200, "blue v1".to_owned()));
            let shown = describe(&local).await;
            shown["deployments"][0]["rolloutState"] == "COMPLETED"
                && shown["deployments"][1]["rolloutState"] == "FAILED"
        })
        .await;
        let shown = describe(&local).await;
        let failed = &shown["deployments"][1];
        assert_eq!((&failed["failedTasks"], &failed["status"]), (&json!(3), &json!("INACTIVE")));
        assert!(shown["taskDefinition"].as_str().is_some_and(|arn| arn.ends_with("web:1")), "{shown}");
        let asked = json!({ "cluster": "c", "serviceName": "web", "desiredStatus": "STOPPED" });
        let tasks = local.ecs("ListTasks", asked).await["taskArns"].clone();
        let tasks = local.ecs("DescribeTasks", json!({ "cluster": "c", "tasks": tasks })).await;
        let mut tasks = tasks["tasks"].as_array().into_iter().flatten();
        let task = tasks.find(|task| task["startedBy"] == failed["id"]).expect("a stopped task");
        assert_eq!(task["stoppedReason"], "Essential container in task exited");
        assert_eq!(task["containers"][0]["exitCode"], 1);
        local.aws.stop().await;
    }

    #[tokio::test]
    async fn sick_and_hanging_images_never_complete() {
        let local = Local::start().await;
        let (group, listener) = service(&local).await;
        register(&local, "app:sick").await;
        register(&local, "app:hang").await;
        update(&local, json!({ "taskDefinition": "web:2" })).await;
        until("sick tasks", async || describe(&local).await["deployments"][0]["runningCount"] == 2).await;
        until("they are targets", async || {
            let health = local.elb("DescribeTargetHealth", &[("TargetGroupArn", &group)]).await;
            health.matches("<State>unhealthy</State>").count() == 2
        })
        .await;
        assert_eq!(local.get(listener).await, (200, "blue v1".to_owned()));
        update(&local, json!({ "taskDefinition": "web:3" })).await;
        let shown = describe(&local).await;
        assert_eq!((&shown["runningCount"], &shown["deployments"][0]["pendingCount"]), (&json!(4), &json!(2)));
        update(&local, json!({ "taskDefinition": "web:1" })).await;
        until("the good tasks", async || describe(&local).await["runningCount"] == 2).await;
        assert_eq!(describe(&local).await["deployments"][0]["rolloutState"], "COMPLETED");
        local.aws.stop().await;
    }
}
