//! The key-encryption key, as it is written in its file: one line of base64 for 32 bytes.

use super::envelope::Key;
use crate::base::{Entropy, Secret};
use data_encoding::{BASE64, HEXLOWER};
use ring::hmac;

/// The key that wraps the root key.
pub struct Kek(Key);

/// Why a text is not a key-encryption key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key-encryption key is one line of base64 for 32 bytes")]
pub struct KekError;

impl Kek {
    /// Draws a fresh key; [`Kek::to_line`] gives what to write down.
    pub fn generate(entropy: &Entropy) -> Self {
        Self(Secret::new(entropy.bytes()))
    }

    /// A key that was derived, or unwrapped by a key service.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Secret::new(bytes))
    }

    /// Reads what the file holds.
    pub fn parse(text: &Secret<String>) -> Result<Self, KekError> {
        let decoded = Secret::new(BASE64.decode(text.expose().trim_end().as_bytes()).map_err(|_| KekError)?);
        let bytes: [u8; 32] = decoded.expose().as_slice().try_into().map_err(|_| KekError)?;
        Ok(Self(Secret::new(bytes)))
    }

    /// The line to write into the file, with its line end.
    pub fn to_line(&self) -> Secret<String> {
        Secret::new(BASE64.encode(self.0.expose()) + "\n")
    }

    /// The bytes, for a key service to wrap.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// Tells one key from another without telling either: 16 hexadecimal digits.
    pub fn id(&self) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.expose());
        HEXLOWER.encode(&hmac::sign(&key, b"bitting/kek-id/v1").as_ref()[..8])
    }

    pub(super) fn key(&self) -> &Key {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_from_its_file_and_nothing_else_does() {
        let kek = Kek::generate(&Entropy::new());
        let read = Kek::parse(&kek.to_line()).unwrap_or_else(|_| panic!("reads back"));
        assert_eq!(read.key().expose(), kek.key().expose());
        assert_eq!(read.id(), kek.id());
        assert_ne!(Kek::generate(&Entropy::new()).id(), kek.id());
        for bad in ["", "\n", "c2hvcnQ=", "not base64!"] {
            assert!(Kek::parse(&Secret::new(bad.to_owned())).is_err(), "{bad:?}");
        }
    }
}
