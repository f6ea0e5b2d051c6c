//! Beta values: what a request asks for by `anthropic-beta` and `openai-beta`, and what each does to the most that it can
//! cost.
//!
//! Nearly all of them only open fields and tools that are seen where they are used, and priced there. Two families move
//! bounds that the catalog states, and are read by their names, so that next year's date counts as well:
//! `context-1m-...` widens the window, `output-128k-...` raises the ceiling of the output. Values that no list knows pass,
//! like unknown fields, and are refused where those are.

use super::{Ask, AskError, SetBeta};
use crate::base::json::{Kind, Value};
use crate::policy::is_beta_byte;
use http::HeaderMap;
use std::collections::BTreeMap;

/// The header fields that carry beta values, as comma lists that may be repeated.
pub const BETA_HEADERS: [&str; 2] = ["anthropic-beta", "openai-beta"];

/// The values of such a list as they stand there.
fn beta_values(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(|value| value.trim_matches([' ', '\t'])).filter(|value| !value.is_empty())
}

/// The values of a list that a request's header field does not have: those that change it, where they are added.
pub fn betas_beyond<'s>(asked: &HeaderMap, name: &str, set: &'s str) -> Vec<&'s str> {
    let lists = || asked.get_all(name).iter().filter_map(|list| list.to_str().ok());
    let is_asked =
        |value: &&str| lists().flat_map(beta_values).any(|asked| asked.eq_ignore_ascii_case(value));
    beta_values(set).filter(|value| !is_asked(value)).collect()
}

/// The longest value, in bytes.
const VALUE_BYTES_MAX: usize = 128;
/// The most values of a request; agents send about a dozen.
const VALUES_MAX: usize = 64;

/// What a beta value does by itself, whatever else the request says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// The price and the bounds stay: what it opens is seen in the fields and tools that use it.
    Neutral,
    /// The model takes so many tokens of input.
    Window(u64),
    /// A candidate has at most so many tokens.
    Output(u64),
}

/// The values that are known: Anthropic's reference of `anthropic-beta`, the pages of its single features, and what
/// its coding agent sends; `OpenAI`'s reference, and what its coding agent sends. Sorted.
const KNOWN: [&str; 73] = [
    "adaptive-thinking-2026-01-28",
    "advanced-tool-use-2025-11-20",
    "advisor-tool-2026-03-01",
    "agent-memory-2026-07-22",
    "assistants=v1",
    "assistants=v2",
    "cache-diagnosis-2026-04-07",
    "chatkit_beta=v1",
    "claude-code-20250219",
    "code-execution-2025-05-22",
    "code-execution-2025-08-25",
    "compact-2026-01-12",
    "computer-use-2024-10-22",
    "computer-use-2025-01-24",
    "computer-use-2025-11-24",
    "context-1m-2025-08-07",
    "context-management-2025-06-27",
    "dev-full-thinking-2025-05-14",
    "dreaming-2026-04-21",
    "effort-2025-11-24",
    "extended-cache-ttl-2025-04-11",
    "fallback-credit-2026-06-01",
    "fallback-credit-2026-06-09",
    "fallback-credit-2026-07-01",
    "fast-mode-2026-02-01",
    "files-api-2025-04-14",
    "fine-grained-tool-streaming-2025-05-14",
    "interleaved-thinking-2025-05-14",
    "managed-agents-2026-04-01",
    "max-tokens-3-5-sonnet-2024-07-15",
    "mcp-client-2025-04-04",
    "mcp-client-2025-11-20",
    "mcp-servers-2025-12-04",
    "message-batches-2024-09-24",
    "model-context-window-exceeded-2025-08-26",
    "oauth-2025-04-20",
    "output-128k-2025-02-19",
    "output-300k-2026-03-24",
    "pdfs-2024-09-25",
    "prompt-caching-2024-07-31",
    "prompt-caching-scope-2026-01-05",
    "realtime=v1",
    "redact-thinking-2026-02-12",
    "responses=experimental",
    "responses_websockets=2026-02-04",
    "responses_websockets=2026-02-06",
    "server-side-fallback-2026-06-01",
    "server-side-fallback-2026-07-01",
    "skills-2025-10-02",
    "structured-outputs-2025-09-17",
    "structured-outputs-2025-11-13",
    "structured-outputs-2025-12-15",
    "task-budgets-2026-03-13",
    "thinking-token-count-2026-05-13",
    "token-counting-2024-11-01",
    "token-efficient-tools-2025-02-19",
    "token-efficient-tools-2026-03-28",
    "tool-examples-2025-10-29",
    "tool-search-tool-2025-10-19",
    "tools-2024-04-04",
    "tools-2024-05-16",
    "user-profiles-2026-03-24",
    "user-profiles-2026-08-18",
    "user-profiles-2026-09-04",
    "web-fetch-2025-09-10",
    "web-fetch-2026-02-09",
    "web-fetch-2026-03-09",
    "web-fetch-2026-03-18",
    "web-search-2025-03-05",
    "web-search-2026-02-09",
    "web-search-2026-03-09",
    "web-search-2026-03-18",
    "workspace-scope-2025-05-22",
];

