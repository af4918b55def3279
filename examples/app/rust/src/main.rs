//! A web app as both colors run it, the same to its clients as the one in `../express`: sessions are in Redis, so whoever
//! is logged in stays so when the other color serves.
//!
//! - `COLOR`, `RELEASE`: what it says of itself in `x-color` and `x-release`.
//! - `HOST`, `PORT`: where it listens; 0.0.0.0:8080.
//! - `REDIS_URL`: where sessions are; without it they are in this process, and lost to every other one.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use axum::extract::{Form, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use redis::AsyncCommands as _;
use redis::aio::ConnectionManager;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde::Deserialize;
use serde_json::json;

const COOKIE: &str = "sid";
/// How long a session lasts, in seconds.
const LIFETIME: u64 = 3600;

/// Where sessions are kept: users by the sessions' ids.
#[derive(Clone)]
enum Sessions {
    Redis(ConnectionManager),
    Memory(Arc<Mutex<HashMap<String, String>>>),
}

impl Sessions {
    async fn open(url: Option<String>) -> anyhow::Result<Sessions> {
        let Some(url) = url else { return Ok(Sessions::Memory(Arc::default())) };
        let client = redis::Client::open(url).context("REDIS_URL is no URL of a Redis")?;
        Ok(Sessions::Redis(client.get_connection_manager().await.context("Redis can't be reached")?))
    }

    async fn put(&self, id: &str, user: &str) -> anyhow::Result<()> {
        match self {
            Sessions::Redis(redis) => Ok(redis.clone().set_ex(format!("session:{id}"), user, LIFETIME).await?),
            Sessions::Memory(users) => {
                users.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), user.to_owned());
                Ok(())
            }
        }
    }

    async fn get(&self, id: &str) -> anyhow::Result<Option<String>> {
        match self {
            Sessions::Redis(redis) => Ok(redis.clone().get(format!("session:{id}")).await?),
            Sessions::Memory(users) => Ok(users.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()),
        }
    }

    async fn ping(&self) -> anyhow::Result<()> {
        match self {
            Sessions::Redis(redis) => Ok(redis.clone().ping().await?),
            Sessions::Memory(_) => Ok(()),
        }
    }
}

#[derive(Clone)]
struct App {
    color: String,
    release: String,
    sessions: Sessions,
}

/// A failure is an answer without details, which go to the log.
struct Failed(anyhow::Error);

impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(error: E) -> Failed {
        Failed(error.into())
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        eprintln!("{:#}", self.0);
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

async fn health(State(app): State<App>) -> Response {
    match app.sessions.ping().await {
        Ok(()) => Json(json!({ "status": "ok", "color": app.color, "release": app.release })).into_response(),
        Err(error) => {
            let body = json!({ "status": "failing", "reason": error.to_string() });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

#[derive(Deserialize)]
struct Login {
    #[serde(default)]
    user: String,
}

async fn login(State(app): State<App>, Form(login): Form<Login>) -> Result<Response, Failed> {
    if login.user.is_empty() {
        return Ok((StatusCode::BAD_REQUEST, Json(json!({ "error": "user is missing" }))).into_response());
    }
    let mut random = [0_u8; 32];
    SystemRandom::new().fill(&mut random).map_err(|_| anyhow::anyhow!("no randomness"))?;
    let id: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    app.sessions.put(&id, &login.user).await?;
    let cookie = format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Lax; Max-Age={LIFETIME}");
    Ok(([(header::SET_COOKIE, cookie)], Json(json!({ "user": login.user }))).into_response())
}

async fn whoami(State(app): State<App>, headers: HeaderMap) -> Result<Response, Failed> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let id = pairs.into_iter().find(|(name, _)| *name == COOKIE).map(|(_, id)| id.to_owned());
    let user = match id {
        Some(id) => app.sessions.get(&id).await?,
        None => None,
    };
    Ok(match user {
        Some(user) => Json(json!({ "user": user })).into_response(),
        None => (StatusCode::UNAUTHORIZED, Json(json!({ "error": "nobody is logged in" }))).into_response(),
    })
}

/// Every answer says who gives it.
async fn identify(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in [("x-color", &app.color), ("x-release", &app.release)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let or = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let sessions = Sessions::open(std::env::var("REDIS_URL").ok()).await?;
    let app = App { color: or("COLOR", "blue"), release: or("RELEASE", "1"), sessions };
    let address = format!("{}:{}", or("HOST", "0.0.0.0"), or("PORT", "8080"));
    let listener =
        tokio::net::TcpListener::bind(&address).await.with_context(|| format!("can't listen on {address}"))?;
    writeln!(std::io::stdout(), "{} {} on {}", app.color, app.release, listener.local_addr()?)?;
    let name = format!("{} {}\n", app.color, app.release);
    let routes = Router::new()
        .route("/", get(async move || name))
        .route("/health", get(health))
        .route("/login", post(login))
        .route("/whoami", get(whoami))
        .layer(middleware::from_fn_with_state(app.clone(), identify))
        .with_state(app);
    // Requests under way are answered before it ends: a color is taken down without losing any.
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let terminated = async move {
        terminate.recv().await;
    };
    axum::serve(listener, routes).with_graceful_shutdown(terminated).await?;
    Ok(())
}
