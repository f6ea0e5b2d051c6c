//! Whether the model that an answer names is the one that was asked for.
//!
//! Providers name what served in their own ways: an alias answers as a dated snapshot, a snapshot as its alias, a name
//! with `latest` in it as whatever is newest. Anything else is another model than the one that was checked and priced.

use super::model::Model;

/// Whether a provider that was asked for `asked` can be expected to call what served `served`. `entry` is what the catalog
/// knows of the model: any name of it will do.
pub fn is_expected(entry: Option<&Model>, asked: &str, served: &str) -> bool {
    let names = entry.into_iter().flat_map(|model| model.aliases.iter().chain([&model.name]));
    names.map(String::as_str).chain([asked]).any(|name| is_same(&plain(name), &plain(served)))
}

/// A name without what providers put around it: Google's `models/`, a reseller's vendor before it and variant after it.
fn plain(name: &str) -> String {
    let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    let is_variant = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphabetic());
    match name.split_once(':') {
        Some((model, variant)) if is_variant(variant) => model.to_owned(),
        _ => name,
    }
}

fn is_same(asked: &str, served: &str) -> bool {
    asked == served
        || is_version_of(asked, served)
        || is_version_of(served, asked)
        || floats_to(asked, served)
}

/// Whether `dated` is `name` with a date or a version after it: `-2024-08-06`, `-001`, `@20240620`, `-preview-09-2025`.
fn is_version_of(name: &str, dated: &str) -> bool {
    let Some(rest) = dated.strip_prefix(name).filter(|_| !name.is_empty()) else { return false };
    let Some(rest) = rest.strip_prefix(['-', '@']) else { return false };
    let rest = ["preview-", "exp-"].iter().find_map(|stage| rest.strip_prefix(stage)).unwrap_or(rest);
    rest.bytes().any(|byte| byte.is_ascii_digit())
        && rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
        // A digit alone is part of a name: `o` and `o-1`, `claude-3` and `claude-3-5`.
        && rest.bytes().filter(u8::is_ascii_digit).count() >= 3
}

/// Whether the name means whatever is newest, or whatever suits, and what served is one of those.
fn floats_to(asked: &str, served: &str) -> bool {
    let words = |name: &'_ str| name.split('-').map(str::to_owned).collect::<Vec<_>>();
    let (asked, served) = (words(asked), words(served));
    asked == ["auto"]
        || asked.iter().any(|word| word == "latest")
            && asked.iter().filter(|word| *word != "latest").all(|word| served.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::model::ModelFacts;

    #[test]
    fn providers_name_what_served_in_their_own_ways() {
        for (asked, served) in [
            ("gpt-4o-mini", "gpt-4o-mini"),
            ("gpt-4o", "gpt-4o-2024-08-06"),
            ("gpt-4o-2024-08-06", "gpt-4o"),
            ("gpt-3.5-turbo", "gpt-3.5-turbo-0125"),
            ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
            ("claude-3-5-haiku-latest", "claude-3-5-haiku-20241022"),
            ("gemini-1.5-pro", "models/gemini-1.5-pro-002"),
            ("gemini-flash-latest", "gemini-2.5-flash-preview-09-2025"),
            ("gemini-2.5-flash", "gemini-2.5-flash-preview-09-2025"),
            ("omni-moderation-latest", "omni-moderation-2024-09-26"),
            ("mistral-small-latest", "mistral-small-2506"),
            ("openai/gpt-4o", "openai/gpt-4o-2024-08-06"),
            ("meta-llama/llama-3.1-8b:free", "meta-llama/Llama-3.1-8b"),
            ("openrouter/auto", "anthropic/claude-sonnet-4.5"),
            ("ft:gpt-4o-mini:acme::1", "ft:gpt-4o-mini:acme::1"),
        ] {
            assert!(is_expected(None, asked, served), "{asked} {served}");
        }
    }

    #[test]
    fn another_model_is_another_model() {
        for (asked, served) in [
            ("gpt-4o-mini", "gpt-4o"),
            ("gpt-4o", "gpt-4o-mini"),
            ("gpt-4o", "gpt-4o-mini-2024-07-18"),
            ("gpt-4o", "gpt-4"),
            ("gpt-4", "gpt-4-32"),
            ("claude-opus-4", "claude-opus-4-1"),
            ("claude-3-5-haiku-latest", "claude-3-haiku-20240307"),
            ("claude-3-5-haiku-latest", "claude-3-5-sonnet-20241022"),
            ("gemini-2.5-pro", "gemini-2.5-flash"),
            ("openai/gpt-4o", "anthropic/claude-sonnet-4.5"),
            ("deepseek-chat", "deepseek-reasoner"),
            ("gpt-4o", ""),
        ] {
            assert!(!is_expected(None, asked, served), "{asked} {served}");
        }
    }

    #[test]
    fn any_name_that_the_catalog_has_for_the_model_will_do() {
        let facts = ModelFacts { aliases: vec!["house".into()], ..ModelFacts::default() };
        let model = Model::new("acme".parse().unwrap(), "big-2".into(), facts);
        assert!(is_expected(Some(&model), "big-2", "house") && is_expected(Some(&model), "house", "big-2"));
        assert!(!is_expected(Some(&model), "house", "big-3"));
    }
}
