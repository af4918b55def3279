//! Schemas: the types, attributes and rules of a resource, a data source or the provider block.
//!
//! Structured arguments are nested *attributes*. An attribute is declared with a builder that reads like the
//! documentation made from it: `Attribute::string("region").optional().describe("…")`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::diagnostics::Diagnostics;
use super::path::Path;
use super::value::Value;
use crate::secrets;

/// The type of a value, in Terraform's type system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// `bool`
    Bool,
    /// `number`
    Number,
    /// `string`
    String,
    /// `list(…)`
    List(Box<Type>),
    /// `set(…)`
    Set(Box<Type>),
    /// `map(…)`
    Map(Box<Type>),
    /// `object({…})`
    Object(BTreeMap<String, Type>),
    /// `tuple([…])`
    Tuple(Vec<Type>),
    /// `any`: the value brings its type along.
    Dynamic,
}

impl Type {
    /// A list of this.
    pub fn list(element: Type) -> Type {
        Type::List(Box::new(element))
    }

    /// A set of this.
    pub fn set(element: Type) -> Type {
        Type::Set(Box::new(element))
    }

    /// A map of this.
    pub fn map(element: Type) -> Type {
        Type::Map(Box::new(element))
    }

    /// The type's JSON, as the protocol and dynamic values carry it.
    pub fn to_json(&self) -> serde_json::Value {
        use serde_json::json;
        match self {
            Type::Bool => json!("bool"),
            Type::Number => json!("number"),
            Type::String => json!("string"),
            Type::Dynamic => json!("dynamic"),
            Type::List(element) => json!(["list", element.to_json()]),
            Type::Set(element) => json!(["set", element.to_json()]),
            Type::Map(element) => json!(["map", element.to_json()]),
            Type::Tuple(items) => json!(["tuple", items.iter().map(Type::to_json).collect::<Vec<_>>()]),
            Type::Object(attributes) => {
                let attributes: serde_json::Map<_, _> =
                    attributes.iter().map(|(name, ty)| (name.clone(), ty.to_json())).collect();
                json!(["object", attributes])
            }
        }
    }

    /// Reads a type back from its JSON.
    ///
    /// # Errors
    /// Names what is no type.
    pub fn from_json(json: &serde_json::Value) -> Result<Type, String> {
        let unknown = || format!("{json} is no type");
        if let Some(name) = json.as_str() {
            return match name {
                "bool" => Ok(Type::Bool),
                "number" => Ok(Type::Number),
                "string" => Ok(Type::String),
                "dynamic" => Ok(Type::Dynamic),
                _ => Err(unknown()),
            };
        }
        let parts = json.as_array().filter(|parts| parts.len() >= 2).ok_or_else(unknown)?;
        match parts[0].as_str().ok_or_else(unknown)? {
            "list" => Ok(Type::list(Type::from_json(&parts[1])?)),
            "set" => Ok(Type::set(Type::from_json(&parts[1])?)),
            "map" => Ok(Type::map(Type::from_json(&parts[1])?)),
            "tuple" => {
                let items = parts[1].as_array().ok_or_else(unknown)?;
                Ok(Type::Tuple(items.iter().map(Type::from_json).collect::<Result<_, _>>()?))
            }
            "object" => {
                let attributes = parts[1].as_object().ok_or_else(unknown)?;
                let pair = |(name, ty): (&String, &serde_json::Value)| Ok((name.clone(), Type::from_json(ty)?));
                Ok(Type::Object(attributes.iter().map(pair).collect::<Result<_, String>>()?))
            }
            _ => Err(unknown()),
        }
    }
}

/// How nested attributes repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nesting {
    /// One object.
    Single,
    /// A list of objects.
    List,
    /// A set of objects.
    Set,
    /// A map of objects.
    Map,
}

/// What an attribute holds.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A value of this type.
    Plain(Type),
    /// Objects with attributes of their own.
    Nested(Nesting, Vec<Attribute>),
}

