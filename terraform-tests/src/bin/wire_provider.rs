//! A provider that says back what it hears: the wire layer against a real Terraform, with nothing else in between.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bluegreen::tf_provider::{
    ApplyRequest, Attribute, Diagnostics, Function, Nesting, Parameter, Path, PlanRequest, Planned, Provider,
    ReadRequest, Resource, Schema, Stored, Type, Value, handshake,
};

fn main() -> ExitCode {
    let make = || -> Arc<dyn Provider> { Arc::new(Wire::new()) };
    if handshake::is_plugin_host() {
        return handshake::serve(make, "wire");
    }
    handshake::serve_debug(make, "wire", "registry.terraform.io/bluegreen/wire")
}

struct Wire {
    schema: Schema,
    resources: Vec<(&'static str, Arc<dyn Resource>)>,
    functions: Vec<(&'static str, Arc<dyn Function>)>,
}

impl Wire {
    fn new() -> Wire {
        let resources: Vec<(&'static str, Arc<dyn Resource>)> =
            vec![("wire_thing", Arc::new(Thing { schema: thing() }))];
        Wire { schema: Schema::new("", Vec::new()), resources, functions: vec![("join", Arc::new(Join))] }
    }
}

#[async_trait]
impl Provider for Wire {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    async fn configure(&self, _: &Value, _: &str, _: &mut Diagnostics) {}

    fn resources(&self) -> &[(&'static str, Arc<dyn Resource>)] {
        &self.resources
    }

    fn functions(&self) -> &[(&'static str, Arc<dyn Function>)] {
        &self.functions
    }
}

/// Joins two strings; refuses an empty first one.
struct Join;

impl Function for Join {
    fn summary(&self) -> &'static str {
        "Joins two strings"
    }

    fn description(&self) -> &'static str {
        ""
    }

    fn parameters(&self) -> Vec<Parameter> {
        vec![
            Parameter { name: "a", ty: Type::String, description: "" },
            Parameter { name: "b", ty: Type::String, description: "" },
        ]
    }

    fn result(&self) -> Type {
        Type::String
    }

    fn call(&self, arguments: Vec<Value>) -> Result<Value, (Option<usize>, String)> {
        let text = |n: usize| arguments.get(n).and_then(Value::as_str).unwrap_or_default();
        if text(0).is_empty() {
            return Err((Some(0), "must not be empty".to_owned()));
        }
        Ok(Value::from(format!("{}{}", text(0), text(1))))
    }
}

fn members() -> Vec<Attribute> {
    let inner = vec![Attribute::string("deep"), Attribute::plain("numbers", Type::list(Type::Number))];
    vec![
        Attribute::string("a").required(),
        Attribute::number("n"),
        Attribute::bool("on"),
        Attribute::nested("inner", Nesting::List, inner),
    ]
}

fn thing() -> Schema {
    let attributes = vec![
        Attribute::string("id").computed(),
        Attribute::string("name").required(),
        Attribute::nested("single", Nesting::Single, members()),
        Attribute::nested("list", Nesting::List, members()),
        Attribute::nested("set", Nesting::Set, members()),
        Attribute::nested("map", Nesting::Map, members()),
        Attribute::plain("strings", Type::set(Type::String)),
        Attribute::plain("any", Type::Dynamic),
        Attribute::string("big"),
        Attribute::number("number"),
        Attribute::string("password").sensitive(),
        Attribute::string("secret_wo").write_only(),
        Attribute::number("slow_ms").describe("Create takes this long, unless it is stopped."),
        Attribute::string("panic_in").describe("`plan`, `apply` or `validate`."),
        Attribute::string("outcome").computed().describe("How create ended: `done` or `stopped`."),
        Attribute::number("secret_length").computed(),
    ];
    Schema::new("Says back what it hears.", attributes).version(1)
}

struct Thing {
    schema: Schema,
}

impl Thing {
    fn panic_if(&self, value: &Value, place: &str) {
        assert!(value.get("panic_in").as_str() != Some(place), "provoked in {place}");
    }
}

#[async_trait]
impl Resource for Thing {
    fn schema(&self) -> &Schema {
        &self.schema
    }

    fn validate(&self, config: &Value, diagnostics: &mut Diagnostics) {
        self.panic_if(config, "validate");
        if config.get("name").as_str() == Some("bad") {
            diagnostics.error_at(Path::attribute("name"), "Bad name", "The name is bad.");
        }
    }

    fn upgrade(&self, version: i64, mut state: serde_json::Value) -> Result<serde_json::Value, String> {
        if version == 0 {
            let object = state.as_object_mut().ok_or("the state is no object")?;
            let name = object.remove("title").ok_or("version 0 has a title")?;
            object.insert("name".to_owned(), name);
        }
        Ok(state)
    }

    async fn read(&self, request: ReadRequest, _: &mut Diagnostics) -> Stored {
        Stored { state: Some(request.state), private: request.private }
    }

    async fn plan(&self, request: PlanRequest, _: &mut Diagnostics) -> Planned {
        let mut state = request.proposed;
        self.panic_if(&state, "plan");
        if request.prior.is_none() {
            for name in ["id", "outcome", "secret_length"] {
                state.set(name, Value::UNKNOWN);
            }
        }
        Planned { state: Some(state), replace: Vec::new(), private: request.private }
    }

    async fn apply(&self, request: ApplyRequest, diagnostics: &mut Diagnostics) -> Stored {
        let mut state = request.planned;
        state.set("id", state.get("name").clone());
        let secret = request.config.get("secret_wo").as_str().map_or(0, str::len);
        state.set("secret_length", Value::from(i64::try_from(secret).unwrap_or_default()));
        state.set("outcome", Value::from("known so far"));
        request.checkpoint.set(Stored { state: Some(state.clone()), private: b"private".to_vec() });
        self.panic_if(&state, "apply");
        // Tells a test that the call has arrived.
        if let Ok(path) = std::env::var("WIRE_MARK") {
            drop(std::fs::write(path, ""));
        }
        let slow = state.get("slow_ms").as_i64().and_then(|ms| u64::try_from(ms).ok()).unwrap_or_default();
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(slow)) => state.set("outcome", Value::from("done")),
            () = request.cancel.cancelled() => {
                state.set("outcome", Value::from("stopped"));
                diagnostics.error("Stopped", "The creation was stopped; what exists is in the state.");
            }
        }
        Stored { state: Some(state), private: b"private".to_vec() }
    }
}
