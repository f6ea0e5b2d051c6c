//! The end of a quarantine: what was taken away and spent after the backup is done again first, then keys work.
//!
//! A list that is too long for one request comes in parts. It can be repeated after a failure: what was stopped stays stopped, and what was posted is not posted twice.

use super::checkpoint::Occasion;
use super::quarantine::MISMATCH;
use super::vault::{Book, Standing, Tampered, all_rows};
use super::{Actor, AlreadyDone, ChangeSubkeyError, GuardError, Services, StateRefusal, StoreError};
use crate::base::NanoUsd;
use crate::log::{Decision, Entry, Outcome, UsageSource};
use crate::store::admin_log::AdminFilter;
use crate::store::admission::{Admission, Hold};
use crate::store::budget::BudgetOwner;
use crate::store::{self, Conn, PAGE_MAX};
use crate::subkey::{State, SubKey, SubKeyId};
use crate::vault::{PowerRow, PowerTable};
use chrono::{DateTime, Timelike, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, HashSet};

/// What to do before keys work again.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReleaseOrder {
    /// Sub-keys to revoke.
    pub revoke: Vec<String>,
    /// Sub-keys to suspend.
    pub suspend: Vec<String>,
    /// What was spent and is not in this database.
    pub spend: Vec<Spend>,
    /// More parts of the order follow: this one is done, and the quarantine goes on until one comes without it. What a key
    /// spent in an hour belongs into one part.
    pub more: bool,
}

/// What a sub-key spent at a time.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spend {
    /// The sub-key.
    pub subkey_id: String,
    /// Tells the windows that it belongs to; one amount for each key and hour.
    pub time: DateTime<Utc>,
    /// The amount.
    pub cost_usd: NanoUsd,
}

/// What a release came to.
#[derive(Clone, Debug, Serialize)]
pub struct Released {
    /// Why there was a quarantine.
    pub reason: String,
    /// For people.
    pub detail: String,
    /// Sub-keys that are revoked now.
    pub revoked: Vec<String>,
    /// Sub-keys that are suspended now.
    pub suspended: Vec<String>,
    /// What was posted.
    pub spend: Vec<PostedSpend>,
    /// Sub-keys that this database does not have: they are nobody's.
    pub unknown: Vec<String>,
    /// Rows that are not as they were written: they stay unusable.
    pub unusable: Vec<String>,
    /// Whether sub-keys work again: not while more parts of the order follow.
    pub released: bool,
}

/// What was posted for a sub-key.
#[derive(Clone, Debug, Serialize)]
pub struct PostedSpend {
    /// The sub-key.
    pub subkey_id: String,
    /// The hour.
    pub time: DateTime<Utc>,
    /// The amount.
    pub cost_usd: NanoUsd,
}

