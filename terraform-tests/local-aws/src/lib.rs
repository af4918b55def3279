//! A local AWS for tests and the demo: moto is the control plane, and this program stands in front of it as the nodes
//! of the load balancers. AWS calls pass through unchanged, except that `DescribeTargetHealth` is answered from real
//! health checks. Listeners are served on loopback addresses, by the rules and weights that moto holds. Calls can be
//! delayed, refused, cut off, or end with their caller killed.
//!
//! Instances of Auto Scaling groups and tasks of ECS services run here as small applications, which targets with their
//! ids reach; instance refreshes and deployments really replace them. What an image is called says how it fails.
//!
//! Known limits: HTTPS listeners speak plain HTTP; bodies are held in memory (16 MiB) and not streamed; no protocol
//! upgrades; other targets are loopback addresses; no stickiness within a group; no draining; requests to other
//! listeners than HTTP and HTTPS are spliced as TCP.

#![forbid(unsafe_code)]

mod compute;
mod control;
mod core;
mod front;
mod node;
mod state;
#[cfg(test)]
mod testing;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use crate::compute::app;
pub use crate::core::calls::Call;
pub use crate::core::faults::{FaultAction, FaultSpec, FaultStatus, Signal, When};
pub use crate::core::moto::ONLOOKER;
pub use crate::core::temper::Rule;
pub use crate::node::data_plane::{ListenerAddress, LoadBalancerAddress};

use crate::compute::autoscaling::Settings;
use crate::compute::ecs::Ecs;
use crate::compute::hosts::Hosts;
use crate::compute::instance_refresh::Refreshes;
use crate::compute::instances::Compute;
use crate::core::buckets::Buckets;
use crate::core::calls::CallLog;
use crate::core::contention::Contention;
use crate::core::credentials::Credentials;
use crate::core::faults::Faults;
use crate::core::functions::Functions;
use crate::core::late::Late;
use crate::core::metrics::Metrics;
use crate::core::moto::{Moto, MotoClient};
use crate::core::serve;
use crate::core::temper::Temper;
use crate::node::checker::Checker;
use crate::node::choice::Node;
use crate::node::converge::{Converge, Machines, NODES};
use crate::node::data_plane::DataPlane;
use crate::node::target_groups::GrpcCodes;
use crate::state::Core;

/// How to run a [`LocalAws`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Where AWS clients find it; port 0 picks a free one.
    pub listen: SocketAddr,
    /// A Python that has moto, flask and flask-cors.
    pub moto_python: PathBuf,
    /// Multiplies the interval of health checks (at least 50 ms remain), for AWS allows none below 5 s.
    pub health_interval_scale: f64,
    /// How much later than the API the nodes follow a change; zero: before the call is answered.
    pub converge: Duration,
    /// How often to look for changes made at moto directly.
    pub poll: Duration,
    /// Makes the choice of groups by weight, and which reads are late, repeatable; one that fails tells its own.
    pub seed: Option<u64>,
    /// How long a target may take to answer.
    pub target_timeout: Duration,
    /// How much faster time goes for what is counted by the second: throttling.
    pub pace: f64,
    /// Rules of AWS's that are not kept.
    pub without: BTreeSet<Rule>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            moto_python: PathBuf::from(".tools/venv/bin/python"),
            health_interval_scale: 1.0,
            converge: Duration::ZERO,
            poll: Duration::from_millis(500),
            seed: None,
            target_timeout: Duration::from_secs(60),
            pace: 1.0,
            without: BTreeSet::new(),
        }
    }
}

/// How much later than the first node the others follow a change: within three seconds of a real one, by seed.
fn lags(seed: u64, pace: f64) -> [Duration; NODES] {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut sum = 0.0;
    std::array::from_fn(|node| {
        if node > 0 {
            sum += random.f64() * 3.0 / (NODES - 1) as f64 / pace;
        }
        Duration::from_secs_f64(sum)
    })
}

/// A running local AWS. Dropping it ends everything, moto too.
#[derive(Debug)]
pub struct LocalAws {
    seed: u64,
    address: SocketAddr,
    core: Arc<Core>,
    moto: Option<Moto>,
    tasks: Vec<JoinHandle<()>>,
}

