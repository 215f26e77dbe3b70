//! Pending transactions packed into 100 bytes each, and those numbers apart that do not fit.
//!
//! A schedule is any 256-bit number, and anyone may buffer many such: what does not fit into 64 bits costs
//! 28 bytes more. A window is set by the contract's owner, and is 300 s at most: one that does not fit into
//! 29 bits may cost what it likes.

use std::collections::BTreeMap;

use web3::types::{H256, U256};

use super::heap::{Order, number, shrink};
use super::transaction::{Deadline, Pending};

/// Set where the schedule is kept apart.
const WIDE: u32 = 1 << 31;
/// What kind of deadline it is.
const KIND: u32 = 3 << 29;
const FROZEN: u32 = 0;
const GUESSED: u32 = 1 << 29;
const ASSUMED: u32 = 2 << 29;
const OTHER: u32 = 3 << 29;
/// The window in seconds; with all bits set, it is kept apart. Of `OTHER` kinds, which one it is.
const WINDOW: u32 = (1 << 29) - 1;
const FLOATING: u32 = 0;
const NEVER: u32 = 1;

/// Without padding: eight-byte numbers at four-byte places.
#[derive(Clone, Copy, Debug)]
#[repr(C, packed(4))]
struct Record {
    id: H256,
    tx_hash: H256,
    block: u64,
    buffered: u64,
    /// The schedule, or the index of its high bytes and its low ones.
    scheduled: u64,
    /// Kind of deadline and window.
    deadline: u32,
    /// Where it stands in the heap by age.
    by_age: u32,
    /// Where it stands in its heap by deadline.
    by_deadline: u32,
}

/// Records by number, from zero on without holes.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    all: Vec<Record>,
    wide: Wide,
    /// Windows that do not fit, by number of the record.
    windows: BTreeMap<u32, U256>,
}

/// Records in the order of their buffering.
pub(super) struct ByAge<'a>(pub &'a mut Records);

/// Records in the order of their deadlines, and by id where these are equal; only of one kind.
pub(super) struct ByDeadline<'a>(pub &'a mut Records);

impl Records {
    pub(super) fn with_capacity(records: usize) -> Self {
        Self { all: Vec::with_capacity(records), ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn id(&self, record: u32) -> H256 {
        self.all[record as usize].id
    }

    pub(super) fn buffered(&self, record: u32) -> u64 {
        self.all[record as usize].buffered
    }

    pub(super) fn by_age(&self, record: u32) -> u32 {
        self.all[record as usize].by_age
    }

    pub(super) fn by_deadline(&self, record: u32) -> u32 {
        self.all[record as usize].by_deadline
    }

    pub(super) fn get(&self, record: u32) -> Pending {
        let Record { tx_hash, block, buffered, .. } = self.all[record as usize];
        let (scheduled, deadline) = (self.scheduled(record), self.deadline(record));
        Pending { tx_hash, block, buffered, scheduled, deadline }
    }

    /// Adds a record; its number is that of how many there were.
    pub(super) fn push(&mut self, id: H256, pending: &Pending) -> u32 {
        let record = number(self.all.len());
        let (kind, window) = match pending.deadline {
            Deadline::Frozen(window) => (FROZEN, window),
            Deadline::Guessed(window) => (GUESSED, window),
            Deadline::Assumed(window) => (ASSUMED, window),
            Deadline::Floating => (OTHER, FLOATING.into()),
            Deadline::Never => (OTHER, NEVER.into()),
        };
        let fits = window < U256::from(WINDOW);
        if !fits {
            self.windows.insert(record, window);
        }
        let mut deadline = kind | if fits { window.low_u32() } else { WINDOW };
        let scheduled = u64::try_from(pending.scheduled).unwrap_or_else(|_| {
            deadline |= WIDE;
            self.wide.put(pending.scheduled)
        });
        let Pending { tx_hash, block, buffered, .. } = *pending;
        self.all.push(Record {
            id,
            tx_hash,
            block,
            buffered,
            scheduled,
            deadline,
            by_age: 0,
            by_deadline: 0,
        });
        record
    }

    /// Removes a record; the last one takes its number.
    pub(super) fn swap_remove(&mut self, record: u32) {
        let removed = self.all.swap_remove(record as usize);
        if removed.deadline & WIDE != 0 {
            self.wide.remove(removed.scheduled);
        }
        self.windows.remove(&record);
        if let Some(window) = self.windows.remove(&number(self.all.len())) {
            self.windows.insert(record, window);
        }
        shrink(&mut self.all);
    }

    fn scheduled(&self, record: u32) -> U256 {
        let Record { scheduled, deadline, .. } = self.all[record as usize];
        if deadline & WIDE == 0 { scheduled.into() } else { self.wide.get(scheduled) }
    }

    fn deadline(&self, record: u32) -> Deadline {
        let deadline = self.all[record as usize].deadline;
        let window = match deadline & WINDOW {
            WINDOW => self.windows.get(&record).copied().unwrap_or_default(),
            window => window.into(),
        };
        match deadline & KIND {
            FROZEN => Deadline::Frozen(window),
            GUESSED => Deadline::Guessed(window),
            ASSUMED => Deadline::Assumed(window),
            _ if deadline & WINDOW == FLOATING => Deadline::Floating,
            _ => Deadline::Never,
        }
    }

    /// What orders those of one kind; the window in force is the same for all that float.
    fn key(&self, record: u32) -> (U256, H256) {
        let scheduled = self.scheduled(record);
        let key = match self.deadline(record) {
            Deadline::Floating | Deadline::Never => scheduled,
            Deadline::Frozen(window) | Deadline::Guessed(window) | Deadline::Assumed(window) => {
                scheduled.saturating_add(window)
            }
        };
        (key, self.id(record))
    }
}

impl Order for ByAge<'_> {
    fn before(&self, a: u32, b: u32) -> bool {
        self.0.buffered(a) < self.0.buffered(b)
    }

    fn note(&mut self, record: u32, index: u32) {
        self.0.all[record as usize].by_age = index;
    }
}

impl Order for ByDeadline<'_> {
    fn before(&self, a: u32, b: u32) -> bool {
        self.0.key(a) < self.0.key(b)
    }

    fn note(&mut self, record: u32, index: u32) {
        self.0.all[record as usize].by_deadline = index;
    }
}

/// The high 28 bytes of numbers whose low four stand with the index of the rest.
#[derive(Clone, Debug, Default)]
struct Wide {
    high: Vec<[u8; 28]>,
    free: Vec<u32>,
}

impl Wide {
    /// Keeps the number; returns what to find it by.
    fn put(&mut self, value: U256) -> u64 {
        let mut bytes = [0; 32];
        value.to_little_endian(&mut bytes);
        let mut high = [0; 28];
        high.copy_from_slice(&bytes[4..]);
        let index = self.free.pop().unwrap_or_else(|| {
            self.high.push(high);
            number(self.high.len() - 1)
        });
        self.high[index as usize] = high;
        u64::from(index) << 32 | u64::from(value.low_u32())
    }

    fn get(&self, stored: u64) -> U256 {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&stored.to_le_bytes()[..4]);
        bytes[4..].copy_from_slice(&self.high[(stored >> 32) as usize]);
        U256::from_little_endian(&bytes)
    }

    fn remove(&mut self, stored: u64) {
        self.free.push((stored >> 32) as u32);
        if self.free.len() == self.high.len() {
            *self = Self::default();
        }
    }
}
