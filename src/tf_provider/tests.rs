//! The wire without a wire: msgpack as go-cty writes it, rules of the schema.

use super::*;

#[track_caller]
fn round_trip(bytes: &[u8], ty: &Type, value: &Value) {
    assert_eq!(&msgpack::decode(bytes, ty).unwrap(), value);
    assert_eq!(msgpack::encode(value, ty), bytes);
}

#[test]
fn primitives_are_encoded_as_go_cty_encodes_them() {
    round_trip(&[0xc0], &Type::String, &Value::Null);
    round_trip(&[0xd4, 0, 0], &Type::Bool, &Value::UNKNOWN);
    round_trip(&[0xc3], &Type::Bool, &Value::Bool(true));
    round_trip(&[0xa5, b'h', b'e', b'l', b'l', b'o'], &Type::String, &Value::from("hello"));
    round_trip(&[0x0f], &Type::Number, &Value::from(15));
    round_trip(&[0xcb, 0x40, 0x29, 0, 0, 0, 0, 0, 0], &Type::Number, &Value::Number(Number::Float(12.5)));
}

#[test]
fn a_refined_unknown_goes_back_to_the_letter() {
    // Extension type 12 with {1: false}: known to be not null.
    let bytes = [0xc7, 3, 12, 0x81, 1, 0xc2];
    let value = msgpack::decode(&bytes, &Type::String).unwrap();
    assert!(value.is_unknown());
    assert_eq!(msgpack::encode(&value, &Type::String), bytes);
}

#[test]
fn numbers_beyond_a_double_keep_their_digits() {
    let text = "100000000000000000001";
    let value = Value::Number(Number::from_decimal(text).unwrap());
    let bytes = msgpack::encode(&value, &Type::Number);
    assert_eq!(msgpack::decode(&bytes, &Type::Number).unwrap(), value);
    assert_eq!(&bytes[1..], text.as_bytes());
    assert_eq!(Number::from_f64(1e20), Number::Float(1e20));
}

#[test]
fn broken_input_is_refused_and_never_panics() {
    let ty = Type::list(Type::String);
    for bytes in [&[][..], &[0x91], &[0xdd, 0xff, 0xff, 0xff, 0xff], &[0x91, 0xa5, b'x'], &[0x90, 0x90]] {
        assert!(msgpack::decode(bytes, &ty).is_err(), "{bytes:?}");
    }
}

#[test]
fn schema_rules_name_the_path() {
    fn even(value: &Value) -> Result<(), String> {
        if value.as_i64().is_some_and(|n| n % 2 == 0) { Ok(()) } else { Err("must be even".to_owned()) }
    }
    let items = Attribute::nested("items", Nesting::List, vec![Attribute::number("n").check(even)]);
    let schema = Schema::new("", vec![items, Attribute::string("secret").write_only()]);
    let item = |n| Value::object([("n", Value::from(n))]);
    let config = Value::object([("items", Value::List(vec![item(2), item(3)])), ("secret", Value::from("x"))]);
    let mut diagnostics = Diagnostics::new();
    schema.validate(&config, false, &mut diagnostics);
    let paths: Vec<String> = diagnostics.iter().filter_map(|d| d.path.as_ref()).map(ToString::to_string).collect();
    assert_eq!(paths, ["items[1].n", "secret"]);
    assert!(schema.without_write_only(config).get("secret").is_null());
}
