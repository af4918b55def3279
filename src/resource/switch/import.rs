//! Import: by the record's name, by listener or rule ARNs, or both, separated by commas.

use std::collections::{BTreeMap, BTreeSet};

use super::Shared;
use crate::arn::{self, Kind};
use crate::rollout::{Environment, Observed, RouteSpec, Terminal, traffic};
use crate::run::absence::believed;
use crate::run::ports::Freshness;
use crate::tf_provider::{Schema, Value};

/// The words that are told with every refusal.
const HOW: &str = "An import id is the name of the record (/myapp/current-live), the ARN of a listener or rule, or \
                   several of these separated by commas (/myapp/current-live,arn:…,arn:…). A record in another region than \
                   the provider's is followed by it (/myapp/current-live@eu-west-1).";

/// What an import id names.
#[derive(Debug, Default, PartialEq)]
struct Id {
    parameter: Option<String>,
    routes: Vec<RouteSpec>,
}

fn parse(id: &str) -> Result<Id, String> {
    let mut out = Id::default();
    for part in id.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        if arn::parse(part, Kind::Listener).is_ok() {
            out.routes.push(RouteSpec::Listener(part.to_owned()));
        } else if arn::parse(part, Kind::Rule).is_ok() {
            out.routes.push(RouteSpec::Rule(part.to_owned()));
        } else if part.starts_with("arn:") {
            return Err(format!("{part} is the ARN of neither a listener nor a rule. {HOW}"));
        } else if out.parameter.replace(part.to_owned()).is_some() {
            return Err(format!("More than one record is named. {HOW}"));
        }
    }
    if out.parameter.is_none() && out.routes.is_empty() { Err(HOW.to_owned()) } else { Ok(out) }
}

/// The state of what the id names, as far as it can be found out; a refresh fills in the rest.
pub(super) async fn import(shared: &Shared, schema: &Schema, id: &str) -> Result<Value, String> {
    let id = parse(id)?;
    let load_balancer = &shared.ports.load_balancer;
    let record = match &id.parameter {
        None => None,
        Some(name) => {
            let read = || shared.ports.records.get(name, Freshness::Now);
            let value = believed(read, Option::is_some, Option::or).await.map_err(|error| error.message)?;
            Some(value.ok_or_else(|| format!("There is no parameter {name}. {HOW}"))?)
        }
    };
    let found: Vec<(RouteSpec, Observed)> = if id.routes.is_empty() {
        load_balancer.forwarding_routes(Freshness::Shared).await.map_err(|error| error.message)?
    } else {
        let look = || load_balancer.observe(&id.routes, Freshness::Now);
        let has_all = |seen: &BTreeMap<String, Observed>| id.routes.iter().all(|route| seen.contains_key(&route.key()));
        let mut seen = believed(look, has_all, |later, _| later).await.map_err(|error| error.message)?;
        let take = |route: &RouteSpec| {
            let observed = seen.remove(&route.key()).ok_or_else(|| format!("{} isn't there.", route.key()))?;
            Ok((route.clone(), observed))
        };
        id.routes.iter().map(take).collect::<Result<_, String>>()?
    };
    let (routes, environments) = choose(shared, found, record.as_deref()).await?;
    Ok(state(schema, &id, &routes, &environments))
}

type Colors = BTreeMap<String, Environment>;

