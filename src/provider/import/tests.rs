use super::class::Class;
use super::*;
use crate::base::NanoUsd;
use crate::provider::model::{ContextTier, Prices};
use crate::provider::{Factors, Usage};
use proptest::prelude::*;
use std::fmt::Write as _;

const LITELLM: &str = include_str!("testdata/litellm.json");
const MODELS_DEV: &str = include_str!("testdata/models_dev.json");
const OPENROUTER: &str = include_str!("testdata/openrouter.json");

fn selection() -> Selection {
    let slugs = ["openai", "anthropic", "gemini", "qwen", "openrouter"];
    Selection { registered: slugs.iter().map(|slug| slug.parse().unwrap()).collect(), ..Selection::default() }
}

fn imported(source: Source, text: &str) -> Import {
    read(source, text, &selection()).unwrap()
}

/// An import in few lines.
fn told(import: &Import) -> String {
    let mut text = String::new();
    for Imported { provider, name, document } in &import.models {
        let mut value = serde_json::to_value(document).unwrap();
        let prices = value["prices"].take();
        let object = value.as_object_mut().unwrap();
        object.retain(|_, value| !value.is_null() && *value != serde_json::json!([]) && *value != false);
        writeln!(text, "{provider}/{name} {value}\n  {prices}").unwrap();
    }
    for (what, remarks) in [("approximated", &import.approximated), ("unmapped", &import.unmapped)] {
        for Remark { model, field, why } in remarks {
            writeln!(text, "{what} {model} {}: {why}", field.as_deref().unwrap_or("-")).unwrap();
        }
    }
    writeln!(text, "skipped {:?}", import.skipped).unwrap();
    text
}

fn model<'a>(import: &'a Import, name: &str) -> &'a ModelDocument {
    &import.models.iter().find(|model| model.name == name).unwrap().document
}

