//! Lists, a page at a time, as `OpenAI` (`after`, `before`, `limit`, `order`) and Anthropic (`page`, before that
//! `after_id` and `before_id`; `limit`) read them.

use super::call::Call;
use super::refusal::{Dialect, Refusal};
use serde_json::{Value, json};

/// What Anthropic's cursors begin with; then comes the last entry of the page before.
const CURSOR: &str = "page_";

/// Some entries of a list.
pub(super) struct Page {
    data: Vec<Value>,
    has_more: bool,
}

impl Page {
    /// Cuts the page that the query asks for from all entries, which come oldest first. Without `order` the newest is first.
    pub(super) fn cut(
        call: &Call,
        mut all: Vec<Value>,
        limit: usize,
        limit_max: usize,
    ) -> Result<Self, Refusal> {
        let asked = |name: &str| call.asked(name);
        let (after, before) = match call.dialect {
            Dialect::Anthropic => {
                let cursor = asked("page").map(|page| page.strip_prefix(CURSOR).unwrap_or(page));
                (cursor.or(asked("after_id")), asked("before_id"))
            }
            Dialect::OpenAi | Dialect::Azure | Dialect::Gemini => (asked("after"), asked("before")),
        };
        match asked("order") {
            None | Some("desc") => all.reverse(),
            Some("asc") => {}
            Some(_) => return Err(Refusal::param("order", "Invalid 'order': it is 'asc' or 'desc'.")),
        }
        let limit = match asked("limit") {
            None => limit,
            Some(digits) => {
                digits.parse().ok().filter(|limit| (1..=limit_max).contains(limit)).ok_or_else(|| {
                    Refusal::param(
                        "limit",
                        format!("Invalid 'limit': give a whole number from 1 to {limit_max}."),
                    )
                })?
            }
        };
        let place = |id: &str| {
            all.iter().position(|entry| entry["id"] == id).ok_or_else(|| Refusal::NoObject {
                message: format!("No such object: {id}"),
                param: Some("after"),
            })
        };
        let from = after.map(place).transpose()?.map_or(0, |at| at + 1);
        let until = before.map(place).transpose()?.unwrap_or(all.len()).max(from);
        // Going back, the page is the one that ends where it says.
        let page = if before.is_some() {
            until.saturating_sub(limit).max(from)..until
        } else {
            from..until.min(from.saturating_add(limit))
        };
        let has_more = if before.is_some() { page.start > from } else { page.end < until };
        Ok(Self { data: all[page].to_vec(), has_more })
    }

    /// The page as an answer.
    pub(super) fn answer(self, dialect: Dialect) -> Value {
        let id = |entry: Option<&Value>| entry.map_or(Value::Null, |entry| entry["id"].clone());
        let mut answer = json!({
            "first_id": id(self.data.first()), "last_id": id(self.data.last()), "has_more": self.has_more,
            "data": self.data,
        });
        if dialect == Dialect::Anthropic {
            let cursor =
                answer["last_id"].as_str().filter(|_| self.has_more).map(|id| format!("{CURSOR}{id}"));
            answer["next_page"] = json!(cursor);
        } else {
            answer["object"] = json!("list");
        }
        answer
    }
}
