//! The protocol's RPCs: decode, check what holds for every provider, call the trait, encode.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::Stream;
use tokio::sync::Notify;
use tonic::{Request as Req, Response as Res, Status};

use super::diagnostics::Diagnostics;
use super::encode;
use super::msgpack;
use super::proto::tfplugin6 as pb;
use super::provider::{
    ApplyRequest, Checkpoint, DataSource, DestroyRequest, PlanRequest, Planned, Provider, ReadRequest, Resource, Stored,
};
use super::schema::Schema;
use super::value::Value;
use crate::cancel::{Cancel, CancelSource};
use crate::secrets;

/// What an operation that changes nothing may still do once it was stopped, such as say what it was at.
const LAST_WORDS: std::time::Duration = std::time::Duration::from_millis(400);

/// Serves one provider. Clones share everything.
#[derive(Clone)]
pub(super) struct Server {
    provider: Arc<dyn Provider>,
    pub(super) activity: Arc<Activity>,
}

/// What runs, and the signal that stops it.
#[derive(Debug, Default)]
pub(super) struct Activity {
    running: AtomicUsize,
    idle: Notify,
    pub(super) stop: CancelSource,
    /// Stops what changes nothing. Terraform tells its provider nothing of a Ctrl-C while it refreshes, imports, or plans as
    /// a part of an apply.
    pub(super) stop_looking: CancelSource,
}

impl Activity {
    /// Returns once no operation runs.
    pub(super) async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            if self.running.load(Ordering::SeqCst) == 0 {
                return;
            }
            idle.await;
        }
    }
}

/// Counts an operation for as long as it lives, however it ends.
struct Running(Arc<Activity>);

impl Running {
    fn new(activity: &Arc<Activity>) -> Running {
        activity.running.fetch_add(1, Ordering::SeqCst);
        Running(activity.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
        self.0.idle.notify_waiters();
    }
}

/// Ends a task with itself.
struct EndsWith(tokio::task::AbortHandle);

impl Drop for EndsWith {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Answer<T> = Result<Res<T>, Status>;
type Events<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Server {
    pub(super) fn new(provider: Arc<dyn Provider>) -> Server {
        Server { provider, activity: Arc::default() }
    }

    /// Runs an operation as a task of its own: a panic ends it alone, and a host that hangs up doesn't cut it in two.
    async fn run<T, F>(&self, what: &str, operation: impl FnOnce(Diagnostics) -> F) -> (Option<T>, Diagnostics)
    where
        T: Send + 'static,
        F: Future<Output = (T, Diagnostics)> + Send + 'static,
    {
        ended(what, self.begin(operation).await)
    }

    /// The same for an operation that changes nothing: it ends with the stop signal, wherever it waits then.
    async fn look<T, F>(
        &self,
        what: &str,
        cancel: Cancel,
        operation: impl FnOnce(Diagnostics) -> F,
    ) -> (Option<T>, Diagnostics)
    where
        T: Send + 'static,
        F: Future<Output = (T, Diagnostics)> + Send + 'static,
    {
        let interrupted = self.activity.stop_looking.token();
        let mut task = self.begin(operation);
        // Also where the host hangs up, and nobody waits for the answer any more.
        let _ends = EndsWith(task.abort_handle());
        let stopped = async {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = interrupted.cancelled() => {}
            }
            tokio::time::sleep(LAST_WORDS).await;
        };
        tokio::select! {
            result = &mut task => ended(what, result),
            () = stopped => {
                let mut diagnostics = Diagnostics::new();
                diagnostics.error("Interrupted", format!("{} was stopped before its answer came. It changes nothing.", sentence(what)));
                (None, diagnostics)
            }
        }
    }

    fn begin<T, F>(&self, operation: impl FnOnce(Diagnostics) -> F) -> tokio::task::JoinHandle<(T, Diagnostics)>
    where
        T: Send + 'static,
        F: Future<Output = (T, Diagnostics)> + Send + 'static,
    {
        let running = Running::new(&self.activity);
        let future = operation(Diagnostics::new());
        tokio::spawn(async move {
            let result = future.await;
            drop(running);
            result
        })
    }

