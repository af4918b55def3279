//! What a person types to take back what a run could not: commands of the AWS CLI, without `aws` and its general options.

use serde_json::{Value, json};

use crate::rollout::{
    Ahead, Capacity, Conditions, Observed, PINNED_TAG, Processing, QueryCondition, QueryValue, RouteSpec, Scalable,
    Step, Terminal, World, way_back,
};
use crate::shell::quoted;

/// What a person would type to take a step back.
///
/// Where its route led before the first step is `origin`: a command that writes a list of actions leads there, too.
pub(super) fn undo(step: &Step, (world, origin): (Option<&World>, Option<&Terminal>)) -> Vec<String> {
    let one = match step {
        Step::Route { route, before: Some(before), .. } => {
            let actions = quoted(&actions_json(&before.ahead, &way_back(&before.terminal)));
            Some(match route {
                RouteSpec::Listener(arn) => {
                    format!("elbv2 modify-listener --listener-arn {arn} --default-actions {actions}")
                }
                _ => format!("elbv2 modify-rule --rule-arn {} --actions {actions}", before.arn),
            })
        }
        Step::Route { route, before: None, .. } => {
            let made = world.and_then(|world| world.routes.get(&route.key()));
            made.map(|made| format!("elbv2 delete-rule --rule-arn {}", made.arn))
        }
        Step::Record { parameter, before: Some(before), .. } => {
            Some(format!("ssm put-parameter --name {parameter} --value={} --overwrite", quoted(before)))
        }
        Step::Record { parameter, before: None, .. } => Some(format!("ssm delete-parameter --name {parameter}")),
        Step::Priority { arn, before, .. } => {
            Some(format!("elbv2 set-rule-priorities --rule-priorities RuleArn={arn},Priority={before}"))
        }
        Step::Conditions { arn, before, .. } if *before != Conditions::default() => {
            let conditions = quoted(&conditions_json(before).to_string());
            Some(format!("elbv2 modify-rule --rule-arn {arn} --conditions {conditions}"))
        }
        Step::Processing { before, after, .. } => Some(unprocess((before, origin.unwrap_or(&before.terminal)), after)),
        Step::Capacity { scalable, before, after, .. } => return resize(scalable, (*after, *before)),
        _ => None,
    };
    one.into_iter().collect()
}

/// The command that makes a rule do again what it did before it forwarded.
fn unprocess((before, leads): (&Observed, &Terminal), after: &Processing) -> String {
    let mut command = format!("elbv2 modify-rule --rule-arn {}", before.arn);
    let former = before.processing.clone().unwrap_or_default();
    if former.asks_otherwise(after) {
        let mut actions = actions_json(&before.ahead, &way_back(leads));
        // What AWS no longer has, only a person can tell.
        if after.secret().is_none() {
            actions = actions.replace("\"UseExistingClientSecret\":true", "\"ClientSecret\":\"THE-CLIENT-SECRET\"");
        }
        command.push_str(&format!(" --actions {}", quoted(&actions)));
    }
    let rewrites = |processing: &Processing| {
        let [host, url] = [&processing.host_header_rewrite, &processing.url_rewrite].map(|rewrite| {
            rewrite.as_ref().map(|one| json!({ "Rewrites": [{ "Regex": one.regex, "Replace": one.replace }] }))
        });
        let host = host.map(|config| json!({ "Type": "host-header-rewrite", "HostHeaderRewriteConfig": config }));
        let url = url.map(|config| json!({ "Type": "url-rewrite", "UrlRewriteConfig": config }));
        host.into_iter().chain(url).collect::<Vec<Value>>()
    };
    let transforms = rewrites(&former);
    if transforms.is_empty() && !rewrites(after).is_empty() {
        command.push_str(" --reset-transforms");
    } else if transforms != rewrites(after) {
        command.push_str(&format!(" --transforms {}", quoted(&Value::Array(transforms).to_string())));
    }
    command
}

/// The commands that bring a color from one size to another: what did not differ may be another one by now, and stays.
fn resize(scalable: &Scalable, (from, to): (Capacity, Capacity)) -> Vec<String> {
    let least = to.min.filter(|_| from.min != to.min);
    let desired = (from.desired != to.desired).then_some(to.desired);
    let is_noted = from.pinned.is_some() && to.pinned.is_none();
    let option = |name: &str, value: Option<i32>| value.map(|value| format!(" --{name} {value}")).unwrap_or_default();
    match scalable {
        Scalable::ScalingGroup(name) => {
            let group = quoted(name);
            let size = (least.is_some() || desired.is_some()).then(|| {
                let (min, desired) = (option("min-size", least), option("desired-capacity", desired));
                format!("autoscaling update-auto-scaling-group --auto-scaling-group-name {group}{min}{desired}")
            });
            let tag = format!("ResourceId={name},ResourceType=auto-scaling-group,Key={PINNED_TAG}");
            let note = is_noted.then(|| format!("autoscaling delete-tags --tags {}", quoted(&tag)));
            size.into_iter().chain(note).collect()
        }
        Scalable::Service(arn) => {
            let cluster = arn.split('/').rev().nth(1).filter(|cluster| !cluster.ends_with(":service"));
            let of = cluster.map(|cluster| format!(" --cluster {cluster}")).unwrap_or_default();
            let id = arn.split_once(":service/").map_or(arn.as_str(), |(_, id)| id);
            let floor = least.map(|min| {
                format!(
                    "application-autoscaling register-scalable-target --service-namespace ecs --scalable-dimension ecs:service:DesiredCount --resource-id service/{id} --min-capacity {min}"
                )
            });
            let size = desired.map(|count| format!("ecs update-service{of} --service {arn} --desired-count {count}"));
            let note = is_noted.then(|| format!("ecs untag-resource --resource-arn {arn} --tag-keys {PINNED_TAG}"));
            floor.into_iter().chain(size).chain(note).collect()
        }
    }
}

