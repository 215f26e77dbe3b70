//! The coordination window in force at past blocks, which no event tells: read where it matters, and found
//! by bisection where it changed.
//!
//! ```text
//!       before        the range: first ............................ last       head
//! ─────────┼────────────┼───────────────────────────────────────────┼───────────┼──
//! ledger's window       │      pieces: the window from a block on   │ read with │
//! (or read at first)    ├── 30 ──┬───────── 45 ────────────┬── 60 ──┤ the range │
//!                       │     found by halving between ends that differ         │
//!                       │                ✗ a doubt: read at that very block     │
//!  ◄─ no state: the oldest readable value stands ─►|◄─ horizon: state from here on ─►
//! ```
//!
//! `Changes` and `Bisection` are pure: they name the next block to look at and are given what is there.
//! A window that changes and changes back between two reads is not seen.

use std::collections::BTreeMap;

use web3::types::{H256, U256};

use super::failure::CycleError;
use super::source::{Persistence, Source};
use super::verify::{ProvenRange, Reading};
use crate::chain::BlockRef;
use crate::ledger::{Block, Ledger, WindowRead};

/// From which block on an endpoint has state, and the window there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Horizon {
    pub block: u64,
    pub window: Option<U256>,
}

/// A range with the windows in force in it.
#[derive(Debug)]
pub(super) struct Resolved {
    /// The blocks that the ledger must see.
    pub blocks: Vec<Block>,
    /// Windows that were read for transactions buffered before.
    pub buffered_before: Vec<(H256, WindowRead)>,
}

/// Reads the windows of a range that follows on `ledger`, only where they can matter. `all`: every deadline is
/// about to be shown. `horizon` is set where the endpoint turns out not to have the state.
pub(super) async fn resolve(
    source: &Source,
    range: &ProvenRange,
    ledger: &Ledger,
    all: bool,
    horizon: &mut Option<Horizon>,
) -> Result<Resolved, CycleError> {
    let pieces = pieces(source, range, ledger, horizon).await?;
    let blocks = ledger_blocks(source, range, &pieces).await?;
    resolve_doubts(source, range, ledger, blocks, all, horizon).await
}

/// The window from a block on, until the next piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    from: u64,
    window: Option<U256>,
}

/// The pieces of a range, the first of which begins with it.
async fn pieces(
    source: &Source,
    range: &ProvenRange,
    ledger: &Ledger,
    horizon: &mut Option<Horizon>,
) -> Result<Vec<Piece>, CycleError> {
    let (first, last) = (range.first.number, range.last.number);
    let whole = |window| vec![Piece { from: first, window }];
    if ledger.pending() == 0 && range.buffered() == 0 {
        return Ok(whole(match range.window {
            Reading::Known(window) => window,
            Reading::Unavailable => ledger.window(),
        }));
    }
    // The oldest readable value stands for what lies before it.
    let end = match range.window {
        Reading::Known(window) => window,
        Reading::Unavailable => return Ok(whole(oldest_readable(source, last, horizon).await?.window)),
    };
    let before = match ledger.block() {
        Some(_) => ledger.window(),
        None => match source.window_at(first, Persistence::Some).await? {
            Reading::Known(window) => window,
            Reading::Unavailable => oldest_readable(source, first, horizon).await?.window,
        },
    };
    let mut changes = Changes::new((first.saturating_sub(1), before), (last, end));
    while let Some(block) = changes.question() {
        changes.answer(match source.window_at(block, Persistence::Some).await? {
            Reading::Known(window) => Some(window),
            Reading::Unavailable => {
                oldest_readable(source, block, horizon).await?;
                None
            }
        });
    }
    Ok(changes.pieces(first))
}

/// Finds every change between two blocks with known windows, by halving.
#[derive(Debug)]
struct Changes {
    first: (u64, Option<U256>),
    todo: Vec<[(u64, Option<U256>); 2]>,
    found: Vec<Piece>,
}

impl Changes {
    fn new(before: (u64, Option<U256>), end: (u64, Option<U256>)) -> Self {
        Self { first: before, todo: vec![[before, end]], found: Vec::new() }
    }

    /// The block whose window is to be read next.
    fn question(&mut self) -> Option<u64> {
        while let Some([low, high]) = self.todo.last().copied() {
            if low.1 != high.1 && high.0 - low.0 > 1 {
                return Some(middle(low.0, high.0));
            }
            if low.1 != high.1 {
                self.found.push(Piece { from: high.0, window: high.1 });
            }
            self.todo.pop();
        }
        None
    }

    /// Its window; without state the later value stands for it.
    fn answer(&mut self, window: Option<Option<U256>>) {
        let Some([low, high]) = self.todo.pop() else { return };
        let between = (middle(low.0, high.0), window.unwrap_or(high.1));
        self.todo.extend([[between, high], [low, between]]);
    }

