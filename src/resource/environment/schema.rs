//! The arguments of an environment, as the documentation shows them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::duration;
use crate::tf_provider::{Attribute, Nesting, Schema, Type, Value};

pub(super) fn schema() -> Schema {
    let description = "One colour of a mirrored stack: a target group with EC2 instances, an ECS service or fixed targets \
                       behind it. Use it with `for_each = toset([\"blue\", \"green\"])` and give the result to \
                       `bluegreen_switch` as `environments`. A colour that serves users is not replaced, shrunk or \
                       destroyed: such a plan is an error that names the routes.";
    let mut attributes = vec![
        Attribute::string("name").required().check(name).describe(
            "The name of the whole, the same for every colour. Changing it makes a new environment.",
        ),
        Attribute::string("color").required().check(color).describe("The colour. Changing it makes a new environment."),
        Attribute::string("release").check(tag_value).describe(
            "What runs here, in your words: a version, a commit. It is tagged on everything that is made. Instances and \
             tasks carry it too, so a new release replaces them, also where nothing else changed.",
        ),
        Attribute::string("vpc_id").check(not_empty).describe(
            "The VPC of the target group and the security group. Changing it makes a new environment.",
        ),
        Attribute::nested("target_group", Nesting::Single, target_group())
            .describe("A target group of the environment's own. Either this or `target_group_arn`."),
        Attribute::string("target_group_arn").optional_computed().check(group_arn).describe(
            "The target group. Set it, instead of `target_group`, to adopt one that somebody else keeps.",
        ),
        Attribute::string("listener_arn").check(listener_arn).describe(
            "A listener of the Application Load Balancer that the colours are behind. The environment makes a rule there that \
             no request matches: so the load balancer checks the targets before anything leads to them, and ECS, which takes \
             only a group that a listener has, takes this one. Needed for a `service` with a target group of its own.",
        ),
        Attribute::nested("instances", Nesting::Single, instances()).describe(
            "EC2 instances: a security group, a launch template and an Auto Scaling group attached to the target group.",
        ),
        Attribute::nested("service", Nesting::Single, service())
            .describe("An ECS service whose tasks come into the target group."),
        Attribute::nested("targets", Nesting::List, target()).describe("Fixed targets."),
        Attribute::bool("protect_live").describe(
            "Whether a plan that would replace, shrink or destroy the colour while it serves users is an error. `true` if \
             left out.",
        ),
        Attribute::plain("tags", Type::map(Type::String)).describe("Tags for everything that is made."),
        Attribute::nested("timeouts", Nesting::Single, timeouts()).describe("How long operations may take."),
    ];
    attributes.extend(computed());
    Schema::new(description, attributes)
}

