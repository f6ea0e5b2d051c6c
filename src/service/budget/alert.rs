//! Shares of a cap that are to be told of, watched where spending is posted.
//!
//! A share of a cap is told of once for each window, in the transaction that reached it: whatever concurrency, retries
//! and crashes there are. It is an entry of the admin log, and a notice where there is a webhook. A cap that is raised
//! can be reached anew, and one that is lowered below what is spent is reached by that.

use crate::base::NanoUsd;
use crate::budget::reached;
use crate::log::{AdminEntry, NoticeKind};
use crate::service::StoreError;
use crate::service::notice::Outbox;
use crate::store::budget::{BudgetId, BudgetOwner, WindowId};
use crate::store::budget_alert::{self, AlertingBudget, Reached};
use crate::store::{self, Conn};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What was spent in a window, before and after.
pub(in crate::service) struct Spending {
    pub(in crate::service) window: WindowId,
    pub(in crate::service) before: NanoUsd,
    pub(in crate::service) after: NanoUsd,
}

/// Tells of what is reached in windows by all that is posted, and was not told of.
pub(in crate::service) async fn tell_what_stands(
    conn: &mut Conn<'_>,
    outbox: &Outbox,
    windows: &BTreeSet<WindowId>,
) -> Result<(), StoreError> {
    if !outbox.has_alerts() {
        return Ok(());
    }
    let mut spendings = Vec::with_capacity(windows.len());
    for window in windows {
        // Held until the commit: who posts meanwhile sees the caps of this transaction, and this one what he posted.
        if let Some(after) = budget_alert::keep_posted(conn, window).await? {
            spendings.push(Spending { window: window.clone(), before: NanoUsd::ZERO, after });
        }
    }
    tell_what_is_reached(conn, outbox, &spendings).await
}

/// Tells of what was reached by what was posted to windows in this transaction. Belongs behind the posting: on PostgreSQL
/// the window's row is locked by then, and the caps that are read are those that hold.
pub(in crate::service) async fn tell_what_is_reached(
    conn: &mut Conn<'_>,
    outbox: &Outbox,
    spendings: &[Spending],
) -> Result<(), StoreError> {
    if spendings.is_empty() || !outbox.has_alerts() {
        return Ok(());
    }
    let budgets: Vec<&BudgetId> = spendings.iter().map(|spending| &spending.window.budget).collect();
    let alerting = budget_alert::alerting(conn, &budgets).await?;
    for Spending { window, before, after } in spendings {
        let Some(budget) = alerting.iter().find(|budget| budget.id == window.budget) else { continue };
        for share in reached(&budget.alert_at, budget.limit, *before, *after) {
            let reached = Reached { window, share, limit: budget.limit, spent: *after };
            if budget_alert::note(conn, reached, outbox.clock().now()).await? {
                tell(conn, outbox, budget, reached).await?;
            }
        }
    }
    Ok(())
}

async fn tell(
    conn: &mut Conn<'_>,
    outbox: &Outbox,
    budget: &AlertingBudget,
    reached: Reached<'_>,
) -> Result<(), StoreError> {
    let Reached { window, share, limit, spent } = reached;
    let mut data = json!({
        "budget": budget.id,
        "window": budget.window,
        "window_start": window.window_start,
        "share": share,
        "limit_usd": limit,
        "spent_usd": spent,
    });
    // A window that began in another time zone ends by that one, which is not known here.
    if budget.window.start(budget.timezone, window.window_start) == window.window_start {
        data["resets_at"] = json!(budget.window.end(budget.timezone, window.window_start));
    }
    name_owner(conn, &budget.id, &mut data).await?;
    tracing::warn!(budget = %budget.id, share = share.as_str(), %limit, %spent, "a share of a cap is reached");
    outbox.put(conn, NoticeKind::BudgetAlert, budget.id.as_str(), data.clone()).await?;
    let entry = AdminEntry {
        time: outbox.clock().now(),
        actor: "bitting".to_owned(),
        action: "budget.alert".to_owned(),
        target: budget.id.as_str().to_owned(),
        request_id: String::new(),
        detail: data,
    };
    store::admin_log::append(conn, &entry).await.map(drop)
}

/// Whose budget it is: a sub-key by its id, with its name and project, or a project by its slug.
async fn name_owner(conn: &mut Conn<'_>, budget: &BudgetId, data: &mut Value) -> Result<(), StoreError> {
    let (kind, owner) = budget.owner().split_once(':').unwrap_or_default();
    data["owner_kind"] = json!(kind);
    data["owner"] = json!(owner);
    match BudgetOwner::subkey_of(budget.owner()) {
        Some(id) => {
            let subkey = store::subkey::get(conn, &id).await?;
            let definition = subkey.as_ref().map(|subkey| &subkey.definition);
            data["subkey_name"] = json!(definition.map(|definition| &definition.name));
            data["project"] = json!(definition.map(|definition| &definition.project));
        }
        None => data["project"] = json!(owner),
    }
    Ok(())
}
