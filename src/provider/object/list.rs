//! Lists of files, as clients of both dialects ask for them and read them. They are answered from our own record: the
//! provider's own list would show what other sub-keys have in the same account.

use super::OBJECT_ID_BYTES_MAX;
use crate::base::json::{Document, Limits, Value};
use crate::provider::Dialect;
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value as Json, json};

/// The most ids that a list can be asked for, as Anthropic has it.
const IDS_MAX: usize = 100;
/// What Anthropic's cursors begin with; then comes the last id of the page before.
const CURSOR: &str = "page_";

/// A numbered page that names no size has so many, as Mistral has it.
const PAGE_SIZE: usize = 100;
/// The largest numbered page. It is never cut short, because the next one begins behind all of it.
const PAGE_SIZE_MAX: usize = 1_000;
/// A numbered page begins behind no more files than this: each of them is looked at.
const BEHIND_MAX: usize = 100_000;

/// In which order a list is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ObjectOrder {
    /// The latest first.
    #[default]
    NewestFirst,
    /// The earliest first.
    OldestFirst,
}

impl ObjectOrder {
    /// The same list from its other end.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::NewestFirst => Self::OldestFirst,
            Self::OldestFirst => Self::NewestFirst,
        }
    }
}

/// Where a page begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PagePlace {
    /// At the list's beginning.
    #[default]
    Start,
    /// Behind this object.
    After(String),
    /// It ends right before this object.
    Before(String),
    /// Behind so many others (Mistral's numbered pages).
    Behind(usize),
}

/// What a client wants to see of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListAsk {
    /// Where the page begins.
    pub place: PagePlace,
    /// In this order.
    pub order: ObjectOrder,
    /// At most so many; at least 1.
    pub limit: usize,
    /// Only files of this purpose (`OpenAI`).
    pub purpose: Option<String>,
    /// Only files of samples of this type (Mistral).
    pub sample_type: Option<String>,
    /// Only files that came this way (Mistral).
    pub source: Option<String>,
    /// Only files of this scope (Anthropic).
    pub scope_id: Option<String>,
    /// The page says how many there are in all (Mistral).
    pub counts: bool,
    /// Only these, all on one page (Anthropic).
    pub ids: Option<Vec<String>>,
}

/// Why a list cannot be asked for in this way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListAskError {
    /// The limit is no number within its range.
    #[error("{field} is a whole number from 1 to {max}")]
    Limit {
        /// The parameter.
        field: &'static str,
        /// The largest.
        max: usize,
    },
    /// The page's number is none.
    #[error("page is a whole number from 0, and no page begins behind {BEHIND_MAX} files")]
    Page,
    /// What the provider looks for in its own way.
    #[error(
        "lists are answered from this gateway's own record, which cannot be asked for {0}; leave it out, and look through the list"
    )]
    Unanswerable(&'static str),
    /// An id that can be none, or too many.
    #[error("{field} is an id that a list has shown")]
    Place {
        /// The parameter.
        field: &'static str,
    },
    /// Two places at once.
    #[error("a page begins at one place: send one of {0}")]
    Places(&'static str),
    /// Several ids together with what cuts pages, or too many of them.
    #[error("ids[] names at most 100 files, and no page, limit, after_id or before_id with them")]
    Ids,
}

impl ListAskError {
    /// The parameter to look at.
    pub fn param(&self) -> &'static str {
        match self {
            Self::Limit { field, .. } | Self::Place { field } | Self::Unanswerable(field) => field,
            Self::Page | Self::Places(_) => "page",
            Self::Ids => "ids",
        }
    }
}

