//! Model patterns: a text in which `*` stands for any run of characters, `/` included.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

const LENGTH_MAX_BYTES: usize = 256;

/// One pattern over `provider/model`. Case counts; there is no other wildcard than `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

/// Why a text is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// Empty or longer than 256 bytes.
    #[error("a model pattern has 1 to 256 bytes")]
    Length,
    /// Neither `*` nor of the form `provider/model`.
    #[error("a model pattern is \"*\" or \"provider/model\", like \"openai/gpt-4o-mini\" or \"anthropic/*\"")]
    NoProvider,
    /// White space or control characters, which no model name has.
    #[error("a model pattern has no white space or control characters")]
    Characters,
}

impl Glob {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, GlobError> {
        if text.is_empty() || text.len() > LENGTH_MAX_BYTES {
            return Err(GlobError::Length);
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(GlobError::Characters);
        }
        if !text.contains('/') && !text.starts_with('*') {
            return Err(GlobError::NoProvider);
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether the whole of `name` fits. Linear in `name` for each `*`: no pattern is slow.
    pub fn matches(&self, name: &str) -> bool {
        let (mut pattern, mut text) = (self.0.as_bytes(), name.as_bytes());
        let mut retry: Option<(&[u8], &[u8])> = None;
        loop {
            match (pattern.first(), text.first()) {
                (Some(b'*'), _) => {
                    pattern = &pattern[1..];
                    retry = Some((pattern, text));
                }
                (Some(p), Some(t)) if p == t => {
                    pattern = &pattern[1..];
                    text = &text[1..];
                }
                (None, None) => return true,
                _ => match retry {
                    Some((after_star, [_, rest @ ..])) => {
                        pattern = after_star;
                        text = rest;
                        retry = Some((after_star, rest));
                    }
                    Some((_, [])) | None => return false,
                },
            }
        }
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for Glob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Glob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, name: &str) -> bool {
        Glob::parse(pattern).unwrap().matches(name)
    }

    #[test]
    fn a_star_crosses_slashes_and_all_else_is_exact() {
        assert!(matches("*", "openai/gpt-4o"));
        assert!(matches("openrouter/*", "openrouter/openai/gpt-4o"));
        assert!(
            matches("openai/gpt-4o*", "openai/gpt-4o") && matches("openai/gpt-4o*", "openai/gpt-4o-mini")
        );
        assert!(matches("*/*-mini", "openai/gpt-4o-mini") && !matches("*/*-mini", "openai/gpt-4o-minis"));
        for other in [
            "openai/GPT-4o",
            "openai/gpt-4o ",
            "openai/gpt\u{2010}4o",
            "xopenai/gpt-4o",
            "openai/gpt-4o-mini",
        ] {
            assert!(!matches("openai/gpt-4o", other), "{other}");
        }
    }

    #[test]
    fn patterns_without_provider_are_refused() {
        assert_eq!(Glob::parse("gpt-4o"), Err(GlobError::NoProvider));
        assert_eq!(Glob::parse(""), Err(GlobError::Length));
        assert_eq!(Glob::parse("openai/gpt 4"), Err(GlobError::Characters));
    }

    proptest! {
        /// The matcher agrees with the plain recursive definition.
        #[test]
        fn agrees_with_the_definition(pattern in "[ab*]{1,8}/[ab*]{0,6}", name in "[ab]{0,8}/[ab]{0,8}") {
            fn plain(p: &[u8], t: &[u8]) -> bool {
                match p.split_first() {
                    None => t.is_empty(),
                    Some((b'*', rest)) => (0..=t.len()).any(|cut| plain(rest, &t[cut..])),
                    Some((c, rest)) => t.first() == Some(c) && plain(rest, &t[1..]),
                }
            }
            prop_assert_eq!(matches(&pattern, &name), plain(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
