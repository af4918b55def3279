//! Clients that never stop asking, and count what they are told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{COOKIE, HeaderMap, HeaderValue};
use tokio::task::JoinHandle;

/// What clients saw so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Requests sent.
    pub requests: u64,
    /// Requests that were not answered with 200.
    pub failed: u64,
    /// Requests by client.
    pub by_client: Vec<u64>,
    /// Answers by color.
    pub colors: BTreeMap<String, u64>,
    /// The color of the last answer.
    pub last: Option<String>,
    /// The first thing that went wrong.
    pub first_failure: Option<String>,
    /// Answers that were none, by status, such as `status 503`.
    pub failures: BTreeMap<String, u64>,
}

/// Clients at work; bounded in number, in requests and by the end of this value.
pub struct Load {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    tasks: Vec<JoinHandle<()>>,
}

/// No load sends more than this.
const MOST_REQUESTS: u64 = 5_000_000;

impl Load {
    /// Starts clients that ask this address, which must be on this machine, pausing between requests.
    ///
    /// # Errors
    /// When no client can be set up, or the address is not a loopback one.
    pub fn start(address: SocketAddr, clients: usize, pause: Duration) -> anyhow::Result<Load> {
        Load::begin(address, clients, pause, HeaderMap::new())
    }

    /// Starts clients that send cookies with each request.
    ///
    /// # Errors
    /// When no client can be set up, the address is not a loopback one, or the cookies are none.
    pub fn with_cookie(address: SocketAddr, clients: usize, pause: Duration, cookie: &str) -> anyhow::Result<Load> {
        Load::begin(address, clients, pause, HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(cookie)?)]))
    }

    fn begin(address: SocketAddr, clients: usize, pause: Duration, headers: HeaderMap) -> anyhow::Result<Load> {
        anyhow::ensure!(address.ip().is_loopback(), "{address} is not on this machine");
        let (stop, seen) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(Mutex::new(Seen { by_client: vec![0; clients], ..Seen::default() })),
        );
        let sent = Arc::new(AtomicU64::new(0));
        let mut tasks = Vec::new();
        for client in 0..clients {
            let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10));
            let http = http.default_headers(headers.clone()).build()?;
            let (stop, seen, sent) = (stop.clone(), seen.clone(), sent.clone());
            tasks.push(tokio::spawn(async move {
                let url = format!("http://{address}/");
                while !stop.load(Ordering::Relaxed) && sent.fetch_add(1, Ordering::Relaxed) < MOST_REQUESTS {
                    let answer = ask(&http, &url).await;
                    note(&seen, client, answer);
                    tokio::time::sleep(pause).await;
                }
            }));
        }
        Ok(Load { stop, seen, tasks })
    }

    /// What was seen so far.
    #[must_use]
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until every request that is under way now has ended, and as many more were asked.
    ///
    /// # Errors
    /// When the clients ask no more.
    pub async fn next(&self) -> anyhow::Result<&Load> {
        // A client notes an answer before it asks again: once each has noted two, none of today's is under way.
        let each = || self.seen.lock().unwrap_or_else(PoisonError::into_inner).by_client.clone();
        let before = each();
        for _ in 0..2400 {
            if each().iter().zip(&before).all(|(now, before)| *now >= before + 2) {
                return Ok(self);
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        anyhow::bail!("the clients ask no more")
    }

    /// Lets every request that is under way end, and tells what was seen.
    pub async fn stop(mut self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        for task in std::mem::take(&mut self.tasks) {
            drop(task.await);
        }
        self.seen()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

async fn ask(http: &reqwest::Client, url: &str) -> Result<String, String> {
    let response = http.get(url).send().await.map_err(|error| format!("{error:?}"))?;
    let status = response.status().as_u16();
    let color = response.headers().get("x-color").and_then(|color| color.to_str().ok()).map(str::to_owned);
    let body = response.bytes().await.map_err(|error| format!("{error:?}"))?;
    match color {
        Some(color) if status == 200 => Ok(color),
        _ => Err(format!("status {status}: {}", String::from_utf8_lossy(&body))),
    }
}

fn note(seen: &Mutex<Seen>, client: usize, answer: Result<String, String>) {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    seen.requests += 1;
    if let Some(own) = seen.by_client.get_mut(client) {
        *own += 1;
    }
    match answer {
        Ok(color) => {
            *seen.colors.entry(color.clone()).or_default() += 1;
            seen.last = Some(color);
        }
        Err(failure) => {
            seen.failed += 1;
            let kind = failure.split(':').next().unwrap_or_default().to_owned();
            *seen.failures.entry(kind).or_default() += 1;
            seen.first_failure.get_or_insert(failure);
        }
    }
}
