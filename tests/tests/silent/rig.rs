//! A chain that is known to the last log, hostile nodes in front of it, and an exporter that is held to the truth.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tesseract_tests::fold::{self, Truth};
use tesseract_tests::hostile::{Fault, Proxy};
use tesseract_tests::process::Exporter;
use tesseract_tests::rig::{NETWORK, Oracle, Setup, exposition, fallen, flags, raised, reached, watch};
use tesseract_tests::series::Series;
use tesseract_tests::sim::{Call, Chain, Params, RawLog, Sim, Variant, topic};
use tokio::time::Instant;
use web3::ethabi::{self, Token};
use web3::types::H256;

use super::{Outcome, Stage, Told};

/// The chain when the exporter starts.
pub(super) const HISTORY: u64 = 600;

/// While it follows, the chain grows by so many blocks so many times.
const STEP: u64 = 7;
const STEPS: u64 = 3;

/// So many blocks after the end of a fault, everything is the truth.
const AFTERWARDS: u64 = 150;

/// No chain of a world is longer.
const END: u64 = 900;

pub(super) const CONFIRMATIONS: u64 = 2;

/// Blocks with two equal logs in them, each of a transaction of its own.
const TWINS: [u64; 3] = [250, HISTORY + 3, HISTORY + 12];

/// Nothing may take longer; beyond what a node is given to come up with what it owes.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);

/// How long an exporter is looked at that may not get far.
const LOOKED: Duration = Duration::from_secs(10);

/// Whether the coordination window changes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Windows {
    Steady,
    /// In the history, and not within a range there and back.
    Changing,
}

/// One chain, and what is true on it.
pub(super) struct World {
    pub(super) params: Params,
    oracle: Oracle,
}

impl World {
    pub(super) async fn new(variant: Variant, windows: Windows) -> Arc<Self> {
        let params = |seed: u64| Params {
            seed,
            variant,
            log_timestamps: seed.is_multiple_of(2),
            steady_window: windows == Windows::Steady,
            ..Params::default()
        };
        let fits = |seed: &u64| windows == Windows::Steady || changes(&params(*seed));
        let params = params((1..).find(fits).unwrap());
        let sim = Sim::start(params.clone()).await.unwrap();
        grow(&sim, END);
        let contract = sim.chain().contract();
        let oracle = Oracle::read(&sim.url(), contract, END).await;
        Arc::new(Self { params, oracle })
    }
}

impl World {
    /// What is true on it.
    pub(super) fn oracle(&self) -> &Oracle {
        &self.oracle
    }
}

/// Whether the window changes while the first blocks are read, and then stays for a while.
fn changes(params: &Params) -> bool {
    let mut chain = Chain::new(params.clone());
    chain.advance_to(END);
    let window = |block: u64| chain.views(block).map(|views| views.window);
    let changed: Vec<u64> =
        (params.deployed_at + 1..=END).filter(|block| window(*block) != window(block - 1)).collect();
    changed.first().is_some_and(|first| (50..400).contains(first))
        && changed.windows(2).all(|pair| pair[1] - pair[0] > 100)
}

/// So many blocks more, with twins where they belong.
pub(super) fn grow(sim: &Sim, blocks: u64) {
    for _ in 0..blocks {
        let next = sim.head() + 1;
        if TWINS.contains(&next) {
            sim.call_all(vec![twin(next), twin(next)]).unwrap();
        } else {
            sim.advance(1);
        }
    }
}

/// A failure that says the same as another one of its block.
fn twin(block: u64) -> Call {
    let topics = vec![topic("TransactionFailed(bytes32,string)"), H256::from_low_u64_be(block)];
    Call::Log(RawLog { topics, data: ethabi::encode(&[Token::String("twin".to_owned())]) })
}

/// One cell: its chain, its hostile nodes, its exporter.
pub(super) struct Rig {
    pub(super) world: Arc<World>,
    pub(super) sim: Sim,
    /// The first one is the one that faults are set at.
    pub(super) endpoints: Vec<Proxy>,
    pub(super) setup: Setup,
    pub(super) state: TempDir,
    pub(super) exporter: Option<Exporter>,
    /// The last scrape of the process that runs.
    pub(super) last: Series,
    told: Told,
}

