use super::*;
use proptest::prelude::*;

fn found(method: &str, path: &str) -> Option<(Operation, Dialect, Option<String>, Option<String>)> {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    find(&method, path, Dialect::OpenAi).map(|matched| {
        let Row { operation, dialect, .. } = matched.row;
        (*operation, *dialect, matched.provider.map(Into::into), matched.model().map(Into::into))
    })
}

#[test]
fn every_row_is_found_at_its_path_and_under_a_provider() {
    for row in &ROWS {
        let path = row.template.path("some-name");
        for path in [path.clone(), format!("/p/acme{path}")] {
            let matched = find(&row.method, &path, row.dialect).unwrap();
            assert!(std::ptr::eq(matched.row, row), "{path}");
            assert_eq!(matched.provider, path.starts_with("/p/").then_some("acme"));
            let named = [matched.model(), matched.object()].into_iter().flatten().collect::<Vec<_>>();
            assert_eq!(named, row.template.hole().map(|_| "some-name").into_iter().collect::<Vec<_>>());
            assert!(is_known_path(&path));
            assert!(find(&Method::PUT, &path, row.dialect).is_none());
        }
    }
}

#[test]
fn no_two_rows_of_a_dialect_have_one_method_and_path() {
    for row in &ROWS {
        let path = row.template.path("some-name");
        let same = |other: &&Row| {
            other.method == row.method
                && other.dialect == row.dialect
                && other.template.read(&path).is_some()
                && row.template.hole().is_none() == other.template.hole().is_none()
        };
        assert_eq!(ROWS.iter().filter(same).count(), 1, "{} {path}", row.method);
    }
}

#[test]
fn what_is_sent_is_the_rows_own_path_with_what_the_clients_names() {
    let sent = |method: &Method, path: &str, model: &str| {
        find(method, path, Dialect::OpenAi).unwrap().upstream_path(model)
    };
    assert_eq!(sent(&Method::POST, "/v1/chat/completions", "m"), "/chat/completions");
    assert_eq!(sent(&Method::POST, "/p/x/v1/messages", "m"), "/v1/messages");
    assert_eq!(sent(&Method::POST, "/openai/deployments/d/chat/completions", "m"), "/chat/completions");
    let batch = "/v1beta/models/gemini/g:batchGenerateContent";
    assert_eq!(sent(&Method::POST, batch, "g/1"), "/v1beta/models/g%2F1:batchGenerateContent");
    assert_eq!(sent(&Method::GET, "/v1/batches/batch_1", "m"), "/v1/batches/batch_1");
}

#[test]
fn azures_paths_are_those_of_openai() {
    fn found(path: &str) -> Option<Matched<'_>> {
        find(&Method::POST, path, Dialect::Anthropic)
    }
    let v1 = found("/openai/v1/chat/completions").unwrap();
    assert!(v1.is_azure && std::ptr::eq(v1.row, &raw const ROWS[0]) && v1.model().is_none());
    let deployed = found("/p/acme/openai/deployments/my-gpt.4/chat/completions").unwrap();
    assert!(deployed.is_azure && deployed.model() == Some("my-gpt.4"));
    assert_eq!((deployed.row.dialect, deployed.row.operation), (Dialect::OpenAi, Operation::Chat));
    for path in [
        "/openai/v1/messages",
        "/openai/chat/completions",
        "/openai/openai/v1/chat/completions",
        "/openai/deployments//chat/completions",
        "/openai/deployments/../chat/completions",
        "/openai/deployments/a/b/chat/completions",
        "/openai/deployments/a%2Fb/chat/completions",
        "/openai/v1/deployments/a/chat/completions",
    ] {
        assert!(found(path).is_none(), "{path}");
    }
    assert!(!found("/v1/chat/completions").unwrap().is_azure);
}

#[test]
fn sockets_are_known_where_providers_have_them() {
    for path in ["/v1/realtime", "/v1/responses", "/openai/v1/realtime", "/p/openai/v1/realtime"] {
        assert!(is_known_path(path), "{path}");
    }
    assert!(find(&Method::GET, "/v1/realtime", Dialect::OpenAi).is_none());
}

