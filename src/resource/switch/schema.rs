//! The arguments of a switch, as the documentation shows them.

use super::checks::schema::{strategy, validation, verification};
use crate::duration;
use crate::resource::migration;
use crate::tf_provider::{Attribute, Nesting, Schema, Type, Value};

pub(super) fn schema() -> Schema {
    let description = "Which colour is live. Moves the traffic of listeners and rules from one target group to another: \
                       checks the colour that is to go live, moves all routes together, writes the record, and puts \
                       everything back if something is wrong.";
    let mut attributes = vec![
        Attribute::string("name").required().check(tag_value).describe("The name of the switch, for people and tags."),
        Attribute::string("active").optional_computed().describe(
            "The colour that shall be live: a key of `environments`. Left out, the switch follows whatever is live and \
             moves nothing.",
        ),
        Attribute::nested("environments", Nesting::Map, environment()).required().describe(
            "Two to five colours by name: a map of objects with a `target_group_arn`. Attributes that the switch doesn't \
             know are ignored, so the outputs of a module with `for_each` can be given as they are.",
        ),
        Attribute::nested("routes", Nesting::List, route()).required().check(not_empty_list).describe(
            "Where traffic comes from. Each is the default action of a listener (`listener_arn`), an existing rule \
             (`rule_arn`), or a rule that the switch makes and owns (`listener_arn`, `priority`, `conditions`).",
        ),
        Attribute::nested("preview_routes", Nesting::List, route())
            .describe("Routes that always lead to the idle colour, in the same shapes."),
        Attribute::string("parameter").check(parameter).describe(
            "The record: the name of an SSM parameter whose value is the live colour, for pipelines to read. It is \
             made if it isn't there. While a rollout runs, the parameter of that name with `.rollout` at its end keeps others \
             out; without a record nothing does.",
        ),
        Attribute::string("parity").check(parity).describe(
            "What happens when the environments' `mirror`s differ: `error` (the default), `warn`, or `off`. Environments \
             without one are not compared.",
        ),
        Attribute::nested("validation", Nesting::Single, validation())
            .describe("What must hold of a colour before it gets a request."),
        Attribute::nested("strategy", Nesting::Single, strategy()).describe(
            "In which steps traffic moves: `steps`, `canary` or `linear`. All routes move together. Left out, all at once.",
        ),
        Attribute::nested("verification", Nesting::Single, verification()).describe(
            "What must hold during every hold and after the last step. If it does not, every route and the record go back.",
        ),
        Attribute::string("on_failure").check(rollback_or_hold).describe(
            "What happens when a step or a check fails: `rollback` (the default) puts everything back, `hold` stops where it \
             is and says so.",
        ),
        Attribute::string("on_interrupt")
            .check(rollback_or_hold)
            .describe("What happens when the run is stopped: `rollback` (the default) or `hold`."),
        Attribute::nested("stickiness", Nesting::Single, stickiness()).describe(
            "Target group stickiness while traffic is split, so that a client stays with the colour that it met first. The \
             last step brings back what was there before.",
        ),
        Attribute::nested("notify", Nesting::Single, notify()).describe("Who is told what happens in a rollout."),
        Attribute::nested("capacity", Nesting::Single, capacity()).describe(
            "The sizes of the colours, for environments with an Auto Scaling group or an ECS service: room before one gets \
             traffic, and what the other keeps. Meanwhile the live Auto Scaling group's minimum is held at what it has, so \
             that no scale-in takes anything away.",
        ),
        Attribute::plain("contracted_for", migration::contracted_for()).describe(
            "What a `bluegreen_migration` computes of that name. A colour that still has the release that it had when the \
             database contracted can then not go live.",
        ),
        Attribute::bool("allow_after_contract")
            .describe("Whether such a colour may go live all the same: its release works with the contracted schema."),
        Attribute::string("on_destroy").check(on_destroy).describe(
            "What destroy does with the routes: `keep` (the default) leaves them as they are, `restore` brings back what \
             was there before the switch. Rules and the record that the switch made are deleted either way.",
        ),
        Attribute::nested("timeouts", Nesting::Single, timeouts()).describe("How long operations may take."),
    ];
    attributes.extend(computed());
    Schema::new(description, attributes)
}

fn environment() -> Vec<Attribute> {
    vec![
        Attribute::string("target_group_arn").required().describe("The colour's target group."),
        Attribute::string("release").describe("What runs there, in your words; told in logs and reports."),
        Attribute::string("mirror")
            .describe("Everything that must be equal in all colours, as an environment computes it."),
        Attribute::string("mirror_verbatim")
            .describe("What of `mirror` has the colour's name in it, as it is written, as an environment computes it."),
        Attribute::string("autoscaling_group_name").describe("The colour's Auto Scaling group, for `capacity`."),
        Attribute::string("service_arn").describe("The colour's ECS service, for `capacity`."),
    ]
}

