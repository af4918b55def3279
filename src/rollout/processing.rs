//! What a rule does with a request before it forwards: who may come in, and what is rewritten.
//!
//! Shapes, defaults and limits are those of `Action` and `RuleTransform` in the API reference of Elastic Load Balancing.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::accepts;
use crate::argument::{Arguments, Choice, Field, Holds};

/// What becomes of a request before it is forwarded; nothing by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
pub struct Processing {
    /// Who may come in; none: everybody.
    pub authentication: Option<Authentication>,
    /// What becomes of the header Host.
    pub host_header_rewrite: Option<Rewrite>,
    /// What becomes of path and query.
    pub url_rewrite: Option<Rewrite>,
}

/// How it is found out who asks. AWS takes one way in a rule, and only on HTTPS listeners.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Authentication {
    /// By an identity provider.
    Oidc(Oidc),
    /// By a Cognito user pool.
    Cognito(Cognito),
    /// By a token that comes with the request.
    Jwt(JwtValidation),
}

impl Authentication {
    /// AWS's word for it.
    pub fn kind(&self) -> &'static str {
        match self {
            Authentication::Oidc(_) => "authenticate-oidc",
            Authentication::Cognito(_) => "authenticate-cognito",
            Authentication::Jwt(_) => "jwt-validation",
        }
    }
}

impl Authentication {
    fn session(&self) -> Option<&Session> {
        match self {
            Authentication::Oidc(oidc) => Some(&oidc.session),
            Authentication::Cognito(cognito) => Some(&cognito.session),
            Authentication::Jwt(_) => None,
        }
    }

    /// Whether whoever came in still does, and others, too.
    fn lets_in_more_than(&self, other: &Authentication) -> bool {
        if let (Authentication::Jwt(own), Authentication::Jwt(other)) = (self, other) {
            let is_same = own.issuer == other.issuer && own.jwks_endpoint == other.jwks_endpoint;
            let is_part = own.additional_claims.iter().all(|claim| other.additional_claims.contains(claim));
            return is_same && is_part && own != other;
        }
        let is_open = |session: &Session| session.on_unauthenticated_request == Unauthenticated::Allow;
        self.session().is_some_and(is_open) && !other.session().is_some_and(is_open)
    }
}

/// Users who sign in at an identity provider that speaks OpenID Connect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Arguments)]
#[arguments(change = InPlace)]
pub struct Oidc {
    /// The issuer identifier of the identity provider, a URL with `https://`.
    #[argument(required, text = accepts::https)]
    pub issuer: String,
    /// The URL at which users sign in.
    #[argument(required, text = accepts::https)]
    pub authorization_endpoint: String,
    /// The URL that gives tokens.
    #[argument(required, text = accepts::https)]
    pub token_endpoint: String,
    /// The URL that tells about a user.
    #[argument(required, text = accepts::https)]
    pub user_info_endpoint: String,
    /// The OAuth 2.0 client identifier.
    #[argument(required, not_empty)]
    pub client_id: String,
    /// The OAuth 2.0 client secret. AWS never tells it: one that is changed elsewhere is not noticed.
    #[argument(required, sensitive, not_empty)]
    #[serde(skip)]
    pub client_secret: ClientSecret,
    /// What both ways of signing in have.
    #[argument(flatten)]
    pub session: Session,
}

/// Users who sign in at a Cognito user pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Arguments)]
#[arguments(change = InPlace)]
pub struct Cognito {
    /// The ARN of the user pool.
    #[argument(required, text = accepts::user_pool)]
    pub user_pool_arn: String,
    /// The ID of the user pool's client.
    #[argument(required, not_empty)]
    pub user_pool_client_id: String,
    /// The prefix of the user pool's domain, or its whole name.
    #[argument(required, not_empty)]
    pub user_pool_domain: String,
    /// What both ways of signing in have.
    #[argument(flatten)]
    pub session: Session,
}

/// How users are known once they have signed in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Arguments)]
#[arguments(change = InPlace, default)]
pub struct Session {
    /// The cookie that keeps the session.
    #[argument(default = "AWSELBAuthSessionCookie", not_empty)]
    pub session_cookie_name: String,
    /// The claims that are asked for.
    #[argument(default = "openid", not_empty)]
    pub scope: String,
    /// How long a session lasts, in whole seconds.
    #[argument(default = "168h", text = accepts::whole_seconds, lasting = "1s"..="168h")]
    pub session_timeout: Duration,
    /// What happens to whoever has not signed in: `authenticate` sends them to sign in, `deny` answers 401, `allow` lets them
    /// through.
    #[argument(default = "authenticate")]
    pub on_unauthenticated_request: Unauthenticated,
    /// Further query parameters for the authorization endpoint, at most ten.
    pub authentication_request_extra_params: BTreeMap<String, String>,
}

