//! Lambda functions that answer as they are told: moto runs none without containers.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use hyper::body::Bytes;
use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};

use crate::core::aws_call::AwsCall;

/// All functions, by name, with what they are still to answer.
#[derive(Debug, Default)]
pub(crate) struct Functions(Mutex<HashMap<String, Vec<String>>>);

impl Functions {
    pub(crate) fn set(&self, name: &str, answers: &[&str]) {
        let answers = answers.iter().map(|answer| (*answer).to_owned()).collect();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), answers);
    }

    /// The answer of an invocation; `None`: it is no invocation.
    pub(crate) fn answer(&self, call: &AwsCall) -> Option<Response<Bytes>> {
        let path = call.operation.strip_prefix("POST /2015-03-31/functions/")?;
        let name = path.strip_suffix("/invocations")?;
        let mut functions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(answers) = functions.get_mut(name) else {
            let message = format!("Function not found: {name}");
            let mut response = call.refuse("ResourceNotFoundException", &message);
            *response.status_mut() = StatusCode::NOT_FOUND;
            return Some(response);
        };
        let answer = if answers.len() > 1 { answers.remove(0) } else { answers.first().cloned().unwrap_or_default() };
        let error = answer.strip_prefix('!').map(str::to_owned);
        let mut response = Response::new(Bytes::from(error.clone().unwrap_or(answer)));
        if error.is_some() {
            response.headers_mut().insert("x-amz-function-error", HeaderValue::from_static("Unhandled"));
        }
        Some(response)
    }
}
