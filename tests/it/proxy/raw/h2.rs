//! HTTP/2 by hand: frames and header blocks as no library would write them.

use super::PATIENCE;
use crate::support::server::TestServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(in crate::proxy) const DATA: u8 = 0;
pub(in crate::proxy) const HEADERS: u8 = 1;
pub(in crate::proxy) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
pub(in crate::proxy) const WINDOW_UPDATE: u8 = 8;
pub(in crate::proxy) const CONTINUATION: u8 = 9;
/// A setting.
const INITIAL_WINDOW_SIZE: u8 = 4;
pub(in crate::proxy) const END_STREAM: u8 = 1;
pub(in crate::proxy) const END_HEADERS: u8 = 4;

/// One connection with prior knowledge.
pub(in crate::proxy) struct H2 {
    pub(in crate::proxy) stream: TcpStream,
}

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::proxy) enum Ended {
    /// With an answer of this body.
    Answered(String),
    /// Reset, with this error code.
    Reset(u32),
    /// The whole connection was ended, with this error code where one was told.
    Gone(Option<u32>),
}

/// One frame.
pub(in crate::proxy) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[a, b, c, kind, flags], &stream.to_be_bytes()[..], payload].concat()
}

/// A header block: every field literal, none remembered. Names and values below 127 bytes.
pub(in crate::proxy) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

impl H2 {
    pub(in crate::proxy) async fn connect(server: &TestServer) -> Self {
        Self::connect_to(&server.proxy, &[]).await
    }

    /// Connects to a URL of plain http, and gives no stream a window.
    pub(in crate::proxy) async fn without_window(url: &str) -> Self {
        Self::connect_to(url, &[0, INITIAL_WINDOW_SIZE, 0, 0, 0, 0]).await
    }

    async fn connect_to(url: &str, settings: &[u8]) -> Self {
        let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, settings)).await.unwrap();
        Self { stream }
    }

    /// Writes it all, unless the server has closed.
    pub(in crate::proxy) async fn send(&mut self, bytes: &[u8]) -> bool {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("the server does not read").is_ok()
    }

    /// Reads until the head of the stream's answer is here.
    pub(in crate::proxy) async fn headed(&mut self, stream: u32) {
        let read = async { while self.frame().await.expect("it is answered").1 != (HEADERS, stream) {} };
        timeout(PATIENCE, read).await.expect("no head comes");
    }

    /// Reads until the stream or the connection ends.
    pub(in crate::proxy) async fn ended(&mut self, stream: u32) -> Ended {
        timeout(PATIENCE, self.read(stream)).await.expect("the stream does not end")
    }

    /// Reads until the head of the stream's answer has come.
    pub(in crate::proxy) async fn until_head(&mut self, wanted: u32) {
        loop {
            let mut head = [0; 9];
            timeout(PATIENCE, self.stream.read_exact(&mut head)).await.expect("no head comes").unwrap();
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            self.stream.read_exact(&mut payload).await.unwrap();
            if head[3] == HEADERS && head[5..] == wanted.to_be_bytes() {
                return;
            }
        }
    }

    async fn read(&mut self, wanted: u32) -> Ended {
        let (mut body, mut gone) = (Vec::new(), None);
        loop {
            let Some((flags, (kind, stream), payload)) = self.frame().await else { return Ended::Gone(gone) };
            let code = |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
            match kind {
                GOAWAY => gone = Some(code(4)),
                RST_STREAM if stream == wanted => return Ended::Reset(code(0)),
                DATA if stream == wanted => body.extend_from_slice(&payload),
                _ => {}
            }
            if stream == wanted && matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                return Ended::Answered(String::from_utf8_lossy(&body).into_owned());
            }
        }
    }

    /// The next frame: its flags, its kind and stream, and what it carries. The server's settings are taken.
    async fn frame(&mut self) -> Option<(u8, (u8, u32), Vec<u8>)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap()) & 0x7fff_ffff;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        if (kind, flags) == (SETTINGS, 0) {
            let _ = self.stream.write_all(&frame(SETTINGS, 1, 0, &[])).await;
        }
        Some((flags, (kind, stream), payload))
    }
}
