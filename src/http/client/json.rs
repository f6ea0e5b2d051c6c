//! One JSON call to a service over TLS: a key service, and whatever else answers with a small document.
//!
//! Each call has a connection of its own: such calls are rare, and a pooled connection that the service has closed in
//! the meantime would be a failure of its own. Header values are marked as sensitive, and both bodies are wiped when
//! they are dropped; the buffers of hyper and rustls hold copies that nobody can wipe.

use super::connect::{ConnectError, Connector};
use super::{Outgoing, OutgoingError, cause};
use crate::base::Secret;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use std::time::Duration;
use tokio::time::timeout;
use zeroize::Zeroizing;

/// Sends JSON calls. Clones share the connector.
#[derive(Clone)]
pub struct JsonClient {
    client: Client<Connector, Full<Bytes>>,
    answer_bytes_max: usize,
}

/// One call.
pub struct JsonCall {
    /// What is done.
    pub method: Method,
    /// An absolute URI.
    pub uri: Uri,
    /// Beside those that a JSON call has anyway. Taken for secrets, all of them.
    pub headers: HeaderMap,
    /// A JSON text, or nothing.
    pub body: Option<Secret<Vec<u8>>>,
    /// For the whole call, from the name service to the answer's last byte.
    pub timeout: Duration,
}

/// An answer, whatever its status: a redirect is an answer too.
pub struct JsonAnswer {
    /// Its status.
    pub status: StatusCode,
    body: Secret<Vec<u8>>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonCallError {
    /// Nothing was sent.
    #[error(transparent)]
    NotConnected(#[from] ConnectError),
    /// The connection ended before the answer did; the call may have been carried out.
    #[error("the connection ended before the answer did: {reason}")]
    BrokenOff {
        /// What hyper says.
        reason: String,
    },
    /// The answer was not there in time; the call may have been carried out.
    #[error("no answer within {} ms", after.as_millis())]
    Timeout {
        /// The time it had.
        after: Duration,
    },
    /// The answer is longer than answers are.
    #[error("the answer is longer than {bytes_max} bytes")]
    TooLarge {
        /// How long it may be.
        bytes_max: usize,
    },
}

impl JsonClient {
    /// A client for answers of at most this length.
    pub fn new(outgoing: Outgoing, answer_bytes_max: usize) -> Result<Self, OutgoingError> {
        let mut builder = Client::builder(TokioExecutor::new());
        let client = builder.pool_max_idle_per_host(0).build(outgoing.connector()?);
        Ok(Self { client, answer_bytes_max })
    }

    /// Sends one call, once, and reads its answer whole.
    pub async fn send(&self, call: JsonCall) -> Result<JsonAnswer, JsonCallError> {
        let after = call.timeout;
        match timeout(after, self.exchange(call)).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(JsonCallError::Timeout { after }),
        }
    }

    /// Sends one call, once, and reads nothing of its answer but the status.
    pub async fn send_for_status(&self, call: JsonCall) -> Result<StatusCode, JsonCallError> {
        let after = call.timeout;
        match timeout(after, self.client.request(request(call))).await {
            Ok(Ok(answer)) => Ok(answer.status()),
            Ok(Err(error)) => Err(failure(&error)),
            Err(_elapsed) => Err(JsonCallError::Timeout { after }),
        }
    }

    async fn exchange(&self, call: JsonCall) -> Result<JsonAnswer, JsonCallError> {
        let answer = self.client.request(request(call)).await.map_err(|error| failure(&error))?;
        let status = answer.status();
        let bytes_max = self.answer_bytes_max;
        let mut body = Limited::new(answer.into_body(), bytes_max);
        let mut read = Zeroizing::new(Vec::with_capacity(bytes_max));
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => read.extend_from_slice(frame.data_ref().map_or(&[], |bytes| bytes)),
                Err(error) if error.is::<LengthLimitError>() => {
                    return Err(JsonCallError::TooLarge { bytes_max });
                }
                Err(error) => return Err(JsonCallError::BrokenOff { reason: error.to_string() }),
            }
        }
        Ok(JsonAnswer { status, body: Secret::new(std::mem::take(&mut *read)) })
    }
}

impl JsonAnswer {
    /// The body as a `T`; `None` when it is none. A secret in it belongs into a [`Secret`] of `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(self.body.expose()).ok()
    }
}

fn request(call: JsonCall) -> Request<Full<Bytes>> {
    let has_body = call.body.is_some();
    // Wiped when the last of hyper's references is dropped.
    let body = call.body.map_or_else(Bytes::new, |body| Bytes::from_owner(Exposed(body)));
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = call.method;
    *request.uri_mut() = call.uri;
    *request.headers_mut() = call.headers;
    request.headers_mut().values_mut().for_each(|value| value.set_sensitive(true));
    request.headers_mut().insert(ACCEPT, HeaderValue::from_static("application/json"));
    if has_body {
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    request
}

/// A body that hyper reads and that is wiped after.
struct Exposed(Secret<Vec<u8>>);

impl AsRef<[u8]> for Exposed {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

fn failure(error: &legacy::Error) -> JsonCallError {
    if let Some(connect) = cause::<ConnectError>(error) {
        return connect.clone().into();
    }
    let hyper = cause::<hyper::Error>(error);
    let reason = hyper.map_or_else(|| "the connection ended".to_owned(), ToString::to_string);
    if error.is_connect() {
        ConnectError::Unused { reason }.into()
    } else {
        JsonCallError::BrokenOff { reason }
    }
}
