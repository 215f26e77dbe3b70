//! What a seed decides. Pure, and drawn as a whole beforehand: nothing that happens moves it.

use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::hostile::Fault;
use crate::sim::{Params, Variant};

/// A life, before it is lived.
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) params: Params,
    /// The chain when the exporter starts.
    pub(super) history: u64,
    pub(super) confirmations: u64,
    pub(super) range: u64,
    pub(super) poll: Duration,
    /// How late logs and headers are.
    pub(super) distance: Duration,
    pub(super) start_block: Option<u64>,
    pub(super) endpoints: usize,
    /// Each ends with a time at which all is well.
    pub(super) phases: Vec<Vec<Deed>>,
}

/// What happens.
#[derive(Clone, Debug)]
pub(super) enum Deed {
    /// From now on a share of the requests, in percent, to one endpoint meets one of these faults.
    Spoil { endpoint: usize, faults: Vec<Fault>, percent: u32 },
    /// So many blocks more.
    Grow(u64),
    /// So many of the newest blocks are others now, and one more follows or none.
    Reorganise { depth: u64, grows: bool },
    /// SIGKILL and a new process, with the state or without.
    Kill { with_state: bool },
    /// SIGTERM and a new process, with the state or without.
    Stop { with_state: bool },
    /// The endpoints are asked so often, unless that takes too long.
    Wait(u64),
}

/// Draws a life.
pub(super) fn plan(seed: u64) -> Plan {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let params = Params {
        seed: rng.random_range(1..1_000_000),
        variant: *pick(
            &[Variant::Simple, Variant::Simple, Variant::Buffer, Variant::Buffer, Variant::Mixed],
            &mut rng,
        ),
        buffered_per_hour: *pick(&[12, 60, 300, 1200, 3600], &mut rng),
        incidents_per_day: 60,
        steady_window: true,
        log_timestamps: rng.random(),
        ..Params::default()
    };
    let mut plan = Plan {
        seed,
        history: rng.random_range(150..600),
        confirmations: *pick(&[1, 2, 2, 5, 70], &mut rng),
        range: *pick(&[10, 40, 40, 200], &mut rng),
        poll: Duration::from_millis(*pick(&[50, 100, 200], &mut rng)),
        distance: Duration::from_millis(*pick(&[0, 0, 5, 30], &mut rng)),
        start_block: rng.random_ratio(1, 4).then_some(params.deployed_at),
        endpoints: *pick(&[1, 1, 2, 3], &mut rng),
        params,
        phases: Vec::new(),
    };
    for _ in 0..rng.random_range(1..3) {
        let mut deeds: Vec<Deed> = (0..plan.endpoints).map(|endpoint| spoil(endpoint, &mut rng)).collect();
        for _ in 0..rng.random_range(3..9) {
            deeds.push(deed(plan.endpoints, &mut rng));
            deeds.push(Deed::Wait(rng.random_range(1..20)));
        }
        plan.phases.push(deeds);
    }
    plan
}

impl Plan {
    /// In words, a line each for the chain and every phase.
    pub(super) fn story(&self) -> Vec<String> {
        let Self { params, history, confirmations, range, poll, distance, start_block, endpoints, .. } = self;
        let Params { seed, variant, buffered_per_hour, log_timestamps, .. } = params;
        let chain = format!(
            "{variant:?} chain {seed}, {history} blocks, {buffered_per_hour}/h, log timestamps {log_timestamps}; \
             {endpoints} endpoints, {confirmations} confirmations, ranges of {range}, every {poll:?}, {distance:?} away, \
             start block {start_block:?}"
        );
        let phase = |deeds: &Vec<Deed>| deeds.iter().map(Deed::told).collect::<Vec<_>>().join("; ");
        std::iter::once(chain).chain(self.phases.iter().map(phase)).collect()
    }
}

impl Deed {
    fn told(&self) -> String {
        match self {
            Self::Spoil { endpoint, faults, percent } => {
                let names: Vec<&str> = faults.iter().map(|fault| fault.name()).collect();
                format!("{percent} % {} at {endpoint}", names.join("|"))
            }
            Self::Grow(blocks) => format!("+{blocks}"),
            Self::Reorganise { depth, grows } => format!("reorg {depth}, grows {grows}"),
            Self::Kill { with_state } => format!("kill, state {with_state}"),
            Self::Stop { with_state } => format!("stop, state {with_state}"),
            Self::Wait(requests) => format!("{requests} requests"),
        }
    }
}

fn deed(endpoints: usize, rng: &mut ChaCha8Rng) -> Deed {
    match rng.random_range(0..20) {
        0..9 => Deed::Grow(rng.random_range(1..30)),
        9..13 => Deed::Reorganise { depth: rng.random_range(1..6), grows: rng.random_ratio(2, 3) },
        13..15 => Deed::Kill { with_state: rng.random_ratio(2, 3) },
        15..17 => Deed::Stop { with_state: rng.random_ratio(2, 3) },
        _ => spoil(rng.random_range(0..endpoints), rng),
    }
}

fn spoil(endpoint: usize, rng: &mut ChaCha8Rng) -> Deed {
    let is_wording = |fault: &Fault| matches!(fault, Fault::Range(_) | Fault::Rate(_));
    let (wordings, others): (Vec<Fault>, Vec<Fault>) = Fault::all().filter(may_be_met).partition(is_wording);
    let one = |rng: &mut ChaCha8Rng| match rng.random_range(0..6) {
        0 => *pick(&wordings, rng),
        1 | 2 => *pick(&SILENT, rng),
        _ => *pick(&others, rng),
    };
    let faults = (0..rng.random_range(1..5)).map(|_| one(rng)).collect();
    Deed::Spoil { endpoint, faults, percent: rng.random_range(1..=50) }
}

/// Drawn more often than others: answers that are wrong, or behind, without a word.
const SILENT: [Fault; 16] = [
    Fault::LogsFirstOnly,
    Fault::LogsHoles,
    Fault::LogsPruned,
    Fault::LogsCut,
    Fault::LogsLate,
    Fault::LogsPending,
    Fault::StaleLog,
    Fault::IndexPerTx,
    Fault::StateGone,
    Fault::StateEmpty,
    Fault::CodeEmpty,
    Fault::ChainSwap,
    Fault::Lagging,
    Fault::FlappingParts,
    Fault::HeadJumps,
    Fault::BloomZero,
];

/// All that a share of the requests may meet, but for what takes more than a few seconds to see through, and
/// what has no meaning here.
fn may_be_met(fault: &Fault) -> bool {
    !matches!(
        fault,
        // A second branch of the same height would be needed at every moment.
        Fault::TwoBranches
            // Read for the same error as others, megabytes of it.
            | Fault::OversizedJson
            | Fault::BatchHollow
            // Nobody could tell, where there is no other endpoint.
            | Fault::ReadyOmitted
            // Believed after half a minute.
            | Fault::BloomFalseOnce
            // Nobody asks for it.
            | Fault::FinalizedUnknown
    )
}

fn pick<'a, T>(choices: &'a [T], rng: &mut ChaCha8Rng) -> &'a T {
    choices.choose(rng).expect("there are choices")
}
