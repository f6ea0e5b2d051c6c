//! Every header that could carry a credential, an address or an instruction to a hop, sent in one request: what arrives at
//! the provider is the contract's list and nothing else, in each dialect; and the same for what comes back.

use super::{DIALECTS, also, spoken, still_server};
use crate::support::server::{CANARY, chat};
use http::HeaderName;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a client may say, and arrives as it said it.
const PASSED: [(&str, &str); 12] = [
    ("accept", "application/json"),
    ("user-agent", "test/1"),
    ("anthropic-beta", "files-api-2025-04-14"),
    ("anthropic-workspace-id", "wrkspc_1"),
    ("openai-beta", "assistants=v2"),
    ("x-stainless-lang", "rust"),
    ("x-stainless-retry-count", "0"),
    ("x-goog-api-client", "gl-python/3.12"),
    ("x-client-request-id", "mine"),
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("content-type", "application/json"),
    ("anthropic-version", "2023-06-01"),
];

/// What is nobody's business but the hop's it was meant for; or a credential, or says who or where somebody is.
const DROPPED: [&str; 83] = [
    "anthropic-api-key",
    "anthropic-auth-token",
    "api-token",
    "apikey",
    "authentication",
    "authentication-info",
    "baggage",
    "cache-control",
    "cf-access-client-id",
    "cf-access-client-secret",
    "cf-aig-authorization",
    "cf-connecting-ip",
    "chatgpt-account-id",
    "client-ip",
    "cookie",
    "cookie2",
    "csrf-token",
    "early-data",
    "fastly-client-ip",
    "forwarded",
    "from",
    "helicone-auth",
    "if-none-match",
    "keep-alive",
    "max-forwards",
    "ocp-apim-subscription-key",
    "openai-api-key",
    "openai-organization",
    "openai-project",
    "origin",
    "originator",
    "priority",
    "private-token",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "referer",
    "sec-fetch-mode",
    "session_id",
    "te",
    "tracestate",
    "true-client-ip",
    "upgrade-insecure-requests",
    "via",
    "www-authenticate",
    "x-access-token",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-amz-security-token",
    "x-amz-target",
    "x-api-token",
    "x-app",
    "x-auth-token",
    "x-authorization",
    "x-bitting-model",
    "x-bitting-subkey",
    "x-bitting-tag-team",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-csrf-token",
    "x-forwarded",
    "x-forwarded-access-token",
    "x-forwarded-authorization",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-user",
    "x-goog-authenticated-user-email",
    "x-goog-iam-authorization-token",
    "x-goog-user-project",
    "x-http-method-override",
    "x-litellm-api-key",
    "x-ms-client-principal",
    "x-openai-api-key",
    "x-original-url",
    "x-portkey-api-key",
    "x-real-ip",
    "x-request-id",
    "x-rewrite-url",
];

/// What the provider says besides, and an application needs; `*` is in the name of its dialect.
const ANSWERED: [(&str, &str); 14] = [
    ("content-type", "application/json; charset=utf-8"),
    ("content-language", "en"),
    ("request-id", "req_provider"),
    ("x-request-id", "req_provider"),
    ("retry-after", "7"),
    ("retry-after-ms", "6500"),
    ("x-should-retry", "true"),
    ("x-ratelimit-remaining-requests", "9"),
    ("x-ratelimit-reset-tokens", "6ms"),
    ("anthropic-ratelimit-unified-status", "allowed"),
    ("anthropic-ratelimit-input-tokens-remaining", "9"),
    ("openai-processing-ms", "12"),
    ("openai-version", "2020-10-01"),
    ("api-supported-version", "2"),
];

/// What stays between the provider and us.
const KEPT_BACK: [&str; 27] = [
    "access-control-allow-origin",
    "alt-svc",
    "anthropic-organization-id",
    "authentication-info",
    "authorization",
    "cf-cache-status",
    "cf-ray",
    "clear-site-data",
    "cookie",
    "link",
    "location",
    "nel",
    "openai-organization",
    "openai-project",
    "proxy-authenticate",
    "proxy-authentication-info",
    "refresh",
    "report-to",
    "server",
    "server-timing",
    "set-cookie",
    "strict-transport-security",
    "via",
    "www-authenticate",
    "x-api-key",
    "x-bitting-cost-of-another-gateway",
    "x-goog-api-key",
];

/// A provider that answers by hand, and keeps the last head that it read.
struct ByHand {
    url: String,
    last: Arc<Mutex<Vec<(String, String)>>>,
}

impl ByHand {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (url, last) = (format!("http://{}", listener.local_addr().unwrap()), Arc::default());
        let kept = Arc::clone(&last);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&kept)));
            }
        });
        Self { url, last }
    }

    fn last(&self) -> Vec<(String, String)> {
        self.last.lock().unwrap().clone()
    }
}

