//! Walks a history's logs with the contract's facts in hand, apart from the code that made them.

use std::collections::HashMap;

use tesseract_tests::sim::{Chain, Params, PlacedLog, Variant, Views, topic};
use web3::types::{H256, U256};

#[test]
fn simple() {
    let seen = walk(Variant::Simple);
    seen.expect(&["ready", "Transaction expired", "Dependencies not satisfied", "ready after a failure"]);
}

#[test]
fn buffer() {
    let seen = walk(Variant::Buffer);
    seen.expect(&["ready", "Swap group timeout", "timed out ready", "timed out expired"]);
    seen.expect(&["EmergencyPause", "EmergencyUnpause", "RoleGranted", "RoleRevoked"]);
    seen.expect(&["TransactionRevealed", "TransactionRefunded", "SwapGroupCreated", "SwapGroupCompleted"]);
}

#[test]
fn mixed() {
    let seen = walk(Variant::Mixed);
    seen.expect(&["ready", "Transaction expired", "Dependencies not satisfied or timing invalid"]);
}

struct Tx {
    scheduled: U256,
    frozen_deadline: U256,
    ready: bool,
    failures: u32,
    timed_out: bool,
}

struct Walk {
    variant: Variant,
    txs: HashMap<H256, Tx>,
    kinds: HashMap<String, usize>,
}

fn walk(variant: Variant) -> Walk {
    let mut chain = Chain::new(Params { variant, seed: 3, incidents_per_day: 48, ..Params::default() });
    chain.advance(60_000);
    let mut walk = Walk { variant, txs: HashMap::new(), kinds: HashMap::new() };
    let mut last = 0;
    for log in chain.logs(0..=chain.head()) {
        assert!(log.block >= last, "in order");
        if log.block > last {
            // All logs of the last block are counted, and nothing was buffered since.
            for height in [last, log.block - 1] {
                assert_eq!(chain.transaction_count(height), walk.txs.len() as u64, "at {height}");
            }
        }
        last = log.block;
        walk.log(&chain, &log);
    }
    assert_eq!(chain.transaction_count(chain.head()), walk.txs.len() as u64);
    let share = walk.kinds["ready"] * 100 / walk.txs.len();
    assert!((88..99).contains(&share), "{share} % ready is not believable: {:?}", walk.kinds);
    walk
}

impl Walk {
    fn expect(&self, kinds: &[&str]) {
        for kind in kinds {
            assert!(self.kinds.contains_key(*kind), "no {kind}: {:?}", self.kinds);
        }
    }

    fn saw(&mut self, kind: &str) {
        *self.kinds.entry(kind.to_owned()).or_default() += 1;
    }