fn target_group() -> Vec<Attribute> {
    let counts = || {
        vec![
            Attribute::string("minimum_healthy_targets_count").check(count_or_off).describe("A number, or `off`."),
            Attribute::string("minimum_healthy_targets_percentage")
                .check(percent_or_off)
                .describe("1 to 100, or `off`."),
        ]
    };
    let health = vec![
        Attribute::nested("dns_failover", Nesting::Single, counts()).describe(
            "When DNS calls the load balancer's zone unhealthy. `minimum_healthy_targets_count = \"off\"` keeps an empty \
             idle colour from failing the whole load balancer in Route 53.",
        ),
        Attribute::nested("unhealthy_state_routing", Nesting::Single, counts())
            .describe("When requests go to all targets, healthy or not."),
    ];
    let stickiness = vec![
        Attribute::bool("enabled").describe("On, if left out."),
        Attribute::string("type").check(stickiness_type).describe(
            "`lb_cookie` (usual for HTTP), `app_cookie`, `source_ip` (usual for TCP), `source_ip_dest_ip` or \
             `source_ip_dest_ip_proto`.",
        ),
        Attribute::number("cookie_duration").check(cookie_duration).describe("Seconds; 86400 if left out."),
        Attribute::string("cookie_name").describe("The application's cookie, for `app_cookie`."),
    ];
    vec![
        Attribute::number("port").check(port).describe(
            "The targets' port. Needed unless the target is a function. Changing it makes a new environment, as for \
             `protocol`, `protocol_version`, `target_type` and `ip_address_type`.",
        ),
        Attribute::string("protocol")
            .check(protocol)
            .describe("`HTTP` (if left out) or `HTTPS`; `TCP`, `TLS`, `UDP` or `TCP_UDP` for a Network Load Balancer."),
        Attribute::string("protocol_version")
            .check(protocol_version)
            .describe("`HTTP1` (if left out), `HTTP2`, `GRPC`."),
        Attribute::string("target_type").check(target_type).describe(
            "`instance`, `ip`, `alb` or `lambda`; if left out what `instances`, `service` or `targets` need.",
        ),
        Attribute::string("ip_address_type").check(ip_address_type).describe("`ipv4` (if left out) or `ipv6`."),
        Attribute::number("deregistration_delay").check(delay).describe("Seconds, 0 to 3600; 300 if left out."),
        Attribute::number("slow_start").check(slow_start).describe("Seconds, 30 to 900, or 0 for none."),
        Attribute::string("algorithm")
            .check(algorithm)
            .describe("`round_robin` (if left out), `least_outstanding_requests` or `weighted_random`."),
        Attribute::bool("anomaly_mitigation")
            .describe("With `weighted_random`: send less to targets that answer oddly."),
        Attribute::string("cross_zone")
            .check(cross_zone)
            .describe("`true`, `false` or `use_load_balancer_configuration` (if left out)."),
        Attribute::bool("preserve_client_ip").describe("Network Load Balancer: targets see the client's address."),
        Attribute::bool("proxy_protocol_v2").describe("Network Load Balancer: the proxy protocol, version 2."),
        Attribute::bool("connection_termination").describe("Network Load Balancer: end connections after the delay."),
        Attribute::bool("multi_value_headers").describe("For functions: headers and parameters as lists."),
        Attribute::nested("stickiness", Nesting::Single, stickiness)
            .describe("Whether a client stays with a target of the colour. Off if left out."),
        Attribute::nested("target_group_health", Nesting::Single, health)
            .describe("From how many healthy targets on the group counts as healthy."),
        Attribute::nested("health_check", Nesting::Single, health_check()).describe("How targets are checked."),
    ]
}

fn health_check() -> Vec<Attribute> {
    vec![
        Attribute::bool("enabled").describe("On, if left out; for functions off."),
        Attribute::string("protocol").check(check_protocol).describe("`HTTP`, `HTTPS` or `TCP`."),
        Attribute::string("port").check(check_port).describe("A port, or `traffic-port` (if left out)."),
        Attribute::string("path").check(path).describe("`/` if left out."),
        Attribute::string("matcher").check(not_empty).describe("Codes that pass, such as `200` or `200-299`."),
        Attribute::number("interval").check(check_interval).describe("Seconds, 5 to 300; 30 if left out."),
        Attribute::number("timeout").check(check_timeout).describe("Seconds, 2 to 120; 5 if left out."),
        Attribute::number("healthy_threshold").check(threshold).describe("2 to 10; 5 if left out."),
        Attribute::number("unhealthy_threshold").check(threshold).describe("2 to 10; 2 if left out."),
    ]
}

