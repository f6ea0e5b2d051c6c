//! `/api/v1/subkeys`. A secret is in the answer of mint and of rotate, and nowhere else.

use super::call::{Call, ChangeSubkeys, IssueSubkeys, StopSubkeys, View};
use super::entity;
use super::merge_patch::patched;
use super::params::PageParams;
use super::refusal;
use super::routes::Routes;
use super::subkey_view::{ExplanationView, SubKeyView};
use crate::http::Problem;
use crate::http::json::parse_strict;
use crate::policy::Operation;
use crate::provider::Dialect;
use crate::service::{
    Asked, ChangeSubkeyError, ListSubkeysError, MintError, Question, RotateRefusal, Services, StateRefusal,
    SubKeyQuery, SubKeyState, SubKeyStatus,
};
use crate::store::Cursor;
use crate::subkey::{DEFAULT_PROJECT, Definition, State, SubKeyId};
use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::net::IpAddr;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get("/api/v1/subkeys", list)
        .post("/api/v1/subkeys", mint)
        .get("/api/v1/subkeys/{id}", show)
        .patch("/api/v1/subkeys/{id}", patch)
        .post("/api/v1/subkeys/{id}/rotate", rotate)
        .post("/api/v1/subkeys/{id}/suspend", suspend)
        .post("/api/v1/subkeys/{id}/resume", resume)
        .post("/api/v1/subkeys/{id}/revoke", revoke)
        .post("/api/v1/subkeys/{id}/explain", explain)
}

/// A sub-key and its secret, which is shown this once.
#[derive(Serialize)]
struct WithSecret<'a> {
    subkey: SubKeyView,
    secret: &'a str,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RotateRequest {
    overlap_seconds: u32,
}

impl Default for RotateRequest {
    fn default() -> Self {
        Self { overlap_seconds: 86_400 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainRequest {
    #[serde(default)]
    operation: Option<Operation>,
    #[serde(default)]
    dialect: Option<Dialect>,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    client_ip: Option<IpAddr>,
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    max_output_tokens: Option<u64>,
}

fn shown(state: SubKeyState, services: &Services) -> Response {
    let version = state.subkey.version;
    entity::one(&SubKeyView::new(state, services), version)
}

async fn list(call: Call<View>) -> Result<Response, Problem> {
    let mut params = call.params()?;
    let what = "active, suspended, revoked, expired or exhausted";
    let query = SubKeyQuery {
        project: params.text("project"),
        status: params.with("status", what, SubKeyStatus::parse)?,
        label: params.text("label").map(label),
        q: params.text("q"),
        unused_for: params.duration("unused_for")?,
        expires_before: params.time("expires_before")?,
    };
    let PageParams { after, limit } = params.page::<Cursor<String>>()?;
    params.finish()?;
    let page = call.services.list_subkeys(&call.actor, &query, after, limit).await?;
    let view = |state| SubKeyView::new(state, &call.services);
    Ok(entity::list(page.items.into_iter().map(view).collect(), page.next))
}

/// `name=value`, or `name` with any value.
fn label(text: String) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text, None),
    }
}

async fn mint(call: Call<IssueSubkeys>) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor) = (call.services.clone(), call.actor.clone());
    let asked: Map<String, Value> = call.json().await?;
    let definition = completed(asked, &services)?;
    let minted = services.mint_subkey(&actor, definition).await?;
    let version = minted.subkey.subkey.version;
    let subkey = SubKeyView::new(minted.subkey, &services);
    Ok(entity::created(&WithSecret { subkey, secret: minted.token.expose() }, version))
}

/// The definition that is asked for, with what the project gives to sub-keys that say nothing of it.
fn completed(asked: Map<String, Value>, services: &Services) -> Result<Definition, Problem> {
    let project = asked.get("project").and_then(Value::as_str).unwrap_or(DEFAULT_PROJECT);
    let mut document = services.subkey_defaults(project);
    document.extend(asked);
    parse_strict(Value::Object(document).to_string().as_bytes())
}

async fn show(call: Call<View>) -> Result<Response, Problem> {
    call.no_params()?;
    let found =
        call.services.subkey(&call.actor, &id(&call)?).await.map_err(|error| refusal::store(&error))?;
    Ok(shown(found.ok_or_else(|| refusal::not_found("sub-key"))?, &call.services))
}

async fn patch(call: Call<ChangeSubkeys>) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor, expected) = (call.services.clone(), call.actor.clone(), call.expected_version()?);
    let id = id(&call)?;
    let patch = call.merge_patch().await?;
    let change = |old: &Definition| {
        let old = serde_json::to_value(old).map_err(|error| Problem::internal(&error))?;
        patched(old, &patch)
    };
    let state = services.change_subkey(&actor, &id, expected, change).await;
    Ok(shown(state.map_err(|error| changed(error, |problem| problem))?, &services))
}

async fn rotate(call: Call<IssueSubkeys>) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor, expected) = (call.services.clone(), call.actor.clone(), call.expected_version()?);
    let id = id(&call)?;
    let RotateRequest { overlap_seconds } = call.json_or_default().await?;
    let rotated = services.rotate_subkey(&actor, &id, expected, overlap_seconds).await;
    let rotated = rotated.map_err(|error| changed(error, not_rotated))?;
    let version = rotated.subkey.subkey.version;
    let subkey = SubKeyView::new(rotated.subkey, &services);
    Ok(entity::one(&WithSecret { subkey, secret: rotated.token.expose() }, version))
}

