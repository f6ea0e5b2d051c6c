//! Pages of a list of models, as clients of each dialect ask for them. The list is the key's own part of the catalog.
//!
//! A page that is not asked for in a size is as large as the provider's can be, not as its default: a client that does not
//! turn pages sees all the same.

use super::Dialect;
use super::object::decode;

/// The largest page that the providers have.
const PAGE_MAX: usize = 1_000;
/// What tokens of Google's pages begin with; then comes the last model of the page before.
const TOKEN: &str = "page_";

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// At the list's beginning.
    Start,
    /// Behind this model.
    After(String),
    /// It ends right before this model.
    Before(String),
}

/// Which part of a list of models is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelPage {
    place: Place,
    limit: usize,
}

/// Why a page cannot be asked for in this way.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelPageError {
    /// The size is no number within its range.
    #[error("{field} is a whole number from 1 to 1000")]
    Size {
        /// The parameter.
        field: &'static str,
    },
    /// No list has shown this place.
    #[error("{field} is none that a page of this list has shown")]
    Place {
        /// The parameter.
        field: &'static str,
    },
    /// Two places at once.
    #[error("a page begins at one place: send one of after_id and before_id")]
    Places,
}

impl ModelPageError {
    /// The parameter to look at.
    pub fn param(&self) -> &'static str {
        match self {
            Self::Size { field } | Self::Place { field } => field,
            Self::Places => "after_id",
        }
    }
}

impl ModelPage {
    /// Reads the raw query of a list in the dialect, which has no unknown and no doubled parameter.
    ///
    /// # Errors
    /// A value that cannot be meant.
    pub fn read(dialect: Dialect, query: &str) -> Result<Self, ModelPageError> {
        let asked = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .find(|(given, _)| *given == name)
                .map(|(_, value)| decode(value))
                .filter(|text| !text.is_empty())
        };
        match dialect {
            Dialect::OpenAi => Ok(Self { place: Place::Start, limit: usize::MAX }),
            Dialect::Anthropic => {
                let place = match (asked("after_id"), asked("before_id")) {
                    (None, None) => Place::Start,
                    (Some(id), None) => Place::After(id),
                    (None, Some(id)) => Place::Before(id),
                    (Some(_), Some(_)) => return Err(ModelPageError::Places),
                };
                let size = |text: String| {
                    let size = text.parse().ok().filter(|size| (1..=PAGE_MAX).contains(size));
                    size.ok_or(ModelPageError::Size { field: "limit" })
                };
                Ok(Self { place, limit: asked("limit").map_or(Ok(PAGE_MAX), size)? })
            }
            Dialect::Gemini => {
                const FIELD: &str = "pageToken";
                let place = match asked(FIELD) {
                    None => Place::Start,
                    Some(token) => {
                        let id = token.strip_prefix(TOKEN).ok_or(ModelPageError::Place { field: FIELD })?;
                        Place::After(id.to_owned())
                    }
                };
                // Google gives at most so many, whatever is asked for, and its default where that is 0.
                let size = |text: String| match text.parse::<u32>() {
                    Ok(0) => Ok(PAGE_MAX),
                    Ok(size) => Ok(usize::try_from(size).map_or(PAGE_MAX, |size| size.min(PAGE_MAX))),
                    Err(_) => Err(ModelPageError::Size { field: "pageSize" }),
                };
                Ok(Self { place, limit: asked("pageSize").map_or(Ok(PAGE_MAX), size)? })
            }
        }
    }

    /// The part of the list, and whether there is more in the direction that was asked for.
    ///
    /// # Errors
    /// The page would begin at what is not in the list.
    pub fn of<'l, T>(
        &self,
        dialect: Dialect,
        listed: &'l [T],
        id: impl Fn(&T) -> &str,
    ) -> Result<(&'l [T], bool), ModelPageError> {
        let at = |wanted: &str, field| {
            listed.iter().position(|one| id(one) == wanted).ok_or(ModelPageError::Place { field })
        };
        let rest = match &self.place {
            Place::Start => listed,
            Place::After(edge) => {
                let field = if dialect == Dialect::Gemini { "pageToken" } else { "after_id" };
                &listed[at(edge, field)? + 1..]
            }
            Place::Before(edge) => {
                let before = &listed[..at(edge, "before_id")?];
                let from = before.len().saturating_sub(self.limit);
                return Ok((&before[from..], from > 0));
            }
        };
        Ok((&rest[..rest.len().min(self.limit)], rest.len() > self.limit))
    }

    /// The token of the page behind the one that ends with this model.
    pub fn token_after(id: &str) -> String {
        format!("{TOKEN}{id}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 5] = ["a", "b", "c/d", "e", "f"];

    fn page(dialect: Dialect, query: &str) -> Result<(Vec<&'static str>, bool), ModelPageError> {
        let (part, more) = ModelPage::read(dialect, query)?.of(dialect, &ALL, |id| id)?;
        Ok((part.to_vec(), more))
    }

    #[test]
    fn a_page_is_the_part_that_was_asked_for() {
        let anthropic = |query| page(Dialect::Anthropic, query).unwrap();
        assert_eq!(anthropic(""), (ALL.to_vec(), false));
        assert_eq!(anthropic("limit=2"), (vec!["a", "b"], true));
        assert_eq!(anthropic("limit=2&after_id=b"), (vec!["c/d", "e"], true));
        assert_eq!(anthropic("after_id=c%2Fd&limit=2"), (vec!["e", "f"], false));
        assert_eq!(anthropic("limit=2&before_id=e"), (vec!["b", "c/d"], true));
        assert_eq!(anthropic("limit=2&before_id=c/d"), (vec!["a", "b"], false));
        assert_eq!(anthropic("after_id=f"), (vec![], false));
        let gemini = |query| page(Dialect::Gemini, query).unwrap();
        assert_eq!(gemini("pageSize=2"), (vec!["a", "b"], true));
        assert_eq!(gemini("pageSize=2000&pageToken=page_c%2Fd"), (vec!["e", "f"], false));
        assert_eq!(gemini("pageSize=0"), (ALL.to_vec(), false));
        assert_eq!(page(Dialect::OpenAi, "client_version=1").unwrap(), (ALL.to_vec(), false));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_name() {
        for (dialect, query, field) in [
            (Dialect::Anthropic, "limit=0", "limit"),
            (Dialect::Anthropic, "limit=1001", "limit"),
            (Dialect::Anthropic, "limit=-1", "limit"),
            (Dialect::Anthropic, "limit=x", "limit"),
            (Dialect::Anthropic, "after_id=z", "after_id"),
            (Dialect::Anthropic, "before_id=z", "before_id"),
            (Dialect::Anthropic, "before_id=a&after_id=b", "after_id"),
            (Dialect::Gemini, "pageSize=-1", "pageSize"),
            (Dialect::Gemini, "pageSize=x", "pageSize"),
            (Dialect::Gemini, "pageToken=a", "pageToken"),
            (Dialect::Gemini, "pageToken=page_z", "pageToken"),
        ] {
            assert_eq!(page(dialect, query).unwrap_err().param(), field, "{query}");
        }
    }

    #[test]
    fn a_token_leads_to_the_page_behind() {
        let token = ModelPage::token_after("b");
        assert_eq!(
            page(Dialect::Gemini, &format!("pageSize=1&pageToken={token}")).unwrap(),
            (vec!["c/d"], true)
        );
    }
}
