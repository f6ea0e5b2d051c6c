//! Step 12: what an exchange costs, and its entry.

use super::admit::Admitted;
use super::deferred::{goes_on, told_use, wait_for_use};
use super::exchange::Exchange;
use super::headers::tokens_of;
use super::objects;
use crate::base::{NanoUsd, clip};
use crate::budget::Balance;
use crate::log::{AlarmKind, Entry, UsageSource};
use crate::provider::operation::Effect;
use crate::provider::served::is_expected;
use crate::provider::{Estimated, Reading, Resolved, Usage, modifier};
use crate::service::{Priced, Services};
use serde_json::json;

/// What is charged, and by what it is known.
#[derive(Clone, Debug)]
pub(super) struct Bill {
    pub(super) cost: NanoUsd,
    pub(super) usage: Usage,
    pub(super) source: UsageSource,
    /// What the provider says it took, where it says so, and what it is by our prices.
    pub(super) reported: Option<NanoUsd>,
    pub(super) own: Option<NanoUsd>,
    /// What the answer reports that changes the price and has no factor here: the field, and its value.
    pub(super) without_factor: Option<(&'static str, String)>,
}

impl Bill {
    /// Nothing was used: the provider refused before it generated.
    pub(super) fn nothing() -> Self {
        Self {
            cost: NanoUsd::ZERO,
            usage: Usage::default(),
            source: UsageSource::None,
            reported: None,
            own: None,
            without_factor: None,
        }
    }

    /// Nobody knows what was used.
    pub(super) fn reservation(admitted: &Admitted) -> Self {
        Self { cost: admitted.reservation.amount(), source: UsageSource::Reserved, ..Self::nothing() }
    }

    /// By the usage that the provider reported, or by what was seen where it reported none. Where the provider says what
    /// it took, no less than that.
    pub(super) fn of(admitted: &Admitted, reading: &Reading) -> Self {
        let own = Self::by_our_prices(admitted, reading);
        let Some(reported) = reading.reported_cost else { return own };
        Self { cost: own.cost.max(reported), reported: Some(reported), ..own }
    }

    fn by_our_prices(admitted: &Admitted, reading: &Reading) -> Self {
        let priced = admitted.priced.as_ref();
        match (reading.usage, priced) {
            // There is nothing to go by.
            (None, Some(priced)) if !priced.is_bounded && priced.estimate.total == NanoUsd::ZERO => {
                Self::nothing()
            }
            // What it comes to is not known before its result is read.
            (_, Some(_)) if goes_on(admitted, reading) => Self::reservation(admitted),
            (Some(usage), Some(priced)) => {
                let told = Self::as_told(admitted, priced, usage, reading);
                // What was told before the end is the least that it can be.
                let is_final = reading.complete && !reading.usage_is_partial
                    || reading.usage_is_final && priced.estimate.candidates == 1;
                let guessed = (!is_final).then(|| Self::as_seen(priced, reading));
                guessed.filter(|guessed| guessed.cost > told.cost).unwrap_or(told)
            }
            (Some(usage), None) => Self { usage, source: UsageSource::Reported, ..Self::nothing() },
            (None, Some(priced)) => Self::as_seen(priced, reading),
            (None, None) => Self::nothing(),
        }
    }

    fn as_told(admitted: &Admitted, priced: &Priced, usage: Usage, reading: &Reading) -> Self {
        let own = priced.estimate.charge(&priced.version.prices, &usage, reading).ok();
        // Tokens of a class that has no price cost the most that the request could: never 0.
        let cost = own.unwrap_or_else(|| admitted.reservation.amount());
        // Of what is only known in part, a comparison with what the provider took says nothing.
        let own = own.filter(|_| priced.is_bounded);
        let without_factor = modifier::without_factor(&priced.version.prices.multipliers, reading);
        Self { cost, usage, source: UsageSource::Reported, own, without_factor, ..Self::nothing() }
    }