async fn suspend(call: Call<StopSubkeys>) -> Result<Response, Problem> {
    set_state(call, State::Suspended).await
}

async fn resume(call: Call<IssueSubkeys>) -> Result<Response, Problem> {
    set_state(call, State::Active).await
}

async fn revoke(call: Call<StopSubkeys>) -> Result<Response, Problem> {
    set_state(call, State::Revoked).await
}

async fn set_state<P>(call: Call<P>, state: State) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor, expected) = (call.services.clone(), call.actor.clone(), call.expected_version()?);
    let id = id(&call)?;
    call.no_json().await?;
    let state = services.set_subkey_state(&actor, &id, expected, state).await;
    let refused = |StateRefusal::Revoked| revoked();
    Ok(shown(state.map_err(|error| changed(error, refused))?, &services))
}

async fn explain(call: Call<View>) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor, id) = (call.services.clone(), call.actor.clone(), id(&call)?);
    let request: ExplainRequest = call.json().await?;
    let question = Question {
        asked: asked(&request)?,
        model: request.model,
        client_ip: request.client_ip,
        input_tokens: request.input_tokens.unwrap_or(0),
        max_output_tokens: request.max_output_tokens,
    };
    let explanation =
        services.explain(&actor, &id, &question).await.map_err(|error| refusal::store(&error))?;
    let explanation = explanation.ok_or_else(|| refusal::not_found("sub-key"))?;
    Ok(Json(ExplanationView::from(explanation)).into_response())
}

/// An operation, or a method and a path; a path alone is posted to.
fn asked(request: &ExplainRequest) -> Result<Asked, Problem> {
    let ExplainRequest { operation, dialect, method, path, .. } = request;
    match (operation, path) {
        (Some(operation), None) if method.is_none() => {
            Ok(Asked::Operation { operation: *operation, dialect: *dialect })
        }
        (None, Some(path)) => {
            let method = method.as_deref().unwrap_or("POST").parse();
            let method = method.map_err(|_| refusal::invalid_field("/method", "is no HTTP method"))?;
            let dialect = dialect.unwrap_or(Dialect::OpenAi);
            Ok(Asked::Path { method, path: path.clone(), dialect })
        }
        (Some(_), Some(_)) => {
            Err(refusal::invalid_field("/path", "says the operation; leave out one of them"))
        }
        (Some(_), None) => {
            Err(refusal::invalid_field("/method", "belongs to a path; leave it out, or say the path"))
        }
        (None, None) => Err(refusal::invalid_field("/operation", "is missing; say it, or a path")),
    }
}

/// A text that cannot be an id is nobody's.
fn id<P>(call: &Call<P>) -> Result<SubKeyId, Problem> {
    SubKeyId::parse(call.path("id")).ok_or_else(|| refusal::not_found("sub-key"))
}

fn revoked() -> Problem {
    Problem::conflict("revoked", StateRefusal::Revoked.to_string())
}

fn not_rotated(refusal: RotateRefusal) -> Problem {
    match refusal {
        RotateRefusal::Revoked => revoked(),
        RotateRefusal::TwoSecretsLive => Problem::conflict("two_secrets_live", refusal.to_string()),
        RotateRefusal::Overlap => super::refusal::invalid_field("/overlap_seconds", &refusal.to_string()),
    }
}

fn taken(id: String) -> Problem {
    refusal::name_taken("the project has a sub-key of this name", id)
}

impl From<MintError> for Problem {
    fn from(error: MintError) -> Self {
        match error {
            MintError::Definition(error) => refusal::invalid_definition(&error),
            MintError::OutOfReach(error) => refusal::out_of_reach(error),
            MintError::ExceedsCeiling(error) => refusal::exceeds_ceiling(error),
            MintError::NameTaken { id } => taken(id),
            MintError::AlreadyDone(error) => refusal::already_done(error),
            MintError::Guard(error) => refusal::guard(&error),
            MintError::Store(error) => refusal::store(&error),
        }
    }
}

impl From<ListSubkeysError> for Problem {
    fn from(error: ListSubkeysError) -> Self {
        match error {
            ListSubkeysError::OutOfReach(error) => refusal::out_of_reach(error),
            ListSubkeysError::Store(error) => refusal::store(&error),
        }
    }
}

fn changed<R>(error: ChangeSubkeyError<R>, refused: impl FnOnce(R) -> Problem) -> Problem {
    match error {
        ChangeSubkeyError::NotFound => refusal::not_found("sub-key"),
        ChangeSubkeyError::Moved { version } => {
            refusal::version_mismatch(format!("the sub-key is at version {version}; read it again"))
        }
        ChangeSubkeyError::Refused(reason) => refused(reason),
        ChangeSubkeyError::Definition(error) => refusal::invalid_definition(&error),
        ChangeSubkeyError::OutOfReach(error) => refusal::out_of_reach(error),
        ChangeSubkeyError::ExceedsCeiling(error) => refusal::exceeds_ceiling(error),
        ChangeSubkeyError::NameTaken { id } => taken(id),
        ChangeSubkeyError::AlreadyDone(error) => refusal::already_done(error),
        ChangeSubkeyError::Guard(error) => refusal::guard(&error),
        ChangeSubkeyError::Store(error) => refusal::store(&error),
    }
}
