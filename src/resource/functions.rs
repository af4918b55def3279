//! The provider's functions.

use crate::tf_provider::{Function, Parameter, Type, Value};

/// `other(color, colors)`
pub struct Other;

impl Function for Other {
    fn summary(&self) -> &'static str {
        "The color that is next"
    }

    fn description(&self) -> &'static str {
        "The color that follows `color` among `colors` in the order of their names, round and round. Of two colors \
         it is the other one: where the next release goes while `color` is live."
    }

    fn parameters(&self) -> Vec<Parameter> {
        let colors = Type::set(Type::String);
        vec![
            Parameter { name: "color", ty: Type::String, description: "A color, usually the live one." },
            Parameter { name: "colors", ty: colors, description: "All colors, two or more." },
        ]
    }

    fn result(&self) -> Type {
        Type::String
    }

    fn call(&self, arguments: Vec<Value>) -> Result<Value, (Option<usize>, String)> {
        let color = arguments.first().and_then(Value::as_str).unwrap_or_default();
        let colors = arguments.get(1).and_then(Value::as_list).unwrap_or_default();
        let colors = colors.iter().filter_map(Value::as_str).map(|color| (color.to_owned(), ())).collect();
        if !std::collections::BTreeMap::contains_key(&colors, color) {
            let known = colors.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err((Some(0), format!("{color:?} is none of the colors ({known})")));
        }
        let next = crate::rollout::situation::idle(&colors, color);
        next.map(Value::from).ok_or_else(|| (Some(1), "there must be at least two colors".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_color_goes_round() {
        let colors = || Value::from(vec!["blue", "green", "red"]);
        let other = |color: &str| Other.call(vec![Value::from(color), colors()]);
        assert_eq!(other("blue"), Ok(Value::from("green")));
        assert_eq!(other("red"), Ok(Value::from("blue")));
        assert_eq!(other("pink").unwrap_err().0, Some(0));
        assert_eq!(Other.call(vec![Value::from("a"), Value::from(vec!["a"])]).unwrap_err().0, Some(1));
    }
}
