//! LiteLLM's `model_prices_and_context_window.json`: a map by model, USD for one token, second, picture.
//!
//! A key there is a base (`input_cost_per_token`), maybe a size (`_above_200k_tokens`) and maybe a service
//! (`_priority`, `_flex`, `_batches`). Services are factors here: the largest that any class of tokens has.

use super::class::Class;
use super::draft::{Draft, EACH, PER_TOKEN};
use super::{Import, ImportError, Selection, in_pointer, is_true, text};
use crate::base::Decimal;
use crate::base::json::{Kind, Value};
use crate::policy::Operation;
use crate::provider::multiplier::Multiplier;
use std::collections::BTreeMap;

/// Entries that are no models.
const NO_MODELS: [&str; 2] = ["sample_spec", "fallback_generalizations"];

/// Prices of tokens, by their base.
const TOKENS: [(&str, Class); 11] = [
    ("input_cost_per_token", Class::Input),
    ("output_cost_per_token", Class::Output),
    ("cache_read_input_token_cost", Class::CachedInput),
    ("input_cost_per_token_cache_hit", Class::CachedInput),
    ("cache_creation_input_token_cost", Class::CacheWrite),
    ("cache_creation_input_token_cost_above_1hr", Class::CacheWrite1h),
    ("output_cost_per_reasoning_token", Class::Reasoning),
    ("input_cost_per_audio_token", Class::AudioInput),
    ("output_cost_per_audio_token", Class::AudioOutput),
    ("input_cost_per_image_token", Class::ImageInput),
    ("output_cost_per_image_token", Class::ImageOutput),
];

const CAPABILITIES: [(&str, &str); 10] = [
    ("supports_function_calling", "tools"),
    ("supports_parallel_function_calling", "parallel_tools"),
    ("supports_vision", "vision"),
    ("supports_reasoning", "reasoning"),
    ("supports_response_schema", "json_schema"),
    ("supports_pdf_input", "pdf"),
    ("supports_prompt_caching", "prompt_caching"),
    ("supports_web_search", "web_search"),
    ("supports_audio_input", "audio_in"),
    ("supports_audio_output", "audio_out"),
];

/// What changes the price of all tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Service {
    Priority,
    Flex,
    Batch,
}

/// A key of a price of tokens.
struct Key {
    class: Class,
    above: u64,
    service: Option<Service>,
}

impl Key {
    fn parse(key: &str) -> Option<Self> {
        let services =
            [("_priority", Service::Priority), ("_flex", Service::Flex), ("_batches", Service::Batch)];
        let stripped =
            services.iter().find_map(|(end, service)| Some((key.strip_suffix(end)?, Some(*service))));
        let (key, service) = stripped.unwrap_or((key, None));
        let size = |key: &'_ str| {
            let (base, size) = key.strip_suffix("k_tokens")?.rsplit_once("_above_")?;
            Some((base.len(), size.parse::<u64>().ok()?.checked_mul(1_000)?))
        };
        let (base, above) = size(key).unwrap_or((key.len(), 0));
        let (_, class) = TOKENS.iter().find(|(known, _)| *known == &key[..base])?;
        Some(Self { class: *class, above, service })
    }
}

pub(super) fn read(root: Value<'_>, selection: &Selection, import: &mut Import) -> Result<(), ImportError> {
    for member in root.members() {
        let key = member.name();
        if NO_MODELS.contains(&&*key) {
            continue;
        }
        let shape =
            |field: &str, why| ImportError::Shape { field: format!("/{}{field}", in_pointer(&key)), why };
        if member.value.kind() != Kind::Object {
            return Err(shape("", "a model's entry should stand there, a JSON object"));
        }
        let listed = text(member.value, "litellm_provider").ok_or_else(|| {
            shape("/litellm_provider", "the name of the model's provider should stand there")
        })?;
        let Some(slug) = selection.provider(&listed) else {
            import.skip(&listed);
            continue;
        };
        let name = key.strip_prefix(&format!("{listed}/")).unwrap_or(&key).to_owned();
        let mut draft = Draft::new(&key, PER_TOKEN);
        if is_size(&name) {
            draft.give_up("it names a size or quality of a model's pictures, not a model");
        }
        read_facts(member.value, &mut draft);
        read_prices(member.value, &mut draft);
        draft.finish(slug, name, selection, import);
    }
    Ok(())
}

