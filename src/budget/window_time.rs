//! The time that windows go by: what the wall clock showed last, and how long the machine has been up since.
//!
//! Whoever sets the wall clock forward would open every budget's next window. So windows go by a clock that nobody can
//! set, begun at a wall clock that was believed once. A wall clock within a minute of it is followed, as slowly as NTP
//! slews; one that is further off is followed only when an operator says so. The time told never steps back.

use crate::base::Clocks;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How far the wall clock may be off and still be believed.
pub const TOLERANCE: TimeDelta = TimeDelta::seconds(60);
/// The most that a wall clock is followed, in parts of the time that passed: what `adjtimex(2)` slews at the most, 500 ppm.
const SLEW_PARTS: i64 = 2_000;
/// Followed in steps of at least so much time, so that no step rounds to nothing.
const SLEW_STEP: TimeDelta = TimeDelta::seconds(1);

/// Tells the time of windows; what is kept of it goes on where it stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowTime {
    /// The latest time told.
    told: DateTime<Utc>,
    /// What the time was when the machine was up for `uptime_micros`.
    reference: DateTime<Utc>,
    uptime_micros: i64,
    /// The start of the machine that is counted from.
    boot: Option<Arc<str>>,
}

impl WindowTime {
    /// Goes on from what was kept. While the machine was off no time is known to have passed, and its wall clock is
    /// believed unless it shows a time that is over.
    pub fn begin(kept: Option<Self>, clocks: &Clocks) -> Self {
        let uptime_micros = micros(clocks.uptime);
        let at = |told: DateTime<Utc>, reference| Self {
            told,
            reference,
            uptime_micros,
            boot: clocks.boot.clone(),
        };
        match kept {
            None => at(clocks.wall, clocks.wall),
            Some(kept) if kept.is_of(clocks) => kept,
            Some(Self { told, .. }) if clocks.wall < told - TOLERANCE => at(told, told),
            Some(Self { told, .. }) => at(told, clocks.wall),
        }
    }

    /// The time, and how far the wall clock is off while that is too far to follow it: positive when it is ahead.
    pub fn tell(&mut self, clocks: &Clocks) -> (DateTime<Utc>, Option<TimeDelta>) {
        let passed = self.passed(clocks);
        let expected = self.reference + passed;
        let off = clocks.wall - expected;
        let is_believed = off.abs() <= TOLERANCE;
        if is_believed && passed >= SLEW_STEP {
            let most = passed / i32::try_from(SLEW_PARTS).unwrap_or(i32::MAX);
            self.reference = expected + off.clamp(-most, most);
            self.uptime_micros = micros(clocks.uptime);
        }
        self.told = self.told.max(expected);
        (self.told, (!is_believed).then_some(off))
    }

    /// An operator says that the wall clock is right. Where it is behind, time stands still until it has caught up.
    pub fn accept(&mut self, clocks: &Clocks) {
        self.reference = clocks.wall;
        self.uptime_micros = micros(clocks.uptime);
        self.boot.clone_from(&clocks.boot);
        self.told = self.told.max(clocks.wall);
    }

    /// Counted on the same start of the machine, and not after what its clock shows now.
    fn is_of(&self, clocks: &Clocks) -> bool {
        self.boot.is_some() && self.boot == clocks.boot && self.uptime_micros <= micros(clocks.uptime)
    }

    fn passed(&self, clocks: &Clocks) -> TimeDelta {
        TimeDelta::microseconds(micros(clocks.uptime).saturating_sub(self.uptime_micros).max(0))
    }
}

