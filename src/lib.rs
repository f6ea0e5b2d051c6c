#![doc = include_str!("ARCHITECTURE.md")]

pub mod admin;
pub mod app;
pub mod base;
pub mod budget;
pub mod cli;
pub mod config;
pub mod http;
pub mod log;
pub mod policy;
pub mod provider;
pub mod proxy;
pub mod sandbox;
pub mod service;
pub mod store;
pub mod subkey;
pub mod vault;