#[test]
fn litellms_map_is_read() {
    insta::assert_snapshot!(told(&imported(Source::Litellm, LITELLM)), @r#"
    anthropic/cache-and-search {"capabilities":["reasoning"],"context_window":200000,"max_output_tokens":64000,"operations":["chat"]}
      {"cache_write_1h_per_mtok_usd":"6.00","cache_write_per_mtok_usd":"3.75","cached_input_per_mtok_usd":"0.30","context_tiers":[{"above_tokens":200000,"cache_write_1h_per_mtok_usd":"12.00","input_per_mtok_usd":"6.00"}],"hosted_tool_per_call_usd":{"web_search":"0.025"},"input_per_mtok_usd":"3.00","multipliers":{"region":{"us":"1.1"},"speed":{"fast":"6"}},"output_per_mtok_usd":"15.00"}
    gemini/sound-and-pictures {"operations":["chat"]}
      {"audio_input_per_mtok_usd":"1.00","image_output_per_mtok_usd":"30.00","input_per_image_usd":"0.0011","input_per_mtok_usd":"0.30","output_per_mtok_usd":"2.50","reasoning_per_mtok_usd":"3.50"}
    openai/plain {"capabilities":["tools","vision"],"context_window":128000,"max_output_tokens":16384,"operations":["chat","responses"]}
      {"cached_input_per_mtok_usd":"0.075","input_per_mtok_usd":"0.15","output_per_mtok_usd":"0.60"}
    openai/speak {"operations":["audio"]}
      {"input_per_character_usd":"0.000015"}
    openai/text-embedding {"context_window":8191,"operations":["embeddings"]}
      {"input_per_mtok_usd":"0.02","output_per_mtok_usd":"0.00"}
    openai/tiers-and-services {"context_window":1050000,"max_output_tokens":128000,"operations":["chat"]}
      {"cached_input_per_mtok_usd":"0.50","context_tiers":[{"above_tokens":272000,"input_per_mtok_usd":"10.00","output_per_mtok_usd":"45.00"}],"input_per_mtok_usd":"5.00","multipliers":{"batch":"0.5","service_tier":{"flex":"0.5","priority":"2.1"}},"output_per_mtok_usd":"30.00"}
    openai/transcribe {"operations":["audio"]}
      {"input_per_second_usd":"0.000283334"}
    qwen/by-size {"operations":["chat"]}
      {"context_tiers":[{"above_tokens":32000,"input_per_mtok_usd":"2.40","output_per_mtok_usd":"12.00"}],"input_per_mtok_usd":"1.20","output_per_mtok_usd":"6.00"}
    approximated tiers-and-services output_cost_per_token_priority: its factor differs by class; the largest is taken for all
    approximated anthropic/cache-and-search search_context_cost_per_query: it differs by the size of the search; the dearest is taken
    approximated gemini/sound-and-pictures cache_creation_input_token_cost: 0 beside a price of 0.30 USD is taken for "not billed apart", not for free
    unmapped tiers-and-services regional_processing_uplift_multiplier_eu: the hosts of a region are a provider of their own; set the prices of its models with what they cost there
    unmapped anthropic/cache-and-search provider_specific_entry/mystery: it is not known what it stands for
    unmapped gemini/sound-and-pictures cache_read_input_audio_token_cost: there is no price of this kind here
    unmapped speak output_cost_per_second: there is no price of this kind here
    unmapped hd/1024-x-1024/pictures -: it names a size or quality of a model's pictures, not a model
    unmapped live -: its mode "realtime" is no operation here
    unmapped no-price -: it has no price
    unmapped odd-price -: input_cost_per_token is not a price: "free"
    skipped {"azure": 1, "vertex_ai-language-models": 1}
    "#);
}

#[test]
fn models_devs_list_is_read() {
    insta::assert_snapshot!(told(&imported(Source::ModelsDev, MODELS_DEV)), @r#"
    gemini/flash {"capabilities":["image_out"],"context_window":1048576,"max_output_tokens":65536,"operations":["chat"]}
      {"input_per_mtok_usd":"0.30"}
    openai/older-tiers {"context_window":1000000,"max_output_tokens":65536,"operations":["chat"]}
      {"context_tiers":[{"above_tokens":200000,"input_per_mtok_usd":"2.50","output_per_mtok_usd":"15.00"}],"input_per_mtok_usd":"0.000000001","output_per_mtok_usd":"10.00"}
    openai/plain {"capabilities":["json_schema","pdf","reasoning","tools","vision"],"context_window":272000,"max_output_tokens":128000,"operations":["chat"]}
      {"cached_input_per_mtok_usd":"0.125","input_per_mtok_usd":"1.25","output_per_mtok_usd":"10.00"}
    openai/text-embedding {"context_window":8192,"max_output_tokens":1536,"operations":["embeddings"]}
      {"input_per_mtok_usd":"0.02","output_per_mtok_usd":"0.00"}
    openai/tiers {"capabilities":["audio_in","audio_out"],"context_window":1000000,"operations":["chat"]}
      {"audio_input_per_mtok_usd":"3.10","audio_output_per_mtok_usd":"12.00","context_tiers":[{"above_tokens":200000,"input_per_mtok_usd":"2.50","output_per_mtok_usd":"15.00"}],"input_per_mtok_usd":"1.25","output_per_mtok_usd":"10.00"}
    approximated openai/plain cost/reasoning: 0 beside a price of 10.00 USD is taken for "not billed apart", not for free
    unmapped openai/plain experimental/modes/fast/cost: modes have no prices here
    unmapped openai/older-tiers cost/video: there is no price of this kind here
    unmapped openai/film -: it serves no operation that is known here
    unmapped openai/no-price -: it has no price
    unmapped google/flash output: the model makes pictures, and what they cost is not listed: its output is left without a price
    skipped {"elsewhere": 2}
    "#);
}

#[test]
fn openrouters_list_is_read() {
    insta::assert_snapshot!(told(&imported(Source::Openrouter, OPENROUTER)), @r#"
    openrouter/deepseek/by-the-hour {"context_window":64000,"operations":["chat"]}
      {"input_per_mtok_usd":"0.40","output_per_mtok_usd":"0.80"}
    openrouter/free/gift:free {"context_window":8192,"operations":["chat"]}
      {"input_per_mtok_usd":"0.00","output_per_mtok_usd":"0.00"}
    openrouter/google/dear {"capabilities":["audio_in","reasoning"],"context_window":1048576,"operations":["chat"]}
      {"audio_input_per_mtok_usd":"1.30","cache_write_per_mtok_usd":"0.375","context_tiers":[{"above_tokens":199999,"input_per_mtok_usd":"2.50","output_per_mtok_usd":"15.00"}],"hosted_tool_per_call_usd":{"web_search":"0.014"},"image_input_per_mtok_usd":"1.25","input_per_mtok_usd":"1.25","output_per_mtok_usd":"10.00","reasoning_per_mtok_usd":"10.00"}
    openrouter/openai/plain {"capabilities":["json_schema","pdf","tools","vision"],"context_window":128000,"max_output_tokens":16384,"operations":["chat"]}
      {"cached_input_per_mtok_usd":"0.075","input_per_image_usd":"0.000217","input_per_mtok_usd":"0.15","output_per_mtok_usd":"0.60"}
    approximated google/dear pricing/discount: the discount is not taken off
    approximated deepseek/by-the-hour pricing/overrides: prices by the hour hold at all hours where they are dearer
    unmapped google/dear pricing/input_audio_cache: there is no price of this kind here
    unmapped openrouter/auto -: pricing/prompt is negative: the price is not fixed
    skipped {}
    "#);
}

#[test]
fn whose_list_it_is_is_seen_in_it() {
    for (text, source) in [
        (LITELLM, Some(Source::Litellm)),
        (MODELS_DEV, Some(Source::ModelsDev)),
        (OPENROUTER, Some(Source::Openrouter)),
        ("{}", None),
        ("[1]", None),
        (r#"{"a": {"b": 1}}"#, None),
    ] {
        assert_eq!(Source::guess(text), Ok(source));
    }
}

#[test]
fn a_provider_is_one_of_ours_by_its_name_or_as_the_caller_says() {
    let mut selection = selection();
    selection.named.insert("azure".to_owned(), "my-azure".parse().unwrap());
    selection.only = vec!["my-azure/*".to_owned(), "openai/plain".to_owned()];
    let import = read(Source::Litellm, LITELLM, &selection).unwrap();
    let names: Vec<_> =
        import.models.iter().map(|model| format!("{}/{}", model.provider, model.name)).collect();
    assert_eq!(names, ["my-azure/plain", "openai/plain"]);
    assert_eq!(
        (import.unmapped.len(), import.approximated.len()),
        (0, 0),
        "what was not asked for is not told"
    );
}

#[test]
fn a_broken_list_is_refused_with_the_place() {
    let error = |source, text: &str| read(source, text, &selection()).unwrap_err().to_string();
    for (text, place) in [
        ("{\n  \"a\": {\"x\": 1,}\n}", "line 2, column 16"),
        ("", "line 1, column 1"),
        ("{\"a\": {}, \"a\": {}}", "line 1, column 11"),
        ("[]", ": a JSON object"),
        ("{\"gpt/4\": 5}", "/gpt~14: a model's entry"),
        ("{\"m\": {\"mode\": \"chat\"}}", "/m/litellm_provider: "),
    ] {
        let error = error(Source::Litellm, text);
        assert!(error.contains(place), "{text}: {error}");
    }
    assert!(error(Source::ModelsDev, "{\"openai\": {}}").contains("/openai/models: "));
    assert!(error(Source::Openrouter, "{\"data\": [{\"name\": \"x\"}]}").contains("/data/0/id: "));
}

#[test]
fn a_model_that_makes_pictures_at_a_price_that_is_not_listed_has_none_for_its_output() {
    let models_dev = |cost: &str| {
        let text = format!(
            r#"{{"openai": {{"models": {{"m": {{"modalities": {{"output": ["text", "image"]}}, "cost": {cost}}}}}}}}}"#
        );
        imported(Source::ModelsDev, &text)
    };
    let tiers = r#"{"input": 1, "output": 2, "context_over_200k": {"input": 2, "output": 4}}"#;
    let litellm = |more: &str| {
        let text = format!(
            r#"{{"m": {{"litellm_provider": "openai", "mode": "chat", "supported_output_modalities": ["text", "image"],
                "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6{more}}}}}"#
        );
        imported(Source::Litellm, &text)
    };
    let openrouter = |more: &str| {
        let text = format!(
            r#"{{"data": [{{"id": "m", "architecture": {{"output_modalities": ["image", "text"]}},
                "pricing": {{"prompt": "0.000001", "completion": "0.000002"{more}}}}}]}}"#
        );
        let named = BTreeMap::from([("openrouter".to_owned(), "openai".parse().unwrap())]);
        read(Source::Openrouter, &text, &Selection { named, ..selection() }).unwrap()
    };
    for import in [models_dev(tiers), litellm(""), openrouter("")] {
        let prices = &model(&import, "m").prices;
        assert_eq!((prices.input_per_mtok_usd.is_some(), prices.output_per_mtok_usd), (true, None));
        assert!(prices.context_tiers.iter().all(|tier| tier.output_per_mtok_usd.is_none()));
        assert!(import.unmapped.iter().any(|remark| remark.field.as_deref() == Some("output")));
    }
    for import in
        [litellm(r#", "output_cost_per_image_token": 3e-5"#), litellm(r#", "output_cost_per_image": 0.04"#)]
    {
        assert_eq!(model(&import, "m").prices.output_per_mtok_usd, Some("2".parse().unwrap()));
    }
}

#[test]
fn of_two_entries_for_one_model_the_dearer_holds_whatever_their_order() {
    let entry = |key: &str, price: &str| {
        format!(
            r#""{key}": {{"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": {price}, "output_cost_per_token": 1e-6}}"#
        )
    };
    for (one, other) in [("1e-6", "2e-6"), ("2e-6", "1e-6")] {
        let text = format!("{{{}, {}}}", entry("m", one), entry("openai/m", other));
        let import = imported(Source::Litellm, &text);
        assert_eq!(import.models.len(), 1);
        assert_eq!(model(&import, "m").prices.input_per_mtok_usd, Some("2".parse().unwrap()));
        assert_eq!(import.approximated.len(), 1);
    }
}

#[test]
fn of_two_entries_that_are_dear_in_different_ways_each_price_is_the_dearer() {
    let plain = r#"{"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2e-6, "output_cost_per_token": 3e-6}"#;
    let tiered = r#"{"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-6, "output_cost_per_token": 4e-6,
        "input_cost_per_token_above_200k_tokens": 5e-6, "cache_read_input_token_cost": 1e-7}"#;
    for (one, other) in [(plain, tiered), (tiered, plain)] {
        let import = imported(Source::Litellm, &format!(r#"{{"m": {one}, "openai/m": {other}}}"#));
        assert_eq!(
            serde_json::to_value(&model(&import, "m").prices).unwrap(),
            serde_json::json!({
                "input_per_mtok_usd": "2.00", "cached_input_per_mtok_usd": "2.00", "output_per_mtok_usd": "4.00",
                "context_tiers": [{"above_tokens": 200_000, "input_per_mtok_usd": "5.00",
                    "cached_input_per_mtok_usd": "5.00", "output_per_mtok_usd": "4.00"}],
            })
        );
    }
}

fn document(prices: &serde_json::Value) -> ModelDocument {
    serde_json::from_value(serde_json::json!({"operations": ["chat"], "prices": prices})).unwrap()
}

#[test]
fn what_a_list_says_nothing_of_stays_unless_that_would_be_too_cheap() {
    let known = ModelDocument {
        aliases: vec!["fast".to_owned()],
        context_window: Some(1_000),
        max_output_tokens: Some(100),
        max_reasoning_tokens: Some(5),
        bound_covers_reasoning: true,
        ..document(&serde_json::json!({
            "input_per_mtok_usd": "3", "cached_input_per_mtok_usd": "0.3", "cache_write_1h_per_mtok_usd": "6",
            "output_per_mtok_usd": "15", "per_request_usd": "0.01", "hosted_tool_per_call_usd": {"web_search": "0.01"},
            "context_tiers": [{"above_tokens": 200_000, "input_per_mtok_usd": "3.5"}], "multipliers": {"batch": "0.5"},
        }))
    };
    let prices = serde_json::json!({
        "input_per_mtok_usd": "4", "output_per_mtok_usd": "10", "hosted_tool_per_call_usd": {"mcp": "0.02"},
    });
    let listed =
        ModelDocument { context_window: Some(2_000), max_output_tokens: Some(50), ..document(&prices) };
    let after = merged(&known, &listed);
    let wanted = ModelDocument {
        aliases: vec!["fast".to_owned()],
        context_window: Some(2_000),
        max_output_tokens: Some(100),
        max_reasoning_tokens: Some(5),
        bound_covers_reasoning: true,
        ..document(&serde_json::json!({
            "input_per_mtok_usd": "4", "cache_write_1h_per_mtok_usd": "6", "output_per_mtok_usd": "10",
            "per_request_usd": "0.01", "hosted_tool_per_call_usd": {"web_search": "0.01", "mcp": "0.02"},
            "context_tiers": [{"above_tokens": 200_000, "input_per_mtok_usd": "4"}], "multipliers": {"batch": "0.5"},
        }))
    };
    assert_eq!(after, wanted);
    let told: Vec<_> = changes(&known, &after)
        .iter()
        .map(|change| format!("{} {} -> {}", change.field, change.before, change.after))
        .collect();
    assert_eq!(
        told,
        [
            "/context_window 1000 -> 2000",
            r#"/prices/cached_input_per_mtok_usd "0.30" -> null"#,
            r#"/prices/context_tiers/0/input_per_mtok_usd "3.50" -> "4.00""#,
            r#"/prices/hosted_tool_per_call_usd/mcp null -> "0.02""#,
            r#"/prices/input_per_mtok_usd "3.00" -> "4.00""#,
            r#"/prices/output_per_mtok_usd "15.00" -> "10.00""#,
        ]
    );
    assert_eq!(changes(&after, &merged(&after, &listed)), [], "the second time nothing changes");
}

#[test]
fn a_tier_keeps_what_the_list_has_no_word_for_and_stays_where_the_list_has_none() {
    let known = document(&serde_json::json!({
        "input_per_mtok_usd": "0.1", "cache_write_1h_per_mtok_usd": "0.2", "output_per_mtok_usd": "1",
        "context_tiers": [
            {"above_tokens": 100_000, "input_per_mtok_usd": "0.5", "cached_input_per_mtok_usd": "0.01", "cache_write_1h_per_mtok_usd": "1"},
            {"above_tokens": 500_000, "input_per_mtok_usd": "0.4", "cached_input_per_mtok_usd": "0.7"}],
    }));
    let text = r#"{"openai": {"models": {"m": {"modalities": {"output": ["text"]}, "cost": {"input": 0.1, "output": 1,
        "tiers": [{"tier": {"type": "context", "size": 100000}, "input": 0.5, "cache_read": 0.05, "cache_write": 0.625, "output": 2.5}]}}}}}"#;
    let import = imported(Source::ModelsDev, text);
    let after = merged(&known, model(&import, "m"));
    assert_eq!(
        serde_json::to_value(&after.prices).unwrap(),
        serde_json::json!({
            "input_per_mtok_usd": "0.10", "cache_write_1h_per_mtok_usd": "0.20", "output_per_mtok_usd": "1.00",
            "context_tiers": [
                {"above_tokens": 100_000, "input_per_mtok_usd": "0.50", "cached_input_per_mtok_usd": "0.05",
                    "cache_write_per_mtok_usd": "0.625", "cache_write_1h_per_mtok_usd": "1.00", "output_per_mtok_usd": "2.50"},
                {"above_tokens": 500_000, "input_per_mtok_usd": "0.50", "cached_input_per_mtok_usd": "0.70"}],
        })
    );
}

