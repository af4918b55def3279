//! What the making of stacks needs of the world, free of AWS.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use crate::run::ports::{FailureKind, PortError};
use crate::stack::{Instances, Rules, Service, Target, TargetGroup, TaskDefinition};

/// A failure that no port tells: what was seen, or waited for in vain.
pub(super) fn failed(message: impl Into<String>) -> PortError {
    PortError::new(FailureKind::Other, message)
}

/// Tags by key.
pub type Tags = BTreeMap<String, String>;

/// A target group that is there.
#[derive(Clone, Debug)]
pub struct SeenGroup {
    /// Its ARN.
    pub arn: String,
    /// Its name.
    pub name: String,
    /// The VPC; a group of functions has none.
    pub vpc_id: Option<String>,
    /// The load balancers with a listener or rule that has the group in it.
    pub load_balancers: Vec<String>,
    /// Its settings; the attributes only if they were asked for.
    pub group: TargetGroup,
}

/// A security group that is there.
#[derive(Clone, Debug)]
pub struct SeenSecurityGroup {
    /// Its id, `sg-…`.
    pub id: String,
    /// Its rules.
    pub rules: Rules,
    /// Its tags.
    pub tags: Tags,
}

/// A launch template that is there.
#[derive(Clone, Debug)]
pub struct SeenTemplate {
    /// Its id, `lt-…`.
    pub id: String,
    /// The newest version.
    pub latest_version: i64,
    /// Its tags.
    pub tags: Tags,
}

/// A version of a launch template, which never changes.
#[derive(Clone, Debug)]
pub struct SeenVersion {
    /// Its number, also where it was asked for as `$Latest` or `$Default`.
    pub number: i64,
    /// The template's part of the instances' settings, with the security groups that aren't the stack's own.
    pub instances: Instances,
    /// The tags that instances get.
    pub tags: Tags,
    /// Why no version can come after it that keeps everything, if so.
    pub unfit: Option<String>,
}

/// What a version of a launch template is made of, besides the instances' own settings.
#[derive(Clone, Copy, Debug)]
pub struct VersionOf<'a> {
    /// The instances.
    pub instances: &'a Instances,
    /// The stack's own security group.
    pub security_group: &'a str,
    /// The tags of instances and volumes.
    pub tags: &'a Tags,
    /// The version that it comes after, if there is one: what no argument describes, and tags of others, are as they are there.
    pub former: Option<&'a str>,
    /// Tags that were ours and are wished no more.
    pub gone: &'a [String],
}

/// An instance of an Auto Scaling group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SeenInstance {
    /// Its id, `i-…`.
    pub id: String,
    /// AWS's word for where it is in its life, such as `InService` or `Standby`.
    pub state: String,
    /// Whether the group takes it for healthy.
    pub healthy: bool,
    /// The launch template's id and the number of the version that it was made of.
    pub template: Option<(String, String)>,
    /// The capacity that it counts for; none: 1.
    pub weight: Option<i32>,
}

impl SeenInstance {
    /// Whether it is in service and healthy.
    pub fn is_in_service(&self) -> bool {
        self.state == "InService" && self.healthy
    }

    /// Whether somebody took it out of service for a while.
    pub fn is_in_standby(&self) -> bool {
        self.state.ends_with("Standby")
    }

    /// Whether it is on its way out.
    pub fn is_leaving(&self) -> bool {
        self.state.starts_with("Terminat") || self.state.starts_with("Detach")
    }
}

/// An Auto Scaling group that is there.
#[derive(Clone, Debug, Default)]
pub struct SeenScalingGroup {
    /// Its name.
    pub name: String,
    /// The size, subnets and checks; nothing of the template.
    pub instances: Instances,
    /// The launch template's id and the version that new instances get: a number, `$Latest` or `$Default`.
    pub template: Option<(String, String)>,
    /// The target groups that it is attached to.
    pub target_groups: Vec<String>,
    /// The tags.
    pub tags: Tags,
    /// The instances, whatever their state.
    pub members: Vec<SeenInstance>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// The minimum that a rollout took away and has to give back; `instances` has it as if it were there.
    pub pinned: Option<i32>,
    /// The minimum as it is now.
    pub min_now: i32,
    /// Why a release would destroy something of it, if so.
    pub unfit: Option<String>,
}