/// Says what is wrong with a value.
type Check = dyn Fn(&Value) -> Result<(), String> + Send + Sync;

/// A rule for a known, non-null value: what is wrong with it, or nothing.
#[derive(Clone)]
pub struct Validator(Arc<Check>);

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Validator")
    }
}

/// One attribute and its rules.
#[derive(Clone, Debug)]
pub struct Attribute {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) required: bool,
    pub(super) optional: bool,
    pub(super) computed: bool,
    pub(super) sensitive: bool,
    pub(super) write_only: bool,
    pub(super) description: Cow<'static, str>,
    validators: Vec<Validator>,
}

impl Attribute {
    /// An attribute of any type. Until it is said otherwise it is optional.
    pub fn new(name: &'static str, kind: Kind) -> Attribute {
        Attribute {
            name,
            kind,
            required: false,
            optional: true,
            computed: false,
            sensitive: false,
            write_only: false,
            description: Cow::Borrowed(""),
            validators: Vec::new(),
        }
    }

    /// A string.
    pub fn string(name: &'static str) -> Attribute {
        Attribute::new(name, Kind::Plain(Type::String))
    }

    /// A number.
    pub fn number(name: &'static str) -> Attribute {
        Attribute::new(name, Kind::Plain(Type::Number))
    }

    /// A boolean.
    pub fn bool(name: &'static str) -> Attribute {
        Attribute::new(name, Kind::Plain(Type::Bool))
    }

    /// A list of strings.
    pub fn strings(name: &'static str) -> Attribute {
        Attribute::new(name, Kind::Plain(Type::list(Type::String)))
    }

    /// Any other plain type.
    pub fn plain(name: &'static str, ty: Type) -> Attribute {
        Attribute::new(name, Kind::Plain(ty))
    }

    /// Nested attributes.
    pub fn nested(name: &'static str, nesting: Nesting, attributes: Vec<Attribute>) -> Attribute {
        Attribute::new(name, Kind::Nested(nesting, attributes))
    }

    /// Must be set.
    #[must_use]
    pub fn required(mut self) -> Attribute {
        (self.required, self.optional) = (true, false);
        self
    }

    /// May be set; the provider fills it in otherwise.
    #[must_use]
    pub fn optional_computed(mut self) -> Attribute {
        (self.optional, self.computed) = (true, true);
        self
    }

    /// Only the provider sets it.
    #[must_use]
    pub fn computed(mut self) -> Attribute {
        (self.optional, self.computed) = (false, true);
        self
    }

    /// Hidden in output.
    #[must_use]
    pub fn sensitive(mut self) -> Attribute {
        self.sensitive = true;
        self
    }

    /// Reaches the provider but neither plan nor state. Needs Terraform 1.11.
    #[must_use]
    pub fn write_only(mut self) -> Attribute {
        self.write_only = true;
        self
    }

    /// What the documentation says, Markdown.
    #[must_use]
    pub fn describe(mut self, description: impl Into<Cow<'static, str>>) -> Attribute {
        self.description = description.into();
        self
    }

    /// Adds a rule.
    #[must_use]
    pub fn check(mut self, rule: impl Fn(&Value) -> Result<(), String> + Send + Sync + 'static) -> Attribute {
        self.validators.push(Validator(Arc::new(rule)));
        self
    }

    /// Whether the provider may set it.
    pub fn is_computed(&self) -> bool {
        self.computed
    }

    /// Whether a configuration may set it.
    pub fn is_written(&self) -> bool {
        self.required || self.optional
    }

    /// What its value is made of.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// The attribute's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its type as values of it are encoded.
    pub fn ty(&self) -> Type {
        match &self.kind {
            Kind::Plain(ty) => ty.clone(),
            Kind::Nested(nesting, attributes) => {
                let object = object_type(attributes);
                match nesting {
                    Nesting::Single => object,
                    Nesting::List => Type::list(object),
                    Nesting::Set => Type::set(object),
                    Nesting::Map => Type::map(object),
                }
            }
        }
    }
}

