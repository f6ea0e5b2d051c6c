//! The rows of windows, as a turn loads and writes them: each has to be as it was left.
//!
//! A row that somebody else changed is an alarm; the window is blocked, and remembered as it is found.

use super::Settlement;
use super::memory::{Left, Memory};
use super::writer::Unsettled;
use crate::base::NanoUsd;
use crate::budget::escrow::{Change, Row};
use crate::log::AlarmKind;
use crate::service::Alarms;
use crate::store::budget::{self, Standing, WindowChange, WindowId};
use crate::store::disorder::{self, Found};
use crate::store::{Conn, StoreError, lease};
use serde_json::json;

/// Why a window is blocked whose books do not add up, as its row says.
pub(super) const BOOKS: &str = "books_do_not_add_up";
/// Why a window is blocked to which a provider billed above its bound; the provider's slug follows.
pub(super) const BILL: &str = "bill_above_bound:";

/// The word for a window to which this provider billed above its bound.
pub(super) fn billed_by(provider: &str) -> String {
    format!("{BILL}{provider}")
}

/// The word for a window that one of these settlements passed: by who billed above what was held there, or tells now that
/// it did.
pub(super) fn overrun(unsettled: &[Unsettled], window: &WindowId) -> String {
    let is_above = |settlement: &Settlement| {
        settlement.holds.iter().any(|hold| hold.window_id() == *window && settlement.cost > hold.amount)
    };
    let is_told =
        |settlement: &Settlement| settlement.objects.told.as_ref().is_some_and(|told| told.is_above);
    let found = unsettled.iter().find(|(settlement, _)| is_above(settlement));
    let found = found.or_else(|| unsettled.iter().find(|(settlement, _)| is_told(settlement)));
    billed_by(found.and_then(|(settlement, _)| settlement.entry.provider.as_deref()).unwrap_or_default())
}

/// The alarm that says why a window is blocked, and whom it is about.
pub(super) fn alarm_of<'a>(window: &'a WindowId, why: &'a str) -> (AlarmKind, &'a str) {
    match why.strip_prefix(BILL) {
        Some(provider) => (AlarmKind::BillAboveBound, provider),
        None => (AlarmKind::BooksDoNotAddUp, window.budget.as_str()),
    }
}

/// The window's row: as it was left, where that is remembered, and else as it is found; made if there is none. One that was
/// left blocked is looked at, lest somebody else unblocked it. `None` when there is no such budget.
pub(super) async fn load(
    conn: &mut Conn<'_>,
    memory: &mut Memory,
    alarms: &Alarms,
    window: &WindowId,
) -> Result<Option<Row>, StoreError> {
    if memory.known(window).is_some_and(|left| left.is_blocked) {
        examine(conn, memory, alarms, window).await?;
    }
    if let Some(left) = memory.known(window) {
        return Ok(Some(row(left)));
    }
    budget::ensure_window(conn, &window.budget, window.window_start).await?;
    Ok(look(conn, memory, window).await?.map(row))
}

/// The window's row as it is found, which is remembered.
pub(super) async fn look(
    conn: &mut Conn<'_>,
    memory: &mut Memory,
    window: &WindowId,
) -> Result<Option<Left>, StoreError> {
    let Some(found) = disorder::look(conn, &window.budget, window.window_start).await? else {
        return Ok(None);
    };
    let left = as_left(&found);
    memory.leave(window.clone(), left);
    Ok(Some(left))
}

fn as_left(found: &Found) -> Left {
    Left {
        limit: found.is_active.then_some(found.limit),
        standing: found.standing.unwrap_or_default(),
        is_blocked: found.is_blocked,
    }
}

/// A budget that its owner does not have now admits nothing.
pub(super) fn row(left: Left) -> Row {
    let Left { limit, standing: Standing { posted, held }, is_blocked } = left;
    Row { limit: limit.unwrap_or_default(), posted, held, is_blocked: is_blocked || limit.is_none() }
}

/// What came of writing a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It is written.
    Done,
    /// Nothing was changed: it is not as it was left.
    Disturbed,
    /// The budget is gone, and with it whatever could be written.
    Gone,
}

/// Writes the change of a window, and of the lease.
pub(super) async fn write(
    conn: &mut Conn<'_>,
    memory: &mut Memory,
    (window, epoch): (&WindowId, i64),
    change: &Change,
) -> Result<Written, StoreError> {
    let Change { before, after, lease, admits } = *change;
    let standing = |row: Row| Standing { posted: row.posted, held: row.held };
    let written = WindowChange {
        before: standing(before),
        after: standing(after),
        admitted_by: admits.then_some(before.limit),
    };
    if !budget::change(conn, window, written).await? {
        let found = disorder::look(conn, &window.budget, window.window_start).await?;
        // Nothing is admitted in a budget that is gone; what was spent in it stands in the log alone.
        return Ok(if found.is_some() || admits { Written::Disturbed } else { Written::Gone });
    }
    if lease != NanoUsd::ZERO {
        lease::add(conn, epoch, window, lease).await?;
    }
    let known = memory.known(window);
    let is_blocked = known.is_some_and(|left| left.is_blocked) || (after.is_blocked && !before.is_blocked);
    let limit = known.and_then(|left| left.limit);
    memory.leave(window.clone(), Left { limit, standing: standing(after), is_blocked });
    Ok(Written::Done)
}

/// Looks at a window's row, and remembers it as it is found. What somebody else changed in it is an alarm, and blocks it.
pub(super) async fn examine(
    conn: &mut Conn<'_>,
    memory: &mut Memory,
    alarms: &Alarms,
    window: &WindowId,
) -> Result<Left, StoreError> {
    let known = memory.known(window);
    let mut found = disorder::look(conn, &window.budget, window.window_start).await?;
    if known.is_none() && found.is_some_and(|found| found.standing.is_none()) {
        // The turn that was about to make it was undone. What is remembered of a window without a row would not be found.
        budget::ensure_window(conn, &window.budget, window.window_start).await?;
        found = disorder::look(conn, &window.budget, window.window_start).await?;
    }
    let is_disturbed = known.is_some_and(|left| {
        found.is_none_or(|found| {
            found.standing != Some(left.standing) || (left.is_blocked && !found.is_blocked)
        })
    });
    let standing = found.and_then(|found| found.standing);
    if is_disturbed {
        let left = known.map(|left| left.standing);
        let detail = json!({
            "window_start": window.window_start,
            "posted_usd": standing.map(|standing| standing.posted), "held_usd": standing.map(|standing| standing.held),
            "left_posted_usd": left.map(|left| left.posted), "left_held_usd": left.map(|left| left.held),
        });
        alarms.raise(AlarmKind::BooksDoNotAddUp, window.budget.as_str(), &detail);
        disorder::block(conn, window, BOOKS).await?;
    }
    let left = found.as_ref().map(as_left).unwrap_or_default();
    let left = Left { is_blocked: is_disturbed || left.is_blocked, ..left };
    memory.leave(window.clone(), left);
    Ok(left)
}