/// Why the quarantine goes on.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// There is none.
    #[error("this gateway is not in quarantine")]
    NotQuarantined,
    /// More was spent in an hour than can be counted.
    #[error("the amounts of a sub-key add up to more than can be counted")]
    TooMuch,
    /// A sub-key could not be stopped.
    #[error("the sub-key {id} could not be stopped: {error}")]
    NotStopped {
        /// Which.
        id: String,
        /// Why.
        error: Box<ChangeSubkeyError<StateRefusal>>,
    },
    /// The ledger cannot be written.
    #[error("the ledger cannot be written")]
    Unrecorded,
    /// The request is a repeat.
    #[error(transparent)]
    AlreadyDone(#[from] AlreadyDone),
    /// The vault is sealed.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Services {
    /// Applies the order; unless more of it follows, writes a new checkpoint and ends the quarantine.
    pub async fn release_quarantine(
        &self,
        actor: &Actor,
        order: &ReleaseOrder,
    ) -> Result<Released, ReleaseError> {
        let _turn = self.opening.lock().await;
        let was = self.quarantine().ok_or(ReleaseError::NotQuarantined)?;
        let mut done = Released {
            reason: was.reason,
            detail: was.detail,
            revoked: Vec::new(),
            suspended: Vec::new(),
            spend: Vec::new(),
            unknown: Vec::new(),
            unusable: Vec::new(),
            released: !order.more,
        };
        self.stop_keys(actor, order, &mut done).await?;
        self.post_spend(actor, order, &mut done).await?;
        if order.more {
            let mut tx = self.store.write().await?;
            self.note(&mut tx.conn(), actor, "vault.release_part", &self.installation, json!(done)).await?;
            tx.commit().await?;
        } else {
            self.end_quarantine(actor, &mut done).await?;
        }
        Ok(done)
    }

    async fn stop_keys(
        &self,
        actor: &Actor,
        order: &ReleaseOrder,
        done: &mut Released,
    ) -> Result<(), ReleaseError> {
        // The request's own key is for the release, not for each of its steps.
        let actor = Actor { idempotency_key: None, ..actor.clone() };
        let revoke = order.revoke.iter().map(|id| (id, State::Revoked));
        let suspend = order.suspend.iter().map(|id| (id, State::Suspended));
        for (text, state) in revoke.chain(suspend) {
            let Some(id) = SubKeyId::parse(text) else {
                note_once(&mut done.unknown, text);
                continue;
            };
            match self.set_subkey_state(&actor, &id, None, state).await {
                Ok(_) if state == State::Revoked => note_once(&mut done.revoked, text),
                Ok(_) => note_once(&mut done.suspended, text),
                // Revoked is more than suspended.
                Err(ChangeSubkeyError::Refused(StateRefusal::Revoked)) => {}
                Err(ChangeSubkeyError::NotFound) => note_once(&mut done.unknown, text),
                Err(ChangeSubkeyError::Guard(GuardError::Tampered(Tampered { table, id }))) => {
                    note_once(&mut done.unusable, &format!("{table}/{id}"));
                }
                Err(error) => {
                    return Err(ReleaseError::NotStopped { id: text.clone(), error: Box::new(error) });
                }
            }
        }
        Ok(())
    }

    /// Posts what was spent, an entry of the access log for each key and hour.
    async fn post_spend(
        &self,
        actor: &Actor,
        order: &ReleaseOrder,
        done: &mut Released,
    ) -> Result<(), ReleaseError> {
        let mut sums: BTreeMap<(&str, DateTime<Utc>), NanoUsd> = BTreeMap::new();
        for spend in &order.spend {
            let sum = sums.entry((&spend.subkey_id, hour(spend.time))).or_default();
            *sum = sum.checked_add(spend.cost_usd).ok_or(ReleaseError::TooMuch)?;
        }
        let epoch = self.book.lock().await.register().epoch;
        for ((text, time), cost) in sums {
            let subkey = match SubKeyId::parse(text) {
                Some(id) => store::subkey::get(&mut self.store.read().await?.conn(), &id).await?,
                None => None,
            };
            let Some(subkey) = subkey else {
                note_once(&mut done.unknown, text);
                continue;
            };
            let entry = self.entry_of_spend(&subkey, epoch, time, cost);
            self.put_on_record(actor, &subkey, &entry).await?;
            self.ledger.settle_on_record(cost, entry).await.map_err(|_| ReleaseError::Unrecorded)?;
            done.spend.push(PostedSpend { subkey_id: text.to_owned(), time, cost_usd: cost });
        }
        Ok(())
    }

    /// Writes down an admission that holds nothing, for the ledger's writer to settle: in its order, and only once.
    /// Should this server die in between, it is posted in full at the next start.
    async fn put_on_record(&self, actor: &Actor, subkey: &SubKey, entry: &Entry) -> Result<(), StoreError> {
        let mut tx = self.store.write().await?;
        if store::access_log::get(&mut tx.conn(), &entry.request_id).await?.is_some() {
            return Ok(());
        }
        let mut holds = Vec::new();
        // Budgets that the key or its projects no longer have count on, too.
        let mut budgets = store::budget::of_owner(&mut tx.conn(), &BudgetOwner::subkey(&subkey.id)).await?;
        for slug in self.projects.lineage(&subkey.definition.project).slugs() {
            budgets.extend(store::budget::of_owner(&mut tx.conn(), &BudgetOwner::project(slug)).await?);
        }
        for budget in budgets {
            let window_start = budget.window.start(budget.timezone, entry.time);
            store::budget::ensure_window(&mut tx.conn(), &budget.id, window_start).await?;
            holds.push(Hold { budget: budget.id, window_start, amount: NanoUsd::ZERO });
        }
        let admission = Admission {
            request_id: entry.request_id.clone(),
            node: self.node.clone(),
            // Nothing is leased for it.
            epoch: 0,
            admitted_at: self.clock.now(),
            subkey_id: subkey.id.clone(),
            holds,
            entry: entry.clone(),
        };
        store::admission::insert(&mut tx.conn(), &admission).await?;
        let detail = json!({"time": entry.time, "cost_usd": entry.cost_usd, "entry": entry.request_id});
        self.note(&mut tx.conn(), actor, "vault.post_spend", subkey.id.as_str(), detail).await?;
        tx.commit().await
    }

    fn entry_of_spend(&self, subkey: &SubKey, epoch: i64, time: DateTime<Utc>, cost: NanoUsd) -> Entry {
        Entry {
            time,
            node: self.node.clone(),
            // The same for the same key and hour, so that a repeat posts nothing.
            request_id: format!("spent-{epoch}-{}-{}", subkey.id, time.timestamp()),
            subkey_id: subkey.id.to_string(),
            subkey_name: subkey.definition.name.clone(),
            project: subkey.definition.project.clone(),
            owner: subkey.definition.owner.clone(),
            decision: Decision::Allowed,
            rule: Some("vault.release".to_owned()),
            count: 1,
            reserved_usd: cost,
            cost_usd: cost,
            usage_source: UsageSource::Reported,
            outcome: Some(Outcome::Completed),
            ..Entry::default()
        }
    }

    async fn end_quarantine(&self, actor: &Actor, done: &mut Released) -> Result<(), ReleaseError> {
        let before = self.vault.keyring().map_err(GuardError::from)?;
        let mut change = self.change().await?;
        self.claim(&mut change.conn(), actor, &self.installation).await??;
        let (_, standing) = Book::read(&mut self.store.snapshot().await?, change.keyring()).await?;
        let is_mismatch = done.reason == MISMATCH || done.detail.contains(MISMATCH);
        if is_mismatch || standing != Standing::Sound {
            let mut rows = all_rows(&mut change).await?;
            let revived = revived_keys(&mut change.conn(), &rows).await?;
            rows.retain(|row| row.table != PowerTable::Subkeys || !revived.contains(&row.id));
            for lost in change.sum_anew(&rows).await? {
                note_once(&mut done.unusable, &lost);
            }
        }
        change.state().quarantine = None;
        self.note(&mut change.conn(), actor, "vault.release", &self.installation, json!(done)).await?;
        change.commit().await?;
        let keyring = self.vault.keyring().unwrap_or(before);
        self.checkpoint.keep(&keyring, Occasion::Release).await;
        self.registry.forget_all();
        self.reload_projects_with(&keyring).await?;
        self.quarantined.open();
        tracing::warn!(reason = done.reason, "the quarantine was released");
        Ok(())
    }
}