/// A schema: attributes, a version for state upgrades, a description.
#[derive(Clone, Debug)]
pub struct Schema {
    pub(super) version: i64,
    pub(super) description: &'static str,
    attributes: Vec<Attribute>,
    ty: Type,
}

impl Schema {
    /// A schema of these attributes, version 0.
    pub fn new(description: &'static str, attributes: Vec<Attribute>) -> Schema {
        let ty = object_type(&attributes);
        Schema { version: 0, description, attributes, ty }
    }

    /// Sets the version that states are stored with.
    #[must_use]
    pub fn version(mut self, version: i64) -> Schema {
        self.version = version;
        self
    }

    /// The attributes in the order of declaration.
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// The object type of a value of this schema.
    pub fn ty(&self) -> &Type {
        &self.ty
    }

    /// A value with every attribute null.
    pub fn null_object(&self) -> Value {
        Value::object(self.attributes.iter().map(|attribute| (attribute.name, Value::Null)))
    }

    /// Applies every rule to what is known of a configuration.
    pub fn validate(&self, config: &Value, write_only_allowed: bool, diagnostics: &mut Diagnostics) {
        validate_object(&self.attributes, config, &Path::root(), write_only_allowed, diagnostics);
    }

    /// The value with every write-only attribute null, as plan and state must have it.
    pub fn without_write_only(&self, value: Value) -> Value {
        strip_object(&self.attributes, value, |attribute| attribute.write_only)
    }

    /// The value with everything null that no configuration can set.
    pub fn configurable(&self, value: Value) -> Value {
        strip_object(&self.attributes, value, |attribute| !attribute.is_written())
    }

    /// Remembers what a value holds in confidence, and the names in it that are told everywhere.
    pub(super) fn learn(&self, value: &Value) {
        let mut secret = Vec::new();
        in_confidence(&self.attributes, value, &mut secret);
        let mut names = Vec::new();
        for attribute in self.attributes.iter().filter(|one| !one.sensitive && !one.write_only) {
            let value = value.get(attribute.name);
            // The name of a thing, or the names by which it has others.
            names.extend(value.as_str().filter(|text| !text.contains("://")));
            let keyed = matches!(attribute.kind, Kind::Nested(Nesting::Map, _));
            names.extend(value.as_map().into_iter().flatten().map(|(key, _)| key.as_str()).filter(|_| keyed));
        }
        secrets::publish(names);
        secrets::learn(secret, secrets::Reach::Everywhere);
    }
}

fn in_confidence<'v>(attributes: &[Attribute], object: &'v Value, secret: &mut Vec<&'v str>) {
    for attribute in attributes {
        let value = object.get(attribute.name);
        match &attribute.kind {
            _ if attribute.sensitive || attribute.write_only => texts(value, secret),
            Kind::Nested(_, nested) => {
                for (_, member) in members(&attribute.kind, value, &Path::attribute(attribute.name)) {
                    in_confidence(nested, member, secret);
                }
            }
            Kind::Plain(_) => {}
        }
    }
}

/// The texts in a value. Headers that every request has are no secrets.
fn texts<'v>(value: &'v Value, found: &mut Vec<&'v str>) {
    found.extend(value.as_str());
    for item in value.as_list().unwrap_or_default() {
        texts(item, found);
    }
    for (name, item) in value.as_map().into_iter().flatten() {
        if !secrets::is_usual_header(name) {
            texts(item, found);
        }
    }
}

fn object_type(attributes: &[Attribute]) -> Type {
    Type::Object(attributes.iter().map(|attribute| (attribute.name.to_owned(), attribute.ty())).collect())
}

