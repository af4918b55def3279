//! Roles that the provider block says to take on.

use std::sync::Arc;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};

use super::error::call_error;
use super::lifetime::Seen;

use crate::clock;
use crate::home;
use crate::secrets::{self, Reach};
use crate::settings::{AssumeRole, WebIdentity};

/// Credentials from anywhere, whose secrets are remembered as such before they are used.
#[derive(Debug)]
pub(super) struct Confidential<P> {
    pub(super) provider: P,
    /// What they tell of their end.
    pub(super) seen: Arc<Seen>,
}

impl<P: ProvideCredentials> ProvideCredentials for Confidential<P> {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            let credentials = self.provider.provide_credentials().await?;
            self.seen.note(&credentials);
            secrets::learn([credentials.secret_access_key()], Reach::Everywhere);
            secrets::learn(credentials.session_token(), Reach::Everywhere);
            Ok(credentials)
        })
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        self.provider.fallback_on_interrupt()
    }
}

/// Credentials of a role, got with the credentials that the client has.
#[derive(Debug)]
pub(super) struct AssumedRole {
    role: AssumeRole,
    sts: aws_sdk_sts::Client,
}

impl AssumedRole {
    pub(super) fn new(role: AssumeRole, sts: aws_sdk_sts::Client) -> AssumedRole {
        AssumedRole { role, sts }
    }

    async fn credentials(&self) -> provider::Result {
        let seconds = self.role.duration.and_then(|duration| i32::try_from(duration.as_secs()).ok());
        let call = self
            .sts
            .assume_role()
            .role_arn(&self.role.role_arn)
            .role_session_name(session(self.role.session_name.as_deref()));
        let answer = call.set_external_id(self.role.external_id.clone()).set_duration_seconds(seconds).send().await;
        let answer =
            answer.map_err(|error| CredentialsError::provider_error(call_error("sts", "AssumeRole", &error)))?;
        of_answer(answer.credentials())
    }
}

impl ProvideCredentials for AssumedRole {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }
}

/// Credentials of a role, got with a token that says who is asking.
pub(super) struct WebIdentityRole {
    identity: WebIdentity,
    sts: aws_sdk_sts::Client,
}

impl std::fmt::Debug for WebIdentityRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WebIdentityRole").field("role_arn", &self.identity.role_arn).finish_non_exhaustive()
    }
}

impl WebIdentityRole {
    pub(super) fn new(identity: WebIdentity, sts: aws_sdk_sts::Client) -> WebIdentityRole {
        WebIdentityRole { identity, sts }
    }

    async fn credentials(&self) -> provider::Result {
        let token = match (&self.identity.token, &self.identity.token_file) {
            (Some(token), _) => token.clone(),
            // Read each time: the file is written anew before the token in it ends.
            (None, Some(path)) => std::fs::read_to_string(home::expand(path)).map_err(|error| {
                CredentialsError::invalid_configuration(format!("failed to read the token file {path}: {error}"))
            })?,
            (None, None) => return Err(CredentialsError::invalid_configuration("no web identity token is set")),
        };
        secrets::learn([&token], Reach::Everywhere);
        let call = self.sts.assume_role_with_web_identity().role_arn(&self.identity.role_arn);
        let seconds = self.identity.duration.and_then(|duration| i32::try_from(duration.as_secs()).ok());
        let call = call.role_session_name(session(self.identity.session_name.as_deref()));
        let answer =
            call.set_duration_seconds(seconds).web_identity_token(token.trim()).send().await.map_err(|error| {
                CredentialsError::provider_error(call_error("sts", "AssumeRoleWithWebIdentity", &error))
            })?;
        of_answer(answer.credentials())
    }
}

impl ProvideCredentials for WebIdentityRole {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.credentials())
    }
}

fn session(name: Option<&str>) -> String {
    let seconds = clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    name.map_or_else(|| format!("terraform-provider-bluegreen-{seconds}"), str::to_owned)
}

fn of_answer(answer: Option<&aws_sdk_sts::types::Credentials>) -> provider::Result {
    let answer = answer.ok_or_else(|| CredentialsError::unhandled("STS answered without credentials"))?;
    let expiry = std::time::SystemTime::try_from(*answer.expiration()).ok();
    let (key, secret) = (answer.access_key_id(), answer.secret_access_key());
    Ok(Credentials::new(key, secret, Some(answer.session_token().to_owned()), expiry, "assume_role"))
}
