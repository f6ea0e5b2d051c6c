//! TLS on a real socket: both protocols by ALPN, and a certificate that is changed while the server runs.

use super::*;
use crate::http::Tls;
use std::path::Path;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

const ONE: [&str; 2] =
    [include_str!("../../testdata/one.cert.pem"), include_str!("../../testdata/one.key.pem")];
const TWO: [&str; 2] =
    [include_str!("../../testdata/two.cert.pem"), include_str!("../../testdata/two.key.pem")];

fn write(folder: &Path, [cert, key]: [&str; 2]) {
    std::fs::write(folder.join("cert.pem"), cert).unwrap();
    std::fs::write(folder.join("key.pem"), key).unwrap();
}

/// The first pair, in files.
pub(super) fn files() -> (TempDir, Tls) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), ONE);
    let tls = Tls::load(&folder.path().join("cert.pem"), &folder.path().join("key.pem")).unwrap();
    (folder, tls)
}

fn certificate(pair: [&str; 2]) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair[0].as_bytes()).unwrap()
}

/// A client that trusts both pairs and speaks these protocols.
pub(super) fn connector(alpn: &[&str]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for pair in [ONE, TWO] {
        roots.add(certificate(pair)).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn a_changed_certificate_is_used_by_the_next_connection_and_alpn_chooses_the_protocol() {
    let (folder, tls) = files();
    let entrance = Entrance { tls: Some(tls.clone()), ..Entrance::default() };
    let server = served(Limits::default(), entrance).await;
    let connect = async |alpn: &[&str]| {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        connector(alpn).connect(name, stream).await.unwrap()
    };
    let mut open = connect(&["http/1.1"]).await;
    for (pair, reloads) in [(ONE, false), (TWO, true)] {
        write(folder.path(), pair);
        assert_eq!(tls.reload().await.unwrap(), reloads);
        for (alpn, chosen) in
            [(&["h2", "http/1.1"][..], Some(&b"h2"[..])), (&["http/1.1"], Some(b"http/1.1")), (&[], None)]
        {
            let stream = connect(alpn).await;
            let (_, session) = stream.get_ref();
            assert_eq!(session.alpn_protocol(), chosen);
            assert_eq!(session.peer_certificates().unwrap(), [certificate(pair)]);
        }
    }
    // The protocol is what the client speaks, whatever was chosen; and a connection outlives its certificate.
    open.write_all(SMUGGLED.as_bytes()).await.unwrap();
    let mut start = [0; 15];
    open.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200 OK");
    let h2 = connect(&["h2"]).await;
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(h2)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://a/peer").body(Body::empty()).unwrap();
    assert_eq!(client.send_request(request).await.unwrap().status(), 200);

    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(SMUGGLED.as_bytes()).await.unwrap();
    let (text, closed) = answer(&mut plain).await;
    assert!(!text.contains("HTTP") && closed, "nothing is served without TLS: {text}");
}
