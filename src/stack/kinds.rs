//! What kinds there are of a thing, where AWS's defaults depend on the kind.

use crate::argument::Kind;

/// Kinds of target groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// Of an Application Load Balancer.
    Application,
    /// Of a Network Load Balancer.
    Network,
    /// Of a Network Load Balancer, with addresses as targets of TCP or TLS.
    NetworkByAddress,
    /// Of a Network Load Balancer, for UDP.
    NetworkUdp,
    /// Of a Network Load Balancer, with an Application Load Balancer as its target.
    LoadBalancer,
    /// With a function as its target.
    Lambda,
}

impl Kind for GroupKind {
    fn plural(self) -> &'static str {
        match self {
            GroupKind::Application => "HTTP and HTTPS target groups",
            GroupKind::Network => "TCP, TLS, UDP and TCP_UDP target groups",
            GroupKind::NetworkByAddress => "TCP and TLS target groups of type `ip`",
            GroupKind::NetworkUdp => "UDP and TCP_UDP target groups",
            GroupKind::LoadBalancer => "target groups of type `alb`",
            GroupKind::Lambda => "target groups of type `lambda`",
        }
    }

    fn family(self) -> &'static str {
        match self {
            GroupKind::NetworkByAddress | GroupKind::NetworkUdp => GroupKind::Network.plural(),
            other => other.plural(),
        }
    }
}

/// Kinds of health checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// Of a target of an Application Load Balancer.
    Http,
    /// Likewise, of a target that speaks gRPC.
    Grpc,
    /// Of a target of a Network Load Balancer, by a connection.
    Tcp,
    /// Of a target of a Network Load Balancer, by a request.
    NetworkHttp,
    /// Likewise, by TLS.
    NetworkHttps,
    /// Of a function.
    Lambda,
}

impl Kind for CheckKind {
    fn plural(self) -> &'static str {
        match self {
            CheckKind::Http => "HTTP and HTTPS target groups",
            CheckKind::Grpc => "target groups with `protocol_version = \"GRPC\"`",
            CheckKind::Tcp => "checks by `TCP`",
            CheckKind::NetworkHttp => "checks by `HTTP` in network target groups",
            CheckKind::NetworkHttps => "checks by `HTTPS` in network target groups",
            CheckKind::Lambda => "target groups of type `lambda`",
        }
    }
}

/// Kinds of services, by where their tasks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceKind {
    /// Where capacity providers say.
    ByCapacityProviders,
    /// In subnets, with addresses of their own.
    InSubnets,
    /// On the instances of the cluster.
    OnInstances,
}

impl Kind for ServiceKind {
    fn plural(self) -> &'static str {
        match self {
            ServiceKind::ByCapacityProviders => "services with `capacity_provider_strategy`",
            ServiceKind::InSubnets => "services with `subnet_ids`",
            ServiceKind::OnInstances => "other services without `capacity_provider_strategy`",
        }
    }
}
