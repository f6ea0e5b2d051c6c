//! What a request takes from each budget that binds it: from its sub-key's first, then project by project upwards.

use crate::base::NanoUsd;
use crate::budget::{BudgetSpec, Window};
use crate::store::budget::{BudgetId, BudgetOwner, WindowId};
use chrono::{DateTime, Utc};

/// An amount held in one window of one budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The budget, by identity.
    pub budget: BudgetId,
    /// Its window's length, for messages.
    pub window: Window,
    /// When the window began.
    pub window_start: DateTime<Utc>,
    /// When it ends; `None` for a total.
    pub window_end: Option<DateTime<Utc>>,
    /// The cap by its owner's definition. The budget's row has to say the same.
    pub limit: NanoUsd,
    /// The worst case.
    pub amount: NanoUsd,
}

impl Hold {
    /// What `amount` takes from an owner's budget at `now`.
    pub fn of(owner: &BudgetOwner, spec: &BudgetSpec, now: DateTime<Utc>, amount: NanoUsd) -> Self {
        let (window_start, window_end) = spec.window_at(now);
        Self {
            budget: BudgetId::new(owner, spec.window),
            window: spec.window,
            window_start,
            window_end,
            limit: spec.limit_usd,
            amount,
        }
    }

    /// The same of all of an owner's budgets, by window.
    pub fn of_all(
        owner: &BudgetOwner,
        specs: &[BudgetSpec],
        now: DateTime<Utc>,
        amount: NanoUsd,
    ) -> Vec<Self> {
        let mut holds: Vec<Self> = specs.iter().map(|spec| Self::of(owner, spec, now, amount)).collect();
        holds.sort_by_key(|hold| hold.window);
        holds
    }

    /// The project that has the budget; `None` when it is the sub-key's own.
    pub fn project(&self) -> Option<&str> {
        BudgetOwner::project_of(self.budget.owner())
    }

    /// The window, by name.
    pub fn window_id(&self) -> WindowId {
        WindowId { budget: self.budget.clone(), window_start: self.window_start }
    }
}
