//! Every number that can be written is one that means something, or a diagnostic at its attribute.

use crate::resource::Bluegreen;
use crate::tf_provider::{Attribute, Diagnostics, Kind, Nesting, Number, Path, Provider as _, Schema, Type, Value};

/// The attributes on the way to one, from the outermost, each with how it is nested.
type Way = Vec<(String, Option<Nesting>)>;

/// Each number attribute: its path, and the way to it.
fn numbers(attributes: &[Attribute], path: &Path, found: &mut Vec<(Path, Way)>, way: &Way) {
    for attribute in attributes.iter().filter(|attribute| attribute.is_written()) {
        let path = path.attr(attribute.name());
        let mut way = way.clone();
        match attribute.kind() {
            Kind::Plain(Type::Number) => {
                way.push((attribute.name().to_owned(), None));
                found.push((path, way));
            }
            Kind::Plain(_) => {}
            Kind::Nested(nesting, nested) => {
                way.push((attribute.name().to_owned(), Some(*nesting)));
                let path = match nesting {
                    Nesting::Single | Nesting::Set => path,
                    Nesting::List => path.index(0),
                    Nesting::Map => path.key("one"),
                };
                numbers(nested, &path, found, &way);
            }
        }
    }
}

/// The configuration with a number at the end of a way.
fn configured(way: &[(String, Option<Nesting>)], number: &Value) -> Value {
    let Some(((name, nesting), rest)) = way.split_first() else { return number.clone() };
    let inner = configured(rest, number);
    let inner = match nesting {
        Some(Nesting::List | Nesting::Set) => Value::List(vec![inner]),
        Some(Nesting::Map) => Value::object([("one", inner)]),
        _ => inner,
    };
    Value::object([(name.as_str(), inner)])
}

fn check(what: &str, schema: &Schema) -> usize {
    let mut found = Vec::new();
    numbers(schema.attributes(), &Path::default(), &mut found, &Way::new());
    for (path, way) in &found {
        // The limits of a metric of one's own may be any number that is one.
        let is_limit = path.to_string().contains(".metrics[")
            && way.last().is_some_and(|(name, _)| ["max", "min", "max_ratio_to_live"].contains(&name.as_str()));
        for text in ["1e400", "-1e400", "-10000000000000000000", "10000000000000000000", "1e300"] {
            if is_limit && !text.ends_with("e400") {
                continue;
            }
            let number = Value::Number(Number::from_decimal(text).unwrap());
            let mut diagnostics = Diagnostics::new();
            schema.validate(&configured(way, &number), true, &mut diagnostics);
            let told =
                diagnostics.iter().any(|one| one.path.as_ref().is_some_and(|own| own.to_string() == path.to_string()));
            assert!(told, "{what}: {path} = {text} passes");
        }
    }
    found.len()
}

#[test]
fn a_number_out_of_range_is_told_at_its_attribute() {
    let provider = Bluegreen::new(crate::compose::on_aws);
    let mut count = check("the provider block", provider.schema());
    for (name, resource) in provider.resources() {
        count += check(name, resource.schema());
    }
    assert!(count > 40, "{count}");
}
