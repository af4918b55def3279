//! Reads from a request which AWS call it is, and words errors as its protocol does.

use hyper::body::Bytes;
use hyper::header::HeaderValue;
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use serde_json::{Map, Value};

use crate::core::moto::{ONLOOKER, Scope};
use crate::core::serve::{Body, full};

/// Longer parameters are left out of the log.
const LOGGED_BODY: usize = 64 * 1024;

/// How a service words things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Query,
    Json,
    Rest,
}

/// One AWS call.
#[derive(Clone, Debug)]
pub(crate) struct AwsCall {
    pub service: String,
    pub operation: String,
    pub mutating: bool,
    pub scope: Option<Scope>,
    pub parameters: Value,
    /// Whether it is of a test that arranges or looks on, and not of what is tested.
    pub is_onlooker: bool,
    protocol: Protocol,
}

impl AwsCall {
    pub(crate) fn read(parts: &Parts, body: &Bytes) -> Self {
        let (service, scope) = credential_scope(parts);
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let is_form = header("content-type").is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
        let fields: Vec<(String, String)> = {
            let query = form_urlencoded::parse(parts.uri.query().unwrap_or("").as_bytes()).into_owned();
            let form: &[u8] = if is_form { body } else { b"" };
            query.chain(form_urlencoded::parse(form).into_owned()).collect()
        };
        let action = fields.iter().find(|(name, _)| name == "Action").map(|(_, value)| value.clone());
        let target = header("x-amz-target").and_then(|target| target.rsplit('.').next());
        let in_path = parts.uri.path().split_once("/operation/").map(|(_, operation)| operation);
        let (operation, protocol) = match (target.or(in_path), action) {
            (Some(operation), _) => (operation.to_owned(), Protocol::Json),
            (None, Some(action)) => (action, Protocol::Query),
            (None, None) => (format!("{} {}", parts.method, parts.uri.path()), Protocol::Rest),
        };
        let mutating = match protocol {
            Protocol::Rest => parts.method != Method::GET && parts.method != Method::HEAD,
            Protocol::Query | Protocol::Json => is_mutating(&operation),
        };
        let parameters = if body.len() > LOGGED_BODY {
            Value::Null
        } else if protocol == Protocol::Query {
            Value::Object(fields.into_iter().map(|(name, value)| (name, Value::String(value))).collect::<Map<_, _>>())
        } else {
            serde_json::from_slice(body).unwrap_or(Value::Null)
        };
        let is_onlooker = parts.headers.contains_key(ONLOOKER);
        Self { service, operation, mutating, scope, parameters, is_onlooker, protocol }
    }

