//! One turn of the writer: what waits, in one transaction.
//!
//! What tells whether something happened before comes first: an entry that is there already was settled by a commit of
//! which nobody knew. Then the rows of all windows are loaded, the arithmetic is done in one go, and the changes are
//! written. A row that is not as it was left undoes the turn, and it is tried again with what was found.

use super::desk::{Desk, draw};
use super::memory::{Left, Memory};
use super::rows::Written;
use super::time::Timekeeper;
use super::writer::{Admitting, Batch, Pending, Unsettled};
use super::{
    AuditError, CorrectError, Corrected, Demand, Hold, Mending, Opening, Settlement, correct, deferred, mend,
    objects, rows,
};
use crate::base::NanoUsd;
use crate::budget::Balance;
use crate::budget::escrow::{Change, Miss as NoRoom, Row, Turn};
use crate::log::{AlarmKind, Entry, Rollup};
use crate::service::Alarms;
use crate::service::budget::{Spending, tell_what_is_reached};
use crate::store::access_log::Posting;
use crate::store::admission::Admission;
use crate::store::budget::WindowId;
use crate::store::{Conn, Patience, StoreError, access_log, admission, disorder, lease, project, usage};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Why a window has no room.
pub(super) enum Miss {
    /// The sub-key, or a project above it, is not what the policy was decided by.
    Stale,
    /// The budget's row is not what its owner says, and the owner was not changed.
    Tampered(Hold),
    /// Nothing is admitted in the window.
    Blocked(Hold),
    /// Would not fit even with nothing in flight.
    Exceeded(Hold, Balance),
    /// May fit when requests in flight settle.
    Held(Hold, Balance),
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

/// What is said when the turn is durable.
pub(super) struct Done {
    pub(super) verdicts: Vec<Verdict>,
    /// For each settlement, where its windows stand.
    pub(super) balances: Vec<Vec<Balance>>,
    /// To be kept.
    pub(super) turn: Turn<WindowId>,
    /// What came of each correction.
    pub(super) corrected: Vec<Result<Corrected, CorrectError>>,
    /// Objects that stay somebody else's.
    pub(super) taken: Vec<objects::TakenId>,
}

/// Why the changes were not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum TurnError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Books(#[from] AuditError),
    /// These rows are not as they were left: look at them, and try again.
    #[error("windows were changed by somebody else")]
    Disturbed(Vec<WindowId>),
}

/// What a turn works with.
pub(super) struct Tools<'t> {
    pub(super) conn: Conn<'t>,
    pub(super) patience: &'t Patience,
    pub(super) epoch: i64,
    pub(super) node: &'t str,
    pub(super) desk: &'t Desk,
    pub(super) time: &'t Timekeeper,
    pub(super) memory: &'t mut Memory,
    pub(super) alarms: &'t Alarms,
    /// What the entries of this turn add to the sums of usage.
    pub(super) rollup: Rollup,
}

/// What a turn has to do.
pub(super) struct Work<'w> {
    pub(super) admitting: &'w [Admitting],
    pub(super) unsettled: &'w [Unsettled],
    pub(super) batch: &'w Batch,
    /// Leases are looked through for what nobody uses.
    pub(super) sweeps: bool,
    /// Everything that is idle goes back.
    pub(super) closes: bool,
}

/// Does the work in the transaction. On an error, the transaction is to be dropped; what was done in memory is undone.
pub(super) async fn run(tools: &mut Tools<'_>, work: &Work<'_>) -> Result<Done, TurnError> {
    let patience = tools.patience;
    let Prepared { settled, booked, taken, corrected, misses, found } =
        patience.listen(prepare(tools, work)).await??;
    let (turn, no_room) = plan(tools, work, (&settled, &booked, &corrected), found, &misses);
    let done = patience.listen(write(tools, work, &turn, no_room, misses)).await;
    let done = done.unwrap_or_else(|silence| Err(silence.into()));
    match done {
        Ok(verdicts) => {
            Ok(Done { verdicts, balances: balances(tools.desk, &turn, &settled), turn, corrected, taken })
        }
        Err(error) => {
            turn.undone(&mut tools.desk.escrow());
            Err(error)
        }
    }
}

