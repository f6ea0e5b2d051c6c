//! What the writer left in each window, so that a change by anybody else is seen before the next one of ours.
//!
//! What a transaction leaves counts once it is committed ([`Memory::keep`]); after a commit of which nobody knows, and
//! after the right to write was lost for a while, nothing remembered counts ([`Memory::forget`]). Bounded: windows that
//! were not touched for long are forgotten, and the comparison with the log watches those.

use crate::base::NanoUsd;
use crate::store::budget::{Standing, WindowId};
use std::collections::HashMap;

/// How a window was left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// The cap, as it was last read; `None` when the owner does not have the budget now.
    pub(super) limit: Option<NanoUsd>,
    pub(super) standing: Standing,
    /// Nothing is admitted in it, whatever its row says.
    pub(super) is_blocked: bool,
}

/// The windows touched last. Two halves: when the younger is full, the elder is dropped and it takes its place.
pub(super) struct Memory {
    half_max: usize,
    young: HashMap<WindowId, Left>,
    old: HashMap<WindowId, Left>,
    draft: HashMap<WindowId, Left>,
}

impl Memory {
    /// Remembers at most so many windows.
    pub(super) fn new(windows_max: usize) -> Self {
        let half_max = (windows_max / 2).max(1);
        Self { half_max, young: HashMap::new(), old: HashMap::new(), draft: HashMap::new() }
    }

    /// How the window was left, as the transaction under way sees it.
    pub(super) fn known(&self, window: &WindowId) -> Option<Left> {
        let found = self.draft.get(window).or_else(|| self.young.get(window));
        found.or_else(|| self.old.get(window)).copied()
    }

    /// The transaction under way leaves the window like this.
    pub(super) fn leave(&mut self, window: WindowId, left: Left) {
        self.draft.insert(window, left);
    }

    /// The window's row is read anew before it is used again.
    pub(super) fn forget_one(&mut self, window: &WindowId) {
        self.draft.remove(window);
        self.young.remove(window);
        self.old.remove(window);
    }

    /// The transaction was committed.
    pub(super) fn keep(&mut self) {
        for (window, left) in self.draft.drain() {
            if self.young.len() >= self.half_max && !self.young.contains_key(&window) {
                self.old = std::mem::take(&mut self.young);
            }
            self.old.remove(&window);
            self.young.insert(window, left);
        }
    }

    /// The transaction changed nothing.
    pub(super) fn discard(&mut self) {
        self.draft.clear();
    }

    /// Nothing remembered counts any more.
    pub(super) fn forget(&mut self) {
        self.draft.clear();
        self.young.clear();
        self.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Window;
    use crate::store::budget::{BudgetId, BudgetOwner};
    use crate::subkey::SubKeyId;
    use chrono::{DateTime, Utc};

    fn window(n: i64) -> WindowId {
        let owner = BudgetOwner::subkey(&SubKeyId::parse("0123456789abcdef").unwrap());
        let window_start = DateTime::<Utc>::from_timestamp(n, 0).unwrap();
        WindowId { budget: BudgetId::new(&owner, Window::Hour), window_start }
    }

    fn left(posted: i64) -> Left {
        let standing = Standing { posted: NanoUsd::from_nano(posted), held: NanoUsd::ZERO };
        Left { limit: Some(NanoUsd::MAX), standing, is_blocked: false }
    }

    #[test]
    fn what_was_not_committed_is_not_remembered() {
        let mut memory = Memory::new(10);
        memory.leave(window(1), left(1));
        assert_eq!(memory.known(&window(1)), Some(left(1)));
        memory.discard();
        assert_eq!(memory.known(&window(1)), None);
        memory.leave(window(1), left(1));
        memory.keep();
        memory.leave(window(1), left(2));
        memory.discard();
        assert_eq!(memory.known(&window(1)), Some(left(1)));
        memory.forget();
        assert_eq!(memory.known(&window(1)), None);
    }

    #[test]
    fn the_windows_touched_last_are_remembered_and_no_more_than_the_bound() {
        let mut memory = Memory::new(10);
        for n in 0..100 {
            memory.leave(window(n), left(n));
            memory.leave(window(0), left(n));
            memory.keep();
            assert!(memory.young.len() + memory.old.len() <= 10);
            assert_eq!(
                (memory.known(&window(n.max(1))), memory.known(&window(0))),
                (Some(left(n)).filter(|_| n > 0), Some(left(n)))
            );
        }
        assert_eq!(memory.known(&window(96)), Some(left(96)));
        assert_eq!(memory.known(&window(1)), None);
    }
}