#[test]
fn a_price_of_nothing_makes_no_model_free_that_has_a_price() {
    let known = document(&serde_json::json!({
        "input_per_mtok_usd": "3", "output_per_mtok_usd": "15", "hosted_tool_per_call_usd": {"web_search": "0.01"},
    }));
    let text = r#"{"m": {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 0, "output_cost_per_token": 1e-5,
        "search_context_cost_per_query": {"search_context_size_low": 0, "search_context_size_high": 0}}}"#;
    let import = imported(Source::Litellm, text);
    let listed = model(&import, "m");
    let after = merged(&known, listed);
    assert_eq!(after.prices.input_per_mtok_usd, Some("3".parse().unwrap()));
    assert_eq!(after.prices.output_per_mtok_usd, Some("10".parse().unwrap()));
    assert_eq!(after.prices.hosted_tool_per_call_usd, known.prices.hosted_tool_per_call_usd);
    assert_eq!(zeros_over_prices(&known, listed).into_iter().collect::<Vec<_>>(), ["input"]);
    assert!(zeros_over_prices(&after, &known).is_empty());
    let free = document(&serde_json::json!({"input_per_mtok_usd": "0", "output_per_mtok_usd": "0"}));
    assert_eq!(merged(&free, &free).prices, free.prices, "what was free stays free");
}

