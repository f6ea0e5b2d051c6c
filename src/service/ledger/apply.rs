//! What each command does inside the writer's transaction.

use super::{Demand, Hold, Settlement};
use crate::budget::{Balance, Refusal};
use crate::log::Entry;
use crate::store::admission::Admission;
use crate::store::{Conn, StoreError, access_log, admission, budget};

/// What became of a reservation in the transaction.
pub(super) enum Verdict {
    /// Held in every budget, and the admission is written.
    Reserved,
    /// The sub-key is not what the policy was decided by.
    Stale,
    /// Would not fit even with nothing in flight.
    Exceeded(Hold, Balance),
    /// May fit when requests in flight settle.
    Held(Hold, Balance),
    /// Nobody waits for it any more; nothing was done.
    Abandoned,
}

/// Writes the admission and holds the amount in every budget, in order, or does neither. The key comes
/// before its money: one that was stopped meanwhile is stale, whatever its budgets say.
pub(super) async fn reserve(conn: &mut Conn<'_>, demand: &Demand) -> Result<Verdict, StoreError> {
    let admission = Admission {
        request_id: demand.entry.request_id.clone(),
        node: demand.entry.node.clone(),
        admitted_at: demand.entry.time,
        subkey_id: demand.subkey.clone(),
        holds: demand.holds.iter().map(kept).collect(),
        entry: demand.entry.clone(),
    };
    if !admission::insert_if_current(conn, &admission, demand.subkey_version).await? {
        return Ok(Verdict::Stale);
    }
    for (index, hold) in demand.holds.iter().enumerate() {
        budget::ensure_window(conn, &hold.budget, hold.window_start).await?;
        if budget::hold(conn, &hold.budget, hold.window_start, hold.amount).await?.is_some() {
            continue;
        }
        give_back(conn, &demand.holds[..index]).await?;
        admission::take(conn, &admission.request_id).await?;
        let balance = budget::balance(conn, &hold.budget, hold.window_start).await?.unwrap_or_default();
        return Ok(match balance.admit(hold.amount) {
            Err(Refusal::Exceeded) => Verdict::Exceeded(hold.clone(), balance),
            // It fits by now, or the budget was dropped from the key: decide again.
            Ok(()) => Verdict::Stale,
            Err(Refusal::Held) => Verdict::Held(hold.clone(), balance),
        });
    }
    Ok(Verdict::Reserved)
}

/// Posts the cost in every budget that held the worst case, and writes the entry. Exactly once: what
/// was settled before is left alone.
pub(super) async fn settle(conn: &mut Conn<'_>, settlement: &Settlement) -> Result<Vec<Balance>, StoreError> {
    let Some(admission) = admission::take(conn, &settlement.request_id).await? else { return Ok(Vec::new()) };
    let mut balances = Vec::with_capacity(admission.holds.len());
    for hold in &admission.holds {
        let posting = budget::Settlement { held_back: hold.amount, cost: settlement.cost };
        let balance = budget::post(conn, &hold.budget, hold.window_start, posting).await?;
        if balance.is_none() {
            tracing::error!(
                budget = %hold.budget, request_id = settlement.request_id, alarm = "books_do_not_add_up",
                "a settlement does not fit its window and was not posted to it"
            );
        }
        balances.extend(balance);
    }
    record(conn, &settlement.entry).await?;
    Ok(balances)
}

/// Writes the entry of a refused request.
pub(super) async fn record(conn: &mut Conn<'_>, entry: &Entry) -> Result<(), StoreError> {
    access_log::append(conn, entry).await.map(drop)
}

async fn give_back(conn: &mut Conn<'_>, holds: &[Hold]) -> Result<(), StoreError> {
    for hold in holds {
        budget::unhold(conn, &hold.budget, hold.window_start, hold.amount).await?;
    }
    Ok(())
}

fn kept(hold: &Hold) -> admission::Hold {
    admission::Hold { budget: hold.budget.clone(), window_start: hold.window_start, amount: hold.amount }
}
