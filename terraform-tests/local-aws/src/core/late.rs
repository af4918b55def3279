//! Reads that don't see yet what was just made, or still see what was just deleted.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::core::aws_call::AwsCall;
use crate::core::moto::MotoClient;
use crate::core::serve::with_body;
use crate::core::xml;

/// What nobody reads for so long is seen as it is, for reads are late by time and not by count.
const LATE_FOR: Duration = Duration::from_secs(3);
/// At most so many reads are late.
const MOST_LATE: u32 = 2;
/// "After deleting a parameter, wait for at least 30 seconds to create a parameter with the same name": until then reads of
/// the new one are late for longer.
const NAME_RESTS: Duration = Duration::from_secs(30);

/// A kind of thing: how it is made, read, missed and deleted.
#[derive(Debug, PartialEq, Eq)]
struct Kind {
    service: &'static str,
    made: &'static str,
    deleted: &'static str,
    /// The read that lists it, the list in its answer, and what names a member.
    read: &'static str,
    list: &'static str,
    id: &'static str,
    /// The parameters of the read that name it, as a prefix.
    asked: &'static [&'static str],
    /// The refusal of a call that names one that isn't there; empty: the answer just lacks it.
    missing: (&'static str, &'static str),
}

const KINDS: [Kind; 6] = [
    Kind {
        service: "elasticloadbalancing",
        made: "CreateRule",
        deleted: "DeleteRule",
        read: "DescribeRules",
        list: "Rules",
        id: "RuleArn",
        asked: &["RuleArns.member."],
        missing: ("RuleNotFound", "One or more rules not found"),
    },
    Kind {
        service: "elasticloadbalancing",
        made: "CreateTargetGroup",
        deleted: "DeleteTargetGroup",
        read: "DescribeTargetGroups",
        list: "TargetGroups",
        id: "TargetGroupArn",
        asked: &["TargetGroupArns.member.", "Names.member."],
        missing: ("TargetGroupNotFound", "One or more target groups not found"),
    },
    Kind {
        service: "autoscaling",
        made: "CreateAutoScalingGroup",
        deleted: "",
        read: "DescribeAutoScalingGroups",
        list: "AutoScalingGroups",
        id: "AutoScalingGroupName",
        asked: &["AutoScalingGroupNames.member."],
        missing: ("", ""),
    },
    Kind {
        service: "ec2",
        made: "CreateLaunchTemplate",
        deleted: "",
        read: "DescribeLaunchTemplates",
        list: "launchTemplates",
        id: "launchTemplateId",
        asked: &["LaunchTemplateName.", "LaunchTemplateId."],
        missing: ("InvalidLaunchTemplateName.NotFoundException", "At least one of the launch templates does not exist"),
    },
    Kind {
        service: "ssm",
        made: "PutParameter",
        deleted: "DeleteParameter",
        read: "GetParameters",
        list: "Parameters",
        id: "Name",
        asked: &["Names"],
        missing: ("ParameterNotFound", ""),
    },
    Kind {
        service: "ecs",
        made: "CreateService",
        deleted: "",
        read: "DescribeServices",
        list: "services",
        id: "serviceName",
        asked: &["services"],
        missing: ("", ""),
    },
];

/// Something that was just made or deleted.
#[derive(Debug)]
struct Thing {
    kind: &'static Kind,
    region: String,
    /// All that it may be asked for by: ARN, id, name.
    names: Vec<String>,
    /// What it belongs to: a rule's listener.
    of: Option<String>,
    /// The answer that showed it, if it was deleted.
    was: Option<String>,
    left: u32,
    since: Instant,
}

/// What reads are late of.
#[derive(Debug)]
pub(crate) struct Late {
    random: Mutex<fastrand::Rng>,
    things: Mutex<Vec<Thing>>,
    /// The names of deleted parameters, with when.
    resting: Mutex<Vec<(String, Instant)>>,
}

/// A change that a call is about to make, and what there was before it.
pub(crate) struct Change {
    kind: &'static Kind,
    was: Option<String>,
}

