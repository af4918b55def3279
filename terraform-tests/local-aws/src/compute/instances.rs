//! Runs the instances of Auto Scaling groups that moto only lists.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, ensure};

use crate::compute::describe::{Group, Groups, Reservations, Template, Version, Versions};
use crate::compute::hosts::Hosts;
use crate::core::clock;
use crate::core::moto::{MotoClient, Scope};
use crate::node::converge::Machines;

/// Older scaling activities are forgotten.
const ACTIVITIES_KEPT: usize = 1000;
const COLOR: &str = "bluegreen:color";
const RELEASE: &str = "bluegreen:release";

/// What the end of an image's id says about its instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Image {
    Good,
    /// Its instances never start.
    Dead,
    /// Its instances answer 500 to everything.
    Sick,
    /// Its instances take their time to be replaced by.
    Slow,
}

impl Image {
    pub(crate) fn of(id: &str) -> Self {
        match id {
            _ if id.ends_with("dead") => Self::Dead,
            _ if id.ends_with("sick") => Self::Sick,
            _ if id.ends_with("slow") => Self::Slow,
            _ => Self::Good,
        }
    }
}

#[derive(Clone, Debug)]
struct Instance {
    group_arn: String,
    group_name: String,
    image: String,
    version: Option<String>,
}

/// One scaling activity of a group.
#[derive(Clone, Debug)]
pub(crate) struct Activity {
    pub id: String,
    pub group_arn: String,
    pub group_name: String,
    pub description: String,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    pub at: f64,
}

#[derive(Debug, Default)]
struct State {
    instances: BTreeMap<String, Instance>,
    /// Gone from their groups; moto may still have them as targets.
    ended: BTreeSet<String>,
    /// Gone from their groups, but to run on until their replacements are healthy.
    kept: BTreeSet<String>,
    /// The newest first.
    activities: VecDeque<Activity>,
}

/// The instances.
#[derive(Debug)]
pub(crate) struct Compute {
    moto: MotoClient,
    hosts: Arc<Hosts>,
    /// Whether anybody called Auto Scaling: most tests do not, and need not wait for the reading of groups.
    used: AtomicBool,
    state: Mutex<State>,
}

impl Machines for Compute {
    fn sync<'a>(&'a self, scopes: &'a [Scope]) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send + 'a>> {
        Box::pin(self.sync(scopes))
    }

    fn is_dead(&self, id: &str) -> bool {
        self.image(id) == Some(Image::Dead)
    }

    fn is_ended(&self, id: &str) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).ended.contains(id)
    }

    fn addresses(&self) -> BTreeMap<String, SocketAddr> {
        self.hosts.addresses()
    }

    fn led_to_at_most(&self, known: &BTreeMap<String, SocketAddr>) {
        self.hosts.led_to_at_most(known);
    }
}

impl Compute {
    pub(crate) fn new(moto: MotoClient, hosts: Arc<Hosts>) -> Self {
        Self { moto, hosts, used: AtomicBool::new(false), state: Mutex::default() }
    }

