//! Keeps the nodes' configuration in step with moto: learns whose resources there are, reads them, applies them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::core::describe;
use crate::core::moto::{MotoClient, Scope};
use crate::node::checker::Checker;
use crate::node::config::{Known, Listener, LoadBalancer, Rule, Target, TargetGroup, View};
use crate::node::data_plane::DataPlane;

/// More accounts and regions than any test has; a bound, not a limit to meet.
const MOST_SCOPES: usize = 64;

/// How many nodes a load balancer has.
pub(crate) const NODES: usize = 3;

/// The instances and tasks behind the nodes.
pub(crate) trait Machines: std::fmt::Debug + Send + Sync {
    /// Brings what runs in line with what moto says is there.
    fn sync<'a>(&'a self, scopes: &'a [Scope]) -> Pin<Box<dyn Future<Output = anyhow::Result<()>> + Send + 'a>>;
    /// Whether an instance was terminated.
    fn is_ended(&self, id: &str) -> bool;
    /// Whether an instance never started.
    fn is_dead(&self, id: &str) -> bool;
    /// Where each of them answers.
    fn addresses(&self) -> BTreeMap<String, SocketAddr>;
    /// Every node leads to these at most, so that others that were told to end may.
    fn led_to_at_most(&self, known: &BTreeMap<String, SocketAddr>);
}

/// Reads moto and brings the nodes in line.
#[derive(Debug)]
pub(crate) struct Converge {
    moto: MotoClient,
    delay: Duration,
    /// By account and region, one access key each.
    scopes: Mutex<BTreeMap<(String, String), Scope>>,
    accounts: Mutex<HashMap<String, String>>,
    tickets: AtomicU64,
    /// The last ticket that a finished reading covers; held while reading.
    reading: tokio::sync::Mutex<u64>,
    /// What moto said last.
    control: watch::Sender<Arc<View>>,
    /// What each node knows.
    nodes: Vec<watch::Sender<Known>>,
    /// How much later than the first one each of the others follows.
    lags: [Duration; NODES],
    /// How many changes some node still has to follow.
    behind: watch::Sender<usize>,
    /// The number of the last reading that was applied; held while applying.
    applied: tokio::sync::Mutex<u64>,
    checker: Arc<Checker>,
    data_plane: Arc<DataPlane>,
    machines: Arc<dyn Machines>,
}

impl Converge {
    pub(crate) fn new(
        moto: MotoClient,
        delay: Duration,
        (nodes, lags): (Vec<watch::Sender<Known>>, [Duration; NODES]),
        checker: Arc<Checker>,
        data_plane: Arc<DataPlane>,
        machines: Arc<dyn Machines>,
    ) -> Self {
        Self {
            moto,
            delay,
            scopes: Mutex::default(),
            accounts: Mutex::default(),
            tickets: AtomicU64::new(0),
            reading: tokio::sync::Mutex::default(),
            control: watch::Sender::new(Arc::default()),
            nodes,
            lags,
            behind: watch::Sender::new(0),
            applied: tokio::sync::Mutex::default(),
            checker,
            data_plane,
            machines,
        }
    }

    /// Whether a target that moto lists is one of an instance that runs no more, or never did.
    pub(crate) fn is_void(&self, target: &Target) -> bool {
        self.machines.is_ended(&target.id) || self.machines.is_dead(&target.id)
    }

    /// What moto said last, which the nodes may not know yet.
    pub(crate) fn control(&self) -> Arc<View> {
        Arc::clone(&self.control.borrow())
    }

    /// The account of an access key; none if moto doesn't say.
    pub(crate) async fn account(&self, access_key: &str) -> Option<String> {
        let known = self.accounts.lock().unwrap_or_else(PoisonError::into_inner).get(access_key).cloned();
        if known.is_some() {
            return known;
        }
        let account = self.moto.account(access_key).await.ok()?;
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        // Assumed roles bring ever new keys; forgetting them costs one call each.
        if accounts.len() > 1000 {
            accounts.clear();
        }
        accounts.insert(access_key.to_owned(), account.clone());
        Some(account)
    }

    /// Notes that this key uses this region.
    pub(crate) async fn learn(&self, scope: &Scope) {
        let Some(account) = self.account(&scope.access_key).await else { return };
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        if scopes.len() < MOST_SCOPES {
            scopes.entry((account, scope.region.clone())).or_insert_with(|| scope.clone());
        }
    }

    /// Reads moto and applies what changed: at once, or after the delay. Concurrent callers share readings, but each
    /// gets one that began after its call.
    pub(crate) async fn refresh(self: &Arc<Self>) -> anyhow::Result<()> {
        let ticket = self.tickets.fetch_add(1, Ordering::SeqCst) + 1;
        let mut covered = self.reading.lock().await;
        if *covered >= ticket {
            return Ok(());
        }
        let latest = self.tickets.load(Ordering::SeqCst);
        let view = Arc::new(self.read().await?);
        *covered = latest;
        let changed = **self.control.borrow() != *view;
        self.control.send_replace(Arc::clone(&view));
        let at_once = self.delay.is_zero() && self.lags.iter().all(Duration::is_zero);
        if self.delay.is_zero() {
            self.apply(latest, Arc::clone(&view)).await;
        }
        if at_once {
            self.machines.led_to_at_most(&view.hosts);
        } else if changed {
            self.behind.send_modify(|behind| *behind += 1);
            let this = Arc::clone(self);
            tokio::spawn(async move {
                if !this.delay.is_zero() {
                    tokio::time::sleep(this.delay).await;
                    this.apply(latest, Arc::clone(&view)).await;
                }
                this.follow(latest, &view).await;
                this.machines.led_to_at_most(&view.hosts);
                this.behind.send_modify(|behind| *behind -= 1);
            });
        }
        Ok(())
    }

