//! Notices: what a webhook is told, and when it is told again.
//!
//! A notice says what happened and where to look. It holds no prompt, no key and no secret, and of an alarm not the
//! detail, which may hold words of a provider: whoever wants that asks by the alarm's id.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};

/// The type of an event. A type is a stable word: receivers are built on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// A share of a budget's cap was reached.
    BudgetAlert,
    /// An alarm was opened.
    AlarmOpened,
    /// An operator closed an alarm.
    AlarmClosed,
}

impl NoticeKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BudgetAlert => "budget.alert",
            Self::AlarmOpened => "alarm.opened",
            Self::AlarmClosed => "alarm.closed",
        }
    }

    /// The text that is sent and signed.
    pub fn body(self, at: DateTime<Utc>, data: &Value) -> String {
        let timestamp = at.to_rfc3339_opts(SecondsFormat::Micros, true);
        json!({"type": self.as_str(), "timestamp": timestamp, "data": data}).to_string()
    }
}

/// What an attempt in vain says of the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setback {
    /// Nobody answered, or the receiver had a trouble of its own: it may be over soon.
    Passing,
    /// The receiver wants none of it: somebody has to set something right.
    Lasting,
}

/// The first pause between two attempts; each is twice the one before.
const PAUSE_MIN_MS: u64 = 5_000;
/// The longest pause.
const PAUSE_MAX_MS: u64 = 3_600_000;
/// How long a notice is sent again.
const GIVEN_UP_AFTER: TimeDelta = TimeDelta::days(3);

/// When a notice is sent again after its `attempt` (from 1) was in vain; `None` when it is given up. `random` spreads
/// attempts: a pause is between half and the whole of what it could be.
pub fn next_attempt(
    (created_at, now): (DateTime<Utc>, DateTime<Utc>),
    attempt: i64,
    setback: Setback,
    random: u64,
) -> Option<DateTime<Utc>> {
    let end = created_at + GIVEN_UP_AFTER;
    if now >= end {
        return None;
    }
    let longest_ms = match setback {
        Setback::Lasting => PAUSE_MAX_MS,
        Setback::Passing => {
            let doublings = u32::try_from(attempt.clamp(1, 17) - 1).unwrap_or(0);
            (PAUSE_MIN_MS << doublings).min(PAUSE_MAX_MS)
        }
    };
    let half = longest_ms / 2;
    let pause = TimeDelta::milliseconds(i64::try_from(half + random % (half + 1)).unwrap_or(i64::MAX));
    // The last attempt is at the very end.
    Some((now + pause).min(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn pauses_double_from_five_seconds_to_an_hour_and_end_after_three_days() {
        let pause = |attempt, setback, random| {
            let next = next_attempt((at(0), at(0)), attempt, setback, random).unwrap();
            (next - at(0)).num_milliseconds()
        };
        let longest = |attempt| pause(attempt, Setback::Passing, 2_500 << (attempt - 1).min(16));
        assert_eq!([1, 2, 3, 4].map(longest), [5_000, 10_000, 20_000, 40_000]);
        assert_eq!(pause(1, Setback::Passing, 0), 2_500);
        assert_eq!(pause(10, Setback::Passing, 1_280_000), 2_560_000);
        for late in [11, 12, 70, 1_000_000, i64::MAX] {
            assert_eq!(pause(late, Setback::Passing, 1_800_000), 3_600_000, "{late}");
        }
        assert_eq!(pause(1, Setback::Lasting, 1_800_000), 3_600_000);
        let days = 3 * 86_400;
        let last = next_attempt((at(0), at(days - 1)), 80, Setback::Passing, 0);
        assert_eq!(last, Some(at(days)), "the last attempt is at the end");
        assert_eq!(next_attempt((at(0), at(days)), 80, Setback::Passing, 0), None);
    }

    proptest! {
        /// Whatever fails, it is tried again for three days, never at once and never after more than an hour.
        #[test]
        fn a_notice_is_given_up_after_three_days_and_not_before(
            randoms in prop::collection::vec((any::<u64>(), any::<bool>()), 400),
        ) {
            let (mut now, mut attempts) = (at(0), 0_i64);
            for (random, is_lasting) in randoms {
                attempts += 1;
                let setback = if is_lasting { Setback::Lasting } else { Setback::Passing };
                let Some(next) = next_attempt((at(0), now), attempts, setback, random) else { break };
                prop_assert!(next > now && next - now <= TimeDelta::hours(1));
                now = next;
            }
            prop_assert_eq!(now, at(3 * 86_400));
            prop_assert!((72..200).contains(&attempts), "{attempts}");
        }
    }
}
