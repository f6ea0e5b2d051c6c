//! `/api/v1/vault/rotate` and `/rewrap`: the terms of the keyring.

use super::call::{Call, RotateVault};
use super::refusal;
use super::routes::Routes;
use super::vault::shown;
use crate::http::Problem;
use crate::service::{KekSourceError, OpenVaultError, RotateVaultError};
use axum::response::Response;
use http::StatusCode;

const SOURCE_RETRY_SECONDS: u64 = 10;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.post("/api/v1/vault/rotate", rotate).post("/api/v1/vault/rewrap", rewrap)
}

/// The new term is in force when this answers; the rest follows in the background.
async fn rotate(call: Call<RotateVault>) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor) = (call.services.clone(), call.actor.clone());
    call.no_json().await?;
    services.rotate_vault(&actor).await.map_err(refused)?;
    shown(&services, StatusCode::ACCEPTED).await
}

async fn rewrap(call: Call<RotateVault>) -> Result<Response, Problem> {
    call.no_params()?;
    let services = call.services.clone();
    call.no_json().await?;
    services.vault.keyring().map_err(refusal::sealed)?;
    services.ask_for_rewrap();
    shown(&services, StatusCode::ACCEPTED).await
}

fn refused(error: RotateVaultError) -> Problem {
    match error {
        RotateVaultError::Open(error) => not_opened(&error),
        RotateVaultError::Moved => Problem::conflict("keyring_moved", error.to_string()),
        RotateVaultError::AlreadyDone(error) => refusal::already_done(error),
        RotateVaultError::Guard(error) => refusal::guard(&error),
        RotateVaultError::Store(error) => refusal::store(&error),
    }
}

fn not_opened(error: &OpenVaultError) -> Problem {
    match error {
        OpenVaultError::Source(KekSourceError::Unavailable { .. }) => {
            Problem::unavailable("kek_unavailable", error.to_string(), SOURCE_RETRY_SECONDS)
        }
        OpenVaultError::Store(error) => refusal::store(error),
        OpenVaultError::Books(error) => Problem::internal(error),
        OpenVaultError::NotInstalled
        | OpenVaultError::SealedByOperator
        | OpenVaultError::Source(KekSourceError::Refused { .. })
        | OpenVaultError::WrongKey { .. }
        | OpenVaultError::Keyring(_) => Problem::conflict("kek_refused", error.to_string()),
    }
}
