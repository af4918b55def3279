//! The load balancer's listeners, rules and target health.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws_sdk_elasticloadbalancingv2::Client;
use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, AuthenticateOidcActionConfig, FixedResponseActionConfig, ForwardActionConfig,
    HostHeaderConditionConfig, HttpHeaderConditionConfig, HttpRequestMethodConditionConfig, Listener,
    PathPatternConditionConfig, QueryStringConditionConfig, QueryStringKeyValuePair, RedirectActionConfig,
    RedirectActionStatusCodeEnum, Rule, RuleCondition, SourceIpConditionConfig, TargetGroupStickinessConfig,
    TargetGroupTuple,
};

use super::batch::Batch;
use super::error::error;
use crate::rollout::gate::TargetHealth;
use crate::rollout::{Conditions, Forward, Observed, Redirect, RouteSpec, Stickiness, Terminal};
use crate::run::ports::{Error, Freshness, Kind, Routing};

/// How many listeners or rules are asked for in one call: a page of answers stays small, a call stays quick.
const ARNS_PER_CALL: usize = 20;

/// Elastic Load Balancing v2.
pub(super) struct Elbv2 {
    client: Client,
    listeners: Batch<Listener>,
    rules: Batch<Rule>,
    rules_of: Batch<Vec<Rule>>,
}

impl Elbv2 {
    pub(super) fn new(client: Client) -> Elbv2 {
        let (a, b, c) = (client.clone(), client.clone(), client.clone());
        Elbv2 {
            client,
            listeners: Batch::new(ARNS_PER_CALL, move |arns| Box::pin(describe_listeners(a.clone(), arns))),
            rules: Batch::new(ARNS_PER_CALL, move |arns| Box::pin(describe_rules(b.clone(), arns))),
            rules_of: Batch::new(1, move |arns| Box::pin(describe_rules_of(c.clone(), arns))),
        }
    }

    fn forget(&self) {
        self.listeners.forget();
        self.rules.forget();
        self.rules_of.forget();
    }

    async fn observe_one(&self, route: &RouteSpec, arn: Option<&String>, freshness: Freshness) -> Result<Option<Observed>, Error> {
        match route {
            RouteSpec::Listener(arn) => Ok(self.listeners.get(arn, freshness).await?.as_ref().and_then(listener)),
            RouteSpec::Rule(arn) => Ok(self.rules.get(arn, freshness).await?.as_ref().and_then(rule)),
            RouteSpec::OwnRule { listener, priority, .. } => {
                if let Some(arn) = arn
                    && let Some(found) = self.rules.get(arn, freshness).await?
                {
                    return Ok(rule(&found));
                }
                let priority = priority.to_string();
                let rules = self.rules_of.get(listener, freshness).await?.unwrap_or_default();
                Ok(rules.iter().find(|rule| rule.priority() == Some(&priority)).and_then(rule))
            }
        }
    }
}

async fn describe_listeners(client: Client, arns: Vec<String>) -> Result<BTreeMap<String, Listener>, Error> {
    let on = arns.join(", ");
    match client.describe_listeners().set_listener_arns(Some(arns.clone())).send().await {
        Ok(output) => {
            let pair = |listener: Listener| Some((listener.listener_arn()?.to_owned(), listener));
            Ok(output.listeners.unwrap_or_default().into_iter().filter_map(pair).collect())
        }
        Err(failure) => {
            let failure = error("DescribeListeners", &on, failure);
            // One that is gone fails the whole call: ask for each alone then.
            match (failure.kind, arns.len()) {
                (Kind::Gone, 1) => Ok(BTreeMap::new()),
                (Kind::Gone, _) => {
                    let mut found = BTreeMap::new();
                    for arn in arns {
                        found.extend(Box::pin(describe_listeners(client.clone(), vec![arn])).await?);
                    }
                    Ok(found)
                }
                _ => Err(failure),
            }
        }
    }
}

async fn describe_rules(client: Client, arns: Vec<String>) -> Result<BTreeMap<String, Rule>, Error> {
    let on = arns.join(", ");
    match client.describe_rules().set_rule_arns(Some(arns.clone())).send().await {
        Ok(output) => {
            let pair = |rule: Rule| Some((rule.rule_arn()?.to_owned(), rule));
            Ok(output.rules.unwrap_or_default().into_iter().filter_map(pair).collect())
        }
        Err(failure) => {
            let failure = error("DescribeRules", &on, failure);
            match (failure.kind, arns.len()) {
                (Kind::Gone, 1) => Ok(BTreeMap::new()),
                (Kind::Gone, _) => {
                    let mut found = BTreeMap::new();
                    for arn in arns {
                        found.extend(Box::pin(describe_rules(client.clone(), vec![arn])).await?);
                    }
                    Ok(found)
                }
                _ => Err(failure),
            }
        }
    }
}

