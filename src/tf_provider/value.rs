//! Terraform values: what a configuration, a plan or a state holds, with nulls and unknowns.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::path::{Path, Step};

/// A number as Terraform has it: arbitrary precision on the wire, the narrowest exact form here.
#[derive(Clone, Debug, PartialEq)]
pub enum Number {
    /// An integer that fits 64 bits.
    Int(i64),
    /// Any other number that a double holds exactly as it was sent.
    Float(f64),
    /// Everything else, in decimal as it was sent.
    Decimal(String),
}

impl Number {
    /// The number as an integer, if it is one and fits.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Number::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// The number as a double, as near as one comes to it.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Number::Int(n) => Some(*n as f64),
            Number::Float(n) => Some(*n),
            Number::Decimal(text) => text.parse().ok().filter(|n: &f64| n.is_finite()),
        }
    }

    /// A double in its narrowest form: `3.0` is the integer 3.
    pub fn from_f64(value: f64) -> Number {
        // 2^63 is the first double that no i64 holds.
        if value.fract() == 0.0 && value.abs() < 9_223_372_036_854_775_808.0 {
            Number::Int(value as i64)
        } else {
            Number::Float(value)
        }
    }

    /// A decimal in its narrowest form.
    pub fn from_decimal(text: &str) -> Option<Number> {
        if let Ok(n) = text.parse::<i64>() {
            return Some(Number::Int(n));
        }
        let float = text.parse::<f64>().ok().filter(|_| text.bytes().any(|byte| byte.is_ascii_digit()))?;
        // Beyond a double it is a number all the same; which ones are allowed is for others to say.
        if !float.is_finite() {
            return Some(Number::Decimal(text.to_owned()));
        }
        // Rust prints the shortest text that reads back as the same double: equal text means nothing was lost.
        if format!("{float}") == text { Some(Number::from_f64(float)) } else { Some(Number::Decimal(text.to_owned())) }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Number::Int(n) => write!(f, "{n}"),
            Number::Float(n) => write!(f, "{n}"),
            Number::Decimal(text) => f.write_str(text),
        }
    }
}

/// What Terraform knows about an unknown value (never null, a prefix, bounds), as it was sent.
/// It goes back untouched, since a plan must repeat a configured value to the letter.
pub type Refinement = Option<Arc<[u8]>>;

/// A value of any type. Lists, sets and tuples share a form, and so do maps and objects: the schema tells them apart.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// A value that only the apply will know.
    Unknown(Refinement),
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string, UTF-8.
    String(String),
    /// A list, set or tuple.
    List(Vec<Value>),
    /// A map or an object.
    Map(BTreeMap<String, Value>),
    /// A value whose type the schema leaves open, with the JSON of its type.
    Dynamic(Arc<[u8]>, Box<Value>),
}

/// The null that stands in where an object has no such attribute.
static NULL: Value = Value::Null;

impl Value {
    /// An unknown value of which nothing more is known.
    pub const UNKNOWN: Value = Value::Unknown(None);

    /// An object or map from its pairs.
    pub fn object<K: Into<String>>(pairs: impl IntoIterator<Item = (K, Value)>) -> Value {
        Value::Map(pairs.into_iter().map(|(key, value)| (key.into(), value)).collect())
    }

    /// An attribute of an object or element of a map; null if there is none.
    pub fn get(&self, name: &str) -> &Value {
        match self {
            Value::Map(map) => map.get(name).unwrap_or(&NULL),
            _ => &NULL,
        }
    }

    /// Sets an attribute; does nothing to a value that is no object.
    pub fn set(&mut self, name: &str, value: Value) {
        if let Value::Map(map) = self {
            map.insert(name.to_owned(), value);
        }
    }

