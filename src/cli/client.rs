//! The REST client of the noun commands: JSON in and out, refusals as [`Refusal`].
//!
//! It never repeats a request that was sent. Each POST carries an idempotency key of its own, so that a request that
//! the connection pool sends again on a fresh connection cannot be done twice.

use super::{CliError, ClientSettings, Refusal, UsageError};
use crate::base::Entropy;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, IF_MATCH, USER_AGENT};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::error::Error;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A revoke waits for every replica; nothing takes nearly as long.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A connection to one server as one operator.
pub(super) struct Client {
    http: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    settings: ClientSettings,
    authorization: Option<HeaderValue>,
    entropy: Entropy,
}

/// Query parameters in order.
pub(super) type Query = Vec<(&'static str, String)>;

/// The path of a resource; each segment is escaped.
pub(super) fn path(segments: &[&str]) -> String {
    let mut path = "/api/v1".to_owned();
    for segment in segments {
        path.push('/');
        escape_into(&mut path, segment);
    }
    path
}

fn escape_into(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            _ = write!(out, "%{byte:02X}");
        }
    }
}

fn with_query(path: &str, query: &[(&str, String)]) -> String {
    let mut target = path.to_owned();
    for (index, (name, value)) in query.iter().enumerate() {
        target.push(if index == 0 { '?' } else { '&' });
        escape_into(&mut target, name);
        target.push('=');
        escape_into(&mut target, value);
    }
    target
}

