//! One life: an exporter and its hostile nodes, from the plan to the verdict.

use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, interval, timeout};

use super::Verdict;
use super::draw::{Deed, Plan};
use crate::fold::{self, Truth};
use crate::hostile::{Fault, Proxy};
use crate::process::Exporter;
use crate::rig::{NETWORK, Oracle, Setup, fallen, flags, reached, watch};
use crate::series::Series;
use crate::sim::{Params, Sim};

/// Where all is well the newest block must be reached within this.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is wrong although the newest block is reached may become right within this.
const GRACE: Duration = Duration::from_secs(3);

/// So many blocks more, and what was wrong near the head is old.
const QUIET: u64 = 150;

/// Requests that nobody makes are not waited for any longer.
const WAIT: Duration = Duration::from_millis(400);

/// What counts logs, and nothing that follows from them.
const EVENTS: [&str; 5] = [
    "tesseract_transactions_buffered_total",
    "tesseract_transactions_ready_total",
    "tesseract_transactions_failed_total",
    "tesseract_contract_events_total",
    "tesseract_undecodable_logs_total",
];

/// Real caps are divided by this: the chain is that much shorter than a real one.
const SCALE: u64 = 500;

/// Lives it, and returns what the last process logged as well.
pub(super) async fn live(plan: Plan) -> (Verdict, Vec<String>) {
    let mut life = Life::start(&plan).await;
    for deeds in &plan.phases {
        let verdict = match life.phase(deeds).await {
            Ok(()) => life.quiet().await.err(),
            Err(verdict) => Some(verdict),
        };
        if let Some(verdict) = verdict {
            return (verdict, life.exporter.log());
        }
    }
    (Verdict::Exact, life.exporter.log())
}

struct Life {
    sim: Sim,
    /// A chain that has nothing to do with it, kept alive.
    _stranger: Sim,
    endpoints: Vec<Proxy>,
    setup: Setup,
    state: TempDir,
    exporter: Exporter,
    /// The last scrape of the process that runs.
    last: Series,
    /// Something processed was reorganised, or was said to be uncertain: counters may hold above the truth.
    may_hold: bool,
}

impl Life {
    async fn start(plan: &Plan) -> Self {
        let sim = Sim::start(plan.params.clone()).await.expect("a simulated chain");
        sim.advance(plan.history);
        let contract = Some(sim.chain().contract());
        let stranger = Params { chain_id: 7, genesis_time: 1_600_000_000, contract, ..plan.params.clone() };
        let stranger = Sim::start(stranger).await.expect("another simulated chain");
        stranger.advance(plan.history);
        let mut endpoints = Vec::new();
        for number in 0..plan.endpoints {
            let proxy = Proxy::start(&sim.url()).await;
            proxy.scale(SCALE);
            proxy.seed_by_content(plan.seed.wrapping_mul(8) + number as u64);
            proxy.rival(&stranger.url());
            for method in ["eth_getLogs", "eth_getBlockByNumber"] {
                proxy.delay(method, plan.distance);
            }
            endpoints.push(proxy);
        }
        let urls: Vec<String> = endpoints.iter().map(Proxy::url).collect();
        let setup = Setup {
            urls,
            confirmations: plan.confirmations,
            range: plan.range,
            poll: plan.poll,
            start_block: plan.start_block,
            timeout: Duration::from_millis(500),
            ..Setup::new(&[], sim.chain().contract())
        };
        // What is drawn first must meet the first request.
        for deed in plan.phases.iter().flatten().take(plan.endpoints) {
            spoil(&endpoints, deed);
        }
        let state = TempDir::with_prefix("simulation-").expect("a temporary directory");
        let exporter = Exporter::start(&setup.yaml(Some(state.path()))).await;
        let last = Series::default();
        Self { sim, _stranger: stranger, endpoints, setup, state, exporter, last, may_hold: false }
    }

    /// What goes wrong, in order.
    async fn phase(&mut self, deeds: &[Deed]) -> Result<(), Verdict> {
        for deed in deeds {
            match deed {
                Deed::Spoil { .. } => spoil(&self.endpoints, deed),
                Deed::Grow(blocks) => {
                    self.sim.advance(*blocks);
                }
                Deed::Reorganise { depth, grows } => {
                    self.sim.reorg(*depth);
                    self.sim.advance(u64::from(*grows));
                    self.may_hold |= *depth > self.setup.confirmations;
                }
                Deed::Kill { with_state } => {
                    self.exporter.kill().await;
                    self.restart(*with_state).await;
                }
                Deed::Stop { with_state } => {
                    self.stop().await?;
                    self.restart(*with_state).await;
                }
                Deed::Wait(requests) => self.wait(*requests).await?,
            }
        }
        Ok(())
    }

