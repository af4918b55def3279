//! Terraform's plugin protocol, version 6.11, as a small framework: everything between a `terraform` process and a
//! provider written in Rust. It knows nothing of what the provider is for.
//!
//! To build a provider, implement [`Provider`] and one [`Resource`] per type, and hand the provider to
//! [`handshake::serve`]:
//!
//! - [`schema`] declares attributes; nested attributes of any depth, sets, maps, sensitive and write-only values.
//! - [`value`] is what configurations, plans and states hold: nulls and unknowns are values like any other.
//! - [`diagnostics`] are the messages for people, each at its attribute [`path`].
//! - [`provider`] has the traits; each says what it is given and what it owes.
//!
//! The server keeps the rules that hold for every provider. A panic in an operation becomes a diagnostic and the state
//! known so far is returned (see [`provider::Checkpoint`]). StopProvider cancels running operations through
//! [`Cancel`] and nothing else. An unknown never leaves an apply, a write-only value never reaches a plan or a
//! state. Only the process that started the provider can call it: the socket is in a folder of the user's own, and TLS
//! accepts exactly the certificate that the host handed over in the environment.
//!
//! Data flows one way: `handshake → server → (decode) → your trait → (encode)`.

mod arguments;
pub mod diagnostics;
pub mod docs;
mod encode;
pub mod handshake;
mod host;
pub mod logging;
pub mod msgpack;
pub mod path;
pub mod provider;
pub mod schema;
mod server;
mod socket;
mod tls;
pub mod value;

#[cfg(test)]
mod tests;

pub use crate::cancel::Cancel;
pub use diagnostics::{Diagnostic, Diagnostics, Severity};
pub use path::Path;
pub use provider::{
    ApplyRequest, Checkpoint, DataSource, DestroyRequest, Function, Parameter, PlanRequest, Planned, Provider,
    ReadRequest, Resource, Stored,
};
pub use schema::{Attribute, Kind, Nesting, Schema, Type};
pub use value::{Number, Value};

/// The protocol's messages and services, generated from `proto/`.
#[allow(missing_docs, dead_code, clippy::all, reason = "generated code, of which not everything is used")]
mod proto {
    pub mod tfplugin6 {
        tonic::include_proto!("tfplugin6");
    }
    pub mod plugin {
        tonic::include_proto!("plugin");
    }
    pub mod health {
        tonic::include_proto!("grpc.health.v1");
    }
}
