//! A switch in a region of its own.

use std::sync::Arc;

use super::rollouts::told;
use super::{BLUE, GREEN, LISTENER, Stage, Switch, config, world};
use crate::resource::Context;
use crate::resource::testing::{World, read_request};
use crate::rollout::Terminal;
use crate::run::rollout::in_memory::Fake;
use crate::run::stack::in_memory::Cloud;
use crate::tf_provider::{Cancel, Diagnostics, Resource as _, Stored, Value};

const HOME: &str = "eu-central-1";
const WEST: &str = "eu-west-1";

fn west(arn: &str) -> String {
    arn.replace(HOME, WEST)
}

/// Blue is live in two regions, of which the provider's own is the first.
fn two_regions() -> (Stage, Arc<Fake>) {
    let home = Fake::new(world(100, 0), &[BLUE, GREEN]);
    let mut there = world(100, 0);
    there.routes = std::mem::take(&mut there.routes)
        .into_values()
        .map(|mut route| {
            route.arn = west(LISTENER);
            if let Terminal::Forward(forward) = &mut route.terminal {
                forward.groups.iter_mut().for_each(|(group, _)| *group = west(group));
            }
            (west(LISTENER), route)
        })
        .collect();
    let other = Fake::new(there, &[&west(BLUE), &west(GREEN)]);
    let worlds = [(HOME, &home), (WEST, &other)].map(|(region, fake)| {
        let cloud = Cloud::new(fake.clone());
        (region, World::new(fake, &cloud))
    });
    let switch = Arc::new(Switch::new(Arc::new(Context::over_regions(worlds))));
    (Stage { fake: home, switch }, other)
}

/// A switch over what the other region has.
fn in_west(stage: &Stage, active: &str) -> Value {
    let mut config = config(&stage.switch, Value::from(active));
    let environment = |arn: &str| Value::object([("target_group_arn", Value::from(west(arn)))]);
    config.set("environments", Value::object([("blue", environment(BLUE)), ("green", environment(GREEN))]));
    config.set("routes", Value::List(vec![Value::object([("listener_arn", Value::from(west(LISTENER)))])]));
    config.set("region", Value::from(WEST));
    config
}

fn region(stored: &Stored) -> Option<&str> {
    stored.state.as_ref()?.get("region").as_str()
}

fn weight(fake: &Fake, listener: &str, group: &str) -> u32 {
    match &fake.world().routes[listener].terminal {
        Terminal::Forward(forward) => forward.groups.iter().find(|(arn, _)| arn == group).map_or(0, |(_, n)| *n),
        _ => 0,
    }
}

impl Stage {
    async fn looked(&self, stored: &Stored) -> Stored {
        let mut diagnostics = Diagnostics::new();
        let request = read_request(stored.state.clone().unwrap(), &stored.private);
        let read = self.switch.read(request, &mut diagnostics).await;
        assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
        read
    }
}

