//! A fixed, rich set of snapshots: both variants well, one network catching up, one out of reach.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tesseract_exporter::decode::Reason;
use tesseract_exporter::ledger::{Counts, Exemplar, Expiry, Failure, Histogram, Newest};
use tesseract_exporter::metrics::{Build, Exposition, ProcessStats, Reload};
use tesseract_exporter::native::Native;
use tesseract_exporter::rpc::EndpointStats;
use tesseract_exporter::snapshot::{Confirmed, Gauges, Head, Snapshot};
use tesseract_exporter::views::Views;
use web3::types::{H160, H256, U256};

pub(crate) const BUILD: Build = Build { version: "1.2.3", revision: "0123456789abcdef", rustc: "1.95.0" };

/// The networks, in the order of the configuration, which is not the alphabet's.
pub(crate) fn networks() -> Vec<Arc<Snapshot>> {
    vec![Arc::new(buffer()), Arc::new(simple()), Arc::new(catching_up()), Arc::new(out_of_reach())]
}

/// Everything, with what changes from run to run pinned.
pub(crate) fn exposition() -> Exposition {
    Exposition {
        networks: networks(),
        build: BUILD,
        reload: Reload { successful: true, last_success: at(1_700_000_000_250) },
        process: Some(ProcessStats {
            cpu_seconds: 12.34,
            open_fds: 21,
            max_fds: 1_048_576,
            virtual_memory: 287_309_824,
            virtual_memory_max: u64::MAX,
            resident_memory: 14_680_064,
            start_time: 1_699_990_000.5,
            threads: 5,
        }),
    }
}

/// Variant B, well, with something in every series.
fn buffer() -> Snapshot {
    let requests =
        vec![("eth_blockNumber", [4211, 3, 2, 1, 0, 0, 0]), ("eth_getLogs", [1987, 1, 0, 4, 9, 12, 1])];
    let mut durations = [0; 11];
    durations[1] = 6000;
    durations[3] = 198;
    durations[10] = 3;
    let mut native_durations = Native::default();
    for (milliseconds, n) in [(7, 6000), (32, 100), (33, 98), (20_000, 3)] {
        (0..n).for_each(|_| native_durations.observe_duration(Duration::from_millis(milliseconds)));
    }
    let counts = Counts {
        buffered: 1204,
        ready: 1150,
        failed: [0, 0, 9, 1],
        settled: [1148, 37, 9],
        events: [2, 1, 7, 1, 55, 3, 12, 11],
        undecodable: 1,
        resolution_time: histogram(1, &[(3, 2), (290, 20), (301, 1120), (90_000, 8)]),
        resolution_delay: histogram(2, &[(0, 900), (1, 200), (17, 50)]),
    };
    Snapshot {
        views: Views {
            exists: Some(true),
            owner: Some(H160::repeat_byte(0x0a)),
            paused: Some(false),
            circuit_breaker: Some(true),
            transaction_count: Some(1210.into()),
            coordination_window: Some(30.into()),
            variant: Some("buffer"),
        },
        owner_expected: Some(true),
        confirmed: confirmed(
            counts,
            Some(Gauges {
                pending: 10,
                oldest_pending: Some(1_699_999_700),
                next_deadline: Some(1_700_000_030.into()),
                newest: Arc::new(Newest {
                    failures: vec![
                        failure(0xf9, Reason::SwapGroupTimeout, "Swap group timeout", 1_699_999_700),
                        failure(
                            0xfa,
                            Reason::Other,
                            "a \"quote\", a \\ and a \\n, a line\nfeed, a tab\t, ünïcödé 🎉, {le=\"1\"} # <!channel>",
                            1_699_999_988,
                        ),
                    ],
                    expiries: vec![expiry(0xe1, 1_699_999_600), expiry(0xe2, 1_699_999_980)],
                }),
                missing_events: Some(-2),
                ..Gauges::default()
            }),
        ),
        reorgs: 3,
        panics: 1,
        serving: Some(0),
        explorer: Some("https://sepolia.etherscan.io".to_owned()),
        endpoints: vec![
            EndpointStats {
                healthy: Some(true),
                problem: None,
                requests,
                durations,
                native_durations,
                duration_sum: 61.75,
            },
            EndpointStats::default(),
        ],
        ..well("sepolia", 11_155_111)
    }
}

