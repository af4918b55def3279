//! The log of AWS calls that passed through the front.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use crate::core::aws_call::AwsCall;

/// The oldest calls are forgotten beyond this.
const KEPT: usize = 20_000;

/// One logged call.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Call {
    /// Its number, from 1, in the order of arrival.
    pub n: u64,
    /// The service as signed.
    pub service: String,
    /// The operation.
    pub operation: String,
    /// The region as signed.
    pub region: Option<String>,
    /// Whether it changes something, judged by its name.
    pub mutating: bool,
    /// When it arrived, in milliseconds since the start.
    pub at_ms: u64,
    /// The status that the caller got; `None` as long as there is none, and when the answer was withheld.
    pub status: Option<u16>,
    /// The status that moto answered; `None` when the call was never passed on.
    pub moto_status: Option<u16>,
    /// The fault that hit it.
    pub fault: Option<u64>,
    /// The form's fields or the JSON body.
    pub params: Value,
}

#[derive(Debug)]
pub(crate) struct CallLog {
    started: Instant,
    state: Mutex<(u64, VecDeque<Call>)>,
}

impl CallLog {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), state: Mutex::default() }
    }

    /// Notes that a call arrived; its number is for [`Self::end`].
    pub(crate) fn begin(&self, call: &AwsCall, fault: Option<u64>) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 += 1;
        let n = state.0;
        state.1.push_back(Call {
            n,
            service: call.service.clone(),
            operation: call.operation.clone(),
            region: call.scope.as_ref().map(|scope| scope.region.clone()),
            mutating: call.mutating,
            at_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            status: None,
            moto_status: None,
            fault,
            params: call.parameters.clone(),
        });
        if state.1.len() > KEPT {
            state.1.pop_front();
        }
        n
    }

    pub(crate) fn end(&self, n: u64, status: Option<u16>, moto_status: Option<u16>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = state.1.iter_mut().rev().find(|call| call.n == n) {
            (call.status, call.moto_status) = (status, moto_status);
        }
    }

    pub(crate) fn list(&self) -> Vec<Call> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1.iter().cloned().collect()
    }

    /// Empties the log; the numbers go on.
    pub(crate) fn clear(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1.clear();
    }
}