impl Client {
    /// Connects to nothing yet.
    pub(super) fn new(settings: ClientSettings, entropy: Entropy) -> Result<Self, CliError> {
        let authorization = settings.token().map(|token| {
            let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose().trim()))
                .map_err(|_| UsageError::Token)?;
            value.set_sensitive(true);
            Ok::<_, UsageError>(value)
        });
        if settings.in_clear() {
            eprintln!("warning: the operator token goes to {} unencrypted; use https", settings.url());
        }
        let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let tls =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(CliError::Tls)?
                .with_root_certificates(roots)
                .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let http = legacy::Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { http, settings, authorization: authorization.transpose()?, entropy })
    }

    /// Reads one resource.
    pub(super) async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, CliError> {
        self.json(self.request(Method::GET, &with_query(path, query), None)?).await
    }

    /// Makes or does something, once.
    pub(super) async fn post(&self, path: &str, body: Option<&Value>) -> Result<Value, CliError> {
        let mut request = self.request(Method::POST, path, body)?;
        let key = HeaderValue::try_from(self.entropy.base62(32)).map_err(|_| UsageError::Token)?;
        request.headers_mut().insert(IDEMPOTENCY_KEY, key);
        self.json(request).await
    }

    /// Does something with a body that is JSON as it is written, once.
    pub(super) async fn post_text(&self, path: &str, body: String) -> Result<Value, CliError> {
        let mut request = self.request_with(Method::POST, path, Some(Bytes::from(body)))?;
        let key = HeaderValue::try_from(self.entropy.base62(32)).map_err(|_| UsageError::Token)?;
        request.headers_mut().insert(IDEMPOTENCY_KEY, key);
        self.json(request).await
    }

    /// Puts a whole document.
    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Value, CliError> {
        self.json(self.request(Method::PUT, path, Some(body))?).await
    }

    /// Changes the fields of a merge patch; with `version` only if it is still at that.
    pub(super) async fn patch(
        &self,
        path: &str,
        body: &Value,
        version: Option<u64>,
    ) -> Result<Value, CliError> {
        let mut request = self.request(Method::PATCH, path, Some(body))?;
        if let Some(version) = version {
            let value = HeaderValue::try_from(format!("\"{version}\"")).map_err(|_| UsageError::Token)?;
            request.headers_mut().insert(IF_MATCH, value);
        }
        self.json(request).await
    }

    /// Deletes a resource.
    pub(super) async fn delete(&self, path: &str) -> Result<Value, CliError> {
        self.json(self.request(Method::DELETE, path, None)?).await
    }

    /// Hands each piece of a long answer to `sink`, as it comes.
    pub(super) async fn stream(
        &self,
        path: &str,
        query: &[(&str, String)],
        mut sink: impl FnMut(&[u8]) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let response = self.send(self.request(Method::GET, &with_query(path, query), None)?).await?;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let mut body = response.into_body();
        while let Some(frame) = self.in_time(body.frame()).await? {
            let frame = frame.map_err(|error| self.broken(&error))?;
            if let Some(data) = frame.data_ref() {
                sink(data)?;
            }
        }
        Ok(())
    }

    fn request(
        &self,
        method: Method,
        target: &str,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, CliError> {
        self.request_with(method, target, body.map(|body| Bytes::from(body.to_string())))
    }

    fn request_with(
        &self,
        method: Method,
        target: &str,
        bytes: Option<Bytes>,
    ) -> Result<Request<Full<Bytes>>, CliError> {
        let patch = method == Method::PATCH;
        let has_body = bytes.is_some();
        let mut request = Request::new(Full::new(bytes.unwrap_or_default()));
        *request.method_mut() = method;
        *request.uri_mut() = format!("{}{target}", self.settings.url())
            .parse()
            .map_err(|_| UsageError::Url { why: "it is too long together with the request" })?;
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("bitting/", env!("CARGO_PKG_VERSION"))));
        if has_body {
            let kind = if patch { "application/merge-patch+json" } else { "application/json" };
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        if let Some(value) = &self.authorization {
            headers.insert(AUTHORIZATION, value.clone());
        }
        Ok(request)
    }

    async fn json(&self, request: Request<Full<Bytes>>) -> Result<Value, CliError> {
        let response = self.send(request).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(self.refusal(response).await);
        }
        let bytes = self.read(response).await?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|_| self.not_ours(status))
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, CliError> {
        self.in_time(self.http.request(request)).await?.map_err(|error| self.failed(&error))
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Bytes, CliError> {
        let collected = self.in_time(Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect()).await?;
        collected.map(http_body_util::Collected::to_bytes).map_err(|error| self.broken(error.as_ref()))
    }

    async fn refusal(&self, response: Response<Incoming>) -> CliError {
        let status = response.status();
        let bytes = match self.read(response).await {
            Ok(bytes) => bytes,
            Err(error) => return error,
        };
        match serde_json::from_slice::<Refusal>(&bytes) {
            Ok(refusal) if !refusal.code.is_empty() => {
                CliError::Refused(Box::new(Refusal { status: status.as_u16(), ..refusal }))
            }
            Ok(_) | Err(_) => self.not_ours(status),
        }
    }

    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, CliError> {
        let late = |_| CliError::TimedOut { url: self.url(), seconds: ANSWER_TIMEOUT.as_secs() };
        tokio::time::timeout(ANSWER_TIMEOUT, work).await.map_err(late)
    }

    fn failed(&self, error: &legacy::Error) -> CliError {
        if !error.is_connect() {
            return self.broken(error);
        }
        let refused = causes(error).any(|cause| {
            cause.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::ConnectionRefused)
        });
        if refused {
            CliError::NoServer { url: self.url() }
        } else {
            CliError::Unreachable { url: self.url(), reason: root_cause(error) }
        }
    }

    fn broken(&self, error: &(dyn Error + 'static)) -> CliError {
        CliError::Broken { url: self.url(), reason: root_cause(error) }
    }

    fn not_ours(&self, status: StatusCode) -> CliError {
        CliError::NotOurs { url: self.url(), status: status.as_u16() }
    }

    /// The answer was a success and lacks what the contract promises.
    pub(super) fn lacking(&self) -> CliError {
        self.not_ours(StatusCode::OK)
    }

    fn url(&self) -> String {
        self.settings.url().to_owned()
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

fn root_cause(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Secret;
    use crate::cli::listing::{Extent, Listing};
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    /// Answers one connection after the other with `answers` as they are, and gives back what was asked.
    async fn server(answers: Vec<String>) -> (Client, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            let mut asked = vec![];
            for answer in answers {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut bytes = vec![0; 16 * 1024];
                let count = connection.read(&mut bytes).await.unwrap();
                asked.push(String::from_utf8(bytes[..count].to_vec()).unwrap());
                connection.write_all(answer.as_bytes()).await.unwrap();
            }
            asked
        });
        (client(&url), serving)
    }

    fn client(url: &str) -> Client {
        let settings = ClientSettings::new(url, Some(Secret::new("bo_canary\n".into()))).unwrap();
        Client::new(settings, Entropy::new()).unwrap()
    }

    fn answer(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    #[test]
    fn what_goes_into_a_url_cannot_leave_its_place() {
        assert_eq!(path(&["subkeys", "a/../b?x#y", "rotate"]), "/api/v1/subkeys/a%2F..%2Fb%3Fx%23y/rotate");
        let query = [("label", "team=a&b".to_owned()), ("q", "ä +".to_owned())];
        assert_eq!(with_query("/x", &query), "/x?label=team%3Da%26b&q=%C3%A4%20%2B");
        assert_eq!(with_query("/x", &[]), "/x");
    }

    #[tokio::test]
    async fn a_request_carries_the_token_and_a_fresh_idempotency_key() {
        let (client, serving) =
            server(vec![answer("201 Created", "{\"id\": 1}"), answer("204 No Content", "")]).await;
        assert_eq!(client.post("/a", Some(&json!({"x": 1}))).await.unwrap(), json!({"id": 1}));
        assert_eq!(client.post("/b", None).await.unwrap(), Value::Null);
        let asked = serving.await.unwrap();
        assert!(
            asked[0].starts_with("POST /a HTTP/1.1\r\n") && asked[0].ends_with("\r\n\r\n{\"x\":1}"),
            "{}",
            asked[0]
        );
        let header = |request: &str, name: &str| {
            let line = request.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
            line.unwrap_or_else(|| panic!("{name} is missing in {request}"))
        };
        assert_eq!(header(&asked[0], "authorization: "), "Bearer bo_canary");
        assert_eq!(header(&asked[0], "idempotency-key: ").len(), 32);
        assert_ne!(header(&asked[0], "idempotency-key: "), header(&asked[1], "idempotency-key: "));
    }

    #[tokio::test]
    async fn a_change_names_the_version_it_was_made_from() {
        let (client, serving) = server(vec![answer("200 OK", "{}")]).await;
        client.patch("/a", &json!({}), Some(3)).await.unwrap();
        let asked = serving.await.unwrap();
        assert!(
            asked[0].contains("if-match: \"3\"") && asked[0].contains("application/merge-patch+json"),
            "{}",
            asked[0]
        );
    }

    #[tokio::test]
    async fn pages_are_followed_to_the_limit_and_not_in_circles() {
        let page = |next: &str| answer("200 OK", &format!("{{\"items\": [1, 2], \"next_cursor\": {next}}}"));
        let extent = |text: &str| {
            let command = <Extent as clap::Args>::augment_args(clap::Command::new("list"));
            let matches =
                command.try_get_matches_from(std::iter::once("list").chain(text.split_whitespace())).unwrap();
            <Extent as clap::FromArgMatches>::from_arg_matches(&matches).unwrap()
        };
        let (client, serving) = server(vec![page("\"a b\""), page("\"c\"")]).await;
        let listing =
            Listing::read(&client, "/x", &vec![("q", "y".into())], extent("--limit 4")).await.unwrap();
        assert_eq!((listing.items.len(), listing.next_cursor.as_deref()), (4, Some("c")));
        let asked = serving.await.unwrap();
        assert!(asked[0].starts_with("GET /x?q=y&limit=4 "), "{}", asked[0]);
        assert!(asked[1].starts_with("GET /x?q=y&limit=2&cursor=a%20b "), "{}", asked[1]);

        let (client, _serving) = server(vec![page("\"a\""), page("null")]).await;
        assert_eq!(Listing::read(&client, "/x", &vec![], extent("--all")).await.unwrap().items.len(), 4);
        let (client, _serving) = server(vec![page("\"a\""), page("\"a\"")]).await;
        let circle = Listing::read(&client, "/x", &vec![], extent("--all")).await;
        assert!(matches!(circle, Err(CliError::NotOurs { .. })));
    }

    #[tokio::test]
    async fn refusals_strangers_broken_answers_and_silence_are_told_apart() {
        let problem = json!({"status": 200, "code": "invalid_token", "detail": "no such token"}).to_string();
        let (client, _serving) = server(vec![
            answer("401 Unauthorized", &problem),
            answer("200 OK", "<html>"),
            answer("404 Not Found", "{\"error\": {\"message\": \"not the admin API\"}}"),
            "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n{".to_owned(),
        ])
        .await;
        let refused = client.get("/a", &[]).await.unwrap_err();
        assert!(matches!(&refused, CliError::Refused(refusal) if refusal.status == 401), "{refused:?}");
        assert!(!refused.render().contains("bo_canary"));
        assert!(matches!(client.get("/a", &[]).await, Err(CliError::NotOurs { status: 200, .. })));
        assert!(matches!(client.get("/a", &[]).await, Err(CliError::NotOurs { status: 404, .. })));
        assert!(matches!(client.get("/a", &[]).await, Err(CliError::Broken { .. })));

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        assert!(matches!(self::client(&url).get("/a", &[]).await, Err(CliError::NoServer { .. })));
    }

    #[tokio::test]
    async fn an_export_that_breaks_off_is_an_error_after_what_came() {
        let chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\n{}\n\r\n";
        let (client, _serving) = server(vec![format!("{chunks}0\r\n\r\n"), chunks.to_owned()]).await;
        let mut came = vec![];
        let mut keep = |piece: &[u8]| {
            came.extend_from_slice(piece);
            Ok(())
        };
        client.stream("/x", &[], &mut keep).await.unwrap();
        assert!(matches!(client.stream("/x", &[], &mut keep).await, Err(CliError::Broken { .. })));
        assert_eq!(came, b"{}\n{}\n");
    }
}
