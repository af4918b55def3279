//! Tokens that let a user into a database of RDS or Aurora: a presigned request that is never sent.
//! <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html>

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;

use super::connection::Connection;
use crate::clock;
use crate::run::ports::{FailureKind, PortError};
use crate::secrets;

/// How long a token can be used to connect; a connection outlives it.
const LIFETIME: Duration = Duration::from_secs(15 * 60);

impl Connection {
    /// A password for this user of the database at this host and port.
    ///
    /// # Errors
    /// When there are no credentials.
    pub async fn token_for_database(&self, host: &str, port: u16, user: &str) -> Result<String, PortError> {
        let (credentials, region) = self.credentials().await?;
        let denied = |error: String| PortError::new(FailureKind::Denied, error);
        let credentials = credentials.provide_credentials().await.map_err(|error| denied(error.to_string()))?;
        let token = token((host, port, user), credentials, &region, clock::wall()).map_err(denied)?;
        let signature = token.rsplit_once("X-Amz-Signature=").map(|(_, signature)| signature.to_owned());
        secrets::learn_whole([token.clone()].into_iter().chain(signature));
        Ok(token)
    }
}

fn token(
    (host, port, user): (&str, u16, &str),
    credentials: Credentials,
    region: &str,
    now: SystemTime,
) -> Result<String, String> {
    let mut url = reqwest::Url::parse(&format!("https://{host}:{port}/")).map_err(|error| error.to_string())?;
    url.query_pairs_mut().append_pair("Action", "connect").append_pair("DBUser", user);
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(LIFETIME);
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("rds-db")
        .time(now)
        .settings(settings)
        .build()
        .map_err(|error| error.to_string())?;
    let request = SignableRequest::new("GET", url.as_str(), std::iter::empty(), SignableBody::Bytes(&[]))
        .map_err(|error| error.to_string())?;
    let (instructions, _) = sign(request, &parameters.into()).map_err(|error| error.to_string())?.into_parts();
    for (name, value) in instructions.params() {
        url.query_pairs_mut().append_pair(name, value);
    }
    // A token has no scheme.
    Ok(url.as_str().trim_start_matches("https://").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_what_the_command_line_makes() {
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_724_709_600);
        let place = ("prod.abc.eu-central-1.rds.amazonaws.com", 5432, "app");
        let token = token(place, credentials, "eu-central-1", now).unwrap();
        // As botocore's generate_db_auth_token has it for the same second.
        let signature = "e95bb2469d2d9b6176e9bd152960667da09cfb5c56c0bfca512172f9a2a73af5";
        let expected = format!(
            "prod.abc.eu-central-1.rds.amazonaws.com:5432/?Action=connect&DBUser=app&X-Amz-Algorithm=AWS4-HMAC-SHA256\
             &X-Amz-Credential=AKIDEXAMPLE%2F20240826%2Feu-central-1%2Frds-db%2Faws4_request&X-Amz-Date=20240826T220000Z\
             &X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature={signature}"
        );
        assert_eq!(token, expected);
    }
}
