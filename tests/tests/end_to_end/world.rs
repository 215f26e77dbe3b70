//! Everything that runs: a chain for each scenario, two exporters, Prometheus and Alertmanager, and stand-ins
//! for Slack and Grafana; and how each trouble is brought about and put right.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tesseract_tests::hostile::{Fault, Proxy};
use tesseract_tests::process::{Exporter, Launch};
use tesseract_tests::sim::{Call, Params, RawLog, Sim, Variant, address, topic};
use tesseract_tests::stack::{Settings, Stack};
use tokio::time::{interval, timeout};
use web3::types::{H256, U256};

use crate::scenarios::{Place, SCENARIOS};

/// Shorter than what is shipped, and only outside of the rule files.
const SHORTER: [(&str, &str); 8] = [
    ("scrape_interval: 15s", "scrape_interval: 2s"),
    ("scrape_timeout: 10s", "scrape_timeout: 2s"),
    ("scrape_interval: 5s", "scrape_interval: 2s"),
    ("scrape_timeout: 5s", "scrape_timeout: 2s"),
    ("evaluation_interval: 15s", "evaluation_interval: 2s"),
    ("group_wait: 10s", "group_wait: 1s"),
    ("group_interval: 1m", "group_interval: 5s"),
    ("group_interval: 30s", "group_interval: 5s"),
];

/// How long a chain has existed when the test begins, seconds.
const AGE: u64 = 270;

pub(crate) struct World {
    chains: BTreeMap<&'static str, Mutex<Sim>>,
    proxies: BTreeMap<&'static str, Proxy>,
    exporter: Exporter,
    second: tokio::sync::Mutex<Exporter>,
    pub(crate) stack: Stack,
}

impl World {
    pub(crate) async fn start(environment: impl Fn(&Exporter) -> Vec<(String, String)>) -> Self {
        let mut chains = BTreeMap::new();
        let mut proxies = BTreeMap::new();
        let mut config = "networks:\n".to_owned();
        let places = SCENARIOS
            .iter()
            .map(|scenario| scenario.place)
            .chain([Place::Network("second", Variant::Simple)]);
        let mut second = config.clone();
        for place in places {
            let Place::Network(name, variant) = place else { continue };
            let chain = chain(name, variant).await;
            let proxy = Proxy::start(&chain.url()).await;
            let contract = chain.chain().contract();
            let owner = chain.chain().views(chain.head()).map(|views| views.owner);
            let text = if name == "second" { &mut second } else { &mut config };
            write!(
                text,
                "  - name: {name}\n    rpc_urls: [\"{}\"]\n    contract: \"{contract:?}\"\n    start_block: 1\n    \
                 confirmations: 1\n    poll_interval: 1s\n    request_timeout: 2s\n",
                proxy.url()
            )
            .unwrap();
            if name == "owner" {
                writeln!(text, "    expected_owner: \"{:?}\"", owner.unwrap()).unwrap();
            }
            chains.insert(name, Mutex::new(chain));
            proxies.insert(name, proxy);
        }
        let exporter = Exporter::start(&config).await;
        let second = Exporter::start(&second).await;
        let settings = Settings {
            exporters: vec![exporter.address(), second.address()],
            environment: environment(&exporter),
            replace: SHORTER.to_vec(),
            ..Settings::default()
        };
        let stack = Stack::start(&settings).await.unwrap();
        Self { chains, proxies, exporter, second: tokio::sync::Mutex::new(second), stack }
    }

    /// Waits until the exporter has caught up with every chain that has a contract.
    pub(crate) async fn synced(&self) {
        let networks = self.chains.keys().filter(|name| !["second", "no-contract"].contains(name));
        let networks: Vec<_> =
            networks.map(|name| format!("tesseract_synced{{network=\"{name}\"}}")).collect();
        let all = |series: &tesseract_tests::series::Series| {
            networks.iter().all(|key| series.get(key) == Some(1.0))
        };
        self.exporter.wait_for("all networks are in sync", Duration::from_secs(30), all).await;
    }

    /// Waits until Prometheus has a first sample of everything: what happens from now on is news to it.
    pub(crate) async fn seen_by_prometheus(&self) {
        let query = "count(tesseract:events:announced{of=\"failed\", reason=\"other\"})";
        let expected = self.chains.len() as f64;
        let seen = async {
            let mut ticks = interval(Duration::from_millis(200));
            while self.stack.query(query).await != Ok(vec![expected]) {
                ticks.tick().await;
            }
        };
        if timeout(Duration::from_secs(60), seen).await.is_err() {
            panic!("{query}: never {expected}\n{}", self.story().await);
        }
    }

