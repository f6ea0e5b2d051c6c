//! `POST /api/v1/vault/release`: the end of a quarantine.

use super::call::{Call, ReleaseQuarantine};
use super::refusal;
use super::routes::Routes;
use crate::http::Problem;
use crate::service::{ReleaseError, ReleaseOrder};
use axum::Json;
use axum::response::{IntoResponse, Response};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.post("/api/v1/vault/release", release)
}

async fn release(call: Call<ReleaseQuarantine>) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor) = (call.services.clone(), call.actor.clone());
    let order: ReleaseOrder = call.json_or_default().await?;
    let done = services.release_quarantine(&actor, &order).await.map_err(refused)?;
    Ok(Json(done).into_response())
}

fn refused(error: ReleaseError) -> Problem {
    match error {
        ReleaseError::NotQuarantined => Problem::conflict("not_quarantined", error.to_string()),
        ReleaseError::TooMuch => refusal::invalid_field("/spend", &error.to_string()),
        ReleaseError::NotStopped { .. } => {
            tracing::error!(%error, "the quarantine goes on");
            Problem::unavailable("not_confirmed", error.to_string(), 1)
        }
        ReleaseError::Unrecorded => Problem::unavailable("store_unavailable", error.to_string(), 1),
        ReleaseError::AlreadyDone(error) => refusal::already_done(error),
        ReleaseError::Guard(error) => refusal::guard(&error),
        ReleaseError::Store(error) => refusal::store(&error),
    }
}
