//! Updates of what others made: whatever no argument describes is sent back as it is, or not at all.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{REGION, Stub};
use crate::rollout::Scalable;
use crate::run::ports::FailureKind;
use crate::run::stack::ports::{Deploy, Tags, VersionOf};
use crate::stack::{CircuitBreaker, DeploymentAlarms, Instances, Service};

const SERVICE: &str = "arn:aws:ecs:eu-central-1:123456789012:service/main/web-blue";

/// A service with everything that AWS's model has.
fn service() -> Value {
    json!({
        "serviceArn": SERVICE, "serviceName": "web-blue", "status": "ACTIVE", "desiredCount": 2, "runningCount": 2,
        "launchType": "FARGATE", "platformVersion": "1.4.0", "taskDefinition": "web:7",
        "schedulingStrategy": "REPLICA", "deploymentController": { "type": "ECS" },
        "loadBalancers": [
            { "targetGroupArn": "arn:public", "containerName": "app", "containerPort": 80,
              "advancedConfiguration": { "alternateTargetGroupArn": "arn:other", "roleArn": "arn:role" } },
            { "targetGroupArn": "arn:internal", "containerName": "admin", "containerPort": 81 },
        ],
        "deploymentConfiguration": {
            "strategy": "ROLLING", "minimumHealthyPercent": 50, "maximumPercent": 150, "bakeTimeInMinutes": 5,
            "deploymentCircuitBreaker": {
                "enable": false, "rollback": false, "resetOnHealthyTask": true,
                "thresholdConfiguration": { "type": "COUNT", "value": 3 },
            },
            "alarms": { "alarmNames": ["errors"], "enable": true, "rollback": true },
            "lifecycleHooks": [{ "hookTargetArn": "arn:hook", "roleArn": "arn:role", "lifecycleStages": ["RECONCILE_SERVICE"] }],
        },
        "serviceRegistries": [{ "registryArn": "arn:registry" }],
        "placementStrategy": [{ "type": "spread", "field": "host" }],
        "propagateTags": "SERVICE", "enableECSManagedTags": true, "availabilityZoneRebalancing": "ENABLED",
        "deployments": [{ "id": "ecs-svc/1", "status": "PRIMARY", "taskDefinition": "web:8", "rolloutState": "IN_PROGRESS" }],
    })
}

fn ecs(call: &BTreeMap<String, String>) -> (u16, String) {
    match call["Action"].as_str() {
        "DescribeServices" => (200, json!({ "services": [service()] }).to_string()),
        "UpdateService" => (200, json!({ "service": service() }).to_string()),
        other => (400, format!("{{\"__type\":\"{other}\"}}")),
    }
}

fn sent(stub: &Stub) -> Value {
    let asked = stub.asked();
    let update = asked.iter().find(|call| call["Action"] == "UpdateService").unwrap();
    serde_json::from_str(&update["body"]).unwrap()
}

#[tokio::test]
async fn a_release_leaves_a_service_what_it_has() {
    let stub = Stub::start(ecs).await;
    let wish = Service { cluster: "main".to_owned(), container_port: Some(8080), ..Service::default() };
    let of =
        Deploy { service: &wish, task_definition: "web:8", target_group: "arn:public", container: "app", force: true };
    assert_eq!(stub.stack.ecs.deploy(SERVICE, of).await.unwrap().as_deref(), Some("ecs-svc/1"));
    let mut lists = service()["loadBalancers"].clone();
    lists[0]["containerPort"] = json!(8080);
    // What isn't sent stays as it is, says AWS of every member.
    let expected = json!({
        "cluster": "main", "service": SERVICE, "taskDefinition": "web:8", "forceNewDeployment": true,
        "loadBalancers": lists,
    });
    assert_eq!(sent(&stub), expected);
}

/// The only target group that there is was ours before it was made anew.
#[tokio::test]
async fn another_target_group_takes_the_place_of_the_only_one() {
    fn one(call: &BTreeMap<String, String>) -> (u16, String) {
        let mut service = service();
        service["loadBalancers"].as_array_mut().unwrap().pop();
        match call["Action"].as_str() {
            "DescribeServices" => (200, json!({ "services": [service] }).to_string()),
            _ => ecs(call),
        }
    }
    let stub = Stub::start(one).await;
    let wish = Service { cluster: "main".to_owned(), container_port: Some(80), ..Service::default() };
    let of =
        Deploy { service: &wish, task_definition: "web:8", target_group: "arn:new", container: "app", force: false };
    stub.stack.ecs.deploy(SERVICE, of).await.unwrap();
    let balancers = &sent(&stub)["loadBalancers"];
    assert_eq!(balancers.as_array().unwrap().len(), 1, "{balancers}");
    assert_eq!(balancers[0]["targetGroupArn"], "arn:new");
    assert_eq!(balancers[0]["advancedConfiguration"]["roleArn"], "arn:role");
}

