//! After a crash: what an earlier run left is settled. Admissions on record without an outcome are posted in full. What
//! was leased beside them may have been drawn by requests that were not on record yet; where those could have been
//! forwarded, it is posted too, as one `crash_charge` for each owner of budgets.

use super::reservation::unknown_outcome;
use super::{Command, Durability, Ledger, ObjectChanges, Settlement, Unrecorded};
use crate::base::{Clock, NanoUsd};
use crate::log::{Decision, Entry, Rollup, UsageSource};
use crate::service::budget::tell_what_stands;
use crate::service::notice::Outbox;
use crate::store::access_log::Posting;
use crate::store::admission::Admission;
use crate::store::budget::{BudgetId, BudgetOwner, WindowId};
use crate::store::{Conn, Store, StoreError, access_log, admission, budget, lease, project, subkey, usage};
use crate::subkey::{DEPTH_MAX, Definition};
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tokio::sync::oneshot;

const BATCH_MAX: u32 = 200;

/// Why an entry has no request of its own, as its `rule` says.
pub(super) const CRASH_CHARGE: &str = "crash_charge";

/// Numbers this run.
pub(super) async fn begin_epoch(
    store: &Store,
    (node, durability): (&str, Durability),
    now: DateTime<Utc>,
) -> Result<i64, StoreError> {
    let mut tx = store.write().await?;
    let epoch = lease::begin_epoch(&mut tx.conn(), (node, durability.as_str()), now).await?;
    tx.commit().await?;
    Ok(epoch)
}

/// Settles what earlier runs left. Returns how many admissions there were. Runs before anything is admitted, and by
/// nobody but who may keep the ledger.
pub(super) async fn settle_what_a_crash_left(
    store: &Store,
    epoch: i64,
    (clock, outbox): (&Clock, &Outbox),
) -> Result<usize, StoreError> {
    let mut settled = 0;
    loop {
        let mut tx = store.write().await?;
        let open = admission::list_open(&mut tx.conn(), BATCH_MAX).await?;
        let mut rollup = Rollup::default();
        for admission in &open {
            post_in_full(&mut tx.conn(), &mut rollup, admission).await?;
        }
        let windows = open.iter().flat_map(|admission| &admission.holds).map(window_of).collect();
        tell_what_stands(&mut tx.conn(), outbox, &windows).await?;
        usage::add(&mut tx.conn(), &rollup).await?;
        tx.commit().await?;
        if open.is_empty() {
            break;
        }
        settled += open.len();
    }
    loop {
        let mut tx = store.write().await?;
        // All of a run at once: what was lost below a project has to be told before what was lost to it.
        let left = lease::take_left(&mut tx.conn(), epoch).await?;
        let is_last = left.is_empty();
        let windows: BTreeSet<WindowId> = left.iter().map(|left| left.window.clone()).collect();
        charge_leases(&mut tx.conn(), left, clock.now()).await?;
        tell_what_stands(&mut tx.conn(), outbox, &windows).await?;
        tx.commit().await?;
        if is_last {
            return Ok(settled);
        }
    }
}

fn window_of(hold: &admission::Hold) -> WindowId {
    WindowId { budget: hold.budget.clone(), window_start: hold.window_start }
}

async fn post_in_full(
    conn: &mut Conn<'_>,
    rollup: &mut Rollup,
    admission: &Admission,
) -> Result<(), StoreError> {
    let cost = admission.entry.reserved_usd;
    let entry = Entry { cost_usd: cost, ..unknown_outcome(admission.entry.clone()) };
    admission::forget(conn, &admission.request_id).await?;
    let windows: Vec<(WindowId, NanoUsd)> =
        admission.holds.iter().map(|hold| (window_of(hold), hold.amount)).collect();
    let postings: Vec<Posting> = windows.iter().map(|(window, _)| Posting::all(window.clone())).collect();
    if access_log::append(conn, rollup, &entry, &postings).await?.is_none() {
        return Ok(());
    }
    for (window, amount) in windows {
        budget::post(conn, &window, cost, amount).await?;
        lease::add(conn, admission.epoch, &window, NanoUsd::ZERO.saturating_sub(amount)).await?;
    }
    Ok(())
}

/// Posts what was leased to a run and is on no record, or gives it back where nothing can have been forwarded by it.
async fn charge_leases(
    conn: &mut Conn<'_>,
    left: Vec<lease::Left>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let Some(lease::Left { epoch, node, .. }) = left.first().cloned() else { return Ok(()) };
    let mut lost: BTreeMap<String, Vec<Posting>> = BTreeMap::new();
    for lease::Left { durability, window, amount, .. } in left {
        let was_recorded_first = durability == Durability::BeforeForward.as_str();
        let cost = if was_recorded_first { NanoUsd::ZERO } else { amount };
        budget::post(conn, &window, cost, amount).await?;
        if cost > NanoUsd::ZERO {
            let of_owner = lost.entry(window.budget.owner().to_owned()).or_default();
            of_owner.push(Posting { amount_usd: Some(cost), ..Posting::all(window) });
        }
    }
    let mut rollup = Rollup::default();
    let mut losers = Vec::with_capacity(lost.len());
    let parents = Parents::read(conn).await?;
    for owner in lost.keys() {
        losers.push((owner.clone(), Loser::of(conn, owner, &parents).await?));
    }
    // What was lost below a project is lost to it, too: told once, by those that stand lowest.
    losers.sort_by_key(|(_, loser)| (loser.is_project, std::cmp::Reverse(loser.above.len())));
    for (owner, loser) in losers {
        let mut postings = lost.remove(&owner).unwrap_or_default();
        let cost = cost_of(&postings);
        if cost == NanoUsd::ZERO {
            continue;
        }
        // A lease is settled once, so the first of them names the entry for good.
        let first =
            postings.first().map(|posting| (posting.budget.as_str(), posting.window_start.timestamp()));
        let (budget, start) = first.unwrap_or_default();
        let request_id = format!("{}{}-{start}", crash_id(epoch), budget.replace([':', '/'], "-"));
        for slug in &loser.above {
            let above = lost.get_mut(BudgetOwner::project(slug).as_str());
            postings.extend(above.into_iter().flat_map(|above| share(above, cost)));
        }
        let entry = Entry {
            time: now,
            node: node.clone(),
            request_id,
            decision: Decision::Allowed,
            rule: Some(CRASH_CHARGE.to_owned()),
            reserved_usd: cost,
            cost_usd: cost,
            usage_source: UsageSource::Reserved,
            ..unknown_outcome(loser.entry)
        };
        access_log::append(conn, &mut rollup, &entry, &postings).await?;
    }
    usage::add(conn, &rollup).await
}

