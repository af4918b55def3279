//! The SDK's HTTP client on reqwest: one TLS stack and one place for proxies, CA bundles and timeouts.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;

use crate::cancel::Cancel;
use crate::network::{chain, install_tls, on_network};
use crate::run::call::Call;
use crate::secrets;
use crate::settings::Settings;

/// Idle connections are dropped before AWS's load balancers drop them (60 s by default).
const IDLE_LIMIT: Duration = Duration::from_secs(50);

/// How long an answer to a read that is under way is waited for once the run was stopped.
const LAST_ANSWERS: Duration = Duration::from_millis(400);
/// How long a connection is silent before its other end is asked whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// More than any answer of the calls made here: what a function returns has at most 6 MiB, everything else far less.
const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;

#[derive(Clone, Debug)]
pub(super) struct SdkHttp {
    client: reqwest::Client,
    /// The hosts that ever took a connection: one that never did is hardly there.
    known: Arc<Mutex<BTreeSet<String>>>,
}

impl SdkHttp {
    pub(super) fn new(settings: &Settings, connect_timeout: Duration) -> Result<SdkHttp, String> {
        install_tls();
        let builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(connect_timeout)
            .pool_idle_timeout(IDLE_LIMIT)
            // A peer that vanished is noticed also between two calls.
            .tcp_keepalive(KEEPALIVE)
            .danger_accept_invalid_certs(settings.insecure);
        let builder = on_network(builder, settings)?;
        let client = builder.build().map_err(|error| format!("failed to set up HTTP: {}", chain(&error)))?;
        Ok(SdkHttp { client, known: Arc::default() })
    }

    /// Sends it, and remembers whether its host took the connection.
    async fn send(&self, request: reqwest::Request) -> Result<reqwest::Response, ConnectorError> {
        let url = request.url();
        let to = url.host_str().unwrap_or_default().to_owned();
        let host = format!("{to}:{}", url.port_or_known_default().unwrap_or_default());
        let known = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match self.client.execute(request).await {
            Ok(response) => {
                known().insert(host);
                Ok(response)
            }
            Err(error) => {
                let is_stranger = error.is_connect() && !known().contains(&host);
                Err(failed(&to, error, is_stranger))
            }
        }
    }
}

impl HttpClient for SdkHttp {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for SdkHttp {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let http = self.clone();
        HttpConnectorFuture::new(async move {
            let reads = is_read(&request);
            let request = outgoing(request)?;
            let work = async { incoming(http.send(request).await?).await };
            // A read that was begun before a stop tells nobody anything any more.
            match Call::current().as_ref().and_then(|call| call.stop()).filter(|stop| reads && !stop.is_cancelled()) {
                None => work.await,
                Some(stop) => tokio::select! {
                    answer = work => answer,
                    () = soon_after(stop) => Err(ConnectorError::user("the run was interrupted".into())),
                },
            }
        })
    }
}

/// When a stop counts for what is under way: an answer may be about to come.
async fn soon_after(stop: &Cancel) {
    stop.cancelled().await;
    tokio::time::sleep(LAST_ANSWERS).await;
}

/// Whether a request changes nothing, by the name of its operation.
fn is_read(request: &HttpRequest) -> bool {
    let of_target = request.headers().get("x-amz-target").and_then(|target| target.rsplit('.').next());
    let body = request.body().bytes().unwrap_or_default();
    let form = body.split(|byte| *byte == b'&').find_map(|pair| pair.strip_prefix(b"Action="));
    let name = of_target.or_else(|| std::str::from_utf8(form?).ok()).unwrap_or_default();
    is_name_of_read(name)
}

/// Whether an operation of this name changes nothing.
pub(super) fn is_name_of_read(name: &str) -> bool {
    ["Describe", "Get", "List"].iter().any(|read| name.starts_with(read))
}

fn outgoing(request: HttpRequest) -> Result<reqwest::Request, ConnectorError> {
    let user = |error: Box<dyn std::error::Error + Send + Sync>| ConnectorError::user(error);
    let method = reqwest::Method::from_bytes(request.method().as_bytes()).map_err(|error| user(error.into()))?;
    let url = reqwest::Url::parse(request.uri()).map_err(|error| user(error.into()))?;
    let mut out = reqwest::Request::new(method, url);
    for (name, value) in request.headers().iter() {
        let name = reqwest::header::HeaderName::from_bytes(name.as_bytes()).map_err(|error| user(error.into()))?;
        let value = reqwest::header::HeaderValue::from_str(value).map_err(|error| user(error.into()))?;
        out.headers_mut().append(name, value);
    }
    // Every body of the calls made here is in memory; the SDK streams only what it is given as a stream.
    if let Some(body) = request.body().bytes() {
        *out.body_mut() = Some(body.to_vec().into());
    }
    Ok(out)
}

