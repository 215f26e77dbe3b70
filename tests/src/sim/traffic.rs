//! Who uses the contract: users that buffer, resolvers that are mostly on time, an owner with bad days.
//!
//! Everything comes out of the generator that the chain hands in, so a block's traffic is a function of
//! seed, fork and height. Nothing here bends the contract's rules: a call that reverts leaves no trace.

use std::collections::BTreeMap;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use web3::signing::keccak256;
use web3::types::{H256, U256};

use super::contract::{Block, Contract, DEFAULT_WINDOW};
use super::event::{self, NONE, ROLLUP_COUNT, Reason, Variant};
use super::{Params, Regular};

/// What people mean to do later, by chain time.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic {
    queue: BTreeMap<(u64, u64), Task>,
    /// Keeps tasks of the same second in order.
    sequence: u64,
}

#[derive(Clone, Debug)]
enum Task {
    Resolve { tx: u32, tries: u8 },
    Sweep { group: u32, members: Vec<u32> },
    Reveal(u32),
    Refund(u32),
    Unpause,
    ResetBreaker,
    RestoreWindow,
}

/// After this many attempts a resolver gives up.
const MAX_TRIES: u8 = 12;

impl Traffic {
    /// One block: first what was planned for its time, then what is new.
    pub(super) fn block(
        &mut self,
        contract: &mut Contract,
        block: &mut Block<'_>,
        rng: &mut ChaCha8Rng,
        params: &Params,
    ) {
        if let Some(regular) = params.regular {
            return regularly(regular, contract, block, rng, params);
        }
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > block.time {
                break;
            }
            let task = entry.remove();
            self.run(task, contract, block, rng);
        }
        let block_ms = params.block_time.as_millis() as u64;
        for _ in 0..arrivals(params.buffered_per_hour * block_ms, rng) {
            self.arrival(contract, block, rng, params);
        }
        if rng.random_range(0..86_400_000) < params.incidents_per_day * block_ms {
            self.incident(contract, block, rng, params);
        }
        if contract.views.breaker && rng.random_range(0..600_000) < block_ms {
            self.plan(block.time, Task::ResetBreaker);
        }
    }

    fn plan(&mut self, at: u64, task: Task) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), task);
    }

    fn run(&mut self, task: Task, contract: &mut Contract, block: &mut Block<'_>, rng: &mut ChaCha8Rng) {
        match task {
            Task::Resolve { tx, tries } => {
                let retry = match contract.resolve(tx, block) {
                    Ok(None) => {
                        if contract.variant == Variant::Buffer && rng.random_ratio(1, 5) {
                            self.plan(block.time + rng.random_range(1..60), Task::Reveal(tx));
                        }
                        None
                    }
                    // Once in a while somebody tries an expired one again; with a raised window it works.
                    Ok(Some(Reason::Expired)) => rng.random_ratio(3, 10).then(|| rng.random_range(20..200)),
                    Ok(Some(_)) => Some(rng.random_range(5..15)),
                    // Resolvers of B simulate their call first, and stop when it is too late.
                    Err(revert) => (revert.0 != "Transaction expired").then(|| rng.random_range(3..12)),
                };
                if let Some(after) = retry.filter(|_| tries < MAX_TRIES) {
                    self.plan(block.time + after, Task::Resolve { tx, tries: tries + 1 });
                }
            }
            // A group that completed is no longer there to be swept.
            Task::Sweep { group, members } => {
                if contract.sweep(group, block).is_ok() {
                    for tx in members {
                        if rng.random_ratio(1, 2) {
                            self.plan(block.time + rng.random_range(10..300), Task::Refund(tx));
                        }
                    }
                }
            }
            Task::Reveal(tx) => ignore(contract.reveal(tx, block)),
            Task::Refund(tx) => ignore(contract.refund(tx, rng.random_range(1..1_000_000), block)),
            Task::Unpause => ignore(contract.unpause(block)),
            Task::ResetBreaker => ignore(contract.reset_breaker()),
            Task::RestoreWindow => ignore(contract.set_window(DEFAULT_WINDOW)),
        }
    }

    fn arrival(
        &mut self,
        contract: &mut Contract,
        block: &mut Block<'_>,
        rng: &mut ChaCha8Rng,
        params: &Params,
    ) {
        if contract.variant == Variant::Buffer && rng.random_ratio(1, 20) {
            return self.group(contract, block, rng, params);
        }
        let scheduled = match rng.random_range(0..1000) {
            0..150 => block.time,
            150..750 => block.time + 300,
            750..997 => block.time + rng.random_range(30..3600),
            // Parked for ever where the contract lets it be, else for a day.
            _ => {
                let never = if contract.variant == Variant::Simple {
                    U256::MAX
                } else {
                    (block.time + 86_400).into()
                };
                let id = next_id(block, rng, params);
                return ignore(contract.buffer(id, never, NONE, route(rng), NONE, block).map(drop));
            }
        };
        let dependency = if rng.random_ratio(1, 4) { recent(block, rng) } else { NONE };
        // Nobody schedules a transaction before the one that it depends on.
        let scheduled = block
            .txs
            .get(dependency as usize)
            .map_or(scheduled, |other| scheduled.max(other.scheduled.low_u64()));
        let id = next_id(block, rng, params);
        if let Ok(tx) = contract.buffer(id, scheduled.into(), dependency, route(rng), NONE, block) {
            // One in two hundred is forgotten, and expires without a trace.
            if !rng.random_ratio(1, 200) {
                let at = first_try(scheduled, contract.variant, rng);
                self.plan(at, Task::Resolve { tx, tries: 0 });
            }
        }
    }

    /// A swap group: two to four transactions for the same time, all or none.
    fn group(
        &mut self,
        contract: &mut Contract,
        block: &mut Block<'_>,
        rng: &mut ChaCha8Rng,
        params: &Params,
    ) {
        let ahead = if rng.random_ratio(1, 3) { 0 } else { rng.random_range(60..600) };
        let timeout = ahead + rng.random_range(60..180);
        let group_id = H256(rng.random());
        let Ok(group) = contract.create_group(group_id, timeout, block) else { return };
        let abandoned = rng.random_ratio(1, 12);
        let mut members = Vec::new();
        for member in 0..rng.random_range(2..5) {
            let id = next_id(block, rng, params);
            let scheduled = block.time + ahead;
            if let Ok(tx) = contract.buffer(id, scheduled.into(), NONE, route(rng), group, block) {
                members.push(tx);
                if member > 0 || !abandoned {
                    let at = first_try(scheduled, contract.variant, rng);
                    self.plan(at, Task::Resolve { tx, tries: 0 });
                }
            }
        }
        let at = block.time + timeout + rng.random_range(1..30);
        self.plan(at, Task::Sweep { group, members });
    }

    /// What goes wrong now and then, or is changed by hand.
    fn incident(
        &mut self,
        contract: &mut Contract,
        block: &mut Block<'_>,
        rng: &mut ChaCha8Rng,
        params: &Params,
    ) {
        let kind = rng.random_range(0..10);
        if kind < 5 && contract.pause(block).is_ok() {
            if rng.random_ratio(1, 4) {
                ignore(contract.pause(block));
            }
            self.plan(block.time + rng.random_range(45..400), Task::Unpause);
        } else if kind < 8 && !params.steady_window {
            ignore(contract.set_window([20, 60, 120, 300][rng.random_range(0..4)]));
            self.plan(block.time + rng.random_range(600..5400), Task::RestoreWindow);
        } else if kind == 8 && contract.variant == Variant::Buffer {
            let operator = event::address(&format!("operator {}", rng.random_range(0..4)));
            contract.role(["RoleGranted", "RoleRevoked"][rng.random_range(0..2)], operator, block);
        } else {
            let owner = event::address(&format!("owner {}", rng.random_range(0..100)));
            ignore(contract.set_owner(owner));
        }
    }
}

