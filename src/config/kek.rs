//! Which source of the key-encryption key is configured: exactly one, by default a file in the data directory.

use super::read::{path, text_of};
use super::source::Source;
use super::{ConfigError, Origin};
use crate::base::CidrSet;
use crate::provider::{BaseUrl, BaseUrlError, Host, Scheme};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the key-encryption key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KekSettings {
    /// A file that holds the key.
    File {
        /// The file.
        path: PathBuf,
    },
    /// A file that holds a passphrase, which the key is derived from.
    Passphrase {
        /// The file.
        path: PathBuf,
    },
    /// A credential of systemd that holds the key.
    Credential {
        /// Its name.
        name: String,
        /// The file in which systemd hands it over.
        path: PathBuf,
    },
    /// The transit engine of a Vault or an `OpenBao` wraps the key.
    Transit(TransitSettings),
}

/// A transit engine and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransitSettings {
    /// The server, without `/v1`.
    pub url: BaseUrl,
    /// The name of the key.
    pub key: String,
    /// Where the engine is mounted.
    pub mount: String,
    /// The namespace, where there are any.
    pub namespace: Option<String>,
    /// Holds the token; read again for every call.
    pub token_file: PathBuf,
    /// The authorities to trust instead of the roots of the web.
    pub ca_file: Option<PathBuf>,
}

impl KekSettings {
    /// The credential of systemd that `flag` names, in what systemd hands to this process.
    pub fn credential_by_flag(
        flag: &'static str,
        name: String,
        environment: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let mut source = Source::default();
        source.add_flag("kek_credential", flag, name);
        credential(&source, environment)
    }

    /// The transit engine that flags name: of each setting the name, the flag, and what that says.
    pub fn transit_by_flags(
        given: impl IntoIterator<Item = (&'static str, &'static str, String)>,
        token_file: PathBuf,
        ca_file: Option<PathBuf>,
    ) -> Result<Self, ConfigError> {
        let mut source = Source::default();
        for (key, flag, text) in given {
            source.add_flag(key, flag, text);
        }
        transit_with(&source, token_file, ca_file).map(Self::Transit)
    }

    /// The variables that name this source in the environment of a server.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let shown = |path: &Path| path.display().to_string();
        match self {
            Self::File { path } => vec![("BITTING_KEK_FILE", shown(path))],
            Self::Passphrase { path } => vec![("BITTING_KEK_PASSPHRASE_FILE", shown(path))],
            Self::Credential { name, .. } => vec![("BITTING_KEK_CREDENTIAL", name.clone())],
            Self::Transit(TransitSettings { url, key, mount, namespace, token_file, ca_file }) => {
                let mut variables = vec![
                    ("BITTING_KEK_TRANSIT_URL", url.to_string()),
                    ("BITTING_KEK_TRANSIT_KEY", key.clone()),
                    ("BITTING_KEK_TRANSIT_TOKEN_FILE", shown(token_file)),
                ];
                let mount = Some(mount.clone()).filter(|mount| mount != MOUNT);
                variables.extend(mount.map(|mount| ("BITTING_KEK_TRANSIT_MOUNT", mount)));
                let namespace = namespace.clone();
                variables.extend(namespace.map(|namespace| ("BITTING_KEK_TRANSIT_NAMESPACE", namespace)));
                variables.extend(ca_file.as_deref().map(|path| ("BITTING_KEK_TRANSIT_CA_FILE", shown(path))));
                variables
            }
        }
    }
}

/// Where a transit engine is mounted that nobody moved.
const MOUNT: &str = "transit";

/// The variable in which systemd says where the credentials of a service are.
pub(super) const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// The settings that choose a source.
const SOURCES: [&str; 4] = ["kek_file", "kek_passphrase_file", "kek_credential", "kek_transit_url"];

/// The settings that belong to `kek_transit_url`.
const TRANSIT: [&str; 5] = [
    "kek_transit_ca_file",
    "kek_transit_key",
    "kek_transit_mount",
    "kek_transit_namespace",
    "kek_transit_token_file",
];

pub(super) fn kek(
    source: &Source,
    environment: &BTreeMap<String, String>,
    data_dir: &Path,
) -> Result<KekSettings, ConfigError> {
    let mut named = SOURCES.iter().filter_map(|key| source.get(key));
    let first = named.next();
    if let (Some(one), Some(other)) = (first, named.next()) {
        let problem = format!("{} names another source of the KEK", one.origin);
        return Err(ConfigError::invalid(&other.origin, problem, "one of the two and leave the other out"));
    }
    if source.get("kek_transit_url").is_none()
        && let Some(stray) = TRANSIT.iter().find_map(|key| source.get(key))
    {
        let problem = "it belongs to a transit engine, and none is named";
        return Err(ConfigError::invalid(&stray.origin, problem, "BITTING_KEK_TRANSIT_URL too"));
    }
    if let Some(path) = path(source, "kek_passphrase_file")? {
        return Ok(KekSettings::Passphrase { path });
    }
    if source.get("kek_credential").is_some() {
        return credential(source, environment);
    }
    if source.get("kek_transit_url").is_some() {
        return transit(source).map(KekSettings::Transit);
    }
    let path = path(source, "kek_file")?.unwrap_or_else(|| data_dir.join("kek"));
    Ok(KekSettings::File { path })
}

