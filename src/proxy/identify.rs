//! Steps 1 and 2: who sends the request, and the one secret it presents.

use super::refusal::{Code, Refusal};
use crate::base::{CidrSet, client_ip};
use crate::subkey::SubKeyToken;
use http::header::{AUTHORIZATION, HeaderMap};
use std::net::IpAddr;

const KEY_HEADERS: [&str; 3] = ["x-api-key", "x-goog-api-key", "api-key"];
const KEY_PARAMETERS: [&str; 5] = ["key", "api_key", "api-key", "apikey", "access_token"];

/// The client's address behind trusted proxies; `None` when a trusted proxy names none that can be read.
pub(super) fn client_address(peer: IpAddr, trusted: &CidrSet, headers: &HeaderMap) -> Option<IpAddr> {
    // A value that is not text is a hop that cannot be read.
    let lines: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().map(|v| v.to_str().unwrap_or("")).collect();
    client_ip(peer, trusted, lines.into_iter())
}

/// The sub-key that the request presents: one value, in one or more of the places where client
/// libraries put it, and never in the query string.
pub(super) fn presented_secret(headers: &HeaderMap, query: Option<&str>) -> Result<SubKeyToken, Refusal> {
    let mut names = query.unwrap_or("").split('&').map(|pair| pair.split('=').next().unwrap_or(""));
    if names.any(|name| KEY_PARAMETERS.iter().any(|key| is_named(name, key))) {
        return Err(Refusal::new(
            Code::KeyInQuery,
            "A key in the query string ends up in logs. Send it in a header and replace the key that was sent here.",
        ));
    }
    let bearer =
        headers.get_all(AUTHORIZATION).iter().map(|value| value.to_str().ok().and_then(bearer_token));
    let plain = KEY_HEADERS.iter().flat_map(|name| headers.get_all(*name)).map(|value| value.to_str().ok());
    let mut presented: Option<&str> = None;
    for value in bearer.chain(plain) {
        let value = value.map(str::trim).ok_or_else(unknown_key)?;
        if presented.is_some_and(|other| other != value) {
            return Err(Refusal::new(
                Code::AmbiguousCredentials,
                "The request carries two different keys. Send one sub-key, in one header or the same in several.",
            ));
        }
        presented = Some(value);
    }
    presented.and_then(|text| SubKeyToken::parse(text).ok()).ok_or_else(unknown_key)
}

/// Whether a raw name in a query is this one, in whatever spelling a provider could read as it.
fn is_named(mut raw: &str, name: &str) -> bool {
    let decoded = std::iter::from_fn(|| {
        let escape = raw.strip_prefix('%').and_then(|rest| rest.get(..2));
        let escaped = escape.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let byte = escaped.or_else(|| raw.bytes().next())?;
        // What is no character boundary is inside of a name that is none of ours.
        raw = raw.get(if escaped.is_some() { 3 } else { 1 }..).unwrap_or_default();
        Some(byte.to_ascii_lowercase())
    });
    decoded.eq(name.bytes())
}

fn bearer_token(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// The one answer to every key that is not somebody's: nothing tells a near miss from junk.
pub(super) fn unknown_key() -> Refusal {
    Refusal::new(
        Code::InvalidApiKey,
        "Incorrect API key provided: expected a sub-key that begins with bk_. Ask your security team for one.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Entropy;
    use crate::subkey::SubKeyId;
    use http::header::HeaderName;

    fn with(pairs: &[(&str, &str)], query: Option<&str>) -> Result<String, Code> {
        let headers =
            pairs.iter().map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse().unwrap())).collect();
        presented_secret(&headers, query).map(|t| t.id().to_string()).map_err(|refusal| refusal.code)
    }

    #[test]
    fn one_secret_in_any_of_its_places() {
        let entropy = Entropy::new();
        let token = || SubKeyToken::generate(SubKeyId::generate(&entropy), &entropy);
        let (one, two) = (token(), token());
        let (text, other) = (one.reveal(), two.reveal());
        let bearer = format!("bearer {}", text.expose());
        let id = Ok(one.id().to_string());
        for name in ["x-api-key", "x-goog-api-key", "api-key"] {
            assert_eq!(with(&[(name, text.expose())], None), id);
            assert_eq!(with(&[(name, text.expose()), ("authorization", &bearer)], None), id);
            assert_eq!(
                with(&[(name, other.expose()), ("authorization", &bearer)], None),
                Err(Code::AmbiguousCredentials)
            );
        }
        assert_eq!(
            with(&[("x-api-key", text.expose()), ("x-api-key", other.expose())], None),
            Err(Code::AmbiguousCredentials)
        );
        for query in [
            "a=1&KEY=x",
            "key",
            "k%65y=x",
            "%6B%65%79=",
            "%4b%45%59",
            "a&api%5Fkey=x",
            "%61pi%2Dkey=x",
            "%61piKEY",
        ] {
            assert_eq!(with(&[("authorization", &bearer)], Some(query)), Err(Code::KeyInQuery), "{query}");
        }
        for query in ["k%2565y=x", "k%6y=x", "keys=x", "%=1", "k%e4y", "kä=1&%äkey", "x=key", ""] {
            assert_eq!(with(&[("authorization", &bearer)], Some(query)), id, "{query}");
        }
        assert_eq!(with(&[("authorization", &bearer)], Some("beta=true")), id);
        for junk in [
            &[][..],
            &[("authorization", "Basic eA==")],
            &[("x-api-key", "sk-1")],
            &[("authorization", "Bearer")],
        ] {
            assert_eq!(with(junk, None), Err(Code::InvalidApiKey), "{junk:?}");
        }
    }
}
