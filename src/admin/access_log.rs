//! `/api/v1/access-log`, and its export.

use super::call::{Call, ReadAccessLog};
use super::entity;
use super::params::{PageParams, Params};
use super::refusal;
use super::routes::Routes;
use crate::http::Problem;
use crate::log::{Decision, Filter};
use crate::service::ReadLogError;
use crate::store::Cursor;
use axum::response::Response;
use std::net::IpAddr;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get("/api/v1/access-log", list).get("/api/v1/access-log/export", export)
}

async fn list(call: Call<ReadAccessLog>) -> Result<Response, Problem> {
    let mut params = call.params()?;
    let filter = filter(&mut params)?;
    let PageParams { after, limit } = params.page::<Cursor<i64>>()?;
    params.finish()?;
    let page = call.services.access_log(&call.actor, filter, after.as_ref(), limit).await;
    let page = page.map_err(read_refused)?;
    Ok(entity::list(page.items, page.next))
}

async fn export(call: Call<ReadAccessLog>) -> Result<Response, Problem> {
    let mut params = call.params()?;
    let filter = filter(&mut params)?;
    only_jsonl(&mut params)?;
    params.finish()?;
    let pages = call.services.export_access_log(&call.actor, filter).await.map_err(read_refused)?;
    Ok(entity::lines(pages))
}

fn filter(params: &mut Params) -> Result<Filter, Problem> {
    let decision =
        |text: &str| [Decision::Allowed, Decision::Denied].into_iter().find(|one| one.as_str() == text);
    let address = params.parsed::<IpAddr>("client_ip", "an address like 192.0.2.7")?;
    Ok(Filter {
        from: params.time("from")?,
        to: params.time("to")?,
        project: params.text("project"),
        within: None,
        subkey: params.text("subkey"),
        provider: params.text("provider"),
        model: params.text("model"),
        decision: params.with("decision", "allowed or denied", decision)?,
        status: params.parsed("status", "a status like 403")?,
        request_id: params.text("request_id"),
        client_ip: address.map(|ip| ip.to_canonical().to_string()),
    })
}

/// The one format of this version.
pub(super) fn only_jsonl(params: &mut Params) -> Result<(), Problem> {
    params
        .with("format", "jsonl; this version has no other", |text| (text == "jsonl").then_some(()))
        .map(drop)
}

pub(super) fn read_refused(error: ReadLogError) -> Problem {
    match error {
        ReadLogError::OutOfReach(error) => refusal::out_of_reach(error),
        ReadLogError::Store(error) => refusal::store(&error),
    }
}