impl SeenScalingGroup {
    /// How much capacity is in service.
    pub fn in_service(&self) -> i32 {
        capacity(self.members.iter().filter(|member| member.is_in_service()))
    }

    /// How much more there may be than is wished, since only whole instances can be started.
    pub fn excess(&self) -> i32 {
        self.members.iter().filter_map(|member| member.weight).max().map_or(0, |most| (most - 1).max(0))
    }

    /// These of its instances, by what they do.
    pub fn states(&self, of: impl Fn(&SeenInstance) -> bool) -> String {
        let mut states: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for member in self.members.iter().filter(|member| of(member)) {
            let is_sick = member.state == "InService" && !member.healthy;
            states.entry(if is_sick { "unhealthy" } else { &member.state }).or_default().push(&member.id);
        }
        let words = states.into_iter().map(|(state, ids)| format!("{} {state}", ids.join(", ")));
        words.collect::<Vec<String>>().join("; ")
    }

    /// What is left of it while it is deleted.
    pub fn summary(&self) -> String {
        match self.members.is_empty() {
            true => format!("the Auto Scaling group {} was being deleted", self.name),
            false => format!("instances of {} were terminating ({})", self.name, self.states(|_| true)),
        }
    }

    /// How much capacity there is, whatever its state.
    pub fn present(&self) -> i32 {
        capacity(self.members.iter())
    }

    /// How much capacity somebody took out of service for a while.
    pub fn in_standby(&self) -> i32 {
        capacity(self.members.iter().filter(|member| member.is_in_standby()))
    }

    /// How many of its instances there are of each version of a template, those on their way out excepted.
    pub fn versions(&self) -> BTreeMap<(String, String), usize> {
        let mut versions = BTreeMap::new();
        for member in self.members.iter().filter(|member| !member.is_leaving()) {
            *versions.entry(member.template.clone().unwrap_or_default()).or_default() += 1;
        }
        versions
    }
}

fn capacity<'m>(members: impl Iterator<Item = &'m SeenInstance>) -> i32 {
    members.fold(0, |sum, member| sum.saturating_add(member.weight.unwrap_or(1)))
}

/// How an instance refresh stands.
#[derive(Clone, Debug)]
pub struct Refresh {
    /// Its id.
    pub id: String,
    /// Its state.
    pub state: RefreshState,
    /// How far it is, in percent.
    pub percent: i32,
    /// Why it is in this state.
    pub reason: Option<String>,
}

impl Refresh {
    /// Whether it still replaces instances, there or back.
    pub fn goes_on(&self) -> bool {
        matches!(self.state, RefreshState::Running | RefreshState::RollingBack)
    }
}

/// The states of a refresh that make a difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshState {
    /// It goes on.
    Running,
    /// Auto Scaling brings the former instances back.
    RollingBack,
    /// All instances are replaced.
    Done,
    /// It ended otherwise: AWS's word for it.
    Ended(String),
}

/// An instance refresh that is to be.
#[derive(Clone, Copy, Debug)]
pub struct RefreshOf<'a> {
    /// The group's settings, those of the refresh among them.
    pub instances: &'a Instances,
    /// Percent of the group that stays in service meanwhile, and percent that it may grow to.
    pub healthy: (i32, i32),
    /// The template and version that the group is to have once it is done, where it hasn't got them before.
    pub desired: Option<(&'a str, &'a str)>,
}