    fn log(&mut self, chain: &Chain, log: &PlacedLog) {
        let now = U256::from(chain.time(log.block));
        let (views, before) = (chain.views(log.block).unwrap(), chain.views(log.block - 1));
        let (simple, buffer) = (self.variant == Variant::Simple, self.variant == Variant::Buffer);
        let id = log.raw.topics[1];
        let signature = log.raw.topics[0];
        let is = |simple_form: bool, short: &str, long: &str| {
            topic(if simple_form { short } else { long }) == signature
        };
        // Pause and breaker take effect within a block, so only what holds at both its ends is certain.
        let stops = |views: Views| views.paused || views.breaker;
        let stopped = stops(views) && before.is_some_and(stops);
        if is(
            simple,
            "TransactionBuffered(bytes32,address,address,uint256)",
            "TransactionBuffered(bytes32,address,address,bytes32,uint256)",
        ) {
            assert!(!stopped, "buffered while stopped");
            let scheduled = word(&log.raw.data, log.raw.data.len() / 32 - 1);
            assert!(scheduled >= now);
            assert!(simple || scheduled <= now + 86_400);
            let frozen_deadline = scheduled.saturating_add(views.window.into());
            let tx = Tx { scheduled, frozen_deadline, ready: false, failures: 0, timed_out: false };
            assert!(self.txs.insert(id, tx).is_none(), "buffered twice");
        } else if is(!buffer, "TransactionReady(bytes32)", "TransactionReady(bytes32,uint256)") {
            assert!(!stopped, "ready while stopped");
            assert!(!buffer || word(&log.raw.data, 0) == now, "resolved_at is the block's time");
            let tx = self.txs.get_mut(&id).unwrap();
            assert!(!tx.ready && !tx.timed_out, "ready twice, or after its end");
            assert!(tx.scheduled <= now, "ready before its time");
            // A window that changed in this block may have done so before or after.
            let window = before.map_or(0, |before| before.window).max(views.window);
            let in_force = tx.scheduled.saturating_add(window.into());
            // A window that changed in the block that buffered it likewise: at most 300 s.
            let frozen = tx.frozen_deadline.max(tx.scheduled.saturating_add(20.into()));
            assert!(now <= if simple { in_force } else { frozen.max(in_force) }, "ready too late");
            tx.ready = true;
            let kind = if tx.failures > 0 { "ready after a failure" } else { "ready at once" };
            self.saw(kind);
            self.saw("ready");
        } else if signature == topic("TransactionFailed(bytes32,string)") {
            self.failed(id, now, &text(&log.raw.data, 1), false);
        } else if signature == topic("TransactionFailed(bytes32,string,uint256)") {
            assert_eq!(word(&log.raw.data, 1), now, "failed_at is the block's time");
            self.failed(id, now, &text(&log.raw.data, 2), true);
        } else {
            assert!(buffer, "only B has other events");
            self.saw(other(signature));
        }
    }

    fn failed(&mut self, id: H256, now: U256, reason: &str, long: bool) {
        let tx = self.txs.get_mut(&id).unwrap();
        assert!(!tx.timed_out, "failed after it failed for good");
        let mut kind = "failed";
        match (self.variant, reason, long) {
            (Variant::Simple, "Transaction expired", false)
            | (Variant::Mixed, "Transaction expired", true) => {
                assert!(!tx.ready && now > tx.scheduled + 5, "expired too early");
                tx.failures += 1;
            }
            (Variant::Simple, "Dependencies not satisfied", false)
            | (Variant::Mixed, "Dependencies not satisfied or timing invalid", false) => {
                assert!(!tx.ready);
                tx.failures += 1;
            }
            (Variant::Buffer, "Swap group timeout", true) => {
                tx.timed_out = true;
                kind = match (tx.ready, now > tx.frozen_deadline) {
                    (true, _) => "timed out ready",
                    (false, true) => "timed out expired",
                    (false, false) => "timed out in time",
                };
            }
            form => panic!("never logged: {form:?}"),
        }
        self.saw(kind);
        self.saw(reason);
    }
}

/// Name of an event that only B has.
fn other(signature: H256) -> &'static str {
    let known = [
        ("EmergencyPause", "address,uint256"),
        ("EmergencyUnpause", "address,uint256"),
        ("RoleGranted", "bytes32,address,address"),
        ("RoleRevoked", "bytes32,address,address"),
        ("TransactionRevealed", "bytes32,uint256"),
        ("TransactionRefunded", "bytes32,address,uint256"),
        ("SwapGroupCreated", "bytes32,address,uint256"),
        ("SwapGroupCompleted", "bytes32,uint256"),
    ];
    let found = known.iter().find(|(name, types)| topic(&format!("{name}({types})")) == signature);
    found.map(|(name, _)| *name).unwrap()
}

fn word(data: &[u8], at: usize) -> U256 {
    U256::from_big_endian(&data[at * 32..][..32])
}

fn text(data: &[u8], length_at: usize) -> String {
    let length = word(data, length_at).as_usize();
    String::from_utf8(data[(length_at + 1) * 32..][..length].to_vec()).unwrap()
}