/// How the request ids begin of what the crash of a run charged.
fn crash_id(epoch: i64) -> String {
    format!("crash-{epoch}-")
}

/// The run whose crash the entry charged, or of whose charge it took something back.
pub(super) fn run_of(entry: &Entry) -> Option<&str> {
    let charge = match entry.corrects.as_deref() {
        Some(corrects) => corrects,
        None => {
            entry.rule.as_deref().filter(|rule| *rule == CRASH_CHARGE).map(|_| entry.request_id.as_str())?
        }
    };
    charge.strip_prefix("crash-")?.split_once('-').map(|(epoch, _)| epoch)
}

/// Takes what is told by an entry of so much from what a project lost: of each of its budgets up to all of it, from its
/// earlier windows first. Of a budget of which nothing is left it is nothing: that says that the entry bears on it.
fn share(lost: &mut [Posting], cost: NanoUsd) -> Vec<Posting> {
    let mut taken: BTreeMap<BudgetId, NanoUsd> = BTreeMap::new();
    let mut shares = Vec::new();
    for posting in lost {
        let is_first = !taken.contains_key(&posting.budget);
        let of_budget = taken.entry(posting.budget.clone()).or_default();
        let there = posting.amount_usd.unwrap_or_default();
        let amount = there.min(cost.saturating_sub(*of_budget));
        *of_budget = of_budget.saturating_add(amount);
        posting.amount_usd = Some(there.saturating_sub(amount));
        if is_first || amount > NanoUsd::ZERO {
            shares.push(Posting { amount_usd: Some(amount), ..posting.clone() });
        }
    }
    shares
}

/// A request draws on one window of each budget of its owner: what requests cost is the most that one budget lost, in all
/// of its windows.
fn cost_of(postings: &[Posting]) -> NanoUsd {
    let mut lost: BTreeMap<&str, NanoUsd> = BTreeMap::new();
    for posting in postings {
        let sum = lost.entry(posting.budget.as_str()).or_default();
        *sum = sum.saturating_add(posting.amount_usd.unwrap_or_default());
    }
    lost.into_values().max().unwrap_or_default()
}

/// The project above each.
struct Parents(HashMap<String, Option<String>>);

impl Parents {
    async fn read(conn: &mut Conn<'_>) -> Result<Self, StoreError> {
        let all = project::list(conn).await?;
        Ok(Self(all.into_iter().map(|one| (one.slug, one.parent)).collect()))
    }

    /// The project and those above it.
    fn way_up(&self, slug: &str) -> Vec<String> {
        let parent = |slug: &String| self.0.get(slug).cloned().flatten();
        std::iter::successors(Some(slug.to_owned()), parent).take(DEPTH_MAX).collect()
    }
}

/// Whose leases a crash left.
struct Loser {
    /// What its entry says of it.
    entry: Entry,
    is_project: bool,
    /// The projects above it.
    above: Vec<String>,
}

impl Loser {
    async fn of(conn: &mut Conn<'_>, owner: &str, parents: &Parents) -> Result<Self, StoreError> {
        if let Some(slug) = BudgetOwner::project_of(owner) {
            let entry = Entry { project: slug.to_owned(), ..Entry::default() };
            let above = parents.way_up(slug).into_iter().filter(|one| one != slug).collect();
            return Ok(Self { entry, is_project: true, above });
        }
        let Some(id) = BudgetOwner::subkey_of(owner) else {
            return Ok(Self { entry: Entry::default(), is_project: false, above: Vec::new() });
        };
        let definition = subkey::get(conn, &id).await?.map(|subkey| subkey.definition);
        let above = definition.as_ref().map(|definition| parents.way_up(&definition.project));
        let entry = Entry { subkey_id: id.as_str().to_owned(), ..Entry::default() };
        let entry = match definition {
            Some(Definition { name, project, owner, labels, .. }) => {
                Entry { subkey_name: name, project, owner, labels, ..entry }
            }
            None => entry,
        };
        Ok(Self { entry, is_project: false, above: above.unwrap_or_default() })
    }
}

impl Ledger {
    /// Settles an admission that is on record, holds nothing and is not this run's own: posts `cost` and writes the
    /// entry, durably.
    pub(in crate::service) async fn settle_on_record(
        &self,
        cost: NanoUsd,
        entry: Entry,
    ) -> Result<(), Unrecorded> {
        let (reply, answer) = oneshot::channel();
        let objects = ObjectChanges::default();
        let settlement = Settlement { cost, entry, holds: Vec::new(), objects, is_drawn: false };
        let command = Command::Settle(Box::new(settlement), Some(reply));
        self.commands.send(command).await.map_err(|_| Unrecorded)?;
        answer.await.map(drop).map_err(|_| Unrecorded)
    }
}
