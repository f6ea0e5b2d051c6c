//! The books, as arithmetic: what entries of the log add up to for each window, and whether that is what was posted.

use crate::base::NanoUsd;
use crate::store::access_log::Posted;
use crate::store::budget::WindowId;
use std::collections::BTreeMap;

/// Sums by window. What cannot be counted stays at the greatest amount, like what is posted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums(pub(super) BTreeMap<WindowId, NanoUsd>);

impl Sums {
    /// Adds an entry's cost to each window that it was posted to.
    pub(super) fn add(&mut self, entry: Posted) {
        for posting in entry.postings {
            let amount = posting.amount_usd.unwrap_or(entry.cost);
            let sum = self.0.entry(posting.window()).or_default();
            *sum = sum.saturating_add(amount);
        }
    }

    /// The sum of a window.
    pub(super) fn of(&self, window: &WindowId) -> NanoUsd {
        self.0.get(window).copied().unwrap_or_default()
    }
}

/// A window of which the log tells something else than its row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    /// The window.
    pub(crate) window: WindowId,
    /// What its row says; `None` when it has no row.
    pub(crate) posted: Option<NanoUsd>,
    /// What the log says.
    pub(crate) logged: NanoUsd,
}

/// Compares a window's row with the log: what was counted before, and what came since. A window without a row has
/// nothing posted.
pub(super) fn compare(
    window: &WindowId,
    posted: Option<NanoUsd>,
    audited: Option<NanoUsd>,
    since: NanoUsd,
) -> Option<Mismatch> {
    let logged = audited.unwrap_or_default().saturating_add(since);
    let is_right = posted.unwrap_or_default() == logged;
    (!is_right).then(|| Mismatch { window: window.clone(), posted, logged })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Window;
    use crate::store::access_log::Posting;
    use crate::store::budget::{BudgetId, BudgetOwner};
    use crate::subkey::SubKeyId;
    use chrono::{DateTime, Utc};
    use proptest::prelude::*;

    fn window(n: u8) -> WindowId {
        let owner = BudgetOwner::subkey(&SubKeyId::parse("0123456789abcdef").unwrap());
        let window_start = DateTime::<Utc>::from_timestamp(i64::from(n), 0).unwrap();
        WindowId { budget: BudgetId::new(&owner, Window::Hour), window_start }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A cost in nano-USD, and the windows it is posted to.
        Settle(i64, Vec<u8>),
        /// Reads at most so many entries of the log; all of them when there are fewer.
        Audit(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let cost = prop_oneof![4 => 0..1_000_i64, 1 => Just(i64::MAX)];
        let windows = prop::collection::btree_set(0..5_u8, 0..4).prop_map(|set| set.into_iter().collect());
        let settle = (cost, windows).prop_map(|(cost, windows)| Step::Settle(cost, windows));
        prop::collection::vec(prop_oneof![3 => settle, 1 => (1..6_usize).prop_map(Step::Audit)], 0..60)
    }

    /// The log, the rows and the sums, as the ledger and its audit keep them.
    #[derive(Default)]
    struct World {
        log: Vec<Posted>,
        posted: BTreeMap<WindowId, NanoUsd>,
        audited: BTreeMap<WindowId, NanoUsd>,
        through: usize,
    }

    impl World {
        fn settle(&mut self, cost: i64, windows: &[u8]) {
            let cost = NanoUsd::from_nano(cost);
            let postings: Vec<WindowId> = windows.iter().copied().map(window).collect();
            for window in &postings {
                let posted = self.posted.entry(window.clone()).or_default();
                *posted = posted.saturating_add(cost);
            }
            let seq = i64::try_from(self.log.len()).unwrap() + 1;
            let postings = postings.into_iter().map(Posting::all).collect();
            self.log.push(Posted { seq, cost, postings });
        }

        fn audit(&mut self, entries_max: usize) -> Vec<Mismatch> {
            let mut sums = Sums::default();
            let some: Vec<Posted> = self.log[self.through..].iter().take(entries_max).cloned().collect();
            let is_last = self.through + some.len() == self.log.len();
            self.through += some.len();
            for entry in some {
                sums.add(entry);
            }
            let windows = (0..5).map(window);
            let wrong = windows.filter_map(|window| {
                let (posted, audited) =
                    (self.posted.get(&window).copied(), self.audited.get(&window).copied());
                compare(&window, posted, audited, sums.of(&window))
            });
            let wrong: Vec<Mismatch> = if is_last { wrong.collect() } else { Vec::new() };
            for (window, sum) in sums.0 {
                let audited = self.audited.entry(window).or_default();
                *audited = audited.saturating_add(sum);
            }
            wrong
        }
    }

    proptest! {
        /// However settlements and audits follow each other, honest books are never found wrong.
        #[test]
        fn honest_books_add_up(steps in steps()) {
            let mut world = World::default();
            for step in steps {
                match step {
                    Step::Settle(cost, windows) => world.settle(cost, &windows),
                    Step::Audit(entries_max) => prop_assert_eq!(world.audit(entries_max), Vec::new()),
                }
            }
            prop_assert_eq!(world.audit(usize::MAX), Vec::new());
        }

        /// Another amount in any one row is found, and nothing else is.
        #[test]
        fn a_changed_row_is_found(steps in steps(), which in 0..5_u8, amount in 0..2_000_i64) {
            let mut world = World::default();
            for step in steps {
                match step {
                    Step::Settle(cost, windows) => world.settle(cost, &windows),
                    Step::Audit(entries_max) => drop(world.audit(entries_max)),
                }
            }
            let (window, amount) = (window(which), NanoUsd::from_nano(amount));
            let before = world.posted.insert(window.clone(), amount).unwrap_or_default();
            let expected = if before == amount {
                vec![]
            } else {
                vec![Mismatch { window, posted: Some(amount), logged: before }]
            };
            prop_assert_eq!(world.audit(usize::MAX), expected);
        }
    }
}
