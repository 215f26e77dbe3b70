//! The endpoints of a network as one pool: the preferred one first, the others as its substitutes.
//!
//! Decides whom to ask next; sends nothing itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::http::http_client;
use super::{Endpoint, EndpointStats};
use crate::config::{Confirmations, Network};
use crate::plan;

/// How often an endpoint that is not in use is asked for its head.
const PROBE_INTERVAL: Duration = Duration::from_secs(15);

/// A head may trail the best one by this much where `confirmations` is not a number.
const LAG_ALLOWED: u64 = 64;

/// All endpoints of one network.
#[derive(Debug)]
pub struct Pool {
    endpoints: Vec<Arc<Endpoint>>,
    standings: Mutex<Vec<Standing>>,
    lag_allowed: u64,
}

/// What the last answers said of an endpoint among the others.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    head: Option<u64>,
    wrong_chain: bool,
    wrong_chain_news: Announced,
    /// It has another block where those of the history are read from others.
    contradicts: bool,
    contradiction_news: Announced,
    trails: bool,
    probed: Option<Instant>,
    probing: bool,
}

/// That an endpoint is not to be used is news again after this long: one that comes and goes must not fill a disk.
const NEWS_INTERVAL: Duration = Duration::from_secs(600);

/// When it was last logged that an endpoint failed a check, and whether that was taken back since.
#[derive(Clone, Copy, Debug, Default)]
struct Announced(Option<(Instant, bool)>);

impl Announced {
    fn check(&mut self, passed: bool) -> Check {
        if passed {
            let taken_back = self.0.as_mut().map(|(_, taken_back)| std::mem::replace(taken_back, true));
            return if taken_back == Some(false) { Check::PassedAgain } else { Check::Passed };
        }
        let news = self.0.is_none_or(|(then, _)| then.elapsed() >= NEWS_INTERVAL);
        if news {
            self.0 = Some((Instant::now(), false));
        }
        Check::Failed { news }
    }
}

/// Whether what an endpoint says of its chain lets it be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// It does.
    Passed,
    /// It does again, and was last reported not to.
    PassedAgain,
    /// It does not.
    Failed {
        /// Nothing of that was reported for a while.
        news: bool,
    },
}

/// Whether an endpoint may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fitness {
    /// Healthy, and not behind the others.
    Fit,
    /// Healthy, but behind the others.
    Trailing,
    /// It failed, and its rest is over.
    OnTrial,
    /// Resting, on another chain, or on another branch than the history.
    Unusable,
}

impl Pool {
    /// The pool of a network, with one HTTP client for all its endpoints.
    pub fn new(network: &Network) -> Self {
        let client = http_client(network.authorities.as_ref());
        let endpoints = (0..network.endpoints.len())
            .map(|index| Arc::new(Endpoint::new(index, network, client.clone())))
            .collect::<Vec<_>>();
        let lag_allowed = match network.confirmations {
            Confirmations::Blocks(blocks) => blocks.max(1),
            Confirmations::Safe | Confirmations::Finalized => LAG_ALLOWED,
        };
        Self { standings: Mutex::new(vec![Standing::default(); endpoints.len()]), endpoints, lag_allowed }
    }

    /// Whom to ask now: the first of the fittest.
    pub fn pick(&self) -> Option<Arc<Endpoint>> {
        let standings = self.standings();
        let fitness = |endpoint: &Arc<Endpoint>| {
            let Standing { wrong_chain, contradicts, trails, .. } = standings[endpoint.index];
            match (
                wrong_chain || contradicts || endpoint.resting_until().is_some(),
                endpoint.is_healthy(),
                trails,
            ) {
                (true, ..) => Fitness::Unusable,
                (_, false, _) => Fitness::OnTrial,
                (.., true) => Fitness::Trailing,
                (.., false) => Fitness::Fit,
            }
        };
        let fitnesses: Vec<_> = self.endpoints.iter().map(fitness).collect();
        fittest(&fitnesses).map(|index| self.endpoints[index].clone())
    }

