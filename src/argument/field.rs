//! What a field of each type holds, and how it is read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::{Arguments, Defaults, Holds, Rule};
use crate::duration;

/// A type that can hold an argument.
pub trait Field: Sized {
    /// In Terraform's types.
    fn holds() -> Holds;

    /// What a value must be for this type.
    fn rules() -> Vec<Rule> {
        Vec::new()
    }

    /// Reads a value; none if it is none of this type, which rules have told before.
    fn read(value: &Value) -> Option<Self>;

    /// What stands for an argument that isn't written; none if it must be.
    fn absent() -> Option<Self> {
        None
    }
}

/// Reads a member of an object: what is written, else the default, else what stands for nothing. What is written and can't be
/// read is nothing of these: a limit that is dropped in silence would be one that nobody exceeds.
pub fn member<T: Field>(object: &Value, name: &str, default: impl FnOnce() -> Option<Value>) -> Option<T> {
    match object.get(name).filter(|value| !value.is_null()) {
        Some(written) => T::read(written),
        None => default().as_ref().and_then(T::read).or_else(T::absent),
    }
}

/// An argument of a table by its name: what is written in an object, or else the default that is declared.
pub fn argument<A: Arguments, T: Field>(object: &Value, name: &str) -> Option<T> {
    let declared = A::arguments().iter().find(|argument| argument.name == name);
    member(object, name, || match &declared?.default {
        Defaults::Always(default) => Some(default.clone()),
        _ => None,
    })
}

/// An object without some of its members, for those that have the same name and mean something else.
pub fn without(object: &Value, names: &[&str]) -> Value {
    let mut object = object.clone();
    if let Value::Object(members) = &mut object {
        members.retain(|name, _| !names.contains(&name.as_str()));
    }
    object
}

impl Field for String {
    fn holds() -> Holds {
        Holds::String
    }

    fn read(value: &Value) -> Option<String> {
        value.as_str().map(str::to_owned)
    }
}

impl Field for PathBuf {
    fn holds() -> Holds {
        Holds::String
    }

    fn read(value: &Value) -> Option<PathBuf> {
        value.as_str().map(PathBuf::from)
    }
}

impl Field for bool {
    fn holds() -> Holds {
        Holds::Bool
    }

    fn read(value: &Value) -> Option<bool> {
        value.as_bool()
    }
}

impl Field for f64 {
    fn holds() -> Holds {
        Holds::Number
    }

    fn read(value: &Value) -> Option<f64> {
        value.as_f64()
    }
}

impl Field for Duration {
    fn holds() -> Holds {
        Holds::String
    }

    fn rules() -> Vec<Rule> {
        vec![Rule::Text(|text| duration::parse(text).map(drop))]
    }

    fn read(value: &Value) -> Option<Duration> {
        duration::parse(value.as_str()?).ok()
    }
}

macro_rules! whole_numbers {
    ($($number:ty),*) => {$(
        impl Field for $number {
            fn holds() -> Holds {
                Holds::Number
            }

            fn read(value: &Value) -> Option<$number> {
                value.as_i64()?.try_into().ok()
            }
        }
    )*};
}

whole_numbers!(i32, u16, u32, u64);

impl<T: Field> Field for Option<T> {
    fn holds() -> Holds {
        T::holds()
    }

    fn rules() -> Vec<Rule> {
        T::rules()
    }

    fn read(value: &Value) -> Option<Option<T>> {
        T::read(value).map(Some)
    }

    fn absent() -> Option<Option<T>> {
        Some(None)
    }
}

impl<T: Field> Field for Box<T> {
    fn holds() -> Holds {
        T::holds()
    }

    fn rules() -> Vec<Rule> {
        T::rules()
    }

    fn read(value: &Value) -> Option<Box<T>> {
        T::read(value).map(Box::new)
    }
}

impl<T: Field> Field for Vec<T> {
    fn holds() -> Holds {
        Holds::List(Box::new(T::holds()))
    }

    fn read(value: &Value) -> Option<Vec<T>> {
        value.as_array()?.iter().map(T::read).collect()
    }

    fn absent() -> Option<Vec<T>> {
        Some(Vec::new())
    }
}

impl<T: Field> Field for BTreeMap<String, T> {
    fn holds() -> Holds {
        Holds::Map(Box::new(T::holds()))
    }

    fn read(value: &Value) -> Option<BTreeMap<String, T>> {
        // An element that is null is none, as where a condition decides about it.
        let there = value.as_object()?.iter().filter(|(_, element)| !element.is_null());
        there.map(|(key, element)| Some((key.clone(), T::read(element)?))).collect()
    }

    fn absent() -> Option<BTreeMap<String, T>> {
        Some(BTreeMap::new())
    }
}
