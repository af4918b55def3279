//! From `exec` to a served socket: go-plugin's handshake, the services its host expects, and the end of the process.

use std::convert::Infallible;
use std::fs::{self, DirBuilder, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use futures::Stream;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;
use tonic::codegen::{Service, http};
use tonic::{Request, Response, Status};

use super::proto::health::health_server::{Health, HealthServer};
use super::proto::health::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus};
use super::proto::plugin::grpc_broker_server::{GrpcBroker, GrpcBrokerServer};
use super::proto::plugin::grpc_controller_server::{GrpcController, GrpcControllerServer};
use super::proto::plugin::grpc_stdio_server::{GrpcStdio, GrpcStdioServer};
use super::proto::plugin::{ConnInfo, Empty, StdioData};
use super::proto::tfplugin6::provider_server::ProviderServer;
use super::provider::Provider;
use super::server::{Activity, Server};
use super::tls;

/// The host proves with this pair that it is one; a person who runs the binary by hand doesn't have it.
const COOKIE: (&str, &str) =
    ("TF_PLUGIN_MAGIC_COOKIE", "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2");
/// Large enough for any state; tonic's own limit of 4 MiB is not.
const MAX_MESSAGE_BYTES: usize = 256 * 1024 * 1024;
/// The host kills the process two seconds after it asked it to end.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(1500);
/// How often an orphan would notice that it is one.
const ORPHAN_CHECK: Duration = Duration::from_secs(1);

/// Whether a plugin host started this process.
pub fn is_plugin_host() -> bool {
    std::env::var(COOKIE.0).is_ok_and(|value| value == COOKIE.1)
}

/// Serves the provider to the host that started this process, until the host asks to end or is gone. The provider is
/// made once the host was answered: it starts one for every step of a run, and waits for that answer.
pub fn serve(make: impl FnOnce() -> Arc<dyn Provider>, name: &'static str) -> ExitCode {
    run(make, name, Mode::Hosted)
}

/// Serves the provider to any `terraform` of this user that is given the printed TF_REATTACH_PROVIDERS, until Ctrl-C.
pub fn serve_debug(make: impl FnOnce() -> Arc<dyn Provider>, name: &'static str, address: &'static str) -> ExitCode {
    run(make, name, Mode::Debug { address })
}

/// Prints a line to standard output, for a person who runs the binary by hand.
#[expect(clippy::print_stdout, reason = "a person asked for it, and no host reads it")]
pub fn say(line: &str) -> ExitCode {
    println!("{line}");
    ExitCode::SUCCESS
}

/// Tells a person who runs the binary by hand what it is for.
pub fn refuse(text: &str) -> ExitCode {
    drop(writeln!(std::io::stderr(), "{text}"));
    ExitCode::FAILURE
}

#[derive(Clone, Copy)]
enum Mode {
    Hosted,
    Debug { address: &'static str },
}

fn run(make: impl FnOnce() -> Arc<dyn Provider>, name: &'static str, mode: Mode) -> ExitCode {
    super::logging::init(name);
    match start(make, name, mode) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "{error}"));
            ExitCode::FAILURE
        }
    }
}

/// Answers the host first; who connects before the rest is set up waits in the socket's queue.
fn start(make: impl FnOnce() -> Arc<dyn Provider>, name: &str, mode: Mode) -> Result<(), String> {
    let identity = match mode {
        Mode::Hosted => {
            check_versions()?;
            let pem = std::env::var("PLUGIN_CLIENT_CERT").map_err(
                |_| "the host sent no certificate in PLUGIN_CLIENT_CERT; without it anybody could call this process",
            )?;
            Some(tls::identity(pem.as_bytes())?)
        }
        Mode::Debug { .. } => None,
    };
    let parent = std::os::unix::process::parent_id();
    let socket = Socket::bind(name)?;
    announce(mode, &socket.path, identity.as_ref())?;
    socket.remove_stale(name);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| format!("failed to start the runtime: {error}"))?;
    let result = runtime.block_on(serve_until_end(make(), &socket, identity, mode, parent));
    // A read that hangs in a blocking call must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn serve_until_end(
    provider: Arc<dyn Provider>,
    socket: &Socket,
    identity: Option<tls::Identity>,
    mode: Mode,
    parent: u32,
) -> Result<(), String> {
    let listener = socket.listener.try_clone().and_then(|listener| {
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    });
    let listener = listener.map_err(|error| format!("failed to serve the socket: {error}"))?;
    let services = Services::new(Server::new(provider));
    let (activity, shutdown) = (services.activity.clone(), services.shutdown.clone());
    // The host forwards Ctrl-C as StopProvider; the terminal sends it to the whole group, us included.
    let interrupt = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt());
    let mut interrupt = interrupt.map_err(|error| format!("failed to catch SIGINT: {error}"))?;
    // A cancelled CI job sends these to the whole group; the host stops gracefully then, and so must this process.
    let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
    let mut terminate = terminate.map_err(|error| format!("failed to catch SIGTERM: {error}"))?;
    let hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup());
    let mut hangup = hangup.map_err(|error| format!("failed to catch SIGHUP: {error}"))?;
    let acceptor = identity.map(|identity| TlsAcceptor::from(identity.config));
    let serving = accept(&listener, acceptor, services);
    tokio::pin!(serving);
    loop {
        tokio::select! {
            () = &mut serving => return Ok(()),
            () = shutdown.notified() => break,
            _ = interrupt.recv() => if matches!(mode, Mode::Debug { .. }) { break },
            _ = terminate.recv() => if stops(mode, &activity) { break },
            _ = hangup.recv() => if stops(mode, &activity) { break },
            () = tokio::time::sleep(ORPHAN_CHECK) => {
                if matches!(mode, Mode::Hosted) && std::os::unix::process::parent_id() != parent {
                    tracing::warn!("the process that started this one is gone");
                    activity.stop.stop();
                    activity.drained().await;
                    return Ok(());
                }
            }
        }
    }
    // Operations that are still running are told; what they save in this time, the next run needn't find out.
    activity.stop.stop();
    drop(tokio::time::timeout(SHUTDOWN_GRACE, activity.drained()).await);
    Ok(())
}

