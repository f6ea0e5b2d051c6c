//! Randomness as an argument.

use ring::rand::{SecureRandom, SystemRandom};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The operating system's random generator.
#[derive(Clone, Debug)]
pub struct Entropy(SystemRandom);

impl Default for Entropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy {
    /// A handle on the operating system's generator.
    pub fn new() -> Self {
        Self(SystemRandom::new())
    }

    /// `N` fresh random bytes.
    ///
    /// # Panics
    /// When the operating system has no randomness to give: nothing safe can go on without it.
    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        assert!(self.0.fill(&mut bytes).is_ok(), "the operating system gave no randomness");
        bytes
    }

    /// `len` characters of `[0-9A-Za-z]`, each uniform (bytes over 247 are drawn again).
    pub fn base62(&self, len: usize) -> String {
        let mut text = String::with_capacity(len);
        while text.len() < len {
            for byte in self.bytes::<32>() {
                if byte < 248 && text.len() < len {
                    text.push(char::from(BASE62[usize::from(byte % 62)]));
                }
            }
        }
        text
    }

    /// A fresh public id: the prefix, `_`, and 22 characters (131 bits).
    pub fn id(&self, prefix: &str) -> String {
        format!("{prefix}_{}", self.base62(22))
    }
}