/// The routes that belong together, and the colors that they forward to. Where the record is all there is to go by, it
/// must point at one set of target groups.
async fn choose(
    shared: &Shared,
    found: Vec<(RouteSpec, Observed)>,
    record: Option<&str>,
) -> Result<(Vec<RouteSpec>, Colors), String> {
    let mut sets: BTreeMap<BTreeSet<String>, Vec<(RouteSpec, Observed)>> = BTreeMap::new();
    for (route, observed) in found {
        let Terminal::Forward(forward) = &observed.terminal else {
            return Err(format!("{route} does not forward to target groups, so it has no colors to import."));
        };
        let groups = forward.groups.iter().map(|(arn, _)| arn.clone()).collect();
        sets.entry(groups).or_default().push((route, observed));
    }
    let names = shared.ports.load_balancer.group_names(Vec::new()).await.map_err(|error| error.message)?;
    // Most stacks forward to one group until they have a switch: which groups are its colors, the names tell.
    let sets: BTreeMap<BTreeSet<String>, Vec<(RouteSpec, Observed)>> =
        sets.into_iter().fold(BTreeMap::new(), |mut sets, (groups, routes)| {
            let groups = if groups.len() == 1 { with_siblings(groups, record, &names) } else { groups };
            sets.entry(groups).or_default().extend(routes);
            sets
        });
    let mut candidates = Vec::new();
    for (groups, routes) in sets {
        let own = names.iter().filter(|(arn, _)| groups.contains(*arn));
        let colors = colors(&own.map(|(arn, name)| (arn.clone(), name.clone())).collect(), record);
        let live = traffic(&colors, routes.iter().map(|(_, observed)| observed), record).live;
        if record.is_none_or(|record| live.as_deref() == Some(record)) {
            candidates.push((routes.into_iter().map(|(route, _)| route).collect::<Vec<_>>(), colors));
        }
    }
    if candidates.len() == 1 {
        return candidates.pop().ok_or_else(|| HOW.to_owned());
    }
    let mut text = match (candidates.is_empty(), record) {
        (true, Some(record)) => {
            format!("No listener or rule leads to a target group whose name tells that it is {record:?}.")
        }
        (true, None) => "No listener or rule forwards to target groups whose names tell colors.".to_owned(),
        (false, _) => "More than one set of routes fits:".to_owned(),
    };
    for (routes, colors) in &candidates {
        let names = colors.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let keys = routes.iter().map(RouteSpec::key).collect::<Vec<_>>().join(",");
        text.push_str(&format!("\n  {names}: {keys}"));
    }
    Err(format!("{text}\n{HOW}"))
}

/// A group with those whose names differ from its own in one word only: of `myapp-blue` that is `myapp-green`. The word is
/// the one that the record says, where there is a record.
fn with_siblings(groups: BTreeSet<String>, record: Option<&str>, names: &BTreeMap<String, String>) -> BTreeSet<String> {
    let Some(name) = groups.first().and_then(|arn| names.get(arn)) else { return groups };
    let own = words(name);
    let siblings = |at: usize| -> BTreeSet<String> {
        let is_sibling = |name: &String| {
            let other = words(name);
            other.len() == own.len() && own.iter().zip(&other).enumerate().all(|(n, (a, b))| n == at || a == b)
        };
        names.iter().filter(|(_, name)| is_sibling(name)).map(|(arn, _)| arn.clone()).collect()
    };
    let places = own.iter().enumerate().filter(|(_, word)| {
        let word = word.to_ascii_lowercase();
        record.map_or_else(|| ["blue", "green"].contains(&word.as_str()), |record| word == record)
    });
    let mut found: Vec<BTreeSet<String>> = places.map(|(at, _)| siblings(at)).collect();
    found.retain(|siblings| (2..=5).contains(&siblings.len()));
    if found.len() == 1 { found.remove(0) } else { groups }
}

fn words(name: &str) -> Vec<&str> {
    name.split(['-', '_']).collect()
}

/// Names colors after what tells the target groups' names apart: `myapp-blue`, `myapp-green` are blue and green. One that
/// stands alone is the color that the record says, if its name says so too.
fn colors(names: &BTreeMap<String, String>, record: Option<&str>) -> Colors {
    let split: Vec<Vec<&str>> = names.values().map(|name| words(name)).collect();
    let same_length = split.windows(2).all(|pair| pair[0].len() == pair[1].len());
    let color = |n: usize, name: &str| {
        let alone = record.filter(|record| names.len() == 1 && split[n].contains(record));
        let own: Vec<&str> = split[n]
            .iter()
            .enumerate()
            .filter(|(at, word)| !same_length || split.iter().any(|other| other[*at] != **word))
            .map(|(_, word)| *word)
            .collect();
        let text = match alone {
            Some(record) => record.to_owned(),
            None if own.is_empty() => name.to_owned(),
            None => own.join("-"),
        };
        named(&text)
    };
    let environment = |(n, (arn, name)): (usize, (&String, &String))| {
        (color(n, name), Environment { target_group_arn: arn.clone(), ..Environment::default() })
    };
    names.iter().enumerate().map(environment).collect()
}

