//! `GET models` and `GET models/{model}`: the catalog, cut to what the key may use, page by page where the dialect has pages.

use super::Proxy;
use super::arrival::Arrival;
use super::local;
use super::read;
use super::refusal::{Code, Refusal};
use crate::log::Entry;
use crate::policy::Operation;
use crate::provider::ask::Ask;
use crate::provider::model::Model;
use crate::provider::{Dialect, ModelPage, ModelPageError, operation};
use crate::service::{Caller, Case};
use axum::response::Response;
use serde_json::{Value, json};
use std::sync::Arc;

/// Answers by the catalog, once that is on record.
pub(super) async fn models(
    proxy: &Proxy,
    arrival: &Arrival,
    caller: &Caller,
    matched: &operation::Matched<'_>,
    entry: Entry,
) -> Result<Response, Refusal> {
    read::check_query(matched, arrival)?;
    let (snapshot, ask) = (proxy.services.snapshot(), Ask::default());
    let provider_order = &proxy.services.provider_order;
    let case = Case { caller, snapshot: &snapshot, provider_order, matched, ask: &ask, now: arrival.time };
    let dialect = matched.row.dialect;
    let body = match matched.model() {
        None => {
            let page = ModelPage::read(dialect, arrival.query.as_deref().unwrap_or_default());
            page.and_then(|page| list(dialect, &case.usable_models(), &page))
                .map_err(|error| no_page(&error))?
        }
        Some(wanted) => {
            let (id, model) = case.usable_model(wanted).ok_or_else(|| {
                Refusal::new(Code::ObjectNotFound, "There is no such model among those this sub-key may use.")
                    .param("model")
            })?;
            describe(dialect, &id, &model)
        }
    };
    local::answer(proxy, arrival, caller, None, (body.to_string(), entry)).await
}

fn no_page(error: &ModelPageError) -> Refusal {
    Refusal::new(Code::InvalidBody, error.to_string()).param(error.param())
}

fn list(
    dialect: Dialect,
    listed: &[(String, Arc<Model>)],
    page: &ModelPage,
) -> Result<Value, ModelPageError> {
    let (part, has_more) = page.of(dialect, listed, |(id, _)| id)?;
    let items: Vec<Value> = part.iter().map(|(id, model)| describe(dialect, id, model)).collect();
    let id_at = |item: Option<&(String, Arc<Model>)>| item.map(|(id, _)| id.clone());
    Ok(match dialect {
        Dialect::OpenAi => json!({"object": "list", "data": items}),
        Dialect::Anthropic => json!({
            "data": items, "has_more": has_more,
            "first_id": id_at(part.first()), "last_id": id_at(part.last()),
        }),
        Dialect::Gemini => {
            let mut list = json!({"models": items});
            if let Some((last, _)) = part.last().filter(|_| has_more) {
                list["nextPageToken"] = json!(ModelPage::token_after(last));
            }
            list
        }
    })
}

fn describe(dialect: Dialect, id: &str, model: &Model) -> Value {
    match dialect {
        // Mistral's client reads no model without a type and capabilities.
        Dialect::OpenAi => json!({
            "id": id, "object": "model", "created": 0, "owned_by": model.provider,
            "type": "base", "capabilities": {
                "completion_chat": model.serves(Operation::Chat),
                "function_calling": model.can("tools"),
                "vision": model.can("vision"),
            },
        }),
        Dialect::Anthropic => {
            json!({"type": "model", "id": id, "display_name": id, "created_at": "1970-01-01T00:00:00Z"})
        }
        Dialect::Gemini => json!({
            "name": format!("models/{id}"), "displayName": id,
            "inputTokenLimit": model.context_window, "outputTokenLimit": model.max_output_tokens,
        }),
    }
}
