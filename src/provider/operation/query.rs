//! Query parameters: each row's are listed, and what is not listed is refused, never dropped in silence.

use super::Matched;

/// A query parameter of a row.
#[derive(Clone, Copy, Debug)]
pub struct Parameter {
    /// The name, as it is written in the raw query.
    pub name: &'static str,
    /// The values that it can have; empty is any.
    pub values: &'static [&'static str],
}

/// Why a query is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// No list knows the parameter.
    #[error("the query parameter {0} is none of this operation; leave it out")]
    Unknown(String),
    /// The parameter is there twice.
    #[error("the query parameter {0} is given twice")]
    Twice(String),
    /// The value is not one that can be forwarded.
    #[error("the query parameter {0} has a value that is not allowed here")]
    Value(String),
}

impl Matched<'_> {
    /// Holds a raw query against the row's list.
    ///
    /// # Errors
    /// A parameter that is unknown, doubled (those that end in `[]` may be), or has a value that two readers could
    /// take for different ones.
    pub fn check_query(&self, query: &str) -> Result<(), QueryError> {
        let mut seen: Vec<&str> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let told = || crate::base::clip(name, 64);
            let known = self.parameters().find(|one| one.name == name);
            let known = known.ok_or_else(|| QueryError::Unknown(told()))?;
            let is_list = name.ends_with("[]") || name.ends_with("%5B%5D");
            if seen.contains(&name) && !is_list {
                return Err(QueryError::Twice(told()));
            }
            seen.push(name);
            if !is_query_value(value) || !(known.values.is_empty() || known.values.contains(&value)) {
                return Err(QueryError::Value(told()));
            }
        }
        Ok(())
    }

    /// The query to send upstream, of one that was checked: as it came, but for what addresses this gateway alone.
    pub fn upstream_query(&self, query: &str, names_deployments: bool) -> Option<String> {
        let is_sent = |pair: &&str| {
            let name = pair.split('=').next().unwrap_or("");
            !pair.is_empty() && (name != API_VERSION.name || names_deployments)
        };
        let kept: Vec<&str> = query.split('&').filter(is_sent).collect();
        (!kept.is_empty()).then(|| kept.join("&"))
    }

    fn parameters(&self) -> impl Iterator<Item = &'static Parameter> {
        let azure = self.is_azure.then_some(&API_VERSION);
        self.row.query.iter().chain(azure)
    }
}

/// Azure's version of its API: part of the address there, and nothing elsewhere.
static API_VERSION: Parameter = Parameter { name: "api-version", values: &[] };

/// Characters that stand for themselves in a query, and well-formed escapes.
fn is_query_value(value: &str) -> bool {
    let bytes = value.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        at += match byte {
            b'%' if bytes.get(at + 1..at + 3).is_some_and(|pair| pair.iter().all(u8::is_ascii_hexdigit)) => 3,
            byte if byte.is_ascii_alphanumeric() || b"-._~,:;=/+@!$'()*".contains(byte) => 1,
            _ => return false,
        };
    }
    true
}

#[cfg(test)]
mod tests {
    use super::super::{Dialect, find};
    use super::*;
    use http::Method;

    fn check(path: &str, query: &str) -> Result<(), QueryError> {
        find(&Method::POST, path, Dialect::OpenAi).unwrap().check_query(query)
    }

    #[test]
    fn what_is_not_listed_is_refused_by_name() {
        assert_eq!(check("/v1/messages", "beta=true"), Ok(()));
        assert_eq!(check("/v1/messages", ""), Ok(()));
        let unknown = |name: &str| Err(QueryError::Unknown(name.to_owned()));
        assert_eq!(check("/v1/messages", "beta=true&base_url=http://evil"), unknown("base_url"));
        assert_eq!(check("/v1/messages", "Beta=true"), unknown("Beta"));
        assert_eq!(check("/v1/messages", "b%65ta=true"), unknown("b%65ta"));
        assert_eq!(check("/v1/chat/completions", "x"), unknown("x"));
        assert_eq!(check("/v1/messages", "beta=true&beta=false"), Err(QueryError::Twice("beta".to_owned())));
        for value in ["a%", "a%zz", "a b", "a#b", "ä", "a\\b", "a\"b", "a<b"] {
            let told = check("/v1/messages", &format!("beta={value}"));
            assert_eq!(told, Err(QueryError::Value("beta".to_owned())), "{value}");
        }
    }

    #[test]
    fn azures_version_goes_to_azure_alone() {
        let path = "/openai/deployments/d/chat/completions";
        let azure = find(&Method::POST, path, Dialect::OpenAi).unwrap();
        assert_eq!(azure.check_query("api-version=2024-10-21"), Ok(()));
        assert_eq!(
            azure.upstream_query("api-version=2024-10-21", true).as_deref(),
            Some("api-version=2024-10-21")
        );
        assert_eq!(azure.upstream_query("api-version=2024-10-21", false), None);
        assert!(check("/openai/v1/chat/completions", "api-version=preview").is_ok());
        assert!(check("/v1/chat/completions", "api-version=preview").is_err());
        let messages = find(&Method::POST, "/v1/messages", Dialect::OpenAi).unwrap();
        assert_eq!(messages.upstream_query("beta=true", false).as_deref(), Some("beta=true"));
    }
}
