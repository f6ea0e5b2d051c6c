//! A hold: a worst case set aside in one window.

use super::{BudgetSpec, Window};
use crate::base::NanoUsd;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// An amount held in one window of one budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The budget, by identity.
    pub budget: String,
    /// Its window's length, for messages.
    pub window: Window,
    /// When the window began.
    pub window_start: DateTime<Utc>,
    /// When it ends; `None` for a total.
    pub window_end: Option<DateTime<Utc>>,
    /// The worst case.
    pub amount: NanoUsd,
}

impl Hold {
    /// What `amount` takes from `spec`, the budget of identity `budget`, at `now`.
    pub fn of(budget: String, spec: &BudgetSpec, now: DateTime<Utc>, amount: NanoUsd) -> Self {
        let window_start = spec.window.start(spec.timezone, now);
        let window_end = spec.window.end(spec.timezone, window_start);
        Self { budget, window: spec.window, window_start, window_end, amount }
    }
}
