//! Requests to a colour, as the HTTP checks of a switch ask for them.

use std::time::Duration;

use async_trait::async_trait;
use regex::Regex;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::error::chain;
use super::http::install_tls;
use crate::rollout::HttpCheck;
use crate::rollout::gate::HttpAnswer;
use crate::run::ports::{FailureKind, HttpProbe, PortError};

/// A server that does not even accept in this time is not up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// More of a body is not read: a check looks at a health page, not at a download.
const BODY_LIMIT: usize = 1024 * 1024;
/// As much of a body as a person reads in an error.
const EXCERPT_CHARS: usize = 200;

pub(super) struct Probe {
    client: OnceCell<reqwest::Client>,
}

impl Probe {
    pub(super) fn new() -> Probe {
        Probe { client: OnceCell::new() }
    }
}

#[async_trait]
impl HttpProbe for Probe {
    async fn probe(&self, check: &HttpCheck) -> Result<HttpAnswer, PortError> {
        let fail = |text: String| PortError::new(FailureKind::Other, text);
        let client = self.client.get_or_try_init(|| async { check_client() }).await.map_err(fail)?;
        let said = |what: String| fail(format!("{} {}: {what}", check.method, check.shown_url()));
        let method = reqwest::Method::from_bytes(check.method.as_bytes()).map_err(|error| said(error.to_string()))?;
        let pattern =
            check.body_matches.as_deref().map(Regex::new).transpose().map_err(|error| said(error.to_string()))?;
        let mut request = client.request(method, &check.url).timeout(check.timeout);
        for (name, value) in &check.headers {
            request = request.header(name, value);
        }
        let start = Instant::now();
        let mut response = request.send().await.map_err(|error| said(reason(&error, check)))?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| said(reason(&error, check)))? {
            body.extend_from_slice(&part);
            if body.len() >= BODY_LIMIT {
                break;
            }
        }
        let latency = start.elapsed();
        let text = String::from_utf8_lossy(&body);
        let matches = pattern.map(|pattern| pattern.is_match(&text));
        let excerpt = text.trim().chars().take(EXCERPT_CHARS).collect();
        Ok(HttpAnswer { status, latency, excerpt, matches })
    }
}

/// Without the address, which the caller names, and with the limit where that was the reason.
fn reason(error: &reqwest::Error, check: &HttpCheck) -> String {
    if error.is_timeout() {
        return format!("no answer within {}", humantime::format_duration(check.timeout));
    }
    let cause = std::error::Error::source(error);
    cause.map_or_else(|| "the request can't be made".to_owned(), chain)
}

/// A pool for requests of our own that are not AWS calls.
fn check_client() -> Result<reqwest::Client, String> {
    install_tls();
    let builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("terraform-provider-bluegreen/", env!("CARGO_PKG_VERSION")));
    builder.build().map_err(|error| format!("failed to set up an HTTP client: {}", chain(&error)))
}
