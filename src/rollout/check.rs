//! What must hold of a color: before it gets a request, and while it gets more and more of them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::accepts;
use super::budget::BudgetCheck;
use super::route::called;
use crate::argument::{Argument, Arguments, Choice, Field, Holds, Kind, rules};
use crate::arn;

/// Something that must hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// Enough of its targets are healthy.
    Healthy(HealthyPolicy),
    /// A request is answered as described.
    Http(HttpCheck),
    /// A Lambda function says so.
    Lambda(LambdaCheck),
    /// A command of the user's ends with 0.
    Command(CommandCheck),
    /// Who is logged in on the live color is so on this one.
    Session(Box<SessionCheck>),
    /// None of these CloudWatch alarms is on.
    Alarms(AlarmCheck),
    /// A number of CloudWatch's is where it shall be.
    Metric(MetricCheck),
    /// Something is left of the failed requests that a rollout may cost.
    Budget(BudgetCheck),
}

/// A check with its place in the configuration, and whom it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Checking {
    /// `validation` or `verification`.
    pub block: Block,
    /// Its place in its list, from 0; none where there is only one.
    pub index: Option<usize>,
    /// Whom it is about.
    pub subject: Subject,
    /// What must hold.
    pub check: Check,
}

/// Where a check was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Before traffic.
    Validation,
    /// With traffic.
    Verification,
}

/// The color that is checked, and what it is measured by.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subject {
    /// The color to go live.
    pub color: String,
    /// The name of its target group, where it has one.
    pub name: Option<String>,
    /// Its target group.
    pub group: String,
    /// The color that is live, if a color is.
    pub live_color: Option<String>,
    /// The target group that has the traffic, unless nothing has any.
    pub live_group: Option<String>,
    /// What that one is called.
    pub live_name: Option<String>,
    /// The listener or rule that the traffic comes by.
    pub route: Option<String>,
}

/// Of which target groups of a color a check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Groups<'a> {
    /// Of none: it is about the color.
    Any,
    /// Of each that has traffic, or is to get some.
    Each,
    /// The same of those that have requests: of Application Load Balancers.
    EachOfRequests,
    /// Of the one of that name.
    Named(&'a str),
}

/// How many targets of the color must be healthy.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = InPlace, default)]
pub struct HealthyPolicy {
    /// The minimum number of healthy targets.
    #[argument(range = 0..=1000, default = 1)]
    pub min_count: u32,
    /// The minimum number of healthy targets as a percentage of those of the live color.
    #[argument(range = 0..=1000, default = 100)]
    pub min_percent_of_live: u32,
    /// Whether the color needs a healthy target in each Availability Zone in which the live color has one.
    #[argument(default = false)]
    pub each_zone: bool,
    /// Time for which there must be enough healthy targets: a new target counts as healthy after a single pass.
    #[argument(
        default_is = "two intervals where there were not enough at the first look, and to `0s` where there were"
    )]
    pub sustained: Option<Duration>,
    /// Time to wait for enough healthy targets.
    #[argument(default = "5m", text = rules::some_time)]
    pub timeout: Duration,
    /// Time from one look to the next.
    #[argument(default = "5s", text = rules::some_time)]
    pub interval: Duration,
}

