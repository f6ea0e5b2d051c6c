//! A tapped wire: what goes to the simulated provider goes through here and is counted by the byte, so that "the provider
//! saw nothing" means its socket, not what some reader made of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A listener that passes everything on. Dropped, it ends.
pub(crate) struct Tap {
    /// Its address.
    pub(crate) url: String,
    seen: Arc<Seen>,
    running: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    bytes: AtomicUsize,
}

impl Tap {
    /// Taps the wire to `url`.
    pub(crate) async fn on(url: &str) -> Self {
        let to = url.strip_prefix("http://").unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (url, seen) = (format!("http://{}", listener.local_addr().unwrap()), Arc::new(Seen::default()));
        let counts = Arc::clone(&seen);
        let running = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                counts.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(pass(
                    client,
                    TcpStream::connect(to.clone()).await.unwrap(),
                    Arc::clone(&counts),
                ));
            }
        });
        Self { url, seen, running }
    }

    /// Connections that were opened, and bytes that came.
    pub(crate) fn seen(&self) -> (usize, usize) {
        (self.seen.connections.load(Ordering::SeqCst), self.seen.bytes.load(Ordering::SeqCst))
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn pass(client: TcpStream, provider: TcpStream, seen: Arc<Seen>) {
    let ((mut from, mut back), (mut answers, mut to)) = (client.into_split(), provider.into_split());
    let asked = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            seen.bytes.fetch_add(read, Ordering::SeqCst);
            if to.write_all(&buffer[..read]).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    };
    let answered = async {
        let _ = tokio::io::copy(&mut answers, &mut back).await;
        let _ = back.shutdown().await;
    };
    futures_util::future::join(asked, answered).await;
}
