//! Instance refresh: replaces the instances of a group through moto, at a pace that suits tests.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Response;
use hyper::body::Bytes;
use quick_xml::escape::escape;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::compute::autoscaling::{NAMESPACE, not_found, respond};
use crate::compute::describe::{Group, Template};
use crate::compute::instances::{Compute, Image, uuid};
use crate::core::aws_call::AwsCall;
use crate::core::clock;
use crate::core::moto::Scope;
use crate::core::xml;
use crate::node::checker::Checker;
use crate::node::converge::Converge;
use crate::node::health::State;

const PENDING: Duration = Duration::from_millis(30);
const PER_INSTANCE: Duration = Duration::from_millis(75);
/// For tests that need a refresh under way.
const PER_SLOW_INSTANCE: Duration = Duration::from_secs(3);
/// How long a new instance may take to become healthy.
const HEALTHY_LIMIT: Duration = Duration::from_secs(20);

/// One refresh, as `DescribeInstanceRefreshes` shows it.
#[derive(Clone, Debug)]
struct Record {
    id: String,
    group_name: String,
    status: &'static str,
    reason: Option<String>,
    total: usize,
    left: usize,
    started: f64,
    ended: Option<f64>,
    /// What was asked for, in the words of the request.
    preferences: BTreeMap<String, String>,
    desired: Option<Template>,
}

impl Record {
    fn is_active(&self) -> bool {
        ["Pending", "InProgress", "Cancelling", "RollbackInProgress"].contains(&self.status)
    }

    const fn percentage(&self) -> usize {
        match ((self.total - self.left) * 100).checked_div(self.total) {
            Some(percentage) => percentage,
            None => 100,
        }
    }

    fn prefers(&self, name: &str) -> Option<&str> {
        self.preferences.get(name).map(String::as_str)
    }

    /// Whether the new instance must be healthy before the old one may go.
    fn launches_first(&self) -> bool {
        let percent = |name| self.prefers(name).and_then(|text| text.parse::<u32>().ok());
        percent("MinHealthyPercentage").is_some_and(|percent| percent >= 100)
            || percent("MaxHealthyPercentage").is_some_and(|percent| percent > 100)
    }
}

type Shared = Arc<Mutex<Record>>;

/// The refreshes of all groups.
#[derive(Debug)]
pub(crate) struct Refreshes {
    compute: Arc<Compute>,
    converge: Arc<Converge>,
    checker: Arc<Checker>,
    /// By group ARN, the newest last.
    records: Mutex<BTreeMap<String, Vec<Shared>>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// A refresh under way.
struct Run {
    refreshes: Arc<Refreshes>,
    scope: Scope,
    group: Group,
    record: Shared,
    /// What the group used before, if the refresh changed it.
    former: Option<Template>,
}

/// Why a refresh stopped early.
enum Stop {
    Failed(String),
    Cancelled,
    RolledBack,
}

impl Refreshes {
    pub(crate) fn new(compute: Arc<Compute>, converge: Arc<Converge>, checker: Arc<Checker>) -> Self {
        Self { compute, converge, checker, records: Mutex::default(), tasks: Mutex::default() }
    }

    pub(crate) fn stop(&self) {
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }

    /// The answer to the calls about refreshes; `None`: another call.
    pub(crate) async fn answer(self: &Arc<Self>, call: &AwsCall) -> Option<Response<Bytes>> {
        const CALLS: [&str; 4] =
            ["StartInstanceRefresh", "DescribeInstanceRefreshes", "CancelInstanceRefresh", "RollbackInstanceRefresh"];
        if !CALLS.contains(&call.operation.as_str()) {
            return None;
        }
        let (scope, name) = (call.scope.as_ref()?, call.parameter("AutoScalingGroupName")?);
        let Some(group) = self.compute.group(scope, name).await.ok()? else { return Some(not_found(call)) };
        Some(match call.operation.as_str() {
            "StartInstanceRefresh" => self.start(call, scope, group).await,
            "CancelInstanceRefresh" => self.turn(call, &group, "Cancelling"),
            "RollbackInstanceRefresh" => self.turn(call, &group, "RollbackInProgress"),
            _ => self.describe(call, &group),
        })
    }

    fn active(&self, arn: &str) -> Option<Shared> {
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.get(arn)?.last().filter(|record| read(record, Record::is_active)).cloned()
    }