fn instances() -> Vec<Attribute> {
    let metadata = vec![
        Attribute::string("http_endpoint").check(enabled).describe("`enabled` (if left out) or `disabled`."),
        Attribute::string("http_tokens").check(http_tokens).describe("`required` (if left out: IMDSv2) or `optional`."),
        Attribute::number("http_put_response_hop_limit").check(hops).describe("1 to 64; 1 if left out."),
        Attribute::string("instance_metadata_tags").check(enabled).describe("`enabled` or `disabled` (if left out)."),
    ];
    let device = vec![
        Attribute::string("device_name").required().describe("Such as `/dev/xvda`."),
        Attribute::number("volume_size").check(volume_size).describe("GiB."),
        Attribute::string("volume_type").describe("Such as `gp3`."),
        Attribute::number("iops").check(count).describe("Operations a second."),
        Attribute::number("throughput").check(count).describe("MiB a second."),
        Attribute::bool("encrypted").describe("Whether the volume is encrypted."),
        Attribute::string("kms_key_id").describe("The key."),
        Attribute::string("snapshot_id").describe("What is on it at first."),
        Attribute::bool("delete_on_termination").describe("Whether it goes with the instance; it does, if left out."),
    ];
    let refresh = vec![
        Attribute::number("min_healthy_percentage").check(percent).describe(
            "How much of the group stays in service meanwhile. If left out: 0 for an idle colour, which nobody misses, \
             and 100 for a live one.",
        ),
        Attribute::number("max_healthy_percentage").check(max_healthy).describe(
            "How large the group may become meanwhile, 100 to 200. If left out: 100 for an idle colour, 110 for a live one.",
        ),
        Attribute::number("instance_warmup").check(count).describe("Seconds until a new instance counts."),
        Attribute::string("timeout").check(positive).describe("How long it may take; `30m` if left out."),
    ];
    let mut attributes = vec![
        Attribute::string("image_id").required().check(image).describe("The AMI, or `resolve:ssm:` and a parameter."),
        Attribute::string("instance_type").required().check(not_empty).describe("Such as `t3.medium`."),
        Attribute::string("user_data").check(user_data).describe("Plain text: it is encoded for you. At most 16 KiB."),
        Attribute::string("user_data_base64").check(user_data_base64).describe(
            "User data that isn't text, such as what `base64gzip` gives: in base64, at most 16 KiB of it decoded. Instead of \
             `user_data`.",
        ),
        Attribute::string("key_name").describe("The key pair."),
        Attribute::string("iam_instance_profile").describe("The instance profile, by name or ARN."),
        Attribute::bool("associate_public_ip_address").describe("If left out, the subnet decides."),
        Attribute::bool("ebs_optimized").describe("Bandwidth to volumes of their own."),
        Attribute::bool("monitoring").describe("Metrics every minute."),
        Attribute::nested("metadata_options", Nesting::Single, metadata).describe("The instance metadata service."),
        Attribute::nested("block_devices", Nesting::List, device).describe("Volumes."),
        string_set("security_group_ids").describe("Further security groups, beside the one that is made."),
        Attribute::nested("ingress", Nesting::List, security_rule()).describe("What may come in."),
        Attribute::nested("egress", Nesting::List, security_rule())
            .describe("What may go out; everything if left out."),
    ];
    attributes.extend([
        string_set("subnet_ids").required().check(some).describe("Where instances run."),
        Attribute::number("min_size").required().check(count).describe("At least so many."),
        Attribute::number("max_size").required().check(count).describe("At most so many."),
        Attribute::number("desired_capacity").check(count).describe(
            "How many there are at first; `min_size` if left out. Scaling policies own it afterwards: what they make of it \
             is no drift. A value that is changed here is set once.",
        ),
        Attribute::string("health_check_type").check(health_check_type).describe(
            "`ELB` (if left out): the group replaces instances that fail the target group's check; or `EC2`.",
        ),
        Attribute::number("health_check_grace_period").check(count).describe("Seconds; 300 if left out."),
        Attribute::number("default_instance_warmup").check(count).describe("Seconds until a new instance counts."),
        Attribute::strings("termination_policies").describe("Which instances go first."),
        Attribute::nested("instance_refresh", Nesting::Single, refresh)
            .describe("How instances are replaced when image, type, user data, release or the like changed."),
    ]);
    attributes
}

