//! The contract's rules: what each call changes and logs, or why it reverts.
//!
//! Pure, and knows nothing of who calls it or why: that is [`super::traffic`].

use std::collections::BTreeMap;

use web3::types::{H160, H256, U256};

use super::event::{self, Event, Log, NONE, RawLog, Reason, Tx, Variant, padded, topic, words};

/// The coordination window of a new contract, seconds.
pub const DEFAULT_WINDOW: u32 = 30;
/// Swap-group timeouts after which the breaker trips.
const BREAKER_THRESHOLD: u32 = 50;
const MAX_AHEAD: u64 = 24 * 60 * 60;

/// Why a call changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revert(pub &'static str);

/// A call by hand, for tests that need a certain thing to happen.
#[derive(Clone, Debug)]
pub enum Call {
    /// Buffers a transaction; the dependency must have been buffered before.
    Buffer {
        /// Its id; must be new.
        tx_id: H256,
        /// When it should be executed, seconds since the Unix epoch.
        scheduled: U256,
        /// What must be ready before it.
        dependency: Option<H256>,
    },
    /// Buffers so many transactions, whose ids count up from this one; whether they are new is not looked at.
    BufferMany {
        /// Id of the first.
        first: u64,
        /// How many.
        number: u32,
        /// When all of them should be executed, seconds since the Unix epoch.
        scheduled: U256,
    },
    /// Tries to make a transaction ready.
    Resolve(H256),
    /// Buffers a swap group of so many transactions, scheduled for now.
    Group {
        /// Its id; must be new. Member `i` gets the id plus `i` plus 1.
        group_id: H256,
        /// How many transactions.
        members: u8,
        /// Seconds until [`Call::Sweep`] may fail it.
        timeout: u64,
    },
    /// Fails every member of an expired swap group for good.
    Sweep(H256),
    /// Pauses, or repeats the event while paused.
    Pause,
    /// Unpauses.
    Unpause,
    /// Sets the coordination window, 5 to 300 seconds; no event marks it.
    SetWindow(u32),
    /// Hands the contract over; no event marks it.
    SetOwner(H160),
    /// Trips the breaker as 50 timeouts would; no event marks it.
    TripBreaker,
    /// Resets the breaker; no event marks it.
    ResetBreaker,
    /// Logs what no known contract logs: other reasons, hostile bytes, data that does not decode.
    Log(RawLog),
}

/// What the views return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Views {
    /// `owner()`
    pub owner: H160,
    /// `emergency_admin()`, B only
    pub emergency_admin: H160,
    /// `coordination_window()`, seconds
    pub window: u32,
    /// `paused()`, B only
    pub paused: bool,
    /// `circuit_breaker_active()`, B only
    pub breaker: bool,
}

/// The contract's state, but for the transactions, which the chain keeps.
#[derive(Clone, Debug)]
pub(super) struct Contract {
    pub variant: Variant,
    pub views: Views,
    timeouts: u32,
    /// Swap groups that are neither complete nor swept, by index.
    groups: BTreeMap<u32, Group>,
    next_group: u32,
}

#[derive(Clone, Debug)]
struct Group {
    id: H256,
    expires_at: u64,
    members: Vec<u32>,
}

/// The block under way, and the history that it adds to.
pub(super) struct Block<'a> {
    pub number: u32,
    pub time: u64,
    pub txs: &'a mut Vec<Tx>,
    pub logs: &'a mut Vec<Log>,
}

impl Block<'_> {
    fn log(&mut self, event: Event) {
        self.logs.push(Log { block: self.number, event });
    }

    fn other(&mut self, signature: &str, indexed: &[H256], data: &[U256]) {
        let topics = [topic(signature)].into_iter().chain(indexed.iter().copied()).collect();
        self.log(Event::Other(Box::new(RawLog { topics, data: words(data) })));
    }

    fn find(&self, id: H256) -> Result<u32, Revert> {
        // Calls by hand name recent transactions.
        let found =
            self.txs.iter().rposition(|tx| tx.id == id).ok_or(Revert("Transaction does not exist"))?;
        Ok(found as u32)
    }
}

impl Contract {
    pub(super) fn deploy(variant: Variant, name: &str, block: &mut Block<'_>) -> Self {
        let owner = event::address(&format!("{name} owner"));
        let emergency_admin = event::address(&format!("{name} admin"));
        let views = Views { owner, emergency_admin, window: DEFAULT_WINDOW, paused: false, breaker: false };
        let contract = Self { variant, views, timeouts: 0, groups: BTreeMap::new(), next_group: 0 };
        if variant == Variant::Buffer {
            contract.role("RoleGranted", owner, block);
        }
        contract
    }

