//! The one way out: every connection that Bitting opens to another server is dialled here.
//!
//! The host is resolved once, every address is checked against the connection's [`AddressRule`], and exactly a
//! checked address is dialled. TLS is 1.2 or newer, by rustls. No proxy is taken from the environment, no redirect is
//! followed, nothing is unpacked. What is built on top (pools, deadlines, what a failure means) is its user's.

mod address;
mod connect;
mod json;

pub use address::AddressRule;
pub use connect::{ConnectError, Connector, Resolve, SystemResolver};
pub use json::{JsonAnswer, JsonCall, JsonCallError, JsonClient};

use connect::Dialler;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

/// What holds for the connections of one client; [`Outgoing::connector`] makes them.
#[derive(Clone)]
pub struct Outgoing {
    addresses: AddressRule,
    connect_timeout: Duration,
    resolver: Arc<dyn Resolve>,
    roots: RootCertStore,
}

/// Why a client cannot be built.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OutgoingError {
    /// rustls does not take the settings.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// The authorities given hold no certificate.
    #[error("there is no certificate in PEM form in it")]
    NoCertificate,
}

impl Outgoing {
    /// Connections to these addresses, which trust the roots of the web, within 5 s each.
    pub fn new(addresses: AddressRule) -> Self {
        Self {
            addresses,
            connect_timeout: Duration::from_secs(5),
            resolver: Arc::new(SystemResolver),
            roots: RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
        }
    }

    /// The longest that one connection may take to come about: name service, TCP and TLS.
    #[must_use]
    pub fn within(self, connect_timeout: Duration) -> Self {
        Self { connect_timeout, ..self }
    }

    /// Names are looked up by this instead of the system.
    #[must_use]
    pub fn resolved_by(self, resolver: Arc<dyn Resolve>) -> Self {
        Self { resolver, ..self }
    }

    /// Trusts the authorities in this PEM text instead of the roots of the web: whoever names an authority of their
    /// own wants nobody else to be able to stand in for the server.
    pub fn trusting(self, pem: &[u8]) -> Result<Self, OutgoingError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            roots.add(certificate.map_err(|_| OutgoingError::NoCertificate)?)?;
        }
        if roots.is_empty() { Err(OutgoingError::NoCertificate) } else { Ok(Self { roots, ..self }) }
    }

    /// What a hyper client connects by.
    pub fn connector(self) -> Result<Connector, OutgoingError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_root_certificates(self.roots)
            .with_no_client_auth();
        let connect_timeout = self.connect_timeout;
        let dialler = Dialler { addresses: self.addresses, connect_timeout, resolver: self.resolver };
        let https = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(dialler);
        Ok(Connector { https, connect_timeout })
    }
}

/// The first error of this type in the chain.
pub fn cause<E: Error + 'static>(error: &legacy::Error) -> Option<&E> {
    let mut next = error.source();
    while let Some(inner) = next {
        if let Some(found) = inner.downcast_ref() {
            return Some(found);
        }
        next = inner.source();
    }
    None
}

#[cfg(test)]
mod tests;