/// A request and what its answer must be.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(kind = Block, change = InPlace, default)]
pub struct HttpCheck {
    /// The URL, `http://` or `https://`. A plan shows it in `runbook`, without user, password
    /// and query.
    #[argument(required, sensitive)]
    pub url: String,
    /// The HTTP method, in capitals.
    #[argument(default = "GET", text = accepts::method)]
    pub method: String,
    /// HTTP headers by name, `Host` included.
    #[argument(sensitive)]
    pub headers: BTreeMap<String, String>,
    /// The body of the request.
    #[argument(sensitive)]
    pub body: Option<String>,
    /// The `host:port` to connect to instead of that of the URL, such as that of the load balancer before DNS names it. The
    /// host of the URL stays for TLS and the `Host` header.
    #[argument(text = accepts::host_and_port)]
    pub connect_to: Option<String>,
    /// Whether any TLS certificate is accepted.
    #[argument(default = false)]
    pub insecure: bool,
    /// The status codes that pass.
    #[argument(each_whole = 100..=599, default = [200])]
    pub status: Vec<u16>,
    /// A regular expression that the body must match; `{color}` in it stands for the color that is checked.
    #[argument(text = rules::pattern_for_color)]
    pub body_matches: Option<String>,
    /// The maximum time to the end of the answer.
    pub max_latency: Option<Duration>,
    /// The number of further attempts after a failed one, within a look.
    #[argument(range = 0..=1000, default(Validation = 5, Verification = 0))]
    pub retries: Option<u32>,
    /// Time from one attempt to the next.
    #[argument(default = "2s")]
    pub retry_delay: Duration,
    /// Time for one attempt.
    #[argument(default = "10s", text = rules::some_time)]
    pub timeout: Duration,
}

impl HttpCheck {
    /// The address without what may be secret: no user, no password, no query. Of what is no such address, nothing.
    pub fn shown_url(&self) -> String {
        let Some(parts) = UrlParts::of(&self.url) else {
            return "an address that is no http:// or https:// URL".to_owned();
        };
        // What stands for a port and is none is the password of one who forgot to escape it.
        let port = parts.host.rsplit_once(':').map(|(_, port)| port).filter(|_| !parts.host.ends_with(']'));
        if port.is_some_and(|port| !port.chars().all(|c| c.is_ascii_digit())) {
            return format!("{}://…", parts.scheme);
        }
        format!("{}://{}{}", parts.scheme, parts.host, parts.path)
    }

    /// The check with `{color}` replaced everywhere.
    #[must_use]
    pub fn for_color(&self, color: &str) -> HttpCheck {
        let headers = self.headers.iter().map(|(name, value)| (name.clone(), fill(value, color))).collect();
        let body = self.body.as_deref().map(|body| fill(body, color));
        let connect_to = self.connect_to.as_deref().map(|to| fill(to, color));
        // A color is letters, digits and dashes, and a dash means something in a class.
        let body_matches = self.body_matches.as_deref().map(|pattern| fill(pattern, &regex::escape(color)));
        HttpCheck { url: fill(&self.url, color), headers, body, connect_to, body_matches, ..self.clone() }
    }
}

/// The parts of an address, taken apart without guessing: what is written in another way than everybody reads it is none.
pub(super) struct UrlParts<'u> {
    pub(super) scheme: &'u str,
    pub(super) host: &'u str,
    pub(super) path: &'u str,
}

impl UrlParts<'_> {
    pub(super) fn of(url: &str) -> Option<UrlParts<'_>> {
        let (scheme, rest) = url.split_once("://")?;
        let is_known = ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
        // Browsers take these for slashes, or leave them out.
        if !is_known || url.contains(['\\', '\t', '\n', '\r', ' ']) {
            return None;
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        if host.is_empty() {
            return None;
        }
        let cut = rest.find(['?', '#']).unwrap_or(rest.len());
        Some(UrlParts { scheme, host, path: &rest[..cut] })
    }
}

/// Whether an address is written as `http://` or `https://`, a host, and what follows.
pub fn is_plain_url(url: &str) -> bool {
    UrlParts::of(url).is_some()
}

/// A function to invoke.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct LambdaCheck {
    /// The function, by name or ARN; `{color}` stands for the color that is checked.
    #[argument(required)]
    pub function_name: String,
    /// A version or an alias of the function; `{color}` stands for the color that is checked.
    pub qualifier: Option<String>,
    /// The payload as JSON; `{color}` stands for the color that is checked.
    #[argument(sensitive, text = rules::json, default_is = "`{}`")]
    pub payload: Option<String>,
    /// Time for the answer, all invocations together.
    #[argument(default = "15m", text = rules::some_time)]
    pub timeout: Duration,
    /// Time to the next invocation of a function that is not done and doesn't say when to ask again.
    #[argument(default = "10s", text = rules::some_time)]
    pub interval: Duration,
}

