//! A request that is answered before its body was read: the connection goes on, or the client is told that it does not.

use super::raw::{Raw, good, written};
use crate::support::server::TestServer;
use crate::support::store::TestStore;
use serde_json::json;

#[tokio::test]
async fn a_refused_client_never_finds_its_connection_gone_unawares() {
    let server = TestServer::start(TestStore::sqlite().await).await;
    let (_, secret) = server.mint(json!({})).await;
    let (_, elsewhere) = server.mint(json!({"ip_allow": ["192.0.2.0/24"]})).await;
    let body = "x".repeat(100);
    for (key, status) in [("bk_short", 401), (elsewhere.as_str(), 403)] {
        let head = written(key, "Content-Length: 100\r\n", "");
        // The body comes after the head, as from most libraries: it is read for nothing, and the connection goes on.
        let mut raw = Raw::connect(&server).await;
        raw.send(&head).await;
        raw.send(&body).await;
        let said = raw.said().await.unwrap();
        assert_eq!((said.status, said.head.contains("connection: close")), (status, false), "{}", said.head);
        raw.send(good(&secret)).await;
        assert_eq!(raw.said().await.unwrap().status, 200);
        // It does not come in time, or is large, or waits to be asked for: the client is told.
        let large = written(key, "Content-Length: 1000000\r\n", "");
        let waits = written(key, "Content-Length: 100\r\nExpect: 100-continue\r\n", "");
        for head in [&head, &large, &waits] {
            let mut raw = Raw::connect(&server).await;
            raw.send(head).await;
            let said = raw.said().await.unwrap();
            assert_eq!(
                (said.status, said.head.contains("connection: close")),
                (status, true),
                "{}",
                said.head
            );
            raw.assert_closed("after the refusal").await;
        }
    }
    // What was read only in part is no different.
    let mut raw = Raw::connect(&server).await;
    raw.send(written(&secret, "Content-Length: 40000000\r\n", "{")).await;
    let said = raw.said().await.unwrap();
    assert_eq!((said.status, said.head.contains("connection: close")), (413, true), "{}", said.head);
}
