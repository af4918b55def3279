//! One request through an application load balancer's listener: rule, group, target, answer.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{HOST, HeaderMap, HeaderName, HeaderValue, LOCATION, SERVER, SET_COOKIE};
use hyper::{Request, Response, StatusCode};

use crate::core::serve::{self, Body, Hangup, Peer, full};
use crate::core::upstream::{UpstreamError, strip_hop_by_hop};
use crate::node::choice::Node;
use crate::node::config::{Action, Forward, Listener, Rule, View};
use crate::node::routing::{self, Original, Seen};

const STICKY_COOKIE: &str = "AWSALBTG";

pub(crate) async fn serve(
    node: &Node,
    listener: &str,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Response<Body>, Hangup> {
    let began = tokio::time::Instant::now();
    let mut told = Told::default();
    let result = answer_request(node, listener, peer, request, &mut told).await;
    if let (Ok(response), Some(load_balancer)) = (&result, told.load_balancer) {
        node.metrics.note(&load_balancer, told.group.as_deref(), response.status().as_u16(), began.elapsed());
    }
    result
}

/// What metrics need to know of a request.
#[derive(Default)]
struct Told {
    load_balancer: Option<String>,
    /// The group that answered; none if the load balancer did.
    group: Option<String>,
}

async fn answer_request(
    node: &Node,
    listener: &str,
    peer: Peer,
    request: Request<Incoming>,
    told: &mut Told,
) -> Result<Response<Body>, Hangup> {
    let (parts, body) = request.into_parts();
    let request = match serve::read_body(body).await {
        Ok(body) => Request::from_parts(parts, body),
        Err(status) => return Ok(own_answer(status)),
    };
    let view = node.view_of(peer.client, listener);
    let serves =
        |balancer: &&crate::node::config::LoadBalancer| balancer.listeners.iter().any(|one| one.arn == listener);
    told.load_balancer = view.load_balancers.iter().find(serves).map(|balancer| balancer.arn.clone());
    // Deleted while this connection was open.
    let listener = view.listener(listener).ok_or(Hangup)?;
    let host = host_of(&request);
    let (name, _) = split_port(&host);
    let uri = request.uri();
    let (path, query) = (uri.path(), uri.query().unwrap_or(""));
    let (method, headers) = (request.method().as_str(), request.headers());
    let seen = Seen { method, host: name, path, query, headers, client: peer.client.ip() };
    let rule = routing::matching_rule(&listener.rules, &seen);
    let Some((rule, action)) = rule.and_then(|rule| Some((rule, routing::final_action(rule)?))) else {
        return Ok(own_answer(StatusCode::SERVICE_UNAVAILABLE));
    };
    if let Some((status, sign_in)) = routing::turned_away(rule, headers) {
        return Ok(to(status, sign_in));
    }
    if let Action::Forward(forward) = action {
        let request = rewritten(rule, request);
        return Ok(forward_request(node, &view, (forward, listener), peer, request, told).await);
    }
    let protocol = protocol_of(listener);
    let original = Original { protocol, host: name, port: listener.port, path, query };
    Ok(direct_answer(action, &original))
}

fn direct_answer(action: &Action, original: &Original<'_>) -> Response<Body> {
    if let Some((status, location)) = routing::redirect_location(action, original) {
        return to(status, Some(&location));
    }
    let Action::Fixed { status, content_type, body } = action else {
        return own_answer(StatusCode::SERVICE_UNAVAILABLE);
    };
    let mut response = own_answer(StatusCode::from_u16(*status).unwrap_or(StatusCode::OK));
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(hyper::header::CONTENT_TYPE, content_type);
    }
    *response.body_mut() = full(body.clone());
    response
}

