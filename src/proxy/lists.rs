//! Lists of what providers keep, answered from our own record: the provider's would show what other sub-keys have in the
//! same account.
//!
//! What is told of each object is the provider's own description of it, as it was when it was made.

use super::admit::Admission;
use super::local;
use super::reasons::{denied, misplaced};
use super::refusal::{Code, Refusal};
use crate::log::Entry;
use crate::policy::{self, Head, Permit};
use crate::provider::{
    ListAsk, ListAskError, ObjectDocument, ObjectKind, PagePlace, Slug, render_page, undescribed,
};
use crate::service::{Caller, ListPlace, ObjectError, ObjectList, ObjectRecord};
use axum::response::Response;

/// Objects that are read at a time.
const READ_MAX: u32 = 1_000;
/// Objects that are looked at for one page, of which few may fit.
const SEEN_MAX: usize = 100_000;
/// Descriptions on one page, together; a page with more ends early.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Some objects, each with its description.
#[derive(Default)]
struct Page {
    files: Vec<(String, String)>,
    has_more: bool,
    /// How many there are in all, where that was asked for.
    total: Option<usize>,
}

impl Admission<'_> {
    /// The page that is asked for, of what the caller may use.
    pub(super) async fn list(
        &mut self,
        kind: ObjectKind,
        (caller, head): (&Caller, &Permit<Head>),
        entry: &mut Entry,
    ) -> Result<Response, Refusal> {
        let snapshot = self.proxy.services.snapshot();
        let case = self.case(caller, &snapshot);
        let resolved = case.resolve(None).map_err(|error| misplaced(&error))?;
        entry.provider = Some(resolved.provider.to_string());
        let facts = case.facts(&resolved, None);
        let _permit = policy::decide(caller.bounds(), head, &facts).map_err(|denial| denied(&denial))?;
        let dialect = self.matched.row.dialect;
        let query = self.arrival.query.as_deref().unwrap_or_default();
        let ask = ListAsk::read(dialect, query).map_err(|error| unread(&error))?;
        let page = self.page(caller, (&resolved.provider, kind), &ask).await?;
        let body = render_page(dialect, &page.files, page.has_more, page.total);
        local::answer(self.proxy, self.arrival, caller, Some(&resolved.provider), (body, entry.clone())).await
    }

    async fn page(
        &self,
        caller: &Caller,
        (provider, kind): (&Slug, ObjectKind),
        ask: &ListAsk,
    ) -> Result<Page, Refusal> {
        let services = &self.proxy.services;
        let dialect = self.matched.row.dialect;
        let of = |record: &ObjectRecord| {
            let object = &record.object;
            let document = object.document.as_ref().map(ObjectDocument::as_str);
            let shown = || undescribed(dialect, object.id.as_str(), object.created_at);
            let fits = ask.fits(dialect, document);
            fits.then(|| (object.id.to_string(), document.map_or_else(shown, str::to_owned)))
        };
        let failed = |error: ObjectError| self.unowned(&error);
        if let Some(ids) = &ask.ids {
            let among = services.objects_among(caller, (provider, kind), ids).await.map_err(failed)?;
            return Ok(Page { files: among.iter().filter_map(of).collect(), ..Page::default() });
        }
        if let PagePlace::Behind(behind) = ask.place {
            return self.numbered(caller, (provider, kind), (ask, behind), of).await;
        }
        let (mut page, mut place) = (Page::default(), ask.place.clone());
        let (mut seen, mut bytes) = (0, 0);
        loop {
            // One more than fits tells whether there is more.
            let missing = u32::try_from(ask.limit + 1 - page.files.len()).unwrap_or(READ_MAX);
            let (from, goes_back) = match &place {
                PagePlace::Start | PagePlace::Behind(_) => (ListPlace::Start, false),
                PagePlace::After(id) => (ListPlace::After(id), false),
                PagePlace::Before(id) => (ListPlace::Before(id), true),
            };
            let list =
                ObjectList { provider, kind, place: from, order: ask.order, limit: missing.min(READ_MAX) };
            let part = services.list_objects(caller, &list).await.map_err(failed)?;
            let edge = if goes_back { part.items.first() } else { part.items.last() };
            let edge = edge.map(|record| record.object.id.to_string());
            seen += part.items.len();
            let fitting: Vec<(String, String)> = part.items.iter().filter_map(of).collect();
            bytes += fitting.iter().map(|(_, document)| document.len()).sum::<usize>();
            let at = if goes_back { 0 } else { page.files.len() };
            page.files.splice(at..at, fitting);
            let over = page.files.len().saturating_sub(ask.limit);
            if over > 0 {
                let cut = if goes_back { 0..over } else { ask.limit..page.files.len() };
                page.files.drain(cut);
                page.has_more = true;
                return Ok(page);
            }
            let Some(edge) = edge.filter(|_| part.has_more) else { return Ok(page) };
            if bytes > PAGE_BYTES_MAX || seen > SEEN_MAX {
                page.has_more = true;
                return if page.files.is_empty() { Err(too_many()) } else { Ok(page) };
            }
            place = if goes_back { PagePlace::Before(edge) } else { PagePlace::After(edge) };
        }
    }

    /// A page that begins behind so many others: those are looked at, and all that follow where they are to be counted.
    async fn numbered(
        &self,
        caller: &Caller,
        (provider, kind): (&Slug, ObjectKind),
        (ask, behind): (&ListAsk, usize),
        of: impl Fn(&ObjectRecord) -> Option<(String, String)>,
    ) -> Result<Page, Refusal> {
        let (mut page, mut edge) = (Page::default(), None::<String>);
        let (mut seen, mut fitting) = (0, 0_usize);
        loop {
            let place = edge.as_deref().map_or(ListPlace::Start, ListPlace::After);
            let list = ObjectList { provider, kind, place, order: ask.order, limit: READ_MAX };
            let part = self.proxy.services.list_objects(caller, &list).await;
            let part = part.map_err(|error: ObjectError| self.unowned(&error))?;
            seen += part.items.len();
            for file in part.items.iter().filter_map(&of) {
                if fitting >= behind && page.files.len() < ask.limit {
                    page.files.push(file);
                }
                fitting += 1;
            }
            let shown = behind.saturating_add(page.files.len());
            page.has_more = fitting > shown && !page.files.is_empty();
            edge = part.items.last().map(|record| record.object.id.to_string()).filter(|_| part.has_more);
            if edge.is_none() || page.has_more && !ask.counts {
                page.total = ask.counts.then_some(fitting);
                return Ok(page);
            }
            if seen > SEEN_MAX {
                return Err(too_many());
            }
        }
    }
}

fn unread(error: &ListAskError) -> Refusal {
    Refusal::new(Code::InvalidBody, error.to_string()).param(error.param())
}

fn too_many() -> Refusal {
    let message = "There are too many files to look for these among them. List all, and look yourself.";
    Refusal::new(Code::InvalidBody, message)
}