/// `1024-x-1024/dall-e-2`, `hd/1024-x-1024/dall-e-3`.
fn is_size(name: &str) -> bool {
    name.split('/').rev().skip(1).any(|segment| segment.contains("-x-"))
}

fn read_facts(entry: Value<'_>, draft: &mut Draft) {
    match text(entry, "mode").as_deref() {
        Some("chat") => draft.serves(Operation::Chat),
        Some("responses") => draft.serves(Operation::Responses),
        Some("completion") => draft.serves(Operation::Completions),
        Some("embedding") => draft.serves(Operation::Embeddings),
        Some("image_generation" | "image_edit") => draft.serves(Operation::Images),
        Some("audio_transcription" | "audio_speech") => draft.serves(Operation::Audio),
        Some("moderation") => draft.serves(Operation::Moderations),
        Some(other) => draft.give_up(format!("its mode {other:?} is no operation here")),
        None => draft.give_up("it has no mode, so what it serves is not known"),
    }
    for endpoint in entry.get("supported_endpoints").into_iter().flat_map(Value::items) {
        match endpoint.as_str().as_deref() {
            Some("/v1/chat/completions") => draft.serves(Operation::Chat),
            Some("/v1/responses") => draft.serves(Operation::Responses),
            Some("/v1/completions") => draft.serves(Operation::Completions),
            Some("/v1/embeddings") => draft.serves(Operation::Embeddings),
            Some("/v1/images/generations" | "/v1/images/edits") => draft.serves(Operation::Images),
            Some("/v1/audio/transcriptions" | "/v1/audio/speech" | "/v1/audio/translations") => {
                draft.serves(Operation::Audio);
            }
            // Others are ways to the same, or nothing that is served here.
            Some(_) | None => {}
        }
    }
    for (field, capability) in CAPABILITIES {
        if is_true(entry, field) {
            draft.can(capability);
        }
    }
    let mut made = entry.get("supported_output_modalities").into_iter().flat_map(Value::items);
    if made.any(|kind| kind.is_str("image")) {
        draft.can("image_out");
    }
    draft.document.context_window = Draft::count(entry, "max_input_tokens");
    draft.document.max_output_tokens = Draft::count(entry, "max_output_tokens");
}

/// Whether a key says what something costs.
fn is_price(key: &str) -> bool {
    key.contains("cost")
        || key.contains("pricing")
        || key.contains("multiplier")
        || key == "provider_specific_entry"
}

fn read_prices(entry: Value<'_>, draft: &mut Draft) {
    let mut services = Vec::new();
    for member in entry.members() {
        let (field, value) = (member.name(), member.value);
        if !is_price(&field) {
            continue;
        }
        match Key::parse(&field) {
            Some(Key { class, above, service: None }) => {
                if let Some(price) = draft.amount(&field, value) {
                    draft.tokens(class, above, &field, price);
                }
            }
            Some(Key { class, above, service: Some(service) }) => {
                if let Some(price) = draft.amount(&field, value) {
                    services.push((service, class, above, field.into_owned(), price));
                }
            }
            None => read_other(&field, value, draft),
        }
    }
    factors(services, draft);
}

fn read_other(field: &str, value: Value<'_>, draft: &mut Draft) {
    match field {
        "search_context_cost_per_query" => return search(field, value, draft),
        "tiered_pricing" => return tiers(field, value, draft),
        "provider_specific_entry" => return specific(field, value, draft),
        _ if value.kind() == Kind::Object || value.kind() == Kind::Array => {
            return draft.unmapped(field, "there is no price of this kind here");
        }
        _ => {}
    }
    let Some(price) = draft.amount(field, value) else { return };
    let slot = |draft: &mut Draft, shift| draft.each(field, price, shift);
    match field {
        // Of hosts for a region, which answers do not tell from the others: beside the list price it would be taken for
        // what every request may come to.
        _ if field.starts_with("regional_processing_uplift") => draft.unmapped(
            field,
            "the hosts of a region are a provider of their own; set the prices of its models with what they cost there",
        ),
        // As much as nothing.
        _ if price.is_zero() => {}
        "input_cost_per_image" => draft.document.prices.input_per_image_usd = slot(draft, EACH),
        "output_cost_per_image" => draft.document.prices.output_per_image_usd = slot(draft, EACH),
        "input_cost_per_request" => draft.document.prices.per_request_usd = slot(draft, EACH),
        "input_cost_per_character" => draft.document.prices.input_per_character_usd = slot(draft, EACH),
        "input_cost_per_second" | "input_cost_per_audio_per_second" => {
            let price = slot(draft, EACH);
            let known = &mut draft.document.prices.input_per_second_usd;
            *known = price.max(*known);
        }
        "code_interpreter_cost_per_session" => draft.hosted_tool("code_interpreter", field, price, EACH),
        "file_search_cost_per_1k_calls" => draft.hosted_tool("file_search", field, price, EACH - 3),
        _ => draft.unmapped(field, "there is no price of this kind here"),
    }
}