/// Variant S, well, with numbers as large as the contract lets them be, and nothing failed yet.
fn simple() -> Snapshot {
    let counts = Counts { buffered: 2, settled: [0, 1, 0], ..Counts::default() };
    Snapshot {
        views: Views {
            exists: Some(true),
            owner: Some(H160::repeat_byte(0x0b)),
            transaction_count: Some(U256::MAX),
            coordination_window: Some(U256::from(u64::MAX)),
            variant: Some("simple"),
            ..Views::default()
        },
        owner_expected: Some(false),
        confirmed: confirmed(
            counts,
            Some(Gauges {
                pending: 1,
                oldest_pending: Some(1_699_999_000),
                next_deadline: Some(U256::MAX),
                newest: Arc::default(),
                missing_events: Some(0),
                ..Gauges::default()
            }),
        ),
        ..well("base", 8453)
    }
}

/// Before the end of its first sync: nothing confirmed.
fn catching_up() -> Snapshot {
    Snapshot {
        synced: false,
        unproven: None,
        sync_remaining: Some(1_250_000),
        views: Views { exists: Some(true), variant: Some("simple"), ..Views::default() },
        ..well("arbitrum", 42_161)
    }
}

/// Out of reach after its first sync, with a deep reorganisation being recomputed: counters alone.
fn out_of_reach() -> Snapshot {
    Snapshot {
        connected: false,
        explorer: None,
        chain_id: None,
        head: None,
        last_success: Some(at(1_699_990_000_000)),
        problem: Some("no endpoint answered".into()),
        confirmed: confirmed(Counts { buffered: 5, ready: 5, settled: [5, 0, 0], ..Counts::default() }, None),
        ..well("amoy", 80_002)
    }
}

fn well(network: &str, chain_id: u64) -> Snapshot {
    Snapshot {
        network: network.into(),
        contract: H160::repeat_byte(0xc0),
        explorer: None,
        chain_id: Some(chain_id),
        connected: true,
        head: Some(Head { number: 5_200_002, timestamp: 1_700_000_012 }),
        views: Views::default(),
        owner_expected: None,
        synced: true,
        processed: Some(Head { number: 5_200_000, timestamp: 1_699_999_988 }),
        unproven: Some(97),
        sync_remaining: Some(0),
        last_success: Some(at(1_700_000_013_125)),
        stale_after: Duration::from_secs(30),
        problem: None,
        confirmed: None,
        reorgs: 0,
        panics: 0,
        serving: None,
        endpoints: vec![EndpointStats::default()],
    }
}

fn failure(id: u8, class: Reason, reason: &str, timestamp: u64) -> Failure {
    let (tx_id, tx_hash) = (H256::repeat_byte(id), H256::repeat_byte(id ^ 0x50));
    Failure { tx_id, tx_hash, class, reason: reason.into(), timestamp }
}

fn expiry(id: u8, deadline: u64) -> Expiry {
    let (tx_id, tx_hash) = (H256::repeat_byte(id), H256::repeat_byte(id ^ 0x50));
    Expiry { tx_id, tx_hash, deadline, at: deadline }
}

fn confirmed(counts: Counts, gauges: Option<Gauges>) -> Option<Confirmed> {
    Some(Confirmed { counts: Arc::new(counts), gauges })
}

/// `n` observations of each value; the exemplars' ids tell histogram and bucket.
fn histogram(id: u8, observations: &[(u64, u64)]) -> Histogram {
    let mut histogram = Histogram::default();
    for &(value, n) in observations {
        let bounds = tesseract_exporter::ledger::BUCKETS;
        let bucket = bounds.iter().position(|&bound| value <= bound).unwrap_or(bounds.len());
        let mut tx_id = H256::repeat_byte(id);
        tx_id.0[31] = u8::try_from(bucket).unwrap();
        for _ in 0..n {
            histogram.observe(Exemplar { tx_id, value, timestamp: 1_699_999_900 + value % 100 });
        }
    }
    histogram
}

fn at(milliseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(milliseconds)
}
