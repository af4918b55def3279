//! The configuration of the nodes: load balancers, listeners, rules, groups and targets, as read from moto.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::core::describe;
use crate::node::pattern::{Expression, Pattern};

/// What a node knows, and by which reading.
pub(crate) type Known = (u64, std::sync::Arc<View>);

/// Everything the nodes know at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct View {
    /// In the order of creation.
    pub load_balancers: Vec<LoadBalancer>,
    pub target_groups: BTreeMap<String, TargetGroup>,
    /// Where the targets are that this program runs itself, by id.
    pub hosts: BTreeMap<String, SocketAddr>,
}

impl View {
    /// Where a target is found, and whether its port counts for anything.
    pub(crate) fn place(&self, target: &Target) -> Option<Place> {
        match self.hosts.get(&target.id) {
            Some(&host) => Some(Place::Host(host)),
            None => Some(Place::Address(SocketAddr::new(target.id.parse::<IpAddr>().ok()?, target.port))),
        }
    }

    pub(crate) fn listener(&self, arn: &str) -> Option<&Listener> {
        self.load_balancers.iter().flat_map(|lb| &lb.listeners).find(|listener| listener.arn == arn)
    }

    /// The groups that some rule refers to, whatever the weight.
    pub(crate) fn groups_in_use(&self) -> BTreeSet<&str> {
        self.load_balancers.iter().flat_map(LoadBalancer::groups).collect()
    }

    /// The load balancers with a rule that refers to a group.
    pub(crate) fn using(&self, group: &str) -> impl Iterator<Item = &LoadBalancer> {
        self.load_balancers.iter().filter(move |balancer| balancer.groups().any(|arn| arn == group))
    }
}