/// The name of a color for what a target group's name says: `Web_New` is `web-new`, and `1` is `color-1`.
fn named(text: &str) -> String {
    let fits = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let text: String = text.chars().map(fits).collect();
    let text = text.trim_matches('-');
    let text =
        if text.starts_with(|c: char| c.is_ascii_lowercase()) { text.to_owned() } else { format!("color-{text}") };
    text.chars().take(32).collect::<String>().trim_end_matches('-').to_owned()
}

fn state(schema: &Schema, id: &Id, routes: &[RouteSpec], environments: &Colors) -> Value {
    let mut state = schema.null_object();
    let name = id.parameter.as_deref().and_then(|name| name.split('/').find(|level| !level.is_empty()));
    let name = name.unwrap_or("imported");
    state.set("id", Value::from(name));
    state.set("name", Value::from(name));
    state.set("parameter", Value::from(id.parameter.as_deref()));
    let environment = |(color, environment): (&String, &Environment)| {
        let arn = Value::from(environment.target_group_arn.as_str());
        (color.clone(), Value::object([("target_group_arn", arn)]))
    };
    state.set("environments", Value::object(environments.iter().map(environment)));
    let route = |route: &RouteSpec| match route {
        RouteSpec::Rule(arn) => Value::object([("rule_arn", Value::from(arn.as_str()))]),
        other => Value::object([("listener_arn", Value::from(other.key()))]),
    };
    state.set("routes", Value::List(routes.iter().map(route).collect()));
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_are_what_tells_the_names_apart() {
        let named = |names: &[&str]| {
            let names = names.iter().map(|name| (format!("arn:{name}"), (*name).to_owned())).collect();
            colors(&names, None).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(named(&["myapp-blue", "myapp-green"]), ["blue", "green"]);
        assert_eq!(named(&["blue-tg", "green-tg"]), ["blue", "green"]);
        assert_eq!(named(&["Legacy", "web-new"]), ["legacy", "web-new"]);
        // Which a switch takes, whatever the groups are called.
        assert_eq!(named(&["app-1", "app-2"]), ["color-1", "color-2"]);
        assert_eq!(named(&["app_New", "app_Old"]), ["new", "old"]);
        let long = named(&[&format!("x-{}", "a1".repeat(20)), "x-2"]);
        assert!(long.iter().all(|color| crate::argument::rules::color(color).is_ok()), "{long:?}");
    }

    #[test]
    fn p21_a_group_alone_finds_its_siblings() {
        let names = ["myapp-blue", "myapp-green", "other-blue", "myapp-web-blue", "legacy"];
        let names: BTreeMap<String, String> =
            names.iter().map(|name| (format!("arn:{name}"), (*name).to_owned())).collect();
        let of = |name: &str, record| with_siblings(BTreeSet::from([format!("arn:{name}")]), record, &names);
        let both = BTreeSet::from(["arn:myapp-blue".to_owned(), "arn:myapp-green".to_owned()]);
        assert_eq!(of("myapp-blue", Some("blue")), both);
        assert_eq!(of("myapp-blue", None), both);
        assert_eq!(of("legacy", Some("blue")).len(), 1);
        assert_eq!(of("other-blue", Some("blue")).len(), 1);
        let alone = BTreeMap::from([("arn:other-blue".to_owned(), "other-blue".to_owned())]);
        assert_eq!(colors(&alone, Some("blue")).into_keys().collect::<Vec<_>>(), ["blue"]);
    }

    #[test]
    fn ids_name_a_record_and_routes() {
        let listener = "arn:aws:elasticloadbalancing:eu-central-1:123456789012:listener/app/web/1/2";
        let id = parse(&format!("/app/live, {listener}")).unwrap();
        assert_eq!(id.parameter.as_deref(), Some("/app/live"));
        assert_eq!(id.routes, [RouteSpec::Listener(listener.to_owned())]);
        for wrong in ["", ",", "/a,/b", "arn:aws:s3:::x"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
