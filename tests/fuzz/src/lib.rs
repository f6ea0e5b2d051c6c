//! The product's pure floors, compiled from its own sources: what the targets fuzz, without a server, a store, or the
//! hundreds of crates behind those.

#[path = "../../../src/base/mod.rs"]
pub mod base;
#[path = "../../../src/budget/mod.rs"]
pub mod budget;
#[path = "../../../src/policy/mod.rs"]
pub mod policy;
#[path = "../../../src/provider/mod.rs"]
pub mod provider;
#[path = "../../../src/subkey/mod.rs"]
pub mod subkey;
