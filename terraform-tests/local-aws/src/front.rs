//! The front that AWS clients talk to: passes calls to moto, answers for health, injects faults, logs.

mod refusals;

use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_LENGTH, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::Instant;

use crate::compute::autoscaling;
use crate::compute::ec2;
use crate::compute::ecs::Ecs;
use crate::control;
use crate::core::aws_call::AwsCall;
use crate::core::faults::{FaultAction, When};
use crate::core::late::Late;
use crate::core::owner;
use crate::core::serve::{self, Body, CutBody, Hangup, Peer, full, with_body};
use crate::core::temper::Rule;
use crate::core::upstream::{UpstreamError, strip_hop_by_hop};
use crate::node::target_groups;
use crate::node::target_health;
use crate::state::Core;

/// Services whose changes can change what the nodes do.
const NODE_SERVICES: [&str; 4] = ["elasticloadbalancing", "autoscaling", "ecs", "cloudformation"];

pub(crate) async fn serve(core: Arc<Core>, peer: Peer, request: Request<Incoming>) -> Result<Response<Body>, Hangup> {
    let (parts, body) = request.into_parts();
    let body = match serve::read_body(body).await {
        Ok(body) => body,
        Err(status) => return Ok(serve::answer(status, "text/plain", "the body is too large or broken\n")),
    };
    if parts.uri.path().starts_with("/_local/") {
        return Ok(control::serve(&core, &parts, &body).await);
    }
    // A task of its own: the effect of a call must not depend on whether the caller is still there to hear of it.
    tokio::spawn(async move { call(&core, peer, parts, body).await }).await.unwrap_or(Err(Hangup))
}

async fn call(core: &Core, peer: Peer, parts: Parts, body: Bytes) -> Result<Response<Body>, Hangup> {
    let call = AwsCall::read(&parts, &body);
    // No fault meets it, and no test that counts what was done: it is asked again.
    if !call.is_onlooker && core.temper.has(Rule::Throttling) && !has_token(core, &call).await {
        core.temper.note_throttled(&call.operation);
        return Ok(call.throttled());
    }
    if !call.is_onlooker
        && core.temper.has(Rule::ExpiredToken)
        && let Some(refusal) = core.credentials.refuse(&call, Instant::now())
    {
        return Ok(refusal);
    }
    if !call.is_onlooker
        && core.temper.has(Rule::Contention)
        && let Some(refusal) = core.contention.refuse(&call)
    {
        return Ok(refusal);
    }
    let fault = core.faults.fire(&call);
    let (fault_id, action) = fault.unzip();
    let n = core.calls.begin(&call, fault_id);
    if let Some(refusal) = refusals::judge(core, &call, &parts, &body).await {
        core.calls.end(n, Some(refusal.status().as_u16()), None);
        return Ok(refusal.map(full));
    }
    let mut moto_status = None;
    let result = match before(&call, peer, action.as_ref()).await {
        Some(result) => result,
        None => {
            let response = effect_seen_late(core, &call, parts, body).await;
            moto_status = Some(response.status().as_u16());
            after(&call, peer, action.as_ref(), response).await
        }
    };
    let status = result.as_ref().ok().map(|response| response.status().as_u16());
    core.calls.end(n, status, moto_status);
    result
}

/// Takes a token of the caller's account.
async fn has_token(core: &Core, call: &AwsCall) -> bool {
    let Some(scope) = &call.scope else { return true };
    let account = core.converge.account(&scope.access_key).await.unwrap_or_default();
    core.buckets.take(&account, call, Instant::now())
}

/// What a fault does before the effect; `None`: the call goes on.
async fn before(call: &AwsCall, peer: Peer, action: Option<&FaultAction>) -> Option<Result<Response<Body>, Hangup>> {
    match action? {
        FaultAction::Hang(duration) => {
            tokio::time::sleep(*duration).await;
            None
        }
        FaultAction::Throttle => Some(Ok(call.throttled())),
        FaultAction::Status(status) => Some(Ok(call.broken(status_code(*status)))),
        FaultAction::Error { status, code, message } => Some(Ok(call.error(status_code(*status), code, message))),
        FaultAction::Reset(When::Before) => Some(Err(Hangup)),
        FaultAction::Kill(When::Before, signal) => Some(kill(call, peer, *signal)),
        FaultAction::Delay(_)
        | FaultAction::Truncate
        | FaultAction::Reset(When::After)
        | FaultAction::Kill(When::After, _) => None,
    }
}

/// What a fault does to the answer.
async fn after(
    call: &AwsCall,
    peer: Peer,
    action: Option<&FaultAction>,
    response: Response<Bytes>,
) -> Result<Response<Body>, Hangup> {
    match action {
        Some(FaultAction::Delay(duration)) => tokio::time::sleep(*duration).await,
        Some(FaultAction::Reset(When::After)) => return Err(Hangup),
        Some(FaultAction::Kill(When::After, signal)) => return kill(call, peer, *signal),
        Some(FaultAction::Truncate) => return truncated(response),
        _ => {}
    }
    Ok(response.map(full))
}

fn status_code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// A killed caller gets no answer. One that must not be killed gets an error that says why, so that the test fails
/// with the reason at hand.
fn kill(call: &AwsCall, peer: Peer, signal: crate::core::faults::Signal) -> Result<Response<Body>, Hangup> {
    match owner::kill_client(peer, signal) {
        Ok(()) => Err(Hangup),
        Err(error) => Ok(call.error(StatusCode::BAD_REQUEST, "LocalAwsKillFailed", &format!("{error:#}"))),
    }
}

