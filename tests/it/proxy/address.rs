//! The client's address: believed from a trusted proxy, and from nobody else.

use super::{also, assert_one_denial, spoken, still_clock};
use crate::support::server::{TestServer, chat};
use crate::support::store::TestStore;
use serde_json::json;

const NETWORKS: [&str; 2] = ["203.0.113.0/24", "2001:db8::/32"];

/// Whether a request with these header lines is admitted, and the client's address as the log has it.
async fn told(environment: &[(&str, &str)], lines: &[(&str, &str)]) -> (bool, String) {
    let server = TestServer::start_with(TestStore::sqlite().await, still_clock(), environment).await;
    let (id, secret) = server.mint(json!({"ip_allow": NETWORKS})).await;
    let request = spoken(&server, "openai", &secret, "/v1/chat/completions", &chat("sandbox-mini"));
    let answer = server.call(also(request, lines)).await;
    let admitted = answer.status == 200;
    if !admitted {
        assert_eq!(answer.refusal(), (403, "ip_not_allowed".to_owned()), "{lines:?}");
        assert_one_denial(&server, &id, "ip_not_allowed", 403, "address").await;
        assert!(server.sandbox.requests().is_empty(), "{lines:?}");
    }
    let entry = server.entries(&id).await.pop().unwrap();
    assert_eq!(entry["peer_ip"], "127.0.0.1");
    (admitted, entry["client_ip"].as_str().unwrap_or("").to_owned())
}

#[tokio::test]
async fn a_peer_that_is_not_trusted_names_no_client() {
    for lines in [
        &[][..],
        &[("x-forwarded-for", "203.0.113.7")],
        &[
            ("x-real-ip", "203.0.113.7"),
            ("forwarded", "for=203.0.113.7"),
            ("cf-connecting-ip", "203.0.113.7"),
        ],
    ] {
        assert_eq!(told(&[], lines).await, (false, "127.0.0.1".to_owned()), "{lines:?}");
    }
    let elsewhere = [("BITTING_TRUSTED_PROXIES", "10.0.0.0/8")];
    assert!(!told(&elsewhere, &[("x-forwarded-for", "203.0.113.7")]).await.0);
}

#[tokio::test]
async fn a_trusted_proxy_names_the_right_most_client_that_is_no_proxy() {
    let trusted = [("BITTING_TRUSTED_PROXIES", "127.0.0.0/8, 10.0.0.0/8")];
    let xff = "x-forwarded-for";
    for (lines, admitted, client) in [
        (&[(xff, "203.0.113.7")][..], true, "203.0.113.7"),
        (&[(xff, "2001:db8::7")], true, "2001:db8::7"),
        (&[(xff, "::ffff:203.0.113.7")], true, "203.0.113.7"),
        (&[(xff, "198.51.100.1, 203.0.113.7, 10.1.1.1")], true, "203.0.113.7"),
        (&[(xff, "203.0.113.7, 198.51.100.1")], false, "198.51.100.1"),
        (&[(xff, "203.0.113.7"), (xff, "198.51.100.1")], false, "198.51.100.1"),
        (&[(xff, "198.51.100.1"), (xff, "203.0.113.7")], true, "203.0.113.7"),
        (&[(xff, "203.0.113.7, not-an-address")], false, ""),
        // A trusted proxy that names nobody leaves the client unknown, which fits no list.
        (&[("x-real-ip", "203.0.113.7")], false, ""),
        (&[(xff, "198.51.100.1"), ("x-real-ip", "203.0.113.7")], false, "198.51.100.1"),
    ] {
        assert_eq!(told(&trusted, lines).await, (admitted, client.to_owned()), "{lines:?}");
    }
}