/// Stops what runs; whether the process ends with it. Under a host it stays to tell what came of it.
fn stops(mode: Mode, activity: &Activity) -> bool {
    tracing::info!("asked to end, running operations are cancelled");
    activity.stop.stop();
    matches!(mode, Mode::Debug { .. })
}

fn check_versions() -> Result<(), String> {
    let offered = std::env::var("PLUGIN_PROTOCOL_VERSIONS").unwrap_or_default();
    if offered.is_empty() || offered.split(',').any(|version| version.trim() == "6") {
        return Ok(());
    }
    Err(format!("the host speaks the plugin protocol {offered}, this provider speaks 6: use Terraform 1.0 or later"))
}

#[expect(clippy::print_stdout, reason = "standard output is where the host reads the handshake")]
fn announce(mode: Mode, socket: &Path, identity: Option<&tls::Identity>) -> Result<(), String> {
    let path = socket.display();
    match mode {
        Mode::Hosted => {
            let certificate = identity.map(|identity| STANDARD_NO_PAD.encode(&identity.certificate));
            // A host that asks for multiplexed brokers reads a seventh field; this provider has no broker to multiplex.
            let multiplex = if std::env::var_os("PLUGIN_MULTIPLEX_GRPC").is_some() { "|false" } else { "" };
            println!("1|6|unix|{path}|grpc|{}{multiplex}", certificate.unwrap_or_default());
        }
        Mode::Debug { address } => {
            let reattach = serde_json::json!({ address: {
                "Protocol": "grpc", "ProtocolVersion": 6, "Pid": std::process::id(), "Test": true,
                "Addr": { "Network": "unix", "String": socket },
            }});
            println!("Provider started. To attach Terraform, set:\n\n\tTF_REATTACH_PROVIDERS='{reattach}'\n");
        }
    }
    std::io::stdout().flush().map_err(|error| format!("failed to write the handshake: {error}"))
}

/// A listening socket in a folder that only this user can enter. The folder goes when this is dropped.
struct Socket {
    listener: std::os::unix::net::UnixListener,
    folder: PathBuf,
    path: PathBuf,
}

impl Socket {
    fn bind(name: &str) -> Result<Socket, String> {
        let base = std::env::var_os("PLUGIN_UNIX_SOCKET_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        let folder = make_folder(&base, &format!("{}{}", folder_prefix(name), std::process::id()))?;
        let fail = |error| format!("failed to make the socket in {}: {error}", folder.display());
        let path = folder.join("plugin.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).map_err(fail)?;
        let mode = if let Some(group) = std::env::var("PLUGIN_UNIX_SOCKET_GROUP").ok().filter(|group| !group.is_empty())
        {
            let gid =
                group_id(&group).ok_or_else(|| format!("there is no group {group:?} (PLUGIN_UNIX_SOCKET_GROUP)"))?;
            std::os::unix::fs::chown(&folder, None, Some(gid)).map_err(fail)?;
            std::os::unix::fs::chown(&path, None, Some(gid)).map_err(fail)?;
            fs::set_permissions(&folder, Permissions::from_mode(0o750)).map_err(fail)?;
            0o660
        } else {
            0o600
        };
        fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(fail)?;
        Ok(Socket { listener, folder, path })
    }

    /// Removes the folders of earlier processes of ours that were killed: a killed process can't tidy up after itself.
    fn remove_stale(&self, name: &str) {
        let base = self.folder.parent().unwrap_or(Path::new("/nowhere"));
        let Ok(entries) = fs::read_dir(base) else { return };
        for entry in entries.flatten().filter(|entry| entry.path() != self.folder) {
            let file_name = entry.file_name();
            let Some(pid) = file_name.to_str().and_then(|file| file.strip_prefix(&folder_prefix(name))) else {
                continue;
            };
            let pid = pid.split('.').next().unwrap_or_default();
            let own = pid == std::process::id().to_string();
            if pid.parse::<u32>().is_ok()
                && (own || !Path::new("/proc").join(pid).exists())
                && Path::new("/proc/self").exists()
            {
                drop(fs::remove_dir_all(entry.path()));
            }
        }
    }
}

fn folder_prefix(name: &str) -> String {
    format!("tf-{name}-")
}

/// Another user, or a process of another pid namespace, may have the name already.
fn make_folder(base: &Path, name: &str) -> Result<PathBuf, String> {
    let mut last = None;
    for n in 0..100 {
        let folder = base.join(if n == 0 { name.to_owned() } else { format!("{name}.{n}") });
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => last = Some(error),
            Err(error) => return Err(format!("failed to make {}: {error}", folder.display())),
        }
    }
    Err(format!("failed to make {} in {}: {}", name, base.display(), last.map_or_else(String::new, |e| e.to_string())))
}

impl Drop for Socket {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.folder));
    }
}