fn security_rule() -> Vec<Attribute> {
    vec![
        Attribute::string("protocol")
            .required()
            .check(not_empty)
            .describe("`tcp`, `udp`, `icmp`, a number, `-1`: all."),
        Attribute::number("from_port").check(any_port).describe("The first port, or the ICMP type."),
        Attribute::number("to_port").check(any_port).describe("The last port; `from_port` if left out."),
        string_set("cidr_blocks").describe("IPv4 networks."),
        string_set("ipv6_cidr_blocks").describe("IPv6 networks."),
        string_set("prefix_list_ids").describe("Prefix lists."),
        string_set("security_group_ids").describe("Members of these security groups, such as the load balancer's."),
        Attribute::bool("self").describe("Members of the same security group."),
        Attribute::string("description").check(rule_text).describe("What it is for."),
    ]
}

fn service() -> Vec<Attribute> {
    let provider = vec![
        Attribute::string("capacity_provider").required().describe("Such as `FARGATE_SPOT`."),
        Attribute::number("weight").check(count).describe("Its share of the tasks."),
        Attribute::number("base").check(count).describe("So many tasks go there first."),
    ];
    let breaker = vec![
        Attribute::bool("enable").describe("On, if left out."),
        Attribute::bool("rollback").describe("Whether the former release comes back; it does, if left out."),
    ];
    vec![
        Attribute::string("cluster").required().check(not_empty).describe(
            "The cluster, by name or ARN. Changing it makes a new environment, as for `launch_type`.",
        ),
        Attribute::string("task_definition").check(task_definition).describe(
            "The JSON of register-task-definition, as `file()` gives it. `image` is put into it; everything else is \
             registered as it stands there. Either this or `task_definition_arn`.",
        ),
        Attribute::string("task_definition_arn").describe("A task definition that somebody else registers."),
        Attribute::string("image").check(not_empty).describe("The image of `container_name`, instead of that in the JSON."),
        Attribute::string("container_name").describe(
            "The container that serves. It can be left out where the task definition has only one.",
        ),
        Attribute::number("container_port").required().check(port).describe("The port that it serves on."),
        Attribute::number("desired_count").check(count).describe(
            "How many tasks there are at first; 1 if left out. Scaling policies own it afterwards. A value that is \
             changed here is set once.",
        ),
        Attribute::string("launch_type").check(launch_type).describe(
            "`FARGATE` or `EC2`. If left out: `FARGATE` where there are `subnet_ids`.",
        ),
        Attribute::string("platform_version").describe("Fargate's platform version."),
        Attribute::nested("capacity_provider_strategy", Nesting::List, provider).describe("Instead of `launch_type`."),
        string_set("subnet_ids").describe("Where tasks run that have addresses of their own (`awsvpc`)."),
        string_set("security_group_ids").describe("Their security groups."),
        Attribute::bool("assign_public_ip").describe("Whether they get public addresses."),
        Attribute::nested("circuit_breaker", Nesting::Single, breaker).describe("Ends a deployment whose tasks fail."),
        Attribute::number("health_check_grace_period").check(count).describe("Seconds; 0 if left out."),
        Attribute::number("minimum_healthy_percent").check(percent).describe("While deploying; 100 if left out."),
        Attribute::number("maximum_percent").check(percent_of_tasks).describe("While deploying; 200 if left out."),
        Attribute::bool("enable_execute_command").describe("Whether ECS Exec works."),
        Attribute::number("keep_revisions").check(count).describe(
            "How many former revisions of the task definition stay registered, of those that this environment registered. \
             All, if left out.",
        ),
    ]
}

fn target() -> Vec<Attribute> {
    vec![
        Attribute::string("id")
            .required()
            .check(not_empty)
            .describe("An address, instance id, function or load balancer."),
        Attribute::number("port").check(port).describe("If left out, the target group's."),
        Attribute::string("availability_zone").describe("`all` for an address outside of the VPC."),
    ]
}

/// Strings whose order means nothing.
fn string_set(name: &'static str) -> Attribute {
    Attribute::plain(name, Type::set(Type::String))
}

fn timeouts() -> Vec<Attribute> {
    let timeout = |name, text| Attribute::string(name).check(positive).describe(text);
    vec![
        timeout("create", "`30m` if left out."),
        timeout("update", "`45m` if left out."),
        timeout("delete", "`20m` if left out."),
    ]
}

