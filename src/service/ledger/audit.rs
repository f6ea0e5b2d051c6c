//! The books against the log: what is posted to each window has to be what the log's entries add up to.
//!
//! The log is read once, a slice at a time; the sums so far are kept, signed, in `window_audits`, and a later audit
//! reads only what is new. Rows and log are compared in one snapshot of the database, so traffic beside it disturbs
//! nothing. A sum that is not as it was signed, or is gone, is an alarm, and the log is read from its beginning.
//!
//! A database from before entries named their windows has nothing to compare with: the first audit of all takes what
//! is posted for right, says so in the admin log, and keeps it as the [`Base`] of every later one.

use super::RowSeal;
use super::base::{BASE_ROW, Base};
use super::books::{Mismatch, Sums, compare};
use super::rows::alarm_of;
use super::usage::Sweep;
use crate::base::{Clock, NanoUsd};
use crate::log::{AdminEntry, AlarmKind};
use crate::service::Alarms;
use crate::store::admin_log::AdminFilter;
use crate::store::audit::{Compared, Progress, Signature, Sum};
use crate::store::budget::WindowId;
use crate::store::{Conn, Snapshot, Store, StoreError, access_log, admin_log, alarm, audit};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Entries of one slice: bounds the windows that one transaction touches.
const SLICE_ENTRIES: usize = 2_000;
const PAGE: u32 = 1_000;
/// How often an audit begins anew before it gives up: only somebody who changes sums while it runs brings it there.
const TRIES_MAX: usize = 3;

/// Why the books were not compared.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The vault is sealed: the sums cannot be told from forged ones.
    #[error("the vault is sealed")]
    Sealed,
    /// The sums do not hold however often they are made.
    #[error("the sums of the log are changed while they are compared")]
    Disturbed,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Compares the books with the log.
#[derive(Clone)]
pub(super) struct Auditor {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) alarms: Alarms,
    pub(super) seal: Arc<dyn RowSeal>,
    pub(super) usage: Sweep,
}

/// What came of one slice.
enum Slice {
    /// There is more to read.
    More,
    /// Everything was read and compared.
    Compared(Findings),
    /// This row is not as it was signed, or is gone.
    Tampered(String),
}

/// What a comparison found.
struct Findings {
    mismatches: Vec<Mismatch>,
    /// The alarms that windows are blocked for.
    blocked: BTreeSet<(AlarmKind, String)>,
}

impl Auditor {
    /// Reads what is new in the log and compares all windows. Raises the alarms; blocking is the caller's. Not to run
    /// twice at a time.
    pub(super) async fn run(&self) -> Result<Vec<Mismatch>, AuditError> {
        for _ in 0..TRIES_MAX {
            let tampered = loop {
                match self.slice().await? {
                    Slice::More => {}
                    Slice::Compared(Findings { mismatches, blocked }) => {
                        for mismatch in &mismatches {
                            self.report(mismatch);
                        }
                        self.tell_again(blocked).await?;
                        return Ok(mismatches);
                    }
                    Slice::Tampered(row) => break row,
                }
            };
            self.alarms.raise(AlarmKind::RowTampered, &tampered, &json!({"found_by": "audit"}));
            self.read_again().await?;
        }
        Err(AuditError::Disturbed)
    }

    fn report(&self, mismatch: &Mismatch) {
        let Mismatch { window, posted, logged } = mismatch;
        let detail = json!({"window_start": window.window_start, "posted_usd": posted, "logged_usd": logged});
        self.alarms.raise(AlarmKind::BooksDoNotAddUp, window.budget.as_str(), &detail);
    }

    /// Raises the alarms again for which windows are blocked and that nobody can close: they were never written, or were
    /// closed while another window was blocked.
    async fn tell_again(&self, blocked: BTreeSet<(AlarmKind, String)>) -> Result<(), StoreError> {
        if blocked.is_empty() {
            return Ok(());
        }
        let mut read = self.store.read().await?;
        for (kind, subject) in blocked {
            if !alarm::is_open(&mut read.conn(), kind, &subject).await? {
                let detail =
                    json!({"found_by": "audit", "detail": "windows are blocked until this is closed"});
                self.alarms.raise(kind, &subject, &detail);
            }
        }
        Ok(())
    }

    async fn slice(&self) -> Result<Slice, AuditError> {
        let mut snapshot = self.store.snapshot().await?;
        let Some(progress) = audit::progress(&mut snapshot.conn()).await? else {
            drop(snapshot);
            return self.begin().await;
        };
        if !holds(&*self.seal, &progress_message(&progress), &progress.signature)? {
            return Ok(Slice::Tampered("audit_progress".to_owned()));
        }
        let (mut sums, mut through_seq, mut entries) = (Sums::default(), progress.through_seq, 0);
        let is_last = loop {
            let some = access_log::posted_after(&mut snapshot.conn(), through_seq, PAGE).await?;
            let count = some.len();
            entries += count;
            for entry in some {
                through_seq = entry.seq;
                sums.add(entry);
            }
            if u32::try_from(count).is_ok_and(|count| count < PAGE) {
                break true;
            }
            if entries >= SLICE_ENTRIES {
                break false;
            }
        };
        let compared = if is_last {
            match self.compared(&mut snapshot, &sums, &progress).await? {
                Slice::Compared(findings) => Some(findings),
                other @ (Slice::More | Slice::Tampered(_)) => return Ok(other),
            }
        } else {
            None
        };
        drop(snapshot);
        if through_seq > progress.through_seq
            && let Some(tampered) = self.keep(sums, progress, through_seq).await?
        {
            return Ok(Slice::Tampered(tampered));
        }
        Ok(compared.map_or(Slice::More, Slice::Compared))
    }