#[test]
fn the_dialect_comes_from_the_row_or_where_paths_are_shared_from_the_headers() {
    let spoken = |names: &[&'static str]| {
        let headers = names.iter().map(|name| (http::HeaderName::from_static(name), "1".parse().unwrap()));
        Dialect::spoken(&headers.collect())
    };
    assert_eq!(spoken(&[]), Dialect::OpenAi);
    assert_eq!(spoken(&["x-goog-api-key"]), Dialect::Gemini);
    assert_eq!(spoken(&["x-goog-api-key", "anthropic-version"]), Dialect::Anthropic);
    for dialect in [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini] {
        let of = |method: &Method, path| find(method, path, dialect).unwrap().row;
        assert_eq!(of(&Method::GET, "/v1/models").dialect, dialect);
        assert_eq!(of(&Method::GET, "/v1beta/models").dialect, Dialect::Gemini);
        assert_eq!(of(&Method::POST, "/v1/messages").dialect, Dialect::Anthropic);
        assert_eq!(of(&Method::POST, "/v1/chat/completions").dialect, Dialect::OpenAi);
    }
}

#[test]
fn a_model_in_the_path_may_hold_slashes_and_is_decoded_once() {
    let model = |tail: &str| found("GET", &format!("/v1/models/{tail}")).map(|found| found.3.unwrap());
    assert_eq!(model("gpt-4o").as_deref(), Some("gpt-4o"));
    assert_eq!(model("openai/gpt-4o").as_deref(), Some("openai/gpt-4o"));
    assert_eq!(model("openai%2Fgpt-4o").as_deref(), Some("openai/gpt-4o"));
    assert_eq!(model("ft:gpt%3Aa@1").as_deref(), Some("ft:gpt:a@1"));
    assert_eq!(model("a%252e").as_deref(), Some("a%2e"));
    for tail in [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "..",
        "a/../b",
        "a/%2e%2e/b",
        "%2e",
        "%",
        "%4",
        "%zz",
        "%00",
        "%ff",
        "a b",
    ] {
        assert_eq!(model(tail), None, "{tail}");
    }
    for tail in ["a%0a", "a%2F", "a\\b", "a?b", "a#b", "ä", "http%3A%2F%2Fevil", &"a".repeat(257)] {
        assert_eq!(model(tail), None, "{tail}");
    }
}

#[test]
fn path_tricks_match_nothing() {
    for path in [
        "",
        "/",
        "/v1",
        "/v1/",
        "v1/chat/completions",
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/chat/completions/",
        "/V1/chat/completions",
        "/v1/Chat/completions",
        "/v1/chat%2Fcompletions",
        "/v1/%63hat/completions",
        "/v1/./chat/completions",
        "/v1/x/../chat/completions",
        "/v1/chat/completions?x=1",
        "/v1/chat/completions#x",
        "/v1/chat/completions;x",
        "/v1/nothing",
        "/p/openai",
        "/p/openai/",
        "/p//v1/chat/completions",
        "/p/OpenAI/v1/chat/completions",
        "/p/../v1/chat/completions",
        "/p/a%2Fb/v1/chat/completions",
        "/p/-a/v1/chat/completions",
        "/p/openai//v1/chat/completions",
        "/p/openai/p/openai/v1/chat/completions",
        "/api/v1/subkeys",
    ] {
        assert!(found("POST", path).is_none(), "{path}");
        assert!(!is_known_path(path), "{path}");
    }
    for method in ["GET", "post", "OPTIONS", "HEAD", "CONNECT"] {
        assert!(found(method, "/v1/chat/completions").is_none(), "{method}");
    }
}

proptest! {
    /// What is found is found under one raw path only: the row's own, or with a model at its end.
    #[test]
    fn nothing_but_the_template_is_found(path in "(/p/[a-z]{1,3})?/[v1/a-z%.2Ff{}]{0,24}") {
        if let Some(matched) = find(&Method::POST, &path, Dialect::OpenAi) {
            prop_assert!(matched.row.template.hole().is_some() || path.ends_with(&matched.row.template.to_string()));
        }
        if let Some(model) = find(&Method::GET, &path, Dialect::OpenAi).as_ref().and_then(Matched::model) {
            prop_assert!(!model.split('/').any(|segment| matches!(segment, "" | "." | "..")));
        }
    }
}
