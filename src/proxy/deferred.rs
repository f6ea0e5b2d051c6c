//! Work that goes on behind its answer: charged in full when it is accepted, and set right once somebody reads its use.
//!
//! Whoever may see the response may read it, whoever made it: what is booked is the maker's. The reader's own entry stays
//! that of a look, which costs nothing.

use super::admit::Admitted;
use super::exchange::Exchange;
use super::settle::{Told, disagreement, note_reading, with_usage};
use crate::base::NanoUsd;
use crate::log::{AlarmKind, Entry, UsageSource};
use crate::provider::operation::{Effect, Row};
use crate::provider::{Made, ObjectId, ObjectKind, Reading};
use crate::service::{Deferral, DeferredCharge, Hold, ToldUse};
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

/// How long a settlement waits for what is known before it: it is handed over well within [`super::exchange::RECORD_WAIT`].
pub(super) const LOOK_UP_MAX: Duration = Duration::from_secs(1);

/// Whether the provider works on, although its answer has ended or is not read any more.
pub(super) fn goes_on(admitted: &Admitted, reading: &Reading) -> bool {
    reading.is_deferred || admitted.is_background && !reading.complete && !reading.failed
}

/// What goes on record with a charge that waits for the use that it is for: so much, of the windows that hold it.
pub(super) fn wait_for_use(
    exchange: &Exchange,
    reading: &Reading,
    (entry, charged_usd): (&Entry, NanoUsd),
) -> Option<Box<DeferredCharge>> {
    let Exchange { proxy, admitted, row, .. } = exchange;
    if row.effect != Effect::Generates || !goes_on(admitted, reading) {
        return None;
    }
    let priced = admitted.priced.as_ref()?;
    let holds = admitted.reservation.holds();
    let held = (admitted.reservation.amount(), !holds.is_empty());
    let deferral = Deferral {
        terms: priced.estimate.deferred(&priced.version.prices, held),
        charged_usd,
        windows: holds.iter().map(Hold::window_id).collect(),
        model: admitted.resolved.model.clone(),
        price_version: entry.price_version.clone(),
        is_bounded: priced.is_bounded,
    };
    let response = response_in(reading)?.id.parse().ok()?;
    let place = (&admitted.resolved.provider, &response);
    proxy.services.defer(place, &entry.request_id, &deferral).map(Box::new)
}

/// The use that the answer tells of a response for which a charge waits.
pub(super) async fn told_use(exchange: &Exchange, reading: &Reading) -> Option<Box<ToldUse>> {
    let Exchange { proxy, admitted, row, .. } = exchange;
    // What has not ended, by any name for that, is not all of it.
    let usage = reading.usage.filter(|_| reading.complete && reading.has_ended && !reading.is_deferred)?;
    let response_id = shown_response(row, admitted)?;
    if response_in(reading)?.id != response_id.as_str() {
        return None;
    }
    let provider = &admitted.resolved.provider;
    let waiting = match timeout(LOOK_UP_MAX, proxy.services.deferred(provider, &response_id)).await {
        Ok(Ok(waiting)) => waiting?,
        // The next one who reads it tells it again.
        Ok(Err(error)) => {
            tracing::warn!(%error, "whether a charge waits for what a response tells cannot be looked up");
            return None;
        }
        Err(_) => {
            tracing::warn!("whether a charge waits for what a response tells was not found out in time");
            return None;
        }
    };
    let Deferral { terms, model, price_version, is_bounded, .. } = &waiting.deferral;
    let own = terms.charge(&usage, reading).ok();
    // Tokens of a class that has no price cost the most that the request could: never 0.
    let own_or_bound = own.unwrap_or(terms.bound);
    let own = own.filter(|_| *is_bounded);
    let cost = reading.reported_cost.map_or(own_or_bound, |reported| own_or_bound.max(reported));
    let is_above = terms.is_capped && cost > terms.bound;
    if is_above {
        let detail = json!({"request_id": waiting.request_id, "reserved_usd": terms.bound, "cost_usd": cost});
        proxy.services.alarms.raise(AlarmKind::BillAboveBound, provider.as_str(), &detail);
    }
    let charge = Told {
        request_id: &waiting.request_id,
        subject: &format!("{provider}/{model}"),
        price_version: price_version.as_deref(),
    };
    if let Some(apart) = disagreement(reading.reported_cost, own) {
        charge.disagrees(&proxy.services, apart);
    }
    if let Some((field, value)) = terms.without_factor(reading) {
        charge.has_no_factor(&proxy.services, field, &value);
    }
    let mut entry = Entry {
        usage_source: UsageSource::Reported,
        reported_cost_usd: reading.reported_cost,
        own_cost_usd: reading.reported_cost.and(own),
        ..Entry::default()
    };
    note_reading(&mut entry, reading);
    let entry = with_usage(entry, &usage);
    Some(Box::new(ToldUse { waiting, cost, is_above, entry }))
}

/// The response that the path names, where that is what the answer tells.
pub(super) fn shown_response(row: &Row, admitted: &Admitted) -> Option<ObjectId> {
    admitted.named_object.as_deref().filter(|_| row.shows_response())?.parse().ok()
}

/// The response that an answer tells.
pub(super) fn response_in(reading: &Reading) -> Option<&Made> {
    reading.made.iter().find(|made| made.kind == ObjectKind::Response)
}
