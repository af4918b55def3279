//! The XML of moto's Describe answers, as far as the nodes need it.

use serde::Deserialize;

/// An AWS list: `<X><member>…</member></X>`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Members<T> {
    #[serde(rename = "member", default = "Vec::new")]
    pub member: Vec<T>,
}

impl<T> Default for Members<T> {
    fn default() -> Self {
        Self { member: Vec::new() }
    }
}

macro_rules! response {
    ($(#[$doc:meta])* $response:ident, $result_tag:literal, $result:ident, $list_tag:literal, $item:ty) => {
        $(#[$doc])*
        #[derive(Debug, Deserialize)]
        pub(crate) struct $response {
            #[serde(rename = $result_tag)]
            pub result: $result,
        }
        #[derive(Debug, Deserialize)]
        pub(crate) struct $result {
            #[serde(rename = $list_tag, default)]
            pub list: Members<$item>,
            #[serde(rename = "NextMarker")]
            pub next_marker: Option<String>,
        }
        impl From<$response> for Page<$item> {
            fn from(response: $response) -> Self {
                let next = response.result.next_marker.filter(|marker| !marker.is_empty());
                Page { items: response.result.list.member, next }
            }
        }
    };
}

/// One page of a listing.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

response!(
    /// `DescribeLoadBalancers`.
    LoadBalancers, "DescribeLoadBalancersResult", LoadBalancersResult, "LoadBalancers", LoadBalancer
);
response!(
    /// `DescribeListeners`.
    Listeners, "DescribeListenersResult", ListenersResult, "Listeners", Listener
);
response!(
    /// `DescribeRules`.
    Rules, "DescribeRulesResult", RulesResult, "Rules", Rule
);
response!(
    /// `DescribeTargetGroups`.
    TargetGroups, "DescribeTargetGroupsResult", TargetGroupsResult, "TargetGroups", TargetGroup
);
response!(
    /// `DescribeTargetHealth`: moto's own, for the list of registered targets.
    TargetHealth, "DescribeTargetHealthResult", TargetHealthResult, "TargetHealthDescriptions", TargetDescription
);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct LoadBalancer {
    pub load_balancer_arn: String,
    #[serde(default)]
    pub load_balancer_name: String,
    #[serde(default)]
    pub created_time: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Listener {
    pub listener_arn: String,
    pub port: Option<String>,
    #[serde(default)]
    pub protocol: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Rule {
    #[serde(default)]
    pub priority: String,
    #[serde(default)]
    pub conditions: Members<Condition>,
    #[serde(default)]
    pub actions: Members<Action>,
    #[serde(default)]
    pub transforms: Members<Transform>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Condition {
    pub field: String,
    pub values: Members<String>,
    pub host_header_config: Option<Values>,
    pub path_pattern_config: Option<Values>,
    pub http_header_config: Option<Values>,
    pub http_request_method_config: Option<Values>,
    pub source_ip_config: Option<Values>,
    pub query_string_config: Option<QueryString>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Values {
    pub http_header_name: Option<String>,
    pub values: Members<String>,
    pub regex_values: Members<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Transform {
    pub host_header_rewrite_config: Option<Rewrites>,
    pub url_rewrite_config: Option<Rewrites>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Rewrites {
    pub rewrites: Members<Rewrite>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Rewrite {
    pub regex: String,
    pub replace: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct QueryString {
    pub values: Members<KeyValue>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct KeyValue {
    pub key: Option<String>,
    pub value: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Action {
    #[serde(rename = "Type")]
    pub kind: String,
    pub order: Option<String>,
    pub target_group_arn: Option<String>,
    pub forward_config: Option<ForwardConfig>,
    pub fixed_response_config: Option<FixedResponseConfig>,
    pub redirect_config: Option<RedirectConfig>,
    pub authenticate_oidc_config: Option<Authentication>,
    pub authenticate_cognito_config: Option<Authentication>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Authentication {
    pub authorization_endpoint: Option<String>,
    pub user_pool_domain: Option<String>,
    pub session_cookie_name: Option<String>,
    pub on_unauthenticated_request: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ForwardConfig {
    pub target_groups: Members<GroupWeight>,
    pub target_group_stickiness_config: Option<Stickiness>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct GroupWeight {
    pub target_group_arn: String,
    pub weight: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Stickiness {
    pub enabled: Option<String>,
    pub duration_seconds: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct FixedResponseConfig {
    pub status_code: Option<String>,
    pub content_type: Option<String>,
    pub message_body: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct RedirectConfig {
    pub protocol: Option<String>,
    pub host: Option<String>,
    pub port: Option<String>,
    pub path: Option<String>,
    pub query: Option<String>,
    pub status_code: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct TargetGroup {
    pub target_group_arn: String,
    pub port: Option<String>,
    pub health_check_protocol: Option<String>,
    pub health_check_port: Option<String>,
    pub health_check_enabled: Option<String>,
    pub health_check_interval_seconds: Option<String>,
    pub health_check_timeout_seconds: Option<String>,
    pub healthy_threshold_count: Option<String>,
    pub unhealthy_threshold_count: Option<String>,
    pub health_check_path: Option<String>,
    pub matcher: Option<Matcher>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Matcher {
    pub http_code: Option<String>,
    pub grpc_code: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct TargetDescription {
    pub target: Target,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Target {
    pub id: String,
    pub port: Option<String>,
}
