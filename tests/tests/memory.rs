//! One exporter, 256 MiB: two honest networks stay exact and go on, while a third one's node does all that a node can do to
//! fill memory, to keep a core busy, to flood the log, and to be believed.
//!
//! The limit is looked at, not enforced: control groups need root and differ from machine to machine, and a limit on
//! the address space counts what is never used, so what fails the test is the kernel's own peak of resident memory
//! (`VmHWM`). Whoever is within it would not have met an enforced limit. Looks at no time but the patience of each wait.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::time::Duration;

use tesseract_tests::fold::{self, Block};
use tesseract_tests::hostile::{Fault, Proxy};
use tesseract_tests::json_rpc::Client;
use tesseract_tests::process::{Exporter, Launch};
use tesseract_tests::series::Series;
use tesseract_tests::sim::{Call, Params, RawLog, Sim, Variant, address, topic};
use tokio::time::{Instant, timeout};
use web3::types::H160;

/// What compose gives the exporter.
const LIMIT: u64 = 256 << 20;

/// Blocks of an honest chain when it is read first, when it is read last, and that come at a time.
const HISTORY: u64 = 100;
const END: u64 = 400;
const STEP: u64 = 5;

const CONFIRMATIONS: u64 = 2;

/// For whatever is waited for; an endpoint that failed for long is asked again after 20 s.
const WITHIN: Duration = Duration::from_secs(60);
/// A million pending ones are read once more after an attack.
const LONG: Duration = Duration::from_secs(600);

/// A flood of logs that do not decode, in blocks of so many: a quarter of the 353,000 of a real attack.
const BROKEN_LOGS: u64 = 90_000;
/// Pending transactions with frozen deadlines, unless `PENDING` says how many: a tenth of a million, as a debug build
/// syncs them within seconds.
const PENDING: u64 = 100_000;
const PER_BLOCK: u64 = 2_000;

/// A network that deserves to be served well.
struct Honest {
    name: &'static str,
    sim: Sim,
    /// The chain up to where it will end.
    blocks: Vec<Block>,
}

impl Honest {
    async fn start(name: &'static str, seed: u64) -> Self {
        let params = Params { seed, ..Params::default() };
        let ahead = Sim::start(params.clone()).await.unwrap();
        ahead.advance(END);
        let contract = ahead.chain().contract();
        let blocks = fold::read(&Client::new(ahead.url()), contract, 0..=END).await;
        let sim = Sim::start(params).await.unwrap();
        sim.advance(HISTORY);
        Self { name, sim, blocks }
    }

    fn yaml(&self) -> String {
        network(self.name, &self.sim.url(), self.sim.chain().contract())
    }

    fn confirmed(&self) -> u64 {
        self.sim.head() - CONFIRMATIONS
    }

    /// The block up to which a scrape shows the network; panics where what it shows is not the truth there.
    fn checked(&self, scrape: &Series) -> Option<u64> {
        let series = scrape.of(self.name);
        let at = series.get(&named("tesseract_processed_block_number", self.name))? as u64;
        series.get(&named("tesseract_missing_events", self.name))?;
        let truth = fold::truth(&self.blocks, at, self.name);
        let wrong = fold::differences(&truth, &series);
        assert!(wrong.is_empty(), "{} at block {at}: {wrong:#?}", self.name);
        Some(at)
    }
}

struct Rig {
    honest: [Honest; 2],
    hostile: Sim,
    proxy: Proxy,
    exporter: Exporter,
}

impl Rig {
    async fn start() -> Self {
        let honest = [Honest::start("first", 1).await, Honest::start("second", 2).await];
        let hostile = Sim::start(hostile_chain(3)).await.unwrap();
        hostile.advance(HISTORY);
        let proxy = Proxy::start(&hostile.url()).await;
        // Asked for when the deployment is looked for, and never again.
        proxy.set(Fault::TreeCode);
        let exporter = launch(&honest, &proxy).await;
        Self { honest, hostile, proxy, exporter }
    }

    /// New blocks of the honest networks are shown, and every scrape until then is right.
    async fn honest_go_on(&self, what: &str) {
        let started = Instant::now();
        self.honest.iter().for_each(|it| _ = it.sim.advance(STEP));
        assert!(self.honest.iter().all(|it| it.sim.head() <= END), "the chains are read no further");
        let seen = RefCell::new([None; 2]);
        let caught_up = |scrape: &Series| {
            for (honest, seen) in self.honest.iter().zip(seen.borrow_mut().iter_mut()) {
                let at = scrape.get(&named("tesseract_processed_block_number", honest.name));
                if at.is_some() && *seen != at {
                    honest.checked(scrape);
                    *seen = at;
                }
            }
            self.honest.iter().all(|it| honest_reached(it, scrape))
        };
        self.exporter.wait_for(&format!("honest networks go on: {what}"), WITHIN, caught_up).await;
        println!("{what}: honest networks {:.1?} after their blocks", started.elapsed());
    }

    /// The honest networks go on from before a fault until after calls of this method met it twice, and
    /// memory is in bounds.
    async fn attack(&self, fault: Fault, method: &str) {
        let mut counts = self.proxy.watch();
        self.proxy.set(fault);
        for _ in 0..2 {
            // Something to ask for.
            self.hostile.advance(STEP);
            let before = self.proxy.counts().of(method);
            self.honest_go_on(fault.name()).await;
            let met = timeout(WITHIN, counts.wait_for(|now| now.of(method) > before)).await;
            assert!(met.is_ok(), "{fault} is not met");
        }
        self.bounded(fault.name());
        self.proxy.clear();
        self.hostile_recovers(fault.name()).await;
    }

