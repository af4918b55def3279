//! Rule conditions, from AWS's form and back.

use aws_sdk_elasticloadbalancingv2::types::{
    HostHeaderConditionConfig, HttpHeaderConditionConfig, HttpRequestMethodConditionConfig, PathPatternConditionConfig,
    QueryStringConditionConfig, QueryStringKeyValuePair, RuleCondition, SourceIpAddressTypeEnum,
    SourceIpConditionConfig,
};

use crate::rollout::{Conditions, HeaderCondition, QueryCondition, QueryValue};

/// The conditions of a rule; none if it has some of a kind that the switch doesn't know.
pub(super) fn from_aws(conditions: &[RuleCondition]) -> Option<Conditions> {
    let mut out = Conditions::default();
    for condition in conditions {
        // AWS tells values at the field's own place, at the condition itself, or at both.
        let own = |config: Option<&[String]>, plain: &[String]| match config {
            Some(values) if !values.is_empty() => values.to_vec(),
            _ => plain.to_vec(),
        };
        let values = |config: Option<&[String]>| own(config, condition.values());
        let regexes = |config: Option<&[String]>| own(config, condition.regex_values());
        match condition.field()? {
            "host-header" => {
                let config = condition.host_header_config();
                out.host_headers = values(config.map(|config| config.values()));
                out.host_header_regex_values = regexes(config.map(|config| config.regex_values()));
            }
            "path-pattern" => {
                let config = condition.path_pattern_config();
                out.path_patterns = values(config.map(|config| config.values()));
                out.path_pattern_regex_values = regexes(config.map(|config| config.regex_values()));
            }
            "http-request-method" => {
                out.http_request_methods = values(condition.http_request_method_config().map(|config| config.values()));
            }
            "source-ip" => {
                let config = condition.source_ip_config();
                out.source_ips = values(config.map(|config| config.values()));
                let kind = config.and_then(|config| config.ip_address_type());
                out.source_ip_address_type = kind.map(|kind| kind.as_str().to_owned());
            }
            "http-header" => {
                let config = condition.http_header_config()?;
                out.http_header_conditions.push(HeaderCondition {
                    name: config.http_header_name()?.to_owned(),
                    values: config.values().to_vec(),
                    regex_values: regexes(Some(config.regex_values())),
                });
            }
            "query-string" => {
                let pair = |pair: &QueryStringKeyValuePair| {
                    let key = pair.key().filter(|key| !key.is_empty()).map(str::to_owned);
                    Some(QueryValue { key, value: pair.value()?.to_owned() })
                };
                let values = condition.query_string_config()?.values().iter().map(pair).collect::<Option<_>>()?;
                out.query_string_conditions.push(QueryCondition { values });
            }
            _ => return None,
        }
    }
    Some(out.normal())
}

fn header(name: &str, values: &[String], regexes: &[String]) -> RuleCondition {
    let config = HttpHeaderConditionConfig::builder().http_header_name(name);
    let config = config.set_values(some(values)).set_regex_values(some(regexes));
    RuleCondition::builder().field("http-header").http_header_config(config.build()).build()
}

fn query(values: &[QueryValue]) -> RuleCondition {
    let pair = |one: &QueryValue| QueryStringKeyValuePair::builder().set_key(one.key.clone()).value(&one.value).build();
    let config = QueryStringConditionConfig::builder().set_values(Some(values.iter().map(pair).collect()));
    RuleCondition::builder().field("query-string").query_string_config(config.build()).build()
}

fn some(values: &[String]) -> Option<Vec<String>> {
    (!values.is_empty()).then(|| values.to_vec())
}

