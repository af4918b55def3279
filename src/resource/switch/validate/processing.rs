//! What a rule that the switch makes does before it forwards: what AWS would refuse only when traffic is to move.

use crate::arn;
use crate::tf_provider::{Diagnostics, Path, Value};

/// The arguments that tell how it is found out who asks.
const AUTHENTICATION: [&str; 3] = ["authenticate_oidc", "authenticate_cognito", "jwt_validation"];
/// Those that rewrite.
const TRANSFORMS: [&str; 2] = ["host_header_rewrite", "url_rewrite"];
/// AWS's limit for query parameters of a request to sign in, for claims of a token, and for values of a claim.
const MOST: usize = 10;

fn written(route: &Value) -> impl Iterator<Item = &'static str> {
    AUTHENTICATION.into_iter().chain(TRANSFORMS).filter(|name| !route.get(name).is_null())
}

/// Only a rule that the switch makes is told what to do before it forwards: what others do there stays as it is.
pub(super) fn none(route: &Value, path: &Path, diagnostics: &mut Diagnostics) {
    for name in written(route) {
        let detail = format!(
            "{path}: {name} belongs to a rule that the switch makes (listener_arn, priority and conditions). What the default action of a listener and rules of others do before they forward stays as it is."
        );
        diagnostics.error_at(path.attr(name), "Conflicting arguments", detail);
    }
}

pub(super) fn validate(route: &Value, path: &Path, diagnostics: &mut Diagnostics) {
    if route.get("listener_arn").as_str().is_some_and(arn::is_network) {
        for name in written(route) {
            let detail = format!("{path}: rules of Network Load Balancers only forward, and {name} is for requests.");
            diagnostics.error_at(path.attr(name), "A Network Load Balancer knows no requests", detail);
        }
    }
    let ways: Vec<&str> = AUTHENTICATION.into_iter().filter(|name| !route.get(name).is_null()).collect();
    if let [first, second, ..] = ways.as_slice() {
        let detail =
            format!("{path}: set {first} or {second}, not both. AWS takes one way to find out who asks in a rule.");
        diagnostics.error_at(path.attr(second), "Conflicting arguments", detail);
    }
    for name in ["authenticate_oidc", "authenticate_cognito"] {
        let extra = "authentication_request_extra_params";
        let count = route.get(name).get(extra).as_map().map_or(0, |extra| extra.len());
        too_many(count, &path.attr(name).attr(extra), diagnostics);
    }
    claims(route.get("jwt_validation"), &path.attr("jwt_validation"), diagnostics);
}

fn claims(jwt: &Value, path: &Path, diagnostics: &mut Diagnostics) {
    let path = path.attr("additional_claims");
    let claims = jwt.get("additional_claims").as_list().unwrap_or_default();
    too_many(claims.len(), &path, diagnostics);
    for (n, claim) in claims.iter().enumerate() {
        let path = path.index(n).attr("values");
        let values = claim.get("values").as_list().unwrap_or_default();
        too_many(values.len(), &path, diagnostics);
        if claim.get("format").as_str() != Some("space-separated-values") {
            continue;
        }
        for (n, value) in values.iter().enumerate() {
            let path = path.index(n);
            if value.as_str().is_some_and(|value| value.contains(' ')) {
                let detail =
                    format!("{path}: values that stand between spaces have none in them. Write each as an element.");
                diagnostics.error_at(path, "A claim's value has a space", detail);
            }
        }
    }
}

fn too_many(count: usize, path: &Path, diagnostics: &mut Diagnostics) {
    if count > MOST {
        let detail = format!("{path}: there are {count}, and AWS allows {MOST}.");
        diagnostics.error_at(path.clone(), "Too many elements", detail);
    }
}