impl Late {
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: Mutex::new(fastrand::Rng::with_seed(seed)), things: Mutex::default(), resting: Mutex::default() }
    }

    fn draw(&self, least: u32, most: u32) -> u32 {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).u32(least..=most)
    }

    /// What this call is about to make or delete; none where it is something else.
    pub(crate) async fn before(moto: &MotoClient, call: &AwsCall) -> Option<Change> {
        let of = |operation: &str| operation == call.operation;
        let kind = KINDS.iter().find(|kind| kind.service == call.service && (of(kind.made) || of(kind.deleted)))?;
        if of(kind.deleted) {
            return Some(Change { kind, was: Some(seen(moto, call, kind).await?) });
        }
        // A parameter that is written again is there already.
        let is_new = kind.service != "ssm" || seen(moto, call, kind).await.is_none();
        is_new.then_some(Change { kind, was: None })
    }

    /// Notes what a call has made or deleted.
    pub(crate) fn note(&self, call: &AwsCall, change: Change, answer: &Response<Bytes>) {
        if !answer.status().is_success() {
            return;
        }
        let Change { kind, was } = change;
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        let names = names(call, kind, was.as_deref().unwrap_or(&text));
        let since = Instant::now();
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        resting.retain(|(_, at)| since.duration_since(*at) < NAME_RESTS);
        let is_reused = resting.iter().any(|(name, _)| names.contains(name));
        if kind.service == "ssm" && was.is_some() {
            resting.extend(names.iter().map(|name| (name.clone(), since)));
        }
        let left = if is_reused { self.draw(MOST_LATE, 2 * MOST_LATE) } else { self.draw(0, MOST_LATE) };
        let of = call.parameter("ListenerArn").map(str::to_owned).or_else(|| listener_of(names.first()?));
        let region = call.scope.as_ref().map(|scope| scope.region.clone()).unwrap_or_default();
        let mut things = self.things.lock().unwrap_or_else(PoisonError::into_inner);
        things.retain(|thing| since.duration_since(thing.since) < LATE_FOR && !thing.is(kind, &region, &names));
        things.push(Thing { kind, region, names, of, was, left, since });
    }

    /// A read's answer, or what it would have been a moment ago.
    pub(crate) fn seen_late(&self, call: &AwsCall, answer: Response<Bytes>) -> Response<Bytes> {
        let (now, mut answer) = (Instant::now(), answer);
        let region = call.scope.as_ref().map_or("", |scope| scope.region.as_str());
        let mut things = self.things.lock().unwrap_or_else(PoisonError::into_inner);
        for thing in things.iter_mut() {
            let is_late = thing.left > 0 && now.duration_since(thing.since) < LATE_FOR;
            if !is_late || thing.kind.service != call.service || thing.region != region {
                continue;
            }
            if let Some(other) = thing.alter(call, &answer) {
                thing.left -= 1;
                answer = other;
            }
        }
        answer
    }
}

impl Thing {
    fn is(&self, kind: &Kind, region: &str, names: &[String]) -> bool {
        self.kind == kind && self.region == region && names.iter().any(|name| self.names.contains(name))
    }

    /// The answer as if this was not made yet, or not yet deleted; none where that is the same.
    fn alter(&self, call: &AwsCall, answer: &Response<Bytes>) -> Option<Response<Bytes>> {
        let is_read = call.operation == self.kind.read;
        let names_it = |text: &str| self.names.iter().any(|name| name == text);
        // A name means something only where it is asked for; an ARN is what it is everywhere.
        let may_name = |key: &str, text: &str| match is_read {
            true => self.kind.asked.iter().any(|asked| key.starts_with(asked)),
            false => text.starts_with("arn:"),
        };
        let is_named = call.parameters.as_object().is_some_and(|all| {
            all.iter().any(|(key, value)| match value {
                Value::String(text) => names_it(text) && (self.kind.service == "ssm" || may_name(key, text)),
                Value::Array(many) => is_read && many.iter().filter_map(Value::as_str).any(names_it),
                _ => false,
            })
        });
        let text = String::from_utf8_lossy(answer.body()).into_owned();
        match &self.was {
            None if is_named && !self.kind.missing.0.is_empty() && call.operation != "GetParameters" => {
                Some(call.refuse(self.kind.missing.0, self.kind.missing.1))
            }
            None if is_read => {
                let other = if text.starts_with('{') { self.without_json(&text) } else { self.without(&text) };
                Some(with_body(ok(), other?))
            }
            Some(was) if is_read && is_named && text.starts_with('{') => {
                Some(with_body(ok(), self.with_json(&text, was)?))
            }
            // Of several that are named moto tells none where one is missing.
            Some(was) if is_read && is_named => {
                let is_asked = |key: &&String| self.kind.asked.iter().any(|asked| key.starts_with(asked));
                let alone = call.parameters.as_object()?.keys().filter(is_asked).count() == 1;
                alone.then(|| with_body(ok(), was.clone()))
            }
            Some(was) if is_read && self.lists_it(call) => Some(with_body(ok(), self.with(&text, was)?)),
            _ => None,
        }
    }

