//! What the user wants, free of Terraform and of AWS.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The whole wish for one switch.
#[derive(Clone, Debug, PartialEq)]
pub struct Intent {
    /// The colour that shall be live.
    pub active: String,
    /// The colours by name, two to five.
    pub environments: BTreeMap<String, Environment>,
    /// Where traffic comes from, in the order of the configuration.
    pub routes: Vec<RouteSpec>,
    /// Routes that always lead to the idle colour.
    pub preview_routes: Vec<RouteSpec>,
    /// The name of the SSM parameter that holds the live colour.
    pub record: Option<String>,
    /// What must hold before a colour goes live.
    pub validation: Validation,
}

/// One colour.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Environment {
    /// The ARN of its target group.
    pub target_group_arn: String,
    /// What runs there, in the user's words.
    pub release: Option<String>,
}

/// A place on a load balancer that forwards to the colours.
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
    },
}

impl RouteSpec {
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
            RouteSpec::OwnRule { listener, priority, .. } => {
                write!(f, "rule {priority} of listener {}", short(listener))
            }
        }
    }
}

/// The part of an ARN that a person tells resources apart by.
pub fn short(arn: &str) -> &str {
    arn.splitn(6, ':').nth(5).map_or(arn, |resource| {
        ["listener-rule/", "listener/", "targetgroup/"]
            .iter()
            .find_map(|kind| resource.strip_prefix(kind))
            .unwrap_or(resource)
    })
}

/// What a request must match to take a rule. A request matches if it matches every kind that is not empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Conditions {
    /// Any of these host names; `*` and `?` are wildcards.
    pub host_headers: Vec<String>,
    /// Any of these paths; `*` and `?` are wildcards.
    pub path_patterns: Vec<String>,
    /// Any of these methods.
    pub http_request_methods: Vec<String>,
    /// Any of these source networks in CIDR notation.
    pub source_ips: Vec<String>,
    /// For each header, any of its values.
    pub http_headers: BTreeMap<String, Vec<String>>,
    /// For each key, its value.
    pub query_strings: BTreeMap<String, String>,
}

/// What must hold before a colour goes live.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Validation {
    /// How many of its targets must be healthy.
    pub healthy: HealthyPolicy,
    /// Requests that must be answered as described.
    pub http: Vec<HttpCheck>,
}

/// How many targets of the colour to go live must be healthy.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthyPolicy {
    /// At least this many.
    pub min_count: u32,
    /// At least this percentage of the number of healthy targets of the live colour.
    pub min_percent_of_live: u32,
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
            timeout: Duration::from_secs(300),
            interval: Duration::from_secs(5),
        }
    }
}

/// A request and what its answer must be.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpCheck {
    /// The address; `{color}` was already replaced.
    pub url: String,
    /// The method, `GET` unless said otherwise.
    pub method: String,
    /// Headers to send.
    pub headers: BTreeMap<String, String>,
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