    /// Who may be asked for a second answer about blocks up to `block`, besides `active`: the first that is healthy,
    /// and as far as is known on the right chain and not behind.
    pub fn second(&self, active: usize, block: u64) -> Option<Arc<Endpoint>> {
        let standings = self.standings();
        let fits = |endpoint: &&Arc<Endpoint>| {
            let Standing { wrong_chain, contradicts, head, .. } = standings[endpoint.index];
            endpoint.index != active
                && endpoint.is_healthy()
                && !wrong_chain
                && !contradicts
                && head.is_none_or(|head| head.saturating_add(plan::NEAR_HEAD) >= block)
        };
        self.endpoints.iter().find(fits).cloned()
    }

    /// Those that are preferred over this one and can be asked.
    pub fn preferred_over(&self, index: usize) -> Vec<Arc<Endpoint>> {
        let standings = self.standings();
        let fits =
            |endpoint: &&Arc<Endpoint>| endpoint.is_healthy() && !standings[endpoint.index].wrong_chain;
        self.endpoints[..index].iter().filter(fits).cloned().collect()
    }

    /// Endpoints besides `active` that were not asked for a while, or all where none is active. Each is to be
    /// probed now.
    pub fn due(&self, active: Option<usize>) -> Vec<Arc<Endpoint>> {
        let mut standings = self.standings();
        let due = |endpoint: &&Arc<Endpoint>| {
            let standing = &standings[endpoint.index];
            let waited = standing.probed.is_none_or(|then| then.elapsed() >= PROBE_INTERVAL);
            active != Some(endpoint.index)
                && !standing.probing
                && endpoint.resting_until().is_none()
                && (waited || active.is_none() || !endpoint.is_healthy())
        };
        let due: Vec<_> = self.endpoints.iter().filter(due).cloned().collect();
        for endpoint in &due {
            standings[endpoint.index].probed = Some(Instant::now());
            standings[endpoint.index].probing = true;
        }
        due
    }

    /// A probe of [`Self::due`] has its answer, or will have none. One that was `too_early` to show anything is due again.
    pub fn probed(&self, index: usize, too_early: bool) {
        let standing = &mut self.standings()[index];
        standing.probing = false;
        standing.probed = standing.probed.filter(|_| !too_early);
    }

    /// When the first endpoint may be asked again, where all are resting.
    pub fn next_available(&self) -> Option<Instant> {
        let rests = self.endpoints.iter().map(|endpoint| endpoint.resting_until());
        rests.collect::<Option<Vec<_>>>()?.into_iter().min()
    }

    /// Notes an endpoint's head; returns whether it trails the others by more than is allowed.
    pub fn record_head(&self, index: usize, head: u64) -> bool {
        let mut standings = self.standings();
        let best = self
            .endpoints
            .iter()
            .filter(|other| {
                let Standing { wrong_chain, contradicts, .. } = standings[other.index];
                other.index != index && other.is_healthy() && !wrong_chain && !contradicts
            })
            .filter_map(|other| standings[other.index].head)
            .max();
        let trails = best.is_some_and(|best| head.saturating_add(self.lag_allowed) < best);
        standings[index].head = Some(head);
        standings[index].trails = trails;
        trails
    }

    /// Notes whether an endpoint is on the right chain.
    pub fn record_chain(&self, index: usize, right: bool) -> Check {
        let standing = &mut self.standings()[index];
        standing.wrong_chain = !right;
        standing.wrong_chain_news.check(right)
    }

    /// Notes whether an endpoint has the block up to which the history was read.
    pub fn record_agreement(&self, index: usize, agrees: bool) -> Check {
        let standing = &mut self.standings()[index];
        standing.contradicts = !agrees;
        standing.contradiction_news.check(agrees)
    }

    /// Counts on top of these, in the order of the configuration.
    pub fn go_on_from(&self, stats: &[EndpointStats]) {
        for (endpoint, stats) in self.endpoints.iter().zip(stats) {
            endpoint.go_on_from(stats.clone());
        }
    }

    /// What became of the requests, in the order of the configuration.
    pub fn stats(&self) -> Vec<EndpointStats> {
        let standings = self.standings();
        let stats = |endpoint: &Arc<Endpoint>| {
            let mut stats = endpoint.stats();
            let Standing { wrong_chain, contradicts, trails, .. } = standings[endpoint.index];
            stats.healthy = stats.healthy.map(|healthy| healthy && !wrong_chain && !contradicts);
            if wrong_chain {
                stats.problem = Some("is on another chain".to_owned());
            } else if contradicts {
                stats.problem =
                    Some("contradicts the endpoint in use: has another block where that was read".to_owned());
            } else if trails && stats.problem.is_none() {
                stats.problem = Some("its head trails the other endpoints".to_owned());
            }
            stats
        };
        self.endpoints.iter().map(stats).collect()
    }

