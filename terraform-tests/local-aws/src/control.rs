//! The control API of this program itself, under `/_local/`.

use hyper::body::Bytes;
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use crate::core::faults::FaultSpec;
use crate::core::serve::{Body, answer};
use crate::state::Core;

pub(crate) async fn serve(core: &Core, parts: &Parts, body: &Bytes) -> Response<Body> {
    let path = parts.uri.path().trim_start_matches("/_local/");
    match (&parts.method, path) {
        (&Method::GET, "ready") => to_json(&json!({ "ready": true })),
        (&Method::GET, "load-balancers") => to_json(&core.data_plane.load_balancers()),
        (&Method::GET, "calls") => to_json(&core.calls.list()),
        (&Method::DELETE, "calls") => {
            core.calls.clear();
            to_json(&json!({}))
        }
        (&Method::GET, "faults") => to_json(&core.faults.list()),
        (&Method::POST, "faults") => match serde_json::from_slice::<FaultSpec>(body) {
            Ok(spec) => to_json(&json!({ "id": core.faults.add(spec) })),
            Err(error) => refuse(StatusCode::BAD_REQUEST, &error.to_string()),
        },
        (&Method::DELETE, "faults") => {
            core.faults.clear();
            to_json(&json!({}))
        }
        (&Method::POST, "refresh") => match core.converge.refresh().await {
            Ok(()) => to_json(&json!({})),
            Err(error) => refuse(StatusCode::BAD_GATEWAY, &format!("{error:#}")),
        },
        (&Method::POST, "quit") => {
            core.quit.notify_one();
            to_json(&json!({}))
        }
        _ => refuse(StatusCode::NOT_FOUND, "no such thing"),
    }
}

fn to_json(value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(mut text) => {
            text.push(b'\n');
            answer(StatusCode::OK, "application/json", text)
        }
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

fn refuse(status: StatusCode, why: &str) -> Response<Body> {
    answer(status, "application/json", format!("{}\n", json!({ "error": why })))
}