impl LocalAws {
    /// Starts moto and the front.
    ///
    /// # Errors
    /// When moto does not start or the address cannot be bound.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        let scale = config.health_interval_scale;
        anyhow::ensure!(scale.is_finite() && (0.0..=1000.0).contains(&scale), "the scale {scale} is out of range");
        anyhow::ensure!(config.pace.is_finite() && config.pace > 0.0, "the pace {} is out of range", config.pace);
        let seed = config.seed.unwrap_or_else(|| fastrand::u64(..=u64::from(u32::MAX)));
        let listener =
            TcpListener::bind(config.listen).await.with_context(|| format!("cannot listen on {}", config.listen))?;
        let address = listener.local_addr()?;
        let moto = Moto::start(&config.moto_python).await?;
        let client = MotoClient::new(moto.address);
        let (nodes, views) = (0..NODES).map(|_| watch::channel(crate::node::config::Known::default())).unzip();
        let temper = Temper::without(config.without);
        let lags = if temper.has(Rule::LateNodes) { lags(seed, config.pace) } else { [Duration::ZERO; NODES] };
        let checker = Arc::new(Checker::new(scale));
        let metrics = Arc::new(Metrics::default());
        let node = Node::new(seed, views, Arc::clone(&checker), config.target_timeout, &metrics);
        let data_plane = Arc::new(DataPlane::new(address_base(address), node));
        let hosts = Arc::new(Hosts::default());
        let compute = Arc::new(Compute::new(client, Arc::clone(&hosts)));
        let converge = Arc::new(Converge::new(
            client,
            config.converge,
            (nodes, lags),
            Arc::clone(&checker),
            Arc::clone(&data_plane),
            Arc::clone(&compute) as Arc<dyn Machines>,
        ));
        let refreshes = Refreshes::new(Arc::clone(&compute), Arc::clone(&converge), Arc::clone(&checker));
        let ecs = Ecs::new(client, Arc::clone(&hosts), Arc::clone(&converge), Arc::clone(&checker));
        let core = Arc::new(Core {
            moto: client,
            converge: Arc::clone(&converge),
            checker,
            data_plane,
            hosts,
            compute,
            refreshes: Arc::new(refreshes),
            ecs: Arc::new(ecs),
            settings: Settings::default(),
            grpc_codes: GrpcCodes::default(),
            faults: Faults::default(),
            calls: CallLog::new(),
            metrics,
            functions: Functions::default(),
            temper,
            buckets: Buckets::new(config.pace),
            late: Late::new(seed),
            contention: Contention::new(seed),
            credentials: Credentials::default(),
            seed,
            quit: Notify::new(),
        });
        let served = Arc::clone(&core);
        let front = serve::accept(listener, move |peer, request| front::serve(Arc::clone(&served), peer, request));
        let tasks = vec![tokio::spawn(front), tokio::spawn(converge.poll(config.poll))];
        Ok(Self { seed, address, core, moto: Some(moto), tasks })
    }

    /// The address for AWS clients: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The first three bytes of the load balancers' addresses: `127.X.Y`.
    #[must_use]
    pub fn address_base(&self) -> String {
        let [a, b, c] = address_base(self.address);
        format!("{a}.{b}.{c}")
    }

    /// Where the load balancers are served.
    #[must_use]
    pub fn load_balancers(&self) -> Vec<LoadBalancerAddress> {
        self.core.data_plane.load_balancers()
    }

    /// All faults and how often they fired.
    #[must_use]
    pub fn faults(&self) -> Vec<FaultStatus> {
        self.core.faults.list()
    }

    /// Adds a fault and gives its number.
    pub fn add_fault(&self, spec: FaultSpec) -> u64 {
        self.core.faults.add(spec)
    }

    /// Removes all faults.
    pub fn clear_faults(&self) {
        self.core.faults.clear();
    }

    /// The AWS calls so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.core.calls.list()
    }

    /// Empties the log of calls.
    pub fn clear_calls(&self) {
        self.core.calls.clear();
    }

    /// Makes a Lambda function that answers so, one after the other; the last answer stays. An answer that begins with
    /// `!` is an error of the function's.
    pub fn set_function(&self, name: &str, answers: &[&str]) {
        self.core.functions.set(name, answers);
    }

    /// How often calls were throttled so far, by operation.
    #[must_use]
    pub fn throttled(&self) -> BTreeMap<String, usize> {
        self.core.temper.throttled()
    }

    /// From now on, or from that moment on, calls with this access key are refused, since its credentials have ended.
    pub fn end_credentials(&self, access_key: &str, at: Instant) {
        self.core.credentials.end(access_key, at);
    }

    /// What broke AWS's service models so far, which is forgotten by that: whoever doesn't ask fails with it.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.core.temper.violations()
    }

    /// Waits until every node knows the last change.
    ///
    /// # Errors
    /// When moto can't be read.
    pub async fn settled(&self) -> anyhow::Result<()> {
        self.core.converge.settled().await
    }

    /// Waits until somebody asks it to quit, by `POST /_local/quit`.
    pub async fn quit_asked(&self) {
        self.core.quit.notified().await;
    }

    /// Ends everything and waits for moto's end.
    pub async fn stop(mut self) {
        self.abort();
        if let Some(moto) = self.moto.take() {
            moto.stop().await;
        }
    }

    fn abort(&self) {
        for task in &self.tasks {
            task.abort();
        }
        self.core.data_plane.stop();
        self.core.checker.stop();
        self.core.refreshes.stop();
        self.core.ecs.stop();
        self.core.hosts.stop_all();
    }
}

impl Drop for LocalAws {
    /// Ends everything.
    ///
    /// # Panics
    /// Where a request broke AWS's service models, unless something else failed already.
    fn drop(&mut self) {
        self.abort();
        if std::thread::panicking() {
            eprintln!("local-aws: the seed was {}", self.seed);
        }
        let violations = self.core.temper.violations();
        assert!(violations.is_empty() || std::thread::panicking(), "AWS would refuse:\n{}", violations.join("\n"));
    }
}

/// The port of the front is unique on this machine, so an address made of it is too. Its high byte is never 0 for
/// ports that can be had without privilege, so this is never 127.0.0.x, which is for targets.
const fn address_base(front: SocketAddr) -> [u8; 3] {
    let [high, low] = front.port().to_be_bytes();
    [127, high, low]
}
