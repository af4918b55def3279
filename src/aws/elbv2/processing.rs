//! What a rule does with a request before it forwards, from AWS's form and back.

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, AuthenticateCognitoActionConditionalBehaviorEnum as CognitoBehavior,
    AuthenticateCognitoActionConfig, AuthenticateOidcActionConditionalBehaviorEnum as OidcBehavior,
    AuthenticateOidcActionConfig, HostHeaderRewriteConfig, JwtValidationActionAdditionalClaim,
    JwtValidationActionAdditionalClaimFormatEnum as Format, JwtValidationActionConfig, RewriteConfig, RuleTransform,
    TransformTypeEnum, UrlRewriteConfig,
};

use super::actions;
use crate::rollout::{
    Authentication, Claim, ClaimFormat, ClientSecret, Cognito, JwtValidation, Oidc, Processing, Rewrite, Session,
    Unauthenticated,
};

/// The place of an action that comes before another one.
const FIRST: i32 = 1;

/// What actions and transforms make of a request before it is forwarded; none if some of it is of a kind that the switch doesn't know.
pub(super) fn from_aws(actions: &[Action], transforms: &[RuleTransform]) -> Option<Processing> {
    let mut found = Processing::default();
    for action in actions::before(actions) {
        let authentication = authentication(action)?;
        if found.authentication.replace(authentication).is_some() {
            return None;
        }
    }
    for transform in transforms {
        let (place, rewrites) = match transform.r#type()? {
            TransformTypeEnum::HostHeaderRewrite => {
                (&mut found.host_header_rewrite, transform.host_header_rewrite_config()?.rewrites())
            }
            TransformTypeEnum::UrlRewrite => (&mut found.url_rewrite, transform.url_rewrite_config()?.rewrites()),
            _ => return None,
        };
        let [rewrite] = rewrites else { return None };
        let rewrite = Rewrite { regex: rewrite.regex.clone()?, replace: rewrite.replace.clone().unwrap_or_default() };
        if place.replace(rewrite).is_some() {
            return None;
        }
    }
    Some(found.normal())
}

fn authentication(action: &Action) -> Option<Authentication> {
    match action.r#type()? {
        ActionTypeEnum::AuthenticateOidc => {
            let config = action.authenticate_oidc_config()?;
            let behavior = config.on_unauthenticated_request().map(|what| what.as_str());
            Some(Authentication::Oidc(Oidc {
                issuer: config.issuer.clone()?,
                authorization_endpoint: config.authorization_endpoint.clone()?,
                token_endpoint: config.token_endpoint.clone()?,
                user_info_endpoint: config.user_info_endpoint.clone()?,
                client_id: config.client_id.clone()?,
                client_secret: ClientSecret::default(),
                session: session(
                    (config.session_cookie_name(), config.scope(), config.session_timeout()),
                    behavior,
                    config.authentication_request_extra_params(),
                )?,
            }))
        }
        ActionTypeEnum::AuthenticateCognito => {
            let config = action.authenticate_cognito_config()?;
            let behavior = config.on_unauthenticated_request().map(|what| what.as_str());
            Some(Authentication::Cognito(Cognito {
                user_pool_arn: config.user_pool_arn.clone()?,
                user_pool_client_id: config.user_pool_client_id.clone()?,
                user_pool_domain: config.user_pool_domain.clone()?,
                session: session(
                    (config.session_cookie_name(), config.scope(), config.session_timeout()),
                    behavior,
                    config.authentication_request_extra_params(),
                )?,
            }))
        }
        ActionTypeEnum::JwtValidation => {
            let config = action.jwt_validation_config()?;
            let claim = |claim: &JwtValidationActionAdditionalClaim| {
                let format = ClaimFormat::parse(claim.format()?.as_str())?;
                Some(Claim { name: claim.name.clone()?, format, values: claim.values().to_vec() })
            };
            Some(Authentication::Jwt(JwtValidation {
                issuer: config.issuer.clone()?,
                jwks_endpoint: config.jwks_endpoint.clone()?,
                additional_claims: config.additional_claims().iter().map(claim).collect::<Option<_>>()?,
            }))
        }
        _ => None,
    }
}

