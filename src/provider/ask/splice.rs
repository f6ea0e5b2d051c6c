//! Changes of a body: only the named bytes give way, all others stay.

use super::{Ask, Bound, BoundSlot, ModelField, Multipart, Splice};
use crate::provider::operation::encode;
use bytes::Bytes;

/// Why changes were not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpliceError {
    /// Two changes of the same bytes.
    #[error("two changes of the body overlap at byte {at}")]
    Overlap {
        /// Where.
        at: usize,
    },
    /// A change beyond the body's end.
    #[error("a change of the body lies outside it, at byte {at}")]
    OutOfRange {
        /// Where.
        at: usize,
    },
}

/// Makes the changes, sorting them by place. Insertions at one place come in the order given.
///
/// The body comes in pieces, one behind the other: slices of the one that was given, of which nothing is copied, and
/// what is new between them.
pub fn pieces(body: &Bytes, mut splices: Vec<Splice>) -> Result<Vec<Bytes>, SpliceError> {
    splices.sort_by_key(|splice| (splice.span.start, splice.span.end));
    let mut pieces = Vec::with_capacity(2 * splices.len() + 1);
    let mut taken = 0;
    for Splice { span, with, .. } in splices {
        if span.start < taken {
            return Err(SpliceError::Overlap { at: span.start });
        }
        if span.end < span.start || span.end > body.len() {
            return Err(SpliceError::OutOfRange { at: span.end });
        }
        pieces.extend([body.slice(taken..span.start), Bytes::from(with)]);
        taken = span.end;
    }
    pieces.push(body.slice(taken..));
    Ok(pieces)
}

/// The same in one piece, made in the plainest way: what [`pieces`] is held against.
///
/// # Panics
/// Where the pieces are something else.
#[cfg(test)]
pub fn splice(body: &[u8], mut splices: Vec<Splice>) -> Result<Bytes, SpliceError> {
    let pieces = pieces(&Bytes::copy_from_slice(body), splices.clone())?;
    let mut whole = body.to_vec();
    splices.sort_by_key(|splice| (splice.span.start, splice.span.end));
    for Splice { span, with, .. } in splices.into_iter().rev() {
        whole.splice(span, with.into_bytes());
    }
    assert_eq!(pieces.concat(), whole, "the pieces are the body with its changes");
    Ok(whole.into())
}

impl Ask {
    /// States an output bound that the body does not state: in place of a `null`, else as a new member.
    /// Only for a field that is not among [`super::OutputAsk::bounds`].
    pub fn bound_splice(&self, field: &'static str, tokens: u64) -> Splice {
        if let Some(null) = self.null_bounds.iter().find(|null| null.field == field) {
            return Splice { field, span: null.span.clone(), with: tokens.to_string() };
        }
        if let Some(BoundSlot { field, span, before, after }) = &self.bound_slot {
            return Splice { field, span: span.clone(), with: format!("{before}{tokens}{after}") };
        }
        self.insertion(field, &format!("{}:{tokens}", quoted(field)))
    }

    /// What it takes for the body to name this model wherever it names one: nothing where it does.
    pub fn model_splices(&self, name: &str) -> impl Iterator<Item = Splice> {
        let insertion = || match (&self.boundary, &self.open_model) {
            (None, _) if self.is_escaped => {
                let more = if self.is_empty_object { "" } else { "&" };
                Splice { field: "model", span: 0..0, with: format!("model={}{more}", encode(name)) }
            }
            (Some(boundary), _) => {
                Splice { field: "model", span: 0..0, with: Multipart::written(boundary, "model", name) }
            }
            // A second one would be read by some servers, and the first by others.
            (None, Some(open)) => Splice { field: "model", span: open.clone(), with: quoted(name) },
            (None, None) => self.insertion("model", &format!("\"model\":{}", quoted(name))),
        };
        let missing = self.models.is_empty().then(insertion);
        let others = self.models.iter().filter(move |model| model.name != name);
        others.map(move |model| model.splice(name, self.is_escaped)).chain(missing)
    }

