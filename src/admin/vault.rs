//! `/api/v1/vault`: how the vault stands, sealing and unsealing it.

use super::call::{Call, Seal, Unseal, ViewVault};
use super::refusal;
use super::routes::Routes;
use crate::base::Secret;
use crate::http::Problem;
use crate::service::{Presented, SealError, SealReason, Services, TermsState, UnsealError, VaultStatus};
use crate::vault::Quarantine;
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get("/api/v1/vault", show).post("/api/v1/vault/seal", seal).post("/api/v1/vault/unseal", unseal)
}

/// How the vault stands.
#[derive(Serialize)]
struct VaultView {
    sealed: bool,
    reason: Option<&'static str>,
    kek: KekView,
    term: Option<u32>,
    quarantine: Option<Quarantine>,
    #[serde(flatten)]
    terms: TermsState,
}

/// The configured source of the key-encryption key.
#[derive(Serialize)]
struct KekView {
    source: &'static str,
    description: String,
}

impl VaultView {
    fn new(status: VaultStatus, terms: TermsState) -> Self {
        let VaultStatus { sealed, kek_kind, kek, term, quarantine } = status;
        Self {
            sealed: sealed.is_some(),
            reason: sealed.map(SealReason::as_str),
            kek: KekView { source: kek_kind, description: kek },
            term,
            quarantine,
            terms,
        }
    }
}

/// What is presented: one thing at most.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct UnsealRequest {
    code: Option<Secret<String>>,
    kek: Option<Secret<String>>,
    passphrase: Option<Secret<String>>,
}

impl TryFrom<UnsealRequest> for Presented {
    type Error = Problem;

    fn try_from(request: UnsealRequest) -> Result<Self, Problem> {
        match (request.code, request.kek, request.passphrase) {
            (None, None, None) => Ok(Self::Nothing),
            (Some(code), None, None) => Ok(Self::Code(code)),
            (None, Some(kek), None) => Ok(Self::Kek(kek)),
            (None, None, Some(passphrase)) => Ok(Self::Passphrase(passphrase)),
            (_, Some(_), Some(_)) | (Some(_), _, Some(_)) | (Some(_), Some(_), None) => {
                Err(refusal::invalid_field("", "present one of code, kek and passphrase"))
            }
        }
    }
}

async fn show(call: Call<ViewVault>) -> Result<Response, Problem> {
    call.no_params()?;
    shown(&call.services, StatusCode::OK).await
}

/// The vault as it stands now.
pub(super) async fn shown(services: &Services, status: StatusCode) -> Result<Response, Problem> {
    let terms = services.terms_state().await.map_err(|error| refusal::store(&error))?;
    Ok((status, Json(VaultView::new(services.vault_status(), terms))).into_response())
}

async fn seal(call: Call<Seal>) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor) = (call.services.clone(), call.actor.clone());
    call.no_json().await?;
    let code = services.seal(&actor).await?;
    Ok(Json(json!({"unseal_code": code.expose()})).into_response())
}

async fn unseal(call: Call<Unseal>) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor) = (call.services.clone(), call.actor.clone());
    let presented: Presented = call.json_or_default::<UnsealRequest>().await?.try_into()?;
    services.unseal(&actor, &presented).await?;
    shown(&services, StatusCode::OK).await
}

impl From<SealError> for Problem {
    fn from(error: SealError) -> Self {
        match &error {
            SealError::Guard(error) => refusal::guard(error),
            SealError::NotWritten(_) => {
                tracing::error!(%error, "the vault was not sealed");
                let detail =
                    "whether the seal is written down is not known, and the vault is open; repeat the call";
                Self::unavailable("not_confirmed", detail, 1)
            }
        }
    }
}

impl From<UnsealError> for Problem {
    fn from(error: UnsealError) -> Self {
        match error {
            UnsealError::NotSealed => Self::conflict("not_sealed", "the vault is open"),
            UnsealError::Refused => Self::forbidden("unseal_refused", error.to_string()),
            UnsealError::TooOften { retry_after } => {
                let seconds = retry_after.as_secs() + 1;
                Self::too_many_requests("too_many_tries", error.to_string(), seconds)
            }
            UnsealError::Sealed(reason) => refusal::sealed(reason),
            UnsealError::Store(error) => refusal::store(&error),
        }
    }
}
