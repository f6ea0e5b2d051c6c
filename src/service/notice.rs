//! The outbox: what the webhook is told, put in by the transaction in which it happens, and taken out when the receiver
//! has it. So nothing is told that did not happen, and nothing that happened is lost: what a crash interrupts is sent
//! again, with the same id. Where there is no webhook nothing is put in.

use super::{Services, StoreError};
use crate::base::{Clock, Entropy, clip, hide_tokens_in};
use crate::log::{AlarmKind, NoticeKind, Setback, next_attempt};
use crate::store::notice::NoticeRecord;
use crate::store::{self, Conn, Store};
use chrono::TimeDelta;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Taken out at once.
const DUE_MAX: u32 = 64;
/// How much of an error is kept.
const ERROR_BYTES_MAX: usize = 300;
/// How long what was delivered is remembered.
const DELIVERED_FOR: TimeDelta = TimeDelta::days(7);
/// How long what was given up is remembered.
const FAILED_FOR: TimeDelta = TimeDelta::days(30);

/// What the outbox is told.
#[derive(Clone, Copy, Debug)]
pub struct NoticeSettings {
    /// There is a webhook to tell.
    pub has_webhook: bool,
    /// Notices that wait; of more, the oldest are dropped.
    pub waiting_max: u64,
}

/// Where notices are put in. Clones share it.
#[derive(Clone)]
pub(super) struct Outbox(Arc<Inner>);

struct Inner {
    settings: NoticeSettings,
    clock: Clock,
    entropy: Entropy,
    /// Some budget may alert: settlements ask.
    has_alerts: AtomicBool,
}

/// A notice that is to be sent now.
pub struct DueNotice {
    record: NoticeRecord,
}

impl DueNotice {
    /// Its id, the same at each attempt.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// What is sent and signed.
    pub fn body(&self) -> &str {
        &self.record.body
    }
}

/// Why a notice was sent in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// Whether it may be over soon.
    pub setback: Setback,
    /// What went wrong, without the URL, which may hold a secret.
    pub error: String,
}

impl Outbox {
    pub(super) fn new(settings: NoticeSettings, clock: Clock, entropy: Entropy) -> Self {
        Self(Arc::new(Inner { settings, clock, entropy, has_alerts: AtomicBool::new(false) }))
    }

    /// Looks whether any budget alerts.
    pub(super) async fn begin(&self, store: &Store) -> Result<(), StoreError> {
        if store::budget_alert::any(&mut store.read().await?.conn()).await? {
            self.expect_alerts();
        }
        Ok(())
    }

    /// From now on settlements ask for alerts.
    pub(super) fn expect_alerts(&self) {
        self.0.has_alerts.store(true, Ordering::SeqCst);
    }

    /// Whether any budget may alert.
    pub(super) fn has_alerts(&self) -> bool {
        self.0.has_alerts.load(Ordering::SeqCst)
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Puts a notice in; belongs into the transaction of what it tells of. `data` is an object without secrets; a token
    /// that somebody put where it does not belong is hidden.
    pub(super) async fn put(
        &self,
        conn: &mut Conn<'_>,
        kind: NoticeKind,
        subject: &str,
        mut data: Value,
    ) -> Result<(), StoreError> {
        if !self.0.settings.has_webhook {
            return Ok(());
        }
        hide_tokens_in(&mut data);
        let now = self.0.clock.now();
        let notice = NoticeRecord {
            id: self.0.entropy.id("msg"),
            kind: kind.as_str().to_owned(),
            subject: clip(subject, ERROR_BYTES_MAX),
            body: kind.body(now, &data),
            created_at: now,
            attempts: 0,
        };
        store::notice::insert(conn, &notice).await
    }
}

impl Services {
    /// After a start: whatever waits is sent now. Perhaps what was wrong was set right.
    pub async fn hasten_notices(&self) -> Result<(), StoreError> {
        let mut tx = self.store.write().await?;
        store::notice::hasten(&mut tx.conn(), self.clock.now()).await?;
        tx.commit().await
    }