    fn resource(&self, name: &str) -> Result<Arc<dyn Resource>, Status> {
        find(self.provider.resources(), name).ok_or_else(|| no_such("resource", name))
    }

    fn data_source(&self, name: &str) -> Result<Arc<dyn DataSource>, Status> {
        find(self.provider.data_sources(), name).ok_or_else(|| no_such("data source", name))
    }
}

/// What an operation came to; a panic becomes a message.
fn ended<T>(what: &str, result: Result<(T, Diagnostics), tokio::task::JoinError>) -> (Option<T>, Diagnostics) {
    match result {
        Ok((value, diagnostics)) => (Some(value), diagnostics),
        Err(error) => {
            let mut diagnostics = Diagnostics::new();
            diagnostics.error(
                "The provider has a bug",
                format!("{} ended by a panic: {}. Nothing that was known before it is lost. Please report this with the provider's log (TF_LOG_PROVIDER=debug).", sentence(what), panic_text(error)),
            );
            (None, diagnostics)
        }
    }
}

/// With a capital letter at its beginning.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn find<T: ?Sized>(table: &[(&'static str, Arc<T>)], name: &str) -> Option<Arc<T>> {
    table.iter().find(|(key, _)| *key == name).map(|(_, value)| value.clone())
}

fn no_such(what: &str, name: &str) -> Status {
    Status::invalid_argument(format!("there is no {what} {name:?}"))
}

fn panic_text(error: tokio::task::JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(payload) => {
                payload.downcast_ref::<&str>().map_or_else(|| "no message".to_owned(), |&text| text.to_owned())
            }
        },
        Err(error) => error.to_string(),
    }
}

/// Decodes a value, and remembers what of it is secret; none on the wire is null.
fn value(wire: Option<pb::DynamicValue>, schema: &Schema) -> Result<Value, Status> {
    let value = decoded(wire, schema)?;
    schema.learn(&value);
    Ok(value)
}

fn decoded(wire: Option<pb::DynamicValue>, schema: &Schema) -> Result<Value, Status> {
    let Some(wire) = wire else { return Ok(Value::Null) };
    let decoded = if !wire.msgpack.is_empty() {
        msgpack::decode(&wire.msgpack, schema.ty())
    } else if wire.json.is_empty() {
        Ok(Value::Null)
    } else {
        serde_json::from_slice(&wire.json)
            .map_err(|error| error.to_string())
            .and_then(|json| msgpack::from_json(&json, schema.ty()))
    };
    decoded.map_err(|error| Status::invalid_argument(format!("failed to decode a value: {error}")))
}

fn some(value: Value) -> Option<Value> {
    if value.is_null() { None } else { Some(value) }
}

fn wire(value: Option<&Value>, schema: &Schema) -> Option<pb::DynamicValue> {
    Some(encode::dynamic(value.unwrap_or(&Value::Null), schema.ty()))
}

fn capabilities() -> pb::ServerCapabilities {
    pb::ServerCapabilities {
        plan_destroy: true,
        get_provider_schema_optional: true,
        move_resource_state: false,
        generate_resource_config: true,
    }
}

/// The answer to a call for something that this provider doesn't have.
fn not_offered(what: &str) -> Vec<pb::Diagnostic> {
    let mut diagnostics = Diagnostics::new();
    diagnostics.error(format!("{what} not offered"), format!("This provider has no {what}."));
    encode::diagnostics(&diagnostics)
}

/// What holds for every result of an apply: nothing is unknown any more, nothing write-only is kept.
fn settle(stored: Stored, schema: &Schema, diagnostics: &mut Diagnostics) -> Stored {
    let state = stored.state.map(|state| {
        if !state.is_wholly_known() && !diagnostics.has_errors() {
            diagnostics.error(
                "The provider has a bug",
                "A value is still unknown after apply. It is stored as null; please report this.",
            );
        }
        schema.without_write_only(state.without_unknowns())
    });
    Stored { state, private: stored.private }
}

