//! From this room's own types to the protocol's messages.

use super::diagnostics::{Diagnostic, Diagnostics, Severity};
use super::msgpack;
use super::path::{Path, Step};
use super::proto::tfplugin6 as pb;
use super::provider::Function;
use super::schema::{Attribute, Kind, Nesting, Schema, Type};
use super::value::Value;
use crate::secrets;

/// A value in its wire form.
pub fn dynamic(value: &Value, ty: &Type) -> pb::DynamicValue {
    pb::DynamicValue { msgpack: msgpack::encode(value, ty), json: Vec::new() }
}

/// Diagnostics in their wire form.
pub fn diagnostics(diagnostics: &Diagnostics) -> Vec<pb::Diagnostic> {
    diagnostics.iter().map(diagnostic).collect()
}

fn diagnostic(diagnostic: &Diagnostic) -> pb::Diagnostic {
    let severity = match diagnostic.severity {
        Severity::Error => pb::diagnostic::Severity::Error,
        Severity::Warning => pb::diagnostic::Severity::Warning,
    };
    pb::Diagnostic {
        severity: severity.into(),
        // The last gate: whoever made the message, it leaves without secrets and without what steers a terminal.
        summary: secrets::masked(&diagnostic.summary),
        detail: secrets::masked(&diagnostic.detail),
        attribute: diagnostic.path.as_ref().map(|full| path(&full.shown())),
    }
}

/// A path in its wire form.
pub fn path(path: &Path) -> pb::AttributePath {
    use pb::attribute_path::step::Selector;
    let step = |step: &Step| pb::attribute_path::Step {
        selector: Some(match step {
            Step::Attribute(name) => Selector::AttributeName(name.clone()),
            Step::Key(key) => Selector::ElementKeyString(key.clone()),
            Step::Index(index) => Selector::ElementKeyInt(*index),
        }),
    };
    pb::AttributePath { steps: path.steps().iter().map(step).collect() }
}

/// A schema in its wire form.
pub fn schema(schema: &Schema) -> pb::Schema {
    pb::Schema {
        version: schema.version,
        block: Some(pb::schema::Block {
            version: schema.version,
            attributes: schema.attributes().iter().map(attribute).collect(),
            description: schema.description.to_owned(),
            description_kind: pb::StringKind::Markdown.into(),
            deprecated: false,
        }),
    }
}

fn attribute(attribute: &Attribute) -> pb::schema::Attribute {
    // Terraform refuses an attribute that has both a type and nested attributes.
    let (ty, nested_type) = match &attribute.kind {
        Kind::Plain(ty) => (type_json(ty), None),
        Kind::Nested(nesting, attributes) => (Vec::new(), Some(object(*nesting, attributes))),
    };
    pb::schema::Attribute {
        name: attribute.name.to_owned(),
        r#type: ty,
        nested_type,
        description: attribute.description.clone().into_owned(),
        description_kind: pb::StringKind::Markdown.into(),
        required: attribute.required,
        optional: attribute.optional,
        computed: attribute.computed,
        sensitive: attribute.sensitive,
        deprecated: false,
        write_only: attribute.write_only,
    }
}

fn object(nesting: Nesting, attributes: &[Attribute]) -> pb::schema::Object {
    use pb::schema::object::NestingMode;
    let nesting = match nesting {
        Nesting::Single => NestingMode::Single,
        Nesting::List => NestingMode::List,
        Nesting::Set => NestingMode::Set,
        Nesting::Map => NestingMode::Map,
    };
    pb::schema::Object { attributes: attributes.iter().map(attribute).collect(), nesting: nesting.into() }
}

/// A function's definition in its wire form.
pub fn function(function: &dyn Function) -> pb::Function {
    let parameter = |parameter: super::provider::Parameter| pb::function::Parameter {
        name: parameter.name.to_owned(),
        r#type: type_json(&parameter.ty),
        allow_null_value: false,
        allow_unknown_values: false,
        description: parameter.description.to_owned(),
        description_kind: pb::StringKind::Markdown.into(),
    };
    pb::Function {
        parameters: function.parameters().into_iter().map(parameter).collect(),
        variadic_parameter: None,
        r#return: Some(pb::function::Return { r#type: type_json(&function.result()) }),
        summary: function.summary().to_owned(),
        description: function.description().to_owned(),
        description_kind: pb::StringKind::Markdown.into(),
        deprecation_message: String::new(),
    }
}

fn type_json(ty: &Type) -> Vec<u8> {
    ty.to_json().to_string().into_bytes()
}
