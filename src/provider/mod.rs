//! Providers as facts: dialects, operations, models, prices, and how requests and answers read.

pub mod address;
pub mod answer;
pub mod ask;
pub mod base_url;
pub mod catalog;
mod dialect;
pub mod endpoint;
pub mod model;
pub mod operation;
pub mod price;
pub mod resolve;
mod slug;
mod usage;
pub mod wellknown;
pub mod worst_case;

pub use dialect::Dialect;
pub use slug::{Slug, SlugError};
pub use usage::{Reading, Usage};
