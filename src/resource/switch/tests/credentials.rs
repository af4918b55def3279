//! Credentials that end while a rollout is under way.

use std::sync::Arc;
use std::time::Duration;

use super::rollouts::told;
use super::{GREEN, LISTENER, Stage, Switch, config, world};
use crate::clock;
use crate::platform::{Lifetime, Renewal};
use crate::resource::Context;
use crate::run::rollout::in_memory::Fake;
use crate::run::stack::in_memory::Cloud;
use crate::tf_provider::{Stored, Value};

const HOUR: Duration = Duration::from_secs(3600);

/// Blue is live, by a switch that another run applied.
async fn stage(lifetime: Lifetime) -> (Stage, Stored) {
    let before = super::stage(world(100, 0));
    let (stored, diagnostics) = before.apply(&config(&before.switch, Value::from("blue")), None).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    (over(&before.fake, lifetime), stored)
}

fn over(fake: &Arc<Fake>, lifetime: Lifetime) -> Stage {
    fake.heal();
    let context = Context::lasting(fake, &Cloud::new(fake.clone()), lifetime);
    Stage { fake: fake.clone(), switch: Arc::new(Switch::new(Arc::new(context))) }
}

fn slow(stage: &Stage, hold: &str) -> Value {
    let mut config = config(&stage.switch, Value::from("green"));
    let step = |weight| Value::object([("weight", Value::from(weight)), ("hold", Value::from(hold))]);
    config.set("strategy", Value::object([("steps", Value::List(vec![step(10), step(50)]))]));
    let check = Value::object([("url", Value::from("http://{color}.test/"))]);
    config.set("verification", Value::object([("http", Value::List(vec![check]))]));
    config
}

fn share(stage: &Stage) -> f64 {
    stage.fake.world().routes[LISTENER].terminal.share(GREEN)
}

#[tokio::test(start_paused = true)]
async fn a_rollout_of_four_hours_needs_credentials_that_last() {
    let until = || Lifetime::Until(clock::wall() + HOUR, Renewal::Never);
    let (stage, stored) = stage(until()).await;
    let wish = slow(&stage, "2h");
    let (_, planned) = stage.plan(&wish, Some(&stored)).await;
    let words = told(&planned);
    assert!(!planned.has_errors() && words.starts_with("The credentials end before the rollout would"), "{words}");
    assert!(words.contains("at least 4h30s: 2h at 10 % + 2h at 50 % + 30s"), "{words}");
    let (kept, refused) = stage.apply(&wish, Some(&stored)).await;
    assert!(refused.has_errors() && told(&refused).contains("Nothing was changed."), "{}", told(&refused));
    assert_eq!((stage.fake.calls().len(), kept.state), (0, stored.state.clone()));
    // All at once nothing is long.
    let at_once = config(&stage.switch, Value::from("green"));
    let (stored, diagnostics) = stage.apply(&at_once, Some(&stored)).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    // With those that are renewed it is carried through.
    let stage = over(&stage.fake, Lifetime::Renewed);
    let mut back = slow(&stage, "2h");
    back.set("active", Value::from("blue"));
    let (_, diagnostics) = stage.apply(&back, Some(&stage.read(&stored).await)).await;
    assert!(!diagnostics.has_errors(), "{}", told(&diagnostics));
    assert!(share(&stage) < 0.1);
}

#[tokio::test(start_paused = true)]
async fn where_the_end_is_not_known_that_is_said() {
    let by_file = || Lifetime::Until(clock::wall() + HOUR, Renewal::ByFile("/run/token".to_owned()));
    for (is_known, said) in [(false, "AWS_CREDENTIAL_EXPIRATION"), (true, "/run/token is written anew")] {
        let (stage, stored) = stage(if is_known { by_file() } else { Lifetime::Unknown }).await;
        let (_, short) = stage.plan(&slow(&stage, "1m"), Some(&stored)).await;
        assert!(!told(&short).contains("credentials"), "{}", told(&short));
        let (_, diagnostics) = stage.plan(&slow(&stage, "2h"), Some(&stored)).await;
        assert!(told(&diagnostics).contains(said), "{}", told(&diagnostics));
        let (_, diagnostics) = stage.apply(&slow(&stage, "2h"), Some(&stored)).await;
        // Nobody wrote the token anew: it goes back in time.
        let words = told(&diagnostics);
        assert_eq!(words.contains("the AWS credentials end soon"), is_known, "{words}");
        assert_eq!(diagnostics.has_errors(), is_known, "{words}");
    }
}

/// What takes longer than it seemed goes back while its calls are still taken.
#[tokio::test(start_paused = true)]
async fn it_goes_back_before_they_end() {
    let end = clock::wall() + HOUR;
    let (stage, stored) = stage(Lifetime::Until(end, Renewal::Never)).await;
    let mut wish = slow(&stage, "25m");
    let healthy = Value::object([("timeout", Value::from("10m"))]);
    wish.set("validation", Value::object([("healthy", healthy)]));
    stage.fake.set_health(GREEN, &["unhealthy"]);
    let comes_up = async {
        tokio::time::sleep(Duration::from_secs(360)).await;
        stage.fake.set_health(GREEN, &["healthy", "healthy"]);
    };
    let ((_, diagnostics), ()) = futures::join!(stage.apply(&wish, Some(&stored)), comes_up);
    let words = told(&diagnostics);
    assert!(words.contains("the AWS credentials end soon") && words.contains("Rolled back"), "{words}");
    assert!(share(&stage) < 0.1 && clock::wall() < end, "{words}");
}
