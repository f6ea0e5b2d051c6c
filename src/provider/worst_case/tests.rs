//! The worst case is never too low, and no larger than what is documented.

use super::super::ask::{Bound, HostedTool, InputMeasure, OutputAsk};
use super::super::model::{ContextTier, ModelFacts};
use super::super::price::tests::usd;
use super::super::usage::HostedCalls;
use super::bound::{MESSAGE_TOKENS, REQUEST_TOKENS, TOOL_TOKENS, TOOLS_TOKENS};
use super::*;
use crate::policy::Feature;
use proptest::prelude::*;

static NO_TIERS: BTreeSet<String> = BTreeSet::new();

/// A key with this default, and nothing else to say.
pub(super) fn terms(default_max_output_tokens: Option<u64>) -> Terms<'static> {
    Terms { default_max_output_tokens, service_tiers: &NO_TIERS }
}

pub(super) fn model(facts: ModelFacts) -> Model {
    Model::new("p".parse().unwrap(), "m".into(), facts)
}

pub(super) fn facts() -> ModelFacts {
    ModelFacts {
        context_window: Some(100_000),
        max_output_tokens: Some(4_000),
        max_image_tokens: Some(85),
        ..ModelFacts::default()
    }
}

pub(super) fn prices() -> Prices {
    Prices {
        input_per_mtok_usd: usd("1"),
        cached_input_per_mtok_usd: usd("0.1"),
        cache_write_per_mtok_usd: usd("1.25"),
        cache_write_1h_per_mtok_usd: usd("2"),
        audio_input_per_mtok_usd: usd("10"),
        output_per_mtok_usd: usd("5"),
        audio_output_per_mtok_usd: usd("20"),
        ..Prices::default()
    }
}

pub(super) fn version(prices: Prices) -> PriceVersion {
    PriceVersion { prices, effective_from: "2026-01-01T00:00:00Z".parse().unwrap(), version: "v".into() }
}

fn bounded(tokens: u64) -> OutputAsk {
    OutputAsk { bounds: vec![Bound { field: "max_tokens", tokens, span: 0..1 }], ..OutputAsk::default() }
}

pub(super) fn ask(text_bytes: u64, tokens: u64) -> Ask {
    Ask {
        output: bounded(tokens),
        input: InputMeasure { text_bytes, messages: 1, ..InputMeasure::default() },
        ..Ask::default()
    }
}

pub(super) fn chat(facts: ModelFacts, ask: &Ask) -> Result<Estimate, Unpriced> {
    worst_case(&model(facts), &version(prices()), Operation::Chat, ask, terms(None))
}