impl LambdaCheck {
    /// The check with `{color}` replaced everywhere.
    #[must_use]
    pub fn for_color(&self, color: &str) -> LambdaCheck {
        let filled = |text: &Option<String>| text.as_deref().map(|text| fill(text, color));
        LambdaCheck {
            function_name: fill(&self.function_name, color),
            qualifier: filled(&self.qualifier),
            payload: filled(&self.payload),
            ..self.clone()
        }
    }

    /// The function as a person names it.
    pub fn name(&self) -> String {
        let name = self.function_name.rsplit(":function:").next().unwrap_or_default();
        self.qualifier.as_ref().map_or_else(|| name.to_owned(), |qualifier| format!("{name}:{qualifier}"))
    }
}

/// A command to run, without a shell.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct CommandCheck {
    /// The program and its arguments, without a shell in between; `{color}` stands for the color that is checked. They are part of the state:
    /// pass secrets in `environment`.
    #[argument(required, list = accepts::argv)]
    pub argv: Vec<String>,
    /// Environment variables for the command; `{color}` in a value stands for the color that is checked. The values are removed
    /// from messages and logs. In addition it gets only `PATH`, `HOME`, `USER`, `LOGNAME`, `SHELL`, `LANG`, `LC_*`, `TZ` and
    /// `TMPDIR` of Terraform's own environment.
    #[argument(sensitive)]
    pub environment: BTreeMap<String, String>,
    /// The names of variables of Terraform's own environment that the command gets too, such as `AWS_PROFILE`; a `*` at the
    /// end stands for anything, such as `AWS_*`.
    #[argument(each = accepts::variable)]
    pub inherit_environment: Vec<String>,
    /// The working directory.
    #[argument(default_is = "that of Terraform")]
    pub working_directory: Option<String>,
    /// Time after which the command is killed, with all its children.
    #[argument(default = "10m", text = rules::some_time)]
    pub timeout: Duration,
}

impl CommandCheck {
    /// The program, without its arguments: those may hold what is nobody's business, and this ends up in plans.
    pub fn shown(&self) -> String {
        let program = self.argv.first().map(String::as_str).unwrap_or_default();
        match self.argv.len().saturating_sub(1) {
            0 => format!("`{program}`"),
            1 => format!("`{program}` (1 argument)"),
            count => format!("`{program}` ({count} arguments)"),
        }
    }
}

/// A session that must go on when the colors change.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct SessionCheck {
    /// The request that logs in. It is made to the live color, for which `{color}` stands in `url`, `headers`, `body` and
    /// `connect_to`.
    #[argument(required, without(retries, retry_delay))]
    pub login: HttpCheck,
    /// The request that is made to the idle color, for which `{color}` stands here, with the cookies of the login.
    #[argument(required, without(retries, retry_delay))]
    pub check: HttpCheck,
}

/// Alarms that must not be on.
#[derive(Clone, Debug, PartialEq)]
pub struct AlarmCheck {
    /// Their names.
    pub names: Vec<String>,
    /// What one counts as that says nothing.
    pub policy: AlarmPolicy,
}

impl AlarmCheck {
    /// The check with `{color}` replaced everywhere.
    #[must_use]
    pub fn for_color(&self, color: &str) -> AlarmCheck {
        AlarmCheck { names: self.names.iter().map(|name| fill(name, color)).collect(), ..self.clone() }
    }
}

/// What an alarm counts as that says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Arguments)]
#[arguments(change = InPlace, default)]
pub struct AlarmPolicy {
    /// What an alarm in `INSUFFICIENT_DATA` counts as.
    #[argument(default = "pass")]
    pub insufficient_data: CountsAs,
    /// What an alarm that doesn't exist or can't be read counts as.
    #[argument(default = "fail")]
    pub unreadable: CountsAs,
}