    /// Whether a listing of everything, or of what it belongs to, would have it.
    fn lists_it(&self, call: &AwsCall) -> bool {
        match call.parameter("ListenerArn") {
            Some(listener) => self.of.as_deref() == Some(listener),
            None => {
                let asked = |key: &String| self.kind.asked.iter().any(|asked| key.starts_with(asked));
                self.kind.service == "elasticloadbalancing"
                    && call.parameter("LoadBalancerArn").is_none()
                    && call.parameters.as_object().is_none_or(|all| !all.keys().any(asked))
            }
        }
    }

    fn without(&self, text: &str) -> Option<String> {
        let list = xml::text_of(text, self.kind.list)?;
        let all = xml::members(list);
        let is_it = |member: &&str| {
            xml::text_of(member, self.kind.id).is_some_and(|id| self.names.iter().any(|name| name == id.trim()))
        };
        let others: Vec<&str> = all.iter().copied().filter(|member| !is_it(member)).collect();
        (others.len() < all.len()).then(|| xml::with_content(text, self.kind.list, &xml::list(others)))
    }

    fn with(&self, text: &str, was: &str) -> Option<String> {
        let (list, member) =
            (xml::text_of(text, self.kind.list).unwrap_or_default(), xml::text_of(was, self.kind.list)?);
        Some(xml::with_content(text, self.kind.list, &format!("{list}{member}")))
    }

    fn with_json(&self, text: &str, was: &str) -> Option<String> {
        let mut answer: Value = serde_json::from_str(text).ok()?;
        let was: Value = serde_json::from_str(was).ok()?;
        if let Some(missing) = answer.get_mut("InvalidParameters").and_then(Value::as_array_mut) {
            missing.retain(|name| !self.names.iter().any(|own| name == own));
        }
        let members = was[self.kind.list].as_array()?.iter().cloned();
        answer.get_mut(self.kind.list)?.as_array_mut()?.extend(members);
        Some(answer.to_string())
    }

    fn without_json(&self, text: &str) -> Option<String> {
        let mut answer: Value = serde_json::from_str(text).ok()?;
        let all = answer.get_mut(self.kind.list)?.as_array_mut()?;
        let before = all.len();
        let is_it =
            |value: &Value| value[self.kind.id].as_str().is_some_and(|id| self.names.iter().any(|name| name == id));
        all.retain(|value| !is_it(value));
        if all.len() == before {
            return None;
        }
        let name = self.names.first()?;
        let (list, entry) = match self.kind.service {
            "ecs" => ("failures", json!({ "arn": name, "reason": "MISSING" })),
            _ => ("InvalidParameters", json!(name)),
        };
        match answer.get_mut(list).and_then(Value::as_array_mut) {
            Some(missing) => missing.push(entry),
            None => answer[list] = json!([entry]),
        }
        Some(answer.to_string())
    }
}

fn ok() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::OK;
    response
}

/// What a read shows of the thing that a call names; none if it isn't there.
async fn seen(moto: &MotoClient, call: &AwsCall, kind: &Kind) -> Option<String> {
    let scope = call.scope.as_ref()?;
    if kind.service == "ssm" {
        let name = call.parameter("Name")?;
        let answer = moto.json(scope, "ssm", "AmazonSSM.GetParameters", &json!({ "Names": [name] })).await.ok()?;
        return answer["Parameters"].as_array().is_some_and(|found| !found.is_empty()).then(|| answer.to_string());
    }
    let asked = format!("{}1", kind.asked[0]);
    let answer = moto.call(scope, kind.read, &[(&asked, call.parameter(kind.id)?)]).await.ok()?;
    answer.status().is_success().then(|| String::from_utf8_lossy(answer.body()).into_owned())
}

/// All that the thing of an answer is asked for by.
fn names(call: &AwsCall, kind: &Kind, answer: &str) -> Vec<String> {
    let mut names = Vec::new();
    for element in [kind.id, "TargetGroupName", "launchTemplateName"] {
        names.extend(xml::text_of(answer, element).map(str::to_owned));
    }
    for parameter in ["Name", "AutoScalingGroupName", "serviceName", kind.id] {
        names.extend(call.parameter(parameter).map(str::to_owned));
    }
    if kind.service == "ecs" {
        let made: Value = serde_json::from_str(answer).unwrap_or(Value::Null);
        names.extend(made["service"]["serviceArn"].as_str().map(str::to_owned));
    }
    names.dedup();
    names
}

