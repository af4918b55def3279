//! Action lists: reading the one that ends a list, and replacing it without touching what comes before.

use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, FixedResponseActionConfig, ForwardActionConfig, JwtValidationActionAdditionalClaim,
    RedirectActionConfig, RedirectActionStatusCodeEnum, TargetGroupStickinessConfig, TargetGroupTuple,
};

use serde_json::{Value, json};

use crate::rollout::{Ahead, Forward, Redirect, Stickiness, Terminal};

/// The weight of a group that an action names without one.
const DEFAULT_WEIGHT: u32 = 1;

fn is_terminal(action: &Action) -> bool {
    matches!(action.r#type(), Some(ActionTypeEnum::Forward | ActionTypeEnum::FixedResponse | ActionTypeEnum::Redirect))
}

/// How an action finds out who is asking, in AWS's word for it; none if it doesn't.
pub(super) fn authentication(action: &Action) -> Option<String> {
    let kind = action.r#type()?.as_str();
    (kind.starts_with("authenticate-") || kind == "jwt-validation").then(|| kind.to_owned())
}

/// Those that come before the one that ends the list.
pub(super) fn before(actions: &[Action]) -> impl Iterator<Item = &Action> {
    actions.iter().filter(|action| !is_terminal(action))
}

/// A list of this, where there is something, and of what ends it.
pub(super) fn of(before: Option<Action>, terminal: &Terminal) -> Vec<Action> {
    // Where there are several, AWS wants their order.
    let order = before.as_ref().and_then(|action| action.order()).map(|order| order + 1);
    before.into_iter().chain([end(terminal, order)]).collect()
}

/// The action that ends the list; none if there is none, which AWS doesn't allow.
pub(super) fn terminal(actions: &[Action]) -> Option<Terminal> {
    let action = actions.iter().rev().find(|action| is_terminal(action))?;
    Some(match action.r#type()? {
        ActionTypeEnum::Forward => Terminal::Forward(forward(action)),
        ActionTypeEnum::FixedResponse => {
            let config = action.fixed_response_config();
            Terminal::FixedResponse {
                status: config.and_then(|config| config.status_code()).unwrap_or_default().to_owned(),
                content_type: config.and_then(|config| config.content_type()).map(str::to_owned),
                body: config.and_then(|config| config.message_body()).map(str::to_owned),
            }
        }
        _ => {
            let config = action.redirect_config();
            let text = |value: Option<&str>| value.map(str::to_owned);
            Terminal::Redirect(config.map_or_else(Redirect::default, |config| Redirect {
                status: config.status_code().map(|code| code.as_str().to_owned()).unwrap_or_default(),
                protocol: text(config.protocol()),
                port: text(config.port()),
                host: text(config.host()),
                path: text(config.path()),
                query: text(config.query()),
            }))
        }
    })
}

fn forward(action: &Action) -> Forward {
    let config = action.forward_config();
    let group = |group: &TargetGroupTuple| {
        let weight = group.weight().map_or(DEFAULT_WEIGHT, |weight| u32::try_from(weight).unwrap_or_default());
        Some((group.target_group_arn()?.to_owned(), weight))
    };
    let mut groups: Vec<_> =
        config.map(|config| config.target_groups()).unwrap_or_default().iter().filter_map(group).collect();
    // The short form: one group, named by the action itself.
    if groups.is_empty() {
        groups.extend(action.target_group_arn().map(|arn| (arn.to_owned(), DEFAULT_WEIGHT)));
    }
    let stickiness = config.and_then(|config| config.target_group_stickiness_config()).map(|stickiness| Stickiness {
        enabled: stickiness.enabled().unwrap_or_default(),
        duration_seconds: stickiness.duration_seconds(),
    });
    Forward { groups, stickiness }
}

/// What comes before the action that ends the list, as the AWS CLI takes it.
pub(super) fn ahead(actions: &[Action]) -> Ahead {
    let before: Vec<&Action> = before(actions).collect();
    let written: Vec<Value> = before.iter().filter_map(|action| written(action)).collect();
    Ahead { is_whole: written.len() == before.len(), actions: written }
}

