//! The URL that a provider's endpoint begins with: parsed once, strictly, so that what is checked is what is dialled.
//!
//! Every spelling that two parsers could read differently is refused: user info, queries, fragments, backslashes,
//! percent signs, dot segments, numeric hosts in any notation but one. `https` only, except to addresses that the
//! server's configuration lists as private.

use super::address::address_allowed;
use super::dialect::Dialect;
use crate::base::CidrSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A base URL without a trailing slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl {
    scheme: Scheme,
    host: Host,
    port: u16,
    /// Empty, or `/` and segments.
    path: String,
}

/// How the upstream is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In clear: private networks alone.
    Http,
    /// With TLS.
    Https,
}

/// Whom the upstream is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A name in lower case, resolved at connect time; every address is checked then.
    Name(String),
    /// An address in a network that the configuration lists as private.
    Address(IpAddr),
}

/// Why a text is not the base URL of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BaseUrlError {
    /// Longer than 512 bytes.
    #[error("a base URL has at most 512 characters")]
    TooLong,
    /// Controls, spaces, backslashes, other than ASCII.
    #[error("a base URL holds visible ASCII characters alone, and no backslash")]
    Character,
    /// Neither `https://` nor `http://`.
    #[error("a base URL begins with https://")]
    Scheme,
    /// `http://` to somewhere that is not listed as private.
    #[error("plain http is for addresses in the server's private_upstreams alone; use https")]
    PlainHttp,
    /// `user@host`.
    #[error("a base URL has no user or password in it")]
    UserInfo,
    /// `?` or `#`.
    #[error("a base URL has no query and no fragment; set `query` for parameters")]
    QueryOrFragment,
    /// `%`.
    #[error("a base URL has no percent-encoded characters")]
    PercentEncoded,
    /// `.`, `..` or an empty segment.
    #[error(
        "a base URL's path has no empty, `.` or `..` segments, and only letters, digits and -._~!$&'()*+,;=:@"
    )]
    Path,
    /// Not a host name.
    #[error("the host is not a name of letters, digits, hyphens and dots")]
    Host,
    /// `host.`
    #[error("the host ends with a dot")]
    TrailingDot,
    /// An address that is not listed as private, or in another notation than the usual.
    #[error(
        "the host is an IP address that is not in the server's private_upstreams, or not in its usual notation"
    )]
    Address,
    /// A name of this machine where the loopback network is not listed as private.
    #[error("the host is this machine, which is not in the server's private_upstreams")]
    Localhost,
    /// Not 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

