//! What AWS refuses and moto lets pass.

use anyhow::{anyhow, ensure};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use hyper::{Request, Response};

use crate::core::aws_call::AwsCall;
use crate::core::moto::{MotoClient, Scope};
use crate::core::temper::Rule;
use crate::core::xml;
use crate::state::Core;

/// What a request breaks of AWS's own service model, a line each; nothing where it keeps it.
async fn breaches(moto: &MotoClient, call: &AwsCall, parts: &Parts, body: &Bytes) -> anyhow::Result<String> {
    let kind = parts.headers.get("content-type").cloned().unwrap_or_else(|| HeaderValue::from_static(""));
    let request = Request::post("/_model")
        .header("host", moto.address.to_string())
        .header("x-judged-service", &call.service)
        .header("x-judged-operation", &call.operation)
        .header("x-judged-kind", kind)
        .header("x-judged-method", parts.method.as_str())
        .header("x-judged-path", parts.uri.path())
        .body(Full::new(body.clone()))?;
    let answer = moto.pass(request).await.map_err(|error| anyhow!("nobody judges {}: {error:?}", call.operation))?;
    ensure!(answer.status().is_success(), "the judge of {} answered {}", call.operation, answer.status());
    Ok(String::from_utf8_lossy(answer.body()).into_owned())
}

/// The refusal of a request that breaks AWS's own service model, which is noted; `None`: it keeps it.
pub(super) async fn judge(core: &Core, call: &AwsCall, parts: &Parts, body: &Bytes) -> Option<Response<Bytes>> {
    if !core.temper.has(Rule::ServiceModel) || call.service.is_empty() {
        return None;
    }
    let broken = match breaches(&core.moto, call, parts, body).await {
        Ok(broken) => broken,
        // It ends with moto itself.
        Err(error) => {
            eprintln!("local-aws: {error:#}");
            return None;
        }
    };
    if broken.is_empty() {
        return None;
    }
    let words = format!("{} {}: {}", call.service, call.operation, broken.replace('\n', "; "));
    core.temper.note(words.clone());
    Some(call.refuse("ValidationError", &words))
}

/// AWS's refusal of a call; `None`: it goes on.
pub(super) async fn refuse(core: &Core, call: &AwsCall) -> Option<Response<Bytes>> {
    let (scope, moto) = (call.scope.as_ref()?, &core.moto);
    let list = match (call.service.as_str(), call.operation.as_str()) {
        ("elasticloadbalancing", "CreateListener" | "ModifyListener") => "DefaultActions",
        ("elasticloadbalancing", "CreateRule" | "ModifyRule") => "Actions",
        ("elasticloadbalancing", "ModifyTargetGroupAttributes") if core.temper.has(Rule::GroupStickiness) => {
            return target_stickiness(moto, scope, call).await;
        }
        _ => return None,
    };
    if core.temper.has(Rule::GroupsPerAction) && (1..=5).any(|action| groups_of(call, list, action).len() > MOST_GROUPS)
    {
        return Some(call.refuse("TooManyTargetGroups", "An action has at most five target groups"));
    }
    if core.temper.has(Rule::OneLoadBalancerPerGroup)
        && let Some(refusal) = one_load_balancer(moto, scope, call, list).await
    {
        return Some(refusal);
    }
    if core.temper.has(Rule::GroupStickiness)
        && let Some(refusal) = group_stickiness(moto, scope, call, list).await
    {
        return Some(refusal);
    }
    if core.temper.has(Rule::Authentication)
        && let Some(refusal) = authentication(moto, scope, call, list).await
    {
        return Some(refusal);
    }
    if core.temper.has(Rule::RulesPerLoadBalancer) && call.operation == "CreateRule" {
        return rules(moto, scope, call).await;
    }
    None
}

