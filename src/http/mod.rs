//! What the edges share: the listener and its limits, request ids, bounded bodies, strict JSON, problem details, and
//! the one client for connections to the outside. Nothing here knows a route, a key or what a provider is asked.

pub mod body;
mod buffer;
pub mod client;
mod edge;
mod entrance;
mod framing;
pub mod json;
pub mod listener;
pub mod panic;
pub mod problem;
mod relay;
pub mod request_id;
pub mod room;
mod stall;
pub mod tls;

pub use body::{BodyBound, BodyError, read_body};
pub use buffer::{Buffer, NoRoom};
pub use edge::{HangUp, Peer};
pub use entrance::{EdgeRefusal, Entrance, Say, Voice, problems};
pub use json::StrictJson;
pub use listener::{Limits, serve};
pub use problem::{FieldError, Problem};
pub use request_id::RequestId;
pub use room::BodyRoom;
pub use tls::Tls;