#[tonic::async_trait]
impl pb::provider_server::Provider for Server {
    async fn get_metadata(&self, _: Req<pb::get_metadata::Request>) -> Answer<pb::get_metadata::Response> {
        let name = |name: &str| pb::get_metadata::Name { type_name: name.to_owned() };
        let function = |name: &str| pb::get_metadata::FunctionName { name: name.to_owned() };
        Ok(Res::new(pb::get_metadata::Response {
            server_capabilities: Some(capabilities()),
            data_sources: self.provider.data_sources().iter().map(|(n, _)| name(n)).collect(),
            resources: self.provider.resources().iter().map(|(n, _)| name(n)).collect(),
            functions: self.provider.functions().iter().map(|(n, _)| function(n)).collect(),
            ..Default::default()
        }))
    }

    async fn get_provider_schema(
        &self,
        _: Req<pb::get_provider_schema::Request>,
    ) -> Answer<pb::get_provider_schema::Response> {
        let provider = &self.provider;
        let resources = provider.resources().iter().map(|(n, r)| ((*n).to_owned(), encode::schema(r.schema())));
        let data_sources = provider.data_sources().iter().map(|(n, d)| ((*n).to_owned(), encode::schema(d.schema())));
        let functions = provider.functions().iter().map(|(n, f)| ((*n).to_owned(), encode::function(f.as_ref())));
        Ok(Res::new(pb::get_provider_schema::Response {
            provider: Some(encode::schema(provider.schema())),
            resource_schemas: resources.collect(),
            data_source_schemas: data_sources.collect(),
            functions: functions.collect(),
            server_capabilities: Some(capabilities()),
            ..Default::default()
        }))
    }

    async fn validate_provider_config(
        &self,
        request: Req<pb::validate_provider_config::Request>,
    ) -> Answer<pb::validate_provider_config::Response> {
        let provider = self.provider.clone();
        let config = value(request.into_inner().config, provider.schema())?;
        let validate = |mut diagnostics: Diagnostics| async move {
            provider.schema().validate(&config, false, &mut diagnostics);
            provider.validate(&config, &mut diagnostics);
            ((), diagnostics)
        };
        let (_, diagnostics) = self.run("the validation of the provider's configuration", validate).await;
        let diagnostics = encode::diagnostics(&diagnostics);
        Ok(Res::new(pb::validate_provider_config::Response { diagnostics }))
    }

    async fn validate_resource_config(
        &self,
        request: Req<pb::validate_resource_config::Request>,
    ) -> Answer<pb::validate_resource_config::Response> {
        let request = request.into_inner();
        let resource = self.resource(&request.type_name)?;
        let config = value(request.config, resource.schema())?;
        let write_only = request.client_capabilities.is_some_and(|client| client.write_only_attributes_allowed);
        let validate = |mut diagnostics: Diagnostics| async move {
            resource.schema().validate(&config, write_only, &mut diagnostics);
            resource.validate(&config, &mut diagnostics);
            ((), diagnostics)
        };
        let (_, diagnostics) = self.run("a validation", validate).await;
        let diagnostics = encode::diagnostics(&diagnostics);
        Ok(Res::new(pb::validate_resource_config::Response { diagnostics }))
    }

    async fn validate_data_resource_config(
        &self,
        request: Req<pb::validate_data_resource_config::Request>,
    ) -> Answer<pb::validate_data_resource_config::Response> {
        let request = request.into_inner();
        let data_source = self.data_source(&request.type_name)?;
        let config = value(request.config, data_source.schema())?;
        let validate = |mut diagnostics: Diagnostics| async move {
            data_source.schema().validate(&config, false, &mut diagnostics);
            data_source.validate(&config, &mut diagnostics);
            ((), diagnostics)
        };
        let (_, diagnostics) = self.run("a validation", validate).await;
        let diagnostics = encode::diagnostics(&diagnostics);
        Ok(Res::new(pb::validate_data_resource_config::Response { diagnostics }))
    }

