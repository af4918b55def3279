//! What there is of this local AWS.

use std::sync::Arc;

use tokio::sync::Notify;

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
use crate::core::moto::MotoClient;
use crate::core::temper::Temper;
use crate::node::checker::Checker;
use crate::node::converge::Converge;
use crate::node::data_plane::DataPlane;
use crate::node::target_groups::GrpcCodes;

/// Everything a request to the front can reach.
#[derive(Debug)]
pub(crate) struct Core {
    pub moto: MotoClient,
    pub converge: Arc<Converge>,
    pub checker: Arc<Checker>,
    pub data_plane: Arc<DataPlane>,
    pub hosts: Arc<Hosts>,
    pub compute: Arc<Compute>,
    pub refreshes: Arc<Refreshes>,
    pub ecs: Arc<Ecs>,
    pub settings: Settings,
    pub grpc_codes: GrpcCodes,
    pub faults: Faults,
    pub calls: CallLog,
    pub metrics: Arc<Metrics>,
    pub functions: Functions,
    pub temper: Temper,
    pub buckets: Buckets,
    pub late: Late,
    pub contention: Contention,
    pub credentials: Credentials,
    pub seed: u64,
    pub quit: Notify,
}
