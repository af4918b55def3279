//! Arguments: what users write, each declared once, at the field that holds it.
//!
//! `#[derive(Arguments)]` makes a table of [`Argument`]s of a struct: name, shape, documentation, default, rules, and what a
//! change means. Schema, reference page, parser, validation, defaults and the classes of changes are read off that table, so
//! that they can't say different things. Rules that look at several arguments are functions of the resource's `validate`.

mod field;
pub mod rules;

use std::ops::RangeInclusive;

pub use bluegreen_derive::{Arguments, Choice};
pub use field::{Field, argument, member, without};
use serde_json::Value;

/// Everything that is known of one argument.
#[derive(Clone, Debug)]
pub struct Argument {
    /// As users write it.
    pub name: &'static str,
    /// What it holds.
    pub holds: Holds,
    /// What it is, Markdown, without what [`Argument::text`] adds.
    pub about: &'static str,
    /// Whether it must be written.
    pub required: bool,
    /// Whether the provider fills it in where it isn't written.
    pub computed: bool,
    /// Whether it is hidden in output.
    pub sensitive: bool,
    /// Whether it reaches neither plan nor state.
    pub write_only: bool,
    /// What holds where it isn't written.
    pub default: Defaults,
    /// What a value must be.
    pub rules: Vec<Rule>,
    /// The only kinds that it is for, in words; none: all but those that it isn't for.
    pub only: Vec<&'static str>,
    /// The kinds that it isn't for, in words.
    pub not: Vec<&'static str>,
    /// What a change of it means.
    pub change: Class,
}

/// What an argument holds, in Terraform's types.
#[derive(Clone, Debug)]
pub enum Holds {
    /// A Boolean.
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// A list.
    List(Box<Holds>),
    /// A set.
    Set(Box<Holds>),
    /// A map by strings.
    Map(Box<Holds>),
    /// An object with arguments of its own.
    Object(Vec<Argument>),
    /// An object whose members are a matter of its type alone.
    Plain(Vec<Argument>),
}

impl Holds {
    /// The same elements where their order means nothing.
    #[must_use]
    pub fn as_set(self) -> Holds {
        match self {
            Holds::List(element) => Holds::Set(element),
            other => other,
        }
    }

    /// The same object as a plain type.
    #[must_use]
    pub fn as_plain(self) -> Holds {
        match self {
            Holds::Object(members) => Holds::Plain(members),
            other => other,
        }
    }

    /// The same object without some of its members.
    #[must_use]
    pub fn without(self, names: &[&str]) -> Holds {
        match self {
            Holds::Object(mut members) => {
                members.retain(|member| !names.contains(&member.name));
                Holds::Object(members)
            }
            other => other,
        }
    }
}

/// What holds where nothing is written.
#[derive(Clone, Debug)]
pub enum Defaults {
    /// Nothing, or what AWS decides.
    None,
    /// What no constant can be, in words that follow "Defaults to".
    Words(&'static str),
    /// This value.
    Always(Value),
    /// A value that depends on the kind, in words; none: any other kind. The first that fits.
    ByKind(Vec<(Option<&'static str>, Value)>),
}

/// What a known value must be.
#[derive(Clone, Debug)]
pub enum Rule {
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A whole number between these.
    Whole(RangeInclusive<i64>),
    /// A duration between these, as users write them.
    Lasting(RangeInclusive<&'static str>),
    /// Not without any element, or not the empty string.
    NotEmpty,
    /// A string that this accepts; otherwise it says why not.
    Text(fn(&str) -> Result<(), String>),
    /// A number that this accepts.
    Number(fn(f64) -> Result<(), String>),
    /// A list or set each of whose strings this accepts.
    Each(fn(&str) -> Result<(), String>),
    /// A list or set of whole numbers between these.
    EachWhole(RangeInclusive<i64>),
    /// A list of strings that this accepts; what isn't known yet is none.
    List(fn(&[Option<&str>]) -> Result<(), String>),
}

/// What a change of an argument means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// A call changes what is there.
    InPlace,
    /// What is there has to be made anew: Terraform's "forces replacement".
    Replaces,
    /// Instances or tasks are replaced, one part after the other.
    Rolls,
    /// What it means depends on more than this argument: a function beside the struct says it.
    Apart,
    /// Nothing that is there: it is about how the provider works.
    Aside,
}

/// Kinds of one thing, where defaults depend on the kind.
pub trait Kind: Copy + PartialEq {
    /// The kind as a noun phrase in the plural, such as "Lambda target groups".
    fn plural(self) -> &'static str;

    /// The kinds that it is one of, where several are one thing to users.
    fn family(self) -> &'static str {
        self.plural()
    }
}

/// The kind of what has only one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Always;

impl Kind for Always {
    fn plural(self) -> &'static str {
        "everything"
    }
}

/// A struct whose fields are arguments.
pub trait Arguments: Sized {
    /// What decides those defaults that depend on something.
    type Kind: Kind;

    /// The table, in the order of declaration.
    fn arguments() -> &'static [Argument];

    /// Whether an argument means anything for a kind.
    fn applies(name: &str, kind: Self::Kind) -> bool;

    /// Fills the defaults in of the fields that may say nothing (`Option`) and do. Nested structs are left as they are.
    fn fill(&mut self, kind: Self::Kind);

