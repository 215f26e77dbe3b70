//! The naive fold: every confirmed series, from all that the chain holds, in the plainest way.
//!
//! The independent oracle of the tests. It keeps no state from one block to the next: for each transaction
//! it walks the history again from the log that buffered it. It shares no code with the exporter, and
//! assumes a node that keeps the state of every block.

mod decode;
mod history;
mod native;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use web3::types::{H256, U256};

use crate::series::Series;
use decode::{Event, decode};

pub use decode::Log;
pub use history::{Block, read};
pub use native::{Native, quantile};

/// Upper bounds of the histograms, seconds.
const BOUNDS: [u64; 17] = [1, 2, 5, 10, 15, 30, 45, 60, 90, 120, 180, 300, 600, 1800, 3600, 21600, 86400];

/// Every confirmed family, without the suffixes of the histograms.
pub const CONFIRMED: [&str; 16] = [
    "tesseract_transactions_buffered_total",
    "tesseract_transactions_ready_total",
    "tesseract_transactions_failed_total",
    "tesseract_transactions_settled_total",
    "tesseract_contract_events_total",
    "tesseract_resolution_time_seconds",
    "tesseract_resolution_delay_seconds",
    "tesseract_transactions_pending",
    "tesseract_oldest_pending_timestamp_seconds",
    "tesseract_next_deadline_timestamp_seconds",
    "tesseract_failed_transaction_timestamp_seconds",
    "tesseract_expired_transaction_timestamp_seconds",
    "tesseract_undecodable_logs_total",
    "tesseract_missing_events",
    "tesseract_processed_block_number",
    "tesseract_processed_block_timestamp_seconds",
];

/// What an exporter must show.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Truth {
    /// Series, written as in [`Series`], to value.
    pub series: BTreeMap<String, f64>,
    /// Exemplars by the series of their bucket.
    pub exemplars: BTreeMap<String, Exemplar>,
    /// What each histogram observed, seconds, in log order.
    pub observations: BTreeMap<String, Vec<u64>>,
}

/// The transaction that stands for a bucket.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// `0x` and 64 hex digits.
    pub tx_id: String,
    /// What was observed, seconds.
    pub value: f64,
    /// Block time of the ready, seconds since the Unix epoch.
    pub timestamp: f64,
}

/// One decoded log and where it stands.
struct Entry {
    block: usize,
    tx_hash: H256,
    event: Event,
}

/// How a transaction ended.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Pending {
        deadline: U256,
    },
    Ready,
    /// When it expired, and the deadline to be shown.
    Expired {
        at: u64,
        deadline: u64,
    },
    SwapGroupTimeout,
}

/// How many failures and expiries are named.
const NEWEST: usize = 16;