fn credential(source: &Source, environment: &BTreeMap<String, String>) -> Result<KekSettings, ConfigError> {
    let (name, origin) = segments(source, "kek_credential", 1)?;
    let Some(directory) = environment.get(CREDENTIALS_DIRECTORY).filter(|text| text.starts_with('/')) else {
        let problem = format!("systemd hands no credentials over: {CREDENTIALS_DIRECTORY} is not set");
        let write = match origin {
            Origin::Flag(flag) => format!(
                "it as a command that systemd runs: systemd-run --pipe --wait -p LoadCredential={name}:/path/to/the/key \
                 bitting vault change-kek {flag} {name} --data DIR"
            ),
            Origin::Environment(_) | Origin::File { .. } | Origin::Default(_) => {
                format!("LoadCredential={name}:/path/to/the/key into the unit, or use BITTING_KEK_FILE")
            }
        };
        return Err(ConfigError::invalid(&origin, problem, write));
    };
    Ok(KekSettings::Credential { path: Path::new(directory).join(&name), name })
}

fn transit(source: &Source) -> Result<TransitSettings, ConfigError> {
    let token_file = path(source, "kek_transit_token_file")?
        .ok_or_else(|| lacks(source, "a file with a token", "BITTING_KEK_TRANSIT_TOKEN_FILE"))?;
    if source.get("kek_transit_key").is_none() {
        return Err(lacks(source, "the name of a key", "BITTING_KEK_TRANSIT_KEY"));
    }
    transit_with(source, token_file, path(source, "kek_transit_ca_file")?)
}

fn transit_with(
    source: &Source,
    token_file: PathBuf,
    ca_file: Option<PathBuf>,
) -> Result<TransitSettings, ConfigError> {
    let mount = match source.get("kek_transit_mount") {
        Some(_) => segments(source, "kek_transit_mount", 8)?.0,
        None => MOUNT.to_owned(),
    };
    let namespace = match source.get("kek_transit_namespace") {
        Some(_) => Some(segments(source, "kek_transit_namespace", 8)?.0),
        None => None,
    };
    Ok(TransitSettings {
        url: transit_url(source)?,
        key: segments(source, "kek_transit_key", 1)?.0,
        mount,
        namespace,
        token_file,
        ca_file,
    })
}

/// The operator's own: private networks too, a metadata service never, and in clear this machine alone.
fn transit_url(source: &Source) -> Result<BaseUrl, ConfigError> {
    let Some(given) = source.get("kek_transit_url") else {
        return Err(lacks(source, "a URL", "BITTING_KEK_TRANSIT_URL"));
    };
    let wrong = |problem: String| {
        let write = "one like \"https://vault.example:8200\"; plain http is for this machine alone";
        ConfigError::invalid(&given.origin, problem, write)
    };
    let everywhere = CidrSet::parse(&["0.0.0.0/0", "::/0"]).unwrap_or_default();
    let url = BaseUrl::parse(text_of(given)?, &everywhere).map_err(|error| match error {
        BaseUrlError::Address => wrong("the host is an address that is never called".to_owned()),
        BaseUrlError::PlainHttp => wrong("it is not encrypted".to_owned()),
        error => wrong(error.to_string()),
    })?;
    let local = match url.host() {
        Host::Address(ip) => ip.is_loopback(),
        Host::Name(name) => name == "localhost",
    };
    if url.scheme() == Scheme::Http && !local {
        return Err(wrong("it is not encrypted".to_owned()));
    }
    Ok(url)
}

fn lacks(source: &Source, what: &str, variable: &str) -> ConfigError {
    let origin = source.get("kek_transit_url").map(|given| given.origin.clone());
    let origin = origin.unwrap_or(Origin::Default("kek_transit_url"));
    ConfigError::invalid(&origin, format!("a transit engine needs {what}"), format!("{variable} too"))
}

/// A name that becomes a part of a path: nothing in it can lead elsewhere.
fn segments(
    source: &Source,
    key: &'static str,
    segments_max: usize,
) -> Result<(String, Origin), ConfigError> {
    let Some(given) = source.get(key) else {
        return Err(ConfigError::invalid(&Origin::Default(key), "it is missing", "a name"));
    };
    let text = text_of(given)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let is_segment = |segment: &str| {
        (1..=128).contains(&segment.len()) && segment.bytes().all(plain) && !segment.starts_with('.')
    };
    let trimmed = text.strip_suffix('/').filter(|_| segments_max > 1).unwrap_or(text);
    if trimmed.split('/').count() > segments_max || !trimmed.split('/').all(is_segment) {
        let problem = format!("{text:?} is no name");
        let write = "letters, digits, `_`, `-` and `.`, not with a dot first";
        return Err(ConfigError::invalid(&given.origin, problem, write));
    }
    Ok((trimmed.to_owned(), given.origin.clone()))
}
