//! Import: by the record's name, by listener or rule ARNs, or both, separated by commas.

use std::collections::{BTreeMap, BTreeSet};

use super::Shared;
use crate::resource::arn::{self, Kind};
use crate::rollout::{Environment, Observed, RouteSpec, Terminal, traffic};
use crate::run::ports::Freshness;
use crate::tf_provider::{Schema, Value};

/// The words that are told with every refusal.
const HOW: &str = "An import id is the name of the record (/myapp/current-live), the ARN of a listener or rule, or \
                   several of these separated by commas (/myapp/current-live,arn:…,arn:…).";

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
            let value = shared.ports.records.get(name, Freshness::Now).await.map_err(|error| error.message)?;
            Some(value.ok_or_else(|| format!("There is no parameter {name}. {HOW}"))?)
        }
    };
    let found: Vec<(RouteSpec, Observed)> = if id.routes.is_empty() {
        load_balancer.splitting_routes().await.map_err(|error| error.message)?
    } else {
        let mut seen = load_balancer.observe(&id.routes, Freshness::Now).await.map_err(|error| error.message)?;
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

/// The routes that belong together, and the colours that they forward to. Where the record is all there is to go by, it
/// must point at one set of target groups.
async fn choose(
    shared: &Shared,
    found: Vec<(RouteSpec, Observed)>,
    record: Option<&str>,
) -> Result<(Vec<RouteSpec>, Colors), String> {
    let mut sets: BTreeMap<BTreeSet<String>, Vec<(RouteSpec, Observed)>> = BTreeMap::new();
    for (route, observed) in found {
        let Terminal::Forward(forward) = &observed.terminal else {
            return Err(format!("{route} does not forward to target groups, so it has no colours to import."));
        };
        let groups = forward.groups.iter().map(|(arn, _)| arn.clone()).collect();
        sets.entry(groups).or_default().push((route, observed));
    }
    let mut candidates = Vec::new();
    for (groups, routes) in sets {
        let names = shared.ports.load_balancer.group_names(groups.into_iter().collect()).await;
        let colors = colors(&names.map_err(|error| error.message)?);
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
        (true, None) => "No listener or rule forwards to two or more target groups.".to_owned(),
        (false, _) => "More than one set of routes fits:".to_owned(),
    };
    for (routes, colors) in &candidates {
        let names = colors.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let keys = routes.iter().map(RouteSpec::key).collect::<Vec<_>>().join(",");
        text.push_str(&format!("\n  {names}: {keys}"));
    }
    Err(format!("{text}\n{HOW}"))
}

/// Names colours after what tells the target groups' names apart: `myapp-blue`, `myapp-green` are blue and green.
fn colors(names: &BTreeMap<String, String>) -> Colors {
    let words: Vec<Vec<&str>> = names.values().map(|name| name.split(['-', '_']).collect()).collect();
    let same_length = words.windows(2).all(|pair| pair[0].len() == pair[1].len());
    let color = |n: usize, name: &str| {
        let own: Vec<&str> = words[n]
            .iter()
            .enumerate()
            .filter(|(at, word)| !same_length || words.iter().any(|other| other[*at] != **word))
            .map(|(_, word)| *word)
            .collect();
        let text = if own.is_empty() { name.to_owned() } else { own.join("-") };
        text.to_ascii_lowercase()
    };
    let environment = |(n, (arn, name)): (usize, (&String, &String))| {
        (color(n, name), Environment { target_group_arn: arn.clone(), release: None, scalable: None })
    };
    names.iter().enumerate().map(environment).collect()
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
    fn colours_are_what_tells_the_names_apart() {
        let named = |names: &[&str]| {
            let names = names.iter().map(|name| (format!("arn:{name}"), (*name).to_owned())).collect();
            colors(&names).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(named(&["myapp-blue", "myapp-green"]), ["blue", "green"]);
        assert_eq!(named(&["blue-tg", "green-tg"]), ["blue", "green"]);
        assert_eq!(named(&["Legacy", "web-new"]), ["legacy", "web-new"]);
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
