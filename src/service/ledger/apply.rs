//! What each command does inside the writer's transaction.

use super::memory::{Left, Memory};
use super::{Demand, Hold, Settlement};
use crate::budget::{Balance, Refusal};
use crate::log::{AlarmKind, Entry};
use crate::service::Alarms;
use crate::store::admission::Admission;
use crate::store::budget::{Claim, Standing, WindowId};
use crate::store::disorder::Found;
use crate::store::{Conn, StoreError, access_log, admission, budget, disorder};
use serde_json::json;

/// Why a window is blocked, as its row says.
pub(super) const BLOCKED: &str = "books_do_not_add_up";

/// A transaction under way, and what it is held against.
pub(super) struct Turn<'t> {
    pub(super) conn: Conn<'t>,
    pub(super) memory: &'t mut Memory,
    pub(super) alarms: &'t Alarms,
}

/// What became of a reservation in the transaction.
pub(super) enum Verdict {
    /// Held in every budget, and the admission is written.
    Reserved,
    /// Nobody waits for it any more; nothing was done.
    Abandoned,
    /// Nothing is held.
    Refused(Box<Miss>),
}

/// Why a window has no room.
pub(super) enum Miss {
    /// The sub-key is not what the policy was decided by.
    Stale,
    /// The budget's row is not what the sub-key says, and the sub-key was not changed.
    Tampered(Hold),
    /// The books of the window do not add up.
    Blocked(Hold),
    /// Would not fit even with nothing in flight.
    Exceeded(Hold, Balance),
    /// May fit when requests in flight settle.
    Held(Hold, Balance),
}

/// Writes the admission and holds the amount in every budget, in order, or does neither. The key comes
/// before its money: one that was stopped meanwhile is stale, whatever its budgets say.
pub(super) async fn reserve(turn: &mut Turn<'_>, demand: &Demand) -> Result<Verdict, StoreError> {
    let admission = Admission {
        request_id: demand.entry.request_id.clone(),
        node: demand.entry.node.clone(),
        admitted_at: demand.entry.time,
        subkey_id: demand.subkey.clone(),
        holds: demand.holds.iter().map(kept).collect(),
        entry: demand.entry.clone(),
    };
    if !admission::insert_if_current(&mut turn.conn, &admission, demand.subkey_version).await? {
        return Ok(Verdict::Refused(Box::new(Miss::Stale)));
    }
    for (index, hold) in demand.holds.iter().enumerate() {
        if let Some(miss) = take_room(turn, demand, hold).await? {
            give_back(turn, &demand.holds[..index]).await?;
            admission::take(&mut turn.conn, &admission.request_id).await?;
            return Ok(Verdict::Refused(Box::new(miss)));
        }
    }
    Ok(Verdict::Reserved)
}

/// Holds the amount in one window, if the budget's row is what the sub-key says and the window's is as it was left.
async fn take_room(turn: &mut Turn<'_>, demand: &Demand, hold: &Hold) -> Result<Option<Miss>, StoreError> {
    let window = hold.window_id();
    let known = turn.memory.known(&window);
    if known.is_none() {
        budget::ensure_window(&mut turn.conn, &hold.budget, hold.window_start).await?;
    }
    if known.is_none_or(|left| !left.is_blocked) {
        let expected = known.map(|left| left.standing);
        let claim = Claim { amount: hold.amount, limit: hold.limit, expected };
        if let Some(balance) = budget::hold(&mut turn.conn, &hold.budget, hold.window_start, claim).await? {
            turn.memory.leave(window, Left { standing: balance.into(), is_blocked: false });
            return Ok(None);
        }
    }
    let found = disorder::look(&mut turn.conn, &hold.budget, hold.window_start).await?;
    let Some(found) = found.filter(|found| found.is_active && found.limit == hold.limit) else {
        // A change of the sub-key changes its version in the same transaction as its budgets.
        if !admission::is_current(&mut turn.conn, &demand.subkey, demand.subkey_version).await? {
            return Ok(Some(Miss::Stale));
        }
        let detail = json!({
            "limit_usd": hold.limit, "found_limit_usd": found.map(|found| found.limit),
            "is_active": found.map(|found| found.is_active), "subkey": demand.subkey.as_str(),
        });
        turn.alarms.raise(AlarmKind::RowTampered, &format!("budgets/{}", hold.budget), &detail);
        return Ok(Some(Miss::Tampered(hold.clone())));
    };
    if is_disturbed(known, &found) {
        disturbed(turn, &window, known, Some(&found)).await?;
        return Ok(Some(Miss::Blocked(hold.clone())));
    }
    if found.is_blocked {
        return Ok(Some(Miss::Blocked(hold.clone())));
    }
    let Standing { posted, held } = found.standing.unwrap_or_default();
    let balance = Balance { limit: found.limit, posted, held };
    Ok(Some(match balance.admit(hold.amount) {
        Err(Refusal::Exceeded) => Miss::Exceeded(hold.clone(), balance),
        // It fits by now: decide again.
        Ok(()) => Miss::Stale,
        Err(Refusal::Held) => Miss::Held(hold.clone(), balance),
    }))
}