    /// Compares every window that has a row, a sum, or an entry.
    async fn compared(
        &self,
        snapshot: &mut Snapshot,
        sums: &Sums,
        progress: &Progress,
    ) -> Result<Slice, AuditError> {
        let mut unseen: BTreeSet<&WindowId> = sums.0.keys().collect();
        let (mut mismatches, mut blocked) = (Vec::new(), BTreeSet::new());
        let (mut count, mut total) = (0_i64, 0_i128);
        for is_lost in [false, true] {
            let mut after: Option<WindowId> = None;
            loop {
                let conn = &mut snapshot.conn();
                let some = if is_lost {
                    audit::lost_windows(conn, after.as_ref(), PAGE).await?
                } else {
                    audit::windows(conn, after.as_ref(), PAGE).await?
                };
                for Compared { window, posted, sum, blocked: why } in &some {
                    if let Some(sum) = sum {
                        if !holds(&*self.seal, &sum_message(window, sum.audited), &sum.signature)? {
                            return Ok(Slice::Tampered(name_of(window)));
                        }
                        count += 1;
                        total += i128::from(sum.audited.as_nano());
                    }
                    if let Some(why) = why {
                        let (kind, subject) = alarm_of(window, why);
                        blocked.insert((kind, subject.to_owned()));
                    }
                    unseen.remove(window);
                    let audited = sum.as_ref().map(|sum| sum.audited);
                    mismatches.extend(compare(window, *posted, audited, sums.of(window)));
                }
                match some.into_iter().last() {
                    Some(last) => after = Some(last.window),
                    None => break,
                }
            }
        }
        if (count, total) != (progress.windows, progress.total) {
            return Ok(Slice::Tampered("window_audits".to_owned()));
        }
        mismatches
            .extend(unseen.into_iter().filter_map(|window| compare(window, None, None, sums.of(window))));
        Ok(Slice::Compared(Findings { mismatches, blocked }))
    }

    /// Keeps what was read. Returns the row that does not hold, if there is one; then nothing is kept.
    async fn keep(
        &self,
        sums: Sums,
        mut progress: Progress,
        through_seq: i64,
    ) -> Result<Option<String>, AuditError> {
        let mut tx = self.store.write().await?;
        for (window, since) in sums.0 {
            if add(&mut tx.conn(), &*self.seal, &mut progress, &window, since).await?.is_none() {
                return Ok(Some(name_of(&window)));
            }
        }
        progress.through_seq = through_seq;
        put_progress(&mut tx.conn(), &*self.seal, progress).await?;
        tx.commit().await?;
        Ok(None)
    }

    /// The first audit takes what is posted for right. Where there were audits before, their progress is gone: that is
    /// tampering.
    async fn begin(&self) -> Result<Slice, AuditError> {
        let mut tx = self.store.write().await?;
        let conn = &mut tx.conn();
        let begun = AdminFilter { action: Some("ledger.audit_begin".to_owned()), ..AdminFilter::default() };
        if audit::has_sums(conn).await?
            || access_log::has_settlements(conn).await?
            || !admin_log::page(conn, &begun, None, 1).await?.items.is_empty()
        {
            return Ok(Slice::Tampered("audit_progress".to_owned()));
        }
        let mut progress = nothing_read();
        progress.through_seq = access_log::last_seq(conn).await?;
        let (mut base, mut after): (Base, Option<WindowId>) = (Base::default(), None);
        loop {
            let some = audit::windows(conn, after.as_ref(), PAGE).await?;
            for Compared { window, posted, .. } in &some {
                if let Some(posted) = posted.filter(|posted| *posted != NanoUsd::ZERO) {
                    add(conn, &*self.seal, &mut progress, window, posted).await?;
                    base.add(window, posted);
                }
            }
            match some.into_iter().last() {
                Some(last) => after = Some(last.window),
                None => break,
            }
        }
        let entry = AdminEntry {
            time: self.clock.now(),
            actor: "bitting".to_owned(),
            action: "ledger.audit_begin".to_owned(),
            target: "ledger".to_owned(),
            request_id: String::new(),
            detail: json!({
                "through_seq": progress.through_seq, "windows": progress.windows,
                "posted_nano_usd": progress.total.to_string(),
            }),
        };
        admin_log::append(conn, &entry).await?;
        base.put(conn, &*self.seal).await?;
        put_progress(conn, &*self.seal, progress).await?;
        tx.commit().await?;
        Ok(Slice::More)
    }

