//! `/api/v1/usage`, and what of it is taken back.

use super::access_log::read_refused;
use super::call::{Call, ReleaseCharges, ViewUsage};
use super::entity;
use super::refusal;
use super::routes::Routes;
use crate::base::NanoUsd;
use crate::http::Problem;
use crate::log::{Filter, Sums};
use crate::service::{ChargeRelease, CorrectError, Corrected, ReleaseChargeError};
use crate::store::usage::{GroupBy, UsageRow};
use axum::Json;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value, json};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get("/api/v1/usage", usage).post("/api/v1/usage/releases", release)
}

/// What the requests of one group came to; the group is named as it was asked for.
#[derive(Serialize)]
struct UsageView {
    #[serde(flatten)]
    group: Map<String, Value>,
    requests: i64,
    denied: i64,
    failed: i64,
    input_tokens: i64,
    cached_input_tokens: i64,
    cache_write_tokens: i64,
    output_tokens: i64,
    cost_usd: NanoUsd,
}

impl UsageView {
    fn new(group_by: &[GroupBy], row: UsageRow) -> Self {
        let Sums { requests, denied, failed, input_tokens, cached_input_tokens, cache_write_tokens, .. } =
            row.sums;
        Self {
            group: group_by.iter().map(name).zip(row.group.into_iter().map(|value| json!(value))).collect(),
            requests,
            denied,
            failed,
            input_tokens,
            cached_input_tokens,
            cache_write_tokens,
            output_tokens: row.sums.output_tokens,
            cost_usd: row.sums.cost,
        }
    }
}

const GROUPS_MAX: usize = 8;
const TAG_BYTES_MAX: usize = 64;

async fn usage(call: Call<ViewUsage>) -> Result<Response, Problem> {
    let mut params = call.params()?;
    let filter = Filter {
        from: params.time("from")?,
        to: params.time("to")?,
        project: params.text("project"),
        subkey: params.text("subkey"),
        provider: params.text("provider"),
        model: params.text("model"),
        ..Filter::default()
    };
    let what = "at most 8 of provider, model, project, subkey, day and tag:NAME, each once, by commas";
    let group_by = params.with("group_by", what, groups)?.unwrap_or_default();
    let page = params.page::<usize>()?;
    params.finish()?;
    let rows = call.services.usage(&call.actor, filter, &group_by).await.map_err(read_refused)?;
    let rows = rows.into_iter().map(|row| UsageView::new(&group_by, row)).collect();
    Ok(entity::slice(rows, page.after, page.limit))
}

/// What was taken back, and from which windows.
#[derive(Serialize)]
struct ReleaseView {
    request_id: String,
    corrects: String,
    time: DateTime<Utc>,
    charged_usd: NanoUsd,
    released_usd: NanoUsd,
    windows: Vec<WindowView>,
}

#[derive(Serialize)]
struct WindowView {
    budget: String,
    window_start: DateTime<Utc>,
    released_usd: NanoUsd,
}

async fn release(call: Call<ReleaseCharges>) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor) = (call.services.clone(), call.actor.clone());
    let order: ChargeRelease = call.json().await?;
    let corrects = order.request_id.clone();
    let Corrected { request_id, time, charged, released, windows } =
        services.release_charge(&actor, order).await?;
    let windows = windows.into_iter().map(|(window, released_usd)| WindowView {
        budget: window.budget.to_string(),
        window_start: window.window_start,
        released_usd,
    });
    let view = ReleaseView {
        request_id,
        corrects,
        time,
        charged_usd: charged,
        released_usd: released,
        windows: windows.collect(),
    };
    Ok((StatusCode::CREATED, Json(view)).into_response())
}

impl From<ReleaseChargeError> for Problem {
    fn from(error: ReleaseChargeError) -> Self {
        let detail = error.to_string();
        match error {
            ReleaseChargeError::Reason => refusal::invalid_field("reason", &detail),
            ReleaseChargeError::Amount | ReleaseChargeError::Correct(CorrectError::TooMuch { .. }) => {
                refusal::invalid_field("amount_usd", &detail)
            }
            ReleaseChargeError::Correct(CorrectError::NotFound) => refusal::not_found("entry"),
            ReleaseChargeError::Correct(CorrectError::NotCorrectable(_)) => {
                Self::conflict("not_correctable", detail)
            }
            ReleaseChargeError::Correct(CorrectError::AlreadyDone { id }) => {
                Self::conflict("already_done", detail).with_member("id", id)
            }
            ReleaseChargeError::Correct(CorrectError::Unrecorded(_)) | ReleaseChargeError::Store(_) => {
                Self::unavailable("store_unavailable", "the ledger cannot be written; try again", 1)
            }
        }
    }
}

fn groups(text: &str) -> Option<Vec<GroupBy>> {
    let groups: Vec<GroupBy> = text.split(',').map(group).collect::<Option<_>>()?;
    let is_once = groups.iter().enumerate().all(|(at, group)| !groups[..at].contains(group));
    (is_once && groups.len() <= GROUPS_MAX).then_some(groups)
}

fn group(text: &str) -> Option<GroupBy> {
    match text {
        "provider" => Some(GroupBy::Provider),
        "model" => Some(GroupBy::Model),
        "project" => Some(GroupBy::Project),
        "subkey" => Some(GroupBy::Subkey),
        "day" => Some(GroupBy::Day),
        other => {
            let tag = other.strip_prefix("tag:").filter(|tag| (1..=TAG_BYTES_MAX).contains(&tag.len()))?;
            Some(GroupBy::Tag(tag.to_owned()))
        }
    }
}

fn name(group: &GroupBy) -> String {
    match group {
        GroupBy::Provider => "provider".to_owned(),
        GroupBy::Model => "model".to_owned(),
        GroupBy::Project => "project".to_owned(),
        GroupBy::Subkey => "subkey".to_owned(),
        GroupBy::Day => "day".to_owned(),
        GroupBy::Tag(tag) => format!("tag:{tag}"),
    }
}