impl Rig {
    pub(super) async fn new(world: &Arc<World>, endpoints: usize) -> Self {
        let sim = Sim::start(world.params.clone()).await.unwrap();
        grow(&sim, HISTORY);
        Self::on(world, sim, endpoints).await
    }

    /// On a chain of its own, which the world does not know.
    pub(super) async fn on(world: &Arc<World>, sim: Sim, endpoints: usize) -> Self {
        let mut proxies = Vec::new();
        for _ in 0..endpoints {
            proxies.push(Proxy::start(&sim.url()).await);
        }
        let mut setup = Setup::new(&[], sim.chain().contract());
        setup.urls = proxies.iter().map(Proxy::url).collect();
        Self {
            world: Arc::clone(world),
            sim,
            endpoints: proxies,
            setup,
            state: TempDir::new().unwrap(),
            exporter: None,
            last: Series::default(),
            told: Told::Exact,
        }
    }

    pub(super) fn exporter(&self) -> &Exporter {
        self.exporter.as_ref().unwrap()
    }

    pub(super) async fn start(&mut self) {
        self.start_as(&self.setup.yaml(Some(self.state.path()))).await;
    }

    pub(super) async fn start_as(&mut self, yaml: &str) {
        self.exporter = Some(Exporter::start(yaml).await);
        self.last = Series::default();
    }

    pub(super) async fn stop(&mut self) {
        assert!(self.exporter.take().unwrap().terminate().await.success());
    }

    /// The file that the ledger is saved in.
    pub(super) fn state_file(&self) -> PathBuf {
        self.state.path().join(format!("{NETWORK}.state"))
    }

    pub(super) fn target(&self) -> u64 {
        self.sim.head() - self.setup.confirmations
    }

    /// Waits for the newest confirmed block; all that is shown on the way is true, or said to be uncertain.
    pub(super) async fn see(&mut self) -> Result<(), String> {
        self.look(PATIENCE + PATIENCE).await
    }

    /// Waits for the newest confirmed block likewise, but no longer than this.
    async fn look(&mut self, at_most: Duration) -> Result<(), String> {
        let until = Instant::now() + at_most;
        let (target, exporter) = (self.target(), self.exporter.as_ref().unwrap());
        let check = |text: &str| {
            let series = Series::parse(text);
            let mut complaints = fallen(&self.last, &series);
            let wrong = self.world.oracle.differences(text);
            match flags(&series) {
                Some(_) if !wrong.is_empty() => self.told = Told::Flagged,
                _ => complaints.extend(wrong),
            }
            self.last = series;
            complaints
        };
        let done = |text: &str| reached(text, target) || Instant::now() >= until;
        watch(exporter, PATIENCE, done, check).await.map(drop)
    }

    /// Waits until the newest confirmed block is shown, and is the truth.
    async fn becomes_exact(&mut self) -> Result<(), String> {
        let truth = self.world.oracle.at(self.target());
        exact(self.exporter.as_ref().unwrap(), &truth, PATIENCE, &mut self.last).await
    }

    /// The fault is over, and the chain goes on.
    pub(super) async fn recovers(mut self) -> Outcome {
        self.endpoints[0].clear();
        grow(&self.sim, AFTERWARDS);
        if self.told == Told::Flagged {
            // A counter that was too high holds for as long as the process lives.
            let truth = self.world.oracle.at(self.target());
            mended(self.exporter.as_ref().unwrap(), &truth, PATIENCE, &mut self.last).await?;
            self.stop().await;
            self.start().await;
        }
        self.becomes_exact().await?;
        Ok(self.outcome())
    }

    pub(super) fn outcome(&self) -> (Told, u64) {
        (self.told, self.endpoints.iter().map(|proxy| proxy.counts().total()).sum())
    }

