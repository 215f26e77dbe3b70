//! What happens at the head: reorganisations that nothing follows, a bloom that lies, and finality.

use std::sync::Arc;
use std::time::Duration;

use tesseract_tests::fold;
use tesseract_tests::hostile::Fault;
use tesseract_tests::rig::{NETWORK, Oracle, named, processed, raised};
use tesseract_tests::series::Series;
use tesseract_tests::sim::{Call, Params, RawLog, Sim, topic};
use tokio::time::{Instant, interval};
use web3::types::H256;

use super::rig::{CONFIRMATIONS, HISTORY, PATIENCE, Rig, World, exact, grow};
use super::{Cells, Outcome, Worlds};

/// A few cycles.
const SOON: Duration = Duration::from_secs(20);

/// The block whose bloom promises too much, and how long it may take until the node is believed nevertheless.
const LIAR: u64 = 300;
const BELIEVED: Duration = Duration::from_secs(110);

/// Logs are late for so long.
const LATE: Duration = Duration::from_secs(3);

pub(super) fn cells(worlds: &Worlds, cells: &mut Cells) {
    for world in &worlds.steady {
        let variant = format!("{:?}", world.params.variant);
        cells.add(format!("a false bloom, then late logs {variant}"), a_false_bloom(Arc::clone(world)));
        for depth in [3, 5, 40] {
            let name = format!("{depth} blocks reorganised, and no more blocks {variant}");
            cells.add(name, reorganised_and_quiet(Arc::clone(world), depth));
        }
        cells.add(format!("finalized-unknown {variant}"), no_finality(Arc::clone(world)));
        cells.add(format!("confirmations raised {variant}"), more_confirmations(Arc::clone(world)));
    }
}

/// One block that lied does not make the node's blooms worthless: the next one that promises is waited for.
async fn a_false_bloom(world: Arc<World>) -> Outcome {
    // Nothing but what is logged by hand, so that no count says what a bloom alone says.
    let quiet = Params { buffered_per_hour: 0, incidents_per_day: 0, ..world.params.clone() };
    let sim = Sim::start(quiet).await.unwrap();
    sim.advance(LIAR - 1);
    let mut rig = Rig::on(&world, sim, 1).await;
    rig.endpoints[0].contract(rig.setup.contract);
    rig.endpoints[0].set(Fault::BloomFalseOnce);
    rig.start().await;
    rig.sim.advance(1 + CONFIRMATIONS);
    let past = |series: &Series| processed(series) == Some(LIAR);
    rig.exporter().wait_for("the block that promises too much is believed to be empty", BELIEVED, past).await;

    let proxy = &rig.endpoints[0];
    proxy.set(Fault::LogsLate);
    for id in 0..3 {
        let topics = vec![topic("TransactionReady(bytes32)"), H256::from_low_u64_be(id)];
        rig.sim.call(Call::Log(RawLog { topics, data: Vec::new() })).unwrap();
    }
    // The newest ones of the logs are those that come late.
    rig.sim.advance(1);
    let (asked, until) = (proxy.counts().of("eth_getLogs"), Instant::now() + LATE);
    let mut ticks = interval(Duration::from_millis(100));
    while Instant::now() < until || proxy.counts().of("eth_getLogs") == asked {
        ticks.tick().await;
    }
    proxy.clear();
    rig.sim.advance(1);
    let oracle = Oracle::read(&rig.sim.url(), rig.setup.contract, rig.sim.head()).await;
    let truth = oracle.at(rig.target());
    assert_eq!(truth.series[&named("tesseract_transactions_ready_total")], 3.0);
    exact(rig.exporter.as_ref().unwrap(), &truth, SOON, &mut rig.last).await?;
    Ok(rig.outcome())
}

/// A head of the same height and another hash is news.
async fn reorganised_and_quiet(world: Arc<World>, depth: u64) -> Outcome {
    let mut rig = Rig::new(&world, 1).await;
    rig.start().await;
    rig.see().await?;
    // Block by block: what was read at one go is compared by its end alone.
    for _ in 0..6 {
        grow(&rig.sim, 1);
        rig.see().await?;
    }
    let before = rig.last.clone();
    rig.sim.reorg(depth);
    let oracle = Oracle::read(&rig.sim.url(), rig.setup.contract, rig.sim.head()).await;
    let at = rig.target();
    let truth = raised(&oracle.at(at), &before);
    let unlike = fold::differences(&truth, &before.of(NETWORK));
    if unlike.is_empty() {
        return Err("both branches look the same".to_owned());
    }
    let right = |series: &Series| {
        processed(series) == Some(at) && fold::differences(&truth, &series.of(NETWORK)).is_empty()
    };
    rig.exporter().wait_for("the other branch", SOON, right).await;
    Ok(rig.outcome())
}

/// A node that knows no finalized block, yet, or for ever.
async fn no_finality(world: Arc<World>) -> Outcome {
    let mut rig = Rig::new(&world, 1).await;
    rig.endpoints[0].set(Fault::FinalizedUnknown);
    let yaml = rig.setup.yaml(Some(rig.state.path()));
    let yaml = yaml.replace(&format!("confirmations: {CONFIRMATIONS}\n"), "confirmations: finalized\n");
    rig.start_as(&yaml).await;
    let seen = |series: &Series| {
        let is = |name: &str, value: f64| series.get(&named(name)) == Some(value);
        is("tesseract_node_connected", 1.0)
            && is("tesseract_contract_exists", 1.0)
            && is("tesseract_head_block_number", HISTORY as f64)
            && series.get(&named("tesseract_transaction_count")).is_some_and(|count| count > 0.0)
    };
    rig.exporter().wait_for("the head and its views", PATIENCE, seen).await;
    rig.says(&["finalized"]).await?;
    rig.endpoints[0].clear();
    rig.setup.confirmations = world.params.finalized_depth;
    rig.see().await?;
    rig.recovers().await
}

/// What was shown with fewer of them stays shown, and is not read again.
async fn more_confirmations(world: Arc<World>) -> Outcome {
    let mut rig = Rig::new(&world, 1).await;
    rig.start().await;
    rig.see().await?;
    rig.stop().await;
    let saved = rig.target();
    rig.setup.confirmations = 30;
    rig.start().await;
    let shown = |series: &Series| {
        processed(series) == Some(saved) && series.0.contains_key(&named("tesseract_transactions_pending"))
    };
    rig.exporter().wait_for("what was saved", SOON, shown).await;
    grow(&rig.sim, 40);
    rig.see().await?;
    rig.recovers().await
}