    pub(super) fn call(&mut self, call: &Call, block: &mut Block<'_>) -> Result<(), Revert> {
        match call {
            Call::Buffer { tx_id, scheduled, dependency } => {
                let dependency = dependency.map_or(Ok(NONE), |id| block.find(id))?;
                if block.find(*tx_id).is_ok() {
                    return Err(Revert("Transaction exists"));
                }
                self.buffer(*tx_id, *scheduled, dependency, (0, 1), NONE, block).map(drop)
            }
            Call::BufferMany { first, number, scheduled } => {
                let mut ids = (*first..).take(*number as usize).map(H256::from_low_u64_be);
                ids.try_for_each(|id| self.buffer(id, *scheduled, NONE, (0, 1), NONE, block).map(drop))
            }
            Call::Resolve(id) => self.resolve(block.find(*id)?, block).map(drop),
            Call::Group { group_id, members, timeout } => {
                let group = self.create_group(*group_id, *timeout, block)?;
                let first = U256::from_big_endian(group_id.as_bytes());
                for member in 1..=*members {
                    let id = H256(first.overflowing_add(member.into()).0.into());
                    self.buffer(id, block.time.into(), NONE, (0, 1), group, block)?;
                }
                Ok(())
            }
            Call::Sweep(id) => {
                let found = self.groups.iter().find(|(_, group)| group.id == *id);
                let (&index, _) = found.ok_or(Revert("Swap group closed"))?;
                self.sweep(index, block)
            }
            Call::Pause => self.pause(block),
            Call::Unpause => self.unpause(block),
            Call::SetWindow(window) => self.set_window(*window),
            Call::SetOwner(owner) => self.set_owner(*owner),
            Call::TripBreaker => self.only_buffer().map(|()| self.views.breaker = true),
            Call::ResetBreaker => self.reset_breaker(),
            Call::Log(raw) => {
                block.log(Event::Other(Box::new(raw.clone())));
                Ok(())
            }
        }
    }

    /// Buffers a transaction and returns its index.
    pub(super) fn buffer(
        &mut self,
        id: H256,
        scheduled: U256,
        dependency: u32,
        route: (u8, u8),
        group: u32,
        block: &mut Block<'_>,
    ) -> Result<u32, Revert> {
        self.only_live()?;
        let latest = match self.variant {
            Variant::Simple => U256::MAX,
            Variant::Buffer | Variant::Mixed => (block.time + MAX_AHEAD).into(),
        };
        if scheduled < block.time.into() || scheduled > latest {
            return Err(Revert("Timestamp out of range"));
        }
        let index = block.txs.len() as u32;
        if group != NONE {
            let open = self.groups.get_mut(&group).filter(|group| group.expires_at >= block.time);
            open.ok_or(Revert("Swap group not open"))?.members.push(index);
        }
        let (window, number) = (self.views.window, block.number);
        let tx =
            Tx { id, dependency, group, scheduled, window, block: number, ready: NONE, failed: NONE, route };
        block.txs.push(tx);
        block.log(Event::Buffered(index));
        Ok(index)
    }

    /// Tries to make a transaction ready; a failure that is logged comes back as `Ok(Some(…))`.
    pub(super) fn resolve(&mut self, index: u32, block: &mut Block<'_>) -> Result<Option<Reason>, Revert> {
        self.only_live()?;
        let tx = &block.txs[index as usize];
        if tx.ready != NONE || tx.failed != NONE {
            return Err(Revert("Transaction not in buffered state"));
        }
        let window = if self.variant == Variant::Simple { self.views.window } else { tx.window };
        let deadline = tx.scheduled.saturating_add(window.into());
        let blocked = block
            .txs
            .get(tx.dependency as usize)
            .is_some_and(|other| other.ready == NONE || other.failed != NONE);
        let failure = if blocked || tx.scheduled > block.time.into() {
            Some(Reason::Dependency)
        } else {
            (deadline < block.time.into()).then_some(Reason::Expired)
        };
        match (failure, self.variant) {
            (Some(Reason::Expired), Variant::Buffer) => Err(Revert("Transaction expired")),
            (Some(_), Variant::Buffer) => Err(Revert("Dependencies not satisfied")),
            (Some(reason), _) => {
                block.log(Event::Failed(index, reason));
                Ok(Some(reason))
            }
            (None, _) => {
                let group = tx.group;
                block.txs[index as usize].ready = block.number;
                block.log(Event::Ready(index));
                self.complete(group, block);
                Ok(None)
            }
        }
    }

