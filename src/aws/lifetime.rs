//! How long the credentials of a connection last: what identity, environment and tokens tell of it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::home;
use crate::platform::{Lifetime, Renewal};

/// The variables that tell of a session in the environment; the last one is what `aws configure export-credentials` writes.
const SESSION: &str = "AWS_SESSION_TOKEN";
const EXPIRATION: &str = "AWS_CREDENTIAL_EXPIRATION";
/// The variable that names the file with a token of the default chain.
pub(super) const TOKEN_FILE: &str = "AWS_WEB_IDENTITY_TOKEN_FILE";

/// What was got last of a provider of credentials.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<Option<Session>>);

/// What credentials say of their end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Session {
    end: Option<SystemTime>,
    is_temporary: bool,
}

impl Seen {
    pub(super) fn note(&self, credentials: &Credentials) {
        let is_temporary = credentials.session_token().is_some();
        let session = Session { end: credentials.expiry(), is_temporary };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }

    fn get(&self) -> Option<Session> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where credentials come from before a role is assumed with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// AWS's default chain.
    Chain,
    /// The provider block's own keys.
    Keys,
    /// A token of an identity provider, or the file that it is in.
    Token { text: Option<String>, file: Option<String> },
}

/// What a connection signs its calls with.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) origin: Origin,
    pub(super) seen: std::sync::Arc<Seen>,
    /// The file with a web identity's token that the profile names.
    pub(super) token_file: Option<String>,
    /// The role that is assumed with those, if one is.
    pub(super) role: Option<std::sync::Arc<Seen>>,
}

impl Identity {
    /// Whether calls were signed already: then it is known what with.
    pub(super) fn is_seen(&self) -> bool {
        self.role.as_ref().unwrap_or(&self.seen).get().is_some()
    }

    /// How long calls can be signed.
    pub(super) fn lifetime(&self, variable: impl Fn(&str) -> Option<String>) -> Lifetime {
        let of_base = self.base(variable);
        let role = self.role.as_ref().and_then(|role| role.get()?.end);
        match (of_base, role) {
            // Sessions of a role are renewed as long as that is allowed, and the last one lasts.
            (Lifetime::Until(end, renewal), Some(role)) => Lifetime::Until(end.max(role), renewal),
            (other, _) => other,
        }
    }

    fn base(&self, variable: impl Fn(&str) -> Option<String>) -> Lifetime {
        let session = self.seen.get();
        let is_temporary = session.is_some_and(|session| session.is_temporary);
        let end = session.and_then(|session| session.end);
        match (&self.origin, end) {
            (Origin::Token { text, file }, Some(end)) => by_token(end, text.clone(), file.as_deref()),
            (Origin::Chain, Some(end)) => match variable(TOKEN_FILE).or_else(|| self.token_file.clone()) {
                Some(file) => by_token(end, None, Some(&file)),
                None => Lifetime::Renewed,
            },
            (Origin::Chain, None) if is_temporary && variable(SESSION).is_some() => {
                let end = variable(EXPIRATION).and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok());
                end.map_or(Lifetime::Unknown, |end| Lifetime::Until(end.into(), Renewal::Never))
            }
            (_, None) if is_temporary => Lifetime::Unknown,
            _ => Lifetime::Renewed,
        }
    }
}

/// A token begins sessions until its own end, and the last of them lasts.
fn by_token(session: SystemTime, text: Option<String>, file: Option<&str>) -> Lifetime {
    let text = text.or_else(|| std::fs::read_to_string(home::expand(file?)).ok());
    let end = text.and_then(|text| end_of(text.trim()));
    let renewal = file.map_or(Renewal::Never, |file| Renewal::ByFile(file.to_owned()));
    Lifetime::Until(end.map_or(session, |end| end.max(session)), renewal)
}

/// When a JSON Web Token ends (RFC 7519, `exp`); nothing for what is none.
fn end_of(token: &str) -> Option<SystemTime> {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    let end = claims.get("exp")?.as_f64().filter(|end| (0.0..1e11).contains(end))?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs_f64(end))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn seen(end: Option<u64>, is_temporary: bool) -> Arc<Seen> {
        let seen = Seen::default();
        seen.note(&Credentials::new("key", "secret", is_temporary.then(|| "token".to_owned()), end.map(at), "test"));
        Arc::new(seen)
    }

    fn identity(origin: Origin, end: Option<u64>, is_temporary: bool) -> Identity {
        Identity { origin, seen: seen(end, is_temporary), token_file: None, role: None }
    }

    fn token(end: u64) -> String {
        let claims = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"repo","exp":{end}}}"#));
        format!("e30.{claims}.c2ln")
    }

    #[test]
    fn the_end_of_credentials_is_what_can_be_known_of_it() {
        let none = |_: &str| None;
        let session = |name: &str| (name == SESSION).then(|| "token".to_owned());
        let exported = |name: &str| match name {
            SESSION => Some("token".to_owned()),
            EXPIRATION => Some("1970-01-01T01:00:00+00:00".to_owned()),
            _ => None,
        };
        let text = |end| Origin::Token { text: Some(token(end)), file: None };
        for (identity, lifetime) in [
            (identity(Origin::Chain, None, false).lifetime(none), Lifetime::Renewed),
            (identity(Origin::Chain, Some(60), true).lifetime(none), Lifetime::Renewed),
            (identity(Origin::Chain, None, true).lifetime(none), Lifetime::Unknown),
            (identity(Origin::Chain, None, true).lifetime(session), Lifetime::Unknown),
            (identity(Origin::Chain, None, true).lifetime(exported), Lifetime::Until(at(3600), Renewal::Never)),
            (identity(Origin::Keys, None, true).lifetime(exported), Lifetime::Unknown),
            (identity(Origin::Keys, None, false).lifetime(exported), Lifetime::Renewed),
            (identity(text(300), Some(3600), true).lifetime(none), Lifetime::Until(at(3600), Renewal::Never)),
            (identity(text(7200), Some(3600), true).lifetime(none), Lifetime::Until(at(7200), Renewal::Never)),
        ] {
            assert_eq!(identity, lifetime);
        }
    }

    #[test]
    fn a_role_lasts_as_long_as_it_can_be_assumed_and_its_last_session() {
        let role = |origin, end| Identity { role: Some(seen(Some(900), true)), ..identity(origin, end, true) };
        let none = |_: &str| None;
        assert_eq!(role(Origin::Chain, Some(60)).lifetime(none), Lifetime::Renewed);
        assert_eq!(role(Origin::Keys, None).lifetime(none), Lifetime::Unknown);
        let text = |end| Origin::Token { text: Some(token(end)), file: None };
        assert_eq!(role(text(60), Some(600)).lifetime(none), Lifetime::Until(at(900), Renewal::Never));
        assert_eq!(role(text(60), Some(3600)).lifetime(none), Lifetime::Until(at(3600), Renewal::Never));
    }

    #[test]
    fn what_is_no_token_has_no_end() {
        for text in ["", "a.b.c", "a.e30.c", "opaque", "a.eyJleHAiOi0xfQ.c", "a.eyJleHAiOiIxIn0.c"] {
            assert_eq!(end_of(text), None, "{text}");
        }
        assert_eq!(end_of(&token(300)), Some(at(300)));
    }
}