fn computed() -> Vec<Attribute> {
    let text = |name, text| Attribute::string(name).computed().describe(text);
    vec![
        text("id", "`name/color`."),
        text("target_group_name", "The target group's name."),
        text("security_group_id", "The instances' security group."),
        text("launch_template_id", "The launch template."),
        Attribute::number("launch_template_version").computed().describe("The version that instances are made of."),
        text("autoscaling_group_name", "The Auto Scaling group."),
        text("service_arn", "The ECS service."),
        text("task_definition_arn", "The revision that runs."),
        text("mirror", "Everything that must be equal in all colours, as one document. The switch compares it."),
        text(
            "mirror_verbatim",
            "What of `mirror` has the color's name in it, as it is written. The switch compares it too.",
        ),
        Attribute::plain("tags_all", Type::map(Type::String))
            .computed()
            .describe("All tags of the user's, those of the provider block's `default_tags` included."),
    ]
}

fn fits(value: &Value, fits: impl Fn(&str) -> bool, rule: &str) -> Result<(), String> {
    match value.as_str() {
        Some(text) if !fits(text) => Err(format!("{text:?}: {rule}")),
        _ => Ok(()),
    }
}

fn one_of(value: &Value, allowed: &[&str]) -> Result<(), String> {
    fits(value, |text| allowed.contains(&text), &format!("must be one of {}", allowed.join(", ")))
}

fn whole(value: &Value, range: std::ops::RangeInclusive<i64>) -> Result<(), String> {
    match value.as_i64() {
        Some(number) if range.contains(&number) => Ok(()),
        _ => Err(format!("must be a whole number from {} to {}", range.start(), range.end())),
    }
}

macro_rules! choices {
    ($($name:ident: $($value:literal)|+;)*) => {$(
        fn $name(value: &Value) -> Result<(), String> {
            one_of(value, &[$($value),+])
        }
    )*};
}

macro_rules! ranges {
    ($($name:ident: $range:expr;)*) => {$(
        fn $name(value: &Value) -> Result<(), String> {
            whole(value, $range)
        }
    )*};
}

// The values and ranges are those of the API reference of each service.
choices! {
    protocol: "HTTP" | "HTTPS" | "TCP" | "TLS" | "UDP" | "TCP_UDP";
    protocol_version: "HTTP1" | "HTTP2" | "GRPC";
    target_type: "instance" | "ip" | "alb" | "lambda";
    ip_address_type: "ipv4" | "ipv6";
    algorithm: "round_robin" | "least_outstanding_requests" | "weighted_random";
    cross_zone: "true" | "false" | "use_load_balancer_configuration";
    stickiness_type: "lb_cookie" | "app_cookie" | "source_ip" | "source_ip_dest_ip" | "source_ip_dest_ip_proto";
    check_protocol: "HTTP" | "HTTPS" | "TCP";
    enabled: "enabled" | "disabled";
    http_tokens: "required" | "optional";
    health_check_type: "ELB" | "EC2";
    launch_type: "FARGATE" | "EC2" | "EXTERNAL";
}

ranges! {
    port: 1..=65_535;
    any_port: -1..=65_535;
    count: 0..=1_000_000;
    percent: 0..=100;
    percent_of_tasks: 0..=1000;
    max_healthy: 100..=200;
    delay: 0..=3600;
    cookie_duration: 1..=604_800;
    check_interval: 5..=300;
    check_timeout: 2..=120;
    threshold: 2..=10;
    hops: 1..=64;
    volume_size: 1..=65_536;
}

fn name(value: &Value) -> Result<(), String> {
    let rule = "must be letters, digits and dashes, a letter first and no dash last, at most 64";
    let good = |text: &str| {
        text.len() <= 64
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !text.ends_with('-')
    };
    fits(value, good, rule)?;
    fits(value, |text| !text.starts_with("internal-"), "a target group's name can't begin with internal-")
}

fn color(value: &Value) -> Result<(), String> {
    let good = |text: &str| {
        text.len() <= 32
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            && !text.ends_with('-')
    };
    fits(value, good, "a colour is lower-case letters, digits and dashes, a letter first, at most 32")
}