    /// Some of the notices that are to be sent by now. Each is to be [`Services::note_delivery`]'d.
    pub async fn due_notices(&self) -> Result<Vec<DueNotice>, StoreError> {
        let mut read = self.store.read().await?;
        self.metrics.notices_wait(store::notice::waiting(&mut read.conn()).await?);
        let due = store::notice::due(&mut read.conn(), self.clock.now(), DUE_MAX).await?;
        Ok(due.into_iter().map(|record| DueNotice { record }).collect())
    }

    /// Notes what came of sending a notice: it is done with, or sent again later, or given up with an alarm.
    pub async fn note_delivery(
        &self,
        notice: &DueNotice,
        outcome: Result<(), Undelivered>,
    ) -> Result<(), StoreError> {
        let NoticeRecord { id, kind, subject, created_at, attempts, .. } = &notice.record;
        let (now, attempt) = (self.clock.now(), attempts.saturating_add(1));
        let mut tx = self.store.write().await?;
        let Err(Undelivered { setback, error }) = outcome else {
            store::notice::deliver(&mut tx.conn(), id, now).await?;
            tx.commit().await?;
            self.metrics.noticed("delivered", 1);
            return Ok(());
        };
        let error = clip(&error, ERROR_BYTES_MAX);
        let random = u64::from_le_bytes(self.entropy.bytes());
        let next = next_attempt((*created_at, now), attempt, setback, random);
        match next {
            Some(next) => store::notice::postpone(&mut tx.conn(), id, next, &error).await?,
            None => store::notice::give_up(&mut tx.conn(), id, now, &error).await?,
        }
        tx.commit().await?;
        if let Some(next) = next {
            tracing::warn!(notice = id, attempt, %error, %next, "the webhook did not take a notice");
            self.metrics.noticed("put_off", 1);
        } else {
            let detail =
                json!({"notice": id, "type": kind, "about": subject, "attempts": attempt, "error": error});
            self.alarms.raise(AlarmKind::WebhookGivenUp, WEBHOOK, &detail);
            self.metrics.noticed("failed", 1);
        }
        Ok(())
    }

    /// Drops the oldest of too many that wait, with an alarm, and forgets what was done with long ago.
    pub async fn tidy_notices(&self) -> Result<(), StoreError> {
        let max = i64::try_from(self.alarms.outbox().0.settings.waiting_max).unwrap_or(i64::MAX);
        let now = self.clock.now();
        let mut tx = self.store.write().await?;
        store::notice::forget(&mut tx.conn(), now - DELIVERED_FOR, now - FAILED_FOR).await?;
        let excess = store::notice::waiting(&mut tx.conn()).await?.saturating_sub(max);
        let dropped = if excess > 0 { store::notice::drop_oldest(&mut tx.conn(), excess).await? } else { 0 };
        tx.commit().await?;
        if dropped > 0 {
            self.metrics.noticed("dropped", dropped);
            self.alarms.raise(AlarmKind::NoticesDropped, WEBHOOK, &json!({"dropped": dropped, "kept": max}));
        }
        Ok(())
    }
}

/// What alarms about it call it.
const WEBHOOK: &str = "webhook";

/// Tells of an alarm, unless it is about the webhook itself.
pub(super) async fn of_alarm(
    conn: &mut Conn<'_>,
    outbox: &Outbox,
    kind: NoticeKind,
    alarm: &store::alarm::AlarmRecord,
) -> Result<(), StoreError> {
    if alarm.kind.is_about_the_webhook() {
        return Ok(());
    }
    let mut data = json!({
        "id": alarm.id, "kind": alarm.kind, "subject": alarm.subject, "opened_at": alarm.opened_at,
    });
    if let Some(closing) = &alarm.closed {
        data["closed_at"] = json!(closing.at);
        data["closed_by"] = json!(closing.by);
        data["reason"] = json!(closing.reason);
    }
    outbox.put(conn, kind, &alarm.id, data).await
}
