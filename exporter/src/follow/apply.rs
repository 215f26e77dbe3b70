//! A fetched range into the ledger: linked to what is there, compared with the contract's own count, with
//! the window of every block, and logged event by event.

use std::collections::BTreeMap;

use web3::types::{H256, U256};

use super::Follower;
use super::fetch::{Fetched, RECENT_STATE, Reading, Source};
use super::trouble::Trouble;
use super::window::{self, Piece};
use crate::chain::{BlockRef, Log};
use crate::decode::{self, Event, Logged};
use crate::ledger::{Block, Expired, Ledger, WindowRead};

/// A log with what it says.
struct Decoded {
    block: u64,
    time: u64,
    logged: Logged,
}

impl Follower {
    /// Applies a range; false when the ledger was rewound or begun anew instead.
    pub(super) async fn apply(&mut self, source: &Source, fetched: Fetched) -> Result<bool, Trouble> {
        let first = *fetched.fetch.blocks.start();
        if self.ledger.block().is_none() && self.compared.is_none() {
            self.count_before(source, first).await?;
        }
        if self.ledger.block().is_some_and(|block| block.hash != fetched.first.parent) {
            self.reorganised(source, first - 1).await?;
            return Ok(false);
        }
        let found = self.network.start_block.is_none() && self.first_block == Some(first) && first > 0;
        let whole = self.is_whole(&fetched);
        // A node that misled us about where the history begins does not come to its senses.
        let gap = if whole || !found || self.reread { self.wait_for_logs(source, &fetched)? } else { None };
        if !whole && !self.reread && (found || !self.compared_right_before(first)) {
            tracing::warn!(network = %self.network.name,
                "events and transaction_count() differ: the history is read once more from its beginning");
            self.reread = true;
            self.begin_anew(if found { Some(0) } else { self.first_block });
            return Ok(false);
        }
        let decoded = decode_all(&fetched);
        let pieces = self.pieces(source, &fetched, &decoded).await?;
        let blocks = ledger_blocks(source, &fetched, &decoded, &pieces).await?;
        // Before the first sync nothing is shown, so that most windows need never be read.
        let all = self.snapshot.synced || fetched.fetch.near_head;
        let (blocks, windows) = resolve_doubts(source, &fetched, &self.ledger, blocks, all).await?;
        let expired = self.ledger.apply(&windows, &blocks, fetched.last);
        self.compare(&fetched);
        self.waiting.fill(None);
        // An unkept promise was waited for, and then believed to be none.
        self.blooms_mislead[source.endpoint.place] |= fetched.unkept.is_some();
        if let Some(gap) = gap {
            self.gaps.add(gap);
        }
        for decoded in &decoded {
            self.log(decoded);
        }
        for expired in &expired {
            self.log_expired(expired);
        }
        Ok(true)
    }

    /// The ledger begins with nothing; counters that were exposed hold.
    pub(super) fn begin_anew(&mut self, first_block: Option<u64>) {
        self.ledger = Ledger::default();
        self.compared = None;
        self.gaps.known.clear();
        self.waiting.fill(None);
        self.first_block = first_block;
        self.recomputing = self.snapshot.synced;
    }

    /// A configured start may lie after the deployment: what was counted before it is no loss of ours.
    async fn count_before(&mut self, source: &Source, first: u64) -> Result<(), Trouble> {
        let Some(before) = first.checked_sub(1).filter(|before| *before >= source.oldest_state) else {
            return Ok(());
        };
        if let Reading::Known(count) = source.count_at(before).await? {
            self.compared = Some((before, signed(count.unwrap_or_default())));
        }
        Ok(())
    }

    /// Whether the contract counts as many transactions at the range's end as were seen buffered, but for a
    /// difference that was there before. What cannot be compared counts as whole.
    pub(super) fn is_whole(&self, fetched: &Fetched) -> bool {
        let before = self.compared.map_or(0, |(_, missing)| missing);
        self.missing(fetched).is_none_or(|missing| missing == before)
    }

    /// The counts were compared right before this block, so that only what follows can differ anew.
    fn compared_right_before(&self, first: u64) -> bool {
        self.compared.is_some_and(|(at, _)| at + 1 == first)
    }

