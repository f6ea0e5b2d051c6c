//! `/api/v1/usage`.

use super::access_log::read_refused;
use super::call::{Call, ViewUsage};
use super::entity;
use super::routes::Routes;
use crate::base::NanoUsd;
use crate::http::Problem;
use crate::log::Filter;
use crate::store::access_log::{GroupBy, UsageRow};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value, json};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get("/api/v1/usage", usage)
}

/// What the requests of one group came to; the group is named as it was asked for.
#[derive(Serialize)]
struct UsageView {
    #[serde(flatten)]
    group: Map<String, Value>,
    requests: i64,
    denied: i64,
    input_tokens: i64,
    cached_input_tokens: i64,
    cache_write_tokens: i64,
    output_tokens: i64,
    cost_usd: NanoUsd,
}

impl UsageView {
    fn new(group_by: &[GroupBy], row: UsageRow) -> Self {
        Self {
            group: group_by.iter().map(name).zip(row.group.into_iter().map(|value| json!(value))).collect(),
            requests: row.requests,
            denied: row.denied,
            input_tokens: row.input_tokens,
            cached_input_tokens: row.cached_input_tokens,
            cache_write_tokens: row.cache_write_tokens,
            output_tokens: row.output_tokens,
            cost_usd: row.cost,
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