impl LoadBalancer {
    fn groups(&self) -> impl Iterator<Item = &str> {
        let actions = self.listeners.iter().flat_map(|listener| &listener.rules).flat_map(|rule| &rule.actions);
        let forwards =
            actions.filter_map(|action| if let Action::Forward(forward) = action { Some(forward) } else { None });
        forwards.flat_map(|forward| forward.groups.iter().map(|group| group.arn.as_str()))
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LoadBalancer {
    pub arn: String,
    pub name: String,
    pub created: String,
    pub listeners: Vec<Listener>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Listener {
    pub arn: String,
    pub port: u16,
    pub protocol: String,
    /// By priority, the default rule last.
    pub rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule {
    /// None: the default rule.
    pub priority: Option<u32>,
    /// All must hold.
    pub conditions: Vec<Condition>,
    pub actions: Vec<Action>,
    pub transforms: Vec<Transform>,
}

/// What becomes of a request that takes a rule.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Transform {
    /// Of its header Host; otherwise of path and query.
    pub of_host: bool,
    pub expression: Expression,
    pub replace: String,
}

/// One of the values must match.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Condition {
    Host(Vec<Pattern>),
    Path(Vec<Pattern>),
    Header(String, Vec<Pattern>),
    Method(Vec<String>),
    Query(Vec<(Option<String>, String)>),
    SourceIp(Vec<String>),
    /// A field this program does not know never matches.
    Unknown,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    Forward(Forward),
    Fixed {
        status: u16,
        content_type: String,
        body: String,
    },
    Redirect {
        status: u16,
        protocol: String,
        host: String,
        port: String,
        path: String,
        query: String,
    },
    /// Only with a token, whatever is in it.
    Token,
    /// Only with this cookie, whatever is in it; otherwise to a place to sign in, where there is one.
    Cookie {
        name: String,
        sign_in: Option<String>,
    },
    /// Whoever has not signed in comes through.
    Open,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Forward {
    pub groups: Vec<GroupWeight>,
    /// The duration of group stickiness, if it is on.
    pub sticky: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GroupWeight {
    pub arn: String,
    pub weight: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TargetGroup {
    pub arn: String,
    pub port: u16,
    pub check: HealthCheck,
    pub targets: Vec<Target>,
}

/// Where a target is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Run by this program: reached there whatever port is registered.
    Host(SocketAddr),
    /// A socket of somebody else.
    Address(SocketAddr),
}

impl Place {
    pub(crate) const fn address(self) -> SocketAddr {
        match self {
            Self::Host(address) | Self::Address(address) => address,
        }
    }
}

/// A registered target. The id is an address, or one of what this program runs; others are never reachable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Target {
    pub id: String,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HealthCheck {
    pub enabled: bool,
    pub http: bool,
    /// None: the port of the target.
    pub port: Option<u16>,
    pub path: String,
    pub matcher: Matcher,
    pub interval: Duration,
    pub timeout: Duration,
    pub healthy_threshold: u32,
    pub unhealthy_threshold: u32,
}

/// Status codes that pass: `200`, `200,202`, `200-299`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Matcher(Vec<(u16, u16)>);

impl Matcher {
    pub(crate) fn parse(text: &str) -> Self {
        let range = |part: &str| match part.split_once('-') {
            Some((low, high)) => Some((low.trim().parse().ok()?, high.trim().parse().ok()?)),
            None => part.trim().parse().ok().map(|code| (code, code)),
        };
        Self(text.split(',').filter_map(range).collect())
    }

    pub(crate) fn passes(&self, status: u16) -> bool {
        self.0.iter().any(|&(low, high)| (low..=high).contains(&status))
    }
}

fn number<T: std::str::FromStr>(text: Option<&String>) -> Option<T> {
    text.and_then(|text| text.trim().parse().ok())
}

impl From<describe::Rule> for Rule {
    fn from(rule: describe::Rule) -> Self {
        let mut actions = rule.actions.member;
        // The sort is stable: without an order the list's own order counts.
        actions.sort_by_key(|action| number::<u32>(action.order.as_ref()).unwrap_or(0));
        Self {
            priority: rule.priority.parse().ok(),
            conditions: rule.conditions.member.into_iter().map(Condition::from).collect(),
            actions: actions.into_iter().map(Action::from).collect(),
            transforms: rule.transforms.member.into_iter().flat_map(transforms).collect(),
        }
    }
}

fn transforms(transform: describe::Transform) -> Vec<Transform> {
    let configs = [(true, transform.host_header_rewrite_config), (false, transform.url_rewrite_config)];
    let rewrites = configs.into_iter().flat_map(|(of_host, config)| {
        config.unwrap_or_default().rewrites.member.into_iter().map(move |one| (of_host, one))
    });
    let rewrite = |(of_host, rewrite): (bool, describe::Rewrite)| Transform {
        of_host,
        expression: Expression::new(rewrite.regex),
        replace: rewrite.replace,
    };
    rewrites.map(rewrite).collect()
}

impl From<describe::Condition> for Condition {
    fn from(condition: describe::Condition) -> Self {
        // AWS takes the values either in the field's own config or, the old way, directly.
        let plain = condition.values.member;
        let pick = |config: Option<describe::Values>| match config {
            Some(config) if !config.values.member.is_empty() => config.values.member,
            _ => plain.clone(),
        };
        let patterns = |config: Option<describe::Values>| {
            let expressions = config.as_ref().map(|config| config.regex_values.member.clone()).unwrap_or_default();
            let expressions = expressions.into_iter().map(|text| Pattern::Expression(Expression::new(text)));
            pick(config).into_iter().map(Pattern::Wildcards).chain(expressions).collect()
        };
        match condition.field.as_str() {
            "host-header" => Self::Host(patterns(condition.host_header_config)),
            "path-pattern" => Self::Path(patterns(condition.path_pattern_config)),
            "http-request-method" => Self::Method(pick(condition.http_request_method_config)),
            "source-ip" => Self::SourceIp(pick(condition.source_ip_config)),
            "http-header" => match condition.http_header_config {
                Some(config) => {
                    Self::Header(config.http_header_name.clone().unwrap_or_default(), patterns(Some(config)))
                }
                None => Self::Unknown,
            },
            "query-string" => {
                let pairs = condition.query_string_config.unwrap_or_default().values.member;
                let pair =
                    |pair: describe::KeyValue| (pair.key.filter(|key| !key.is_empty()), pair.value.unwrap_or_default());
                Self::Query(pairs.into_iter().map(pair).collect())
            }
            _ => Self::Unknown,
        }
    }
}

impl From<describe::Action> for Action {
    fn from(action: describe::Action) -> Self {
        match action.kind.as_str() {
            "forward" => Self::Forward(Forward::new(action.forward_config, action.target_group_arn)),
            "fixed-response" => {
                let fixed = action.fixed_response_config.unwrap_or_default();
                Self::Fixed {
                    status: number(fixed.status_code.as_ref()).unwrap_or(200),
                    content_type: fixed.content_type.unwrap_or_else(|| "text/plain".to_owned()),
                    body: fixed.message_body.unwrap_or_default(),
                }
            }
            "redirect" => {
                let redirect = action.redirect_config.unwrap_or_default();
                let or = |value: Option<String>, default: &str| {
                    value.filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())
                };
                Self::Redirect {
                    status: if redirect.status_code.as_deref() == Some("HTTP_301") { 301 } else { 302 },
                    protocol: or(redirect.protocol, "#{protocol}"),
                    host: or(redirect.host, "#{host}"),
                    port: or(redirect.port, "#{port}"),
                    path: or(redirect.path, "/#{path}"),
                    query: or(redirect.query, "#{query}"),
                }
            }
            "jwt-validation" => Self::Token,
            _ => {
                Self::asking(action.authenticate_oidc_config.or(action.authenticate_cognito_config).unwrap_or_default())
            }
        }
    }
}

impl Action {
    fn asking(how: describe::Authentication) -> Self {
        let name = how.session_cookie_name.unwrap_or_else(|| "AWSELBAuthSessionCookie".to_owned());
        let sign_in = how.authorization_endpoint.or(how.user_pool_domain.map(|domain| format!("https://{domain}")));
        match how.on_unauthenticated_request.as_deref() {
            Some("allow") => Self::Open,
            Some("deny") => Self::Cookie { name, sign_in: None },
            _ => Self::Cookie { name, sign_in },
        }
    }
}

impl Forward {
    fn new(config: Option<describe::ForwardConfig>, single: Option<String>) -> Self {
        let config = config.unwrap_or_default();
        let weight = |group: describe::GroupWeight| GroupWeight {
            weight: number(group.weight.as_ref()).unwrap_or(1),
            arn: group.target_group_arn,
        };
        let mut groups: Vec<GroupWeight> = config.target_groups.member.into_iter().map(weight).collect();
        if groups.is_empty() {
            groups.extend(single.map(|arn| GroupWeight { arn, weight: 1 }));
        }
        let stickiness = config.target_group_stickiness_config.unwrap_or_default();
        let on = stickiness.enabled.as_deref().is_some_and(|on| on.eq_ignore_ascii_case("true"));
        let seconds = number(stickiness.duration_seconds.as_ref()).unwrap_or(3600);
        Self { groups, sticky: on.then(|| Duration::from_secs(seconds)) }
    }
}

impl TargetGroup {
    pub(crate) fn new(group: describe::TargetGroup, targets: Vec<Target>) -> Self {
        let protocol = group.health_check_protocol.unwrap_or_else(|| "HTTP".to_owned());
        let seconds = |text: Option<&String>, default| Duration::from_secs(number(text).unwrap_or(default));
        let codes = group.matcher.unwrap_or_default().http_code;
        let check = HealthCheck {
            enabled: !group.health_check_enabled.is_some_and(|on| on.eq_ignore_ascii_case("false")),
            http: protocol.eq_ignore_ascii_case("HTTP") || protocol.eq_ignore_ascii_case("HTTPS"),
            port: number(group.health_check_port.as_ref()),
            path: group.health_check_path.filter(|path| path.starts_with('/')).unwrap_or_else(|| "/".to_owned()),
            matcher: Matcher::parse(codes.filter(|codes| !codes.is_empty()).as_deref().unwrap_or("200")),
            interval: seconds(group.health_check_interval_seconds.as_ref(), 30),
            timeout: seconds(group.health_check_timeout_seconds.as_ref(), 5),
            healthy_threshold: number(group.healthy_threshold_count.as_ref()).unwrap_or(5),
            unhealthy_threshold: number(group.unhealthy_threshold_count.as_ref()).unwrap_or(2),
        };
        Self { port: number(group.port.as_ref()).unwrap_or(80), arn: group.target_group_arn, check, targets }
    }
}

impl Target {
    pub(crate) fn new(target: describe::Target, group_port: u16) -> Self {
        Self { port: number(target.port.as_ref()).unwrap_or(group_port), id: target.id }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wildcards(text: &str) -> Vec<Pattern> {
        vec![Pattern::Wildcards(text.to_owned())]
    }

    #[test]
    fn matchers_take_lists_and_ranges() {
        let matcher = Matcher::parse("200,301-302");
        let passing: Vec<u16> = (100..600).filter(|&code| matcher.passes(code)).collect();
        assert_eq!(passing, [200, 301, 302]);
        assert!(!Matcher::parse("nonsense").passes(200));
    }

    #[test]
    fn rules_are_read_from_the_xml_of_moto() {
        let xml = r#"<DescribeRulesResponse><DescribeRulesResult><Rules>
            <member><RuleArn>r1</RuleArn><Priority>1</Priority><Conditions>
              <member><Field>host-header</Field><HostHeaderConfig><Values><member>a.*</member></Values></HostHeaderConfig></member>
              <member><Field>path-pattern</Field><Values><member>/x/*</member></Values></member></Conditions>
              <Actions><member><Type>forward</Type><TargetGroupArn>blue</TargetGroupArn></member></Actions></member>
            <member><Priority>default</Priority><Conditions/><Actions><member><Type>forward</Type><ForwardConfig><TargetGroups>
              <member><TargetGroupArn>blue</TargetGroupArn><Weight>9</Weight></member>
              <member><TargetGroupArn>green</TargetGroupArn><Weight>0</Weight></member></TargetGroups>
              <TargetGroupStickinessConfig><Enabled>true</Enabled><DurationSeconds>60</DurationSeconds></TargetGroupStickinessConfig>
              </ForwardConfig></member></Actions></member>
            </Rules></DescribeRulesResult></DescribeRulesResponse>"#;
        let parsed: describe::Rules = quick_xml::de::from_str(xml).expect("the XML is well-formed");
        let rules: Vec<Rule> = parsed.result.list.member.into_iter().map(Rule::from).collect();
        assert_eq!(rules[0].conditions, [Condition::Host(wildcards("a.*")), Condition::Path(wildcards("/x/*"))]);
        assert_eq!((rules[0].priority, rules[1].priority), (Some(1), None));
        let Action::Forward(forward) = &rules[1].actions[0] else { panic!("not a forward") };
        assert_eq!(forward.sticky, Some(Duration::from_secs(60)));
        let weights: Vec<(&str, u32)> = forward.groups.iter().map(|group| (&*group.arn, group.weight)).collect();
        assert_eq!(weights, [("blue", 9), ("green", 0)]);
    }

    #[test]
    fn weight_zero_counts_as_in_use() {
        let forward = Forward { groups: vec![GroupWeight { arn: "green".to_owned(), weight: 0 }], sticky: None };
        let rule = Rule {
            priority: None,
            conditions: Vec::new(),
            actions: vec![Action::Forward(forward)],
            transforms: Vec::new(),
        };
        let listener = Listener { arn: "l".to_owned(), port: 80, protocol: "HTTP".to_owned(), rules: vec![rule] };
        let load_balancer = LoadBalancer {
            arn: "lb".to_owned(),
            name: "lb".to_owned(),
            created: String::new(),
            listeners: vec![listener],
        };
        let view = View { load_balancers: vec![load_balancer], ..View::default() };
        assert!(view.groups_in_use().contains("green"));
        assert!(view.listener("l").is_some());
    }
}
