//! A binary heap of record numbers in which each record says where it stands, so that any of them can be
//! taken out again.
//!
//! Eight bytes a record, four here and four in the record. A `BTreeSet` of keys and numbers takes about
//! thirty-five when it is filled in rising order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Records as one heap sees them: in what order, and where each notes its index.
pub(super) trait Order {
    /// Whether the first record comes before the second.
    fn before(&self, a: u32, b: u32) -> bool;
    /// Notes where a record stands in the heap.
    fn note(&mut self, record: u32, index: u32);
}

/// Numbers of records, the first of which comes before all others.
#[derive(Clone, Debug, Default)]
pub(super) struct Heap(Vec<u32>);

impl Heap {
    pub(super) fn with_capacity(records: usize) -> Self {
        Self(Vec::with_capacity(records))
    }

    pub(super) fn first(&self) -> Option<u32> {
        self.0.first().copied()
    }

    /// All numbers, in no order.
    pub(super) fn all(&self) -> &[u32] {
        &self.0
    }

    pub(super) fn push(&mut self, record: u32, order: &mut impl Order) {
        self.0.push(record);
        self.rise(self.0.len() - 1, order);
    }

    /// Takes out what stands at this index.
    pub(super) fn remove(&mut self, index: u32, order: &mut impl Order) {
        let index = index as usize;
        self.0.swap_remove(index);
        if index < self.0.len() {
            let index = self.rise(index, order);
            self.sink(index, order);
        }
        shrink(&mut self.0);
    }

    /// The record at this index has another number now.
    pub(super) fn renumber(&mut self, index: u32, record: u32) {
        self.0[index as usize] = record;
    }

    /// The records for which this holds, where it holds for all that come before one of them. Looks at
    /// twice as many at most.
    pub(super) fn while_true(&self, holds: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut found = Vec::new();
        let mut todo = vec![0];
        while let Some(index) = todo.pop() {
            if let Some(&record) = self.0.get(index).filter(|record| holds(**record)) {
                found.push(record);
                todo.extend([2 * index + 1, 2 * index + 2]);
            }
        }
        found
    }

    /// The first records, at most so many, by a key that has the order of the heap. Looks at three times as many at
    /// most.
    pub(super) fn first_of<K: Ord>(&self, most: usize, key: impl Fn(u32) -> K) -> Vec<u32> {
        let entry = |index: usize| self.0.get(index).map(|record| Reverse((key(*record), index)));
        let mut found = Vec::new();
        let mut next: BinaryHeap<_> = entry(0).into_iter().collect();
        while let Some(Reverse((_, index))) = next.pop().filter(|_| found.len() < most) {
            found.push(self.0[index]);
            next.extend([2 * index + 1, 2 * index + 2].into_iter().filter_map(entry));
        }
        found
    }

    /// Moves what stands at this index towards the first index, as far as it belongs.
    fn rise(&mut self, mut index: usize, order: &mut impl Order) -> usize {
        let record = self.0[index];
        while index > 0 {
            let parent = (index - 1) / 2;
            if !order.before(record, self.0[parent]) {
                break;
            }
            self.put(index, self.0[parent], order);
            index = parent;
        }
        self.put(index, record, order);
        index
    }

    /// Moves what stands at this index away from the first index, as far as it belongs.
    fn sink(&mut self, mut index: usize, order: &mut impl Order) {
        let record = self.0[index];
        loop {
            let (left, right) = (2 * index + 1, 2 * index + 2);
            let Some(&first) = self.0.get(left) else { break };
            let next = match self.0.get(right) {
                Some(&second) if order.before(second, first) => right,
                _ => left,
            };
            if !order.before(self.0[next], record) {
                break;
            }
            self.put(index, self.0[next], order);
            index = next;
        }
        self.put(index, record, order);
    }

    fn put(&mut self, index: usize, record: u32, order: &mut impl Order) {
        self.0[index] = record;
        order.note(record, number(index));
    }
}

/// A index as it is stored. A ledger of more than 2^32 records would not fit into any memory.
pub(super) fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// Gives memory back once three quarters of it are idle.
pub(super) fn shrink<T>(items: &mut Vec<T>) {
    if items.len() < items.capacity() / 4 {
        items.shrink_to(2 * items.len());
    }
}
