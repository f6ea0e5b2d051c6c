//! What is remembered while the vault is closed: refused tries to unseal it, until they can be written down.
//!
//! Tries are bounded by a clock that nobody sets, for the whole server: a token more is no try more. A restart forgets
//! them, and may: whoever can start the server anew stands where its key is read from, and what is guessed cannot be.
//! The code has 148 bits and a key 256; a passphrase, which may have fewer, costs 64 MiB and three passes for each try,
//! one after the other. The bound is there to be heard of guessing, and to leave the machine to its work.

use super::open::Rooted;
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Refused tries in [`WINDOW`] after which nobody is heard.
const REFUSED_MAX: usize = 5;
const WINDOW: Duration = Duration::from_mins(1);
/// Operators that are told apart in the entry; further ones are summed up.
const OPERATORS_MAX: usize = 16;

/// What is remembered while the vault is closed.
#[derive(Default)]
pub(in crate::service) struct Sealing(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    recent: VecDeque<Instant>,
    refused: Refused,
    alarmed_without_kek: bool,
    wrap_id: Option<String>,
    outdated: Option<Rooted>,
}

/// Refused tries since the vault was closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refused {
    /// How many.
    pub(super) tries: u64,
    /// When the last one was.
    pub(super) last_at: Option<DateTime<Utc>>,
    /// How many by whom.
    pub(super) by: BTreeMap<String, u64>,
}

impl Sealing {
    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long nobody is heard, where too many tries were refused.
    pub(super) fn closed_for(&self, now: Instant) -> Option<Duration> {
        let mut remembered = self.lock();
        while remembered.recent.front().is_some_and(|at| now.duration_since(*at) >= WINDOW) {
            remembered.recent.pop_front();
        }
        let first = remembered.recent.front().filter(|_| remembered.recent.len() >= REFUSED_MAX);
        first.map(|first| WINDOW.saturating_sub(now.duration_since(*first)))
    }

    /// Takes note of a refused try; `true` for the one that is the last for a while.
    pub(super) fn refused(&self, operator: &str, now: Instant, time: DateTime<Utc>) -> bool {
        let mut remembered = self.lock();
        remembered.recent.push_back(now);
        remembered.refused.tries += 1;
        remembered.refused.last_at = Some(time);
        let by = &mut remembered.refused.by;
        let name = if by.len() < OPERATORS_MAX || by.contains_key(operator) { operator } else { "others" };
        *by.entry(name.to_owned()).or_default() += 1;
        remembered.recent.len() == REFUSED_MAX
    }

    /// The refused tries that no entry tells of yet.
    pub(super) fn unrecorded(&self) -> Refused {
        self.lock().refused.clone()
    }

    /// Whether this is the first time since the vault was open that the key cannot be had.
    pub(super) fn is_first_without_kek(&self) -> bool {
        !std::mem::replace(&mut self.lock().alarmed_without_kek, true)
    }

    /// The vault is open, by this wrapping, and the refused tries are recorded.
    pub(super) fn opened(&self, wrap_id: Option<String>, outdated: Option<Rooted>) {
        let mut remembered = self.lock();
        remembered.refused = Refused::default();
        remembered.alarmed_without_kek = false;
        remembered.wrap_id = wrap_id;
        remembered.outdated = outdated;
    }

    /// The wrapping by which the vault was opened.
    pub(super) fn opened_by(&self) -> Option<String> {
        self.lock().wrap_id.clone()
    }

    /// Another wrapping stands for that one now.
    pub(super) fn opens_by(&self, wrap_id: String) {
        self.lock().wrap_id = Some(wrap_id);
    }

    /// The wrapping to renew, once.
    pub(super) fn take_outdated(&self) -> Option<Rooted> {
        self.lock().outdated.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_refused_tries_in_a_minute_are_all() {
        let (sealing, start, time) = (Sealing::default(), Instant::now(), DateTime::UNIX_EPOCH);
        for second in 0..5 {
            let now = start + Duration::from_secs(second);
            assert_eq!(sealing.closed_for(now), None);
            assert_eq!(sealing.refused("ana", now, time), second == 4);
        }
        assert_eq!(sealing.closed_for(start + Duration::from_secs(10)), Some(Duration::from_secs(50)));
        assert_eq!(sealing.closed_for(start + Duration::from_mins(1)), None, "the first is a minute old");
        assert_eq!(sealing.unrecorded().by, BTreeMap::from([("ana".to_owned(), 5)]));
        sealing.opened(None, None);
        assert_eq!(sealing.unrecorded(), Refused::default());
    }
}
