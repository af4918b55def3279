//! What AWS's errors mean, and how they read.

use std::error::Error;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::network::chain;
use crate::run::ports::{FailureKind, PortError};
use crate::secrets;

/// The error of a call, for branching and for people.
pub(super) fn call_error<E>(service: &str, operation: &str, error: &SdkError<E, HttpResponse>) -> PortError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    let (kind, what) = match error {
        SdkError::ServiceError(failure) => {
            let raw = failure.raw();
            // Whoever answers without a code is hardly AWS: a portal, a proxy, a gateway.
            let other = || {
                let body = String::from_utf8_lossy(raw.body().bytes().unwrap_or_default()).into_owned();
                format!(
                    "not an answer of AWS's (HTTP {}): {:?}",
                    raw.status().as_u16(),
                    secrets::beginning(&body, false, 120)
                )
            };
            let code = failure.err().code().unwrap_or("an error without a code");
            let message = match (failure.err().code(), failure.err().message()) {
                (None, None) => other(),
                (_, message) => message.unwrap_or("no message").to_owned(),
            };
            let id = failure.raw().headers().get("x-amzn-requestid").map(|id| format!(" (request {id})"));
            (kind_of(code, &message), secrets::outside(&format!("{code}: {message}{}", id.unwrap_or_default())))
        }
        SdkError::TimeoutError(_) => (FailureKind::Other, "no answer in time".to_owned()),
        SdkError::DispatchFailure(failure) => {
            let cause = failure.as_connector_error().map(|cause| chain(cause));
            (dispatch_kind(error), secrets::outside(&cause.unwrap_or_else(|| chain(error))))
        }
        _ => (dispatch_kind(error), secrets::outside(&chain(error))),
    };
    PortError::new(kind, format!("{service} {operation}: {what}"))
}

