//! Both ends of the hop, on sockets: a client that writes and a provider that answers in the pieces that they are told.

use super::answer::{Answer, Framing};
use super::ask::{Ask, Kind};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Longer than anything here takes, on the slowest machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// The header that tells the provider which case it is in; it passes unchanged.
const CASE: &str = "x-client-request-id";

/// A message's head, in lower case but for what it says, and its body.
struct Message {
    start: String,
    headers: HashMap<String, String>,
    body: Vec<u8>,
    /// It came to the end that it said it would have.
    is_whole: bool,
}

/// Reads one message; `None` where the connection ends instead.
async fn read(stream: &mut BufReader<TcpStream>) -> Option<Message> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.strip_suffix("\r\n").unwrap().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let start = lines.remove(0);
    let split = |line: String| {
        line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
    };
    let headers: HashMap<String, String> = lines.into_iter().filter_map(split).collect();
    let mut message = Message { start, headers, body: Vec::new(), is_whole: true };
    if message.headers.get("transfer-encoding").is_some_and(|value| value == "chunked") {
        message.is_whole = chunks(stream, &mut message.body).await.is_some();
    } else {
        let length = message.headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        message.body = vec![0; length];
        message.is_whole = stream.read_exact(&mut message.body).await.is_ok();
    }
    Some(message)
}

async fn chunks(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>) -> Option<()> {
    loop {
        let mut size = String::new();
        stream.read_line(&mut size).await.ok()?;
        let size = usize::from_str_radix(size.strip_suffix("\r\n")?, 16).ok()?;
        let mut chunk = vec![0; size + 2];
        stream.read_exact(&mut chunk).await.ok()?;
        body.extend_from_slice(&chunk[..size]);
        if size == 0 {
            return Some(());
        }
    }
}

/// Writes a body piece by piece, each in a write of its own.
async fn write(stream: &mut BufReader<TcpStream>, pieces: &[Vec<u8>], is_chunked: bool) -> Option<()> {
    // A chunk of nothing would be the last one.
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        let piece = if is_chunked {
            [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
        } else {
            piece.clone()
        };
        stream.write_all(&piece).await.ok()?;
        tokio::task::yield_now().await;
    }
    if is_chunked {
        stream.write_all(b"0\r\n\r\n").await.ok()?;
    }
    Some(())
}

/// What the provider was sent in one case.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) path: String,
    pub(super) body: Vec<u8>,
}

/// A provider that answers each case as it is told.
#[derive(Clone, Default)]
pub(super) struct Provider {
    answers: Arc<Mutex<HashMap<String, Answer>>>,
    received: Arc<Mutex<HashMap<String, Received>>>,
}

impl Provider {
    /// Starts one; returns its origin too.
    pub(super) async fn start() -> (Self, String) {
        let (this, listener) = (Self::default(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let url = format!("http://{}", listener.local_addr().unwrap());
        let provider = this.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let provider = provider.clone();
                tokio::spawn(async move { provider.serve(BufReader::new(stream)).await });
            }
        });
        (this, url)
    }

    pub(super) fn expect(&self, case: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(case.to_owned(), answer);
    }

    pub(super) fn received(&self, case: &str) -> Option<Received> {
        self.received.lock().unwrap().remove(case)
    }

    async fn serve(&self, mut stream: BufReader<TcpStream>) -> Option<()> {
        loop {
            let message = read(&mut stream).await?;
            assert!(message.is_whole, "the gate's own request is whole");
            let case = message.headers.get(CASE).unwrap().clone();
            let path = message.start.split(' ').nth(1).unwrap().to_owned();
            let twice =
                self.received.lock().unwrap().insert(case.clone(), Received { path, body: message.body });
            assert!(twice.is_none(), "a request is sent once");
            let answer = self.answers.lock().unwrap().remove(&case).unwrap();
            let framing = match answer.framing {
                Framing::Length => format!("content-length: {}", answer.bytes.len()),
                Framing::Chunked => "transfer-encoding: chunked".to_owned(),
                Framing::Close => "connection: close".to_owned(),
            };
            let Answer { status, content_type, .. } = answer;
            let head = format!("HTTP/1.1 {status} Said\r\ncontent-type: {content_type}\r\n{framing}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.ok()?;
            write(&mut stream, &answer.pieces, answer.framing == Framing::Chunked).await?;
            if answer.framing == Framing::Close {
                return None;
            }
        }
    }
}

/// What the client was told in one case.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) status: u16,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
    pub(super) is_whole: bool,
}

/// A client of the gate, on a connection that it keeps as long as it can.
pub(super) struct Client {
    address: String,
    stream: Option<BufReader<TcpStream>>,
}

impl Client {
    pub(super) fn new(url: &str) -> Self {
        Self { address: url.strip_prefix("http://").unwrap().to_owned(), stream: None }
    }

    pub(super) async fn call(&mut self, case: &str, secret: &str, ask: &Ask) -> Told {
        timeout(PATIENCE, self.converse(case, secret, ask))
            .await
            .expect("nothing is said, and nothing closed")
    }

    async fn converse(&mut self, case: &str, secret: &str, ask: &Ask) -> Told {
        let mut stream = if let Some(stream) = self.stream.take() {
            stream
        } else {
            let stream = TcpStream::connect(&self.address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            BufReader::new(stream)
        };
        let key = match ask.kind {
            Kind::Messages => format!("x-api-key: {secret}\r\nanthropic-version: 2023-06-01"),
            kind if kind.is_google() => format!("x-goog-api-key: {secret}"),
            _ => format!("authorization: Bearer {secret}"),
        };
        let framing = if ask.is_chunked {
            "transfer-encoding: chunked".to_owned()
        } else {
            format!("content-length: {}", ask.sent.len())
        };
        let head = format!(
            "POST {} HTTP/1.1\r\nhost: x\r\n{key}\r\n{CASE}: {case}\r\ncontent-type: application/json\r\n{framing}\r\n\r\n",
            ask.path
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        write(&mut stream, &ask.pieces, ask.is_chunked).await.expect("the request is read");
        let message = read(&mut stream).await.expect("an answer");
        if message.is_whole && message.headers.get("connection").is_none_or(|value| value != "close") {
            self.stream = Some(stream);
        }
        let status = message.start.split(' ').nth(1).unwrap().parse().unwrap();
        let Message { headers, body, is_whole, .. } = message;
        Told { status, headers, body, is_whole }
    }
}