    fn missing(&self, fetched: &Fetched) -> Option<i64> {
        let Reading::Known(Some(count)) = fetched.count else { return None };
        let logs = fetched.blocks.iter().flat_map(|block| &block.logs);
        let buffered = logs.filter(|log| matches!(decode::decode(log), Some(Event::Buffered { .. }))).count();
        Some(signed(count) - signed(self.ledger.counts().buffered.into()) - signed(buffered.into()))
    }

    /// After a range was applied, notes how the counts compare.
    fn compare(&mut self, fetched: &Fetched) {
        let Reading::Known(Some(count)) = fetched.count else { return };
        let missing = signed(count) - signed(self.ledger.counts().buffered.into());
        if missing != 0 && self.compared.is_none_or(|(_, before)| before != missing) {
            tracing::error!(network = %self.network.name, block = fetched.last.number, missing,
                "events and transaction_count() differ");
        }
        self.compared = Some((fetched.last.number, missing));
    }

    /// The windows of the range, read only where they can matter.
    async fn pieces(
        &mut self,
        source: &Source,
        fetched: &Fetched,
        decoded: &[Decoded],
    ) -> Result<Vec<Piece>, Trouble> {
        let buffered = |decoded: &Decoded| matches!(decoded.logged.event, Event::Buffered { .. });
        if self.ledger.pending() == 0 && !decoded.iter().any(buffered) {
            let window = match fetched.window {
                Reading::Known(window) => window,
                Reading::Unavailable => self.ledger.window(),
            };
            return Ok(vec![Piece { from: *fetched.fetch.blocks.start(), window }]);
        }
        let before = self.ledger.block().is_some().then(|| self.ledger.window());
        let horizon = &mut self.horizons[source.endpoint.place];
        let had_all = horizon.is_none();
        let pieces = window::pieces(source, fetched, before, horizon).await?;
        if let Some(found) = horizon.filter(|_| had_all) {
            tracing::warn!(network = %self.network.name, block = found.block,
                window = found.window.map(tracing::field::display),
                "the node has no state below this block: the coordination window there stands for what lies before");
        }
        Ok(pieces)
    }

    fn log(&self, decoded: &Decoded) {
        let Decoded { block, logged: Logged { tx_hash, event }, .. } = decoded;
        let (name, tx_id) = match event {
            Event::Buffered { tx_id, .. } => ("TransactionBuffered", Some(tx_id)),
            Event::Ready { tx_id } => ("TransactionReady", Some(tx_id)),
            Event::Failed { tx_id, .. } => ("TransactionFailed", Some(tx_id)),
            Event::Other { place, tx_id } => (decode::OTHER_EVENTS[*place], tx_id.as_ref()),
            Event::Undecodable { name } => {
                tracing::warn!(network = %self.network.name, event = name, block, tx_hash = ?tx_hash,
                    "log of a known event does not decode");
                return;
            }
        };
        let (origin, target) = match event {
            Event::Buffered { origin, target, .. } => (Some(origin), Some(target)),
            _ => (None, None),
        };
        let reason = match event {
            Event::Failed { reason, .. } => Some(reason.as_str()),
            _ => None,
        };
        macro_rules! event {
            ($level:ident) => {
                tracing::$level!(network = %self.network.name, event = name,
                    tx_id = tx_id.map(tracing::field::debug), block, tx_hash = ?tx_hash,
                    origin = origin.map(tracing::field::debug), target = target.map(tracing::field::debug),
                    reason, "contract event")
            };
        }
        if self.snapshot.synced {
            event!(info);
        } else {
            event!(debug);
        }
    }

    /// The only trace of most losses, as if the contract had logged it.
    fn log_expired(&self, expired: &Expired) {
        let Expired { tx_id, tx_hash, deadline, block } = expired;
        macro_rules! event {
            ($level:ident) => {
                tracing::$level!(network = %self.network.name, event = "TransactionExpired", tx_id = ?tx_id,
                    block, tx_hash = ?tx_hash, deadline, "deadline passed")
            };
        }
        if self.snapshot.synced {
            event!(info);
        } else {
            event!(debug);
        }
    }
}