/// How far ahead what is never resolved is scheduled, seconds.
const FAR: u64 = 1_000_000_000;

/// One block of regular traffic: what was buffered some such blocks before is made ready, and new ones come.
fn regularly(
    Regular { every, buffered, resolved_after }: Regular,
    contract: &mut Contract,
    block: &mut Block<'_>,
    rng: &mut ChaCha8Rng,
    params: &Params,
) {
    if !u64::from(block.number).is_multiple_of(every) {
        return;
    }
    let scheduled = block.time + if resolved_after.is_some() { 0 } else { FAR };
    for _ in 0..buffered {
        let id = next_id(block, rng, params);
        ignore(contract.buffer(id, scheduled.into(), NONE, route(rng), NONE, block).map(drop));
    }
    let newest = block.txs.len() as u64;
    // None while there are not so many yet.
    let last = resolved_after.and_then(|blocks| newest.checked_sub(blocks * buffered));
    for tx in last.map_or(0..0, |last| last.saturating_sub(buffered)..last) {
        ignore(contract.resolve(tx as u32, block).map(drop));
    }
}

/// The id of the next transaction. Half of them do not depend on the fork: as in a real reorganisation, the
/// other branch has them too, in other blocks and with other fates.
fn next_id(block: &Block<'_>, rng: &ChaCha8Rng, params: &Params) -> H256 {
    let number = block.txs.len() as u64;
    let salt = if number.is_multiple_of(2) { 0 } else { rng.get_stream() };
    let words = [params.seed, params.chain_id, number, salt];
    H256(keccak256(&words.map(u64::to_be_bytes).concat()))
}

/// A call of somebody who does not care whether it reverts: a revert leaves no trace on the chain.
fn ignore(_: Result<(), super::Revert>) {}

fn route(rng: &mut ChaCha8Rng) -> (u8, u8) {
    let origin = rng.random_range(0..ROLLUP_COUNT);
    (origin, (origin + rng.random_range(1..ROLLUP_COUNT)) % ROLLUP_COUNT)
}

/// One of the last 32 transactions that is not parked for ever.
fn recent(block: &Block<'_>, rng: &mut ChaCha8Rng) -> u32 {
    let count = block.txs.len() as u32;
    if count == 0 {
        return NONE;
    }
    let picked = rng.random_range(count.saturating_sub(32)..count);
    let latest = U256::from(block.time + 7200);
    if block.txs[picked as usize].scheduled > latest { NONE } else { picked }
}

/// When somebody first tries to resolve: mostly within seconds, sometimes too late, in S sometimes too early.
fn first_try(scheduled: u64, variant: Variant, rng: &mut ChaCha8Rng) -> u64 {
    match rng.random_range(0..100) {
        0..3 if variant != Variant::Buffer => scheduled - 5,
        0..87 => scheduled + rng.random_range(1..8),
        87..99 => scheduled + rng.random_range(8..22),
        _ => scheduled + rng.random_range(22..90),
    }
}

/// How many transactions arrive in a block, from their number per hour times the block's milliseconds.
/// One block in ten is a busy one. Integers only, so that every machine agrees.
fn arrivals(rate: u64, rng: &mut ChaCha8Rng) -> u64 {
    const HOUR_MS: u64 = 3_600_000;
    // On average 0.1 * 4 + 0.9 * 2/3 = 1.
    let rate = if rng.random_ratio(1, 10) { rate * 4 } else { rate * 2 / 3 };
    rate / HOUR_MS + u64::from(rng.random_range(0..HOUR_MS) < rate % HOUR_MS)
}
