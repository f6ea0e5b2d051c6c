//! Step 5: from the bytes of a body to what is asked for.

use super::arrival::Arrival;
use super::refusal::{Code, Refusal};
use crate::policy::Feature;
use crate::provider::ask::{self, Ask, AskError};
use crate::provider::operation;
use bytes::Bytes;
use http::header::CONTENT_TYPE;

/// Step 5: strict JSON or a strict form, read once.
pub(super) fn read_ask(
    matched: &operation::Matched<'_>,
    arrival: &Arrival,
    bytes: &Bytes,
) -> Result<Ask, Refusal> {
    check_query(matched, arrival)?;
    let mut types = arrival.headers.get_all(CONTENT_TYPE).iter();
    let content_type = types.next().map(|value| value.to_str().unwrap_or(""));
    if types.next().is_some() {
        return Err(Refusal::new(Code::UnsupportedEncoding, "Send one Content-Type."));
    }
    let mut ask = ask::read_body(matched.row, content_type, bytes).map_err(|error| unread(&error))?;
    ask.read_betas(&arrival.headers).map_err(|error| unread(&error))?;
    if arrival.query.as_deref().is_some_and(|query| query.split('&').any(|pair| pair == "stream=true")) {
        ask.stream = true;
        ask.features.insert(Feature::Streaming);
    }
    Ok(ask)
}

/// Whether the row knows every parameter of the query.
pub(super) fn check_query(matched: &operation::Matched<'_>, arrival: &Arrival) -> Result<(), Refusal> {
    let query = arrival.query.as_deref().unwrap_or_default();
    matched.check_query(query).map_err(|error| Refusal::new(Code::InvalidBody, error.to_string()))
}

fn unread(error: &AskError) -> Refusal {
    let code = match error {
        AskError::ModelRequired => Code::ModelRequired,
        AskError::ContentType(_) => Code::UnsupportedEncoding,
        AskError::Json(_)
        | AskError::Multipart(_)
        | AskError::Escape { .. }
        | AskError::NoBody
        | AskError::NotAnObject
        | AskError::Field { .. } => Code::InvalidBody,
    };
    let refusal = Refusal::new(code, error.to_string());
    match error.param() {
        Some(param) => refusal.param(param),
        None => refusal,
    }
}