fn route() -> Vec<Attribute> {
    let conditions = vec![
        Attribute::strings("host_headers").describe("Any of these host names; `*` and `?` are wildcards."),
        Attribute::strings("path_patterns").describe("Any of these paths; `*` and `?` are wildcards."),
        Attribute::strings("http_request_methods").describe("Any of these methods."),
        Attribute::strings("source_ips").describe("Any of these networks, in CIDR notation."),
        Attribute::plain("http_headers", Type::map(Type::list(Type::String)))
            .describe("For each header, any of these values."),
        Attribute::plain("query_strings", Type::map(Type::String)).describe("For each key, this value."),
    ];
    vec![
        Attribute::string("listener_arn").describe("The listener whose default action, or on which a rule, it is."),
        Attribute::string("rule_arn").describe("An existing rule."),
        Attribute::number("priority").check(priority).describe("The priority of a rule to make, 1 to 50000."),
        Attribute::nested("conditions", Nesting::Single, conditions)
            .describe("What a request must match to take the rule: all kinds that are given."),
    ]
}

fn capacity() -> Vec<Attribute> {
    vec![
        Attribute::string("before").check(match_live).describe(
            "`match_live` (if left out): as many as the live colour has; or a number. A colour that is larger stays so.",
        ),
        Attribute::string("after_idle").check(keep).describe(
            "`keep` (if left out), or the number that the colour without traffic is lowered to, though not below its \
             `min_size`.",
        ),
    ]
}

fn stickiness() -> Vec<Attribute> {
    vec![Attribute::string("duration").required().check(sticky).describe("From `1s` to `168h`.")]
}

fn notify() -> Vec<Attribute> {
    vec![Attribute::string("sns_topic_arn").required().check(topic).describe(
        "A topic that gets a JSON message for each phase: `started`, `validated`, `shifted`, `watched`, `rolling_back`, \
         `completed`, `rolled_back`, `held`, `stuck`, `unknown`.",
    )]
}

fn timeouts() -> Vec<Attribute> {
    let timeout = |name, text| Attribute::string(name).check(interval).describe(text);
    vec![
        timeout("create", "`30m`, and as long as the steps and the verification take, if left out."),
        timeout("update", "`30m`, and as long as the steps and the verification take, if left out."),
        timeout("delete", "`10m` if left out."),
    ]
}

fn computed() -> Vec<Attribute> {
    let text = |name, text| Attribute::string(name).computed().describe(text);
    let last_rollout = vec![
        text("id", "The rollout's id."),
        text("from", "The colour that was live."),
        text("to", "The colour that was to be live."),
        text(
            "status",
            "`completed`, `rolled_back`, `held`, `stuck`, or `unknown`: a call was not answered, and may still have its effect.",
        ),
        text("started_at", "When it began (RFC 3339)."),
        text("finished_at", "When it ended (RFC 3339)."),
        Attribute::strings("steps").computed().describe("What was done, in words."),
        text("reason", "Why it did not complete."),
    ];
    vec![
        text("id", "The name."),
        text("live", "The colour that gets the traffic; the one with the most of it while it is split."),
        text("idle", "The colour that follows the live one: where the next release goes."),
        text("previous", "The colour that was live before the last switch."),
        Attribute::plain("weights", Type::map(Type::Number)).computed().describe("Percent of traffic per colour."),
        text("switched_at", "When this switch last made another colour live (RFC 3339)."),
        Attribute::strings("runbook").computed().describe(
            "The steps that this apply will take, in words, known when planning; afterwards those of the last apply.",
        ),
        Attribute::nested("last_rollout", Nesting::Single, last_rollout).computed().describe("The last rollout."),
    ]
}

/// The name becomes the value of a tag.
fn tag_value(value: &Value) -> Result<(), String> {
    let Some(text) = value.as_str() else { return Ok(()) };
    let fits = |c: char| c.is_alphanumeric() || c == ' ' || "+-=._:/@".contains(c);
    if (1..=128).contains(&text.chars().count()) && text.chars().all(fits) {
        return Ok(());
    }
    Err("must have 1 to 128 characters: letters, digits, spaces and + - = . _ : / @".to_owned())
}

fn not_empty_list(value: &Value) -> Result<(), String> {
    if value.as_list().is_some_and(<[Value]>::is_empty) { Err("there must be at least one".to_owned()) } else { Ok(()) }
}