/// The output that `max-tokens-3-5-sonnet-...` allows.
const SONNET_3_5_TOKENS: u64 = 8_192;

/// What a value does; what is not known does nothing.
fn effect(value: &str) -> Effect {
    let sized = |family| value.strip_prefix(family).and_then(tokens);
    if let Some(window) = sized("context-") {
        Effect::Window(window)
    } else if let Some(output) = sized("output-") {
        Effect::Output(output)
    } else if value.starts_with("max-tokens-3-5-sonnet-") {
        Effect::Output(SONNET_3_5_TOKENS)
    } else {
        Effect::Neutral
    }
}

/// A size that stands before a date: `1m-...`, `128k-...`.
fn tokens(rest: &str) -> Option<u64> {
    let (size, _date) = rest.split_once('-')?;
    let (number, unit) = match size.strip_suffix('m') {
        Some(number) => (number, 1_000_000),
        None => (size.strip_suffix('k')?, 1_000),
    };
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // However large it is written, no provider has more.
    let tokens = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    Some(tokens.map_or(TOKENS_MAX, |tokens| tokens.min(TOKENS_MAX)))
}

/// More tokens than any provider takes or makes at once.
const TOKENS_MAX: u64 = 10_000_000;

impl Ask {
    /// Reads the beta values of a request's header. They are compared in lower case, and passed on as they are.
    ///
    /// # Errors
    /// A value that could be read in two ways, or more of them than anybody needs.
    pub fn read_betas(&mut self, headers: &HeaderMap) -> Result<(), AskError> {
        for name in BETA_HEADERS {
            for list in headers.get_all(name) {
                let list = list.to_str().map_err(|_| AskError::expected(name, WANTED))?;
                beta_values(list).try_for_each(|value| self.add_beta(name, value))?;
            }
        }
        Ok(())
    }

    /// Reads the beta values that the provider's own headers add for every request: they move the bounds like the
    /// application's. What a key may ask for is another matter, and is about what the application asks for.
    pub fn read_set_betas(&mut self, asked: &HeaderMap, set: &BTreeMap<String, String>) {
        let lists = BETA_HEADERS.into_iter().filter_map(|header| Some((header, set.get(header)?)));
        let values = lists.flat_map(|(header, list)| {
            let more = betas_beyond(asked, header, list).into_iter();
            more.map(move |value| SetBeta { header, value: value.to_ascii_lowercase() })
        });
        self.set_betas = values.collect();
    }

    /// Reads the beta values of a field of the body, where servers of Anthropic's dialect other than its own take them.
    pub(super) fn read_beta_field(&mut self, root: Value<'_>, field: &'static str) -> Result<(), AskError> {
        let Some(values) = super::read::present(root, field) else { return Ok(()) };
        match values.kind() {
            Kind::String => self.add_beta(field, &values.as_str().unwrap_or_default()),
            Kind::Array => values.items().try_for_each(|value| {
                let value = value.as_str().ok_or_else(|| AskError::expected(field, WANTED))?;
                self.add_beta(field, &value)
            }),
            Kind::Null | Kind::Bool | Kind::Number | Kind::Object => Err(AskError::expected(field, WANTED)),
        }
    }