async fn describe_rules_of(client: Client, listeners: Vec<String>) -> Result<BTreeMap<String, Vec<Rule>>, Error> {
    let mut found = BTreeMap::new();
    for listener in listeners {
        let (mut rules, mut marker) = (Vec::new(), None);
        loop {
            match client.describe_rules().listener_arn(&listener).set_marker(marker).send().await {
                Ok(output) => {
                    rules.extend(output.rules.unwrap_or_default());
                    marker = output.next_marker;
                }
                Err(failure) => {
                    let failure = error("DescribeRules", &listener, failure);
                    if failure.kind == Kind::Gone {
                        break;
                    }
                    return Err(failure);
                }
            }
            if marker.is_none() {
                found.insert(listener, rules);
                break;
            }
        }
    }
    Ok(found)
}

#[async_trait]
impl Routing for Elbv2 {
    async fn observe(
        &self,
        routes: &[RouteSpec],
        rules: &BTreeMap<String, String>,
        freshness: Freshness,
    ) -> Result<BTreeMap<String, Observed>, Error> {
        let reads = routes.iter().map(|route| async move {
            let key = route.key();
            let observed = self.observe_one(route, rules.get(&key), freshness).await?;
            Ok(observed.map(|observed| (key, observed)))
        });
        let observed: Vec<Option<(String, Observed)>> = futures::future::try_join_all(reads).await?;
        Ok(observed.into_iter().flatten().collect())
    }

    async fn lead(&self, arn: &str, terminal: &Terminal) -> Result<(), Error> {
        let gone = || Error { kind: Kind::Gone, message: format!("{arn} isn't there any more") };
        let result = if arn.contains(":listener-rule/") {
            let rule = self.rules.get(arn, Freshness::Now).await?.ok_or_else(gone)?;
            let actions = with_terminal(rule.actions(), terminal);
            let call = self.client.modify_rule().rule_arn(arn).set_actions(Some(actions));
            call.send().await.map(drop).map_err(|failure| error("ModifyRule", arn, failure))
        } else {
            let listener = self.listeners.get(arn, Freshness::Now).await?.ok_or_else(gone)?;
            let actions = with_terminal(listener.default_actions(), terminal);
            let call = self.client.modify_listener().listener_arn(arn).set_default_actions(Some(actions));
            call.send().await.map(drop).map_err(|failure| error("ModifyListener", arn, failure))
        };
        self.forget();
        result
    }

    async fn create_rule(
        &self,
        listener: &str,
        priority: i32,
        conditions: &Conditions,
        terminal: &Terminal,
    ) -> Result<String, Error> {
        let call = self
            .client
            .create_rule()
            .listener_arn(listener)
            .priority(priority)
            .set_conditions(Some(rule_conditions(conditions)))
            .set_actions(Some(vec![action(terminal)]));
        let result = call.send().await;
        self.forget();
        let output = result.map_err(|failure| error("CreateRule", listener, failure))?;
        let arn = output.rules().first().and_then(|rule| rule.rule_arn()).map(str::to_owned);
        arn.ok_or_else(|| Error { kind: Kind::Other, message: "CreateRule answered without a rule".to_owned() })
    }

    async fn set_conditions(&self, arn: &str, conditions: &Conditions) -> Result<(), Error> {
        let call = self.client.modify_rule().rule_arn(arn).set_conditions(Some(rule_conditions(conditions)));
        let result = call.send().await;
        self.forget();
        result.map(drop).map_err(|failure| error("ModifyRule", arn, failure))
    }

    async fn delete_rule(&self, arn: &str) -> Result<(), Error> {
        let result = self.client.delete_rule().rule_arn(arn).send().await;
        self.forget();
        match result.map_err(|failure| error("DeleteRule", arn, failure)) {
            Err(failure) if failure.kind != Kind::Gone => Err(failure),
            _ => Ok(()),
        }
    }