    /// Waits until `/health` tells of a problem in which all of this stands.
    pub(super) async fn says(&self, words: &[&str]) -> Result<String, String> {
        let mut told = String::new();
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        let waiting = async {
            loop {
                ticks.tick().await;
                let health: Value =
                    serde_json::from_str(&self.exporter().get("/health").await.text()).unwrap();
                told = health["networks"][NETWORK]["problem"].as_str().unwrap_or_default().to_owned();
                if words.iter().all(|word| told.contains(word)) {
                    return;
                }
            }
        };
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(()) => Ok(told),
            Err(_) => Err(format!("no problem with {words:?} is told, but {told:?}")),
        }
    }
}

/// [`meet`] on the world's chain, with so many endpoints.
pub(super) async fn met(
    world: Arc<World>,
    met: (Option<Fault>, u32),
    stage: Stage,
    endpoints: usize,
) -> Outcome {
    meet(Rig::new(&world, endpoints).await, met, stage).await
}

/// An exporter meets a share of requests, in percent, with this fault at the first of its endpoints.
pub(super) async fn meet(mut rig: Rig, (fault, percent): (Option<Fault>, u32), stage: Stage) -> Outcome {
    let faults: Vec<Fault> = fault.into_iter().collect();
    let spoil = |rig: &Rig| match faults.is_empty() {
        true => rig.endpoints[0].clear(),
        false => rig.endpoints[0].mix(&faults, percent),
    };
    // With half of the requests chance decides how long it takes, and with less where nothing agrees with anything.
    let chance = percent == 50 || (fault == Some(Fault::ChainSwap) && percent == 20);
    let at_most = if chance { LOOKED } else { PATIENCE + PATIENCE };
    match stage {
        Stage::FirstSync => {
            spoil(&rig);
            rig.start().await;
            rig.look(at_most).await?;
        }
        Stage::Following => {
            rig.start().await;
            rig.see().await?;
            spoil(&rig);
            for _ in 0..STEPS {
                grow(&rig.sim, STEP);
                rig.look(at_most).await?;
            }
        }
        Stage::Resuming => {
            rig.start().await;
            rig.see().await?;
            rig.stop().await;
            grow(&rig.sim, STEP * STEPS);
            spoil(&rig);
            rig.start().await;
            rig.look(at_most).await?;
        }
    }
    rig.recovers().await
}

/// Waits until this is shown, but for counters that were too high at some time; none may fall on the way.
async fn mended(
    exporter: &Exporter,
    truth: &Truth,
    within: Duration,
    last: &mut Series,
) -> Result<(), String> {
    let shown = Mutex::new(std::mem::take(last));
    let check = |text: &str| {
        let series = Series::parse(text);
        let complaints = fallen(&shown.lock().unwrap(), &series);
        *shown.lock().unwrap() = series;
        complaints
    };
    let differences = |text: &str| {
        fold::differences(&raised(truth, &shown.lock().unwrap()), &Series::parse(text).of(NETWORK))
    };
    let seen = watch(exporter, within, |text| differences(text).is_empty(), check).await;
    let wrong = match seen {
        Ok(_) => Ok(()),
        Err(why) => {
            Err(format!("is not mended: {}; {why}", differences(&exposition(exporter).await).join("; ")))
        }
    };
    *last = shown.into_inner().unwrap();
    wrong
}

/// Waits until this is shown and nothing else; no counter may fall on the way.
pub(super) async fn exact(
    exporter: &Exporter,
    truth: &Truth,
    within: Duration,
    last: &mut Series,
) -> Result<(), String> {
    let check = |text: &str| {
        let series = Series::parse(text);
        let complaints = fallen(last, &series);
        *last = series;
        complaints
    };
    let differences = |text: &str| fold::differences(truth, &Series::parse(text).of(NETWORK));
    match watch(exporter, within, |text| differences(text).is_empty(), check).await {
        Ok(_) => Ok(()),
        Err(why) => {
            let wrong = differences(&exposition(exporter).await).join("; ");
            Err(format!("does not become exact: {wrong}; {why}"))
        }
    }
}
