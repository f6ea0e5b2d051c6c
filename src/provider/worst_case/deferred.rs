//! What of an estimate prices a use that is told long after the request: work that goes on behind its answer.
//!
//! It is kept as it was when the request was admitted, so whatever happens to the catalog meanwhile, the call is settled
//! by what it was admitted by.

use super::{Estimate, Hosted, charged};
use crate::base::NanoUsd;
use crate::provider::model::Prices;
use crate::provider::modifier::{self, Factors};
use crate::provider::price::Unpriced;
use crate::provider::usage::{Reading, Usage};
use serde::{Deserialize, Serialize};

/// By what the use of a call is priced once it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeferredTerms {
    /// The prices that the call was admitted by.
    prices: Prices,
    factors: Factors,
    hosted: Vec<Hosted>,
    picture_fees: NanoUsd,
    /// What was held for it, and charged when it was accepted.
    pub bound: NanoUsd,
    /// A budget holds it: a use above the bound has passed a cap.
    pub is_capped: bool,
}

impl Estimate {
    /// What has to be kept of it, with the prices that it was made by, for a call of which so much is charged at first, and
    /// whether a budget holds that.
    pub fn deferred(&self, prices: &Prices, (bound, is_capped): (NanoUsd, bool)) -> DeferredTerms {
        DeferredTerms {
            prices: prices.clone(),
            factors: self.factors,
            hosted: self.hosted.clone(),
            picture_fees: self.picture_fees,
            bound,
            is_capped,
        }
    }
}

impl DeferredTerms {
    /// What [`Estimate::charge`] would have said, had the use been told with the answer.
    ///
    /// # Errors
    /// Tokens of a direction that has no price.
    pub fn charge(&self, usage: &Usage, reading: &Reading) -> Result<NanoUsd, Unpriced> {
        charged(&self.prices, (self.factors, &self.hosted, self.picture_fees), usage, reading)
    }

    /// What the answer reports that changes the price and has no factor: the field, and its value.
    pub fn without_factor(&self, reading: &Reading) -> Option<(&'static str, String)> {
        modifier::without_factor(&self.prices.multipliers, reading)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{model, terms};
    use super::super::worst_case;
    use super::*;
    use crate::policy::Operation;
    use crate::provider::ask::read;
    use crate::provider::operation::find;
    use crate::provider::{Dialect, HostedCalls, ModelFacts, PriceVersion};
    use serde_json::json;

    #[test]
    fn what_is_told_later_costs_what_it_would_have_cost_at_once() {
        let model = model(ModelFacts {
            context_window: Some(100_000),
            max_output_tokens: Some(4_000),
            ..ModelFacts::default()
        });
        let prices: Prices = serde_json::from_value(json!({
            "input_per_mtok_usd": "1", "cached_input_per_mtok_usd": "0.1", "output_per_mtok_usd": "5",
            "reasoning_per_mtok_usd": "7", "per_request_usd": "0.0001",
            "hosted_tool_per_call_usd": {"web_search": "0.01"}, "multipliers": {"service_tier": {"priority": "2"}},
        }))
        .unwrap();
        let effective_from = "2026-01-01T00:00:00Z".parse().unwrap();
        let version = PriceVersion { prices, effective_from, version: "v".into() };
        let row = find(&http::Method::POST, "/v1/responses", Dialect::OpenAi).unwrap().row;
        let body =
            br#"{"model":"m","input":"x","background":true,"service_tier":"priority","max_tool_calls":3,
            "tools":[{"type":"web_search"}]}"#;
        let ask = read(row, body).unwrap();
        let estimate = worst_case(&model, &version, Operation::Responses, &ask, terms(Some(500))).unwrap();
        let kept = estimate.deferred(&version.prices, (estimate.total, true));
        let kept: DeferredTerms = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
        let usage = Usage { input: 1_000, cached_input: 7, output: 33, reasoning: 20, ..Usage::default() };
        let calls =
            |count| HostedCalls { seen: [("web_search".to_owned(), count)].into(), ..HostedCalls::default() };
        for reading in [
            Reading::default(),
            Reading { service_tier: Some("default".into()), ..Reading::default() },
            Reading { hosted_calls: Some(calls(2)), ..Reading::default() },
        ] {
            let at_once = estimate.charge(&version.prices, &usage, &reading).unwrap();
            assert!(at_once > NanoUsd::ZERO && at_once <= kept.bound);
            assert_eq!(kept.charge(&usage, &reading), Ok(at_once), "{reading:?}");
        }
        let told = |tier: &str| Reading { service_tier: Some(tier.into()), ..Reading::default() };
        assert_eq!(kept.without_factor(&told("priority")), None);
        assert_eq!(kept.without_factor(&told("turbo")), Some(("service_tier", "turbo".to_owned())));
    }
}
