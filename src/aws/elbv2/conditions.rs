//! Rule conditions, from AWS's form and back.

use aws_sdk_elasticloadbalancingv2::types::{
    HostHeaderConditionConfig, HttpHeaderConditionConfig, HttpRequestMethodConditionConfig, PathPatternConditionConfig,
    QueryStringConditionConfig, QueryStringKeyValuePair, RuleCondition, SourceIpConditionConfig,
};

use crate::rollout::Conditions;

/// The conditions of a rule; none if it has some of a kind that the switch doesn't know.
pub(super) fn from_aws(conditions: &[RuleCondition]) -> Option<Conditions> {
    let mut out = Conditions::default();
    for condition in conditions {
        let plain = condition.values().to_vec();
        let values = |config: Option<&[String]>| match config {
            Some(values) if !values.is_empty() => values.to_vec(),
            _ => plain.clone(),
        };
        match condition.field()? {
            "host-header" => out.host_headers = values(condition.host_header_config().map(|config| config.values())),
            "path-pattern" => out.path_patterns = values(condition.path_pattern_config().map(|config| config.values())),
            "http-request-method" => {
                out.http_request_methods = values(condition.http_request_method_config().map(|config| config.values()));
            }
            "source-ip" => out.source_ips = values(condition.source_ip_config().map(|config| config.values())),
            "http-header" => {
                let config = condition.http_header_config()?;
                out.http_headers.insert(config.http_header_name()?.to_owned(), config.values().to_vec());
            }
            "query-string" => match condition.query_string_config()?.values() {
                [pair] => drop(out.query_strings.insert(pair.key()?.to_owned(), pair.value()?.to_owned())),
                _ => return None,
            },
            _ => return None,
        }
    }
    Some(out.sorted())
}

/// One condition for each kind, header and query key: a request must match them all.
pub(super) fn to_aws(conditions: &Conditions) -> Vec<RuleCondition> {
    let mut out = Vec::new();
    let condition = |field: &str| RuleCondition::builder().field(field);
    if !conditions.host_headers.is_empty() {
        let config = HostHeaderConditionConfig::builder().set_values(Some(conditions.host_headers.clone()));
        out.push(condition("host-header").host_header_config(config.build()).build());
    }
    if !conditions.path_patterns.is_empty() {
        let config = PathPatternConditionConfig::builder().set_values(Some(conditions.path_patterns.clone()));
        out.push(condition("path-pattern").path_pattern_config(config.build()).build());
    }
    if !conditions.http_request_methods.is_empty() {
        let values = Some(conditions.http_request_methods.clone());
        let config = HttpRequestMethodConditionConfig::builder().set_values(values);
        out.push(condition("http-request-method").http_request_method_config(config.build()).build());
    }
    if !conditions.source_ips.is_empty() {
        let config = SourceIpConditionConfig::builder().set_values(Some(conditions.source_ips.clone()));
        out.push(condition("source-ip").source_ip_config(config.build()).build());
    }
    for (name, values) in &conditions.http_headers {
        let config = HttpHeaderConditionConfig::builder().http_header_name(name).set_values(Some(values.clone()));
        out.push(condition("http-header").http_header_config(config.build()).build());
    }
    for (key, value) in &conditions.query_strings {
        let pair = QueryStringKeyValuePair::builder().key(key).value(value).build();
        let config = QueryStringConditionConfig::builder().values(pair);
        out.push(condition("query-string").query_string_config(config.build()).build());
    }
    out
}
