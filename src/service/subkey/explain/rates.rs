//! What the rate limits would say to one more request, in the proxy's order. Nothing is counted.

use super::{Judge, Placed, Step};
use crate::budget::{RateLimit, RateMetric};
use crate::service::{Credential, Metered, RateOwner, RateRefusal, RateStanding};
use chrono::{DateTime, Utc};
use std::sync::Arc;

impl Judge<'_> {
    /// The limits of the key and what is above it, then those of the provider, then those of the credential that the
    /// request would go out with: one with room, if there is one. `tokens` is the worst case, `None` where nobody knows it.
    pub(super) fn rates(&self, placed: Option<&Placed>, tokens: Option<u64>) -> Vec<Step> {
        let Self { caller, snapshot, services, .. } = self;
        let now = services.ledger.rate_now();
        let of = |metered: &Metered| steps(metered, tokens, now);
        let mut trace: Vec<Step> = caller.metered().iter().flat_map(of).collect();
        let entry =
            placed.and_then(|placed| Some((placed, snapshot.providers.get(&placed.resolved.provider)?)));
        let Some((Placed { resolved, kept }, entry)) = entry else { return trace };
        let provider = Metered {
            owner: RateOwner::Provider(resolved.provider.clone()),
            rates: Arc::clone(&entry.rates),
        };
        trace.extend(of(&provider));
        let pin = caller.key.subkey.definition.credential.as_deref();
        let is_keeper = |one: &Credential| kept.as_ref().is_none_or(|kept| kept.credential_id == one.id);
        let fits = |one: &&Credential| is_keeper(one) && one.is_usable(&caller.lineage, pin);
        let credentials = entry.credentials.iter().filter(fits).map(|one| {
            let owner = RateOwner::Credential(one.id.clone());
            of(&Metered { owner, rates: Arc::clone(&one.rates) })
        });
        let credentials: Vec<Vec<Step>> = credentials.collect();
        let has_room = |steps: &&Vec<Step>| steps.iter().all(|step| step.allowed);
        let taken = credentials.iter().find(has_room).or(credentials.first());
        trace.extend(taken.cloned().unwrap_or_default());
        trace
    }
}

fn steps(metered: &Metered, tokens: Option<u64>, now: DateTime<Utc>) -> Vec<Step> {
    let owner = match &metered.owner {
        RateOwner::Subkey => String::new(),
        RateOwner::Project(slug) => format!("project:{slug}/"),
        RateOwner::Provider(slug) => format!("provider:{slug}/"),
        RateOwner::Credential(id) => format!("credential:{id}/"),
    };
    let left = metered.rates.standing(now);
    let verdicts = metered.rates.verdicts(tokens.unwrap_or(0), now);
    let step = |((limit, verdict), left): ((RateLimit, Result<(), RateRefusal>), &RateStanding)| {
        let is_unknown = limit.metric == RateMetric::Tokens && tokens.is_none();
        let wanted = match limit.metric {
            RateMetric::Tokens if is_unknown => "an unknown number".to_owned(),
            RateMetric::Tokens => tokens.unwrap_or(0).to_string(),
            RateMetric::Requests | RateMetric::ConcurrentRequests => "1".to_owned(),
        };
        let value = format!("{wanted} of {} left of {limit}", left.remaining);
        Step::new(format!("{owner}rate_limits/{}", limit.name()), value, verdict.is_ok() && !is_unknown)
    };
    verdicts.into_iter().zip(&left).map(step).collect()
}
