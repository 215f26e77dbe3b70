//! Logs that are left out, that were never there, or that are written otherwise.

use std::sync::Arc;

use tesseract_tests::hostile::Fault;
use tesseract_tests::rig::named;

use super::rig::{Rig, World, grow, met};
use super::{Cells, Outcome, STAGES, Stage, Worlds};

pub(super) fn cells(worlds: &Worlds, cells: &mut Cells) {
    for world in &worlds.steady {
        let variant = format!("{:?}", world.params.variant);
        for stage in STAGES {
            let mut add = |fault: Fault, percent: u32, endpoints: usize| {
                let name = format!("{fault} {percent} % {stage} {variant}, {endpoints} endpoints");
                cells.add(name, met(Arc::clone(world), (Some(fault), percent), stage, endpoints));
            };
            for percent in [1, 20, 50, 100] {
                add(Fault::LogsFirstOnly, percent, 1);
            }
            for fault in [Fault::IndexPerTx, Fault::StaleLog, Fault::LogsCut] {
                add(fault, 100, 1);
                add(fault, 20, 1);
            }
            for fault in [Fault::LogsHoles, Fault::LogsPruned] {
                add(fault, 100, 2);
            }
            // Always met they stand in the table of all faults.
            for fault in [Fault::BloomShort, Fault::LogsPending, Fault::NoBlockHash] {
                add(fault, 50, 1);
            }
            add(Fault::LogsOversized, 100, 1);
            for percent in [1, 20, 100] {
                add(Fault::BloomPartial, percent, 1);
            }
            if stage == Stage::FirstSync {
                add(Fault::RemovedNull, 50, 1);
                add(Fault::RemovedAbsent, 50, 1);
            }
        }
        let name = format!("logs-holes for good {variant}, 1 endpoint");
        cells.add(name, a_lonely_index_with_holes(Arc::clone(world)));
    }
}

/// Nobody can tell what it leaves out; that nobody has checked it is said for as long as it is so.
async fn a_lonely_index_with_holes(world: Arc<World>) -> Outcome {
    let mut rig = Rig::new(&world, 1).await;
    rig.endpoints[0].set(Fault::LogsHoles);
    rig.start().await;
    for _ in 0..3 {
        rig.see().await?;
        let unproven = rig.last.get(&named("tesseract_unproven_blocks"));
        if unproven.is_none_or(|blocks| blocks <= 0.0) {
            return Err(format!("unproven blocks: {unproven:?}"));
        }
        grow(&rig.sim, 40);
    }
    Ok(rig.outcome())
}