/// Reads one request and answers it with all that a provider could say.
async fn answer(mut stream: TcpStream, kept: Arc<Mutex<Vec<(String, String)>>>) {
    let (mut read, mut buffer) = (Vec::new(), vec![0; 65_536]);
    let head = loop {
        let Ok(count @ 1..) = stream.read(&mut buffer).await else { return };
        read.extend_from_slice(&buffer[..count]);
        if let Some(end) = memchr::memmem::find(&read, b"\r\n\r\n") {
            break String::from_utf8(read[..end].to_vec()).unwrap();
        }
    };
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let lines: Vec<(String, String)> =
        lines.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let length = lines
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, value)| value.parse().unwrap());
    let mut got = read.len() - head.len() - 4;
    while got < length {
        let Ok(count @ 1..) = stream.read(&mut buffer).await else { return };
        got += count;
    }
    *kept.lock().unwrap() = lines;
    let mut said = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n".to_owned();
    for (name, value) in ANSWERED {
        write!(said, "{name}: {value}\r\n").unwrap();
    }
    for name in KEPT_BACK {
        write!(said, "{name}: something of the account\r\n").unwrap();
    }
    let _ = stream.write_all(format!("{said}\r\n{{}}").as_bytes()).await;
}

#[tokio::test]
async fn what_arrives_and_what_comes_back_is_on_the_lists_in_every_dialect() {
    let server = still_server(&[]).await;
    let provider = ByHand::start().await;
    let url = &provider.url;
    let dialects = json!({"openai": format!("{url}/v1"), "anthropic": url, "gemini": url});
    assert_eq!(
        server.admin_post("/api/v1/providers", &json!({"slug": "hand", "dialects": dialects})).await.status,
        201
    );
    let key =
        json!({"name": "main", "secret": CANARY, "organization": "org-own", "openai_project": "proj-own"});
    assert_eq!(server.admin_post("/api/v1/providers/hand/credentials", &key).await.status, 201);
    let (_, secret) = server.mint(json!({"models": ["hand/*"]})).await;
    let bearer = format!("Bearer {secret}");
    // No request has all of them: a hundred lines are the bound.
    let halves = || DROPPED.chunks(DROPPED.len().div_ceil(2));
    for ((dialect, own, _), dropped) in
        DIALECTS.into_iter().flat_map(|one| halves().map(move |half| (one, half)))
    {
        let (path, body) = match dialect {
            "openai" => ("/p/hand/v1/chat/completions", chat("m")),
            "anthropic" => ("/p/hand/v1/messages", chat("m")),
            _ => ("/p/hand/v1beta/models/m:generateContent", json!({"contents": []})),
        };
        let mut request = spoken(&server, dialect, &secret, path, &body);
        request.headers_mut().remove("content-type");
        request.headers_mut().remove("anthropic-version");
        // The key in every place at once, and more than one header that its connection alone is for.
        let keys = [
            ("authorization", bearer.as_str()),
            ("x-api-key", &secret),
            ("x-goog-api-key", &secret),
            ("api-key", &secret),
        ];
        let hop = [
            ("connection", "x-stainless-os, keep-alive"),
            ("x-stainless-os", "named"),
            ("accept-encoding", "gzip, br"),
            ("idempotency-key", "order-1"),
        ];
        let dropped =
            dropped.iter().map(|name| (*name, if *name == "te" { "trailers" } else { "of somebody" }));
        let dropped: Vec<(&str, &str)> = dropped.collect();
        let request = [&keys[..], &PASSED, &hop, &dropped].into_iter().fold(request, also);
        let answer = server.call(request).await;
        assert_eq!(answer.status, 200, "{dialect}: {}", answer.json());

        let arrived = provider.last();
        let set = match dialect {
            "openai" => ("authorization", format!("Bearer {CANARY}")),
            "anthropic" => ("x-api-key", CANARY.to_owned()),
            _ => ("x-goog-api-key", CANARY.to_owned()),
        };
        assert_eq!(set.0, own, "the key goes where the dialect has it");
        let length = body.to_string().len().to_string();
        let host = url.strip_prefix("http://").unwrap();
        let mut expected: BTreeMap<&str, &str> = PASSED.into_iter().collect();
        expected.extend([
            (set.0, set.1.as_str()),
            ("accept-encoding", "identity"),
            ("content-length", &length),
            ("host", host),
            ("openai-organization", "org-own"),
            ("openai-project", "proj-own"),
        ]);
        let hashed = arrived.iter().find(|(name, _)| name == "idempotency-key").unwrap().1.clone();
        assert!(hashed.len() == 43 && !hashed.contains("order"), "{hashed}");
        expected.insert("idempotency-key", &hashed);
        let lines: BTreeMap<&str, &str> =
            arrived.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(lines, expected, "{dialect}");
        assert_eq!(lines.len(), arrived.len(), "{dialect}: a line twice: {arrived:?}");

        for (name, value) in ANSWERED {
            assert_eq!(answer.header(name), Some(value), "{dialect}");
        }
        let ours = |name: &str| name.starts_with("x-bitting-") && !KEPT_BACK.contains(&name);
        let names = answer.headers.keys().map(HeaderName::as_str).filter(|name| !ours(name));
        let mut expected: BTreeSet<&str> = ANSWERED.into_iter().map(|(name, _)| name).collect();
        expected.extend(["content-length", "date"]);
        assert_eq!(names.collect::<BTreeSet<_>>(), expected, "{dialect}");
    }
    // What has no body says none, and is under the same lists.
    let list = spoken(&server, "openai", &secret, "/p/hand/v1/models", &Value::Null);
    let answer = server.call(also(list, &DROPPED.map(|name| (name, "trailers")))).await;
    assert!(answer.status == 200 && provider.last().iter().all(|(name, _)| name != "cookie"));
}
