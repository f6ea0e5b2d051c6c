//! What the database holds, against the book.
//!
//! A mismatch can be a change that was just committed, or one by a command beside the data: so a row is called tampered
//! only after it was read again while no change can be under way, and after the book caught up.

use super::book::Tampered;
use super::look::Look;
use super::rows;
use crate::base::Clock;
use crate::log::AlarmKind;
use crate::service::{Alarms, Services, StoreError};
use crate::vault::Keyring;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A mismatch makes the book read the whole register at most so often: whoever can write rows can make mismatches.
const CATCH_UP_EVERY: TimeDelta = TimeDelta::seconds(1);
/// A row that stays tampered with is alarmed again so often.
const ALARM_EVERY: TimeDelta = TimeDelta::hours(1);
/// So many tampered rows are remembered; of more, each look raises its alarm.
const REMEMBERED_MAX: usize = 10_000;

/// Which rows were found tampered with, and who is told.
#[derive(Clone)]
pub(in crate::service) struct Doubts(Arc<Inner>);

struct Inner {
    alarms: Alarms,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    caught_up_at: Option<DateTime<Utc>>,
    alarmed_at: HashMap<Tampered, DateTime<Utc>>,
}

impl Doubts {
    /// None yet.
    pub(in crate::service) fn new(alarms: Alarms, clock: Clock) -> Self {
        Self(Arc::new(Inner { alarms, clock, state: Mutex::default() }))
    }

    /// Raises the alarm for rows that were good until now.
    pub(in crate::service) fn tell(&self, tampered: &[Tampered]) {
        let now = self.0.clock.now();
        for row in tampered {
            let news = {
                let mut state = self.lock();
                let news = state.alarmed_at.get(row).is_none_or(|at| now - *at >= ALARM_EVERY);
                if news && state.alarmed_at.len() < REMEMBERED_MAX {
                    state.alarmed_at.insert(row.clone(), now);
                }
                news
            };
            if news {
                let subject = format!("{}/{}", row.table, row.id);
                let detail = json!({"detail": row.to_string()});
                self.0.alarms.raise(AlarmKind::RowTampered, &subject, &detail);
            }
        }
    }

    /// Forgets rows that are as they were written again.
    fn forget(&self, good: impl Fn(&Tampered) -> bool) {
        let mut state = self.lock();
        if !state.alarmed_at.is_empty() {
            state.alarmed_at.retain(|row, _| !good(row));
        }
    }

    fn may_catch_up(&self) -> bool {
        let now = self.0.clock.now();
        let mut state = self.lock();
        let may = state.caught_up_at.is_none_or(|at| now - at >= CATCH_UP_EVERY);
        if may {
            state.caught_up_at = Some(now);
        }
        may
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Services {
    /// Reads, and tells which of the rows read are not as they were written; those are alarmed.
    pub(in crate::service) async fn look<L: Look>(
        &self,
        keyring: &Keyring,
        look: &L,
    ) -> Result<(L::Found, Vec<Tampered>), StoreError> {
        let (found, rows) = look.read(&mut self.store.snapshot().await?).await?;
        let wrong = self.book.lock().await.wrong(keyring, &rows, L::WHOLE);
        if wrong.is_empty() {
            self.doubts.forget(|row| rows::is_among(&rows, row));
            return Ok((found, wrong));
        }
        // While the book is locked no change of this server is under way.
        let mut book = self.book.lock().await;
        // What was signed since the caller took its keyring may be of a term that this one lacks.
        let newest = self.vault.keyring().ok();
        let keyring = newest.as_deref().unwrap_or(keyring);
        let (mut found, mut rows) = look.read(&mut self.store.snapshot().await?).await?;
        let mut wrong = book.wrong(keyring, &rows, L::WHOLE);
        if !wrong.is_empty() && self.doubts.may_catch_up() && self.catch_up(keyring, &mut book).await? {
            (found, rows) = look.read(&mut self.store.snapshot().await?).await?;
            wrong = book.wrong(keyring, &rows, L::WHOLE);
        }
        drop(book);
        self.doubts.forget(|row| rows::is_among(&rows, row) && !wrong.contains(row));
        self.doubts.tell(&wrong);
        Ok((found, wrong))
    }
}
