//! Networks in every state, with transactions that a real ledger counted, and with hostile words in them.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tesseract_exporter::chain::BlockRef;
use tesseract_exporter::decode::{Event, Logged, Reason};
use tesseract_exporter::ledger::{Block, Ledger};
use tesseract_exporter::native::Native;
use tesseract_exporter::progress::Progress;
use tesseract_exporter::rpc::EndpointStats;
use tesseract_exporter::snapshot::{Confirmed, Gauges, Head, Snapshot};
use tesseract_exporter::views::Views;
use web3::types::{H160, H256};

/// It expired on the network that is ill.
pub(crate) const EXPIRED: &str = "0x0000000000000000000000000000000000000000000000000000000000000002";
/// It waits there.
pub(crate) const PENDING: &str = "0x0000000000000000000000000000000000000000000000000000000000000007";

const HOSTILE: &str = "</td><script>alert(1)</script> \"><img src=x onerror=alert(2)> & 'quoted' {{x}} a-word-that-is-far-too-long-for-any-column";

/// In the order of the configuration, with how fast they catch up.
pub(crate) fn networks() -> Vec<(Snapshot, Option<Progress>)> {
    let fast = Progress { done: 3_750_000, per_second: 8_412.5, seconds_left: Some(149) };
    vec![(well(), None), (ill(), None), (syncing(), Some(fast)), (unreachable(), None)]
}

fn well() -> Snapshot {
    let mut ledger = Ledger::default();
    let now = now();
    let blocks = (0..40_u64).map(|n| {
        let mut events = vec![buffered(1000 + n, now - 100 + 2 * n)];
        if n >= 10 {
            events.push(logged(Event::Ready { tx_id: id(990 + n) }));
        }
        block(21_004_400 + n, now - 100 + 2 * n, events)
    });
    apply(&mut ledger, &blocks.collect::<Vec<_>>());
    Snapshot {
        views: Views {
            exists: Some(true),
            owner: Some(H160::repeat_byte(0x5a)),
            coordination_window: Some(60.into()),
            transaction_count: Some(40.into()),
            variant: Some("simple"),
            ..Views::default()
        },
        owner_expected: Some(true),
        endpoints: vec![endpoint(true, None), endpoint(true, Some("its head trails the other endpoints"))],
        ..followed("base", 8453, &ledger)
    }
}

fn ill() -> Snapshot {
    let mut ledger = Ledger::default();
    let start = now() - 4000;
    let failed =
        |n, reason: &str, class| logged(Event::Failed { tx_id: id(n), reason: reason.to_owned(), class });
    let events = [
        vec![buffered(1, start), buffered(2, start), buffered(3, start)],
        vec![
            logged(Event::Ready { tx_id: id(1) }),
            failed(3, "Swap group timeout", Reason::SwapGroupTimeout),
        ],
        vec![buffered(4, start + 3000), failed(4, HOSTILE, Reason::Other)],
        vec![failed(4, "Dependencies not satisfied", Reason::Dependency)],
        vec![buffered(6, start + 3900), buffered(7, start + 3990), buffered(8, u64::MAX - 60)],
    ];
    let blocks = (0..).zip(events).map(|(n, events)| block(5_200_000 + n, start + n * 950, events));
    apply(&mut ledger, &blocks.collect::<Vec<_>>());
    let mut of = followed("sepolia", 11_155_111, &ledger);
    of.problem =
        Some("endpoint 1 (https://rpc.example): no answer within 10 s <b>bold</b> & \"quoted\"".to_owned());
    of.last_success = Some(SystemTime::now() - Duration::from_secs(185));
    of.views = Views {
        exists: Some(true),
        owner: Some(H160::repeat_byte(0xee)),
        paused: Some(true),
        circuit_breaker: Some(false),
        transaction_count: Some(9.into()),
        coordination_window: Some(30.into()),
        variant: Some("buffer"),
    };
    of.owner_expected = Some(false);
    of.reorgs = 2;
    of.explorer = Some("https://sepolia.etherscan.io".to_owned());
    of.endpoints = vec![
        endpoint(false, Some("no answer within 10 s <b>bold</b>")),
        endpoint(false, Some("is on another chain")),
        EndpointStats::default(),
    ];
    of.confirmed.as_mut().unwrap().gauges.as_mut().unwrap().missing_events = Some(1);
    of
}

