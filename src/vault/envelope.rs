//! One envelope: AES-256-GCM with a random nonce, and associated data that names the envelope's place.
//!
//! Bytes: `version(1) = 1 || algorithm(1) = 1 || term(4, big endian) || nonce(12) || ciphertext || tag(16)`.
//! An unknown version, algorithm or term is an error, never a guess.

use crate::base::{Entropy, Secret};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

const VERSION: u8 = 1;
const ALGORITHM_AES_256_GCM: u8 = 1;
const HEADER_LEN: usize = 6;

/// A 256-bit key.
pub(super) type Key = Secret<[u8; 32]>;

/// What an envelope is for: the first part of its associated data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The root key under a key-encryption key.
    Root,
    /// The keyring under the root key.
    Keyring,
    /// The keyring under the key-encryption key, as the first version of the format had it.
    FirstKeyring,
    /// A data key under the wrap key.
    DataKey,
    /// A provider's key under its data key.
    ProviderKey,
}

impl Purpose {
    fn label(self) -> &'static str {
        match self {
            Self::Root => "bitting/root/v1",
            Self::Keyring => "bitting/keyring/v2",
            Self::FirstKeyring => "bitting/keyring/v1",
            Self::DataKey => "bitting/dek/v1",
            Self::ProviderKey => "bitting/secret/v1",
        }
    }
}

/// Why an envelope did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Too short, or of a version or algorithm that this program does not know.
    #[error("the ciphertext has an unknown form")]
    UnknownForm,
    /// Sealed under a keyring term that is not there.
    #[error("the ciphertext belongs to keyring term {0}, which is not in the keyring")]
    UnknownTerm(u32),
    /// Another key, another place, or changed bytes.
    #[error("the ciphertext does not open: wrong key, moved, or changed")]
    Refused,
}

/// Seals `plaintext` under `key`, bound to `purpose`, `term` and `place`.
pub(super) fn seal(
    entropy: &Entropy,
    key: &Key,
    purpose: Purpose,
    term: u32,
    place: &[&str],
    plaintext: &[u8],
) -> Vec<u8> {
    let nonce = entropy.bytes::<NONCE_LEN>();
    let mut envelope = vec![VERSION, ALGORITHM_AES_256_GCM];
    envelope.extend(term.to_be_bytes());
    envelope.extend(nonce);
    let body_at = envelope.len();
    envelope.extend(plaintext);
    let aad = Aad::from(associated_data(purpose, term, place));
    let tag = aead(key)
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), aad, &mut envelope[body_at..])
        .expect("AES-GCM seals anything that fits in memory");
    envelope.extend(tag.as_ref());
    envelope
}

/// The term an envelope names, before it is opened.
pub(super) fn term_of(envelope: &[u8]) -> Result<u32, OpenError> {
    match envelope {
        [VERSION, ALGORITHM_AES_256_GCM, a, b, c, d, ..] => Ok(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => Err(OpenError::UnknownForm),
    }
}

/// Opens an envelope made by [`seal`] with the same key, purpose and place.
pub(super) fn open(
    key: &Key,
    purpose: Purpose,
    place: &[&str],
    envelope: &[u8],
) -> Result<Secret<Vec<u8>>, OpenError> {
    let term = term_of(envelope)?;
    let (nonce, body) =
        envelope[HEADER_LEN..].split_first_chunk::<NONCE_LEN>().ok_or(OpenError::UnknownForm)?;
    let mut buffer = zeroize::Zeroizing::new(body.to_vec());
    let aad = Aad::from(associated_data(purpose, term, place));
    let plaintext = aead(key)
        .open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut buffer)
        .map_err(|_| OpenError::Refused)?;
    Ok(Secret::new(plaintext.to_vec()))
}

/// Purpose, term and the parts of the place, each with its length before it: no two places read alike.
fn associated_data(purpose: Purpose, term: u32, place: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in [purpose.label().as_bytes(), &term.to_be_bytes()]
        .into_iter()
        .chain(place.iter().map(|p| p.as_bytes()))
    {
        bytes.extend(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend(part);
    }
    bytes
}

fn aead(key: &Key) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.expose()).expect("32 bytes are an AES-256 key"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(byte: u8) -> Key {
        Secret::new([byte; 32])
    }

    proptest! {
        /// What is sealed opens at its place, and nowhere else, and not after any bit is changed.
        #[test]
        fn an_envelope_opens_only_as_it_was_sealed(
            text in prop::collection::vec(any::<u8>(), 0..100), flip in any::<prop::sample::Index>(), bit in 0..8_u8,
        ) {
            let entropy = Entropy::new();
            let sealed = seal(&entropy, &key(1), Purpose::ProviderKey, 7, &["cred", "1"], &text);
            let open_at = |key: &Key, purpose, place: &[&str], envelope: &[u8]| {
                open(key, purpose, place, envelope).map(|secret| secret.expose().clone())
            };
            prop_assert_eq!(open_at(&key(1), Purpose::ProviderKey, &["cred", "1"], &sealed), Ok(text));
            prop_assert_eq!(open_at(&key(2), Purpose::ProviderKey, &["cred", "1"], &sealed), Err(OpenError::Refused));
            prop_assert_eq!(open_at(&key(1), Purpose::DataKey, &["cred", "1"], &sealed), Err(OpenError::Refused));
            for place in [&["cred", "2"][..], &["cred1"], &["cre", "d1"], &["cred", "1", ""], &[]] {
                prop_assert_eq!(open_at(&key(1), Purpose::ProviderKey, place, &sealed), Err(OpenError::Refused));
            }
            let mut changed = sealed.clone();
            changed[flip.index(sealed.len())] ^= 1 << bit;
            prop_assert!(open_at(&key(1), Purpose::ProviderKey, &["cred", "1"], &changed).is_err());
            prop_assert!(open_at(&key(1), Purpose::ProviderKey, &["cred", "1"], &sealed[..sealed.len() - 1]).is_err());
        }
    }
}
