//! Values on the wire: MessagePack guided by the type, as go-cty writes it, and the JSON of stored states.

use std::collections::BTreeMap;
use std::sync::Arc;

use rmp::Marker;
use rmp::decode;
use rmp::encode;

use super::schema::Type;
use super::value::{Number, Value};

/// go-cty's extension type for an unknown value of which nothing is known; its body is one zero byte.
const EXT_UNKNOWN: i8 = 0;
/// go-cty's extension type for an unknown value with refinements; its body is a map.
const EXT_REFINED: i8 = 12;
/// Values nest at most this deep; deeper input is refused before it can exhaust the stack.
const MAX_DEPTH: usize = 200;

/// Decodes a value of this type.
///
/// # Errors
/// Says what was met where something else was due.
pub fn decode(bytes: &[u8], ty: &Type) -> Result<Value, String> {
    let mut rest = bytes;
    let value = read(&mut rest, ty, 0)?;
    if rest.is_empty() { Ok(value) } else { Err(format!("{} bytes are left after the value", rest.len())) }
}

fn read(input: &mut &[u8], ty: &Type, depth: usize) -> Result<Value, String> {
    if depth > MAX_DEPTH {
        return Err(format!("the value nests deeper than {MAX_DEPTH} levels"));
    }
    let marker = Marker::from_u8(*input.first().ok_or("the value ends too early")?);
    match marker {
        Marker::Null => {
            *input = &input[1..];
            return Ok(Value::Null);
        }
        Marker::FixExt1
        | Marker::FixExt2
        | Marker::FixExt4
        | Marker::FixExt8
        | Marker::FixExt16
        | Marker::Ext8
        | Marker::Ext16
        | Marker::Ext32 => return read_unknown(input),
        _ => {}
    }
    match ty {
        Type::Bool => decode::read_bool(input).map(Value::Bool).map_err(|error| format!("a bool was due: {error}")),
        Type::String => read_string(input).map(Value::String),
        Type::Number => read_number(input, marker).map(Value::Number),
        Type::List(element) | Type::Set(element) => {
            let count = array_len(input)?;
            (0..count).map(|_| read(input, element, depth + 1)).collect::<Result<_, _>>().map(Value::List)
        }
        Type::Tuple(types) => {
            let count = array_len(input)?;
            if count != types.len() {
                return Err(format!("a tuple of {} was due, not of {count}", types.len()));
            }
            types.iter().map(|ty| read(input, ty, depth + 1)).collect::<Result<_, _>>().map(Value::List)
        }
        Type::Map(element) => read_pairs(input, depth, |_| Ok(element)),
        Type::Object(attributes) => read_pairs(input, depth, |name| {
            attributes.get(name).ok_or_else(|| format!("there is no attribute {name:?}"))
        }),
        Type::Dynamic => read_dynamic(input, depth),
    }
}

fn read_dynamic(input: &mut &[u8], depth: usize) -> Result<Value, String> {
    if array_len(input)? != 2 {
        return Err("a dynamic value is a pair of type and value".to_owned());
    }
    let json = read_bin(input)?;
    let ty =
        serde_json::from_slice(json).map_err(|error| format!("the type of a dynamic value is no JSON: {error}"))?;
    let value = read(input, &Type::from_json(&ty)?, depth + 1)?;
    Ok(Value::Dynamic(Arc::from(json), Box::new(value)))
}

fn read_pairs<'t>(
    input: &mut &[u8],
    depth: usize,
    type_of: impl Fn(&str) -> Result<&'t Type, String>,
) -> Result<Value, String> {
    let count = decode::read_map_len(input).map_err(|error| format!("a map was due: {error}"))?;
    let mut map = BTreeMap::new();
    for _ in 0..count {
        let key = read_string(input)?;
        let value = read(input, type_of(&key)?, depth + 1).map_err(|error| format!("{key}: {error}"))?;
        map.insert(key, value);
    }
    Ok(Value::Map(map))
}

fn array_len(input: &mut &[u8]) -> Result<usize, String> {
    let count = decode::read_array_len(input).map_err(|error| format!("an array was due: {error}"))?;
    // Every element takes a byte: a count beyond the input is a lie that must not allocate.
    if count as usize > input.len() { Err("an array is longer than its bytes".to_owned()) } else { Ok(count as usize) }
}

