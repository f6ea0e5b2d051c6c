//! Alarms: what an operator has to look at.
//!
//! Raising one never waits: it is an ERROR line and a metric at once, and goes into a bounded queue. A task of its own
//! keeps one open row for each kind and subject, and writes one entry of the admin log when it is opened. While the
//! store is out of reach it keeps what it has, and tries again.

use super::notice::{Outbox, of_alarm};
use super::{Actor, Blocked, Metrics, RepairError, Services, StoreError};
use crate::base::{Clock, Entropy};
use crate::log::{AdminEntry, AlarmKind, NoticeKind};
use crate::store::alarm::{AlarmFilter, AlarmRecord, Closing};
use crate::store::{self, Cursor, Page, Store};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Alarms between being raised and being taken up.
const QUEUE_MAX: usize = 1_024;
/// Kinds and subjects that are kept while the store is out of reach.
const PENDING_MAX: usize = 1_024;
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How long the last ones may take at the end.
const LAST_WRITE: Duration = Duration::from_secs(10);
/// The longest reason for closing one.
pub(super) const REASON_BYTES_MAX: usize = 1_000;

/// Where alarms are raised, from anywhere and without waiting.
#[derive(Clone)]
pub struct Alarms {
    metrics: Metrics,
    clock: Clock,
    queue: mpsc::Sender<Raised>,
    stopping: CancellationToken,
    outbox: Outbox,
}

struct Raised {
    kind: AlarmKind,
    subject: String,
    pending: Pending,
}

/// What is not written yet of one kind and subject.
struct Pending {
    detail: Value,
    count: i64,
    first: chrono::DateTime<chrono::Utc>,
    last: chrono::DateTime<chrono::Utc>,
}

/// The receiving end of [`Alarms`].
pub(super) struct AlarmQueue {
    queue: mpsc::Receiver<Raised>,
    stopping: CancellationToken,
    clock: Clock,
    pending: BTreeMap<(AlarmKind, String), Pending>,
    outbox: Outbox,
}

impl Alarms {
    pub(super) fn new(metrics: Metrics, clock: Clock, outbox: Outbox) -> (Self, AlarmQueue) {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let stopping = CancellationToken::new();
        let alarms = Self {
            metrics,
            clock: clock.clone(),
            queue: sender,
            stopping: stopping.clone(),
            outbox: outbox.clone(),
        };
        (alarms, AlarmQueue { queue, stopping, clock, pending: BTreeMap::new(), outbox })
    }

    /// Where notices are put that leave the house.
    pub(super) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Raises an alarm about `subject`. `detail` is an object without secrets.
    pub fn raise(&self, kind: AlarmKind, subject: &str, detail: &Value) {
        self.metrics.alarmed(kind);
        tracing::error!(alarm = kind.as_str(), subject, %detail, "alarm");
        let now = self.clock.now();
        let pending = Pending { detail: detail.clone(), count: 1, first: now, last: now };
        let raised = Raised { kind, subject: subject.to_owned(), pending };
        if self.queue.try_send(raised).is_err() {
            tracing::error!(
                alarm = kind.as_str(),
                subject,
                "the alarm is not kept: too many wait to be written"
            );
        }
    }

    /// Writes what was raised until now, and ends.
    pub(super) fn stop(&self) {
        self.stopping.cancel();
    }
}

impl AlarmQueue {
    /// Writes alarms down until it is told to stop, or nobody is left to raise one.
    pub(super) async fn run(mut self, store: Store, entropy: Entropy) {
        let stopping = self.stopping.clone();
        loop {
            let is_waiting = !self.pending.is_empty();
            tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                raised = self.queue.recv() => match raised {
                    Some(raised) => self.take(raised),
                    None => break,
                },
                () = tokio::time::sleep(RETRY_PAUSE), if is_waiting => {}
            }
            while let Ok(raised) = self.queue.try_recv() {
                self.take(raised);
            }
            if let Err(error) = self.write(&store, &entropy).await {
                tracing::warn!(%error, kept = self.pending.len(), "alarms are not written yet");
                // Whoever raises the next one does not hasten it.
                if stopping.run_until_cancelled(tokio::time::sleep(RETRY_PAUSE)).await.is_none() {
                    break;
                }
            }
        }
        self.queue.close();
        while let Some(raised) = self.queue.recv().await {
            self.take(raised);
        }
        match tokio::time::timeout(LAST_WRITE, self.write(&store, &entropy)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => {
                tracing::error!(
                    lost = self.pending.len(),
                    "alarms were not written; they are in this log only"
                );
            }
        }
    }

    fn take(&mut self, raised: Raised) {
        let Raised { kind, subject, pending } = raised;
        let is_full = self.pending.len() >= PENDING_MAX;
        let key = (kind, subject);
        if let Some(known) = self.pending.get_mut(&key) {
            known.count = known.count.saturating_add(pending.count);
            known.last = pending.last;
        } else if is_full {
            tracing::error!(
                alarm = kind.as_str(),
                subject = key.1,
                "the alarm is not kept: too many wait to be written"
            );
        } else {
            self.pending.insert(key, pending);
        }
    }

    async fn write(&mut self, store: &Store, entropy: &Entropy) -> Result<(), StoreError> {
        while let Some(((kind, subject), pending)) = self.pending.first_key_value() {
            let alarm = AlarmRecord {
                id: entropy.id("alarm"),
                kind: *kind,
                subject: subject.clone(),
                detail: pending.detail.clone(),
                count: pending.count,
                opened_at: pending.first,
                last_seen_at: pending.last,
                closed: None,
            };
            let mut tx = store.write().await?;
            if store::alarm::raise(&mut tx.conn(), &alarm).await? {
                let entry = AdminEntry {
                    time: self.clock.now(),
                    actor: "bitting".to_owned(),
                    action: "alarm.open".to_owned(),
                    target: alarm.id.clone(),
                    request_id: String::new(),
                    detail: json!({"kind": alarm.kind, "subject": alarm.subject, "detail": alarm.detail}),
                };
                store::admin_log::append(&mut tx.conn(), &entry).await?;
                of_alarm(&mut tx.conn(), &self.outbox, NoticeKind::AlarmOpened, &alarm).await?;
            }
            tx.commit().await?;
            self.pending.pop_first();
        }
        Ok(())
    }
}