#[tokio::test]
async fn settings_of_deployments_stay_but_for_those_that_are_written() {
    let stub = Stub::start(ecs).await;
    let breaker = CircuitBreaker { enable: Some(true), rollback: Some(true) };
    let wish = Service {
        cluster: "main".to_owned(),
        circuit_breaker: Some(breaker),
        minimum_healthy_percent: Some(100),
        maximum_percent: Some(200),
        health_check_grace_period: Some(7),
        alarms: Some(DeploymentAlarms {
            alarm_names: vec!["errors".to_owned()],
            enable: Some(true),
            rollback: Some(false),
        }),
        propagate_tags: Some("SERVICE".to_owned()),
        ..Service::default()
    };
    stub.stack.ecs.update(SERVICE, &wish).await.unwrap();
    let mut expected = service()["deploymentConfiguration"].clone();
    expected["minimumHealthyPercent"] = json!(100);
    expected["maximumPercent"] = json!(200);
    expected["deploymentCircuitBreaker"]["enable"] = json!(true);
    expected["deploymentCircuitBreaker"]["rollback"] = json!(true);
    expected["alarms"]["rollback"] = json!(false);
    let sent = sent(&stub);
    assert_eq!(sent["deploymentConfiguration"], expected);
    assert_eq!((&sent["healthCheckGracePeriodSeconds"], &sent["propagateTags"]), (&json!(7), &json!("SERVICE")));
    // Alarms that are wished no more are taken away.
    let stub = Stub::start(ecs).await;
    stub.stack.ecs.update(SERVICE, &Service { alarms: None, ..wish }).await.unwrap();
    let none = json!({ "alarmNames": [], "enable": false, "rollback": false });
    assert_eq!(self::sent(&stub)["deploymentConfiguration"]["alarms"], none);
}

/// Who moves the traffic of a service is seen where it isn't a switch.
#[tokio::test]
async fn a_service_that_somebody_else_releases_is_told_from_others() {
    fn native(call: &BTreeMap<String, String>) -> (u16, String) {
        let asked: Value = serde_json::from_str(&call["body"]).unwrap();
        let mut services = Vec::new();
        for name in asked["services"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let mut one = service();
            one["serviceName"] = json!(name);
            match name {
                "canary" => one["deploymentConfiguration"]["strategy"] = json!("CANARY"),
                "codedeploy" => one["deploymentController"]["type"] = json!("CODE_DEPLOY"),
                "daemon" => one["schedulingStrategy"] = json!("DAEMON"),
                _ => {}
            }
            services.push(one);
        }
        (200, json!({ "services": services }).to_string())
    }
    let stub = Stub::start(native).await;
    let mut words = Vec::new();
    for name in ["canary", "codedeploy", "daemon", "rolling"] {
        words.push(stub.stack.ecs.find("main", name).await.unwrap().unwrap().unfit);
    }
    let has = |n: usize, text: &str| words[n].as_deref().is_some_and(|words| words.contains(text));
    assert!(has(0, "CANARY") && has(1, "CODE_DEPLOY") && has(2, "DAEMON") && words[3].is_none(), "{words:?}");
    // Each target group has its own container.
    let seen = stub.stack.ecs.find("main", "rolling").await.unwrap().unwrap();
    assert_eq!(seen.containers["arn:internal"], (Some("admin".to_owned()), Some(81)));
}

