//! The vault: envelopes around the real keys of providers.
//!
//! A key-encryption key wraps the keyring; the keyring's wrap key wraps one random data key for each
//! version of a credential; the data key seals the provider's key. Associated data binds each
//! ciphertext to its place, so one moved to another row, or a base URL edited beside it, does not open.

mod credential;
mod echo;
mod envelope;
mod kek;
mod keyring;

pub use credential::{
    Binding, ProviderKey, SealedCredential, open_credential, reseal_credential, seal_credential,
};
pub use echo::{EchoGuard, Echoed};
pub use envelope::{OpenError, Purpose};
pub use kek::{Kek, KekError};
pub use keyring::Keyring;
