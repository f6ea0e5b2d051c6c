//! The base of the books: what counts for a window although no entry of the log tells of it.
//!
//! That is what was posted before entries named their windows, and what an operator took for right when a window was
//! repaired. It is kept signed, apart from the sums, so that a log that is read again from its beginning adds up to the
//! same. It only grows: an earlier one put back makes a window blocked, not free.

use super::audit::{AuditError, add, holds, put_progress, sign};
use super::books::Sums;
use super::{Repaired, RowSeal};
use crate::base::NanoUsd;
use crate::store::audit;
use crate::store::budget::{Standing, WindowId};
use crate::store::{Conn, access_log, disorder, lease};
use std::collections::BTreeMap;

/// What an alarm calls it.
pub(super) const BASE_ROW: &str = "meta/audit_base";
const PAGE: u32 = 1_000;

/// What counts for each window.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Base(BTreeMap<WindowId, NanoUsd>);

impl Base {
    /// What is kept; `None` when it is not as it was signed.
    pub(super) async fn read(conn: &mut Conn<'_>, seal: &dyn RowSeal) -> Result<Option<Self>, AuditError> {
        let Some(kept) = audit::base(conn).await? else { return Ok(Some(Self::default())) };
        let base = Self(kept.windows.into_iter().collect());
        Ok(holds(seal, &base.message(), &kept.signature)?.then_some(base))
    }

    /// Signs it anew where an earlier term did. Whether it was.
    pub(super) async fn sign_again(
        conn: &mut Conn<'_>,
        seal: &dyn RowSeal,
        before: u32,
    ) -> Result<bool, AuditError> {
        let is_due = audit::base(conn).await?.is_some_and(|kept| kept.signature.term < i64::from(before));
        match if is_due { Self::read(conn, seal).await? } else { None } {
            Some(base) => base.put(conn, seal).await.map(|()| true),
            None => Ok(false),
        }
    }

    pub(super) fn add(&mut self, window: &WindowId, more: NanoUsd) {
        if more != NanoUsd::ZERO {
            let amount = self.0.entry(window.clone()).or_default();
            *amount = amount.saturating_add(more);
        }
    }

    pub(super) fn windows(&self) -> impl Iterator<Item = (&WindowId, NanoUsd)> {
        self.0.iter().map(|(window, amount)| (window, *amount))
    }

    pub(super) async fn put(self, conn: &mut Conn<'_>, seal: &dyn RowSeal) -> Result<(), AuditError> {
        let signature = sign(seal, &self.message())?;
        Ok(audit::put_base(conn, &audit::Base { windows: self.0.into_iter().collect(), signature }).await?)
    }

    /// What is signed: each budget with its length before it, then numbers of one length.
    fn message(&self) -> Vec<u8> {
        let mut message = b"bitting audit_base 1\0".to_vec();
        for (window, amount) in &self.0 {
            let budget = window.budget.as_str().as_bytes();
            message.extend(u64::try_from(budget.len()).unwrap_or(u64::MAX).to_be_bytes());
            message.extend(budget);
            message.extend(window.window_start.timestamp_micros().to_be_bytes());
            message.extend(amount.as_nano().to_be_bytes());
        }
        message
    }
}

/// Sets blocked windows right and admits in them again: what is posted becomes the greater of what is
/// posted and what the log says, what is held becomes what is leased. Belongs into the writer's
/// transaction, soon after an audit.
pub(super) async fn repair(
    conn: &mut Conn<'_>,
    seal: &dyn RowSeal,
    blocked: Vec<(WindowId, Standing)>,
) -> Result<Vec<Repaired>, AuditError> {
    if blocked.is_empty() {
        return Ok(Vec::new());
    }
    let mut progress = audit::progress(conn).await?.ok_or(AuditError::Disturbed)?;
    let mut sums = Sums::default();
    let mut after_seq = progress.through_seq;
    loop {
        let some = access_log::posted_after(conn, after_seq, PAGE).await?;
        let Some(last) = some.last() else { break };
        after_seq = last.seq;
        for entry in some {
            sums.add(entry);
        }
    }
    // One that was tampered with stays so, and counts for nothing.
    let mut base = Base::read(conn, seal).await?;
    let mut repaired = Vec::with_capacity(blocked.len());
    for (window, before) in blocked {
        let sum = audit::sum(conn, &window).await?;
        let audited = sum.map(|sum| sum.audited).unwrap_or_default();
        let logged = audited.saturating_add(sums.of(&window));
        let held = lease::of_window(conn, &window).await?;
        let after = Standing { posted: before.posted.max(logged), held };
        disorder::repair(conn, &window, after).await?;
        // What was posted beyond the log is taken for right from here on.
        let more = after.posted.saturating_sub(logged);
        add(conn, seal, &mut progress, &window, more).await?.ok_or(AuditError::Disturbed)?;
        if let Some(base) = &mut base {
            base.add(&window, more);
        }
        repaired.push(Repaired { window, before, logged, after });
    }
    if let Some(base) = base {
        base.put(conn, seal).await?;
    }
    put_progress(conn, seal, progress).await?;
    Ok(repaired)
}
