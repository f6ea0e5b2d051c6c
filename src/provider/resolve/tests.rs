//! Every sentence on model names that users rely on, as a table.

use super::super::catalog::Override;
use super::*;

const OPENAI: &[Dialect] = &[Dialect::OpenAi];
const BOTH: &[Dialect] = &[Dialect::OpenAi, Dialect::Anthropic];

/// What a case says; the rest is as in [`Case::new`].
struct Case {
    providers: Vec<(&'static str, &'static [Dialect], bool)>,
    models: Vec<&'static str>,
    order: Vec<&'static str>,
    dialect: Dialect,
    operation: Operation,
    fixed: Option<&'static str>,
}

impl Case {
    /// Every provider has a credential, every model is allowed, an `OpenAI` client chats.
    fn new() -> Self {
        Self {
            providers: vec![
                ("anthropic", BOTH, true),
                ("deepseek", BOTH, true),
                ("openai", OPENAI, true),
                ("openrouter", OPENAI, true),
                ("qwen", OPENAI, true),
            ],
            models: vec!["*"],
            order: vec![],
            dialect: Dialect::OpenAi,
            operation: Operation::Chat,
            fixed: None,
        }
    }

    fn only(providers: &[(&'static str, &'static [Dialect], bool)]) -> Self {
        Self { providers: providers.to_vec(), ..Self::new() }
    }