    async fn target_health(&self, group: &str) -> Result<Vec<TargetHealth>, Error> {
        let result = self.client.describe_target_health().target_group_arn(group).send().await;
        let output = result.map_err(|failure| error("DescribeTargetHealth", group, failure))?;
        let described = output.target_health_descriptions.unwrap_or_default();
        Ok(described.into_iter().map(|description| {
            let target = description.target();
            let id = target.and_then(|target| target.id()).unwrap_or("?");
            let port = target.and_then(|target| target.port()).map(|port| format!(":{port}")).unwrap_or_default();
            let health = description.target_health();
            let words = [health.and_then(|h| h.reason()).map(|r| r.as_str()), health.and_then(|h| h.description())];
            let reason = words.into_iter().flatten().collect::<Vec<_>>().join(": ");
            TargetHealth {
                target: format!("{id}{port}"),
                state: health.and_then(|h| h.state()).map_or("unknown", |state| state.as_str()).to_owned(),
                reason: (!reason.is_empty()).then_some(reason),
            }
        }).collect())
    }
}

fn listener(listener: &Listener) -> Option<Observed> {
    let arn = listener.listener_arn()?.to_owned();
    Some(Observed { arn, terminal: terminal(listener.default_actions())?, conditions: None })
}

fn rule(rule: &Rule) -> Option<Observed> {
    let arn = rule.rule_arn()?.to_owned();
    let conditions = Some(conditions(rule.conditions()));
    Some(Observed { arn, terminal: terminal(rule.actions())?, conditions })
}

/// The action that ends the list; those before it authenticate.
fn is_terminal(action: &Action) -> bool {
    matches!(
        action.r#type(),
        Some(ActionTypeEnum::Forward | ActionTypeEnum::FixedResponse | ActionTypeEnum::Redirect)
    )
}

fn terminal(actions: &[Action]) -> Option<Terminal> {
    let action = actions.iter().find(|action| is_terminal(action))?;
    match action.r#type()? {
        ActionTypeEnum::Forward => {
            let config = action.forward_config();
            let group = |tuple: &TargetGroupTuple| {
                // A group without a weight takes everything that is not weighed: alone, that is all.
                let weight = tuple.weight().and_then(|weight| u32::try_from(weight).ok()).unwrap_or(1);
                Some((tuple.target_group_arn()?.to_owned(), weight))
            };
            let mut groups: Vec<_> = config.map(|c| c.target_groups()).unwrap_or_default().iter().filter_map(group).collect();
            if let ([], Some(arn)) = (groups.as_slice(), action.target_group_arn()) {
                groups.push((arn.to_owned(), 1));
            }
            let stickiness = config.and_then(|config| config.target_group_stickiness_config()).map(|config| Stickiness {
                enabled: config.enabled().unwrap_or_default(),
                duration_seconds: config.duration_seconds(),
            });
            Some(Terminal::Forward(Forward { groups, stickiness }))
        }
        ActionTypeEnum::FixedResponse => {
            let config = action.fixed_response_config()?;
            Some(Terminal::FixedResponse {
                status: config.status_code().unwrap_or_default().to_owned(),
                content_type: config.content_type().map(str::to_owned),
                body: config.message_body().map(str::to_owned),
            })
        }
        _ => {
            let config = action.redirect_config()?;
            Some(Terminal::Redirect(Redirect {
                status: config.status_code().map(|code| code.as_str().to_owned()).unwrap_or_default(),
                protocol: config.protocol().map(str::to_owned),
                port: config.port().map(str::to_owned),
                host: config.host().map(str::to_owned),
                path: config.path().map(str::to_owned),
                query: config.query().map(str::to_owned),
            }))
        }
    }
}

/// The list to write back: everything as it was, the last action replaced.
fn with_terminal(actions: &[Action], terminal: &Terminal) -> Vec<Action> {
    let write = |current: &Action| {
        if !is_terminal(current) {
            return keep_secret(current.clone());
        }
        let mut replaced = action(terminal);
        replaced.order = current.order();
        replaced
    };
    actions.iter().map(write).collect()
}

/// AWS never tells an OIDC client's secret; without this mark the call would ask for it.
fn keep_secret(mut action: Action) -> Action {
    action.authenticate_oidc_config = action.authenticate_oidc_config.map(|config| {
        AuthenticateOidcActionConfig::builder()
            .set_issuer(config.issuer)
            .set_authorization_endpoint(config.authorization_endpoint)
            .set_token_endpoint(config.token_endpoint)
            .set_user_info_endpoint(config.user_info_endpoint)
            .set_client_id(config.client_id)
            .set_session_cookie_name(config.session_cookie_name)
            .set_scope(config.scope)
            .set_session_timeout(config.session_timeout)
            .set_authentication_request_extra_params(config.authentication_request_extra_params)
            .set_on_unauthenticated_request(config.on_unauthenticated_request)
            .use_existing_client_secret(true)
            .build()
    });
    action
}

