//! Bytes that come piece by piece and are kept whole, within a room.
//!
//! The buffer grows by doubling towards the announced length, so who announces much and sends little has little set aside
//! for it, and what is copied while it grows is never more than the whole. Memory is charged before it is asked for.

use super::room::{BodyRoom, Share};
use bytes::Bytes;
use std::iter::successors;

/// What is set aside, at most, on the word of `Content-Length` alone.
pub(super) const CAPACITY_FIRST_BYTES: usize = 1 << 16;
/// The least that an answer is counted for while its client has not taken it: as much is kept beside it.
const HELD_BYTES_MIN: usize = 4 * 1024;

/// Others have the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// The beginning of something whole, and its share of the room.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    share: Option<Share>,
    room: BodyRoom,
    announced: Option<usize>,
}

impl Buffer {
    /// Nothing yet; `announced` is how long the whole is said to be, in bytes.
    pub fn new(room: &BodyRoom, announced: Option<usize>) -> Self {
        Self { bytes: Vec::new(), share: None, room: room.clone(), announced }
    }

    /// Nothing yet, with a first share: as much as a short one has in all.
    ///
    /// # Errors
    /// Others have the room.
    pub fn begun(room: &BodyRoom) -> Result<Self, NoRoom> {
        let share = room.take(CAPACITY_FIRST_BYTES).ok_or(NoRoom)?;
        Ok(Self::with(share, room, None))
    }

    /// The same, of which it is known by now how long the whole is said to be.
    #[must_use]
    pub fn announced(self, announced: Option<usize>) -> Self {
        Self { announced, ..self }
    }

    /// The same with a share that is there already.
    pub(super) fn with(share: Share, room: &BodyRoom, announced: Option<usize>) -> Self {
        Self { share: Some(share), ..Self::new(room, announced) }
    }

    /// How many bytes are there.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Puts bytes behind what is there.
    pub(super) fn append(&mut self, data: &[u8]) -> Result<(), NoRoom> {
        self.make_room(self.bytes.len() + data.len())?.extend_from_slice(data);
        Ok(())
    }

    /// The bytes, which may become so many in all without a further charge, and no more.
    ///
    /// # Errors
    /// Others have the room; what is there stays as it is.
    pub fn make_room(&mut self, bytes: usize) -> Result<&mut Vec<u8>, NoRoom> {
        if bytes > self.bytes.capacity() {
            // Where there is no room for all that may come, for half of it, and so on: what is left goes in few steps.
            let wanted = Some(capacity_for(bytes, self.announced));
            let mut less = successors(wanted, |more| (*more > bytes).then(|| bytes + (more - bytes) / 2));
            let capacity = less.find(|capacity| self.has_room(*capacity));
            self.bytes.reserve_exact(capacity.ok_or(NoRoom)? - self.bytes.len());
        }
        Ok(&mut self.bytes)
    }

    /// Takes so much of the room, if it is there.
    fn has_room(&mut self, capacity: usize) -> bool {
        if let Some(share) = &mut self.share {
            return share.grow_to(capacity, &self.room).is_some();
        }
        self.share = self.room.take(capacity);
        self.share.is_some()
    }

    /// The whole with its share, which is given back when nobody has any of it any more.
    pub fn hold(self) -> Bytes {
        match self.share {
            Some(mut share) => {
                share.shrink_to(self.bytes.capacity().max(HELD_BYTES_MIN));
                share.hold(self.bytes)
            }
            None => Bytes::new(),
        }
    }
}

