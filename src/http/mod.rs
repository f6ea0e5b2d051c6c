//! What both planes share at the edge: the listener and its limits, request ids, bounded bodies,
//! strict JSON, problem details. Nothing here knows a route, a key or a provider.

pub mod body;
mod edge;
mod framing;
pub mod json;
pub mod listener;
pub mod panic;
pub mod problem;
pub mod request_id;
mod stall;
pub mod tls;

pub use body::{BodyBound, BodyError, read_body};
pub use edge::Peer;
pub use json::StrictJson;
pub use listener::{Limits, serve};
pub use problem::{FieldError, Problem};
pub use request_id::RequestId;
pub use tls::Tls;
