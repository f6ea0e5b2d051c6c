//! The proxy plane: serves applications, knows only sub-keys.

mod admit;
mod answers;
mod arrival;
mod attempts;
mod change;
mod deferred;
mod exchange;
mod forward;
mod headers;
mod identify;
mod lists;
mod local;
mod models;
mod objects;
mod pipeline;
mod rates;
mod read;
mod reasons;
mod refusal;
mod respond;
mod settle;
mod stops;
mod stream;
mod taking;
mod upload;
pub mod upstream;
mod voice;
mod whole;

pub use taking::Pace;
pub use voice::voice;

use crate::base::CidrSet;
use crate::http::{BodyBound, BodyRoom};
use crate::service::Services;
use answers::Answers;
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::get;
use std::ops::Deref;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use upstream::Upstream;

/// What the proxy is told.
#[derive(Clone, Debug)]
pub struct ProxySettings {
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: CidrSet,
    /// How much of a request's body is read, and for how long.
    pub body: BodyBound,
    /// How much of it where it is a form, which may carry files, in bytes.
    pub form_bytes_max: usize,
    /// What answers that are read whole may take together.
    pub answers: BodyRoom,
    /// How long a client may take for one of them.
    pub pace: Pace,
    /// The largest answer that is passed on unstreamed, in bytes.
    pub answer_bytes_max: usize,
    /// The largest error of a provider that is passed on, in bytes.
    pub error_body_bytes_max: usize,
    /// Requests in flight in all.
    pub in_flight_max: usize,
}

/// The proxy plane. Clones share it.
#[derive(Clone)]
pub struct Proxy(Arc<Inner>);

/// What [`Proxy`] shares.
pub struct Inner {
    services: Services,
    upstream: Upstream,
    settings: ProxySettings,
    places: Arc<Semaphore>,
    /// What answers that are read whole have of memory.
    answers: Answers,
    /// Exchanges under way; they settle before the process ends.
    tasks: TaskTracker,
    /// Ends streams that outlast the drain.
    cut_all: CancellationToken,
}

impl Deref for Proxy {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Proxy {
    /// Puts the plane together. `tasks` is waited for at the end; `cut_all` ends what is still under way.
    pub fn new(
        services: Services,
        upstream: Upstream,
        settings: ProxySettings,
        tasks: TaskTracker,
        cut_all: CancellationToken,
    ) -> Self {
        let places = Arc::new(Semaphore::new(settings.in_flight_max));
        let answers = Answers::new(settings.answers.clone(), settings.answer_bytes_max);
        Self(Arc::new(Inner { services, upstream, settings, places, answers, tasks, cut_all }))
    }

    /// Every path of the plane; what the operation table does not know is refused by it.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/healthz", get(local::healthz))
            .route("/readyz", get(local::readyz))
            .route("/bitting/self", get(local::myself))
            .fallback(serve)
            .method_not_allowed_fallback(serve)
            .with_state(self.clone())
    }

    /// A place for one more request, if there is one.
    fn enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }
}

async fn serve(State(proxy): State<Proxy>, request: Request<Body>) -> Response {
    pipeline::serve(proxy, request).await
}
