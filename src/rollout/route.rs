//! What a route is: as it is configured, and as it was seen.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::accepts;
use super::processing::Processing;
use crate::argument::{Arguments, rules};
use crate::arn;

/// A place on a load balancer that forwards to the colors.
#[expect(clippy::large_enum_variant, reason = "a switch has a handful of routes")]
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteSpec {
    /// A listener's default action.
    Listener(String),
    /// A rule that somebody else made, by ARN.
    Rule(String),
    /// A rule that the switch makes and owns.
    OwnRule {
        /// The listener's ARN.
        listener: String,
        /// 1 to 50000, unique on the listener.
        priority: i32,
        /// What a request must match.
        conditions: Conditions,
        /// What it does with a request before it forwards.
        processing: Box<Processing>,
        /// The ARN of the rule that the switch made, once it is known: it is that rule wherever people move it.
        arn: Option<String>,
    },
}

impl RouteSpec {
    /// Whether this rule is the one that the switch made, and not one that somebody put in its place.
    pub fn is_made(&self, seen: &Observed) -> bool {
        matches!(self, RouteSpec::OwnRule { arn: Some(arn), .. } if *arn == seen.arn)
    }

    /// The ARN of its listener, or of the rule that somebody else made.
    pub fn arn(&self) -> &str {
        match self {
            RouteSpec::Listener(arn) | RouteSpec::Rule(arn) | RouteSpec::OwnRule { listener: arn, .. } => arn,
        }
    }

    /// Whether it is on a Network Load Balancer.
    pub fn is_network(&self) -> bool {
        arn::is_network(&self.key())
    }

    /// The ARN of its listener.
    pub fn listener(&self) -> String {
        match self {
            RouteSpec::Listener(arn) | RouteSpec::OwnRule { listener: arn, .. } => arn.clone(),
            RouteSpec::Rule(arn) => arn::listener_of(arn),
        }
    }

    /// The rule of the switch's own that has this key, of which nothing else is known.
    pub fn own(key: &str) -> Option<RouteSpec> {
        let (listener, priority) = key.rsplit_once('#')?;
        let (listener, priority) = (listener.to_owned(), priority.parse().ok()?);
        let (conditions, processing) = (Conditions::default(), Box::default());
        Some(RouteSpec::OwnRule { listener, priority, conditions, processing, arn: None })
    }

    /// What a rule of the switch's own is to do with a request before it forwards; none for what is not its own.
    pub fn processing(&self) -> Option<&Processing> {
        match self {
            RouteSpec::OwnRule { processing, .. } => Some(processing),
            _ => None,
        }
    }

    /// A name that stays the same as long as it is the same route.
    pub fn key(&self) -> String {
        match self {
            RouteSpec::Listener(arn) | RouteSpec::Rule(arn) => arn.clone(),
            RouteSpec::OwnRule { listener, priority, .. } => format!("{listener}#{priority}"),
        }
    }
}

impl fmt::Display for RouteSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteSpec::Listener(arn) => write!(f, "listener {}", short(arn)),
            RouteSpec::Rule(arn) => write!(f, "rule {}", short(arn)),
            // Which priority it gets is found out when it is made.
            RouteSpec::OwnRule { listener, conditions, .. } if conditions.is_nobody() => {
                write!(f, "the rule of listener {} that no request takes", short(listener))
            }
            RouteSpec::OwnRule { listener, priority, .. } => {
                write!(f, "rule {priority} of listener {}", short(listener))
            }
        }
    }
}

/// The lowest of all priorities: no rule of a listener comes after it.
pub const LAST_PRIORITY: i32 = 50_000;

/// What a person tells resources apart by: `web/f2f7dc8efc522ab2` for a listener of the load balancer `web`, the name of
/// a target group, the end of any other ARN.
pub fn short(arn: &str) -> String {
    let Some(resource) = arn.splitn(6, ':').nth(5) else { return arn.to_owned() };
    let parts: Vec<&str> = resource.split('/').collect();
    match parts.as_slice() {
        ["listener" | "listener-rule", _, name, .., id] => format!("{name}/{id}"),
        ["targetgroup", name, _] => (*name).to_owned(),
        _ => resource.to_owned(),
    }
}

