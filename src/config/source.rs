//! Where settings come from: the file and the environment, merged by key. The environment wins.
//!
//! Each `BITTING_NAME` of the environment is `name` in the file. Whatever is not known, in either, is an error that
//! names the nearest known one: a misspelt limit must not be a limit that does not hold.

use super::{ConfigError, limits::Bounds};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::Value;

/// The settings, by their name in the file.
pub(super) const KEYS: &[&str] = &[
    "admin_listen",
    "admin_tls_cert_file",
    "admin_tls_key_file",
    "data_dir",
    "database_url",
    "durability",
    "kek_credential",
    "kek_file",
    "kek_passphrase_file",
    "kek_transit_ca_file",
    "kek_transit_key",
    "kek_transit_mount",
    "kek_transit_namespace",
    "kek_transit_token_file",
    "kek_transit_url",
    "log",
    "log_format",
    "metrics_listen",
    "plaintext",
    "private_upstreams",
    "provider_order",
    "proxy_listen",
    "proxy_protocol",
    "proxy_tls_cert_file",
    "proxy_tls_key_file",
    "sandbox_listen",
    "trusted_proxies",
    "webhook_secret_file",
    "webhook_url",
];

/// The table of the webhook's settings, and what their names begin with.
const WEBHOOK: &str = "webhook";

/// What begins every variable of ours.
pub(super) const PREFIX: &str = "BITTING_";

/// Variables that the command line reads for itself.
const COMMAND_LINE: [&str; 2] = ["BITTING_URL", "BITTING_TOKEN"];

/// Variables of the project's own tests.
const TEST_PREFIX: &str = "BITTING_TEST_";

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A variable of the environment.
    Environment(String),
    /// A key of the file.
    File {
        /// The file.
        file: PathBuf,
        /// The key, with its table.
        key: String,
    },
    /// A flag of the command line.
    Flag(&'static str),
    /// Nowhere: a default.
    Default(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "{name} in the environment"),
            Self::File { file, key } => write!(f, "`{key}` in {}", file.display()),
            Self::Flag(name) => f.write_str(name),
            Self::Default(key) => write!(f, "the default of `{key}`"),
        }
    }
}

/// One value, still as it was written.
pub(super) struct Given {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// All that was written.
#[derive(Default)]
pub(super) struct Source {
    values: BTreeMap<String, Given>,
    pub(super) bounds: Bounds,
}

impl Source {
    /// Takes the file in.
    pub(super) fn add_file(&mut self, file: &Path, text: &str) -> Result<(), ConfigError> {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Syntax {
            file: file.to_owned(),
            // The whole error would show the line, and with it perhaps a password.
            position: position(text, error.span()),
            reason: error.message().to_owned(),
        })?;
        for (key, value) in table {
            let origin = Origin::File { file: file.to_owned(), key: key.clone() };
            match value {
                Value::Table(limits) if key == "limits" => self.add_limits(file, limits)?,
                Value::Table(settings) if key == WEBHOOK => self.add_webhook(file, settings)?,
                _ if key == "limits" || key == WEBHOOK => {
                    let write = format!("a table [{key}]");
                    return Err(ConfigError::invalid(&origin, "it is not a table", write));
                }
                _ if !KEYS.contains(&key.as_str()) => {
                    let known = KEYS.iter().copied().chain(["limits", WEBHOOK]);
                    return Err(ConfigError::unknown(&origin, nearest(&key, known)));
                }
                value => self.take(key, Given { value, origin })?,
            }
        }
        Ok(())
    }

    /// `url` in `[webhook]` is what `webhook_url` is outside of it.
    fn add_webhook(&mut self, file: &Path, settings: toml::Table) -> Result<(), ConfigError> {
        for (name, value) in settings {
            let origin = Origin::File { file: file.to_owned(), key: format!("{WEBHOOK}.{name}") };
            let key = format!("{WEBHOOK}_{name}");
            if !KEYS.contains(&key.as_str()) {
                let known = KEYS.iter().filter_map(|key| key.strip_prefix(WEBHOOK)?.strip_prefix('_'));
                return Err(ConfigError::unknown(&origin, nearest(&name, known)));
            }
            self.take(key, Given { value, origin })?;
        }
        Ok(())
    }