/// What something counts as that says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Choice)]
pub enum CountsAs {
    /// As if all were well.
    Pass,
    /// As if it were not.
    #[default]
    Fail,
}

/// What a measurement counts as that says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Choice)]
pub enum Inconclusive {
    /// As if all were well.
    Pass,
    /// As if it were not.
    #[default]
    Fail,
    /// As neither: a person is to decide.
    Hold,
}

/// A number and its limits.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(kind = MetricKind, change = InPlace)]
pub struct MetricCheck {
    /// Which number.
    #[argument(flatten)]
    pub metric: Metric,
    /// The name, in the `target_groups` of the colors, of the target group that is measured. If omitted, each target group that a route
    /// of production leads to is measured by itself, a `query` that holds nothing of a target group once.
    pub target_group: Option<String>,
    /// The maximum value.
    pub max: Option<f64>,
    /// The minimum value.
    pub min: Option<f64>,
    /// The maximum ratio of the value to that of the live color, measured at the same time or, if that color has no traffic
    /// left, before the traffic moved.
    #[argument(number = rules::positive)]
    pub max_ratio_to_live: Option<f64>,
    /// The level, such as 0.01, at which the value must not be found larger than that of the live color: by the rollout's own test,
    /// where `test` is `sequential` and the number is one of the load balancer's, else by a Mann-Whitney test over the periods. More
    /// than 0 and less than 0.5.
    #[argument(number = accepts::level)]
    pub significance: Option<f64>,
    /// How it is told whether `error_rate` or a latency is beyond `max` or `max_ratio_to_live`. `sequential`: when the requests that were
    /// counted show it, at the `error_level` of the rollout, however often they are looked at; a healthy color is hardly ever thrown back by chance.
    /// `threshold`: when the number is, at any look. Limits of `requests` and of a `query` are always judged so, but for `significance`.
    #[argument(default = "sequential")]
    pub test: MetricTest,
    /// The number of requests below which a measurement is inconclusive; not for `metric = "requests"`.
    #[argument(range = 0..=1_000_000_000, default(Query = 0, OfLoadBalancer = 1))]
    pub min_requests: Option<u64>,
    /// What an inconclusive last measurement counts as. `hold` stops the rollout where it is, whatever `on_failure` says, for a person to
    /// decide; before the color gets traffic that is the same as `fail`.
    #[argument(default = "fail")]
    pub inconclusive: Inconclusive,
    /// Whether it is only told what the limits would have done: nothing is ever thrown back for it. It is how a limit is tried that nobody
    /// knows yet.
    #[argument(default = false)]
    pub dry_run: bool,
    /// For `metric = "error_rate"`, whether 5xx answers that the load balancer made itself, for whichever target group, count for
    /// `max` as those of the color. CloudWatch can't tell them apart, so on a load balancer with other services theirs count, too. They
    /// don't count in comparisons with the live color. Connections that the targets of the color refuse, and functions of it that fail, always count.
    #[argument(default = false)]
    pub load_balancer_errors: bool,
    /// The length of one data point: `1s`, `5s`, `10s`, `20s`, `30s` or whole minutes. Load balancers publish one a minute.
    #[argument(default = "60s", text = accepts::period)]
    pub period: Duration,
    /// How far back to measure before traffic moves.
    #[argument(default = "5m", text = rules::some_time)]
    pub window: Duration,
}

/// How a number is held against a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Choice)]
pub enum MetricTest {
    /// By the evidence of all requests that were counted since traffic moved.
    #[default]
    Sequential,
    /// By the number itself.
    Threshold,
}

impl MetricCheck {
    /// Which of the requests a sequential test counts; none where the number is judged itself.
    pub fn counted(&self) -> Option<Counted> {
        match (self.test, &self.metric) {
            (MetricTest::Sequential, Metric::ErrorRate) => Some(Counted::Failed),
            (MetricTest::Sequential, Metric::Latency(percentile)) => Some(Counted::Slower(*percentile)),
            _ => None,
        }
    }

