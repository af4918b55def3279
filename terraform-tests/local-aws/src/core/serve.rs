//! The accept loop that the front, the load balancer's listeners and the app share, and the body type they answer with.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The largest request or answer body that anything here holds.
pub(crate) const BODY_LIMIT: usize = 16 * 1024 * 1024;

/// Longer than any client's idle pool, so that no client finds its pooled connection closed under it.
const HEADER_TIMEOUT: Duration = Duration::from_secs(600);

pub(crate) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Tells the accept loop to drop the TCP connection with a reset instead of answering.
#[derive(Debug)]
pub(crate) struct Hangup;

impl std::fmt::Display for Hangup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is dropped on purpose")
    }
}

impl std::error::Error for Hangup {}

/// Both ends of a connection, as the server sees them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    pub client: SocketAddr,
    pub local: SocketAddr,
}

/// Serves HTTP/1.1 until the task is aborted, which drops every open connection too.
pub(crate) async fn accept<H, F>(listener: TcpListener, handler: H)
where
    H: Fn(Peer, Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Result<Response<Body>, Hangup>> + Send + 'static,
{
    accept_streams(listener, move |stream, peer| connection(stream, peer, handler.clone())).await;
}

/// Accepts raw connections until the task is aborted.
pub(crate) async fn accept_streams<H, F>(listener: TcpListener, handler: H)
where
    H: Fn(TcpStream, Peer) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, client)) => {
                    let Ok(local) = stream.local_addr() else { continue };
                    // Without it the small answers of tests wait for delayed acknowledgements.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(handler(stream, Peer { client, local }));
                }
                // Out of descriptors: the only cure is to wait for connections to end.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn connection<H, F>(stream: TcpStream, peer: Peer, handler: H)
where
    H: Fn(Peer, Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Result<Response<Body>, Hangup>> + Send + 'static,
{
    let service = service_fn(move |request| handler(peer, request));
    let mut connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    if (&mut connection).await.is_err() {
        // A client must see a reset, not an orderly end, when an answer is withheld or cut.
        let _ = connection.into_parts().io.into_inner().set_zero_linger();
    }
}

/// Reads a whole body, or says that it is too large or broken.
pub(crate) async fn read_body(body: Incoming) -> Result<Bytes, StatusCode> {
    match Limited::new(body, BODY_LIMIT).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => Err(StatusCode::BAD_REQUEST),
    }
}

/// The same answer with another text.
pub(crate) fn with_body(response: Response<Bytes>, body: String) -> Response<Bytes> {
    let mut response = response.map(|_| Bytes::from(body));
    // The checksum that moto sends is of its own text.
    response.headers_mut().remove("x-amz-crc32");
    response
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// An answer with a status, a content type and a body; invalid parts cannot occur with the literals used here.
pub(crate) fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
}

/// The first part of a body, a pause in which it reaches the client, then a broken connection.
pub(crate) struct CutBody {
    first: Option<Bytes>,
    pause: Pin<Box<tokio::time::Sleep>>,
}

impl CutBody {
    pub(crate) fn new(first: Bytes) -> Self {
        Self { first: Some(first), pause: Box::pin(tokio::time::sleep(Duration::from_millis(50))) }
    }
}

impl hyper::body::Body for CutBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        match self.pause.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Some(Err(io::Error::other("the answer is cut on purpose")))),
        }
    }
}
