//! The keyring: for each term, separate random keys for separate purposes.

use super::envelope::{self, Key, OpenError, Purpose};
use super::kek::Kek;
use crate::base::{Entropy, Secret};
use ring::{hmac, signature};
use std::collections::BTreeMap;

const KEK_TERM: u32 = 0;
const TERM_LEN: usize = 4 + 4 * 32;

/// The keys of all live terms; the newest seals, all of them open.
pub struct Keyring {
    terms: BTreeMap<u32, Term>,
}

/// One term's keys, each for one purpose.
struct Term {
    wrap: Key,
    pepper: Key,
    row_mac: Key,
    log_signing_seed: Key,
}

impl Keyring {
    /// A keyring with one fresh term.
    pub fn generate(entropy: &Entropy) -> Self {
        let key = || Secret::new(entropy.bytes());
        let term = Term { wrap: key(), pepper: key(), row_mac: key(), log_signing_seed: key() };
        Self { terms: BTreeMap::from([(1, term)]) }
    }

    /// Wraps the keyring under the key-encryption key, for this installation only.
    pub fn seal(&self, entropy: &Entropy, kek: &Kek, installation: &str) -> Vec<u8> {
        let mut plain = zeroize::Zeroizing::new(Vec::with_capacity(self.terms.len() * TERM_LEN));
        for (number, term) in &self.terms {
            plain.extend(number.to_be_bytes());
            for key in [&term.wrap, &term.pepper, &term.row_mac, &term.log_signing_seed] {
                plain.extend(key.expose());
            }
        }
        envelope::seal(entropy, kek.key(), Purpose::Keyring, KEK_TERM, &[installation], &plain)
    }

    /// Opens what [`Keyring::seal`] made.
    pub fn open(kek: &Kek, installation: &str, sealed: &[u8]) -> Result<Self, OpenError> {
        let plain = envelope::open(kek.key(), Purpose::Keyring, &[installation], sealed)?;
        let mut terms = BTreeMap::new();
        for record in plain.expose().chunks(TERM_LEN) {
            let (number, mut keys) = record.split_first_chunk::<4>().ok_or(OpenError::UnknownForm)?;
            let mut next = || {
                let (key, rest) = keys.split_first_chunk::<32>().ok_or(OpenError::UnknownForm)?;
                keys = rest;
                Ok(Secret::new(*key))
            };
            let term = Term { wrap: next()?, pepper: next()?, row_mac: next()?, log_signing_seed: next()? };
            terms.insert(u32::from_be_bytes(*number), term);
        }
        if terms.is_empty() { Err(OpenError::UnknownForm) } else { Ok(Self { terms }) }
    }

    /// The term that seals what is sealed now.
    pub fn current_term(&self) -> u32 {
        self.terms.last_key_value().map_or(0, |(number, _)| *number)
    }

    /// The MAC by which a presented secret is recognised, and the term of its pepper.
    ///
    /// # Panics
    /// Never: a keyring has a current term.
    pub fn mac(&self, message: &Secret<Vec<u8>>) -> (Vec<u8>, u32) {
        let term = self.current_term();
        let key = self.pepper(term).expect("the current term is in the keyring");
        (hmac::sign(&key, message.expose()).as_ref().to_vec(), term)
    }

    /// Whether `mac`, made in `term`, is the message's; in constant time. An unknown term recognises nothing.
    pub fn recognises(&self, message: &Secret<Vec<u8>>, mac: &[u8], term: u32) -> bool {
        self.pepper(term).is_some_and(|key| hmac::verify(&key, message.expose(), mac).is_ok())
    }

    /// The Ed25519 public key by which the log's signatures are checked.
    ///
    /// # Panics
    /// Never: a keyring has a term, and any 32 bytes are a seed.
    pub fn log_public_key(&self) -> Vec<u8> {
        let term = self.terms.last_key_value().map(|(_, term)| term).expect("a keyring has a term");
        let pair = signature::Ed25519KeyPair::from_seed_unchecked(term.log_signing_seed.expose())
            .expect("any 32 bytes are an Ed25519 seed");
        signature::KeyPair::public_key(&pair).as_ref().to_vec()
    }

    pub(super) fn wrap_key(&self, term: u32) -> Result<&Key, OpenError> {
        self.terms.get(&term).map(|keys| &keys.wrap).ok_or(OpenError::UnknownTerm(term))
    }

    fn pepper(&self, term: u32) -> Option<hmac::Key> {
        self.terms.get(&term).map(|keys| hmac::Key::new(hmac::HMAC_SHA256, keys.pepper.expose()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyring_opens_only_with_its_kek_in_its_installation() {
        let entropy = Entropy::new();
        let (kek, keyring) = (Kek::generate(&entropy), Keyring::generate(&entropy));
        let sealed = keyring.seal(&entropy, &kek, "inst_a");
        let opened = Keyring::open(&kek, "inst_a", &sealed).unwrap_or_else(|_| panic!("opens"));
        assert_eq!(opened.log_public_key(), keyring.log_public_key());
        assert!(Keyring::open(&kek, "inst_b", &sealed).is_err());
        assert!(Keyring::open(&Kek::generate(&entropy), "inst_a", &sealed).is_err());
    }

    #[test]
    fn a_secret_is_recognised_by_its_mac_and_term_alone() {
        let entropy = Entropy::new();
        let keyring = Keyring::generate(&entropy);
        let message = |text: &str| Secret::new(text.as_bytes().to_vec());
        let (mac, term) = keyring.mac(&message("right"));
        assert!(keyring.recognises(&message("right"), &mac, term));
        assert!(!keyring.recognises(&message("right"), &mac, term + 1));
        assert!(!keyring.recognises(&message("wrong"), &mac, term));
        assert!(!Keyring::generate(&entropy).recognises(&message("right"), &mac, term));
    }
}