fn decode_all(fetched: &Fetched) -> Vec<Decoded> {
    let decode = |(block, time, log): (u64, u64, &Log)| {
        let event = decode::decode(log)?;
        Some(Decoded { block, time, logged: Logged { tx_hash: log.transaction_hash, event } })
    };
    let logs = fetched.blocks.iter().flat_map(|b| b.logs.iter().map(|log| (b.number, b.time, log)));
    logs.filter_map(decode).collect()
}

/// The blocks that the ledger must see: those with events, the last one before each change of the window,
/// and the last of the range.
async fn ledger_blocks(
    source: &Source,
    fetched: &Fetched,
    decoded: &[Decoded],
    pieces: &[Piece],
) -> Result<Vec<Block>, Trouble> {
    let first = *fetched.fetch.blocks.start();
    let window =
        |number: u64| pieces.iter().rev().find(|piece| piece.from <= number).and_then(|piece| piece.window);
    // Where no state is left, nothing better can be read.
    let is_guess = |number: u64| fetched.window != Reading::Unavailable && number != fetched.last.number;
    let empty = |number: u64, time: u64| Block {
        number,
        time,
        window: window(number),
        guessed: is_guess(number),
        events: Vec::new(),
    };
    let mut blocks: BTreeMap<u64, Block> = BTreeMap::new();
    blocks.insert(fetched.last.number, empty(fetched.last.number, fetched.last.time));
    for decoded in decoded {
        let block = blocks.entry(decoded.block).or_insert_with(|| empty(decoded.block, decoded.time));
        block.events.push(decoded.logged.clone());
    }
    let last_before = pieces.iter().map(|piece| piece.from).filter(|from| *from > first).map(|from| from - 1);
    let unknown: Vec<u64> = last_before.filter(|number| !blocks.contains_key(number)).collect();
    for header in source.headers(&unknown).await? {
        let BlockRef { number, time, .. } = header.block;
        blocks.insert(number, empty(number, time));
    }
    Ok(blocks.into_values().collect())
}

/// Reads windows, and blocks that were left out, where the ledger would otherwise have to guess.
async fn resolve_doubts(
    source: &Source,
    fetched: &Fetched,
    ledger: &Ledger,
    blocks: Vec<Block>,
    all: bool,
) -> Result<(Vec<Block>, Vec<(H256, WindowRead)>), Trouble> {
    let doubts = ledger.doubts(&blocks, all);
    // The window at the last block was read with the range; below the range all blocks are settled.
    let inner = *fetched.fetch.blocks.start()..*fetched.fetch.blocks.end();
    let doubtful: Vec<u64> = doubts.blocks.into_iter().filter(|number| inner.contains(number)).collect();
    let mut blocks: BTreeMap<u64, Block> = blocks.into_iter().map(|block| (block.number, block)).collect();
    let unseen: Vec<u64> = doubtful.iter().filter(|number| !blocks.contains_key(number)).copied().collect();
    for header in source.headers(&unseen).await? {
        let BlockRef { number, time, .. } = header.block;
        let window = blocks.range(..number).next_back().or(blocks.range(number..).next());
        let window = window.and_then(|(_, block)| block.window);
        blocks.insert(number, Block { number, time, window, guessed: true, events: Vec::new() });
    }
    if fetched.window != Reading::Unavailable {
        for (number, reading) in doubtful.iter().zip(source.windows_at(&doubtful).await?) {
            if let (Some(block), Reading::Known(window)) = (blocks.get_mut(number), reading) {
                (block.window, block.guessed) = (window, false);
            }
        }
    }
    let (readable, gone): (Vec<_>, Vec<_>) =
        doubts.buffered_before.into_iter().partition(|(_, number)| *number >= source.oldest_state);
    let numbers: Vec<u64> = readable.iter().map(|(_, number)| *number).collect();
    let readings = readable.iter().zip(source.windows_at(&numbers).await?);
    let read = readings.filter_map(|((id, number), reading)| match reading {
        Reading::Known(window) => Some((*id, WindowRead::Known(window))),
        // Close to the head it is a replica that lags, and is asked again.
        Reading::Unavailable if number + RECENT_STATE > source.head.number => None,
        Reading::Unavailable => Some((*id, WindowRead::NoState)),
    });
    let gone = gone.into_iter().map(|(id, _)| (id, WindowRead::NoState));
    Ok((blocks.into_values().collect(), read.chain(gone).collect()))
}

fn signed(number: U256) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
