//! The memory that answers have which are read whole, from before their requests are sent until their clients took them.
//!
//! Invariant: no key has so much of it that the others find none. Who has no room is told before anything is sent.

use crate::http::BodyRoom;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// How many keys can fill the room, at the least.
const KEYS_MIN: usize = 4;
/// So many keys are remembered before those are looked for that have nothing any more.
const SWEEP_MIN: usize = 64;

/// The room of all answers, and each key's part in it.
pub(super) struct Answers {
    all: BodyRoom,
    key_bytes_max: usize,
    keys: Mutex<Keys>,
}

struct Keys {
    rooms: HashMap<String, BodyRoom>,
    sweep_at: usize,
}

impl Answers {
    /// Parts of this room: a quarter for each key, and at the least one answer of so many bytes.
    pub(super) fn new(all: BodyRoom, answer_bytes_max: usize) -> Self {
        let key_bytes_max = (all.bytes_max() / KEYS_MIN).max(answer_bytes_max);
        let keys = Mutex::new(Keys { rooms: HashMap::new(), sweep_at: SWEEP_MIN });
        Self { all, key_bytes_max, keys }
    }

    /// A key's part. All of its requests have the same one for as long as any of them has a share of it.
    pub(super) fn of(&self, key: &str) -> BodyRoom {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(room) = keys.rooms.get(key) {
            return room.clone();
        }
        if keys.rooms.len() >= keys.sweep_at {
            // Rooms are cloned under the lock alone: one that is nobody else's stays so meanwhile.
            keys.rooms.retain(|_, room| !room.is_nobodys());
            keys.sweep_at = keys.rooms.len().saturating_mul(2).max(SWEEP_MIN);
        }
        let room = self.all.part(self.key_bytes_max);
        keys.rooms.insert(key.to_owned(), room.clone());
        room
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Buffer;

    const KIB: usize = 1024;

    #[test]
    fn a_key_has_a_quarter_or_one_answer_and_others_have_the_rest() {
        let answers = Answers::new(BodyRoom::new(1024 * KIB), 100 * KIB);
        let hoard: Vec<Buffer> = std::iter::from_fn(|| Buffer::begun(&answers.of("greedy")).ok()).collect();
        assert_eq!(hoard.len(), 4, "64 KiB each, of 256");
        let others: Vec<Buffer> =
            (0..4).filter_map(|key| Buffer::begun(&answers.of(&format!("key {key}"))).ok()).collect();
        assert_eq!((others.len(), answers.all.bytes_free()), (4, 512 * KIB));
        drop(hoard);
        assert!(Buffer::begun(&answers.of("greedy")).is_ok());
        let large = Answers::new(BodyRoom::new(1024 * KIB), 700 * KIB);
        assert_eq!(large.of("any").bytes_max(), 700 * KIB, "one answer fits");
        assert_eq!(Answers::new(BodyRoom::new(1024 * KIB), 9_000 * KIB).of("any").bytes_max(), 1024 * KIB);
    }

    #[test]
    fn keys_that_have_nothing_are_forgotten_and_others_are_not() {
        let answers = Answers::new(BodyRoom::new(1024 * KIB), KIB);
        let held = Buffer::begun(&answers.of("holds")).unwrap();
        for key in 0..10 * SWEEP_MIN {
            answers.of(&key.to_string());
        }
        assert!(answers.keys.lock().unwrap().rooms.len() <= SWEEP_MIN);
        assert_eq!(answers.of("holds").bytes_free(), 192 * KIB, "it is the same room as ever");
        drop(held);
    }
}
