//! The transactions that may still change something: the pending ones in the order of their age and of
//! their deadlines, and what is kept of the settled ones.
//!
//! Whatever is asked costs what is found, and a logarithm, never a walk over all.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use web3::types::{H256, U256};

use super::heap::{Heap, number, shrink};
use super::index::Index;
use super::recent::Waiting;
use super::record::{ByAge, ByDeadline, Records};
use super::transaction::{Deadline, Pending, Settled, Transaction};

/// All transactions that are not ready.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pending: Queue,
    settled: Kept,
}

impl Known {
    /// Room for these numbers of pending and settled ones, so that filling it moves nothing.
    pub(super) fn with_capacity(pending: usize, settled: usize) -> Self {
        let pending = Queue {
            records: Records::with_capacity(pending),
            index: Index::with_capacity(pending),
            by_age: Heap::with_capacity(pending),
            ..Queue::default()
        };
        let settled = Kept { all: Vec::with_capacity(settled), index: Index::with_capacity(settled) };
        Self { pending, settled }
    }

    pub(super) fn get(&self, id: &H256) -> Option<Transaction> {
        self.get_pending(id)
            .map(Transaction::Pending)
            .or_else(|| self.settled.get(id).map(Transaction::Settled))
    }

    pub(super) fn get_pending(&self, id: &H256) -> Option<Pending> {
        self.pending.find(id).map(|record| self.pending.records.get(record))
    }

    /// Sets or removes a transaction; returns it as it was.
    pub(super) fn set(&mut self, id: H256, to: Option<Transaction>) -> Option<Transaction> {
        let before = self.get(&id);
        match before {
            Some(Transaction::Pending(_)) => self.pending.remove(&id),
            Some(Transaction::Settled(_)) => self.settled.remove(&id),
            None => {}
        }
        match to {
            Some(Transaction::Pending(pending)) => self.pending.insert(id, &pending),
            Some(Transaction::Settled(settled)) => self.settled.insert(id, settled),
            None => {}
        }
        before
    }

    pub(super) fn pending(&self) -> u64 {
        self.pending.records.len() as u64
    }

    pub(super) fn oldest_pending(&self) -> Option<u64> {
        self.pending.by_age.first().map(|record| self.pending.records.buffered(record))
    }

    pub(super) fn next_deadline(&self, window: Option<U256>) -> Option<U256> {
        self.pending.next(window).map(|(deadline, _)| deadline)
    }

    /// The pending ones by their deadlines, nearest first; where there are more than `most`, the nearest of those
    /// with a deadline. Costs what is returned, and a logarithm.
    pub(super) fn waiting(&self, window: Option<U256>, most: usize) -> Arc<[Waiting]> {
        let Queue { records, floating, frozen, guessed, .. } = &self.pending;
        let all: Vec<u32> = if records.len() <= most {
            (0..number(records.len())).collect()
        } else {
            let deadline = |record| records.get(record).deadline(window);
            [floating, frozen, guessed].iter().flat_map(|heap| heap.first_of(most, deadline)).collect()
        };
        let waiting = all.into_iter().map(|record| (records.id(record), records.get(record)));
        let mut waiting: Vec<_> = waiting.map(|(id, pending)| Waiting::new(id, &pending, window)).collect();
        waiting.sort_unstable_by_key(|it| (it.deadline.is_none(), it.deadline, it.tx_id));
        waiting.truncate(most);
        waiting.into()
    }

    /// Of the pending ones whose deadline has passed at this time with this window, the one whose deadline
    /// passed first.
    pub(super) fn first_late(&self, time: u64, window: Option<U256>) -> Option<H256> {
        let (deadline, id) = self.pending.next(window)?;
        (deadline < U256::from(time)).then_some(id)
    }

    /// The pending ones whose guessed deadline has passed at this time; with `all`, also those that may be
    /// read before that.
    pub(super) fn guessed(&self, all: bool, time: u64) -> impl Iterator<Item = (H256, Pending)> {
        let Queue { records, frozen, guessed, .. } = &self.pending;
        let late = |record: u32| records.get(record).is_late(time, None);
        let unread = if all { guessed.all().to_vec() } else { guessed.while_true(late) };
        let found = unread.into_iter().chain(frozen.while_true(late));
        found
            .map(|record| (records.id(record), records.get(record)))
            .filter(|(_, pending)| pending.is_guessed())
    }