/// Every confirmed series of `network` with the chain, `blocks` from genesis, processed up to block `at`.
pub fn truth(blocks: &[Block], at: u64, network: &str) -> Truth {
    let at = usize::try_from(at).expect("a block number");
    let blocks = &blocks[..=at];
    let entries: Vec<Entry> = (0..)
        .zip(blocks)
        .flat_map(|(block, b)| {
            b.logs
                .iter()
                .filter_map(move |log| Some(Entry { block, tx_hash: log.tx_hash, event: decode(log)? }))
        })
        .collect();
    let count = |wanted: &dyn Fn(&Event) -> bool| entries.iter().filter(|e| wanted(&e.event)).count() as f64;
    let mut out = Writer { network, truth: Truth::default() };

    let buffered = count(&|event| matches!(event, Event::Buffered { .. }));
    out.set("transactions_buffered_total", &[], buffered);
    out.set("transactions_ready_total", &[], count(&|event| matches!(event, Event::Ready { .. })));
    out.set("undecodable_logs_total", &[], count(&|event| *event == Event::Undecodable));
    for reason in ["expired", "dependency", "swap_group_timeout", "other"] {
        let failed = |event: &Event| matches!(event, Event::Failed { reason: r, .. } if class(r) == reason);
        out.set("transactions_failed_total", &[("reason", reason)], count(&failed));
    }
    for name in decode::other_events() {
        out.set("contract_events_total", &[("event", name)], count(&|event| *event == Event::Other(name)));
    }

    let fates: Vec<(usize, Fate)> = (0..entries.len())
        .filter(|&i| matches!(entries[i].event, Event::Buffered { .. }))
        .map(|i| (entries[i].block, fate(blocks, &entries, i)))
        .collect();
    type IsOutcome = fn(&Fate) -> bool;
    let outcomes: [(&str, IsOutcome); 3] = [
        ("ready", |fate| *fate == Fate::Ready),
        ("expired", |fate| matches!(fate, Fate::Expired { .. })),
        ("swap_group_timeout", |fate| *fate == Fate::SwapGroupTimeout),
    ];
    for (outcome, is) in outcomes {
        let settled = fates.iter().filter(|(_, fate)| is(fate)).count();
        out.set("transactions_settled_total", &[("outcome", outcome)], settled as f64);
    }
    let pending: Vec<(u64, U256)> = fates
        .iter()
        .filter_map(|(block, fate)| match fate {
            Fate::Pending { deadline } => Some((blocks[*block].time, *deadline)),
            _ => None,
        })
        .collect();
    out.set("transactions_pending", &[], pending.len() as f64);
    if let Some(oldest) = pending.iter().map(|(time, _)| time).min() {
        out.set("oldest_pending_timestamp_seconds", &[], *oldest as f64);
    }
    if let Some(next) = pending.iter().map(|(_, deadline)| deadline).min() {
        out.set("next_deadline_timestamp_seconds", &[], float(*next));
    }

    histograms(blocks, &entries, &mut out);
    newest_failures(blocks, &entries, &mut out);
    newest_expiries(blocks, &entries, &mut out);
    if let Some(transactions) = blocks[at].count {
        out.set("missing_events", &[], float(transactions) - buffered);
    }
    out.set("processed_block_number", &[], at as f64);
    out.set("processed_block_timestamp_seconds", &[], blocks[at].time as f64);
    out.truth
}

/// Where a scrape differs from the truth in one network's confirmed series, a line each.
pub fn differences(truth: &Truth, scrape: &Series) -> Vec<String> {
    let confirmed = |key: &&String| CONFIRMED.iter().any(|family| key.starts_with(family));
    let shown: BTreeMap<String, f64> = scrape
        .0
        .keys()
        .filter(confirmed)
        .map(|key| (canonical(key), scrape.get(key).expect("a key of the scrape")))
        .collect();
    let wrong =
        truth.series.iter().filter(|(key, value)| shown.get(*key) != Some(*value)).map(|(key, value)| {
            match shown.get(key) {
                Some(got) => format!("{key}: expected {value}, got {got}"),
                None => format!("{key}: expected {value}, got nothing"),
            }
        });
    let extra = shown.iter().filter(|(key, _)| !truth.series.contains_key(*key));
    wrong.chain(extra.map(|(key, got)| format!("{key}: expected nothing, got {got}"))).collect()
}

/// A series with its `le` written as OpenMetrics does, `1.0` for `1`.
pub fn canonical(key: &str) -> String {
    let Some((before, rest)) = key.split_once("le=\"") else { return key.to_owned() };
    let Some((bound, after)) = rest.split_once('"') else { return key.to_owned() };
    match bound.parse::<f64>() {
        Ok(bound) if bound.is_finite() => format!("{before}le=\"{bound:?}\"{after}"),
        _ => key.to_owned(),
    }
}

