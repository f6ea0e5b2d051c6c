//! The time that windows go by, as it is kept: one signed fact about the installation.

use super::audit::Signature;
use super::{Conn, StoreError, meta};
use crate::budget::WindowTime;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

const NAME: &str = "window_time";

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The time.
    pub time: WindowTime,
    /// Over [`Kept::message`].
    pub signature: Signature,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    time: WindowTime,
    term: i64,
    mac: String,
}

impl Kept {
    /// What is signed of a time.
    pub fn message(time: &WindowTime) -> Result<Vec<u8>, StoreError> {
        let mut message = b"bitting window_time 1\0".to_vec();
        serde_json::to_writer(&mut message, time).map_err(|_| StoreError::corrupt("meta", "value"))?;
        Ok(message)
    }
}

/// What there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing was kept yet.
    Nothing,
    /// Something that does not read, so it was never signed.
    Unreadable,
    /// What was kept, or was put in its place.
    Kept(Kept),
}

/// Reads what is kept.
pub async fn get(conn: &mut Conn<'_>) -> Result<Found, StoreError> {
    let Some(text) = meta::get(conn, NAME).await? else { return Ok(Found::Nothing) };
    let read = || {
        let Document { time, term, mac } = serde_json::from_str(&text).ok()?;
        let mac = HEXLOWER.decode(mac.as_bytes()).ok()?;
        Some(Kept { time, signature: Signature { term, mac } })
    };
    Ok(read().map_or(Found::Unreadable, Found::Kept))
}

/// Keeps the time.
pub async fn put(conn: &mut Conn<'_>, kept: &Kept) -> Result<(), StoreError> {
    let Kept { time, signature: Signature { term, mac } } = kept;
    let document = Document { time: time.clone(), term: *term, mac: HEXLOWER.encode(mac) };
    let text = serde_json::to_string(&document).map_err(|_| StoreError::corrupt("meta", "value"))?;
    meta::put(conn, NAME, &text).await
}