    /// The value at a path; unknown if something above it is unknown, null if something above it is missing.
    pub fn at(&self, path: &Path) -> &Value {
        static UNKNOWN: Value = Value::UNKNOWN;
        path.steps().iter().fold(self, |value, step| match (value, step) {
            (Value::Unknown(_), _) => &UNKNOWN,
            (Value::Map(map), Step::Attribute(name) | Step::Key(name)) => map.get(name).unwrap_or(&NULL),
            (Value::List(items), Step::Index(index)) => {
                usize::try_from(*index).ok().and_then(|index| items.get(index)).unwrap_or(&NULL)
            }
            _ => &NULL,
        })
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Whether it is unknown as a whole; its members may still be.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Value::Unknown(_))
    }

    /// Whether there is certainly a value: what isn't known yet may come to nothing.
    pub fn is_set(&self) -> bool {
        !self.is_null() && !self.is_unknown()
    }

    /// Whether neither it nor anything in it is unknown.
    pub fn is_wholly_known(&self) -> bool {
        match self {
            Value::Unknown(_) => false,
            Value::List(items) => items.iter().all(Value::is_wholly_known),
            Value::Map(map) => map.values().all(Value::is_wholly_known),
            Value::Dynamic(_, value) => value.is_wholly_known(),
            _ => true,
        }
    }

    /// The text of a known string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A known integer.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Number(number) => number.as_i64(),
            _ => None,
        }
    }

    /// The number as a double; none if it is none.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Number(number) => number.as_f64(),
            _ => None,
        }
    }

    /// A known boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The members of a known list, set or tuple.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// The known strings of a known list or set; of anything else, none.
    pub fn strings(&self) -> Vec<String> {
        self.as_list().unwrap_or_default().iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// The known strings of a known map, by key; of anything else, none.
    pub fn string_map(&self) -> BTreeMap<String, String> {
        let pairs = self.as_map().into_iter().flatten();
        pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    }

    /// The members of a known map or object.
    pub fn as_map(&self) -> Option<&BTreeMap<String, Value>> {
        match self {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// The value as JSON, attributes that are null left out; none if something in it is unknown.
    pub fn to_json(&self) -> Option<serde_json::Value> {
        use serde_json::Value as Json;
        Some(match self {
            Value::Null => Json::Null,
            Value::Unknown(_) => return None,
            Value::Bool(value) => Json::from(*value),
            Value::Number(Number::Int(value)) => Json::from(*value),
            Value::Number(Number::Float(value)) => Json::from(*value),
            // What no double holds to the last digit, such as 100 * 0.3, is the nearest one.
            Value::Number(number @ Number::Decimal(text)) => match number.as_f64() {
                Some(nearest) => Json::from(nearest),
                None => Json::from(text.as_str()),
            },
            Value::String(text) => Json::from(text.as_str()),
            Value::List(items) => items.iter().map(Value::to_json).collect::<Option<Vec<_>>>()?.into(),
            Value::Map(map) => {
                let set = map.iter().filter(|(_, value)| !value.is_null());
                Json::Object(set.map(|(key, value)| Some((key.clone(), value.to_json()?))).collect::<Option<_>>()?)
            }
            Value::Dynamic(_, value) => value.to_json()?,
        })
    }

    /// The value as JSON, with what is unknown left out like what is null.
    pub fn known_json(&self) -> serde_json::Value {
        self.without_unknowns().to_json().unwrap_or_default()
    }

    /// The value with every unknown in it made null, for a state that must be written after a failure.
    pub fn without_unknowns(&self) -> Value {
        match self {
            Value::Unknown(_) => Value::Null,
            Value::List(items) => Value::List(items.iter().map(Value::without_unknowns).collect()),
            Value::Map(map) => Value::Map(map.iter().map(|(k, v)| (k.clone(), v.without_unknowns())).collect()),
            Value::Dynamic(ty, value) => Value::Dynamic(ty.clone(), Box::new(value.without_unknowns())),
            known => known.clone(),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::String(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Number(Number::Int(value))
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Value {
        Value::List(items.into_iter().map(Into::into).collect())
    }
}