/// Several types, Spot, and a type with a template of its own.
const MIXED: &str = "<AutoScalingGroupName>web-blue</AutoScalingGroupName><MinSize>2</MinSize><MaxSize>4</MaxSize>\
    <DesiredCapacity>2</DesiredCapacity><MixedInstancesPolicy>\
    <LaunchTemplate><LaunchTemplateSpecification><LaunchTemplateId>lt-1</LaunchTemplateId><LaunchTemplateName>web</LaunchTemplateName><Version>1</Version></LaunchTemplateSpecification>\
    <Overrides><member><InstanceType>m7g.large</InstanceType><WeightedCapacity>2</WeightedCapacity><LaunchTemplateSpecification><LaunchTemplateId>lt-arm</LaunchTemplateId><LaunchTemplateName>arm</LaunchTemplateName><Version>3</Version></LaunchTemplateSpecification></member>\
    <member><InstanceRequirements><VCpuCount><Min>2</Min><Max>4</Max></VCpuCount><MemoryMiB><Min>4096</Min></MemoryMiB><CpuManufacturers><member>amd</member></CpuManufacturers></InstanceRequirements></member></Overrides></LaunchTemplate>\
    <InstancesDistribution><OnDemandBaseCapacity>1</OnDemandBaseCapacity><OnDemandPercentageAboveBaseCapacity>20</OnDemandPercentageAboveBaseCapacity><SpotAllocationStrategy>price-capacity-optimized</SpotAllocationStrategy><SpotMaxPrice>0.5</SpotMaxPrice></InstancesDistribution>\
    </MixedInstancesPolicy>";

fn groups(member: &str) -> String {
    format!(
        "<DescribeAutoScalingGroupsResponse><DescribeAutoScalingGroupsResult><AutoScalingGroups><member>{member}</member></AutoScalingGroups></DescribeAutoScalingGroupsResult></DescribeAutoScalingGroupsResponse>"
    )
}

fn mixed(call: &BTreeMap<String, String>) -> (u16, String) {
    match call["Action"].as_str() {
        "DescribeAutoScalingGroups" => (200, groups(MIXED)),
        _ => (200, "<UpdateAutoScalingGroupResponse/>".to_owned()),
    }
}

#[tokio::test]
async fn another_version_leaves_mixed_instances_mixed() {
    let stub = Stub::start(mixed).await;
    let seen = stub.stack.autoscaling.find("web-blue").await.unwrap().unwrap();
    assert_eq!(seen.template, Some(("lt-1".to_owned(), "1".to_owned())));
    stub.stack.autoscaling.set_template("web-blue", &seen.instances, ("lt-1", "2")).await.unwrap();
    let mut sent = stub.asked().pop().unwrap();
    for name in ["Action", "Version", "AutoScalingGroupName", REGION] {
        sent.remove(name);
    }
    let policy = "MixedInstancesPolicy.";
    let sent: BTreeMap<&str, &str> =
        sent.iter().map(|(name, value)| (name.strip_prefix(policy).unwrap(), value.as_str())).collect();
    let expected = BTreeMap::from([
        ("InstancesDistribution.OnDemandBaseCapacity", "1"),
        ("InstancesDistribution.OnDemandPercentageAboveBaseCapacity", "20"),
        ("InstancesDistribution.SpotAllocationStrategy", "price-capacity-optimized"),
        ("InstancesDistribution.SpotMaxPrice", "0.5"),
        ("LaunchTemplate.LaunchTemplateSpecification.LaunchTemplateId", "lt-1"),
        ("LaunchTemplate.LaunchTemplateSpecification.Version", "2"),
        ("LaunchTemplate.Overrides.member.1.InstanceType", "m7g.large"),
        ("LaunchTemplate.Overrides.member.1.WeightedCapacity", "2"),
        ("LaunchTemplate.Overrides.member.1.LaunchTemplateSpecification.LaunchTemplateId", "lt-arm"),
        ("LaunchTemplate.Overrides.member.1.LaunchTemplateSpecification.Version", "3"),
        ("LaunchTemplate.Overrides.member.2.InstanceRequirements.VCpuCount.Min", "2"),
        ("LaunchTemplate.Overrides.member.2.InstanceRequirements.VCpuCount.Max", "4"),
        ("LaunchTemplate.Overrides.member.2.InstanceRequirements.MemoryMiB.Min", "4096"),
        ("LaunchTemplate.Overrides.member.2.InstanceRequirements.CpuManufacturers.member.1", "amd"),
    ]);
    assert_eq!(sent, expected);
}

#[tokio::test]
async fn a_group_is_seen_behind_a_target_group_however_it_was_attached() {
    fn by_source(call: &BTreeMap<String, String>) -> (u16, String) {
        let group = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/blue/1";
        let member = format!(
            "<AutoScalingGroupName>web-blue</AutoScalingGroupName><LaunchConfigurationName>old</LaunchConfigurationName>\
             <TrafficSources><member><Identifier>{group}</Identifier><Type>elbv2</Type></member>\
             <member><Identifier>arn:aws:vpc-lattice:eu-central-1:123456789012:targetgroup/tg-1</Identifier><Type>vpc-lattice</Type></member></TrafficSources>"
        );
        match call["Action"].as_str() {
            "DescribeAutoScalingGroups" => (200, groups(&member)),
            other => (200, format!("<{other}Response/>")),
        }
    }
    let group = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/blue/1";
    let stub = Stub::start(by_source).await;
    let seen = stub.stack.autoscaling.find("web-blue").await.unwrap().unwrap();
    assert_eq!(seen.target_groups, [group]);
    assert!(seen.unfit.is_some_and(|why| why.contains("the launch configuration old")));
    stub.stack.autoscaling.detach("web-blue", group).await.unwrap();
    assert_eq!(stub.operations().last().map(String::as_str), Some("DetachTrafficSources"));
}