    async fn upgrade_resource_state(
        &self,
        request: Req<pb::upgrade_resource_state::Request>,
    ) -> Answer<pb::upgrade_resource_state::Response> {
        let request = request.into_inner();
        let resource = self.resource(&request.type_name)?;
        let mut diagnostics = Diagnostics::new();
        let json = request.raw_state.map(|raw| raw.json).unwrap_or_default();
        let state = serde_json::from_slice(&json)
            .map_err(|error| error.to_string())
            .and_then(|json| resource.upgrade(request.version, json))
            .and_then(|json| msgpack::from_json(&json, resource.schema().ty()));
        let upgraded_state = match state {
            Ok(state) => wire(Some(&resource.schema().without_write_only(state)), resource.schema()),
            Err(error) => {
                let detail = format!("The stored state of this {} can't be read: {error}.", request.type_name);
                diagnostics.error("Failed to read the stored state", detail);
                None
            }
        };
        let diagnostics = encode::diagnostics(&diagnostics);
        Ok(Res::new(pb::upgrade_resource_state::Response { upgraded_state, diagnostics }))
    }

    async fn get_resource_identity_schemas(
        &self,
        _: Req<pb::get_resource_identity_schemas::Request>,
    ) -> Answer<pb::get_resource_identity_schemas::Response> {
        Ok(Res::new(pb::get_resource_identity_schemas::Response::default()))
    }

    async fn upgrade_resource_identity(
        &self,
        _: Req<pb::upgrade_resource_identity::Request>,
    ) -> Answer<pb::upgrade_resource_identity::Response> {
        let diagnostics = not_offered("resource identity");
        Ok(Res::new(pb::upgrade_resource_identity::Response { upgraded_identity: None, diagnostics }))
    }

    async fn configure_provider(
        &self,
        request: Req<pb::configure_provider::Request>,
    ) -> Answer<pb::configure_provider::Response> {
        let request = request.into_inner();
        let provider = self.provider.clone();
        let config = value(request.config, provider.schema())?;
        let configure = |mut diagnostics: Diagnostics| async move {
            provider.configure(&config, &request.terraform_version, &mut diagnostics).await;
            ((), diagnostics)
        };
        let (_, diagnostics) = self.run("the provider's configuration", configure).await;
        let diagnostics = encode::diagnostics(&diagnostics);
        Ok(Res::new(pb::configure_provider::Response { diagnostics }))
    }

    async fn read_resource(&self, request: Req<pb::read_resource::Request>) -> Answer<pb::read_resource::Response> {
        let request = request.into_inner();
        let resource = self.resource(&request.type_name)?;
        let before = Stored { state: some(value(request.current_state, resource.schema())?), private: request.private };
        let cancel = self.activity.stop.token();
        let (stored, diagnostics) = match before.clone() {
            Stored { state: None, .. } => (Some(before.clone()), Diagnostics::new()),
            Stored { state: Some(state), private } => {
                let (resource, stop) = (resource.clone(), cancel.clone());
                let read = |mut diagnostics: Diagnostics| async move {
                    let stored = resource.read(ReadRequest { state, private, cancel }, &mut diagnostics).await;
                    (stored, diagnostics)
                };
                self.look("a refresh", stop, read).await
            }
        };
        // A refresh that failed must not make an object look gone.
        let failed = diagnostics.has_errors();
        let stored = stored.filter(|stored| !(failed && stored.state.is_none())).unwrap_or(before);
        let mut diagnostics = diagnostics;
        let stored = settle(stored, resource.schema(), &mut diagnostics);
        Ok(Res::new(pb::read_resource::Response {
            new_state: wire(stored.state.as_ref(), resource.schema()),
            diagnostics: encode::diagnostics(&diagnostics),
            private: stored.private,
            deferred: None,
            new_identity: None,
        }))
    }

