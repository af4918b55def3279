//! The Registry's pages, made from schemas: what is documented is what is there.

use std::fmt::Write as _;

use super::provider::Function;
use super::schema::{Attribute, Kind, Nesting, Schema, Type};

/// What a page shows besides its schema.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// `bluegreen_switch`, or the provider's name.
    pub name: &'a str,
    /// `Resource`, `Data Source` or `Provider`.
    pub kind: &'a str,
    /// The provider's name.
    pub provider: &'a str,
    /// A Terraform configuration.
    pub example: &'a str,
    /// Commands that import it, if it can be imported.
    pub import: Option<&'a str>,
}

/// The page of a resource, a data source or the provider.
pub fn page(page: &Page<'_>, schema: &Schema) -> String {
    let Page { name, kind, provider, example, import } = page;
    let title = if *kind == "Provider" { format!("{name} Provider") } else { format!("{name} {kind} - {provider}") };
    let mut out = head(&title, schema.description);
    let _ = write!(
        out,
        "# {name} {kind}\n\n{}\n\n## Example Usage\n\n```terraform\n{}\n```\n",
        schema.description,
        example.trim()
    );
    out.push_str("\n## Schema\n");
    attributes(&mut out, schema.attributes(), "", 3);
    if let Some(import) = import {
        let _ = write!(out, "\n## Import\n\n```shell\n{}\n```\n", import.trim());
    }
    out
}

/// The page of a function.
pub fn function_page(name: &str, provider: &str, function: &dyn Function, example: &str) -> String {
    let mut out = head(&format!("{name} Function - {provider}"), function.summary());
    let _ = write!(
        out,
        "# {name} Function\n\n{}\n\n## Example Usage\n\n```terraform\n{}\n```\n",
        function.description(),
        example.trim()
    );
    let parameters = function.parameters();
    let signature: Vec<String> =
        parameters.iter().map(|p| format!("{} {}", p.name, type_name(&p.ty).to_lowercase())).collect();
    let result = type_name(&function.result()).to_lowercase();
    let _ =
        write!(out, "\n## Signature\n\n```text\n{name}({}) {result}\n```\n\n## Arguments\n\n", signature.join(", "));
    for parameter in &parameters {
        let _ = writeln!(out, "- `{}` ({}) {}", parameter.name, type_name(&parameter.ty), parameter.description);
    }
    out
}

fn head(title: &str, description: &str) -> String {
    format!("---\npage_title: \"{title}\"\nsubcategory: \"\"\ndescription: |-\n  {description}\n---\n\n")
}

fn attributes(out: &mut String, list: &[Attribute], path: &str, level: usize) {
    let heading = "#".repeat(level);
    for title in ["Required", "Optional", "Read-Only"] {
        let mut members: Vec<&Attribute> = list.iter().filter(|attribute| group(attribute) == title).collect();
        members.sort_by_key(|attribute| attribute.name);
        if members.is_empty() {
            continue;
        }
        let _ = write!(out, "\n{heading} {title}\n\n");
        for attribute in members {
            let _ = writeln!(out, "{}", line(attribute, path));
        }
    }
    for attribute in list {
        let Kind::Nested(_, nested) = &attribute.kind else { continue };
        let path = format!("{path}{}", attribute.name);
        let _ = write!(out, "\n<a id=\"{}\"></a>\n### Nested Schema for `{path}`\n", anchor(&path));
        attributes(out, nested, &format!("{path}."), 4);
    }
}

fn group(attribute: &Attribute) -> &'static str {
    match (attribute.required, attribute.optional) {
        (true, _) => "Required",
        (false, true) => "Optional",
        (false, false) => "Read-Only",
    }
}

fn line(attribute: &Attribute, path: &str) -> String {
    let kind = match &attribute.kind {
        Kind::Plain(ty) => type_name(ty),
        Kind::Nested(Nesting::Single, _) => "Attributes".to_owned(),
        Kind::Nested(Nesting::List, _) => "Attributes List".to_owned(),
        Kind::Nested(Nesting::Set, _) => "Attributes Set".to_owned(),
        Kind::Nested(Nesting::Map, _) => "Attributes Map".to_owned(),
    };
    let mut notes = vec![kind];
    notes.extend(attribute.sensitive.then(|| "Sensitive".to_owned()));
    notes.extend(attribute.write_only.then(|| "Write-only".to_owned()));
    let mut text = format!("- `{}` ({}) {}", attribute.name, notes.join(", "), attribute.description);
    if let Kind::Nested(..) = attribute.kind {
        let _ = write!(text, " (see [below](#{}))", anchor(&format!("{path}{}", attribute.name)));
    }
    text
}

fn anchor(path: &str) -> String {
    format!("nestedatt--{}", path.replace('.', "--"))
}

fn type_name(ty: &Type) -> String {
    match ty {
        Type::Bool => "Boolean".to_owned(),
        Type::Number => "Number".to_owned(),
        Type::String => "String".to_owned(),
        Type::List(element) => format!("List of {}", type_name(element)),
        Type::Set(element) => format!("Set of {}", type_name(element)),
        Type::Map(element) => format!("Map of {}", type_name(element)),
        Type::Object(_) => "Object".to_owned(),
        Type::Tuple(_) => "Tuple".to_owned(),
        Type::Dynamic => "Dynamic".to_owned(),
    }
}