/// Sub-keys that this database's own admin log tells were revoked, and whose rows say otherwise: rows of an earlier time,
/// put back with the MACs of that time.
async fn revived_keys(conn: &mut Conn<'_>, rows: &[PowerRow]) -> Result<HashSet<String>, StoreError> {
    let revoke = AdminFilter { action: Some("subkey.revoke".to_owned()), ..AdminFilter::default() };
    let there: HashSet<&str> =
        rows.iter().filter(|row| row.table == PowerTable::Subkeys).map(|row| row.id.as_str()).collect();
    let (mut revived, mut after) = (HashSet::new(), None);
    loop {
        let page = store::admin_log::page(conn, &revoke, after.as_ref(), PAGE_MAX).await?;
        for logged in page.items {
            let id = SubKeyId::parse(&logged.entry.target).filter(|id| there.contains(id.as_str()));
            let Some(id) = id else { continue };
            let subkey = store::subkey::get(conn, &id).await?;
            if subkey.is_some_and(|subkey| subkey.state != State::Revoked) {
                revived.insert(id.as_str().to_owned());
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(revived);
        }
    }
}

fn note_once(list: &mut Vec<String>, text: &str) {
    if !list.iter().any(|one| one == text) {
        list.push(text.to_owned());
    }
}

fn hour(time: DateTime<Utc>) -> DateTime<Utc> {
    time.with_minute(0)
        .and_then(|time| time.with_second(0))
        .and_then(|time| time.with_nanosecond(0))
        .unwrap_or(time)
}