/// "[HTTPS listeners]", and what is said of `ClientSecret` and `UseExistingClientSecret`: from Action and
/// AuthenticateOidcActionConfig.
async fn authentication(moto: &MotoClient, scope: &Scope, call: &AwsCall, list: &str) -> Option<Response<Bytes>> {
    let of = |n: usize, name: &str| call.parameter(&format!("{list}.member.{n}.{name}"));
    let asks =
        |n: &usize| of(*n, "Type").is_some_and(|kind| kind.starts_with("authenticate-") || kind == "jwt-validation");
    let n = (1..=5).find(asks)?;
    let protocol = match (call.parameter("Protocol"), call.parameter("ListenerArn"), call.parameter("RuleArn")) {
        (Some(protocol), _, _) => protocol.to_owned(),
        (None, listener, rule) => {
            let of_rule = rule.and_then(|rule| {
                rule.replacen(":listener-rule/", ":listener/", 1).rsplit_once('/').map(|(arn, _)| arn.to_owned())
            });
            let listener = listener.map(str::to_owned).or(of_rule)?;
            let seen = read(moto, scope, "DescribeListeners", &[("ListenerArns.member.1", &listener)]).await?;
            xml::text_of(&seen, "Protocol")?.to_owned()
        }
    };
    let wrong = "InvalidLoadBalancerAction";
    if protocol != "HTTPS" {
        return Some(call.refuse(wrong, "Authentication actions are only valid on HTTPS listeners"));
    }
    if of(n, "Type") != Some("authenticate-oidc") {
        return None;
    }
    let has_secret = of(n, "AuthenticateOidcConfig.ClientSecret").is_some();
    let keeps = of(n, "AuthenticateOidcConfig.UseExistingClientSecret") == Some("true");
    match (has_secret, keeps, call.operation.starts_with("Create")) {
        (true, true, _) => {
            let words = "You cannot both specify a client secret and set UseExistingClientSecret to true";
            Some(call.refuse(wrong, words))
        }
        (false, false, _) | (false, _, true) => Some(call.refuse(wrong, "A client secret must be specified")),
        (false, true, false) => {
            let (operation, of) = match call.parameter("RuleArn") {
                Some(_) => ("DescribeRules", "RuleArn"),
                None => ("DescribeListeners", "ListenerArn"),
            };
            let seen = read(moto, scope, operation, &[(&format!("{of}s.member.1"), call.parameter(of)?)]).await?;
            let has_one = seen.contains("<Type>authenticate-oidc</Type>");
            (!has_one).then(|| call.refuse(wrong, "There is no existing client secret"))
        }
        (true, false, _) => None,
    }
}

/// "Target groups per action per Application Load Balancer: 5": from the quotas of Application Load Balancers.
const MOST_GROUPS: usize = 5;

/// The groups that an action of a call forwards to by its configuration.
fn groups_of<'c>(call: &'c AwsCall, list: &str, action: usize) -> Vec<&'c str> {
    let groups = format!("{list}.member.{action}.ForwardConfig.TargetGroups");
    (1..).map_while(|n| call.parameter(&format!("{groups}.member.{n}.TargetGroupArn"))).collect()
}

/// "You can associate a target group with only one load balancer": from CreateTargetGroup's guide, with the words of
/// `TargetGroupAssociationLimit`.
async fn one_load_balancer(moto: &MotoClient, scope: &Scope, call: &AwsCall, list: &str) -> Option<Response<Bytes>> {
    let here = ["LoadBalancerArn", "ListenerArn", "RuleArn"].into_iter().find_map(|name| call.parameter(name))?;
    let mut groups: Vec<&str> = (1..=5).flat_map(|action| groups_of(call, list, action)).collect();
    groups.extend((1..=5).filter_map(|n| call.parameter(&format!("{list}.member.{n}.TargetGroupArn"))));
    for group in groups {
        let behind = load_balancers_of(moto, scope, group).await?;
        if behind.iter().any(|arn| name_of(arn) != name_of(here)) {
            let words = "The following target groups cannot be associated with more than one load balancer";
            return Some(call.refuse("TargetGroupAssociationLimit", &format!("{words}: {group}")));
        }
    }
    None
}

/// `app/NAME/ID` of a load balancer, from its ARN or that of a listener or a rule of it.
fn name_of(arn: &str) -> Vec<&str> {
    arn.split('/').skip(1).take(3).collect()
}

/// The most rules of an Application Load Balancer, its default ones not counted.
const MOST_RULES: usize = 100;

/// "Rules per Application Load Balancer: 100. Default rules are not counted": from the quotas of Application Load Balancers.
async fn rules(moto: &MotoClient, scope: &Scope, call: &AwsCall) -> Option<Response<Bytes>> {
    let listener = call.parameter("ListenerArn")?;
    let of = listener.replacen(":listener/app/", ":loadbalancer/app/", 1);
    let load_balancer = of.rsplit_once('/').filter(|_| of != listener)?.0;
    let rules = rules_of(moto, scope, load_balancer).await?;
    let count: usize = rules.iter().map(|rules| rules.matches("<IsDefault>false</IsDefault>").count()).sum();
    let words = "The maximum number of rules on the load balancer has been reached";
    (count >= MOST_RULES).then(|| call.refuse("TooManyRules", words))
}

