//! What everything else here is made of: calls to AWS as they come and are counted, faults, moto, plain HTTP.

pub(crate) mod aws_call;
pub(crate) mod buckets;
pub(crate) mod calls;
pub(crate) mod clock;
pub(crate) mod contention;
pub(crate) mod credentials;
pub(crate) mod describe;
pub(crate) mod faults;
pub(crate) mod functions;
pub(crate) mod late;
pub(crate) mod metrics;
pub(crate) mod moto;
pub(crate) mod owner;
pub(crate) mod serve;
pub(crate) mod temper;
pub(crate) mod upstream;
pub(crate) mod wildcard;
pub(crate) mod xml;