impl ListAsk {
    /// Reads the raw query of a list in the dialect, of which [`super::super::operation::Matched::check_query`] has
    /// found that it has no unknown and no doubled parameter.
    ///
    /// # Errors
    /// A value that cannot be meant.
    pub fn read(dialect: Dialect, query: &str) -> Result<Self, ListAskError> {
        let pairs: Vec<(&str, String)> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name, decode(value)))
            .collect();
        let asked = |name: &str| {
            let found = pairs.iter().find(|(given, _)| *given == name);
            found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
        };
        let (limit_default, max) = match dialect {
            Dialect::Anthropic => (20, 1_000),
            Dialect::OpenAi | Dialect::Gemini => (10_000, 10_000),
        };
        if let Some(field) = ["search", "mimetypes"].into_iter().find(|field| asked(field).is_some()) {
            return Err(ListAskError::Unanswerable(field));
        }
        let number = |field: &'static str, max: usize| {
            let number = |text: String| text.parse().ok().filter(|limit| (1..=max).contains(limit));
            asked(field).map(|text| number(text).ok_or(ListAskError::Limit { field, max })).transpose()
        };
        let (limit, page_size) = (number("limit", max)?, number("page_size", PAGE_SIZE_MAX)?);
        let order = match asked("order").as_deref() {
            Some("asc") => ObjectOrder::OldestFirst,
            Some(_) | None => ObjectOrder::NewestFirst,
        };
        let place = match dialect {
            Dialect::Anthropic => place_anthropic(asked)?,
            Dialect::OpenAi | Dialect::Gemini => place_openai(&asked, limit, page_size)?,
        };
        let is_numbered = matches!(place, PagePlace::Behind(_));
        let named = |name: &str| matches!(name, "ids[]" | "ids%5B%5D");
        let mut ids: Vec<String> = pairs
            .iter()
            .filter(|(name, id)| named(name) && !id.is_empty())
            .map(|(_, id)| id.clone())
            .collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() > IDS_MAX || !ids.is_empty() && (limit.is_some() || place != PagePlace::Start) {
            return Err(ListAskError::Ids);
        }
        Ok(Self {
            place,
            order,
            limit: match (limit, page_size) {
                (Some(limit), _) | (None, Some(limit)) => limit,
                (None, None) if is_numbered => PAGE_SIZE,
                (None, None) => limit_default,
            },
            purpose: asked("purpose"),
            sample_type: asked("sample_type"),
            source: asked("source"),
            scope_id: asked("scope_id"),
            counts: is_numbered
                && asked("include_total").is_none_or(|counts| counts.eq_ignore_ascii_case("true")),
            ids: (!ids.is_empty()).then_some(ids),
        })
    }

    /// Whether a file that its provider describes so is one of those. A description that is another dialect's is of a
    /// file that this dialect does not have; one that says nothing of itself is anybody's.
    pub fn fits(&self, dialect: Dialect, document: Option<&str>) -> bool {
        let said = [("purpose", &self.purpose), ("sample_type", &self.sample_type), ("source", &self.source)];
        let mut said = said.into_iter().filter_map(|(field, wanted)| Some((field, wanted.as_deref()?)));
        let takes_any = self.scope_id.is_none() && said.clone().next().is_none();
        let document = document.map(|text| Document::parse(text.as_bytes(), Limits::REQUEST));
        let Some(Ok(document)) = document else { return takes_any };
        let root = document.root();
        let is = |field: &str, wanted: &str| root.get(field).is_some_and(|value| value.is_str(wanted));
        let (own, others) = match dialect {
            Dialect::Anthropic => (is("type", "file"), is("object", "file")),
            Dialect::OpenAi | Dialect::Gemini => (is("object", "file"), is("type", "file")),
        };
        let scope = root.get("scope").and_then(|scope| scope.get("id")).and_then(Value::as_str);
        (own || !others)
            && said.all(|(field, wanted)| is(field, wanted))
            && self.scope_id.as_deref().is_none_or(|wanted| scope.as_deref() == Some(wanted))
    }
}

/// A page begins behind an id, as `OpenAI` has it, or has a number and a size, as Mistral has it.
fn place_openai(
    asked: &impl Fn(&str) -> Option<String>,
    limit: Option<usize>,
    page_size: Option<usize>,
) -> Result<PagePlace, ListAskError> {
    let after = asked("after").map(|id| id_of(id, "after")).transpose()?;
    let page = asked("page");
    if page.is_none() && page_size.is_none() {
        return Ok(after.map_or(PagePlace::Start, PagePlace::After));
    }
    if after.is_some() || limit.is_some() {
        return Err(ListAskError::Places("page with page_size, and after with limit"));
    }
    let page: usize = page.map_or(Ok(0), |page| page.parse().map_err(|_| ListAskError::Page))?;
    let behind = page.checked_mul(page_size.unwrap_or(PAGE_SIZE)).filter(|behind| *behind <= BEHIND_MAX);
    behind.map(PagePlace::Behind).ok_or(ListAskError::Page)
}

fn place_anthropic(asked: impl Fn(&str) -> Option<String>) -> Result<PagePlace, ListAskError> {
    let page = asked("page").map(|page| match page.strip_prefix(CURSOR) {
        Some(id) => id_of(id.to_owned(), "page"),
        None => Err(ListAskError::Place { field: "page" }),
    });
    match (page.transpose()?, asked("after_id"), asked("before_id")) {
        (None, None, None) => Ok(PagePlace::Start),
        (Some(id), None, None) => Ok(PagePlace::After(id)),
        (None, Some(id), None) => Ok(PagePlace::After(id_of(id, "after_id")?)),
        (None, None, Some(id)) => Ok(PagePlace::Before(id_of(id, "before_id")?)),
        _ => Err(ListAskError::Places("page, after_id and before_id")),
    }
}

