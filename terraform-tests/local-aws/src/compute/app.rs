//! A tiny application that says which color and release it is, and can be told to fail: the targets of tests and demo.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::core::serve::{self, Body, Hangup, answer};

/// What a test's own application answers: a method with a path and its query to a status with a text; `None` leaves the
/// request to the application.
pub type Handler = Arc<dyn Fn(String, String) -> BoxFuture<Option<(u16, String)>> + Send + Sync>;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What an [`App`] is and where it listens.
#[derive(Clone)]
pub struct AppConfig {
    /// One or more addresses; port 0 picks a free one.
    pub listen: Vec<SocketAddr>,
    /// Sent as `x-color`.
    pub color: String,
    /// Sent as `x-release`.
    pub release: String,
    /// Answers first.
    pub handler: Option<Handler>,
}

struct Identity {
    color: String,
    release: String,
    handler: Option<Handler>,
    /// 0: answers normally.
    failing: AtomicU16,
    /// As `failing`, for all but `/health`.
    broken: AtomicU16,
    /// Milliseconds that every answer but that of `/health` takes.
    slow: AtomicU64,
    /// Whether it knows nobody.
    forgetful: AtomicBool,
}

/// A running application; dropping it closes its sockets and every open connection.
pub struct App {
    addresses: Vec<SocketAddr>,
    identity: Arc<Identity>,
    tasks: Vec<JoinHandle<()>>,
}

impl App {
    /// Binds all addresses and starts to answer.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub async fn start(config: AppConfig) -> anyhow::Result<Self> {
        for (name, value) in [("color", &config.color), ("release", &config.release)] {
            HeaderValue::from_str(value).with_context(|| format!("the {name} {value:?} is not fit for a header"))?;
        }
        let identity = Arc::new(Identity {
            color: config.color,
            release: config.release,
            handler: config.handler,
            failing: AtomicU16::new(0),
            broken: AtomicU16::new(0),
            slow: AtomicU64::new(0),
            forgetful: AtomicBool::new(false),
        });
        let mut app = Self { addresses: Vec::new(), identity, tasks: Vec::new() };
        for address in config.listen {
            let listener = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
            app.addresses.push(listener.local_addr()?);
            let identity = Arc::clone(&app.identity);
            app.tasks.push(tokio::spawn(serve::accept(listener, move |_, request| {
                let identity = Arc::clone(&identity);
                async move { Ok::<_, Hangup>(respond(&identity, &request).await) }
            })));
        }
        Ok(app)
    }

    /// The addresses it listens on, in the order they were given.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// From now on every answer, `/health` too, has this status; `None` is back to normal.
    pub fn set_failing(&self, status: Option<u16>) {
        self.identity.failing.store(status.unwrap_or(0), Ordering::Relaxed);
    }

    /// From now on every answer but that of `/health` has this status: an error that health checks don't see.
    pub fn set_broken(&self, status: Option<u16>) {
        self.identity.broken.store(status.unwrap_or(0), Ordering::Relaxed);
    }

    /// From now on every answer but that of `/health` takes so long.
    pub fn set_slow(&self, duration: Duration) {
        let milliseconds = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.identity.slow.store(milliseconds, Ordering::Relaxed);
    }

    /// From now on nobody who is logged in is known here.
    pub fn set_forgetful(&self, on: bool) {
        self.identity.forgetful.store(on, Ordering::Relaxed);
    }

    /// Stops it, as dropping does, and waits until its ports are free.
    pub async fn stop(mut self) {
        for task in std::mem::take(&mut self.tasks) {
            task.abort();
            let _ = task.await;
        }
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("color", &self.identity.color).field("addresses", &self.addresses).finish()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn respond(identity: &Identity, request: &Request<Incoming>) -> Response<Body> {
    let query: HashMap<String, String> =
        form_urlencoded::parse(request.uri().query().unwrap_or("").as_bytes()).into_owned().collect();
    let path = request.uri().path();
    if path == "/_app/fail" && request.method() == Method::POST {
        return fail(identity, query.get("status").map_or("", String::as_str));
    }
    if path == "/slow" {
        let wait = query.get("ms").and_then(|ms| ms.parse().ok()).unwrap_or(1000);
        tokio::time::sleep(Duration::from_millis(u64::min(wait, 120_000))).await;
    }
    if path != "/health" {
        tokio::time::sleep(Duration::from_millis(identity.slow.load(Ordering::Relaxed))).await;
    }
    let own = match &identity.handler {
        Some(handler) => handler(request.method().to_string(), request.uri().to_string()).await,
        None => None,
    };
    let broken = if path == "/health" { 0 } else { identity.broken.load(Ordering::Relaxed) };
    let failing = identity.failing.load(Ordering::Relaxed).max(broken);
    let status = StatusCode::from_u16(failing).unwrap_or(StatusCode::OK);
    let mut response = if let Some((status, text)) = own {
        answer(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), "text/plain", text)
    } else if path == "/health" {
        let state = if status.is_success() { "ok" } else { "failing" };
        let body = serde_json::json!({ "status": state, "color": identity.color, "release": identity.release });
        answer(status, "application/json", body.to_string())
    } else if path == "/login" {
        let mut response = answer(status, "text/plain", "welcome\n");
        response.headers_mut().insert("set-cookie", HeaderValue::from_static("session=somebody; Path=/; HttpOnly"));
        response
    } else if path == "/whoami" && !knows(identity, request) {
        answer(StatusCode::UNAUTHORIZED, "text/plain", "who are you?\n")
    } else {
        answer(status, "text/plain; charset=utf-8", format!("{} {}\n", identity.color, identity.release))
    };
    for (name, value) in [("x-color", &identity.color), ("x-release", &identity.release)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Sessions are kept by the clients, so that both colors know them.
fn knows(identity: &Identity, request: &Request<Incoming>) -> bool {
    let cookies = request.headers().get_all("cookie").iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';'));
    !identity.forgetful.load(Ordering::Relaxed) && pairs.any(|pair| pair.trim() == "session=somebody")
}

fn fail(identity: &Identity, status: &str) -> Response<Body> {
    match status.parse::<u16>() {
        Ok(status) if status == 0 || (200..600).contains(&status) => {
            identity.failing.store(status, Ordering::Relaxed);
            answer(StatusCode::OK, "application/json", format!("{{\"failing\":{status}}}\n"))
        }
        _ => answer(StatusCode::BAD_REQUEST, "text/plain", "status must be 0 or 200 to 599\n"),
    }
}
