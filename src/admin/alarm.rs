//! `/api/v1/alarms`: what an operator has to look at.

use super::call::{Call, CloseAlarms, ViewAlarms};
use super::entity;
use super::params::PageParams;
use super::refusal;
use super::routes::Routes;
use crate::http::Problem;
use crate::log::AlarmKind;
use crate::service::{CloseAlarmError, RepairError};
use crate::store::Cursor;
use crate::store::alarm::{AlarmFilter, AlarmRecord, Closing};
use axum::Json;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get("/api/v1/alarms", list).post("/api/v1/alarms/{id}/close", close)
}

#[derive(Serialize)]
struct AlarmView {
    id: String,
    kind: AlarmKind,
    subject: String,
    status: &'static str,
    detail: Value,
    count: i64,
    opened_at: DateTime<Utc>,
    last_seen_at: DateTime<Utc>,
    closed_at: Option<DateTime<Utc>>,
    closed_by: Option<String>,
    reason: Option<String>,
}

impl From<AlarmRecord> for AlarmView {
    fn from(alarm: AlarmRecord) -> Self {
        let AlarmRecord { id, kind, subject, detail, count, opened_at, last_seen_at, closed } = alarm;
        let status = if closed.is_some() { "closed" } else { "open" };
        let (closed_at, closed_by, reason) = match closed {
            Some(Closing { at, by, reason }) => (Some(at), Some(by), Some(reason)),
            None => (None, None, None),
        };
        Self {
            id,
            kind,
            subject,
            status,
            detail,
            count,
            opened_at,
            last_seen_at,
            closed_at,
            closed_by,
            reason,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CloseRequest {
    reason: String,
}

async fn list(call: Call<ViewAlarms>) -> Result<Response, Problem> {
    let mut params = call.params()?;
    let is_open = params.with("status", "open or closed", |text| match text {
        "open" => Some(true),
        "closed" => Some(false),
        _ => None,
    })?;
    let kind = params.with("kind", "a kind of alarms", AlarmKind::parse)?;
    let PageParams { after, limit } = params.page::<Cursor<String>>()?;
    params.finish()?;
    let page = call.services.list_alarms(AlarmFilter { is_open, kind }, after.as_ref(), limit).await;
    let page = page.map_err(|error| refusal::store(&error))?;
    Ok(entity::list(page.items.into_iter().map(AlarmView::from).collect(), page.next))
}

async fn close(call: Call<CloseAlarms>) -> Result<Response, Problem> {
    call.no_params()?;
    let (services, actor, id) = (call.services.clone(), call.actor.clone(), call.path("id").to_owned());
    let CloseRequest { reason } = call.json().await?;
    let alarm = services.close_alarm(&actor, &id, &reason).await?;
    Ok(Json(AlarmView::from(alarm)).into_response())
}

impl From<CloseAlarmError> for Problem {
    fn from(error: CloseAlarmError) -> Self {
        match error {
            CloseAlarmError::NotFound => refusal::not_found("alarm"),
            CloseAlarmError::AlreadyClosed => Self::conflict("already_closed", error.to_string()),
            CloseAlarmError::Reason => refusal::invalid_field("reason", &error.to_string()),
            CloseAlarmError::Repair(RepairError::Audit(_) | RepairError::Unrecorded(_)) => {
                tracing::error!(%error, "the books were not set right");
                let detail = "the books could not be set right; the alarm stays open, try again";
                Self::unavailable("store_unavailable", detail, 1)
            }
            CloseAlarmError::Store(error) => refusal::store(&error),
        }
    }
}