    /// Parts members that are put into an empty object one behind the other: alone, each would need no comma.
    pub fn part_insertions(&self, splices: &mut [Splice]) {
        let is_put_in = |splice: &&mut Splice| splice.span == (self.insert_at..self.insert_at);
        let mut put_in = splices.iter_mut().filter(is_put_in).rev();
        let _last = put_in.next();
        if self.is_empty_object {
            put_in.for_each(|splice| splice.with.push(','));
        }
    }

    /// Puts `member` in as the object's first. `field` is the name in `x-bitting-changed`.
    pub(super) fn insertion(&self, field: &'static str, member: &str) -> Splice {
        let comma = if self.is_empty_object { "" } else { "," };
        Splice { field, span: self.insert_at..self.insert_at, with: format!("{member}{comma}") }
    }
}

impl Bound {
    /// States `tokens` instead.
    pub fn splice(&self, tokens: u64) -> Splice {
        Splice { field: self.field, span: self.span.clone(), with: tokens.to_string() }
    }
}

impl ModelField {
    /// Names another model.
    fn splice(&self, name: &str, is_escaped: bool) -> Splice {
        let name = format!("{}{name}", self.prefix);
        let with = match (self.is_json, is_escaped) {
            (true, _) => quoted(&name),
            (false, true) => encode(&name),
            (false, false) => name,
        };
        Splice { field: "model", span: self.span.clone(), with }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;
    use crate::{
        base::json::{Document, Limits, Value},
        provider::{
            Dialect,
            operation::{ROWS, find},
        },
    };
    use http::Method;
    use proptest::prelude::*;

    #[test]
    fn overlapping_or_outlying_changes_are_refused() {
        let change = |span| Splice { field: "x", span, with: "y".into() };
        assert_eq!(splice(b"abc", vec![change(1..3), change(0..2)]), Err(SpliceError::Overlap { at: 1 }));
        assert_eq!(splice(b"abc", vec![change(2..4)]), Err(SpliceError::OutOfRange { at: 4 }));
        assert_eq!(splice(b"abc", vec![change(3..3), change(0..1), change(1..1)]).unwrap(), "yybcy");
    }

    #[test]
    fn a_model_takes_the_place_that_the_body_leaves_open() {
        for open in ["null", "\"\""] {
            let body = format!(r#"{{"n":1,"model": {open} }}"#);
            let ask = read(deployed(), body.as_bytes()).unwrap();
            let changed = splice(body.as_bytes(), ask.model_splices("m").collect()).unwrap();
            assert_eq!(changed, r#"{"n":1,"model": "m" }"#);
        }
    }

    /// A row whose path names the model, so that the body need not.
    fn deployed() -> &'static crate::provider::operation::Row {
        let path = "/openai/deployments/d/chat/completions";
        crate::provider::operation::find(&http::Method::POST, path, crate::provider::Dialect::OpenAi)
            .unwrap()
            .row
    }

    #[test]
    fn a_bound_takes_the_place_of_null_and_is_not_stated_twice() {
        let body = br#"{"model":"m","max_tokens": null}"#;
        let ask = read(&ROWS[0], body).unwrap();
        let changed = splice(body, vec![ask.bound_splice("max_tokens", 7)]).unwrap();
        assert_eq!(changed, r#"{"model":"m","max_tokens": 7}"#);
        let changed = splice(body, vec![ask.bound_splice("max_completion_tokens", 7)]).unwrap();
        assert_eq!(changed, r#"{"max_completion_tokens":7,"model":"m","max_tokens": null}"#);
    }

    #[test]
    fn members_put_into_an_empty_object_are_parted() {
        let row = find(&Method::POST, "/openai/deployments/d/completions", Dialect::OpenAi).unwrap().row;
        for (body, wanted) in [
            ("{}", r#"{"model":"m","max_tokens":7}"#),
            (" { } ", r#" {"model":"m","max_tokens":7 } "#),
            (r#"{"n":1}"#, r#"{"model":"m","max_tokens":7,"n":1}"#),
        ] {
            let ask = read(row, body.as_bytes()).unwrap();
            let mut changes: Vec<Splice> = ask.model_splices("m").collect();
            changes.push(ask.bound_splice("max_tokens", 7));
            ask.part_insertions(&mut changes);
            assert_eq!(splice(body.as_bytes(), changes).unwrap(), wanted);
            let mut one = vec![ask.bound_splice("max_tokens", 7)];
            ask.part_insertions(&mut one);
            assert_eq!(one, [ask.bound_splice("max_tokens", 7)], "{body}");
        }
    }

    proptest! {
        #[test]
        fn pieces_are_slices_of_the_body_and_what_is_new(
            body in prop::collection::vec(any::<u8>(), 0..40),
            changes in prop::collection::vec((0..50_usize, 0..6_usize, "[a-z]{0,4}"), 0..5),
        ) {
            let body = Bytes::from(body);
            let changes: Vec<Splice> = changes.into_iter()
                .map(|(start, len, with)| Splice { field: "x", span: start..start + len, with }).collect();
            // Equal to the plain way, wherever that can be.
            let whole = splice(&body, changes.clone());
            let pieces = pieces(&body, changes.clone());
            prop_assert_eq!(whole.is_ok(), pieces.is_ok());
            let new: Vec<&str> = changes.iter().map(|change| change.with.as_str()).collect();
            for piece in pieces.unwrap_or_default().iter().filter(|piece| !piece.is_empty()) {
                let is_slice = body.as_ptr_range().contains(&piece.as_ptr());
                prop_assert!(is_slice || new.iter().any(|text| text.as_bytes() == piece), "nothing is copied");
            }
        }

        /// All changes at once: the values wanted are there, and every other member is as written.
        #[test]
        fn changes_leave_all_else_as_it_was(
            name in any::<String>(),
            space in "[ \n\t]{0,3}",
            extra in any::<String>(),
            bounds in (prop::option::of(0..1000_u32), any::<bool>()),
            options in prop::sample::select(vec!["", r#","stream_options":null"#, r#","stream_options":{}"#,
                r#","stream_options":{"x":[1] ,"include_usage":false}"#]),
        ) {
            let extra = quoted(&extra);
            let stated = bounds.0.map_or(String::new(), |tokens| format!(r#","max_tokens":{space}{tokens}"#));
            let null = if bounds.1 { r#","max_completion_tokens":null"# } else { "" };
            let body = format!(
                r#"{space}{{{space}"x":{extra}{stated},"model"{space}:{space}"old"{null},"stream":true{options}}}{space}"#
            );
            let ask = read(&ROWS[0], body.as_bytes()).unwrap();
            let mut splices: Vec<Splice> = ask.output.bounds.iter().map(|bound| bound.splice(5)).collect();
            splices.extend(ask.model_splices(&name));
            splices.push(ask.bound_splice("max_completion_tokens", 6));
            splices.extend(ask.report_usage.clone());
            let changed = splice(body.as_bytes(), splices.clone()).unwrap();
            splices.sort_by_key(|splice| (splice.span.start, splice.span.end));
            let document = Document::parse(&changed, Limits::REQUEST).unwrap();
            let root = document.root();
            prop_assert_eq!(root.get("model").unwrap().as_str().unwrap(), name.as_str());
            prop_assert_eq!(root.get("max_completion_tokens").unwrap().as_u64(), Some(6));
            prop_assert_eq!(root.get("max_tokens").and_then(Value::as_u64), bounds.0.map(|_| 5));
            let reports = root.get("stream_options").unwrap().get("include_usage").unwrap();
            prop_assert_eq!(reports.as_bool(), Some(true));
            prop_assert_eq!(root.get("x").unwrap().raw(), extra.as_str());
            // Undone in reverse, the changes give the body back: nothing else was touched.
            let mut undone = changed.to_vec();
            for splice in splices.iter().rev() {
                let before: usize = splices.iter().take_while(|other| *other != splice)
                    .map(|other| other.with.len()).sum::<usize>();
                let cut: usize = splices.iter().take_while(|other| *other != splice)
                    .map(|other| other.span.len()).sum::<usize>();
                let start = splice.span.start + before - cut;
                let original = body.as_bytes()[splice.span.clone()].to_vec();
                undone.splice(start..start + splice.with.len(), original);
            }
            prop_assert_eq!(undone, body.as_bytes());
        }
    }
}
