//! models.dev's `api.json`: providers by id, each with its models by id, USD for a million tokens.

use super::class::Class;
use super::draft::{Draft, PER_MILLION};
use super::{Import, ImportError, Selection, in_pointer, is_true};
use crate::base::Decimal;
use crate::base::json::{Kind, Value};
use crate::policy::Operation;

const PRICES: [(&str, Class); 7] = [
    ("input", Class::Input),
    ("output", Class::Output),
    ("cache_read", Class::CachedInput),
    ("cache_write", Class::CacheWrite),
    ("reasoning", Class::Reasoning),
    ("input_audio", Class::AudioInput),
    ("output_audio", Class::AudioOutput),
];

pub(super) fn read(root: Value<'_>, selection: &Selection, import: &mut Import) -> Result<(), ImportError> {
    for provider in root.members() {
        let listed = provider.name();
        let field = |field: &str| format!("/{}{field}", in_pointer(&listed));
        let models = provider.value.get("models").filter(|models| models.kind() == Kind::Object);
        let models = models.ok_or_else(|| ImportError::Shape {
            field: field("/models"),
            why: "the provider's models should stand there, a JSON object",
        })?;
        let slug = selection.provider(&listed);
        for model in models.members() {
            let name = model.name();
            if model.value.kind() != Kind::Object {
                let field = field(&format!("/models/{}", in_pointer(&name)));
                return Err(ImportError::Shape { field, why: "a model should stand there, a JSON object" });
            }
            let Some(slug) = &slug else {
                import.skip(&listed);
                continue;
            };
            let mut draft = Draft::new(&format!("{listed}/{name}"), PER_MILLION);
            read_facts(&name, model.value, &mut draft);
            read_prices(model.value, &mut draft);
            draft.finish(slug.clone(), name.into_owned(), selection, import);
        }
    }
    Ok(())
}

fn read_facts(name: &str, model: Value<'_>, draft: &mut Draft) {
    let limit = |field| model.get("limit").and_then(|limit| Draft::count(limit, field));
    draft.document.context_window = limit("input").or_else(|| limit("context"));
    draft.document.max_output_tokens = limit("output");
    let has = |direction: &str, kind: &str| {
        let kinds = model.get("modalities").and_then(|modalities| modalities.get(direction));
        kinds.is_some_and(|kinds| kinds.items().any(|known| known.is_str(kind)))
    };
    let made = [("text", Operation::Chat), ("image", Operation::Images), ("audio", Operation::Audio)];
    // The list does not say what serves vectors; the names do.
    let is_embedding = name.contains("embed").then_some(Operation::Embeddings);
    let first_made =
        || made.into_iter().find(|(kind, _)| has("output", kind)).map(|(_, operation)| operation);
    if let Some(operation) = is_embedding.or_else(first_made) {
        draft.serves(operation);
    }
    let capabilities = [
        ("tools", is_true(model, "tool_call")),
        ("reasoning", is_true(model, "reasoning")),
        ("json_schema", is_true(model, "structured_output")),
        ("vision", has("input", "image")),
        ("pdf", has("input", "pdf")),
        ("audio_in", has("input", "audio")),
        ("audio_out", has("output", "audio")),
        ("image_out", has("output", "image")),
    ];
    for (capability, _) in capabilities.into_iter().filter(|(_, has)| *has) {
        draft.can(capability);
    }
}

fn read_prices(model: Value<'_>, draft: &mut Draft) {
    let Some(cost) = model.get("cost") else { return };
    // Newer lists have both, and say the same in both.
    let has_tiers = cost.get("tiers").is_some_and(|tiers| !tiers.is_empty());
    for member in cost.members() {
        match &*member.name() {
            "tiers" => member.value.items().for_each(|tier| read_tier(tier, draft)),
            "context_over_200k" if has_tiers => {}
            "context_over_200k" => read_classes("cost/context_over_200k", member.value, 200_000, draft),
            field => read_class("cost", field, member.value, 0, draft),
        }
    }
    let special = model.get("experimental").and_then(|experimental| experimental.get("modes"));
    for mode in special.into_iter().flat_map(Value::members) {
        if mode.value.get("cost").is_some() {
            draft.unmapped(&format!("experimental/modes/{}/cost", mode.name()), "modes have no prices here");
        }
    }
}

fn read_tier(tier: Value<'_>, draft: &mut Draft) {
    let kind = tier.get("tier");
    let is_context = kind.and_then(|kind| kind.get("type")).is_none_or(|kind| kind.is_str("context"));
    let size = kind.and_then(|kind| kind.get("size")).and_then(|size| Decimal::parse(size.raw())?.as_whole());
    match size.filter(|_| is_context) {
        Some(above) => read_classes("cost/tiers", tier, above, draft),
        None => draft.give_up("cost/tiers has a tier that is none of the context's size"),
    }
}

fn read_classes(at: &str, prices: Value<'_>, above: u64, draft: &mut Draft) {
    for member in prices.members().filter(|member| !member.key.is_str("tier")) {
        read_class(at, &member.name(), member.value, above, draft);
    }
}

fn read_class(at: &str, field: &str, value: Value<'_>, above: u64, draft: &mut Draft) {
    let name = format!("{at}/{field}");
    let Some((_, class)) = PRICES.iter().find(|(known, _)| *known == field) else {
        return draft.unmapped(&name, "there is no price of this kind here");
    };
    if let Some(price) = draft.amount(&name, value) {
        draft.tokens(*class, above, &name, price);
    }
}
