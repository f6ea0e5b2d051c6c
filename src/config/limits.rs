//! Every bound of the program, with its unit in its name, settable in the file's `[limits]`.

use crate::http;
use std::ops::RangeInclusive;
use std::time::Duration;

macro_rules! limits {
    ($($(#[$doc:meta])* $name:ident = $default:literal, $range:expr;)*) => {
        /// The bounds. A field's unit is the end of its name; a bare `max` counts.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Bounds {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Default for Bounds {
            fn default() -> Self {
                Self { $($name: $default,)* }
            }
        }

        impl Bounds {
            /// The names, as in the file.
            pub const NAMES: &[&str] = &[$(stringify!($name),)*];

            /// Sets one by name. An error says which values it may have; an unknown name is `None`.
            pub(super) fn set(&mut self, name: &str, value: i64) -> Option<Result<(), RangeInclusive<u64>>> {
                let set = |field: &mut u64, range: RangeInclusive<u64>| {
                    match u64::try_from(value).ok().filter(|value| range.contains(value)) {
                        Some(value) => { *field = value; Ok(()) }
                        None => Err(range),
                    }
                };
                match name {
                    $(stringify!($name) => Some(set(&mut self.$name, $range)),)*
                    _ => None,
                }
            }
        }
    };
}

const DAY_SECONDS: u64 = 86_400;
const GIB: u64 = 1 << 30;

limits! {
    /// From the first byte of a request's head to its end, and for a TLS handshake.
    header_read_seconds = 10, 1..=300;
    /// Request line and header fields together.
    header_block_bytes = 32_768, 8_192..=1 << 20;
    /// Header fields of one request.
    headers_max = 100, 16..=1_000;
    /// Path and query.
    uri_bytes = 8_192, 256..=65_000;
    /// How long a connection without a request is kept.
    keep_alive_seconds = 75, 1..=DAY_SECONDS;
    /// How long a client may leave its answer unread.
    write_stall_seconds = 300, 1..=DAY_SECONDS;
    /// What a client takes in a second, at the least, of an answer that was read whole: it may take `write_stall_seconds` and
    /// a second for each so many bytes.
    unread_bytes_per_second = 65_536, 1_024..=GIB;
    /// Requests at once on one HTTP/2 connection.
    http2_streams_max = 100, 1..=10_000;
    /// Connections at once on one listener.
    connections_max = 8_192, 1..=1_000_000;
    /// How long requests in flight may take to end after SIGTERM.
    drain_seconds = 30, 0..=DAY_SECONDS;
    /// How long a request's body may take to arrive.
    body_read_seconds = 120, 1..=DAY_SECONDS;
    /// A JSON body on the proxy: room for pictures.
    json_body_bytes = 33_554_432, 1_024..=GIB;
    /// A form on the proxy: room for files.
    multipart_body_bytes = 67_108_864, 1_024..=GIB;
    /// Request bodies in memory together, from all applications; above it 503. Operators have as much beside it, and so have
    /// answers that are read whole.
    request_bodies_bytes = 1_073_741_824, 1 << 20..=1 << 40;
    /// A body on the admin plane.
    admin_body_bytes = 262_144, 1_024..=1 << 26;
    /// A price list that is imported.
    import_body_bytes = 16_777_216, 1_024..=1 << 28;
    /// For a connection to a provider: name service, TCP and TLS.
    connect_seconds = 5, 1..=300;
    /// How long an unused connection to a provider is kept.
    pool_idle_seconds = 30, 1..=3_600;
    /// How much of a provider's answer that is no stream is read: it is metered whole before it is passed on.
    answer_body_bytes = 67_108_864, 1_024..=GIB;
    /// How much of a provider's error body is read.
    upstream_error_body_bytes = 1_048_576, 1_024..=1 << 26;
    /// Concurrent requests of a key that says nothing else.
    key_requests_max = 1_024, 1..=1_000_000;
    /// How often a running server compares what it uses with the database.
    integrity_check_seconds = 10, 1..=3_600;
    /// Concurrent requests in all; above it 503.
    requests_max = 4_096, 1..=1_000_000;
    /// Notices that wait for the webhook; of more, the oldest are dropped.
    notices_max = 10_000, 100..=1_000_000;
    /// How long a provider's old key may be used after a rotation that says nothing else.
    credential_drain_seconds = 900, 0..=DAY_SECONDS;
    /// How long a key service may refuse the key before an open vault is sealed; it is asked ten times as often.
    kek_lease_seconds = 600, 5..=DAY_SECONDS;
    /// Data keys that one term of the keyring wraps before it is rotated by itself.
    wrap_uses_max = 1_073_741_824, 1..=1 << 32;
    /// How long one term of the keyring wraps before it is rotated by itself.
    wrap_days_max = 90, 1..=3_650;
}

impl Bounds {
    /// What a listener needs of it.
    pub fn listener(&self) -> http::Limits {
        http::Limits {
            header_read_timeout: Duration::from_secs(self.header_read_seconds),
            header_block_bytes_max: count(self.header_block_bytes),
            headers_max: count(self.headers_max),
            uri_bytes_max: count(self.uri_bytes),
            keep_alive_timeout: Duration::from_secs(self.keep_alive_seconds),
            write_stall_timeout: Duration::from_secs(self.write_stall_seconds),
            http2_streams_max: u32::try_from(self.http2_streams_max).unwrap_or(u32::MAX),
            connections_max: count(self.connections_max),
            drain_timeout: Duration::from_secs(self.drain_seconds),
        }
    }

    /// The bounds of a body on the admin plane and of a price list. They share a room that no application has a part
    /// in: when applications fill theirs, keys can still be revoked.
    pub fn admin_bodies(&self) -> (http::BodyBound, http::BodyBound) {
        let body = self.body(self.admin_body_bytes);
        let import = http::BodyBound { bytes_max: count(self.import_body_bytes), ..body.clone() };
        (body, import)
    }

    /// The bound of a JSON body on the proxy, with a room of its own.
    pub fn json_body(&self) -> http::BodyBound {
        self.body(self.json_body_bytes)
    }

    /// The room for answers that are read whole: who sends large requests takes none of it.
    pub fn answers(&self) -> http::BodyRoom {
        self.room()
    }

    fn room(&self) -> http::BodyRoom {
        http::BodyRoom::new(count(self.request_bodies_bytes))
    }

    fn body(&self, bytes: u64) -> http::BodyBound {
        http::BodyBound {
            bytes_max: count(bytes),
            read_timeout: Duration::from_secs(self.body_read_seconds),
            room: self.room(),
        }
    }
}

fn count(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_design_and_lie_within_their_ranges() {
        let mut bounds = Bounds::default();
        assert_eq!(
            (bounds.header_read_seconds, bounds.header_block_bytes, bounds.headers_max),
            (10, 32 << 10, 100)
        );
        assert_eq!((bounds.json_body_bytes, bounds.connect_seconds), (32 << 20, 5));
        assert_eq!((bounds.key_requests_max, bounds.requests_max), (1024, 4096));
        assert_eq!(format!("{:?}", bounds.listener()), format!("{:?}", http::Limits::default()));
        for name in Bounds::NAMES {
            assert!(matches!(bounds.set(name, -1), Some(Err(_))), "{name}");
            let Some(Err(range)) = bounds.set(name, i64::MAX) else { panic!("{name} has no upper end") };
            assert_eq!(bounds.set(name, i64::try_from(*range.end()).unwrap()), Some(Ok(())), "{name}");
        }
        assert_eq!(bounds.set("nothing", 1), None);
    }
}
