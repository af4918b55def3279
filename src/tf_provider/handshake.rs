//! From `exec` to a served socket: go-plugin's handshake, the services its host expects, and the end of the process.

use std::convert::Infallible;
use std::io::Write as _;
use std::path::Path;
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

use super::host::{Connections, Host};
use super::proto::health::health_server::{Health, HealthServer};
use super::proto::health::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus};
use super::proto::plugin::grpc_broker_server::{GrpcBroker, GrpcBrokerServer};
use super::proto::plugin::grpc_controller_server::{GrpcController, GrpcControllerServer};
use super::proto::plugin::grpc_stdio_server::{GrpcStdio, GrpcStdioServer};
use super::proto::plugin::{ConnInfo, Empty, StdioData};
use super::proto::tfplugin6::provider_server::ProviderServer;
use super::provider::Provider;
use super::server::{Activity, Server};
use super::socket::{self, Socket};
use super::tls;

/// The host proves with this pair that it is one; a person who runs the binary by hand doesn't have it.
const COOKIE: (&str, &str) =
    ("TF_PLUGIN_MAGIC_COOKIE", "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2");
/// Large enough for any state; tonic's own limit of 4 MiB is not.
const MAX_MESSAGE_BYTES: usize = 256 * 1024 * 1024;
/// The host kills the process two seconds after it asked it to end.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(1500);
/// How often an orphan would notice that it is one.
const ORPHAN_CHECK: Duration = Duration::from_millis(500);
/// How long an orphan may go on ending in good order what it has begun: a way back takes seconds, and nobody waits for
/// more. What is not done then, the next run finds.
const ORPHAN_GRACE: Duration = Duration::from_secs(120);
/// Who connects and then says nothing is not the host.
const GREETING: Duration = Duration::from_secs(10);
/// Canceled calls that may wait to be taken note of; the host is the only one who calls, and may cancel hundreds at once.
const MAX_CANCELED: usize = 100_000;

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
            if matches!(mode, Mode::Hosted) {
                explain(&error);
            }
            drop(writeln!(std::io::stderr(), "{error}"));
            ExitCode::FAILURE
        }
    }
}

/// Terraform shows the first line of standard output where it isn't a handshake, and nothing of standard error.
fn explain(error: &str) {
    let line = error.replace(['|', '\n'], " ");
    drop(writeln!(std::io::stdout(), "terraform-provider: {line}"));
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
    let connections = Connections::default();
    let host = Host::new(connections.clone());
    let socket = Socket::bind(name)?;
    announce(mode, &socket.path, identity.as_ref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| format!("failed to start the runtime: {error}"))?;
    let (base, name) = (socket.base(), name.to_owned());
    // A folder for temporary files may have any number of entries.
    runtime.spawn_blocking(move || socket::remove_stale(&base, &name));
    let result = runtime.block_on(serve_until_end(make(), &socket, identity, (mode, &host), connections));
    // A read that hangs in a blocking call must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn serve_until_end(
    provider: Arc<dyn Provider>,
    socket: &Socket,
    identity: Option<tls::Identity>,
    (mode, host): (Mode, &Host),
    connections: Connections,
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
    let serving = accept(&listener, acceptor, services, connections);
    tokio::pin!(serving);
    let mut look = tokio::time::interval(ORPHAN_CHECK);
    loop {
        tokio::select! {
            () = &mut serving => return Ok(()),
            () = shutdown.notified() => break,
            _ = interrupt.recv() => match mode {
                Mode::Debug { .. } => break,
                // What changes something is the host's to stop.
                Mode::Hosted => activity.stop_looking.stop(),
            },
            _ = terminate.recv() => if stops(mode, &activity) { break },
            _ = hangup.recv() => if stops(mode, &activity) { break },
            _ = look.tick() => {
                let is_gone = match mode {
                    Mode::Hosted => host.is_gone(),
                    Mode::Debug { .. } => host.is_orphan(),
                };
                if is_gone {
                    tracing::warn!("the process that started this one is gone");
                    activity.stop.stop();
                    drop(tokio::time::timeout(ORPHAN_GRACE, activity.drained()).await);
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

fn announce(mode: Mode, socket: &Path, identity: Option<&tls::Identity>) -> Result<(), String> {
    let path = socket.display();
    // Nobody may be there to read it any more.
    let mut out = std::io::stdout();
    let written = match mode {
        Mode::Hosted => {
            let certificate = identity.map(|identity| STANDARD_NO_PAD.encode(&identity.certificate));
            // A host that asks for multiplexed brokers reads a seventh field; this provider has no broker to multiplex.
            let multiplex = if std::env::var_os("PLUGIN_MULTIPLEX_GRPC").is_some() { "|false" } else { "" };
            writeln!(out, "1|6|unix|{path}|grpc|{}{multiplex}", certificate.unwrap_or_default())
        }
        Mode::Debug { address } => {
            let reattach = serde_json::json!({ address: {
                "Protocol": "grpc", "ProtocolVersion": 6, "Pid": std::process::id(), "Test": true,
                "Addr": { "Network": "unix", "String": socket },
            }});
            writeln!(out, "Provider started. To attach Terraform, set:\n\n\tTF_REATTACH_PROVIDERS='{reattach}'\n")
        }
    };
    written.and_then(|()| out.flush()).map_err(|error| format!("failed to write the handshake: {error}"))
}

async fn accept(listener: &UnixListener, acceptor: Option<TlsAcceptor>, services: Services, connections: Connections) {
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
        let (acceptor, services, connections) = (acceptor.clone(), services.clone(), connections.clone());
        tokio::spawn(async move {
            let greeted = match acceptor {
                None => {
                    let _open = connections.open();
                    return connection(stream, services).await;
                }
                Some(acceptor) => tokio::time::timeout(GREETING, acceptor.accept(stream)).await,
            };
            match greeted {
                Ok(Ok(stream)) => {
                    let _open = connections.open();
                    connection(stream, services).await;
                }
                Ok(Err(error)) => tracing::warn!(%error, "refused a connection that is not from the host"),
                Err(_) => tracing::warn!("closed a connection that said nothing"),
            }
        });
    }
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, services: Services) {
    let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
        let mut services = services.clone();
        async move { services.call(request.map(tonic::body::Body::new)).await }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // Terraform runs as many operations at once as it is told, and must get through to stop them.
    builder.max_concurrent_streams(None).max_pending_accept_reset_streams(MAX_CANCELED);
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