/// What a color's target group is called, for people: by the color, and by its name where it has one.
pub fn called(color: &str, name: Option<&str>) -> String {
    name.map_or_else(|| color.to_owned(), |name| format!("{color} ({name})"))
}

/// What a request must match to take a rule. A request matches if it matches every kind that is not empty.
///
/// Lengths and characters are those of `RuleCondition` in the API reference of Elastic Load Balancing.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Arguments)]
#[arguments(change = InPlace)]
#[serde(default)]
pub struct Conditions {
    /// Host names, any of which matches; `*` and `?` are wildcards. Case means nothing.
    #[argument(each = accepts::host_pattern)]
    pub host_headers: Vec<String>,
    /// Regular expressions for the host name, any of which matches, besides `host_headers`.
    #[argument(each = accepts::condition_regex)]
    pub host_header_regex_values: Vec<String>,
    /// Paths, any of which matches; `*` and `?` are wildcards.
    #[argument(each = accepts::path_pattern)]
    pub path_patterns: Vec<String>,
    /// Regular expressions for the path, any of which matches, besides `path_patterns`.
    #[argument(each = accepts::condition_regex)]
    pub path_pattern_regex_values: Vec<String>,
    /// HTTP methods in capitals, any of which matches.
    #[argument(each = accepts::condition_method)]
    pub http_request_methods: Vec<String>,
    /// Networks of clients in CIDR notation, any of which matches: those that connect to the load balancer, whatever
    /// `X-Forwarded-For` says.
    #[argument(each = rules::network)]
    pub source_ips: Vec<String>,
    /// The kind of address that clients connect from, `ipv4` or `ipv6`: the only condition that a rule of a Network Load Balancer
    /// can have, and only there.
    #[argument(one_of = ["ipv4", "ipv6"])]
    pub source_ip_address_type: Option<String>,
    /// HTTP headers by name, each with values, any of which matches.
    pub http_headers: BTreeMap<String, Vec<String>>,
    /// Further conditions for HTTP headers, with regular expressions, or several for one header. All have to match.
    pub http_header_conditions: Vec<HeaderCondition>,
    /// Query parameters by key, each with its value. All have to match.
    pub query_strings: BTreeMap<String, String>,
    /// Further conditions for the query string, each with alternatives, or for values whatever their key. All have to match.
    pub query_string_conditions: Vec<QueryCondition>,
}

/// One condition for an HTTP header.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Arguments)]
#[arguments(change = InPlace)]
pub struct HeaderCondition {
    /// The name of the header. Case means nothing.
    #[argument(required, text = accepts::condition_header)]
    pub name: String,
    /// Values, any of which matches; `*` and `?` are wildcards.
    #[argument(each = accepts::condition_value)]
    pub values: Vec<String>,
    /// Regular expressions, any of which matches, besides `values`.
    #[argument(each = accepts::condition_regex)]
    pub regex_values: Vec<String>,
}

/// One condition for the query string.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Arguments)]
#[arguments(change = InPlace)]
pub struct QueryCondition {
    /// What the query string may hold, any of which matches.
    #[argument(required, not_empty)]
    pub values: Vec<QueryValue>,
}

/// A value in a query string.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Arguments)]
#[arguments(change = InPlace)]
pub struct QueryValue {
    /// The key. If omitted, the value matches whatever its key is.
    #[argument(text = accepts::condition_value)]
    pub key: Option<String>,
    /// The value; `*` and `?` are wildcards.
    #[argument(required, text = accepts::condition_value)]
    pub value: String,
}

/// `invalid` is a name that no host has (RFC 2606).
const NOBODY: &str = ".bluegreen.invalid";

impl Conditions {
    /// What no request matches: a rule that has it makes a group known to its load balancer, so that its targets are checked
    /// before anybody is led there. The name is part of a host name.
    pub fn nobody(name: &str) -> Conditions {
        Conditions { host_headers: vec![format!("{name}{NOBODY}")], ..Conditions::default() }
    }

