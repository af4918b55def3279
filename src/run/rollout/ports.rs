//! What the executor needs of the world, free of AWS.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;

use crate::migration::Recorded;
use crate::rollout::gate::{AlarmState, FunctionAnswer, HttpAnswer, TargetHealth};
use crate::rollout::metrics::Sample;
use crate::rollout::{
    Capacity, CommandCheck, Conditions, HttpCheck, LambdaCheck, MetricCheck, Observed, Processing, RouteSpec, Scalable,
    Terminal,
};
use crate::run::ports::{Freshness, PortError};

/// The load balancer's control plane.
#[async_trait]
pub trait LoadBalancer: Send + Sync {
    /// Where these routes lead, by [`RouteSpec::key`]; what isn't there is missing.
    async fn observe(&self, routes: &[RouteSpec], age: Freshness) -> Result<BTreeMap<String, Observed>, PortError>;

    /// A listener's rules with their places, seen now; its default action is none.
    async fn rules_of(&self, listener: &str) -> Result<Vec<Observed>, PortError>;

    /// What of a listener matters to the rules on it, seen now.
    async fn listener_facts(&self, listener: &str) -> Result<ListenerFacts, PortError>;

    /// Replaces the action that ends a route's list of actions; whatever comes before it stays.
    async fn set_terminal(&self, route: &RouteSpec, arn: &str, terminal: &Terminal) -> Result<(), PortError>;

    /// Makes a rule; its ARN.
    async fn create_rule(
        &self,
        listener: &str,
        priority: i32,
        of: (&Conditions, &Processing),
        terminal: &Terminal,
        tags: &BTreeMap<String, String>,
    ) -> Result<String, PortError>;

    /// Moves a rule to another priority of its listener, 1 to 50000.
    async fn set_priority(&self, arn: &str, priority: i32) -> Result<(), PortError>;

    /// The tags of rules by ARN; those that are gone are missing.
    async fn rule_tags(&self, arns: &[String]) -> Result<BTreeMap<String, BTreeMap<String, String>>, PortError>;

    /// Adds tags to a rule.
    async fn tag_rule(&self, arn: &str, tags: &BTreeMap<String, String>) -> Result<(), PortError>;

    /// Replaces a rule's conditions.
    async fn set_conditions(&self, arn: &str, conditions: &Conditions) -> Result<(), PortError>;

    /// Replaces what a rule does with a request before it forwards, as far as that differs from what was seen.
    async fn set_processing(&self, arn: &str, before: &Processing, after: &Processing) -> Result<(), PortError>;

    /// Deletes a rule; one that is gone already is no failure.
    async fn delete_rule(&self, arn: &str) -> Result<(), PortError>;

    /// The health of a group's targets, with their zones where those are asked for.
    async fn target_health(&self, group: &str, zones: bool) -> Result<Vec<TargetHealth>, PortError>;

    /// What of a group's attributes matters to a rollout.
    async fn group_facts(&self, group: &str) -> Result<GroupFacts, PortError>;

    /// Those of these groups that speak gRPC, whose calls fail with the HTTP status 200.
    async fn speaking_grpc(&self, groups: &[String]) -> Result<BTreeSet<String>, PortError>;

    /// Notes on those target groups that are an environment's which routes are previews: an idle color with all of a
    /// preview's traffic serves no users. Routes in `former` that are no previews any more are struck out; what others
    /// noted stays. A group that is gone needs no note.
    async fn mark_previews(&self, groups: &[String], former: &[String], routes: &[String]) -> Result<(), PortError>;

    /// Every route of these load balancers.
    async fn routes_of(
        &self,
        load_balancers: &[String],
        age: Freshness,
    ) -> Result<Vec<(RouteSpec, Observed)>, PortError>;

    /// Every route in the account and region that forwards to target groups.
    async fn forwarding_routes(&self, age: Freshness) -> Result<Vec<(RouteSpec, Observed)>, PortError>;

    /// The names of target groups, by ARN: of these, or of all where none is named.
    async fn group_names(&self, arns: Vec<String>) -> Result<BTreeMap<String, String>, PortError>;
}

/// How long calls are taken.
#[async_trait]
pub trait Lasting: Send + Sync {
    /// How long until the way back has to begin, for the credentials to last until its end; none where they don't end, as far as that
    /// is known.
    async fn left(&self) -> Option<Duration>;
}

/// Where the live color is written down.
#[async_trait]
pub trait Records: Send + Sync {
    /// The value; none if there is no such parameter.
    async fn get(&self, name: &str, age: Freshness) -> Result<Option<String>, PortError>;

    /// The value with its version, read now: the latest, or that version.
    async fn get_version(&self, name: &str, version: Option<i64>) -> Result<Option<(String, i64)>, PortError>;

    /// The value, and since when it has been that one, as far back as is known.
    async fn recorded(&self, name: &str) -> Result<Option<Recorded>, PortError>;

    /// The label that bars every further version of the parameter, with the version that has it: at a hundred versions AWS drops
    /// the oldest, unless it has a label. None where nothing bars one.
    async fn barring_label(&self, name: &str) -> Result<Option<(String, i64)>, PortError>;

    /// Makes the parameter with these tags; its version. One that exists is a conflict.
    async fn create(&self, name: &str, value: &str, tags: &BTreeMap<String, String>) -> Result<i64, PortError>;

