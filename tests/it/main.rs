//! Acceptance tests: real stores, real sockets, the real binary.

mod admin;
mod alerts;
mod backup;
mod doctor;
mod floors;
mod kek;
mod ledger;
mod proxy;
mod sandbox;
mod secrets;
mod store;
mod support;
mod vault;
