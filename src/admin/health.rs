//! Liveness, readiness, metrics, and the key of the log.

use super::Admin;
use super::call::{Call, View};
use super::refusal;
use super::routes::Routes;
use crate::http::Problem;
use crate::service::{Services, log_key};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde_json::{Value, json};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get("/metrics", metrics).get("/api/v1/log/public-key", public_key)
}

/// The process answers.
pub(super) async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// The server can authenticate, reserve and record.
pub(super) async fn readyz(State(admin): State<Admin>) -> Response {
    let reasons = admin.services.not_ready().await;
    let is_ready = reasons.is_empty();
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let word = if is_ready { "ok" } else { "unavailable" };
    (status, Json(json!({"status": word, "reasons": reasons}))).into_response()
}

async fn metrics(call: Call<View>) -> Result<Response, Problem> {
    call.no_params()?;
    Ok(rendered(&call.services))
}

/// Metrics for a listener that only a scraper reaches.
pub(super) async fn bare_metrics(State(admin): State<Admin>) -> Response {
    rendered(&admin.services)
}

fn rendered(services: &Services) -> Response {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], services.metrics.render()).into_response()
}

/// By which signatures of the log are checked.
async fn public_key(call: Call<View>) -> Result<Response, Problem> {
    call.no_params()?;
    let keyring = call.services.vault.keyring().map_err(refusal::sealed)?;
    Ok(Json(json!({"public_key": log_key(&keyring)})).into_response())
}
