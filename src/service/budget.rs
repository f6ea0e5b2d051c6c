//! Budgets of sub-keys and of projects: where they stand, and how they follow a definition.

mod alert;

use super::{Caller, Hold, Services, StoreError};
use crate::base::NanoUsd;
use crate::budget::{Balance, BudgetSpec};
use crate::store::budget::{BudgetId, BudgetOwner, WindowId};
use crate::store::{self, Conn};
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;

pub(super) use alert::{Spending, tell_what_is_reached, tell_what_stands};

/// A budget in its present window.
#[derive(Clone, Debug)]
pub struct BudgetState {
    /// The budget.
    pub spec: BudgetSpec,
    /// Where it stands.
    pub balance: Balance,
    /// When its next window begins; `None` for a total.
    pub resets_at: Option<DateTime<Utc>>,
}

/// The budgets of a project that bind a sub-key.
#[derive(Clone, Debug)]
pub struct ProjectBudgets {
    /// The project.
    pub project: String,
    /// Its budgets, in the order of its definition.
    pub budgets: Vec<BudgetState>,
}

impl Services {
    /// Where the budgets of each owner stand, in the order in which they are given; all by one statement.
    pub(super) async fn budgets_of(
        &self,
        conn: &mut Conn<'_>,
        owners: &[(BudgetOwner, &[BudgetSpec])],
    ) -> Result<Vec<Vec<BudgetState>>, StoreError> {
        let now = self.ledger.now();
        let hold = |owner: &BudgetOwner, spec: &BudgetSpec| Hold::of(owner, spec, now, NanoUsd::ZERO);
        let windows: Vec<_> = owners
            .iter()
            .flat_map(|(owner, specs)| specs.iter().map(|spec| hold(owner, spec)))
            .map(|hold| (hold.budget, hold.window_start))
            .collect();
        let balances = store::budget::balances(conn, &windows).await?;
        let standing = |owner: &BudgetOwner, spec: &BudgetSpec| {
            let hold = hold(owner, spec);
            let fresh = Balance { limit: spec.limit_usd, ..Balance::default() };
            let balance = balances.get(&hold.budget).copied().unwrap_or(fresh);
            let balance = self.ledger.without_idle(&hold.window_id(), balance);
            BudgetState { spec: spec.clone(), balance, resets_at: hold.window_end }
        };
        let of_owner = |(owner, specs): &(BudgetOwner, &[BudgetSpec])| {
            specs.iter().map(|spec| standing(owner, spec)).collect()
        };
        Ok(owners.iter().map(of_owner).collect())
    }

    /// A budget that is added again goes on in the window that it was removed in, whatever its time zone is now. Given
    /// are the budgets before, and those after.
    pub(super) async fn succeed_removed(
        &self,
        conn: &mut Conn<'_>,
        owner: &BudgetOwner,
        (before, after): (&[BudgetSpec], &mut [BudgetSpec]),
    ) -> Result<(), StoreError> {
        let is_new = |budget: &BudgetSpec| before.iter().all(|old| old.window != budget.window);
        if !after.iter().any(is_new) {
            return Ok(());
        }
        let kept = store::budget::of_owner(conn, owner).await?;
        let now = self.ledger.now();
        for budget in after.iter_mut().filter(|budget| is_new(budget)) {
            if let Some(before) = kept.iter().find(|kept| kept.window == budget.window) {
                let before = BudgetSpec { timezone: before.timezone, ..budget.clone() };
                budget.succeed(&before, now);
            }
        }
        Ok(())
    }

    /// Budgets that are gone admit nothing and keep what was spent, and the time zone that they were in; the others are
    /// as they are given; what is spent already counts for their alerts at once. Given are those before, and those after.
    pub(super) async fn rewrite_budgets(
        &self,
        conn: &mut Conn<'_>,
        owner: &BudgetOwner,
        (before, after): (&[BudgetSpec], &[BudgetSpec]),
    ) -> Result<(), StoreError> {
        let now = self.ledger.now();
        let kept: Vec<_> = after.iter().map(|spec| spec.window).collect();
        for gone in before.iter().filter(|old| !kept.contains(&old.window)) {
            let timezone = gone.zone_at(now);
            store::budget::upsert(conn, owner, &BudgetSpec { timezone, ..gone.clone() }).await?;
        }
        for spec in after {
            store::budget::upsert(conn, owner, spec).await?;
        }
        store::budget::deactivate_except(conn, owner, &kept).await?;
        let alerting = after.iter().filter(|spec| !spec.alert_at.is_empty());
        let window = |spec: &BudgetSpec| WindowId {
            budget: BudgetId::new(owner, spec.window),
            window_start: spec.window_at(now).0,
        };
        let windows: BTreeSet<WindowId> = alerting.map(window).collect();
        if windows.is_empty() {
            return Ok(());
        }
        let outbox = self.alarms.outbox();
        outbox.expect_alerts();
        tell_what_stands(conn, outbox, &windows).await
    }

    /// Where the windows of these holds stand, one by one.
    pub async fn standing_of(&self, holds: &[Hold]) -> Result<Vec<Balance>, StoreError> {
        let windows: Vec<_> = holds.iter().map(|hold| (hold.budget.clone(), hold.window_start)).collect();
        let mut read = self.store.read().await?;
        let balances = store::budget::balances(&mut read.conn(), &windows).await?;
        let standing = |hold: &Hold| {
            let fresh = Balance { limit: hold.limit, ..Balance::default() };
            let balance = balances.get(&hold.budget).copied().unwrap_or(fresh);
            self.ledger.without_idle(&hold.window_id(), balance)
        };
        Ok(holds.iter().map(standing).collect())
    }

    /// Where every budget stands that binds a caller: its own, and those of each project above it that has any, or a
    /// ceiling.
    pub async fn budget_standing(
        &self,
        caller: &Caller,
    ) -> Result<(Vec<BudgetState>, Vec<ProjectBudgets>), StoreError> {
        let subkey = &caller.key.subkey;
        let own = (BudgetOwner::subkey(&subkey.id), subkey.definition.budgets.as_slice());
        let above =
            caller.lineage.definitions().filter(|one| !one.budgets.is_empty() || one.ceiling.is_some());
        let above: Vec<_> = above.collect();
        let owners: Vec<(BudgetOwner, &[BudgetSpec])> = std::iter::once(own)
            .chain(above.iter().map(|one| (BudgetOwner::project(&one.slug), one.budgets.as_slice())))
            .collect();
        let mut read = self.store.read().await?;
        let mut standing = self.budgets_of(&mut read.conn(), &owners).await?.into_iter();
        let own = standing.next().unwrap_or_default();
        let named = above.into_iter().zip(standing);
        Ok((own, named.map(|(one, budgets)| ProjectBudgets { project: one.slug.clone(), budgets }).collect()))
    }
}

/// A definition's budgets that nobody has spent anything of.
pub(super) fn untouched(owner: &BudgetOwner, specs: &[BudgetSpec], now: DateTime<Utc>) -> Vec<BudgetState> {
    let fresh = |spec: &BudgetSpec| BudgetState {
        spec: spec.clone(),
        balance: Balance { limit: spec.limit_usd, ..Balance::default() },
        resets_at: Hold::of(owner, spec, now, NanoUsd::ZERO).window_end,
    };
    specs.iter().map(fresh).collect()
}
