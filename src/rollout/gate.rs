//! Judgements: samples and a policy in, a verdict with its reason out.

use std::time::Duration;

use super::check::{AlarmCheck, CountsAs, HealthyPolicy, HttpCheck};

/// A judgement.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It holds.
    Pass,
    /// Not yet; it may still come. Says what was seen.
    Pending(String),
    /// It does not hold. Says what was seen.
    Fail(String),
    /// Nothing can be said. Says why.
    Inconclusive(String),
}

/// A target of a group as the load balancer sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetHealth {
    /// The target's id and port.
    pub target: String,
    /// AWS's state: `healthy`, `unhealthy`, `initial`, `draining`, `unused`, `unavailable`.
    pub state: String,
    /// AWS's reason and description, if it gave any.
    pub reason: Option<String>,
    /// The Availability Zone, where it was asked for and is known.
    pub zone: Option<String>,
}

impl TargetHealth {
    /// Whether the load balancer sends requests to it as a matter of course.
    pub fn is_healthy(&self) -> bool {
        // Groups whose health checks are off (the default for Lambda functions) have no other state to offer.
        let unchecked = self.reason.as_deref().is_some_and(|reason| reason.starts_with("Target.HealthCheckDisabled"));
        self.state == "healthy" || (self.state == "unavailable" && unchecked)
    }
}

/// Whether a color can carry the traffic: enough healthy targets, absolutely and beside the live color.
pub fn healthy(
    color: &str,
    targets: &[TargetHealth],
    live: Option<&[TargetHealth]>,
    policy: &HealthyPolicy,
) -> Verdict {
    let healthy = targets.iter().filter(|target| target.is_healthy()).count() as u64;
    let live_healthy = live.map(|live| live.iter().filter(|target| target.is_healthy()).count() as u64);
    let relative = live_healthy.map_or(0, |count| (count * u64::from(policy.min_percent_of_live)).div_ceil(100));
    let needed = relative.max(u64::from(policy.min_count));
    let lacking = if policy.each_zone { zones_without(targets, live.unwrap_or_default()) } else { Vec::new() };
    if healthy >= needed && lacking.is_empty() {
        return Verdict::Pass;
    }
    let mut text =
        format!("{color} has {healthy} healthy of {} registered targets, {needed} are needed", targets.len());
    if !lacking.is_empty() {
        text.push_str(&format!("; none is healthy in {}, where the live color has some", lacking.join(" and ")));
    }
    if let Some(count) = live_healthy.filter(|_| relative > u64::from(policy.min_count)) {
        text.push_str(&format!(" ({} % of the live color's {count})", policy.min_percent_of_live));
    }
    for target in targets.iter().filter(|target| !target.is_healthy()).take(10) {
        text.push_str(&format!("\n  {}: {}", target.target, target.state));
        if let Some(reason) = &target.reason {
            text.push_str(&format!(" ({reason})"));
        }
    }
    Verdict::Pending(text)
}

/// The zones in which the live color has a healthy target and this one has none.
fn zones_without<'t>(targets: &[TargetHealth], live: &'t [TargetHealth]) -> Vec<&'t str> {
    let has = |zone: &str| targets.iter().any(|target| target.is_healthy() && target.zone.as_deref() == Some(zone));
    let mut zones: Vec<&str> =
        live.iter().filter(|target| target.is_healthy()).filter_map(|target| target.zone.as_deref()).collect();
    zones.sort_unstable();
    zones.dedup();
    zones.retain(|zone| !has(zone));
    zones
}

/// An alarm as CloudWatch has it.
#[derive(Clone, Debug, PartialEq)]
pub struct AlarmState {
    /// Its name.
    pub name: String,
    /// `OK`, `ALARM` or `INSUFFICIENT_DATA`; none if there is no such alarm.
    pub state: Option<String>,
    /// Why, in CloudWatch's words.
    pub reason: Option<String>,
    /// How long something has to last at least before it goes off: its period, as often as it has to be beyond the threshold. None
    /// for a composite alarm.
    pub least: Option<Duration>,
}

