//! Uploads through a server in a process of its own: how much memory a large one has, and what `kill -9` leaves.

use super::super::memory::resident;
use super::*;
use crate::support::process::{Installation, Process};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

const MIB: usize = 1 << 20;

fn uploading(server: &Process, secret: &str, path: &str, body: Vec<u8>) -> Request<Full<Bytes>> {
    let request = Request::post(format!("{}{path}", server.proxy_url()));
    let request = request.header("authorization", format!("Bearer {secret}")).header("content-type", FORM);
    request.body(Full::new(Bytes::from(body))).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_file_is_in_memory_once_on_its_way_up_and_not_at_all_on_its_way_down() {
    const FILE: usize = 60 * MIB;
    let installation = Installation::sqlite().await;
    let server = installation.serve_first().await;
    let (_, secret) = server.mint(&json!({"name": "large", "models": ["sandbox/*"]})).await;
    let small = server.send_raw(uploading(&server, &secret, FILES, upload_of(b"x"))).await.unwrap();
    assert_eq!(small.status, 200, "{}", small.json());
    let (before, _) = resident(&server);
    let bytes: Vec<u8> = (0..FILE).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let file = server.send_raw(uploading(&server, &secret, FILES, upload_of(&bytes))).await.unwrap();
    assert_eq!((file.status.as_u16(), file.json()["bytes"].as_u64()), (200, u64::try_from(FILE).ok()));
    let (after, most) = resident(&server);
    let grown = most.saturating_sub(before);
    println!("60 MiB up: {} MiB at the most, {} MiB left", grown / MIB, after.saturating_sub(before) / MIB);
    assert!(grown < FILE + 16 * MIB, "{grown} bytes");
    let path = format!("{FILES}/{}/content", id(&file.json()));
    let content = server.proxied(&secret, &path).await;
    assert!(content.status == 200 && content.bytes == bytes, "the same file");
    let (_, later) = resident(&server);
    println!("60 MiB down: {} MiB more", later.saturating_sub(most) / MIB);
    assert!(later.saturating_sub(most) < 8 * MIB, "it passes in pieces: {later} {most}");
}

/// A provider that takes one upload and never answers.
async fn silent_provider() -> (String, oneshot::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (took, taken) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = Vec::new();
        while !read.ends_with(b"--cut--\r\n") {
            assert!(stream.read_buf(&mut read).await.unwrap() > 0);
        }
        took.send(()).unwrap();
        while stream.read_buf(&mut read).await.is_ok_and(|bytes| bytes > 0) {}
    });
    (url, taken)
}

async fn killed_while_a_file_is_on_its_way(installation: Installation) {
    let mut server = installation.serve_first().await;
    let (url, taken) = silent_provider().await;
    let silent = json!({"slug": "silent", "dialects": {"openai": url}});
    assert_eq!(server.admin(Method::POST, "/api/v1/providers", &silent).await.status, 201);
    let key = json!({"name": "main", "secret": "silent-canary-provider-key"});
    let path = "/api/v1/providers/silent/credentials";
    assert_eq!(server.admin(Method::POST, path, &key).await.status, 201);
    let definition = json!({"name": "up", "models": ["sandbox/*", "silent/*"]});
    let (key, secret) = server.mint(&definition).await;
    let path = "/p/sandbox/v1/files";
    let kept = server.send_raw(uploading(&server, &secret, path, upload_of(b"kept"))).await.unwrap().json();
    let lost = server.send_raw(uploading(&server, &secret, "/p/silent/v1/files", upload_of(b"lost")));
    let kill = async {
        taken.await.unwrap();
        server.kill();
    };
    let (lost, ()) = tokio::join!(lost, kill);
    assert!(lost.is_none(), "no answer without its record");
    server.child.wait().await.unwrap();
    server = installation.serve().await;
    let listed = server.proxied(&secret, path).await;
    assert_eq!(listed.json()["data"], json!([kept]), "what was answered is on record");
    let listed = server.proxied(&secret, "/p/silent/v1/files").await;
    assert_eq!(listed.json()["data"], json!([]), "and nothing else");
    let entries = server.entries(&key).await;
    // Whether its admission was durable by then is a matter of the moment; what it cost is not.
    for entry in &entries {
        assert!(["completed", "unknown_outcome"].contains(&entry["outcome"].as_str().unwrap()), "{entry}");
        assert_eq!(entry["cost_usd"], "0.00", "{entry}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_kill_leaves_no_file_without_an_owner_that_was_answered_on_sqlite() {
    Box::pin(killed_while_a_file_is_on_its_way(Installation::sqlite().await)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p4_a_kill_leaves_no_file_without_an_owner_that_was_answered_on_postgres() {
    Box::pin(killed_while_a_file_is_on_its_way(Installation::postgres().await)).await;
}
