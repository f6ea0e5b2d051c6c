//! The token an application presents: `bk_` + 16 base62 id + `_` + 43 base62 secret + 6 base62 CRC-32.
//!
//! The prefix and the checksum let scanners find leaked keys and let junk be refused without I/O.

use crate::base::{Entropy, Secret};
use std::fmt;

const ID_LEN: usize = 16;
const SECRET_LEN: usize = 43;
const CRC_LEN: usize = 6;
const TOKEN_LEN: usize = 3 + ID_LEN + 1 + SECRET_LEN + CRC_LEN;

/// Names one sub-key: 16 base62 characters, public, stable over rotations.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubKeyId(String);

impl SubKeyId {
    /// Draws a fresh id.
    pub fn generate(entropy: &Entropy) -> Self {
        Self(entropy.base62(ID_LEN))
    }

    /// Reads an id; `None` when the text cannot be one.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == ID_LEN && is_base62(text)).then(|| Self(text.to_owned()))
    }

    /// The 16 characters.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SubKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A token of the right shape and checksum. Whether it is anybody's is not known yet.
pub struct SubKeyToken {
    id: SubKeyId,
    secret: Secret<String>,
}

/// A text that cannot be a sub-key's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a sub-key: expected bk_ and 66 more characters with a valid checksum")]
pub struct TokenError;

impl SubKeyToken {
    /// Draws a fresh secret for a sub-key: 43 base62 characters, 256 bits.
    pub fn generate(id: SubKeyId, entropy: &Entropy) -> Self {
        Self { id, secret: Secret::new(entropy.base62(SECRET_LEN)) }
    }

    /// Reads a presented token. Junk is refused here, before any I/O.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let split = || {
            let rest = text.strip_prefix("bk_")?;
            let (body, crc) =
                (text.len() == TOKEN_LEN).then(|| text.split_at_checked(TOKEN_LEN - CRC_LEN))??;
            (checksum(body) == crc).then_some(())?;
            let (id, secret) = rest.split_at_checked(ID_LEN)?;
            let secret = secret.strip_prefix('_')?.get(..SECRET_LEN)?;
            is_base62(secret).then_some(())?;
            Some(Self { id: SubKeyId::parse(id)?, secret: Secret::new(secret.to_owned()) })
        };
        split().ok_or(TokenError)
    }

    /// The sub-key that the token claims.
    pub fn id(&self) -> &SubKeyId {
        &self.id
    }

    /// What is authenticated: a label, the id and the secret.
    pub fn mac_input(&self) -> Secret<Vec<u8>> {
        Secret::new([b"subkey/v1", self.id.0.as_bytes(), self.secret.expose().as_bytes()].concat())
    }

    /// The whole token, for the one answer that shows it.
    pub fn reveal(&self) -> Secret<String> {
        let body = format!("bk_{}_{}", self.id, self.secret.expose());
        let crc = checksum(&body);
        Secret::new(body + &crc)
    }
}

fn is_base62(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric())
}

/// CRC-32 (IEEE) as six base62 digits, most significant first.
fn checksum(body: &str) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut value = crc32fast::hash(body.as_bytes());
    let mut digits = [b'0'; CRC_LEN];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[usize::try_from(value % 62).unwrap_or_default()];
        value /= 62;
    }
    digits.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_reads_back_and_fits_the_scanner_rule() {
        let entropy = Entropy::new();
        for _ in 0..200 {
            let token = SubKeyToken::generate(SubKeyId::generate(&entropy), &entropy);
            let text = token.reveal();
            let read = SubKeyToken::parse(text.expose()).expect("reads back");
            assert_eq!(read.id(), token.id());
            assert_eq!(read.mac_input().expose(), token.mac_input().expose());
            assert_eq!(text.expose().len(), 69);
        }
    }

    proptest! {
        /// Any change of one character is noticed without I/O.
        #[test]
        fn one_wrong_character_is_noticed(at in 0..TOKEN_LEN, with in "[0-9A-Za-z_ é]") {
            let token = "bk_ABCDEFGHIJKLMNOP_0123456789012345678901234567890123456789012";
            let token = format!("{token}{}", checksum(token));
            prop_assert!(SubKeyToken::parse(&token).is_ok());
            let mut changed = token.clone();
            changed.replace_range(at..=at, &with);
            prop_assert_eq!(SubKeyToken::parse(&changed).is_ok(), changed == token);
        }

        #[test]
        fn junk_never_panics(text in "\\PC{0,80}") {
            prop_assert!(SubKeyToken::parse(&text).is_err());
        }
    }
}