    /// Opens a swap group and returns its index.
    pub(super) fn create_group(
        &mut self,
        id: H256,
        timeout: u64,
        block: &mut Block<'_>,
    ) -> Result<u32, Revert> {
        self.only_buffer()?;
        self.only_live()?;
        let index = self.next_group;
        self.next_group += 1;
        self.groups.insert(index, Group { id, expires_at: block.time + timeout, members: Vec::new() });
        block.other(
            "SwapGroupCreated(bytes32,address,uint256)",
            &[id, padded(self.views.owner)],
            &[block.time.into()],
        );
        Ok(index)
    }

    fn complete(&mut self, index: u32, block: &mut Block<'_>) {
        let all_ready = |group: &&Group| group.members.iter().all(|tx| block.txs[*tx as usize].ready != NONE);
        if let Some(id) = self.groups.get(&index).filter(all_ready).map(|group| group.id) {
            self.groups.remove(&index);
            block.other("SwapGroupCompleted(bytes32,uint256)", &[id], &[block.time.into()]);
        }
    }

    /// Fails every member of an expired group for good, also those that were ready; works while paused.
    pub(super) fn sweep(&mut self, index: u32, block: &mut Block<'_>) -> Result<(), Revert> {
        let group = self.groups.get(&index).ok_or(Revert("Swap group closed"))?;
        if group.expires_at >= block.time {
            return Err(Revert("Swap group not expired"));
        }
        let members = self.groups.remove(&index).map(|group| group.members).unwrap_or_default();
        for tx in members {
            block.txs[tx as usize].failed = block.number;
            block.log(Event::Failed(tx, Reason::SwapGroupTimeout));
            self.timeouts += 1;
        }
        if self.timeouts >= BREAKER_THRESHOLD {
            self.views.breaker = true;
        }
        Ok(())
    }

    pub(super) fn reveal(&self, index: u32, block: &mut Block<'_>) -> Result<(), Revert> {
        let tx = &block.txs[index as usize];
        if tx.ready == NONE || tx.failed != NONE {
            return Err(Revert("Transaction not ready"));
        }
        let id = tx.id;
        block.other("TransactionRevealed(bytes32,uint256)", &[id], &[block.time.into()]);
        Ok(())
    }

    pub(super) fn refund(&self, index: u32, amount: u64, block: &mut Block<'_>) -> Result<(), Revert> {
        let tx = &block.txs[index as usize];
        if tx.failed == NONE {
            return Err(Revert("Transaction not failed"));
        }
        let (id, recipient) = (tx.id, padded(event::address("user")));
        block.other("TransactionRefunded(bytes32,address,uint256)", &[id, recipient], &[amount.into()]);
        Ok(())
    }

    /// Logs RoleGranted or RoleRevoked for the operators' role.
    pub(super) fn role(&self, event: &str, account: H160, block: &mut Block<'_>) {
        let indexed = [topic("OPERATOR"), padded(account), padded(self.views.owner)];
        block.other(&format!("{event}(bytes32,address,address)"), &indexed, &[]);
    }

    pub(super) fn pause(&mut self, block: &mut Block<'_>) -> Result<(), Revert> {
        self.only_buffer()?;
        self.views.paused = true;
        let caller = padded(self.views.emergency_admin);
        block.other("EmergencyPause(address,uint256)", &[caller], &[block.time.into()]);
        Ok(())
    }

    pub(super) fn unpause(&mut self, block: &mut Block<'_>) -> Result<(), Revert> {
        self.only_buffer()?;
        self.views.paused = false;
        let caller = padded(self.views.owner);
        block.other("EmergencyUnpause(address,uint256)", &[caller], &[block.time.into()]);
        Ok(())
    }

    pub(super) fn set_window(&mut self, window: u32) -> Result<(), Revert> {
        if !(5..=300).contains(&window) {
            return Err(Revert("Window out of range"));
        }
        self.views.window = window;
        Ok(())
    }

    pub(super) fn set_owner(&mut self, owner: H160) -> Result<(), Revert> {
        if self.variant == Variant::Simple {
            return Err(Revert("Owner is fixed"));
        }
        self.views.owner = owner;
        Ok(())
    }

    pub(super) fn reset_breaker(&mut self) -> Result<(), Revert> {
        self.only_buffer()?;
        self.views.breaker = false;
        self.timeouts = 0;
        Ok(())
    }

    fn only_buffer(&self) -> Result<(), Revert> {
        if self.variant == Variant::Buffer { Ok(()) } else { Err(Revert("No such function")) }
    }

    fn only_live(&self) -> Result<(), Revert> {
        if self.views.paused {
            return Err(Revert("Paused"));
        }
        if self.views.breaker { Err(Revert("Circuit breaker active")) } else { Ok(()) }
    }
}
