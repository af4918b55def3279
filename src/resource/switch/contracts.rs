//! The way back behind a contract: a color whose release is from before the database's schema contracted would find its
//! columns gone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::model;
use crate::rollout::{Intent, Runbook, Step, World, situation};
use crate::tf_provider::{Diagnostics, Path, Value};

/// What the colors ran when a contract was first seen, which is as old as the schema that is gone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Outdated {
    /// The contract: its migration and time.
    contract: String,
    /// The releases by color; none where it wasn't said what runs there.
    releases: BTreeMap<String, Option<String>>,
}

fn contract(config: &Value) -> Option<String> {
    let contracted = config.get("contracted_for");
    let text = |name| contracted.get(name).as_str();
    Some(format!("{} at {}", text("migration").unwrap_or("a migration"), text("at").or(text("color"))?))
}

fn releases(value: &Value) -> BTreeMap<String, Option<String>> {
    let environments = value.get("environments").as_map().into_iter().flatten();
    environments.map(|(color, one)| (color.clone(), one.get("release").as_str().map(str::to_owned))).collect()
}

impl Outdated {
    /// What is outdated by a configuration: as it was noted, or as the state before has it if the contract is a new one.
    pub fn of(config: &Value, prior: Option<&Value>, noted: &Outdated) -> Outdated {
        match contract(config) {
            None => Outdated::default(),
            Some(contract) if contract == noted.contract => noted.clone(),
            Some(contract) => {
                let mut releases = releases(config);
                let before = self::releases(prior.unwrap_or(config)).into_iter();
                releases.extend(before.filter(|(_, release)| release.is_some()));
                Outdated { contract, releases }
            }
        }
    }

    /// Whether a color still runs what it ran when the schema contracted. What isn't known yet is judged at apply.
    fn has(&self, color: &str, config: &Value) -> bool {
        let release = config.get("environments").get(color).get("release");
        let before = self.releases.get(color);
        !release.is_unknown() && before.is_some_and(|before| before.as_deref() == release.as_str())
    }

    /// Tells if a rollout would lead more users to a release from before a contract; whether it is refused. A color that
    /// somebody gave most of the traffic by hand is live, and is given no more of it.
    pub fn bars(
        &self,
        config: &Value,
        (intent, world, runbook): (&Intent, &World, &Runbook),
        diagnostics: &mut Diagnostics,
    ) -> bool {
        let Some(to) = situation::target_color(intent, world) else { return false };
        let contracted = config.get("contracted_for").get("color").as_str();
        let gains = intent.environments.get(&to).is_some_and(|to| to.groups().any(|group| gains(runbook, group)));
        if self.contract.is_empty() || !gains || contracted == Some(to.as_str()) || !self.has(&to, config) {
            return false;
        }
        let release = self.releases.get(&to).and_then(Option::as_deref);
        let release = release.map_or("what it ran then".to_owned(), |release| format!("release {release}"));
        let why = format!(
            "The migration {} took away from the database what releases before it need, and {to} still has {release}.",
            self.contract
        );
        let summary = format!("{to} has a release from before the contract");
        if model::declared(config, "allow_after_contract") == Some(true) {
            let detail = format!("{why} allow_after_contract = true lets it go live all the same.");
            diagnostics.warning_at(Path::attribute("active"), summary, detail);
            return false;
        }
        let traffic = situation::current(intent, world);
        let serves = match (&traffic.live, contracted) {
            (Some(live), Some(other)) if *live == to => format!(
                "{to} serves {} % as before; active = \"{other}\" takes it off the traffic",
                traffic.weights.get(&to).copied().unwrap_or_default()
            ),
            (Some(live), _) => format!("{live} serves as before"),
            (None, _) => "what is live serves as before".to_owned(),
        };
        let detail = format!(
            "{why} Nothing was changed; {serves}. Deploy a newer release to {to} first (release in environments tells which one runs there). If {to} does work with the schema as it is now, set allow_after_contract = true."
        );
        diagnostics.error_at(Path::attribute("active"), summary, detail);
        true
    }
}

/// Whether a runbook leads more users to a group anywhere than get to it now.
fn gains(runbook: &Runbook, group: &str) -> bool {
    runbook.steps().any(|(_, step)| {
        let Step::Route { before, after, .. } = step else { return false };
        after.gives_more(group, before.as_ref().map(|before| &before.terminal))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(migration: Option<&str>, blue: &str) -> Value {
        let environment = |release: &str| Value::object([("release", Value::from(release))]);
        let environments = Value::object([("blue", environment(blue)), ("green", environment("2"))]);
        let contracted = migration.map_or(Value::Null, |name| {
            let color = ("color", Value::from("green"));
            Value::object([color, ("at", Value::from("noon")), ("migration", Value::from(name))])
        });
        Value::object([("environments", environments), ("contracted_for", contracted)])
    }

    #[test]
    fn what_ran_before_a_contract_is_outdated_until_something_else_runs() {
        let before = config(None, "1");
        let first = Outdated::of(&config(Some("one"), "3"), Some(&before), &Outdated::default());
        assert!(first.has("blue", &before) && !first.has("blue", &config(Some("one"), "3")));
        // Another contract for the same color outdates what runs by then.
        let second = Outdated::of(&config(Some("two"), "3"), Some(&config(Some("one"), "3")), &first);
        assert!(second.has("blue", &config(Some("two"), "3")));
        // What was noted stays while the contract is the same.
        assert_eq!(Outdated::of(&config(Some("two"), "4"), Some(&config(Some("two"), "3")), &second), second);
        assert_eq!(Outdated::of(&config(None, "4"), None, &second), Outdated::default());
    }
}
