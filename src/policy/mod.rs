//! What a sub-key may do, and the one function that decides.

mod decide;
mod feature;
mod glob;
mod operation;
mod scope;

pub use decide::{
    BodyFacts, Denial, Head, HeadFacts, Permit, Rule, Verdict, Whole, decide, decide_head, explain,
};
pub use feature::{Feature, FeatureSet};
pub use glob::{Glob, GlobError};
pub use operation::Operation;
pub use scope::{Bounds, Ceiling, OneOf, Scope};
