//! Acceptance tests: real stores, real sockets, the real binary.

mod floors;
mod proxy;
mod sandbox;
mod store;
mod support;
