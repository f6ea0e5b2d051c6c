//! What is known beforehand of a request that has no worst case. Only a key without a cap may make one: it is charged by
//! what its answer tells, so everything that has a price has to be known when it comes.

use super::{Estimate, Hosted, Terms, worst_case};
use crate::base::NanoUsd;
use crate::policy::Operation;
use crate::provider::ask::{Ask, Media};
use crate::provider::model::{Model, PriceVersion, Prices};
use crate::provider::modifier::Factors;

/// What a request is charged by for which [`worst_case`] knows no price or no bound. Its total is what there is without
/// that, or nothing; it bounds nothing.
pub fn unheld(
    model: &Model,
    version: &PriceVersion,
    operation: Operation,
    ask: &Ask,
    terms: Terms<'_>,
) -> Estimate {
    let plain = Ask { unbounded_prices: Vec::new(), ..ask.clone() };
    worst_case(model, version, operation, &plain, terms).unwrap_or_else(|_| {
        let prices = &version.prices;
        let characters = match &ask.media {
            Some(Media::Speech { characters }) if prices.input_per_character_usd.is_some() => *characters,
            Some(Media::Speech { .. } | Media::Pictures(_) | Media::Hearing) | None => 0,
        };
        Estimate {
            candidates: ask.output.candidates.max(1),
            picture_fees: prices.input_per_image_usd.unwrap_or_default().times(ask.input.images),
            hosted: hosted_tools(prices, ask),
            factors: Factors::reserved(&prices.multipliers, ask, terms.service_tiers)
                .unwrap_or(Factors::LIST),
            characters,
            total: NanoUsd::ZERO,
            ..Estimate::free(version)
        }
    })
}

/// The hosted tools that have a price. Of calls that nothing bounds those are charged that the answer tells.
fn hosted_tools(prices: &Prices, ask: &Ask) -> Vec<Hosted> {
    let mut tools: Vec<Hosted> = Vec::new();
    for tool in &ask.hosted_tools {
        let Some(per_call) = prices.hosted_tool_per_call_usd.get(&tool.kind).copied() else { continue };
        let calls_max = tool.max_uses.unwrap_or(0);
        match tools.iter_mut().find(|known| known.kind == tool.kind) {
            Some(known) => known.calls_max = known.calls_max.saturating_add(calls_max),
            None => tools.push(Hosted { kind: tool.kind.clone(), per_call, calls_max }),
        }
    }
    tools
}

#[cfg(test)]
mod tests {
    use super::super::tests::{model, terms};
    use super::*;
    use crate::provider::ask::{HostedTool, InputMeasure};
    use crate::provider::model::ModelFacts;
    use crate::provider::price::tests::usd;
    use crate::provider::usage::HostedCalls;
    use crate::provider::{Reading, Usage};

    fn version() -> PriceVersion {
        let prices = Prices {
            input_per_mtok_usd: usd("1"),
            output_per_mtok_usd: usd("5"),
            input_per_image_usd: usd("0.001"),
            hosted_tool_per_call_usd: [("web_search".to_owned(), usd("0.01").unwrap())].into(),
            ..Prices::default()
        };
        PriceVersion { prices, effective_from: "2026-01-01T00:00:00Z".parse().unwrap(), version: "v".into() }
    }

    fn of(facts: ModelFacts, ask: &Ask) -> Estimate {
        unheld(&model(facts), &version(), Operation::Chat, ask, terms(None))
    }

    #[test]
    fn what_has_no_bound_is_charged_by_what_is_told() {
        let tools = ["web_search", "web_search", "mcp"];
        let ask = Ask {
            hosted_tools: tools.map(|kind| HostedTool { kind: kind.into(), max_uses: None }).into(),
            input: InputMeasure { images: 2, ..InputMeasure::default() },
            service_tier: Some("turbo".into()),
            ..Ask::default()
        };
        let estimate = of(ModelFacts::default(), &ask);
        assert_eq!((estimate.total, estimate.candidates), (NanoUsd::ZERO, 1));
        let usage = Usage { input: 10, output: 3, ..Usage::default() };
        let charged = |hosted_calls| {
            let reading = Reading { hosted_calls, ..Reading::default() };
            estimate.charge(&version().prices, &usage, &reading).unwrap().as_nano()
        };
        let tokens_and_pictures = 10 * 1_000 + 3 * 5_000 + 2 * 1_000_000;
        assert_eq!(charged(None), tokens_and_pictures);
        let calls = HostedCalls { reported: [("web_search".to_owned(), 3)].into(), ..HostedCalls::default() };
        assert_eq!(charged(Some(calls)), tokens_and_pictures + 30_000_000);
        let untold = estimate.without_usage(&model(ModelFacts::default()), &Reading::default());
        assert_eq!(untold.cost, NanoUsd::ZERO);
    }

    #[test]
    fn what_only_an_unpriced_field_keeps_from_a_bound_has_the_rest_of_it() {
        let facts =
            ModelFacts { context_window: Some(1_000), max_output_tokens: Some(10), ..ModelFacts::default() };
        let managed = Ask { unbounded_prices: vec!["context_management".into()], ..Ask::default() };
        assert!(
            worst_case(&model(facts.clone()), &version(), Operation::Chat, &managed, terms(None)).is_err()
        );
        assert_eq!(of(facts.clone(), &managed), of(facts, &Ask::default()));
    }
}
