//! What must be equal in both colors, as one document that shows nothing of what it is made of.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::changes::cluster_name;
use super::rules::rules;
use super::spec::Spec;

/// So many lines of a script are told apart; the rest is one.
const LINES: usize = 200;
/// Deeper members of a document are told apart no more.
const DEPTH: usize = 8;

/// What two colors are compared by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirror {
    /// The canonical document as JSON: the settled stack without what differs on purpose (release, image, AMI, present size,
    /// the addresses of fixed targets), the color's own name replaced by a place holder, and of every value a short digest,
    /// salted by the stack's name: any of them may be derived from a secret.
    pub neutral: String,
    /// The digests of those values that have the color's name in them, as they are written, by their paths: where both colors
    /// have the very same text it is no difference either.
    pub verbatim: String,
}

/// The mirror of a stack.
pub fn mirror(spec: &Spec) -> Mirror {
    let document = document(&spec.clone().with_defaults());
    let mut digests = Digests { salt: &spec.name, color: &spec.color, verbatim: BTreeMap::new() };
    let neutral = digests.of("", &document, 0);
    Mirror { neutral: neutral.to_string(), verbatim: json!(digests.verbatim).to_string() }
}

/// Everything that is compared, as it is written.
fn document(spec: &Spec) -> Value {
    let mut map = Map::new();
    map.insert("vpc_id".to_owned(), json!(spec.vpc_id));
    map.insert("target_group".to_owned(), json!(spec.target_group));
    if let Some(instances) = &spec.instances {
        let rules: Vec<String> = rules(instances).keys().map(ToString::to_string).collect();
        let instances = instances.with_plain_data();
        let mut value = json!(instances);
        // What isn't text has no place where the color's name could be taken out.
        for name in ["image_id", "desired_capacity", "instance_refresh", "ingress", "egress", "user_data_base64"] {
            value[name].take();
        }
        if let Some(text) = &instances.user_data {
            // Not by `lines`, which doesn't see how they end: a script with CRLF doesn't run.
            let mut lines: Vec<&str> = text.splitn(LINES + 1, '\n').collect();
            let rest = if lines.len() > LINES { lines.pop() } else { None };
            value["user_data"] = lines.into_iter().chain(rest).map(Value::from).collect();
        }
        value["security_rules"] = json!(rules);
        map.insert("instances".to_owned(), value);
    }
    if let Some(service) = &spec.service {
        let mut value = json!(service);
        for name in ["image", "desired_count", "task_definition_arn", "keep_revisions"] {
            value[name].take();
        }
        value["cluster"] = Value::from(cluster_name(&service.cluster));
        if let Ok(Some(definition)) = service.definition() {
            value["task_definition"] = definition.without_images();
        }
        map.insert("service".to_owned(), value);
    }
    if let Some(targets) = &spec.targets {
        let ports: BTreeSet<Option<i32>> = targets.iter().map(|target| target.port).collect();
        map.insert("targets".to_owned(), json!({ "ports": ports }));
    }
    map.insert("tags".to_owned(), json!(spec.tags));
    Value::Object(map)
}

/// The attribute that is compared line by line.
const SCRIPT: &str = "instances.user_data";
/// How a digest begins: nothing that somebody writes by hand begins so.
const DIGEST: &str = "~";
/// Digits of a digest: enough to tell two values apart, and too few to say which one it was.
const DIGITS: usize = 10;

struct Digests<'s> {
    salt: &'s str,
    color: &'s str,
    verbatim: BTreeMap<String, String>,
}

impl Digests<'_> {
    fn of(&mut self, path: &str, value: &Value, depth: usize) -> Value {
        match value {
            Value::Null => Value::Null,
            Value::Object(map) if depth < DEPTH => {
                let members = map.iter().map(|(name, member)| {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    (name.clone(), self.of(&path, member, depth + 1))
                });
                Value::Object(members.filter(|(_, member)| !member.is_null()).collect())
            }
            Value::Array(lines) if path.ends_with(SCRIPT) => {
                // As a whole: one line that is the same in both may well be one that was forgotten.
                let verbatim = self.digest(path, &value.to_string());
                self.verbatim.insert(path.to_owned(), verbatim);
                let neutral = |(n, line): (usize, &Value)| {
                    let text = without_color(line.as_str().unwrap_or_default(), self.color);
                    Value::from(self.digest(&format!("{path}[{n}]"), &text))
                };
                lines.iter().enumerate().map(neutral).collect()
            }
            Value::Array(items) if depth < DEPTH => {
                items.iter().enumerate().map(|(n, item)| self.of(&format!("{path}[{n}]"), item, depth + 1)).collect()
            }
            other => {
                let text = other.as_str().map_or_else(|| other.to_string(), str::to_owned);
                let neutral = without_color(&text, self.color);
                if neutral != text {
                    let verbatim = self.digest(path, &text);
                    self.verbatim.insert(path.to_owned(), verbatim);
                }
                Value::from(self.digest(path, &neutral))
            }
        }
    }

    fn digest(&self, path: &str, text: &str) -> String {
        let whole = crate::digest::sha256(&format!("{} {path} {text}", self.salt));
        format!("{DIGEST}{}", &whole[..DIGITS])
    }
}