fn validate_object(attributes: &[Attribute], object: &Value, path: &Path, write_only: bool, out: &mut Diagnostics) {
    if object.as_map().is_none() {
        return;
    }
    for attribute in attributes {
        let (value, path) = (object.get(attribute.name), path.attr(attribute.name));
        if attribute.write_only && !write_only && !value.is_null() {
            out.error_at(
                path.clone(),
                "Write-only attribute needs Terraform 1.11",
                format!("{path} is write-only: it reaches the provider without being stored. This version of Terraform would store it; use 1.11 or later, or the attribute that is not write-only."),
            );
        }
        if value.is_null() || value.is_unknown() {
            continue;
        }
        null_elements(value, &path, out);
        endless_numbers(value, &path, out);
        for validator in &attribute.validators {
            if let Err(detail) = (validator.0)(value) {
                out.error_at(path.clone(), format!("Invalid {}", attribute.name), format!("{path}: {detail}"));
            }
        }
        let Kind::Nested(_, nested) = &attribute.kind else { continue };
        for (path, member) in members(&attribute.kind, value, &path) {
            validate_object(nested, member, &path, write_only, out);
        }
    }
}

/// Terraform's numbers have no bounds; nothing here means one that no double holds.
fn endless_numbers(value: &Value, path: &Path, out: &mut Diagnostics) {
    if matches!(value, Value::Number(_)) && value.as_f64().is_none() {
        out.error_at(
            path.clone(),
            "Number out of range",
            format!("{path} is beyond every number that means something here."),
        );
    }
    for (n, item) in value.as_list().unwrap_or_default().iter().enumerate() {
        if matches!(item, Value::Number(_)) {
            endless_numbers(item, &path.index(n), out);
        }
    }
}

/// A list or set with nothing at one of its places, as a condition without an `else` leaves it, means nothing that could be
/// carried out.
fn null_elements(value: &Value, path: &Path, out: &mut Diagnostics) {
    for (n, item) in value.as_list().unwrap_or_default().iter().enumerate() {
        if item.is_null() {
            let path = path.index(n);
            let detail = format!(
                "{path} is null. Leave such elements out, as [for one in list : one if one != null] or compact() does."
            );
            out.error_at(path.clone(), "Null element", detail);
        }
    }
}

/// The objects inside a nested attribute's value, with their paths. A set's members have no path of their own.
fn members<'v>(kind: &Kind, value: &'v Value, path: &Path) -> Vec<(Path, &'v Value)> {
    match (kind, value) {
        (Kind::Nested(Nesting::Single, _), object) => vec![(path.clone(), object)],
        (Kind::Nested(Nesting::Set, _), Value::List(items)) => items.iter().map(|item| (path.clone(), item)).collect(),
        (Kind::Nested(..), Value::List(items)) => {
            items.iter().enumerate().map(|(n, item)| (path.index(n), item)).collect()
        }
        (Kind::Nested(Nesting::Map, _), Value::Map(map)) => {
            map.iter().map(|(key, item)| (path.key(key), item)).collect()
        }
        _ => Vec::new(),
    }
}

fn strip_object(attributes: &[Attribute], value: Value, goes: fn(&Attribute) -> bool) -> Value {
    let Value::Map(mut map) = value else { return value };
    for attribute in attributes {
        let Some(member) = map.get_mut(attribute.name) else { continue };
        if goes(attribute) {
            *member = Value::Null;
        } else if let Kind::Nested(nesting, nested) = &attribute.kind {
            let taken = std::mem::replace(member, Value::Null);
            *member = match (nesting, taken) {
                (Nesting::Single, object) => strip_object(nested, object, goes),
                (_, Value::List(items)) => {
                    Value::List(items.into_iter().map(|item| strip_object(nested, item, goes)).collect())
                }
                (_, Value::Map(items)) => {
                    Value::Map(items.into_iter().map(|(key, item)| (key, strip_object(nested, item, goes))).collect())
                }
                (_, other) => other,
            };
        }
    }
    Value::Map(map)
}
