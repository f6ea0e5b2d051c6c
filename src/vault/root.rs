//! The root key: what every key-encryption key wraps, and what wraps the keyring.
//!
//! It is between the two so that the keyring can be written anew while several key-encryption keys open it.

use super::envelope::{self, Key, OpenError, Purpose};
use super::kek::Kek;
use crate::base::{Entropy, Secret};

const TERM: u32 = 0;

/// The root key of an installation.
pub struct Root(Key);

impl Root {
    /// Draws a fresh one.
    pub fn generate(entropy: &Entropy) -> Self {
        Self(Secret::new(entropy.bytes()))
    }

    /// Wraps the root under a key-encryption key, for this installation only.
    pub fn seal(&self, entropy: &Entropy, kek: &Kek, installation: &str) -> Vec<u8> {
        envelope::seal(entropy, kek.key(), Purpose::Root, TERM, &[installation, &kek.id()], self.0.expose())
    }

    /// Opens what [`Root::seal`] made.
    pub fn open(kek: &Kek, installation: &str, sealed: &[u8]) -> Result<Self, OpenError> {
        let plain = envelope::open(kek.key(), Purpose::Root, &[installation, &kek.id()], sealed)?;
        let key = plain.expose().as_slice().try_into().map_err(|_| OpenError::UnknownForm)?;
        Ok(Self(Secret::new(key)))
    }

    pub(super) fn key(&self) -> &Key {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_opens_by_each_key_that_wraps_it_and_by_no_other() {
        let entropy = Entropy::new();
        let (root, one, two) = (Root::generate(&entropy), Kek::generate(&entropy), Kek::generate(&entropy));
        let (by_one, by_two) = (root.seal(&entropy, &one, "inst"), root.seal(&entropy, &two, "inst"));
        for (kek, sealed) in [(&one, &by_one), (&two, &by_two)] {
            let opened = Root::open(kek, "inst", sealed).unwrap_or_else(|_| panic!("opens"));
            assert_eq!(opened.key().expose(), root.key().expose());
            assert!(Root::open(kek, "other", sealed).is_err());
        }
        assert!(Root::open(&one, "inst", &by_two).is_err());
    }
}