    /// The names of the arguments whose change is of a class.
    fn of_class(class: Class) -> impl Iterator<Item = &'static str> {
        Self::arguments().iter().filter(move |argument| argument.change == class).map(|argument| argument.name)
    }
}

impl Argument {
    /// Its documentation: what it is, then its default, what is allowed, and what a change means, in this order.
    pub fn text(&self) -> String {
        let mut sentences = vec![self.about.to_owned()];
        sentences.extend(self.fits());
        sentences.extend(self.default.text());
        sentences.extend(self.rules.iter().filter_map(Rule::text));
        if self.change == Class::Replaces {
            sentences.push("Changing this forces a new resource.".to_owned());
        }
        sentences.join(" ")
    }

    /// Which kinds it is for, as a sentence; none where it is for all.
    pub fn fits(&self) -> Option<String> {
        match (self.only.as_slice(), self.not.as_slice()) {
            ([], []) => None,
            ([], not) => Some(format!("Not for {}.", list(not, "and"))),
            (only, _) => Some(format!("Only for {}.", list(only, "and"))),
        }
    }
}

impl Defaults {
    fn text(&self) -> Option<String> {
        match self {
            Defaults::None => None,
            Defaults::Words(words) => Some(format!("Defaults to {words}.")),
            Defaults::Always(value) => Some(format!("Defaults to {}.", literal(value))),
            Defaults::ByKind(pairs) => {
                let mut parts: Vec<(&Value, Vec<&str>)> = Vec::new();
                for (kind, value) in pairs {
                    let kind = kind.unwrap_or("otherwise");
                    match parts.last_mut().filter(|(same, _)| *same == value) {
                        Some((_, kinds)) => kinds.push(kind),
                        None => parts.push((value, vec![kind])),
                    }
                }
                let part = |(value, kinds): &(&Value, Vec<&str>)| match kinds.as_slice() {
                    ["otherwise"] => format!("{} otherwise", literal(value)),
                    kinds => format!("{} for {}", literal(value), list(kinds, "and")),
                };
                let parts: Vec<String> = parts.iter().map(part).collect();
                Some(format!("Defaults to {}.", list(&parts, "and")))
            }
        }
    }
}

impl Rule {
    /// What is allowed, as a sentence; what only a function can say is a part of the argument's own text.
    fn text(&self) -> Option<String> {
        match self {
            Rule::OneOf(words) => {
                let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                Some(format!("One of {}.", list(&words, "or")))
            }
            Rule::Whole(range) | Rule::EachWhole(range) if *range.end() >= MANY => {
                Some(format!("At least {}.", range.start()))
            }
            Rule::Whole(range) => Some(format!("Between {} and {}.", range.start(), range.end())),
            Rule::EachWhole(range) => Some(format!("Each between {} and {}.", range.start(), range.end())),
            Rule::Lasting(range) => Some(format!("Between `{}` and `{}`.", range.start(), range.end())),
            _ => None,
        }
    }
}

/// Where AWS sets no bound: more than this is a typing error, and not worth a word.
const MANY: i64 = 1_000_000;

/// A value as it stands in a configuration.
fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}

fn list<S: AsRef<str>>(items: &[S], last: &str) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [first @ .., end] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} {last} {}", first.join(", "), end.as_ref())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Arguments)]
    #[arguments(change = InPlace, default)]
    struct Lamp {
        /// The color of the light.
        #[argument(default = "white", one_of = ["white", "red"], change = Replaces)]
        color: String,
        /// Seconds to the full light.
        #[argument(range = 0..=10, default = 2)]
        rise: u32,
        /// The places of it.
        #[argument(set)]
        places: Vec<String>,
    }

    #[test]
    fn a_field_is_read_documented_and_has_its_default() {
        let read = Lamp::read(&serde_json::json!({ "rise": 5, "places": ["hall"] }));
        assert_eq!(read, Some(Lamp { color: "white".to_owned(), rise: 5, places: vec!["hall".to_owned()] }));
        assert_eq!(Lamp::default().rise, 2);
        let texts: Vec<String> = Lamp::arguments().iter().map(Argument::text).collect();
        assert_eq!(
            texts,
            [
                "The color of the light. Defaults to `white`. One of `white` or `red`. Changing this forces a new resource.",
                "Seconds to the full light. Defaults to `2`. Between 0 and 10.",
                "The places of it.",
            ]
        );
        assert_eq!(Lamp::of_class(Class::Replaces).collect::<Vec<_>>(), ["color"]);
    }

    #[test]
    fn what_is_written_wrongly_is_not_passed_over() {
        assert_eq!(Lamp::read(&serde_json::json!({ "rise": -5 })), None);
        assert_eq!(Lamp::read(&serde_json::json!({ "color": 7 })), None);
        assert_eq!(Lamp::read(&serde_json::json!({ "rise": null })), Lamp::absent());
        assert_eq!(argument::<Lamp, u32>(&serde_json::json!({}), "rise"), Some(2));
        assert_eq!(argument::<Lamp, u32>(&serde_json::json!({ "rise": 3 }), "rise"), Some(3));
        assert_eq!(Lamp::read(&serde_json::json!([])), None);
    }
}