fn tag_value(value: &Value) -> Result<(), String> {
    let good = |text: &str| {
        text.chars().count() <= 256 && text.chars().all(|c| c.is_alphanumeric() || c == ' ' || "+-=._:/@".contains(c))
    };
    fits(value, good, "must be a tag's value: at most 256 letters, digits, spaces and + - = . _ : / @")
}

fn not_empty(value: &Value) -> Result<(), String> {
    fits(value, |text| !text.is_empty(), "must not be empty")
}

fn group_arn(value: &Value) -> Result<(), String> {
    let Some(text) = value.as_str() else { return Ok(()) };
    crate::resource::arn::parse(text, crate::resource::arn::Kind::TargetGroup).map(drop)
}

fn listener_arn(value: &Value) -> Result<(), String> {
    let Some(text) = value.as_str() else { return Ok(()) };
    crate::resource::arn::parse(text, crate::resource::arn::Kind::Listener)?;
    if text.contains(":listener/net/") {
        return Err("listeners of a Network Load Balancer have no rules".to_owned());
    }
    Ok(())
}

fn some(value: &Value) -> Result<(), String> {
    if value.as_list().is_some_and(<[Value]>::is_empty) { Err("there must be at least one".to_owned()) } else { Ok(()) }
}

fn slow_start(value: &Value) -> Result<(), String> {
    match value.as_i64() {
        Some(0 | 30..=900) => Ok(()),
        _ => Err("must be 0, or 30 to 900".to_owned()),
    }
}

fn off_or(value: &Value, range: std::ops::RangeInclusive<u32>) -> Result<(), String> {
    let good = |text: &str| text == "off" || text.parse().is_ok_and(|number: u32| range.contains(&number));
    fits(value, good, "must be a number or \"off\"")
}

fn count_or_off(value: &Value) -> Result<(), String> {
    off_or(value, 1..=u32::MAX)
}

fn percent_or_off(value: &Value) -> Result<(), String> {
    off_or(value, 1..=100)
}

fn check_port(value: &Value) -> Result<(), String> {
    let good = |text: &str| text == "traffic-port" || text.parse().is_ok_and(|port: u16| port > 0);
    fits(value, good, "must be a port or \"traffic-port\"")
}

fn path(value: &Value) -> Result<(), String> {
    fits(value, |text| text.starts_with('/') && text.len() <= 1024, "must begin with a slash, at most 1024 characters")
}

fn image(value: &Value) -> Result<(), String> {
    let good = |text: &str| text.starts_with("ami-") || text.starts_with("resolve:ssm:");
    fits(value, good, "is no image: ami-…, or resolve:ssm: and a parameter's name")
}

fn user_data(value: &Value) -> Result<(), String> {
    match value.as_str() {
        Some(text) if text.len() > 16 * 1024 => Err(format!("has {} bytes; EC2 takes 16384", text.len())),
        _ => Ok(()),
    }
}

fn user_data_base64(value: &Value) -> Result<(), String> {
    match value.as_str().map(|text| STANDARD.decode(text)) {
        Some(Err(error)) => Err(format!("is not base64: {error}")),
        Some(Ok(data)) if data.len() > 16 * 1024 => Err(format!("has {} bytes decoded; EC2 takes 16384", data.len())),
        _ => Ok(()),
    }
}

fn rule_text(value: &Value) -> Result<(), String> {
    let good = |text: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(c);
        text.len() <= 255 && text.chars().all(allowed)
    };
    fits(value, good, "EC2 takes at most 255 plain characters here")
}

fn positive(value: &Value) -> Result<(), String> {
    let Some(text) = value.as_str() else { return Ok(()) };
    if duration::parse(text)?.is_zero() { Err("must be longer than 0".to_owned()) } else { Ok(()) }
}

fn task_definition(value: &Value) -> Result<(), String> {
    let Some(text) = value.as_str() else { return Ok(()) };
    crate::stack::TaskDefinition::parse(text).map(drop)
}
