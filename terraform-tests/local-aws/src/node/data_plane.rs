//! The nodes of the load balancers: real listeners on loopback addresses that route as the configuration says.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::core::serve::{self, Peer};
use crate::node::choice::Node;
use crate::node::config::View;
use crate::node::proxy;

/// Where a load balancer is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LoadBalancerAddress {
    /// Its ARN.
    pub arn: String,
    /// Its name.
    pub name: String,
    /// Its loopback address, the same as long as this program runs.
    pub address: Ipv4Addr,
    /// Its listeners.
    pub listeners: Vec<ListenerAddress>,
}

/// A listener and whether its port could be bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ListenerAddress {
    /// Its ARN.
    pub arn: String,
    /// The port, on the load balancer's address.
    pub port: u16,
    /// False: the port is taken or not allowed; it is tried again at each reading.
    pub bound: bool,
}

#[derive(Debug)]
struct Bound {
    address: SocketAddr,
    tcp: bool,
    /// None: it could not be bound.
    task: Option<JoinHandle<()>>,
}

/// All listeners.
#[derive(Debug)]
pub(crate) struct DataPlane {
    node: Arc<Node>,
    /// 127.X.Y
    base: [u8; 3],
    /// The last byte of each load balancer's address.
    places: Mutex<Vec<String>>,
    bound: Mutex<HashMap<String, Bound>>,
}

impl DataPlane {
    pub(crate) fn new(base: [u8; 3], node: Node) -> Self {
        Self { node: Arc::new(node), base, places: Mutex::default(), bound: Mutex::default() }
    }

    /// The address of a load balancer: the first has 1, and none is ever given twice.
    fn address(&self, arn: &str) -> Option<Ipv4Addr> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = match places.iter().position(|known| known == arn) {
            Some(place) => place,
            None if places.len() >= 254 => return None,
            None => {
                places.push(arn.to_owned());
                places.len() - 1
            }
        };
        let [a, b, c] = self.base;
        Some(Ipv4Addr::new(a, b, c, u8::try_from(place + 1).ok()?))
    }

    /// Opens and closes ports so that they fit the view. Only one call runs at a time.
    pub(crate) async fn apply(&self, view: &View) {
        let mut wanted: HashMap<String, (SocketAddr, bool)> = HashMap::new();
        for load_balancer in &view.load_balancers {
            let Some(ip) = self.address(&load_balancer.arn) else {
                eprintln!("local-aws: no address is left for {}", load_balancer.arn);
                continue;
            };
            for listener in &load_balancer.listeners {
                let tcp = !matches!(listener.protocol.as_str(), "HTTP" | "HTTPS");
                wanted.insert(listener.arn.clone(), (SocketAddr::from((ip, listener.port)), tcp));
            }
        }
        for ended in self.take_ended(&wanted) {
            // Awaited, so that the port is free before it is bound again.
            ended.abort();
            let _ = ended.await;
        }
        for (arn, (address, tcp)) in wanted {
            self.open(arn, address, tcp).await;
        }
    }

    fn take_ended(&self, wanted: &HashMap<String, (SocketAddr, bool)>) -> Vec<JoinHandle<()>> {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = bound.extract_if(|arn, bound| wanted.get(arn) != Some(&(bound.address, bound.tcp)));
        ended.filter_map(|(_, bound)| bound.task).collect()
    }

    async fn open(&self, arn: String, address: SocketAddr, tcp: bool) {
        let known = {
            let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
            bound.get(&arn).map(|bound| bound.task.is_some())
        };
        if known == Some(true) {
            return;
        }
        let task = match TcpListener::bind(address).await {
            Ok(listener) => Some(self.spawn(listener, &arn, tcp)),
            Err(error) => {
                if known.is_none() {
                    eprintln!("local-aws: cannot listen on {address} for {arn}: {error}");
                }
                None
            }
        };
        self.bound.lock().unwrap_or_else(PoisonError::into_inner).insert(arn, Bound { address, tcp, task });
    }

    fn spawn(&self, listener: TcpListener, arn: &str, tcp: bool) -> JoinHandle<()> {
        let node = Arc::clone(&self.node);
        let arn: Arc<str> = arn.into();
        if tcp {
            return tokio::spawn(serve::accept_streams(listener, move |stream, peer: Peer| {
                forward_stream(Arc::clone(&node), Arc::clone(&arn), stream, peer)
            }));
        }
        tokio::spawn(serve::accept(listener, move |peer, request| {
            let (node, arn) = (Arc::clone(&node), Arc::clone(&arn));
            async move { proxy::serve(&node, &arn, peer, request).await }
        }))
    }

    /// Where the load balancers of a view are served.
    pub(crate) fn load_balancers(&self) -> Vec<LoadBalancerAddress> {
        let view = self.node.view();
        let listed = view.load_balancers.iter().filter_map(|load_balancer| {
            let address = self.address(&load_balancer.arn)?;
            let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
            let is_bound = |arn: &str| bound.get(arn).is_some_and(|bound| bound.task.is_some());
            let listeners = load_balancer.listeners.iter().map(|listener| ListenerAddress {
                arn: listener.arn.clone(),
                port: listener.port,
                bound: is_bound(&listener.arn),
            });
            Some(LoadBalancerAddress {
                arn: load_balancer.arn.clone(),
                name: load_balancer.name.clone(),
                address,
                listeners: listeners.collect(),
            })
        });
        listed.collect()
    }

    pub(crate) fn stop(&self) {
        for (_, bound) in self.bound.lock().unwrap_or_else(PoisonError::into_inner).drain() {
            if let Some(task) = bound.task {
                task.abort();
            }
        }
    }
}

/// A network load balancer's listener: chooses a target for each connection and splices.
async fn forward_stream(node: Arc<Node>, arn: Arc<str>, mut client: TcpStream, peer: Peer) {
    let target = {
        let view = node.view_of(peer.client, &arn);
        let rule = view.listener(&arn).and_then(|listener| listener.rules.last());
        let forward = rule.and_then(|rule| match crate::node::routing::final_action(rule) {
            Some(crate::node::config::Action::Forward(forward)) => Some(forward),
            _ => None,
        });
        let group = forward.and_then(|forward| node.draw(forward)).and_then(|arn| view.target_groups.get(arn));
        group.and_then(|group| node.next_target(&view, group))
    };
    let Some(target) = target else { return };
    if let Ok(Ok(mut upstream)) = tokio::time::timeout(node.target_limit, TcpStream::connect(target)).await {
        let _ = tokio::io::copy_bidirectional(&mut client, &mut upstream).await;
    }
}