/// What the arithmetic needs: what happened before, what was asked, and the rows.
struct Prepared {
    settled: Vec<Settled>,
    booked: Vec<deferred::Booked>,
    taken: Vec<objects::TakenId>,
    corrected: Vec<Result<Corrected, CorrectError>>,
    misses: Vec<Option<Verdict>>,
    found: BTreeMap<WindowId, Row>,
}

async fn prepare(tools: &mut Tools<'_>, work: &Work<'_>) -> Result<Prepared, TurnError> {
    reload(tools).await?;
    let settled = settle(tools, work.unsettled).await?;
    let taken = objects::keep(tools, work.unsettled).await?;
    let booked = deferred::keep(tools, work.unsettled, settled.iter().map(|one| one.is_first)).await?;
    record(tools, work).await?;
    let corrected = correct::all(tools, &work.batch.corrections).await?;
    let mut misses = admit(tools, &work.batch.reserves).await?;
    let mut found = load(tools, work, (&settled, &booked), &corrected).await?;
    misses_by_cap(tools, &work.batch.reserves, &mut found, &mut misses).await?;
    Ok(Prepared { settled, booked, taken, corrected, misses, found })
}

/// After a commit of which nobody knew: what is leased.
async fn reload(tools: &mut Tools<'_>) -> Result<(), StoreError> {
    let uncertain = tools.desk.escrow().uncertain();
    for window in uncertain {
        let amount = lease::amount(&mut tools.conn, tools.epoch, &window).await?;
        tools.desk.escrow().reload(&window, amount);
    }
    Ok(())
}

/// A settlement, by the windows that it belongs to.
struct Settled {
    /// Each with what was drawn there.
    windows: Vec<(WindowId, NanoUsd)>,
    /// It was not posted before, by a commit of which nobody knew.
    is_first: bool,
}

/// Writes the entries of what is settled.
async fn settle(tools: &mut Tools<'_>, unsettled: &[Unsettled]) -> Result<Vec<Settled>, StoreError> {
    let mut settled = Vec::with_capacity(unsettled.len());
    for (settlement, _) in unsettled {
        let Settlement { entry, holds, is_drawn, .. } = &**settlement;
        let (windows, is_known): (Vec<_>, bool) = if *is_drawn {
            admission::forget(&mut tools.conn, &entry.request_id).await?;
            (holds.iter().map(|hold| (hold.window_id(), hold.amount)).collect(), true)
        } else {
            // Nothing is drawn for it, and whoever takes it off the record settles it.
            let taken = admission::take(&mut tools.conn, &entry.request_id).await?;
            let is_known = taken.is_some();
            let holds = taken.map(|admission| admission.holds).unwrap_or_default();
            let window =
                |hold: admission::Hold| WindowId { budget: hold.budget, window_start: hold.window_start };
            (holds.into_iter().map(|hold| (window(hold), NanoUsd::ZERO)).collect(), is_known)
        };
        let postings: Vec<Posting> = windows.iter().map(|(window, _)| Posting::all(window.clone())).collect();
        let is_first = is_known && append(tools, entry, &postings).await?;
        settled.push(Settled { windows, is_first });
    }
    Ok(settled)
}

/// Appends the entry; whether it is the first of its request.
pub(super) async fn append(
    tools: &mut Tools<'_>,
    entry: &Entry,
    postings: &[Posting],
) -> Result<bool, StoreError> {
    let seq = access_log::append(&mut tools.conn, &mut tools.rollup, entry, postings).await?;
    Ok(seq.is_some())
}

/// Puts on record what was admitted in memory and is not over yet, and writes the entries of refusals.
async fn record(tools: &mut Tools<'_>, work: &Work<'_>) -> Result<(), StoreError> {
    let over: HashSet<&str> =
        work.unsettled.iter().map(|(settlement, _)| settlement.entry.request_id.as_str()).collect();
    for (opening, _) in work.admitting {
        if !over.contains(opening.entry.request_id.as_str()) {
            let admission = on_record(tools, opening);
            admission::insert(&mut tools.conn, &admission).await?;
        }
    }
    for (entry, _) in &work.batch.records {
        append(tools, entry, &[]).await?;
    }
    Ok(())
}

