//! Time as an argument: production reads the machine's clocks, tests set their own.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

/// Tells the time, truncated to microseconds because PostgreSQL stores no finer.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(Arc<Manual>),
}

#[derive(Debug)]
struct Manual {
    wall_micros: AtomicI64,
    uptime_micros: AtomicI64,
    boots: AtomicI64,
}

/// What a machine's clocks show at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// The time of day, which anybody with the right to can set.
    pub wall: DateTime<Utc>,
    /// How long the machine is up, sleep included; nobody can set it.
    pub uptime: TimeDelta,
    /// Which start of the machine `uptime` counts from; `None` where the machine does not tell.
    pub boot: Option<Arc<str>>,
}

impl Clock {
    /// The machine's clocks. Only `app` makes one.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// Clocks that stand at `start` until [`Clock::advance`] moves them.
    pub fn manual(start: DateTime<Utc>) -> Self {
        Self(Source::Manual(Arc::new(Manual {
            wall_micros: AtomicI64::new(start.timestamp_micros()),
            uptime_micros: AtomicI64::new(0),
            boots: AtomicI64::new(1),
        })))
    }

    /// The present moment by the wall clock.
    pub fn now(&self) -> DateTime<Utc> {
        match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
            Source::System => Utc::now().trunc_subsecs(6),
            Source::Manual(manual) => {
                DateTime::from_timestamp_micros(manual.wall_micros.load(Ordering::SeqCst))
                    .unwrap_or(DateTime::UNIX_EPOCH)
            }
        }
    }

    /// All clocks.
    pub fn clocks(&self) -> Clocks {
        match &self.0 {
            Source::System => Clocks { wall: self.now(), uptime: uptime(), boot: boot() },
            Source::Manual(manual) => Clocks {
                wall: self.now(),
                uptime: TimeDelta::microseconds(manual.uptime_micros.load(Ordering::SeqCst)),
                boot: Some(manual.boots.load(Ordering::SeqCst).to_string().into()),
            },
        }
    }

    /// Lets time pass on manual clocks; those of the system do not move by hand.
    pub fn advance(&self, by: TimeDelta) {
        self.set_wall(by);
        if let Source::Manual(manual) = &self.0 {
            manual.uptime_micros.fetch_add(by.num_microseconds().unwrap_or(0), Ordering::SeqCst);
        }
    }

    /// Sets a manual wall clock forward, or back, while no time passes.
    pub fn set_wall(&self, by: TimeDelta) {
        if let Source::Manual(manual) = &self.0 {
            manual.wall_micros.fetch_add(by.num_microseconds().unwrap_or(0), Ordering::SeqCst);
        }
    }

    /// Starts the machine of manual clocks anew, with its wall clock as it is.
    pub fn reboot(&self) {
        if let Source::Manual(manual) = &self.0 {
            manual.uptime_micros.store(0, Ordering::SeqCst);
            manual.boots.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Time since the machine was started, by a clock that cannot be set and that counts sleep where there is one.
fn uptime() -> TimeDelta {
    #[cfg(target_os = "linux")]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(CLOCK);
    TimeDelta::seconds(time.tv_sec) + TimeDelta::microseconds(time.tv_nsec / 1_000)
}

/// Names this start of the machine (`random(4)`: a UUID made anew at each boot).
fn boot() -> Option<Arc<str>> {
    static BOOT: OnceLock<Option<Arc<str>>> = OnceLock::new();
    let read = || {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(Arc::from(text.trim())).filter(|id: &Arc<str>| !id.is_empty())
    };
    BOOT.get_or_init(read).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_passes_moves_both_clocks_and_setting_one_moves_only_that() {
        let clock = Clock::manual(DateTime::UNIX_EPOCH);
        let began = clock.clocks();
        clock.advance(TimeDelta::seconds(5));
        clock.set_wall(TimeDelta::seconds(-2));
        let now = clock.clocks();
        assert_eq!(
            (now.wall - began.wall, now.uptime - began.uptime),
            (TimeDelta::seconds(3), TimeDelta::seconds(5))
        );
        assert_eq!(now.boot, began.boot);
        clock.reboot();
        assert_ne!(clock.clocks().boot, began.boot);
        assert_eq!(clock.clocks().uptime, TimeDelta::zero());
    }

    #[test]
    fn the_machines_uptime_does_not_run_back() {
        let (began, booted) = (uptime(), boot());
        assert!(began > TimeDelta::zero());
        assert!(uptime() >= began);
        assert_eq!(boot(), booted);
    }
}