/// Whether somebody else changed the window since it was left.
fn is_disturbed(known: Option<Left>, found: &Found) -> bool {
    known.is_some_and(|left| found.standing != Some(left.standing) || (left.is_blocked && !found.is_blocked))
}

/// Raises the alarm and blocks the window. It is remembered as it is found.
async fn disturbed(
    turn: &mut Turn<'_>,
    window: &WindowId,
    known: Option<Left>,
    found: Option<&Found>,
) -> Result<(), StoreError> {
    let standing = found.and_then(|found| found.standing);
    let left = known.map(|left| left.standing);
    let detail = json!({
        "window_start": window.window_start,
        "posted_usd": standing.map(|standing| standing.posted), "held_usd": standing.map(|standing| standing.held),
        "left_posted_usd": left.map(|left| left.posted), "left_held_usd": left.map(|left| left.held),
    });
    turn.alarms.raise(AlarmKind::BooksDoNotAddUp, window.budget.as_str(), &detail);
    disorder::block(&mut turn.conn, window, BLOCKED).await?;
    let standing = standing.unwrap_or_default();
    turn.memory.leave(window.clone(), Left { standing, is_blocked: true });
    Ok(())
}

/// Blocks a window that an audit found wrong.
pub(super) async fn block(turn: &mut Turn<'_>, window: &WindowId) -> Result<(), StoreError> {
    disorder::block(&mut turn.conn, window, BLOCKED).await?;
    if let Some(left) = turn.memory.known(window) {
        turn.memory.leave(window.clone(), Left { is_blocked: true, ..left });
    }
    Ok(())
}

/// Posts the cost in every budget that held the worst case, and writes the entry. Exactly once: what
/// was settled before is left alone. What is spent is posted whatever the books look like, and the entry names every
/// window that it belongs to.
pub(super) async fn settle(turn: &mut Turn<'_>, settlement: &Settlement) -> Result<Vec<Balance>, StoreError> {
    let Some(admission) = admission::take(&mut turn.conn, &settlement.request_id).await? else {
        return Ok(Vec::new());
    };
    let mut balances = Vec::with_capacity(admission.holds.len());
    let mut postings = Vec::with_capacity(admission.holds.len());
    for hold in admission.holds {
        let window = WindowId { budget: hold.budget, window_start: hold.window_start };
        let known = turn.memory.known(&window);
        let posting = budget::Settlement {
            held_back: hold.amount,
            cost: settlement.cost,
            expected: known.map(|left| left.standing),
        };
        let (budget, start) = (&window.budget, window.window_start);
        let mut is_blocked = known.is_some_and(|left| left.is_blocked);
        let mut balance = budget::post(&mut turn.conn, budget, start, posting).await?;
        if balance.is_none() {
            let found = disorder::look(&mut turn.conn, budget, start).await?;
            disturbed(turn, &window, known, found.as_ref()).await?;
            balance = disorder::post_in_disorder(&mut turn.conn, budget, start, posting).await?;
            is_blocked = true;
        }
        if let Some(balance) = balance {
            turn.memory.leave(window.clone(), Left { standing: balance.into(), is_blocked });
        }
        balances.extend(balance);
        postings.push(window);
    }
    access_log::append(&mut turn.conn, &settlement.entry, &postings).await?;
    Ok(balances)
}

/// Writes the entry of a refused request.
pub(super) async fn record(conn: &mut Conn<'_>, entry: &Entry) -> Result<(), StoreError> {
    access_log::append(conn, entry, &[]).await.map(drop)
}

async fn give_back(turn: &mut Turn<'_>, holds: &[Hold]) -> Result<(), StoreError> {
    for hold in holds {
        let (budget, start) = (&hold.budget, hold.window_start);
        if let Some(balance) = budget::unhold(&mut turn.conn, budget, start, hold.amount).await? {
            turn.memory.leave(hold.window_id(), Left { standing: balance.into(), is_blocked: false });
        }
    }
    Ok(())
}

fn kept(hold: &Hold) -> admission::Hold {
    admission::Hold { budget: hold.budget.clone(), window_start: hold.window_start, amount: hold.amount }
}
