//! Every argument of an environment changed once, one at a time: planned as AWS has it, applied, and nothing left to do.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use bluegreen::argument::{Argument, Arguments as _, Class, Holds};
use bluegreen::stack::Spec;
use terraform_tests::client::element;
use terraform_tests::stage::{Leads, Stage, forward};
use terraform_tests::terraform::Terraform;

/// What a plan says of a change.
#[derive(Clone, Copy, PartialEq)]
enum As {
    InPlace,
    Replacement,
}

use As::{InPlace, Replacement};

/// An environment written as `path = value` lines, so that each can be changed alone.
struct Arguments {
    head: String,
    lines: Vec<(&'static str, String)>,
}

impl Arguments {
    fn set(&mut self, path: &'static str, value: &str) {
        match self.lines.iter_mut().find(|(own, _)| *own == path) {
            Some((_, own)) => value.clone_into(own),
            None => self.lines.push((path, value.to_owned())),
        }
    }

    /// The lines as nested objects.
    fn text(&self) -> String {
        fn object(lines: &[(Vec<&str>, &str)]) -> String {
            let mut names: Vec<&str> = lines.iter().map(|(path, _)| path[0]).collect();
            names.dedup();
            names.sort_unstable();
            names.dedup();
            let mut out = String::new();
            for name in names {
                let of = lines.iter().filter(|(path, _)| path[0] == name);
                let inner: Vec<(Vec<&str>, &str)> = of
                    .clone()
                    .filter(|(path, _)| path.len() > 1)
                    .map(|(path, value)| (path[1..].to_vec(), *value))
                    .collect();
                match of.clone().find(|(path, _)| path.len() == 1) {
                    Some((_, value)) => out += &format!("{name} = {value}\n"),
                    None => out += &format!("{name} = {{\n{}}}\n", object(&inner)),
                }
            }
            out
        }
        let lines: Vec<(Vec<&str>, &str)> =
            self.lines.iter().map(|(path, value)| (path.split('.').collect(), value.as_str())).collect();
        format!("{}resource \"bluegreen_environment\" \"app\" {{\n{}}}\n", self.head, object(&lines))
    }
}

/// What AWS doesn't keep, or what belongs to scaling: there is nothing to drift.
const OWN: [&str; 9] = [
    "protect_live",
    "timeouts",
    "listener_arn",
    "instances.desired_capacity",
    "instances.instance_refresh",
    "service.desired_count",
    "service.keep_revisions",
    "service.container_name",
    "release",
];

/// The configuration and the state before a change: to them, the change is something that somebody did by hand.
struct Before(Terraform);

impl Before {
    fn of(now: &Terraform) -> anyhow::Result<Before> {
        let before = Terraform::new()?;
        for file in ["main.tf", "terraform.tfstate"] {
            std::fs::copy(now.folder().join(file), before.folder().join(file))?;
        }
        Ok(Before(before))
    }

