//! From a transaction to the number of its record, without a second copy of its id.
//!
//! Ids are chosen by whoever buffers, so the hash is keyed at random: nobody can make them collide.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use web3::types::H256;

/// Numbers of records by id. Whoever asks says which id a record has.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    numbers: HashTable<u32>,
    hasher: RandomState,
}

impl Index {
    pub(super) fn with_capacity(records: usize) -> Self {
        Self { numbers: HashTable::with_capacity(records), hasher: RandomState::new() }
    }

    pub(super) fn find(&self, id: &H256, id_of: impl Fn(u32) -> H256) -> Option<u32> {
        self.numbers.find(self.hasher.hash_one(id), |number| id_of(*number) == *id).copied()
    }

    /// Adds a record that is not there yet.
    pub(super) fn insert(&mut self, id: &H256, number: u32, id_of: impl Fn(u32) -> H256) {
        let hash = |number: &u32| self.hasher.hash_one(id_of(*number));
        self.numbers.insert_unique(self.hasher.hash_one(id), number, hash);
    }

    /// The record has another number now.
    pub(super) fn renumber(&mut self, id: &H256, from: u32, to: u32) {
        if let Some(number) = self.numbers.find_mut(self.hasher.hash_one(id), |number| *number == from) {
            *number = to;
        }
    }

    pub(super) fn remove(&mut self, id: &H256, number: u32, id_of: impl Fn(u32) -> H256) {
        if let Ok(found) = self.numbers.find_entry(self.hasher.hash_one(id), |found| *found == number) {
            found.remove();
        }
        if self.numbers.len() < self.numbers.capacity() / 4 {
            let hash = |number: &u32| self.hasher.hash_one(id_of(*number));
            self.numbers.shrink_to(2 * self.numbers.len(), hash);
        }
    }
}
