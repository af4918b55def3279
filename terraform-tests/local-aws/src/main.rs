//! The program `local-aws`: runs a local AWS until it is told to stop, or the app of the tests.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use local_aws::app::{App, AppConfig};
use local_aws::{Config, LocalAws, Rule};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

/// A local AWS for tests and the demo: moto with real load balancer nodes in front.
#[derive(Debug, Parser)]
#[command(name = "local-aws", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A small application that answers with its color and release.
    App(AppArgs),
}

#[derive(Debug, Args)]
struct Serve {
    /// Where AWS clients find it.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// A Python that has moto.
    #[arg(long, default_value = ".tools/venv/bin/python")]
    moto_python: PathBuf,
    /// Multiplies the interval of health checks.
    #[arg(long, default_value_t = 1.0)]
    health_interval_scale: f64,
    /// How much later than the API the nodes follow a change, in milliseconds.
    #[arg(long, default_value_t = 0)]
    converge_ms: u64,
    /// Makes the choice of groups by weight, and which reads are late, repeatable.
    #[arg(long)]
    seed: Option<u64>,
    /// A rule of AWS's that is not kept, by its name; may be given repeatedly.
    #[arg(long)]
    without: Vec<Rule>,
    #[command(flatten)]
    until: Until,
}

#[derive(Debug, Args)]
struct AppArgs {
    /// One or more addresses, separated by commas or given repeatedly.
    #[arg(long, required = true, value_delimiter = ',')]
    listen: Vec<SocketAddr>,
    /// Sent as x-color.
    #[arg(long)]
    color: String,
    /// Sent as x-release.
    #[arg(long)]
    release: String,
    #[command(flatten)]
    until: Until,
}

#[derive(Clone, Copy, Debug, Args)]
struct Until {
    /// Stop when the standard input reaches its end.
    #[arg(long)]
    until_stdin_closes: bool,
    /// Stop when the process that started this one is gone.
    #[arg(long)]
    parent_pid_watch: bool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::App(args)) => run_app(args).await?,
        None => run_local_aws(cli.serve).await?,
    }
    // Not by returning: a pending read of stdin would keep the runtime from ending.
    std::process::exit(0)
}

async fn run_local_aws(args: Serve) -> anyhow::Result<()> {
    let ended = args.until.ended()?;
    tokio::pin!(ended);
    let config = Config {
        listen: args.listen,
        moto_python: args.moto_python,
        health_interval_scale: args.health_interval_scale,
        converge: Duration::from_millis(args.converge_ms),
        seed: args.seed,
        without: args.without.into_iter().collect(),
        ..Config::default()
    };
    let aws = tokio::select! {
        started = LocalAws::start(config) => started?,
        () = &mut ended => return Ok(()),
    };
    announce(&serde_json::json!({ "endpoint": aws.endpoint(), "address_base": aws.address_base() }));
    tokio::select! {
        () = ended => {}
        () = aws.quit_asked() => {}
    }
    aws.stop().await;
    Ok(())
}

async fn run_app(args: AppArgs) -> anyhow::Result<()> {
    let ended = args.until.ended()?;
    let app =
        App::start(AppConfig { listen: args.listen, color: args.color, release: args.release, handler: None }).await?;
    announce(&serde_json::json!({ "addresses": app.addresses() }));
    ended.await;
    app.stop().await;
    Ok(())
}

impl Until {
    /// Signals are caught from here on; the future ends when it is time to stop.
    fn ended(self) -> anyhow::Result<impl Future<Output = ()>> {
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot catch SIGINT")?;
        let mut terminate = signal(SignalKind::terminate()).context("cannot catch SIGTERM")?;
        let parent = std::os::unix::process::parent_id();
        Ok(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                () = stdin_closed(), if self.until_stdin_closes => {}
                () = parent_gone(parent), if self.parent_pid_watch => {}
            }
        })
    }
}

async fn stdin_closed() {
    let mut buffer = [0; 1024];
    let mut stdin = tokio::io::stdin();
    while matches!(stdin.read(&mut buffer).await, Ok(read) if read > 0) {}
}

async fn parent_gone(parent: u32) {
    while std::os::unix::process::parent_id() == parent {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The one line that tells scripts where to connect.
#[expect(clippy::print_stdout, reason = "this line on stdout is the program's interface to scripts")]
fn announce(line: &serde_json::Value) {
    println!("{line}");
}