    /// Brings about what an alert is for.
    pub(crate) async fn cause(&self, alert: &str) {
        match alert {
            // Scheduled ahead, so resolving it now fails, and it does not expire within this test.
            "TesseractTransactionFailed" => {
                self.buffer("failure", 1, 3600);
                self.call("failure", Call::Resolve(id(1)));
            }
            "TesseractTransactionsExpired" => self.buffer("expiry", 1, 0),
            // More than one: a single loss is none.
            "TesseractHighFailureRate" => (0..3).for_each(|number| self.buffer("failure-rate", number, 0)),
            // No contract is what it is made with.
            "TesseractContractMissing" => {}
            "TesseractContractPaused" => self.call("pause", Call::Pause),
            "TesseractCircuitBreakerActive" => self.call("breaker", Call::TripBreaker),
            "TesseractOwnerUnexpected" => self.call("owner", Call::SetOwner(address("a thief"))),
            "TesseractNodeDisconnected" => self.proxies["node-down"].set(Fault::ResetBefore),
            "TesseractExporterStalled" => self.proxies["no-logs"].set(Fault::LogsRefused),
            "TesseractChainStalled" => self.chain("stalled").halt(),
            "TesseractReorg" => self.chain("reorg").reorg(8),
            "TesseractMissingEvents" => self.call("uncounted", Call::Log(buffered(id(1)))),
            "TesseractExporterDown" => drop(self.second.lock().await.kill().await),
            other => panic!("no way to cause {other}"),
        }
    }

    /// Puts it right again.
    pub(crate) async fn heal(&self, alert: &str) {
        match alert {
            // What has happened has happened.
            "TesseractTransactionFailed" | "TesseractTransactionsExpired" | "TesseractReorg" => {}
            "TesseractHighFailureRate" => {
                for number in 100..140 {
                    self.buffer("failure-rate", number, 0);
                    self.call("failure-rate", Call::Resolve(id(number)));
                }
            }
            "TesseractContractMissing" => drop(self.chain("no-contract").advance(100_000)),
            "TesseractContractPaused" => self.call("pause", Call::Unpause),
            "TesseractCircuitBreakerActive" => self.call("breaker", Call::ResetBreaker),
            "TesseractOwnerUnexpected" => self.call("owner", Call::SetOwner(address("owner"))),
            "TesseractNodeDisconnected" => self.proxies["node-down"].clear(),
            "TesseractExporterStalled" => self.proxies["no-logs"].clear(),
            "TesseractChainStalled" => {
                let mut chain = self.chain("stalled");
                let head = chain.chain().time(chain.head());
                chain.advance(now() - head);
                chain.run(1.0);
            }
            "TesseractMissingEvents" => {
                let chain = self.chain("uncounted");
                chain.reorg(chain.head() - 2);
            }
            "TesseractExporterDown" => {
                let mut second = self.second.lock().await;
                let address = second.address().to_string();
                let config = std::fs::read_to_string(second.dir().join("exporter.yml")).unwrap();
                *second = Launch::config(&config).listen(&address).start().await;
            }
            other => panic!("no way to heal {other}"),
        }
    }

    /// What to look at when something did not come: the alerts, and what everybody logged.
    pub(crate) async fn story(&self) -> String {
        let alerts = self.stack.alerts().await;
        let log = self.exporter.log();
        let log = log[log.len().saturating_sub(40)..].join("\n");
        format!("alerts: {alerts:#?}\n{}\nexporter:\n{log}", self.stack.logs())
    }

    fn buffer(&self, network: &str, number: u64, ahead: u64) {
        let scheduled = {
            let chain = self.chain(network);
            // By the chain's time: every call is a block, so many of them are ahead of the clock.
            let time = chain.chain().time(chain.head());
            // The block of this call, or one that came in between.
            U256::from(time + 2 + ahead)
        };
        self.call(network, Call::Buffer { tx_id: id(number), scheduled, dependency: None });
    }

    fn call(&self, network: &str, call: Call) {
        self.chain(network).call(call).unwrap_or_else(|revert| panic!("{network}: {revert:?}"));
    }

    fn chain(&self, network: &str) -> MutexGuard<'_, Sim> {
        self.chains[network].lock().unwrap()
    }
}

/// A chain without traffic of its own, up to now.
async fn chain(name: &'static str, variant: Variant) -> Sim {
    let number =
        SCENARIOS.iter().position(|scenario| scenario.network() == Some(name)).unwrap_or(SCENARIOS.len());
    let params = Params {
        seed: number as u64,
        chain_id: 1000 + number as u64,
        variant,
        block_time: Duration::from_secs(1),
        genesis_time: now() - AGE,
        deployed_at: if name == "no-contract" { 100_000 } else { 1 },
        buffered_per_hour: 0,
        incidents_per_day: 0,
        ..Params::default()
    };
    let mut chain = Sim::start(params).await.unwrap();
    chain.advance(AGE);
    chain.run(1.0);
    chain
}

/// The log of a transaction that the contract does not count.
fn buffered(tx_id: H256) -> RawLog {
    let signature = "TransactionBuffered(bytes32,address,address,uint256)";
    let topics = vec![topic(signature), tx_id, H256::from(address("origin")), H256::from(address("target"))];
    RawLog { topics, data: H256::from_low_u64_be(now() + 3600).as_bytes().to_vec() }
}

fn id(number: u64) -> H256 {
    H256::from_low_u64_be(number)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
