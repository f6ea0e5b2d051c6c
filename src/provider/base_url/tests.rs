//! One spelling, one meaning, and no way to an address that is not listed.

use super::*;

fn parse(text: &str, private: &[&str]) -> Result<BaseUrl, BaseUrlError> {
    BaseUrl::parse(text, &CidrSet::parse(private).unwrap())
}

#[test]
fn a_base_url_has_one_spelling() {
    for (text, origin, path) in [
        ("https://api.openai.com/v1", "https://api.openai.com", "/v1"),
        ("https://API.OpenAI.com:443/v1/", "https://api.openai.com", "/v1"),
        ("https://h.example:8443", "https://h.example:8443", ""),
        ("https://h.example/", "https://h.example", ""),
        ("https://a.example/openai/deployments/x@1/y", "https://a.example", "/openai/deployments/x@1/y"),
    ] {
        let url = parse(text, &[]).unwrap();
        assert_eq!((url.origin().as_str(), url.path()), (origin, path), "{text}");
        assert_eq!(parse(&url.to_string(), &[]).unwrap(), url);
    }
}

#[test]
fn what_two_parsers_could_read_differently_is_refused() {
    use BaseUrlError as E;
    for (text, error) in [
        ("", E::Scheme),
        ("api.openai.com/v1", E::Scheme),
        ("HTTPS://api.openai.com", E::Scheme),
        ("ftp://api.openai.com", E::Scheme),
        ("https:/api.openai.com", E::Scheme),
        ("https://", E::Host),
        ("https:///v1", E::Host),
        ("https://user@host.example", E::UserInfo),
        ("https://user:pass@host.example", E::UserInfo),
        ("https://@host.example", E::UserInfo),
        ("https://host.example#x", E::QueryOrFragment),
        ("https://host.example/v1?x=1", E::QueryOrFragment),
        ("https://host.example\\@evil.example", E::Character),
        ("https://host.example/ v1", E::Character),
        ("https://host.example/v1\r\n", E::Character),
        ("https://host\t.example", E::Character),
        ("https://host.example\0", E::Character),
        ("https://host.example\u{7f}", E::Character),
        ("https:\\\\host.example", E::Character),
        ("https://höst.example", E::Character),
        ("https://127\u{3002}0\u{3002}0\u{3002}1", E::Character),
        ("https://host.example:\u{ff14}43", E::Character),
        ("https://host.example\u{ff0e}com", E::Character),
        ("https://host.example/%2e%2e/x", E::PercentEncoded),
        ("https://ho%73t.example", E::PercentEncoded),
        ("https://host%2eexample", E::PercentEncoded),
        ("https://host.example%2e", E::PercentEncoded),
        ("https://[fe80::1%25eth0]", E::PercentEncoded),
        ("https://host.example/../x", E::Path),
        ("https://host.example/./x", E::Path),
        ("https://host.example/a/..", E::Path),
        ("https://host.example//x", E::Path),
        ("https://host.example/x//", E::Path),
        ("https://host.example/<x>", E::Path),
        ("https://host.example.", E::TrailingDot),
        ("https://localhost.", E::TrailingDot),
        ("https://host..example", E::Host),
        ("https://-host.example", E::Host),
        ("https://host_x.example", E::Host),
        ("https://host.example:", E::Port),
        ("https://host.example:0", E::Port),
        ("https://host.example:+443", E::Port),
        ("https://host.example:0443", E::Port),
        ("https://host.example:65536", E::Port),
        ("https://host.example:443:443", E::Port),
        ("https://localhost", E::Localhost),
        ("https://a.LOCALHOST", E::Localhost),
        ("http://api.openai.com/v1", E::PlainHttp),
    ] {
        assert_eq!(parse(text, &[]), Err(error), "{text}");
    }
    assert_eq!(parse(&format!("https://host.example/{}", "a".repeat(512)), &[]), Err(E::TooLong));
}

#[test]
fn addresses_are_refused_in_every_notation() {
    for host in [
        "127.0.0.1",
        "8.8.8.8",
        "10.0.0.1",
        "169.254.169.254",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0X7F.1",
        "127.1",
        "0177.0.0.1",
        "127.0.0.01",
        "1.2.3.4.5",
        "0x",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[2606:4700::1]",
        "[fe80::1%25eth0]",
        "[::1",
        "[]",
        "[127.0.0.1]",
    ] {
        for scheme in ["https", "http"] {
            assert!(parse(&format!("{scheme}://{host}/v1"), &[]).is_err(), "{scheme}://{host}");
        }
    }
    for odd in
        ["2130706433", "0x7f.1", "127.1", "0177.0.0.1", "[::ffff:127.0.0.1]", "169.254.169.254", "0.0.0.0"]
    {
        assert_eq!(
            parse(&format!("https://{odd}"), &["0.0.0.0/0", "::/0"]),
            Err(BaseUrlError::Address),
            "{odd}"
        );
    }
}

#[test]
fn listed_networks_are_reached_by_address_in_clear_too() {
    let private = ["127.0.0.0/8", "10.1.0.0/16", "fd12::/64"];
    for (text, origin) in [
        ("http://127.0.0.1:8402/v1", "http://127.0.0.1:8402"),
        ("http://localhost:8402/v1", "http://localhost:8402"),
        ("https://10.1.2.3/v1", "https://10.1.2.3"),
        ("http://[fd12:0::5]:8000/v1", "http://[fd12::5]:8000"),
    ] {
        assert_eq!(parse(text, &private).unwrap().origin(), origin, "{text}");
    }
    assert_eq!(parse("http://10.2.0.1/v1", &private), Err(BaseUrlError::Address));
    assert_eq!(parse("http://internal.example/v1", &private), Err(BaseUrlError::PlainHttp));
    assert_eq!(parse("http://localhost/v1", &["10.0.0.0/8"]), Err(BaseUrlError::Localhost));
}

#[test]
fn a_version_is_taken_off_where_paths_bring_their_own() {
    for (dialect, text, path) in [
        (Dialect::OpenAi, "https://h.example/v1", "/v1"),
        (Dialect::Anthropic, "https://h.example/v1/", ""),
        (Dialect::Anthropic, "https://h.example/anthropic", "/anthropic"),
        (Dialect::Anthropic, "https://h.example/anthropic/v1", "/anthropic"),
        (Dialect::Anthropic, "https://h.example/xv1", "/xv1"),
        (Dialect::Gemini, "https://h.example/v1beta", ""),
        (Dialect::Gemini, "https://h.example/v1", ""),
        (Dialect::OpenAi, "https://h.example/v1beta/openai/", "/v1beta/openai"),
    ] {
        assert_eq!(parse(text, &[]).unwrap().for_dialect(dialect).path(), path, "{text}");
    }
}
