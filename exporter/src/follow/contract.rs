//! The contract's views at the head, with all else that a new head gives reason to ask for, in one exchange: the chain's
//! id, and the headers of blocks that were passed over.
//!
//! Asks by Multicall3 where the endpoint's answer by it was the same as by direct calls.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::Follower;
use super::failure::CycleError;
use super::head::{chain_call, no_answer};
use super::source::header_call;
use super::trail::Seen;
use super::verify::Reading;
use crate::chain::{self, BlockRef, BloomKey, Header};
use crate::plan;
use crate::rpc::{self, Answer, Endpoint, ErrorKind, Refusal};
use crate::views::aggregate::{self, Aggregated};
use crate::views::{self, Returned, Views};

/// The views of this many heads are remembered, as replicas that disagree serve them in turn.
const HEADS: usize = 4;

/// No more blocks than this between two heads are asked for.
const MOST_BETWEEN: u64 = 32;

/// Multicall3 is compared with direct calls again after so long.
const TRIED_AGAIN: Duration = Duration::from_secs(3600);

/// Whether an endpoint's views can be read by Multicall3.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Aggregation {
    /// Not known: the next views are read in both ways.
    #[default]
    Untested,
    /// It says the same as direct calls.
    Works,
    /// It is not there, or says something else.
    Unusable { until: Instant },
}

/// In which ways views are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ways {
    by_multicall: bool,
    directly: bool,
}

impl Aggregation {
    fn ways(self, now: Instant) -> Ways {
        match self {
            Self::Untested => Ways { by_multicall: true, directly: true },
            Self::Works => Ways { by_multicall: true, directly: false },
            Self::Unusable { until } => Ways { by_multicall: now >= until, directly: true },
        }
    }

    /// What is known once the same was read in both ways.
    fn compared(direct: &[Returned], chain_id: u64, by_multicall: Option<&Aggregated>, now: Instant) -> Self {
        let same = |it: &Aggregated| it.chain_id == chain_id && it.views == direct;
        if by_multicall.is_some_and(same) { Self::Works } else { Self::unusable(now) }
    }

    fn unusable(now: Instant) -> Self {
        Self::Unusable { until: now + TRIED_AGAIN }
    }
}