    async fn start(self: &Arc<Self>, call: &AwsCall, scope: &Scope, group: Group) -> Response<Bytes> {
        if self.active(&group.arn).is_some() {
            let why = "An Instance Refresh is already in progress and blocks the execution of this Instance Refresh.";
            return call.refuse("InstanceRefreshInProgress", why);
        }
        let mut run = Run {
            refreshes: Arc::clone(self),
            scope: scope.clone(),
            record: Arc::new(Mutex::new(new_record(call, &group))),
            group,
            former: None,
        };
        if let Err(error) = run.use_desired().await {
            return call.refuse("ValidationError", &format!("{error:#}"));
        }
        let id = read(&run.record, |record| record.id.clone());
        let arn = run.group.arn.clone();
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.entry(arn).or_default().push(Arc::clone(&run.record));
        let task = tokio::spawn(run.complete());
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
        tasks.push(task);
        let result = format!("<InstanceRefreshId>{id}</InstanceRefreshId>");
        respond(xml::answer(&call.operation, NAMESPACE, &result))
    }

    /// Tells the active refresh to end in another way.
    fn turn(&self, call: &AwsCall, group: &Group, status: &'static str) -> Response<Bytes> {
        let Some(record) = self.active(&group.arn) else {
            let why = "No in progress or pending Instance Refresh found for Auto Scaling group";
            return call.refuse("ActiveInstanceRefreshNotFound", &format!("{why} {}", group.name));
        };
        let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
        if status == "RollbackInProgress" && record.desired.is_none() {
            let why = "The instance refresh has no desired configuration and cannot be rolled back.";
            return call.refuse("IrreversibleInstanceRefresh", why);
        }
        record.status = status;
        let result = format!("<InstanceRefreshId>{}</InstanceRefreshId>", record.id);
        respond(xml::answer(&call.operation, NAMESPACE, &result))
    }

    fn describe(&self, call: &AwsCall, group: &Group) -> Response<Bytes> {
        let asked: Vec<&str> =
            (1..=100).map_while(|n| call.parameter(&format!("InstanceRefreshIds.member.{n}"))).collect();
        let most = call.parameter("MaxRecords").and_then(|most| most.parse().ok()).unwrap_or(50);
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let records = records.get(&group.arn).map_or(&[][..], Vec::as_slice);
        let records = records.iter().rev().map(|record| read(record, Record::clone));
        let mut list = String::new();
        for record in records.filter(|record| asked.is_empty() || asked.contains(&&*record.id)).take(most) {
            render(&mut list, &record);
        }
        respond(xml::answer(&call.operation, NAMESPACE, &format!("<InstanceRefreshes>{list}</InstanceRefreshes>")))
    }
}

fn read<T>(record: &Shared, what: impl FnOnce(&Record) -> T) -> T {
    what(&record.lock().unwrap_or_else(PoisonError::into_inner))
}

fn new_record(call: &AwsCall, group: &Group) -> Record {
    let preferences = call.parameters.as_object().into_iter().flatten().filter_map(|(name, value)| {
        let name = name.strip_prefix("Preferences.").filter(|name| !name.contains('.'))?;
        Some((name.to_owned(), value.as_str()?.to_owned()))
    });
    let given = |name: &str| call.parameter(&format!("DesiredConfiguration.LaunchTemplate.{name}"));
    let id = given("LaunchTemplateId").map(str::to_owned);
    // Groups are read with the id, so a name means the template that the group has.
    let id = id.or_else(|| given("LaunchTemplateName").and(group.launch_template.clone()).map(|template| template.id));
    Record {
        id: uuid(),
        group_name: group.name.clone(),
        status: "Pending",
        reason: None,
        total: group.ids().len(),
        left: group.ids().len(),
        started: clock::epoch_seconds(),
        ended: None,
        preferences: preferences.collect(),
        desired: id.map(|id| Template { id, version: given("Version").map(str::to_owned) }),
    }
}

fn render(list: &mut String, record: &Record) {
    // Writing to a String cannot fail.
    let _ = write!(
        list,
        "<member><InstanceRefreshId>{}</InstanceRefreshId><AutoScalingGroupName>{}</AutoScalingGroupName>\
         <Status>{}</Status><StartTime>{}</StartTime><PercentageComplete>{}</PercentageComplete>\
         <InstancesToUpdate>{}</InstancesToUpdate>",
        record.id,
        escape(record.group_name.as_str()),
        record.status,
        clock::rfc3339(record.started),
        record.percentage(),
        record.left
    );
    if let Some(reason) = &record.reason {
        let _ = write!(list, "<StatusReason>{}</StatusReason>", escape(reason.as_str()));
    }
    if let Some(ended) = record.ended {
        let _ = write!(list, "<EndTime>{}</EndTime>", clock::rfc3339(ended));
    }
    list.push_str("<Preferences>");
    for (name, value) in &record.preferences {
        let _ = write!(list, "<{name}>{}</{name}>", escape(value.as_str()));
    }
    list.push_str("</Preferences>");
    if let Some(Template { id, version }) = &record.desired {
        let version = version.as_deref().unwrap_or("$Default");
        let _ = write!(
            list,
            "<DesiredConfiguration><LaunchTemplate><LaunchTemplateId>{}</LaunchTemplateId><Version>{}</Version>\
             </LaunchTemplate></DesiredConfiguration>",
            escape(id.as_str()),
            escape(version)
        );
    }
    list.push_str("</member>");
}

impl Run {
    /// From here on the group's new instances are made as the refresh wants them.
    async fn use_desired(&mut self) -> anyhow::Result<()> {
        let Some(desired) = read(&self.record, |record| record.desired.clone()) else { return Ok(()) };
        self.use_template(&desired).await?;
        self.former = self.group.launch_template.replace(desired);
        Ok(())
    }

