//! The providers that are there from the start, as data: nobody has to look up a base URL to begin.

use super::dialect::Dialect;
use super::endpoint::{AuthScheme, EndpointDocument, OnClientGone, Provider, ProviderDocument, Timeouts};
use std::collections::BTreeMap;

/// A provider that is there from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WellKnown {
    /// Its slug.
    pub slug: &'static str,
    /// The environment variable by which its SDK takes the key; imported at quickstart.
    pub key_env: &'static str,
    /// Where each dialect is reached, and where the key goes there.
    pub endpoints: &'static [(Dialect, &'static str, AuthScheme)],
    /// A path that costs nothing and answers a list of models, behind the base URL of its dialect.
    pub model_list: (Dialect, &'static str),
    /// Asking for the model list needs no key, so it proves none.
    pub model_list_is_public: bool,
    /// The field of chat completions that bounds the output.
    pub output_bound_field: &'static str,
    /// The dialects in which it keeps files.
    pub files: &'static [Dialect],
    /// Whether a stream has to be asked for its usage by `stream_options`, and may be. A provider that reports it anyway
    /// is not asked: what it says unasked the application sees.
    pub supports_stream_options: bool,
}

/// The field of chat completions that bounds the output, where a provider says no other.
const MAX_TOKENS: &str = "max_tokens";

/// The providers that are there from the start, by slug.
pub const WELL_KNOWN: [WellKnown; 7] = [
    WellKnown {
        slug: "anthropic",
        key_env: "ANTHROPIC_API_KEY",
        endpoints: &[
            (Dialect::OpenAi, "https://api.anthropic.com/v1", AuthScheme::Bearer),
            (Dialect::Anthropic, "https://api.anthropic.com", AuthScheme::XApiKey),
        ],
        model_list: (Dialect::Anthropic, "/v1/models"),
        model_list_is_public: false,
        output_bound_field: MAX_TOKENS,
        files: &[Dialect::Anthropic],
        supports_stream_options: true,
    },
    WellKnown {
        slug: "deepseek",
        key_env: "DEEPSEEK_API_KEY",
        endpoints: &[
            (Dialect::OpenAi, "https://api.deepseek.com/v1", AuthScheme::Bearer),
            (Dialect::Anthropic, "https://api.deepseek.com/anthropic", AuthScheme::XApiKey),
        ],
        model_list: (Dialect::OpenAi, "/models"),
        model_list_is_public: false,
        output_bound_field: MAX_TOKENS,
        files: &[],
        // It reports in its last chunk, asked or not.
        supports_stream_options: false,
    },
    WellKnown {
        slug: "gemini",
        key_env: "GEMINI_API_KEY",
        endpoints: &[
            (Dialect::OpenAi, "https://generativelanguage.googleapis.com/v1beta/openai", AuthScheme::Bearer),
            (Dialect::Gemini, "https://generativelanguage.googleapis.com", AuthScheme::XGoogApiKey),
        ],
        model_list: (Dialect::Gemini, "/v1beta/models"),
        model_list_is_public: false,
        output_bound_field: MAX_TOKENS,
        files: &[],
        supports_stream_options: true,
    },
    WellKnown {
        slug: "mistral",
        key_env: "MISTRAL_API_KEY",
        endpoints: &[(Dialect::OpenAi, "https://api.mistral.ai/v1", AuthScheme::Bearer)],
        model_list: (Dialect::OpenAi, "/models"),
        model_list_is_public: false,
        output_bound_field: MAX_TOKENS,
        files: &[Dialect::OpenAi],
        // It refuses the field, and reports in its last chunk.
        supports_stream_options: false,
    },
    WellKnown {
        slug: "openai",
        key_env: "OPENAI_API_KEY",
        endpoints: &[(Dialect::OpenAi, "https://api.openai.com/v1", AuthScheme::Bearer)],
        model_list: (Dialect::OpenAi, "/models"),
        model_list_is_public: false,
        output_bound_field: "max_completion_tokens",
        files: &[Dialect::OpenAi],
        supports_stream_options: true,
    },
    WellKnown {
        slug: "openrouter",
        key_env: "OPENROUTER_API_KEY",
        endpoints: &[(Dialect::OpenAi, "https://openrouter.ai/api/v1", AuthScheme::Bearer)],
        model_list: (Dialect::OpenAi, "/models"),
        model_list_is_public: true,
        output_bound_field: MAX_TOKENS,
        files: &[],
        // It reports in its last chunk, asked or not.
        supports_stream_options: false,
    },
    WellKnown {
        slug: "qwen",
        key_env: "DASHSCOPE_API_KEY",
        endpoints: &[(
            Dialect::OpenAi,
            "https://dashscope-intl.aliyuncs.com/compatible-mode/v1",
            AuthScheme::Bearer,
        )],
        model_list: (Dialect::OpenAi, "/models"),
        model_list_is_public: false,
        output_bound_field: MAX_TOKENS,
        files: &[Dialect::OpenAi],
        supports_stream_options: true,
    },
];

