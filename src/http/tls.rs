//! TLS of one listener: a certificate chain and a key from PEM files, followed when they change.
//!
//! A new file that does not load changes nothing but the log: the old certificate stays in use.

use ring::digest::{SHA256, digest};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

/// How often the files are looked at.
const FOLLOW_EVERY: Duration = Duration::from_secs(5);

/// A certificate and its key, as they are now. Clones see each other's reloads.
#[derive(Clone)]
pub struct Tls {
    cert_file: PathBuf,
    key_file: PathBuf,
    current: Arc<watch::Sender<Arc<ServerConfig>>>,
    /// What was read last, whether it loaded or not: a broken pair is reported once.
    seen: Arc<watch::Sender<Fingerprint>>,
}

/// Why a certificate and key are not usable.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file holds no usable PEM.
    #[error("{} holds no {wanted} in PEM form", file.display())]
    Pem {
        /// Which.
        file: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// The key and the certificate are not a pair, or of an unknown kind.
    #[error("the certificate {} and its key do not work together: {error}", cert_file.display())]
    Pair {
        /// The certificate.
        cert_file: PathBuf,
        /// What rustls says.
        error: rustls::Error,
    },
}

type Fingerprint = [Vec<u8>; 2];

impl Tls {
    /// Loads the pair. Blocking, for the start of the program.
    pub fn load(cert_file: &Path, key_file: &Path) -> Result<Self, TlsError> {
        let cert = read(cert_file, std::fs::read(cert_file))?;
        let key = read(key_file, std::fs::read(key_file))?;
        let config = configure(cert_file, &cert, key_file, &key)?;
        Ok(Self {
            cert_file: cert_file.to_owned(),
            key_file: key_file.to_owned(),
            current: Arc::new(watch::channel(Arc::new(config)).0),
            seen: Arc::new(watch::channel(fingerprint(&cert, &key)).0),
        })
    }

    /// Looks at the files until `shutdown`, every few seconds.
    pub(super) async fn follow(self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(FOLLOW_EVERY);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            match self.reload().await {
                Ok(true) => {
                    tracing::info!(cert_file = %self.cert_file.display(), "TLS certificate reloaded");
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%error, "the changed TLS files do not load; the old ones stay in use");
                }
            }
        }
    }

    /// Looks at the files once. `true` when a new pair is in use; an error is told once for each content.
    pub(super) async fn reload(&self) -> Result<bool, TlsError> {
        let cert = read(&self.cert_file, tokio::fs::read(&self.cert_file).await);
        let key = read(&self.key_file, tokio::fs::read(&self.key_file).await);
        let print = match (&cert, &key) {
            (Ok(cert), Ok(key)) => fingerprint(cert, key),
            _ => Fingerprint::default(),
        };
        if self.seen.send_replace(print.clone()) == print {
            return Ok(false);
        }
        let config = configure(&self.cert_file, &cert?, &self.key_file, &key?)?;
        self.current.send_replace(Arc::new(config));
        Ok(true)
    }

    /// What accepts the next connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.current.borrow().clone())
    }
}

fn read(file: &Path, read: io::Result<Vec<u8>>) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    read.map(Zeroizing::new).map_err(|error| TlsError::Read { file: file.to_owned(), error })
}

fn fingerprint(cert: &[u8], key: &[u8]) -> Fingerprint {
    [cert, key].map(|bytes| digest(&SHA256, bytes).as_ref().to_vec())
}

fn configure(cert_file: &Path, cert: &[u8], key_file: &Path, key: &[u8]) -> Result<ServerConfig, TlsError> {
    let pem = |file: &Path, wanted| TlsError::Pem { file: file.to_owned(), wanted };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(cert)
        .collect::<Result<_, _>>()
        .map_err(|_| pem(cert_file, "certificate"))?;
    if chain.is_empty() {
        return Err(pem(cert_file, "certificate"));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| pem(key_file, "private key"))?;
    let pair = |error| TlsError::Pair { cert_file: cert_file.to_owned(), error };
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: (&str, &str) = (include_str!("testdata/one.cert.pem"), include_str!("testdata/one.key.pem"));
    const TWO: (&str, &str) = (include_str!("testdata/two.cert.pem"), include_str!("testdata/two.key.pem"));

    fn write(dir: &Path, pair: (&str, &str)) -> (PathBuf, PathBuf) {
        let (cert, key) = (dir.join("cert.pem"), dir.join("key.pem"));
        std::fs::write(&cert, pair.0).unwrap();
        std::fs::write(&key, pair.1).unwrap();
        (cert, key)
    }

    #[tokio::test]
    async fn changed_files_are_taken_up_and_broken_ones_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = write(dir.path(), ONE);
        let tls = Tls::load(&cert, &key).unwrap();
        let first = tls.current.borrow().clone();
        assert!(!tls.reload().await.unwrap());

        for broken in [("", ONE.1), (ONE.0, "junk"), (TWO.0, ONE.1)] {
            write(dir.path(), broken);
            assert!(tls.reload().await.is_err());
            assert!(!tls.reload().await.unwrap(), "the same broken pair is reported once");
            assert!(Arc::ptr_eq(&first, &tls.current.borrow()), "the old certificate stays");
        }
        std::fs::remove_file(&key).unwrap();
        assert!(matches!(tls.reload().await, Err(TlsError::Read { .. })));

        write(dir.path(), TWO);
        assert!(tls.reload().await.unwrap());
        assert!(!Arc::ptr_eq(&first, &tls.current.borrow()));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let load = |pair| {
            let (cert, key) = write(dir.path(), pair);
            Tls::load(&cert, &key).err().unwrap().to_string()
        };
        assert!(load(("", ONE.1)).contains("cert.pem holds no certificate"));
        assert!(load((ONE.0, "")).contains("key.pem holds no private key"));
        assert!(load((ONE.0, TWO.1)).contains("do not work together"));
        let missing = Tls::load(&dir.path().join("x"), &dir.path().join("y")).err().unwrap();
        assert!(missing.to_string().contains("cannot read"), "{missing}");
    }
}