/// What Multicall3 said; `None`: nothing that it says where it is.
///
/// # Errors
/// The call failed for a reason that lies with the endpoint, or with the block.
fn aggregated(answer: Answer) -> Result<Option<Aggregated>, rpc::Error> {
    match answer {
        Ok(raw) => Ok(aggregate::read(&raw)),
        Err(rpc::Error { kind: ErrorKind::Rpc(refusal), .. })
            if !matches!(refusal, Refusal::NoBlock | Refusal::NoState) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Follower {
    /// Asks for the chain's id and the views, each unless it is known for this very block, and for the headers between
    /// this head and the last one.
    ///
    /// # Errors
    /// The endpoint is on another chain, or does not say on which.
    pub(super) async fn read_chain_and_views(
        &mut self,
        endpoint: &Endpoint,
        head: &Header,
    ) -> Result<Result<Views, CycleError>, CycleError> {
        let (block, contract) = (head.block, self.network.contract);
        let known = self.views.iter().find(|(hash, _)| *hash == block.hash).map(|(_, views)| views.clone());
        let accepted = self.memories[endpoint.index].accepted_head == Some(block.hash);
        let ways = match known {
            Some(_) => Ways { by_multicall: false, directly: false },
            None => self.memories[endpoint.index].aggregation.ways(Instant::now()),
        };
        let asks_chain = ways.directly || (!accepted && !ways.by_multicall);
        let between = self.blocks_between(block.number);
        let mut calls: Vec<_> = between.iter().map(|number| header_call(*number)).collect();
        calls.extend(asks_chain.then(chain_call));
        if ways.directly {
            calls.extend(views::calls(contract, block.number));
        }
        calls.extend(ways.by_multicall.then(|| aggregate::call(contract, block.hash)));

        let mut answers = endpoint.send(&calls).await;
        let by_multicall = ways.by_multicall.then(|| aggregated(answers.pop().unwrap_or_else(no_answer)));
        let mut answers = answers.into_iter();
        self.remember(head, answers.by_ref().take(between.len()));
        let mut chain_id = None;
        if asks_chain {
            chain_id = Some(chain::quantity(&answers.next().unwrap_or_else(no_answer)?)?);
        }
        let aggregation = &mut self.memories[endpoint.index].aggregation;
        let returned = match by_multicall {
            by_multicall if ways.directly => {
                let direct = views::read(answers).map_err(CycleError::from);
                if let (Ok(direct), Some(chain_id), Some(Ok(said))) = (&direct, chain_id, &by_multicall) {
                    *aggregation = Aggregation::compared(direct, chain_id, said.as_ref(), Instant::now());
                }
                direct
            }
            // Another chain is believed of direct calls alone.
            Some(Ok(Some(said))) if self.chain_id.is_none_or(|id| id == said.chain_id) => {
                chain_id = Some(said.chain_id);
                self.note_state(block, &said.views);
                Ok(said.views)
            }
            Some(Ok(_)) => {
                *aggregation = Aggregation::unusable(Instant::now());
                Err(CycleError::Inconsistent("Multicall3 does not answer as before".to_owned()))
            }
            Some(Err(error)) => Err(error.into()),
            None => Ok(Vec::new()),
        };
        if chain_id.is_none() && !accepted {
            chain_id = Some(chain::quantity(&endpoint.ask(chain_call()).await?)?);
        }
        if let Some(chain_id) = chain_id {
            self.accept_chain(endpoint, chain_id)?;
            self.memories[endpoint.index].accepted_head = Some(block.hash);
        }
        Ok(known.map_or_else(|| returned.map(Views::from), Ok))
    }

    /// What the contract said at the block of this very hash need not be asked for again.
    fn note_state(&mut self, block: BlockRef, views: &[Returned]) {
        let views = Views::from(views.to_vec());
        if views.exists == Some(true) {
            let state = [views.coordination_window, views.transaction_count].map(Reading::Known);
            self.trail.note_state(block.hash, state);
        }
    }

    /// The blocks between a head and the last one, where what is to be read next lies among them.
    fn blocks_between(&self, head: u64) -> Vec<u64> {
        let is_near =
            self.history.ledger.block().is_some() && self.history.next_block(0) + plan::NEAR_HEAD > head;
        if is_near { self.trail.missing_below(head, MOST_BETWEEN) } else { Vec::new() }
    }

    /// Remembers a head and the headers below it; one that did not come is read later, if it is needed.
    fn remember(&mut self, head: &Header, between: impl Iterator<Item = Answer>) {
        let between = between.filter_map(|answer| chain::header(&answer.ok()?).ok());
        let contract = BloomKey::of(self.network.contract.as_bytes());
        for header in between.chain([head.clone()]) {
            self.trail.add(Seen::new(&header, &contract));
        }
    }

    /// Shows the views of a block, once it is known whether there is a contract.
    pub(super) async fn show_views(
        &mut self,
        endpoint: &Endpoint,
        block: BlockRef,
        views: Result<Views, CycleError>,
    ) -> Result<(), CycleError> {
        let mut views = match views {
            Ok(views) => views,
            Err(error) => return Err(self.with_advice(endpoint, error).await),
        };
        if views.exists.is_none() {
            let code = views::code_call(self.network.contract, block.number);
            views.found(views::has_code(endpoint.ask(code).await)?);
        }
        if views.exists == Some(true) && self.views.iter().all(|(hash, _)| *hash != block.hash) {
            self.views.truncate(HEADS - 1);
            self.views.push_front((block.hash, views.clone()));
        }
        self.snapshot.owner_expected = self.network.expected_owner.zip(views.owner).map(|(a, b)| a == b);
        self.snapshot.views = views;
        Ok(())
    }

    /// The views of a block were refused: some nodes answer for `latest` alone, of which nobody knows which block it is.
    async fn with_advice(&self, endpoint: &Endpoint, error: CycleError) -> CycleError {
        let CycleError::Rpc(rpc::Error { kind: ErrorKind::Rpc(Refusal::Other), .. }) = error else {
            return error;
        };
        let mut call = views::code_call(self.network.contract, 0);
        call.params[1] = json!("latest");
        match endpoint.ask(call).await {
            Ok(_) => CycleError::Unusable(format!(
                "answers calls to the contract at `latest` only, not at a block; use another endpoint: {error}"
            )),
            Err(_) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use web3::ethabi::Token;

    use super::*;

    #[test]
    fn multicall_is_used_where_it_says_what_direct_calls_say() {
        let now = Instant::now();
        let count = |number: u64| vec![Returned::NoView, Returned::Value(Token::Uint(number.into()))];
        let said = |chain_id, number| Some(Aggregated { chain_id, views: count(number) });
        for (by_multicall, works) in
            [(said(1, 7), true), (said(1, 8), false), (said(2, 7), false), (None, false)]
        {
            let found = Aggregation::compared(&count(7), 1, by_multicall.as_ref(), now);
            assert_eq!(found == Aggregation::Works, works, "{by_multicall:?}");
            assert_eq!(found.ways(now).directly, !works);
        }
    }

    #[test]
    fn what_was_unusable_is_compared_again_later() {
        let now = Instant::now();
        let unusable = Aggregation::unusable(now);
        assert_eq!(unusable.ways(now), Ways { by_multicall: false, directly: true });
        assert_eq!(unusable.ways(now + TRIED_AGAIN), Ways { by_multicall: true, directly: true });
    }

    #[test]
    fn an_error_of_the_block_says_nothing_of_the_contract() {
        let error = |code, message: &str| aggregated(Err(rpc::Error::rpc(code, message)));
        assert_eq!(error(3, "execution reverted"), Ok(None));
        assert_eq!(error(-32000, "gas limit is too high"), Ok(None));
        assert!(error(-32000, "header not found").is_err());
        assert!(error(-32000, "missing trie node").is_err());
    }
}
