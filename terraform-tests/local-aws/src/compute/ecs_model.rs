//! What is known of an ECS service: its deployments, tasks and events, what is to be done next, and how AWS shows it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::compute::instances::uuid;
use crate::core::clock;
use crate::core::moto::Scope;

/// From the beginning of a deployment until its tasks start.
const STARTING: Duration = Duration::from_millis(40);
/// No deployment completes sooner.
const ROLLOUT: Duration = Duration::from_millis(100);
/// Between two failures of a broken image.
const BETWEEN_FAILURES: Duration = Duration::from_millis(50);
const FAILURES_TO_BREAK: u32 = 3;
const EVENTS_KEPT: usize = 100;
const STOPPED_KEPT: usize = 50;

/// What the name of an image says about its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Good,
    /// They stop at once.
    Broken,
    /// They never start.
    Hang,
    /// They answer 500 to everything.
    Sick,
}

/// What a deployment is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Made {
    pub task_definition: String,
    pub container: String,
    pub image: String,
}

impl Made {
    pub(crate) fn kind(&self) -> Kind {
        match &self.image {
            image if image.contains("broken") => Kind::Broken,
            image if image.contains("hang") => Kind::Hang,
            image if image.contains("sick") => Kind::Sick,
            _ => Kind::Good,
        }
    }

    pub(crate) fn release(&self) -> &str {
        let last = self.image.rsplit('/').next().unwrap_or_default();
        last.rsplit_once(':').map_or("latest", |(_, tag)| tag)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rollout {
    InProgress,
    Completed,
    Failed,
}

/// A running task.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub arn: String,
    /// Its target id.
    pub address: String,
    /// The target groups it is registered in, with the port.
    pub registrations: Vec<(String, u16)>,
    pub deployment: String,
    pub made: Made,
    pub started: f64,
}

#[derive(Clone, Debug)]
pub(crate) struct Deployment {
    pub id: String,
    pub status: &'static str,
    pub made: Made,
    pub desired: usize,
    pub failed: u32,
    pub rollout: Rollout,
    pub reason: String,
    pub tasks: Vec<Task>,
    created: f64,
    updated: f64,
    since: Instant,
    last_failure: Instant,
}

/// A service.
#[derive(Debug)]
pub(crate) struct Service {
    pub arn: String,
    pub name: String,
    pub cluster_arn: String,
    pub scope: Scope,
    /// Tells a service from an earlier one of the same name.
    pub generation: u64,
    pub color: String,
    pub desired: usize,
    pub registrations: Vec<(String, u16)>,
    /// What moto does not keep, as the calls gave it.
    pub settings: Map<String, Value>,
    /// What the running tasks depend on, as the calls gave it.
    pub deployed: Map<String, Value>,
    /// The newest first.
    pub deployments: Vec<Deployment>,
    /// The newest first, as shown.
    pub events: VecDeque<Value>,
    /// The newest first, as shown.
    pub stopped: VecDeque<Value>,
    pub last_good: Option<Made>,
    pub deleted: bool,
    pub created: f64,
    pub wake: Arc<Notify>,
}

/// What a service needs next.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Nothing, until something changes.
    Idle,
    /// To look again soon.
    Later,
    Start(Made, String),
    Stop(Vec<Task>),
    /// The deployment is done; these tasks of former ones go.
    Complete(Vec<Task>),
}

impl Service {
    /// Decides, and takes what is to go out of the lists.
    pub(crate) fn plan(&mut self, healthy: impl Fn(&Task) -> bool) -> Plan {
        let Some(primary) = self.deployments.first_mut() else { return Plan::Idle };
        let age = primary.since.elapsed();
        match (primary.rollout, primary.made.kind()) {
            (Rollout::InProgress, Kind::Hang) => Plan::Idle,
            (Rollout::InProgress, Kind::Broken) => {
                if primary.last_failure.elapsed() >= BETWEEN_FAILURES {
                    self.fail_task();
                }
                Plan::Later
            }
            (Rollout::InProgress, _) if age < STARTING => Plan::Later,
            (Rollout::InProgress, _) => match scale(primary) {
                Plan::Idle if age >= ROLLOUT && primary.tasks.iter().all(healthy) => Plan::Complete(self.complete()),
                Plan::Idle => Plan::Later,
                plan => plan,
            },
            (Rollout::Completed, _) => scale(primary),
            // The tasks of the last good deployment serve on.
            (Rollout::Failed, _) => {
                let desired = self.desired;
                self.deployments.get_mut(1).map_or(Plan::Idle, |former| {
                    former.desired = desired;
                    scale(former)
                })
            }
        }
    }