    fn as_seen(priced: &Priced, reading: &Reading) -> Self {
        let Estimated { usage, cost } = priced.estimate.without_usage(&priced.model, reading);
        Self { cost, usage, source: UsageSource::Estimated, ..Self::nothing() }
    }
}

/// Differences up to this come of rounding, not of prices.
const DISAGREEMENT_NANO_MIN: u64 = 1_000;

/// What the provider says it took and what our prices come to, where they are more than 5 % of ours apart.
pub(super) fn disagreement(reported: Option<NanoUsd>, own: Option<NanoUsd>) -> Option<(NanoUsd, NanoUsd)> {
    let (reported, own) = (reported?, own?);
    let apart = reported.as_nano().abs_diff(own.as_nano());
    let is_told =
        apart > DISAGREEMENT_NANO_MIN && u128::from(apart) * 20 > u128::from(own.as_nano().unsigned_abs());
    is_told.then_some((reported, own))
}

/// A request whose answer tells what its prices do not fit.
pub(super) struct Told<'t> {
    pub(super) request_id: &'t str,
    /// The provider and the model.
    pub(super) subject: &'t str,
    pub(super) price_version: Option<&'t str>,
}

impl Told<'_> {
    pub(super) fn disagrees(&self, services: &Services, (reported, own): (NanoUsd, NanoUsd)) {
        let detail = json!({
            "request_id": self.request_id, "reported_cost_usd": reported, "own_cost_usd": own,
            "price_version": self.price_version,
        });
        services.alarms.raise(AlarmKind::CostDisagreement, self.subject, &detail);
    }

    pub(super) fn has_no_factor(&self, services: &Services, field: &str, value: &str) {
        let detail = json!({
            "request_id": self.request_id, "field": field, "reported": value,
            "price_version": self.price_version,
            "detail": "set a factor for it among the model's multipliers; 1 if it costs the list price",
        });
        services.alarms.raise(AlarmKind::FactorUnknown, self.subject, &detail);
    }
}

/// What the answer told, in its entry.
pub(super) fn note_reading(entry: &mut Entry, reading: &Reading) {
    let asked = entry.model.clone();
    let reported = reading.model.as_deref().map(|model| clip(model, 256));
    entry.model_reported = reported.filter(|model| Some(model) != asked.as_ref());
    entry.finish_reason = reading.finish_reason.as_deref().map(|reason| clip(reason, 256));
}

/// Posts the bill and writes the entry; returns the budgets' balances once both are durable.
pub(super) async fn settle(exchange: Exchange, bill: Bill, entry: Entry) -> Vec<Balance> {
    settle_with(exchange, bill, entry, &Reading::default()).await
}

/// The same, with what the answer made or deleted.
pub(super) async fn settle_with(
    exchange: Exchange,
    bill: Bill,
    entry: Entry,
    reading: &Reading,
) -> Vec<Balance> {
    let now = exchange.proxy.services.clock.now();
    let mut objects = objects::changes(&exchange.admitted, exchange.row, reading, &entry, now);
    objects.deferred = wait_for_use(&exchange, reading, (&entry, bill.cost));
    let (told, shown) = tokio::join!(
        Box::pin(told_use(&exchange, reading)),
        Box::pin(objects::not_known(&exchange, std::mem::take(&mut objects.shown)))
    );
    (objects.told, objects.shown) = (told, shown);
    if let Some(served) = substituted(&exchange, &entry) {
        let Exchange { arrival, admitted, .. } = &exchange;
        let detail = json!({
            "request_id": arrival.id.as_str(), "served": served,
            "detail": "if both are one model, make the other name an alias of it in the catalog",
        });
        let Resolved { provider, model, .. } = &admitted.resolved;
        let subject = if model.is_empty() { provider.to_string() } else { format!("{provider}/{model}") };
        exchange.proxy.services.alarms.raise(AlarmKind::ModelSubstituted, &subject, &detail);
    }
    let overhead_us = exchange.overhead_us();
    let Exchange { proxy, arrival, admitted, .. } = exchange;
    let Admitted { reservation, mut in_flight, resolved, .. } = *admitted;
    if bill.cost > reservation.amount() && !reservation.holds().is_empty() {
        let detail = json!({
            "request_id": arrival.id.as_str(), "model": resolved.model,
            "reserved_usd": reservation.amount(), "cost_usd": bill.cost,
        });
        let provider = resolved.provider.to_string();
        proxy.services.alarms.raise(AlarmKind::BillAboveBound, &provider, &detail);
    }
    let told = Told {
        request_id: arrival.id.as_str(),
        subject: &format!("{}/{}", resolved.provider, resolved.model),
        price_version: entry.price_version.as_deref(),
    };
    if let Some(apart) = disagreement(bill.reported, bill.own) {
        told.disagrees(&proxy.services, apart);
    }
    if let Some((field, value)) = &bill.without_factor {
        told.has_no_factor(&proxy.services, field, value);
    }
    let entry = Entry {
        usage_source: bill.source,
        reported_cost_usd: bill.reported,
        own_cost_usd: bill.reported.and(bill.own),
        duration_ms: arrival.elapsed_ms(),
        overhead_us: if entry.overhead_us == 0 { overhead_us } else { entry.overhead_us },
        ..with_usage(entry, &bill.usage)
    };
    proxy.services.metrics.settled(&entry, bill.cost);
    match bill.source {
        UsageSource::Reported | UsageSource::Estimated | UsageSource::None => {
            in_flight.settle_tokens(tokens_of(&bill.usage));
        }
        // Nobody knows the use: the worst case counts, as it is charged.
        UsageSource::Reserved => {}
    }
    drop(in_flight);
    reservation.settle_with(bill.cost, entry, objects).durable().await
}

