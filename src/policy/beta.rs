//! Patterns of beta values: what a request asks of a provider by a header or field of its own, like
//! `context-1m-2025-08-07`, and a scope can refuse.

use super::Glob;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One pattern over beta values, in lower case, as values are compared. `*` stands for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BetaGlob(Glob);

/// Why a text is not a pattern of beta values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BetaGlobError {
    /// Empty or longer than a pattern can be.
    #[error("a beta pattern has 1 to 256 bytes")]
    Length,
    /// Something that no beta value has, so that nothing would be refused.
    #[error("a beta pattern has lower-case letters, digits and -_.=:/+*, like \"context-1m-*\"")]
    Characters,
}

/// Whether beta values can have the byte, once their letters are lower case.
pub fn is_beta_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.=:/+".contains(&byte)
}

impl BetaGlob {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, BetaGlobError> {
        if !text.bytes().all(|byte| is_beta_byte(byte) || byte == b'*') {
            return Err(BetaGlobError::Characters);
        }
        Glob::of(text).map(Self).map_err(|_| BetaGlobError::Length)
    }

    /// Whether the whole value fits, which is in lower case.
    pub fn matches(&self, value: &str) -> bool {
        self.0.matches(value)
    }

    /// Whether every value that fits `other` fits this one, too.
    pub fn covers(&self, other: &Self) -> bool {
        self.0.covers(&other.0)
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl Serialize for BetaGlob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for BetaGlob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_values_and_says_why_it_is_none() {
        let one = BetaGlob::parse("context-1m-*").unwrap();
        assert!(one.matches("context-1m-2025-08-07") && !one.matches("context-management-2025-06-27"));
        assert!(BetaGlob::parse("*").unwrap().covers(&one) && BetaGlob::parse("assistants=v2").is_ok());
        assert_eq!(serde_json::to_value(&one).unwrap(), "context-1m-*");
        for (text, error) in [
            ("", BetaGlobError::Length),
            (&"a".repeat(257), BetaGlobError::Length),
            ("Context-1m-*", BetaGlobError::Characters),
            ("a b", BetaGlobError::Characters),
            ("a,b", BetaGlobError::Characters),
            ("ä", BetaGlobError::Characters),
        ] {
            assert_eq!(BetaGlob::parse(text), Err(error), "{text}");
        }
        assert!(serde_json::from_str::<BetaGlob>("1").is_err());
    }
}
