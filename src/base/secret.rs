//! A value that must not leak: it cannot be printed, copied or serialised, and is wiped when dropped.

use zeroize::Zeroize;

/// Wraps a secret. There is no `Debug`, `Clone` or `Serialize`: the only way to the value is
/// [`Secret::expose`], called on the line that uses it.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes the value in.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// Lends the value out, for the line that uses it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<'de> serde::Deserialize<'de> for Secret<String> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}
