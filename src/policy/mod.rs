//! What a sub-key may do, and the one function that decides.

mod beta;
mod decide;
mod feature;
mod glob;
mod operation;
mod scope;

pub use beta::{BetaGlob, BetaGlobError, is_beta_byte};
pub use decide::{
    BodyFacts, Denial, Head, HeadFacts, Permit, Rule, Verdict, Whole, decide, decide_head, explain,
};
pub use feature::{Feature, FeatureSet};
pub use glob::{Glob, GlobError};
pub use operation::Operation;
pub use scope::{Bounds, Ceiling, OneOf, Scope};