/// Follows one transaction from the log that buffered it: whatever comes first decides.
fn fate(blocks: &[Block], entries: &[Entry], buffered: usize) -> Fate {
    let Entry { block: first, event: Event::Buffered { tx_id, scheduled, frozen }, .. } = &entries[buffered]
    else {
        unreachable!("only called for the log that buffers");
    };
    let deadline = |block: usize| {
        let window = blocks[if *frozen { *first } else { block }].window;
        scheduled.saturating_add(window.expect("a contract that logs has a window"))
    };
    for (block, Block { time, .. }) in blocks.iter().enumerate().skip(*first) {
        let past = U256::from(*time) > deadline(block);
        // A deadline that lies before what was looked at last passed when a shorter window made it so, and
        // one that had passed when it was set passed then. A log proves that one passed, whatever it is.
        let expired = || {
            let passed = if past { deadline(block).as_u64() } else { *time };
            let looked_at =
                if block == *first || *frozen { blocks[*first].time } else { blocks[block - 1].time };
            Fate::Expired { at: passed.max(looked_at), deadline: passed }
        };
        let later = &entries[buffered + 1..];
        let of_block = &later[later.partition_point(|entry| entry.block < block)..];
        for entry in of_block.iter().take_while(|entry| entry.block == block) {
            match &entry.event {
                Event::Ready { tx_id: id } if id == tx_id => return Fate::Ready,
                Event::Failed { tx_id: id, reason } if id == tx_id => match class(reason) {
                    "expired" => return expired(),
                    "swap_group_timeout" if past => return expired(),
                    "swap_group_timeout" => return Fate::SwapGroupTimeout,
                    _ => {}
                },
                _ => {}
            }
        }
        if past {
            return expired();
        }
    }
    Fate::Pending { deadline: deadline(blocks.len() - 1) }
}

/// The first ready of every transaction whose buffering was seen before it.
fn histograms(blocks: &[Block], entries: &[Entry], out: &mut Writer) {
    let mut observations = Vec::new();
    for (i, ready) in entries.iter().enumerate() {
        let Event::Ready { tx_id } = &ready.event else { continue };
        let before = &entries[..i];
        let seen = before.iter().find_map(|entry| match &entry.event {
            Event::Buffered { tx_id: id, scheduled, .. } if id == tx_id => Some((entry.block, *scheduled)),
            _ => None,
        });
        let again = before.iter().any(|entry| entry.event == ready.event);
        if let (Some((block, scheduled)), false) = (seen, again) {
            let (from, to) = (blocks[block].time, blocks[ready.block].time);
            let due = scheduled.max(U256::from(from));
            let delay = U256::from(to).saturating_sub(due).as_u64();
            observations.push((*tx_id, to, to.saturating_sub(from), delay));
        }
    }
    let times = observations.iter().map(|(id, at, time, _)| (*id, *at, *time));
    out.histogram("resolution_time_seconds", &times.collect::<Vec<_>>());
    let delays = observations.iter().map(|(id, at, _, delay)| (*id, *at, *delay));
    out.histogram("resolution_delay_seconds", &delays.collect::<Vec<_>>());
}

/// The last of the log, where equal ones of one Ethereum transaction are one.
fn newest_failures(blocks: &[Block], entries: &[Entry], out: &mut Writer) {
    let mut named = Vec::new();
    for Entry { block, tx_hash, event } in entries.iter().rev() {
        let Event::Failed { tx_id, reason } = event else { continue };
        let labels = (*tx_id, *tx_hash, class(reason), sanitised(reason));
        if named.len() < NEWEST && !named.contains(&labels) {
            let (id, hash) = (format!("{tx_id:#x}"), format!("{tx_hash:#x}"));
            let shown = [
                ("class", labels.2),
                ("reason", labels.3.as_str()),
                ("tx_hash", hash.as_str()),
                ("tx_id", id.as_str()),
            ];
            out.set("failed_transaction_timestamp_seconds", &shown, blocks[*block].time as f64);
            named.push(labels);
        }
    }
}

