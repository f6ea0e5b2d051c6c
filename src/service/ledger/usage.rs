//! The sums of usage against the log: some hours at each audit, round and round, from the oldest to the newest.
//!
//! They are written with the entries, so a crash cannot part them; what disagrees was changed from outside. It is an alarm,
//! and made anew from the log, by the writer, who alone appends. No cap depends on them.

use super::Mending;
use super::audit::{AuditError, Auditor};
use crate::log::{AdminEntry, AlarmKind};
use crate::store::usage::{self, Disagreement};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, PoisonError};

/// Entries of the hours that one audit looks at, and the hour more in which that is reached.
const ENTRIES_MAX: i64 = 50_000;
/// Hours that one audit looks at.
const HOURS_MAX: usize = 500;
/// Hours that one turn makes anew; the next audit finds the others.
const WRONG_MAX: usize = 24;

/// The last hour that was looked at; `None` to begin with the oldest.
#[derive(Clone, Default)]
pub(super) struct Sweep(Arc<Mutex<Option<String>>>);

impl Sweep {
    fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, hour: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = hour;
    }
}

impl Auditor {
    /// Looks at the next hours, once round at most. Raises the alarms, and tells what to do about those that disagree.
    pub(super) async fn check_usage(&self) -> Result<Option<Mending>, AuditError> {
        let (mut after, mut entries, mut wrong) = (self.usage.get(), 0, Vec::new());
        for _ in 0..HOURS_MAX {
            let mut read = self.store.read().await?;
            let Some(hour) = usage::first_hour_after(&mut read.conn(), after.as_deref()).await? else {
                after = None;
                break;
            };
            let (disagreement, more) = usage::look(&mut read.conn(), &hour).await?;
            if let Some(disagreement) = disagreement {
                let sums = match disagreement {
                    Disagreement::Hours => "usage_hours",
                    Disagreement::Tags => "usage_tags",
                };
                self.alarms.raise(AlarmKind::UsageDisagrees, sums, &json!({"hour": hour}));
                wrong.push(hour.clone());
            }
            after = Some(hour);
            entries += more;
            if entries >= ENTRIES_MAX || wrong.len() >= WRONG_MAX {
                break;
            }
        }
        self.usage.set(after);
        let entry = AdminEntry {
            time: self.clock.now(),
            actor: "bitting".to_owned(),
            action: "usage.repair".to_owned(),
            target: String::new(),
            request_id: String::new(),
            detail: Value::Null,
        };
        Ok((!wrong.is_empty()).then(|| Mending::SumAgain { hours: wrong, entry: Box::new(entry) }))
    }
}
