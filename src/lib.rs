#![doc = include_str!("ARCHITECTURE.md")]

pub mod base;
pub mod budget;
pub mod cli;
pub mod log;
pub mod policy;
pub mod provider;
pub mod sandbox;
pub mod subkey;
pub mod vault;
