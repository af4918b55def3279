//! ARNs, as far as a configuration can be checked for them.

use std::fmt;

/// The parts of an ARN that are compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arn<'a> {
    /// The region, such as `eu-central-1`.
    pub region: &'a str,
    /// The resource with its type, such as `listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab2`.
    pub resource: &'a str,
}

/// The kinds of Elastic Load Balancing's resources that a switch deals with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `listener/app|net/<load balancer>/<id>/<id>`
    Listener,
    /// `listener-rule/app/<load balancer>/<id>/<id>/<id>`
    Rule,
    /// `targetgroup/<name>/<id>`
    TargetGroup,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Listener => "listener",
            Kind::Rule => "listener rule",
            Kind::TargetGroup => "target group",
        })
    }
}

/// Reads an ARN of this kind.
///
/// # Errors
/// What is wrong, with the shape that was expected.
pub fn parse(text: &str, kind: Kind) -> Result<Arn<'_>, String> {
    let (prefix, parts, example) = match kind {
        Kind::Listener => ("listener", 5, "listener/app/web/50dc6c495c0c9188/f2f7dc8efc522ab2"),
        Kind::Rule => ("listener-rule", 6, "listener-rule/app/web/50dc6c495c0c9188/f2f7dc8efc522ab2/9683b2d02a6cabee"),
        Kind::TargetGroup => ("targetgroup", 3, "targetgroup/web-blue/73e2d6bc24d8a067"),
    };
    let fields: Vec<&str> = text.splitn(6, ':').collect();
    let wrong = || {
        Err(format!(
            "{text:?} is not the ARN of a {kind}: one looks like arn:aws:elasticloadbalancing:eu-central-1:123456789012:{example}"
        ))
    };
    let [arn, partition, service, region, account, resource] = fields.as_slice() else { return wrong() };
    let resource_parts: Vec<&str> = resource.split('/').collect();
    let fits = *arn == "arn"
        && partition.starts_with("aws")
        && *service == "elasticloadbalancing"
        && !region.is_empty()
        && account.len() == 12
        && account.bytes().all(|byte| byte.is_ascii_digit())
        && resource_parts.first() == Some(&prefix)
        && resource_parts.len() == parts
        && resource_parts.iter().all(|part| !part.is_empty());
    if fits { Ok(Arn { region, resource }) } else { wrong() }
}

/// The region that an ARN of whatever service names; none of a text that is no ARN, or of one that is of no region.
pub fn region(text: &str) -> Option<&str> {
    text.strip_prefix("arn:")?.split(':').nth(2).filter(|region| !region.is_empty())
}

/// Whether a listener or rule is a Network Load Balancer's.
pub fn is_network(arn: &str) -> bool {
    arn.contains(":listener/net/") || arn.contains(":listener-rule/net/")
}

/// The ARN of the listener that a rule belongs to.
pub fn listener_of(rule: &str) -> String {
    let arn = rule.replacen(":listener-rule/", ":listener/", 1);
    arn.rsplit_once('/').map_or(arn.clone(), |(listener, _)| listener.to_owned())
}

/// The load balancer of a listener or rule, as CloudWatch calls it: `app/web/49ea1cb665d534d9`. None of anything else.
pub fn load_balancer(arn: &str) -> Option<String> {
    let mut parts = arn.splitn(6, ':').nth(5)?.split('/');
    let (kind, a, b, c) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    matches!(kind, "listener" | "listener-rule").then(|| format!("{a}/{b}/{c}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_told_from_the_others() {
        let group = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/web-blue/73e2d6bc24d8a067";
        assert_eq!(parse(group, Kind::TargetGroup).map(|arn| arn.region), Ok("eu-central-1"));
        assert!(parse(group, Kind::Listener).is_err());
        for wrong in ["", "blue", "arn:aws:s3:::bucket", &group.replace(":123456789012", ":12"), &group[..60]] {
            assert!(parse(wrong, Kind::TargetGroup).is_err(), "{wrong}");
        }
    }
}
