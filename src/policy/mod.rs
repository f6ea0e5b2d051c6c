//! What a sub-key may do, and the one function that decides.

mod feature;
mod operation;

pub use feature::{Feature, FeatureSet};
pub use operation::Operation;