    /// The input that a model takes, of which the catalog says so.
    pub fn window(&self, catalog: Option<u64>) -> Option<u64> {
        let asked = self.effects().filter_map(|effect| match effect {
            Effect::Window(tokens) => Some(tokens),
            Effect::Output(_) | Effect::Neutral => None,
        });
        Some(asked.fold(catalog?, u64::max))
    }

    /// The most output of a candidate of a model, of which the catalog says so.
    pub fn output_ceiling(&self, catalog: Option<u64>) -> Option<u64> {
        let asked = self.effects().filter_map(|effect| match effect {
            Effect::Output(tokens) => Some(tokens),
            Effect::Window(_) | Effect::Neutral => None,
        });
        Some(asked.fold(catalog?, u64::max))
    }

    fn effects(&self) -> impl Iterator<Item = Effect> {
        let set = self.set_betas.iter().map(|set| &set.value);
        self.betas.iter().chain(set).map(|value| effect(value))
    }

    fn add_beta(&mut self, place: &'static str, value: &str) -> Result<(), AskError> {
        let value = value.to_ascii_lowercase();
        let is_plain = (1..=VALUE_BYTES_MAX).contains(&value.len()) && value.bytes().all(is_beta_byte);
        if !is_plain || self.betas.len() >= VALUES_MAX {
            return Err(AskError::expected(place, WANTED));
        }
        if KNOWN.binary_search(&value.as_str()).is_err() {
            self.add_unknown(&format!("{place}={value}"));
        }
        self.betas.push(value);
        Ok(())
    }
}