    /// One node after the other follows the first one.
    async fn follow(&self, reading: u64, view: &Arc<View>) {
        let mut waited = Duration::ZERO;
        for (node, lag) in self.nodes.iter().zip(&self.lags).skip(1) {
            tokio::time::sleep(lag.saturating_sub(waited)).await;
            waited = (*lag).max(waited);
            // A later change has its own way.
            node.send_if_modified(|known| {
                let is_newer = known.0 < reading;
                if is_newer {
                    *known = (reading, Arc::clone(view));
                }
                is_newer
            });
        }
    }

    /// Waits until every node knows what moto says.
    pub(crate) async fn settled(self: &Arc<Self>) -> anyhow::Result<()> {
        self.refresh().await?;
        self.behind.subscribe().wait_for(|behind| *behind == 0).await?;
        Ok(())
    }

    async fn apply(&self, reading: u64, view: Arc<View>) {
        let mut applied = self.applied.lock().await;
        if *applied >= reading {
            return;
        }
        *applied = reading;
        self.checker.apply(&view);
        // The nodes that follow at once.
        for (node, _) in self.nodes.iter().zip(&self.lags).filter(|(_, lag)| lag.is_zero()) {
            node.send_replace((reading, Arc::clone(&view)));
        }
        self.data_plane.apply(&view).await;
    }

    /// For ever: notices what was changed at moto directly.
    pub(crate) async fn poll(self: Arc<Self>, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            if let Err(error) = self.refresh().await {
                eprintln!("local-aws: {error:#}");
            }
        }
    }

    async fn read(&self) -> anyhow::Result<View> {
        let scopes: Vec<Scope> = self.scopes.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        if let Err(error) = self.machines.sync(&scopes).await {
            eprintln!("local-aws: instances: {error:#}");
        }
        let mut view = View::default();
        for scope in &scopes {
            self.read_scope(scope, &mut view).await?;
        }
        view.hosts = self.machines.addresses();
        view.load_balancers.sort_by(|a, b| (&a.created, &a.arn).cmp(&(&b.created, &b.arn)));
        Ok(view)
    }

    async fn read_scope(&self, scope: &Scope, view: &mut View) -> anyhow::Result<()> {
        let found = self.moto.list::<describe::LoadBalancers, _>(scope, "DescribeLoadBalancers", &[]).await?;
        let known: BTreeSet<String> = view.load_balancers.iter().map(|lb| lb.arn.clone()).collect();
        for lb in found.into_iter().filter(|lb| !known.contains(&lb.load_balancer_arn)) {
            let arn = lb.load_balancer_arn;
            let listeners = self.read_listeners(scope, &arn).await?;
            view.load_balancers.push(LoadBalancer {
                arn,
                name: lb.load_balancer_name,
                created: lb.created_time,
                listeners,
            });
        }
        for group in self.moto.list::<describe::TargetGroups, _>(scope, "DescribeTargetGroups", &[]).await? {
            let mut group = TargetGroup::new(group, Vec::new());
            group.targets = self.targets(scope, &group.arn, group.port).await?;
            view.target_groups.insert(group.arn.clone(), group);
        }
        Ok(())
    }

    async fn read_listeners(&self, scope: &Scope, load_balancer: &str) -> anyhow::Result<Vec<Listener>> {
        let of = ("LoadBalancerArn", load_balancer);
        let mut listeners = Vec::new();
        for listener in self.moto.list_of::<describe::Listeners, _>(scope, "DescribeListeners", of).await? {
            let of = ("ListenerArn", listener.listener_arn.as_str());
            let rules = self.moto.list_of::<describe::Rules, _>(scope, "DescribeRules", of).await?;
            let mut rules: Vec<Rule> = rules.into_iter().map(Rule::from).collect();
            rules.sort_by_key(|rule| rule.priority.unwrap_or(u32::MAX));
            let Some(port) = listener.port.and_then(|port| port.parse().ok()) else { continue };
            listeners.push(Listener { arn: listener.listener_arn, port, protocol: listener.protocol, rules });
        }
        Ok(listeners)
    }

    async fn targets(&self, scope: &Scope, group: &str, group_port: u16) -> anyhow::Result<Vec<Target>> {
        let of = ("TargetGroupArn", group);
        let found = self.moto.list_of::<describe::TargetHealth, _>(scope, "DescribeTargetHealth", of).await?;
        let mut targets = Vec::new();
        for target in found.into_iter().map(|found| Target::new(found.target, group_port)) {
            if self.machines.is_ended(&target.id) {
                // moto forgets to: its own termination leaves the target registered.
                let parameters = [("TargetGroupArn", group), ("Targets.member.1.Id", &target.id)];
                let _ = self.moto.call(scope, "DeregisterTargets", &parameters).await;
            } else if !self.machines.is_dead(&target.id) {
                targets.push(target);
            }
        }
        Ok(targets)
    }
}
