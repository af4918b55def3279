//! The traits that a provider implements, and what each operation is given and gives back.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::diagnostics::Diagnostics;
use super::path::Path;
use super::schema::{Schema, Type};
use super::value::Value;
use crate::cancel::Cancel;

/// A provider: its configuration and what it offers. `serve` hands calls to it; it never sees the wire.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// The schema of the `provider` block.
    fn schema(&self) -> &Schema;

    /// Checks a configuration beyond what its schema says. Values may be unknown.
    fn validate(&self, config: &Value, diagnostics: &mut Diagnostics) {
        let _ = (config, diagnostics);
    }

    /// Takes the configuration. Called once, before anything that reads or changes the world. Values may be unknown
    /// while planning. Must not touch the network: many configurations are never used.
    async fn configure(&self, config: &Value, terraform_version: &str, diagnostics: &mut Diagnostics);

    /// The resources by type name.
    fn resources(&self) -> &[(&'static str, Arc<dyn Resource>)];

    /// The data sources by type name.
    fn data_sources(&self) -> &[(&'static str, Arc<dyn DataSource>)] {
        &[]
    }

    /// The functions by name.
    fn functions(&self) -> &[(&'static str, Arc<dyn Function>)] {
        &[]
    }
}

/// A managed resource.
///
/// Every value has the shape of `schema().ty()`. The server keeps the rules that hold for all resources (rules of the
/// schema, write-only values, unknowns after apply, panics), so an implementation only says what is its own.
#[async_trait]
pub trait Resource: Send + Sync {
    /// The resource's schema.
    fn schema(&self) -> &Schema;

    /// Checks a configuration beyond what its schema says. Values may be unknown.
    fn validate(&self, config: &Value, diagnostics: &mut Diagnostics) {
        let _ = (config, diagnostics);
    }

    /// Brings a state of an older version, as it was stored, to the current schema's shape.
    ///
    /// # Errors
    /// Says why the state can't be read.
    fn upgrade(&self, version: i64, state: serde_json::Value) -> Result<serde_json::Value, String> {
        let current = self.schema().version;
        if version == current {
            return Ok(state);
        }
        Err(format!("the state has version {version}, this provider knows up to {current}"))
    }

    /// The configuration that somebody would write for a state, which an import has just read. Its plan is to be empty. Only
    /// Terraform from 1.14 on asks; former ones write everything down that a configuration can set.
    fn generate(&self, state: &Value) -> Value {
        self.schema().configurable(state.clone())
    }

    /// Observes the world. `state: None` means that the object is gone.
    async fn read(&self, request: ReadRequest, diagnostics: &mut Diagnostics) -> Stored;

    /// Says what the state will be after a create or an update; unknown where only apply can tell.
    async fn plan(&self, request: PlanRequest, diagnostics: &mut Diagnostics) -> Planned;

    /// Tells what speaks against a destroy. Returns the private data for it.
    async fn plan_destroy(&self, request: DestroyRequest, diagnostics: &mut Diagnostics) -> Vec<u8> {
        let _ = diagnostics;
        request.private
    }

    /// Creates or updates. Returns the state as it is then, also after an error: what exists must never be lost.
    async fn apply(&self, request: ApplyRequest, diagnostics: &mut Diagnostics) -> Stored;

    /// Destroys. Returns the state of what is left; nothing if nothing is.
    async fn destroy(&self, request: DestroyRequest, diagnostics: &mut Diagnostics) -> Stored {
        let _ = (request, diagnostics);
        Stored::default()
    }

    /// Finds an existing object by the id that the user gave; `read` fills in the rest.
    async fn import(&self, id: &str, cancel: Cancel, diagnostics: &mut Diagnostics) -> Stored {
        let _ = cancel;
        diagnostics.error("Import is not offered", format!("This resource can't be imported (id {id:?})."));
        Stored::default()
    }
}

/// A state and the private data stored beside it.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// The state; `None` if the object doesn't exist.
    pub state: Option<Value>,
    /// Bytes that only the provider reads.
    pub private: Vec<u8>,
}

/// What `read` is given.
#[derive(Debug)]
pub struct ReadRequest {
    /// The state as it was stored.
    pub state: Value,
    /// The private data stored with it.
    pub private: Vec<u8>,
    /// The stop signal.
    pub cancel: Cancel,
}

/// What `plan` is given.
#[derive(Debug)]
pub struct PlanRequest {
    /// The state before; `None` to create.
    pub prior: Option<Value>,
    /// The configuration merged with the computed values of the state before.
    pub proposed: Value,
    /// The configuration.
    pub config: Value,
    /// The private data of the state before.
    pub private: Vec<u8>,
    /// The stop signal.
    pub cancel: Cancel,
}

/// What `plan` gives back.
#[derive(Clone, Debug, Default)]
pub struct Planned {
    /// The state to come; `None` if there is no plan.
    pub state: Option<Value>,
    /// Attributes whose change makes a replacement necessary.
    pub replace: Vec<Path>,
    /// Private data for apply.
    pub private: Vec<u8>,
}

/// What `plan_destroy` and `destroy` are given.
#[derive(Debug)]
pub struct DestroyRequest {
    /// The state before.
    pub prior: Value,
    /// The private data of the state before, or from the plan.
    pub private: Vec<u8>,
    /// The stop signal.
    pub cancel: Cancel,
}

/// What `apply` is given.
#[derive(Debug)]
pub struct ApplyRequest {
    /// The state before; `None` to create.
    pub prior: Option<Value>,
    /// What was planned.
    pub planned: Value,
    /// The configuration, now wholly known.
    pub config: Value,
    /// The private data from the plan.
    pub private: Vec<u8>,
    /// Where to leave the state that is true so far.
    pub checkpoint: Checkpoint,
    /// The stop signal.
    pub cancel: Cancel,
}

/// The state that is true so far in an apply. If the apply ends by a panic, this is what Terraform is told.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint(Arc<Mutex<Stored>>);

impl Checkpoint {
    /// A checkpoint that begins with the state before.
    pub fn new(stored: Stored) -> Checkpoint {
        Checkpoint(Arc::new(Mutex::new(stored)))
    }

    /// Leaves a state.
    pub fn set(&self, stored: Stored) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stored;
    }

    /// The state that was left last.
    pub fn get(&self) -> Stored {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A data source.
#[async_trait]
pub trait DataSource: Send + Sync {
    /// The data source's schema.
    fn schema(&self) -> &Schema;

    /// Checks a configuration beyond what its schema says. Values may be unknown.
    fn validate(&self, config: &Value, diagnostics: &mut Diagnostics) {
        let _ = (config, diagnostics);
    }

    /// Reads it. The configuration is wholly known.
    async fn read(&self, config: Value, cancel: Cancel, diagnostics: &mut Diagnostics) -> Value;
}

/// A parameter of a function.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its name, for messages.
    pub name: &'static str,
    /// Its type.
    pub ty: Type,
    /// What the documentation says, Markdown.
    pub description: &'static str,
}

/// A function: pure, offline, callable before the provider is configured.
pub trait Function: Send + Sync {
    /// One line.
    fn summary(&self) -> &'static str;

    /// What the documentation says, Markdown.
    fn description(&self) -> &'static str;

    /// The parameters in order.
    fn parameters(&self) -> Vec<Parameter>;

    /// The type of the result.
    fn result(&self) -> Type;

    /// Calls it. No argument is null or unknown.
    ///
    /// # Errors
    /// The index of the argument that is wrong, if it is one, and what is wrong.
    fn call(&self, arguments: Vec<Value>) -> Result<Value, (Option<usize>, String)>;
}
