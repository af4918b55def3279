//! What must hold of a colour: before it gets a request, and while it gets more and more of them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::intent::short;

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
    /// Who is logged in on the live colour is so on this one.
    Session(Box<SessionCheck>),
    /// None of these CloudWatch alarms is on.
    Alarms(AlarmCheck),
    /// A number of CloudWatch's is where it shall be.
    Metric(MetricCheck),
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

/// The colour that is checked, and what it is measured by.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Subject {
    /// The colour to go live.
    pub color: String,
    /// Its target group.
    pub group: String,
    /// The colour that is live, if a colour is.
    pub live_color: Option<String>,
    /// The target group that has the traffic, unless nothing has any.
    pub live_group: Option<String>,
    /// The listener or rule that the traffic comes by.
    pub route: Option<String>,
}

/// How many targets of the colour must be healthy.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthyPolicy {
    /// At least this many.
    pub min_count: u32,
    /// At least this percentage of the number of healthy targets of the live colour.
    pub min_percent_of_live: u32,
    /// One at least in each zone where the live colour has one.
    pub each_zone: bool,
    /// How long it must have been so. None: for two intervals where it was not so at the first look, since a target that
    /// comes up is healthy after one pass.
    pub sustained: Option<Duration>,
    /// How long to wait for it.
    pub timeout: Duration,
    /// How often to look.
    pub interval: Duration,
}

impl Default for HealthyPolicy {
    fn default() -> HealthyPolicy {
        HealthyPolicy {
            min_count: 1,
            min_percent_of_live: 100,
            each_zone: false,
            sustained: None,
            timeout: Duration::from_secs(300),
            interval: Duration::from_secs(5),
        }
    }
}

/// A request and what its answer must be.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpCheck {
    /// The address; `{color}` stands for the colour.
    pub url: String,
    /// The method, `GET` unless said otherwise.
    pub method: String,
    /// Headers to send.
    pub headers: BTreeMap<String, String>,
    /// What to send; `{color}` stands for the colour.
    pub body: Option<String>,
    /// `host:port` to connect to instead of the address's; its name stays for TLS and the `Host` header.
    pub connect_to: Option<String>,
    /// Whether any TLS certificate will do.
    pub insecure: bool,
    /// The status codes that pass.
    pub status: Vec<u16>,
    /// A regular expression that the body must match somewhere.
    pub body_matches: Option<String>,
    /// The longest time to the end of the answer.
    pub max_latency: Option<Duration>,
    /// How many more times to try.
    pub retries: u32,
    /// How long to wait between tries.
    pub retry_delay: Duration,
    /// When to give up on one request.
    pub timeout: Duration,
}

impl Default for HttpCheck {
    fn default() -> HttpCheck {
        HttpCheck {
            url: String::new(),
            method: "GET".to_owned(),
            headers: BTreeMap::new(),
            body: None,
            connect_to: None,
            insecure: false,
            status: vec![200],
            body_matches: None,
            max_latency: None,
            retries: 0,
            retry_delay: Duration::from_secs(2),
            timeout: Duration::from_secs(10),
        }
    }
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
        HttpCheck { url: fill(&self.url, color), headers, body, connect_to, ..self.clone() }
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
#[derive(Clone, Debug, PartialEq)]
pub struct LambdaCheck {
    /// Its name or ARN.
    pub function_name: String,
    /// A version or alias.
    pub qualifier: Option<String>,
    /// The JSON to give it; `{color}` stands for the colour.
    pub payload: Option<String>,
    /// How long it may take, all invocations together.
    pub timeout: Duration,
    /// When to ask again a function that says it isn't done, unless it says when itself.
    pub interval: Duration,
}

impl LambdaCheck {
    /// The function as a person names it.
    pub fn name(&self) -> String {
        let name = self.function_name.rsplit(":function:").next().unwrap_or_default();
        self.qualifier.as_ref().map_or_else(|| name.to_owned(), |qualifier| format!("{name}:{qualifier}"))
    }
}

/// A command to run, without a shell.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandCheck {
    /// The program and its arguments; `{color}` stands for the colour.
    pub argv: Vec<String>,
    /// Variables beside the few that every command needs.
    pub environment: BTreeMap<String, String>,
    /// The names of variables of the provider's own environment that it gets too; `*` at the end stands for any end.
    pub inherit: Vec<String>,
    /// Where it runs; where Terraform runs if left out.
    pub working_directory: Option<String>,
    /// When it is killed, with all its children.
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

/// A session that must go on when the colours change.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionCheck {
    /// The request that begins one, on the live colour.
    pub login: HttpCheck,
    /// The request that must be answered with its cookies, on the idle colour.
    pub check: HttpCheck,
}

/// Alarms that must not be on.
#[derive(Clone, Debug, PartialEq)]
pub struct AlarmCheck {
    /// Their names.
    pub names: Vec<String>,
    /// Whether one that lacks data passes.
    pub insufficient_data_passes: bool,
    /// Whether one that can't be read, or isn't there, passes.
    pub unreadable_passes: bool,
}

