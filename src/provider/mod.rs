//! Providers as facts: dialects, operations, models, prices, and how requests and answers read.

pub mod ask;
mod dialect;
mod usage;

pub use dialect::Dialect;
pub use usage::{Reading, Usage};