pub(in crate::resource) fn parameter(value: &Value) -> Result<(), String> {
    let Some(name) = value.as_str() else { return Ok(()) };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-/".contains(&byte);
    if name.is_empty() || !name.bytes().all(allowed) {
        return Err(format!("{name:?} is no parameter name: letters, digits and _ . - / are allowed"));
    }
    if name.contains('/') && !name.starts_with('/') {
        return Err(format!("{name:?} has a hierarchy, so it must begin with a slash: \"/{name}\""));
    }
    let reserved = name.trim_start_matches('/').to_ascii_lowercase();
    if name.ends_with('/') || name.contains("//") || reserved.starts_with("aws") || reserved.starts_with("ssm") {
        return Err(format!("{name:?} is no parameter name: no empty levels, and not beginning with aws or ssm"));
    }
    Ok(())
}

fn word_or_number(value: &Value, word: &str) -> Result<(), String> {
    match value.as_str() {
        Some(text) if text != word && text.parse::<u16>().is_err() => {
            Err(format!("{text:?} is neither {word:?} nor a whole number"))
        }
        _ => Ok(()),
    }
}

fn rollback_or_hold(value: &Value) -> Result<(), String> {
    match value.as_str() {
        Some("rollback" | "hold") | None => Ok(()),
        Some(other) => Err(format!("{other:?} is neither \"rollback\" nor \"hold\"")),
    }
}

/// Group stickiness lasts from a second to a week.
fn sticky(value: &Value) -> Result<(), String> {
    let Some(text) = value.as_str() else { return Ok(()) };
    let duration = duration::parse(text)?;
    if duration.as_secs() == 0 || duration.subsec_millis() > 0 {
        return Err("must be whole seconds, from 1s to 168h".to_owned());
    }
    Ok(())
}

fn topic(value: &Value) -> Result<(), String> {
    let Some(text) = value.as_str() else { return Ok(()) };
    let parts: Vec<&str> = text.split(':').collect();
    if matches!(parts.as_slice(), ["arn", _, "sns", _, _, name] if !name.is_empty()) {
        return Ok(());
    }
    Err(format!("{text:?} is not the ARN of an SNS topic"))
}

fn match_live(value: &Value) -> Result<(), String> {
    word_or_number(value, "match_live")
}

fn keep(value: &Value) -> Result<(), String> {
    word_or_number(value, "keep")
}

fn parity(value: &Value) -> Result<(), String> {
    match value.as_str() {
        Some("error" | "warn" | "off") | None => Ok(()),
        Some(other) => Err(format!("{other:?} is none of \"error\", \"warn\" and \"off\"")),
    }
}

fn on_destroy(value: &Value) -> Result<(), String> {
    match value.as_str() {
        Some("keep" | "restore") | None => Ok(()),
        Some(other) => Err(format!("{other:?} is neither \"keep\" nor \"restore\"")),
    }
}

pub(super) fn whole(value: &Value, range: std::ops::RangeInclusive<i64>) -> Result<(), String> {
    match value.as_i64() {
        Some(number) if range.contains(&number) => Ok(()),
        _ => Err(format!("must be a whole number from {} to {}", range.start(), range.end())),
    }
}

fn priority(value: &Value) -> Result<(), String> {
    whole(value, 1..=50_000)
}

pub(super) fn count(value: &Value) -> Result<(), String> {
    whole(value, 0..=1000)
}

pub(super) fn percent(value: &Value) -> Result<(), String> {
    whole(value, 0..=1000)
}

/// A duration that must be longer than nothing.
pub(super) fn interval(value: &Value) -> Result<(), String> {
    let Some(text) = value.as_str() else { return Ok(()) };
    if duration::parse(text)?.is_zero() { Err("must be longer than 0".to_owned()) } else { Ok(()) }
}

pub(super) fn method(value: &Value) -> Result<(), String> {
    let Some(text) = value.as_str() else { return Ok(()) };
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(());
    }
    Err(format!("{text:?} is no HTTP method: write it in capitals, such as \"GET\""))
}

pub(super) fn statuses(value: &Value) -> Result<(), String> {
    let Some(items) = value.as_list() else { return Ok(()) };
    let fits = |item: &Value| item.is_unknown() || item.as_i64().is_some_and(|code| (100..=599).contains(&code));
    if items.is_empty() || !items.iter().all(fits) {
        return Err("must be a list of HTTP status codes, 100 to 599".to_owned());
    }
    Ok(())
}

pub(super) fn pattern(value: &Value) -> Result<(), String> {
    let Some(text) = value.as_str() else { return Ok(()) };
    regex::Regex::new(text).map(drop).map_err(|error| format!("not a regular expression: {error}"))
}
