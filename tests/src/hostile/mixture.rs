//! Which requests meet a fault, and which one. Draws from the generator that it is given, and from nothing else.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

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
