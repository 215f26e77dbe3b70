//! What failures that pass cost: first syncs behind an endpoint that fails a quarter of all requests, against
//! the same behind a healthy one, and how often an endpoint that always fails is asked.
//!
//! `cargo run -p tesseract-tests --bin flaky`. All runs go side by side, with the configuration's defaults and
//! a node that is 100 to 150 ms away: without a distance the wait of a single `Retry-After` would be all there is.

use std::time::Duration;

use futures_util::future::join_all;
use tesseract_tests::hostile::{Counts, Fault, Proxy};
use tesseract_tests::process::Exporter;
use tesseract_tests::rig::{Setup, named, processed};
use tesseract_tests::series::Series;
use tesseract_tests::sim::{Params, Sim};
use tokio::time::{Instant, interval, sleep_until};

/// Blocks from the deployment to the newest confirmed one.
const BLOCKS: [u64; 3] = [89, 600, 5000];

const SEEDS: [u64; 5] = [1, 2, 3, 4, 5];

/// The block before the deployment.
const BEFORE: u64 = 9;

const CONFIRMATIONS: u64 = 2;

/// Each answer takes up to half as much again.
const DISTANCE: Duration = Duration::from_millis(100);

/// What the exporter asks for; each answer comes from afar.
const METHODS: [&str; 5] = ["eth_chainId", "eth_getBlockByNumber", "eth_getCode", "eth_call", "eth_getLogs"];

/// A first sync that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long an endpoint that always fails is watched.
const WATCHED: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() {
    let endpoints = || std::iter::once(None).chain(SEEDS.map(Some));
    let syncs = BLOCKS.iter().flat_map(|blocks| endpoints().map(|seed| first_sync(*blocks, seed)));
    let limited = Fault::named("cloudflare-rate").expect("a fault of this name");
    let outages = [Fault::BadGateway, Fault::ResetBefore, limited];
    let (syncs, rates) = tokio::join!(join_all(syncs), join_all(outages.map(rate)));

    println!("{:>6} {:9} {:>16} {:>15} {:>15}", "blocks", "endpoint", "seconds", "calls", "requests");
    for row in syncs.chunks(SEEDS.len() + 1) {
        let healthy = &row[0];
        for sync in row {
            println!("{}", sync.line(healthy));
        }
        // A single one is a matter of chance.
        let seconds = row[1..].iter().map(|sync| sync.time.as_secs_f64()).sum::<f64>() / SEEDS.len() as f64;
        let times = seconds / healthy.time.as_secs_f64();
        println!("{:6} {:9} {seconds:6.1} {:>9}", healthy.blocks, "flaky avg", format!("({times:.1}x)"));
    }
    println!("\nrequests a second over {WATCHED:?} at an endpoint that always fails");
    for (fault, rate) in outages.iter().zip(rates) {
        println!("{fault:20} {rate:.2}");
    }
}

/// What a first sync came to.
struct Sync {
    blocks: u64,
    /// Of the failures; `None` for the healthy endpoint.
    seed: Option<u64>,
    time: Duration,
    counts: Counts,
    /// Where it stood when it was given up.
    given_up_at: Option<u64>,
}

impl Sync {
    fn line(&self, healthy: &Self) -> String {
        let endpoint = self.seed.map_or("healthy".to_owned(), |seed| format!("flaky {seed}"));
        let times = |own: f64, healthy: f64| format!("({:.1}x)", own / healthy);
        let (seconds, calls, http) = (self.time.as_secs_f64(), self.counts.total(), self.counts.http);
        let end = self.given_up_at.map(|block| format!("  given up at block {block}")).unwrap_or_default();
        format!(
            "{:6} {endpoint:9} {seconds:6.1} {:>9} {calls:6} {:>8} {http:6} {:>8}{end}",
            self.blocks,
            times(seconds, healthy.time.as_secs_f64()),
            times(calls as f64, healthy.counts.total() as f64),
            times(http as f64, healthy.counts.http as f64),
        )
    }
}

async fn first_sync(blocks: u64, seed: Option<u64>) -> Sync {
    let (_sim, proxy, setup) = network(blocks).await;
    if let Some(seed) = seed {
        proxy.seed(seed);
        proxy.set(Fault::Flaky);
    }
    let exporter = Exporter::start(&setup.yaml(None)).await;
    let started = Instant::now();
    let mut looks = interval(Duration::from_millis(25));
    loop {
        looks.tick().await;
        let series = exporter.scrape().await;
        let done = is_synced(&series);
        if done || started.elapsed() > PATIENCE {
            let given_up_at = (!done).then(|| processed(&series).unwrap_or(BEFORE));
            return Sync { blocks, seed, time: started.elapsed(), counts: proxy.counts(), given_up_at };
        }
    }
}

fn is_synced(series: &Series) -> bool {
    series.get(&named("tesseract_synced")) == Some(1.0)
}

/// Requests a second at an endpoint with this fault.
async fn rate(fault: Fault) -> f64 {
    let (_sim, proxy, setup) = network(BLOCKS[0]).await;
    proxy.set(fault);
    let _exporter = Exporter::start(&setup.yaml(None)).await;
    sleep_until(Instant::now() + WATCHED).await;
    proxy.counts().http as f64 / WATCHED.as_secs_f64()
}

/// A chain with so many blocks to read, a proxy in front of it, and the configuration's defaults.
async fn network(blocks: u64) -> (Sim, Proxy, Setup) {
    let sim = Sim::start(Params::default()).await.expect("a free port for the chain");
    sim.advance(BEFORE + blocks + CONFIRMATIONS);
    let proxy = Proxy::start(&sim.url()).await;
    for method in METHODS {
        proxy.delay(method, DISTANCE);
    }
    let mut setup = Setup::new(&[&proxy.url()], sim.chain().contract());
    setup.poll = Duration::from_secs(2);
    setup.timeout = Duration::from_secs(10);
    setup.range = 10_000;
    (sim, proxy, setup)
}