fn what(result: Result<Estimate, Unpriced>) -> String {
    match result {
        Err(Unpriced::Feature { what } | Unpriced::Unbounded { what }) => what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn text_is_bounded_by_its_bytes_at_the_dearest_class_it_can_be() {
    let estimate = chat(facts(), &ask(1_000, 100)).unwrap();
    let input = 1_000 + REQUEST_TOKENS + MESSAGE_TOKENS;
    assert_eq!((estimate.input_tokens, estimate.output_tokens), (input, 100));
    assert_eq!(estimate.total.as_nano(), i64::try_from(input * 1_250 + 100 * 5_000).unwrap());
    let hour = Ask { input: InputMeasure { cache_1h: true, ..ask(1_000, 100).input }, ..ask(1_000, 100) };
    assert_eq!(chat(facts(), &hour).unwrap().fixed.as_nano(), i64::try_from(input * 2_000).unwrap());
    let sound = Ask { features: [Feature::Audio].into_iter().collect(), ..ask(1_000, 100) };
    let sound = chat(facts(), &sound).unwrap();
    assert_eq!(sound.total.as_nano(), i64::try_from(input * 10_000 + 100 * 20_000).unwrap());
}

#[test]
fn pictures_and_tools_add_what_is_documented_and_nothing_passes_the_window() {
    let plain = chat(facts(), &ask(0, 1)).unwrap().input_tokens;
    let with = |input| Ask { input, ..ask(0, 1) };
    let measure = ask(0, 1).input;
    let pictures = with(InputMeasure { images: 2, ..measure });
    assert_eq!(chat(facts(), &pictures).unwrap().input_tokens, plain + 170);
    let tools = with(InputMeasure { tools: 2, ..measure });
    assert_eq!(chat(facts(), &tools).unwrap().input_tokens, plain + TOOLS_TOKENS + 2 * TOOL_TOKENS);
    let long = with(InputMeasure { text_bytes: 1_000_000, ..measure });
    assert_eq!(chat(facts(), &long).unwrap().input_tokens, 100_000);
    let no_window = ModelFacts { context_window: None, ..facts() };
    assert_eq!(chat(no_window.clone(), &long).unwrap().input_tokens, plain + 1_000_000);
    assert_eq!(chat(no_window, &pictures).unwrap().input_tokens, plain + 170);
}

#[test]
fn what_is_not_in_the_body_counts_as_the_window_and_without_one_is_unbounded() {
    let beyond = Ask { input: InputMeasure { beyond_body: true, ..ask(1, 1).input }, ..ask(1, 1) };
    assert_eq!(chat(facts(), &beyond).unwrap().input_tokens, 100_000);
    let pictures = Ask { input: InputMeasure { images: 1, ..ask(1, 1).input }, ..ask(1, 1) };
    let no_ceiling = ModelFacts { max_image_tokens: None, ..facts() };
    assert_eq!(chat(no_ceiling.clone(), &pictures).unwrap().input_tokens, 100_000);
    let neither = ModelFacts { context_window: None, ..no_ceiling };
    assert!(what(chat(neither.clone(), &pictures)).contains("pictures"));
    assert!(what(chat(neither, &beyond)).contains("not in the body"));
}

#[test]
fn a_beta_that_widens_the_window_reserves_for_it_at_the_price_that_holds_there() {
    let wide = |text_bytes| Ask {
        betas: vec!["context-1m-2025-08-07".into()],
        input: InputMeasure { text_bytes, messages: 1, ..InputMeasure::default() },
        ..ask(1, 1)
    };
    assert_eq!(chat(facts(), &ask(3_000_000, 1)).unwrap().input_tokens, 100_000);
    assert_eq!(
        chat(facts(), &wide(90_000)),
        chat(facts(), &ask(90_000, 1)),
        "within the window it changes nothing"
    );
    let beyond = what(chat(facts(), &wide(3_000_000)));
    assert!(beyond.contains("above 100000 tokens"), "no price is known there: {beyond}");
    let tier = |above_tokens| ContextTier {
        above_tokens,
        input_per_mtok_usd: usd("2"),
        output_per_mtok_usd: usd("8"),
        ..ContextTier::default()
    };
    let tiered = |above| Prices { context_tiers: vec![tier(above)], ..prices() };
    let of = |above, ask: &Ask| {
        worst_case(&model(facts()), &version(tiered(above)), Operation::Chat, ask, terms(None))
    };
    let estimate = of(100_000, &wide(3_000_000)).unwrap();
    assert_eq!(estimate.input_tokens, 1_000_000);
    assert!(estimate.fixed > of(100_000, &ask(3_000_000, 1)).unwrap().fixed);
    assert!(
        of(50_000, &wide(3_000_000)).is_err(),
        "a tier below the window says nothing of what lies beyond it"
    );
    let known = ModelFacts { context_window: Some(1_000_000), ..facts() };
    assert_eq!(chat(known, &wide(3_000_000)).unwrap().input_tokens, 1_000_000, "the catalog knows as much");
    let kept = Ask { input: InputMeasure { beyond_body: true, ..ask(1, 1).input }, ..wide(1) };
    assert!(of(100_000, &kept).unwrap().input_tokens == 1_000_000 && chat(facts(), &kept).is_err());
}

#[test]
fn a_beta_raises_the_ceiling_and_a_budget_for_thinking_counts_where_it_is_the_larger() {
    let output = |betas: &[&str], tokens: Option<u64>, floor| {
        let bounds = tokens.map_or_else(OutputAsk::default, bounded);
        let betas = betas.iter().map(|beta| (*beta).to_owned()).collect();
        chat(facts(), &Ask { betas, output: OutputAsk { floor, ..bounds }, ..ask(1, 1) }).unwrap()
    };
    assert_eq!(output(&[], Some(200_000), 0).output_tokens, 4_000);
    let large = "output-128k-2025-02-19";
    assert_eq!(output(&[large], Some(200_000), 0).output_tokens, 128_000);
    assert_eq!(output(&[large], None, 0).output_tokens, 128_000);
    assert_eq!(output(&[large], Some(7), 0).output_tokens, 7);
    let thinks = output(&[], Some(1_000), 3_000);
    assert_eq!((thinks.output_tokens, thinks.output_bound), (3_000, 1_000));
    assert_eq!(thinks.clone().with_output_bound(1).output_tokens, 3_000, "no clamp goes below it");
    assert_eq!(thinks.clamp(thinks.total.saturating_sub(NanoUsd::from_nano(1))), None);
    assert_eq!(output(&[], Some(1_000), 9_000).output_tokens, 4_000, "nor does it pass the ceiling");
    assert_eq!(output(&[], Some(1_000), 999).output_tokens, 1_000);
}

#[test]
fn each_text_of_an_array_may_fill_the_window() {
    let many = Ask {
        input: InputMeasure { text_bytes: 900_000, messages: 3, ..InputMeasure::default() },
        ..Ask::default()
    };
    let of = |operation| {
        worst_case(&model(facts()), &version(prices()), operation, &many, terms(Some(1))).unwrap()
    };
    assert_eq!(of(Operation::Embeddings).input_tokens, 300_000);
    assert_eq!(of(Operation::Completions).input_tokens, 300_000);
    assert_eq!(of(Operation::Chat).input_tokens, 100_000);
    assert_eq!(of(Operation::Embeddings).output_tokens, 0);
}

#[test]
fn hosted_tools_need_a_bound_and_a_price_and_read_the_window_each_time() {
    let tool = |max_uses| Ask {
        hosted_tools: vec![HostedTool { kind: "web_search".into(), max_uses }],
        ..ask(10, 1)
    };
    assert!(what(chat(facts(), &tool(None))).contains("web_search"));
    assert!(what(chat(facts(), &tool(Some(3)))).contains("web_search"));
    let fee = [("web_search".to_owned(), "0.01".parse().unwrap())].into_iter().collect();
    let priced = version(Prices { hosted_tool_per_call_usd: fee, ..prices() });
    let of = |ask| worst_case(&model(facts()), &priced, Operation::Chat, &ask, terms(None));
    let estimate = of(tool(Some(3))).unwrap();
    assert_eq!((estimate.input_tokens, estimate.hosted[0].calls_max), (400_000, 3));
    let tokens = 400_000 * 10_000 + 5_000;
    assert_eq!(
        estimate.total.as_nano(),
        30_000_000 + tokens,
        "what a tool brings can be of the dearest class"
    );
    assert!(matches!(of(tool(None)), Err(Unpriced::Unbounded { .. })));
    let usage = Usage { input: 1, ..Usage::default() };
    let charged = |hosted_calls| {
        let reading = Reading { hosted_calls, ..Reading::default() };
        estimate.charge(&priced.prices, &usage, &reading).unwrap().as_nano()
    };
    assert_eq!(charged(None), 30_000_000 + 1_000, "all of them, where none are told");
    let told =
        |calls| HostedCalls { reported: [("web_search".to_owned(), calls)].into(), ..HostedCalls::default() };
    assert_eq!(charged(Some(told(2))), 20_000_000 + 1_000);
    assert_eq!(charged(Some(told(9))), 90_000_000 + 1_000, "also above what was reserved");
    assert_eq!(charged(Some(HostedCalls::default())), 1_000);
}

#[test]
fn output_is_candidates_times_the_largest_bound_else_the_default_else_the_ceiling() {
    let tokens = |facts, ask: &Ask, default| {
        worst_case(&model(facts), &version(prices()), Operation::Chat, ask, terms(default))
            .map(|e| e.output_tokens)
    };
    let two = OutputAsk {
        candidates: 3,
        bounds: [bounded(10).bounds, bounded(20).bounds].concat(),
        ..OutputAsk::default()
    };
    assert_eq!(tokens(facts(), &Ask { output: two, ..ask(1, 1) }, Some(7)), Ok(60));
    let none = Ask { output: OutputAsk::default(), ..ask(1, 1) };
    assert_eq!(tokens(facts(), &none, Some(7)), Ok(7));
    assert_eq!(tokens(facts(), &none, None), Ok(4_000));
    assert_eq!(tokens(facts(), &ask(1, 1_000_000), None), Ok(4_000), "no more than the ceiling comes out");
    let unknown = ModelFacts { max_output_tokens: None, ..facts() };
    assert_eq!(tokens(unknown.clone(), &ask(1, 1_000_000), None), Ok(1_000_000));
    assert!(matches!(tokens(unknown, &none, None), Err(Unpriced::Unbounded { .. })));
}

#[test]
fn reasoning_that_the_bound_does_not_cover_comes_on_top() {
    let thinks = ModelFacts { capabilities: vec!["reasoning".into()], ..facts() };
    let tokens = |facts| chat(facts, &ask(1, 10)).map(|estimate| estimate.output_tokens);
    assert_eq!(tokens(ModelFacts { max_reasoning_tokens: Some(500), ..thinks.clone() }), Ok(510));
    assert_eq!(tokens(thinks.clone()), Ok(100_010), "the window, where nothing better is known");
    assert_eq!(tokens(ModelFacts { bound_covers_reasoning: true, ..thinks.clone() }), Ok(10));
    assert!(tokens(ModelFacts { context_window: None, ..thinks }).is_err());
}

#[test]
fn what_changes_the_price_unknown_how_is_refused_by_name() {
    for tier in ["auto", "default", "standard", "standard_only"] {
        let asked = Ask { service_tier: Some(tier.into()), ..ask(1, 1) };
        assert_eq!(chat(facts(), &asked), chat(facts(), &ask(1, 1)), "{tier}");
    }
    for tier in ["priority", "flex", "scale", "Default", ""] {
        assert_eq!(
            what(chat(facts(), &Ask { service_tier: Some(tier.into()), ..ask(1, 1) })),
            "service_tier"
        );
    }
    let other = Ask { unbounded_prices: vec!["prediction".into()], ..ask(1, 1) };
    assert_eq!(what(chat(facts(), &other)), "prediction");
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(what(chat(facts(), &Ask { speed: text("fast"), ..ask(1, 1) })), "speed");
    assert_eq!(what(chat(facts(), &Ask { region: text("us"), ..ask(1, 1) })), "inference_geo");
    let sound = Ask { output: OutputAsk { sound: true, ..bounded(1) }, ..ask(1, 1) };
    assert!(chat(facts(), &sound).is_ok(), "sound has its price");
    let silent = version(Prices { audio_output_per_mtok_usd: None, ..prices() });
    assert_eq!(
        what(worst_case(&model(facts()), &silent, Operation::Chat, &sound, terms(None))),
        "modalities"
    );
    for operation in [Operation::Images, Operation::Audio, Operation::Files, Operation::Batches] {
        let result = worst_case(&model(facts()), &version(prices()), operation, &ask(1, 1), terms(None));
        assert!(what(result).contains(operation.as_str()));
    }
}

#[test]
fn a_modified_request_reserves_and_costs_its_factor_on_every_class() {
    let multipliers = serde_json::json!({"service_tier": {"priority": "2"}, "speed": {"fast": "6"}});
    let priced = version(Prices { multipliers: serde_json::from_value(multipliers).unwrap(), ..prices() });
    let of = |ask: &Ask| worst_case(&model(facts()), &priced, Operation::Chat, ask, terms(None)).unwrap();
    let plain = of(&ask(1_000, 100));
    let tier = Ask { service_tier: Some("priority".into()), ..ask(1_000, 100) };
    let both = Ask { speed: Some("fast".into()), ..tier.clone() };
    assert_eq!(of(&tier).total, plain.total.times(2));
    assert_eq!(of(&both).total, plain.total.times(12));
    let usage = Usage { input: 3, cached_input: 5, cache_write_1h: 7, output: 11, ..Usage::default() };
    let list = plain.charge(&priced.prices, &usage, &Reading::default()).unwrap();
    let reading = Reading { speed: Some("standard".into()), ..Reading::default() };
    assert_eq!(of(&both).charge(&priced.prices, &usage, &reading), Ok(list.times(2)), "as reported");
    assert_eq!(of(&both).charge(&priced.prices, &usage, &Reading::default()), Ok(list.times(12)));
}

#[test]
fn pictures_cost_their_price_by_the_piece_where_they_can_be_counted() {
    let each = version(Prices { input_per_image_usd: usd("0.01"), ..prices() });
    let of = |version: &PriceVersion, input| {
        let features = [Feature::Images].into_iter().collect();
        let ask = Ask { features, input, ..ask(10, 1) };
        worst_case(&model(facts()), version, Operation::Chat, &ask, terms(None))
    };
    let two = InputMeasure { images: 2, ..ask(10, 1).input };
    let priced = of(&each, two).unwrap();
    assert_eq!(
        priced.total,
        of(&version(prices()), two).unwrap().total.saturating_add("0.02".parse().unwrap())
    );
    assert_eq!(
        priced.charge(&each.prices, &Usage::default(), &Reading::default()).unwrap().to_string(),
        "0.02"
    );
    let film = InputMeasure { beyond_body: true, uncounted_pictures: true, ..two };
    assert!(
        what(of(&each, film)).contains("pictures in the input"),
        "though pictures are there that are counted"
    );
    let drawn = version(Prices { output_per_image_usd: usd("0.04"), ..prices() });
    assert!(what(of(&drawn, two)).contains("pictures in the output"));
    let by_token = version(Prices { image_output_per_mtok_usd: usd("30"), ..prices() });
    let drawn = of(&by_token, two).unwrap();
    assert_eq!(drawn.output_per_mtok, "30".parse().unwrap(), "a model that draws may draw unasked");
}

#[test]
fn a_model_without_a_price_is_unpriced_and_counting_is_free_all_the_same() {
    let unpriced = version(Prices::default());
    let of = |operation, version| worst_case(&model(facts()), version, operation, &ask(1, 1), terms(None));
    assert_eq!(of(Operation::Chat, &unpriced), Err(Unpriced::Model { direction: "input" }));
    let input_only = version(Prices { input_per_mtok_usd: usd("1"), ..Prices::default() });
    assert_eq!(of(Operation::Chat, &input_only), Err(Unpriced::Model { direction: "output" }));
    assert!(of(Operation::Embeddings, &input_only).is_ok());
    assert_eq!(of(Operation::CountTokens, &unpriced).unwrap().total, NanoUsd::ZERO);
    let free =
        version(Prices { input_per_mtok_usd: usd("0"), output_per_mtok_usd: usd("0"), ..Prices::default() });
    assert_eq!(of(Operation::Chat, &free).unwrap().total, NanoUsd::ZERO);
}

#[test]
fn an_answer_without_usage_costs_what_was_seen_and_a_reasoners_the_whole_bound() {
    let estimate = chat(facts(), &ask(100, 1_000)).unwrap();
    let seen = |bytes| Reading { visible_output_bytes: bytes, ..Reading::default() };
    let few = estimate.without_usage(&model(facts()), &seen(10));
    assert_eq!((few.usage.input, few.usage.output), (estimate.input_tokens, 10 + UNSEEN_TOKENS));
    assert!(few.cost < estimate.total);
    assert_eq!(estimate.without_usage(&model(facts()), &seen(1_000_000)).cost, estimate.total);
    let thinks = model(ModelFacts { capabilities: vec!["reasoning".into()], ..facts() });
    assert_eq!(estimate.without_usage(&thinks, &seen(0)).cost, estimate.total);
    let cut_short = Reading { is_cut_short: true, ..seen(0) };
    assert_eq!(estimate.without_usage(&model(facts()), &cut_short).cost, estimate.total);
}

#[test]
fn output_that_shows_no_byte_costs_the_whole_bound_where_its_usage_is_not_told() {
    let bounded = || ask(100, 1_000);
    let sound = Ask { output: OutputAsk { sound: true, ..bounded().output }, ..bounded() };
    let withheld = Ask { output: OutputAsk { is_withheld: true, ..bounded().output }, ..bounded() };
    let spoken = Ask { features: [Feature::Audio].into_iter().collect(), ..bounded() };
    for (ask, is_unseen) in [(bounded(), false), (sound, true), (withheld, true), (spoken, true)] {
        let estimate = chat(facts(), &ask).unwrap();
        let guessed = estimate.without_usage(&model(facts()), &Reading::default()).cost;
        assert_eq!(guessed == estimate.total, is_unseen, "{ask:?}");
    }
}

prop_compose! {
    fn any_price()(price in prop_oneof![
        Just(None), (0..100_000_u64).prop_map(Some), (0..50_000_u64).prop_map(|milli| Some(milli * 1_000_000))
    ]) -> Option<NanoUsd> {
        price.map(|nano| NanoUsd::from_nano(i64::try_from(nano).unwrap()))
    }
}

prop_compose! {
    fn any_tier()(above_tokens in 0..2_000_u64, a in any_price(), b in any_price(), c in any_price(), d in any_price())
        -> ContextTier
    {
        ContextTier { above_tokens, input_per_mtok_usd: a, cached_input_per_mtok_usd: b, output_per_mtok_usd: c,
            reasoning_per_mtok_usd: d, ..ContextTier::default() }
    }
}

prop_compose! {
    fn any_prices()(p in prop::array::uniform8(any_price()), mut tiers in prop::collection::vec(any_tier(), 0..3))
        -> Prices
    {
        tiers.sort_by_key(|tier| tier.above_tokens);
        tiers.dedup_by_key(|tier| tier.above_tokens);
        Prices {
            input_per_mtok_usd: p[0], cached_input_per_mtok_usd: p[1], cache_write_per_mtok_usd: p[2],
            cache_write_1h_per_mtok_usd: p[3], audio_input_per_mtok_usd: p[4], output_per_mtok_usd: p[5],
            reasoning_per_mtok_usd: p[6], audio_output_per_mtok_usd: p[7], context_tiers: tiers,
            ..Prices::default()
        }
    }
}

prop_compose! {
    fn any_ask()(text_bytes in 0..2_000_u64, tokens in 0..3_000_u64, candidates in 1..4_u64, cache_1h: bool,
        audio: bool) -> Ask
    {
        Ask {
            output: OutputAsk { candidates, ..bounded(tokens) },
            input: InputMeasure { text_bytes, messages: 1, cache_1h, ..InputMeasure::default() },
            features: audio.then_some(Feature::Audio).into_iter().collect(),
            ..Ask::default()
        }
    }
}

/// Shares out `whole` by weights; the sum is at most `whole`.
fn share<const N: usize>(whole: u64, weights: [u64; N]) -> [u64; N] {
    let sum: u64 = weights.iter().sum::<u64>().max(1);
    weights.map(|weight| whole * weight / sum)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// The promise: no usage within the bounds costs more than was reserved.
    #[test]
    fn no_usage_within_the_bounds_costs_more(
        prices in any_prices(), ask in any_ask(), part in 0..=4_u64,
        mut inputs in prop::array::uniform5(0..100_u64), mut outputs in prop::array::uniform3(0..100_u64),
    ) {
        let audio = ask.features.contains(Feature::Audio);
        if !ask.input.cache_1h { inputs[3] = 0; }
        if !audio { (inputs[4], outputs[2]) = (0, 0); }
        let version = version(prices);
        let Ok(estimate) = worst_case(&model(facts()), &version, Operation::Chat, &ask, terms(None)) else { return Ok(()) };
        let input = share(estimate.input_tokens * part / 4, inputs);
        let output = share(estimate.output_tokens, outputs);
        let usage = Usage {
            input: input[0], cached_input: input[1], cache_write: input[2], cache_write_1h: input[3],
            audio_input: input[4], output: output[0] + output[1], reasoning: output[1], audio_output: output[2],
            ..Usage::default()
        };
        let charged = estimate.charge(&version.prices, &usage, &Reading::default()).unwrap();
        prop_assert!(charged <= estimate.total, "{charged} > {}", estimate.total);
    }

    /// A clamped bound fits, and one token more does not.
    #[test]
    fn a_clamped_bound_is_the_largest_that_fits(prices in any_prices(), ask in any_ask(), part in 0..=100_u64) {
        let Ok(estimate) = worst_case(&model(facts()), &version(prices), Operation::Chat, &ask, terms(None)) else {
            return Ok(())
        };
        let available = NanoUsd::from_nano(estimate.total.as_nano() / 100 * i64::try_from(part).unwrap());
        match estimate.clamp(available) {
            Some(bound) => {
                prop_assert!(bound <= estimate.output_bound);
                prop_assert!(bound > 0 || estimate.output_bound == 0, "an answer of no tokens is no answer");
                prop_assert!(estimate.clone().with_output_bound(bound).total <= available);
                prop_assert!(bound == estimate.output_bound
                    || estimate.clone().with_output_bound(bound + 1).total > available);
            }
            None => prop_assert!(estimate.with_output_bound(1).total > available),
        }
    }
}