    /// Takes a setting of the file in, which says it once, in a table or outside of it.
    fn take(&mut self, key: String, given: Given) -> Result<(), ConfigError> {
        if let Some(other) = self.values.get(&key) {
            let problem = format!("{} says it too", other.origin);
            return Err(ConfigError::invalid(&given.origin, problem, "it once"));
        }
        self.values.insert(key, given);
        Ok(())
    }

    fn add_limits(&mut self, file: &Path, limits: toml::Table) -> Result<(), ConfigError> {
        for (key, value) in limits {
            let origin = Origin::File { file: file.to_owned(), key: format!("limits.{key}") };
            let Some(number) = value.as_integer() else {
                let known = Bounds::NAMES.iter().any(|name| *name == key);
                return Err(if known {
                    ConfigError::invalid(&origin, "it is not a whole number", "a whole number without quotes")
                } else {
                    ConfigError::unknown(&origin, nearest(&key, Bounds::NAMES.iter().copied()))
                });
            };
            match self.bounds.set(&key, number) {
                Some(Ok(())) => {}
                Some(Err(range)) => {
                    let write = format!("a number from {} to {}", range.start(), range.end());
                    return Err(ConfigError::invalid(&origin, format!("{number} is out of range"), write));
                }
                None => {
                    return Err(ConfigError::unknown(&origin, nearest(&key, Bounds::NAMES.iter().copied())));
                }
            }
        }
        Ok(())
    }

    /// Takes the environment in, over the file. Variables that are not ours are passed over.
    pub(super) fn add_environment(
        &mut self,
        environment: &BTreeMap<String, String>,
    ) -> Result<(), ConfigError> {
        for (name, text) in environment {
            let Some(rest) = name.strip_prefix(PREFIX) else { continue };
            if name.starts_with(TEST_PREFIX) || COMMAND_LINE.contains(&name.as_str()) {
                continue;
            }
            let origin = Origin::Environment(name.clone());
            let key = rest.to_ascii_lowercase();
            if !KEYS.contains(&key.as_str()) || rest != rest.to_ascii_uppercase() {
                let near = nearest(&key, KEYS.iter().copied()).to_ascii_uppercase();
                return Err(ConfigError::unknown(&origin, format!("{PREFIX}{near}")));
            }
            self.values.insert(key, Given { value: Value::String(text.clone()), origin });
        }
        Ok(())
    }

    /// Takes in what a flag says of a setting.
    pub(super) fn add_flag(&mut self, key: &'static str, flag: &'static str, text: String) {
        debug_assert!(KEYS.contains(&key), "{key} is listed");
        self.values.insert(key.to_owned(), Given { value: Value::String(text), origin: Origin::Flag(flag) });
    }

    /// Takes one setting out.
    pub(super) fn get(&self, key: &str) -> Option<&Given> {
        debug_assert!(KEYS.contains(&key), "{key} is listed");
        self.values.get(key)
    }

    /// Whether the file, not the environment, says it.
    pub(super) fn file_origin(&self, key: &str) -> Option<&Origin> {
        self.get(key).map(|given| &given.origin).filter(|origin| matches!(origin, Origin::File { .. }))
    }
}

fn position(text: &str, span: Option<std::ops::Range<usize>>) -> usize {
    let before = span.and_then(|span| text.get(..span.start)).unwrap_or(text);
    before.matches('\n').count() + 1
}

/// The known name with the fewest edits.
fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> &'a str {
    known.min_by_key(|name| edits(given, name)).unwrap_or_default()
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, right) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_the_one_meant() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("", "abc"), 3);
        for (given, meant) in [
            ("trusted_proxy", "trusted_proxies"),
            ("proxy_listn", "proxy_listen"),
            ("databse_url", "database_url"),
        ] {
            assert_eq!(nearest(given, KEYS.iter().copied()), meant);
        }
    }
}
