//! Lists of the admin API: pages followed by their cursors as far as is wanted.

use super::CliError;
use super::client::{Client, Query};
use serde_json::{Value, json};

const PAGE_ITEMS_MAX: usize = 1_000;

/// How much of a list is wanted.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Extent {
    /// At most so many
    #[arg(long, value_name = "N", default_value = "100", conflicts_with = "all", value_parser = at_least_one)]
    limit: usize,
    /// All of them
    #[arg(long)]
    all: bool,
}

fn at_least_one(text: &str) -> Result<usize, &'static str> {
    text.parse().ok().filter(|count| *count > 0).ok_or("a whole number above 0")
}

impl Extent {
    /// All of the list.
    pub(super) const ALL: Self = Self { limit: 0, all: true };

    /// The most items to take.
    pub(super) fn items_max(self) -> usize {
        if self.all { usize::MAX } else { self.limit }
    }
}

/// A list, or its beginning.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) items: Vec<Value>,
    /// Where it goes on, when there is more than was asked for.
    pub(super) next_cursor: Option<String>,
}

impl Listing {
    /// Reads the list at `path`.
    pub(super) async fn read(
        client: &Client,
        path: &str,
        query: &Query,
        extent: Extent,
    ) -> Result<Self, CliError> {
        let items_max = extent.items_max();
        let mut listing = Self::default();
        loop {
            let wanted = (items_max - listing.items.len()).min(PAGE_ITEMS_MAX);
            let mut asked = query.clone();
            asked.push(("limit", wanted.to_string()));
            asked.extend(listing.next_cursor.clone().map(|cursor| ("cursor", cursor)));
            let mut page = client.get(path, &asked).await?;
            let Value::Array(items) = page["items"].take() else { return Err(client.lacking()) };
            let next = page["next_cursor"].as_str().map(str::to_owned);
            // A server that leads in a circle would otherwise be followed for ever.
            if items.len() > wanted || next.is_some() && (items.is_empty() || next == listing.next_cursor) {
                return Err(client.lacking());
            }
            listing.items.extend(items);
            listing.next_cursor = next;
            if listing.next_cursor.is_none() || listing.items.len() >= items_max {
                return Ok(listing);
            }
        }
    }

    /// The list as the server would answer it in one page.
    pub(super) fn document(&self) -> Value {
        json!({"items": self.items, "next_cursor": self.next_cursor})
    }
}
