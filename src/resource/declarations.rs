//! What holds for every argument that is declared, wherever it is.

use serde_json::Value as Json;

use crate::argument::{Argument, Arguments as _, Class, Defaults, Holds};
use crate::migration::spec::Migration;
use crate::rollout::spec::Switch;
use crate::settings::Settings;
use crate::stack::Spec;
use crate::tf_provider::{Attribute, Diagnostics, Number, Schema, Value};

/// Every argument with its path, the nested ones included.
fn all() -> Vec<(String, Argument)> {
    fn collect(path: &str, arguments: &[Argument], found: &mut Vec<(String, Argument)>) {
        for argument in arguments {
            let path = format!("{path}.{}", argument.name);
            let element = match &argument.holds {
                Holds::List(element) | Holds::Set(element) | Holds::Map(element) => element,
                other => other,
            };
            if let Holds::Object(members) = element {
                collect(&path, members, found);
            }
            found.push((path, argument.clone()));
        }
    }
    let mut found = Vec::new();
    collect("environment", Spec::arguments(), &mut found);
    collect("switch", Switch::arguments(), &mut found);
    collect("migration", Migration::arguments(), &mut found);
    collect("provider", Settings::arguments(), &mut found);
    found
}

fn value(json: &Json) -> Value {
    match json {
        Json::Bool(on) => Value::from(*on),
        Json::Number(number) => Value::Number(Number::from_f64(number.as_f64().unwrap())),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => Value::List(items.iter().map(value).collect()),
        _ => Value::Null,
    }
}

#[test]
fn a_default_is_what_could_be_written() {
    let mut count = 0;
    for (path, argument) in all() {
        let defaults = match &argument.default {
            Defaults::Always(value) => vec![value],
            Defaults::ByKind(pairs) => pairs.iter().map(|(_, value)| value).collect(),
            Defaults::None | Defaults::Words(_) => continue,
        };
        for default in defaults {
            assert!(!argument.required, "{path}: what is required has no default");
            let schema = Schema::new("", vec![Attribute::of(&argument)]);
            let mut diagnostics = Diagnostics::new();
            schema.validate(&Value::object([(argument.name, value(default))]), true, &mut diagnostics);
            assert!(!diagnostics.has_errors(), "{path}: the default {default} is refused: {diagnostics:?}");
            count += 1;
        }
    }
    assert!(count > 80, "{count}");
}

#[test]
fn each_text_stands_alone() {
    for (path, argument) in all() {
        let text = argument.text();
        assert!(text.starts_with(|c: char| c.is_uppercase()) && text.ends_with('.'), "{path}: {text}");
        for word in [" such a color", "if left out", "shall", concat!("colo", "ur"), " wish", "Or "] {
            assert!(!text.contains(word), "{path}: {word:?} in {text:?}");
        }
        if argument.change == Class::Replaces {
            assert!(text.ends_with("Changing this forces a new resource."), "{path}");
        }
    }
}