    /// The hostile network is followed again: what comes next is met by an exporter that asks.
    async fn hostile_recovers(&self, what: &str) -> Series {
        let confirmed = (self.hostile.advance(CONFIRMATIONS) - CONFIRMATIONS) as f64;
        let processed = named("tesseract_processed_block_number", HOSTILE);
        let shown = named("tesseract_missing_events", HOSTILE);
        let condition = |now: &Series| now.get(&processed) == Some(confirmed) && now.get(&shown) == Some(0.0);
        self.exporter.wait_for(&format!("it recovers from {what}"), LONG, condition).await
    }

    fn bounded(&self, what: &str) {
        let peak = peak(self.exporter.pid());
        println!("{what}: {} MiB at most so far", peak >> 20);
        assert!(peak < LIMIT, "{what}: {peak} bytes resident at the peak");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_networks_are_served_in_256_mib_beside_a_hostile_node() {
    let mut rig = Rig::start().await;
    rig.honest_go_on("first sync").await;

    for (fault, method) in [
        (Fault::TreeCode, "eth_getCode"),
        (Fault::TreeViews, "eth_call"),
        (Fault::TreeTimes, "eth_getLogs"),
        (Fault::Crumbs, "eth_getBlockByNumber"),
        (Fault::BatchHollow, "eth_getBlockByNumber"),
        (Fault::OwnParent, "eth_getBlockByNumber"),
        (Fault::EndlessInterim, "none"),
    ] {
        rig.attack(fault, method).await;
    }

    let broken = RawLog { topics: vec![topic("TransactionReady(bytes32)")], data: Vec::new() };
    for _ in 0..BROKEN_LOGS / PER_BLOCK {
        rig.hostile.call_all(vec![Call::Log(broken.clone()); PER_BLOCK as usize]).unwrap();
    }
    rig.honest_go_on("logs that do not decode").await;
    let scrape = rig.hostile_recovers("logs that do not decode").await;
    assert_eq!(scrape.get(&named("tesseract_undecodable_logs_total", HOSTILE)), Some(BROKEN_LOGS as f64));
    let told = rig.exporter.log().iter().filter(|line| line.contains("does not decode")).count();
    assert!(told > 0 && (told as u64) < BROKEN_LOGS / 100, "{told} lines for {BROKEN_LOGS} logs");
    rig.bounded("logs that do not decode");

    let scheduled = (rig.hostile.chain().time(rig.hostile.head()) + 80_000).into();
    let pending = std::env::var("PENDING").map_or(PENDING, |pending| pending.parse().unwrap());
    for first in (0..pending).step_by(PER_BLOCK as usize) {
        rig.hostile.call(Call::BufferMany { first, number: PER_BLOCK as u32, scheduled }).unwrap();
    }
    rig.honest_go_on("pending transactions").await;
    let scrape = rig.hostile_recovers("pending transactions").await;
    assert!(scrape.get(&named("tesseract_transactions_pending", HOSTILE)) >= Some(pending as f64));
    rig.bounded("pending transactions");

    rig.exporter.terminate().await;
    rig.exporter = launch(&rig.honest, &rig.proxy).await;
    rig.honest_go_on("another first sync").await;
    rig.hostile_recovers("another first sync").await;
    rig.bounded("another first sync");

    rig.hostile.advance(90);
    rig.hostile_recovers("no attack").await;
    rig.hostile.reorg(80);
    rig.honest_go_on("a deep reorganisation").await;
    rig.hostile_recovers("a deep reorganisation").await;
    rig.bounded("a deep reorganisation");

    // Of the same id, with the same contract, and a thousand blocks ahead.
    let made_up = Sim::start(hostile_chain(4)).await.unwrap();
    made_up.advance(rig.hostile.head() + 1000);
    rig.proxy.rival(&made_up.url());
    rig.attack(Fault::ChainSwap, "eth_getBlockByNumber").await;
    assert!(rig.exporter.terminate().await.success());
}

const HOSTILE: &str = "hostile";

/// Frozen deadlines, far ahead where they are set by hand.
fn hostile_chain(seed: u64) -> Params {
    Params {
        seed,
        variant: Variant::Mixed,
        contract: Some(address("hostile")),
        incidents_per_day: 0,
        ..Params::default()
    }
}

async fn launch(honest: &[Honest; 2], proxy: &Proxy) -> Exporter {
    let networks = honest.iter().map(Honest::yaml);
    let hostile = network(HOSTILE, &proxy.url(), address("hostile"));
    let networks: String = networks.chain([hostile]).collect();
    Launch::config(&format!("networks:\n{networks}")).start().await
}

fn network(name: &str, url: &str, contract: H160) -> String {
    format!(
        "  - name: {name}\n    rpc_urls: [{url:?}]\n    contract: \"{contract:#x}\"\n    \
         confirmations: {CONFIRMATIONS}\n    poll_interval: 200ms\n"
    )
}

fn named(series: &str, network: &str) -> String {
    format!("{series}{{network=\"{network}\"}}")
}

fn honest_reached(honest: &Honest, scrape: &Series) -> bool {
    scrape.get(&named("tesseract_processed_block_number", honest.name)) == Some(honest.confirmed() as f64)
        && scrape.get(&named("tesseract_missing_events", honest.name)).is_some()
}

/// The most resident memory that a process has had, bytes.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}