/// What happens to whoever has not signed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Choice)]
pub enum Unauthenticated {
    /// They are sent to sign in.
    #[default]
    Authenticate,
    /// They get 401.
    Deny,
    /// They come through.
    Allow,
}

/// Requests that bring a token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Arguments)]
#[arguments(change = InPlace)]
pub struct JwtValidation {
    /// The issuer that tokens name, at most 256 characters.
    #[argument(required, text = accepts::issuer)]
    pub issuer: String,
    /// The URL of the keys that tokens are signed with, `https://` and at most 256 characters.
    #[argument(required, text = accepts::jwks)]
    pub jwks_endpoint: String,
    /// What tokens must claim besides `exp`, `iss`, `nbf` and `iat`: at most ten claims.
    pub additional_claims: Vec<Claim>,
}

/// A claim that a token must have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Arguments)]
#[arguments(change = InPlace)]
pub struct Claim {
    /// Its name.
    #[argument(required, text = accepts::claim)]
    pub name: String,
    /// The shape of its value.
    #[argument(required)]
    pub format: ClaimFormat,
    /// Its values, 1 to 10 of at most 256 characters.
    #[argument(required, not_empty, each = accepts::claim_value)]
    pub values: Vec<String>,
}

/// The shape of a claim's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Choice)]
#[choice(kebab)]
pub enum ClaimFormat {
    /// One text.
    SingleString,
    /// A list of texts.
    StringArray,
    /// A text with values between spaces.
    SpaceSeparatedValues,
}

/// A transform: what matches is replaced; where nothing matches, nothing changes. Which rule a request takes is decided before.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Arguments)]
#[arguments(change = InPlace)]
pub struct Rewrite {
    /// A regular expression in AWS's syntax, at most 1024 characters.
    #[argument(required, text = accepts::rewritten)]
    pub regex: String,
    /// What stands in its place, at most 1024 characters; `$1` is its first group.
    #[argument(required, text = accepts::replacement)]
    pub replace: String,
}

