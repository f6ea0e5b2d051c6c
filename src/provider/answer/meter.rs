//! Metering an answer while it passes, whatever it is made of.

use super::array_meter::ArrayMeter;
use super::array_place::ArrayPlace;
use super::opaque::OpaqueMeter;
use super::sse_meter::{MeterError, SseMeter};
use super::strand::TextWatch;
use crate::provider::{Reading, operation::Row};
use bytes::BytesMut;

/// Reads one answer that passes piece by piece.
pub enum Meter {
    /// Server-sent events.
    Events(Box<SseMeter>),
    /// An array that grows.
    Array(Box<ArrayMeter>),
    /// Bytes that mean nothing here.
    Opaque(Box<OpaqueMeter>),
}

/// Where an answer stands that has to be ended from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An event can follow.
    Events,
    /// A numbered event of the responses API can follow.
    Responses {
        /// The number of the last one.
        sequence_number: Option<u64>,
    },
    /// In an array.
    Array(ArrayPlace),
    /// Inside an event, of which the client has a part: nothing can follow. With the blank line that would end it, a
    /// library takes the part for an event and fails in its own words.
    Inside,
    /// Nothing can follow.
    Opaque,
}

impl Place {
    /// Whether the client has a part of something, behind which nothing else can stand.
    pub fn is_inside(self) -> bool {
        matches!(self, Self::Inside | Self::Array(ArrayPlace::Inside))
    }
}

impl Meter {
    /// A meter for server-sent events; see [`SseMeter::new`].
    pub fn events(row: &Row, strip_usage: bool, watch: Box<dyn TextWatch>) -> Self {
        Self::Events(Box::new(SseMeter::new(row, strip_usage).watched_by(watch)))
    }

    /// A meter for an array that grows.
    pub fn array(row: &Row, watch: Box<dyn TextWatch>) -> Self {
        Self::Array(Box::new(ArrayMeter::new(row, watch)))
    }

    /// Where the answer stands.
    pub fn place(&self) -> Place {
        match self {
            Self::Events(meter) if !meter.is_between() => Place::Inside,
            Self::Events(meter) if meter.is_of_responses() => {
                Place::Responses { sequence_number: meter.reading().sequence_number }
            }
            Self::Events(_) => Place::Events,
            Self::Array(meter) => Place::Array(meter.place()),
            Self::Opaque(_) => Place::Opaque,
        }
    }

    /// A meter for bytes that mean nothing here.
    pub fn opaque() -> Self {
        Self::Opaque(Box::default())
    }

    /// Reads the next bytes, and appends to `out` what the client shall see. After an error nothing more can be read;
    /// what `out` holds may be sent.
    ///
    /// # Errors
    /// What cannot be metered, or must not pass.
    pub fn push(&mut self, chunk: &[u8], out: &mut BytesMut) -> Result<(), MeterError> {
        match self {
            Self::Events(meter) => meter.push(chunk, out),
            Self::Array(meter) => meter.push(chunk, out),
            Self::Opaque(_) => {
                out.extend_from_slice(chunk);
                Ok(())
            }
        }
    }

    /// The same up to the next end of an event, and moves `chunk` past it.
    ///
    /// # Errors
    /// As [`Meter::push`].
    pub fn push_event(&mut self, chunk: &mut &[u8], out: &mut BytesMut) -> Result<(), MeterError> {
        match self {
            Self::Events(meter) => meter.push_event(chunk, out),
            Self::Array(meter) => meter.push_element(chunk, out),
            Self::Opaque(_) => self.push(std::mem::take(chunk), out),
        }
    }

    /// The provider has ended the answer properly: what is held of it goes to `out`.
    ///
    /// # Errors
    /// As [`Meter::push`].
    pub fn flush(&mut self, out: &mut BytesMut) -> Result<(), MeterError> {
        match self {
            Self::Events(meter) => meter.flush(out),
            Self::Array(meter) => meter.flush(out),
            Self::Opaque(meter) => {
                meter.flush();
                Ok(())
            }
        }
    }

    /// What the answer has told so far.
    pub fn reading(&self) -> &Reading {
        match self {
            Self::Events(meter) => meter.reading(),
            Self::Array(meter) => meter.reading(),
            Self::Opaque(meter) => meter.reading(),
        }
    }

    /// What the answer told in all.
    pub fn finish(self) -> Reading {
        match self {
            Self::Events(meter) => meter.finish(),
            Self::Array(meter) => meter.finish(),
            Self::Opaque(meter) => meter.reading().clone(),
        }
    }
}
