//! From declared arguments to attributes of a schema.

use super::schema::{Attribute, Kind, Nesting, Type};
use super::value::Value;
use crate::argument::{Argument, Holds, Rule};
use crate::duration;

impl Attribute {
    /// The attribute of an argument.
    pub fn of(argument: &Argument) -> Attribute {
        let mut attribute = Attribute::new(argument.name, kind(&argument.holds)).describe(argument.text());
        if argument.required {
            attribute = attribute.required();
        } else if argument.computed {
            attribute = attribute.optional_computed();
        }
        if argument.sensitive {
            attribute = attribute.sensitive();
        }
        if argument.write_only {
            attribute = attribute.write_only();
        }
        argument
            .rules
            .iter()
            .cloned()
            .fold(attribute, |attribute, rule| attribute.check(move |value| check(&rule, value)))
    }

    /// The attributes of a table.
    pub fn all(arguments: &[Argument]) -> Vec<Attribute> {
        arguments.iter().map(Attribute::of).collect()
    }
}

fn kind(holds: &Holds) -> Kind {
    let nested = |nesting, element: &Holds| match element {
        Holds::Object(arguments) => Some(Kind::Nested(nesting, Attribute::all(arguments))),
        _ => None,
    };
    let of_elements = match holds {
        Holds::Object(_) => nested(Nesting::Single, holds),
        Holds::List(element) => nested(Nesting::List, element),
        Holds::Set(element) => nested(Nesting::Set, element),
        Holds::Map(element) => nested(Nesting::Map, element),
        Holds::Bool | Holds::Number | Holds::String | Holds::Plain(_) => None,
    };
    of_elements.unwrap_or_else(|| Kind::Plain(ty(holds)))
}

fn ty(holds: &Holds) -> Type {
    match holds {
        Holds::Bool => Type::Bool,
        Holds::Number => Type::Number,
        Holds::String => Type::String,
        Holds::List(element) => Type::list(ty(element)),
        Holds::Set(element) => Type::set(ty(element)),
        Holds::Map(element) => Type::map(ty(element)),
        Holds::Object(arguments) | Holds::Plain(arguments) => {
            Type::Object(arguments.iter().map(|one| (one.name.to_owned(), ty(&one.holds))).collect())
        }
    }
}

/// What of a value a rule doesn't accept. What isn't known yet is left for later.
fn check(rule: &Rule, value: &Value) -> Result<(), String> {
    let text = value.as_str();
    let items = value.as_list().unwrap_or_default();
    match rule {
        Rule::OneOf(words) => match text.filter(|text| !words.contains(text)) {
            Some(text) => Err(format!("{text:?} must be one of {}", words.join(", "))),
            None => Ok(()),
        },
        Rule::Whole(range) => match value.as_i64() {
            Some(number) if range.contains(&number) => Ok(()),
            _ => Err(format!("must be a whole number from {} to {}", range.start(), range.end())),
        },
        Rule::EachWhole(_) if value.as_list().is_some_and(<[Value]>::is_empty) => {
            Err("must have at least one element".to_owned())
        }
        Rule::EachWhole(range) => {
            let fits = |item: &Value| item.is_unknown() || item.as_i64().is_some_and(|code| range.contains(&code));
            match items.iter().all(fits) {
                true => Ok(()),
                false => Err(format!("must be a list of whole numbers from {} to {}", range.start(), range.end())),
            }
        }
        Rule::Lasting(range) => {
            let Some(text) = text else { return Ok(()) };
            // What is no duration at all, the rule of its type tells.
            let Ok(given) = duration::parse(text) else { return Ok(()) };
            let least = duration::parse(range.start())?;
            match (least..=duration::parse(range.end())?).contains(&given) {
                true => Ok(()),
                false => Err(format!("{text:?} must be from {} to {}", range.start(), range.end())),
            }
        }
        Rule::NotEmpty => match value {
            Value::String(text) if text.is_empty() => Err("must not be empty".to_owned()),
            Value::List(items) if items.is_empty() => Err("must have at least one element".to_owned()),
            _ => Ok(()),
        },
        Rule::Text(accepts) => text.map_or(Ok(()), accepts),
        Rule::Number(accepts) => match value.as_f64() {
            Some(number) => accepts(number),
            None => Err("must be a number".to_owned()),
        },
        Rule::Each(accepts) => items.iter().filter_map(Value::as_str).try_for_each(accepts),
        Rule::List(accepts) => accepts(&items.iter().map(Value::as_str).collect::<Vec<_>>()),
    }
}