/// An action in AWS's own shape, without what is not said.
fn written(action: &Action) -> Option<Value> {
    let kind = action.r#type()?;
    let mut value = json!({ "Type": kind.as_str(), "Order": action.order() });
    match kind {
        ActionTypeEnum::AuthenticateOidc => {
            let config = action.authenticate_oidc_config()?;
            // AWS never tells the secret, and keeps it if it is told to.
            value["AuthenticateOidcConfig"] = json!({
                "Issuer": config.issuer(),
                "AuthorizationEndpoint": config.authorization_endpoint(),
                "TokenEndpoint": config.token_endpoint(),
                "UserInfoEndpoint": config.user_info_endpoint(),
                "ClientId": config.client_id(),
                "SessionCookieName": config.session_cookie_name(),
                "Scope": config.scope(),
                "SessionTimeout": config.session_timeout(),
                "AuthenticationRequestExtraParams": config.authentication_request_extra_params(),
                "OnUnauthenticatedRequest": config.on_unauthenticated_request().map(|what| what.as_str()),
                "UseExistingClientSecret": true,
            });
        }
        ActionTypeEnum::AuthenticateCognito => {
            let config = action.authenticate_cognito_config()?;
            value["AuthenticateCognitoConfig"] = json!({
                "UserPoolArn": config.user_pool_arn(),
                "UserPoolClientId": config.user_pool_client_id(),
                "UserPoolDomain": config.user_pool_domain(),
                "SessionCookieName": config.session_cookie_name(),
                "Scope": config.scope(),
                "SessionTimeout": config.session_timeout(),
                "AuthenticationRequestExtraParams": config.authentication_request_extra_params(),
                "OnUnauthenticatedRequest": config.on_unauthenticated_request().map(|what| what.as_str()),
            });
        }
        ActionTypeEnum::JwtValidation => {
            let config = action.jwt_validation_config()?;
            let claim = |claim: &JwtValidationActionAdditionalClaim| {
                let format = claim.format().map(|format| format.as_str());
                json!({ "Format": format, "Name": claim.name(), "Values": claim.values() })
            };
            let claims: Vec<Value> = config.additional_claims().iter().map(claim).collect();
            value["JwtValidationConfig"] = json!({
                "JwksEndpoint": config.jwks_endpoint(),
                "Issuer": config.issuer(),
                "AdditionalClaims": (!claims.is_empty()).then_some(claims),
            });
        }
        _ => return None,
    }
    Some(value)
}

/// The list with another end. What comes before stays to the letter, except that AWS never returns a client secret and
/// wants to be told to keep the one it has.
pub(super) fn with_terminal(actions: Vec<Action>, terminal: &Terminal) -> Vec<Action> {
    let order = actions.iter().rev().find(|action| is_terminal(action)).and_then(|action| action.order());
    let mut list: Vec<Action> = actions.into_iter().filter(|action| !is_terminal(action)).map(keep).collect();
    list.push(end(terminal, order));
    list
}

fn keep(mut action: Action) -> Action {
    if let Some(oidc) = &mut action.authenticate_oidc_config {
        oidc.client_secret = None;
        oidc.use_existing_client_secret = Some(true);
    }
    action
}

fn end(terminal: &Terminal, order: Option<i32>) -> Action {
    let action = |kind| Action::builder().r#type(kind).set_order(order);
    match terminal {
        Terminal::Forward(forward) => action(ActionTypeEnum::Forward).forward_config(forward_config(forward)).build(),
        Terminal::FixedResponse { status, content_type, body } => {
            let config = FixedResponseActionConfig::builder()
                .status_code(status)
                .set_content_type(content_type.clone())
                .set_message_body(body.clone());
            action(ActionTypeEnum::FixedResponse).fixed_response_config(config.build()).build()
        }
        Terminal::Redirect(redirect) => {
            let config = RedirectActionConfig::builder()
                .status_code(RedirectActionStatusCodeEnum::from(redirect.status.as_str()))
                .set_protocol(redirect.protocol.clone())
                .set_port(redirect.port.clone())
                .set_host(redirect.host.clone())
                .set_path(redirect.path.clone())
                .set_query(redirect.query.clone());
            action(ActionTypeEnum::Redirect).redirect_config(config.build()).build()
        }
    }
}

fn forward_config(forward: &Forward) -> ForwardActionConfig {
    let group = |(arn, weight): &(String, u32)| {
        TargetGroupTuple::builder().target_group_arn(arn).weight(i32::try_from(*weight).unwrap_or(i32::MAX)).build()
    };
    let stickiness = forward.stickiness.as_ref().map(|stickiness| {
        TargetGroupStickinessConfig::builder()
            .enabled(stickiness.enabled)
            .set_duration_seconds(stickiness.duration_seconds)
            .build()
    });
    ForwardActionConfig::builder()
        .set_target_groups(Some(forward.groups.iter().map(group).collect()))
        .set_target_group_stickiness_config(stickiness)
        .build()
}