/// Whether no alarm is on.
pub fn alarms(check: &AlarmCheck, seen: &[AlarmState]) -> Verdict {
    let mut wrong = Vec::new();
    for alarm in seen {
        let reason = alarm.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        match alarm.state.as_deref() {
            Some("OK") => {}
            Some("INSUFFICIENT_DATA") if check.policy.insufficient_data == CountsAs::Pass => {}
            Some(state) => wrong.push(format!("the alarm {} is {state}{reason}", alarm.name)),
            None if check.policy.unreadable == CountsAs::Pass => {}
            None => wrong.push(format!("there is no alarm {}", alarm.name)),
        }
    }
    if wrong.is_empty() { Verdict::Pass } else { Verdict::Fail(wrong.join("; ")) }
}

/// What a function answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FunctionAnswer {
    /// `Handled` or `Unhandled`, if it failed.
    pub error: Option<String>,
    /// What it returned, for people.
    pub payload: String,
    /// The `status` or `hookStatus` in it.
    pub status: Option<String>,
    /// The `callBackDelay` in it.
    pub call_back: Option<Duration>,
}

/// What a function's answer means. A function that is not done says so with a `status` of `pending`, `running` or
/// `in_progress`, or, as one that was made for the deployments of ECS, with a `hookStatus` of `IN_PROGRESS`; it is asked
/// again, after `callBackDelay` seconds if it says so.
pub fn function(name: &str, answer: &FunctionAnswer) -> FunctionVerdict {
    let shown = &answer.payload;
    if let Some(error) = &answer.error {
        return FunctionVerdict::Failed(format!("the function {name} failed ({error}): {shown}"));
    }
    match answer.status.as_deref().unwrap_or_default().to_ascii_lowercase().as_str() {
        "pending" | "running" | "in_progress" | "inprogress" => FunctionVerdict::AskAgain(answer.call_back),
        "failed" | "failure" | "error" => FunctionVerdict::Failed(format!("the function {name} says: {shown}")),
        _ => FunctionVerdict::Passed,
    }
}

/// What a function's answer means.
#[derive(Clone, Debug, PartialEq)]
pub enum FunctionVerdict {
    /// It passes.
    Passed,
    /// It fails, in these words.
    Failed(String),
    /// It isn't done; after this time, if it named one.
    AskAgain(Option<Duration>),
}

/// What came of one request.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpAnswer {
    /// The status code.
    pub status: u16,
    /// The time to the end of the answer.
    pub latency: Duration,
    /// The body as text, cut to what a person reads.
    pub excerpt: String,
    /// Whether the body matches the check's expression; none if it has none.
    pub matches: Option<bool>,
    /// The headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body as text, as far as it was read.
    pub body: String,
}

impl HttpAnswer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The cookies that it sets, without those by which load balancers keep a client at a target.
    pub fn cookies(&self) -> Vec<(String, String)> {
        let set = self.headers.iter().filter(|(name, _)| name == "set-cookie");
        let pairs = set.filter_map(|(_, value)| value.split(';').next()?.split_once('='));
        let own = pairs.filter(|(name, _)| !name.trim().starts_with("AWSALB") && !name.trim().starts_with("AWSELB"));
        own.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect()
    }
}

/// Whether an answer is what the check asks for. What is wrong with it is told with what was seen.
pub fn http(check: &HttpCheck, answer: &HttpAnswer) -> Verdict {
    let mut wrong = Vec::new();
    let fits = check.status.contains(&answer.status);
    if !fits {
        let wanted = check.status.iter().map(u16::to_string).collect::<Vec<_>>().join(" or ");
        wrong.push(format!("status {} instead of {wanted}", answer.status));
    }
    if answer.matches == Some(false) {
        wrong.push(format!("the body does not match {:?}", check.body_matches.as_deref().unwrap_or_default()));
    }
    if let Some(limit) = check.max_latency.filter(|limit| answer.latency > *limit) {
        wrong.push(format!("it took {} ms, {} ms are allowed", answer.latency.as_millis(), limit.as_millis()));
    }
    if wrong.is_empty() {
        return Verdict::Pass;
    }
    let body =
        if answer.excerpt.is_empty() { String::new() } else { format!("; the body begins {:?}", answer.excerpt) };
    let status = if fits { format!("status {}, but ", answer.status) } else { String::new() };
    let wrong = wrong.join(" and ");
    Verdict::Pending(format!("{} {} answered with {status}{wrong}{body}", check.method, check.shown_url()))
}