impl BaseUrl {
    /// Reads a base URL. `private` are the networks that the server's configuration lists as private upstreams.
    pub fn parse(text: &str, private: &CidrSet) -> Result<Self, BaseUrlError> {
        if text.len() > 512 {
            return Err(BaseUrlError::TooLong);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\') {
            return Err(BaseUrlError::Character);
        }
        let (scheme, rest) = match text.split_once("://") {
            Some(("https", rest)) => (Scheme::Https, rest),
            Some(("http", rest)) => (Scheme::Http, rest),
            _ => return Err(BaseUrlError::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(BaseUrlError::QueryOrFragment);
        }
        if rest.contains('%') {
            return Err(BaseUrlError::PercentEncoded);
        }
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        if authority.contains('@') {
            return Err(BaseUrlError::UserInfo);
        }
        let (host, port) = split_port(authority)?;
        let host = parse_host(host, private)?;
        if scheme == Scheme::Http && !host.is_private(private) {
            return Err(BaseUrlError::PlainHttp);
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        check_path(path)?;
        Ok(Self { scheme, host, port: port.unwrap_or(scheme.default_port()), path: path.to_owned() })
    }

    /// The same URL as Bitting's paths follow it: those of `OpenAI` come after `/v1`, those of Anthropic and Google
    /// begin with the version, so a version at the end of theirs is taken off.
    #[must_use]
    pub fn for_dialect(mut self, dialect: Dialect) -> Self {
        let versions: &[&str] = match dialect {
            Dialect::OpenAi => &[],
            Dialect::Anthropic => &["/v1"],
            Dialect::Gemini => &["/v1beta", "/v1"],
        };
        if let Some(version) = versions.iter().find(|version| self.path.ends_with(**version)) {
            self.path.truncate(self.path.len() - version.len());
        }
        self
    }

    /// With TLS or without.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, said or not.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What every path begins with: empty, or `/` and segments without a slash at the end.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Host and port as the `host` header names them: the port only where it is not the scheme's own.
    pub fn authority(&self) -> String {
        let host = match &self.host {
            Host::Name(name) => name.clone(),
            Host::Address(IpAddr::V4(v4)) => v4.to_string(),
            Host::Address(IpAddr::V6(v6)) => format!("[{v6}]"),
        };
        if self.port == self.scheme.default_port() { host } else { format!("{host}:{}", self.port) }
    }

    /// Scheme, host and port in one canonical text: what a sealed credential is bound to.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme.as_str(), self.authority())
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.origin(), self.path)
    }
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl Host {
    /// An address here passed `parse_host`; a name counts only as this machine's.
    fn is_private(&self, private: &CidrSet) -> bool {
        match self {
            Self::Address(_) => true,
            Self::Name(name) => is_localhost(name) && has_loopback(private),
        }
    }
}

fn split_port(authority: &str) -> Result<(&str, Option<u16>), BaseUrlError> {
    let (host, port) = match authority.find(']') {
        Some(end) => authority.split_at(end + 1),
        None => authority.find(':').map_or((authority, ""), |at| authority.split_at(at)),
    };
    if port.is_empty() {
        return Ok((host, None));
    }
    let digits = port.strip_prefix(':').ok_or(BaseUrlError::Host)?;
    if digits.starts_with('0') || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BaseUrlError::Port);
    }
    digits.parse().map(|port| (host, Some(port))).map_err(|_| BaseUrlError::Port)
}

fn parse_host(host: &str, private: &CidrSet) -> Result<Host, BaseUrlError> {
    if let Some(inner) = host.strip_prefix('[') {
        let v6: Ipv6Addr =
            inner.strip_suffix(']').and_then(|text| text.parse().ok()).ok_or(BaseUrlError::Address)?;
        // One address, one spelling: a v4 address inside a v6 one is written as v4.
        return if v6.to_ipv4_mapped().is_none() {
            private_address(IpAddr::V6(v6), private)
        } else {
            Err(BaseUrlError::Address)
        };
    }
    if let Ok(v4) = host.parse::<Ipv4Addr>() {
        return private_address(IpAddr::V4(v4), private);
    }
    if host.ends_with('.') {
        return Err(BaseUrlError::TrailingDot);
    }
    let name = host.to_ascii_lowercase();
    let is_label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len()) && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(BaseUrlError::Host);
    }
    // A last label that is a number makes other parsers read an address: 2130706433, 0x7f.1, 127.1, 0177.0.0.1.
    let last = name.rsplit('.').next().unwrap_or_default();
    let hex =
        last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if hex || last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BaseUrlError::Address);
    }
    if is_localhost(&name) && !has_loopback(private) {
        return Err(BaseUrlError::Localhost);
    }
    Ok(Host::Name(name))
}

fn private_address(ip: IpAddr, private: &CidrSet) -> Result<Host, BaseUrlError> {
    let fine = private.contains(ip) && address_allowed(ip, private);
    if fine { Ok(Host::Address(ip)) } else { Err(BaseUrlError::Address) }
}

fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

fn has_loopback(private: &CidrSet) -> bool {
    private.contains(IpAddr::V4(Ipv4Addr::LOCALHOST)) || private.contains(IpAddr::V6(Ipv6Addr::LOCALHOST))
}

fn check_path(path: &str) -> Result<(), BaseUrlError> {
    let is_segment = |segment: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
        !matches!(segment, "" | "." | "..") && segment.bytes().all(plain)
    };
    match path.strip_prefix('/') {
        None => Ok(()),
        Some(segments) if segments.split('/').all(is_segment) => Ok(()),
        Some(_) => Err(BaseUrlError::Path),
    }
}

#[cfg(test)]
mod tests;
