//! OpenRouter's `GET /api/v1/models`: a list, USD for one token, request or search, as decimal strings.
//!
//! A price of 0 there stands for "not billed apart", except for `prompt` and `completion`. The prices are the lowest of
//! the providers behind a model, so a request can cost more; what it did cost is in its answer.

use super::class::Class;
use super::draft::{Draft, EACH, PER_TOKEN};
use super::{Import, ImportError, Selection, text};
use crate::base::Decimal;
use crate::base::json::{Kind, Value};
use crate::policy::Operation;

const TOKENS: [(&str, Class); 9] = [
    ("prompt", Class::Input),
    ("completion", Class::Output),
    ("input_cache_read", Class::CachedInput),
    ("input_cache_write", Class::CacheWrite),
    ("input_cache_write_1h", Class::CacheWrite1h),
    ("internal_reasoning", Class::Reasoning),
    ("audio", Class::AudioInput),
    ("audio_output", Class::AudioOutput),
    ("image_token", Class::ImageInput),
];

/// What a model always costs: 0 is free there.
const MAIN: [Class; 2] = [Class::Input, Class::Output];

/// What of an override says when it holds.
const CONDITIONS: [&str; 4] = ["min_prompt_tokens", "utc_start", "utc_end", "utc_days"];

pub(super) fn read(root: Value<'_>, selection: &Selection, import: &mut Import) -> Result<(), ImportError> {
    let shape = |field: String, why| ImportError::Shape { field, why };
    let data = root.get("data").filter(|data| data.kind() == Kind::Array);
    let data = data.ok_or_else(|| shape("/data".to_owned(), "the list of models should stand there"))?;
    for (at, model) in data.items().enumerate() {
        let name = text(model, "id");
        let name =
            name.ok_or_else(|| shape(format!("/data/{at}/id"), "the model's name should stand there"))?;
        let Some(slug) = selection.provider("openrouter") else {
            import.skip("openrouter");
            continue;
        };
        let mut draft = Draft::new(&name, PER_TOKEN);
        read_facts(model, &mut draft);
        match model.get("pricing").filter(|pricing| pricing.kind() == Kind::Object) {
            Some(pricing) => read_prices(pricing, &mut draft),
            None => draft.give_up("it has no price"),
        }
        draft.finish(slug, name, selection, import);
    }
    Ok(())
}

fn read_facts(model: Value<'_>, draft: &mut Draft) {
    let top = model.get("top_provider");
    draft.document.context_window = Draft::count(model, "context_length");
    draft.document.max_output_tokens = top.and_then(|top| Draft::count(top, "max_completion_tokens"));
    let has = |list: Option<Value<'_>>, word: &str| {
        list.is_some_and(|list| list.items().any(|known| known.is_str(word)))
    };
    let architecture = model.get("architecture");
    let kinds = |direction| architecture.and_then(|architecture| architecture.get(direction));
    let (input, output) = (kinds("input_modalities"), kinds("output_modalities"));
    if has(output, "embeddings") {
        draft.serves(Operation::Embeddings);
    } else if ["text", "image", "audio"].iter().any(|kind| has(output, kind)) {
        draft.serves(Operation::Chat);
    }
    let parameters = model.get("supported_parameters");
    let capabilities = [
        ("tools", has(parameters, "tools")),
        ("parallel_tools", has(parameters, "parallel_tool_calls")),
        ("reasoning", has(parameters, "reasoning")),
        ("json_schema", has(parameters, "structured_outputs")),
        ("vision", has(input, "image")),
        ("pdf", has(input, "file")),
        ("audio_in", has(input, "audio")),
        ("audio_out", has(output, "audio")),
        ("image_out", has(output, "image")),
    ];
    for (capability, _) in capabilities.into_iter().filter(|(_, has)| *has) {
        draft.can(capability);
    }
}

fn read_prices(pricing: Value<'_>, draft: &mut Draft) {
    for member in pricing.members() {
        let (field, value) = (member.name(), member.value);
        let name = format!("pricing/{field}");
        if field == "overrides" {
            continue;
        }
        let Some(price) = draft.amount(&name, value) else { continue };
        match class(&field) {
            Some(class) if !price.is_zero() || MAIN.contains(&class) => draft.tokens(class, 0, &name, price),
            _ if price.is_zero() => {}
            Some(_) | None => read_other(&field, &name, price, draft),
        }
    }
    for override_ in pricing.get("overrides").into_iter().flat_map(Value::items) {
        read_override(override_, draft);
    }
}

fn class(field: &str) -> Option<Class> {
    TOKENS.iter().find(|(known, _)| *known == field).map(|(_, class)| *class)
}

fn read_other(field: &str, name: &str, price: Decimal, draft: &mut Draft) {
    let each = draft.each(name, price, EACH);
    // No picture costs so little: a price as small as this is for a token of one.
    let is_for_a_token = price.shifted_up(5) == Some(1);
    match field {
        "request" => draft.document.prices.per_request_usd = each,
        "web_search" => draft.hosted_tool("web_search", name, price, EACH),
        "image" if is_for_a_token => draft.tokens(Class::ImageInput, 0, name, price),
        "image" => draft.document.prices.input_per_image_usd = each,
        "image_output" if price.shifted_up(3) == Some(1) => draft.tokens(Class::ImageOutput, 0, name, price),
        "discount" => draft.approximated(name, "the discount is not taken off"),
        _ => draft.unmapped(name, "there is no price of this kind here"),
    }
}

/// Prices that hold from a size on, or at some hours. Those of some hours hold at all here where they are dearer.
fn read_override(prices: Value<'_>, draft: &mut Draft) {
    let size = prices.get("min_prompt_tokens").filter(|size| !size.is_null());
    let above = match size.map(|size| Decimal::parse(size.raw()).and_then(Decimal::as_whole)) {
        None => 0,
        Some(Some(size)) => size.saturating_sub(1),
        Some(None) => return draft.give_up("pricing/overrides has a size that is no number of tokens"),
    };
    for member in prices.members() {
        let (field, name) = (member.name(), format!("pricing/overrides/{}", member.name()));
        if CONDITIONS.contains(&&*field) {
            continue;
        }
        let Some(price) = draft.amount(&name, member.value) else { continue };
        match class(&field) {
            Some(class) => draft.tokens(class, above, &name, price),
            None if price.is_zero() => {}
            None => draft.unmapped(&name, "there is no price of this kind here"),
        }
    }
    if ["utc_start", "utc_end", "utc_days"]
        .iter()
        .any(|field| prices.get(field).is_some_and(|at| !at.is_null()))
    {
        draft.approximated("pricing/overrides", "prices by the hour hold at all hours where they are dearer");
    }
}