async fn incoming(mut response: reqwest::Response) -> Result<HttpResponse, ConnectorError> {
    let status =
        StatusCode::try_from(response.status().as_u16()).map_err(|error| ConnectorError::other(error.into(), None))?;
    let headers = response.headers().clone();
    // No API of AWS's answers so: something stands between, or the address is another one.
    if let (true, Some(to)) = (response.status().is_redirection(), headers.get("location")) {
        let to = shown_address(&String::from_utf8_lossy(to.as_bytes()));
        return Err(ConnectorError::other(Box::new(BadAnswer::Redirect { status: status.as_u16(), to }), None));
    }
    if response.content_length().is_some_and(|length| length > MAX_ANSWER_BYTES as u64) {
        return Err(ConnectorError::other(Box::new(BadAnswer::TooLong), None));
    }
    let mut body = Vec::new();
    let broke_off = |error| ConnectorError::io(Box::new(BadAnswer::BrokeOff(error)));
    while let Some(part) = response.chunk().await.map_err(broke_off)? {
        if body.len() + part.len() > MAX_ANSWER_BYTES {
            return Err(ConnectorError::other(Box::new(BadAnswer::TooLong), None));
        }
        body.extend_from_slice(&part);
    }
    let mut out = HttpResponse::new(status, SdkBody::from(body));
    for (name, value) in &headers {
        if let Ok(value) = value.to_str() {
            out.headers_mut().append(name.as_str().to_owned(), value.to_owned());
        }
    }
    Ok(out)
}

/// An address without what may be secret in it.
fn shown_address(text: &str) -> String {
    let Ok(mut url) = reqwest::Url::parse(text) else {
        return secrets::outside(text.split(['?', '#']).next().unwrap_or_default());
    };
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    secrets::outside(url.as_str())
}

/// An answer that is none: whatever was asked for was done, or refused.
#[derive(Debug)]
enum BadAnswer {
    /// It ended in its middle.
    BrokeOff(reqwest::Error),
    /// It is longer than any that makes sense.
    TooLong,
    /// It leads elsewhere.
    Redirect { status: u16, to: String },
}

impl fmt::Display for BadAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadAnswer::BrokeOff(_) => f.write_str("the answer broke off"),
            BadAnswer::TooLong => write!(f, "the answer is longer than {} MiB", MAX_ANSWER_BYTES / 1024 / 1024),
            BadAnswer::Redirect { status, to } => write!(
                f,
                "the endpoint answered with a redirect ({status}) to {to}, which AWS never does: check endpoints, endpoint_url and the proxy"
            ),
        }
    }
}

impl Error for BadAnswer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            BadAnswer::BrokeOff(error) => Some(error),
            _ => None,
        }
    }
}

/// Whether an answer began before the connection failed.
pub(super) fn was_answered(error: &ConnectorError) -> bool {
    causes(error).any(|cause| cause.is::<BadAnswer>())
}

fn causes(error: &ConnectorError) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(Some(error as &(dyn Error + 'static)), |error: &&(dyn Error + 'static)| (*error).source())
}

/// Whether a request that failed never got to a server: nobody accepted the connection.
pub(super) fn never_left(error: &ConnectorError) -> bool {
    let of_client = causes(error).find_map(|cause| cause.downcast_ref::<reqwest::Error>());
    of_client.map_or(error.is_user(), |error| error.is_connect() || error.is_builder())
}

/// The SDK repeats what broke on the way, and not what was wrong before it left.
fn failed(to: &str, error: reqwest::Error, is_stranger: bool) -> ConnectorError {
    let (is_timeout, is_builder) = (error.is_timeout(), error.is_builder());
    // An address may have a password in it.
    let error = Box::new(Unreached { to: to.to_owned(), error: error.without_url(), is_stranger });
    if is_timeout {
        ConnectorError::timeout(error)
    } else if is_builder {
        ConnectorError::user(error)
    } else {
        ConnectorError::io(error)
    }
}

/// A request that came to nothing.
#[derive(Debug)]
struct Unreached {
    to: String,
    error: reqwest::Error,
    /// Whether nothing there ever took a connection.
    is_stranger: bool,
}

/// What went wrong on the way to a host that never took a connection, in words.
pub(super) fn stranger(error: &ConnectorError) -> Option<String> {
    let unreached = causes(error).find_map(|cause| cause.downcast_ref::<Unreached>())?;
    unreached.is_stranger.then(|| secrets::outside(&chain(unreached)))
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to reach {}", self.to)
    }
}

impl Error for Unreached {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}
