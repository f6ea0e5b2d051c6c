//! Amounts, windows and limits that nobody means: a refusal that names the field, and nothing is changed.

use crate::support::server::{CANARY, TestServer};
use crate::support::store::on_both;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

/// As it is written: not every case is JSON.
async fn ask(server: &TestServer, method: &str, path: &str, body: &str) -> (u16, String, String) {
    let request = Request::builder()
        .method(method)
        .uri(format!("{}{path}", server.admin))
        .header("authorization", format!("Bearer {}", server.token))
        .header("content-type", "application/json");
    let answer = server.call(request.body(Full::new(Bytes::from(body.to_owned()))).unwrap()).await;
    let body = answer.json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (answer.status.as_u16(), text(&body["code"]), text(&body["errors"][0]["field"]))
}

/// Budgets, each with the field at fault; without one it is no JSON at all.
fn bad_budgets() -> Vec<(String, &'static str)> {
    let amount = |limit: &str| format!(r#"[{{"limit_usd": {limit}, "window": "day"}}]"#);
    let mut cases: Vec<(String, &str)> = [
        r#""-1""#,
        r#""NaN""#,
        r#""Infinity""#,
        r#""1e9""#,
        r#""99999999999999999999""#,
        r#""9223372036.854775808""#,
        r#""0.0000000001""#,
        r#""""#,
        r#"" 1""#,
        r#""1,5""#,
        "5",
        "5.5",
        "null",
        "true",
    ]
    .into_iter()
    .map(|limit| (amount(limit), "/budgets/0/limit_usd"))
    .collect();
    cases.push((amount("NaN"), ""));
    cases.push((amount("1e999"), ""));
    let whole = |text: &str| text.to_owned();
    cases.extend([
        (whole(r#"[{"limit_usd": "1", "window": "year"}]"#), "/budgets/0/window"),
        (whole(r#"[{"limit_usd": "1"}]"#), "/budgets/0/window"),
        (whole(r#"[{"limit_usd": "1", "window": "day", "timezone": "Mars/Base"}]"#), "/budgets/0/timezone"),
        (whole(r#"[{"limit_usd": "1", "window": "day", "timezone": "+02:00"}]"#), "/budgets/0/timezone"),
        (
            whole(r#"[{"limit_usd": "1", "window": "day"}, {"limit_usd": "2", "window": "day"}]"#),
            "/budgets/1/window",
        ),
        (whole(r#"[{"limit_usd": "1", "window": "day", "alert_at": ["2"]}]"#), "/budgets/0/alert_at/0"),
    ]);
    cases
}

fn bad_rates() -> Vec<(String, &'static str)> {
    let limit = |limit: &str| format!(r#"[{{"metric": "requests", "limit": {limit}, "per": "minute"}}]"#);
    let numbers = ["0", "-1", "1.5", "\"5\"", "1000000000001", "18446744073709551616", "1e3", "true", "null"];
    let mut cases: Vec<(String, &str)> =
        numbers.into_iter().map(|number| (limit(number), "/rate_limits/0/limit")).collect();
    cases.push((limit("NaN"), ""));
    let whole = |text: &str| text.to_owned();
    cases.extend([
        (
            whole(r#"[{"metric": "requests", "limit": 1, "per": "minute"}, {"metric": "concurrent_requests", "limit": 0}]"#),
            "/rate_limits/1/limit",
        ),
        (whole(r#"[{"metric": "requests", "limit": 1, "per": "week"}]"#), "/rate_limits/0/per"),
        (whole(r#"[{"metric": "dollars", "limit": 1, "per": "day"}]"#), "/rate_limits/0/metric"),
        (whole(r#"[{"metric": "tokens", "limit": 1}]"#), "/rate_limits/0"),
        (whole(r#"[{"metric": "concurrent_requests", "limit": 1, "per": "day"}]"#), "/rate_limits/0"),
        (
            whole(r#"[{"metric": "tokens", "limit": 1, "per": "day"}, {"metric": "tokens", "limit": 2, "per": "day"}]"#),
            "/rate_limits/1",
        ),
    ]);
    cases
}

on_both! {
    async fn amounts_windows_and_limits_that_make_no_sense_are_refused_by_field(test: TestStore) {
        let server = TestServer::start(test).await;
        let good = json!({
            "budgets": [{"limit_usd": "1", "window": "day"}],
            "rate_limits": [{"metric": "requests", "limit": 9, "per": "minute"}],
        });
        let (id, _) = server.mint(good).await;
        let subkey = format!("/api/v1/subkeys/{id}");
        let credentials = "/api/v1/providers/sandbox/credentials";
        let main = server.admin_get(credentials).await.json()["items"][0]["id"].as_str().unwrap().to_owned();
        let credential = format!("{credentials}/{main}");
        let places = ["/api/v1/subkeys", "/api/v1/providers/sandbox", credentials];
        let mut was = Vec::new();
        for place in places {
            was.push(server.admin_get(place).await.json());
        }
        let mut wrong = Vec::new();
        let mut check = |method: &'static str, path: &str, what: String, body: String, field: &'static str| {
            wrong.push((method, path.to_owned(), what, body, field));
        };
        for (budgets, field) in bad_budgets() {
            let body = format!(r#"{{"name": "x", "models": ["*"], "budgets": {budgets}}}"#);
            check("POST", "/api/v1/subkeys", budgets.clone(), body, field);
            check("PATCH", &subkey, budgets.clone(), format!(r#"{{"budgets": {budgets}}}"#), field);
        }
        for (rates, field) in bad_rates() {
            let body = format!(r#"{{"name": "x", "models": ["*"], "rate_limits": {rates}}}"#);
            check("POST", "/api/v1/subkeys", rates.clone(), body, field);
            let patch = format!(r#"{{"rate_limits": {rates}}}"#);
            for path in [subkey.as_str(), "/api/v1/providers/sandbox", credential.as_str()] {
                check("PATCH", path, rates.clone(), patch.clone(), field);
            }
            let body = format!(r#"{{"name": "x", "secret": "{CANARY}", "rate_limits": {rates}}}"#);
            check("POST", credentials, rates.clone(), body, field);
        }
        for amount in [r#""-1""#, r#""NaN""#, r#""1e9""#, "5", r#""99999999999999999999""#, r#""0.0000000001""#] {
            let body = format!(r#"{{"max_request_usd": {amount}}}"#);
            check("PATCH", &subkey, amount.to_owned(), body, "/max_request_usd");
        }
        for number in ["-1", "1.5", "\"10\"", "1e18", "true"] {
            for field in ["/max_output_tokens", "/default_max_output_tokens"] {
                let body = format!(r#"{{"{}": {number}}}"#, &field[1..]);
                check("PATCH", &subkey, number.to_owned(), body, field);
            }
        }
        for (method, path, what, body, field) in wrong {
            let (status, code, named) = ask(&server, method, &path, &body).await;
            let what = format!("{method} {path} {what}");
            assert_eq!((status, named.as_str()), (400, field), "{what}: {code}");
            let codes: &[&str] =
                if field.is_empty() { &["invalid_body"] } else { &["invalid_field", "missing_field"] };
            assert!(codes.contains(&code.as_str()), "{what}: {code}");
        }
        for (place, was) in places.iter().zip(was) {
            assert_eq!(server.admin_get(place).await.json(), was, "{place}");
        }
        server.end().await;
    }
}
