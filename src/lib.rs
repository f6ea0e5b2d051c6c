#![doc = include_str!("ARCHITECTURE.md")]

pub mod base;
pub mod policy;
pub mod provider;
