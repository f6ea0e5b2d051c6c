//! A load balancer says for whom it connects; who is none is not listened to.

use super::*;
use crate::base::CidrSet;
use tokio_rustls::rustls::pki_types::ServerName;

/// What a relay writes first for this client; without one, what it writes for itself.
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

fn entrance(relays: &str) -> Entrance {
    Entrance { relays: CidrSet::parse(&[relays]).unwrap(), ..Entrance::default() }
}

const PEER: &[u8] = b"GET /peer HTTP/1.1\r\nHost: a\r\n\r\n";
const CLIENT: [u8; 4] = [203, 0, 113, 7];

/// The answer to a connection that begins so and then asks who its peer is.
async fn asked_after(server: &Served, first: &[u8]) -> (String, bool) {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&[first, PEER].concat()).await.unwrap();
    answer(&mut stream).await
}

#[tokio::test]
async fn a_relay_is_believed_and_must_speak() {
    let limits = Limits { header_read_timeout: Duration::from_millis(100), ..Limits::default() };
    let server = served(limits, entrance("127.0.0.0/8")).await;
    let (text, closed) = asked_after(&server, &header(Some(CLIENT))).await;
    assert!(
        text.starts_with("HTTP/1.1 200") && text.contains("\r\n\r\n203.0.113.7 req_") && !closed,
        "{text}"
    );
    let (text, _) = asked_after(&server, &header(None)).await;
    assert!(text.contains("\r\n\r\n127.0.0.1 req_"), "of itself it says nothing: {text}");

    let twice = [header(Some(CLIENT)), header(None)].concat();
    let (text, closed) = asked_after(&server, &twice).await;
    assert!(text.starts_with("HTTP/1.1 400") && closed, "what stands behind a header is HTTP: {text}");
    for mute in [&b""[..], b"PROXY TCP4 203.0.113.7 127.0.0.1 12345 80\r\n"] {
        assert_eq!(asked_after(&server, mute).await, (String::new(), true), "{mute:?}");
    }
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(&header(Some(CLIENT))[..20]).await.unwrap();
    assert_eq!(answer(&mut slow).await, (String::new(), true), "it has the time of a head");
}

#[tokio::test]
async fn nobody_else_is_a_relay() {
    for entrance in [Entrance::default(), entrance("10.0.0.0/8")] {
        let server = served(Limits::default(), entrance).await;
        for header in [header(Some(CLIENT)), header(None)] {
            let (text, closed) = asked_after(&server, &header).await;
            assert!(text.starts_with("HTTP/1.1 400") && closed, "{text}");
        }
        let v1 = b"PROXY TCP4 203.0.113.7 127.0.0.1 12345 80\r\n";
        let (text, closed) = asked_after(&server, v1).await;
        assert!(text.starts_with("HTTP/1.1 400") && closed, "{text}");
        let (text, _) = asked_after(&server, b"").await;
        assert!(text.contains("\r\n\r\n127.0.0.1 req_"), "{text}");
    }
}

#[tokio::test]
async fn tls_stands_behind_the_header() {
    let (_files, tls) = super::tls::files();
    let entrance = Entrance { tls: Some(tls), ..entrance("127.0.0.0/8") };
    let server = served(Limits::default(), entrance).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&header(Some(CLIENT))).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut stream = super::tls::connector(&["http/1.1"]).connect(name, stream).await.unwrap();
    stream.write_all(PEER).await.unwrap();
    let mut text = vec![0; 2048];
    let read = stream.read(&mut text).await.unwrap();
    let text = String::from_utf8_lossy(&text[..read]).into_owned();
    assert!(text.contains("\r\n\r\n203.0.113.7 req_"), "{text}");
}