    /// Writes an existing parameter; its version.
    async fn write(&self, name: &str, value: &str) -> Result<i64, PortError>;

    /// Deletes the parameter; one that is gone already is no failure.
    async fn delete(&self, name: &str) -> Result<(), PortError>;

    /// The parameter's tags; one that isn't there is [`Gone`](crate::run::ports::FailureKind::Gone).
    async fn tags(&self, name: &str) -> Result<BTreeMap<String, String>, PortError>;

    /// Adds tags to the parameter.
    async fn add_tags(&self, name: &str, tags: &BTreeMap<String, String>) -> Result<(), PortError>;
}

/// Requests to a color.
#[async_trait]
pub trait HttpProbe: Send + Sync {
    /// Makes one request, within the check's timeout.
    async fn probe(&self, check: &HttpCheck) -> Result<HttpAnswer, PortError>;
}

/// Functions of the user's.
#[async_trait]
pub trait Functions: Send + Sync {
    /// Invokes it once with this payload and waits for its answer.
    async fn invoke(&self, check: &LambdaCheck, payload: &str) -> Result<FunctionAnswer, PortError>;
}

/// How a command ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommandEnd {
    /// Its exit code; none where a signal or the time ended it.
    pub code: Option<i32>,
    /// Whether more came before what is kept of what it wrote.
    pub is_cut: bool,
    /// The end of what it wrote, standard output and error as they came.
    pub output: String,
    /// Whether its time ended first.
    pub timed_out: bool,
}

/// Commands of the user's.
#[async_trait]
pub trait Commands: Send + Sync {
    /// Runs it to its end, or kills it with all its children when its time ends or this is dropped.
    async fn run(&self, check: &CommandCheck, variables: &BTreeMap<String, String>) -> Result<CommandEnd, PortError>;
}

/// What a metric is measured of.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricOf<'a> {
    /// The color, for what the user's own metrics have of it.
    pub color: &'a str,
    /// Its target group's dimension.
    pub group: &'a str,
    /// The load balancer's dimension.
    pub load_balancer: &'a str,
    /// By which times its requests are counted, in seconds: how many take longer.
    pub over: &'a [f64],
}

/// CloudWatch.
#[async_trait]
pub trait Monitoring: Send + Sync {
    /// The states of these alarms, in their order.
    async fn alarms(&self, names: &[String]) -> Result<Vec<AlarmState>, PortError>;

    /// What was measured from one time to another.
    async fn sample(
        &self,
        check: &MetricCheck,
        of: MetricOf<'_>,
        window: (SystemTime, SystemTime),
    ) -> Result<Sample, PortError>;
}

/// Who is told what happens.
#[async_trait]
pub trait Notifier: Send + Sync {
    /// Publishes a message to a topic.
    async fn publish(&self, topic: &str, subject: &str, message: &str) -> Result<(), PortError>;
}

/// What of a listener matters to the rules on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerFacts {
    /// How its default action finds out who is asking before it forwards, in AWS's word for it (`authenticate-oidc`,
    /// `authenticate-cognito`, `jwt-validation`); none where it doesn't.
    pub authentication: Option<String>,
    /// What it speaks, in AWS's word for it (`HTTPS`).
    pub protocol: Option<String>,
}

/// What of a target group's attributes matters to a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupFacts {
    /// How long a target that is taken out may still answer.
    pub deregistration_delay: Option<Duration>,
    /// Whether clients are kept at a target.
    pub is_sticky: bool,
    /// So few healthy targets make the load balancer fail open: `off`, a number, or a percentage.
    pub fail_open_below: Option<String>,
    /// So few healthy targets make DNS leave the load balancer out.
    pub dns_failover_below: Option<String>,
}

/// The sizes of colors.
#[async_trait]
pub trait Capacities: Send + Sync {
    /// The size; none if there is no such thing.
    async fn get(&self, of: &Scalable) -> Result<Option<Capacity>, PortError>;

    /// What is being replaced there right now, in words: an instance refresh or a deployment that isn't done.
    async fn turnover(&self, of: &Scalable) -> Result<Option<String>, PortError>;

    /// Brings it from one size to another: what doesn't differ is left alone.
    async fn set(&self, of: &Scalable, before: Capacity, after: Capacity) -> Result<(), PortError>;

    /// Why the minimum of a service can't be held, as far as that was found out so far. Where nothing is to be held, only what was
    /// tried, or has to be given back.
    fn unheld(&self, of: &Scalable, is_idle: bool) -> Option<String>;
}

/// All ports.
#[derive(Clone)]
pub struct Ports {
    /// The load balancer.
    pub load_balancer: Arc<dyn LoadBalancer>,
    /// The record.
    pub records: Arc<dyn Records>,
    /// The sizes of colors.
    pub capacities: Arc<dyn Capacities>,
    /// Requests.
    pub http: Arc<dyn HttpProbe>,
    /// Functions.
    pub functions: Arc<dyn Functions>,
    /// Commands.
    pub commands: Arc<dyn Commands>,
    /// CloudWatch.
    pub monitoring: Arc<dyn Monitoring>,
    /// Who is told.
    pub notifier: Arc<dyn Notifier>,
}
