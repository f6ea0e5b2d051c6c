//! The memory that bodies may take together.
//!
//! A bound for each body says nothing of a thousand of them. Invariant: what bodies hold, from their first byte until
//! the last user of their bytes is done, never passes the room; who finds none is turned away and waits for nobody.

use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one permit stands for. A semaphore counts in 32 bits, and memory does not.
const UNIT_BYTES: usize = 1024;

/// A room for bodies. Clones share it.
#[derive(Clone, Debug)]
pub struct BodyRoom {
    free: Arc<Semaphore>,
    bytes_max: usize,
    /// What this is a part of.
    whole: Option<Arc<BodyRoom>>,
}

/// What a body has of the room, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    units: OwnedSemaphorePermit,
    /// As much of what the room is a part of.
    whole: Option<Box<Share>>,
}

impl BodyRoom {
    /// A room of so many bytes, in whole KiB.
    pub fn new(bytes_max: usize) -> Self {
        let units = (bytes_max / UNIT_BYTES).min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(units)), bytes_max, whole: None }
    }

    /// A part of it: who has a share of that has as much of the whole. Parts may be more than the whole together.
    #[must_use]
    pub fn part(&self, bytes_max: usize) -> Self {
        Self {
            whole: Some(Arc::new(self.clone())),
            ..Self::new(bytes_max.next_multiple_of(UNIT_BYTES).min(self.bytes_max))
        }
    }

    /// Whether this is the only clone, and nobody has a share of it.
    pub fn is_nobodys(&self) -> bool {
        Arc::strong_count(&self.free) == 1
    }

    /// The whole of it, in bytes: no body can be larger.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// What nobody has now, in bytes.
    pub fn bytes_free(&self) -> usize {
        self.free.available_permits().saturating_mul(UNIT_BYTES)
    }

    /// A part of the room, if so much is free now.
    pub(super) fn take(&self, bytes: usize) -> Option<Share> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).ok()?;
        let units = Arc::clone(&self.free).try_acquire_many_owned(units).ok()?;
        let whole = match &self.whole {
            Some(whole) => Some(Box::new(whole.take(bytes)?)),
            None => None,
        };
        Some(Share { units, whole })
    }
}

impl Share {
    /// Has `bytes` in all, if so much more is free now.
    pub(super) fn grow_to(&mut self, bytes: usize, room: &BodyRoom) -> Option<()> {
        let more = bytes.div_ceil(UNIT_BYTES).saturating_sub(self.units.num_permits());
        self.merge(room.take(more.checked_mul(UNIT_BYTES)?)?);
        Some(())
    }

    fn merge(&mut self, more: Self) {
        self.units.merge(more.units);
        if let (Some(whole), Some(more)) = (&mut self.whole, more.whole) {
            whole.merge(*more);
        }
    }

    /// Gives back what it has beyond `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        drop(self.units.split(self.units.num_permits().saturating_sub(bytes.div_ceil(UNIT_BYTES))));
        if let Some(whole) = &mut self.whole {
            whole.shrink_to(bytes);
        }
    }

    /// The bytes with their share: it is given back when nobody has any of them any more.
    pub(super) fn hold<T: AsRef<[u8]> + Send + 'static>(self, bytes: T) -> Bytes {
        Bytes::from_owner(Held { bytes, _share: self })
    }
}

struct Held<T> {
    bytes: T,
    _share: Share,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Held<T> {
    fn as_ref(&self) -> &[u8] {
        self.bytes.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_lives_as_long_as_any_of_its_bytes() {
        let room = BodyRoom::new(4096);
        let mut share = room.take(1).unwrap();
        assert_eq!(room.bytes_free(), 3072);
        share.grow_to(2048, &room).unwrap();
        share.grow_to(1500, &room).unwrap();
        assert_eq!(room.bytes_free(), 2048);
        assert!(share.grow_to(4097, &room).is_none() && room.take(2049).is_none(), "more than there is");
        assert_eq!(room.bytes_free(), 2048, "a refusal takes nothing");

        let bytes = share.hold(b"abc".to_vec());
        let slice = bytes.slice(1..2);
        drop(bytes);
        assert_eq!((&slice[..], room.bytes_free()), (&b"b"[..], 2048));
        drop(slice);
        assert_eq!(room.bytes_free(), 4096);
    }

    #[test]
    fn a_share_of_a_part_is_one_of_the_whole_and_a_refusal_takes_of_neither() {
        let room = BodyRoom::new(4096);
        let (one, other) = (room.part(3072), room.part(1 << 20));
        assert_eq!(other.bytes_max(), 4096, "no more than there is");
        let mut share = one.take(1024).unwrap();
        share.grow_to(3072, &one).unwrap();
        assert_eq!((one.bytes_free(), room.bytes_free(), other.bytes_free()), (0, 1024, 4096));
        assert!(one.take(1).is_none() && share.grow_to(3073, &one).is_none(), "its part is full");
        assert!(other.take(1025).is_none(), "the whole is");
        assert_eq!((room.bytes_free(), other.bytes_free()), (1024, 4096));
        share.shrink_to(1);
        share.shrink_to(2000);
        assert_eq!((one.bytes_free(), room.bytes_free()), (2048, 3072));
        assert!(!one.is_nobodys() && other.is_nobodys());
        drop(share);
        assert!(one.is_nobodys() && one.bytes_free() == 3072 && room.bytes_free() == 4096);
    }
}