/// What AWS leaves out is what it does by default.
fn session(
    (cookie, scope, timeout): (Option<&str>, Option<&str>, Option<i64>),
    behavior: Option<&str>,
    extra: Option<&HashMap<String, String>>,
) -> Option<Session> {
    let default = Session::default();
    let timeout = timeout.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    Some(Session {
        session_cookie_name: cookie.map_or(default.session_cookie_name, str::to_owned),
        scope: scope.map_or(default.scope, str::to_owned),
        session_timeout: timeout.unwrap_or(default.session_timeout),
        on_unauthenticated_request: match behavior {
            Some(word) => Unauthenticated::parse(word)?,
            None => default.on_unauthenticated_request,
        },
        authentication_request_extra_params: extra.into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
    })
}

/// The action before the one that ends the list. A secret that is not known is the one that AWS has, if it has one.
pub(super) fn to_action(authentication: &Authentication) -> Action {
    let action = |kind: ActionTypeEnum| Action::builder().r#type(kind).order(FIRST);
    match authentication {
        Authentication::Oidc(oidc) => {
            action(ActionTypeEnum::AuthenticateOidc).authenticate_oidc_config(to_oidc(oidc)).build()
        }
        Authentication::Cognito(cognito) => {
            action(ActionTypeEnum::AuthenticateCognito).authenticate_cognito_config(to_cognito(cognito)).build()
        }
        Authentication::Jwt(jwt) => action(ActionTypeEnum::JwtValidation).jwt_validation_config(to_jwt(jwt)).build(),
    }
}

fn to_oidc(oidc: &Oidc) -> AuthenticateOidcActionConfig {
    let Oidc { session, client_secret, .. } = oidc;
    let secret = Some(client_secret.text.clone()).filter(|secret| !secret.is_empty());
    AuthenticateOidcActionConfig::builder()
        .issuer(&oidc.issuer)
        .authorization_endpoint(&oidc.authorization_endpoint)
        .token_endpoint(&oidc.token_endpoint)
        .user_info_endpoint(&oidc.user_info_endpoint)
        .client_id(&oidc.client_id)
        // AWS refuses to be told both.
        .set_use_existing_client_secret(secret.is_none().then_some(true))
        .set_client_secret(secret)
        .session_cookie_name(&session.session_cookie_name)
        .scope(&session.scope)
        .session_timeout(seconds(session))
        .set_authentication_request_extra_params(extra(session))
        .on_unauthenticated_request(OidcBehavior::from(session.on_unauthenticated_request.name()))
        .build()
}

fn to_cognito(cognito: &Cognito) -> AuthenticateCognitoActionConfig {
    let session = &cognito.session;
    AuthenticateCognitoActionConfig::builder()
        .user_pool_arn(&cognito.user_pool_arn)
        .user_pool_client_id(&cognito.user_pool_client_id)
        .user_pool_domain(&cognito.user_pool_domain)
        .session_cookie_name(&session.session_cookie_name)
        .scope(&session.scope)
        .session_timeout(seconds(session))
        .set_authentication_request_extra_params(extra(session))
        .on_unauthenticated_request(CognitoBehavior::from(session.on_unauthenticated_request.name()))
        .build()
}

fn seconds(session: &Session) -> i64 {
    i64::try_from(session.session_timeout.as_secs()).unwrap_or(i64::MAX)
}

fn extra(session: &Session) -> Option<HashMap<String, String>> {
    let extra = session.authentication_request_extra_params.clone();
    (!extra.is_empty()).then(|| extra.into_iter().collect())
}

fn to_jwt(jwt: &JwtValidation) -> JwtValidationActionConfig {
    let claim = |claim: &Claim| {
        JwtValidationActionAdditionalClaim::builder()
            .name(&claim.name)
            .format(Format::from(claim.format.name()))
            .set_values(Some(claim.values.clone()))
            .build()
    };
    let claims: Vec<JwtValidationActionAdditionalClaim> = jwt.additional_claims.iter().map(claim).collect();
    JwtValidationActionConfig::builder()
        .issuer(&jwt.issuer)
        .jwks_endpoint(&jwt.jwks_endpoint)
        .set_additional_claims((!claims.is_empty()).then_some(claims))
        .build()
}