    /// A new primary deployment.
    pub(crate) fn deploy(&mut self, made: Made, reason: Option<String>) {
        // A failed one without tasks was only listed for the record.
        self.deployments.retain(|deployment| deployment.status != "INACTIVE");
        for former in &mut self.deployments {
            former.status = "ACTIVE";
        }
        let id = format!("ecs-svc/{:019}", fastrand::u64(..1_000_000_000_000_000_000));
        let (now, at) = (clock::epoch_seconds(), Instant::now());
        if made.kind() == Kind::Hang {
            self.event(
                "is unable to consistently start tasks successfully. For more information, see the \
                        Troubleshooting section of the Amazon ECS Developer Guide.",
            );
        }
        let deployment = Deployment {
            reason: reason.unwrap_or_else(|| format!("ECS deployment {id} in progress.")),
            id,
            status: "PRIMARY",
            made,
            desired: self.desired,
            failed: 0,
            rollout: Rollout::InProgress,
            tasks: Vec::new(),
            created: now,
            updated: now,
            since: at,
            last_failure: at,
        };
        self.deployments.insert(0, deployment);
        self.wake.notify_one();
    }

    pub(crate) fn scale_to(&mut self, desired: usize) {
        self.desired = desired;
        if let Some(primary) = self.deployments.first_mut() {
            primary.desired = desired;
            primary.updated = clock::epoch_seconds();
        }
        self.wake.notify_one();
    }

    fn complete(&mut self) -> Vec<Task> {
        let mut gone = Vec::new();
        let mut former = self.deployments.split_off(1);
        gone.extend(former.iter_mut().flat_map(|deployment| deployment.tasks.drain(..)));
        former.retain(|deployment| deployment.rollout == Rollout::Failed);
        former.truncate(1);
        for failed in &mut former {
            (failed.status, failed.desired) = ("INACTIVE", 0);
        }
        let mut id = String::new();
        if let Some(primary) = self.deployments.first_mut() {
            id.clone_from(&primary.id);
            primary.rollout = Rollout::Completed;
            primary.reason = format!("ECS deployment {id} completed.");
            primary.updated = clock::epoch_seconds();
            self.last_good = Some(primary.made.clone());
        }
        self.deployments.extend(former);
        self.event(&format!("(deployment {id}) deployment completed."));
        gone
    }

    fn fail_task(&mut self) {
        let Some(primary) = self.deployments.first_mut() else { return };
        primary.failed += 1;
        primary.last_failure = Instant::now();
        primary.updated = clock::epoch_seconds();
        let (id, failed, made) = (primary.id.clone(), primary.failed, primary.made.clone());
        let task = Task {
            arn: self.new_task_arn(),
            address: String::new(),
            registrations: Vec::new(),
            deployment: id.clone(),
            made,
            started: clock::epoch_seconds(),
        };
        let short = task.arn.rsplit('/').next().unwrap_or_default().to_owned();
        self.event(&format!("has started 1 tasks: (task {short})."));
        self.event("was unable to start tasks successfully: an essential container in a task exited.");
        let mut shown = self.show_task(&task, "STOPPED");
        shown["stopCode"] = "EssentialContainerExited".into();
        shown["stoppedReason"] = "Essential container in task exited".into();
        shown["containers"][0]["exitCode"] = 1.into();
        shown["containers"][0]["reason"] = "Error: the container's command ended".into();
        self.push_stopped(shown);
        if failed >= FAILURES_TO_BREAK && self.breaker("enable") {
            self.trip(&id);
        }
    }

    fn trip(&mut self, id: &str) {
        if let Some(primary) = self.deployments.first_mut() {
            primary.rollout = Rollout::Failed;
            "ECS deployment circuit breaker: tasks failed to start.".clone_into(&mut primary.reason);
        }
        self.event(&format!("(deployment {id}) deployment failed: tasks failed to start."));
        if let Some(made) = self.last_good.clone().filter(|_| self.breaker("rollback")) {
            let reason = "ECS deployment circuit breaker: rolling back to the last completed deployment.".to_owned();
            self.deploy(made, Some(reason));
            let id = self.deployments.first().map(|primary| primary.id.clone()).unwrap_or_default();
            self.event(&format!("rolling back to deployment {id}."));
        }
    }

    fn breaker(&self, part: &str) -> bool {
        let configuration = self.settings.get("deploymentConfiguration");
        configuration.and_then(|found| found["deploymentCircuitBreaker"][part].as_bool()).unwrap_or(false)
    }

    pub(crate) fn new_task_arn(&self) -> String {
        let prefix = self.cluster_arn.replace(":cluster/", ":task/");
        format!("{prefix}/{}", uuid().replace('-', ""))
    }

    pub(crate) fn event(&mut self, message: &str) {
        let message = format!("(service {}) {message}", self.name);
        self.events.push_front(json!({ "id": uuid(), "createdAt": clock::epoch_seconds(), "message": message }));
        self.events.truncate(EVENTS_KEPT);
    }

    pub(crate) fn push_stopped(&mut self, mut task: Value) {
        task["stoppedAt"] = clock::epoch_seconds().into();
        task["stoppingAt"] = task["stoppedAt"].clone();
        self.stopped.push_front(task);
        self.stopped.truncate(STOPPED_KEPT);
    }