/// The next capacity: the announced length, halved as often as there is room for `needed`; else a power of two.
fn capacity_for(needed: usize, announced: Option<usize>) -> usize {
    let least = needed.max(CAPACITY_FIRST_BYTES);
    match announced.filter(|whole| *whole >= needed) {
        Some(whole) => {
            let mut capacity = whole;
            while capacity.div_ceil(2) >= least {
                capacity = capacity.div_ceil(2);
            }
            capacity
        }
        None => least.checked_next_power_of_two().unwrap_or(least),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_doubles_up_to_exactly_what_was_announced() {
        const MIB: usize = 1 << 20;
        for announced in [33 * MIB, 32 * MIB, 20 * MIB + 7] {
            let (mut capacity, mut steps) = (0, 0);
            while capacity < announced {
                let next = capacity_for(capacity + 1, Some(announced));
                assert!(capacity == 0 || next + 1 >= 2 * capacity, "what is copied is at most the half");
                assert!(capacity > 0 || next < 2 * CAPACITY_FIRST_BYTES, "little on the word of a header");
                (capacity, steps) = (next, steps + 1);
            }
            assert!(capacity == announced && steps < 12, "{announced}: {capacity} in {steps}");
        }
        assert_eq!(capacity_for(3, Some(10)), 10);
        assert_eq!(capacity_for(11, Some(10)), CAPACITY_FIRST_BYTES, "a false length bounds nothing");
        assert_eq!(capacity_for(CAPACITY_FIRST_BYTES + 1, None), 2 * CAPACITY_FIRST_BYTES);
    }

    #[test]
    fn what_is_kept_has_its_share_from_the_first_byte_to_the_last_user() {
        const FIRST: usize = CAPACITY_FIRST_BYTES;
        let room = BodyRoom::new(4 * FIRST);
        let mut buffer = Buffer::new(&room, None);
        assert_eq!(room.bytes_free(), 4 * FIRST, "nothing for nothing");
        buffer.make_room(3).unwrap().extend_from_slice(b"abc");
        assert_eq!(room.bytes_free(), 3 * FIRST);
        let mut other = Buffer::new(&room, Some(2 * FIRST));
        other.make_room(2 * FIRST).unwrap();
        assert_eq!(buffer.make_room(2 * FIRST + 1), Err(NoRoom));
        assert_eq!(buffer.make_room(FIRST).unwrap(), b"abc", "and what it has it keeps");
        drop(other);
        buffer.append(&vec![b'x'; FIRST]).unwrap();
        assert_eq!((buffer.len(), room.bytes_free()), (FIRST + 3, 2 * FIRST));
        let whole = buffer.hold();
        let end = whole.slice(FIRST..);
        drop(whole);
        assert_eq!((&end[..], room.bytes_free()), (&b"xxx"[..], 2 * FIRST));
        drop(end);
        assert_eq!(room.bytes_free(), 4 * FIRST);
        assert!(Buffer::new(&room, Some(9)).hold().is_empty());
    }

    #[test]
    fn a_first_share_is_there_before_the_first_byte_and_what_is_not_needed_is_given_back() {
        const FIRST: usize = CAPACITY_FIRST_BYTES;
        let room = BodyRoom::new(2 * FIRST);
        let mut short = Buffer::begun(&room).unwrap().announced(Some(1_500));
        let mut long = Buffer::begun(&room).unwrap().announced(None);
        assert_eq!(Buffer::begun(&room).unwrap_err(), NoRoom);
        short.append(&[b'x'; 1_500]).unwrap();
        long.append(&vec![b'x'; FIRST]).unwrap();
        assert_eq!((long.append(b"x"), room.bytes_free()), (Err(NoRoom), 0));
        let short = short.hold();
        assert_eq!((short.len(), room.bytes_free()), (1_500, FIRST - HELD_BYTES_MIN));
        // Not twice as much is free, but half of that is.
        long.append(b"x").unwrap();
        assert_eq!(room.bytes_free(), FIRST / 2 - HELD_BYTES_MIN);
        long.append(&vec![b'x'; FIRST / 2]).unwrap();
        assert_eq!((long.append(&vec![b'x'; FIRST]), long.len()), (Err(NoRoom), FIRST + FIRST / 2 + 1));
        drop((short, long));
        assert_eq!(room.bytes_free(), 2 * FIRST);
    }
}