/// The transforms of a rule; none where it rewrites nothing.
pub(super) fn to_transforms(processing: &Processing) -> Option<Vec<RuleTransform>> {
    let rewrites = |rewrite: &Rewrite| RewriteConfig::builder().regex(&rewrite.regex).replace(&rewrite.replace).build();
    let host = processing.host_header_rewrite.as_ref().map(|rewrite| {
        let config = HostHeaderRewriteConfig::builder().rewrites(rewrites(rewrite)).build();
        RuleTransform::builder().r#type(TransformTypeEnum::HostHeaderRewrite).host_header_rewrite_config(config).build()
    });
    let url = processing.url_rewrite.as_ref().map(|rewrite| {
        let config = UrlRewriteConfig::builder().rewrites(rewrites(rewrite)).build();
        RuleTransform::builder().r#type(TransformTypeEnum::UrlRewrite).url_rewrite_config(config).build()
    });
    let transforms: Vec<RuleTransform> = host.into_iter().chain(url).collect();
    (!transforms.is_empty()).then_some(transforms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session {
            session_cookie_name: "OwnCookie".to_owned(),
            scope: "openid email".to_owned(),
            session_timeout: Duration::from_secs(3600),
            on_unauthenticated_request: Unauthenticated::Deny,
            authentication_request_extra_params: [("prompt".to_owned(), "login".to_owned())].into(),
        }
    }

    fn oidc(secret: &str) -> Oidc {
        let url = |path: &str| format!("https://id.example.com/{path}");
        Oidc {
            issuer: url(""),
            authorization_endpoint: url("authorize"),
            token_endpoint: url("token"),
            user_info_endpoint: url("user"),
            client_id: "web".to_owned(),
            client_secret: ClientSecret { text: secret.to_owned() },
            session: session(),
        }
    }

    fn ways() -> [Authentication; 3] {
        let claim = |name: &str, values: &[&str]| Claim {
            name: name.to_owned(),
            format: ClaimFormat::StringArray,
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        [
            Authentication::Oidc(oidc("hush")),
            Authentication::Cognito(Cognito {
                user_pool_arn: "arn:aws:cognito-idp:eu-central-1:123456789012:userpool/eu-central-1_a".to_owned(),
                user_pool_client_id: "web".to_owned(),
                user_pool_domain: "shop".to_owned(),
                session: Session::default(),
            }),
            Authentication::Jwt(JwtValidation {
                issuer: "https://id.example.com".to_owned(),
                jwks_endpoint: "https://id.example.com/keys".to_owned(),
                additional_claims: vec![claim("scope", &["write", "read"]), claim("aud", &["shop"])],
            }),
        ]
    }

    #[test]
    fn whatever_can_be_written_is_read_back_as_it_was() {
        let rewrite = |regex: &str| Rewrite { regex: regex.to_owned(), replace: "/$1".to_owned() };
        for authentication in ways() {
            let all = Processing {
                authentication: Some(authentication.clone()),
                host_header_rewrite: Some(rewrite("^a[.](.*)$")),
                url_rewrite: Some(rewrite("^/api/(.*)$")),
            };
            let seen = from_aws(&[to_action(&authentication)], &to_transforms(&all).unwrap_or_default());
            assert_eq!(seen, Some(all.normal()));
        }
        let nothing = Processing::default();
        assert_eq!((from_aws(&[], &[]), to_transforms(&nothing)), (Some(nothing), None));
    }

    #[test]
    fn what_aws_leaves_out_is_its_default() {
        let config = AuthenticateCognitoActionConfig::builder()
            .user_pool_arn("arn")
            .user_pool_client_id("web")
            .user_pool_domain("shop");
        let action = Action::builder().r#type(ActionTypeEnum::AuthenticateCognito);
        let action = action.authenticate_cognito_config(config.build()).build();
        let seen = from_aws(&[action], &[]).unwrap().authentication;
        let Some(Authentication::Cognito(cognito)) = seen else { panic!("{seen:?}") };
        assert_eq!(cognito.session, Session::default());
    }

    #[test]
    fn a_kind_that_is_not_known_is_not_taken_for_nothing() {
        let unknown = Action::builder().r#type(ActionTypeEnum::from("inspect")).build();
        assert_eq!(from_aws(&[unknown], &[]), None);
        let transform = RuleTransform::builder().r#type(TransformTypeEnum::from("header-rewrite")).build();
        assert_eq!(from_aws(&[], &[transform]), None);
        let [oidc, cognito, _] = ways().map(|way| to_action(&way));
        assert_eq!(from_aws(&[oidc, cognito], &[]), None);
    }

    #[test]
    fn aws_is_told_a_secret_or_to_keep_the_one_it_has() {
        let told = to_oidc(&oidc("hush"));
        assert_eq!((told.client_secret(), told.use_existing_client_secret()), (Some("hush"), None));
        let kept = to_oidc(&oidc(""));
        assert_eq!((kept.client_secret(), kept.use_existing_client_secret()), (None, Some(true)));
        assert!(!format!("{:?}", ways()).contains("hush"));
    }
}
