//! What tests stand on.

pub(crate) mod form;
pub(crate) mod objects;
pub(crate) mod process;
pub(crate) mod receiver;
pub(crate) mod server;
pub(crate) mod store;
pub(crate) mod tap;
pub(crate) mod transit;
