//! Who is told of alerts and alarms: one URL, and the file with the secrets that what is sent is signed with.

use super::read::{networks, path, text_of};
use super::source::Source;
use super::{ConfigError, Origin};
use crate::provider::BaseUrl;
use ::http::Uri;
use std::fmt;
use std::path::PathBuf;

/// The webhook.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// Where it is.
    pub url: WebhookUrl,
    /// Holds the secrets, one a line; read again for every delivery.
    pub secret_file: PathBuf,
}

/// The URL of the webhook. Its path and query may be a secret of the receiver's, so it shows its origin alone.
#[derive(Clone)]
pub struct WebhookUrl {
    uri: Uri,
    origin: String,
}

impl WebhookUrl {
    /// What is called.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Scheme, host and port: what may be shown.
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin)
    }
}

pub(super) fn webhook(source: &Source) -> Result<Option<WebhookSettings>, ConfigError> {
    let secret_file = path(source, "webhook_secret_file")?;
    let Some(given) = source.get("webhook_url") else {
        let Some(stray) = source.get("webhook_secret_file") else { return Ok(None) };
        let problem = "it belongs to a webhook, and none is named";
        return Err(ConfigError::invalid(&stray.origin, problem, "BITTING_WEBHOOK_URL too"));
    };
    let url = url(source, text_of(given)?, &given.origin)?;
    let Some(secret_file) = secret_file else {
        let write = "BITTING_WEBHOOK_SECRET_FILE too: a file of mode 600 with a line of `whsec_` and what \
                     `openssl rand -base64 32` prints";
        let problem = "what a webhook is sent is signed, and there is no secret to sign it with";
        return Err(ConfigError::invalid(&given.origin, problem, write));
    };
    Ok(Some(WebhookSettings { url, secret_file }))
}

/// By the rules of every upstream; it may have a query besides.
fn url(source: &Source, text: &str, origin: &Origin) -> Result<WebhookUrl, ConfigError> {
    let wrong = |problem: String| {
        let write = "one like \"https://hooks.example/bitting\"; a private address, and plain http, are for the networks in \
                     BITTING_PRIVATE_UPSTREAMS";
        ConfigError::invalid(origin, problem, write)
    };
    let before_query = text.split_once('?').map_or(text, |(before, _)| before);
    let base = BaseUrl::parse(before_query, &networks(source, "private_upstreams")?)
        .map_err(|error| wrong(error.to_string()))?;
    if text.contains('#') {
        return Err(wrong("it has a fragment".to_owned()));
    }
    let uri = text.parse::<Uri>().map_err(|error| wrong(error.to_string()))?;
    Ok(WebhookUrl { uri, origin: base.origin() })
}

#[cfg(test)]
mod tests {
    use super::super::{Overrides, Settings};
    use super::*;
    use std::collections::BTreeMap;
    use std::io;

    fn read(file: &str, environment: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        let environment: BTreeMap<String, String> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Settings::from_parts(&Overrides::default(), &environment, |_| {
            if file.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(file.to_owned()) }
        })
    }

    #[test]
    fn a_webhook_is_a_url_and_a_file_of_secrets_in_the_file_or_the_environment() {
        assert!(read("", &[]).unwrap().webhook.is_none());
        let table = "[webhook]\nurl = \"https://hooks.example/a/?k=%20s\"\nsecret_file = \"/run/s\"\n";
        let webhook = read(table, &[]).unwrap().webhook.unwrap();
        assert_eq!(webhook.url.uri().to_string(), "https://hooks.example/a/?k=%20s");
        assert_eq!(webhook.secret_file, PathBuf::from("/run/s"));
        let shown = format!("{webhook:?}");
        assert!(shown.contains("https://hooks.example") && !shown.contains("/a/"), "{shown}");
        let other = [("BITTING_WEBHOOK_URL", "https://other.example")];
        let webhook = read(table, &other).unwrap().webhook.unwrap();
        assert_eq!(webhook.url.origin(), "https://other.example");
        let local = [
            ("BITTING_WEBHOOK_URL", "http://127.0.0.1:9/hook"),
            ("BITTING_WEBHOOK_SECRET_FILE", "s"),
            ("BITTING_PRIVATE_UPSTREAMS", "127.0.0.0/8"),
        ];
        assert_eq!(read("", &local).unwrap().webhook.unwrap().url.origin(), "http://127.0.0.1:9");
    }

    #[test]
    fn half_a_webhook_or_a_wrong_one_is_an_error_that_says_what_to_write() {
        let url = ("BITTING_WEBHOOK_URL", "https://hooks.example/secret-path");
        for (file, environment, said) in [
            ("", vec![url], "BITTING_WEBHOOK_SECRET_FILE too"),
            ("", vec![("BITTING_WEBHOOK_SECRET_FILE", "s")], "BITTING_WEBHOOK_URL too"),
            ("[webhook]\nurl = \"https://h.example\"\n", vec![], "openssl rand"),
            (
                "[webhook]\nurls = \"x\"\n",
                vec![],
                "`webhook.urls` in bitting-data/bitting.toml is not known; did you mean url?",
            ),
            ("webhook = \"https://h.example\"\n", vec![], "a table [webhook]"),
            ("webhook_url = \"https://a\"\n[webhook]\nurl = \"https://b\"\n", vec![], "write it once"),
            ("", vec![("BITTING_WEBHOOK_URL", "http://hooks.example/secret-path")], "plain http"),
            ("", vec![("BITTING_WEBHOOK_URL", "https://10.0.0.1/secret-path")], "private_upstreams"),
            ("", vec![("BITTING_WEBHOOK_URL", "https://a.example/secret-path#x")], "fragment"),
            ("", vec![("BITTING_WEBHOOK_URL", "https://u:secret-path@a.example/")], "no user"),
        ] {
            let error = read(file, &environment).unwrap_err().to_string();
            assert!(error.contains(said) && !error.contains("secret-path"), "{error}");
        }
    }
}