    /// Whether it is what [`Conditions::nobody`] makes of this name. Hosts have no case.
    pub fn is_nobody_of(&self, name: &str) -> bool {
        matches!(self.host_headers.as_slice(), [host] if host.eq_ignore_ascii_case(&format!("{name}{NOBODY}")))
    }

    /// Whether no request matches.
    pub fn is_nobody(&self) -> bool {
        !self.host_headers.is_empty() && self.host_headers.iter().all(|host| host.ends_with(NOBODY))
    }

    /// In the one form that all ways of writing the same have: alternatives in order, since their order means nothing, and what a
    /// map can hold in the map. Of several conditions for one name the map has the first, in whatever order they were told.
    #[must_use]
    pub fn normal(mut self) -> Conditions {
        let headers = std::mem::take(&mut self.http_headers).into_iter();
        let plain = headers.map(|(name, values)| HeaderCondition { name, values, regex_values: Vec::new() });
        self.http_header_conditions.extend(plain);
        let queries = std::mem::take(&mut self.query_strings).into_iter();
        let plain = queries.map(|(key, value)| QueryCondition { values: vec![QueryValue { key: Some(key), value }] });
        self.query_string_conditions.extend(plain);
        self.in_order();
        for HeaderCondition { name, values, regex_values } in std::mem::take(&mut self.http_header_conditions) {
            // Header names have no case; AWS keeps the one that was written.
            let is_known = self.http_headers.keys().any(|known| known.eq_ignore_ascii_case(&name));
            if regex_values.is_empty() && !is_known {
                self.http_headers.insert(name, values);
            } else {
                self.http_header_conditions.push(HeaderCondition { name, values, regex_values });
            }
        }
        for QueryCondition { values } in std::mem::take(&mut self.query_string_conditions) {
            match values.as_slice() {
                [QueryValue { key: Some(key), value }] if !self.query_strings.contains_key(key) => {
                    self.query_strings.insert(key.clone(), value.clone());
                }
                _ => self.query_string_conditions.push(QueryCondition { values }),
            }
        }
        self
    }

    /// How many values they have and how many wildcards, as AWS counts them: a pair of key and value is one.
    pub fn counts(&self) -> (usize, usize) {
        let headers = self.http_headers.values().chain(self.http_header_conditions.iter().map(|one| &one.values));
        let patterns = [&self.host_headers, &self.path_patterns].into_iter().chain(headers).flatten();
        let patterns: Vec<&String> = patterns.collect();
        let regexes = [&self.host_header_regex_values, &self.path_pattern_regex_values].into_iter();
        let regexes = regexes.chain(self.http_header_conditions.iter().map(|one| &one.regex_values)).flatten();
        let queries = self.query_string_conditions.iter().flat_map(|one| &one.values);
        let queries = queries.map(|one| (one.key.as_ref(), &one.value));
        let queries = queries.chain(self.query_strings.iter().map(|(key, value)| (Some(key), value)));
        let queries: Vec<(Option<&String>, &String)> = queries.collect();
        let plain = self.http_request_methods.len() + self.source_ips.len();
        let texts = queries.iter().flat_map(|(key, value)| key.iter().copied().chain([*value]));
        let wildcards = patterns.iter().copied().chain(texts).map(|text| accepts::wildcards(text)).sum();
        (patterns.len() + regexes.count() + queries.len() + plain, wildcards)
    }

    /// Puts alternatives in order, and conditions of one kind.
    fn in_order(&mut self) {
        let plain = [
            &mut self.host_headers,
            &mut self.host_header_regex_values,
            &mut self.path_patterns,
            &mut self.path_pattern_regex_values,
            &mut self.http_request_methods,
            &mut self.source_ips,
        ];
        let headers = self.http_header_conditions.iter_mut().flat_map(|one| [&mut one.values, &mut one.regex_values]);
        for values in plain.into_iter().chain(headers) {
            values.sort();
        }
        self.query_string_conditions.iter_mut().for_each(|one| one.values.sort());
        self.http_header_conditions.sort();
        self.query_string_conditions.sort();
    }
}