    /// The pieces of a range that begins with this block.
    fn pieces(self, first: u64) -> Vec<Piece> {
        let mut pieces = vec![Piece { from: first, window: self.first.1 }];
        for piece in self.found {
            // A change at the first block itself.
            pieces.retain(|earlier| earlier.from < piece.from);
            pieces.push(piece);
        }
        pieces
    }
}

/// Finds the first block from which on something holds, known not to hold at one block and to hold at another.
#[derive(Debug)]
pub(super) struct Bisection {
    /// `None`: it may hold at block 0.
    without: Option<u64>,
    with: u64,
}

impl Bisection {
    pub(super) fn new(without: Option<u64>, with: u64) -> Self {
        Self { without, with }
    }

    /// The block to look at next; `None` when the first one is found.
    pub(super) fn question(&self) -> Option<u64> {
        let lowest = self.without.map_or(0, |block| block + 1);
        (self.with > lowest).then(|| lowest + (self.with - lowest) / 2)
    }

    /// Whether it holds at a block.
    pub(super) fn answer(&mut self, block: u64, holds: bool) {
        if holds {
            self.with = block;
        } else {
            self.without = Some(block);
        }
    }

    /// The first block at which it holds, as far as is known.
    pub(super) fn first(&self) -> u64 {
        self.with
    }
}

/// The oldest block above `block` whose state the endpoint has, and the window there.
///
/// # Errors
/// The state of `block` is there after all, or none at all.
async fn oldest_readable(
    source: &Source,
    block: u64,
    horizon: &mut Option<Horizon>,
) -> Result<Horizon, CycleError> {
    if let Some(known) = horizon.filter(|known| known.block > block) {
        return Ok(known);
    }
    let head = source.head.number;
    let Reading::Known(mut window) = source.window_at(head, Persistence::Some).await? else {
        return Err(CycleError::Inconsistent("no state at the head".to_owned()));
    };
    let mut search = Bisection::new(Some(block), head);
    loop {
        while let Some(asked) = search.question() {
            let reading = source.window_at(asked, Persistence::Some).await?;
            if let Reading::Known(read) = reading {
                window = read;
            }
            search.answer(asked, reading != Reading::Unavailable);
        }
        // One passing error would move the horizon for good.
        let below = search.first().saturating_sub(1);
        match source.window_at(below, Persistence::Proof).await? {
            Reading::Unavailable => break,
            Reading::Known(_) if below <= block => {
                return Err(CycleError::Inconsistent(format!("state of block {block} comes and goes")));
            }
            Reading::Known(read) => {
                window = read;
                search = Bisection::new(Some(block), below);
            }
        }
    }
    Ok(*horizon.insert(Horizon { block: search.first(), window }))
}

/// The blocks that the ledger must see: those with events, the last one before each change of the window,
/// and the last of the range.
async fn ledger_blocks(
    source: &Source,
    range: &ProvenRange,
    pieces: &[Piece],
) -> Result<Vec<Block>, CycleError> {
    let window =
        |number: u64| pieces.iter().rev().find(|piece| piece.from <= number).and_then(|piece| piece.window);
    // Where no state is left, nothing better can be read.
    let is_guess = |number: u64| range.window != Reading::Unavailable && number != range.last.number;
    let block = |number: u64, time: u64, events| {
        (number, Block { number, time, window: window(number), guessed: is_guess(number), events })
    };
    let mut blocks: BTreeMap<u64, Block> = BTreeMap::new();
    blocks.extend([block(range.last.number, range.last.time, Vec::new())]);
    for with_events in &range.blocks {
        let events = with_events.events.clone();
        blocks.extend([block(with_events.number, with_events.time, events)]);
    }
    let changes = pieces.iter().map(|piece| piece.from).filter(|from| *from > range.first.number);
    let unknown: Vec<u64> =
        changes.map(|from| from - 1).filter(|number| !blocks.contains_key(number)).collect();
    for header in source.headers(&unknown).await? {
        let BlockRef { number, time, .. } = header.block;
        blocks.extend([block(number, time, Vec::new())]);
    }
    Ok(blocks.into_values().collect())
}

