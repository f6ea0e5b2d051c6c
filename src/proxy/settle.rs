//! Step 12: what an exchange costs, and its entry.

use super::admit::Admitted;
use super::exchange::Exchange;
use super::headers::tokens_of;
use crate::base::{NanoUsd, clip};
use crate::budget::Balance;
use crate::log::{AlarmKind, Entry, UsageSource};
use crate::provider::{Reading, Usage};
use serde_json::json;

/// What is charged, and by what it is known.
#[derive(Clone, Debug)]
pub(super) struct Bill {
    pub(super) cost: NanoUsd,
    pub(super) usage: Usage,
    pub(super) source: UsageSource,
}

impl Bill {
    /// Nothing was used: the provider refused before it generated.
    pub(super) fn nothing() -> Self {
        Self { cost: NanoUsd::ZERO, usage: Usage::default(), source: UsageSource::None }
    }

    /// Nobody knows what was used.
    pub(super) fn reservation(admitted: &Admitted) -> Self {
        Self { cost: admitted.reservation.amount(), usage: Usage::default(), source: UsageSource::Reserved }
    }

    /// By the usage that the provider reported, or by what was seen where it reported none.
    pub(super) fn of(admitted: &Admitted, reading: &Reading) -> Self {
        let priced = admitted.priced.as_ref();
        match (reading.usage, priced) {
            (Some(usage), Some(priced)) => {
                let cost = priced.estimate.charge(&priced.version.prices, &usage, reading);
                // Tokens of a class that has no price cost the most that the request could: never 0.
                let cost = cost.unwrap_or_else(|_| admitted.reservation.amount());
                Self { cost, usage, source: UsageSource::Reported }
            }
            (Some(usage), None) => Self { cost: NanoUsd::ZERO, usage, source: UsageSource::Reported },
            (None, Some(priced)) => {
                let estimated = priced.estimate.without_usage(&priced.model, reading);
                Self { cost: estimated.cost, usage: estimated.usage, source: UsageSource::Estimated }
            }
            (None, None) => Self { source: UsageSource::None, ..Self::nothing() },
        }
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
    } = bill.usage;
    let entry = Entry {
        input_tokens: input.saturating_add(audio_input).saturating_add(image_input),
        cached_input_tokens: cached_input,
        cache_write_tokens: cache_write.saturating_add(cache_write_1h),
        output_tokens: output.saturating_add(audio_output).saturating_add(image_output),
        reasoning_tokens: reasoning,
        usage_source: bill.source,
        duration_ms: arrival.elapsed_ms(),
        overhead_us: if entry.overhead_us == 0 { overhead_us } else { entry.overhead_us },
        ..entry
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
    reservation.settle(bill.cost, entry).durable().await
}