/// A template with settings that no argument has, and tags of others.
fn template(more: &str) -> String {
    let tags = |kind: &str| {
        format!(
            "<item><resourceType>{kind}</resourceType><tagSet><item><key>Name</key><value>web</value></item><item><key>team</key><value>a</value></item><item><key>bluegreen:release</key><value>1</value></item></tagSet></item>"
        )
    };
    format!(
        "<DescribeLaunchTemplateVersionsResponse><launchTemplateVersionSet><item><launchTemplateId>lt-1</launchTemplateId><versionNumber>4</versionNumber>\
         <launchTemplateData><imageId>ami-1</imageId><instanceType>t3.medium</instanceType><monitoring><enabled>true</enabled></monitoring>\
         <tagSpecificationSet>{}{}{}</tagSpecificationSet>{more}</launchTemplateData></item></launchTemplateVersionSet></DescribeLaunchTemplateVersionsResponse>",
        tags("instance"),
        tags("volume"),
        tags("network-interface"),
    )
}

const MADE: &str = "<CreateLaunchTemplateVersionResponse><launchTemplateVersion><launchTemplateId>lt-1</launchTemplateId><versionNumber>5</versionNumber></launchTemplateVersion></CreateLaunchTemplateVersionResponse>";

async fn new_version(
    answers: super::Answers,
) -> (Result<i64, crate::run::ports::PortError>, Option<BTreeMap<String, String>>) {
    let stub = Stub::start(answers).await;
    let instances =
        Instances { image_id: "ami-2".to_owned(), instance_type: Some("t3.large".to_owned()), ..Instances::default() };
    let tags = Tags::from([("bluegreen:release".to_owned(), "2".to_owned())]);
    let gone = ["team".to_owned()];
    let of =
        VersionOf { instances: &instances, security_group: "sg-1", tags: &tags, former: Some("$Latest"), gone: &gone };
    let result = stub.stack.launch_templates.add_version("lt-1", of).await;
    let made = stub.asked().into_iter().find(|call| call["Action"] == "CreateLaunchTemplateVersion");
    (result, made)
}

fn tagged(made: &BTreeMap<String, String>) -> Vec<String> {
    let of = |n: usize, rest: String| made.get(&format!("LaunchTemplateData.TagSpecification.{n}.{rest}")).cloned();
    (1..=3)
        .flat_map(|n| {
            let kind = of(n, "ResourceType".to_owned()).unwrap_or_default();
            let pairs = (1..=3).filter_map(move |m| {
                Some(format!("{}={}", of(n, format!("Tag.{m}.Key"))?, of(n, format!("Tag.{m}.Value"))?))
            });
            pairs.map(move |pair| format!("{kind} {pair}"))
        })
        .collect()
}

#[tokio::test]
async fn a_new_version_takes_over_what_no_argument_has() {
    fn rich(call: &BTreeMap<String, String>) -> (u16, String) {
        let more =
            "<placement><tenancy>dedicated</tenancy></placement><cpuOptions><coreCount>2</coreCount></cpuOptions>";
        match call["Action"].as_str() {
            "DescribeLaunchTemplateVersions" => (200, template(more)),
            "CreateLaunchTemplateVersion" => (200, MADE.to_owned()),
            other => (200, format!("<{other}Response/>")),
        }
    }
    let (result, made) = new_version(rich).await;
    assert_eq!(result.unwrap(), 5);
    let made = made.unwrap();
    assert_eq!(made["SourceVersion"], "4");
    // What was on is said to be off: a version with a source would take it over.
    assert_eq!(made["LaunchTemplateData.Monitoring.Enabled"], "false");
    assert_eq!(
        tagged(&made),
        [
            "instance Name=web",
            "instance bluegreen:release=2",
            "volume Name=web",
            "volume bluegreen:release=2",
            "network-interface Name=web",
            "network-interface bluegreen:release=1",
            "network-interface team=a"
        ]
    );
}