fn take<'i>(input: &mut &'i [u8], len: u32) -> Result<&'i [u8], String> {
    let (head, tail) = input.split_at_checked(len as usize).ok_or("the value ends too early")?;
    *input = tail;
    Ok(head)
}

fn read_string(input: &mut &[u8]) -> Result<String, String> {
    let len = decode::read_str_len(input).map_err(|error| format!("a string was due: {error}"))?;
    let bytes = take(input, len)?;
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| format!("a string is not UTF-8: {error}"))
}

fn read_bin<'i>(input: &mut &'i [u8]) -> Result<&'i [u8], String> {
    let len = decode::read_bin_len(input).map_err(|error| format!("bytes were due: {error}"))?;
    take(input, len)
}

fn read_number(input: &mut &[u8], marker: Marker) -> Result<Number, String> {
    let fail = |error: &dyn std::fmt::Display| format!("a number was due: {error}");
    match marker {
        Marker::F32 => decode::read_f32(input).map(|f| Number::from_f64(f64::from(f))).map_err(|error| fail(&error)),
        Marker::F64 => decode::read_f64(input).map(Number::from_f64).map_err(|error| fail(&error)),
        Marker::U64 => {
            let n = decode::read_u64(input).map_err(|error| fail(&error))?;
            Ok(i64::try_from(n).map_or_else(|_| Number::Decimal(n.to_string()), Number::Int))
        }
        Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
            let text = read_string(input)?;
            Number::from_decimal(&text).ok_or_else(|| fail(&format!("{text:?}")))
        }
        _ => decode::read_int(input).map(Number::Int).map_err(|error| fail(&error)),
    }
}

fn read_unknown(input: &mut &[u8]) -> Result<Value, String> {
    let whole = *input;
    let meta = decode::read_ext_meta(input).map_err(|error| format!("an unknown value was due: {error}"))?;
    take(input, meta.size)?;
    match meta.typeid {
        EXT_UNKNOWN => Ok(Value::UNKNOWN),
        EXT_REFINED => Ok(Value::Unknown(Some(Arc::from(&whole[..whole.len() - input.len()])))),
        // go-cty reads every extension type that it doesn't know as a plain unknown, to let the format grow.
        _ => Ok(Value::UNKNOWN),
    }
}

/// Encodes a value of this type. An attribute that an object lacks is written as null.
pub fn encode(value: &Value, ty: &Type) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    write(&mut out, value, ty);
    out
}

fn write(out: &mut Vec<u8>, value: &Value, ty: &Type) {
    match (value, ty) {
        (Value::Null, _) => out.push(0xc0),
        (Value::Unknown(None), _) => out.extend_from_slice(&[0xd4, 0, 0]),
        (Value::Unknown(Some(raw)), _) => out.extend_from_slice(raw),
        (Value::Dynamic(json, value), _) => {
            out.push(0x92);
            infallible(encode::write_bin(out, json));
            let ty = serde_json::from_slice(json).ok().and_then(|json| Type::from_json(&json).ok());
            write(out, value, &ty.unwrap_or(Type::Dynamic));
        }
        (value, Type::Dynamic) => {
            let ty = type_of(value);
            let json = serde_json::to_vec(&ty.to_json()).unwrap_or_default();
            out.push(0x92);
            infallible(encode::write_bin(out, &json));
            write(out, value, &ty);
        }
        (Value::Bool(value), _) => out.push(if *value { 0xc3 } else { 0xc2 }),
        (Value::String(text), _) => infallible(encode::write_str(out, text)),
        (Value::Number(number), _) => write_number(out, number),
        (Value::List(items), ty) => {
            infallible(encode::write_array_len(out, items.len() as u32).map(drop));
            for (n, item) in items.iter().enumerate() {
                let element = match ty {
                    Type::List(element) | Type::Set(element) => element,
                    Type::Tuple(types) => types.get(n).unwrap_or(&Type::Dynamic),
                    _ => &Type::Dynamic,
                };
                write(out, item, element);
            }
        }
        (Value::Map(map), Type::Object(attributes)) => {
            infallible(encode::write_map_len(out, attributes.len() as u32).map(drop));
            for (name, ty) in attributes {
                infallible(encode::write_str(out, name));
                write(out, map.get(name).unwrap_or(&Value::Null), ty);
            }
        }
        (Value::Map(map), ty) => {
            let element = if let Type::Map(element) = ty { element } else { &Type::Dynamic };
            infallible(encode::write_map_len(out, map.len() as u32).map(drop));
            for (key, item) in map {
                infallible(encode::write_str(out, key));
                write(out, item, element);
            }
        }
    }
}