/// Announces the whole answer and sends half of it.
fn truncated(response: Response<Bytes>) -> Result<Response<Body>, Hangup> {
    let (mut parts, body) = response.into_parts();
    if body.len() < 2 {
        return Err(Hangup);
    }
    parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    Ok(Response::from_parts(parts, CutBody::new(body.slice(..body.len() / 2)).boxed_unsync()))
}

/// The effect of a call, where a read may not see yet what was just made or deleted.
async fn effect_seen_late(core: &Core, call: &AwsCall, parts: Parts, body: Bytes) -> Response<Bytes> {
    if call.is_onlooker || !core.temper.has(Rule::LateReads) {
        return effect(core, call, parts, body).await;
    }
    let change = Late::before(&core.moto, call).await;
    let response = effect(core, call, parts, body).await;
    match change {
        Some(change) => {
            core.late.note(call, change, &response);
            response
        }
        None if call.mutating => response,
        None => core.late.seen_late(call, response),
    }
}

/// The call as AWS would have it: at moto, or answered for it; the nodes follow.
async fn effect(core: &Core, call: &AwsCall, parts: Parts, body: Bytes) -> Response<Bytes> {
    if call.service == "autoscaling" {
        core.compute.begin_use();
    }
    // Terminating an instance is all that EC2 can change for the nodes.
    let for_nodes = NODE_SERVICES.contains(&call.service.as_str()) || call.service == "ec2" && core.compute.is_used();
    if let Some(scope) = call.scope.as_ref().filter(|_| for_nodes) {
        core.converge.learn(scope).await;
    }
    if let Some(refusal) = refusals::refuse(core, call).await {
        return refusal;
    }
    if let Some(answer) = own_answer(core, call).await {
        return answer;
    }
    let body = if call.service == "ecs" { Ecs::onward(call).unwrap_or(body) } else { body };
    let response = pass(core, parts, body).await;
    if for_nodes
        && call.mutating
        && let Err(error) = core.converge.refresh().await
    {
        eprintln!("local-aws: after {}: {error:#}", call.operation);
    }
    if response.status().is_success() { corrected(core, call, response).await } else { response }
}

/// The answer to a call that moto cannot answer, or not well.
async fn own_answer(core: &Core, call: &AwsCall) -> Option<Response<Bytes>> {
    match (call.service.as_str(), call.operation.as_str()) {
        ("elasticloadbalancing", "DescribeTargetHealth") => {
            target_health::answer(&core.moto, &core.converge, &core.checker, call).await
        }
        ("autoscaling", _) => match core.refreshes.answer(call).await {
            Some(answer) => Some(answer),
            None => autoscaling::answer(&core.compute, call).await,
        },
        ("elasticloadbalancing", "DescribeTags") => target_groups::refuse_gone(&core.converge, call).await,
        ("ec2", _) => ec2::answer(&core.compute, call).await,
        ("ecs", _) => core.ecs.answer(call).await,
        ("monitoring", "GetMetricData") => {
            core.metrics.answer(call, core.temper.has(Rule::LateMetrics).then_some(core.seed))
        }
        ("lambda", _) => core.functions.answer(call),
        _ => None,
    }
}

/// moto's answer with what it lacks.
async fn corrected(core: &Core, call: &AwsCall, response: Response<Bytes>) -> Response<Bytes> {
    let Some(scope) = &call.scope else { return response };
    let text = || String::from_utf8_lossy(response.body()).into_owned();
    let corrected = match (call.service.as_str(), call.operation.as_str()) {
        ("ecs", _) => core.ecs.corrected(call, response.body()).await,
        ("autoscaling", "DescribeAutoScalingGroups") => {
            Some(autoscaling::rewrite_groups(&core.compute, &core.settings, scope, &text()))
        }
        ("autoscaling", _) => {
            core.settings.learn(call);
            None
        }
        ("ec2", "DescribeLaunchTemplates") => Some(ec2::rewrite_templates(&core.compute, scope, &text()).await),
        ("elasticloadbalancing", "ModifyTargetGroup" | "DescribeTargetGroups") => {
            core.grpc_codes.learn(call);
            Some(core.grpc_codes.rewrite(&text(), &core.converge.control()))
        }
        _ => None,
    };
    match corrected {
        Some(text) => with_body(response, text),
        None => response,
    }
}

async fn pass(core: &Core, mut parts: Parts, body: Bytes) -> Response<Bytes> {
    strip_hop_by_hop(&mut parts.headers);
    parts.headers.remove(hyper::header::EXPECT);
    let is_head = parts.method == Method::HEAD;
    let had_length = parts.headers.contains_key(CONTENT_LENGTH);
    if !body.is_empty() || had_length {
        // A body that came in chunks is whole by now.
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    match core.moto.pass(Request::from_parts(parts, Full::new(body))).await {
        Ok(response) => {
            let (mut parts, body) = response.into_parts();
            strip_hop_by_hop(&mut parts.headers);
            if !is_head {
                parts.headers.remove(CONTENT_LENGTH);
            }
            Response::from_parts(parts, body)
        }
        Err(error) => {
            let mut response = Response::new(Bytes::from(format!("local-aws: moto does not answer: {error:?}\n")));
            *response.status_mut() = match error {
                UpstreamError::Timeout => StatusCode::GATEWAY_TIMEOUT,
                UpstreamError::Connect | UpstreamError::Broken => StatusCode::BAD_GATEWAY,
            };
            response
        }
    }
}