    pub(super) fn all_pending(&self) -> impl ExactSizeIterator<Item = (H256, Pending)> {
        let records = &self.pending.records;
        (0..number(records.len())).map(|record| (records.id(record), records.get(record)))
    }

    pub(super) fn all_settled(&self) -> impl ExactSizeIterator<Item = (H256, Settled)> {
        self.settled.all.iter().copied()
    }
}

/// The pending ones. Each record stands in the heap by age, and but for those that never expire in one by
/// deadline.
#[derive(Clone, Debug, Default)]
struct Queue {
    records: Records,
    index: Index,
    by_age: Heap,
    /// By scheduled time, to which the window is added when it is asked for.
    floating: Heap,
    frozen: Heap,
    /// Frozen with a window that may still be read.
    guessed: Heap,
}

impl Queue {
    fn find(&self, id: &H256) -> Option<u32> {
        self.index.find(id, |record| self.records.id(record))
    }

    fn insert(&mut self, id: H256, pending: &Pending) {
        let record = self.records.push(id, pending);
        self.index.insert(&id, record, |record| self.records.id(record));
        self.by_age.push(record, &mut ByAge(&mut self.records));
        let (heap, records) = self.heap(pending.deadline);
        if let Some(heap) = heap {
            heap.push(record, &mut ByDeadline(records));
        }
    }

    fn remove(&mut self, id: &H256) {
        let Some(record) = self.find(id) else { return };
        self.index.remove(id, record, |record| self.records.id(record));
        let index = self.records.by_age(record);
        self.by_age.remove(index, &mut ByAge(&mut self.records));
        let index = self.records.by_deadline(record);
        let (heap, records) = self.heap(self.records.get(record).deadline);
        if let Some(heap) = heap {
            heap.remove(index, &mut ByDeadline(records));
        }
        let last = number(self.records.len() - 1);
        if record != last {
            self.index.renumber(&self.records.id(last), last, record);
            self.by_age.renumber(self.records.by_age(last), record);
            let index = self.records.by_deadline(last);
            if let (Some(heap), _) = self.heap(self.records.get(last).deadline) {
                heap.renumber(index, record);
            }
        }
        self.records.swap_remove(record);
    }

    fn heap(&mut self, deadline: Deadline) -> (Option<&mut Heap>, &mut Records) {
        let heap = match deadline {
            Deadline::Floating => Some(&mut self.floating),
            Deadline::Frozen(_) | Deadline::Assumed(_) => Some(&mut self.frozen),
            Deadline::Guessed(_) => Some(&mut self.guessed),
            Deadline::Never => None,
        };
        (heap, &mut self.records)
    }

    /// The nearest deadline and whose it is; by id where several are equal.
    fn next(&self, window: Option<U256>) -> Option<(U256, H256)> {
        let firsts = [&self.floating, &self.frozen, &self.guessed].into_iter().filter_map(Heap::first);
        let dated = firsts
            .filter_map(|record| Some((self.records.get(record).deadline(window)?, self.records.id(record))));
        dated.min()
    }
}

/// What is kept of settled ones: 48 bytes each, and their index in the index.
#[derive(Clone, Debug, Default)]
struct Kept {
    all: Vec<(H256, Settled)>,
    index: Index,
}

impl Kept {
    fn find(&self, id: &H256) -> Option<u32> {
        self.index.find(id, |record| self.all[record as usize].0)
    }

    fn get(&self, id: &H256) -> Option<Settled> {
        self.find(id).map(|record| self.all[record as usize].1)
    }

    fn insert(&mut self, id: H256, settled: Settled) {
        let record = number(self.all.len());
        self.all.push((id, settled));
        self.index.insert(&id, record, |record| self.all[record as usize].0);
    }

    fn remove(&mut self, id: &H256) {
        let Some(record) = self.find(id) else { return };
        self.index.remove(id, record, |record| self.all[record as usize].0);
        let last = number(self.all.len() - 1);
        if record != last {
            self.index.renumber(&self.all[last as usize].0, last, record);
        }
        self.all.swap_remove(record as usize);
        shrink(&mut self.all);
    }
}