    pub(crate) fn begin_use(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Brings the running applications in line with moto's groups. Only one call runs at a time.
    async fn sync(&self, scopes: &[Scope]) -> anyhow::Result<()> {
        if !self.is_used() {
            return Ok(());
        }
        let mut present = BTreeSet::new();
        for scope in scopes {
            for group in self.groups(scope, None).await? {
                present.extend(self.sync_group(scope, group).await?);
            }
        }
        self.end_all_but(&present);
        Ok(())
    }

    async fn sync_group(&self, scope: &Scope, mut group: Group) -> anyhow::Result<Vec<String>> {
        for _ in 0..2 {
            let unknown: Vec<String> = group.ids().into_iter().filter(|id| self.image(id).is_none()).collect();
            if !unknown.is_empty() {
                self.launch(scope, &group, &unknown).await?;
            }
            let dead: Vec<String> = group.ids().into_iter().filter(|id| self.is_dead(id)).collect();
            if dead.is_empty() || self.target_image(scope, &group).await? == Image::Dead {
                break;
            }
            // As AWS does: what could not start is tried again, with the template of now.
            for id in dead {
                self.replace(scope, &id).await?;
            }
            group = self.group(scope, &group.name).await?.unwrap_or_default();
        }
        Ok(group.ids())
    }

    /// Ends an instance in favor of a new one.
    pub(crate) async fn replace(&self, scope: &Scope, id: &str) -> anyhow::Result<()> {
        let parameters = [("InstanceId", id), ("ShouldDecrementDesiredCapacity", "false")];
        self.autoscaling(scope, "TerminateInstanceInAutoScalingGroup", &parameters).await.map(drop)
    }

    async fn launch(&self, scope: &Scope, group: &Group, ids: &[String]) -> anyhow::Result<()> {
        let names: Vec<String> = (1..=ids.len()).map(|n| format!("InstanceId.{n}")).collect();
        let parameters: Vec<(&str, &str)> = names.iter().zip(ids).map(|(name, id)| (&**name, &**id)).collect();
        let answer = self.ec2(scope, "DescribeInstances", &parameters).await?;
        let found: Reservations = quick_xml::de::from_str(&answer).context("cannot read DescribeInstances")?;
        let version = self.version(scope, group).await?;
        for instance in found.reservation_set.item.into_iter().flat_map(|reservation| reservation.instances_set.item) {
            let tag = |key| instance.tag(key).or_else(|| group.tag(key));
            let image = Image::of(&instance.image_id);
            if image != Image::Dead {
                let (color, release) = (tag(COLOR).unwrap_or(&group.name), tag(RELEASE).unwrap_or("1"));
                self.hosts.start(&instance.instance_id, color, release, image == Image::Sick).await?;
            }
            self.note_launch(group, instance.instance_id, instance.image_id, version.clone());
        }
        Ok(())
    }

    fn note_launch(&self, group: &Group, id: String, image: String, version: Option<Version>) {
        if Image::of(&image) == Image::Dead {
            let why = format!("The image id '[{image}]' does not exist. Launching EC2 instance failed.");
            self.note(group, format!("Launching a new EC2 instance.  Status Reason: {why}"), Some(why));
        } else {
            self.note(group, format!("Launching a new EC2 instance: {id}"), None);
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.ended.remove(&id);
        let instance = Instance {
            group_arn: group.arn.clone(),
            group_name: group.name.clone(),
            image,
            version: version.map(|version| version.version_number),
        };
        state.instances.insert(id, instance);
    }

    fn end_all_but(&self, present: &BTreeSet<String>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { instances, kept, .. } = &mut *state;
        let gone = instances.extract_if(.., |id, _| !present.contains(id) && !kept.contains(id));
        let gone: Vec<(String, Instance)> = gone.collect();
        for (id, instance) in gone {
            self.hosts.stop(&id);
            if Image::of(&instance.image) != Image::Dead {
                let (arn, name) = (&instance.group_arn, &instance.group_name);
                state.note(arn, name, format!("Terminating EC2 instance: {id}"), None);
            }
            state.ended.insert(id);
        }
    }

    /// Notes an activity that ends as it begins.
    pub(crate) fn note(&self, group: &Group, description: String, failure: Option<String>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.note(&group.arn, &group.name, description, failure);
    }

    /// The activities of the group of this name, or of all, the newest first.
    pub(crate) fn activities(&self, of: impl Fn(&Activity) -> bool) -> Vec<Activity> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.activities.iter().filter(|activity| of(activity)).cloned().collect()
    }

    /// The image of a known instance.
    pub(crate) fn image(&self, id: &str) -> Option<Image> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.instances.get(id).map(|instance| Image::of(&instance.image))
    }