    /// How many sequential tests its limits are: the error level of a rollout is divided among them.
    pub fn tests(&self) -> usize {
        // What throws nothing back takes nothing of it away from the others.
        if self.dry_run {
            return 0;
        }
        let limits = [self.max.is_some(), self.max_ratio_to_live.is_some(), self.significance.is_some()];
        let of_points = self.significance.is_some() && self.test == MetricTest::Sequential;
        match self.counted() {
            Some(_) => limits.into_iter().filter(|is_set| *is_set).count(),
            None => usize::from(of_points),
        }
    }

    /// How long after a period CloudWatch has all of it.
    pub fn lag(&self) -> Duration {
        lag(self.period)
    }

    /// Whether it says anything of the requests to a target group.
    fn is_of_requests(&self) -> bool {
        let Metric::Query(query) = &self.metric else { return true };
        let mut ids = query.expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        self.least_requests() > 0 || ids.any(|id| METRIC_IDS.contains(&id))
    }

    /// Whether it says anything of a target group by its dimensions.
    fn is_of_group(&self) -> bool {
        let Metric::Query(query) = &self.metric else { return true };
        let values = query.metrics.values().flat_map(|source| source.dimensions.values());
        values.into_iter().any(|value| value.contains("{target_group}") || value.contains("{load_balancer}"))
    }

    /// Below so many requests nothing can be said.
    pub fn least_requests(&self) -> u64 {
        self.min_requests.unwrap_or_default()
    }
}

/// How long after a period CloudWatch has all of it: load balancers publish a minute one to three minutes late, and errors before
/// requests, so that what is younger says nothing yet.
pub fn lag(period: Duration) -> Duration {
    period * 2
}

/// What is counted of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Those that failed.
    Failed,
    /// Those that took longer than a limit for this percentile.
    Slower(u8),
}

/// What decides how many requests are needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// A number that load balancers have.
    OfLoadBalancer,
    /// A number of the user's own, which need not have to do with requests.
    Query,
}

impl Kind for MetricKind {
    fn plural(self) -> &'static str {
        match self {
            MetricKind::OfLoadBalancer => "a `metric`",
            MetricKind::Query => "a `query`",
        }
    }
}

/// A number of CloudWatch's.
#[derive(Clone, Debug, PartialEq)]
pub enum Metric {
    /// Failed requests by all requests, 0 to 1.
    ErrorRate,
    /// Seconds until so many percent of the requests are answered.
    Latency(u8),
    /// How many requests.
    Requests,
    /// A metric-math expression.
    Query(MetricQuery),
}

/// A number as it is written.
#[derive(Arguments)]
#[arguments(change = InPlace)]
struct WrittenMetric {
    /// A metric of the load balancer: `error_rate` is a fraction from 0 to 1, the latencies are in seconds. Conflicts with
    /// `query`.
    metric: Option<MetricName>,
    /// A metric of your own. Conflicts with `metric`.
    query: Option<MetricQuery>,
}

/// A number that load balancers have.
#[derive(Clone, Copy, Choice)]
enum MetricName {
    ErrorRate,
    LatencyP50,
    LatencyP90,
    LatencyP99,
    Requests,
}

impl Arguments for Metric {
    type Kind = MetricKind;

    fn arguments() -> &'static [Argument] {
        WrittenMetric::arguments()
    }

    fn applies(_: &str, _: MetricKind) -> bool {
        true
    }

    fn fill(&mut self, _: MetricKind) {}
}

impl Field for Metric {
    fn holds() -> Holds {
        WrittenMetric::holds()
    }

    fn read(value: &serde_json::Value) -> Option<Metric> {
        match WrittenMetric::read(value)? {
            WrittenMetric { metric: Some(name), .. } => Some(match name {
                MetricName::ErrorRate => Metric::ErrorRate,
                MetricName::LatencyP50 => Metric::Latency(50),
                MetricName::LatencyP90 => Metric::Latency(90),
                MetricName::LatencyP99 => Metric::Latency(99),
                MetricName::Requests => Metric::Requests,
            }),
            WrittenMetric { query, .. } => query.map(Metric::Query),
        }
    }
}

