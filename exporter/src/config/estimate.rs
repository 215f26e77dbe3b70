//! What following a network costs: calls a day to its endpoints, estimated from its configuration alone.
//!
//! Pure. Follows the rules of `follow`, for an endpoint that answers batches and has Multicall3; a first sync, failures and
//! second endpoints come on top. PERFORMANCE.md has what was measured.

use std::fmt::Write;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Config, Confirmations, Network};
use crate::plan::NEAR_HEAD;

const DAY: f64 = 86_400.0;

/// The longest pause between two polls where blocks are rare, seconds; see `follow::pace`.
const LONGEST_PAUSE: f64 = 10.0;

/// What was counted is asked for again once for so many seconds of the chain; see `proof`.
const LOOK_AGAIN: f64 = 120.0;

/// Blocks of these chains are shown.
const BLOCK_TIMES: [(&str, Duration); 3] = [
    ("12 s", Duration::from_secs(12)),
    ("2 s", Duration::from_secs(2)),
    ("0.25 s", Duration::from_millis(250)),
];

impl Config {
    /// A comment in YAML: about how many calls a day each network costs, at some usual times between blocks.
    pub fn estimate(&self) -> String {
        let mut text = String::from(
            "# Estimated RPC calls a day once synced, from no events at all to events in every block:\n",
        );
        for network in &self.networks {
            let costs = BLOCK_TIMES.iter().map(|(name, time)| {
                let calls = calls_a_day(network, *time);
                format!("{} to {} with {name} blocks", rounded(*calls.start()), rounded(*calls.end()))
            });
            // Writing to a string does not fail.
            let _ = writeln!(text, "#   {}: {}", network.name, costs.collect::<Vec<_>>().join(", "));
        }
        text
    }
}

/// Calls a day at blocks that come each `block_time`: without any event, and with some in every block.
fn calls_a_day(network: &Network, block_time: Duration) -> RangeInclusive<u64> {
    let (poll, block) = (network.poll_interval.as_secs_f64(), block_time.as_secs_f64());
    let heads = DAY / poll.max(block);
    let polls = if block > poll {
        let first = (block - poll).clamp(poll, LONGEST_PAUSE.max(poll));
        1.0 + ((block - first) / poll).ceil()
    } else {
        1.0
    };
    let blocks = (poll / block).max(1.0);
    let is_near = match network.confirmations {
        Confirmations::Blocks(blocks) => blocks < NEAR_HEAD,
        Confirmations::Safe | Confirmations::Finalized => false,
    };
    // Views; then near the head the headers that are not known yet, and count and window where the end was no head; far
    // below it two headers, count, window, and the logs in three answers.
    let (least, most) = match (is_near, blocks > 1.0) {
        (true, false) => (1.0, 2.0),
        (true, true) => {
            let headers = (blocks - 1.0).min(NEAR_HEAD as f64);
            (1.0 + headers + 2.0, 1.0 + headers + 5.0)
        }
        (false, _) => (1.0 + 2.0 + 2.0 + 2.0, 1.0 + 2.0 + 2.0 + 3.0 + blocks),
    };
    let again = DAY / LOOK_AGAIN;
    let calls = |each: f64| (heads * (polls + each) + again) as u64;
    calls(least)..=calls(most)
}

/// To two digits, as an estimate is no better.
fn rounded(calls: u64) -> u64 {
    let unit = 10_u64.pow(calls.max(1).ilog10().saturating_sub(1));
    (calls + unit / 2) / unit * unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Variables};

    fn network(poll: &str, confirmations: &str) -> Config {
        let variables = [
            ("TESSERACT_RPC_URL", "http://127.0.0.1:1"),
            ("TESSERACT_CONTRACT", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"),
            ("TESSERACT_POLL_INTERVAL", poll),
            ("TESSERACT_CONFIRMATIONS", confirmations),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Config::find(None, &Variables::from_iter(variables)).unwrap()
    }

    #[test]
    fn calls_follow_from_polls_and_blocks() {
        let seconds = Duration::from_secs;
        for (poll, confirmations, block, least, most) in [
            // Two polls and the views of each block; the logs.
            ("2s", "2", seconds(12), 7_200 * 3 + 720, 7_200 * 4 + 720),
            ("2s", "2", seconds(2), 43_200 * 2 + 720, 43_200 * 3 + 720),
            // Thirty blocks a poll, of which 29 were no heads.
            ("60s", "2", seconds(2), 1_440 * 33 + 720, 1_440 * 36 + 720),
            ("60s", "100", seconds(2), 1_440 * 8 + 720, 1_440 * 39 + 720),
            // Polls go on while a block is late in coming.
            ("2s", "2", seconds(60), 1_440 * 27 + 720, 1_440 * 28 + 720),
        ] {
            let config = network(poll, confirmations);
            let calls = calls_a_day(&config.networks[0], block);
            assert_eq!(calls, least..=most, "{poll}, {confirmations}, {block:?}");
        }
    }

    #[test]
    fn an_estimate_is_a_comment_with_a_line_for_each_network() {
        let text = network("2s", "2").estimate();
        assert!(text.lines().all(|line| line.starts_with('#')), "{text}");
        assert!(text.contains("#   default: 22000 to 30000 with 12 s blocks, "), "{text}");
        assert_eq!([0, 7, 99, 1234, 29_520].map(rounded), [0, 7, 99, 1200, 30_000]);
    }
}
