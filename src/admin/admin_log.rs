//! `/api/v1/admin-log`, and its export.

use super::access_log::only_jsonl;
use super::call::{Call, ReadAdminLog};
use super::entity;
use super::params::{PageParams, Params};
use super::refusal;
use super::routes::Routes;
use crate::http::Problem;
use crate::store::Cursor;
use crate::store::admin_log::AdminFilter;
use axum::response::Response;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get("/api/v1/admin-log", list).get("/api/v1/admin-log/export", export)
}

async fn list(call: Call<ReadAdminLog>) -> Result<Response, Problem> {
    let mut params = call.params()?;
    let filter = filter(&mut params)?;
    let PageParams { after, limit } = params.page::<Cursor<i64>>()?;
    params.finish()?;
    let page = call.services.admin_log(&call.actor, &filter, after.as_ref(), limit).await;
    let page = page.map_err(|error| refusal::store(&error))?;
    Ok(entity::list(page.items, page.next))
}

async fn export(call: Call<ReadAdminLog>) -> Result<Response, Problem> {
    let mut params = call.params()?;
    let filter = filter(&mut params)?;
    only_jsonl(&mut params)?;
    params.finish()?;
    let pages = call.services.export_admin_log(&call.actor, filter).await;
    Ok(entity::lines(pages.map_err(|error| refusal::store(&error))?))
}

/// `subkey` and `provider` are what something was done to.
fn filter(params: &mut Params) -> Result<AdminFilter, Problem> {
    let (from, to) = (params.time("from")?, params.time("to")?);
    let (actor, action) = (params.text("actor"), params.text("action"));
    let mut targets = ["target", "subkey", "provider"].into_iter().filter_map(|name| params.text(name));
    let target = targets.next();
    if targets.next().is_some() {
        return Err(refusal::invalid_param("target", "one of target, subkey and provider"));
    }
    Ok(AdminFilter { from, to, actor, action, target })
}