fn on_record(tools: &Tools<'_>, opening: &Opening) -> Admission {
    let kept = |hold: &Hold| admission::Hold {
        budget: hold.budget.clone(),
        window_start: hold.window_start,
        amount: hold.amount,
    };
    Admission {
        request_id: opening.entry.request_id.clone(),
        node: tools.node.to_owned(),
        epoch: tools.epoch,
        admitted_at: opening.entry.time,
        subkey_id: opening.subkey.clone(),
        holds: opening.holds.iter().map(kept).collect(),
        entry: opening.entry.clone(),
    }
}

/// Refuses reservations whose sub-keys and projects are not what they were decided by. The key comes before its money:
/// one that was stopped meanwhile is stale, whatever its budgets say.
async fn admit(tools: &mut Tools<'_>, reserves: &[Pending]) -> Result<Vec<Option<Verdict>>, StoreError> {
    let demands = || reserves.iter().map(|pending| &pending.request.demand);
    let projects: BTreeSet<&str> =
        demands().flat_map(|demand| demand.projects.iter()).map(|(slug, _)| slug.as_str()).collect();
    let projects = project::active_versions(&mut tools.conn, &Vec::from_iter(projects)).await?;
    let subkeys: BTreeSet<&str> = demands().map(|demand| demand.subkey.as_str()).collect();
    let subkeys = admission::active_versions(&mut tools.conn, &Vec::from_iter(subkeys)).await?;
    let verdict = |Pending { request, .. }: &Pending| {
        let demand = &request.demand;
        let is_current = subkeys.get(demand.subkey.as_str()) == Some(&demand.subkey_version);
        if request.reply.is_closed() {
            Some(Verdict::Abandoned)
        } else if is_current && are_current(demand, &projects) {
            None
        } else {
            Some(Verdict::Refused(Box::new(Miss::Stale)))
        }
    };
    Ok(reserves.iter().map(verdict).collect())
}

/// Whether the projects are at the versions that the demand was decided by; `active` has those that are not stopped.
fn are_current(demand: &Demand, active: &HashMap<String, i64>) -> bool {
    demand.projects.iter().all(|(slug, version)| active.get(slug) == Some(version))
}

/// The rows of every window that the turn touches.
async fn load(
    tools: &mut Tools<'_>,
    work: &Work<'_>,
    (settled, booked): (&[Settled], &[deferred::Booked]),
    corrected: &[Result<Corrected, CorrectError>],
) -> Result<BTreeMap<WindowId, Row>, StoreError> {
    let settled = settled.iter().flat_map(|one| &one.windows).map(|(window, _)| window.clone());
    let asked = work.batch.reserves.iter().flat_map(|pending| &pending.request.demand.holds);
    let mut windows: BTreeSet<WindowId> = settled.chain(asked.map(Hold::window_id)).collect();
    let released = corrected.iter().flatten().flat_map(|one| &one.windows);
    let told = booked.iter().flat_map(|one| &one.windows);
    windows.extend(released.chain(told).map(|(window, _)| window.clone()));
    for (mending, _) in &work.batch.mendings {
        if let Mending::Block(blocked) = mending {
            windows.extend(blocked.iter().cloned());
        }
    }
    if work.closes {
        windows.extend(tools.desk.escrow().windows().cloned());
    } else if work.sweeps {
        windows.extend(tools.desk.escrow().with_surplus(tools.desk.now()));
    }
    let mut found = BTreeMap::new();
    for window in windows {
        if let Some(row) = rows::load(&mut tools.conn, tools.memory, tools.alarms, &window).await? {
            found.insert(window, row);
        }
    }
    Ok(found)
}

