//! What kinds there are of a thing, where AWS's defaults depend on the kind.

use super::spec::{HealthCheck, Service, TargetGroup};
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

impl TargetGroup {
    /// Which kind it is.
    pub fn kind(&self) -> GroupKind {
        let protocol = self.protocol.as_deref().unwrap_or("HTTP");
        match (self.target_type.as_deref(), protocol) {
            (Some("lambda"), _) => GroupKind::Lambda,
            (Some("alb"), _) => GroupKind::LoadBalancer,
            (_, "HTTP" | "HTTPS") => GroupKind::Application,
            (_, "UDP" | "TCP_UDP") => GroupKind::NetworkUdp,
            (Some("ip"), _) => GroupKind::NetworkByAddress,
            _ => GroupKind::Network,
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
            CheckKind::NetworkHttp => "checks by `HTTP` in TCP, TLS, UDP and TCP_UDP target groups",
            CheckKind::NetworkHttps => "checks by `HTTPS` in such target groups",
            CheckKind::Lambda => "target groups of type `lambda`",
        }
    }
}

impl HealthCheck {
    /// Which kind it is in a target group.
    pub fn kind(&self, group: &TargetGroup) -> CheckKind {
        match (group.kind(), self.protocol.as_deref()) {
            (GroupKind::Lambda, _) => CheckKind::Lambda,
            (GroupKind::Application, _) if group.protocol_version.as_deref() == Some("GRPC") => CheckKind::Grpc,
            (GroupKind::Application, _) => CheckKind::Http,
            (_, Some("HTTPS")) => CheckKind::NetworkHttps,
            (_, Some("HTTP")) | (GroupKind::LoadBalancer, None) => CheckKind::NetworkHttp,
            _ => CheckKind::Tcp,
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

impl Service {
    /// Which kind it is.
    pub fn kind(&self) -> ServiceKind {
        match (self.capacity_provider_strategy.is_empty(), self.subnet_ids.is_empty()) {
            (false, _) => ServiceKind::ByCapacityProviders,
            (true, false) => ServiceKind::InSubnets,
            (true, true) => ServiceKind::OnInstances,
        }
    }
}