    /// Signs what older terms signed in the current one, `before`, some at a time. What does not hold is left to the
    /// next audit. Not to run beside one.
    pub(super) async fn sign_again(&self, before: u32) -> Result<usize, AuditError> {
        const SOME: u32 = 200;
        let (mut signed, mut after) = (0, None);
        loop {
            let mut tx = self.store.write().await?;
            let conn = &mut tx.conn();
            let some = audit::sums_before(conn, i64::from(before), after.as_ref(), SOME).await?;
            if some.is_empty() {
                break;
            }
            for Compared { window, sum, .. } in some {
                if let Some(Sum { audited, signature }) = sum {
                    let message = sum_message(&window, audited);
                    if holds(&*self.seal, &message, &signature)? {
                        let signature = sign(&*self.seal, &message)?;
                        audit::put_sum(conn, &window, &Sum { audited, signature }).await?;
                        signed += 1;
                    }
                }
                after = Some(window);
            }
            tx.commit().await?;
        }
        let mut tx = self.store.write().await?;
        if let Some(progress) = audit::progress(&mut tx.conn()).await?
            && progress.signature.term < i64::from(before)
            && holds(&*self.seal, &progress_message(&progress), &progress.signature)?
        {
            put_progress(&mut tx.conn(), &*self.seal, progress).await?;
            signed += 1;
        }
        signed += usize::from(Base::sign_again(&mut tx.conn(), &*self.seal, before).await?);
        tx.commit().await?;
        Ok(signed)
    }

    /// Throws the sums away but for the base, so that the log is read from its beginning. A base that is not as it was
    /// signed counts for nothing: then more is posted than the log tells, and the window is blocked.
    async fn read_again(&self) -> Result<(), AuditError> {
        let mut tx = self.store.write().await?;
        let (conn, mut progress) = (&mut tx.conn(), nothing_read());
        audit::forget_sums(conn).await?;
        match Base::read(conn, &*self.seal).await? {
            Some(base) => {
                for (window, amount) in base.windows() {
                    add(conn, &*self.seal, &mut progress, window, amount).await?;
                }
            }
            None => self.alarms.raise(AlarmKind::RowTampered, BASE_ROW, &json!({"found_by": "audit"})),
        }
        put_progress(conn, &*self.seal, progress).await?;
        Ok(tx.commit().await?)
    }
}

/// Adds to a window's sum and to the progress's total. `None`, changing nothing, when the sum so far does not hold.
pub(super) async fn add(
    conn: &mut Conn<'_>,
    seal: &dyn RowSeal,
    progress: &mut Progress,
    window: &WindowId,
    more: NanoUsd,
) -> Result<Option<()>, AuditError> {
    let before = audit::sum(conn, window).await?;
    if let Some(sum) = &before
        && !holds(seal, &sum_message(window, sum.audited), &sum.signature)?
    {
        return Ok(None);
    }
    progress.windows += i64::from(before.is_none());
    let before = before.map(|sum| sum.audited).unwrap_or_default();
    let audited = before.saturating_add(more);
    progress.total += i128::from(audited.as_nano()) - i128::from(before.as_nano());
    let signature = sign(seal, &sum_message(window, audited))?;
    audit::put_sum(conn, window, &Sum { audited, signature }).await?;
    Ok(Some(()))
}

pub(super) async fn put_progress(
    conn: &mut Conn<'_>,
    seal: &dyn RowSeal,
    progress: Progress,
) -> Result<(), AuditError> {
    let signature = sign(seal, &progress_message(&progress))?;
    Ok(audit::put_progress(conn, &Progress { signature, ..progress }).await?)
}

fn nothing_read() -> Progress {
    Progress { through_seq: 0, windows: 0, total: 0, signature: Signature { term: 0, mac: Vec::new() } }
}

fn name_of(window: &WindowId) -> String {
    format!("window_audits/{} {}", window.budget, window.window_start.to_rfc3339())
}

/// What is signed of a sum. The budget's id is followed by numbers of one length, so no two messages are alike.
fn sum_message(window: &WindowId, audited: NanoUsd) -> Vec<u8> {
    let mut message = b"bitting window_audits 1\0".to_vec();
    message.extend(window.budget.as_str().as_bytes());
    message.extend(window.window_start.timestamp_micros().to_be_bytes());
    message.extend(audited.as_nano().to_be_bytes());
    message
}

fn progress_message(progress: &Progress) -> Vec<u8> {
    let mut message = b"bitting audit_progress 1\0".to_vec();
    message.extend(progress.through_seq.to_be_bytes());
    message.extend(progress.windows.to_be_bytes());
    message.extend(progress.total.to_be_bytes());
    message
}

pub(super) fn sign(seal: &dyn RowSeal, message: &[u8]) -> Result<Signature, AuditError> {
    let (mac, term) = seal.sign(message).ok_or(AuditError::Sealed)?;
    Ok(Signature { term: i64::from(term), mac: mac.to_vec() })
}

pub(super) fn holds(seal: &dyn RowSeal, message: &[u8], signature: &Signature) -> Result<bool, AuditError> {
    match u32::try_from(signature.term) {
        Ok(term) => seal.holds(message, &signature.mac, term).ok_or(AuditError::Sealed),
        Err(_) => Ok(false),
    }
}