fn action(terminal: &Terminal) -> Action {
    match terminal {
        Terminal::Forward(forward) => {
            let group = |(arn, weight): &(String, u32)| {
                TargetGroupTuple::builder().target_group_arn(arn).weight(i32::try_from(*weight).unwrap_or(999)).build()
            };
            let stickiness = forward.stickiness.as_ref().map(|stickiness| {
                TargetGroupStickinessConfig::builder()
                    .enabled(stickiness.enabled)
                    .set_duration_seconds(stickiness.duration_seconds)
                    .build()
            });
            let config = ForwardActionConfig::builder()
                .set_target_groups(Some(forward.groups.iter().map(group).collect()))
                .set_target_group_stickiness_config(stickiness);
            Action::builder().r#type(ActionTypeEnum::Forward).forward_config(config.build()).build()
        }
        Terminal::FixedResponse { status, content_type, body } => {
            let config = FixedResponseActionConfig::builder()
                .status_code(status)
                .set_content_type(content_type.clone())
                .set_message_body(body.clone());
            Action::builder().r#type(ActionTypeEnum::FixedResponse).fixed_response_config(config.build()).build()
        }
        Terminal::Redirect(redirect) => {
            let config = RedirectActionConfig::builder()
                .status_code(RedirectActionStatusCodeEnum::from(redirect.status.as_str()))
                .set_protocol(redirect.protocol.clone())
                .set_port(redirect.port.clone())
                .set_host(redirect.host.clone())
                .set_path(redirect.path.clone())
                .set_query(redirect.query.clone());
            Action::builder().r#type(ActionTypeEnum::Redirect).redirect_config(config.build()).build()
        }
    }
}

fn conditions(conditions: &[RuleCondition]) -> Conditions {
    let mut known = Conditions::default();
    for condition in conditions {
        // Old rules carry their values beside the config; then the field's name tells what they are.
        let plain = || condition.values().to_vec();
        match condition.field().unwrap_or_default() {
            "host-header" => {
                known.host_headers = condition.host_header_config().map_or_else(plain, |c| c.values().to_vec());
            }
            "path-pattern" => {
                known.path_patterns = condition.path_pattern_config().map_or_else(plain, |c| c.values().to_vec());
            }
            "http-request-method" => {
                known.http_request_methods =
                    condition.http_request_method_config().map(|c| c.values().to_vec()).unwrap_or_default();
            }
            "source-ip" => {
                known.source_ips = condition.source_ip_config().map(|c| c.values().to_vec()).unwrap_or_default();
            }
            "http-header" => {
                if let Some(config) = condition.http_header_config() {
                    let name = config.http_header_name().unwrap_or_default().to_owned();
                    known.http_headers.insert(name, config.values().to_vec());
                }
            }
            "query-string" => {
                let config = condition.query_string_config();
                for pair in config.map(|config| config.values()).unwrap_or_default() {
                    let (key, value) = (pair.key().unwrap_or_default(), pair.value().unwrap_or_default());
                    known.query_strings.insert(key.to_owned(), value.to_owned());
                }
            }
            _ => {}
        }
    }
    known
}

fn rule_conditions(conditions: &Conditions) -> Vec<RuleCondition> {
    let mut list = Vec::new();
    let new = |field: &str| RuleCondition::builder().field(field);
    let some = |values: &Vec<String>| (!values.is_empty()).then(|| values.clone());
    if let Some(values) = some(&conditions.host_headers) {
        let config = HostHeaderConditionConfig::builder().set_values(Some(values)).build();
        list.push(new("host-header").host_header_config(config).build());
    }
    if let Some(values) = some(&conditions.path_patterns) {
        let config = PathPatternConditionConfig::builder().set_values(Some(values)).build();
        list.push(new("path-pattern").path_pattern_config(config).build());
    }
    if let Some(values) = some(&conditions.http_request_methods) {
        let config = HttpRequestMethodConditionConfig::builder().set_values(Some(values)).build();
        list.push(new("http-request-method").http_request_method_config(config).build());
    }
    if let Some(values) = some(&conditions.source_ips) {
        let config = SourceIpConditionConfig::builder().set_values(Some(values)).build();
        list.push(new("source-ip").source_ip_config(config).build());
    }
    for (name, values) in &conditions.http_headers {
        let config = HttpHeaderConditionConfig::builder().http_header_name(name).set_values(Some(values.clone())).build();
        list.push(new("http-header").http_header_config(config).build());
    }
    for (key, value) in &conditions.query_strings {
        let pair = QueryStringKeyValuePair::builder().key(key).value(value).build();
        let config = QueryStringConditionConfig::builder().values(pair).build();
        list.push(new("query-string").query_string_config(config).build());
    }
    list
}
