//! Sub-keys: what an application holds, and what it is written down as.

mod definition;
mod record;
mod token;

pub use definition::{Definition, DefinitionError};
pub use record::{SecretRecord, State, SubKey};
pub use token::{SubKeyId, SubKeyToken, TokenError};