/// A service that is there.
#[derive(Clone, Debug, Default)]
pub struct SeenService {
    /// Its ARN.
    pub arn: String,
    /// Its settings, the running task definition by ARN.
    pub service: Service,
    /// The target groups of its tasks.
    pub target_groups: Vec<String>,
    /// The container and the port behind each target group; `service` has those of the first one.
    pub containers: BTreeMap<String, (Option<String>, Option<i32>)>,
    /// Why an environment can't release there, if so.
    pub unfit: Option<String>,
    /// The tags.
    pub tags: Tags,
    /// How many tasks run.
    pub running: i32,
    /// Whether it is being deleted.
    pub draining: bool,
    /// The deployments, the newest first.
    pub deployments: Vec<Deployment>,
    /// What happened last, the newest first.
    pub events: Vec<String>,
}

impl SeenService {
    /// Its settings, with the container and the port that are behind this target group.
    pub fn behind(&self, group: &str) -> Service {
        let mut service = self.service.clone();
        if let Some((name, port)) = self.containers.get(group) {
            (service.container_name, service.container_port) = (name.clone(), *port);
        }
        service
    }
}

/// A deployment of a service.
#[derive(Clone, Debug, Default)]
pub struct Deployment {
    /// Its id, `ecs-svc/…`.
    pub id: String,
    /// Whether it is the one that is wanted now.
    pub primary: bool,
    /// What it runs.
    pub task_definition: String,
    /// How it stands.
    pub state: Rollout,
    /// Whether ECS says how it stands, which it does of rolling updates alone.
    pub is_reported: bool,
    /// Why.
    pub reason: Option<String>,
    /// Tasks that shall run, that run, and that came to nothing.
    pub counts: (i32, i32, i32),
}

/// How a deployment stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rollout {
    /// It goes on.
    #[default]
    InProgress,
    /// It is done: all its tasks run and are healthy, and those before are gone.
    Completed,
    /// The circuit breaker, or an alarm, stopped it.
    Failed,
}

/// What a service's tasks run, and where their traffic comes in.
#[derive(Clone, Copy, Debug)]
pub struct Deploy<'a> {
    /// The service's settings.
    pub service: &'a Service,
    /// The revision, by ARN.
    pub task_definition: &'a str,
    /// The target group's ARN.
    pub target_group: &'a str,
    /// The container that serves.
    pub container: &'a str,
    /// Whether there is to be a deployment also where nothing differs.
    pub force: bool,
}

/// Target groups.
#[async_trait]
pub trait TargetGroups: Send + Sync {
    /// A group by its ARN, without its attributes.
    async fn find(&self, arn: &str) -> Result<Option<SeenGroup>, PortError>;

    /// A group by its name, without its attributes.
    async fn named(&self, name: &str) -> Result<Option<SeenGroup>, PortError>;

    /// Fills in the attributes of a group.
    async fn attributes(&self, seen: &mut SeenGroup) -> Result<(), PortError>;

    /// The tags of a group, listener or rule; none of one that is gone.
    async fn tags(&self, arn: &str) -> Result<Tags, PortError>;

    /// Makes a group, without its attributes, and gives its ARN.
    async fn create(
        &self,
        name: &str,
        group: &TargetGroup,
        vpc_id: Option<&str>,
        tags: &Tags,
    ) -> Result<String, PortError>;

    /// Sets the health check.
    async fn set_health_check(&self, arn: &str, group: &TargetGroup) -> Result<(), PortError>;

    /// Sets those attributes that differ from what was before.
    async fn set_attributes(&self, arn: &str, group: &TargetGroup, before: &TargetGroup) -> Result<(), PortError>;

    /// Sets tags and takes others away.
    async fn set_tags(&self, arn: &str, set: &Tags, gone: &[String]) -> Result<(), PortError>;

    /// Registers targets.
    async fn register(&self, arn: &str, targets: &[Target]) -> Result<(), PortError>;

    /// Takes targets out. Of a group that is gone there are none.
    async fn deregister(&self, arn: &str, targets: &[Target]) -> Result<(), PortError>;

    /// The targets, those that are on their way out excepted.
    async fn targets(&self, arn: &str) -> Result<Vec<Target>, PortError>;

    /// Deletes a group; one that is gone already is no failure. A conflict while a route has it.
    async fn delete(&self, arn: &str) -> Result<(), PortError>;
}

