//! What the proxy answers by itself: the key about itself, health, and how whatever is answered from here is put on record.

use super::Proxy;
use super::arrival::Arrival;
use super::exchange::response;
use super::pipeline::{decide_early, key_state, recognise, refuse};
use super::rates;
use super::refusal::Refusal;
use super::respond::{self, Facts};
use crate::log::{Decision, Entry, Outcome};
use crate::policy::Operation;
use crate::provider::{Dialect, Slug};
use crate::service::{BudgetState, Caller, Metered, RateOwner, RateStanding};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Json, Response};
use chrono::{DateTime, Utc};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{HeaderName, StatusCode};
use serde_json::{Value, json};

/// JSON that is answered from here, once its entry is durable. `provider` is whose it is about, where it is one's.
pub(super) async fn answer(
    proxy: &Proxy,
    arrival: &Arrival,
    caller: &Caller,
    provider: Option<&Slug>,
    (body, entry): (String, Entry),
) -> Result<Response, Refusal> {
    proxy.services.ledger.record(answered(arrival, entry)).await.map_err(|_| respond::store_unavailable())?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let facts = Facts {
        request_id: arrival.id.as_str(),
        subkey: caller.key.subkey.id.as_str(),
        provider: provider.map_or("", Slug::as_str),
        model: None,
        attempts: 0,
        fallback: None,
        changed: &[],
        overhead_us: arrival.elapsed_us(),
    };
    respond::stamp(&mut headers, &facts);
    if provider.is_none() {
        headers.remove(HeaderName::from_static("x-bitting-provider"));
    }
    rates::stamp(&mut headers, caller, proxy.services.ledger.rate_now());
    Ok(response(StatusCode::OK, headers, Body::from(body)))
}

/// The entry of what was answered from here.
fn answered(arrival: &Arrival, entry: Entry) -> Entry {
    Entry {
        decision: Decision::Allowed,
        status: Some(StatusCode::OK.as_u16()),
        outcome: Some(Outcome::Completed),
        duration_ms: arrival.elapsed_ms(),
        overhead_us: arrival.elapsed_us(),
        ..entry
    }
}

/// `GET /bitting/self`: what the presented sub-key may do and what remains.
pub(super) async fn myself(State(proxy): State<Proxy>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let arrival = match Arrival::new(parts, proxy.services.clock.now(), &proxy.settings.trusted_proxies) {
        Ok(arrival) => arrival,
        Err(refusal) => return respond::refusal(&refusal, Dialect::OpenAi, "", None),
    };
    let dialect = arrival.spoken();
    let (_, caller) = match recognise(&proxy, &arrival).await {
        Ok(recognised) => recognised,
        Err(refusal) => return respond::refusal(&refusal, dialect, arrival.id.as_str(), None),
    };
    let entry = arrival.entry(&caller, &proxy.services.node, dialect);
    match describe_caller(&proxy, &arrival, &caller, entry.clone()).await {
        Ok(body) => {
            let mut response = Json(body).into_response();
            rates::stamp(response.headers_mut(), &caller, proxy.services.ledger.rate_now());
            response
        }
        Err(refusal) => refuse(&proxy, &arrival, &caller, dialect, &refusal, entry).await,
    }
}

/// Asking about oneself passes the same gate as the list of models, and leaves an entry as everything does.
async fn describe_caller(
    proxy: &Proxy,
    arrival: &Arrival,
    caller: &Caller,
    entry: Entry,
) -> Result<Value, Refusal> {
    key_state(proxy, arrival, caller)?;
    let tags = arrival.tags()?;
    let _permit = decide_early(proxy, arrival, caller, Operation::Models)?;
    let subkey = &caller.key.subkey;
    let (own, above) =
        proxy.services.budget_standing(caller).await.map_err(|_| respond::store_unavailable())?;
    let budgets: Vec<Value> = own
        .iter()
        .map(|BudgetState { spec, balance, resets_at }| {
            json!({
                "window": spec.window, "limit_usd": balance.limit, "spent_usd": balance.posted,
                "held_usd": balance.held, "remaining_usd": balance.remaining(), "resets_at": resets_at,
            })
        })
        .collect();
    // What others spent of a project's budget is theirs; what is left of it binds this key.
    let shared = |BudgetState { spec, balance, resets_at }: &BudgetState| {
        let (window, remaining) = (spec.window, balance.remaining());
        json!({"window": window, "limit_usd": balance.limit, "remaining_usd": remaining, "resets_at": resets_at})
    };
    let projects: Vec<Value> = above
        .iter()
        .map(|one| {
            let budgets: Vec<Value> = one.budgets.iter().map(shared).collect();
            let of_it = caller.lineage.definitions().find(|definition| definition.slug == one.project);
            let ceiling = of_it.and_then(|definition| definition.ceiling.as_ref());
            json!({"project": one.project, "budgets": budgets, "ceiling": ceiling})
        })
        .collect();
    let definition = serde_json::to_value(&subkey.definition).unwrap_or_default();
    let shown = [
        "name",
        "project",
        "models",
        "deny_models",
        "deny_betas",
        "operations",
        "ip_allow",
        "max_request_usd",
        "max_output_tokens",
        "default_max_output_tokens",
        "clamp_output",
        "clamp_to_budget",
        "allow_streaming",
        "allow_tools",
        "allow_images",
        "allow_audio",
        "allow_files",
        "allow_remote_urls",
        "allow_store",
        "allow_truncation",
        "hosted_tools",
        "service_tiers",
        "strict_fields",
        "not_before",
        "expires_at",
    ];
    let mut body: serde_json::Map<String, Value> =
        shown.into_iter().map(|field| (field.to_owned(), definition[field].clone())).collect();
    body.insert("id".to_owned(), json!(subkey.id.as_str()));
    body.insert("status".to_owned(), json!(subkey.status(arrival.time)));
    body.insert("budgets".to_owned(), json!(budgets));
    body.insert("rate_limits".to_owned(), json!(limits(caller, proxy.services.ledger.rate_now())));
    body.insert("projects".to_owned(), json!(projects));
    let entry = Entry { tags, ..answered(arrival, entry) };
    proxy.services.ledger.record(entry).await.map_err(|_| respond::store_unavailable())?;
    Ok(Value::Object(body))
}

/// The rate limits that bind the key, its own and its projects', with what is left of each.
fn limits(caller: &Caller, now: DateTime<Utc>) -> Vec<Value> {
    let of = |metered: &Metered| {
        let project = match &metered.owner {
            RateOwner::Project(slug) => Some(slug.clone()),
            RateOwner::Subkey | RateOwner::Provider(_) | RateOwner::Credential(_) => None,
        };
        let shown = move |one: &RateStanding| {
            let mut shown = json!(one.limit);
            shown["remaining"] = json!(one.remaining);
            if let Some(resets_at) = one.resets_at {
                shown["resets_at"] = json!(resets_at);
            }
            if let Some(project) = &project {
                shown["project"] = json!(project);
            }
            shown
        };
        metered.rates.standing(now).iter().map(shown).collect::<Vec<Value>>()
    };
    caller.metered().iter().flat_map(of).collect()
}

/// The process is alive.
pub(super) async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

/// The server can authenticate, reserve and record.
pub(super) async fn readyz(State(proxy): State<Proxy>) -> Response {
    let reasons = proxy.services.not_ready().await;
    let (status, word) = if reasons.is_empty() {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    };
    (status, Json(json!({"status": word, "reasons": reasons}))).into_response()
}