    async fn plan_resource_change(
        &self,
        request: Req<pb::plan_resource_change::Request>,
    ) -> Answer<pb::plan_resource_change::Response> {
        let request = request.into_inner();
        let resource = self.resource(&request.type_name)?;
        let schema = resource.schema();
        let (prior, config) = (some(value(request.prior_state, schema)?), value(request.config, schema)?);
        let proposed = some(value(request.proposed_new_state, schema)?);
        let (private, cancel) = (request.prior_private, self.activity.stop.token());
        let (planner, stop) = (resource.clone(), cancel.clone());
        let plan = |mut diagnostics: Diagnostics| async move {
            let planned = match (proposed, prior) {
                (Some(proposed), prior) => {
                    planner.plan(PlanRequest { prior, proposed, config, private, cancel }, &mut diagnostics).await
                }
                (None, Some(prior)) => {
                    let request = DestroyRequest { prior, private, cancel };
                    Planned { private: planner.plan_destroy(request, &mut diagnostics).await, ..Planned::default() }
                }
                (None, None) => Planned { private, ..Planned::default() },
            };
            (planned, diagnostics)
        };
        let (planned, diagnostics) = self.look("a plan", stop, plan).await;
        let Planned { state, replace, private } = planned.unwrap_or_default();
        let state = state.map(|state| schema.without_write_only(state));
        Ok(Res::new(pb::plan_resource_change::Response {
            planned_state: wire(state.as_ref(), schema),
            requires_replace: replace.iter().map(encode::path).collect(),
            planned_private: private,
            diagnostics: encode::diagnostics(&diagnostics),
            deferred: None,
            planned_identity: None,
        }))
    }

    async fn apply_resource_change(
        &self,
        request: Req<pb::apply_resource_change::Request>,
    ) -> Answer<pb::apply_resource_change::Response> {
        let request = request.into_inner();
        let resource = self.resource(&request.type_name)?;
        let schema = resource.schema();
        let prior = some(value(request.prior_state, schema)?);
        let checkpoint = Checkpoint::new(Stored { state: prior.clone(), private: request.planned_private.clone() });
        let (planned, config) = (some(value(request.planned_state, schema)?), value(request.config, schema)?);
        let (private, cancel, left) = (request.planned_private, self.activity.stop.token(), checkpoint.clone());
        let applier = resource.clone();
        let apply = |mut diagnostics: Diagnostics| async move {
            let stored = match (planned, prior) {
                (Some(planned), prior) => {
                    let request = ApplyRequest { prior, planned, config, private, checkpoint: left, cancel };
                    applier.apply(request, &mut diagnostics).await
                }
                (None, Some(prior)) => {
                    applier.destroy(DestroyRequest { prior, private, cancel }, &mut diagnostics).await
                }
                (None, None) => Stored::default(),
            };
            (stored, diagnostics)
        };
        let (stored, mut diagnostics) = self.run("an apply", apply).await;
        let stored = settle(stored.unwrap_or_else(|| checkpoint.get()), schema, &mut diagnostics);
        Ok(Res::new(pb::apply_resource_change::Response {
            new_state: wire(stored.state.as_ref(), schema),
            private: stored.private,
            diagnostics: encode::diagnostics(&diagnostics),
            new_identity: None,
        }))
    }

    async fn import_resource_state(
        &self,
        request: Req<pb::import_resource_state::Request>,
    ) -> Answer<pb::import_resource_state::Response> {
        let request = request.into_inner();
        let resource = self.resource(&request.type_name)?;
        let (importer, cancel, id) = (resource.clone(), self.activity.stop.token(), request.id);
        let stop = cancel.clone();
        let import = |mut diagnostics: Diagnostics| async move {
            let stored = importer.import(&id, cancel, &mut diagnostics).await;
            (stored, diagnostics)
        };
        let (stored, mut diagnostics) = self.look("an import", stop, import).await;
        let stored = settle(stored.unwrap_or_default(), resource.schema(), &mut diagnostics);
        let imported = stored.state.map(|state| pb::import_resource_state::ImportedResource {
            type_name: request.type_name,
            state: wire(Some(&state), resource.schema()),
            private: stored.private,
            identity: None,
        });
        Ok(Res::new(pb::import_resource_state::Response {
            imported_resources: imported.into_iter().collect(),
            diagnostics: encode::diagnostics(&diagnostics),
            deferred: None,
        }))
    }

    async fn move_resource_state(
        &self,
        request: Req<pb::move_resource_state::Request>,
    ) -> Answer<pb::move_resource_state::Response> {
        let request = request.into_inner();
        let mut diagnostics = Diagnostics::new();
        diagnostics.error(
            "Move between resource types not offered",
            format!("A {} can't become a {}. Import it instead.", request.source_type_name, request.target_type_name),
        );
        let diagnostics = encode::diagnostics(&diagnostics);
        Ok(Res::new(pb::move_resource_state::Response { diagnostics, ..Default::default() }))
    }

