//! Acceptance tests: real stores, real sockets, the real binary.

mod admin;
mod floors;
mod proxy;
mod sandbox;
mod store;
mod support;