/// The entry with the tokens that were used.
pub(super) fn with_usage(entry: Entry, usage: &Usage) -> Entry {
    let Usage {
        input,
        cached_input,
        cache_write,
        cache_write_1h,
        audio_input,
        image_input,
        output,
        reasoning,
        audio_output,
        image_output,
        pictures: _,
        characters: _,
        seconds: _,
    } = *usage;
    Entry {
        input_tokens: input.saturating_add(audio_input).saturating_add(image_input),
        cached_input_tokens: cached_input,
        cache_write_tokens: cache_write.saturating_add(cache_write_1h),
        output_tokens: output.saturating_add(audio_output).saturating_add(image_output),
        reasoning_tokens: reasoning,
        ..entry
    }
}

/// The model that the answer names, where that is another one than was asked for. A deployment's name is an operator's
/// own, and says nothing of the model behind it.
fn substituted<'e>(exchange: &Exchange, entry: &'e Entry) -> Option<&'e str> {
    let Resolved { provider, model, entry: known, .. } = &exchange.admitted.resolved;
    let served = entry.model_reported.as_deref().filter(|_| exchange.row.effect == Effect::Generates)?;
    let snapshot = exchange.proxy.services.snapshot();
    if model.is_empty() {
        // Whatever the provider is known to have for it was meant.
        let mut meant = snapshot.catalog.models_of(provider.as_str());
        let is_meant = meant.any(|one| {
            one.serves(exchange.row.operation) && is_expected(Some(one.as_ref()), &one.name, served)
        });
        return (!is_meant).then_some(served);
    }
    let provider = &snapshot.providers.get(provider)?.provider;
    (!provider.deployments.contains_key(model) && !is_expected(known.as_deref(), model, served))
        .then_some(served)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disagrees(reported: i64, own: i64) -> bool {
        let nano = |amount| Some(NanoUsd::from_nano(amount));
        disagreement(nano(reported), nano(own)).is_some()
    }

    #[test]
    fn more_than_five_percent_and_a_thousand_nano_usd_apart_is_told() {
        let own = 1_000_000;
        for (reported, told) in
            [(own, false), (1_050_000, false), (1_050_001, true), (950_000, false), (949_999, true)]
        {
            assert_eq!(disagrees(reported, own), told, "{reported}");
        }
        for (reported, own, told) in
            [(1_000, 0, false), (1_001, 0, true), (0, 1_000, false), (0, 1_001, true)]
        {
            assert_eq!(disagrees(reported, own), told, "{reported} {own}");
        }
        assert!(!disagrees(i64::MAX, i64::MAX) && disagrees(i64::MAX, 1));
        assert!(disagreement(None, Some(NanoUsd::MAX)).is_none());
    }
}