    async fn sees_drift(&self) -> anyhow::Result<()> {
        let plan = self.0.plan().await?;
        ensure!(plan.code == 2, "somebody else's change is not seen: {}", plan.text);
        Ok(())
    }
}

/// Every argument that a configuration can change, by its path, and what a change of it means.
fn declared() -> BTreeMap<String, Class> {
    fn collect(path: &str, arguments: &[Argument], found: &mut BTreeMap<String, Class>) {
        for argument in arguments {
            let path = if path.is_empty() { argument.name.to_owned() } else { format!("{path}.{}", argument.name) };
            // The elements of lists are written and changed as a whole.
            match &argument.holds {
                Holds::Object(members) => collect(&path, members, found),
                _ => drop(found.insert(path, argument.change)),
            }
        }
    }
    let mut found = BTreeMap::new();
    collect("", Spec::arguments(), &mut found);
    found
}

/// What a plan has to say of a change, as the argument is declared.
fn expected(path: &str, declared: &BTreeMap<String, Class>) -> As {
    match declared.get(path) {
        // Its name is compared, whether it stands alone or in an ARN.
        Some(Class::Apart) if path == "service.cluster" => Replacement,
        Some(Class::Replaces) => Replacement,
        _ => InPlace,
    }
}

/// What is declared is changed here, alone or with the object that it is in; what can't be is said with its reason.
#[test]
fn all_of_them_are_changed() {
    // Lines are broken where they are long.
    let text = include_str!("arguments.rs").split_whitespace().collect::<Vec<_>>().join(" ").replace("( ", "(");
    let without = [
        // A release of Auto Scaling's own, and of ECS's, that the local AWS doesn't keep.
        "service.capacity_provider_strategy",
        "service.task_definition_arn",
        // Everything that an environment names is another thing there: `regions`.
        "region",
        // The same attribute of the template as user_data.
        "instances.user_data_base64",
    ];
    let mut missing = Vec::new();
    for path in declared().into_keys().filter(|path| !without.contains(&path.as_str())) {
        let mut steps: Vec<&str> = path.split('.').collect();
        let name = steps[steps.len() - 1].to_owned();
        let alone = text.contains(&format!("(\"{path}\""));
        steps.pop();
        let by_name = [("instances.mixed_instances_policy", [MIXED, OTHER_MIXED].concat())];
        let named = by_name.iter().any(|(outer, text)| path.starts_with(outer) && text.contains(&format!("{name} = ")));
        let inside = named
            || (1..=steps.len()).any(|n| {
                let outer = format!("(\"{}\"", steps[..n].join("."));
                text.match_indices(&outer).any(|(at, _)| {
                    text[at..].split("InPlace").next().is_some_and(|line| line.contains(&format!("{name} = ")))
                })
            });
        if !alone && !inside {
            missing.push(path);
        }
    }
    assert!(missing.is_empty(), "declared, and changed in no scenario: {}", missing.join(", "));
}

async fn play(
    stage: &Stage,
    base: &[(&'static str, &str)],
    changes: &[(&'static str, &str, As)],
) -> anyhow::Result<()> {
    let (terraform, declared) = (Terraform::new()?, declared());
    let mut arguments = Arguments { head: stage.provider(), lines: Vec::new() };
    for (path, value) in base {
        arguments.set(path, value);
    }
    terraform.write(&arguments.text())?;
    terraform.apply().await?.ok()?;
    terraform.plan_is_empty().await?;
    for (path, value, how) in changes {
        let before = Before::of(&terraform)?;
        arguments.set(path, value);
        terraform.write(&arguments.text())?;
        let said = terraform.apply().await?;
        ensure!(said.code == 0, "{path} = {value}: {}", said.text);
        ensure!(*how == expected(path, &declared), "{path}: it is declared otherwise");
        let says = match how {
            InPlace => "Plan: 0 to add, 1 to change, 0 to destroy.",
            Replacement => "Plan: 1 to add, 0 to change, 1 to destroy.",
        };
        ensure!(said.folded().contains(says), "{path} = {value}: {}", said.text);
        let plan = terraform.plan().await?;
        ensure!(plan.code == 0, "after {path} = {value}: {}", plan.text);
        // Tags that others add are nobody's drift; those that they take away are.
        let added = *path == "tags" && value.contains("team");
        if *how == InPlace && !added && !OWN.contains(path) {
            before.sees_drift().await.with_context(|| format!("{path} = {value}"))?;
        }
    }
    terraform.destroy().await?.ok()?;
    Ok(())
}

/// A target group of an Application Load Balancer, with fixed targets.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_target_group() -> anyhow::Result<()> {
    let stage = Stage::bare().await?;
    let vpc = format!("\"{}\"", stage.network().await?.0);
    let base = [
        ("name", "\"myapp\""),
        ("color", "\"blue\""),
        ("vpc_id", &vpc),
        ("target_group.port", "80"),
        ("targets", "[{ id = \"127.0.0.2\", port = 8080 }]"),
    ];
    let changes = [
        ("release", "\"1.1\"", InPlace),
        ("protect_live", "false", InPlace),
        ("tags", "{ team = \"web\" }", InPlace),
        ("tags", "{ owner = \"web\" }", InPlace),
        ("timeouts", "{ create = \"20m\", update = \"10m\", delete = \"5m\" }", InPlace),
        ("targets", "[{ id = \"127.0.0.3\", port = 8080 }, { id = \"127.0.0.2\", port = 8080 }]", InPlace),
        ("targets", "[{ id = \"127.0.0.3\", port = 8080 }]", InPlace),
        ("target_group.health_check.path", "\"/health\"", InPlace),
        ("target_group.health_check.matcher", "\"200-299\"", InPlace),
        ("target_group.health_check.interval", "15", InPlace),
        ("target_group.health_check.timeout", "3", InPlace),
        ("target_group.health_check.healthy_threshold", "3", InPlace),
        ("target_group.health_check.unhealthy_threshold", "4", InPlace),
        ("target_group.health_check.port", "\"8081\"", InPlace),
        ("target_group.health_check.protocol", "\"HTTPS\"", InPlace),
        ("target_group.deregistration_delay", "60", InPlace),
        ("target_group.slow_start", "30", InPlace),
        ("target_group.slow_start", "0", InPlace),
        ("target_group.algorithm", "\"least_outstanding_requests\"", InPlace),
        ("target_group.stickiness", "{ type = \"lb_cookie\", cookie_duration = 3600 }", InPlace),
        ("target_group.stickiness", "{ type = \"app_cookie\", cookie_name = \"session\" }", InPlace),
        ("target_group.stickiness", "{ enabled = false }", InPlace),
        ("target_group.algorithm", "\"weighted_random\"", InPlace),
        ("target_group.anomaly_mitigation", "true", InPlace),
        ("target_group.cross_zone", "\"false\"", InPlace),
        (
            "target_group.target_group_health",
            "{ dns_failover = { minimum_healthy_targets_count = \"off\" }, unhealthy_state_routing = { minimum_healthy_targets_count = \"2\", minimum_healthy_targets_percentage = \"50\" } }",
            InPlace,
        ),
        ("target_group.port", "81", Replacement),
        ("target_group.protocol", "\"HTTPS\"", Replacement),
        ("target_group.protocol_version", "\"HTTP2\"", Replacement),
        ("color", "\"red\"", Replacement),
        ("name", "\"myapp-two\"", Replacement),
        ("target_group.target_type", "\"instance\"", Replacement),
    ];
    // Instance targets are instances; none are needed to see the replacement.
    let (last, changes) = changes.split_last().expect("there are some");
    play(&stage, &base, changes).await?;
    let instance = [("name", "\"myapp\""), ("color", "\"blue\""), ("vpc_id", &vpc), ("target_group.port", "80")];
    play(&stage, &instance, &[("target_group.target_type", "\"ip\"", Replacement), *last]).await
}

/// A target group of a Network Load Balancer, and one of functions.
#[tokio::test(flavor = "multi_thread")]
async fn of_other_target_groups() -> anyhow::Result<()> {
    let mut stage = Stage::bare().await?;
    let listener = stage.listener(Leads::Unavailable).await?;
    let vpc = stage.network().await?.0;
    let other = stage.client.ec2("CreateVpc", &[("CidrBlock", "10.9.0.0/16")]).await?;
    let other = format!("\"{}\"", element(&other, "vpcId")?);
    let (vpc, listener) = (format!("\"{vpc}\""), format!("\"{listener}\""));
    let base = [
        ("name", "\"myapp\""),
        ("color", "\"blue\""),
        ("vpc_id", vpc.as_str()),
        ("target_group.port", "443"),
        ("target_group.protocol", "\"TCP\""),
        ("target_group.target_type", "\"ip\""),
    ];
    let changes = [
        ("target_group.preserve_client_ip", "true", InPlace),
        ("target_group.proxy_protocol_v2", "true", InPlace),
        ("target_group.connection_termination", "true", InPlace),
        ("target_group.stickiness", "{ type = \"source_ip\" }", InPlace),
        ("target_group.health_check", "{ protocol = \"HTTP\", path = \"/up\" }", InPlace),
        ("target_group.stickiness", "{ enabled = false }", InPlace),
        ("target_group.protocol", "\"TLS\"", Replacement),
        ("target_group.ip_address_type", "\"ipv6\"", Replacement),
        ("vpc_id", &other, Replacement),
    ];
    play(&stage, &base, &changes).await?;
    let base = [
        ("name", "\"myapp\""),
        ("color", "\"blue\""),
        ("vpc_id", vpc.as_str()),
        ("target_group.port", "80"),
        ("target_group.protocol_version", "\"GRPC\""),
    ];
    let changes = [
        ("target_group.health_check.matcher", "\"0-99\"", InPlace),
        ("listener_arn", listener.as_str(), InPlace),
        ("listener_arn", "null", InPlace),
    ];
    play(&stage, &base, &changes).await?;
    let base = [("name", "\"myapp\""), ("color", "\"blue\""), ("target_group.target_type", "\"lambda\"")];
    let changes =
        [("target_group.multi_value_headers", "true", InPlace), ("target_group.health_check.enabled", "true", InPlace)];
    play(&stage, &base, &changes).await
}

/// Fifty environments of five things each: what AWS lets be read many at a time is read so, as far as Terraform asks for ten
/// of them at a time.
#[tokio::test(flavor = "multi_thread")]
async fn of_fifty_environments() -> anyhow::Result<()> {
    let stage = Stage::bare().await?;
    let terraform = Terraform::new()?;
    terraform.write(&stage.fifty_environments().await?)?;
    terraform.apply().await?.ok()?;
    stage.aws.clear_calls();
    terraform.plan_is_empty().await?;
    let calls: Vec<String> = stage.aws.calls().into_iter().map(|call| call.operation).collect();
    let attributes = calls.iter().filter(|call| *call == "DescribeTargetGroupAttributes").count();
    ensure!(attributes == 50, "one for each: {attributes}");
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    calls.iter().for_each(|call| *counts.entry(call).or_default() += 1);
    ensure!(calls.len() - attributes <= 100, "{counts:?}");
    Ok(())
}

/// Two types, On-Demand and Spot.
const MIXED: &str = r#"{ overrides = [{ instance_type = "t3.large" }, { instance_type = "t3a.large" }], instances_distribution = { on_demand_allocation_strategy = "lowest-price", on_demand_base_capacity = 1, on_demand_percentage_above_base_capacity = 100, spot_allocation_strategy = "lowest-price", spot_instance_pools = 3 } }"#;
/// The same with another distribution.
const OTHER_MIXED: &str = r#"{ overrides = [{ instance_type = "t3.large" }, { instance_type = "t3a.large" }], instances_distribution = { on_demand_base_capacity = 2, spot_allocation_strategy = "price-capacity-optimized", spot_max_price = "0.5" } }"#;

/// Instances to begin with, one or two of them.
fn two_instances<'t>(vpc: &'t str, subnets: &'t str) -> [(&'static str, &'t str); 9] {
    [
        ("name", "\"myapp\""),
        ("color", "\"blue\""),
        ("vpc_id", vpc),
        ("target_group.port", "80"),
        ("instances.image_id", "\"ami-12345678\""),
        ("instances.instance_type", "\"t3.medium\""),
        ("instances.subnet_ids", subnets),
        ("instances.min_size", "1"),
        ("instances.max_size", "2"),
    ]
}

/// Instances: template, security group, Auto Scaling group.
#[tokio::test(flavor = "multi_thread")]
async fn of_instances() -> anyhow::Result<()> {
    let stage = Stage::bare().await?;
    let (vpc, [first, second]) = stage.network().await?;
    // moto forgets to revoke IPv6 rules in a VPC without such addresses.
    let parameters = [("VpcId", vpc.as_str()), ("AmazonProvidedIpv6CidrBlock", "true")];
    stage.client.ec2("AssociateVpcCidrBlock", &parameters).await?;
    let parameters = [("GroupName", "more"), ("GroupDescription", "more"), ("VpcId", vpc.as_str())];
    let group = stage.client.ec2("CreateSecurityGroup", &parameters).await?;
    let more = element(&group, "groupId")?.to_owned();
    let (vpc, subnets) = (format!("\"{vpc}\""), format!("[\"{first}\"]"));
    let base = two_instances(&vpc, &subnets);
    let (both, groups) = (format!("[\"{second}\", \"{first}\"]"), format!("[\"{more}\"]"));
    let rules = format!(
        "[{{ protocol = \"tcp\", from_port = 80, to_port = 81, security_group_ids = [\"{more}\"], self = true }}, {{ protocol = \"tcp\", from_port = 443, ipv6_cidr_blocks = [\"::/0\"], description = \"web\" }}]"
    );
    let retold = rules.replace("\"web\"", "\"the web\"");
    let changes = [
        ("release", "\"1.1\"", InPlace),
        ("tags", "{ team = \"web\" }", InPlace),
        ("instances.image_id", "\"ami-22222222\"", InPlace),
        ("instances.instance_type", "\"t3.large\"", InPlace),
        ("instances.user_data", "\"#!/bin/sh\\necho hello\\n\"", InPlace),
        ("instances.key_name", "\"ops\"", InPlace),
        ("instances.iam_instance_profile", "\"web\"", InPlace),
        ("instances.associate_public_ip_address", "true", InPlace),
        ("instances.ebs_optimized", "true", InPlace),
        ("instances.monitoring", "true", InPlace),
        ("instances.metadata_options", "{ http_tokens = \"optional\", http_put_response_hop_limit = 2 }", InPlace),
        (
            "instances.metadata_options",
            "{ http_endpoint = \"disabled\", http_tokens = \"required\", instance_metadata_tags = \"enabled\" }",
            InPlace,
        ),
        (
            "instances.block_devices",
            "[{ device_name = \"/dev/xvda\", volume_size = 20, volume_type = \"gp3\", encrypted = true }]",
            InPlace,
        ),
        ("instances.security_group_ids", &groups, InPlace),
        ("instances.ingress", &rules, InPlace),
        ("instances.ingress", &retold, InPlace),
        ("instances.egress", "[{ protocol = \"tcp\", from_port = 443, cidr_blocks = [\"10.0.0.0/8\"] }]", InPlace),
        ("instances.subnet_ids", &both, InPlace),
    ];
    play(&stage, &base, &changes).await
}

/// The Auto Scaling group of instances, and how they are replaced.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_scaling_group() -> anyhow::Result<()> {
    let stage = Stage::bare().await?;
    let (vpc, [first, _]) = stage.network().await?;
    let (vpc, subnets) = (format!("\"{vpc}\""), format!("[\"{first}\"]"));
    let base = two_instances(&vpc, &subnets);
    let changes = [
        ("instances.max_size", "4", InPlace),
        ("instances.desired_capacity", "2", InPlace),
        ("instances.min_size", "2", InPlace),
        ("instances.desired_capacity", "3", InPlace),
        ("instances.health_check_type", "\"EC2\"", InPlace),
        ("instances.health_check_grace_period", "60", InPlace),
        ("instances.default_instance_warmup", "30", InPlace),
        ("instances.termination_policies", "[\"OldestInstance\"]", InPlace),
        ("instances.instance_refresh", "{ min_healthy_percentage = 50, timeout = \"5m\" }", InPlace),
        ("instances.instance_refresh", "{ max_healthy_percentage = 110, instance_warmup = 10 }", InPlace),
        (
            "instances.instance_refresh",
            "{ alarms = [\"errors\"], auto_rollback = true, bake_time = 1, checkpoint_delay = 1, checkpoint_percentages = [50, 100], scale_in_protected_instances = \"Ignore\", skip_matching = false, standby_instances = \"Terminate\" }",
            InPlace,
        ),
        ("instances.image_id", "\"ami-33333333\"", InPlace),
        ("instances.capacity_distribution_strategy", "\"balanced-only\"", InPlace),
        ("instances.capacity_rebalance", "true", InPlace),
        (
            "instances.instance_maintenance_policy",
            "{ min_healthy_percentage = 90, max_healthy_percentage = 120 }",
            InPlace,
        ),
        ("instances.instance_maintenance_policy", "null", InPlace),
        ("instances.max_instance_lifetime", "86400", InPlace),
        ("instances.instance_refresh", "{}", InPlace),
        ("instances.mixed_instances_policy", MIXED, InPlace),
        ("instances.mixed_instances_policy", OTHER_MIXED, InPlace),
        ("instances.mixed_instances_policy", "null", InPlace),
        ("instances.protect_from_scale_in", "true", InPlace),
    ];
    play(&stage, &base, &changes).await
}

const TASK: &str = r#"jsonencode({ family = "api", cpu = "256", memory = "512", networkMode = "awsvpc", requiresCompatibilities = ["FARGATE"], containerDefinitions = [{ name = "api", image = "api:1", memory = 128, portMappings = [{ containerPort = 8080 }, { containerPort = 8081 }] }] })"#;

/// An ECS service in a group that a listener has at weight 0.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_service() -> anyhow::Result<()> {
    let mut stage = Stage::empty().await?;
    let groups = [(stage.group("blue"), 100), (stage.group("green"), 0)];
    let both = forward(1, &groups);
    stage.listener(Leads::Actions(both)).await?;
    for cluster in ["main", "other"] {
        stage.client.ecs("CreateCluster", serde_json::json!({ "clusterName": cluster })).await?;
    }
    let (_, [first, second]) = stage.network().await?;
    let (group, subnets) = (format!("\"{}\"", stage.group("green")), format!("[\"{first}\"]"));
    let groups = stage.client.ec2("DescribeSecurityGroups", &[]).await?;
    let own = format!("[\"{}\"]", element(&groups, "groupId")?);
    let base = [
        ("name", "\"myapp\""),
        ("color", "\"green\""),
        ("target_group_arn", group.as_str()),
        ("service.cluster", "\"main\""),
        ("service.task_definition", TASK),
        ("service.container_port", "8080"),
        ("service.subnet_ids", &subnets),
        ("service.security_group_ids", &own),
        ("service.availability_zone_rebalancing", "\"ENABLED\""),
    ];
    let blue = format!("\"{}\"", stage.group("blue"));
    let (more, task) = (format!("[\"{second}\", \"{first}\"]"), TASK.replace("\"256\"", "\"512\""));
    let changes = [
        ("release", "\"1.1\"", InPlace),
        ("service.image", "\"api:2\"", InPlace),
        ("service.container_name", "\"api\"", InPlace),
        ("service.task_definition", &task, InPlace),
        ("service.desired_count", "2", InPlace),
        ("service.subnet_ids", &more, InPlace),
        ("service.assign_public_ip", "true", InPlace),
        ("service.circuit_breaker", "{ rollback = false }", InPlace),
        ("service.circuit_breaker", "{ enable = false, rollback = false }", InPlace),
        ("service.health_check_grace_period", "30", InPlace),
        ("service.minimum_healthy_percent", "50", InPlace),
        ("service.maximum_percent", "150", InPlace),
        ("service.keep_revisions", "1", InPlace),
        ("service.image", "\"api:3\"", InPlace),
        ("service.container_port", "8081", InPlace),
        ("service.platform_version", "\"1.4.0\"", InPlace),
        ("service.enable_execute_command", "true", InPlace),
        ("service.propagate_tags", "\"SERVICE\"", InPlace),
        ("service.enable_ecs_managed_tags", "true", InPlace),
        ("service.availability_zone_rebalancing", "\"DISABLED\"", InPlace),
        ("service.alarms", "{ alarm_names = [\"errors\"], enable = true, rollback = false }", InPlace),
        ("service.alarms", "null", InPlace),
        ("service.security_group_ids", "[]", InPlace),
        ("service.platform_version", "null", InPlace),
        ("service.launch_type", "\"EC2\"", Replacement),
        ("service.cluster", "\"other\"", Replacement),
        ("protect_live", "false", InPlace),
        ("target_group_arn", &blue, Replacement),
    ];
    play(&stage, &base, &changes).await?;
    // The adopted group stays; of ours there is nothing.
    ensure!(stage.client.elb("DescribeTargetGroups", &[]).await?.contains("myapp-green"));
    let left = stage.client.ecs("ListTaskDefinitions", serde_json::json!({ "status": "ACTIVE" })).await?;
    ensure!(left["taskDefinitionArns"].as_array().is_some_and(Vec::is_empty), "{left}");
    Ok(())
}
