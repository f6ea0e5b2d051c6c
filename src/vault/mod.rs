//! The vault: envelopes around the real keys of providers.
//!
//! A key-encryption key wraps the root key, which wraps the keyring; the keyring's wrap key wraps one random data key
//! for each version of a credential; the data key seals the provider's key. Associated data binds each ciphertext to
//! its place, so one moved to another row, or a base URL edited beside it, does not open. The keyring's row-MAC key
//! signs each row that grants power, and the register of all of them.

mod credential;
mod echo;
mod envelope;
mod kek;
mod keyring;
mod register;
mod root;
mod row;
mod webhook;

pub use credential::{
    Binding, ProviderKey, SealedCredential, open_credential, opens_there, reseal_credential,
    rewrap_credential, seal_credential,
};
pub use echo::{EchoGuard, Echoed, TextGuard};
pub use envelope::{OpenError, Purpose};
pub use kek::{Kek, KekError};
pub use keyring::{KeyUse, Keyring, verify_log};
pub use register::{Quarantine, Register, RegisterState, SealedBy};
pub use root::Root;
pub use row::{PowerRow, PowerTable};
pub use webhook::{WebhookSecretError, WebhookSecrets};