    fn standings(&self) -> MutexGuard<'_, Vec<Standing>> {
        self.standings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first of the fittest, in the order of preference.
fn fittest(fitnesses: &[Fitness]) -> Option<usize> {
    [Fitness::Fit, Fitness::Trailing, Fitness::OnTrial]
        .into_iter()
        .find_map(|wanted| fitnesses.iter().position(|fitness| *fitness == wanted))
}

#[cfg(test)]
mod tests {
    use super::Fitness::{Fit, OnTrial, Trailing, Unusable};
    use super::*;
    use crate::config::{Config, Variables};

    fn pool() -> Pool {
        let urls = ("TESSERACT_RPC_URL", "http://127.0.0.1:1,http://127.0.0.1:2,http://127.0.0.1:3");
        let contract = ("TESSERACT_CONTRACT", "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed");
        let variables = [urls, contract].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let config = Config::find(None, &Variables::from_iter(variables)).unwrap();
        Pool::new(&config.networks[0])
    }

    #[tokio::test(start_paused = true)]
    async fn a_wrong_chain_is_news_once_however_often_it_comes_and_goes() {
        let pool = pool();
        assert_eq!(pool.record_chain(0, true), Check::Passed);
        assert_eq!(pool.record_chain(0, false), Check::Failed { news: true });
        assert_eq!(pool.record_chain(0, true), Check::PassedAgain);
        for _ in 0..5 {
            assert_eq!(pool.record_chain(0, false), Check::Failed { news: false });
            assert_eq!(pool.record_chain(0, true), Check::Passed);
        }
        tokio::time::advance(NEWS_INTERVAL).await;
        assert_eq!(pool.record_chain(0, false), Check::Failed { news: true });
        assert_eq!(pool.record_chain(0, false), Check::Failed { news: false });
        assert_eq!(pool.record_chain(0, true), Check::PassedAgain);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_answer_is_asked_of_another_endpoint_that_is_well_and_up_to_date() {
        let pool = pool();
        let second = |active, block| pool.second(active, block).map(|endpoint| endpoint.index);
        // As long as nothing is known of them.
        assert_eq!((second(0, 1000), second(1, 1000)), (Some(1), Some(0)));
        pool.record_chain(1, false);
        assert_eq!(second(0, 1000), Some(2));
        pool.record_head(2, 900);
        assert_eq!((second(0, 1000), second(0, 960)), (None, Some(2)));
        pool.endpoints[2].record_unproductive("test");
        assert_eq!(second(0, 960), None);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_contradicts_the_history_is_neither_asked_nor_measured_by() {
        let pool = pool();
        pool.record_agreement(1, false);
        pool.record_head(1, 2000);
        assert!(!pool.record_head(0, 1000));
        assert_eq!(pool.second(0, 900).map(|endpoint| endpoint.index), Some(2));
        pool.endpoints[0].record_unproductive("test");
        pool.endpoints[2].record_unproductive("test");
        assert!(pool.pick().is_none());
        assert_eq!(pool.record_agreement(1, true), Check::PassedAgain);
        assert_eq!(pool.pick().map(|endpoint| endpoint.index), Some(1));
        assert!(pool.preferred_over(1).is_empty());
        pool.endpoints[0].record_completed();
    }

    #[test]
    fn the_first_of_the_fittest_is_asked() {
        for (fitnesses, chosen) in [
            (&[Fit, Fit][..], Some(0)),
            (&[Trailing, Fit], Some(1)),
            (&[OnTrial, Trailing], Some(1)),
            (&[Unusable, OnTrial, OnTrial], Some(1)),
            (&[OnTrial, Unusable, Trailing, Fit], Some(3)),
            (&[Unusable, Unusable], None),
            (&[], None),
        ] {
            assert_eq!(fittest(fitnesses), chosen, "{fitnesses:?}");
        }
    }
}
