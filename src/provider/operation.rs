//! The table of what can be asked for: method and path template on one side, operation on the other.
//!
//! A request that matches no row reaches nobody. Matching is exact on the raw path: nothing is decoded,
//! folded or cleaned up, so there is no second reading of a path. The one exception is the model at the
//! end of a path, which is decoded strictly, once. What is sent upstream is the row's own path, never
//! the client's. A new operation is a row here, a field list beside its reader, and a test.

use super::{
    Dialect, Slug,
    ask::{self, Field},
};
use crate::policy::Operation;
use http::{HeaderMap, Method};

/// One thing that can be asked for.
#[derive(Debug)]
pub struct Row {
    /// What it does.
    pub operation: Operation,
    /// The dialect of request, answer and errors.
    pub dialect: Dialect,
    /// The method.
    pub method: Method,
    /// The path below the origin; `{model}` at its end stands for the rest of the path.
    pub template: &'static str,
    /// Where it goes, below the dialect's base URL (`OpenAI`'s includes `/v1`, the others do not).
    pub upstream_path: &'static str,
    /// How its body reads.
    pub form: Form,
    /// What each known field of the body is.
    pub fields: &'static [Field],
    /// The query parameters that are forwarded; no other is.
    pub query: &'static [&'static str],
}

/// How a body reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// There is none.
    Empty,
    /// `OpenAI` chat completions.
    Chat,
    /// Legacy completions.
    Completions,
    /// Embeddings.
    Embeddings,
    /// Anthropic messages and their token count.
    Messages,
}

/// Every row.
pub static ROWS: [Row; 13] = [
    post(Operation::Chat, "/v1/chat/completions", "/chat/completions", Form::Chat, ask::CHAT),
    post(Operation::Completions, "/v1/completions", "/completions", Form::Completions, ask::COMPLETIONS),
    post(Operation::Embeddings, "/v1/embeddings", "/embeddings", Form::Embeddings, ask::EMBEDDINGS),
    messages(Operation::Chat, "/v1/messages"),
    messages(Operation::CountTokens, "/v1/messages/count_tokens"),
    models(Dialect::OpenAi, "/v1/models", "/models"),
    models(Dialect::OpenAi, "/v1/models/{model}", "/models"),
    models(Dialect::Anthropic, "/v1/models", "/v1/models"),
    models(Dialect::Anthropic, "/v1/models/{model}", "/v1/models"),
    models(Dialect::Gemini, "/v1/models", "/v1beta/models"),
    models(Dialect::Gemini, "/v1/models/{model}", "/v1beta/models"),
    models(Dialect::Gemini, "/v1beta/models", "/v1beta/models"),
    models(Dialect::Gemini, "/v1beta/models/{model}", "/v1beta/models"),
];

const fn post(
    operation: Operation,
    template: &'static str,
    upstream_path: &'static str,
    form: Form,
    fields: &'static [Field],
) -> Row {
    let (dialect, method, query) = (Dialect::OpenAi, Method::POST, &[]);
    Row { operation, dialect, method, template, upstream_path, form, fields, query }
}

const fn messages(operation: Operation, path: &'static str) -> Row {
    Row {
        operation,
        dialect: Dialect::Anthropic,
        method: Method::POST,
        template: path,
        upstream_path: path,
        form: Form::Messages,
        fields: ask::MESSAGES,
        query: &["beta"],
    }
}

const fn models(dialect: Dialect, template: &'static str, upstream_path: &'static str) -> Row {
    let (operation, method, form) = (Operation::Models, Method::GET, Form::Empty);
    Row { operation, dialect, method, template, upstream_path, form, fields: &[], query: &[] }
}

/// A row that a request matched, and what its path says.
#[derive(Debug)]
pub struct Matched<'p> {
    /// The row.
    pub row: &'static Row,
    /// The provider that the path names (`/p/{provider}/...`): a well-formed slug, known or not.
    pub provider: Option<&'p str>,
    /// The model that the path names, decoded.
    pub model: Option<String>,
}

/// Finds the row of a request; `None` is an unknown operation. `path` is the raw path without query;
/// `spoken` is [`Dialect::spoken`], which decides only where dialects share a path.
pub fn find<'p>(method: &Method, path: &'p str, spoken: Dialect) -> Option<Matched<'p>> {
    let (provider, below) = split_provider(path)?;
    ROWS.iter().filter(|row| row.method == *method && (row.dialect == spoken || !row.shares_path())).find_map(
        |row| {
            let model = row.matches(below)?;
            Some(Matched { row, provider, model })
        },
    )
}

/// Whether any method and dialect could match the path.
pub fn is_known_path(path: &str) -> bool {
    split_provider(path).is_some_and(|(_, below)| ROWS.iter().any(|row| row.matches(below).is_some()))
}

impl Dialect {
    /// The dialect that a request's headers speak.
    pub fn spoken(headers: &HeaderMap) -> Self {
        if headers.contains_key("anthropic-version") {
            Self::Anthropic
        } else if headers.contains_key("x-goog-api-key") {
            Self::Gemini
        } else {
            Self::OpenAi
        }
    }
}

