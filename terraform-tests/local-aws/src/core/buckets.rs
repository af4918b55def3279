//! How many calls AWS takes: a bucket of tokens for each account, region and kind of call, which fills up again all the time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::core::aws_call::AwsCall;

/// Calls that share a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    /// Every read of the load balancers.
    Balancers,
    /// Reads of parameters by name or path.
    Parameters,
    /// Writes of parameters.
    ParameterWrites,
    /// Reads of metrics.
    Metrics,
}

impl Kind {
    fn of(call: &AwsCall) -> Option<Self> {
        match (call.service.as_str(), call.operation.as_str()) {
            ("elasticloadbalancing", _) if !call.mutating => Some(Self::Balancers),
            ("ssm", "GetParameter" | "GetParameters" | "GetParametersByPath") => Some(Self::Parameters),
            ("ssm", "PutParameter") => Some(Self::ParameterWrites),
            ("monitoring", "GetMetricData") => Some(Self::Metrics),
            _ => None,
        }
    }

    /// How many tokens a full bucket has, and how many are added in a second. Where AWS tells only a rate, the bucket holds
    /// what comes in a second.
    const fn figures(self) -> (f64, f64) {
        match self {
            Self::Balancers => (40.0, 10.0),
            Self::Parameters => (40.0, 40.0),
            Self::ParameterWrites => (3.0, 3.0),
            Self::Metrics => (50.0, 50.0),
        }
    }
}

/// Of an account, of a region, of a kind of call.
type Of = (String, String, Kind);

/// All buckets; they begin full.
#[derive(Debug)]
pub(crate) struct Buckets {
    /// How many seconds of AWS's go by in one of ours.
    pace: f64,
    /// What is in each, as of when.
    tokens: Mutex<HashMap<Of, (f64, Instant)>>,
}

impl Buckets {
    pub(crate) fn new(pace: f64) -> Self {
        Self { pace, tokens: Mutex::default() }
    }

    /// Takes a token for a call of an account; whether there was one, or none is needed.
    pub(crate) fn take(&self, account: &str, call: &AwsCall, now: Instant) -> bool {
        let (Some(kind), Some(scope)) = (Kind::of(call), &call.scope) else { return true };
        let (most, a_second) = kind.figures();
        let mut buckets = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, since) =
            buckets.entry((account.to_owned(), scope.region.clone(), kind)).or_insert_with(|| (most, now));
        *tokens = now.duration_since(*since).as_secs_f64().mul_add(a_second * self.pace, *tokens).min(most);
        *since = now;
        let has_one = *tokens >= 1.0;
        if has_one {
            *tokens -= 1.0;
        }
        has_one
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::moto::Scope;

    fn call(operation: &str, region: &str) -> AwsCall {
        let service = if operation.ends_with("Parameter") { "ssm" } else { "elasticloadbalancing" };
        let scope = Scope { access_key: "key".to_owned(), region: region.to_owned() };
        let mut call = AwsCall::named(service, operation, serde_json::Value::Null);
        call.scope = Some(scope);
        call
    }

    #[test]
    fn buckets_empty_and_fill_again() {
        let (buckets, begin) = (Buckets::new(1.0), Instant::now());
        let taken = |account: &str, operation: &str, region: &str, at: u64| {
            let now = begin + Duration::from_secs(at);
            (0..100).filter(|_| buckets.take(account, &call(operation, region), now)).count()
        };
        assert_eq!(taken("1", "DescribeRules", "eu-central-1", 0), 40);
        // All reads share one; another region, another account and what changes something have their own.
        assert_eq!(taken("1", "DescribeTags", "eu-central-1", 0), 0);
        assert_eq!(taken("1", "DescribeTags", "eu-west-1", 0), 40);
        assert_eq!(taken("2", "DescribeTags", "eu-central-1", 0), 40);
        assert_eq!(taken("1", "ModifyRule", "eu-central-1", 0), 100);
        assert_eq!((taken("1", "PutParameter", "a", 0), taken("1", "GetParameter", "a", 0)), (3, 40));
        assert_eq!((taken("1", "DescribeRules", "eu-central-1", 1), taken("1", "PutParameter", "a", 1)), (10, 3));
        assert_eq!(taken("1", "DescribeRules", "eu-central-1", 60), 40);
    }
}
