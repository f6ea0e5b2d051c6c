//! How much of a window was in use in the last seconds.

use crate::base::NanoUsd;
use std::time::Duration;

/// What was of use for so long is kept for as long again, at least.
const SPAN: Duration = Duration::from_secs(2);

/// The most that was held at once, and what was spent, in this span of time and in the one before.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recent {
    span: u64,
    now: Use,
    before: Use,
}

#[derive(Clone, Copy, Debug, Default)]
struct Use {
    held: NanoUsd,
    spent: NanoUsd,
}

impl Recent {
    /// So much is held now.
    pub(super) fn held(&mut self, amount: NanoUsd, now: Duration) {
        self.move_to(now);
        self.now.held = self.now.held.max(amount);
    }

    /// So much more was spent.
    pub(super) fn spent(&mut self, amount: NanoUsd, now: Duration) {
        self.move_to(now);
        self.now.spent = self.now.spent.saturating_add(amount);
    }

    /// The most that was held at once, and spent, in the last two to four seconds.
    pub(super) fn use_until(mut self, now: Duration) -> NanoUsd {
        self.move_to(now);
        let held = self.now.held.max(self.before.held);
        held.saturating_add(self.now.spent.max(self.before.spent))
    }

    /// Whether anything was told in the last two to four seconds, if only of nothing.
    pub(super) fn is_of_late(&self, now: Duration) -> bool {
        now.as_secs() / SPAN.as_secs() <= self.span + 1
    }

    fn move_to(&mut self, now: Duration) {
        let span = now.as_secs() / SPAN.as_secs();
        if span > self.span {
            self.before = if span == self.span + 1 { self.now } else { Use::default() };
            self.now = Use::default();
            self.span = span;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usd(nano: i64) -> NanoUsd {
        NanoUsd::from_nano(nano)
    }

    #[test]
    fn what_was_of_use_is_kept_for_two_seconds_and_forgotten_after_four() {
        let at = Duration::from_millis;
        let mut recent = Recent::default();
        recent.held(usd(5), at(1_000));
        recent.held(usd(3), at(1_500));
        recent.spent(usd(1), at(1_600));
        recent.spent(usd(1), at(1_700));
        assert_eq!(recent.use_until(at(1_999)), usd(7));
        assert_eq!((recent.use_until(at(3_999)), recent.is_of_late(at(3_999))), (usd(7), true));
        assert_eq!((recent.use_until(at(4_000)), recent.is_of_late(at(4_000))), (usd(0), false));
        recent.held(usd(2), at(2_100));
        assert_eq!(recent.use_until(at(3_000)), usd(7));
        assert_eq!(recent.use_until(at(5_000)), usd(2));
    }
}