const WANTED: &str = "at most 64 beta values, each of letters, digits and -_.=:/+";

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;
    use crate::provider::operation::ROWS;
    use http::{HeaderName, HeaderValue};

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(line).collect()
    }

    fn asked(lines: &[(&'static str, &'static str)]) -> Result<Ask, AskError> {
        let mut ask = Ask::default();
        ask.read_betas(&fields(lines)).map(|()| ask)
    }

    #[test]
    fn a_list_is_read_over_all_lines_of_both_fields() {
        let ask = asked(&[
            ("anthropic-beta", " context-1m-2025-08-07 ,,Files-API-2025-04-14"),
            ("openai-beta", "assistants=v2"),
            ("anthropic-beta", "wibble-2031-01-01"),
            ("x-beta", "ignored"),
        ]);
        let ask = ask.unwrap();
        let all = ["context-1m-2025-08-07", "files-api-2025-04-14", "wibble-2031-01-01", "assistants=v2"];
        assert_eq!(ask.betas, all);
        assert_eq!(ask.unknown_fields, ["anthropic-beta=wibble-2031-01-01"]);
        assert_eq!(asked(&[]), Ok(Ask::default()));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for bad in ["a b", "a;b", "\"a\"", "a\u{fc}", "a\\b", "a*", &"a".repeat(129)] {
            let mut headers = HeaderMap::new();
            headers.insert("anthropic-beta", HeaderValue::from_str(bad).unwrap());
            assert!(Ask::default().read_betas(&headers).is_err(), "{bad}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("openai-beta", HeaderValue::from_str(&"a,".repeat(64)).unwrap());
        assert!(Ask::default().read_betas(&headers).is_ok());
        headers.append("openai-beta", HeaderValue::from_static("a"));
        assert_eq!(Ask::default().read_betas(&headers).unwrap_err().param(), Some("openai-beta"));
    }

    #[test]
    fn sizes_move_the_bounds_whatever_their_date_and_nothing_else_does() {
        let bounds = |value| {
            let ask = asked(&[("anthropic-beta", value)]).unwrap();
            (ask.window(Some(200_000)), ask.output_ceiling(Some(64_000)))
        };
        assert_eq!(bounds("context-1m-2025-08-07"), (Some(1_000_000), Some(64_000)));
        assert_eq!(bounds("context-2m-2027-01-01,context-1m-2025-08-07").0, Some(2_000_000));
        assert_eq!(bounds("output-128k-2025-02-19"), (Some(200_000), Some(128_000)));
        assert_eq!(bounds("output-8k-2031-01-01").1, Some(64_000), "a beta takes nothing away");
        assert_eq!(asked(&[("anthropic-beta", "context-1m-x")]).unwrap().window(None), None);
        for value in KNOWN.iter().filter(|value| !value.contains("context-1m") && !value.contains("output-"))
        {
            assert_eq!(bounds(value), (Some(200_000), Some(64_000)), "{value}");
        }
        for value in [
            "context-m-1",
            "context-1m",
            "context-management-2025-06-27",
            "output-k-1",
            "context-+1m-2025-08-07",
            "output-+128k-2025-02-19",
            "context-1_000k-2025-08-07",
        ] {
            assert_eq!(bounds(value), (Some(200_000), Some(64_000)), "{value}");
        }
        for value in [
            "context-10m-x",
            "context-11m-x",
            "context-18446744073709551615m-x",
            "context-99999999999999999999999k-x",
        ] {
            assert_eq!(bounds(value).0, Some(10_000_000), "{value}");
        }
        assert_eq!(bounds("output-20m-x").1, Some(10_000_000));
    }

    #[test]
    fn what_the_provider_is_set_to_add_moves_the_bounds_and_is_nothing_that_the_application_asks_for() {
        let headers = |value: &str| BTreeMap::from([("anthropic-beta".to_owned(), value.to_owned())]);
        let own = fields(&[("anthropic-beta", "context-1m-2025-08-07")]);
        let mut ask = Ask::default();
        ask.read_betas(&own).unwrap();
        ask.read_set_betas(&own, &BTreeMap::from([("x-other".to_owned(), "output-128k-1".to_owned())]));
        assert_eq!(ask.set_betas, []);
        ask.read_set_betas(&own, &headers("Context-1M-2025-08-07"));
        assert_eq!(ask.set_betas, [], "it asks for that itself");
        ask.read_set_betas(&own, &headers("context-2m-1, Output-128k-2025-02-19,context-1m-2025-08-07"));
        assert_eq!((ask.window(Some(1)), ask.output_ceiling(Some(1))), (Some(2_000_000), Some(128_000)));
        let set = SetBeta { header: "anthropic-beta", value: "output-128k-2025-02-19".into() };
        assert_eq!((ask.set_betas.len(), &ask.set_betas[1]), (2, &set));
        assert_eq!((ask.betas.len(), ask.unknown_fields.len()), (1, 0));
        ask.read_set_betas(&own, &BTreeMap::new());
        assert_eq!(ask.window(Some(1)), Some(1_000_000), "of one provider, not of all that were thought of");
        ask.read_set_betas(&fields(&[]), &headers("context-1m-2025-08-07"));
        assert_eq!(ask.set_betas.len(), 1, "asked for in the body or another field, it is added to this one");
    }

    #[test]
    fn the_list_is_sorted_and_of_values_that_can_be_sent() {
        assert!(KNOWN.is_sorted());
        for value in KNOWN {
            assert!(value.bytes().all(is_beta_byte), "{value}");
        }
    }

    #[test]
    fn a_field_of_the_body_counts_like_the_header() {
        let message = |field: &str| read(&ROWS[3], format!(r#"{{"model":"m",{field}}}"#).as_bytes());
        for field in [r#""anthropic_beta":["context-1m-2025-08-07"]"#, r#""betas":["context-1m-2025-08-07"]"#]
        {
            let ask = message(field).unwrap();
            assert_eq!(ask.betas, ["context-1m-2025-08-07"]);
            assert!(ask.unbounded_prices.is_empty() && ask.unknown_fields.is_empty());
        }
        assert_eq!(message(r#""anthropic_beta":null"#).unwrap().betas, Vec::<String>::new());
        for bad in [r#""betas":{}"#, r#""betas":[1]"#, r#""anthropic_beta":["a b"]"#, r#""betas":[""]"#] {
            assert!(message(bad).is_err(), "{bad}");
        }
    }
}