fn syncing() -> Snapshot {
    let mut of = followed("arbitrum", 42_161, &Ledger::default());
    of.synced = false;
    of.confirmed = None;
    of.unproven = None;
    of.last_success = None;
    of.sync_remaining = Some(1_250_000);
    of.processed = Some(Head { number: 23_750_000, timestamp: now() - 9_000_000 });
    of.views = Views { exists: Some(true), variant: Some("simple"), ..Views::default() };
    of.endpoints = vec![endpoint(true, None)];
    of
}

fn unreachable() -> Snapshot {
    let mut of = followed("amoy", 80_002, &Ledger::default());
    (of.connected, of.head, of.chain_id, of.views) = (false, None, None, Views::default());
    of.confirmed.as_mut().unwrap().gauges = None;
    of.problem = Some("endpoint 1 (http://127.0.0.1:9): connection refused".to_owned());
    of.last_success = Some(SystemTime::now() - Duration::from_secs(7500));
    of.endpoints = vec![endpoint(false, Some("connection refused"))];
    of
}

fn followed(network: &str, chain_id: u64, ledger: &Ledger) -> Snapshot {
    let at =
        ledger.block().unwrap_or(BlockRef { number: 25_000_000, time: now() - 30, ..BlockRef::default() });
    let gauges = Gauges {
        pending: ledger.pending(),
        oldest_pending: ledger.oldest_pending(),
        next_deadline: ledger.next_deadline(),
        newest: ledger.newest().clone(),
        lives: ledger.lives(),
        missing_events: Some(0),
    };
    Snapshot {
        network: network.to_owned(),
        contract: H160::repeat_byte(0xc0),
        explorer: Some("https://explorer.example".to_owned()),
        chain_id: Some(chain_id),
        connected: true,
        head: Some(Head { number: at.number + 2, timestamp: at.time + 4 }),
        views: Views::default(),
        owner_expected: None,
        synced: true,
        processed: Some(Head { number: at.number, timestamp: at.time }),
        unproven: Some(97),
        sync_remaining: Some(0),
        last_success: Some(SystemTime::now()),
        stale_after: Duration::from_secs(60),
        problem: None,
        confirmed: Some(Confirmed { counts: Arc::new(ledger.counts().clone()), gauges: Some(gauges) }),
        reorgs: 0,
        panics: 0,
        serving: None,
        endpoints: Vec::new(),
    }
}

fn endpoint(healthy: bool, problem: Option<&str>) -> EndpointStats {
    let mut durations = [0; 11];
    durations[4] = 1200;
    EndpointStats {
        healthy: Some(healthy),
        problem: problem.map(str::to_owned),
        requests: vec![("eth_getLogs", [1180, 12, 3, 0, 4, 1, 0])],
        durations,
        native_durations: Native::default(),
        duration_sum: 87.3,
    }
}

fn apply(ledger: &mut Ledger, blocks: &[Block]) {
    let last = blocks.last().unwrap();
    let end = BlockRef { number: last.number, time: last.time, ..BlockRef::default() };
    ledger.apply(&[], blocks, end);
}

fn block(number: u64, time: u64, events: Vec<Logged>) -> Block {
    Block { number, time, window: Some(60.into()), guessed: false, events }
}

fn buffered(n: u64, scheduled: u64) -> Logged {
    let (origin, target) = (H160::repeat_byte(1), H160::repeat_byte(2));
    logged(Event::Buffered { tx_id: id(n), origin, target, scheduled: scheduled.into(), frozen: false })
}

fn logged(event: Event) -> Logged {
    Logged { tx_hash: H256::repeat_byte(0xab), event }
}

fn id(n: u64) -> H256 {
    H256::from_low_u64_be(n)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