/// A rule's listener: `…:listener-rule/app/NAME/LB/LISTENER/RULE`.
fn listener_of(rule: &str) -> Option<String> {
    let (of, _) = rule.split_once(":listener-rule/").and(rule.rsplit_once('/'))?;
    Some(of.replacen(":listener-rule/", ":listener/", 1))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::core::temper::Rule;
    use crate::testing::{Local, first};

    /// How often a read doesn't see it, before it does.
    async fn misses(local: &Local, service: &str, action: &str, asked: &[(&str, &str)], has: &str) -> usize {
        for n in 0..10 {
            if local.tested(service, action, asked).await.1.contains(has) {
                return n;
            }
        }
        panic!("it is never seen")
    }

    #[tokio::test]
    async fn reads_are_late_after_a_create_and_after_a_delete() {
        let local = Local::start_without(&[Rule::Throttling]).await;
        let vpc = first(&local.query("ec2", "DescribeVpcs", &[]).await, "vpcId");
        let (mut late_made, mut late_gone) = (0, 0);
        for n in 0..12 {
            let name = format!("group-{n}");
            let made = [("Name", &*name), ("Protocol", "HTTP"), ("Port", "80"), ("VpcId", &*vpc)];
            let (_, made) = local.tested("elasticloadbalancing", "CreateTargetGroup", &made).await;
            let arn = first(&made, "TargetGroupArn");
            // By name, by its ARN in another call, and in the list of all, it is missed in the same way.
            let asked: [(&str, &[(&str, &str)]); 3] = [
                ("DescribeTargetGroups", &[("Names.member.1", &name)]),
                ("DescribeTargetGroupAttributes", &[("TargetGroupArn", &arn)]),
                ("DescribeTargetGroups", &[]),
            ];
            let (action, asked) = asked[n % 3];
            let shows = if action == "DescribeTargetGroups" { &*arn } else { "stickiness.enabled" };
            let missed = misses(&local, "elasticloadbalancing", action, asked, shows).await;
            assert!(missed <= 2, "{missed}");
            late_made += missed;
            // Who looks on sees what is there.
            local.tested("elasticloadbalancing", "DeleteTargetGroup", &[("TargetGroupArn", &arn)]).await;
            assert!(!local.elb("DescribeTargetGroups", &[]).await.contains(&*arn));
            let asked: [&[(&str, &str)]; 2] = [&[("TargetGroupArns.member.1", &arn)], &[]];
            let mut seen = 0;
            while local.tested("elasticloadbalancing", "DescribeTargetGroups", asked[n % 2]).await.1.contains(&*arn) {
                seen += 1;
                assert!(seen <= 2);
            }
            late_gone += seen;
        }
        assert!(late_made > 0 && late_gone > 0, "{late_made} and {late_gone}");
        local.aws.stop().await;
    }

    #[tokio::test]
    async fn a_name_that_is_used_again_rests() {
        let local = Local::start_without(&[Rule::Throttling]).await;
        let put = json!({ "Name": "/app/live", "Value": "blue", "Type": "String" });
        let get = json!({ "Names": ["/app/live", "/app/other"] });
        let see = async || local.tested_ssm("GetParameters", &get).await;
        local.tested_ssm("PutParameter", &put).await;
        while see().await["InvalidParameters"] != json!(["/app/other"]) {}
        // Written again it is there.
        local.tested_ssm("PutParameter", &json!({ "Name": "/app/live", "Value": "green", "Overwrite": true })).await;
        assert_eq!(see().await["Parameters"][0]["Value"], "green");
        local.tested_ssm("PutParameter", &json!({ "Name": "/app/other", "Value": "1", "Type": "String" })).await;
        while see().await["InvalidParameters"] != json!([]) {}
        local.tested_ssm("DeleteParameter", &json!({ "Name": "/app/live" })).await;
        // Whatever is seen of the one, the other one is there.
        let both = async || {
            let seen = see().await["Parameters"].as_array().expect("a list").clone();
            assert!(seen.iter().any(|one| one["Name"] == "/app/other"), "{seen:?}");
            seen.len() == 2
        };
        while both().await {}
        local.tested_ssm("PutParameter", &put).await;
        let mut missed = 0;
        while !both().await {
            missed += 1;
        }
        assert!((2..=4).contains(&missed), "{missed}");
        local.aws.stop().await;
    }

    #[tokio::test]
    async fn who_asks_too_often_is_told() {
        let local = Local::start().await;
        let mut refused = String::new();
        for _ in 0..60 {
            let (status, text) = local.tested("elasticloadbalancing", "DescribeTargetGroups", &[]).await;
            if status != 200 {
                refused = text;
            }
        }
        assert_eq!(first(&refused, "Code"), "Throttling");
        assert!(local.aws.throttled()["DescribeTargetGroups"] > 0);
        local.elb("DescribeTargetGroups", &[]).await;
        local.aws.stop().await;
    }
}