/// One condition for each kind, header and query key: a request must match them all.
pub(super) fn to_aws(conditions: &Conditions) -> Vec<RuleCondition> {
    let mut out = Vec::new();
    let condition = |field: &str| RuleCondition::builder().field(field);
    if !conditions.host_headers.is_empty() || !conditions.host_header_regex_values.is_empty() {
        let config = HostHeaderConditionConfig::builder().set_values(some(&conditions.host_headers));
        let config = config.set_regex_values(some(&conditions.host_header_regex_values));
        out.push(condition("host-header").host_header_config(config.build()).build());
    }
    if !conditions.path_patterns.is_empty() || !conditions.path_pattern_regex_values.is_empty() {
        let config = PathPatternConditionConfig::builder().set_values(some(&conditions.path_patterns));
        let config = config.set_regex_values(some(&conditions.path_pattern_regex_values));
        out.push(condition("path-pattern").path_pattern_config(config.build()).build());
    }
    if !conditions.http_request_methods.is_empty() {
        let config = HttpRequestMethodConditionConfig::builder().set_values(some(&conditions.http_request_methods));
        out.push(condition("http-request-method").http_request_method_config(config.build()).build());
    }
    if !conditions.source_ips.is_empty() || conditions.source_ip_address_type.is_some() {
        let kind = conditions.source_ip_address_type.as_deref().map(SourceIpAddressTypeEnum::from);
        let config = SourceIpConditionConfig::builder().set_values(some(&conditions.source_ips));
        out.push(condition("source-ip").source_ip_config(config.set_ip_address_type(kind).build()).build());
    }
    out.extend(conditions.http_headers.iter().map(|(name, values)| header(name, values, &[])));
    let headers = conditions.http_header_conditions.iter();
    out.extend(headers.map(|one| header(&one.name, &one.values, &one.regex_values)));
    let queries = conditions.query_strings.iter();
    out.extend(queries.map(|(key, value)| query(&[QueryValue { key: Some(key.clone()), value: value.clone() }])));
    out.extend(conditions.query_string_conditions.iter().map(|one| query(&one.values)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn whatever_can_be_written_is_read_back_as_it_was() {
        let value =
            |key: Option<&str>, value: &str| QueryValue { key: key.map(str::to_owned), value: value.to_owned() };
        let header = |name: &str, values: &[&str], regexes: &[&str]| HeaderCondition {
            name: name.to_owned(),
            values: texts(values),
            regex_values: texts(regexes),
        };
        let all = Conditions {
            host_headers: texts(&["b.example.com", "a.example.com"]),
            host_header_regex_values: texts(&["^v[0-9]+[.]"]),
            path_patterns: texts(&["/api/*"]),
            path_pattern_regex_values: texts(&["^/v[12]/"]),
            http_request_methods: texts(&["GET"]),
            source_ips: texts(&["10.0.0.0/8"]),
            source_ip_address_type: None,
            http_headers: [("X-Cohort".to_owned(), texts(&["beta"]))].into(),
            http_header_conditions: vec![
                header("X-Cohort", &["*staff*"], &[]),
                header("User-Agent", &[], &["(?i)mobile"]),
                header("X-Plain", &["written", "apart"], &[]),
            ],
            query_strings: [("version".to_owned(), "2".to_owned())].into(),
            query_string_conditions: vec![
                QueryCondition { values: vec![value(None, "beta"), value(Some("preview"), "1")] },
                QueryCondition { values: vec![value(Some("other"), "x")] },
            ],
        };
        let seen = from_aws(&to_aws(&all)).unwrap();
        assert_eq!(seen, all.normal());
        // What a map can hold is the same in either way of writing it.
        assert_eq!(seen.http_headers["X-Plain"], texts(&["apart", "written"]));
        assert_eq!((seen.query_strings["other"].as_str(), seen.query_string_conditions.len()), ("x", 1));
        assert_eq!(seen.http_header_conditions.len(), 2);
    }

    #[test]
    fn the_order_in_which_aws_tells_conditions_means_nothing() {
        let header = |value: &str| HeaderCondition {
            name: "X-Cohort".to_owned(),
            values: texts(&[value]),
            regex_values: Vec::new(),
        };
        let query = |value: &str| {
            let value = QueryValue { key: Some("version".to_owned()), value: value.to_owned() };
            QueryCondition { values: vec![value] }
        };
        let both = Conditions {
            http_header_conditions: vec![header("staff"), header("beta")],
            query_string_conditions: vec![query("2"), query("1")],
            ..Conditions::default()
        };
        let mut told = to_aws(&both);
        told.reverse();
        assert_eq!(from_aws(&told).unwrap(), both.normal());
    }

    #[test]
    fn a_rule_of_a_network_load_balancer_is_read_back() {
        let v6 = Conditions { source_ip_address_type: Some("ipv6".to_owned()), ..Conditions::default() };
        assert_eq!(from_aws(&to_aws(&v6)).unwrap(), v6);
    }
}