/// Refuses what was decided by another cap than its budget has: by a sub-key or project that was changed meanwhile, or
/// else by a row that was.
async fn misses_by_cap(
    tools: &mut Tools<'_>,
    reserves: &[Pending],
    found: &mut BTreeMap<WindowId, Row>,
    misses: &mut [Option<Verdict>],
) -> Result<(), StoreError> {
    for (Pending { request, .. }, miss) in reserves.iter().zip(misses) {
        if miss.is_some() {
            continue;
        }
        for hold in &request.demand.holds {
            let window = hold.window_id();
            let is_same = |left: Left| left.limit == Some(hold.limit);
            if found.contains_key(&window) && tools.memory.known(&window).is_some_and(is_same) {
                continue;
            }
            let left = rows::examine(&mut tools.conn, tools.memory, tools.alarms, &window).await?;
            found.insert(window, rows::row(left));
            if is_same(left) {
                continue;
            }
            let (subkey, version) = (&request.demand.subkey, request.demand.subkey_version);
            let slugs: Vec<&str> = request.demand.projects.iter().map(|(slug, _)| slug.as_str()).collect();
            let active = project::active_versions(&mut tools.conn, &slugs).await?;
            let is_current = are_current(&request.demand, &active)
                && admission::is_current(&mut tools.conn, subkey, version).await?;
            let why = if is_current {
                let detail = json!({
                    "limit_usd": hold.limit, "found_limit_usd": left.limit, "subkey": subkey.as_str(),
                });
                tools.alarms.raise(AlarmKind::RowTampered, &format!("budgets/{}", hold.budget), &detail);
                Miss::Tampered(hold.clone())
            } else {
                Miss::Stale
            };
            *miss = Some(Verdict::Refused(Box::new(why)));
            break;
        }
    }
    Ok(())
}

/// All of the arithmetic, while nobody draws. Tells what refused each reservation that was asked.
fn plan(
    tools: &Tools<'_>,
    work: &Work<'_>,
    (settled, booked, corrected): (&[Settled], &[deferred::Booked], &[Result<Corrected, CorrectError>]),
    found: BTreeMap<WindowId, Row>,
    misses: &[Option<Verdict>],
) -> (Turn<WindowId>, Vec<Option<Miss>>) {
    let mut escrow = tools.desk.escrow();
    let mut turn = Turn::new(found, tools.desk.now());
    for ((settlement, _), Settled { windows, is_first }) in work.unsettled.iter().zip(settled) {
        for (window, drawn) in windows {
            if !*is_first {
                turn.was_settled(&mut escrow, window, *drawn, settlement.cost);
                continue;
            }
            turn.settle(&mut escrow, window, *drawn, settlement.cost);
            if settlement.is_drawn && settlement.cost > *drawn {
                turn.block(&mut escrow, window);
            }
        }
    }
    for deferred::Booked { windows, is_above } in booked {
        for (window, amount) in windows {
            if *amount < NanoUsd::ZERO {
                turn.release(window, amount.negated());
            } else {
                // Nothing is drawn for it any more.
                turn.settle(&mut escrow, window, NanoUsd::ZERO, *amount);
            }
            if *is_above {
                turn.block(&mut escrow, window);
            }
        }
    }
    for (window, amount) in corrected.iter().flatten().flat_map(|one| &one.windows) {
        turn.release(window, *amount);
    }
    for (mending, _) in &work.batch.mendings {
        if let Mending::Block(windows) = mending {
            for window in windows {
                turn.block(&mut escrow, window);
            }
        }
    }
    for window in work.batch.reserves.iter().filter_map(|pending| pending.waited_for.as_ref()) {
        turn.stop_waiting(&mut escrow, window);
    }
    let mut no_room = Vec::with_capacity(misses.len());
    for (Pending { request, .. }, miss) in work.batch.reserves.iter().zip(misses) {
        let holds = &request.demand.holds;
        let reserved = match miss {
            Some(_) => Ok(()),
            None => turn.reserve(&mut escrow, &holds.iter().map(draw).collect::<Vec<_>>()),
        };
        if let Err(NoRoom::Held(window, _)) = &reserved {
            turn.wait(&mut escrow, window);
        }
        no_room.push(reserved.err().and_then(|no_room| as_miss(holds, no_room)));
    }
    turn.trim(&mut escrow, work.closes);
    (turn, no_room)
}

