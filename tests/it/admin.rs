//! The admin plane, through its router, on both databases.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod alarms;
mod bad_input;
mod edges;
mod import;
mod logs;
mod models;
pub(crate) mod plane;
mod projects;
mod providers;
mod roles;
mod subkeys;
