//! `/api/v1/providers`.

use super::call::{Call, ChangeProviders, StopProviders, View};
use super::entity;
use super::merge_patch::patched;
use super::refusal;
use super::routes::Routes;
use crate::http::Problem;
use crate::provider::endpoint::ProviderDocument;
use crate::service::{ChangeProviderError, CreateProviderError, DeleteProviderError};
use crate::store::provider::{ProviderRecord, ProviderStatus};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use std::convert::Infallible;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get("/api/v1/providers", list)
        .post("/api/v1/providers", create)
        .get("/api/v1/providers/{slug}", show)
        .patch("/api/v1/providers/{slug}", patch)
        .delete("/api/v1/providers/{slug}", delete)
        .post("/api/v1/providers/{slug}/suspend", suspend)
        .post("/api/v1/providers/{slug}/resume", resume)
}

/// A provider: its document, and what is known of it.
#[derive(Serialize)]
struct ProviderView {
    slug: String,
    #[serde(flatten)]
    document: Value,
    status: &'static str,
    version: i64,
    created_at: DateTime<Utc>,
}

impl From<ProviderRecord> for ProviderView {
    fn from(record: ProviderRecord) -> Self {
        let ProviderRecord { slug, version, mut document, status, created_at } = record;
        if let Some(document) = document.as_object_mut() {
            // Said once, by the row.
            document.remove("slug");
        }
        Self { slug, document, status: status.as_str(), version, created_at }
    }
}

fn shown(record: ProviderRecord) -> Response {
    let version = record.version;
    entity::one(&ProviderView::from(record), version)
}

async fn list(call: Call<View>) -> Result<Response, Problem> {
    let mut params = call.params()?;
    let page = params.page::<usize>()?;
    params.finish()?;
    let all = call.services.list_providers().await.map_err(|error| refusal::store(&error))?;
    Ok(entity::slice(all.into_iter().map(ProviderView::from).collect(), page.after, page.limit))
}

async fn show(call: Call<View>) -> Result<Response, Problem> {
    call.no_params()?;
    let found = call.services.provider(call.path("slug")).await.map_err(|error| refusal::store(&error))?;
    Ok(shown(found.ok_or_else(|| refusal::not_found("provider"))?))
}

async fn create(call: Call<ChangeProviders>) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor) = (call.services.clone(), call.actor.clone());
    let document: ProviderDocument = call.json().await?;
    let record = services.create_provider(&actor, document).await?;
    let version = record.version;
    Ok(entity::created(&ProviderView::from(record), version))
}

async fn patch(call: Call<ChangeProviders>) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor, expected) = (call.services.clone(), call.actor.clone(), call.expected_version()?);
    let slug = call.path("slug").to_owned();
    let patch = call.merge_patch().await?;
    let change = |old: &Value| patched(old.clone(), &patch);
    let record = services
        .change_provider(&actor, &slug, expected, change)
        .await
        .map_err(|error| changed(error, |problem| problem))?;
    Ok(shown(record))
}

async fn suspend(call: Call<StopProviders>) -> Result<Response, Problem> {
    set_status(call, ProviderStatus::Suspended).await
}

async fn resume(call: Call<ChangeProviders>) -> Result<Response, Problem> {
    set_status(call, ProviderStatus::Active).await
}

async fn set_status<P>(call: Call<P>, status: ProviderStatus) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor, expected) = (call.services.clone(), call.actor.clone(), call.expected_version()?);
    let slug = call.path("slug").to_owned();
    call.no_json().await?;
    let record = services.set_provider_status(&actor, &slug, expected, status).await;
    Ok(shown(record.map_err(|error| changed(error, |never: Infallible| match never {}))?))
}

async fn delete(call: Call<ChangeProviders>) -> Result<Response, Problem> {
    call.no_params()?;
    let expected = call.expected_version()?;
    call.services.delete_provider(&call.actor, call.path("slug"), expected).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

impl From<CreateProviderError> for Problem {
    fn from(error: CreateProviderError) -> Self {
        match error {
            CreateProviderError::Document(error) => {
                refusal::invalid_field(&error.field(), &error.to_string())
            }
            CreateProviderError::SlugTaken { slug } => {
                refusal::name_taken("there is a provider of this slug", slug)
            }
            CreateProviderError::AlreadyDone(error) => refusal::already_done(error),
            CreateProviderError::NotInForce(error) => refusal::not_confirmed(&error),
            CreateProviderError::Guard(error) => refusal::guard(&error),
            CreateProviderError::Store(error) => refusal::store(&error),
        }
    }
}

fn changed<R>(error: ChangeProviderError<R>, refused: impl FnOnce(R) -> Problem) -> Problem {
    match error {
        ChangeProviderError::NotFound => refusal::not_found("provider"),
        ChangeProviderError::Moved => refusal::version_mismatch("the provider was changed; read it again"),
        ChangeProviderError::Refused(reason) => refused(reason),
        ChangeProviderError::Document(error) => refusal::invalid_field(&error.field(), &error.to_string()),
        ChangeProviderError::SlugChanged => {
            refusal::invalid_field("/slug", "a slug cannot be changed; register another provider")
        }
        ChangeProviderError::Unmovable { credential, source } => {
            tracing::error!(%credential, error = %source, "a provider's key cannot be opened to be moved");
            let detail =
                format!("the key of {credential} cannot be moved to another origin; rotate it first");
            Problem::conflict("credential_unusable", detail).with_member("id", credential)
        }
        ChangeProviderError::AlreadyDone(error) => refusal::already_done(error),
        ChangeProviderError::NotInForce(error) => refusal::not_confirmed(&error),
        ChangeProviderError::Guard(error) => refusal::guard(&error),
        ChangeProviderError::Store(error) => refusal::store(&error),
    }
}

impl From<DeleteProviderError> for Problem {
    fn from(error: DeleteProviderError) -> Self {
        match error {
            DeleteProviderError::NotFound => refusal::not_found("provider"),
            DeleteProviderError::Moved => {
                refusal::version_mismatch("the provider was changed; read it again")
            }
            DeleteProviderError::InUse => {
                Self::conflict("in_use", "the provider has credentials; suspend it instead")
            }
            DeleteProviderError::NotInForce(error) => refusal::not_confirmed(&error),
            DeleteProviderError::Guard(error) => refusal::guard(&error),
            DeleteProviderError::Store(error) => refusal::store(&error),
        }
    }
}
