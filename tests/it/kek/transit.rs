//! The transit engine, played by a server that does what it is told.

use super::*;
use crate::support::transit::{Mood, Transit, write_secret};
use bitting::http::Tls;
use data_encoding::BASE64;
use serde_json::json;
use std::time::{Duration, Instant};

async fn wrapped() -> (Transit, Arc<dyn KekSource>, String, Value) {
    let server = Transit::start().await;
    let source = source(&server.environment());
    let (key, kept) = create(&*source).await.unwrap();
    assert_eq!(server.calls(), 2, "wrapped, and unwrapped to see that it can be");
    (server, source, key, kept)
}

#[tokio::test]
async fn a_wrapped_key_opens_again_for_its_own_installation_alone() {
    let (_server, source, key, kept) = wrapped().await;
    assert_eq!((&kept["key"], &kept["mount"]), (&json!("bitting"), &json!("transit")));
    assert!(!kept.to_string().contains(key.trim_end()));
    assert_eq!(open(&*source, &kept).await.unwrap(), key);
    let elsewhere = source.open(&kept, "inst_other").await.map(|kek| text(&kek));
    assert_refused(elsewhere, "message authentication failed");
}

#[tokio::test]
async fn what_the_database_keeps_names_no_other_key_and_no_other_path() {
    let (server, source, _, kept) = wrapped().await;
    for (field, value) in [("key", "../../sys/seal"), ("key", "other"), ("mount", "kv"), ("mount", "")] {
        let mut tampered = kept.clone();
        tampered[field] = json!(value);
        assert_refused(open(&*source, &tampered).await, "configure that one");
    }
    for tampered in [json!(null), json!({}), json!({"ciphertext": 1, "key": "bitting", "mount": "transit"})] {
        assert_refused(open(&*source, &tampered).await, "what was kept");
    }
    assert_eq!(server.calls(), 0, "nothing of it was sent");
    let mut tampered = kept;
    tampered["ciphertext"] = json!("vault:v1:AAAA");
    assert_refused(open(&*source, &tampered).await, "message authentication failed");
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn the_token_is_read_again_for_every_call() {
    let (server, source, key, kept) = wrapped().await;
    server.set_token("s.renewed-token");
    assert_eq!(open(&*source, &kept).await.unwrap(), key);
    assert_eq!(server.seen().0, ["s.first-token", "s.first-token", "s.renewed-token"]);
}

#[tokio::test]
async fn a_token_is_a_file_of_ones_own() {
    let (server, source, _, kept) = wrapped().await;
    let path = server.folder.path().join("token");
    for (token, mode, part) in [
        ("s.first-token", 0o640, "chmod 600"),
        ("s.first-token", 0o604, "chmod 600"),
        ("", 0o600, "holds no token"),
        ("two tokens", 0o600, "holds no token"),
        ("s.first\r\nx: y", 0o600, "holds no token"),
    ] {
        write_secret(&path, token, mode);
        let refused = open(&*source, &kept).await;
        assert!(token.is_empty() || !refused.as_ref().unwrap_err().to_string().contains(token));
        assert_refused(refused, part);
    }
    std::fs::remove_file(path).unwrap();
    assert_unavailable(open(&*source, &kept).await, "cannot read");
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn a_denial_says_which_policy_is_needed_and_is_not_asked_again() {
    let (server, source, _, kept) = wrapped().await;
    server.set_mood(Mood::Denies);
    let denied = open(&*source, &kept).await;
    assert!(!denied.as_ref().unwrap_err().to_string().contains("s.first-token"));
    assert_refused(denied, "`update` on transit/encrypt/bitting and transit/decrypt/bitting");
    assert_eq!(server.calls(), 1);
    server.set_mood(Mood::DeniesUnwrapping);
    assert_refused(create(&*source).await, "transit/decrypt/bitting is denied");
    assert_eq!(server.calls(), 2, "a key that could never be opened is not handed out");
}

#[tokio::test]
async fn what_the_engine_says_is_repeated_on_one_line_and_never_with_the_token() {
    let (server, source, _, kept) = wrapped().await;
    for (mood, part) in [
        (Mood::Answers(400), "400 Bad Request: as it was told to; your token is not shown"),
        (Mood::Answers(404), "no key \"bitting\" at the mount \"transit\""),
        (Mood::Answers(405), "405"),
        (Mood::Answers(412), "412"),
        (Mood::Answers(204), "204"),
    ] {
        server.set_mood(mood);
        let refused = open(&*source, &kept).await;
        assert!(!refused.as_ref().unwrap_err().to_string().contains(['\n', '\t']));
        assert_refused(refused, part);
        assert_eq!(server.calls(), 1, "{part} is not asked again");
    }
    // A server that repeats the token is not quoted.
    server.set_token("token");
    server.set_mood(Mood::Answers(400));
    assert!(!open(&*source, &kept).await.unwrap_err().to_string().contains("your token"));
}

#[tokio::test]
async fn a_sealed_or_failing_engine_is_asked_three_times_and_may_recover() {
    let (server, source, key, kept) = wrapped().await;
    for (mood, part) in [
        (Mood::Sealed, "sealed or in standby (503 Service Unavailable: Vault is sealed)"),
        (Mood::Answers(500), "500"),
        (Mood::Answers(429), "429"),
    ] {
        server.set_mood(mood.clone());
        assert_unavailable(open(&*source, &kept).await, part);
        assert_eq!(server.calls(), 3, "{mood:?}");
        server.set_mood(Mood::Works);
        server.meet_first(&[mood]);
        assert_eq!(open(&*source, &kept).await.unwrap(), key);
        assert_eq!(server.calls(), 2);
    }
}

#[tokio::test]
async fn an_engine_that_is_down_is_unavailable_until_it_is_back() {
    let (mut server, source, key, kept) = wrapped().await;
    server.go_down().await;
    assert_unavailable(open(&*source, &kept).await, "no connection to 127.0.0.1");
    server.come_back().await;
    assert_eq!(open(&*source, &kept).await.unwrap(), key);
}

#[tokio::test]
async fn a_connection_that_breaks_is_made_three_times() {
    let (server, _, _, kept) = wrapped().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut environment = server.environment();
    environment[0].1 = format!("http://{}", listener.local_addr().unwrap());
    let source = source(&environment);
    let mut accepted = 0;
    let breaks = async {
        loop {
            drop(listener.accept().await.unwrap());
            accepted += 1;
        }
    };
    tokio::select! {
        () = breaks => {}
        opened = open(&*source, &kept) => assert_unavailable(opened, "ended"),
    }
    assert_eq!(accepted, 3);
}

#[tokio::test]
async fn an_engine_that_hangs_is_given_five_seconds_once() {
    let (server, source, _, kept) = wrapped().await;
    server.set_mood(Mood::Hangs);
    let began = Instant::now();
    assert_unavailable(open(&*source, &kept).await, "no answer within 5000 ms");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn an_answer_that_is_not_our_key_does_not_pass_for_it() {
    let (server, source, key, kept) = wrapped().await;
    for junk in ["", "c2hvcnQ=", "not base64", "AAAA"] {
        server.set_mood(Mood::Unwraps(junk.to_owned()));
        assert_refused(open(&*source, &kept).await, "something else than a key");
    }
    for junk in [String::new(), "AAAA".to_owned(), format!("vault:v1:{}", "A".repeat(4_096))] {
        server.set_mood(Mood::Wraps(junk));
        assert_refused(create(&*source).await, "something else than a wrapped key");
    }
    // Another key of the right length opens no keyring, and none is created over it.
    server.set_mood(Mood::Unwraps(BASE64.encode(&[7; 32])));
    assert_ne!(open(&*source, &kept).await.unwrap(), key);
    assert_refused(create(&*source).await, "give back");
}

#[tokio::test]
async fn what_stands_before_the_engine_is_not_taken_for_it_and_may_go_away() {
    let (server, source, key, kept) = wrapped().await;
    let key_of_others = json!({"data": {"plaintext": BASE64.encode(&[7; 32])}}).to_string();
    let padded = format!("{key_of_others}{}", " ".repeat(17 << 10));
    for (text, part) in [
        ("<html>maintenance</html>".to_owned(), "not one of a transit engine"),
        (String::new(), "not one of a transit engine"),
        (json!({"data": {}}).to_string(), "not one of a transit engine"),
        (json!({"data": null}).to_string(), "not one of a transit engine"),
        (padded, "longer than 16384 bytes"),
    ] {
        server.set_mood(Mood::Says(text));
        assert_unavailable(open(&*source, &kept).await, part);
        assert_eq!(server.calls(), 1, "{part} is not asked again at once");
    }
    server.set_mood(Mood::Works);
    assert_eq!(open(&*source, &kept).await.unwrap(), key);
}

#[tokio::test]
async fn by_tls_only_the_authority_that_is_named_is_trusted() {
    let files = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/testdata");
    let tls = Tls::load(&files.join("one.cert.pem"), &files.join("one.key.pem")).unwrap();
    let server = Transit::start_with(tls).await;
    let environment = server.environment();
    assert!(environment[0].1.starts_with("https://"));
    let trusting = |name: &str| {
        let authority = ("BITTING_KEK_TRANSIT_CA_FILE", files.join(name).display().to_string());
        source(&[environment.clone(), vec![authority]].concat())
    };
    let own = trusting("one.cert.pem");
    let (key, kept) = create(&*own).await.unwrap();
    assert_eq!(open(&*own, &kept).await.unwrap(), key);
    server.calls();
    for other in [source(&environment), trusting("two.cert.pem")] {
        assert_unavailable(open(&*other, &kept).await, "no TLS with 127.0.0.1");
    }
    assert_eq!(server.calls(), 0, "the token was sent to nobody else");
    let environment: Vec<(&str, String)> = [
        environment.clone(),
        vec![("BITTING_KEK_TRANSIT_CA_FILE", files.join("none.pem").display().to_string())],
    ]
    .concat();
    assert!(kek::source(&settings(&environment)).is_err_and(|error| error.to_string().contains("none.pem")));
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_token_does_not_travel() {
    let (server, source, _, kept) = wrapped().await;
    server.set_mood(Mood::Answers(307));
    assert_unavailable(open(&*source, &kept).await, "redirects are not followed");
    assert_eq!(server.calls(), 1);
}

#[tokio::test]
async fn a_namespace_goes_with_every_call_and_an_unknown_key_is_named() {
    let server = Transit::start().await;
    let mut environment = server.environment();
    environment.push(("BITTING_KEK_TRANSIT_NAMESPACE", "team/a".to_owned()));
    create(&*source(&environment)).await.unwrap();
    assert_eq!(server.seen().1, vec![Some("team/a".to_owned()); 2]);
    environment[1].1 = "typo".to_owned();
    assert_refused(create(&*source(&environment)).await, "transit/encrypt/typo: it answered 400");
    environment[1].1 = "bitting".to_owned();
    environment.push(("BITTING_KEK_TRANSIT_MOUNT", "kv".to_owned()));
    assert_refused(create(&*source(&environment)).await, "at the mount \"kv\"");
}
