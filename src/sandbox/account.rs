//! What accounts leave with the provider: responses, files. A key is an account: what one key leaves, another does not see.
//!
//! Bounded in number and in bytes over all accounts; beyond either the oldest is forgotten.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Things of one kind, oldest first.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    count_max: usize,
    bytes_max: usize,
    held: Mutex<Held<T>>,
}

#[derive(Debug)]
struct Held<T> {
    things: VecDeque<Thing<T>>,
    bytes: usize,
}

#[derive(Debug)]
struct Thing<T> {
    key: String,
    id: String,
    bytes: usize,
    value: T,
}

impl<T> Held<T> {
    fn find(&self, key: &str, id: &str) -> Option<usize> {
        self.things.iter().rposition(|thing| thing.id == id && thing.key == key)
    }

    fn remove(&mut self, index: usize) -> Option<T> {
        let thing = self.things.remove(index)?;
        self.bytes -= thing.bytes;
        Some(thing.value)
    }
}

impl<T: Clone> Shelf<T> {
    /// An empty shelf that holds so much.
    pub(super) fn new(count_max: usize, bytes_max: usize) -> Self {
        Self { count_max, bytes_max, held: Mutex::new(Held { things: VecDeque::new(), bytes: 0 }) }
    }

    fn with<R>(&self, act: impl FnOnce(&mut Held<T>) -> R) -> R {
        act(&mut self.held.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps something under an id that is new.
    pub(super) fn keep(&self, key: &str, id: &str, bytes: usize, value: T) {
        self.with(|held| {
            held.bytes += bytes;
            held.things.push_back(Thing { key: key.to_owned(), id: id.to_owned(), bytes, value });
            while held.things.len() > self.count_max || held.bytes > self.bytes_max {
                held.remove(0);
            }
        });
    }

    /// What the account keeps under the id.
    pub(super) fn find(&self, key: &str, id: &str) -> Option<T> {
        self.change(key, id, |value| value.clone())
    }

    /// Changes what the account keeps under the id.
    pub(super) fn change<R>(&self, key: &str, id: &str, act: impl FnOnce(&mut T) -> R) -> Option<R> {
        self.with(|held| held.find(key, id).map(|index| act(&mut held.things[index].value)))
    }

    /// Takes it away.
    pub(super) fn take(&self, key: &str, id: &str) -> Option<T> {
        self.with(|held| held.find(key, id).and_then(|index| held.remove(index)))
    }

    /// All that the account keeps, oldest first.
    pub(super) fn all(&self, key: &str) -> Vec<T> {
        self.with(|held| {
            held.things.iter().filter(|thing| thing.key == key).map(|thing| thing.value.clone()).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_sees_its_own_alone() {
        let shelf = Shelf::new(9, 99);
        shelf.keep("a", "1", 1, 'x');
        assert_eq!((shelf.find("a", "1"), shelf.find("b", "1")), (Some('x'), None));
        assert_eq!((shelf.take("b", "1"), shelf.all("b").len()), (None, 0));
        assert_eq!((shelf.take("a", "1"), shelf.find("a", "1")), (Some('x'), None));
    }

    #[test]
    fn the_oldest_is_forgotten_beyond_the_count_and_the_bytes() {
        let shelf = Shelf::new(3, 100);
        for id in ["1", "2", "3", "4"] {
            shelf.keep("a", id, 10, id);
        }
        assert_eq!(shelf.all("a"), ["2", "3", "4"]);
        shelf.keep("a", "5", 85, "5");
        assert_eq!(shelf.all("a"), ["4", "5"]);
        shelf.keep("a", "6", 101, "6");
        assert_eq!(shelf.all("a").len(), 0);
    }
}