fn id_of(text: String, field: &'static str) -> Result<String, ListAskError> {
    (text.len() <= OBJECT_ID_BYTES_MAX).then_some(text).ok_or(ListAskError::Place { field })
}

/// A query's value without its escapes, of which it is known that they are well-formed; what is no text is no id.
pub(in crate::provider) fn decode(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16)).unwrap_or(0);
        bytes.push(if byte == b'%' { u8::try_from(digit() * 16 + digit()).unwrap_or(0) } else { byte });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What stands in a list for a file of which no description was kept.
pub fn undescribed(dialect: Dialect, id: &str, created_at: DateTime<Utc>) -> String {
    let described = match dialect {
        Dialect::Anthropic => {
            let created_at = created_at.to_rfc3339_opts(SecondsFormat::Secs, true);
            json!({"id": id, "type": "file", "created_at": created_at})
        }
        Dialect::OpenAi | Dialect::Gemini => {
            json!({"id": id, "object": "file", "created_at": created_at.timestamp()})
        }
    };
    described.to_string()
}

/// A page as the dialect's clients read it: the ids, each with the provider's own description of it. `total` is how many
/// there are in all, where that was asked for.
pub fn render_page(
    dialect: Dialect,
    files: &[(String, String)],
    has_more: bool,
    total: Option<usize>,
) -> String {
    let described: Vec<&str> = files.iter().map(|(_, document)| document.as_str()).collect();
    let id = |file: Option<&(String, String)>| json!(file.map(|(id, _)| id)).to_string();
    let (first, last) = (id(files.first()), id(files.last()));
    let ids = format!(r#""first_id":{first},"last_id":{last},"has_more":{has_more}"#);
    let data = described.join(",");
    match dialect {
        Dialect::Anthropic => {
            let next: Json = files.last().filter(|_| has_more).map(|(id, _)| format!("{CURSOR}{id}")).into();
            format!(r#"{{"data":[{data}],{ids},"next_page":{next}}}"#)
        }
        Dialect::OpenAi | Dialect::Gemini => {
            let total = total.map(|total| format!(r#","total":{total}"#)).unwrap_or_default();
            format!(r#"{{"object":"list","data":[{data}],{ids}{total}}}"#)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn openai(query: &str) -> Result<ListAsk, ListAskError> {
        ListAsk::read(Dialect::OpenAi, query)
    }

    fn anthropic(query: &str) -> Result<ListAsk, ListAskError> {
        ListAsk::read(Dialect::Anthropic, query)
    }

    #[test]
    fn a_list_is_asked_for_in_the_words_of_the_dialect() {
        let all = openai("").unwrap();
        assert_eq!((all.limit, all.order, &all.place), (10_000, ObjectOrder::NewestFirst, &PagePlace::Start));
        let some = openai("after=file-1&limit=2&order=asc&purpose=user%5fdata").unwrap();
        assert_eq!((some.limit, some.order), (2, ObjectOrder::OldestFirst));
        assert_eq!(
            (some.place, some.purpose.as_deref()),
            (PagePlace::After("file-1".into()), Some("user_data"))
        );
        assert_eq!(anthropic("beta=true").unwrap().limit, 20);
        for (query, place) in [
            ("page=page_file_1", PagePlace::After("file_1".into())),
            ("after_id=file_1&limit=5", PagePlace::After("file_1".into())),
            ("before_id=file_1", PagePlace::Before("file_1".into())),
            ("page=&after_id=", PagePlace::Start),
        ] {
            assert_eq!(anthropic(query).unwrap().place, place, "{query}");
        }
        let named = anthropic("ids%5B%5D=b&ids[]=a&ids[]=b").unwrap();
        assert_eq!(named.ids, Some(vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_name() {
        for query in
            ["limit=0", "limit=10001", "limit=-1", "limit=ten", "limit=1e1", "limit=99999999999999999999"]
        {
            assert_eq!(openai(query), Err(ListAskError::Limit { field: "limit", max: 10_000 }), "{query}");
        }
        assert_eq!(anthropic("limit=1001"), Err(ListAskError::Limit { field: "limit", max: 1_000 }));
        let long = format!("after={}", "a".repeat(257));
        assert_eq!(openai(&long), Err(ListAskError::Place { field: "after" }));
        assert_eq!(anthropic("page=file_1"), Err(ListAskError::Place { field: "page" }));
        assert!(matches!(anthropic("after_id=a&before_id=b"), Err(ListAskError::Places(_))));
        assert!(matches!(anthropic("after_id=a&page=page_b"), Err(ListAskError::Places(_))));
        let many: Vec<String> = (0..101).map(|n| format!("ids[]={n}")).collect();
        for query in [many.join("&").as_str(), "ids[]=a&limit=2", "ids[]=a&page=page_b"] {
            assert_eq!(anthropic(query).unwrap_err().param(), "ids", "{query}");
        }
    }

    #[test]
    fn mistrals_pages_have_numbers_and_sizes() {
        let first = openai("page=0&page_size=100&include_total=true").unwrap();
        assert_eq!((first.place, first.limit, first.counts), (PagePlace::Behind(0), 100, true));
        let third = openai("page=2&page_size=7&include_total=False&purpose=batch&order=asc").unwrap();
        assert_eq!((third.place, third.limit, third.counts), (PagePlace::Behind(14), 7, false));
        assert_eq!(third.order, ObjectOrder::OldestFirst);
        assert_eq!(openai("page=3").unwrap().place, PagePlace::Behind(300));
        assert_eq!(openai("page_size=3").unwrap().place, PagePlace::Behind(0));
        assert!(!openai("limit=3").unwrap().counts, "OpenAI's clients ask for no total");
        for (query, param) in [
            ("page=-1", "page"),
            ("page=x", "page"),
            ("page=1001&page_size=100", "page"),
            ("page=99999999999999999&page_size=999", "page"),
            ("page=1&after=file-1", "page"),
            ("page_size=5&limit=5", "page"),
            ("page_size=0", "page_size"),
            ("page_size=1001", "page_size"),
            ("search=report", "search"),
            ("mimetypes=text/plain", "mimetypes"),
        ] {
            assert_eq!(openai(query).unwrap_err().param(), param, "{query}");
        }
        let samples = openai("sample_type=batch_result&source=upload").unwrap();
        let file = |kind: &str| format!(r#"{{"object":"file","sample_type":"{kind}","source":"upload"}}"#);
        assert!(samples.fits(Dialect::OpenAi, Some(&file("batch_result"))));
        assert!(
            !samples.fits(Dialect::OpenAi, Some(&file("instruct"))) && !samples.fits(Dialect::OpenAi, None)
        );
        assert!(!openai("source=mistral").unwrap().fits(Dialect::OpenAi, Some(&file("instruct"))));
        let counted = render_page(Dialect::OpenAi, &[], false, Some(7));
        assert_eq!(
            counted,
            r#"{"object":"list","data":[],"first_id":null,"last_id":null,"has_more":false,"total":7}"#
        );
    }

    #[test]
    fn a_page_has_the_providers_own_descriptions() {
        let files =
            [("a".to_owned(), r#"{ "id":"a" }"#.to_owned()), ("b".to_owned(), r#"{"z":1.50}"#.to_owned())];
        assert_eq!(
            render_page(Dialect::OpenAi, &files, true, None),
            r#"{"object":"list","data":[{ "id":"a" },{"z":1.50}],"first_id":"a","last_id":"b","has_more":true}"#
        );
        assert_eq!(
            render_page(Dialect::Anthropic, &files, true, None),
            r#"{"data":[{ "id":"a" },{"z":1.50}],"first_id":"a","last_id":"b","has_more":true,"next_page":"page_b"}"#
        );
        assert_eq!(
            render_page(Dialect::Anthropic, &[], false, None),
            r#"{"data":[],"first_id":null,"last_id":null,"has_more":false,"next_page":null}"#
        );
        let at = DateTime::from_timestamp(60, 0).unwrap();
        assert_eq!(undescribed(Dialect::OpenAi, "a", at), r#"{"created_at":60,"id":"a","object":"file"}"#);
        assert!(undescribed(Dialect::Anthropic, "a", at).contains(r#""created_at":"1970-01-01T00:01:00Z""#));
    }

    #[test]
    fn a_list_has_the_files_of_its_dialect_purpose_and_scope() {
        let (openais, anthropics) =
            (r#"{"object":"file","purpose":"batch"}"#, r#"{"type":"file","scope":{"id":"s"}}"#);
        let all = openai("").unwrap();
        assert!(all.fits(Dialect::OpenAi, Some(openais)) && !all.fits(Dialect::OpenAi, Some(anthropics)));
        assert!(all.fits(Dialect::OpenAi, None) && all.fits(Dialect::OpenAi, Some(r#"{"id":"x"}"#)));
        let batch = openai("purpose=batch").unwrap();
        assert!(batch.fits(Dialect::OpenAi, Some(openais)) && !batch.fits(Dialect::OpenAi, None));
        assert!(!openai("purpose=vision").unwrap().fits(Dialect::OpenAi, Some(openais)));
        let scoped = anthropic("scope_id=s").unwrap();
        assert!(
            scoped.fits(Dialect::Anthropic, Some(anthropics))
                && !scoped.fits(Dialect::Anthropic, Some(openais))
        );
        assert!(!anthropic("scope_id=t").unwrap().fits(Dialect::Anthropic, Some(anthropics)));
    }
}
