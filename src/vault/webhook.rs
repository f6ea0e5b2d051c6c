//! The secrets that webhooks are signed with, by the Standard Webhooks specification: HMAC-SHA256 over id, moment and
//! body. Several secrets sign side by side, so that one can be replaced without a notice that nobody can verify.

use crate::base::Secret;
use data_encoding::BASE64;
use ring::hmac;

/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// Of a secret, in bytes, by the specification.
const LEN: std::ops::RangeInclusive<usize> = 24..=64;
/// Side by side.
const SECRETS_MAX: usize = 4;

/// The secrets in force, one at least.
pub struct WebhookSecrets(Vec<Secret<Vec<u8>>>);

/// Why a text holds no secrets. It never shows the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookSecretError {
    /// Nothing but empty lines.
    #[error("there is no secret in it")]
    Empty,
    /// A line of something else.
    #[error("line {line} is not `whsec_` and 24 to 64 bytes in base64")]
    Form {
        /// The line, from 1.
        line: usize,
    },
    /// More than are of use.
    #[error("it holds more than {SECRETS_MAX} secrets")]
    TooMany,
}

impl WebhookSecrets {
    /// Reads a file's text, one secret a line.
    pub fn parse(text: &Secret<String>) -> Result<Self, WebhookSecretError> {
        let mut secrets = Vec::new();
        for (index, line) in text.expose().lines().enumerate() {
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let wrong = WebhookSecretError::Form { line: index + 1 };
            let encoded = line.strip_prefix(PREFIX).ok_or(wrong)?;
            let secret = BASE64.decode(encoded.as_bytes()).map(Secret::new).map_err(|_| wrong)?;
            if !LEN.contains(&secret.expose().len()) {
                return Err(wrong);
            }
            if secrets.len() == SECRETS_MAX {
                return Err(WebhookSecretError::TooMany);
            }
            secrets.push(secret);
        }
        if secrets.is_empty() { Err(WebhookSecretError::Empty) } else { Ok(Self(secrets)) }
    }

    /// The value of `webhook-signature`: a signature by each secret. `timestamp` is in whole seconds.
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let signature = |secret: &Secret<Vec<u8>>| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose());
            let mut context = hmac::Context::with_key(&key);
            context.update(format!("{id}.{timestamp}.").as_bytes());
            context.update(body);
            format!("v1,{}", BASE64.encode(context.sign().as_ref()))
        };
        self.0.iter().map(signature).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

    fn parse(text: &str) -> Result<WebhookSecrets, WebhookSecretError> {
        WebhookSecrets::parse(&Secret::new(text.to_owned()))
    }

    /// As the public libraries of the specification have it.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let sign = |text: &str| {
            let body = br#"{"test": 2432232314}"#;
            parse(text).unwrap().sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body)
        };
        let one = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(ONE), one);
        let both = sign(&format!("{ONE}\r\n\n {OTHER}\n"));
        assert!(both.starts_with(&format!("{one} v1,")) && both.matches("v1,").count() == 2, "{both}");
        assert!(both.ends_with(&sign(OTHER)));
    }

    #[test]
    fn what_is_no_secret_is_refused_by_its_line() {
        let refused = |text: &str| parse(text).err().unwrap();
        assert_eq!(refused(" \n\n"), WebhookSecretError::Empty);
        for wrong in [
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_",
            "whsec_c2hvcnQ=",
            "whsec_!",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
        ] {
            assert_eq!(
                refused(&format!("{ONE}\n{wrong}\n")),
                WebhookSecretError::Form { line: 2 },
                "{wrong}"
            );
        }
        assert_eq!(refused(&format!("{ONE}\n").repeat(5)), WebhookSecretError::TooMany);
    }
}
