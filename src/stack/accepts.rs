//! What texts and numbers the arguments of a stack accept, where neither words nor a range can say it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::task_definition::TaskDefinition;
use crate::arn;

/// The most bytes that EC2 takes as user data.
const USER_DATA: usize = 16 * 1024;

fn must(fits: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if fits { Ok(()) } else { Err(otherwise()) }
}

pub(super) fn name(text: &str) -> Result<(), String> {
    let fits = text.len() <= 64
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        && !text.ends_with('-');
    must(fits, || format!("{text:?} must be letters, digits and dashes, a letter first and no dash last, at most 64"))?;
    must(!text.starts_with("internal-"), || format!("{text:?}: the name of a target group can't begin with internal-"))
}

pub(super) fn target_group_arn(text: &str) -> Result<(), String> {
    arn::parse(text, arn::Kind::TargetGroup).map(drop)
}

pub(super) fn rule_listener_arn(text: &str) -> Result<(), String> {
    arn::parse(text, arn::Kind::Listener)?;
    must(!text.contains(":listener/net/"), || "listeners of a Network Load Balancer have no rules".to_owned())
}

pub(super) fn slow_start(seconds: f64) -> Result<(), String> {
    let fits = seconds.fract() == 0.0 && (seconds == 0.0 || (30.0..=900.0).contains(&seconds));
    must(fits, || format!("{seconds} must be 0, or a whole number from 30 to 900"))
}

fn off_or(text: &str, range: std::ops::RangeInclusive<u32>) -> bool {
    text == "off" || text.parse().is_ok_and(|number: u32| range.contains(&number))
}

pub(super) fn count_or_off(text: &str) -> Result<(), String> {
    must(off_or(text, 1..=u32::MAX), || format!("{text:?} must be a whole number above 0, or \"off\""))
}

pub(super) fn percent_or_off(text: &str) -> Result<(), String> {
    must(off_or(text, 1..=100), || format!("{text:?} must be a whole number from 1 to 100, or \"off\""))
}

pub(super) fn check_port(text: &str) -> Result<(), String> {
    let fits = text == "traffic-port" || text.parse().is_ok_and(|port: u16| port > 0);
    must(fits, || format!("{text:?} must be a port from 1 to 65535, or \"traffic-port\""))
}

pub(super) fn path(text: &str) -> Result<(), String> {
    let fits = text.starts_with('/') && text.len() <= 1024;
    must(fits, || format!("{text:?} must begin with a slash, and have at most 1024 characters"))
}

/// AWS keeps the names of its own cookies, and those of the load balancer, for itself.
pub(super) fn cookie_name(text: &str) -> Result<(), String> {
    let fits = !text.is_empty() && !text.starts_with("AWSALB") && !text.starts_with("AWSELB");
    must(fits, || format!("{text:?} must be the name of a cookie of the application, not one of the load balancer"))
}

pub(super) fn health_check_type(text: &str) -> Result<(), String> {
    let known = ["EC2", "EBS", "ELB", "VPC_LATTICE"];
    let fits = text.split(',').all(|kind| known.contains(&kind.trim()));
    must(fits, || format!("{text:?} must be one of {}, or several of them separated by commas", known.join(", ")))
}

/// As CreateAutoScalingGroup has them.
pub(super) fn termination_policy(text: &str) -> Result<(), String> {
    let known = [
        "Default",
        "AllocationStrategy",
        "ClosestToNextInstanceHour",
        "NewestInstance",
        "OldestInstance",
        "OldestLaunchConfiguration",
        "OldestLaunchTemplate",
    ];
    let fits = known.contains(&text) || text.starts_with("arn:") && text.contains(":lambda:");
    must(fits, || format!("{text:?} must be one of {}, or the ARN of a function", known.join(", ")))
}