/// `{"search_context_size_low": 0.01, ...}`: which size a search has is not told, so the dearest.
fn search(field: &str, value: Value<'_>, draft: &mut Draft) {
    let mut prices = Vec::new();
    for size in value.members() {
        let price = draft.amount(field, size.value);
        prices.extend(price);
    }
    if prices.windows(2).any(|pair| pair[0] != pair[1]) {
        draft.approximated(field, "it differs by the size of the search; the dearest is taken");
    }
    for price in prices.into_iter().filter(|price| !price.is_zero()) {
        draft.hosted_tool("web_search", field, price, EACH);
    }
}

/// `[{"range": [0, 32000], "input_cost_per_token": ...}, ...]`
fn tiers(field: &str, value: Value<'_>, draft: &mut Draft) {
    for tier in value.items() {
        let low = tier.get("range").and_then(|range| range.items().next());
        let above = low.and_then(|low| Decimal::parse(low.raw())?.as_whole());
        let Some(above) = above else {
            draft.give_up(format!("{field} has a tier without a size"));
            continue;
        };
        for member in tier.members().filter(|member| !member.key.is_str("range")) {
            let name = format!("{field}/{}", member.name());
            match Key::parse(&member.name()) {
                Some(Key { class, above: 0, service: None }) => {
                    if let Some(price) = draft.amount(&name, member.value) {
                        draft.tokens(class, above, &name, price);
                    }
                }
                Some(_) | None => draft.unmapped(&name, "there is no price of this kind here"),
            }
        }
    }
}

/// `{"fast": 6.0, "us": 1.1}`: factors by Anthropic's speed and region.
fn specific(field: &str, value: Value<'_>, draft: &mut Draft) {
    for member in value.members() {
        let name = format!("{field}/{}", member.name());
        let Some(number) = draft.amount(&name, member.value) else { continue };
        let factor = number.shifted_up(9).and_then(Multiplier::from_billionths);
        let multipliers = &mut draft.document.prices.multipliers;
        match (&*member.name(), factor) {
            ("fast", Some(factor)) => _ = multipliers.speed.insert("fast".to_owned(), factor),
            ("us", Some(factor)) => _ = multipliers.region.insert("us".to_owned(), factor),
            _ => draft.unmapped(&name, "it is not known what it stands for"),
        }
    }
}

/// Makes factors of the prices of services: the largest of all classes.
fn factors(services: Vec<(Service, Class, u64, String, Decimal)>, draft: &mut Draft) {
    let mut found: BTreeMap<Service, Vec<(String, i64)>> = BTreeMap::new();
    for (service, class, above, field, price) in services {
        match draft.listed(class, above).and_then(|base| price.billionths_of(base)) {
            Some(ratio) => found.entry(service).or_default().push((field, ratio)),
            None => draft.unmapped(&field, "there is no price that it is a multiple of"),
        }
    }
    for (service, ratios) in found {
        let Some((field, largest)) = ratios.iter().max_by_key(|(_, ratio)| *ratio).cloned() else { continue };
        if ratios.iter().any(|(_, ratio)| *ratio != largest) {
            draft.approximated(&field, "its factor differs by class; the largest is taken for all");
        }
        let Some(factor) = Multiplier::from_billionths(largest) else {
            draft.unmapped(&field, "a factor is above 0 and up to 1000");
            continue;
        };
        let multipliers = &mut draft.document.prices.multipliers;
        match service {
            Service::Priority => _ = multipliers.service_tier.insert("priority".to_owned(), factor),
            Service::Flex => _ = multipliers.service_tier.insert("flex".to_owned(), factor),
            Service::Batch => multipliers.batch = Some(factor),
        }
    }
}