    async fn use_template(&self, template: &Template) -> anyhow::Result<()> {
        let mut parameters =
            vec![("AutoScalingGroupName", self.group.name.as_str()), ("LaunchTemplate.LaunchTemplateId", &template.id)];
        if let Some(version) = &template.version {
            parameters.push(("LaunchTemplate.Version", version));
        }
        self.refreshes.compute.autoscaling(&self.scope, "UpdateAutoScalingGroup", &parameters).await.map(drop)
    }

    async fn complete(mut self) {
        tokio::time::sleep(PENDING).await;
        self.set("InProgress", |status| status == "Pending");
        let stop = match self.replace_all().await {
            Ok(stop) => stop,
            Err(error) => Some(Stop::Failed(format!("{error:#}"))),
        };
        let former = self.former.take();
        if let (Some(_), Some(former)) = (&stop, former) {
            // AWS makes the desired configuration the group's own only when a refresh succeeds.
            let _ = self.use_template(&former).await;
            self.group.launch_template = Some(former);
        }
        let rolls_back = read(&self.record, |record| record.prefers("AutoRollback") == Some("true"));
        let (status, reason) = match stop {
            None => ("Successful", None),
            Some(Stop::Failed(reason)) if rolls_back => (self.roll_back().await.0, Some(reason)),
            Some(Stop::Failed(reason)) => ("Failed", Some(reason)),
            Some(Stop::Cancelled) => ("Cancelled", Some("Cancelled due to user request.".to_owned())),
            Some(Stop::RolledBack) => self.roll_back().await,
        };
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        (record.status, record.reason, record.ended) = (status, reason, Some(clock::epoch_seconds()));
    }

    async fn roll_back(&self) -> (&'static str, Option<String>) {
        let compute = &self.refreshes.compute;
        let version = compute.version(&self.scope, &self.group).await.ok().flatten();
        let version = version.map(|version| version.version_number);
        for id in self.members().await.into_iter().filter(|id| compute.version_of(id) != version) {
            if let Err(Stop::Failed(reason)) = self.replace(&id, false).await {
                return ("RollbackFailed", Some(reason));
            }
        }
        ("RollbackSuccessful", None)
    }

    fn set(&self, status: &'static str, only_if: impl FnOnce(&str) -> bool) {
        let mut record = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        if only_if(record.status) {
            record.status = status;
        }
    }

    async fn members(&self) -> Vec<String> {
        let group = self.refreshes.compute.group(&self.scope, &self.group.name).await;
        group.ok().flatten().map(|group| group.ids()).unwrap_or_default()
    }

