//! Judgements: samples and a policy in, a verdict with its reason out.

use super::intent::HealthyPolicy;

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
        self.state == "healthy"
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