/// A route as it was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observed {
    /// The ARN of the listener or rule.
    pub arn: String,
    /// Where it leads, after whatever comes before (authentication).
    pub terminal: Terminal,
    /// A rule's conditions, as far as the switch knows them; nothing for a listener.
    pub conditions: Option<Conditions>,
    /// What it does with a request before it forwards; none where that is of a kind that the switch doesn't know.
    #[serde(default = "nothing")]
    pub processing: Option<Processing>,
    /// Where a rule of the switch's own stands among the listener's rules; none for what is not its own, or not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What comes before that (authentication), for commands to paste: no call of ours writes it.
    #[serde(skip)]
    pub ahead: Ahead,
}

/// What an earlier version did not note: an apply looks anew, and does nothing that its plan did not tell.
fn nothing() -> Option<Processing> {
    Some(Processing::default())
}

impl Observed {
    /// A listener of which only this is known; it does nothing before it forwards.
    pub fn leading(arn: String, terminal: Terminal) -> Observed {
        let (processing, ahead) = (Some(Processing::default()), Ahead::default());
        Observed { arn, terminal, conditions: None, processing, place: None, ahead }
    }
}

/// The actions before the one that ends a list, as the AWS CLI takes them. It is no part of where a route leads, so that all are equal.
#[derive(Clone, Debug)]
pub struct Ahead {
    /// AWS's own shapes, in order; a secret that AWS keeps is not in them.
    pub actions: Vec<serde_json::Value>,
    /// Whether that is all: AWS may know kinds that aren't known here.
    pub is_whole: bool,
}

impl Default for Ahead {
    fn default() -> Ahead {
        Ahead { actions: Vec::new(), is_whole: true }
    }
}

impl PartialEq for Ahead {
    fn eq(&self, _: &Ahead) -> bool {
        true
    }
}

/// Where a rule stands: people move rules, and a rule is itself wherever it stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Place {
    /// Its priority now, 1 to 50000.
    pub priority: i32,
    /// The ARN of another rule that has the priority that is configured for this one.
    pub taken_by: Option<String>,
}

/// The action that ends a route's list of actions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Terminal {
    /// To target groups.
    Forward(Forward),
    /// A fixed answer.
    FixedResponse {
        /// The status code, as AWS has it: a string.
        status: String,
        /// The content type.
        content_type: Option<String>,
        /// The body.
        body: Option<String>,
    },
    /// A redirect.
    Redirect(Redirect),
}

/// A redirect's parts; `#{host}` and its like stand for the request's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are AWS's")]
pub struct Redirect {
    pub status: String,
    pub protocol: Option<String>,
    pub port: Option<String>,
    pub host: Option<String>,
    pub path: Option<String>,
    pub query: Option<String>,
}

/// A weighted forward.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Forward {
    /// Target group ARNs and weights, 0 to 999.
    pub groups: Vec<(String, u32)>,
    /// Group stickiness, if the action says anything about it.
    pub stickiness: Option<Stickiness>,
}

/// How long a client stays with the group that it met first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stickiness {
    /// Whether it is on.
    pub enabled: bool,
    /// 1 to 604800 seconds.
    pub duration_seconds: Option<i32>,
}

impl Stickiness {
    /// On, for as short a time as AWS allows on a route. Network Load Balancers know no time.
    pub fn shortest(route: &RouteSpec) -> Stickiness {
        Stickiness { enabled: true, duration_seconds: (!route.is_network()).then_some(SHORTEST) }
    }
}

/// The shortest time for which an Application Load Balancer keeps a client at a group.
const SHORTEST: i32 = 1;

impl Forward {
    /// Whether clients are kept at the group that they met first.
    pub fn is_sticky(&self) -> bool {
        self.stickiness.as_ref().is_some_and(|stickiness| stickiness.enabled)
    }
}