/// Security groups.
#[async_trait]
pub trait SecurityGroups: Send + Sync {
    /// A security group by its id.
    async fn find(&self, id: &str) -> Result<Option<SeenSecurityGroup>, PortError>;

    /// A security group by its name in a VPC.
    async fn named(&self, name: &str, vpc_id: &str) -> Result<Option<SeenSecurityGroup>, PortError>;

    /// Makes a security group and gives its id. EC2 puts a rule into it that lets everything out by IPv4.
    async fn create(&self, name: &str, description: &str, vpc_id: &str, tags: &Tags) -> Result<String, PortError>;

    /// Makes the rules be these: what is missing comes first, what is too much goes then.
    async fn set_rules(&self, id: &str, before: &Rules, after: &Rules) -> Result<(), PortError>;

    /// Deletes a security group; one that is gone already is no failure. A conflict while something uses it.
    async fn delete(&self, id: &str) -> Result<(), PortError>;

    /// Sets tags and takes others away.
    async fn set_tags(&self, id: &str, set: &Tags, gone: &[String]) -> Result<(), PortError>;
}

/// Launch templates: versions that never change, of which an Auto Scaling group uses one.
#[async_trait]
pub trait LaunchTemplates: Send + Sync {
    /// A launch template by its id.
    async fn find(&self, id: &str) -> Result<Option<SeenTemplate>, PortError>;

    /// A launch template by its name.
    async fn named(&self, name: &str) -> Result<Option<SeenTemplate>, PortError>;

