//! HTTP/1.1 client connections to the targets, pooled, and single-use ones to moto.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::core::serve::BODY_LIMIT;

/// Shorter than the keep-alive of common servers, so that a reused connection is rarely closed under us.
const IDLE_LIMIT: Duration = Duration::from_secs(4);
const IDLE_PER_TARGET: usize = 32;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpstreamError {
    /// Nobody listens there.
    Connect,
    /// The answer took too long.
    Timeout,
    /// The connection broke, or the answer was no HTTP.
    Broken,
}

type Sender = SendRequest<Full<Bytes>>;

/// Idle connections by address.
#[derive(Debug, Default)]
pub(crate) struct Upstream {
    idle: Mutex<HashMap<SocketAddr, Vec<(Instant, Sender)>>>,
}

impl Upstream {
    /// Sends a request on a pooled connection, or on a fresh one.
    pub(crate) async fn send(
        &self,
        address: SocketAddr,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Response<Bytes>, UpstreamError> {
        let deadline = Instant::now() + limit;
        if let Some(mut sender) = self.take(address) {
            match until(deadline, sender.send_request(request.clone())).await? {
                Ok(response) => return self.finish(address, sender, response, deadline).await,
                // The target closed the idle connection as we picked it. No byte of an answer came, and a load
                // balancer must not turn this into a 502: try once more, on a fresh connection.
                Err(error) if error.is_canceled() || error.is_incomplete_message() || is_io(&error) => {}
                Err(_) => return Err(UpstreamError::Broken),
            }
        }
        let mut sender = connect(address).await?;
        let response = until(deadline, sender.send_request(request)).await?.map_err(|_| UpstreamError::Broken)?;
        self.finish(address, sender, response, deadline).await
    }

    async fn finish(
        &self,
        address: SocketAddr,
        sender: Sender,
        response: Response<Incoming>,
        deadline: Instant,
    ) -> Result<Response<Bytes>, UpstreamError> {
        let response = read(response, deadline).await?;
        if !sender.is_closed() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let pool = idle.entry(address).or_default();
            if pool.len() < IDLE_PER_TARGET {
                pool.push((Instant::now(), sender));
            }
        }
        Ok(response)
    }

    fn take(&self, address: SocketAddr) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = idle.get_mut(&address)?;
        pool.retain(|(since, sender)| since.elapsed() < IDLE_LIMIT && !sender.is_closed());
        let ready = pool.iter().rposition(|(_, sender)| sender.is_ready())?;
        Some(pool.swap_remove(ready).1)
    }
}

fn is_io(error: &hyper::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

/// Sends one request on a connection of its own.
pub(crate) async fn send_once(
    address: SocketAddr,
    request: Request<Full<Bytes>>,
    limit: Duration,
) -> Result<Response<Bytes>, UpstreamError> {
    let deadline = Instant::now() + limit;
    let mut sender = until(deadline, connect(address)).await??;
    let response = until(deadline, sender.send_request(request)).await?.map_err(|_| UpstreamError::Broken)?;
    read(response, deadline).await
}

async fn connect(address: SocketAddr) -> Result<Sender, UpstreamError> {
    let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) => return Err(UpstreamError::Connect),
        Err(_) => return Err(UpstreamError::Timeout),
    };
    let _ = stream.set_nodelay(true);
    let (sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|_| UpstreamError::Broken)?;
    // Ends by itself when the sender is dropped or the other side closes.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

async fn read(response: Response<Incoming>, deadline: Instant) -> Result<Response<Bytes>, UpstreamError> {
    let (parts, body) = response.into_parts();
    match until(deadline, Limited::new(body, BODY_LIMIT).collect()).await? {
        Ok(collected) => Ok(Response::from_parts(parts, collected.to_bytes())),
        Err(_) => Err(UpstreamError::Broken),
    }
}

async fn until<F: Future>(deadline: Instant, future: F) -> Result<F::Output, UpstreamError> {
    tokio::time::timeout_at(deadline, future).await.map_err(|_| UpstreamError::Timeout)
}

/// Removes the headers that belong to one connection, not to the message.
pub(crate) fn strip_hop_by_hop(headers: &mut hyper::HeaderMap) {
    for name in ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"] {
        headers.remove(name);
    }
}