/// Why an alarm was not closed.
#[derive(Debug, thiserror::Error)]
pub enum CloseAlarmError {
    /// There is no such alarm.
    #[error("there is no such alarm")]
    NotFound,
    /// Somebody closed it before.
    #[error("the alarm is closed already")]
    AlreadyClosed,
    /// The reason is empty or too long.
    #[error("a reason has 1 to {REASON_BYTES_MAX} bytes")]
    Reason,
    /// What it is about could not be set right; it stays open.
    #[error(transparent)]
    Repair(#[from] RepairError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Services {
    /// The alarms that fit `filter`, newest first.
    pub async fn list_alarms(
        &self,
        filter: AlarmFilter,
        after: Option<&Cursor<String>>,
        limit: u32,
    ) -> Result<Page<AlarmRecord, String>, StoreError> {
        let mut read = self.store.read().await?;
        store::alarm::page(&mut read.conn(), filter, after, limit).await
    }

    /// Closes an alarm for a reason. Closing one about books, or about a bill above its bound, sets the windows that are
    /// blocked for it right first, and admits in them again; closing one about the clock has windows follow it.
    pub async fn close_alarm(
        &self,
        actor: &Actor,
        id: &str,
        reason: &str,
    ) -> Result<AlarmRecord, CloseAlarmError> {
        if reason.trim().is_empty() || reason.len() > REASON_BYTES_MAX {
            return Err(CloseAlarmError::Reason);
        }
        let found = {
            let mut read = self.store.read().await?;
            store::alarm::get(&mut read.conn(), id).await?
        };
        let alarm = found.ok_or(CloseAlarmError::NotFound)?;
        if alarm.closed.is_some() {
            return Err(CloseAlarmError::AlreadyClosed);
        }
        let now = self.clock.now();
        let blocked = match alarm.kind {
            AlarmKind::BooksDoNotAddUp => Some(Blocked::Of(alarm.subject.clone())),
            AlarmKind::BillAboveBound => Some(Blocked::ByBill(alarm.subject.clone())),
            _ => None,
        };
        if let Some(blocked) = blocked {
            let entry = AdminEntry {
                time: now,
                actor: actor.operator.name.clone(),
                action: "ledger.repair".to_owned(),
                target: alarm.subject.clone(),
                request_id: actor.request_id.clone(),
                detail: json!({"operator_id": actor.operator.id, "alarm": alarm.id}),
            };
            self.ledger.repair(blocked, entry).await?;
        }
        let mut tx = self.store.write().await?;
        let closing = Closing { at: now, by: actor.operator.name.clone(), reason: reason.to_owned() };
        let closed = store::alarm::close(&mut tx.conn(), id, &closing).await?;
        let closed = closed.ok_or(CloseAlarmError::AlreadyClosed)?;
        let follow_clock = match closed.kind {
            AlarmKind::ClockOff => {
                Some(self.ledger.accept_clock(&mut tx.conn()).await.map_err(RepairError::from)?)
            }
            _ => None,
        };
        let detail = json!({"kind": closed.kind, "subject": closed.subject, "reason": reason});
        self.note(&mut tx.conn(), actor, "alarm.close", id, detail).await?;
        of_alarm(&mut tx.conn(), self.alarms.outbox(), NoticeKind::AlarmClosed, &closed).await?;
        tx.commit().await?;
        if let Some(follow) = follow_clock {
            follow();
        }
        Ok(closed)
    }
}
