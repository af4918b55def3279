//! From the SDK's errors to ours: a kind to branch on and a sentence to read.

use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::display::DisplayErrorContext;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::run::ports::{Error, Kind};

/// Says what call on what failed and what AWS answered.
pub(super) fn error<E, R>(operation: &str, on: &str, error: SdkError<E, R>) -> Error
where
    E: std::error::Error + ProvideErrorMetadata + 'static,
    R: std::fmt::Debug + 'static,
{
    let code = error.as_service_error().and_then(|service| service.code()).unwrap_or_default().to_owned();
    let answer = match error.as_service_error() {
        Some(service) => format!("{code}: {}", service.message().unwrap_or("no message")),
        None => DisplayErrorContext(&error).to_string(),
    };
    Error { kind: kind(&code), message: format!("{operation} on {on}: {answer}") }
}

/// The kind by AWS's error code.
pub(super) fn kind(code: &str) -> Kind {
    match code {
        "Throttling" | "ThrottlingException" | "TooManyUpdates" | "RequestLimitExceeded" => Kind::Throttled,
        "PriorityInUse" | "ResourceInUse" | "ParameterAlreadyExists" => Kind::Conflict,
        "ListenerNotFound" | "RuleNotFound" | "TargetGroupNotFound" | "LoadBalancerNotFound" | "ParameterNotFound" => {
            Kind::Gone
        }
        "AccessDenied" | "AccessDeniedException" | "ExpiredToken" | "ExpiredTokenException" | "UnauthorizedOperation"
        | "InvalidClientTokenId" | "UnrecognizedClientException" | "OperationNotPermitted" => Kind::Denied,
        _ => Kind::Other,
    }
}
