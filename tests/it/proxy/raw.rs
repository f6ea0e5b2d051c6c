//! A client that writes bytes: what no library would send, and exactly what comes back.

pub(super) mod h2;

use crate::support::server::{TestServer, chat};
use serde_json::Value;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longer than anything here takes, on the slowest machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// One connection to the proxy.
pub(super) struct Raw {
    stream: BufReader<TcpStream>,
}

/// One answer over HTTP/1.1.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) status: u16,
    /// The status line and the header fields, in lower case.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Said {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The code of an error in the OpenAI dialect; empty without one.
    pub(super) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

impl Raw {
    pub(super) async fn connect(server: &TestServer) -> Self {
        Self::connect_to(&server.proxy).await
    }

    /// Connects to a URL of plain http.
    pub(super) async fn connect_to(url: &str) -> Self {
        let stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Writes it all; a server that has heard enough may have closed meanwhile.
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ =
            timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.expect("the server does not read");
    }

    /// The next answer; `None` when the connection ends instead.
    pub(super) async fn said(&mut self) -> Option<Said> {
        timeout(PATIENCE, self.read()).await.expect("nothing is said, and nothing closed")
    }

    async fn read(&mut self) -> Option<Said> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.stream.read_line(&mut head).await.ok()? == 0 {
                return None;
            }
        }
        let head = head.to_ascii_lowercase();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        if head.contains("transfer-encoding: chunked") {
            self.chunks(&mut body).await?;
        } else if length.is_none() && status >= 200 && head.contains("connection: close") {
            self.stream.read_to_end(&mut body).await.ok()?;
        } else {
            self.stream.read_exact(&mut body).await.ok()?;
        }
        Some(Said { status, head, body })
    }

    async fn chunks(&mut self, body: &mut Vec<u8>) -> Option<()> {
        loop {
            let mut size = String::new();
            self.stream.read_line(&mut size).await.ok()?;
            let size = usize::from_str_radix(size.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            self.stream.read_exact(&mut chunk).await.ok()?;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return Some(());
            }
        }
    }

    /// Nothing more is said, and the connection ends.
    pub(super) async fn assert_closed(&mut self, what: &str) {
        let mut rest = Vec::new();
        // A reset is an end too: the server closes on bytes that it does not read.
        let _ = timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.expect(what);
        assert!(rest.is_empty(), "{what}: {}", String::from_utf8_lossy(&rest));
    }

    /// Exactly so many bytes; `None` when the connection ends before.
    pub(super) async fn exactly(&mut self, bytes: usize) -> Option<Vec<u8>> {
        let mut read = vec![0; bytes];
        let done = timeout(PATIENCE, self.stream.read_exact(&mut read)).await.expect("nothing comes");
        done.ok().map(|_| read)
    }

    /// All that comes until the connection ends.
    pub(super) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await.expect("the connection stays");
        rest
    }

    /// Reads on until this has come; `false` when the connection ends before.
    pub(super) async fn until(&mut self, wanted: &[u8]) -> bool {
        let mut tail = Vec::new();
        let mut piece = vec![0; 64 * 1024];
        while memchr::memmem::find(&tail, wanted).is_none() {
            let read = timeout(PATIENCE, self.stream.read(&mut piece)).await.expect("nothing comes");
            let Ok(read @ 1..) = read else { return false };
            // What could be the beginning of it stays.
            tail.drain(..tail.len().saturating_sub(wanted.len()));
            tail.extend_from_slice(&piece[..read]);
        }
        true
    }
}

/// A chat as a client would write it, with these header lines for its framing, each with its end.
pub(super) fn written(secret: &str, framing: &str, body: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {secret}\r\n\
         Content-Type: application/json\r\n{framing}\r\n{body}"
    )
}

/// A good chat.
pub(super) fn good(secret: &str) -> String {
    let body = chat("sandbox-mini").to_string();
    written(secret, &format!("Content-Length: {}\r\n", body.len()), &body)
}

/// A body in one chunk.
pub(super) fn chunked(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())
}
