//! What can be told of checks and steps before anything is asked.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::argument::{self, Arguments as _};
use crate::duration;
use crate::resource::switch::model::{self, read};
use crate::rollout::spec::{Checks, Verification};
use crate::rollout::strategy::limit;
use crate::rollout::{HttpCheck, Inconclusive, METRIC_IDS, MetricCheck, is_plain_url};
use crate::tf_provider::{Diagnostics, Path, Value};

/// How often load balancers publish their numbers.
const A_MINUTE: Duration = Duration::from_secs(60);

/// What is wrong with the checks, the steps, or the times of a configuration.
pub(in crate::resource::switch) fn validate(config: &Value, diagnostics: &mut Diagnostics) {
    for block in ["validation", "verification"] {
        let (value, path) = (config.get(block), Path::attribute(block));
        for (n, check) in config.get(block).get("http").as_list().unwrap_or_default().iter().enumerate() {
            request(check, &path.attr("http").index(n), diagnostics);
        }
        for (n, check) in config.get(block).get("metrics").as_list().unwrap_or_default().iter().enumerate() {
            metric(check, &path.attr("metrics").index(n), diagnostics);
            measured(config, check, &path.attr("metrics").index(n), diagnostics);
        }
        for part in ["login", "check"] {
            request(value.get("session").get(part), &path.attr("session").attr(part), diagnostics);
        }
    }
    headers(config.get("strategy").get("prove"), &Path::attribute("strategy").attr("prove"), diagnostics);
    strategy(config.get("strategy"), diagnostics);
    failures(config, diagnostics);
    timeouts(config, diagnostics);
}

/// A hold that may fail at every look sees nothing: it can't fail.
fn failures(config: &Value, diagnostics: &mut Diagnostics) {
    let verification = config.get("verification");
    let Some(allowed) = verification.get("max_failures").as_i64().filter(|allowed| *allowed > 0) else { return };
    if !verification.get("interval").is_wholly_known()
        || !verification.get("duration").is_wholly_known()
        || !verification.get("metrics").is_wholly_known()
        || !config.get("strategy").is_wholly_known()
    {
        return;
    }
    let Verification { interval, .. } = read(config, "verification").unwrap_or_default();
    let looks = |hold: Duration| hold.as_millis().div_ceil(interval.as_millis().max(1)) + 1;
    let steps = model::strategy(config).shifts();
    let holds = steps.iter().map(|step| (step.hold, format!("the hold at {} %", step.percent())));
    let cohort = model::strategy(config).cohort.map(|cohort| (cohort.hold, "the hold with the cohort".to_owned()));
    let last = (lasts(config), "the verification at 100 % (duration)".to_owned());
    let path = Path::attribute("verification").attr("max_failures");
    for (hold, what) in cohort.into_iter().chain(holds).chain([last]) {
        let looks = looks(hold);
        if looks > u128::try_from(allowed).unwrap_or_default() {
            continue;
        }
        let detail = format!(
            "{path} is {allowed}, and {what} of {} has {looks} look{} at an interval of {}: it could never fail. Allow fewer failures, or hold longer.",
            duration::shown(hold),
            if looks == 1 { "" } else { "s" },
            duration::shown(interval)
        );
        diagnostics.error_at(path.clone(), "The verification can't fail", detail);
        return;
    }
}

/// Names and values that no request can carry.
fn headers(check: &Value, path: &Path, diagnostics: &mut Diagnostics) {
    for (name, value) in check.get("headers").as_map().into_iter().flatten() {
        let path = path.attr("headers").key(name);
        if reqwest::header::HeaderName::from_bytes(name.as_bytes()).is_err() {
            let detail = format!("{path}: {name:?} is no name of a header: letters, digits, - and _ make one.");
            diagnostics.error_at(path, "Invalid header name", detail);
        } else if value
            .as_str()
            .is_some_and(|value| reqwest::header::HeaderValue::from_bytes(value.as_bytes()).is_err())
        {
            // Without the value: it may be secret.
            let detail = format!(
                "{path}: the value of {name} holds a line break or another control character, which no header can. A file that ends with a line break needs trimspace()."
            );
            diagnostics.error_at(path, "Invalid header value", detail);
        }
    }
}