#[tokio::test]
async fn a_version_of_which_everything_is_known_has_no_source() {
    fn plain(call: &BTreeMap<String, String>) -> (u16, String) {
        match call["Action"].as_str() {
            "DescribeLaunchTemplateVersions" => (200, template("<keyName>me</keyName>")),
            "CreateLaunchTemplateVersion" => (200, MADE.to_owned()),
            other => (200, format!("<{other}Response/>")),
        }
    }
    let (result, made) = new_version(plain).await;
    let made = made.unwrap();
    assert!(result.is_ok() && !made.contains_key("SourceVersion"), "{made:?}");
    // The key pair is left out, as it is wished.
    assert!(!made.contains_key("LaunchTemplateData.KeyName"), "{made:?}");
}

#[tokio::test]
async fn what_a_version_would_lose_is_refused() {
    fn interfaces(call: &BTreeMap<String, String>) -> (u16, String) {
        let more = "<networkInterfaceSet><item><deviceIndex>0</deviceIndex><associatePublicIpAddress>true</associatePublicIpAddress><interfaceType>efa</interfaceType></item></networkInterfaceSet>";
        (200, if call["Action"] == "DescribeLaunchTemplateVersions" { template(more) } else { MADE.to_owned() })
    }
    fn key(call: &BTreeMap<String, String>) -> (u16, String) {
        let more = "<keyName>me</keyName><enclaveOptions><enabled>true</enabled></enclaveOptions>";
        (200, if call["Action"] == "DescribeLaunchTemplateVersions" { template(more) } else { MADE.to_owned() })
    }
    let cases: [(super::Answers, &str); 2] = [
        (interfaces, "settings in NetworkInterfaces that no argument describes"),
        (key, "keeps its EnclaveOptions takes the key pair over as well"),
    ];
    for (answers, words) in cases {
        let (result, made) = new_version(answers).await;
        let error = result.unwrap_err();
        assert!(error.kind == FailureKind::InvalidRequest && error.message.contains(words), "{error}");
        assert!(made.is_none());
    }
}

/// Settings that take effect at once leave the types to the roll, which replaces instances of others.
#[tokio::test]
async fn another_distribution_leaves_the_types() {
    let stub = Stub::start(mixed).await;
    let seen = stub.stack.autoscaling.find("web-blue").await.unwrap().unwrap();
    assert!(seen.unfit.is_some_and(|why| why.contains("a launch template or an image of its own")));
    let mut wish = seen.instances;
    let policy = wish.mixed_instances_policy.as_mut().unwrap();
    policy.overrides.clear();
    let distribution = policy.instances_distribution.as_mut().unwrap();
    (distribution.on_demand_base_capacity, distribution.spot_max_price) = (Some(3), None);
    stub.stack.autoscaling.update("web-blue", &wish).await.unwrap();
    let sent = stub.asked().pop().unwrap();
    let of = |name: &str| sent.get(&format!("MixedInstancesPolicy.{name}")).map(String::as_str);
    assert_eq!(of("InstancesDistribution.OnDemandBaseCapacity"), Some("3"));
    // An empty price takes the former one away.
    assert_eq!(of("InstancesDistribution.SpotMaxPrice"), Some(""));
    assert_eq!(of("LaunchTemplate.Overrides.member.1.InstanceType"), Some("m7g.large"));
    assert_eq!(of("LaunchTemplate.LaunchTemplateSpecification.Version"), Some("1"));
    assert_eq!(of("LaunchTemplate.LaunchTemplateSpecification.LaunchTemplateName"), None);
}

/// A color whose instances are being brought back is not ready for anybody, as one whose instances are being replaced.
#[tokio::test]
async fn a_refresh_that_is_rolled_back_goes_on() {
    fn back(call: &BTreeMap<String, String>) -> (u16, String) {
        let refresh = "<member><InstanceRefreshId>r-1</InstanceRefreshId><Status>RollbackInProgress</Status></member>";
        let body = format!("<InstanceRefreshes>{refresh}</InstanceRefreshes>");
        let action = &call["Action"];
        (200, format!("<{action}Response><{action}Result>{body}</{action}Result></{action}Response>"))
    }
    let stub = Stub::start(back).await;
    let of = Scalable::ScalingGroup("web-blue".to_owned());
    let turnover = stub.ports.capacities.turnover(&of).await.unwrap();
    assert!(turnover.is_some_and(|words| words.contains("the instance refresh r-1 of web-blue goes on")));
}
