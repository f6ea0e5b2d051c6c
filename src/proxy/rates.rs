//! Rate limits at the proxy: those of the key and its projects, told to the caller; those of the provider and its
//! credentials, which are everybody's and are not.

use super::admit::Admission;
use super::headers::put;
use super::refusal::{Code, Refusal};
use super::respond::{self, whole_ms};
use crate::budget::{RateLimit, RateMetric};
use crate::provider::Resolved;
use crate::service::{
    Caller, Credential, InFlight, Kept, Metered, OverLimit, Priced, RateOwner, RateRefusal, RateStanding,
    Snapshot,
};
use chrono::{DateTime, Utc};
use http::HeaderMap;
use serde_json::json;
use std::sync::Arc;

impl Admission<'_> {
    /// The rest of the rates, all or none: the tokens of everybody above, and the request and its tokens of the provider
    /// and of a credential. Where one credential is at its limit and another that the key may use is not, it is that one.
    /// Returns the credential that the request goes out with, if there is any.
    pub(super) fn take_rates(
        &self,
        (caller, snapshot, resolved): (&Caller, &Snapshot, &Resolved),
        kept: Option<&Kept>,
        priced: Option<&Priced>,
        in_flight: &mut InFlight,
    ) -> Result<Option<String>, Refusal> {
        let now = self.proxy.services.ledger.rate_now();
        let free = self.matched.row.is_free().then_some(0);
        let tokens = priced.and_then(tokens_at_most).or(free);
        let entry = snapshot.providers.get(&resolved.provider);
        let provider = entry.map(|entry| Metered {
            owner: RateOwner::Provider(resolved.provider.clone()),
            rates: Arc::clone(&entry.rates),
        });
        let pin = caller.key.subkey.definition.credential.as_deref();
        let is_keeper = |one: &Credential| kept.is_none_or(|kept| kept.credential_id == one.id);
        let fits = |one: &&Credential| is_keeper(one) && one.is_usable(&caller.lineage, pin);
        let usable = entry.map(|entry| entry.credentials.iter().filter(fits).collect()).unwrap_or_default();
        let usable = in_turn(usable, self.arrival.id.as_str());
        // Without a credential nothing will be sent, and forwarding says so.
        let tries: Vec<Option<&Credential>> =
            if usable.is_empty() { vec![None] } else { usable.into_iter().map(Some).collect() };

        let mut soonest: Option<OverLimit> = None;
        let mut is_unbounded = false;
        for credential in tries {
            let account = credential.map(|one| Metered {
                owner: RateOwner::Credential(one.id.clone()),
                rates: Arc::clone(&one.rates),
            });
            let shared: Vec<Metered> = provider.iter().cloned().chain(account).collect();
            let counts_tokens =
                in_flight.counts_tokens() || shared.iter().any(|metered| metered.rates.counts_tokens());
            if tokens.is_none() && counts_tokens {
                is_unbounded = true;
                continue;
            }
            match in_flight.join(&shared, tokens.unwrap_or(0), now) {
                Ok(()) => return Ok(credential.map(|one| one.id.clone())),
                Err(over) if soonest.as_ref().is_none_or(|one| over.refusal.wait() < one.refusal.wait()) => {
                    soonest = Some(over);
                }
                Err(_) => {}
            }
        }
        match soonest {
            Some(over) => {
                in_flight.withdraw();
                Err(refused(&over))
            }
            None if is_unbounded => Err(Refusal::new(
                Code::ModelUnpriced,
                "The catalog does not know this model's bounds, and a rate of tokens is limited.",
            )),
            None => Err(respond::overloaded()),
        }
    }
}

/// The most tokens that the request can use, where something bounds them.
pub(super) fn tokens_at_most(priced: &Priced) -> Option<u64> {
    let tokens = priced.estimate.input_tokens.saturating_add(priced.estimate.output_tokens);
    priced.is_bounded.then_some(tokens)
}

/// The credentials by weight, spread by the request's id: one that it would go out with, then the others in turn.
fn in_turn<'a>(mut usable: Vec<&'a Credential>, request_id: &str) -> Vec<&'a Credential> {
    let total: u64 = usable.iter().map(|one| one.weight.max(1)).sum();
    let hash = u64::from(crc32fast::hash(request_id.as_bytes()));
    let Some(mut at) = hash.checked_rem(total) else { return usable };
    let first = usable.iter().position(|one| match at.checked_sub(one.weight.max(1)) {
        Some(rest) => {
            at = rest;
            false
        }
        None => true,
    });
    usable.rotate_left(first.unwrap_or(0));
    usable
}