fn group_id(group: &str) -> Option<u32> {
    if let Ok(gid) = group.parse() {
        return Some(gid);
    }
    let table = fs::read_to_string("/etc/group").ok()?;
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(group)).then(|| fields.nth(1)?.parse().ok())?
    })
}

async fn accept(listener: &UnixListener, acceptor: Option<TlsAcceptor>, services: Services) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, most likely: wait for some to come back instead of spinning.
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (acceptor, services) = (acceptor.clone(), services.clone());
        tokio::spawn(async move {
            match acceptor {
                None => connection(stream, services).await,
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => connection(stream, services).await,
                    Err(error) => tracing::warn!(%error, "refused a connection that is not from the host"),
                },
            }
        });
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, services: Services) {
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let mut services = services.clone();
        async move { services.call(request.map(tonic::body::Body::new)).await }
    });
    let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection ended");
    }
}

/// All services behind one socket, told apart by the path.
#[derive(Clone)]
struct Services {
    provider: ProviderServer<Server>,
    controller: GrpcControllerServer<Controller>,
    broker: GrpcBrokerServer<Silent>,
    stdio: GrpcStdioServer<Silent>,
    health: HealthServer<Silent>,
    activity: Arc<Activity>,
    shutdown: Arc<Notify>,
}

impl Services {
    fn new(server: Server) -> Services {
        let (activity, shutdown) = (server.activity.clone(), Arc::new(Notify::new()));
        Services {
            provider: ProviderServer::new(server)
                .max_decoding_message_size(MAX_MESSAGE_BYTES)
                .max_encoding_message_size(MAX_MESSAGE_BYTES),
            controller: GrpcControllerServer::new(Controller(shutdown.clone())),
            broker: GrpcBrokerServer::new(Silent),
            stdio: GrpcStdioServer::new(Silent),
            health: HealthServer::new(Silent),
            activity,
            shutdown,
        }
    }
}

type Reply = Pin<Box<dyn Future<Output = Result<http::Response<tonic::body::Body>, Infallible>> + Send>>;

impl Service<http::Request<tonic::body::Body>> for Services {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Reply;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Reply {
        match request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default() {
            "tfplugin6.Provider" => self.provider.call(request),
            "plugin.GRPCController" => self.controller.call(request),
            "plugin.GRPCBroker" => self.broker.call(request),
            "plugin.GRPCStdio" => self.stdio.call(request),
            "grpc.health.v1.Health" => self.health.call(request),
            _ => Box::pin(async { Ok(Status::unimplemented("no such service").into_http()) }),
        }
    }
}

struct Controller(Arc<Notify>);

#[tonic::async_trait]
impl GrpcController for Controller {
    async fn shutdown(&self, _: Request<Empty>) -> Result<Response<Empty>, Status> {
        self.0.notify_one();
        Ok(Response::new(Empty {}))
    }
}

/// The services that the host opens and this provider has nothing to say on: streams without an event.
struct Silent;

type Quiet<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl GrpcBroker for Silent {
    type StartStreamStream = Quiet<ConnInfo>;

    async fn start_stream(
        &self,
        _: Request<tonic::Streaming<ConnInfo>>,
    ) -> Result<Response<Self::StartStreamStream>, Status> {
        Ok(Response::new(Box::pin(futures::stream::pending())))
    }
}

#[tonic::async_trait]
impl GrpcStdio for Silent {
    type StreamStdioStream = Quiet<StdioData>;

    async fn stream_stdio(&self, _: Request<()>) -> Result<Response<Self::StreamStdioStream>, Status> {
        Ok(Response::new(Box::pin(futures::stream::pending())))
    }
}

#[tonic::async_trait]
impl Health for Silent {
    async fn check(&self, _: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }
}