    /// Waits until the endpoints were asked so often, not for long; no counter may fall meanwhile.
    async fn wait(&mut self, requests: u64) -> Result<(), Verdict> {
        let asked = |life: &Self| life.endpoints.iter().map(|proxy| proxy.counts().http).sum::<u64>();
        let (enough, deadline) = (asked(self) + requests, Instant::now() + WAIT);
        let mut ticks = interval(Duration::from_millis(40));
        while asked(self) < enough && Instant::now() < deadline {
            ticks.tick().await;
            let series = self.exporter.scrape().await;
            let fell = fallen(&self.last, &series);
            self.may_hold |= flags(&series).is_some();
            self.last = series;
            if !fell.is_empty() {
                return Err(Verdict::Silent(fell.join("; ")));
            }
        }
        Ok(())
    }

    async fn stop(&mut self) -> Result<(), Verdict> {
        let status = self.exporter.terminate().await;
        if status.success() { Ok(()) } else { Err(Verdict::Stuck(format!("SIGTERM: {status}"))) }
    }

    async fn restart(&mut self, with_state: bool) {
        if !with_state {
            self.state = TempDir::with_prefix("simulation-").expect("a temporary directory");
        }
        self.exporter = Exporter::start(&self.setup.yaml(Some(self.state.path()))).await;
        self.last = Series::default();
    }

    /// All is well and the chain goes on: what is shown must be the truth.
    async fn quiet(&mut self) -> Result<(), Verdict> {
        self.endpoints.iter().for_each(Proxy::clear);
        self.sim.advance(QUIET);
        self.settle().await?;
        if std::mem::take(&mut self.may_hold) {
            // What was shown of another branch, or too early, is forgotten with the process.
            self.stop().await?;
            self.restart(true).await;
            self.settle().await?;
        }
        let (head, contract) = (self.sim.head(), self.setup.contract);
        let truth = Oracle::read(&self.sim.url(), contract, head).await.at(self.target());
        let mut wrong = Vec::new();
        let becomes_right = async {
            let mut ticks = interval(Duration::from_millis(50));
            loop {
                ticks.tick().await;
                self.last = self.exporter.scrape().await;
                wrong = fold::differences(&truth, &self.last.of(NETWORK));
                if wrong.is_empty() {
                    return;
                }
            }
        };
        let became_right = timeout(GRACE, becomes_right).await.is_ok();
        let invented = invented(&truth, &self.last);
        match (became_right, flags(&self.last)) {
            (true, _) => Ok(()),
            (false, _) if !invented.is_empty() => Err(Verdict::Silent(invented.join("; "))),
            (false, Some(flags)) => Err(Verdict::Flagged(format!("{flags}; {}", wrong.join("; ")))),
            (false, None) => Err(Verdict::Silent(wrong.join("; "))),
        }
    }

    /// Waits for the newest confirmed block; no counter may fall on the way.
    async fn settle(&mut self) -> Result<(), Verdict> {
        let target = self.target();
        let mut fell = Vec::new();
        let check = |text: &str| {
            let series = Series::parse(text);
            fell = fallen(&self.last, &series);
            self.may_hold |= flags(&series).is_some();
            self.last = series;
            fell.clone()
        };
        let seen = watch(&self.exporter, PATIENCE, |text| reached(text, target), check).await;
        match seen {
            Ok(_) => Ok(()),
            Err(why) if fell.is_empty() => Err(Verdict::Stuck(why)),
            Err(why) => Err(Verdict::Silent(why)),
        }
    }

    fn target(&self) -> u64 {
        self.sim.head() - self.setup.confirmations
    }
}

/// Events that are counted and never were: a gauge that doubts that all is there says nothing of these.
fn invented(truth: &Truth, shown: &Series) -> Vec<String> {
    let counts_events = |key: &str| EVENTS.iter().any(|family| key.starts_with(family));
    let more = |(key, true_value): (&String, &f64)| {
        shown
            .get(key)
            .filter(|value| value > true_value)
            .map(|value| format!("{key}: expected {true_value}, got {value}"))
    };
    truth.series.iter().filter(|(key, _)| counts_events(key)).filter_map(more).collect()
}

fn spoil(endpoints: &[Proxy], deed: &Deed) {
    if let Deed::Spoil { endpoint, faults, percent } = deed {
        let faults: &[Fault] = faults;
        endpoints[*endpoint].mix(faults, *percent);
    }
}
