//! `/api/v1/models/import` and `/sync`: price lists that others keep.

use super::call::{Call, SetPrices};
use super::refusal;
use super::routes::Routes;
use crate::http::Problem;
use crate::provider::Slug;
use crate::provider::import::{ImportError, Source};
use crate::service::{ImportModelsError, ImportOrder};
use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.post("/api/v1/models/import", import).post("/api/v1/models/sync", sync)
}

/// The list stays text: numbers in it are read as they are written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportBody {
    source: Source,
    document: Box<RawValue>,
    #[serde(default)]
    providers: BTreeMap<String, Slug>,
    #[serde(default)]
    only: Vec<String>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    replace_set: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SyncBody {
    provider: Slug,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    replace_set: bool,
}

async fn import(call: Call<SetPrices>) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor) = (call.services.clone(), call.actor.clone());
    let body: ImportBody = call.import_json().await?;
    let ImportBody { source, document, providers, only, dry_run, replace_set } = body;
    let list = Box::<str>::from(document).into_string();
    let order = ImportOrder { source, list, providers, only, dry_run, replace_set };
    let report = services.import_models(&actor, order).await?;
    Ok(Json(report).into_response())
}

async fn sync(call: Call<SetPrices>) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor) = (call.services.clone(), call.actor.clone());
    let SyncBody { provider, dry_run, replace_set } = call.json().await?;
    let report = services.sync_models(&actor, provider, dry_run, replace_set).await?;
    Ok(Json(report).into_response())
}

impl From<ImportModelsError> for Problem {
    fn from(error: ImportModelsError) -> Self {
        match error {
            ImportModelsError::NoProvider(slug) => {
                let detail = format!("there is no provider {}", crate::base::clip(&slug, 64));
                Self::bad_request("unknown_provider", detail)
            }
            ImportModelsError::List(ImportError::Shape { field, why }) => {
                refusal::invalid_field(&format!("/document{}", crate::base::clip(&field, 256)), why)
            }
            ImportModelsError::List(error @ ImportError::NotJson { .. }) => {
                refusal::invalid_field("/document", &error.to_string())
            }
            error @ ImportModelsError::NoList(_) => {
                Self::new(StatusCode::BAD_GATEWAY, "upstream_error", error.to_string())
            }
            ImportModelsError::Fault { model, fault } => {
                Self::conflict("model_fault", format!("{}: {fault}", crate::base::clip(&model, 256)))
            }
            ImportModelsError::Catalog(error) => Self::internal(&error),
            ImportModelsError::NotInForce(error) => refusal::not_confirmed(&error),
            ImportModelsError::Guard(error) => refusal::guard(&error),
            ImportModelsError::Store(error) => refusal::store(&error),
        }
    }
}
