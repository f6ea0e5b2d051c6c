//! The sandbox's listener, and the paths that are no provider's.
//!
//! Whatever is not one of them is the provider's ([`super::endpoint`]), is counted and remembered, known or not.
//! `/sandbox/...` is for the tester: it needs no key and is neither counted nor remembered.

use super::Sandbox;
use super::call::{self, Closed};
use axum::extract::{Query, Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use serde::Deserialize;
use serde_json::{Value, json};
use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tower::ServiceExt;

/// Also how long an idle connection is kept, which hyper does not tell apart.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(75);
const BUFFER_BYTES_MAX: usize = 128 * 1024;
/// How long answers may go on after the shutdown began.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// A pause after the listener failed to accept (too many files, most often).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `shutdown` completes, then lets answers end for up to 5 s and aborts the rest.
///
/// # Errors
/// None at present: a failed accept is tried again.
pub async fn serve(
    listener: TcpListener,
    sandbox: Sandbox,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let router = sandbox.router();
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT).max_buf_size(BUFFER_BYTES_MAX);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = &mut shutdown => break,
        };
        let Ok((socket, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        // Without it the events of a stream wait for each other's acknowledgement. A socket that is gone already says so later.
        socket.set_nodelay(true).ok();
        let router = router.clone();
        let service = hyper::service::service_fn(move |request| answer(router.clone(), request));
        connections.spawn(graceful.watch(http.serve_connection(TokioIo::new(socket), service)));
    }
    drop(listener);
    let drained = tokio::time::timeout(DRAIN_MAX, graceful.shutdown()).await;
    if drained.is_err() {
        tracing::debug!("answers were cut at the end of the drain");
    }
    connections.shutdown().await;
    Ok(())
}

/// Closes the connection when it is told to: an error from the service does that.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer, as told")]
struct ClosedAsTold;

async fn answer(
    router: Router,
    request: hyper::Request<hyper::body::Incoming>,
) -> Result<Response, ClosedAsTold> {
    let Ok(response) = router.oneshot(request).await;
    if response.extensions().get::<Closed>().is_some() { Err(ClosedAsTold) } else { Ok(response) }
}

pub(super) fn router(sandbox: Sandbox) -> Router {
    Router::new()
        .route("/sandbox/bill", get(bill))
        .route("/sandbox/requests", get(requests))
        .route("/sandbox/held", get(held))
        .route("/sandbox/reset", post(reset))
        .route("/sandbox/release", post(release))
        .fallback(provider)
        .method_not_allowed_fallback(provider)
        .with_state(sandbox)
}

/// Everything that a provider has, and everything that it does not have.
async fn provider(State(sandbox): State<Sandbox>, request: Request) -> Response {
    call::answer(sandbox, request).await
}

async fn bill(State(sandbox): State<Sandbox>) -> Json<super::Bill> {
    Json(sandbox.bill())
}

async fn requests(State(sandbox): State<Sandbox>) -> Json<Vec<super::Received>> {
    Json(sandbox.requests())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeldQuery {
    #[serde(default)]
    count: u64,
}

async fn held(State(sandbox): State<Sandbox>, Query(query): Query<HeldQuery>) -> Json<Value> {
    Json(json!({"held": sandbox.wait_held(query.count).await}))
}

async fn reset(State(sandbox): State<Sandbox>) -> Json<Value> {
    sandbox.reset();
    Json(json!({"reset": true}))
}

async fn release(State(sandbox): State<Sandbox>) -> Json<Value> {
    Json(json!({"released": sandbox.release()}))
}
