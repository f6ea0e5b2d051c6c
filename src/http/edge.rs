//! What every request meets before any route: its id, its peer, and the bounds that hyper does not know.

use crate::base::Entropy;
use crate::http::listener::Limits;
use crate::http::{EdgeRefusal, Problem, RequestId, Say, Voice};
use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST};
use http::uri::Authority;
use http::{HeaderName, HeaderValue, Method, Request, Version};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// The other end of the connection. In the extensions of every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    socket: SocketAddr,
    /// For whom a relay connected.
    client: Option<SocketAddr>,
}

impl Peer {
    pub(super) fn new(socket: SocketAddr) -> Self {
        Self { socket, client: None }
    }

    /// The same connection, made by a relay for this client.
    pub(super) fn relaying(self, client: SocketAddr) -> Self {
        Self { client: Some(client), ..self }
    }

    /// Who sends the requests: the client that a relay named, else the socket's other end. A v4 address that came in
    /// through a v6 socket is a v4 address.
    pub fn ip(self) -> IpAddr {
        self.client.unwrap_or(self.socket).ip().to_canonical()
    }

    /// The socket's other end, whoever it connected for.
    pub fn socket_ip(self) -> IpAddr {
        self.socket.ip().to_canonical()
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.client {
            Some(client) => write!(f, "{client} by {}", self.socket),
            None => self.socket.fmt(f),
        }
    }
}

/// Ends a connection that carries one request at a time. In the extensions of every request of such a one.
#[derive(Clone, Debug)]
pub struct HangUp(pub(super) CancellationToken);

impl HangUp {
    /// Ends it now. What the client has not read is lost to it.
    pub fn now(&self) {
        self.0.cancel();
    }
}

/// The service of one connection.
pub(super) struct Edge {
    pub(super) app: Router,
    pub(super) peer: Peer,
    /// `None` where requests share the connection.
    pub(super) hang_up: Option<HangUp>,
    pub(super) voice: Voice,
    pub(super) entropy: Entropy,
    pub(super) limits: Arc<Limits>,
    /// How many requests of this connection have no complete answer yet.
    pub(super) in_flight: watch::Sender<usize>,
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-bitting-request-id");

impl hyper::service::Service<Request<Incoming>> for Edge {
    type Response = Response<Tracked>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let guard = InFlight::enter(&self.in_flight);
        let id = RequestId::new(&self.entropy);
        let refusal = refusal(&request, &self.limits);
        let say = (self.voice)(request.headers());
        let (app, peer, hang_up) = (self.app.clone(), self.peer, self.hang_up.clone());
        Box::pin(async move {
            let mut response = if let Some(refusal) = refusal {
                closing(say(refusal, &id), request.version())
            } else {
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(peer);
                hang_up.map(|hang_up| request.extensions_mut().insert(hang_up));
                request.extensions_mut().insert(id.clone());
                let Ok(response) = app.oneshot(request).await;
                response
            };
            name(&mut response, &id, say);
            Ok(response.map(|inner| Tracked { inner, _guard: guard }))
        })
    }
}

/// Bounds on the head, and what has no meaning or two here.
fn refusal<B>(request: &Request<B>, limits: &Limits) -> Option<EdgeRefusal> {
    let uri_bytes = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if uri_bytes > limits.uri_bytes_max {
        return Some(EdgeRefusal::UriTooLong { bytes_max: limits.uri_bytes_max });
    }
    if request.headers().len() > limits.headers_max {
        return Some(EdgeRefusal::TooManyHeaders { headers_max: limits.headers_max });
    }
    if request.method() == Method::CONNECT {
        return Some(EdgeRefusal::Connect);
    }
    if !request.uri().path().starts_with('/') {
        return Some(EdgeRefusal::NoPath);
    }
    (!has_one_host(request)).then_some(EdgeRefusal::Host)
}

/// Nothing here hangs on the host. But where two places name two, something before us may have gone by the other.
fn has_one_host<B>(request: &Request<B>) -> bool {
    let target = request.uri().authority();
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => false,
        (None, _) => request.version() != Version::HTTP_11,
        (Some(host), None) if host.is_empty() => target.is_none(),
        (Some(host), None) => Authority::try_from(host.as_bytes()).is_ok_and(|host| {
            let same = target.is_none_or(|target| target.host().eq_ignore_ascii_case(host.host()));
            same && !host.as_str().contains('@')
        }),
    }
}

/// An answer after which nothing more is read from the connection. HTTP/2 ends the stream alone.
fn closing(mut response: Response, version: Version) -> Response {
    if version <= Version::HTTP_11 {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Puts the request's id into the headers, and into the body where that is a problem.
fn name(response: &mut Response, id: &RequestId, say: Say) {
    if let Some(refusal) = response.extensions_mut().remove::<EdgeRefusal>() {
        *response = say(refusal, id);
    }
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let named = problem.with_request_id(id).into_response();
        *response.body_mut() = named.into_body();
        // The length of the body before it was named.
        response.headers_mut().remove(CONTENT_LENGTH);
    }
    if let Some(value) = id.header_value() {
        response.headers_mut().entry(REQUEST_ID).or_insert(value);
    }
}

/// Counts one request until its answer is complete or dropped.
struct InFlight(watch::Sender<usize>);

impl InFlight {
    fn enter(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// An answer's body, which keeps its request counted.
pub(super) struct Tracked {
    inner: Body,
    _guard: InFlight,
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