fn as_miss(holds: &[Hold], no_room: NoRoom<WindowId>) -> Option<Miss> {
    let of = |window: &WindowId| holds.iter().find(|hold| hold.window_id() == *window).cloned();
    match no_room {
        NoRoom::Changed(_) => Some(Miss::Stale),
        NoRoom::Blocked(window) => of(&window).map(Miss::Blocked),
        NoRoom::Exceeded(window, balance) => of(&window).map(|hold| Miss::Exceeded(hold, balance)),
        NoRoom::Held(window, balance) => of(&window).map(|hold| Miss::Held(hold, balance)),
    }
}

/// Writes what was planned.
async fn write(
    tools: &mut Tools<'_>,
    work: &Work<'_>,
    turn: &Turn<WindowId>,
    no_room: Vec<Option<Miss>>,
    misses: Vec<Option<Verdict>>,
) -> Result<Vec<Verdict>, TurnError> {
    let mut disturbed = Vec::new();
    for (window, change) in turn.changes() {
        if change.after.is_blocked && !change.before.is_blocked {
            let by_audit = work.batch.mendings.iter().any(|(mending, _)| mending.blocks(window));
            let why = if by_audit { rows::BOOKS.to_owned() } else { rows::overrun(work.unsettled, window) };
            disorder::block(&mut tools.conn, window, &why).await?;
        }
        match rows::write(&mut tools.conn, tools.memory, (window, tools.epoch), &change).await? {
            Written::Done => {}
            Written::Disturbed => disturbed.push(window.clone()),
            Written::Gone => {
                tools.memory.forget_one(window);
                tools.desk.escrow().forget(window);
            }
        }
    }
    if !disturbed.is_empty() {
        return Err(TurnError::Disturbed(disturbed));
    }
    let outbox = tools.alarms.outbox();
    if outbox.has_alerts() {
        tell_what_is_reached(&mut tools.conn, outbox, &spendings(turn)).await?;
    }
    let mut verdicts = Vec::with_capacity(misses.len());
    for ((Pending { request, .. }, miss), no_room) in work.batch.reserves.iter().zip(misses).zip(no_room) {
        let refused = no_room.map(|miss| Verdict::Refused(Box::new(miss)));
        let verdict = miss.or(refused).unwrap_or(Verdict::Reserved);
        if let Verdict::Reserved = verdict {
            let Demand { subkey, holds, entry, .. } = &request.demand;
            let opening = Opening { subkey: subkey.clone(), holds: holds.clone(), entry: entry.clone() };
            let admission = on_record(tools, &opening);
            admission::insert(&mut tools.conn, &admission).await?;
        }
        verdicts.push(verdict);
    }
    usage::add(&mut tools.conn, &tools.rollup).await?;
    mend::all(tools, &work.batch.mendings).await?;
    if tools.time.is_due() || work.closes {
        keep_time(tools).await?;
    }
    if work.sweeps || work.closes {
        lease::drop_empty(&mut tools.conn, tools.epoch).await?;
    }
    Ok(verdicts)
}

/// Keeps the time beside what happened in it. While the vault is sealed nothing is signed, and nothing admitted.
async fn keep_time(tools: &mut Tools<'_>) -> Result<(), TurnError> {
    match tools.time.keep(&mut tools.conn).await {
        Ok(()) | Err(AuditError::Sealed) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What the turn posts, by windows.
fn spendings(turn: &Turn<WindowId>) -> Vec<Spending> {
    let posted = turn.changes().filter(|(_, change)| change.after.posted > change.before.posted);
    let spending = |(window, change): (&WindowId, Change)| Spending {
        window: window.clone(),
        before: change.before.posted,
        after: change.after.posted,
    };
    posted.map(spending).collect()
}

/// Where the windows of each settlement stand.
fn balances(desk: &Desk, turn: &Turn<WindowId>, settled: &[Settled]) -> Vec<Vec<Balance>> {
    let escrow = desk.escrow();
    let of =
        |one: &Settled| one.windows.iter().filter_map(|(window, _)| turn.balance(&escrow, window)).collect();
    settled.iter().map(of).collect()
}