    async fn replace_all(&self) -> anyhow::Result<Option<Stop>> {
        let compute = &self.refreshes.compute;
        let version = compute.version(&self.scope, &self.group).await?;
        let image = version.as_ref().map_or(Image::Good, |version| Image::of(&version.launch_template_data.image_id));
        let skip = read(&self.record, |record| record.prefers("SkipMatching") == Some("true"));
        let launch_first = read(&self.record, Record::launches_first);
        let version = version.map(|version| version.version_number);
        let mut left = self.group.ids();
        left.retain(|id| !skip || compute.version_of(id) != version);
        self.record.lock().unwrap_or_else(PoisonError::into_inner).total = left.len();
        while let Some(id) = left.first().cloned() {
            self.record.lock().unwrap_or_else(PoisonError::into_inner).left = left.len();
            if let Some(stop) = self.turned(if image == Image::Slow { PER_SLOW_INSTANCE } else { PER_INSTANCE }).await {
                return Ok(Some(stop));
            }
            if launch_first && matches!(image, Image::Dead | Image::Sick) {
                return Ok(Some(self.fail_before_any(image)));
            }
            // Scaling in or a deletion may have come first.
            if self.members().await.contains(&id)
                && let Err(stop) = self.replace(&id, launch_first).await
            {
                return Ok(Some(stop));
            }
            left.remove(0);
        }
        self.record.lock().unwrap_or_else(PoisonError::into_inner).left = 0;
        Ok(None)
    }

