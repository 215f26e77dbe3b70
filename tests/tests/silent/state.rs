//! State that is not there, or is empty without a word.

use std::sync::Arc;

use tesseract_tests::hostile::Fault;
use tesseract_tests::rig::{NETWORK, Oracle};
use tesseract_tests::sim::{Call, Params, RawLog, Sim, Variant, topic};
use web3::types::H256;

use super::rig::{PATIENCE, Rig, World, exact, met};
use super::{Cells, Outcome, STAGES, Stage, Worlds};

pub(super) fn cells(worlds: &Worlds, cells: &mut Cells) {
    for world in &worlds.changing {
        let variant = format!("{:?}", world.params.variant);
        // What a healthy node shows there, window and all.
        cells.add(format!("none {variant}"), met(Arc::clone(world), (None, 0), Stage::FirstSync, 1));
        for (stage, percent) in STAGES.iter().flat_map(|stage| [1, 20, 50].map(|share| (*stage, share))) {
            let name = format!("state-gone {percent} % {stage} {variant}, window changes");
            cells.add(name, met(Arc::clone(world), (Some(Fault::StateGone), percent), stage, 1));
        }
    }
    for world in &worlds.steady {
        for stage in STAGES {
            let name = format!("state-empty 100 % {stage} {:?}", world.params.variant);
            cells.add(name, met(Arc::clone(world), (Some(Fault::StateEmpty), 100), stage, 1));
        }
    }
    cells.add(
        "state-at-latest 100 % first sync".to_owned(),
        state_at_latest_alone(Arc::clone(&worlds.steady[0])),
    );
    for granted in [1, 2] {
        let name = format!("code-empty, nothing buffered, {granted} x RoleGranted");
        cells.add(name, nothing_buffered_yet(Arc::clone(&worlds.steady[1]), granted));
    }
}

/// What the contract says at `latest` belongs to no block: nothing of it is shown, and it is said what is needed.
async fn state_at_latest_alone(world: Arc<World>) -> Outcome {
    let mut rig = Rig::new(&world, 1).await;
    rig.endpoints[0].set(Fault::StateAtLatest);
    rig.start().await;
    rig.says(&["`latest` only", "use another endpoint"]).await?;
    rig.recovers().await
}

/// A count of 0 agrees with any beginning: it is the code alone that shows where the contract began.
async fn nothing_buffered_yet(world: Arc<World>, granted: u64) -> Outcome {
    const HEAD: u64 = 400;
    let params = Params {
        variant: Variant::Buffer,
        buffered_per_hour: 0,
        incidents_per_day: 0,
        ..world.params.clone()
    };
    let sim = Sim::start(params).await.unwrap();
    sim.advance(50);
    // The deployment has granted one.
    for place in 1..granted {
        let topics = [topic("RoleGranted(bytes32,address,address)")]
            .into_iter()
            .chain((0..3).map(|word| H256::from_low_u64_be(place * 10 + word)));
        sim.call(Call::Log(RawLog { topics: topics.collect(), data: Vec::new() })).unwrap();
    }
    sim.advance(HEAD - sim.head());
    let mut rig = Rig::on(&world, sim, 1).await;
    rig.endpoints[0].set(Fault::CodeEmpty);
    rig.start().await;
    let oracle = Oracle::read(&rig.sim.url(), rig.setup.contract, HEAD).await;
    let own = format!("tesseract_contract_events_total{{event=\"RoleGranted\",network=\"{NETWORK}\"}}");
    assert_eq!(oracle.at(HEAD).series[&own], granted as f64);
    let target = rig.target();
    exact(rig.exporter.as_ref().unwrap(), &oracle.at(target), PATIENCE, &mut rig.last).await?;
    Ok(rig.outcome())
}