/// "You must enable group stickiness on a rule if you enabled target stickiness on one of its target groups": from the guide
/// of Application Load Balancers, "Sticky sessions".
async fn group_stickiness(moto: &MotoClient, scope: &Scope, call: &AwsCall, list: &str) -> Option<Response<Bytes>> {
    for action in 1..=5 {
        let forward = format!("{list}.member.{action}.ForwardConfig");
        let groups = groups_of(call, list, action);
        let enabled = call.parameter(&format!("{forward}.TargetGroupStickinessConfig.Enabled"));
        if groups.len() < 2 || enabled == Some("true") {
            continue;
        }
        for group in groups {
            let asked = [("TargetGroupArn", group)];
            if is_sticky(&read(moto, scope, "DescribeTargetGroupAttributes", &asked).await?) {
                return Some(call.refuse("InvalidConfigurationRequest", STICKY));
            }
        }
    }
    None
}

/// The same from the other side: a group behind an action with several groups and without group stickiness.
async fn target_stickiness(moto: &MotoClient, scope: &Scope, call: &AwsCall) -> Option<Response<Bytes>> {
    let attribute = |n: usize| call.parameter(&format!("Attributes.member.{n}.Key")).map(|key| (n, key));
    let (n, _) = (1..).map_while(attribute).find(|(_, key)| *key == "stickiness.enabled")?;
    let group = call.parameter("TargetGroupArn")?;
    if call.parameter(&format!("Attributes.member.{n}.Value")) != Some("true") {
        return None;
    }
    let is_barred = |forward: &str| {
        let forward = forward.split("</ForwardConfig>").next().unwrap_or_default();
        let is_sticky = forward.contains("<Enabled>true</Enabled>");
        forward.contains(group) && forward.matches("<TargetGroupArn>").count() > 1 && !is_sticky
    };
    for balancer in load_balancers_of(moto, scope, group).await? {
        let rules = rules_of(moto, scope, &balancer).await?;
        if rules.iter().any(|rules| rules.split("<ForwardConfig>").skip(1).any(is_barred)) {
            return Some(call.refuse("InvalidConfigurationRequest", STICKY));
        }
    }
    None
}

/// What moto answers.
async fn read(moto: &MotoClient, scope: &Scope, action: &str, asked: &[(&str, &str)]) -> Option<String> {
    let answer = moto.call(scope, action, asked).await.ok()?;
    Some(String::from_utf8_lossy(answer.body()).into_owned())
}

/// The load balancers that have a group.
async fn load_balancers_of(moto: &MotoClient, scope: &Scope, group: &str) -> Option<Vec<String>> {
    let text = read(moto, scope, "DescribeTargetGroups", &[("TargetGroupArns.member.1", group)]).await?;
    let arns = xml::text_of(&text, "LoadBalancerArns").map(xml::members).unwrap_or_default();
    Some(arns.into_iter().map(str::to_owned).collect())
}

/// The rules of a load balancer, an answer for each listener.
async fn rules_of(moto: &MotoClient, scope: &Scope, load_balancer: &str) -> Option<Vec<String>> {
    let listeners = read(moto, scope, "DescribeListeners", &[("LoadBalancerArn", load_balancer)]).await?;
    let mut rules = Vec::new();
    for listener in listeners.split("<ListenerArn>").skip(1).filter_map(|rest| rest.split('<').next()) {
        rules.push(read(moto, scope, "DescribeRules", &[("ListenerArn", listener), ("PageSize", "400")]).await?);
    }
    Some(rules)
}

/// AWS's words.
const STICKY: &str =
    "You must enable group stickiness on a rule if you enabled target stickiness on one of its target groups";

fn is_sticky(attributes: &str) -> bool {
    let after = attributes.split("<Key>stickiness.enabled</Key>").nth(1).unwrap_or_default();
    after.trim_start().starts_with("<Value>true</Value>")
}

#[cfg(test)]
mod tests {
    use crate::testing::{Local, first};