/// An action list as the AWS CLI takes it.
fn actions_json(ahead: &Ahead, terminal: &Terminal) -> String {
    let mut action = match terminal {
        Terminal::Forward(forward) => {
            let group = |(arn, weight): &(String, u32)| json!({ "TargetGroupArn": arn, "Weight": weight });
            let groups: Vec<Value> = forward.groups.iter().map(group).collect();
            let mut config = json!({ "TargetGroups": groups });
            if let Some(stickiness) = forward.stickiness.as_ref().filter(|stickiness| stickiness.enabled) {
                config["TargetGroupStickinessConfig"] =
                    json!({ "Enabled": true, "DurationSeconds": stickiness.duration_seconds });
            }
            json!({ "Type": "forward", "ForwardConfig": config })
        }
        Terminal::FixedResponse { status, content_type, body } => json!({
            "Type": "fixed-response",
            "FixedResponseConfig": { "StatusCode": status, "ContentType": content_type, "MessageBody": body },
        }),
        Terminal::Redirect(redirect) => json!({
            "Type": "redirect",
            "RedirectConfig": {
                "StatusCode": redirect.status, "Protocol": redirect.protocol, "Port": redirect.port,
                "Host": redirect.host, "Path": redirect.path, "Query": redirect.query,
            },
        }),
    };
    let last = ahead.actions.iter().filter_map(|action| action["Order"].as_i64()).max();
    action["Order"] = json!(last.map(|last| last + 1));
    let mut list: Vec<Value> = ahead.actions.iter().cloned().chain([action]).collect();
    list.iter_mut().for_each(without_nulls);
    json!(list).to_string()
}

/// Conditions as the AWS CLI takes them.
fn conditions_json(conditions: &Conditions) -> Value {
    let config = |field: &str, name: &str, values: &[String], regexes: &[String]| {
        let is_some = !values.is_empty() || !regexes.is_empty();
        is_some.then(|| json!({ "Field": field, name: { "Values": some(values), "RegexValues": some(regexes) } }))
    };
    let c = conditions;
    let plain = [
        config("host-header", "HostHeaderConfig", &c.host_headers, &c.host_header_regex_values),
        config("path-pattern", "PathPatternConfig", &c.path_patterns, &c.path_pattern_regex_values),
        config("http-request-method", "HttpRequestMethodConfig", &c.http_request_methods, &[]),
        config("source-ip", "SourceIpConfig", &c.source_ips, &[]),
    ];
    let kind = c.source_ip_address_type.as_ref();
    let of_network = kind.map(|kind| json!({ "Field": "source-ip", "SourceIpConfig": { "IpAddressType": kind } }));
    let header = |name: &str, values: &[String], regexes: &[String]| {
        let config = json!({ "HttpHeaderName": name, "Values": some(values), "RegexValues": some(regexes) });
        json!({ "Field": "http-header", "HttpHeaderConfig": config })
    };
    let headers = c.http_headers.iter().map(|(name, values)| header(name, values, &[]));
    let more = c.http_header_conditions.iter().map(|one| header(&one.name, &one.values, &one.regex_values));
    let query = |values: Vec<Value>| json!({ "Field": "query-string", "QueryStringConfig": { "Values": values } });
    let queries = c.query_strings.iter().map(|(key, value)| query(vec![json!({ "Key": key, "Value": value })]));
    let pairs = |one: &QueryCondition| {
        let pair = |pair: &QueryValue| json!({ "Key": pair.key, "Value": pair.value });
        query(one.values.iter().map(pair).collect())
    };
    let others = c.query_string_conditions.iter().map(pairs);
    let all = plain.into_iter().flatten().chain(of_network).chain(headers).chain(more).chain(queries).chain(others);
    let mut all: Vec<Value> = all.collect();
    all.iter_mut().for_each(without_nulls);
    json!(all)
}

fn some(values: &[String]) -> Option<&[String]> {
    (!values.is_empty()).then_some(values)
}

/// The CLI takes no null for "not said".
fn without_nulls(value: &mut Value) {
    if let Value::Object(members) = value {
        members.retain(|_, member| !member.is_null());
        members.values_mut().for_each(without_nulls);
    } else if let Value::Array(items) = value {
        items.iter_mut().for_each(without_nulls);
    }
}
