//! The endpoints of a network as one pool: the preferred one first, the others as its substitutes.
//!
//! Decides whom to ask next; sends nothing itself.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::endpoint::locked;
use super::http::http_client;
use super::{Endpoint, EndpointStats};
use crate::config::{Confirmations, Network};

/// How often an endpoint that is not in use is asked for its head.
const PROBE_INTERVAL: Duration = Duration::from_secs(15);

/// A head may trail the best one by this much where `confirmations` is no number.
const LAG_ALLOWED: u64 = 64;

/// All endpoints of one network.
#[derive(Debug)]
pub struct Pool {
    endpoints: Vec<Arc<Endpoint>>,
    known: Mutex<Vec<Known>>,
    lag_allowed: u64,
}

/// What the last answers said of an endpoint.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    head: Option<u64>,
    wrong_chain: bool,
    trails: bool,
    probed: Option<Instant>,
    probing: bool,
}

impl Pool {
    /// The pool of a network, with one HTTP client for all its endpoints.
    pub fn new(network: &Network) -> Self {
        let client = http_client(network.authorities.as_ref());
        let endpoints = (0..network.endpoints.len())
            .map(|place| Arc::new(Endpoint::new(place, network, client.clone())))
            .collect::<Vec<_>>();
        let lag_allowed = match network.confirmations {
            Confirmations::Blocks(blocks) => blocks.max(1),
            Confirmations::Safe | Confirmations::Finalized => LAG_ALLOWED,
        };
        Self { known: Mutex::new(vec![Known::default(); endpoints.len()]), endpoints, lag_allowed }
    }

    /// Whom to ask now: the first that is well; else the first whose back-off is over.
    pub fn pick(&self) -> Option<Arc<Endpoint>> {
        let known = locked(&self.known).clone();
        let usable = || {
            self.endpoints
                .iter()
                .filter(|endpoint| !known[endpoint.place].wrong_chain && endpoint.backs_off_until().is_none())
        };
        usable()
            .find(|endpoint| endpoint.is_well() && !known[endpoint.place].trails)
            .or_else(|| usable().find(|endpoint| endpoint.is_well()))
            .or_else(|| usable().next())
            .cloned()
    }

    /// Endpoints besides `active` that were not asked for a while, or all where none is active. Each is to be
    /// probed now.
    pub fn due(&self, active: Option<usize>) -> Vec<Arc<Endpoint>> {
        let mut known = locked(&self.known);
        let due = |endpoint: &&Arc<Endpoint>| {
            let waited = known[endpoint.place].probed.is_none_or(|then| then.elapsed() >= PROBE_INTERVAL);
            active != Some(endpoint.place)
                && !known[endpoint.place].probing
                && endpoint.backs_off_until().is_none()
                && (waited || active.is_none() || !endpoint.is_well())
        };
        let due: Vec<_> = self.endpoints.iter().filter(due).cloned().collect();
        for endpoint in &due {
            known[endpoint.place].probed = Some(Instant::now());
            known[endpoint.place].probing = true;
        }
        due
    }

    /// A probe of [`Self::due`] has its answer, or will have none.
    pub fn probed(&self, place: usize) {
        locked(&self.known)[place].probing = false;
    }

    /// When the first endpoint may be asked again, where all are in back-off.
    pub fn next_available(&self) -> Option<Instant> {
        let waits = self.endpoints.iter().map(|endpoint| endpoint.backs_off_until());
        waits.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// An endpoint told its head; returns whether it trails the others by more than is allowed.
    pub fn saw_head(&self, place: usize, head: u64) -> bool {
        let mut known = locked(&self.known);
        let best = self
            .endpoints
            .iter()
            .filter(|other| other.place != place && other.is_well() && !known[other.place].wrong_chain)
            .filter_map(|other| known[other.place].head)
            .max();
        let trails = best.is_some_and(|best| head.saturating_add(self.lag_allowed) < best);
        known[place].head = Some(head);
        known[place].trails = trails;
        trails
    }

    /// Notes whether an endpoint is on the right chain; true when that is news.
    pub fn saw_chain(&self, place: usize, right: bool) -> bool {
        let wrong_chain = &mut locked(&self.known)[place].wrong_chain;
        std::mem::replace(wrong_chain, !right) == right
    }

    /// Counts on top of these, in the order of the configuration.
    pub fn go_on_from(&self, stats: &[EndpointStats]) {
        for (endpoint, stats) in self.endpoints.iter().zip(stats) {
            endpoint.go_on_from(stats.clone());
        }
    }

    /// What became of the requests, in the order of the configuration.
    pub fn stats(&self) -> Vec<EndpointStats> {
        self.endpoints.iter().map(|endpoint| endpoint.stats()).collect()
    }
}