fn micros(uptime: TimeDelta) -> i64 {
    uptime.num_microseconds().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Clock;
    use crate::budget::Window;
    use chrono_tz::Tz;
    use proptest::prelude::*;

    fn clock() -> Clock {
        Clock::manual("2026-11-22T23:59:00Z".parse().unwrap())
    }

    fn begun(clock: &Clock) -> WindowTime {
        WindowTime::begin(None, &clock.clocks())
    }

    fn told(time: &mut WindowTime, clock: &Clock) -> DateTime<Utc> {
        time.tell(&clock.clocks()).0
    }

    #[test]
    fn a_wall_clock_that_jumps_opens_no_window() {
        let clock = clock();
        let mut time = begun(&clock);
        let day = |at| Window::Day.start(Tz::UTC, at);
        let today = day(told(&mut time, &clock));
        clock.set_wall(TimeDelta::hours(30));
        let (at, off) = time.tell(&clock.clocks());
        assert_eq!((day(at), off), (today, Some(TimeDelta::hours(30))));
        clock.advance(TimeDelta::minutes(2));
        assert_eq!(told(&mut time, &clock), at + TimeDelta::minutes(2), "time goes on all the same");
        time.accept(&clock.clocks());
        assert_eq!(time.tell(&clock.clocks()), (clock.now(), None));
    }

    #[test]
    fn a_wall_clock_set_back_is_not_followed_and_accepted_lets_time_stand_still() {
        let clock = clock();
        let mut time = begun(&clock);
        let before = told(&mut time, &clock);
        clock.set_wall(TimeDelta::hours(-3));
        assert_eq!(time.tell(&clock.clocks()), (before, Some(TimeDelta::hours(-3))));
        time.accept(&clock.clocks());
        clock.advance(TimeDelta::hours(2));
        assert_eq!(time.tell(&clock.clocks()), (before, None));
        clock.advance(TimeDelta::hours(2));
        assert_eq!(told(&mut time, &clock), before + TimeDelta::hours(1));
    }

    #[test]
    fn a_clock_a_little_off_is_followed_no_faster_than_clocks_are_slewed() {
        let clock = clock();
        let mut time = begun(&clock);
        clock.set_wall(TimeDelta::seconds(30));
        for _ in 0..1_000 {
            clock.advance(TimeDelta::seconds(1));
            assert_eq!(time.tell(&clock.clocks()).1, None);
        }
        let gone = told(&mut time, &clock);
        let behind = clock.now() - gone;
        assert!(
            behind >= TimeDelta::milliseconds(29_490) && behind <= TimeDelta::milliseconds(29_510),
            "{behind}"
        );
        clock.advance(TimeDelta::hours(24));
        told(&mut time, &clock);
        clock.advance(TimeDelta::seconds(1));
        assert!((clock.now() - told(&mut time, &clock)).abs() < TimeDelta::milliseconds(1));
    }

    #[test]
    fn what_is_kept_goes_on_over_a_restart_of_the_server() {
        let clock = clock();
        let mut time = begun(&clock);
        let before = told(&mut time, &clock);
        clock.advance(TimeDelta::minutes(10));
        clock.set_wall(TimeDelta::days(40));
        let kept = serde_json::from_str(&serde_json::to_string(&time).unwrap()).unwrap();
        let mut time = WindowTime::begin(Some(kept), &clock.clocks());
        assert_eq!(time.tell(&clock.clocks()), (before + TimeDelta::minutes(10), Some(TimeDelta::days(40))));
    }

    #[test]
    fn after_the_machine_was_off_its_wall_clock_is_believed_unless_it_shows_a_time_that_is_over() {
        let clock = clock();
        let mut time = begun(&clock);
        let before = told(&mut time, &clock);
        clock.set_wall(TimeDelta::days(3));
        clock.reboot();
        let mut later = WindowTime::begin(Some(time.clone()), &clock.clocks());
        assert_eq!(later.tell(&clock.clocks()), (before + TimeDelta::days(3), None));
        clock.set_wall(TimeDelta::days(-5));
        let mut earlier = WindowTime::begin(Some(time), &clock.clocks());
        assert_eq!(earlier.tell(&clock.clocks()), (before, Some(TimeDelta::days(-2))));
        clock.advance(TimeDelta::hours(1));
        assert_eq!(told(&mut earlier, &clock), before + TimeDelta::hours(1));
    }

    #[test]
    fn a_record_of_another_machine_counts_for_no_more_than_what_it_told() {
        let (old, new) = (clock(), clock());
        old.advance(TimeDelta::days(100));
        let mut time = begun(&old);
        let before = told(&mut time, &old);
        new.reboot();
        new.advance(TimeDelta::days(101));
        let mut moved = WindowTime::begin(Some(time), &new.clocks());
        assert_eq!(moved.tell(&new.clocks()), (before + TimeDelta::days(1), None));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Pass(i64),
        Set(i64),
        Restart,
        Reboot,
        Accept,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..100_000_000_i64).prop_map(Step::Pass),
            (-200_000_000..200_000_000_i64).prop_map(Step::Set),
            Just(Step::Restart),
            Just(Step::Reboot),
            Just(Step::Accept)
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        /// Whatever happens to clocks, servers and machines: time never steps back, and since it was last told by an
        /// operator or a machine that was off it gains on the clock that nobody can set only what may be slewed.
        #[test]
        fn time_never_steps_back_nor_runs_ahead(steps in steps()) {
            let clock = clock();
            let mut time = begun(&clock);
            let mut last = told(&mut time, &clock);
            let (mut since, mut most) = (last, TimeDelta::zero());
            for step in steps {
                let uptime = clock.clocks().uptime;
                let mut is_told = false;
                match step {
                    Step::Pass(micros) => clock.advance(TimeDelta::microseconds(micros)),
                    Step::Set(micros) => clock.set_wall(TimeDelta::microseconds(micros)),
                    Step::Restart => time = WindowTime::begin(Some(time), &clock.clocks()),
                    Step::Reboot => {
                        clock.reboot();
                        time = WindowTime::begin(Some(time), &clock.clocks());
                        is_told = true;
                    }
                    Step::Accept => {
                        time.accept(&clock.clocks());
                        is_told = true;
                    }
                }
                let now = told(&mut time, &clock);
                prop_assert!(now >= last);
                if is_told {
                    (since, most) = (now, TimeDelta::zero());
                } else {
                    let passed = clock.clocks().uptime - uptime;
                    // Each step's share is rounded down, their sum's only once.
                    most += passed + passed / 2_000 + TimeDelta::nanoseconds(1);
                    prop_assert!(now - since <= most);
                }
                last = now;
            }
        }
    }
}