    /// Waits, and tells whether the refresh was told to end meanwhile.
    async fn turned(&self, wait: Duration) -> Option<Stop> {
        let until = Instant::now() + wait;
        loop {
            match read(&self.record, |record| record.status) {
                "Cancelling" => return Some(Stop::Cancelled),
                "RollbackInProgress" => return Some(Stop::RolledBack),
                _ if Instant::now() >= until => return None,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Where new instances come first, a bad one changes nothing but the log of activities.
    fn fail_before_any(&self, image: Image) -> Stop {
        if image == Image::Sick {
            return Stop::Failed(unhealthy("The new instance"));
        }
        let why = "The image does not exist. Launching EC2 instance failed.".to_owned();
        let description = format!("Launching a new EC2 instance.  Status Reason: {why}");
        self.refreshes.compute.note(&self.group, description, Some(why.clone()));
        Stop::Failed(format!("Failed to launch instances. Status Reason: {why}"))
    }

    async fn replace(&self, id: &str, launch_first: bool) -> Result<(), Stop> {
        let before = self.members().await;
        let compute = &self.refreshes.compute;
        let failed = |error: anyhow::Error| Stop::Failed(format!("{error:#}"));
        if launch_first {
            // Detached, it serves on while moto starts the one that takes its place.
            compute.keep(id);
            let parameters = [
                ("AutoScalingGroupName", self.group.name.as_str()),
                ("InstanceIds.member.1", id),
                ("ShouldDecrementDesiredCapacity", "false"),
            ];
            compute.autoscaling(&self.scope, "DetachInstances", &parameters).await.map(drop).map_err(failed)?;
        } else {
            compute.replace(&self.scope, id).await.map_err(failed)?;
        }
        self.refreshes.converge.refresh().await.map_err(failed)?;
        let new: Vec<String> = self.members().await.into_iter().filter(|id| !before.contains(id)).collect();
        let mut judged = Ok(());
        for new in &new {
            judged = judged.and(self.judge(new).await);
        }
        if launch_first {
            // A new target is healthy once every node knows it.
            self.refreshes.converge.settled().await.map_err(failed)?;
            let ended = compute.ec2(&self.scope, "TerminateInstances", &[("InstanceId.1", id)]).await;
            compute.let_go(id);
            self.refreshes.converge.refresh().await.map_err(failed)?;
            ended.map(drop).map_err(failed)?;
        }
        judged
    }

    /// Waits until a new instance is healthy wherever it is a target.
    async fn judge(&self, id: &str) -> Result<(), Stop> {
        match self.refreshes.compute.image(id) {
            Some(Image::Dead) => {
                let failures = self.refreshes.compute.activities(|activity| activity.group_arn == self.group.arn);
                let why = failures.into_iter().find_map(|activity| activity.failure).unwrap_or_default();
                return Err(Stop::Failed(format!("Failed to launch instances. Status Reason: {why}")));
            }
            Some(Image::Sick) => return Err(Stop::Failed(unhealthy(id))),
            _ => {}
        }
        let deadline = Instant::now() + HEALTHY_LIMIT;
        while !self.is_healthy(id) {
            if Instant::now() >= deadline {
                return Err(Stop::Failed(unhealthy(id)));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    fn is_healthy(&self, id: &str) -> bool {
        let view = self.refreshes.converge.control();
        let in_use = view.groups_in_use();
        let groups = view.target_groups.values();
        let mut groups = groups.filter(|group| group.check.enabled && in_use.contains(group.arn.as_str()));
        groups.all(|group| {
            let mut targets = group.targets.iter().filter(|target| target.id == id);
            targets.all(|target| self.refreshes.checker.state(&group.arn, target) == State::Healthy)
        })
    }
}

fn unhealthy(id: &str) -> String {
    format!("{id} did not become healthy: it failed its ELB health checks. The instance refresh has failed.")
}

#[cfg(test)]
mod tests {
    use crate::compute::instances::tests::{describe, group_of, next_version};
    use crate::testing::{Local, first, get, until};

    const GROUP: (&str, &str) = ("AutoScalingGroupName", "web");

    async fn refreshed(local: &Local) -> (String, String) {
        let text = local.autoscaling("DescribeInstanceRefreshes", &[GROUP]).await;
        (first(&text, "Status"), text)
    }

    #[tokio::test]
    async fn a_refresh_replaces_the_instances_while_they_serve() {
        let local = Local::start().await;
        let (target_group, listener) = local.stage("instance").await;
        group_of(&local, "ami-good", &target_group).await;
        until("two healthy instances", async || local.healthy(&target_group).await == 2).await;
        local.aws.settled().await.expect("moto answers");
        next_version(&local, "ami-good", "v2").await;
        local.autoscaling("StartInstanceRefresh", &[GROUP, ("Preferences.MinHealthyPercentage", "100")]).await;
        let (status, refused) = local.try_query("autoscaling", "StartInstanceRefresh", &[GROUP]).await;
        assert_eq!((status, first(&refused, "Code").as_str()), (400, "InstanceRefreshInProgress"));
        until("a successful refresh", async || {
            assert_eq!(get(listener).await.0, 200);
            refreshed(&local).await.0 == "Successful"
        })
        .await;
        assert_eq!(local.get(listener).await.1, "blue v2");
        let (_, text) = refreshed(&local).await;
        assert_eq!((first(&text, "PercentageComplete"), first(&text, "InstancesToUpdate")), ("100".into(), "0".into()));
        let described = describe(&local).await;
        assert_eq!(described.matches("<Version>2</Version>").count(), 2, "{described}");
        let (_, refused) = local.try_query("autoscaling", "CancelInstanceRefresh", &[GROUP]).await;
        assert_eq!(first(&refused, "Code"), "ActiveInstanceRefreshNotFound");
        local.aws.stop().await;
    }

    #[tokio::test]
    async fn dead_and_sick_images_fail_a_refresh() {
        for (image, why) in [("ami-1dead", "does not exist"), ("ami-1sick", "did not become healthy")] {
            let local = Local::start().await;
            let (target_group, listener) = local.stage("instance").await;
            group_of(&local, "ami-good", &target_group).await;
            until("two healthy instances", async || local.healthy(&target_group).await == 2).await;
            next_version(&local, image, "v2").await;
            local.autoscaling("StartInstanceRefresh", &[GROUP]).await;
            until("a failed refresh", async || refreshed(&local).await.0 == "Failed").await;
            let (_, text) = refreshed(&local).await;
            assert!(first(&text, "StatusReason").contains(why), "{text}");
            until("one healthy instance", async || local.healthy(&target_group).await == 1).await;
            assert_eq!(local.get(listener).await, (200, "blue v1".to_owned()));
            local.aws.stop().await;
        }
    }

    #[tokio::test]
    async fn a_slow_refresh_can_be_cancelled_and_its_group_deleted() {
        let local = Local::start().await;
        let (target_group, _) = local.stage("instance").await;
        group_of(&local, "ami-good", &target_group).await;
        next_version(&local, "ami-slow", "v2").await;
        local.autoscaling("StartInstanceRefresh", &[GROUP]).await;
        until("a refresh under way", async || refreshed(&local).await.0 == "InProgress").await;
        local.autoscaling("CancelInstanceRefresh", &[GROUP]).await;
        until("a cancelled refresh", async || refreshed(&local).await.0 == "Cancelled").await;
        local.autoscaling("StartInstanceRefresh", &[GROUP]).await;
        local.autoscaling("DeleteAutoScalingGroup", &[GROUP, ("ForceDelete", "true")]).await;
        let (_, refused) = local.try_query("autoscaling", "DescribeInstanceRefreshes", &[GROUP]).await;
        assert_eq!(first(&refused, "Code"), "ValidationError");
        local.aws.stop().await;
    }
}
