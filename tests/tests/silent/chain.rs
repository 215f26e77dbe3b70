//! Another chain at the other end, for a while or from one life to the next.

use std::sync::Arc;
use std::time::Duration;

use tesseract_tests::hostile::{Fault, Proxy};
use tesseract_tests::rig::processed;
use tesseract_tests::series::Series;
use tesseract_tests::sim::{Params, Sim};
use tokio::time::Instant;

use super::rig::{HISTORY, PATIENCE, Rig, World, exact, grow, meet};
use super::{Cells, Outcome, STAGES, Stage, Told, Worlds};

/// For so long another chain answers.
const SWAPPED: Duration = Duration::from_millis(2500);

const OTHER: u64 = 7;

/// A chain that comes and goes so often may be told of so often.
const FLAPS: usize = 20;
const TOLD: usize = 5;

pub(super) fn cells(worlds: &Worlds, cells: &mut Cells) {
    for world in &worlds.steady {
        let variant = format!("{:?}", world.params.variant);
        for chain_id in [Some(1337), None] {
            for stage in [Stage::FirstSync, Stage::Following] {
                let name = format!("chain-swap for a while {stage} {variant}, chain_id {chain_id:?}");
                cells.add(name, swapped(Arc::clone(world), stage, chain_id));
            }
            for (stage, percent) in STAGES.iter().flat_map(|stage| [1, 20, 50].map(|share| (*stage, share))) {
                // Without an id, what a first sync is of is for the first answer to say.
                if chain_id.is_some() || stage != Stage::FirstSync {
                    let name = format!("chain-swap {percent} % {stage} {variant}, chain_id {chain_id:?}");
                    cells.add(name, now_and_then(Arc::clone(world), percent, stage, chain_id));
                }
            }
            let name = format!("chain-swap in the first cycle {variant}, chain_id {chain_id:?}");
            cells.add(name, swapped_at_first(Arc::clone(world), chain_id));
            let name = format!("chain-swap back and forth {variant}, chain_id {chain_id:?}");
            cells.add(name, flapping(Arc::clone(world), chain_id));
        }
        cells.add(format!("another chain in the next life {variant}"), next_life(Arc::clone(world)));
    }
}

/// The same contract at the same address on another chain, with another life.
async fn other(world: &World, head: u64) -> Sim {
    let contract = Sim::start(world.params.clone()).await.unwrap().chain().contract();
    let params = Params {
        chain_id: OTHER,
        contract: Some(contract),
        genesis_time: world.params.genesis_time + 5_000,
        buffered_per_hour: 2500,
        ..world.params.clone()
    };
    let sim = Sim::start(params).await.unwrap();
    sim.advance(head);
    sim
}

async fn rig(world: &Arc<World>, chain_id: Option<u64>) -> (Rig, Sim) {
    let mut rig = Rig::new(world, 1).await;
    rig.setup.chain_id = chain_id;
    let other = other(world, HISTORY + 200).await;
    rig.endpoints[0].rival(&other.url());
    (rig, other)
}

/// Another chain answers for a while, and at least once.
async fn swap(proxy: &Proxy) {
    let (before, until) = (proxy.counts().faulty, Instant::now() + SWAPPED);
    proxy.set(Fault::ChainSwap);
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    while Instant::now() < until || proxy.counts().faulty == before {
        ticks.tick().await;
    }
    proxy.clear();
}

async fn swapped(world: Arc<World>, stage: Stage, chain_id: Option<u64>) -> Outcome {
    let (mut rig, _other) = rig(&world, chain_id).await;
    if stage == Stage::FirstSync {
        rig.setup.range = 10;
        rig.endpoints[0].delay("eth_getLogs", Duration::from_millis(60));
        rig.start().await;
        let begun = |series: &Series| processed(series).is_some_and(|block| block > 60);
        rig.exporter().wait_for("the sync has begun", PATIENCE, begun).await;
    } else {
        rig.start().await;
        rig.see().await?;
        grow(&rig.sim, 1);
    }
    swap(&rig.endpoints[0]).await;
    grow(&rig.sim, 3);
    rig.see().await?;
    rig.recovers().await
}

/// A share of the requests is answered by another chain.
async fn now_and_then(world: Arc<World>, percent: u32, stage: Stage, chain_id: Option<u64>) -> Outcome {
    let (rig, _other) = rig(&world, chain_id).await;
    meet(rig, (Some(Fault::ChainSwap), percent), stage).await
}

/// Without a configured id the first chain that answers is taken for the right one: then it is that which is
/// shown, or that there are two is said.
async fn swapped_at_first(world: Arc<World>, chain_id: Option<u64>) -> Outcome {
    let (mut rig, _other) = rig(&world, chain_id).await;
    rig.endpoints[0].set(Fault::ChainSwap);
    rig.start().await;
    swap(&rig.endpoints[0]).await;
    if chain_id.is_some() {
        rig.see().await?;
        return rig.recovers().await;
    }
    let truth = world.oracle().at(rig.target());
    let (ids, mut last) = ([OTHER, world.params.chain_id].map(|id| id.to_string()), Series::default());
    let ids = ids.each_ref().map(String::as_str);
    tokio::select! {
        exact = exact(rig.exporter(), &truth, PATIENCE, &mut last) => exact?,
        told = rig.says(&ids) => return told.map(|_| (Told::Flagged, rig.outcome().1)),
    }
    Ok(rig.outcome())
}

/// A balancer with a node of another chain behind it is told of, and not each time.
async fn flapping(world: Arc<World>, chain_id: Option<u64>) -> Outcome {
    let (mut rig, _other) = rig(&world, chain_id).await;
    rig.start().await;
    rig.see().await?;
    for _ in 0..FLAPS {
        grow(&rig.sim, 1);
        let before = rig.endpoints[0].counts();
        rig.endpoints[0].set(Fault::ChainSwap);
        let mut counts = rig.endpoints[0].watch();
        let met = counts.wait_for(|counts| counts.faulty > before.faulty);
        tokio::time::timeout(PATIENCE, met).await.map_err(|_| "not asked any more")?.unwrap();
        rig.endpoints[0].clear();
        rig.see().await?;
    }
    let words = [format!("chain {OTHER}"), format!("\"chain_id\":{OTHER}")];
    let of_it = |line: &str| words.iter().any(|word| line.contains(word));
    let grave = |line: &&String| !line.contains("\"info\"") && !line.contains("\"debug\"") && of_it(line);
    let told: Vec<String> = rig.exporter().log().iter().filter(grave).cloned().collect();
    if told.len() > TOLD {
        return Err(format!("{FLAPS} flaps are told {} times: {}", told.len(), told[..2].join("; ")));
    }
    rig.recovers().await
}

/// The state says which chain it was; without a configured id only it knows.
async fn next_life(world: Arc<World>) -> Outcome {
    let (mut rig, other) = rig(&world, None).await;
    rig.start().await;
    rig.see().await?;
    rig.stop().await;
    rig.endpoints[0].move_to(&other.url());
    rig.start().await;
    let file = rig.state_file();
    let file = file.to_str().unwrap();
    let names_it =
        |line: &str| (line.contains("\"warn\"") || line.contains("\"error\"")) && line.contains(file);
    let (words, log) = ([file], rig.exporter());
    tokio::select! {
        _ = log.wait_for_line("the state file is named", PATIENCE, names_it) => {}
        told = rig.says(&words) => drop(told?),
    }
    Ok(rig.outcome())
}