    /// A call as it would be read, for tests.
    #[cfg(test)]
    pub(crate) fn named(service: &str, operation: &str, parameters: Value) -> Self {
        let (service, operation, mutating) = (service.to_owned(), operation.to_owned(), is_mutating(operation));
        Self { service, operation, mutating, scope: None, parameters, is_onlooker: false, protocol: Protocol::Json }
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name)?.as_str()
    }

    /// The answer "too many calls", in the words of the service.
    pub(crate) fn throttled(&self) -> Response<Body> {
        let code = match (self.protocol, self.service.as_str()) {
            (Protocol::Query, "ec2") => "RequestLimitExceeded",
            (Protocol::Query, _) => "Throttling",
            (Protocol::Json | Protocol::Rest, _) => "ThrottlingException",
        };
        self.error(StatusCode::BAD_REQUEST, code, "Rate exceeded")
    }

    /// The answer "these credentials have ended", in the words of the service.
    pub(crate) fn expired(&self) -> Response<Body> {
        let (status, code) = match self.protocol {
            Protocol::Query => (StatusCode::FORBIDDEN, "ExpiredToken"),
            Protocol::Json | Protocol::Rest => (StatusCode::BAD_REQUEST, "ExpiredTokenException"),
        };
        let code = if self.service == "ec2" { "RequestExpired" } else { code };
        self.error(status, code, "The security token included in the request is expired")
    }

    /// An internal error of the service.
    pub(crate) fn broken(&self, status: StatusCode) -> Response<Body> {
        let code = match (status, self.service.as_str()) {
            (StatusCode::SERVICE_UNAVAILABLE, _) => "ServiceUnavailable",
            (_, "ssm") => "InternalServerError",
            _ => "InternalFailure",
        };
        self.error(status, code, "The request processing has failed because of an unknown error")
    }

    /// A refusal that is answered in place of moto.
    pub(crate) fn refuse(&self, code: &str, message: &str) -> Response<Bytes> {
        self.error_bytes(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn error(&self, status: StatusCode, code: &str, message: &str) -> Response<Body> {
        self.error_bytes(status, code, message).map(full)
    }

    fn error_bytes(&self, status: StatusCode, code: &str, message: &str) -> Response<Bytes> {
        let id = format!("local-aws-{:016x}", fastrand::u64(..));
        let query = self.protocol == Protocol::Query;
        let body = if query {
            self.xml_error(status, code, message, &id)
        } else {
            serde_json::json!({ "__type": code, "message": message, "Message": message }).to_string()
        };
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let kind = if query { "text/xml" } else { "application/x-amz-json-1.1" };
        headers.insert("content-type", HeaderValue::from_static(kind));
        if let Ok(code) = code.parse()
            && !query
        {
            headers.insert("x-amzn-errortype", code);
        }
        if let Ok(id) = id.parse() {
            headers.insert("x-amzn-requestid", id);
        }
        response
    }

    fn xml_error(&self, status: StatusCode, code: &str, message: &str, id: &str) -> String {
        let (code, message) = (quick_xml::escape::escape(code), quick_xml::escape::escape(message));
        let kind = if status.is_server_error() { "Receiver" } else { "Sender" };
        if self.service == "ec2" {
            return format!(
                "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>\
                 <RequestID>{id}</RequestID></Response>"
            );
        }
        format!(
            "<ErrorResponse><Error><Type>{kind}</Type><Code>{code}</Code><Message>{message}</Message></Error>\
             <RequestId>{id}</RequestId></ErrorResponse>"
        )
    }
}

/// `Credential=KEY/DATE/REGION/SERVICE/aws4_request`, from the header or from a presigned address.
fn credential_scope(parts: &Parts) -> (String, Option<Scope>) {
    let header = parts.headers.get("authorization").and_then(|value| value.to_str().ok());
    let from_header = header.and_then(|value| value.split_once("Credential=")).map(|(_, rest)| rest.to_owned());
    let presigned = || {
        let mut pairs = form_urlencoded::parse(parts.uri.query().unwrap_or("").as_bytes());
        pairs.find(|(name, _)| name == "X-Amz-Credential").map(|(_, value)| value.into_owned())
    };
    let Some(credential) = from_header.or_else(presigned) else { return ("unknown".to_owned(), None) };
    let credential = credential.split([',', ' ']).next().unwrap_or("");
    // From the right: nothing forbids a slash in a key.
    let fields: Vec<&str> = credential.rsplitn(5, '/').collect();
    match fields[..] {
        [_, service, region, _, key] => {
            (service.to_owned(), Some(Scope { access_key: key.to_owned(), region: region.to_owned() }))
        }
        _ => ("unknown".to_owned(), None),
    }
}

fn is_mutating(operation: &str) -> bool {
    const READING: [&str; 10] =
        ["Describe", "Get", "List", "Head", "BatchGet", "Search", "Lookup", "Query", "AssumeRole", "Decode"];
    !READING.iter().any(|prefix| operation.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn read(request: hyper::http::request::Builder, body: &'static str) -> AwsCall {
        let (parts, body) = request.body(Bytes::from_static(body.as_bytes())).expect("a valid request").into_parts();
        AwsCall::read(&parts, &body)
    }

    fn credential(service: &str) -> String {
        format!("AWS4-HMAC-SHA256 Credential=KEY/20250101/eu-west-1/{service}/aws4_request, SignedHeaders=host")
    }

    #[test]
    fn query_calls() {
        let request = Request::post("/")
            .header("content-type", "application/x-www-form-urlencoded; charset=utf-8")
            .header("authorization", credential("elasticloadbalancing"));
        let call = read(request, "Action=ModifyListener&ListenerArn=a%3Ab");
        assert_eq!((call.service.as_str(), call.operation.as_str()), ("elasticloadbalancing", "ModifyListener"));
        assert!(call.mutating);
        assert_eq!(call.parameter("ListenerArn"), Some("a:b"));
        assert_eq!(call.scope.map(|scope| (scope.access_key, scope.region)), Some(("KEY".into(), "eu-west-1".into())));
    }

    #[test]
    fn json_calls() {
        let request = Request::post("/")
            .header("x-amz-target", "AmazonSSM.GetParameters")
            .header("authorization", credential("ssm"));
        let call = read(request, r#"{"Names":["a"]}"#);
        assert_eq!((call.service.as_str(), call.operation.as_str()), ("ssm", "GetParameters"));
        assert!(!call.mutating);
        assert_eq!(call.parameters["Names"][0], "a");
        assert_eq!(call.throttled().headers()["x-amzn-errortype"], "ThrottlingException");
    }

    #[test]
    fn anything_else_is_taken_without_panic() {
        let call = read(Request::put("/bucket/key").header("authorization", "Credential=///"), "\u{0}");
        assert_eq!((call.service.as_str(), call.operation.as_str()), ("unknown", "PUT /bucket/key"));
        assert!(call.mutating);
    }
}
