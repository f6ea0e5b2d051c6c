//! The client's address over raw sockets: what a load balancer says before the request, and what proxies say in it.

use super::raw::{Raw, good};
use super::still_server;
use crate::support::server::TestServer;
use serde_json::{Value, json};

const TRUSTED: (&str, &str) = ("BITTING_TRUSTED_PROXIES", "127.0.0.0/8, 10.0.0.0/8");
const RELAYED: (&str, &str) = ("BITTING_PROXY_PROTOCOL", "true");

/// What a load balancer writes first, for this client or for itself.
fn header(client: Option<[u8; 4]>) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    match client {
        Some([a, b, c, d]) => {
            header.extend_from_slice(&[0x21, 0x11, 0, 12, a, b, c, d, 127, 0, 0, 1, 0x30, 0x39, 0, 80]);
        }
        None => header.extend_from_slice(&[0x20, 0, 0, 0]),
    }
    header
}

/// Status and code of a chat whose connection begins so, with these header lines; and its entry.
async fn told(
    server: &TestServer,
    key: &(String, String),
    first: &[u8],
    lines: &[u8],
) -> (u16, String, Value) {
    let request = good(&key.1);
    let (start, rest) = request.split_once("Host: x\r\n").unwrap();
    let mut raw = Raw::connect(server).await;
    raw.send([first, start.as_bytes(), b"Host: x\r\n", lines, rest.as_bytes()].concat()).await;
    let said = raw.said().await.unwrap();
    let entry = server.entries(&key.0).await.pop().unwrap();
    assert_eq!(entry["peer_ip"], "127.0.0.1", "whoever it was for");
    (said.status, said.code(), entry["client_ip"].clone())
}

#[tokio::test]
async fn p04_a_forwarded_address_is_read_from_the_right_and_an_unreadable_one_is_nobody() {
    let server = still_server(&[TRUSTED]).await;
    let bound = server.mint(json!({"ip_allow": ["203.0.113.0/24", "2001:db8::/32"]})).await;
    let free = server.mint(json!({})).await;
    for (lines, client) in [
        (&b"X-Forwarded-For: 203.0.113.7:4711\r\n"[..], Some("203.0.113.7")),
        (b"X-Forwarded-For: [2001:db8::7]:443\r\n", Some("2001:db8::7")),
        (b"X-Forwarded-For: 2001:db8::7%eth0\r\n", Some("2001:db8::7")),
        (b"X-Forwarded-For: [::ffff:203.0.113.7]\r\n", Some("203.0.113.7")),
        (b"x-forwarded-for:203.0.113.7 ,\t10.0.0.1\r\n", Some("203.0.113.7")),
        (
            b"X-Forwarded-For: junk\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-For: 10.0.0.1\r\n",
            Some("203.0.113.7"),
        ),
        (b"X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-For:\r\n", None),
        (b"X-Forwarded-For: 203.0.113.7,\r\n", None),
        (b"X-Forwarded-For: 203.0.113.7,,10.0.0.1\r\n", None),
        (b"X-Forwarded-For: 203.0.113.7, unknown\r\n", None),
        (b"X-Forwarded-For: 203.0.113.7, 203.0.113.0x7\r\n", None),
        (b"X-Forwarded-For: 203.0.113.7, \xff\r\n", None),
        (b"X-Forwarded-For: 203.0.113.7\xa0\r\n", None),
        (b"X-Forwarded-For: 10.0.0.1, 127.0.0.1\r\n", None),
        (b"X-Forwarded-For: ::ffff:10.0.0.1\r\n", None),
        (b"X-Forwarded-For:\r\n", None),
        (b"", None),
        (b"Forwarded: for=203.0.113.7\r\nX-Real-IP: 203.0.113.7\r\nTrue-Client-IP: 203.0.113.7\r\n", None),
    ] {
        let shown = String::from_utf8_lossy(lines).into_owned();
        server.sandbox.reset();
        let (status, code, logged) = told(&server, &bound, b"", lines).await;
        assert_eq!(logged, json!(client), "{shown}");
        if client.is_some() {
            assert_eq!(status, 200, "{shown}");
        } else {
            assert_eq!((status, code.as_str()), (403, "ip_not_allowed"), "{shown}");
            assert!(server.sandbox.requests().is_empty(), "{shown}");
        }
        let (status, _, logged) = told(&server, &free, b"", lines).await;
        assert_eq!((status, logged), (200, json!(client)), "a key without networks asks for none: {shown}");
    }
}

#[tokio::test]
async fn p04_a_load_balancer_names_the_client_and_a_proxy_before_it_another() {
    let server = still_server(&[TRUSTED, RELAYED]).await;
    let key = server.mint(json!({"ip_allow": ["203.0.113.0/24"]})).await;
    let forwarded = b"X-Forwarded-For: 203.0.113.9\r\n";
    for (client, lines, status, logged) in [
        (Some([203, 0, 113, 7]), &b""[..], 200, json!("203.0.113.7")),
        (Some([203, 0, 113, 7]), forwarded, 200, json!("203.0.113.7")),
        (Some([198, 51, 100, 1]), forwarded, 403, json!("198.51.100.1")),
        (Some([10, 0, 0, 1]), forwarded, 200, json!("203.0.113.9")),
        (Some([10, 0, 0, 1]), b"", 403, Value::Null),
        (None, forwarded, 200, json!("203.0.113.9")),
        (None, b"", 403, Value::Null),
    ] {
        let (said, _, entry) = told(&server, &key, &header(client), lines).await;
        assert_eq!((said, entry), (status, logged), "{client:?}");
    }
    let entries = server.entries(&key.0).await.len();
    for first in [&b""[..], b"PROXY TCP4 203.0.113.7 127.0.0.1 12345 80\r\n"] {
        let mut raw = Raw::connect(&server).await;
        raw.send([first, good(&key.1).as_bytes()].concat()).await;
        raw.assert_closed("a trusted proxy that does not say for whom it connects").await;
    }
    assert_eq!(server.entries(&key.0).await.len(), entries);
    // Operators come by themselves: the admin plane has no load balancer that speaks.
    assert_eq!(server.admin_get("/api/v1/subkeys").await.status, 200);
}

#[tokio::test]
async fn p04_nobody_untrusted_names_a_client_before_the_request() {
    let elsewhere = ("BITTING_TRUSTED_PROXIES", "10.0.0.0/8");
    for environment in [&[elsewhere, RELAYED][..], &[elsewhere], &[TRUSTED]] {
        let server = still_server(environment).await;
        let (id, secret) = server.mint(json!({"ip_allow": ["203.0.113.0/24"]})).await;
        let mut raw = Raw::connect(&server).await;
        raw.send([&header(Some([203, 0, 113, 7])), good(&secret).as_bytes()].concat()).await;
        assert_eq!(raw.said().await.unwrap().status, 400, "{environment:?}");
        raw.assert_closed("what is no HTTP").await;
        assert!(server.entries(&id).await.is_empty() && server.sandbox.requests().is_empty());
    }
}