/// What an expression can use of a target group without a metric of its own.
pub const METRIC_IDS: [&str; 6] =
    ["requests", "errors_4xx", "errors_5xx", "connection_errors", "elb_5xx", "response_time"];

/// A metric-math expression over metrics of the user's.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct MetricQuery {
    /// A metric-math expression over the IDs in `metrics`, and over `requests`, `errors_4xx`, `errors_5xx`,
    /// `connection_errors`, `elb_5xx` and `response_time` of the target group of the color. Errors that have no data count as
    /// 0. In the values of dimensions `{color}` stands for the color, `{target_group}` and `{load_balancer}` for what CloudWatch calls
    /// its target group and its load balancer.
    #[argument(required)]
    pub expression: String,
    /// Metrics by their ID in the expression.
    pub metrics: BTreeMap<String, MetricSource>,
}

/// A metric of the user's.
#[derive(Clone, Debug, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct MetricSource {
    /// The namespace, such as `MyApp`.
    #[argument(required)]
    pub namespace: String,
    /// The name of the metric, such as `Orders`.
    #[argument(required)]
    pub metric_name: String,
    /// The dimensions by name; `{color}` in a value stands for the color.
    pub dimensions: BTreeMap<String, String>,
    /// The statistic, such as `Sum`, `Average` or `p99`.
    #[argument(default = "Sum")]
    pub stat: String,
}

impl Metric {
    /// What decides how many requests it needs.
    pub fn kind(&self) -> MetricKind {
        if matches!(self, Metric::Query(_)) { MetricKind::Query } else { MetricKind::OfLoadBalancer }
    }

    /// The word that the configuration has for it.
    pub fn name(&self) -> String {
        match self {
            Metric::ErrorRate => "error_rate".to_owned(),
            Metric::Latency(percentile) => format!("latency_p{percentile}"),
            Metric::Requests => "requests".to_owned(),
            Metric::Query(query) => query.expression.clone(),
        }
    }

    /// A value as a person reads it.
    pub fn shown(&self, value: f64) -> String {
        // Nothing is added up to -0, which nobody reads as nothing.
        let value = value + 0.0;
        match self {
            Metric::ErrorRate => format!("{:.2} %", value * 100.0),
            Metric::Latency(_) => format!("{:.0} ms", value * 1000.0),
            Metric::Requests => format!("{value:.0}"),
            Metric::Query(_) => format!("{value:.4}"),
        }
    }
}

/// With the color's name in the place of `{color}`.
pub fn fill(text: &str, color: &str) -> String {
    text.replace("{color}", color)
}

