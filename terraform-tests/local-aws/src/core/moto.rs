//! moto as a child process, and a small client for its API.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, bail, ensure};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, Command};

use crate::core::describe::Page;
use crate::core::upstream::{UpstreamError, send_once};

/// Python start and moto's imports; generous, for busy machines.
const START_LIMIT: Duration = Duration::from_secs(90);
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// A server, or a nursery of them.
const SERVER: &str = include_str!("../moto_server.py");

/// Where a test run has a nursery, its socket: a server of it is there in no time, one of its own takes a second.
const NURSERY: &str = "BLUEGREEN_MOTO_NURSERY";

/// Whoever calls with this header arranges or looks on: the front neither counts its calls nor shows it what is old.
pub const ONLOOKER: &str = "x-local-aws-onlooker";

/// Variables that a Python interpreter needs; anything else of the caller's, AWS_* and proxies first, stays out.
const PASSED_ON: [&str; 9] =
    ["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME", "SSL_CERT_FILE"];

/// What runs until this is dropped.
#[derive(Debug)]
enum Server {
    /// Of its own.
    Own(Child),
    /// Forked by a nursery for this connection.
    Nursed(UnixStream),
}

/// The running moto.
#[derive(Debug)]
pub(crate) struct Moto {
    server: Server,
    pub address: SocketAddr,
}

impl Moto {
    pub(crate) async fn start(python: &Path) -> anyhow::Result<Self> {
        let (server, port) = match std::env::var_os(NURSERY) {
            Some(socket) => nursed(Path::new(&socket)).await?,
            None => own(python).await?,
        };
        let moto = Self { server, address: SocketAddr::from(([127, 0, 0, 1], port)) };
        moto.wait_until_it_answers().await?;
        Ok(moto)
    }

    async fn wait_until_it_answers(&self) -> anyhow::Result<()> {
        let client = MotoClient::new(self.address);
        for _ in 0..100 {
            if client.account("testing").await.is_ok() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        bail!("moto runs but does not answer")
    }

    pub(crate) async fn stop(self) {
        match self.server {
            Server::Own(mut child) => drop(child.kill().await),
            Server::Nursed(connection) => drop(connection),
        }
    }
}

/// A server that a nursery forks.
async fn nursed(socket: &Path) -> anyhow::Result<(Server, u16)> {
    let asked = async {
        let mut connection = UnixStream::connect(socket).await?;
        let mut line = String::new();
        BufReader::new(&mut connection).read_line(&mut line).await?;
        anyhow::Ok((connection, line))
    };
    let (connection, line) = tokio::time::timeout(START_LIMIT, asked).await.context("the nursery doesn't answer")??;
    let port = line.trim().parse().with_context(|| format!("the nursery says {line:?}"))?;
    Ok((Server::Nursed(connection), port))
}

/// A server in a process of its own.
async fn own(python: &Path) -> anyhow::Result<(Server, u16)> {
    let mut command = Command::new(python);
    command.args(["-u", "-c", SERVER]).env_clear();
    let kept = std::env::vars_os()
        .filter(|(name, _)| name.to_str().is_some_and(|name| PASSED_ON.contains(&name) || name.starts_with("MOTO_")));
    command.envs(kept);
    // What the server imports stands beside it.
    command.env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("cannot start {}", python.display()))?;
    let tail = Arc::new(Mutex::new(VecDeque::new()));
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(keep_tail(stderr, Arc::clone(&tail)));
    }
    let stdout = child.stdout.take().context("moto has no stdout")?;
    let mut lines = BufReader::new(stdout).lines();
    let line = tokio::time::timeout(START_LIMIT, lines.next_line()).await.context("moto does not start")??;
    let Some(port) = line.and_then(|line| line.trim().parse::<u16>().ok()) else {
        // Give the pipe a moment to deliver the traceback.
        let _ = tokio::time::timeout(Duration::from_secs(2), child.wait()).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        bail!("moto did not start: {}", tail.iter().map(String::as_str).collect::<Vec<_>>().join("\n"));
    };
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok((Server::Own(child), port))
}

/// Its log is of interest only if it does not start; reading it on keeps the pipe from filling up.
async fn keep_tail(stderr: ChildStderr, tail: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.push_back(line);
        if tail.len() > 30 {
            tail.pop_front();
        }
    }
}

/// Whose resources, and where: moto tells accounts apart by access key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Scope {
    pub access_key: String,
    pub region: String,
}

/// moto answered, with an error.
#[derive(Debug)]
struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// Calls moto as any AWS client would, without a valid signature: moto reads only the credential scope.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MotoClient {
    pub address: SocketAddr,
    /// Whether it only arranges and looks on, where it calls the front and not moto itself.
    is_onlooker: bool,
}

impl MotoClient {
    pub(crate) const fn new(address: SocketAddr) -> Self {
        Self { address, is_onlooker: true }
    }