/// An answer that leads elsewhere, where there is a place.
fn to(status: u16, location: Option<&str>) -> Response<Body> {
    let mut response = own_answer(StatusCode::from_u16(status).unwrap_or(StatusCode::FOUND));
    if let Some(Ok(location)) = location.map(HeaderValue::from_str) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// The request as a rule rewrites it.
fn rewritten(rule: &Rule, request: Request<Bytes>) -> Request<Bytes> {
    let mut request = request;
    let url = request.uri().path_and_query().map_or("/", |url| url.as_str());
    let (host, url) = routing::rewritten(rule, &host_of(&request), url);
    if let Some(url) = url.and_then(|url| url.parse().ok()) {
        *request.uri_mut() = url;
    }
    if let Some(Ok(host)) = host.map(|host| HeaderValue::from_str(&host)) {
        request.headers_mut().insert(HOST, host);
    }
    request
}

async fn forward_request(
    node: &Node,
    view: &View,
    (forward, listener): (&Forward, &Listener),
    peer: Peer,
    request: Request<Bytes>,
    told: &mut Told,
) -> Response<Body> {
    let group = sticky_group(node, forward, request.headers()).or_else(|| node.draw(forward));
    let Some(group) = group.and_then(|arn| view.target_groups.get(arn)) else {
        return own_answer(StatusCode::SERVICE_UNAVAILABLE);
    };
    let Some(target) = node.next_target(view, group) else { return own_answer(StatusCode::SERVICE_UNAVAILABLE) };
    let request = onward(request, listener, peer);
    let mut response = match node.upstream.send(target, request, node.target_limit).await {
        Ok(response) => {
            told.group = Some(group.arn.clone());
            let (mut parts, body) = response.into_parts();
            strip_hop_by_hop(&mut parts.headers);
            Response::from_parts(parts, full(body))
        }
        Err(UpstreamError::Timeout) => own_answer(StatusCode::GATEWAY_TIMEOUT),
        Err(UpstreamError::Connect | UpstreamError::Broken) => own_answer(StatusCode::BAD_GATEWAY),
    };
    if let Some(duration) = forward.sticky {
        set_sticky(node, &group.arn, duration, response.headers_mut());
    }
    response
}

/// The request as the target gets it.
fn onward(request: Request<Bytes>, listener: &Listener, peer: Peer) -> Request<Full<Bytes>> {
    let host = host_of(&request);
    let (mut parts, body) = request.into_parts();
    strip_hop_by_hop(&mut parts.headers);
    // Full sets it again; a request without a body must not get one by the back door.
    if parts.headers.remove(hyper::header::EXPECT).is_some() {
        parts.headers.remove(hyper::header::CONTENT_LENGTH);
    }
    if let Some(path) = parts.uri.path_and_query().and_then(|path| path.as_str().parse().ok()) {
        parts.uri = path;
    }
    parts.version = hyper::Version::HTTP_11;
    let client = peer.client.ip().to_string();
    let earlier = parts.headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
    let forwarded_for = earlier.map_or_else(|| client.clone(), |earlier| format!("{earlier}, {client}"));
    for (name, value) in [
        (HOST, host),
        (HeaderName::from_static("x-forwarded-for"), forwarded_for),
        (HeaderName::from_static("x-forwarded-proto"), protocol_of(listener).to_owned()),
        (HeaderName::from_static("x-forwarded-port"), listener.port.to_string()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            parts.headers.insert(name, value);
        }
    }
    Request::from_parts(parts, Full::new(body))
}

fn protocol_of(listener: &Listener) -> &'static str {
    if listener.protocol == "HTTPS" { "https" } else { "http" }
}

fn host_of<B>(request: &Request<B>) -> String {
    let header = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    header.or_else(|| request.uri().authority().map(hyper::http::uri::Authority::as_str)).unwrap_or("").to_owned()
}

fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, Some(port)),
        _ => (host, None),
    }
}

/// An answer of the load balancer itself.
fn own_answer(status: StatusCode) -> Response<Body> {
    let text = format!("<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>\r\n");
    let mut response = serve::answer(status, "text/html", text);
    response.headers_mut().insert(SERVER, HeaderValue::from_static("awselb/2.0"));
    response
}

fn short(arn: &str) -> String {
    let mut hasher = DefaultHasher::new();
    arn.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// The group that a valid cookie names, if the action still has it. Its weight does not matter: a session stays with
/// a group at weight 0 until the cookie runs out, as with the real one.
fn sticky_group<'f>(node: &Node, forward: &'f Forward, headers: &HeaderMap) -> Option<&'f str> {
    forward.sticky?;
    let cookies = headers.get_all(hyper::header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let value = pairs.filter(|(name, _)| *name == STICKY_COOKIE).map(|(_, value)| value).next()?;
    let mut parts = value.split('.');
    let (instance, until, group) = (parts.next()?, parts.next()?.parse::<u64>().ok()?, parts.next()?);
    if instance != format!("{:08x}", node.instance) || until <= node.now_ms() {
        return None;
    }
    forward.groups.iter().find(|candidate| short(&candidate.arn) == group).map(|group| group.arn.as_str())
}

fn set_sticky(node: &Node, group: &str, duration: Duration, headers: &mut HeaderMap) {
    let until = node.now_ms().saturating_add(duration.as_secs().saturating_mul(1000));
    let value = format!("{:08x}.{until}.{}", node.instance, short(group));
    let age = duration.as_secs();
    for cookie in [
        format!("{STICKY_COOKIE}={value}; Max-Age={age}; Path=/"),
        format!("{STICKY_COOKIE}CORS={value}; Max-Age={age}; Path=/; SameSite=None"),
    ] {
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            headers.append(SET_COOKIE, cookie);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_their_port_only() {
        assert_eq!(split_port("a.org:80").0, "a.org");
        assert_eq!(split_port("a.org").0, "a.org");
    }
}