impl Check {
    /// What the configuration calls it.
    pub fn attribute(&self) -> &'static str {
        match self {
            Check::Healthy(_) => "healthy",
            Check::Http(_) => "http",
            Check::Lambda(_) => "lambda",
            Check::Command(_) => "command",
            Check::Session(_) => "session",
            Check::Alarms(_) => "alarms",
            Check::Metric(_) => "metrics",
            Check::Budget(_) => "budget",
        }
    }

    /// Of which target groups of a color it is.
    pub fn groups(&self) -> Groups<'_> {
        match self {
            Check::Healthy(_) => Groups::Each,
            Check::Metric(check) => match &check.target_group {
                Some(name) => Groups::Named(name),
                None if check.is_of_requests() => Groups::EachOfRequests,
                None if check.is_of_group() => Groups::Each,
                None => Groups::Any,
            },
            Check::Http(_)
            | Check::Lambda(_)
            | Check::Command(_)
            | Check::Session(_)
            | Check::Alarms(_)
            | Check::Budget(_) => Groups::Any,
        }
    }

    /// What must hold, as part of a sentence.
    pub fn summary(&self, subject: &Subject) -> String {
        let color = &subject.color;
        match self {
            Check::Healthy(policy) => {
                let relative = match subject.live_group {
                    Some(_) => format!(" and {} % of the live color's", policy.min_percent_of_live),
                    None => String::new(),
                };
                let zone = if policy.each_zone { ", in each of its zones" } else { "" };
                let plural = if policy.min_count == 1 { "" } else { "s" };
                let who = subject.shown();
                format!("{who} has at least {} healthy target{plural}{relative}{zone}", policy.min_count)
            }
            Check::Http(check) => {
                format!("{color} answers {} {}", check.method, check.for_color(color).shown_url())
            }
            Check::Lambda(check) => format!("the function {} passes {color}", check.for_color(color).name()),
            Check::Command(check) => format!("{} passes {color}", check.shown()),
            Check::Session(_) => {
                format!("a session of {} goes on in {color}", subject.live_color.as_deref().unwrap_or("the live color"))
            }
            Check::Alarms(check) => format!("no alarm is on ({})", check.for_color(color).names.join(", ")),
            Check::Metric(check) => check.summary(&subject.shown()),
            Check::Budget(check) => check.budget.summary(color),
        }
    }

    /// The length of CloudWatch's points, where it looks at some.
    pub fn period(&self) -> Option<Duration> {
        match self {
            Check::Metric(check) => Some(check.period),
            Check::Budget(check) => Some(check.budget.period),
            Check::Healthy(_)
            | Check::Http(_)
            | Check::Lambda(_)
            | Check::Command(_)
            | Check::Session(_)
            | Check::Alarms(_) => None,
        }
    }

    /// How long after a period CloudWatch has all of it, where it looks at some.
    pub fn lag(&self) -> Option<Duration> {
        self.period().map(lag)
    }
}

impl MetricCheck {
    /// The limits, as part of a sentence.
    pub fn summary(&self, color: &str) -> String {
        let mut limits = Vec::new();
        limits.extend(self.max.map(|max| format!("at most {}", self.metric.shown(max))));
        limits.extend(self.min.map(|min| format!("at least {}", self.metric.shown(min))));
        limits.extend(self.max_ratio_to_live.map(|ratio| format!("at most {ratio} times the live color's")));
        limits.extend(self.significance.map(|_| "not significantly above the live color's".to_owned()));
        let dry = if self.dry_run { ", only told" } else { "" };
        format!("{} of {color} is {}{dry}", self.metric.name(), limits.join(" and "))
    }
}

impl Checking {
    /// In words.
    pub fn summary(&self) -> String {
        self.check.summary(&self.subject)
    }

    /// Where it was written: `validation.http[0]`.
    pub fn place(&self) -> String {
        let block = self.block.name();
        let index = self.index.map(|index| format!("[{index}]")).unwrap_or_default();
        format!("{block}.{}{index}", self.check.attribute())
    }
}

impl Kind for Block {
    fn plural(self) -> &'static str {
        match self {
            Block::Validation => "`validation`",
            Block::Verification => "`verification`",
        }
    }
}

impl Block {
    /// What the configuration calls it.
    pub fn name(self) -> &'static str {
        match self {
            Block::Validation => "validation",
            Block::Verification => "verification",
        }
    }
}

impl Subject {
    /// Who is looked at, for people: the color, and which of its target groups where that has a name.
    pub fn shown(&self) -> String {
        called(&self.color, self.name.as_deref())
    }

    /// The load balancer's dimension in CloudWatch, such as `app/web/49ea1cb665d534d9`.
    pub fn load_balancer_dimension(&self) -> Option<String> {
        arn::load_balancer(self.route.as_deref()?)
    }

    /// A target group's dimension in CloudWatch: `targetgroup/name/id`.
    pub fn group_dimension(group: &str) -> Option<&str> {
        group.splitn(6, ':').nth(5).filter(|resource| resource.starts_with("targetgroup/"))
    }

    /// What is measured by, for people.
    pub fn live_name(&self) -> String {
        self.live_name.clone().unwrap_or_else(|| "nothing".to_owned())
    }
}
