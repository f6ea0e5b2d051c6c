//! The settings of one server: read once at the start, whole and valid, or not at all.
//!
//! From a TOML file (`--config FILE`, else `bitting.toml` in the data directory where there is one) and from the
//! environment, which wins. Relative paths are relative to the working directory. An error says where the value was
//! written, what is wrong with it, and what to write; it never shows a database URL, which holds a password.

mod database;
mod kek;
pub mod limits;
mod read;
mod source;
mod webhook;

pub use database::Database;
pub use kek::{KekSettings, TransitSettings};
pub use limits::Bounds;
pub use source::Origin;
pub use webhook::{WebhookSettings, WebhookUrl};

use crate::base::CidrSet;
use crate::provider::Slug;
pub use crate::service::Durability;
use read::{
    durability, flag, listen, log_filter, log_format, networks, path, provider_order, proxy_protocol,
};
use source::{PREFIX, Source};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// All settings, with the defaults filled in.
#[derive(Debug)]
pub struct Settings {
    /// Holds the KEK file, the database file and the last checkpoint.
    pub data_dir: PathBuf,
    /// Where state is kept.
    pub database: Database,
    /// The listener for applications.
    pub proxy: Plane,
    /// The listener for operators.
    pub admin: Plane,
    /// Where the simulated provider listens when it is started.
    pub sandbox_listen: SocketAddr,
    /// A listener for metrics alone, without authentication.
    pub metrics_listen: Option<SocketAddr>,
    /// Where the key comes from that wraps the keyring.
    pub kek: KekSettings,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: CidrSet,
    /// Trusted proxies begin each connection to the proxy with a PROXY protocol header of version 2.
    pub proxy_protocol: bool,
    /// Private networks that providers may be in, and be reached by plain http.
    pub private_upstreams: CidrSet,
    /// Whom bare model names prefer, after what a key and its projects say.
    pub provider_order: Vec<Slug>,
    /// Who is told of alerts and alarms.
    pub webhook: Option<WebhookSettings>,
    /// What is durable before what.
    pub durability: Durability,
    /// The filter of the program's own log, in the syntax of `tracing`.
    pub log: String,
    /// How the program's own log is written; `None` is text on a terminal, else JSON.
    pub log_format: Option<LogFormat>,
    /// The bounds.
    pub bounds: Bounds,
}

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plane {
    /// Where it listens; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Its certificate and key; without them it speaks plain http.
    pub tls: Option<TlsFiles>,
}

/// A certificate chain and its key, in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub cert_file: PathBuf,
    /// The key.
    pub key_file: PathBuf,
}

/// How the program's own log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

/// What the command line says, over everything else.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--config FILE`.
    pub config: Option<PathBuf>,
    /// `--data DIR`.
    pub data_dir: Option<PathBuf>,
}

/// Why the settings do not hold together.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {error}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is not TOML.
    #[error("{} is not TOML, line {position}: {reason}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        position: usize,
        /// What the parser says.
        reason: String,
    },
    /// A variable of ours is not UTF-8.
    #[error("{name} in the environment is not UTF-8")]
    Encoding {
        /// The variable.
        name: String,
    },
    /// A key or variable that nothing reads.
    #[error("{origin} is not known; did you mean {nearest}?")]
    Unknown {
        /// Where it stands.
        origin: Origin,
        /// The known name most like it.
        nearest: String,
    },
    /// A value that does not do.
    #[error("{origin}: {problem}; write {write}")]
    Invalid {
        /// Where it stands.
        origin: Origin,
        /// What is wrong.
        problem: String,
        /// What to write.
        write: String,
    },
    /// An open listener without TLS.
    #[error(
        "{origin}: {address} is reachable from other machines and has no TLS; set {tls}, \
         or plaintext = true (BITTING_PLAINTEXT=true) behind a proxy that you trust"
    )]
    Plaintext {
        /// Where the address stands.
        origin: Origin,
        /// The address.
        address: SocketAddr,
        /// What would give it TLS.
        tls: &'static str,
    },
}

impl ConfigError {
    fn invalid(origin: &Origin, problem: impl Into<String>, write: impl Into<String>) -> Self {
        Self::Invalid { origin: origin.clone(), problem: problem.into(), write: write.into() }
    }

    fn unknown(origin: &Origin, nearest: impl Into<String>) -> Self {
        Self::Unknown { origin: origin.clone(), nearest: nearest.into() }
    }
}

impl Settings {
    /// Reads the settings of this process.
    pub fn load(overrides: &Overrides) -> Result<Self, ConfigError> {
        Self::from_parts(overrides, &environment()?, |file| std::fs::read_to_string(file))
    }

