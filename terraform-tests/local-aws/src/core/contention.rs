//! Changes that AWS refuses because another one of the same thing is under way, and takes a moment later.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use hyper::{Response, StatusCode};

use crate::core::aws_call::AwsCall;
use crate::core::serve::Body;

/// A change is refused once in so many times, by seed, and never twice in a row.
const ONCE_IN: u32 = 4;

/// A refusal: status, code and words.
type Refusal = (u16, &'static str, &'static str);

const CONTENTION: Refusal =
    (500, "ResourceContention", "You already have a pending update to an Amazon EC2 Auto Scaling resource");
const SCALING: Refusal = (400, "ScalingActivityInProgress", "Scaling activity is in progress for this group");
const UPDATES: Refusal =
    (400, "TooManyUpdates", "There are concurrent updates for a resource that supports one update at a time");
const CONCURRENT: Refusal = (
    400,
    "ConcurrentUpdateException",
    "Concurrent updates caused an exception, for example, if you request an update to an Application Auto Scaling resource that already has a pending update",
);

/// What the service models say that these calls are refused with.
fn refusals(call: &AwsCall) -> &'static [Refusal] {
    match (call.service.as_str(), call.operation.as_str()) {
        ("autoscaling", "SetDesiredCapacity" | "UpdateAutoScalingGroup") => &[CONTENTION, SCALING],
        ("autoscaling", "DeleteAutoScalingGroup") => &[CONTENTION, SCALING],
        (
            "autoscaling",
            "AttachLoadBalancerTargetGroups"
            | "CreateAutoScalingGroup"
            | "CreateOrUpdateTags"
            | "DeleteTags"
            | "StartInstanceRefresh",
        ) => &[CONTENTION],
        ("ssm", "LabelParameterVersion" | "PutParameter") => &[UPDATES],
        ("application-autoscaling", "RegisterScalableTarget") => &[CONCURRENT],
        _ => &[],
    }
}

/// Who was refused last.
#[derive(Debug)]
pub(crate) struct Contention {
    random: Mutex<fastrand::Rng>,
    /// Operations whose last call was refused: the next one passes.
    refused: Mutex<HashSet<(String, String)>>,
}

impl Contention {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Mutex::new(fastrand::Rng::with_seed(seed)), refused: Mutex::default() }
    }

    /// The refusal of a call where another change is under way; `None`: it goes on.
    pub(crate) fn refuse(&self, call: &AwsCall) -> Option<Response<Body>> {
        let of = refusals(call);
        if of.is_empty() {
            return None;
        }
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let mut random = self.random.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (call.service.clone(), call.operation.clone());
        if refused.remove(&key) || random.u32(..ONCE_IN) > 0 {
            return None;
        }
        refused.insert(key);
        let (status, code, words) = of[random.usize(..of.len())];
        Some(call.error(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), code, words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_refused_now_and_then_and_never_twice_in_a_row() {
        let contention = Contention::new(1);
        let refused = |service: &str, operation: &str| {
            let call = AwsCall::named(service, operation, serde_json::Value::Null);
            let answers: Vec<bool> = (0..400).map(|_| contention.refuse(&call).is_some()).collect();
            assert!(!answers.windows(2).any(|pair| pair[0] && pair[1]));
            answers.into_iter().filter(|refused| *refused).count()
        };
        for (service, operation) in
            [("ssm", "PutParameter"), ("autoscaling", "UpdateAutoScalingGroup"), ("autoscaling", "DeleteTags")]
        {
            assert!((40..120).contains(&refused(service, operation)), "{operation}");
        }
        for (service, operation) in
            [("ssm", "GetParameter"), ("elasticloadbalancing", "ModifyListener"), ("ecs", "UpdateService")]
        {
            assert_eq!(refused(service, operation), 0, "{operation}");
        }
    }
}