/// A rate's refusal, with the exact time to wait. The log's rule names the owner where it is not the key itself; what
/// everybody shares is told the caller without its figures.
pub(super) fn refused(over: &OverLimit) -> Refusal {
    let OverLimit { owner, refusal } = over;
    let (code, what, limit) = match refusal {
        RateRefusal::Concurrency { limit } => {
            (Code::ConcurrencyLimit, format!("{limit} requests at once"), None)
        }
        RateRefusal::Exceeded { limit, .. } => (Code::RateLimitExceeded, limit.to_string(), Some(limit)),
        RateRefusal::NeverFits { limit } => (Code::ExceedsRateLimit, limit.to_string(), Some(limit)),
    };
    let own = |whose: &str| match refusal {
        RateRefusal::Concurrency { .. } => format!("{whose} is at its limit of {what}."),
        RateRefusal::Exceeded { .. } => {
            format!("{whose} is at its limit of {what}, until the next window begins.")
        }
        RateRefusal::NeverFits { .. } => {
            format!("The request alone is above the limit of {what} of {whose}. Make it smaller.")
        }
    };
    let shared = |account: &str| match refusal {
        RateRefusal::Concurrency { .. } | RateRefusal::Exceeded { .. } => {
            format!("{account}, which others use too, is at its limit. Your key is not at fault; try again.")
        }
        RateRefusal::NeverFits { .. } => {
            format!("The request alone is above a limit of {account}. Make it smaller.")
        }
    };
    let (message, rule) = match owner {
        RateOwner::Subkey => (own("This sub-key"), None),
        RateOwner::Project(slug) => (own(&format!("The project {slug}")), Some(format!("project:{slug}"))),
        RateOwner::Provider(slug) => {
            (shared(&format!("The shared account at {slug}")), Some(format!("provider:{slug}")))
        }
        RateOwner::Credential(id) => {
            (shared("The shared account at the provider"), Some(format!("credential:{id}")))
        }
    };
    let mut answer = Refusal::new(code, message);
    if let Some(rule) = rule {
        answer = answer.rule(format!("{}:{rule}", code.as_str()));
    }
    if !matches!(refusal, RateRefusal::NeverFits { .. }) {
        answer = answer.retry_after(refusal.wait());
    }
    match owner {
        RateOwner::Subkey | RateOwner::Project(_) => {
            let per = limit.and_then(|limit| limit.per);
            let metric = limit.map_or(RateMetric::ConcurrentRequests, |limit| limit.metric);
            let max = match refusal {
                RateRefusal::Concurrency { limit } => *limit,
                RateRefusal::Exceeded { limit, .. } | RateRefusal::NeverFits { limit } => limit.limit,
            };
            answer.details(json!({"metric": metric, "limit": max, "per": per}))
        }
        RateOwner::Provider(_) | RateOwner::Credential(_) => answer,
    }
}

/// Tells how the limits of the key and its projects stand: of each metric the one with the least left.
pub(super) fn stamp(headers: &mut HeaderMap, caller: &Caller, now: DateTime<Utc>) {
    let standing: Vec<RateStanding> =
        caller.metered().iter().flat_map(|metered| metered.rates.standing(now)).collect();
    let tightest = |metric| {
        let of = standing.iter().filter(|one| one.limit.metric == metric);
        of.min_by_key(|one| (one.remaining, std::cmp::Reverse(one.resets_at)))
    };
    for (metric, [limit, remaining, reset]) in [
        (
            RateMetric::Requests,
            [
                "x-bitting-ratelimit-limit-requests",
                "x-bitting-ratelimit-remaining-requests",
                "x-bitting-ratelimit-reset-requests",
            ],
        ),
        (
            RateMetric::Tokens,
            [
                "x-bitting-ratelimit-limit-tokens",
                "x-bitting-ratelimit-remaining-tokens",
                "x-bitting-ratelimit-reset-tokens",
            ],
        ),
        (
            RateMetric::ConcurrentRequests,
            ["x-bitting-ratelimit-limit-concurrent", "x-bitting-ratelimit-remaining-concurrent", ""],
        ),
    ] {
        let Some(one) = tightest(metric) else { continue };
        let RateStanding { limit: RateLimit { limit: max, .. }, remaining: left, resets_at } = one;
        put(headers, limit, &max.to_string());
        put(headers, remaining, &left.to_string());
        if let Some(resets_at) = resets_at {
            let wait_ms = whole_ms(*resets_at - now).max(0);
            put(headers, reset, &((wait_ms + 999) / 1_000).to_string());
        }
    }
}
