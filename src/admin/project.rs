//! `/api/v1/projects`.

use super::call::{Call, ChangeProjects, StopProjects, View};
use super::entity;
use super::merge_patch::patched;
use super::refusal;
use super::routes::Routes;
use super::subkey_view::BudgetView;
use crate::http::Problem;
use crate::service::{ChangeProjectError, CreateProjectError, DeleteProjectError, ProjectStanding, Services};
use crate::subkey::{Project, ProjectDefinition};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value, json};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get("/api/v1/projects", list)
        .post("/api/v1/projects", create)
        .get("/api/v1/projects/{slug}", show)
        .patch("/api/v1/projects/{slug}", patch)
        .delete("/api/v1/projects/{slug}", delete)
        .post("/api/v1/projects/{slug}/suspend", suspend)
        .post("/api/v1/projects/{slug}/resume", resume)
}

/// A project: what it sets, and where its budgets stand.
#[derive(Serialize)]
struct ProjectView {
    status: &'static str,
    /// Whether nothing is admitted below it whatever its status: as long as the gateway is in quarantine.
    quarantined: bool,
    /// The fields of create and patch, without the budgets.
    #[serde(flatten)]
    definition: Map<String, Value>,
    budgets: Vec<BudgetView>,
    created_at: DateTime<Utc>,
    version: i64,
}

impl ProjectView {
    fn new(standing: ProjectStanding, services: &Services) -> Self {
        let ProjectStanding { project, budgets } = standing;
        let Project { definition, state, version, created_at } = project;
        let name = definition.shown_name().to_owned();
        let mut fields = match serde_json::to_value(&definition) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) | Err(_) => Map::new(),
        };
        fields.remove("budgets");
        fields.insert("name".to_owned(), json!(name));
        Self {
            status: state.as_str(),
            quarantined: services.is_quarantined(),
            definition: fields,
            budgets: budgets.into_iter().map(BudgetView::from).collect(),
            created_at,
            version,
        }
    }
}

fn shown(standing: ProjectStanding, services: &Services) -> Response {
    let version = standing.project.version;
    entity::one(&ProjectView::new(standing, services), version)
}

async fn list(call: Call<View>) -> Result<Response, Problem> {
    let mut params = call.params()?;
    let page = params.page::<usize>()?;
    params.finish()?;
    let all = call.services.list_projects(&call.actor).await.map_err(|error| refusal::store(&error))?;
    let views = all.into_iter().map(|one| ProjectView::new(one, &call.services)).collect();
    Ok(entity::slice(views, page.after, page.limit))
}

async fn create(call: Call<ChangeProjects>) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor) = (call.services.clone(), call.actor.clone());
    let definition: ProjectDefinition = call.json().await?;
    let made = services.create_project(&actor, definition).await?;
    let version = made.project.version;
    Ok(entity::created(&ProjectView::new(made, &services), version))
}

async fn show(call: Call<View>) -> Result<Response, Problem> {
    call.no_params()?;
    let found = call.services.project(&call.actor, call.path("slug")).await;
    let found = found.map_err(|error| refusal::store(&error))?;
    Ok(shown(found.ok_or_else(|| refusal::not_found("project"))?, &call.services))
}

async fn patch(call: Call<ChangeProjects>) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor, expected) = (call.services.clone(), call.actor.clone(), call.expected_version()?);
    let slug = call.path("slug").to_owned();
    let patch = call.merge_patch().await?;
    let change = |old: &ProjectDefinition| {
        let old = serde_json::to_value(old).map_err(|error| Problem::internal(&error))?;
        patched(old, &patch)
    };
    let changed = services.change_project(&actor, &slug, expected, change).await;
    Ok(shown(changed.map_err(|error| not_changed(error, |problem| problem))?, &services))
}

async fn delete(call: Call<ChangeProjects>) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor, expected) = (call.services.clone(), call.actor.clone(), call.expected_version()?);
    let slug = call.path("slug").to_owned();
    call.no_json().await?;
    services.delete_project(&actor, &slug, expected).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn suspend(call: Call<StopProjects>) -> Result<Response, Problem> {
    set_suspended(call, true).await
}

async fn resume(call: Call<ChangeProjects>) -> Result<Response, Problem> {
    set_suspended(call, false).await
}

async fn set_suspended<P>(call: Call<P>, suspended: bool) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor, expected) = (call.services.clone(), call.actor.clone(), call.expected_version()?);
    let slug = call.path("slug").to_owned();
    call.no_json().await?;
    let changed = services.set_project_suspended(&actor, &slug, expected, suspended).await;
    Ok(shown(changed.map_err(|error| not_changed(error, |never| match never {}))?, &services))
}

impl From<CreateProjectError> for Problem {
    fn from(error: CreateProjectError) -> Self {
        match error {
            CreateProjectError::Definition(error) => refusal::invalid_definition(&error),
            CreateProjectError::OutOfReach(error) => refusal::out_of_reach(error),
            CreateProjectError::SlugTaken { slug } => {
                refusal::name_taken("there is a project of this slug", slug)
            }
            CreateProjectError::TooMany => Self::conflict("too_many_projects", error.to_string()),
            CreateProjectError::AlreadyDone(error) => refusal::already_done(error),
            CreateProjectError::Guard(error) => refusal::guard(&error),
            CreateProjectError::Store(error) => refusal::store(&error),
        }
    }
}

fn not_changed<R>(error: ChangeProjectError<R>, refused: impl FnOnce(R) -> Problem) -> Problem {
    match error {
        ChangeProjectError::NotFound => refusal::not_found("project"),
        ChangeProjectError::Moved { version } => {
            refusal::version_mismatch(format!("the project is at version {version}; read it again"))
        }
        ChangeProjectError::Refused(reason) => refused(reason),
        ChangeProjectError::Definition(error) => refusal::invalid_definition(&error),
        ChangeProjectError::OutOfReach(error) => refusal::out_of_reach(error),
        ChangeProjectError::AlreadyDone(error) => refusal::already_done(error),
        ChangeProjectError::Guard(error) => refusal::guard(&error),
        ChangeProjectError::Store(error) => refusal::store(&error),
    }
}

impl From<DeleteProjectError> for Problem {
    fn from(error: DeleteProjectError) -> Self {
        match error {
            DeleteProjectError::NotFound => refusal::not_found("project"),
            DeleteProjectError::Moved { version } => {
                refusal::version_mismatch(format!("the project is at version {version}; read it again"))
            }
            DeleteProjectError::IsDefault | DeleteProjectError::InUse { .. } => {
                Self::conflict("in_use", error.to_string())
            }
            DeleteProjectError::Guard(error) => refusal::guard(&error),
            DeleteProjectError::Store(error) => refusal::store(&error),
        }
    }
}