/// The color as a word of its own, however it is capitalized; as a part of a longer word it is somebody else's.
fn without_color(text: &str, color: &str) -> String {
    let mut capital = color.to_owned();
    if let Some(first) = capital.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let forms = [(color.to_owned(), "{color}"), (color.to_ascii_uppercase(), "{COLOR}"), (capital, "{Color}")];
    forms.iter().fold(text.to_owned(), |text, (form, holder)| without_word(&text, form, holder))
}

fn without_word(text: &str, word: &str, holder: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(word).filter(|_| !word.is_empty()) {
        let (before, after) = (&rest[..at], &rest[at + word.len()..]);
        let joined = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let whole =
            !joined(before.chars().next_back().or_else(|| out.chars().next_back())) && !joined(after.chars().next());
        out.push_str(before);
        out.push_str(if whole { holder } else { word });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// What differs between two colors, by the paths of the attributes: never what they say, which may be a secret.
pub fn differences(one: (&str, &Mirror), other: (&str, &Mirror)) -> Vec<String> {
    let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|_| Value::from(text));
    let verbatim = |mirror: &Mirror| serde_json::from_str(&mirror.verbatim).unwrap_or_default();
    let sides =
        [Side { color: one.0, verbatim: verbatim(one.1) }, Side { color: other.0, verbatim: verbatim(other.1) }];
    let mut out = Vec::new();
    compare("", [&parse(&one.1.neutral), &parse(&other.1.neutral)], &sides, &mut out);
    out
}

struct Side<'m> {
    color: &'m str,
    verbatim: BTreeMap<String, String>,
}

impl Side<'_> {
    fn as_written<'v>(&'v self, path: &str, neutral: &'v str) -> &'v str {
        self.verbatim.get(path).map_or(neutral, String::as_str)
    }
}

fn is_same(path: &str, values: [&Value; 2], sides: &[Side<'_>; 2]) -> bool {
    let texts = [values[0].as_str(), values[1].as_str()];
    match (values[0] == values[1], texts) {
        (true, _) => true,
        (false, _) if values.iter().all(|value| value.is_array()) => {
            let whole = sides.each_ref().map(|side| side.verbatim.get(path));
            whole[0].is_some() && whole[0] == whole[1]
        }
        (false, [Some(a), Some(b)]) => sides[0].as_written(path, a) == sides[1].as_written(path, b),
        _ => false,
    }
}

fn compare(path: &str, values: [&Value; 2], sides: &[Side<'_>; 2], out: &mut Vec<String>) {
    if is_same(path, values, sides) {
        return;
    }
    let [one, other] = [sides[0].color, sides[1].color];
    match values {
        [Value::Object(a), Value::Object(b)] => {
            for name in a.keys().chain(b.keys()).collect::<BTreeSet<&String>>() {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                let (a, b) = (a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null));
                compare(&path, [a, b], sides, out);
            }
        }
        [Value::Array(a), Value::Array(b)] if path.ends_with(SCRIPT) => {
            let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
            out.push(format!("{path}: {one} and {other} differ from line {} on", same + 1));
        }
        [Value::Array(a), Value::Array(b)] if a.len() == b.len() => {
            for (n, (a, b)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{n}]"), [a, b], sides, out);
            }
        }
        [Value::Null, _] => out.push(format!("{}: only {other} has it", shown(path))),
        [_, Value::Null] => out.push(format!("{}: only {one} has it", shown(path))),
        _ => out.push(format!("{}: {one} and {other} differ", shown(path))),
    }
}

fn shown(path: &str) -> &str {
    if path.is_empty() { "mirror" } else { path }
}
