//! `/api/v1/providers/{slug}/credentials`. A secret goes in and is in no answer.

use super::call::{Call, StopCredentials, View, WriteCredentials};
use super::entity;
use super::merge_patch::patched;
use super::refusal;
use super::routes::Routes;
use crate::base::Secret;
use crate::budget::RateLimit;
use crate::http::Problem;
use crate::service::{CredentialError, NewCredential, Rotation};
use crate::store::credential::{CredentialRecord, Draining};
use axum::response::Response;
use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get("/api/v1/providers/{slug}/credentials", list)
        .post("/api/v1/providers/{slug}/credentials", create)
        .patch("/api/v1/providers/{slug}/credentials/{id}", patch)
        .post("/api/v1/providers/{slug}/credentials/{id}/rotate", rotate)
        .post("/api/v1/providers/{slug}/credentials/{id}/disable", disable)
}

/// A credential without its secret.
#[derive(Serialize)]
struct CredentialView {
    id: String,
    provider: String,
    name: String,
    weight: i64,
    projects: Option<Vec<String>>,
    organization: Option<String>,
    openai_project: Option<String>,
    rate_limits: Vec<RateLimit>,
    status: &'static str,
    secret_version: i64,
    draining: Option<DrainingView>,
    rotation_due: Option<String>,
    version: i64,
    created_at: DateTime<Utc>,
    created_by: String,
}

/// The version before the one in use, while it drains.
#[derive(Serialize)]
struct DrainingView {
    secret_version: i64,
    until: DateTime<Utc>,
}

impl From<CredentialRecord> for CredentialView {
    fn from(record: CredentialRecord) -> Self {
        Self {
            id: record.id,
            provider: record.provider,
            name: record.name,
            weight: record.weight,
            projects: record.projects,
            organization: record.organization,
            openai_project: record.openai_project,
            rate_limits: record.rate_limits,
            status: record.status.as_str(),
            secret_version: record.secret_version,
            draining: record
                .draining
                .map(|Draining { secret_version, until }| DrainingView { secret_version, until }),
            rotation_due: record.rotation_due,
            version: record.version,
            created_at: record.created_at,
            created_by: record.created_by,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateRequest {
    name: String,
    secret: Secret<String>,
    #[serde(default = "one")]
    weight: u32,
    #[serde(default)]
    projects: Option<Vec<String>>,
    #[serde(default)]
    organization: Option<String>,
    #[serde(default)]
    openai_project: Option<String>,
    #[serde(default)]
    rate_limits: Vec<RateLimit>,
}

/// What can be changed without a new key.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Changeable {
    #[serde(default)]
    rate_limits: Vec<RateLimit>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RotateRequest {
    secret: Secret<String>,
    #[serde(default)]
    drain_seconds: Option<u32>,
    #[serde(default = "yes")]
    probe: bool,
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

fn shown(record: CredentialRecord) -> Response {
    let version = record.version;
    entity::one(&CredentialView::from(record), version)
}

async fn list(call: Call<View>) -> Result<Response, Problem> {
    let mut params = call.params()?;
    let page = params.page::<usize>()?;
    params.finish()?;
    let all =
        call.services.list_credentials(call.path("slug")).await.map_err(|error| refusal::store(&error))?;
    let all = all.ok_or_else(|| refusal::not_found("provider"))?;
    Ok(entity::slice(all.into_iter().map(CredentialView::from).collect(), page.after, page.limit))
}

async fn create(call: Call<WriteCredentials>) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor, slug) = (call.services.clone(), call.actor.clone(), call.path("slug").to_owned());
    let CreateRequest { name, secret, weight, projects, organization, openai_project, rate_limits } =
        call.json().await?;
    let new = NewCredential { name, secret, weight, projects, organization, openai_project, rate_limits };
    let record = services.create_credential(&actor, &slug, new).await?;
    let version = record.version;
    Ok(entity::created(&CredentialView::from(record), version))
}

async fn patch(call: Call<WriteCredentials>) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor, expected) = (call.services.clone(), call.actor.clone(), call.expected_version()?);
    let (slug, id) = (call.path("slug").to_owned(), call.path("id").to_owned());
    let patch = call.merge_patch().await?;
    let old = services.credential(&slug, &id).await?;
    // What another changes meanwhile is not written over.
    let expected = expected.unwrap_or(old.version);
    let old = serde_json::to_value(Changeable { rate_limits: old.rate_limits });
    let Changeable { rate_limits } = patched(old.map_err(|error| Problem::internal(&error))?, &patch)?;
    Ok(shown(services.limit_credential(&actor, (&slug, &id), Some(expected), rate_limits).await?))
}

async fn rotate(call: Call<WriteCredentials>) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor, expected) = (call.services.clone(), call.actor.clone(), call.expected_version()?);
    let (slug, id) = (call.path("slug").to_owned(), call.path("id").to_owned());
    let RotateRequest { secret, drain_seconds, probe } = call.json().await?;
    let drain = drain_seconds.map(|seconds| TimeDelta::seconds(i64::from(seconds)));
    let rotation = Rotation { secret, drain, probe };
    Ok(shown(services.rotate_credential(&actor, (&slug, &id), expected, rotation).await?))
}

async fn disable(call: Call<StopCredentials>) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor, expected) = (call.services.clone(), call.actor.clone(), call.expected_version()?);
    let (slug, id) = (call.path("slug").to_owned(), call.path("id").to_owned());
    call.no_json().await?;
    Ok(shown(services.disable_credential(&actor, (&slug, &id), expected).await?))
}

impl From<CredentialError> for Problem {
    fn from(error: CredentialError) -> Self {
        match error {
            CredentialError::NotFound => refusal::not_found("provider or credential"),
            CredentialError::Moved => refusal::version_mismatch("the credential was changed; read it again"),
            CredentialError::Fault(fault) => refusal::invalid_field(&fault.field, fault.detail),
            CredentialError::ProviderUnusable => {
                Self::conflict("provider_unusable", "the provider's document cannot be used; patch it first")
            }
            CredentialError::NameTaken { id } => {
                refusal::name_taken("the provider has a credential of this name", id)
            }
            CredentialError::NotAccepted { .. } => {
                Self::conflict("credential_not_accepted", error.to_string())
            }
            CredentialError::ProbeFailed { .. } => {
                let detail =
                    format!("{error}; repeat the call, or pass \"probe\": false to rotate without trying");
                Self::new(StatusCode::BAD_GATEWAY, "probe_failed", detail)
            }
            CredentialError::AlreadyDone(error) => refusal::already_done(error),
            CredentialError::NotInForce(error) => refusal::not_confirmed(&error),
            CredentialError::Guard(error) => refusal::guard(&error),
            CredentialError::Store(error) => refusal::store(&error),
        }
    }
}