#[test]
fn a_zero_that_is_not_believed_does_not_take_what_its_class_costs_in_tiers() {
    let known = document(&serde_json::json!({"output_per_mtok_usd": "1"}));
    let listed = document(&serde_json::json!({
        "reasoning_per_mtok_usd": "0",
        "context_tiers": [
            {"above_tokens": 1_000_000, "output_per_mtok_usd": "8"},
            {"above_tokens": 3_000_000, "output_per_mtok_usd": "1"},
        ],
    }));
    let after = merged(&known, &listed);
    let usage = Usage { output: 1_000_000, reasoning: 1_000_000, ..usage([4, 0, 0, 0, 0, 0]) };
    let free_input = |document: &ModelDocument| Prices {
        input_per_mtok_usd: Some(NanoUsd::ZERO),
        ..document.prices.clone()
    };
    let cost = |document: &ModelDocument| crate::provider::cost(&free_input(document), Factors::LIST, &usage);
    assert_eq!(cost(&listed).unwrap(), "8".parse().unwrap());
    assert_eq!(cost(&after).unwrap(), cost(&listed).unwrap());
    assert_eq!(changes(&after, &merged(&after, &listed)), []);
}

/// Prices of tokens with up to two tiers, any of which may be absent.
fn token_prices() -> impl Strategy<Value = Prices> {
    let tier = |above_tokens| {
        classes().prop_map(move |prices| ContextTier {
            above_tokens,
            input_per_mtok_usd: prices.input_per_mtok_usd,
            cached_input_per_mtok_usd: prices.cached_input_per_mtok_usd,
            cache_write_per_mtok_usd: prices.cache_write_per_mtok_usd,
            cache_write_1h_per_mtok_usd: prices.cache_write_1h_per_mtok_usd,
            output_per_mtok_usd: prices.output_per_mtok_usd,
            reasoning_per_mtok_usd: prices.reasoning_per_mtok_usd,
            audio_input_per_mtok_usd: prices.audio_input_per_mtok_usd,
            audio_output_per_mtok_usd: None,
        })
    };
    let tiers = (prop::option::of(tier(1_000_000)), prop::option::of(tier(3_000_000)));
    (classes(), tiers).prop_map(|(prices, (low, high))| Prices {
        context_tiers: low.into_iter().chain(high).collect(),
        ..prices
    })
}