/// A percentage that is everything, as far as numbers go.
pub(super) const ALL: f64 = 99.999;
/// A difference of two percentages that is none.
pub(super) const SAME: f64 = 0.001;
/// Two parts in percent that are closer are one: a step is a tenth of a percent at least.
pub const NEAR: f64 = 0.05;

impl Terminal {
    /// The percentage of requests that goes to a group; 0 if it isn't there or nothing has any weight.
    pub fn share(&self, group: &str) -> f64 {
        let Terminal::Forward(forward) = self else { return 0.0 };
        let total: u32 = forward.groups.iter().map(|(_, weight)| weight).sum();
        let own: u32 = forward.groups.iter().filter(|(arn, _)| arn == group).map(|(_, weight)| weight).sum();
        if total == 0 { 0.0 } else { f64::from(own) * 100.0 / f64::from(total) }
    }

    /// Whether it leads more requests to a group than another one does, or than none at all.
    pub fn gives_more(&self, group: &str, than: Option<&Terminal>) -> bool {
        self.share(group) > than.map_or(0.0, |than| than.share(group)) + SAME
    }

    /// Whether it leads requests to other groups than this one.
    pub fn serves_others(&self, group: &str) -> bool {
        let Terminal::Forward(forward) = self else { return false };
        forward.groups.iter().any(|(other, _)| other != group && self.share(other) > 0.0)
    }

    /// Whether the group is part of the action, at whatever weight.
    pub fn mentions(&self, group: &str) -> bool {
        matches!(self, Terminal::Forward(forward) if forward.groups.iter().any(|(arn, _)| arn == group))
    }

    /// Whether every group gets the same percentage of requests in both, those that get none left out.
    pub fn shares_like(&self, other: &Terminal) -> bool {
        match (self, other) {
            (Terminal::Forward(x), Terminal::Forward(y)) => {
                let groups = x.groups.iter().chain(&y.groups);
                groups.into_iter().all(|(arn, _)| (self.share(arn) - other.share(arn)).abs() < NEAR)
            }
            _ => self == other,
        }
    }

    /// Equal as far as requests can tell: the same groups with the same shares, weights 1/0 being weights 100/0, and the
    /// same stickiness.
    pub fn is_same(&self, other: &Terminal) -> bool {
        match (self, other) {
            (Terminal::Forward(x), Terminal::Forward(y)) => {
                x.groups.len() == y.groups.len()
                    && x.groups
                        .iter()
                        .all(|(arn, _)| other.mentions(arn) && (self.share(arn) - other.share(arn)).abs() < SAME)
                    && sticks_like(x, y)
            }
            _ => self == other,
        }
    }

    /// The same without the groups that get nothing, as long as something gets something.
    #[must_use]
    pub fn without_idle(&self) -> Terminal {
        match self {
            Terminal::Forward(forward) if forward.groups.iter().any(|(_, weight)| *weight > 0) => {
                let groups = forward.groups.iter().filter(|(_, weight)| *weight > 0).cloned().collect();
                Terminal::Forward(Forward { groups, stickiness: forward.stickiness.clone() })
            }
            other => other.clone(),
        }
    }

    /// Whether clients are kept at the group that they met first, whatever its weight is by then.
    pub fn is_sticky(&self) -> bool {
        matches!(self, Terminal::Forward(forward) if forward.is_sticky())
    }

    /// The group stickiness to keep when the weights change.
    pub fn stickiness(&self) -> Option<Stickiness> {
        match self {
            Terminal::Forward(forward) => forward.stickiness.clone(),
            _ => None,
        }
    }
}

/// Whether clients are kept at a group alike. Where one of them names no time, as on Network Load Balancers, none is compared.
fn sticks_like(x: &Forward, y: &Forward) -> bool {
    let seconds = |forward: &Forward| {
        let on = forward.stickiness.as_ref().filter(|_| forward.is_sticky());
        on.map(|stickiness| stickiness.duration_seconds)
    };
    match (seconds(x), seconds(y)) {
        (Some(Some(x)), Some(Some(y))) => x == y,
        (x, y) => x.is_some() == y.is_some(),
    }
}
