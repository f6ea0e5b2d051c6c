//! Where the admin API is and who asks. The token comes from the environment alone: arguments and URLs are seen by
//! every process and kept in histories, so neither can hold it.

use super::{CliError, UsageError};
use crate::base::Secret;
use http::Uri;

/// Where a server on the same machine listens.
pub const DEFAULT_URL: &str = "http://127.0.0.1:8401";

/// The settings of the commands that ask a server.
pub struct ClientSettings {
    url: String,
    host: String,
    https: bool,
    token: Option<Secret<String>>,
}

impl ClientSettings {
    /// Reads `BITTING_URL` and `BITTING_TOKEN` by `environment`.
    pub fn read(environment: &dyn Fn(&str) -> Option<String>) -> Result<Self, CliError> {
        let url = environment("BITTING_URL").filter(|url| !url.trim().is_empty());
        let token = environment("BITTING_TOKEN").map(Secret::new);
        Self::new(url.as_deref().unwrap_or(DEFAULT_URL), token)
    }

    /// Takes a base URL (http or https, a path at most) and a token; a blank token is none.
    pub fn new(url: &str, token: Option<Secret<String>>) -> Result<Self, CliError> {
        let url = url.trim().trim_end_matches('/');
        let bad = |why| CliError::Usage(UsageError::Url { why });
        if url.contains(['@', '#', '?']) {
            return Err(bad("it has a user, a query or a fragment; the token goes in BITTING_TOKEN"));
        }
        let uri: Uri = url.parse().map_err(|_| bad("it is not a URL"))?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => return Err(bad("it does not begin with http:// or https://")),
        };
        let host = uri.host().ok_or_else(|| bad("it names no host"))?.to_owned();
        let token = token.filter(|token| !token.expose().trim().is_empty());
        Ok(Self { url: url.to_owned(), host, https, token })
    }

    /// The base URL without a slash at its end.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The operator's token.
    pub(super) fn token(&self) -> Option<&Secret<String>> {
        self.token.as_ref()
    }

    /// Whether the token would cross a network in clear.
    pub(super) fn in_clear(&self) -> bool {
        let host = self.host.trim_matches(['[', ']']);
        let loopback = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
        self.token.is_some() && !self.https && !loopback
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: Option<&str>, token: Option<&str>) -> Result<ClientSettings, CliError> {
        ClientSettings::read(&|name| match name {
            "BITTING_URL" => url.map(str::to_owned),
            "BITTING_TOKEN" => token.map(str::to_owned),
            other => panic!("{other} is not ours to read"),
        })
    }

    #[test]
    fn the_server_on_this_machine_is_the_default() {
        for unset in [None, Some(""), Some(" ")] {
            let settings = read(unset, unset).unwrap();
            assert_eq!(settings.url(), DEFAULT_URL);
            assert!(settings.token().is_none());
        }
        assert_eq!(
            read(Some("https://keys.example/bitting/"), None).unwrap().url(),
            "https://keys.example/bitting"
        );
    }

    #[test]
    fn a_url_cannot_hold_a_secret_and_is_not_repeated_when_it_does() {
        for bad in [
            "http://bo_secret@host",
            "https://host/?token=bo_secret",
            "bo_secret",
            "ftp://bo_secret",
            "http://",
        ] {
            let Err(error) = read(Some(bad), None) else { panic!("{bad} is taken") };
            assert_eq!(error.exit_code(), 2, "{bad}");
            assert!(!error.render().contains("bo_secret"), "{bad}");
        }
    }

    #[test]
    fn a_token_in_clear_over_a_network_is_noticed() {
        for (url, token, clear) in [
            ("http://127.0.0.1:8401", Some("t"), false),
            ("http://[::1]:8401", Some("t"), false),
            ("http://localhost:8401", Some("t"), false),
            ("https://keys.example", Some("t"), false),
            ("http://keys.example", None, false),
            ("http://keys.example", Some("t"), true),
            ("http://10.0.0.1:8401", Some("t"), true),
        ] {
            assert_eq!(read(Some(url), token).unwrap().in_clear(), clear, "{url}");
        }
    }
}