/// The well-known provider of the slug.
pub fn well_known(slug: &str) -> Option<&'static WellKnown> {
    WELL_KNOWN.iter().find(|known| known.slug == slug)
}

/// Whether a provider is set to be asked for a stream's usage that refuses to be asked, or tells it unasked: as older
/// installations have it, which keep what they were made with.
pub fn is_asked_in_vain(provider: &Provider) -> bool {
    let known = well_known(provider.slug.as_str());
    provider.supports_stream_options && known.is_some_and(|known| !known.supports_stream_options)
}

/// The field of chat completions that bounds the output at the provider: what a default or clamped bound is put into.
pub fn output_bound_field(slug: &str) -> &'static str {
    well_known(slug).map_or(MAX_TOKENS, |known| known.output_bound_field)
}

/// Whether a provider keeps files in the dialect, as far as is known: of one that is not well-known nothing is.
pub fn keeps_files(slug: &str, dialect: Dialect) -> bool {
    well_known(slug).is_none_or(|known| known.files.contains(&dialect))
}

impl WellKnown {
    /// The provider as if an operator had set it up; `None` never happens, as the slugs above are slugs.
    pub fn document(&self) -> Option<ProviderDocument> {
        let endpoint = |(dialect, base_url, auth): &(Dialect, &str, AuthScheme)| {
            (*dialect, EndpointDocument { auth: Some(*auth), ..EndpointDocument::from(*base_url) })
        };
        Some(ProviderDocument {
            slug: self.slug.parse().ok()?,
            dialects: self.endpoints.iter().map(endpoint).collect(),
            deployments: BTreeMap::new(),
            on_client_gone: OnClientGone::default(),
            supports_stream_options: self.supports_stream_options,
            timeouts: Timeouts::default(),
            rate_limits: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalog::Catalog;
    use super::*;
    use crate::base::CidrSet;

    #[test]
    fn every_well_known_provider_passes_the_rules_for_an_operators() {
        assert!(WELL_KNOWN.is_sorted_by(|a, b| a.slug < b.slug));
        for known in WELL_KNOWN {
            let provider = known.document().unwrap().check(&CidrSet::default()).unwrap();
            assert_eq!(provider.slug.as_str(), known.slug);
            assert!(provider.dialects.contains_key(&known.model_list.0), "{}", known.slug);
            assert!(known.model_list.1.starts_with('/') && known.key_env.ends_with("_API_KEY"));
        }
    }

    #[test]
    fn every_provider_of_the_catalog_but_the_sandbox_is_well_known() {
        for model in Catalog::built_in().unwrap().models() {
            let slug = model.provider.as_str();
            assert!(slug == "sandbox" || well_known(slug).is_some(), "{slug}");
        }
    }

    #[test]
    fn who_reports_usage_unasked_or_refuses_to_be_asked_is_not_asked() {
        let asked = |slug: &str| well_known(slug).unwrap().document().unwrap().supports_stream_options;
        assert_eq!(["openai", "gemini", "qwen", "anthropic"].map(asked), [true; 4]);
        assert_eq!(["mistral", "deepseek", "openrouter"].map(asked), [false; 3]);
    }

    #[test]
    fn an_older_installation_that_asks_in_vain_is_known() {
        for (slug, expected) in
            [("mistral", true), ("deepseek", true), ("openai", false), ("anthropic", false)]
        {
            let provider = |asks| {
                let document = ProviderDocument {
                    supports_stream_options: asks,
                    ..well_known(slug).unwrap().document().unwrap()
                };
                document.check(&CidrSet::default()).unwrap()
            };
            assert_eq!(
                (is_asked_in_vain(&provider(true)), is_asked_in_vain(&provider(false))),
                (expected, false)
            );
        }
    }

    #[test]
    fn the_bound_goes_where_the_provider_reads_it() {
        for (slug, field) in
            [("openai", "max_completion_tokens"), ("mistral", "max_tokens"), ("of-somebody", "max_tokens")]
        {
            assert_eq!(output_bound_field(slug), field);
        }
    }
}