    /// The version of the launch template that a known instance was made of: moto names the default one always.
    pub(crate) fn version_of(&self, id: &str) -> Option<String> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.instances.get(id).and_then(|instance| instance.version.clone())
    }

    /// Keeps an instance running that leaves its group.
    pub(crate) fn keep(&self, id: &str) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).kept.insert(id.to_owned());
    }

    /// No longer keeps it; the next reading ends it.
    pub(crate) fn let_go(&self, id: &str) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).kept.remove(id);
    }

    /// What a new instance of the group would be made of.
    pub(crate) async fn target_image(&self, scope: &Scope, group: &Group) -> anyhow::Result<Image> {
        let version = self.version(scope, group).await?;
        Ok(version.map_or(Image::Good, |version| Image::of(&version.launch_template_data.image_id)))
    }

    /// The version of its launch template that a group uses now.
    pub(crate) async fn version(&self, scope: &Scope, group: &Group) -> anyhow::Result<Option<Version>> {
        let Some(Template { id, version }) = &group.launch_template else { return Ok(None) };
        let version = version.as_deref().unwrap_or("$Default");
        let parameters = [("LaunchTemplateId", id.as_str()), ("LaunchTemplateVersion.1", version)];
        let answer = self.ec2(scope, "DescribeLaunchTemplateVersions", &parameters).await?;
        let found: Versions = quick_xml::de::from_str(&answer).context("cannot read launch template versions")?;
        Ok(found.launch_template_version_set.item.into_iter().next())
    }

    pub(crate) async fn group(&self, scope: &Scope, name: &str) -> anyhow::Result<Option<Group>> {
        Ok(self.groups(scope, Some(name)).await?.into_iter().next())
    }

    async fn groups(&self, scope: &Scope, name: Option<&str>) -> anyhow::Result<Vec<Group>> {
        let mut groups = Vec::new();
        let mut token: Option<String> = None;
        // Bounded: a token that never ends must not hang the nodes.
        for _ in 0..1000 {
            let name = name.map(|name| ("AutoScalingGroupNames.member.1", name));
            let next = token.as_deref().map(|token| ("NextToken", token));
            let parameters: Vec<(&str, &str)> = name.into_iter().chain(next).collect();
            let answer = self.autoscaling(scope, "DescribeAutoScalingGroups", &parameters).await?;
            let page: Groups = quick_xml::de::from_str(&answer).context("cannot read DescribeAutoScalingGroups")?;
            groups.extend(page.result.auto_scaling_groups.member.into_iter().map(|mut group: Group| {
                let mixed = group.mixed_instances_policy.take();
                let template = mixed.and_then(|mixed| mixed.launch_template.launch_template_specification);
                group.launch_template = group.launch_template.take().or(template);
                group
            }));
            token = page.result.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                break;
            }
        }
        Ok(groups)
    }

    pub(crate) async fn autoscaling(
        &self,
        scope: &Scope,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        self.ask(scope, ("autoscaling", "2011-01-01"), action, parameters).await
    }

    pub(crate) async fn ec2(&self, scope: &Scope, action: &str, parameters: &[(&str, &str)]) -> anyhow::Result<String> {
        self.ask(scope, ("ec2", "2016-11-15"), action, parameters).await
    }

    async fn ask(
        &self,
        scope: &Scope,
        (service, version): (&str, &str),
        action: &str,
        parameters: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        let answer = self.moto.query(scope, service, version, action, parameters).await?;
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        ensure!(answer.status().is_success(), "{action} answered {}: {text}", answer.status());
        Ok(text)
    }
}

impl State {
    fn note(&mut self, arn: &str, name: &str, description: String, failure: Option<String>) {
        self.activities.push_front(Activity {
            id: uuid(),
            group_arn: arn.to_owned(),
            group_name: name.to_owned(),
            description,
            failure,
            at: clock::epoch_seconds(),
        });
        self.activities.truncate(ACTIVITIES_KEPT);
    }
}