    /// One that is no onlooker.
    #[cfg(test)]
    pub(crate) const fn as_tested(self) -> Self {
        Self { is_onlooker: false, ..self }
    }

    /// A request to it.
    fn request(&self) -> hyper::http::request::Builder {
        let request = Request::post("/").header("host", self.address.to_string());
        if self.is_onlooker { request.header(ONLOOKER, "1") } else { request }
    }

    /// Passes a request on as it is.
    pub(crate) async fn pass(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, UpstreamError> {
        send_once(self.address, request, CALL_LIMIT).await
    }

    /// One call of the load balancing API, whatever its status.
    pub(crate) async fn call(
        &self,
        scope: &Scope,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> anyhow::Result<Response<Bytes>> {
        self.query(scope, "elasticloadbalancing", "2015-12-01", action, parameters).await
    }

    /// All pages of a listing.
    pub(crate) async fn list<R, T>(
        &self,
        scope: &Scope,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> anyhow::Result<Vec<T>>
    where
        R: DeserializeOwned + Into<Page<T>>,
    {
        let mut items = Vec::new();
        let mut marker: Option<String> = None;
        // Bounded: a marker that never ends must not hang the nodes.
        for _ in 0..1000 {
            let mut parameters = parameters.to_vec();
            if let Some(marker) = &marker {
                parameters.push(("Marker", marker));
            }
            let response = self.call(scope, action, &parameters).await?;
            let text = std::str::from_utf8(response.body())?;
            if !response.status().is_success() {
                return Err(Refused(format!("{action} answered {}: {text}", response.status())).into());
            }
            let page: R = quick_xml::de::from_str(text).with_context(|| format!("cannot read {action}"))?;
            let page: Page<T> = page.into();
            items.extend(page.items);
            marker = page.next;
            if marker.is_none() {
                return Ok(items);
            }
        }
        bail!("{action} has too many pages")
    }

    /// As [`Self::list`]; a refusal, because the thing vanished between two calls, is an empty list.
    pub(crate) async fn list_of<R, T>(&self, scope: &Scope, action: &str, of: (&str, &str)) -> anyhow::Result<Vec<T>>
    where
        R: DeserializeOwned + Into<Page<T>>,
    {
        match self.list::<R, T>(scope, action, &[of]).await {
            Err(error) if error.is::<Refused>() => Ok(Vec::new()),
            listed => listed,
        }
    }

    /// The account behind an access key.
    pub(crate) async fn account(&self, access_key: &str) -> anyhow::Result<String> {
        let scope = Scope { access_key: access_key.to_owned(), region: "us-east-1".to_owned() };
        let response = self.query(&scope, "sts", "2011-06-15", "GetCallerIdentity", &[]).await?;
        let text = std::str::from_utf8(response.body())?;
        let account = text.split_once("<Account>").and_then(|(_, rest)| rest.split_once("</Account>"));
        account.map(|(account, _)| account.to_owned()).context("GetCallerIdentity names no account")
    }

    /// One call of a service with the query protocol, whatever its status.
    pub(crate) async fn query(
        &self,
        scope: &Scope,
        service: &str,
        version: &str,
        action: &str,
        parameters: &[(&str, &str)],
    ) -> anyhow::Result<Response<Bytes>> {
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("Action", action)
            .append_pair("Version", version)
            .extend_pairs(parameters)
            .finish();
        let request = self
            .request()
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", authorization(scope, service))
            .body(Full::new(Bytes::from(form)))?;
        self.pass(request).await.map_err(|error| anyhow!("moto does not answer {action}: {error:?}"))
    }

    /// One call of ECS: its answer, or an error if it is refused.
    pub(crate) async fn ecs(&self, scope: &Scope, action: &str, parameters: &Value) -> anyhow::Result<Value> {
        self.json(scope, "ecs", &format!("AmazonEC2ContainerServiceV20141113.{action}"), parameters).await
    }

    /// One call of a service with the JSON protocol: its answer, or an error if it is refused.
    pub(crate) async fn json(
        &self,
        scope: &Scope,
        service: &str,
        action: &str,
        parameters: &Value,
    ) -> anyhow::Result<Value> {
        let request = self
            .request()
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", action)
            .header("authorization", authorization(scope, service))
            .body(Full::new(Bytes::from(parameters.to_string())))?;
        let answer = self.pass(request).await.map_err(|error| anyhow!("moto does not answer {action}: {error:?}"))?;
        let text = String::from_utf8_lossy(answer.body());
        ensure!(answer.status().is_success(), "{action} answered {}: {text}", answer.status());
        serde_json::from_str(&text).with_context(|| format!("cannot read {action}"))
    }
}

fn authorization(scope: &Scope, service: &str) -> String {
    let credential = format!("{}/20250101/{}/{service}/aws4_request", scope.access_key, scope.region);
    format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0")
}
