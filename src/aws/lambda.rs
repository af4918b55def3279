//! Functions that check a color.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::primitives::Blob;

use super::connection::Connection;
use super::error::call_error;
use crate::rollout::LambdaCheck;
use crate::rollout::gate::FunctionAnswer;
use crate::run::ports::{FailureKind, PortError};
use crate::run::rollout::ports::Functions;
use crate::secrets;

/// As much of an answer as a person reads.
const SHOWN_CHARS: usize = 500;

pub(super) struct Lambda {
    connection: Arc<Connection>,
}

impl Lambda {
    pub(super) fn new(connection: Arc<Connection>) -> Lambda {
        Lambda { connection }
    }
}

#[async_trait]
impl Functions for Lambda {
    async fn invoke(&self, check: &LambdaCheck, payload: &str) -> Result<FunctionAnswer, PortError> {
        let call = self.connection.lambda().await?.invoke().function_name(&check.function_name);
        let call = call.set_qualifier(check.qualifier.clone()).payload(Blob::new(payload));
        // A function works for longer than a control plane, and its caller waits for as long as the check allows.
        let patience = TimeoutConfig::builder().operation_attempt_timeout(check.timeout).read_timeout(check.timeout);
        let mut there = aws_sdk_lambda::config::Builder::new().timeout_config(patience.build());
        // A function is found in its own region only.
        if let Some(region) = super::region_of(&check.function_name) {
            there = there.region(region);
        }
        let answer = call.customize().config_override(there).send().await;
        let answer = answer.map_err(|error| {
            let error = call_error("lambda", &format!("Invoke {}", check.name()), &error);
            // "Gone" is nothing that a check could live with.
            PortError { kind: FailureKind::Other, ..error }
        })?;
        let text = answer.payload().map(|payload| String::from_utf8_lossy(payload.as_ref()).into_owned());
        let text = text.unwrap_or_default();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let word = |name: &str| json.get(name).and_then(|value| value.as_str()).map(str::to_owned);
        Ok(FunctionAnswer {
            error: answer.function_error().map(secrets::outside),
            payload: secrets::beginning(text.trim(), false, SHOWN_CHARS),
            status: word("hookStatus").or_else(|| word("status")),
            call_back: json.get("callBackDelay").and_then(serde_json::Value::as_u64).map(Duration::from_secs),
        })
    }
}
