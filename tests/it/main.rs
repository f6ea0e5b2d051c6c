//! Acceptance tests: real stores, real sockets, the real binary.

mod sandbox;
mod store;
mod support;