/// Those that expired last; of several at one moment, those with the highest ids.
fn newest_expiries(blocks: &[Block], entries: &[Entry], out: &mut Writer) {
    let mut all: Vec<(u64, H256, H256, u64)> = Vec::new();
    for (place, Entry { tx_hash, event, .. }) in entries.iter().enumerate() {
        let Event::Buffered { tx_id, .. } = event else { continue };
        if let Fate::Expired { at, deadline } = fate(blocks, entries, place) {
            all.push((at, *tx_id, *tx_hash, deadline));
        }
    }
    all.sort_unstable();
    for (_, tx_id, tx_hash, deadline) in all.iter().rev().take(NEWEST) {
        let (id, hash) = (format!("{tx_id:#x}"), format!("{tx_hash:#x}"));
        let labels = [("tx_hash", hash.as_str()), ("tx_id", id.as_str())];
        out.set("expired_transaction_timestamp_seconds", &labels, *deadline as f64);
    }
}

fn class(reason: &[u8]) -> &'static str {
    match reason {
        b"Transaction expired" => "expired",
        b"Dependencies not satisfied" | b"Dependencies not satisfied or timing invalid" => "dependency",
        b"Swap group timeout" => "swap_group_timeout",
        _ => "other",
    }
}

fn sanitised(reason: &[u8]) -> String {
    let text = String::from_utf8_lossy(reason);
    let shown = text.chars().filter(|c| !is_invisible(*c));
    shown.map(|c| if c.is_control() { ' ' } else { c }).take(128).collect()
}

/// What reorders text, breaks a line of it or does not show; those that reasons in tests may hold.
fn is_invisible(c: char) -> bool {
    let [c, soft_hyphen, byte_order_mark] = [c, '\u{ad}', '\u{feff}'].map(u32::from);
    let blocks = [0x200b..=0x200f, 0x2028..=0x202e, 0x2060..=0x206f, 0xfe00..=0xfe0f, 0xe0000..=0xe0fff];
    c == soft_hyphen || c == byte_order_mark || c == 0x61c || blocks.iter().any(|block| block.contains(&c))
}

/// The nearest float, by way of the decimal digits.
fn float(number: U256) -> f64 {
    number.to_string().parse().expect("digits are a number")
}

struct Writer<'a> {
    network: &'a str,
    truth: Truth,
}

impl Writer<'_> {
    fn set(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        let key = self.key(name, labels);
        assert!(self.truth.series.insert(key, value).is_none(), "{name} {labels:?} twice");
    }

    /// Observations in log order: transaction, block time, seconds.
    fn histogram(&mut self, name: &str, observations: &[(H256, u64, u64)]) {
        self.set(&format!("{name}_count"), &[], observations.len() as f64);
        self.set(&format!("{name}_sum"), &[], observations.iter().map(|(.., value)| *value as f64).sum());
        let values = observations.iter().map(|(.., value)| *value).collect();
        self.truth.observations.insert(self.key(name, &[]), values);
        let bounds = BOUNDS.iter().map(|bound| (format!("{bound}.0"), *bound));
        let mut below = None;
        for (le, bound) in bounds.chain([("+Inf".to_owned(), u64::MAX)]) {
            let bucket = format!("{name}_bucket");
            let within = observations.iter().filter(|(.., value)| *value <= bound).count();
            self.set(&bucket, &[("le", &le)], within as f64);
            let own = |value: u64| value <= bound && below.is_none_or(|below| value > below);
            if let Some((tx_id, time, value)) = observations.iter().rev().find(|(.., value)| own(*value)) {
                let exemplar =
                    Exemplar { tx_id: format!("{tx_id:#x}"), value: *value as f64, timestamp: *time as f64 };
                self.truth.exemplars.insert(self.key(&bucket, &[("le", &le)]), exemplar);
            }
            below = Some(bound);
        }
    }

    fn key(&self, name: &str, labels: &[(&str, &str)]) -> String {
        let escape = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"");
        let all = labels.iter().copied().chain([("network", self.network)]);
        let mut labels: Vec<_> = all.map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        labels.sort();
        format!("tesseract_{name}{{{}}}", labels.join(","))
    }
}