    /// A task as `DescribeTasks` shows it.
    pub(crate) fn show_task(&self, task: &Task, status: &str) -> Value {
        let id = task.arn.rsplit('/').next().unwrap_or_default();
        json!({
            "taskArn": task.arn,
            "clusterArn": self.cluster_arn,
            "taskDefinitionArn": task.made.task_definition,
            "containers": [{
                "containerArn": format!("{}/{id}", self.cluster_arn.replace(":cluster/", ":container/")),
                "taskArn": task.arn,
                "name": task.made.container,
                "image": task.made.image,
                "lastStatus": status,
                "networkInterfaces": [{ "attachmentId": uuid(), "privateIpv4Address": task.address }],
                "healthStatus": "UNKNOWN",
            }],
            "lastStatus": status,
            "desiredStatus": status,
            "startedBy": task.deployment,
            "group": format!("service:{}", self.name),
            "launchType": "FARGATE",
            "connectivity": "CONNECTED",
            "healthStatus": "UNKNOWN",
            "createdAt": task.started,
            "startedAt": task.started,
            "attachments": [],
            "attributes": [],
            "overrides": { "containerOverrides": [] },
            "tags": [],
            "version": 1,
        })
    }

    /// Corrects what moto shows of the service.
    pub(crate) fn correct(&self, shown: &mut Value) {
        let Some(fields) = shown.as_object_mut() else { return };
        for (name, value) in &self.settings {
            fields.insert(name.clone(), value.clone());
        }
        let by_provider = self.settings.get("capacityProviderStrategy").and_then(Value::as_array);
        if by_provider.is_some_and(|strategy| !strategy.is_empty()) {
            fields.remove("launchType");
        }
        let template = fields.get("deployments").and_then(|deployments| deployments.get(0)).cloned();
        let deployments: Vec<Value> =
            self.deployments.iter().map(|deployment| deployment.show(fields, template.as_ref())).collect();
        let sum = |name: &str| deployments.iter().filter_map(|deployment| deployment[name].as_u64()).sum::<u64>();
        let (running, pending) = (sum("runningCount"), sum("pendingCount"));
        fields.insert("runningCount".to_owned(), running.into());
        fields.insert("pendingCount".to_owned(), pending.into());
        fields.insert("desiredCount".to_owned(), self.desired.into());
        fields.insert("createdAt".to_owned(), self.created.into());
        fields.insert("deployments".to_owned(), deployments.into());
        fields.insert("events".to_owned(), self.events.iter().cloned().collect());
        if let Some(primary) = self.deployments.first() {
            fields.insert("taskDefinition".to_owned(), primary.made.task_definition.clone().into());
        }
    }
}

impl Deployment {
    fn pending(&self) -> usize {
        match self.rollout {
            Rollout::Failed => 0,
            _ => self.desired.saturating_sub(self.tasks.len()),
        }
    }

    fn show(&self, service: &Map<String, Value>, template: Option<&Value>) -> Value {
        // Platform and launch type are as moto worked them out.
        let mut shown = template.cloned().unwrap_or_else(|| json!({}));
        let (pending, desired) =
            if self.status == "PRIMARY" { (self.pending(), self.desired) } else { (0, self.tasks.len()) };
        shown["id"] = self.id.clone().into();
        shown["status"] = self.status.into();
        shown["taskDefinition"] = self.made.task_definition.clone().into();
        shown["desiredCount"] = desired.into();
        shown["runningCount"] = self.tasks.len().into();
        shown["pendingCount"] = pending.into();
        shown["failedTasks"] = self.failed.into();
        shown["createdAt"] = self.created.into();
        shown["updatedAt"] = self.updated.into();
        shown["rolloutStateReason"] = self.reason.clone().into();
        shown["rolloutState"] = match self.rollout {
            Rollout::InProgress => "IN_PROGRESS",
            Rollout::Completed => "COMPLETED",
            Rollout::Failed => "FAILED",
        }
        .into();
        for name in ["capacityProviderStrategy", "networkConfiguration"] {
            if let Some(value) = service.get(name) {
                shown[name] = value.clone();
            }
        }
        if !service.contains_key("launchType")
            && let Some(fields) = shown.as_object_mut()
        {
            fields.remove("launchType");
        }
        shown
    }
}

fn scale(deployment: &mut Deployment) -> Plan {
    if deployment.tasks.len() > deployment.desired {
        return Plan::Stop(deployment.tasks.split_off(deployment.desired));
    }
    if deployment.tasks.len() < deployment.desired {
        return Plan::Start(deployment.made.clone(), deployment.id.clone());
    }
    Plan::Idle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_name_their_release_and_their_fault() {
        let made = |image: &str| Made { image: image.to_owned(), ..Made::default() };
        assert_eq!(made("app:v2").release(), "v2");
        assert_eq!(made("registry:5000/app").release(), "latest");
        assert_eq!((made("app:v1").kind(), made("app:broken-1").kind()), (Kind::Good, Kind::Broken));
        assert_eq!((made("sick/app:1").kind(), made("app-hang:1").kind()), (Kind::Sick, Kind::Hang));
    }
}
