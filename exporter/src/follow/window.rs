//! The coordination window in force at past blocks, which no event tells: read where it matters, and
//! found by bisection where it changed.
//!
//! A window that changes and changes back between two reads is not seen.

use std::ops::RangeInclusive;

use web3::types::U256;

use super::fetch::{Fetched, Reading, Source};
use super::trouble::Trouble;

/// From which block on the node still has state, and the window there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Horizon {
    pub block: u64,
    pub window: Option<U256>,
}

/// The window from a block on, until the next piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub from: u64,
    pub window: Option<U256>,
}

/// The pieces of a fetched range, the first of which begins with it.
///
/// `before` is the window at the block below the range, where that is known. `horizon` is updated when
/// the state turns out to be gone.
pub(super) async fn pieces(
    source: &Source,
    fetched: &Fetched,
    before: Option<Option<U256>>,
    horizon: &mut Option<Horizon>,
) -> Result<Vec<Piece>, Trouble> {
    let (first, last) = (*fetched.fetch.blocks.start(), *fetched.fetch.blocks.end());
    let end = match fetched.window {
        Reading::Known(window) => window,
        Reading::Unavailable => {
            // The oldest readable value stands for what lies before it.
            let window = oldest_readable(source, last, horizon).await?.window;
            return Ok(vec![Piece { from: first, window }]);
        }
    };
    let before = match before {
        Some(window) => window,
        None => match source.window_at(first).await? {
            Reading::Known(window) => window,
            Reading::Unavailable => oldest_readable(source, first, horizon).await?.window,
        },
    };
    let mut pieces = vec![Piece { from: first, window: before }];
    changes(source, first.saturating_sub(1)..=last, (before, end), &mut pieces).await?;
    pieces.dedup_by(|later, earlier| {
        let same = later.from == earlier.from;
        if same {
            earlier.window = later.window;
        }
        same
    });
    Ok(pieces)
}

/// Appends every change between two blocks with these windows, found by halving.
async fn changes(
    source: &Source,
    blocks: RangeInclusive<u64>,
    windows: (Option<U256>, Option<U256>),
    pieces: &mut Vec<Piece>,
) -> Result<(), Trouble> {
    let mut todo = vec![(*blocks.start(), *blocks.end(), windows.0, windows.1)];
    while let Some((low, high, before, after)) = todo.pop() {
        if before == after {
            continue;
        }
        if high - low <= 1 {
            pieces.push(Piece { from: high, window: after });
            continue;
        }
        let middle = low + (high - low) / 2;
        // Without state in the middle the later value stands for it.
        let between = match source.window_at(middle).await? {
            Reading::Known(window) => window,
            Reading::Unavailable => after,
        };
        todo.push((middle, high, between, after));
        todo.push((low, middle, before, between));
    }
    Ok(())
}

/// The oldest block above `block` whose state the node has, and the window there.
async fn oldest_readable(
    source: &Source,
    block: u64,
    horizon: &mut Option<Horizon>,
) -> Result<Horizon, Trouble> {
    if let Some(known) = horizon.filter(|known| known.block > block) {
        return Ok(known);
    }
    let Reading::Known(mut window) = source.window_at(source.head.number).await? else {
        return Err(Trouble::Incomplete("no state at the head".to_owned()));
    };
    let (mut without, mut with) = (block, source.head.number);
    while with - without > 1 {
        let middle = without + (with - without) / 2;
        match source.window_at(middle).await? {
            Reading::Known(read) => (with, window) = (middle, read),
            Reading::Unavailable => without = middle,
        }
    }
    let found = Horizon { block: with, window };
    *horizon = Some(found);
    Ok(found)
}
