//! Which requests meet a fault, and which one. Draws from the generator that it is given, and from nothing else.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use serde_json::Value;

use super::fault::Fault;

/// Faults that a share of the requests meets, one each; the default is no fault at all.
#[derive(Default)]
pub(super) struct Mixture {
    pub(super) faults: Vec<Fault>,
    /// Of all requests.
    pub(super) percent: u32,
}

impl Mixture {
    /// What the next request meets.
    pub(super) fn draw(&self, rng: &mut ChaCha8Rng) -> Option<Fault> {
        let drawn = draw(&self.faults, self.percent, rng)?;
        match drawn.mixture() {
            Some((faults, percent)) => draw(faults, percent, rng),
            None => Some(drawn),
        }
    }
}

/// Generators for requests by what they ask for.
pub(super) struct Content {
    seed: u64,
    /// How often each was asked for, by its hash.
    asked: BTreeMap<u64, u64>,
}

impl Content {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, asked: BTreeMap::new() }
    }

    /// The generator for a request of these calls.
    pub(super) fn rng(&mut self, calls: &[Value]) -> ChaCha8Rng {
        // Ids differ from one run to the next.
        let content = hash(calls.iter().map(|call| format!("{} {}", call["method"], call["params"])));
        let times = self.asked.entry(content).or_default();
        *times += 1;
        ChaCha8Rng::seed_from_u64(hash([self.seed, content, *times].into_iter()))
    }
}

/// The same in every process: this hasher has no key of its own.
fn hash(parts: impl Iterator<Item = impl Hash>) -> u64 {
    let mut hasher = DefaultHasher::new();
    parts.for_each(|part| part.hash(&mut hasher));
    hasher.finish()
}

/// A single fault of all requests draws nothing: what it draws itself depends on its seed alone.
fn draw(faults: &[Fault], percent: u32, rng: &mut ChaCha8Rng) -> Option<Fault> {
    if percent < 100 && rng.random_range(0..100) >= percent {
        return None;
    }
    match faults {
        [fault] => Some(*fault),
        faults => faults.choose(rng).copied(),
    }
}