    #[tokio::test]
    async fn what_breaks_a_service_model_is_refused_and_told() {
        let local = Local::start().await;
        let asked = [("Name", "blue"), ("Port", "70000"), ("Protocol", "HTTPP"), ("Tint", "blue")];
        let (status, refused) = local.try_query("elasticloadbalancing", "CreateTargetGroup", &asked).await;
        assert_eq!((status, first(&refused, "Code").as_str()), (400, "ValidationError"));
        assert!(local.try_ecs("CreateService", serde_json::json!({ "desiredCount": "2" })).await.is_err());
        let told = local.aws.violations().join("\n");
        for part in [
            "elasticloadbalancing CreateTargetGroup: Port = 70000 is not within 1 to 65535",
            "Protocol = 'HTTPP' is none of HTTP, HTTPS,",
            "Tint is no member of CreateTargetGroupInput",
            "ecs CreateService: desiredCount = '2' is no integer; serviceName is required",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
        // What keeps the model goes on.
        local.query("ec2", "DescribeVpcs", &[]).await;
        assert_eq!(local.aws.violations(), Vec::<String>::new());
        local.aws.stop().await;
    }

    #[tokio::test]
    async fn a_load_balancer_has_a_hundred_rules() {
        let local = Local::start().await;
        let (group, _) = local.stage("ip").await;
        let listeners = local.elb("DescribeLoadBalancers", &[]).await;
        let balancer = first(&listeners, "LoadBalancerArn");
        let listeners = local.elb("DescribeListeners", &[("LoadBalancerArn", &balancer)]).await;
        let listener = first(&listeners, "ListenerArn");
        let make = async |priority: usize| {
            let priority = priority.to_string();
            let asked = [
                ("ListenerArn", listener.as_str()),
                ("Priority", &priority),
                ("Conditions.member.1.Field", "path-pattern"),
                ("Conditions.member.1.Values.member.1", "/api/*"),
                ("Actions.member.1.Type", "forward"),
                ("Actions.member.1.TargetGroupArn", &group),
            ];
            local.try_query("elasticloadbalancing", "CreateRule", &asked).await
        };
        for priority in 1..=100 {
            assert_eq!(make(priority).await.0, 200, "{priority}");
        }
        let (status, refused) = make(101).await;
        assert_eq!((status, first(&refused, "Code").as_str()), (400, "TooManyRules"));
        local.aws.stop().await;
    }

    /// The actions of a rule that lets users sign in, with `secret` and `keep` as they are told.
    fn signing_in(group: &str, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let oidc = "Actions.member.1.AuthenticateOidcConfig";
        let names = ["Issuer", "AuthorizationEndpoint", "TokenEndpoint", "UserInfoEndpoint", "ClientId"];
        let urls = names.map(|name| (format!("{oidc}.{name}"), "https://id.example.com/x".to_owned()));
        let plain = [
            ("Actions.member.1.Type", "authenticate-oidc"),
            ("Actions.member.1.Order", "1"),
            ("Actions.member.2.Type", "forward"),
            ("Actions.member.2.Order", "2"),
            ("Actions.member.2.TargetGroupArn", group),
        ];
        let plain = plain.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        let more = more.iter().map(|(name, value)| {
            let name = if *name == "secret" { "ClientSecret" } else { "UseExistingClientSecret" };
            (format!("{oidc}.{name}"), (*value).to_owned())
        });
        urls.into_iter().chain(plain).chain(more).collect()
    }

    #[tokio::test]
    async fn who_asks_is_found_out_with_tls_and_a_secret() {
        let local = Local::start().await;
        let (group, _) = local.stage("ip").await;
        let balancer = first(&local.elb("DescribeLoadBalancers", &[]).await, "LoadBalancerArn");
        let listeners = local.elb("DescribeListeners", &[("LoadBalancerArn", &balancer)]).await;
        let plain = first(&listeners, "ListenerArn");
        let secure = [
            ("LoadBalancerArn", balancer.as_str()),
            ("Protocol", "HTTPS"),
            ("Port", "8443"),
            ("Certificates.member.1.CertificateArn", "arn:aws:iam::123456789012:server-certificate/web"),
            ("DefaultActions.member.1.Type", "forward"),
            ("DefaultActions.member.1.TargetGroupArn", &group),
        ];
        let secure = first(&local.elb("CreateListener", &secure).await, "ListenerArn");
        let ask = async |operation: &str, of: &[(&str, &str)], more: &[(&str, &str)]| {
            let actions = signing_in(&group, more);
            let asked: Vec<(&str, &str)> =
                actions.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let (status, answer) =
                local.try_query("elasticloadbalancing", operation, &[of, asked.as_slice()].concat()).await;
            if status == 200 { first(&answer, "RuleArn") } else { first(&answer, "Code") }
        };
        let on = |listener: &str| {
            let condition = ("Conditions.member.1.Field".to_owned(), "path-pattern".to_owned());
            let value = ("Conditions.member.1.Values.member.1".to_owned(), "/x".to_owned());
            [("ListenerArn".to_owned(), listener.to_owned()), ("Priority".to_owned(), "1".to_owned()), condition, value]
        };
        let refused = "InvalidLoadBalancerAction";
        for (listener, more) in [
            (&plain, &[("secret", "x")][..]),
            (&secure, &[]),
            (&secure, &[("keep", "true")]),
            (&secure, &[("secret", "x"), ("keep", "true")]),
        ] {
            let of = on(listener);
            let of: Vec<(&str, &str)> = of.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            assert_eq!(ask("CreateRule", &of, more).await, refused, "{more:?}");
        }
        let of = on(&secure);
        let of: Vec<(&str, &str)> = of.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let rule = ask("CreateRule", &of, &[("secret", "x")]).await;
        assert!(rule.contains(":listener-rule/"), "{rule}");
        for (more, answer) in [(&[][..], refused), (&[("keep", "true")], &rule), (&[("secret", "y")], &rule)] {
            assert_eq!(ask("ModifyRule", &[("RuleArn", &rule)], more).await, *answer, "{more:?}");
        }
        // Where users no longer sign in, there is no secret to keep.
        let open =
            [("RuleArn", &*rule), ("Actions.member.1.Type", "forward"), ("Actions.member.1.TargetGroupArn", &group)];
        assert_eq!(local.try_query("elasticloadbalancing", "ModifyRule", &open).await.0, 200);
        assert_eq!(ask("ModifyRule", &[("RuleArn", &rule)], &[("keep", "true")]).await, refused);
        let nothing = local.try_query("elasticloadbalancing", "ModifyRule", &[("RuleArn", &rule)]).await;
        assert_eq!(nothing.0, 400, "{}", nothing.1);
        local.aws.stop().await;
    }

    #[tokio::test]
    async fn several_groups_need_group_stickiness_where_one_keeps_clients_at_a_target() {
        let local = Local::start().await;
        let vpc = first(&local.query("ec2", "DescribeVpcs", &[]).await, "vpcId");
        let mut groups = Vec::new();
        for name in ["blue", "green"] {
            let made = [("Name", name), ("Protocol", "HTTP"), ("Port", "80"), ("VpcId", &*vpc)];
            groups.push(first(&local.elb("CreateTargetGroup", &made).await, "TargetGroupArn"));
        }
        let subnets = local.query("ec2", "DescribeSubnets", &[]).await;
        let subnets: Vec<&str> =
            subnets.split("<subnetId>").skip(1).filter_map(|part| part.split('<').next()).collect();
        let made = [("Name", "web"), ("Subnets.member.1", subnets[0]), ("Subnets.member.2", subnets[1])];
        let balancer = first(&local.elb("CreateLoadBalancer", &made).await, "LoadBalancerArn");
        let listener = async |sticky: &[(&str, &str)]| {
            let mut asked = vec![
                ("LoadBalancerArn", balancer.as_str()),
                ("Protocol", "HTTP"),
                ("Port", "80"),
                ("DefaultActions.member.1.Type", "forward"),
                ("DefaultActions.member.1.ForwardConfig.TargetGroups.member.1.TargetGroupArn", &*groups[0]),
                ("DefaultActions.member.1.ForwardConfig.TargetGroups.member.1.Weight", "1"),
                ("DefaultActions.member.1.ForwardConfig.TargetGroups.member.2.TargetGroupArn", &*groups[1]),
                ("DefaultActions.member.1.ForwardConfig.TargetGroups.member.2.Weight", "0"),
            ];
            asked.extend(sticky);
            local.try_query("elasticloadbalancing", "CreateListener", &asked).await
        };
        let attributes = [
            ("TargetGroupArn", &*groups[1]),
            ("Attributes.member.1.Key", "stickiness.enabled"),
            ("Attributes.member.1.Value", "true"),
        ];
        local.elb("ModifyTargetGroupAttributes", &attributes).await;
        let (_, refused) = listener(&[]).await;
        assert_eq!(first(&refused, "Code"), "InvalidConfigurationRequest");
        let config = "DefaultActions.member.1.ForwardConfig.TargetGroupStickinessConfig";
        let (enabled, seconds) = (format!("{config}.Enabled"), format!("{config}.DurationSeconds"));
        let (_, made) = listener(&[(&enabled, "true"), (&seconds, "1")]).await;
        assert!(made.contains("ListenerArn"), "{made}");
        local.aws.stop().await;
    }
}