    /// Makes a launch template with these tags and its first version, and gives its id.
    async fn create(&self, name: &str, tags: &Tags, of: VersionOf<'_>) -> Result<String, PortError>;

    /// Makes a new version, the default from now on, and gives its number.
    async fn add_version(&self, id: &str, of: VersionOf<'_>) -> Result<i64, PortError>;

    /// What a version says: a number, `$Latest` or `$Default`.
    async fn version(&self, id: &str, version: &str, own_group: Option<&str>)
    -> Result<Option<SeenVersion>, PortError>;

    /// Deletes a launch template with all its versions; one that is gone already is no failure.
    async fn delete(&self, id: &str) -> Result<(), PortError>;

    /// Sets tags and takes others away.
    async fn set_tags(&self, id: &str, set: &Tags, gone: &[String]) -> Result<(), PortError>;
}

/// Auto Scaling groups, their instances and their refreshes.
#[async_trait]
pub trait ScalingGroups: Send + Sync {
    /// A group by its name.
    async fn find(&self, name: &str) -> Result<Option<SeenScalingGroup>, PortError>;

    /// Makes a group, attached to a target group.
    async fn create(
        &self,
        name: &str,
        instances: &Instances,
        template: (&str, i64),
        target_group: &str,
        tags: &Tags,
    ) -> Result<(), PortError>;

    /// Sets everything but the size.
    async fn update(&self, name: &str, instances: &Instances) -> Result<(), PortError>;

    /// Sets the version that new instances get, a number, `$Latest` or `$Default`, with the types that these instances say.
    async fn set_template(&self, name: &str, instances: &Instances, template: (&str, &str)) -> Result<(), PortError>;

    /// Sets the size; what is none stays.
    async fn resize(
        &self,
        name: &str,
        min: Option<i32>,
        max: Option<i32>,
        desired: Option<i32>,
    ) -> Result<(), PortError>;

    /// Notes the minimum that a rollout, which holds it up, has to give back.
    async fn note_minimum(&self, name: &str, min: i32) -> Result<(), PortError>;

    /// Attaches the group to a target group, and detaches it from others.
    async fn attach(&self, name: &str, target_group: &str, others: &[String]) -> Result<(), PortError>;

    /// Detaches the group from a target group; where it isn't attached that is no failure.
    async fn detach(&self, name: &str, target_group: &str) -> Result<(), PortError>;

    /// Deletes a group and its instances; one that is gone already is no failure.
    async fn delete(&self, name: &str) -> Result<(), PortError>;

    /// Sets tags and takes others away.
    async fn set_tags(&self, name: &str, set: &Tags, gone: &[String]) -> Result<(), PortError>;

    /// Starts to replace all instances that aren't of the group's present template, or of the one that it is to have when that is
    /// done, and gives the refresh's id. A conflict while another one goes on.
    async fn start_refresh(&self, name: &str, of: RefreshOf<'_>) -> Result<String, PortError>;

    /// How a refresh stands; without an id the newest.
    async fn refresh(&self, name: &str, id: Option<&str>) -> Result<Option<Refresh>, PortError>;

    /// Has the former instances brought back by a refresh that knows them; if none goes on, that is no failure.
    async fn roll_back_refresh(&self, name: &str) -> Result<(), PortError>;

    /// Stops a refresh; if none goes on, that is no failure.
    async fn cancel_refresh(&self, name: &str) -> Result<(), PortError>;

    /// The last activities that failed, the newest first: their ids and what they say.
    async fn failures(&self, name: &str) -> Result<Vec<(String, PortError)>, PortError>;
}

/// ECS: services, their deployments, and the revisions of task definitions.
#[async_trait]
pub trait Ecs: Send + Sync {
    /// A service of a cluster by its name or ARN; one that was deleted isn't there.
    async fn find(&self, cluster: &str, service: &str) -> Result<Option<SeenService>, PortError>;

    /// Registers a revision and gives its ARN.
    async fn register(&self, definition: &TaskDefinition, tags: &Tags) -> Result<String, PortError>;

    /// The active revisions of a family that carry this tag, the newest first, with all their tags.
    async fn revisions(&self, family: &str, tag: (&str, &str)) -> Result<Vec<(String, Tags)>, PortError>;

    /// The tags of a revision; none of one that is gone.
    async fn revision_tags(&self, arn: &str) -> Result<Tags, PortError>;

    /// The revisions that services of a cluster other than this one run, or are about to.
    async fn revisions_of_others(&self, cluster: &str, service: Option<&str>) -> Result<Vec<String>, PortError>;

    /// Takes a revision out of use.
    async fn deregister(&self, arn: &str) -> Result<(), PortError>;

    /// Makes a service whose tasks come into a target group, and gives its ARN.
    async fn create(&self, name: &str, of: Deploy<'_>, tags: &Tags) -> Result<String, PortError>;

    /// Sets what takes effect without a new deployment.
    async fn update(&self, arn: &str, service: &Service) -> Result<(), PortError>;

    /// Begins a new deployment with everything that makes one, and gives its id where the answer names it.
    async fn deploy(&self, arn: &str, of: Deploy<'_>) -> Result<Option<String>, PortError>;

    /// Sets the number of tasks.
    async fn scale(&self, cluster: &str, arn: &str, count: i32) -> Result<(), PortError>;

    /// Deletes a service and its tasks; one that is gone already is no failure.
    async fn delete(&self, cluster: &str, arn: &str) -> Result<(), PortError>;

    /// Sets tags and takes others away.
    async fn set_tags(&self, arn: &str, set: &Tags, gone: &[String]) -> Result<(), PortError>;

    /// Why tasks of a deployment stopped: each different reason, with the exit codes of the containers, the number of tasks
    /// and one of them.
    async fn stopped_tasks(
        &self,
        cluster: &str,
        name: &str,
        deployment: Option<&str>,
    ) -> Result<Vec<String>, PortError>;
}

/// All that environments are made of.
#[derive(Clone)]
pub struct StackPorts {
    /// Target groups.
    pub target_groups: Arc<dyn TargetGroups>,
    /// Security groups.
    pub security_groups: Arc<dyn SecurityGroups>,
    /// Launch templates.
    pub launch_templates: Arc<dyn LaunchTemplates>,
    /// Auto Scaling groups.
    pub autoscaling: Arc<dyn ScalingGroups>,
    /// ECS services.
    pub ecs: Arc<dyn Ecs>,
}
