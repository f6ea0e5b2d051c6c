//! What a request could cost, and what the budgets would say to that. Nothing is held.

use super::{Judge, Step};
use crate::base::NanoUsd;
use crate::budget::{Balance, Refusal};
use crate::provider::Estimate;
use crate::service::{Caller, Hold, Priced, Services, StoreError};
use crate::store::disorder;

/// A window of a budget that binds the sub-key, as it is found.
pub(super) struct Standing {
    hold: Hold,
    balance: Balance,
    /// Nothing is admitted in it until an operator has looked.
    is_blocked: bool,
    /// The budget's row is not what its owner says.
    is_tampered: bool,
}

impl Services {
    /// Where every budget stands that binds a caller, in the order in which they refuse.
    pub(super) async fn standing(&self, caller: &Caller) -> Result<Vec<Standing>, StoreError> {
        let holds = caller.holds(self.ledger.now(), NanoUsd::ZERO);
        let balances = self.standing_of(&holds).await?;
        let mut read = self.store.read().await?;
        let mut standing = Vec::with_capacity(holds.len());
        for (hold, balance) in holds.into_iter().zip(balances) {
            let found = disorder::look(&mut read.conn(), &hold.budget, hold.window_start).await?;
            let is_tampered = !found.is_some_and(|found| found.is_active && found.limit == hold.limit);
            let is_blocked = found.is_some_and(|found| found.is_blocked);
            standing.push(Standing { hold, balance, is_blocked, is_tampered });
        }
        Ok(standing)
    }
}

impl Judge<'_> {
    /// The price, and whether one request may cost that.
    pub(super) fn price(&self, Priced { estimate, is_bounded, .. }: &Priced) -> Vec<Step> {
        if !is_bounded {
            return vec![Step::new(
                "price",
                "what its answer tells: nothing bounds it, and nothing caps it",
                true,
            )];
        }
        let definition = &self.caller.key.subkey.definition;
        let mut steps = vec![Step::new("price", format!("at most {} USD", estimate.total), true)];
        let fits = |max: NanoUsd| {
            estimate.total <= max || definition.clamp_to_budget && estimate.clamp(max).is_some()
        };
        let value = |max: NanoUsd| format!("{} of {max} USD", estimate.total);
        if let Some(max) = definition.max_request_usd {
            steps.push(Step::new("max_request_usd", value(max), fits(max)));
        }
        for (project, max) in self.caller.lineage.request_caps() {
            let name = format!("project:{project}/ceiling/max_request_usd");
            steps.push(Step::new(name, value(max), fits(max)));
        }
        steps
    }

    /// The most tokens, with the output bound lowered to what one request may cost; `None` where nothing bounds them.
    pub(super) fn tokens(&self, Priced { estimate, is_bounded, .. }: &Priced) -> Option<u64> {
        let max = self.caller.request_cap().map(|(_, max)| max);
        let bound = max.filter(|max| estimate.total > *max).and_then(|max| estimate.clamp(max));
        let output = bound
            .map_or(estimate.output_tokens, |bound| estimate.clone().with_output_bound(bound).output_tokens);
        is_bounded.then(|| estimate.input_tokens.saturating_add(output))
    }

    /// The budgets, in the order in which they refuse. Without a price only those are told in which nothing is admitted.
    pub(super) fn budgets(&self, priced: Option<&Priced>) -> Vec<Step> {
        let step = |one: &Standing| {
            let owner = one.hold.project().map(|project| format!("project:{project}/")).unwrap_or_default();
            let name = format!("{owner}budgets/{}", one.hold.window.as_str());
            if one.is_tampered {
                return Some(Step::new(name, "changed outside of Bitting", false));
            }
            if one.is_blocked {
                let value = "nothing is admitted in this window: its books do not add up, or a provider billed more than \
                             its bound; look at the alarms";
                return Some(Step::new(name, value, false));
            }
            priced.map(|priced| self.budget(name, &one.balance, &priced.estimate))
        };
        self.standing.iter().filter_map(step).collect()
    }

    fn budget(&self, name: String, balance: &Balance, estimate: &Estimate) -> Step {
        let remaining = balance.remaining();
        let may_clamp = self.caller.key.subkey.definition.clamp_to_budget;
        let clamped = || may_clamp && estimate.clamp(remaining).is_some();
        let (allowed, why) = match balance.admit(estimate.total) {
            Ok(()) => (true, ""),
            Err(Refusal::Exceeded | Refusal::Held) if clamped() => (true, ", with a lower output bound"),
            Err(Refusal::Held) => (false, ", the rest is held by requests in flight"),
            Err(Refusal::Exceeded) => (false, ""),
        };
        Step::new(name, format!("{} of {remaining} USD left{why}", estimate.total), allowed)
    }
}