fn write_number(out: &mut Vec<u8>, number: &Number) {
    match number {
        Number::Int(n) => infallible(encode::write_sint(out, *n).map(drop)),
        Number::Float(n) => infallible(encode::write_f64(out, *n)),
        Number::Decimal(text) => infallible(encode::write_str(out, text)),
    }
}

/// A `Vec` takes every byte, so its writers have no error to return.
fn infallible<E>(result: Result<(), E>) {
    drop(result);
}

/// The type that a value without a declared one is given.
fn type_of(value: &Value) -> Type {
    match value {
        Value::Bool(_) => Type::Bool,
        Value::Number(_) => Type::Number,
        Value::String(_) => Type::String,
        Value::List(items) => Type::Tuple(items.iter().map(type_of).collect()),
        Value::Map(map) => Type::Object(map.iter().map(|(key, value)| (key.clone(), type_of(value))).collect()),
        Value::Null | Value::Unknown(_) | Value::Dynamic(..) => Type::Dynamic,
    }
}

/// Reads a stored state's JSON by this type. Attributes that the type lacks are dropped: an older schema had them.
///
/// # Errors
/// Says what was met where something else was due.
pub fn from_json(json: &serde_json::Value, ty: &Type) -> Result<Value, String> {
    use serde_json::Value as Json;
    // What it is, and never the value: it may be secret.
    let due = |what: &str| format!("{what} was due, not {}", kind_of(json));
    match (ty, json) {
        (_, Json::Null) => Ok(Value::Null),
        (Type::Bool, Json::Bool(value)) => Ok(Value::Bool(*value)),
        (Type::Bool, Json::String(text)) => text.parse().map(Value::Bool).map_err(|_| due("a bool")),
        (Type::String, Json::String(text)) => Ok(Value::String(text.clone())),
        (Type::String, Json::Bool(_) | Json::Number(_)) => Ok(Value::String(json.to_string())),
        (Type::Number, Json::Number(number)) => {
            let exact = number.as_i64().map(Number::Int).or_else(|| number.as_f64().map(Number::from_f64));
            exact.map(Value::Number).ok_or_else(|| due("a number"))
        }
        (Type::Number, Json::String(text)) => {
            Number::from_decimal(text).map(Value::Number).ok_or_else(|| due("a number"))
        }
        (Type::List(element) | Type::Set(element), Json::Array(items)) => {
            items.iter().map(|item| from_json(item, element)).collect::<Result<_, _>>().map(Value::List)
        }
        (Type::Tuple(types), Json::Array(items)) if types.len() == items.len() => {
            types.iter().zip(items).map(|(ty, item)| from_json(item, ty)).collect::<Result<_, _>>().map(Value::List)
        }
        (Type::Map(element), Json::Object(map)) => {
            let pair = |(key, item): (&String, &Json)| Ok((key.clone(), from_json(item, element)?));
            map.iter().map(pair).collect::<Result<_, String>>().map(Value::Map)
        }
        (Type::Object(attributes), Json::Object(map)) => {
            let pair = |(name, ty): (&String, &Type)| {
                let value =
                    from_json(map.get(name).unwrap_or(&Json::Null), ty).map_err(|error| format!("{name}: {error}"))?;
                Ok((name.clone(), value))
            };
            attributes.iter().map(pair).collect::<Result<_, String>>().map(Value::Map)
        }
        (Type::Dynamic, Json::Object(map)) => {
            let (ty, value) = map.get("type").zip(map.get("value")).ok_or_else(|| due("a type and a value"))?;
            let text = serde_json::to_vec(ty).map_err(|error| error.to_string())?;
            Ok(Value::Dynamic(Arc::from(text), Box::new(from_json(value, &Type::from_json(ty)?)?)))
        }
        _ => Err(due(&format!("a value of type {}", ty.to_json()))),
    }
}

fn kind_of(json: &serde_json::Value) -> &'static str {
    use serde_json::Value as Json;
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a bool",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}
