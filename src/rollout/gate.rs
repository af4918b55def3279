//! Judgements: samples and a policy in, a verdict with its reason out.

use std::time::Duration;

use super::intent::{HealthyPolicy, HttpCheck};

/// A judgement.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It holds.
    Pass,
    /// Not yet; it may still come. Says what was seen.
    Pending(String),
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
}

impl TargetHealth {
    /// Whether the load balancer sends requests to it as a matter of course.
    pub fn is_healthy(&self) -> bool {
        // Groups whose health checks are off (the default for Lambda functions) have no other state to offer.
        let unchecked = self.reason.as_deref().is_some_and(|reason| reason.starts_with("Target.HealthCheckDisabled"));
        self.state == "healthy" || (self.state == "unavailable" && unchecked)
    }
}

/// Whether a colour can carry the traffic: enough healthy targets, absolutely and beside the live colour.
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
    if healthy >= needed {
        return Verdict::Pass;
    }
    let mut text =
        format!("{color} has {healthy} healthy of {} registered targets, {needed} are needed", targets.len());
    if let Some(count) = live_healthy.filter(|_| relative > u64::from(policy.min_count)) {
        text.push_str(&format!(" ({} % of the live colour's {count})", policy.min_percent_of_live));
    }
    for target in targets.iter().filter(|target| !target.is_healthy()).take(10) {
        text.push_str(&format!("\n  {}: {}", target.target, target.state));
        if let Some(reason) = &target.reason {
            text.push_str(&format!(" ({reason})"));
        }
    }
    Verdict::Pending(text)
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
}

/// Whether an answer is what the check asks for. What is wrong with it is told with what was seen.
pub fn http(check: &HttpCheck, answer: &HttpAnswer) -> Verdict {
    let mut wrong = Vec::new();
    if !check.status.contains(&answer.status) {
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
    Verdict::Pending(format!("{} {} answered with {}{body}", check.method, check.shown_url(), wrong.join(" and ")))
}