/// Prices of tokens, any of which may be absent.
fn classes() -> impl Strategy<Value = Prices> {
    let price = || prop::option::of((0..20_i64).prop_map(NanoUsd::from_nano));
    (price(), price(), price(), price(), price(), price(), price()).prop_map(
        |(input, cached, write, write_1h, output, reasoning, audio)| Prices {
            input_per_mtok_usd: input,
            cached_input_per_mtok_usd: cached,
            cache_write_per_mtok_usd: write,
            cache_write_1h_per_mtok_usd: write_1h,
            output_per_mtok_usd: output,
            reasoning_per_mtok_usd: reasoning,
            audio_input_per_mtok_usd: audio,
            ..Prices::default()
        },
    )
}

/// Millions of tokens, by class.
fn usage(tokens: [u64; 6]) -> Usage {
    let [input, cached_input, cache_write, cache_write_1h, output, audio_input] = tokens;
    Usage {
        input: input * 1_000_000,
        cached_input: cached_input * 1_000_000,
        cache_write: cache_write * 1_000_000,
        cache_write_1h: cache_write_1h * 1_000_000,
        output: output * 1_000_000,
        reasoning: output * 500_000,
        audio_input: audio_input * 1_000_000,
        ..Usage::default()
    }
}

proptest! {
    /// A price of a token is never below what the list says, and less than a nano-USD above, by million.
    #[test]
    fn a_price_is_never_rounded_below(digits in 1..1_000_000_u64, places in 1..20_u32) {
        let text = format!(r#"{{"m": {{"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": {digits}e-{places}}}}}"#);
        let import = imported(Source::Litellm, &text);
        let exact = |power: u32| 10_u128.pow(power);
        match import.models.first() {
            Some(model) => {
                let nano = model.document.prices.input_per_mtok_usd.unwrap().as_nano();
                let (left, right) = (u128::from(nano.unsigned_abs()) * exact(places), u128::from(digits) * exact(15));
                prop_assert!(left >= right && left - right < exact(places));
            }
            None => prop_assert!(u128::from(digits) * exact(15) / exact(places) > u128::from(u64::MAX >> 1)),
        }
    }

    /// Of two entries for one model neither is dearer than what is made of both.
    #[test]
    fn what_is_made_of_two_entries_is_as_dear_as_either(one in token_prices(), other in token_prices(), tokens in prop::array::uniform6(0..5_u64)) {
        use crate::provider::cost;
        let of = |prices: &Prices| ModelDocument { prices: prices.clone(), ..document(&serde_json::json!({})) };
        let both = merge::dearer(&of(&one), &of(&other));
        for prices in [&one, &other] {
            if let Ok(by_list) = cost(prices, Factors::LIST, &usage(tokens)) {
                prop_assert!(cost(&both.prices, Factors::LIST, &usage(tokens)).unwrap() >= by_list);
            }
        }
    }

    /// No list makes a request cheaper than the list itself has it, whatever was here; and the second time it changes nothing.
    #[test]
    fn merging_is_never_cheaper_than_the_list_and_settles(known in token_prices(), listed in token_prices(), tokens in prop::array::uniform6(0..5_u64)) {
        use crate::provider::cost;
        let (known, listed) = (
            ModelDocument { prices: known, ..document(&serde_json::json!({})) },
            ModelDocument { prices: listed, ..document(&serde_json::json!({})) },
        );
        let after = merged(&known, &listed);
        let usage = usage(tokens);
        if let Ok(by_list) = cost(&listed.prices, Factors::LIST, &usage) {
            prop_assert!(cost(&after.prices, Factors::LIST, &usage).unwrap() >= by_list);
        }
        prop_assert_eq!(changes(&after, &merged(&after, &listed)), []);
        // What a class costs here by itself, and the list says nothing of, is not cheaper afterwards.
        for level in [0, 1_000_000, 3_000_000_u64] {
            let own = |prices: &Prices, class: Class| {
                let tier = prices.context_tiers.iter().find(|tier| tier.above_tokens == level);
                match level {
                    0 => *class.in_prices(&mut prices.clone()),
                    _ => tier.and_then(|tier| *class.in_tier(&mut tier.clone())?),
                }
            };
            for class in Class::ALL {
                let size = if level == 0 { 0 } else { level + 1 };
                if let (Some(old), None) = (own(&known.prices, class), own(&listed.prices, class)) {
                    prop_assert!(class.cost(&after.prices, size) >= Some(old), "{class:?} above {level}");
                }
            }
        }
    }
}
