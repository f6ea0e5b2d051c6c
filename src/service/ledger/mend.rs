//! What is changed for the sake of the books, in the writer's turn: windows set right, and sums of usage made anew.
//!
//! Each change is written to the admin log with what it came to, in the same transaction.

use super::turn::{Tools, TurnError};
use super::writer::Reply;
use super::{Blocked, Mending, RowSeal, base, rows};
use crate::log::{AdminEntry, Sums};
use crate::service::budget::tell_what_stands;
use crate::store::{admin_log, disorder, usage};
use serde_json::json;
use std::collections::BTreeSet;

/// Does all of them; what is only blocked is so by the turn itself.
pub(super) async fn all(tools: &mut Tools<'_>, mendings: &[(Mending, Reply)]) -> Result<(), TurnError> {
    for (mending, _) in mendings {
        match mending {
            Mending::Block(_) => {}
            Mending::Repair { which, entry, seal } => repair(tools, which, entry, &**seal).await?,
            Mending::SumAgain { hours, entry } => sum_again(tools, hours, entry).await?,
        }
    }
    Ok(())
}

async fn repair(
    tools: &mut Tools<'_>,
    which: &Blocked,
    entry: &AdminEntry,
    seal: &dyn RowSeal,
) -> Result<(), TurnError> {
    let blocked = match which {
        Blocked::Of(budget) => disorder::blocked_of(&mut tools.conn, budget, rows::BILL).await?,
        Blocked::ByBill(provider) => {
            disorder::blocked_for(&mut tools.conn, &rows::billed_by(provider)).await?
        }
    };
    let mut windows = BTreeSet::new();
    for repaired in base::repair(&mut tools.conn, seal, blocked).await? {
        let mut detail = entry.detail.clone();
        let target = repaired.window.budget.as_str().to_owned();
        detail["window_start"] = json!(repaired.window.window_start);
        detail["logged_usd"] = json!(repaired.logged);
        for (name, standing) in [("before", repaired.before), ("after", repaired.after)] {
            detail[name] = json!({"posted_usd": standing.posted, "held_usd": standing.held});
        }
        let entry = AdminEntry { target, detail, ..entry.clone() };
        admin_log::append(&mut tools.conn, &entry).await?;
        rows::look(&mut tools.conn, tools.memory, &repaired.window).await?;
        windows.insert(repaired.window);
    }
    Ok(tell_what_stands(&mut tools.conn, tools.alarms.outbox(), &windows).await?)
}

/// Makes the sums of usage of these hours anew.
async fn sum_again(tools: &mut Tools<'_>, hours: &[String], entry: &AdminEntry) -> Result<(), TurnError> {
    for hour in hours {
        let (before, after) = usage::rebuild(&mut tools.conn, hour).await?;
        let told =
            |sums: Sums| json!({"entries": sums.entries, "requests": sums.requests, "cost_usd": sums.cost});
        let detail = json!({"before": told(before), "after": told(after)});
        let entry = AdminEntry { target: hour.clone(), detail, ..entry.clone() };
        admin_log::append(&mut tools.conn, &entry).await?;
    }
    Ok(())
}
