//! Requests to a color, as the HTTP checks of a switch ask for them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use regex::Regex;
use tokio::net::lookup_host;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::duration::shown;
use crate::network::{chain, install_tls, on_network};
use crate::rollout::HttpCheck;
use crate::rollout::gate::HttpAnswer;
use crate::run::ports::{FailureKind, PortError};
use crate::run::rollout::ports::HttpProbe;
use crate::secrets;
use crate::settings::Settings;

/// A server that does not even accept in this time is not up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// More of a body is not read: a check looks at a health page, not at a download.
const BODY_LIMIT: usize = 1024 * 1024;
/// As much of a body as a person reads in an error.
const EXCERPT_CHARS: usize = 200;

/// A client for HTTP checks.
pub struct Probe {
    settings: Option<Settings>,
    client: OnceCell<reqwest::Client>,
    insecure: OnceCell<reqwest::Client>,
    /// Those that connect elsewhere than the name says: reading the certificate authorities takes longer than a request.
    led: Mutex<HashMap<(String, SocketAddr, bool), reqwest::Client>>,
}

impl Probe {
    /// A client with the proxies and certificate authorities of the provider block.
    pub fn new(settings: Option<Settings>) -> Probe {
        Probe { settings, client: OnceCell::new(), insecure: OnceCell::new(), led: Mutex::default() }
    }

    fn builder(&self, insecure: bool) -> Result<reqwest::ClientBuilder, String> {
        let builder = builder(insecure);
        match &self.settings {
            Some(settings) => on_network(builder, settings),
            None => Ok(builder),
        }
    }

    /// The client for a check, the address that it asks, and the host that it names where that is another one.
    async fn way(&self, check: &HttpCheck) -> Result<(reqwest::Client, reqwest::Url, Option<String>), String> {
        let mut url = reqwest::Url::parse(&check.url).map_err(|error| error.to_string())?;
        let Some(to) = &check.connect_to else {
            let cell = if check.insecure { &self.insecure } else { &self.client };
            let client = cell.get_or_try_init(|| async { built(self.builder(check.insecure)?) }).await?;
            return Ok((client.clone(), url, None));
        };
        let (name, host) = (authority(&url), url.host_str().unwrap_or_default().to_owned());
        let mut addresses = lookup_host(to).await.map_err(|error| format!("{to}: {error}"))?;
        let address = addresses.next().ok_or_else(|| format!("{to} has no address"))?;
        // The port of the URL is the one that is connected to.
        url.set_port(Some(address.port())).map_err(|()| format!("{to}: the address can't have this port"))?;
        let client = {
            let mut led = self.led.lock().unwrap_or_else(PoisonError::into_inner);
            match led.entry((host.clone(), address, check.insecure)) {
                Entry::Occupied(known) => known.get().clone(),
                Entry::Vacant(free) => {
                    let builder = self.builder(check.insecure)?.no_proxy().resolve(&host, address);
                    free.insert(built(builder)?).clone()
                }
            }
        };
        Ok((client, url, Some(name)))
    }
}

#[async_trait]
impl HttpProbe for Probe {
    async fn probe(&self, check: &HttpCheck) -> Result<HttpAnswer, PortError> {
        let fail = |text: String| PortError::new(FailureKind::Other, text);
        let said = |what: String| fail(format!("{} {}: {what}", check.method, check.shown_url()));
        let (client, url, host) = self.way(check).await.map_err(said)?;
        let method = reqwest::Method::from_bytes(check.method.as_bytes()).map_err(|error| said(error.to_string()))?;
        let pattern =
            check.body_matches.as_deref().map(Regex::new).transpose().map_err(|error| said(error.to_string()))?;
        let mut request = client.request(method, url);
        request = request.timeout(check.timeout);
        let named = check.headers.keys().any(|name| name.eq_ignore_ascii_case("host"));
        if let Some(host) = host.filter(|_| !named) {
            request = request.header("host", host);
        }
        for (name, value) in &check.headers {
            request = request.header(name, value);
        }
        if let Some(body) = &check.body {
            request = request.body(body.clone());
        }
        let start = Instant::now();
        let mut response = request.send().await.map_err(|error| said(reason(&error, check)))?;
        let status = response.status().as_u16();
        let header = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        };
        let headers = response.headers().iter().filter_map(header).collect();
        let (mut body, mut is_cut) = (Vec::new(), false);
        while let Some(part) = response.chunk().await.map_err(|error| said(reason(&error, check)))? {
            body.extend_from_slice(&part);
            if body.len() >= BODY_LIMIT {
                body.truncate(BODY_LIMIT);
                is_cut = true;
                break;
            }
        }
        let latency = start.elapsed();
        let text = String::from_utf8_lossy(&body);
        let matches = pattern.map(|pattern| pattern.is_match(&text));
        let excerpt = secrets::beginning(text.trim(), is_cut, EXCERPT_CHARS);
        Ok(HttpAnswer { status, latency, excerpt, matches, headers, body: text.into_owned() })
    }
}

/// Without the address, which the caller names, and with the limit where that was the reason.
fn reason(error: &reqwest::Error, check: &HttpCheck) -> String {
    if error.is_timeout() {
        return format!("no answer within {}", shown(check.timeout));
    }
    let cause = std::error::Error::source(error);
    cause.map_or_else(|| "the request can't be made".to_owned(), chain)
}

/// Host and port as a `Host` header has them.
fn authority(url: &reqwest::Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn builder(insecure: bool) -> reqwest::ClientBuilder {
    install_tls();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        // Each request is one of a new client's: which node of the load balancer takes it is decided anew.
        .pool_max_idle_per_host(0)
        .danger_accept_invalid_certs(insecure)
        .user_agent(concat!("terraform-provider-bluegreen/", env!("CARGO_PKG_VERSION")))
}

fn built(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, String> {
    builder.build().map_err(|error| format!("failed to set up an HTTP client: {}", chain(&error)))
}
