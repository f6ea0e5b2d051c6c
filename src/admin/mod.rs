//! The admin plane: the REST of operators. It knows operator tokens only; a sub-key is nobody here.
//!
//! A route exists only with the permission that it needs (`routes::Routes`); a handler gets a caller who has it
//! (`call::Call`), calls one verb and renders. A change that was begun is carried to its end, whoever hangs up.

mod access_log;
mod admin_log;
mod alarm;
mod call;
mod credential;
mod entity;
mod health;
mod import;
mod merge_patch;
mod model;
mod params;
mod project;
mod provider;
mod refusal;
mod routes;
mod subkey;
mod subkey_view;
mod usage;
mod vault;
mod vault_release;
mod vault_rotate;

use crate::http::{BodyBound, BodyRoom, Problem};
use crate::service::Services;
use axum::Router;
use axum::extract::{FromRef, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, Method};

pub use routes::Declared;
use routes::Routes;

/// What handlers share.
#[derive(Clone)]
struct Admin {
    services: Services,
    body: BodyBound,
    import_body: BodyBound,
}

impl FromRef<Admin> for BodyBound {
    fn from_ref(admin: &Admin) -> Self {
        admin.body.clone()
    }
}

/// The admin plane. `body` bounds what is read of a request, `import_body` what is read of a price list.
pub fn router(services: Services, body: BodyBound, import_body: BodyBound) -> Router {
    let (guarded, _) = guarded().into_parts();
    guarded
        .route("/healthz", routing::get(health::healthz))
        .route("/readyz", routing::get(health::readyz))
        .fallback(|| async { refusal::no_such_path() })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(middleware::from_fn_with_state(services.clone(), carry_through))
        .layer(middleware::map_response(no_store))
        .with_state(Admin { services, body, import_body })
}

/// Metrics by themselves, without a token: for a listener that only a scraper reaches.
pub fn metrics_router(services: Services) -> Router {
    let body = BodyBound { bytes_max: 0, read_timeout: std::time::Duration::ZERO, room: BodyRoom::new(0) };
    Router::new()
        .route("/metrics", routing::get(health::bare_metrics))
        .fallback(|| async { refusal::no_such_path() })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .with_state(Admin { services, body: body.clone(), import_body: body })
}

/// Every route that needs a permission, with the permission: for tests and documents, from the same table as the router.
pub fn declared_routes() -> Vec<Declared> {
    guarded().into_parts().1
}

fn guarded() -> Routes {
    let routes = Routes::default();
    let routes = health::routes(routes);
    let routes = project::routes(routes);
    let routes = provider::routes(routes);
    let routes = credential::routes(routes);
    let routes = subkey::routes(routes);
    let routes = model::routes(routes);
    let routes = import::routes(routes);
    let routes = usage::routes(routes);
    let routes = vault_rotate::routes(routes);
    let routes = access_log::routes(routes);
    let routes = alarm::routes(routes);
    let routes = vault::routes(routes);
    let routes = vault_release::routes(routes);
    admin_log::routes(routes)
}

/// Runs a change on a task of its own, so that a client that hangs up cannot end it between its commit and its coming
/// into force. What it did is in the checkpoint before it is answered. Reads end with their client.
async fn carry_through(State(services): State<Services>, request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    let change = async move {
        let response = next.run(request).await;
        // What was refused changed nothing.
        if !response.status().is_client_error() {
            services.keep_change().await;
        }
        response
    };
    match tokio::spawn(change).await {
        Ok(response) => response,
        Err(error) => match error.try_into_panic() {
            // The listener answers panics.
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => Problem::internal(&cancelled).into_response(),
        },
    }
}

async fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