/// A random id in the form that AWS uses for most things.
pub(crate) fn uuid() -> String {
    let (a, b) = (fastrand::u64(..), fastrand::u64(..));
    let hex = format!("{a:016x}{b:016x}");
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testing::{Local, first, until};

    /// The template of `web`, with this image and this release.
    fn template_of<'a>(image: &'a str, release: &'a str) -> [(&'static str, &'a str); 6] {
        [
            ("LaunchTemplateName", "template"),
            ("LaunchTemplateData.ImageId", image),
            ("LaunchTemplateData.InstanceType", "t3.micro"),
            ("LaunchTemplateData.TagSpecification.1.ResourceType", "instance"),
            ("LaunchTemplateData.TagSpecification.1.Tag.1.Key", RELEASE),
            ("LaunchTemplateData.TagSpecification.1.Tag.1.Value", release),
        ]
    }

    /// Makes version 1 of a template with this image and this release, and its group `web` of two.
    pub(crate) async fn group_of(local: &Local, image: &str, target_group: &str) {
        local.query("ec2", "CreateLaunchTemplate", &template_of(image, "v1")).await;
        let subnets = local.subnets().await;
        let parameters = [
            ("AutoScalingGroupName", "web"),
            ("MinSize", "0"),
            ("MaxSize", "4"),
            ("DesiredCapacity", "2"),
            ("VPCZoneIdentifier", &*subnets[0]),
            ("LaunchTemplate.LaunchTemplateName", "template"),
            ("LaunchTemplate.Version", "$Latest"),
            ("HealthCheckGracePeriod", "0"),
            ("DefaultInstanceWarmup", "7"),
            ("TargetGroupARNs.member.1", target_group),
            ("Tags.member.1.Key", COLOR),
            ("Tags.member.1.Value", "blue"),
            ("Tags.member.1.PropagateAtLaunch", "false"),
        ];
        local.autoscaling("CreateAutoScalingGroup", &parameters).await;
    }

    /// Makes the next version of the template.
    pub(crate) async fn next_version(local: &Local, image: &str, release: &str) {
        local.query("ec2", "CreateLaunchTemplateVersion", &template_of(image, release)).await;
    }

    pub(crate) async fn describe(local: &Local) -> String {
        local.autoscaling("DescribeAutoScalingGroups", &[("AutoScalingGroupNames.member.1", "web")]).await
    }

    #[tokio::test]
    async fn instances_serve_through_a_listener_and_follow_their_group() {
        let local = Local::start().await;
        let (target_group, listener) = local.stage("instance").await;
        group_of(&local, "ami-good", &target_group).await;
        until("two healthy instances", async || local.healthy(&target_group).await == 2).await;
        assert_eq!(local.get(listener).await, (200, "blue v1".to_owned()));
        let described = describe(&local).await;
        assert_eq!(first(&described, "HealthCheckGracePeriod"), "0");
        assert_eq!(first(&described, "DefaultInstanceWarmup"), "7");

        let desired = |count: &'static str| [("AutoScalingGroupName", "web"), ("DesiredCapacity", count)];
        local.autoscaling("SetDesiredCapacity", &desired("3")).await;
        until("a third", async || local.healthy(&target_group).await == 3).await;
        local.autoscaling("SetDesiredCapacity", &desired("1")).await;
        assert_eq!(local.healthy(&target_group).await, 1);
        let id = first(&describe(&local).await, "InstanceId");
        let parameters = [("InstanceId", id.as_str()), ("ShouldDecrementDesiredCapacity", "false")];
        local.autoscaling("TerminateInstanceInAutoScalingGroup", &parameters).await;
        let health = local.elb("DescribeTargetHealth", &[("TargetGroupArn", &target_group)]).await;
        assert_eq!(health.matches("<Id>").count(), 1, "{health}");
        assert!(!health.contains(&id));

        let (_, refused) = local.try_query("autoscaling", "SetDesiredCapacity", &desired("9")).await;
        assert_eq!(first(&refused, "Code"), "ValidationError");
        let version = [
            ("AutoScalingGroupName", "web"),
            ("LaunchTemplate.LaunchTemplateName", "template"),
            ("LaunchTemplate.Version", "9"),
        ];
        let (_, refused) = local.try_query("autoscaling", "UpdateAutoScalingGroup", &version).await;
        assert_eq!(first(&refused, "Code"), "ValidationError");
        let delete = [("AutoScalingGroupName", "web"), ("ForceDelete", "true")];
        let (_, refused) = local.try_query("autoscaling", "DeleteAutoScalingGroup", &delete[..1]).await;
        assert_eq!(first(&refused, "Code"), "ResourceInUse");
        local.autoscaling("DeleteAutoScalingGroup", &delete).await;
        assert_eq!(local.get(listener).await.0, 503);
        local.aws.stop().await;
    }

    #[tokio::test]
    async fn instances_of_a_dead_image_never_show_until_the_template_is_mended() {
        let local = Local::start().await;
        let (target_group, listener) = local.stage("instance").await;
        group_of(&local, "ami-dead", &target_group).await;
        assert!(!describe(&local).await.contains("<InstanceId>"));
        let health = local.elb("DescribeTargetHealth", &[("TargetGroupArn", &target_group)]).await;
        assert!(!health.contains("<Id>"), "{health}");
        assert_eq!(local.get(listener).await.0, 503);
        let activities = local.autoscaling("DescribeScalingActivities", &[("AutoScalingGroupName", "web")]).await;
        assert_eq!(first(&activities, "StatusCode"), "Failed");
        let why = "The image id '[ami-dead]' does not exist. Launching EC2 instance failed.";
        assert_eq!(first(&activities, "StatusMessage").replace("&apos;", "'"), why);

        next_version(&local, "ami-good", "v2").await;
        until("mended instances", async || local.get(listener).await == (200, "blue v2".to_owned())).await;
        local.aws.stop().await;
    }
}