    async fn read_data_source(
        &self,
        request: Req<pb::read_data_source::Request>,
    ) -> Answer<pb::read_data_source::Response> {
        let request = request.into_inner();
        let data_source = self.data_source(&request.type_name)?;
        let config = value(request.config, data_source.schema())?;
        let (reader, cancel) = (data_source.clone(), self.activity.stop.token());
        let stop = cancel.clone();
        let read = |mut diagnostics: Diagnostics| async move {
            let state = reader.read(config, cancel, &mut diagnostics).await;
            (state, diagnostics)
        };
        let (state, diagnostics) = self.look("the read of a data source", stop, read).await;
        Ok(Res::new(pb::read_data_source::Response {
            state: wire(state.as_ref(), data_source.schema()),
            diagnostics: encode::diagnostics(&diagnostics),
            deferred: None,
        }))
    }

    async fn generate_resource_config(
        &self,
        request: Req<pb::generate_resource_config::Request>,
    ) -> Answer<pb::generate_resource_config::Response> {
        let request = request.into_inner();
        let resource = self.resource(&request.type_name)?;
        let state = value(request.state, resource.schema())?;
        let author = resource.clone();
        let generate = |diagnostics: Diagnostics| async move { (author.generate(&state), diagnostics) };
        let (config, diagnostics) = self.run("a generated configuration", generate).await;
        Ok(Res::new(pb::generate_resource_config::Response {
            config: config.and_then(|config| wire(Some(&config), resource.schema())),
            diagnostics: encode::diagnostics(&diagnostics),
        }))
    }

    async fn validate_ephemeral_resource_config(
        &self,
        _: Req<pb::validate_ephemeral_resource_config::Request>,
    ) -> Answer<pb::validate_ephemeral_resource_config::Response> {
        let diagnostics = not_offered("ephemeral resource");
        Ok(Res::new(pb::validate_ephemeral_resource_config::Response { diagnostics }))
    }

    async fn open_ephemeral_resource(
        &self,
        _: Req<pb::open_ephemeral_resource::Request>,
    ) -> Answer<pb::open_ephemeral_resource::Response> {
        let diagnostics = not_offered("ephemeral resource");
        Ok(Res::new(pb::open_ephemeral_resource::Response { diagnostics, ..Default::default() }))
    }

    async fn renew_ephemeral_resource(
        &self,
        _: Req<pb::renew_ephemeral_resource::Request>,
    ) -> Answer<pb::renew_ephemeral_resource::Response> {
        let diagnostics = not_offered("ephemeral resource");
        Ok(Res::new(pb::renew_ephemeral_resource::Response { diagnostics, ..Default::default() }))
    }

    async fn close_ephemeral_resource(
        &self,
        _: Req<pb::close_ephemeral_resource::Request>,
    ) -> Answer<pb::close_ephemeral_resource::Response> {
        let diagnostics = not_offered("ephemeral resource");
        Ok(Res::new(pb::close_ephemeral_resource::Response { diagnostics }))
    }

    type ListResourceStream = Events<pb::list_resource::Event>;

    async fn list_resource(&self, _: Req<pb::list_resource::Request>) -> Answer<Self::ListResourceStream> {
        let event = pb::list_resource::Event { diagnostic: not_offered("list resource"), ..Default::default() };
        Ok(Res::new(Box::pin(futures::stream::iter([Ok(event)]))))
    }

    async fn validate_list_resource_config(
        &self,
        _: Req<pb::validate_list_resource_config::Request>,
    ) -> Answer<pb::validate_list_resource_config::Response> {
        let diagnostics = not_offered("list resource");
        Ok(Res::new(pb::validate_list_resource_config::Response { diagnostics }))
    }

    async fn get_functions(&self, _: Req<pb::get_functions::Request>) -> Answer<pb::get_functions::Response> {
        let definition = |(name, function): &(&'static str, Arc<dyn super::provider::Function>)| {
            ((*name).to_owned(), encode::function(function.as_ref()))
        };
        let functions: HashMap<_, _> = self.provider.functions().iter().map(definition).collect();
        Ok(Res::new(pb::get_functions::Response { functions, diagnostics: Vec::new() }))
    }