/// A secret that AWS keeps and never tells. It is no part of how a rule looks, so that all are equal; it is neither shown nor stored.
#[derive(Clone, Default)]
pub struct ClientSecret {
    /// The secret itself; empty where it is not known.
    pub text: String,
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl PartialEq for ClientSecret {
    fn eq(&self, _: &ClientSecret) -> bool {
        true
    }
}

impl Eq for ClientSecret {}

impl PartialOrd for ClientSecret {
    fn partial_cmp(&self, other: &ClientSecret) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ClientSecret {
    fn cmp(&self, _: &ClientSecret) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl Field for ClientSecret {
    fn holds() -> Holds {
        Holds::String
    }

    fn read(value: &serde_json::Value) -> Option<ClientSecret> {
        value.as_str().map(|text| ClientSecret { text: text.to_owned() })
    }
}

impl Processing {
    /// The secret that it authenticates with.
    pub fn secret(&self) -> Option<&ClientSecret> {
        match &self.authentication {
            Some(Authentication::Oidc(oidc)) => Some(&oidc.client_secret),
            _ => None,
        }
    }

    /// The same, to change it.
    pub fn secret_mut(&mut self) -> Option<&mut ClientSecret> {
        match &mut self.authentication {
            Some(Authentication::Oidc(oidc)) => Some(&mut oidc.client_secret),
            _ => None,
        }
    }

    /// What was seen of a rule, with the secret that it is known to have: AWS tells none.
    #[must_use]
    pub fn with_secret_of(mut self, known: &Processing) -> Processing {
        if self.authentication == known.authentication
            && let (Some(own), Some(known)) = (self.secret_mut(), known.secret())
            && own.text.is_empty()
        {
            *own = known.clone();
        }
        self
    }

    /// Whether another way to find out who asks is to come in its place, or the same with a secret that it is not known to have.
    pub fn asks_otherwise(&self, after: &Processing) -> bool {
        let told = after.secret().map(|secret| &secret.text).filter(|text| !text.is_empty());
        self.authentication != after.authentication
            || told != self.secret().map(|secret| &secret.text) && told.is_some()
    }

    /// Whether it is found out who asks where it was not, or in another way, and not just with more who come in.
    pub fn closes(&self, after: &Processing) -> bool {
        let Some(asks) = &after.authentication else { return false };
        let is_open = self.authentication.as_ref().is_some_and(|asked| asks.lets_in_more_than(asked));
        self.asks_otherwise(after) && !is_open
    }

    /// What is to come in its place: what is wished; of what is not, what the switch is known to have made goes, and what others made stays.
    #[must_use]
    pub fn becoming(&self, wished: &Processing, made: Option<&Processing>) -> Processing {
        fn part<T: Clone>(wished: &Option<T>, seen: &Option<T>, made: Option<&Option<T>>) -> Option<T> {
            let is_made = made.is_some_and(Option::is_some);
            wished.clone().or_else(|| seen.clone().filter(|_| !is_made))
        }
        let rewrites = [
            (&wished.host_header_rewrite, &self.host_header_rewrite, made.map(|made| &made.host_header_rewrite)),
            (&wished.url_rewrite, &self.url_rewrite, made.map(|made| &made.url_rewrite)),
        ];
        let [host_header_rewrite, url_rewrite] = rewrites.map(|(wished, seen, made)| part(wished, seen, made));
        let authentication = part(&wished.authentication, &self.authentication, made.map(|made| &made.authentication));
        Processing { authentication, host_header_rewrite, url_rewrite }
    }

    /// What both have, the other one's where both have it.
    #[must_use]
    pub fn joined(self, other: &Processing) -> Processing {
        Processing {
            authentication: other.authentication.clone().or(self.authentication),
            host_header_rewrite: other.host_header_rewrite.clone().or(self.host_header_rewrite),
            url_rewrite: other.url_rewrite.clone().or(self.url_rewrite),
        }
    }

    /// In the one form that all ways of writing the same have: the order of claims and of their values means nothing.
    #[must_use]
    pub fn normal(mut self) -> Processing {
        if let Some(Authentication::Jwt(jwt)) = &mut self.authentication {
            jwt.additional_claims.iter_mut().for_each(|claim| claim.values.sort());
            jwt.additional_claims.sort();
        }
        self
    }

    /// What is done to it where another one comes in its place, in words.
    pub fn changes(&self, after: &Processing) -> Vec<String> {
        let rewrite =
            |before: &Option<Rewrite>, after: &Option<Rewrite>| (before.is_some(), after.is_some(), before != after);
        let (asked, asks) = (self.authentication.is_some(), after.authentication.is_some());
        let parts = [
            ("authentication", (asked, asks, self.asks_otherwise(after))),
            ("host_header_rewrite", rewrite(&self.host_header_rewrite, &after.host_header_rewrite)),
            ("url_rewrite", rewrite(&self.url_rewrite, &after.url_rewrite)),
        ];
        let words = parts.into_iter().filter_map(|(name, (was, is, differs))| {
            let verb = match (was, is) {
                (false, _) => "add",
                (true, false) => "remove",
                (true, true) => "change",
            };
            differs.then(|| format!("{verb} the {name}"))
        });
        words.collect()
    }
}

/// The arguments of a route that say the same.
#[derive(Clone, Debug, Default, PartialEq, Arguments)]
#[arguments(change = InPlace)]
pub struct Written {
    /// Lets users of the rule that the switch makes sign in at an identity provider before they get to a color. Only on HTTPS
    /// listeners; at most one of `authenticate_oidc`, `authenticate_cognito` and `jwt_validation`.
    pub authenticate_oidc: Option<Box<Oidc>>,
    /// Lets users of the rule that the switch makes sign in at a Cognito user pool before they get to a color. Only on HTTPS
    /// listeners; at most one of `authenticate_oidc`, `authenticate_cognito` and `jwt_validation`.
    pub authenticate_cognito: Option<Box<Cognito>>,
    /// Lets only requests with a valid token through the rule that the switch makes. Only on HTTPS listeners; at most one of
    /// `authenticate_oidc`, `authenticate_cognito` and `jwt_validation`.
    pub jwt_validation: Option<JwtValidation>,
    /// Rewrites the header `Host` of requests that take the rule that the switch makes. With a rollout a change comes before its last
    /// watch, all at once; what lets fewer requests in comes before anything else.
    pub host_header_rewrite: Option<Rewrite>,
    /// Rewrites path and query of requests that take the rule that the switch makes. A change comes as one of `host_header_rewrite` does.
    pub url_rewrite: Option<Rewrite>,
}

impl From<Written> for Processing {
    fn from(written: Written) -> Processing {
        let oidc = written.authenticate_oidc.map(|oidc| Authentication::Oidc(*oidc));
        let cognito = written.authenticate_cognito.map(|cognito| Authentication::Cognito(*cognito));
        let jwt = written.jwt_validation.map(Authentication::Jwt);
        let Written { host_header_rewrite, url_rewrite, .. } = written;
        Processing { authentication: oidc.or(cognito).or(jwt), host_header_rewrite, url_rewrite }.normal()
    }
}