fn request(check: &Value, path: &Path, diagnostics: &mut Diagnostics) {
    headers(check, path, diagnostics);
    // Headers and bodies may be JSON, and secret: what stands in braces there is theirs.
    if let Some(text) = check.get("url").as_str() {
        let path = path.attr("url");
        for placeholder in placeholders(text).filter(|placeholder| *placeholder != "{color}") {
            let detail = format!(
                "{path}: there is no placeholder {placeholder}; {{color}} is the only one, the color that is checked."
            );
            diagnostics.error_at(path.clone(), "Unknown placeholder", detail);
        }
    }
    let Some(url) = check.get("url").as_str() else { return };
    let filled = placeholders(url).fold(url.to_owned(), |url, placeholder| url.replace(placeholder, "color"));
    let wrong = match reqwest::Url::parse(&filled) {
        Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() && is_plain_url(&filled) => {
            return;
        }
        Ok(_) => "it must begin with http:// or https:// and a host".to_owned(),
        Err(error) => error.to_string(),
    };
    let path = path.attr("url");
    // Without what may be secret in it.
    let shown = HttpCheck { url: url.to_owned(), ..HttpCheck::default() }.shown_url();
    diagnostics.error_at(path.clone(), "Invalid URL", format!("{path}: {shown} is not a URL to check: {wrong}."));
}

fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices('{').filter_map(|(start, _)| {
        let end = text[start..].find('}')?;
        Some(&text[start..=start + end])
    })
}

/// What is measured has to be a target group that traffic comes to. Network Load Balancers count flows, not requests.
fn measured(config: &Value, check: &Value, path: &Path, diagnostics: &mut Diagnostics) {
    let (routes, of) = (config.get("routes").as_list().unwrap_or_default(), check.get("target_group"));
    if of.is_unknown() {
        return;
    }
    let leads_there = |route: &&Value| {
        let name = route.get("target_group");
        of.is_null() || name.is_unknown() || name.as_str() == of.as_str()
    };
    let routes: Vec<&Value> = routes.iter().filter(leads_there).collect();
    if let Some(name) = of.as_str().filter(|_| routes.is_empty() && config.get("routes").as_list().is_some()) {
        let path = path.attr("target_group");
        let detail =
            format!("{path} is {name:?}, which is the target_group of none of the routes: nothing comes there.");
        diagnostics.error_at(path, "No route leads to the target group", detail);
    }
    let is_known = |route: &&Value| !route.get("target_group").is_unknown();
    // Where there are others those are measured.
    let is_none_other = !routes.is_empty() && routes.iter().all(|route| is_known(route) && model::is_of_network(route));
    if let Some(metric) = check.get("metric").as_str().filter(|_| is_none_other) {
        let path = path.attr("metric");
        let detail = format!(
            "{path}: a Network Load Balancer knows no requests, so it has no {metric}. Use query over metrics of your own, alarms, or healthy."
        );
        diagnostics.error_at(path, "A Network Load Balancer has no such metric", detail);
    }
}

fn metric(check: &Value, path: &Path, diagnostics: &mut Diagnostics) {
    let (set, none) = (|name: &str| check.get(name).is_set(), |name: &str| check.get(name).is_null());
    if (set("metric") && set("query") || none("metric") && none("query")) && check.as_map().is_some() {
        let detail =
            format!("{path}: set either metric, for a number that load balancers have, or query, for one of your own.");
        diagnostics.error_at(path.clone(), "A metric or a query is needed", detail);
    }
    if ["max", "min", "max_ratio_to_live", "significance"].into_iter().all(none) && check.as_map().is_some() {
        let detail = format!("{path}: the metric has no limit. Set max, min, max_ratio_to_live or significance.");
        diagnostics.error_at(path.clone(), "A limit is missing", detail);
    }
    let of_rate = check.get("metric").as_str() == Some("error_rate");
    if let Some(max) = check.get("max").as_f64().filter(|max| of_rate && *max > 1.0) {
        let path = path.attr("max");
        let detail = format!(
            "{path}: error_rate is a part of one: {max} would allow every request to fail. For {max} %, write {}.",
            max / 100.0
        );
        diagnostics.error_at(path, "max of error_rate is above 1", detail);
    }
    let ids = check.get("query").get("metrics").as_map().into_iter().flatten();
    for (id, _) in ids {
        let mut bytes = id.bytes();
        let fits = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase())
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !fits || METRIC_IDS.contains(&id.as_str()) || id == "answer" {
            let path = path.attr("query").attr("metrics").key(id);
            let detail = format!(
                "{path}: an id is a lower-case letter with letters, digits and underscores after it, and none of those that are there already."
            );
            diagnostics.error_at(path, "Invalid id", detail);
        }
    }
}

