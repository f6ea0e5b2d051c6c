//! From what was written to what it means, one function for each kind of value.

use super::source::{Given, Source};
use super::{ConfigError, Durability, LogFormat};
use crate::base::CidrSet;
use crate::provider::Slug;
use std::net::SocketAddr;
use std::path::PathBuf;
use toml::Value;
use tracing_subscriber::EnvFilter;

/// A text that is not empty.
pub(super) fn text_of(given: &Given) -> Result<&str, ConfigError> {
    match given.value.as_str() {
        Some(text) if !text.trim().is_empty() => Ok(text),
        Some(_) => Err(ConfigError::invalid(&given.origin, "it is empty", "a value, or nothing at all")),
        None => Err(ConfigError::invalid(&given.origin, "it is not a text", "a text in quotes")),
    }
}

/// A path, relative to the working directory.
pub(super) fn path(source: &Source, key: &str) -> Result<Option<PathBuf>, ConfigError> {
    Ok(source.get(key).map(text_of).transpose()?.map(PathBuf::from))
}

/// `true` or `false`.
pub(super) fn flag(source: &Source, key: &str) -> Result<Option<bool>, ConfigError> {
    let Some(given) = source.get(key) else { return Ok(None) };
    match &given.value {
        Value::Boolean(flag) => Ok(Some(*flag)),
        Value::String(text) if text == "true" => Ok(Some(true)),
        Value::String(text) if text == "false" => Ok(Some(false)),
        _ => Err(ConfigError::invalid(&given.origin, "it is neither true nor false", "true or false")),
    }
}

/// An address to listen on: a loopback one, or any where `open`. `tls` says what would make it open.
pub(super) fn listen(
    source: &Source,
    key: &str,
    open: bool,
    tls: &'static str,
) -> Result<Option<SocketAddr>, ConfigError> {
    let Some(given) = source.get(key) else { return Ok(None) };
    let written = text_of(given)?;
    let address: SocketAddr = written.parse().map_err(|_| {
        let problem = format!("{written:?} is not an address and a port");
        ConfigError::invalid(&given.origin, problem, "one like \"127.0.0.1:8400\" or \"[::1]:8400\"")
    })?;
    if !open && !address.ip().to_canonical().is_loopback() {
        return Err(ConfigError::Plaintext { origin: given.origin.clone(), address, tls });
    }
    Ok(Some(address))
}

/// Networks: a list in the file, separated by commas in the environment. Absent is none.
pub(super) fn networks(source: &Source, key: &str) -> Result<CidrSet, ConfigError> {
    let Some(given) = source.get(key) else { return Ok(CidrSet::default()) };
    let not_a_list = || {
        let write = "a list like [\"10.0.0.0/8\"], in the environment 10.0.0.0/8,192.168.0.0/16";
        ConfigError::invalid(&given.origin, "it is not a list of networks", write)
    };
    let written = words(&given.value).ok_or_else(not_a_list)?;
    CidrSet::parse(&written).map_err(|(index, error)| {
        let problem = format!("entry {}: {error}", index + 1);
        ConfigError::invalid(&given.origin, problem, "networks in CIDR notation")
    })
}

/// The slugs of providers, in an order that means something. Whether they exist only the store knows.
pub(super) fn provider_order(source: &Source) -> Result<Vec<Slug>, ConfigError> {
    let Some(given) = source.get("provider_order") else { return Ok(Vec::new()) };
    let slugs =
        words(&given.value).and_then(|words| words.into_iter().map(|word| word.parse().ok()).collect());
    slugs.ok_or_else(|| {
        let write = "a list like [\"openai\", \"azure\"], in the environment openai,azure";
        ConfigError::invalid(&given.origin, "it is not a list of providers' slugs", write)
    })
}

/// A list of strings, or their list with commas as the environment has it.
fn words(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::Array(items) => items.iter().map(Value::as_str).collect(),
        Value::String(text) if text.trim().is_empty() => Some(vec![]),
        Value::String(text) => Some(text.split(',').map(str::trim).collect()),
        _ => None,
    }
}

/// Whether trusted proxies speak the PROXY protocol: of nobody else could it be taken.
pub(super) fn proxy_protocol(source: &Source, trusted: &CidrSet) -> Result<bool, ConfigError> {
    let on = flag(source, "proxy_protocol")?.unwrap_or(false);
    if let Some(given) = source.get("proxy_protocol").filter(|_| on && trusted.is_empty()) {
        let problem = "there is no trusted proxy that could speak it";
        return Err(ConfigError::invalid(&given.origin, problem, "BITTING_TRUSTED_PROXIES too"));
    }
    Ok(on)
}

pub(super) fn durability(source: &Source) -> Result<Durability, ConfigError> {
    let choice = [("before_answer", Durability::BeforeAnswer), ("before_forward", Durability::BeforeForward)];
    Ok(one_of(source, "durability", &choice)?.unwrap_or(Durability::BeforeAnswer))
}

pub(super) fn log_format(source: &Source) -> Result<Option<LogFormat>, ConfigError> {
    one_of(source, "log_format", &[("text", LogFormat::Text), ("json", LogFormat::Json)])
}

/// A filter as `tracing` reads it.
pub(super) fn log_filter(source: &Source) -> Result<Option<&str>, ConfigError> {
    let Some(given) = source.get("log") else { return Ok(None) };
    let written = text_of(given)?;
    match EnvFilter::builder().parse(written) {
        Ok(_) => Ok(Some(written)),
        Err(error) => {
            let problem = format!("{written:?} is not a filter: {error}");
            Err(ConfigError::invalid(&given.origin, problem, "one like \"info\" or \"info,bitting=debug\""))
        }
    }
}

fn one_of<T: Copy>(source: &Source, key: &str, choice: &[(&str, T)]) -> Result<Option<T>, ConfigError> {
    let Some(given) = source.get(key) else { return Ok(None) };
    let written = text_of(given)?;
    if let Some((_, value)) = choice.iter().find(|(name, _)| *name == written) {
        return Ok(Some(*value));
    }
    let names: Vec<_> = choice.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let problem = format!("{written:?} is none of the choices");
    Err(ConfigError::invalid(&given.origin, problem, names.join(" or ")))
}
