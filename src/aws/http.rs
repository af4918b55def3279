//! The SDK's HTTP client on reqwest: one TLS stack and one place for proxies, CA bundles and timeouts.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;

use super::error::chain;
use super::settings::Settings;

/// Idle connections are dropped before AWS's load balancers drop them (60 s by default).
const IDLE_LIMIT: Duration = Duration::from_secs(50);

/// Makes ring the process's TLS provider; a second call changes nothing.
pub(super) fn install_tls() {
    drop(rustls::crypto::ring::default_provider().install_default());
}

/// With the proxies and the certificate authorities of the provider block.
pub(super) fn on_network(
    mut builder: reqwest::ClientBuilder,
    settings: &Settings,
) -> Result<reqwest::ClientBuilder, String> {
    if let Some(path) = &settings.custom_ca_bundle {
        let pem = std::fs::read(path).map_err(|error| format!("failed to read custom_ca_bundle {path}: {error}"))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem)
            .map_err(|error| format!("failed to read custom_ca_bundle {path}: {}", chain(&error)))?;
        for certificate in certificates {
            builder = builder.add_root_certificate(certificate);
        }
    }
    let no_proxy = settings.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
    let proxies = [
        (settings.http_proxy.as_deref(), reqwest::Proxy::http as fn(String) -> _),
        (settings.https_proxy.as_deref().or(settings.http_proxy.as_deref()), reqwest::Proxy::https),
    ];
    for (url, make) in proxies {
        let Some(url) = url else { continue };
        let proxy = make(url.to_owned()).map_err(|error| format!("failed to use a proxy: {}", chain(&error)))?;
        builder = builder.proxy(proxy.no_proxy(no_proxy.clone()));
    }
    Ok(builder)
}

#[derive(Clone, Debug)]
pub(super) struct SdkHttp(reqwest::Client);

impl SdkHttp {
    pub(super) fn new(settings: &Settings, connect_timeout: Duration) -> Result<SdkHttp, String> {
        install_tls();
        let builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(connect_timeout)
            .pool_idle_timeout(IDLE_LIMIT)
            .danger_accept_invalid_certs(settings.insecure);
        let builder = on_network(builder, settings)?;
        let client = builder.build().map_err(|error| format!("failed to set up HTTP: {}", chain(&error)))?;
        Ok(SdkHttp(client))
    }
}

impl HttpClient for SdkHttp {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for SdkHttp {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        HttpConnectorFuture::new(async move {
            let request = outgoing(request)?;
            let response = client.execute(request).await.map_err(failed)?;
            incoming(response).await
        })
    }
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

async fn incoming(response: reqwest::Response) -> Result<HttpResponse, ConnectorError> {
    let status =
        StatusCode::try_from(response.status().as_u16()).map_err(|error| ConnectorError::other(error.into(), None))?;
    let headers = response.headers().clone();
    let body = response.bytes().await.map_err(|error| ConnectorError::io(Box::new(BrokenAnswer(error))))?;
    let mut out = HttpResponse::new(status, SdkBody::from(body.to_vec()));
    for (name, value) in &headers {
        if let Ok(value) = value.to_str() {
            out.headers_mut().append(name.as_str().to_owned(), value.to_owned());
        }
    }
    Ok(out)
}

/// An answer that broke off in its middle: whatever was asked for was done, or refused.
#[derive(Debug)]
struct BrokenAnswer(reqwest::Error);

impl fmt::Display for BrokenAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer broke off")
    }
}

impl Error for BrokenAnswer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

/// Whether an answer began before the connection failed.
pub(super) fn was_answered(error: &ConnectorError) -> bool {
    causes(error).any(|cause| cause.is::<BrokenAnswer>())
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
fn failed(error: reqwest::Error) -> ConnectorError {
    if error.is_timeout() {
        ConnectorError::timeout(error.into())
    } else if error.is_builder() {
        ConnectorError::user(error.into())
    } else {
        ConnectorError::io(error.into())
    }
}