fn strategy(value: &Value, diagnostics: &mut Diagnostics) {
    let path = Path::attribute("strategy");
    let given: Vec<&str> = ["steps", "canary", "linear"].into_iter().filter(|name| value.get(name).is_set()).collect();
    if let [first, second, ..] = given.as_slice() {
        let detail = format!("{path}: {first} and {second} are different ways to say the same; keep one of them.");
        diagnostics.error_at(path.attr(second), "Conflicting arguments", detail);
    }
    let mut before = 0.0;
    for (n, step) in value.get("steps").as_list().unwrap_or_default().iter().enumerate() {
        let Some(weight) = step.get("weight").as_f64() else { continue };
        if before > 0.0 && weight <= before {
            let path = path.attr("steps").index(n).attr("weight");
            let detail = format!(
                "{path}: {weight} % comes after {before} %. Each step gives the new color more than the one before."
            );
            diagnostics.error_at(path, "The steps must rise", detail);
        }
        before = weight;
    }
    let approval = value.get("approval");
    if approval.get("on_timeout").is_set() && approval.get("timeout").is_null() {
        let path = path.attr("approval").attr("on_timeout");
        let detail =
            format!("{path} says what happens after timeout, which is not set. Set approval.timeout, such as \"24h\".");
        diagnostics.error_at(path, "timeout is missing", detail);
    }
    let prove = value.get("prove");
    if prove.as_map().is_some() {
        let path = path.attr("prove");
        request(prove, &path, diagnostics);
        let told = ["header", "cookie", "body"];
        let given = told.iter().filter(|name| prove.get(name).is_set()).count();
        if given > 1 || told.iter().all(|name| prove.get(name).is_null()) {
            let detail =
                format!("{path}: set one of header, cookie and body: what of the answer tells which color gave it.");
            diagnostics.error_at(path.clone(), "prove needs header, cookie or body", detail);
        }
        if prove.get("url").as_str().is_some_and(|url| url.contains("{color}")) {
            let path = path.attr("url");
            let detail = format!(
                "{path}: it asks the production route, by which both colors answer; {{color}} has no meaning there."
            );
            diagnostics.error_at(path, "Unknown placeholder", detail);
        }
    }
}

/// How long is watched after the last step; not at all without a verification.
fn lasts(config: &Value) -> Duration {
    read::<Verification>(config, "verification").unwrap_or_default().lasts()
}

/// How long a rollout takes at least, with the parts that it is the sum of; one that waits, up to there.
fn least(config: &Value, up_to: Option<u32>) -> (Duration, Vec<String>) {
    let strategy = model::strategy(config);
    let mut steps = strategy.shifts();
    let (watched, lasting) = (!config.get("verification").is_null(), lasts(config));
    // One that waits comes to no further step, and to no 100 %.
    if let Some(permille) = up_to {
        let limit = limit(permille, &steps, lasting);
        steps.retain(|step| step.permille < permille);
        steps.push(limit);
    }
    let settle = if config.get("strategy").get("prove").is_null() { strategy.settle } else { Duration::ZERO };
    let mut parts = Vec::new();
    let mut sum = Duration::ZERO;
    let mut add = |duration: Duration, what: String| {
        if !duration.is_zero() {
            sum += duration;
            parts.push(format!("{} {what}", duration::shown(duration)));
        }
    };
    if let Some(cohort) = &strategy.cohort {
        add(cohort.hold, "with the cohort".to_owned());
    }
    for step in &steps {
        add(step.hold, format!("at {} %", step.percent()));
    }
    let count = steps.len() + usize::from(watched && up_to.is_none()) + usize::from(strategy.cohort.is_some());
    add(settle * u32::try_from(count).unwrap_or(u32::MAX), format!("for the load balancer to settle, {count} times"));
    add(if up_to.is_none() { lasting } else { Duration::ZERO }, "of verification at 100 %".to_owned());
    let checks = read::<Verification>(config, "verification").unwrap_or_default().wanted().checks;
    let lag = checks.iter().filter_map(|one| one.check.lag()).max().unwrap_or_default();
    let late = lag * u32::try_from(count).unwrap_or(u32::MAX);
    add(late, format!("until CloudWatch has the last minutes of a hold, {count} times"));
    (sum, parts)
}

/// How long a rollout takes at least. One that waits may get everything at once: the first color does.
pub(in crate::resource::switch) fn least_duration(config: &Value) -> Duration {
    least(config, None).0
}

fn timeouts(config: &Value, diagnostics: &mut Diagnostics) {
    if !config.get("strategy").is_wholly_known() || !config.get("verification").get("duration").is_wholly_known() {
        return;
    }
    let (sum, parts) = least(config, model::strategy(config).wanted().up_to);
    for operation in ["create", "update"] {
        let text = config.get("timeouts").get(operation).as_str();
        let Some(timeout) = text.and_then(|text| duration::parse(text).ok()) else { continue };
        if timeout > sum {
            continue;
        }
        let path = Path::attribute("timeouts").attr(operation);
        let detail = format!(
            "{path} is {}, and a rollout takes at least {}: {}. Raise the timeout beyond that, with room for the checks.",
            text.unwrap_or_default(),
            duration::shown(sum),
            parts.join(" + ")
        );
        if !sum.is_zero() {
            diagnostics.error_at(path, "timeouts are shorter than the rollout", detail);
        }
    }
}