    /// Reads settings out of what is given.
    pub fn from_parts(
        overrides: &Overrides,
        environment: &BTreeMap<String, String>,
        read_file: impl Fn(&Path) -> io::Result<String>,
    ) -> Result<Self, ConfigError> {
        let mut source = Source::default();
        let beside = environment.get(DATA_DIR).map_or_else(|| PathBuf::from(DEFAULT_DATA_DIR), PathBuf::from);
        let beside = overrides.data_dir.clone().unwrap_or(beside);
        if let Some(file) = &overrides.config {
            let text = read_file(file).map_err(|error| ConfigError::Read { file: file.clone(), error })?;
            source.add_file(file, &text)?;
        } else {
            let file = beside.join(FILE_NAME);
            match read_file(&file) {
                Ok(text) => source.add_file(&file, &text)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(ConfigError::Read { file, error }),
            }
            if let Some(origin) = source.file_origin("data_dir") {
                let problem = "the file lies in the data directory and cannot name another";
                return Err(ConfigError::invalid(origin, problem, "it nowhere, or start with --config FILE"));
            }
        }
        source.add_environment(environment)?;
        settings(overrides, &source, environment)
    }
}

const DATA_DIR: &str = "BITTING_DATA_DIR";
const DEFAULT_DATA_DIR: &str = "bitting-data";
const FILE_NAME: &str = "bitting.toml";

/// The variables of this process that are ours, and where systemd puts our credentials.
pub fn environment() -> Result<BTreeMap<String, String>, ConfigError> {
    let ours = |name: &std::ffi::OsString| {
        name == kek::CREDENTIALS_DIRECTORY || name.to_string_lossy().starts_with(PREFIX)
    };
    let text = |text: std::ffi::OsString, name: &str| {
        text.into_string().map_err(|_| ConfigError::Encoding { name: name.to_owned() })
    };
    std::env::vars_os()
        .filter(|(name, _)| ours(name))
        .map(|(name, value)| {
            let shown = name.to_string_lossy().into_owned();
            Ok((text(name, &shown)?, text(value, &shown)?))
        })
        .collect()
}

fn settings(
    overrides: &Overrides,
    source: &Source,
    environment: &BTreeMap<String, String>,
) -> Result<Settings, ConfigError> {
    let data_dir = match &overrides.data_dir {
        Some(dir) => dir.clone(),
        None => path(source, "data_dir")?.unwrap_or_else(|| DEFAULT_DATA_DIR.into()),
    };
    let trusted_proxies = networks(source, "trusted_proxies")?;
    let plaintext = flag(source, "plaintext")?.unwrap_or(false);
    let plane = |listen_key, default, cert_key, key_key, tls| -> Result<Plane, ConfigError> {
        let files = tls_files(source, cert_key, key_key)?;
        let open = plaintext || files.is_some();
        Ok(Plane { listen: listen(source, listen_key, open, tls)?.unwrap_or(default), tls: files })
    };
    let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let no_tls = "a loopback address";
    Ok(Settings {
        database: database::database(source, &data_dir)?,
        proxy: plane(
            "proxy_listen",
            local(8400),
            "proxy_tls_cert_file",
            "proxy_tls_key_file",
            "BITTING_PROXY_TLS_CERT_FILE and BITTING_PROXY_TLS_KEY_FILE",
        )?,
        admin: plane(
            "admin_listen",
            local(8401),
            "admin_tls_cert_file",
            "admin_tls_key_file",
            "BITTING_ADMIN_TLS_CERT_FILE and BITTING_ADMIN_TLS_KEY_FILE",
        )?,
        sandbox_listen: listen(source, "sandbox_listen", plaintext, no_tls)?.unwrap_or(local(8402)),
        metrics_listen: listen(source, "metrics_listen", plaintext, no_tls)?,
        kek: kek::kek(source, environment, &data_dir)?,
        proxy_protocol: proxy_protocol(source, &trusted_proxies)?,
        trusted_proxies,
        private_upstreams: networks(source, "private_upstreams")?,
        provider_order: provider_order(source)?,
        webhook: webhook::webhook(source)?,
        durability: durability(source)?,
        log: log_filter(source)?.unwrap_or("info").to_owned(),
        log_format: log_format(source)?,
        bounds: source.bounds.clone(),
        data_dir,
    })
}

fn tls_files(
    source: &Source,
    cert_key: &'static str,
    key_key: &'static str,
) -> Result<Option<TlsFiles>, ConfigError> {
    let half = |given: &'static str, missing: &str| {
        let origin = source.get(given).map_or(Origin::Default(given), |given| given.origin.clone());
        let missing = format!("{PREFIX}{}", missing.to_ascii_uppercase());
        ConfigError::invalid(&origin, "a certificate and a key go together", format!("{missing} too"))
    };
    match (path(source, cert_key)?, path(source, key_key)?) {
        (Some(cert_file), Some(key_file)) => Ok(Some(TlsFiles { cert_file, key_file })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(half(cert_key, key_key)),
        (None, Some(_)) => Err(half(key_key, cert_key)),
    }
}

#[cfg(test)]
mod tests;