/// Credentials are got on the way; when there are none, the way is where it fails.
fn dispatch_kind(error: &(dyn Error + 'static)) -> FailureKind {
    if chain(error).contains("credentials") { FailureKind::Denied } else { FailureKind::Other }
}

/// What stands for a thing that is gone, where that is no failure.
pub(super) fn or_if_gone<T>(result: Result<T, PortError>, gone: T) -> Result<T, PortError> {
    match result {
        Err(error) if error.kind == FailureKind::Gone => Ok(gone),
        other => other,
    }
}

/// What AWS says in words alone.
pub(super) fn kind_of_words(words: &str) -> Option<FailureKind> {
    let says = |part: &str| words.contains(part);
    if says("associated load balancer") {
        return Some(FailureKind::NeedsListener);
    }
    if IN_USE.into_iter().any(says) {
        return Some(FailureKind::Conflict);
    }
    PASSING.into_iter().any(says).then_some(FailureKind::Passing)
}

/// What AWS says of a service or a group that something else still goes on with, under codes that mean anything.
const IN_USE: [&str; 2] = ["cannot be stopped while deployments are active", "has a dependent object"];

/// What passes by itself. The first ones are those that hashicorp/aws repeats CreateService, UpdateService and
/// CreateAutoScalingGroup for; the others are EC2's words for a zone or a market without capacity, after which an Auto Scaling
/// group tries elsewhere and again.
const PASSING: [&str; 11] = [
    "Invalid IAM Instance Profile",
    "unable to assume the role",
    "Unable to assume the service linked role",
    "verify that the ECS service role being passed has the proper permissions",
    "do not have sufficient",
    "InsufficientInstanceCapacity",
    "capacity-not-available",
    "UnfulfillableCapacity",
    "no Spot capacity available",
    "is not supported in your requested Availability Zone",
    "Max spot instance count exceeded",
];

fn kind_of(code: &str, message: &str) -> FailureKind {
    if let Some(kind) = kind_of_words(message) {
        return kind;
    }
    match code {
        "Throttling"
        | "ThrottlingException"
        | "RequestLimitExceeded"
        | "TooManyUpdates"
        | "TooManyRequestsException"
        | "ConcurrentUpdateException"
        | "ResourceContention" => FailureKind::Throttled,
        "PriorityInUse"
        | "ParameterAlreadyExists"
        | "ResourceInUse"
        | "ResourceInUseFault"
        | "ResourceInUseContention"
        | "ScalingActivityInProgress"
        | "InstanceRefreshInProgress"
        | "DependencyViolation"
        | "AlreadyExists"
        | "AlreadyExistsException"
        | "DuplicateTargetGroupName"
        | "InvalidGroup.Duplicate"
        | "InvalidPermission.Duplicate"
        | "InvalidLaunchTemplateName.AlreadyExistsException" => FailureKind::Conflict,
        // Auto Scaling has no code of its own for a group that isn't there.
        "ValidationError" if message.contains("AutoScalingGroup name not found") => FailureKind::Gone,
        "ListenerNotFound"
        | "RuleNotFound"
        | "LoadBalancerNotFound"
        | "TargetGroupNotFound"
        | "ParameterNotFound"
        | "InvalidGroup.NotFound"
        | "InvalidLaunchTemplateId.NotFound"
        | "InvalidLaunchTemplateId.NotFoundException"
        | "InvalidLaunchTemplateId.VersionNotFound"
        | "InvalidLaunchTemplateName.NotFoundException"
        | "ActiveInstanceRefreshNotFound"
        | "ServiceNotFoundException"
        | "ServiceNotActiveException"
        | "ResourceNotFoundException"
        | "ObjectNotFoundException"
        | "ParameterVersionNotFound"
        // Parameter Store's word for a parameter that isn't there, where it is asked for its tags.
        | "InvalidResourceId"
        | "ClusterNotFoundException" => FailureKind::Gone,
        "AccessDenied"
        | "AccessDeniedException"
        | "UnauthorizedOperation"
        | "AuthFailure"
        | "AuthorizationError"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "InvalidAccessKeyId"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        // EC2's word for a session that has ended.
        | "RequestExpired"
        | "UnrecognizedClientException"
        | "SignatureDoesNotMatch"
        | "OptInRequired" => FailureKind::Denied,
        "ValidationError" | "MissingRequiredParameter" => FailureKind::InvalidRequest,
        code if code.starts_with("InvalidParameter") => FailureKind::InvalidRequest,
        _ => FailureKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_the_words_tell_is_a_kind() {
        let kind = |code, message| kind_of(code, message);
        let role = "ECS was unable to assume the role 'arn:aws:iam::1:role/x' that was provided for this task.";
        assert_eq!(kind("ClientException", role), FailureKind::Passing);
        let capacity = "We currently do not have sufficient t3.large capacity in the Availability Zone you requested";
        assert_eq!(kind_of_words(capacity), Some(FailureKind::Passing));
        let role = "Please verify that the ECS service role being passed has the proper permissions.";
        assert_eq!(kind("InvalidParameterException", role), FailureKind::Passing);
        let active = "The service cannot be stopped while deployments are active.";
        assert_eq!(kind("InvalidParameterException", active), FailureKind::Conflict);
        assert_eq!(kind("ValidationError", "Invalid IAM Instance Profile name (x)"), FailureKind::Passing);
        let group = "The target group with targetGroupArn x does not have an associated load balancer.";
        assert_eq!(kind("InvalidParameterException", group), FailureKind::NeedsListener);
        assert_eq!(kind("InvalidParameterValue", "The metric name x"), FailureKind::InvalidRequest);
        assert_eq!(kind("ValidationError", "Period must be a multiple of 60"), FailureKind::InvalidRequest);
        assert_eq!(kind("ValidationError", "AutoScalingGroup name not found - x"), FailureKind::Gone);
        assert_eq!(kind("ServerException", "no"), FailureKind::Other);
        // Each service has its own word for credentials that have ended.
        for code in ["ExpiredToken", "ExpiredTokenException", "RequestExpired"] {
            assert_eq!(kind(code, "Request has expired."), FailureKind::Denied);
        }
    }

    #[test]
    fn a_chain_says_every_cause_once() {
        let inner = std::io::Error::other("refused");
        let outer = std::io::Error::other(PortError::new(FailureKind::Other, format!("connect: {inner}")));
        assert_eq!(chain(&outer), "connect: refused");
    }
}