#[tokio::test(start_paused = true)]
async fn traffic_moves_in_the_region_of_the_switch() {
    let (stage, other) = two_regions();
    let config = in_west(&stage, "green");
    let (stored, diagnostics) = stage.apply(&config, None).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    assert_eq!(region(&stored), Some(WEST));
    assert_eq!((weight(&other, &west(LISTENER), &west(GREEN)), weight(&stage.fake, LISTENER, GREEN)), (100, 0));
    assert_eq!((other.world().record.as_deref(), stage.fake.world().record), (Some("green"), None));
    let read = stage.looked(&stored).await;
    let (planned, _) = stage.plan(&config, Some(&read)).await;
    assert_eq!(planned.state, read.state, "the plan right after an apply is empty");
    let (gone, diagnostics) = stage.destroy(&read).await;
    assert!(gone.state.is_none() && !diagnostics.has_errors(), "{}", told(&diagnostics));
    assert_eq!(other.world().record, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_elsewhere_is_told_with_its_cure() {
    let (stage, _) = two_regions();
    let mut config = in_west(&stage, "green");
    config.set("region", Value::Null);
    let (_, diagnostics) = stage.plan(&config, None).await;
    let text = told(&diagnostics);
    assert!(text.contains("is in eu-west-1, but the switch works in eu-central-1"), "{text}");
    assert!(text.contains("Set region = \"eu-west-1\" here"), "{text}");
    // What is written is compared before anything is asked.
    config.set("region", Value::from("us-east-1"));
    let mut diagnostics = Diagnostics::new();
    stage.switch.validate(&config, &mut diagnostics);
    let text = told(&diagnostics);
    assert!(text.contains("this listener is in eu-west-1, but the switch is in us-east-1"), "{text}");
    config.set("region", Value::from("Frankfurt"));
    let mut diagnostics = Diagnostics::new();
    stage.switch.schema.validate(&config, true, &mut diagnostics);
    assert!(told(&diagnostics).contains("\"Frankfurt\" is not the name of a region"), "{}", told(&diagnostics));
}

/// Everything that a switch names is another thing there: it ends here and begins there.
#[tokio::test(start_paused = true)]
async fn another_region_is_another_switch() {
    let (stage, other) = two_regions();
    let here = config(&stage.switch, Value::from("blue"));
    let (stored, diagnostics) = stage.apply(&here, None).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    let read = stage.looked(&stored).await;
    assert_eq!(region(&read), Some(HOME));
    let there = in_west(&stage, "blue");
    let calls = other.calls().len();
    let (planned, diagnostics) = stage.plan(&there, Some(&read)).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    assert_eq!(planned.replace.iter().map(ToString::to_string).collect::<Vec<_>>(), ["region"]);
    assert_eq!(other.calls().len(), calls, "nothing is looked at twice");
    // Terraform ends the one and plans the other anew.
    let (gone, _) = stage.destroy(&read).await;
    assert!(gone.state.is_none());
    let (stored, diagnostics) = stage.apply(&there, None).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    assert_eq!((region(&stored), other.world().record.as_deref()), (Some(WEST), Some("blue")));
}

/// A state of a former release has no region: it was always the provider's.
#[tokio::test(start_paused = true)]
async fn a_state_without_a_region_is_the_providers() {
    let (stage, _) = two_regions();
    let config = config(&stage.switch, Value::from("blue"));
    let (mut stored, _) = stage.apply(&config, None).await;
    stored.state.as_mut().unwrap().set("region", Value::Null);
    let read = stage.looked(&stored).await;
    assert_eq!(region(&read), Some(HOME));
    let (planned, _) = stage.plan(&config, Some(&read)).await;
    assert_eq!((planned.state, planned.replace.is_empty()), (read.state.clone(), true));
    // Who writes down what it was all along changes nothing.
    let mut written = config.clone();
    written.set("region", Value::from(HOME));
    let (planned, _) = stage.plan(&written, Some(&read)).await;
    assert_eq!((planned.state, planned.replace.is_empty()), (read.state, true));
}

#[tokio::test(start_paused = true)]
async fn a_region_that_is_not_known_yet_promises_nothing() {
    let (stage, other) = two_regions();
    let mut config = in_west(&stage, "green");
    config.set("region", Value::UNKNOWN);
    let (planned, diagnostics) = stage.plan(&config, None).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    let state = planned.state.unwrap();
    assert!(state.get("region").is_unknown() && state.get("runbook").is_unknown());
    assert!(other.calls().is_empty() && stage.fake.calls().is_empty(), "nobody is asked");
}

#[tokio::test(start_paused = true)]
async fn an_import_goes_where_its_id_says() {
    let (stage, other) = two_regions();
    other.meddle(|world| world.record = Some("blue".to_owned()));
    for id in [format!("/app/live,{}", west(LISTENER)), format!("/app/live@{WEST}")] {
        let mut diagnostics = Diagnostics::new();
        let stored = stage.switch.import(&id, Cancel::never(), &mut diagnostics).await;
        assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
        assert_eq!(region(&stored), Some(WEST), "{id}");
        assert!(told(&diagnostics).contains("needs region = \"eu-west-1\""), "{}", told(&diagnostics));
    }
    let mut diagnostics = Diagnostics::new();
    let stored = stage.switch.import("/app/live", Cancel::never(), &mut diagnostics).await;
    assert!(stored.state.is_none() && diagnostics.has_errors(), "the record is not here");
}

/// A state of a former release, made by way of a provider of the other region: its routes tell where it is.
#[tokio::test(start_paused = true)]
async fn a_state_without_a_region_is_where_its_routes_are() {
    let (stage, _) = two_regions();
    let config = in_west(&stage, "green");
    let (mut stored, diagnostics) = stage.apply(&config, None).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    stored.state.as_mut().unwrap().set("region", Value::Null);
    let (planned, _) = stage.plan(&config, Some(&stored)).await;
    assert!(planned.replace.is_empty());
    let read = stage.looked(&stored).await;
    assert_eq!(region(&read), Some(WEST));
    let (planned, _) = stage.plan(&config, Some(&read)).await;
    assert_eq!((planned.state, planned.replace.is_empty()), (read.state, true));
}