/// Reads windows, and blocks that were left out, where the ledger would otherwise have to guess.
async fn resolve_doubts(
    source: &Source,
    range: &ProvenRange,
    ledger: &Ledger,
    blocks: Vec<Block>,
    all: bool,
    horizon: &mut Option<Horizon>,
) -> Result<Resolved, CycleError> {
    let doubts = ledger.doubts(&blocks, all);
    // The window at the last block was read with the range; below the range all blocks are settled.
    let inner = range.first.number..range.last.number;
    let doubtful: Vec<u64> = doubts.blocks.into_iter().filter(|number| inner.contains(number)).collect();
    let mut blocks: BTreeMap<u64, Block> = blocks.into_iter().map(|block| (block.number, block)).collect();
    let unseen: Vec<u64> = doubtful.iter().filter(|number| !blocks.contains_key(number)).copied().collect();
    for header in source.headers(&unseen).await? {
        let BlockRef { number, time, .. } = header.block;
        let window = blocks.range(..number).next_back().or(blocks.range(number..).next());
        let window = window.and_then(|(_, block)| block.window);
        blocks.insert(number, Block { number, time, window, guessed: true, events: Vec::new() });
    }
    if range.window != Reading::Unavailable {
        for (number, reading) in doubtful.iter().zip(readings(source, &doubtful, horizon).await?) {
            if let (Some(block), Reading::Known(window)) = (blocks.get_mut(number), reading) {
                (block.window, block.guessed) = (window, false);
            }
        }
    }
    // What was buffered before and is not readable stays as it was guessed: `readings` proved that it is gone.
    let buffered_before = doubts.buffered_before;
    let numbers: Vec<u64> = buffered_before.iter().map(|(_, number)| *number).collect();
    let readings = readings(source, &numbers, horizon).await?;
    let read = buffered_before.into_iter().zip(readings).map(|((id, _), reading)| match reading {
        Reading::Known(window) => (id, WindowRead::Known(window)),
        Reading::Unavailable => (id, WindowRead::NoState),
    });
    Ok(Resolved { blocks: blocks.into_values().collect(), buffered_before: read.collect() })
}

/// The windows at these blocks; that one is not readable is proven.
async fn readings(
    source: &Source,
    blocks: &[u64],
    horizon: &mut Option<Horizon>,
) -> Result<Vec<Reading>, CycleError> {
    let readings = source.windows_at(blocks).await?;
    for (block, reading) in blocks.iter().zip(&readings) {
        if *reading == Reading::Unavailable {
            oldest_readable(source, *block, horizon).await?;
        }
    }
    Ok(readings)
}

fn middle(low: u64, high: u64) -> u64 {
    low + (high - low) / 2
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The window at every block from `at.0` on, as a list of changes.
    fn window(changes: &[(u64, u64)], block: u64) -> Option<U256> {
        changes.iter().rev().find(|(from, _)| *from <= block).map(|(_, window)| (*window).into())
    }

    fn found(truth: &[(u64, u64)], first: u64, last: u64, oldest: u64) -> Vec<(u64, Option<U256>)> {
        let before = first.saturating_sub(1);
        let mut changes = Changes::new((before, window(truth, before)), (last, window(truth, last)));
        while let Some(block) = changes.question() {
            changes.answer((block >= oldest).then(|| window(truth, block)));
        }
        changes.pieces(first).into_iter().map(|piece| (piece.from, piece.window)).collect()
    }

    #[test]
    fn changes_are_found_at_their_very_block() {
        let some = |window: u64| Some(U256::from(window));
        for (truth, pieces) in [
            (&[(0, 30)][..], vec![(10, some(30))]),
            (&[(0, 30), (15, 45)], vec![(10, some(30)), (15, some(45))]),
            (&[(0, 30), (10, 45)], vec![(10, some(45))]),
            (&[(0, 30), (20, 45)], vec![(10, some(30)), (20, some(45))]),
            (&[(0, 30), (12, 45), (17, 60)], vec![(10, some(30)), (12, some(45)), (17, some(60))]),
            (&[(14, 30)], vec![(10, None), (14, some(30))]),
        ] {
            assert_eq!(found(truth, 10, 20, 0), pieces, "{truth:?}");
        }
        // Without state below 18 the later value stands for what lies before.
        assert_eq!(found(&[(0, 30), (15, 45)], 10, 20, 18), [(10, some(45))]);
    }

    proptest! {
        #[test]
        fn one_change_is_found_in_a_logarithm_of_questions(first in 1..1000_u64, size in 0..1000_u64, at in 0..1000_u64) {
            let truth = [(0, 30), (first + at, 45)];
            let last = first + size;
            let mut changes = Changes::new((first - 1, window(&truth, first - 1)), (last, window(&truth, last)));
            let mut questions = 0;
            while let Some(block) = changes.question() {
                prop_assert!((first..last).contains(&block));
                changes.answer(Some(window(&truth, block)));
                questions += 1;
            }
            prop_assert!(questions <= 11);
            let at = |block: u64, pieces: &[Piece]| pieces.iter().rev().find(|p| p.from <= block).unwrap().window;
            let pieces = changes.pieces(first);
            for block in first..=last {
                prop_assert_eq!(at(block, &pieces), window(&truth, block));
            }
        }

        #[test]
        fn a_bisection_finds_the_first_block(first in 0..5000_u64, above in 0..5000_u64) {
            let mut search = Bisection::new(None, first + above);
            let mut questions = 0;
            while let Some(block) = search.question() {
                search.answer(block, block >= first);
                questions += 1;
            }
            prop_assert_eq!(search.first(), first);
            prop_assert!(questions <= 14);
        }
    }
}