    async fn call_function(&self, request: Req<pb::call_function::Request>) -> Answer<pb::call_function::Response> {
        let request = request.into_inner();
        let function =
            find(self.provider.functions(), &request.name).ok_or_else(|| no_such("function", &request.name))?;
        let parameters = function.parameters();
        if parameters.len() != request.arguments.len() {
            return Err(Status::invalid_argument(format!("{} takes {} arguments", request.name, parameters.len())));
        }
        let decode = |(wire, parameter): (pb::DynamicValue, &super::provider::Parameter)| {
            msgpack::decode(&wire.msgpack, &parameter.ty).map_err(Status::invalid_argument)
        };
        let arguments = request.arguments.into_iter().zip(&parameters).map(decode).collect::<Result<Vec<_>, _>>()?;
        let result = function.result();
        let call = |diagnostics: Diagnostics| async move { (function.call(arguments), diagnostics) };
        let response = match self.run("a function", call).await {
            (Some(Ok(value)), _) => {
                pb::call_function::Response { result: Some(encode::dynamic(&value, &result)), error: None }
            }
            (Some(Err((argument, text))), _) => {
                let text = secrets::masked(&text);
                let function_argument = argument.and_then(|index| i64::try_from(index).ok());
                let error = Some(pb::FunctionError { text, function_argument });
                pb::call_function::Response { result: None, error }
            }
            (None, diagnostics) => {
                let text = diagnostics.iter().map(|d| secrets::masked(&d.detail)).collect::<Vec<_>>().join("\n");
                let error = Some(pb::FunctionError { text, function_argument: None });
                pb::call_function::Response { result: None, error }
            }
        };
        Ok(Res::new(response))
    }

    async fn validate_state_store_config(
        &self,
        _: Req<pb::validate_state_store::Request>,
    ) -> Answer<pb::validate_state_store::Response> {
        let diagnostics = not_offered("state store");
        Ok(Res::new(pb::validate_state_store::Response { diagnostics }))
    }

    async fn configure_state_store(
        &self,
        _: Req<pb::configure_state_store::Request>,
    ) -> Answer<pb::configure_state_store::Response> {
        let diagnostics = not_offered("state store");
        Ok(Res::new(pb::configure_state_store::Response { diagnostics }))
    }

    async fn get_states(&self, _: Req<pb::get_states::Request>) -> Answer<pb::get_states::Response> {
        let diagnostics = not_offered("state store");
        Ok(Res::new(pb::get_states::Response { state_id: Vec::new(), diagnostics }))
    }

    async fn delete_state(&self, _: Req<pb::delete_state::Request>) -> Answer<pb::delete_state::Response> {
        let diagnostics = not_offered("state store");
        Ok(Res::new(pb::delete_state::Response { diagnostics }))
    }

    async fn plan_action(&self, _: Req<pb::plan_action::Request>) -> Answer<pb::plan_action::Response> {
        let diagnostics = not_offered("action");
        Ok(Res::new(pb::plan_action::Response { diagnostics, deferred: None }))
    }

    type InvokeActionStream = Events<pb::invoke_action::Event>;

    async fn invoke_action(&self, _: Req<pb::invoke_action::Request>) -> Answer<Self::InvokeActionStream> {
        let completed = pb::invoke_action::event::Completed { diagnostics: not_offered("action") };
        let event = pb::invoke_action::Event { r#type: Some(pb::invoke_action::event::Type::Completed(completed)) };
        Ok(Res::new(Box::pin(futures::stream::iter([Ok(event)]))))
    }

    async fn validate_action_config(
        &self,
        _: Req<pb::validate_action_config::Request>,
    ) -> Answer<pb::validate_action_config::Response> {
        let diagnostics = not_offered("action");
        Ok(Res::new(pb::validate_action_config::Response { diagnostics }))
    }

    async fn stop_provider(&self, _: Req<pb::stop_provider::Request>) -> Answer<pb::stop_provider::Response> {
        tracing::info!("stop requested, running operations are cancelled");
        self.activity.stop.stop();
        Ok(Res::new(pb::stop_provider::Response::default()))
    }
}