/// A number and where it shall be.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricCheck {
    /// Which number.
    pub metric: Metric,
    /// At most this.
    pub max: Option<f64>,
    /// At least this.
    pub min: Option<f64>,
    /// At most so many times what the live colour has at the same time.
    pub max_ratio_to_live: Option<f64>,
    /// Whether it must not be significantly larger than the live colour's, by a Mann-Whitney test of the points at this
    /// level.
    pub significance: Option<f64>,
    /// Below so many requests nothing can be said.
    pub min_requests: u64,
    /// Whether it passes where nothing could be said.
    pub inconclusive_passes: bool,
    /// Whether errors that the load balancer made itself count for the colour.
    pub load_balancer_errors: bool,
    /// The length of one point.
    pub period: Duration,
    /// How far back to look where no traffic was moved yet.
    pub window: Duration,
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

/// A metric-math expression over metrics of the user's.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricQuery {
    /// The expression; besides the metrics below it may use `requests`, `errors_4xx`, `errors_5xx`,
    /// `connection_errors` and `response_time` of the colour's target group.
    pub expression: String,
    /// By the id that the expression uses.
    pub metrics: BTreeMap<String, MetricSource>,
}

/// A metric of the user's.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricSource {
    /// Such as `MyApp`.
    pub namespace: String,
    /// Such as `Orders`.
    pub metric_name: String,
    /// `{color}` stands for the colour in the values.
    pub dimensions: BTreeMap<String, String>,
    /// Such as `Sum`, `Average` or `p99`.
    pub stat: String,
}

impl Metric {
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
        match self {
            Metric::ErrorRate => format!("{:.2} %", value * 100.0),
            Metric::Latency(_) => format!("{:.0} ms", value * 1000.0),
            Metric::Requests => format!("{value:.0}"),
            Metric::Query(_) => format!("{value:.4}"),
        }
    }
}

/// With the colour's name in the place of `{color}`.
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
        }
    }

    /// What must hold, as part of a sentence.
    pub fn words(&self, subject: &Subject) -> String {
        let color = &subject.color;
        match self {
            Check::Healthy(policy) => {
                let relative = match subject.live_group {
                    Some(_) => format!(" and {} % of the live colour's", policy.min_percent_of_live),
                    None => String::new(),
                };
                let zone = if policy.each_zone { ", in each of its zones" } else { "" };
                let plural = if policy.min_count == 1 { "" } else { "s" };
                format!("{color} has at least {} healthy target{plural}{relative}{zone}", policy.min_count)
            }
            Check::Http(check) => {
                format!("{color} answers {} {}", check.method, check.for_color(color).shown_url())
            }
            Check::Lambda(check) => format!("the function {} passes {color}", check.name()),
            Check::Command(check) => format!("{} passes {color}", check.shown()),
            Check::Session(_) => {
                format!(
                    "a session of {} goes on in {color}",
                    subject.live_color.as_deref().unwrap_or("the live colour")
                )
            }
            Check::Alarms(check) => format!("no alarm is on ({})", check.names.join(", ")),
            Check::Metric(check) => check.words(color),
        }
    }
}

impl MetricCheck {
    /// The limits, as part of a sentence.
    pub fn words(&self, color: &str) -> String {
        let mut limits = Vec::new();
        limits.extend(self.max.map(|max| format!("at most {}", self.metric.shown(max))));
        limits.extend(self.min.map(|min| format!("at least {}", self.metric.shown(min))));
        limits.extend(self.max_ratio_to_live.map(|ratio| format!("at most {ratio} times the live colour's")));
        limits.extend(self.significance.map(|_| "not significantly above the live colour's".to_owned()));
        format!("{} of {color} is {}", self.metric.name(), limits.join(" and "))
    }
}

impl Checking {
    /// In words.
    pub fn words(&self) -> String {
        self.check.words(&self.subject)
    }

    /// Where it was written: `validation.http[0]`.
    pub fn place(&self) -> String {
        let block = self.block.name();
        let index = self.index.map(|index| format!("[{index}]")).unwrap_or_default();
        format!("{block}.{}{index}", self.check.attribute())
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
    /// The load balancer's dimension in CloudWatch, such as `app/web/49ea1cb665d534d9`.
    pub fn load_balancer_dimension(&self) -> Option<String> {
        let resource = self.route.as_deref()?.splitn(6, ':').nth(5)?;
        let mut parts = resource.split('/');
        let (kind, a, b, c) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        matches!(kind, "listener" | "listener-rule").then(|| format!("{a}/{b}/{c}"))
    }

    /// A target group's dimension in CloudWatch: `targetgroup/name/id`.
    pub fn group_dimension(group: &str) -> Option<&str> {
        group.splitn(6, ':').nth(5).filter(|resource| resource.starts_with("targetgroup/"))
    }

    /// What is measured by, for people.
    pub fn live_name(&self) -> String {
        self.live_color
            .clone()
            .or_else(|| self.live_group.as_deref().map(short))
            .unwrap_or_else(|| "nothing".to_owned())
    }
}
