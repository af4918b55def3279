//! Times in which no rollout begins.

use std::time::Duration;

use super::rollouts::{careful, share, told};
use super::{BLUE, GREEN, Stage, stage, waits, world};
use crate::clock;
use crate::run::rollout::events::rfc3339;
use crate::tf_provider::{Cancel, Stored, Value};

const HOUR: Duration = Duration::from_secs(3600);

/// From an hour ago on, for two hours, where that is now; else not before tomorrow.
fn frozen(mut config: Value, is_now: bool) -> Value {
    let now = clock::wall();
    let from = if is_now { now - HOUR } else { now + 24 * HOUR };
    let once = [("from", rfc3339(from)), ("until", rfc3339(from + 2 * HOUR)), ("reason", "the sale".to_owned())];
    let window = Value::object(once.map(|(name, text)| (name, Value::from(text))));
    config.set("freeze", Value::List(vec![window]));
    config
}

/// The same with what runs in each color.
pub(super) fn running(mut config: Value, blue: &str, green: &str) -> Value {
    let environment = |group: &str, release: &str| {
        Value::object([("target_group_arn", Value::from(group)), ("release", Value::from(release))])
    };
    let both = [("blue", environment(BLUE, blue)), ("green", environment(GREEN, green))];
    config.set("environments", Value::object(both));
    config
}

async fn on(color: &str, config: &Value) -> (Stage, Stored) {
    let stage = stage(if color == "blue" { world(100, 0) } else { world(0, 100) });
    let (stored, diagnostics) = stage.apply(config, None).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    (stage, stored)
}

#[tokio::test(start_paused = true)]
async fn no_rollout_begins_meanwhile() {
    let other = stage(world(100, 0));
    let (stage, stored) = on("blue", &frozen(careful(&other, "blue"), true)).await;
    let (_, diagnostics) = stage.plan(&frozen(careful(&stage, "green"), true), Some(&stored)).await;
    let words = told(&diagnostics);
    assert!(diagnostics.has_errors() && words.starts_with("No rollout may begin now\n"), "{words}");
    for part in ["freeze[0] lets no rollout begin until ", "(the sale)", "blue serves as before", "set freeze = []"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    // Not yet, and not any more.
    for config in [frozen(careful(&stage, "green"), false), careful(&stage, "green")] {
        let (_, diagnostics) = stage.plan(&config, Some(&stored)).await;
        assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    }
    // One that was planned before is refused when it is applied.
    let mut soon = careful(&stage, "green");
    let now = clock::wall();
    let once = [("from", rfc3339(now + HOUR)), ("until", rfc3339(now + 3 * HOUR))];
    soon.set("freeze", Value::List(vec![Value::object(once.map(|(name, text)| (name, Value::from(text))))]));
    let saved = stage.plan(&soon, Some(&stored)).await;
    assert!(!saved.1.has_errors(), "{}", told(&saved.1));
    tokio::time::advance(2 * HOUR).await;
    let (_, diagnostics) = stage.apply_planned(&soon, Some(&stored), saved, Cancel::never()).await;
    assert!(diagnostics.has_errors() && share(&stage) < 1e-9, "{}", told(&diagnostics));
    assert_eq!(stage.fake.lock("/app/live.rollout"), None, "nothing is left");
}

#[tokio::test(start_paused = true)]
async fn the_way_back_is_open() {
    let other = stage(world(100, 0));
    let (stage, stored) = on("blue", &running(careful(&other, "blue"), "1", "2")).await;
    let (stored, _) = stage.apply(&running(careful(&stage, "green"), "1", "2"), Some(&stored)).await;
    assert!((share(&stage) - 100.0).abs() < 1e-9);
    // Blue runs what it ran when it was live; something newer is a release.
    for (release, is_open) in [("1", true), ("3", false)] {
        let back = frozen(running(careful(&stage, "blue"), release, "2"), true);
        let (_, diagnostics) = stage.plan(&back, Some(&stored)).await;
        assert_eq!(diagnostics.has_errors(), !is_open, "{release}: {}", told(&diagnostics));
    }
    // What waits goes back and further back, and not on.
    let up_to = |active: &str, percent: Option<f64>| running(waits::up_to(&stage, active, percent), "3", "2");
    let (stored, diagnostics) = stage.apply(&up_to("blue", Some(30.0)), Some(&stored)).await;
    assert!(!diagnostics.has_errors() && (share(&stage) - 70.0).abs() < 1e-9, "{}", told(&diagnostics));
    let read = stage.read(&stored).await;
    for (active, percent, is_open) in
        [("blue", Some(10.0), true), ("green", None, true), ("blue", Some(30.0), true), ("blue", None, false)]
    {
        let (_, diagnostics) = stage.plan(&frozen(up_to(active, percent), true), Some(&read)).await;
        assert_eq!(diagnostics.has_errors(), !is_open, "{active} {percent:?}: {}", told(&diagnostics));
    }
}

#[test]
fn what_never_ends_is_refused() {
    let stage = stage(world(100, 0));
    for (window, path) in [
        (vec![("cron", "0 16 * * FRI")], "freeze[0].duration"),
        (vec![("from", "2026-12-23T18:00:00Z")], "freeze[0].until"),
        (vec![("reason", "the sale")], "freeze[0]"),
        (vec![("cron", "0 16 * * FRI"), ("duration", "1h"), ("from", "2026-12-23T18:00:00Z")], "freeze[0]"),
    ] {
        let mut config = careful(&stage, "blue");
        let window = Value::object(window.into_iter().map(|(name, text)| (name, Value::from(text))));
        config.set("freeze", Value::List(vec![window]));
        let mut diagnostics = crate::tf_provider::Diagnostics::new();
        crate::resource::switch::freezes::validate(&config, &mut diagnostics);
        let first = diagnostics.iter().next().and_then(|one| one.path.clone()).map(|path| path.to_string());
        assert_eq!(first.as_deref(), Some(path));
    }
}
