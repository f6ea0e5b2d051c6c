//! Words that every floor shares: time, ids, money, secrets, addresses, strict JSON. Pure.

mod clock;
mod decimal;
mod entropy;
pub mod json;
mod money;
mod net;
mod secret;
mod text;

pub use clock::{Clock, Clocks};
pub use decimal::Decimal;
pub use entropy::Entropy;
pub use money::{MoneyError, NanoUsd, signed};
pub use net::{CidrSet, CidrSetError, client_ip};
pub use secret::Secret;
pub use text::{clip, hide_tokens, hide_tokens_in};
