//! `/api/v1/models`: the catalog, and what operators say over it.

use super::call::{Call, SetPrices, View};
use super::entity;
use super::refusal;
use super::routes::Routes;
use crate::http::Problem;
use crate::provider::model::ModelDocument;
use crate::service::{ModelState, SetModelError};
use axum::response::Response;
use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get("/api/v1/models", list).put("/api/v1/models/{provider}/{*model}", set)
}

/// A model with the prices in force.
#[derive(Serialize)]
struct ModelView {
    provider: String,
    model: String,
    #[serde(flatten)]
    document: ModelDocument,
    price_version: Option<String>,
    retires: Option<NaiveDate>,
    source: Option<String>,
    imported_from: Option<String>,
    version: i64,
}

impl ModelView {
    fn new(ModelState { model, version, imported_from }: &ModelState, now: DateTime<Utc>) -> Self {
        Self {
            provider: model.provider.to_string(),
            model: model.name.clone(),
            document: model.document_at(now),
            price_version: model.prices_at(now).map(|prices| prices.version.to_string()),
            retires: model.retires,
            source: model.source.clone(),
            imported_from: imported_from.clone(),
            version: *version,
        }
    }
}

async fn list(call: Call<View>) -> Result<Response, Problem> {
    let mut params = call.params()?;
    let page = params.page::<usize>()?;
    params.finish()?;
    let all = call.services.list_models().await.map_err(|error| refusal::store(&error))?;
    let now = call.services.clock.now();
    Ok(entity::slice(all.iter().map(|state| ModelView::new(state, now)).collect(), page.after, page.limit))
}

async fn set(call: Call<SetPrices>) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor, expected) = (call.services.clone(), call.actor.clone(), call.expected_version()?);
    let (provider, model) = (call.path("provider").to_owned(), call.path("model").to_owned());
    let document: ModelDocument = call.json().await?;
    let state = services.set_model(&actor, (&provider, &model), expected, document).await?;
    Ok(entity::one(&ModelView::new(&state, services.clock.now()), state.version))
}

impl From<SetModelError> for Problem {
    fn from(error: SetModelError) -> Self {
        match error {
            SetModelError::NoProvider => refusal::not_found("provider"),
            SetModelError::Moved { version } => {
                refusal::version_mismatch(format!("the model is at version {version}; read it again"))
            }
            SetModelError::Fault(fault) => refusal::invalid_field(fault.field(), &fault.to_string()),
            SetModelError::Catalog(error) => Self::internal(&error),
            SetModelError::NotInForce(error) => refusal::not_confirmed(&error),
            SetModelError::Guard(error) => refusal::guard(&error),
            SetModelError::Store(error) => refusal::store(&error),
        }
    }
}
