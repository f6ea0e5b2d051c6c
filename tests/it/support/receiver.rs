//! A receiver of webhooks: one request for each connection, read and answered by hand, so that nothing of the sender
//! under test has a part in it. It checks each signature itself, and misbehaves on demand.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::transit::write_secret;
use data_encoding::BASE64;
use ring::hmac;
use serde_json::Value;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The path of the hook, which is as good as a secret.
pub(crate) const PATH: &str = "/hook-canary-77c1/in?key=hook-canary-1d9e";

/// What the receiver does with a notice that it has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Answers with this status.
    Answers(u16),
    /// Answers with a redirect to itself.
    Redirects,
    /// Closes the connection without an answer.
    Closes,
    /// Keeps the connection and says nothing.
    Hangs,
    /// Takes it, and goes on talking for ever.
    Babbles,
}

/// What came in.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) id: String,
    pub(crate) timestamp: i64,
    pub(crate) signatures: Vec<String>,
    pub(crate) text: String,
    pub(crate) mood: Mood,
}

impl Delivery {
    pub(crate) fn body(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    /// Whether one of the signatures is that of the specification by this secret.
    pub(crate) fn is_signed_by(&self, secret: &str) -> bool {
        let key = BASE64.decode(secret.strip_prefix("whsec_").unwrap().as_bytes()).unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        let signed = format!("{}.{}.{}", self.id, self.timestamp, self.text);
        self.signatures.iter().any(|signature| {
            let mac = BASE64.decode(signature.strip_prefix("v1,").unwrap().as_bytes()).unwrap();
            hmac::verify(&key, signed.as_bytes(), &mac).is_ok()
        })
    }
}

#[derive(Default)]
struct Inside {
    first: VecDeque<Mood>,
    then: Option<Mood>,
}

/// The receiver, and a folder for the secret.
pub(crate) struct Receiver {
    address: SocketAddr,
    inside: Arc<Mutex<Inside>>,
    arriving: mpsc::Sender<Delivery>,
    arrived: mpsc::Receiver<Delivery>,
    running: Option<JoinHandle<()>>,
    folder: TempDir,
}

/// A secret for tests.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Another one.
pub(crate) const OTHER_SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

impl Receiver {
    /// One that takes whatever comes.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (arriving, arrived) = mpsc::channel(1_000);
        let folder = tempfile::tempdir().unwrap();
        let mut this = Self { address, inside: Arc::default(), arriving, arrived, running: None, folder };
        this.set_secrets(&[SECRET]);
        this.listen(listener);
        this
    }

    fn listen(&mut self, listener: TcpListener) {
        let (inside, arriving) = (Arc::clone(&self.inside), self.arriving.clone());
        self.running = Some(tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(meet(stream, Arc::clone(&inside), arriving.clone()));
            }
        }));
    }

    /// The file's secrets from now on.
    pub(crate) fn set_secrets(&self, secrets: &[&str]) {
        write_secret(&self.secret_file(), &secrets.join("\n"), 0o600);
    }

    pub(crate) fn secret_file(&self) -> PathBuf {
        self.folder.path().join("webhook-secret")
    }

    /// The settings that name it.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("BITTING_WEBHOOK_URL", self.url()),
            ("BITTING_WEBHOOK_SECRET_FILE", self.secret_file().display().to_string()),
        ]
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// It behaves like this from now on.
    pub(crate) fn set_mood(&self, mood: Mood) {
        self.inside.lock().unwrap().then = Some(mood);
    }

    /// The next notices meet these moods, one each.
    pub(crate) fn meet_first(&self, moods: &[Mood]) {
        self.inside.lock().unwrap().first = moods.iter().cloned().collect();
    }

    /// What comes next, within some seconds.
    pub(crate) async fn next(&mut self) -> Delivery {
        let next = tokio::time::timeout(Duration::from_secs(20), self.arrived.recv()).await;
        next.expect("nothing came to the webhook in twenty seconds").unwrap()
    }

    /// What has come and was not asked for yet.
    pub(crate) fn come(&mut self) -> Vec<Delivery> {
        std::iter::from_fn(|| self.arrived.try_recv().ok()).collect()
    }

    /// Nobody listens any more.
    pub(crate) async fn go_down(&mut self) {
        let running = self.running.take().unwrap();
        running.abort();
        let _ = running.await;
    }

    /// It listens again, where it did.
    pub(crate) async fn come_back(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.listen(listener);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

async fn meet(mut stream: TcpStream, inside: Arc<Mutex<Inside>>, arriving: mpsc::Sender<Delivery>) {
    let Some((head, text)) = read(&mut stream).await else { return };
    let header = |name: &str| {
        let of = |line: &str| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
        let line = head.lines().find(|line| of(line)).unwrap_or_else(|| panic!("no {name} in {head}"));
        line.split_once(':').unwrap().1.trim().to_owned()
    };
    let mood = {
        let mut inside = inside.lock().unwrap();
        let next = inside.first.pop_front();
        next.or_else(|| inside.then.clone()).unwrap_or(Mood::Answers(204))
    };
    assert!(head.starts_with(&format!("POST {PATH} HTTP/1.1")), "{head}");
    assert_eq!(header("content-type"), "application/json");
    let delivery = Delivery {
        id: header("webhook-id"),
        timestamp: header("webhook-timestamp").parse().unwrap(),
        signatures: header("webhook-signature").split(' ').map(str::to_owned).collect(),
        text,
        mood: mood.clone(),
    };
    arriving.send(delivery).await.unwrap();
    let answer = match mood {
        Mood::Answers(status) => format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n"),
        Mood::Redirects => format!("HTTP/1.1 307 Said\r\nlocation: {PATH}\r\ncontent-length: 0\r\n\r\n"),
        Mood::Closes => return,
        Mood::Hangs => String::new(),
        Mood::Babbles => "HTTP/1.1 200 Said\r\n\r\n".to_owned(),
    };
    let _ = stream.write_all(answer.as_bytes()).await;
    match mood {
        Mood::Babbles => while stream.write_all(&[b'x'; 4096]).await.is_ok() {},
        Mood::Hangs => drop(stream.read(&mut [0]).await),
        Mood::Answers(_) | Mood::Redirects | Mood::Closes => {}
    }
}

/// Head and body of a request; `None` when the sender leaves before its end.
async fn read(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = memchr::memmem::find(&bytes, b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase().strip_prefix("content-length:").map(|text| text.trim().to_owned())
            });
            let length: usize = length.unwrap().parse().unwrap();
            if bytes.len() >= end + 4 + length {
                return Some((head, String::from_utf8(bytes[end + 4..].to_vec()).unwrap()));
            }
        }
        let mut some = [0; 4096];
        match stream.read(&mut some).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&some[..count]),
        }
    }
}