/// A protocol of a security group's rule.
pub(super) fn ip_protocol(text: &str) -> Result<(), String> {
    let known = ["tcp", "udp", "icmp", "icmpv6", "all", "-1"];
    // EC2 answers with the number as it is counted: 006 would be drift for ever.
    let is_number = text.parse::<u8>().is_ok_and(|number| number.to_string() == text);
    let fits = known.contains(&text.to_ascii_lowercase().as_str()) || is_number;
    must(fits, || format!("{text:?} must be one of {}, or a protocol number from 0 to 255", known.join(", ")))
}

/// Codes as the Matcher of Elastic Load Balancing has them: `200`, `200,202`, `200-299`.
pub(super) fn matcher(text: &str) -> Result<(), String> {
    let code = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let part = |part: &str| match part.split_once('-') {
        Some((first, last)) => code(first).zip(code(last)).is_some_and(|(first, last)| first <= last),
        None => code(part).is_some(),
    };
    must(text.split(',').all(part), || format!("{text:?} must be codes, such as 200, 200,302 or 200-299"))
}

pub(super) fn image(text: &str) -> Result<(), String> {
    let fits = text.starts_with("ami-") || text.starts_with("resolve:ssm:");
    must(fits, || format!("{text:?} is no image: ami-…, or resolve:ssm: and the name of a parameter"))
}

pub(super) fn user_data(text: &str) -> Result<(), String> {
    must(text.len() <= USER_DATA, || format!("has {} bytes; EC2 takes {USER_DATA}", text.len()))
}

pub(super) fn user_data_base64(text: &str) -> Result<(), String> {
    match STANDARD.decode(text) {
        Err(error) => Err(format!("is not base64: {error}")),
        Ok(data) => {
            must(data.len() <= USER_DATA, || format!("has {} bytes decoded; EC2 takes {USER_DATA}", data.len()))
        }
    }
}

/// As UpdateAutoScalingGroup has it: a day to a year.
pub(super) fn instance_lifetime(seconds: f64) -> Result<(), String> {
    let fits = seconds.fract() == 0.0 && (seconds == 0.0 || (86_400.0..=31_536_000.0).contains(&seconds));
    must(fits, || format!("{seconds} must be 0, or a whole number from 86400 to 31536000"))
}

/// An amount of something that there can be.
pub(super) fn amount(number: f64) -> Result<(), String> {
    must((0.0..=1_000_000_000.0).contains(&number), || format!("{number} must be 0 or more"))
}

/// As InstancesDistribution has it.
pub(super) fn spot_price(text: &str) -> Result<(), String> {
    let fits = text.parse::<f64>().is_ok_and(|price| price.is_finite() && price >= 0.001);
    must(fits, || format!("{text:?} must be a price in US dollars, 0.001 or more"))
}

fn one_of(text: &str, known: &[&str]) -> Result<(), String> {
    must(known.contains(&text), || format!("{text:?} must be one of {}", known.join(", ")))
}

pub(super) fn cpu_manufacturer(text: &str) -> Result<(), String> {
    one_of(text, &["intel", "amd", "amazon-web-services", "apple"])
}

pub(super) fn instance_generation(text: &str) -> Result<(), String> {
    one_of(text, &["current", "previous"])
}

pub(super) fn storage_type(text: &str) -> Result<(), String> {
    one_of(text, &["hdd", "ssd"])
}

/// As AlarmSpecification has them.
pub(super) fn alarms(names: &[Option<&str>]) -> Result<(), String> {
    must(names.len() <= 10, || format!("Auto Scaling takes at most 10 alarms, not {}", names.len()))?;
    must(!names.contains(&Some("")), || "an alarm has no name".to_owned())
}

pub(super) fn rule_description(text: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(c);
    let fits = text.len() <= 255 && text.chars().all(allowed);
    must(fits, || format!("{text:?}: EC2 takes at most 255 plain characters here"))
}

pub(super) fn task_definition(text: &str) -> Result<(), String> {
    TaskDefinition::parse(text).map(drop)
}