/// What a configuration leaves out that somebody would miss at night.
pub(in crate::resource::switch) fn warn(config: &Value, diagnostics: &mut Diagnostics) {
    let verification = config.get("verification");
    if let Some(map) = verification.as_map() {
        let checks = Checks::arguments().iter().map(|argument| argument.name).filter(|name| *name != "alarm_policy");
        let mut checks = checks.chain(["healthy", "budget"]);
        let empty = |value: &Value| value.is_null() || value.as_list().is_some_and(<[Value]>::is_empty);
        let is_empty = checks.all(|name| map.get(name).is_none_or(empty));
        if is_empty {
            let detail = "verification has no check: the rollout only waits, and whatever happens to users meanwhile, it completes. Add metrics, a budget, alarms, http or healthy.";
            diagnostics.warning_at(Path::attribute("verification"), "Nothing is verified", detail);
        }
    }
    let budget = read::<Verification>(config, "verification").and_then(|verification| verification.budget);
    if budget.is_some_and(|budget| budget.period < A_MINUTE) {
        let path = Path::attribute("verification").attr("budget").attr("period");
        only_minutes(path, "Leave it out.", diagnostics);
    }
    let steps = model::strategy(config).shifts();
    without_traffic(config, diagnostics);
    let metrics = verification.get("metrics").as_list().unwrap_or_default().iter().enumerate();
    // What isn't known yet would be read as no time at all.
    let is_known = config.get("strategy").is_wholly_known() && verification.get("duration").is_wholly_known();
    let cohort = model::strategy(config).cohort.map(|cohort| cohort.hold);
    let holds = steps.iter().map(|step| step.hold).chain(cohort).chain([lasts(config)]);
    let shortest: BTreeMap<Duration, ()> = holds.map(|hold| (hold, ())).collect();
    for (n, metric) in metrics {
        let json = metric.known_json();
        let Some(period) = argument::argument::<MetricCheck, Duration>(&json, "period") else { continue };
        let inconclusive = argument::argument::<MetricCheck, Inconclusive>(&json, "inconclusive").unwrap_or_default();
        if period < A_MINUTE && !metric.get("metric").is_null() {
            let path = Path::attribute("verification").attr("metrics").index(n).attr("period");
            let own = "A period below 60s is for metrics of your own with a high resolution (query).";
            only_minutes(path, own, diagnostics);
        }
        let too_short = |(hold, ()): &(&Duration, &())| is_known && **hold < period * 3;
        let Some((hold, ())) = shortest.iter().next().filter(too_short) else { continue };
        let path = Path::attribute("verification").attr("metrics").index(n);
        let detail = format!(
            "{path}: CloudWatch has one point per {}, a minute or two late, and only whole ones after traffic moved count: in a hold of {} there may be none, which counts as {}. Hold for at least {}.",
            duration::shown(period),
            duration::shown(*hold),
            inconclusive.name(),
            duration::shown(period * 3)
        );
        diagnostics.warning_at(path, "The hold is too short for the metric", detail);
    }
}

fn only_minutes(path: Path, what_to_do: &str, diagnostics: &mut Diagnostics) {
    let detail =
        format!("{path}: load balancers publish a point per minute; there is nothing to see in less. {what_to_do}");
    diagnostics.warning_at(path, "Load balancers publish minutes", detail);
}

/// Nothing reaches a color before it is live, except by a preview: what its requests would tell is not there.
fn without_traffic(config: &Value, diagnostics: &mut Diagnostics) {
    let previews = config.get("preview_routes");
    let has_previews = previews.is_unknown() || previews.as_list().is_some_and(|list| !list.is_empty());
    let metrics = config.get("validation").get("metrics").as_list().unwrap_or_default().iter().enumerate();
    for (n, metric) in metrics.filter(|(_, metric)| !metric.get("metric").is_null()) {
        let json = metric.known_json();
        let counts_as = argument::argument::<MetricCheck, Inconclusive>(&json, "inconclusive").unwrap_or_default();
        let is_dry = metric.get("dry_run").as_bool() == Some(true);
        if counts_as == Inconclusive::Pass || is_dry {
            continue;
        }
        let path = Path::attribute("validation").attr("metrics").index(n);
        let traffic = if has_previews {
            "only what comes by preview_routes: send requests there until there are enough, or a rollout can't begin"
        } else {
            "and without preview_routes there are none, so that no rollout can begin"
        };
        let detail = format!(
            "{path} is measured before the color gets a request of users, {traffic}. Move it to verification, or let it pass with inconclusive = \"pass\"."
        );
        diagnostics.warning_at(path, "There may be no requests to measure", detail);
    }
}
