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
use crate::store::budget::{BudgetOwner, WindowId};
use crate::store::{Conn, Store, StoreError, access_log, admission, budget, lease, project, subkey, usage};
use crate::subkey::{DEPTH_MAX, Definition};
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use tokio::sync::oneshot;

const BATCH_MAX: u32 = 200;
const LEASES_MAX: u32 = 1_000;

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
        let left = lease::take_left(&mut tx.conn(), epoch, LEASES_MAX).await?;
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

/// Posts what was leased and is on no record, or gives it back where nothing can have been forwarded by it.
async fn charge_leases(
    conn: &mut Conn<'_>,
    left: Vec<lease::Left>,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let mut charges: BTreeMap<(i64, String), (String, Vec<Posting>)> = BTreeMap::new();
    for lease::Left { epoch, node, durability, window, amount } in left {
        let was_recorded_first = durability == Durability::BeforeForward.as_str();
        let cost = if was_recorded_first { NanoUsd::ZERO } else { amount };
        budget::post(conn, &window, cost, amount).await?;
        if cost > NanoUsd::ZERO {
            let owner = window.budget.owner().to_owned();
            let (_, postings) = charges.entry((epoch, owner)).or_insert_with(|| (node, Vec::new()));
            postings.push(Posting { amount_usd: Some(cost), ..Posting::all(window) });
        }
    }
    let mut rollup = Rollup::default();
    let mut losers = Vec::with_capacity(charges.len());
    let parents = Parents::read(conn).await?;
    for ((epoch, owner), (node, postings)) in charges {
        let loser = Loser::of(conn, &owner, &parents).await?;
        losers.push((loser, epoch, (node, postings)));
    }
    // What was lost below a project is lost to it, too: told once, by those that stand lowest.
    losers.sort_by_key(|(loser, _, _)| (loser.is_project, std::cmp::Reverse(loser.above.len())));
    let mut told: HashMap<(i64, String), NanoUsd> = HashMap::new();
    for (loser, epoch, (node, postings)) in losers {
        let lost = cost_of(&postings);
        let below = told.get(&(epoch, loser.entry.project.clone())).filter(|_| loser.is_project);
        let cost = lost.saturating_sub(below.copied().unwrap_or_default()).max(NanoUsd::ZERO);
        for slug in &loser.above {
            let sum = told.entry((epoch, slug.clone())).or_default();
            *sum = sum.saturating_add(cost);
        }
        // A lease is settled once, so the first of them names the entry for good.
        let first =
            postings.first().map(|posting| (posting.budget.as_str(), posting.window_start.timestamp()));
        let (budget, start) = first.unwrap_or_default();
        let request_id = format!("crash-{epoch}-{}-{start}", budget.replace([':', '/'], "-"));
        let entry = Entry {
            time: now,
            node,
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
    /// Its project and those above.
    above: Vec<String>,
}

impl Loser {
    async fn of(conn: &mut Conn<'_>, owner: &str, parents: &Parents) -> Result<Self, StoreError> {
        if let Some(slug) = BudgetOwner::project_of(owner) {
            let entry = Entry { project: slug.to_owned(), ..Entry::default() };
            return Ok(Self { entry, is_project: true, above: parents.way_up(slug) });
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
