//! Credentials that end at a set moment.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use hyper::Response;
use tokio::time::Instant;

use crate::core::aws_call::AwsCall;
use crate::core::serve::Body;

/// When access keys end; those that aren't here never do.
#[derive(Debug, Default)]
pub(crate) struct Credentials {
    ends: Mutex<HashMap<String, Instant>>,
}

impl Credentials {
    pub(crate) fn end(&self, access_key: &str, at: Instant) {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).insert(access_key.to_owned(), at);
    }

    /// The refusal of a call whose credentials have ended; `None`: they count.
    pub(crate) fn refuse(&self, call: &AwsCall, now: Instant) -> Option<Response<Body>> {
        let access_key = &call.scope.as_ref()?.access_key;
        let ended =
            self.ends.lock().unwrap_or_else(PoisonError::into_inner).get(access_key).is_some_and(|at| *at <= now);
        ended.then(|| call.expired())
    }
}