    fn with<T>(&self, then: impl FnOnce(&Choice<'_>) -> T) -> T {
        let alias = Override {
            provider: "openai".parse().unwrap(),
            model: "gpt-4o-mini".into(),
            document: serde_json::from_str(r#"{"operations": ["chat"], "aliases": ["fast"]}"#).unwrap(),
            version: 1,
            set_at: "2026-11-22T00:00:00Z".parse().unwrap(),
        };
        let catalog = Catalog::built_in().unwrap().with(&[alias]).unwrap();
        let slugs: Vec<Slug> = self.providers.iter().map(|(slug, ..)| slug.parse().unwrap()).collect();
        let providers: Vec<_> = std::iter::zip(&slugs, &self.providers)
            .map(|(slug, (_, dialects, usable))| Candidate { slug, dialects, usable: *usable })
            .collect();
        let order: Vec<Slug> = self.order.iter().map(|slug| slug.parse().unwrap()).collect();
        let allowed = |name: &str| {
            self.models.iter().any(|model| match model.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name == *model,
            })
        };
        then(&Choice {
            catalog: &catalog,
            providers: &providers,
            dialect: self.dialect,
            operation: self.operation,
            fixed: self.fixed,
            allowed: &allowed,
            provider_order: &order,
        })
    }

    /// `provider model`, with `*` where the name was changed and `?` where no catalog has it.
    fn meaning(&self, written: &str) -> String {
        match self.with(|choice| resolve(choice, written)) {
            Ok(Resolved { provider, model, entry, changed }) => {
                let unknown = if entry.is_none() { "?" } else { "" };
                format!("{provider} {model}{}{unknown}", if changed { "*" } else { "" })
            }
            Err(error) => label(&error),
        }
    }

    fn provider(&self) -> String {
        match self.with(resolve_provider) {
            Ok(slug) => slug.to_string(),
            Err(error) => label(&error),
        }
    }
}

fn label(error: &ResolveError) -> String {
    match error {
        ResolveError::UnknownProvider(_) => "unknown provider".into(),
        ResolveError::ModelRequired => "model required".into(),
        ResolveError::ModelNotAllowed { .. } => "not allowed".into(),
        ResolveError::AnyModel => "any model".into(),
        ResolveError::NoCredential { .. } => "no credential".into(),
        ResolveError::DialectNotSupported { providers, .. } => format!("dialect: {}", join(providers)),
        ResolveError::OperationNotServed { .. } => "operation".into(),
        ResolveError::ModelAmbiguous { providers, .. } => format!("ambiguous: {}", join(providers)),
        ResolveError::ProviderAmbiguous { providers } => {
            format!("provider ambiguous: {}", join(providers))
        }
    }
}

#[test]
fn under_a_providers_path_the_whole_string_is_its_model() {
    let under = |fixed| Case { fixed: Some(fixed), ..Case::new() };
    assert_eq!(under("openai").meaning("gpt-4o"), "openai gpt-4o");
    assert_eq!(under("openrouter").meaning("openai/gpt-4o"), "openrouter openai/gpt-4o?");
    assert_eq!(under("openai").meaning("anthropic/claude"), "openai anthropic/claude?");
    assert_eq!(under("openai").meaning("fast"), "openai gpt-4o-mini*");
    assert_eq!(under("nobody").meaning("gpt-4o"), "unknown provider");
    assert_eq!(under("openai").meaning(""), "model required");
}

#[test]
fn a_providers_slug_before_the_first_slash_names_it_and_is_cut_off() {
    let case = Case::new();
    assert_eq!(case.meaning("openai/gpt-4o"), "openai gpt-4o*");
    assert_eq!(case.meaning("openrouter/openai/gpt-4o"), "openrouter openai/gpt-4o*?");
    assert_eq!(case.meaning("openai/fast"), "openai gpt-4o-mini*");
    assert_eq!(case.meaning("openai/"), "model required");
    let alone = Case::only(&[("openrouter", OPENAI, true)]);
    assert_eq!(alone.meaning("openai/gpt-4o"), "openrouter openai/gpt-4o?", "no provider has that slug here");
    assert_eq!(case.meaning("OpenAI/gpt-4o"), "ambiguous: anthropic, deepseek, openai, openrouter, qwen");
}

#[test]
fn a_bare_name_goes_to_who_has_a_credential_speaks_the_dialect_serves_it_and_is_allowed() {
    assert_eq!(Case::new().meaning("gpt-4o"), "openai gpt-4o");
    assert_eq!(Case::new().meaning("fast"), "openai gpt-4o-mini*");
    let two = "deepseek-v4-flash";
    assert_eq!(Case::new().meaning(two), "ambiguous: deepseek, qwen");
    assert_eq!(
        Case { order: vec!["openai", "qwen", "deepseek"], ..Case::new() }.meaning(two),
        "qwen deepseek-v4-flash"
    );
    assert_eq!(Case { order: vec!["openai"], ..Case::new() }.meaning(two), "ambiguous: deepseek, qwen");
    let one_credential = Case::only(&[("deepseek", BOTH, true), ("qwen", OPENAI, false)]);
    assert_eq!(one_credential.meaning(two), "deepseek deepseek-v4-flash");
    assert_eq!(
        Case { dialect: Dialect::Anthropic, ..Case::new() }.meaning(two),
        "deepseek deepseek-v4-flash"
    );
    assert_eq!(Case { models: vec!["qwen/*"], ..Case::new() }.meaning(two), "qwen deepseek-v4-flash");
}

#[test]
fn a_name_in_no_catalog_goes_to_the_only_provider_there_is() {
    assert_eq!(Case::only(&[("openai", OPENAI, true)]).meaning("gpt-99"), "openai gpt-99?");
    let ordered = Case { order: vec!["openai"], ..Case::new() };
    assert!(
        ordered.meaning("gpt-99").starts_with("ambiguous"),
        "an order says nothing of what nobody serves"
    );
    assert_eq!(Case { models: vec!["openai/*"], ..Case::new() }.meaning("gpt-99"), "openai gpt-99?");
    let others = Case::only(&[("openrouter", OPENAI, true), ("openai", OPENAI, false)]);
    assert_eq!(others.meaning("gpt-99"), "openrouter gpt-99?");
    assert_eq!(others.meaning("gpt-4o"), "no credential", "the catalog knows who serves it");
}

#[test]
fn what_is_checked_is_what_the_name_resolves_to() {
    let case = |models| Case { models, ..Case::new() };
    assert_eq!(case(vec!["openai/fast"]).meaning("fast"), "not allowed");
    assert_eq!(case(vec!["openai/gpt-4o-mini"]).meaning("fast"), "openai gpt-4o-mini*");
    assert_eq!(case(vec!["openai/gpt-4o-mini"]).meaning("gpt-4o"), "not allowed");
    assert_eq!(case(vec![]).meaning("gpt-4o"), "not allowed");
    for look_alike in
        ["GPT-4o", "gpt-4o ", " gpt-4o", "gpt-4о", "gpt-4o\u{0}", "openai/GPT-4o", "Openai/gpt-4o"]
    {
        assert_eq!(case(vec!["openai/gpt-4o"]).meaning(look_alike), "not allowed", "{look_alike:?}");
    }
}

#[test]
fn a_refusal_says_the_first_thing_in_the_way() {
    let claude = "claude-opus-5-5";
    let case = |providers: &[_]| Case { dialect: Dialect::Anthropic, ..Case::only(providers) };
    assert_eq!(case(&[("anthropic", OPENAI, true)]).meaning(claude), "dialect: anthropic");
    assert_eq!(
        case(&[("anthropic", OPENAI, true)]).meaning("anthropic/claude-opus-5-5"),
        "dialect: anthropic"
    );
    assert_eq!(case(&[("anthropic", OPENAI, false)]).meaning(claude), "no credential");
    let scoped = Case { models: vec!["openai/*"], ..case(&[("anthropic", OPENAI, false)]) };
    assert_eq!(scoped.meaning(claude), "not allowed", "a key learns nothing of what it may not use");
    let embeds = Case { operation: Operation::Embeddings, ..Case::new() };
    assert_eq!(embeds.meaning("gpt-4o"), "operation");
    assert_eq!(embeds.meaning("text-embedding-3-small"), "openai text-embedding-3-small");
    let counts = Case { operation: Operation::CountTokens, ..case(&[("anthropic", BOTH, true)]) };
    assert_eq!(counts.meaning(claude), "anthropic claude-opus-5-5");
}

#[test]
fn an_operation_without_a_model_goes_to_the_only_allowed_provider_that_serves_it() {
    let of = |operation, models: &[&'static str]| Case { operation, models: models.to_vec(), ..Case::new() };
    assert_eq!(of(Operation::Moderations, &["*"]).provider(), "openai");
    assert_eq!(of(Operation::Files, &["openai/gpt-4o"]).provider(), "openai");
    assert_eq!(
        of(Operation::Files, &["openrouter/*"]).provider(),
        "provider ambiguous: none",
        "it keeps none"
    );
    let all = of(Operation::Files, &["openai/*", "anthropic/*", "deepseek/*"]);
    assert_eq!(all.provider(), "openai", "the others keep none in this dialect");
    assert_eq!(Case { dialect: Dialect::Anthropic, ..all }.provider(), "anthropic");
    assert_eq!(of(Operation::Files, &["openai/*", "qwen/*"]).provider(), "provider ambiguous: openai, qwen");
    assert_eq!(of(Operation::Files, &[]).provider(), "provider ambiguous: none");
    let under = |fixed, models: &[&'static str]| Case { fixed: Some(fixed), ..of(Operation::Files, models) };
    assert_eq!(under("qwen", &["*"]).provider(), "qwen");
    assert_eq!(under("qwen", &["openai/*"]).provider(), "not allowed");
    assert_eq!(under("nobody", &["*"]).provider(), "unknown provider");
    let google = Case { dialect: Dialect::Gemini, ..under("qwen", &["*"]) };
    assert_eq!(google.provider(), "dialect: qwen");
    let keyless = Case { providers: vec![("qwen", OPENAI, false)], ..under("qwen", &["*"]) };
    assert_eq!(keyless.provider(), "no credential");
}

#[test]
fn without_a_model_the_key_must_be_allowed_all_that_it_could_be() {
    let of = |models: &[&'static str]| Case {
        operation: Operation::Moderations,
        models: models.to_vec(),
        providers: vec![("mistral", OPENAI, true), ("openai", OPENAI, true), ("qwen", OPENAI, true)],
        ..Case::new()
    };
    let meaning = |case: &Case| match case.with(resolve_unnamed) {
        Ok(Resolved { provider, model, entry, changed }) => {
            assert!(model.is_empty() && !changed);
            format!("{provider} {}", entry.map_or("?".to_owned(), |entry| entry.name.clone()))
        }
        Err(error) => label(&error),
    };
    let latest = "openai/omni-moderation-latest";
    assert_eq!(meaning(&of(&["openai/*"])), "openai omni-moderation-2024-09-26", "all of them cost the same");
    assert_eq!(
        meaning(&of(&[latest, "openai/omni-moderation-2024-09-26"])),
        "openai omni-moderation-2024-09-26"
    );
    assert_eq!(meaning(&of(&[latest])), "any model");
    assert_eq!(meaning(&of(&["openai/gpt-4o"])), "any model");
    assert_eq!(meaning(&of(&["*"])), "provider ambiguous: mistral, openai");
    assert_eq!(meaning(&of(&["mistral/*", latest])), "mistral mistral-moderation-2603");
    let under = |fixed, models| Case { fixed: Some(fixed), ..of(models) };
    assert_eq!(meaning(&under("openai", &["*"])), "openai omni-moderation-2024-09-26");
    assert_eq!(meaning(&under("openai", &["mistral/*"])), "any model");
    assert_eq!(meaning(&under("qwen", &["*"])), "model required", "none is known");
    assert_eq!(meaning(&under("nobody", &["*"])), "unknown provider");
    let google = Case { dialect: Dialect::Gemini, ..of(&["openai/*"]) };
    assert_eq!(meaning(&google), "dialect: openai");
    let keyless = Case { providers: vec![("openai", OPENAI, false)], ..of(&["*"]) };
    assert_eq!(meaning(&keyless), "no credential");
}