impl Row {
    /// The query to send upstream: the row's own parameters as they came, in their order; `None` when
    /// none is left. A value that would need decoding to be understood is not sent.
    pub fn upstream_query(&self, query: &str) -> Option<String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let kept: Vec<&str> = query
            .split('&')
            .filter(|parameter| {
                let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
                self.query.contains(&name) && value.bytes().all(is_plain)
            })
            .collect();
        (!kept.is_empty()).then(|| kept.join("&"))
    }

    /// Whether rows of other dialects have the same template.
    fn shares_path(&self) -> bool {
        self.template.starts_with("/v1/models")
    }

    /// The model in the path (or none, where the template has none), if the path is the row's.
    #[expect(clippy::option_option, reason = "no match, a match, a match with a model")]
    fn matches(&self, path: &str) -> Option<Option<String>> {
        match self.template.strip_suffix("{model}") {
            None => (path == self.template).then_some(None),
            Some(stem) => Some(Some(decode_model(path.strip_prefix(stem)?)?)),
        }
    }
}

/// `/p/{provider}/rest` apart; other paths name no provider. `None` for a malformed slug.
fn split_provider(path: &str) -> Option<(Option<&str>, &str)> {
    let Some(named) = path.strip_prefix("/p/") else { return Some((None, path)) };
    let (slug, _) = named.split_once('/')?;
    slug.parse::<Slug>().is_ok().then(|| (Some(slug), &named[slug.len()..]))
}

/// Decodes a model name from the end of a path. `None` for anything that two readers could take for
/// different names or paths: a bad escape, an empty or dot segment, a raw byte that URLs escape.
fn decode_model(raw: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            b'?' | b'#' | b'\\' | 0..=0x20 | 0x7f.. => return None,
            plain => plain,
        });
    }
    let name = String::from_utf8(bytes).ok()?;
    let is_plain = name.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
    (is_plain && ask::is_model_name(&name)).then_some(name)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found(method: &str, path: &str) -> Option<(Operation, Dialect, Option<String>, Option<String>)> {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        find(&method, path, Dialect::OpenAi).map(|matched| {
            let Row { operation, dialect, .. } = matched.row;
            (*operation, *dialect, matched.provider.map(Into::into), matched.model)
        })
    }

    #[test]
    fn every_row_is_found_at_its_path_and_under_a_provider() {
        for row in &ROWS {
            let path = row.template.replace("{model}", "some-model");
            for path in [path.clone(), format!("/p/acme{path}")] {
                let matched = find(&row.method, &path, row.dialect).unwrap();
                assert!(std::ptr::eq(matched.row, row), "{path}");
                assert_eq!(matched.provider, path.starts_with("/p/").then_some("acme"));
                assert_eq!(matched.model.is_some(), row.template.ends_with("{model}"));
                assert!(is_known_path(&path));
                assert!(find(&Method::PUT, &path, row.dialect).is_none());
            }
        }
    }

    #[test]
    fn only_paths_that_dialects_share_need_the_headers() {
        for row in &ROWS {
            let same = ROWS.iter().filter(|other| other.template == row.template);
            assert_eq!(same.count() > 1, row.shares_path(), "{}", row.template);
        }
    }

    #[test]
    fn the_dialect_comes_from_the_row_or_where_paths_are_shared_from_the_headers() {
        let spoken = |names: &[&'static str]| {
            let headers =
                names.iter().map(|name| (http::HeaderName::from_static(name), "1".parse().unwrap()));
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
        assert_eq!(ROWS[0].upstream_path, "/chat/completions");
        assert_eq!(ROWS[3].upstream_path, "/v1/messages");
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
            "/v1/files",
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

    #[test]
    fn only_the_rows_own_query_is_sent() {
        let messages = &ROWS[3];
        assert_eq!(messages.upstream_query("beta=true").as_deref(), Some("beta=true"));
        assert_eq!(messages.upstream_query("a=1&beta=true&key=bk_x").as_deref(), Some("beta=true"));
        assert_eq!(messages.upstream_query("beta=%74rue&Beta=true&base_url=http://evil"), None);
        assert_eq!(messages.upstream_query(""), None);
        assert_eq!(ROWS[0].upstream_query("beta=true"), None);
    }

    proptest! {
        /// What is found is found under one raw path only: the row's own, or with a model at its end.
        #[test]
        fn nothing_but_the_template_is_found(path in "(/p/[a-z]{1,3})?/[v1/a-z%.2Ff{}]{0,24}") {
            if let Some(matched) = find(&Method::POST, &path, Dialect::OpenAi) {
                prop_assert!(path.ends_with(matched.row.template));
            }
            if let Some(Matched { model: Some(model), .. }) = find(&Method::GET, &path, Dialect::OpenAi) {
                prop_assert!(!model.split('/').any(|segment| matches!(segment, "" | "." | "..")));
            }
        }
    }
}
