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
        let glob = Self::of(text)?;
        if !text.contains('/') && !text.starts_with('*') {
            return Err(GlobError::NoProvider);
        }
        Ok(glob)
    }

    /// Reads a pattern over other names than those of models.
    pub(super) fn of(text: &str) -> Result<Self, GlobError> {
        if text.is_empty() || text.len() > LENGTH_MAX_BYTES {
            return Err(GlobError::Length);
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(GlobError::Characters);
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

    /// Whether every name that fits `other` fits this one, too.
    pub fn covers(&self, other: &Self) -> bool {
        // A star of `other` is matched as a character that only a star of this one takes: so it stands for any run.
        self.matches(&other.0)
    }

    /// Whether there is a name that fits both.
    pub fn overlaps(&self, other: &Self) -> bool {
        let (Some((start, end)), Some((other_start, other_end))) = (self.ends(), other.ends()) else {
            // One of them is a name itself.
            return self.covers(other) || other.covers(self);
        };
        // What stands between the first and the last star of each can always be put side by side.
        let starts_fit = start.starts_with(other_start) || other_start.starts_with(start);
        starts_fit && (end.ends_with(other_end) || other_end.ends_with(end))
    }

    /// What stands before the first star and behind the last; `None` without stars.
    fn ends(&self) -> Option<(&str, &str)> {
        let (start, rest) = self.0.split_once('*')?;
        Some((start, rest.rsplit_once('*').map_or(rest, |(_, end)| end)))
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
        /// Covering and overlapping say of two patterns what all of a small alphabet's names say.
        #[test]
        fn covering_and_overlapping_agree_with_the_names(
            one in "[ab*]{0,3}/[ab*]{0,3}", other in "[ab*]{0,3}/[ab*]{0,3}", name in "[abc]{0,4}/[abc/]{0,5}",
        ) {
            let (one, other) = (Glob::parse(&one).unwrap(), Glob::parse(&other).unwrap());
            if one.covers(&other) && other.matches(&name) {
                prop_assert!(one.matches(&name));
            }
            if one.matches(&name) && other.matches(&name) {
                prop_assert!(one.overlaps(&other) && other.overlaps(&one));
            }
            // A name that shows what is not covered: what no letter of either stands for, in the place of each star.
            let shown = other.as_str().replace('*', "c");
            prop_assert_eq!(one.covers(&other), one.matches(&shown));
            if one.overlaps(&other) && let (Some((a, z)), Some((b, y))) = (one.ends(), other.ends()) {
                let longer = |p: &str, q: &str| if p.len() > q.len() { p.to_owned() } else { q.to_owned() };
                let middle = |glob: &Glob| glob.as_str().replace('*', "");
                let both = format!("{}{}{}{}", longer(a, b), middle(&one), middle(&other), longer(z, y));
                prop_assert!(one.matches(&both) && other.matches(&both), "{both}");
            }
        }

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
