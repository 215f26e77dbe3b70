//! State of the contract at past blocks, asked of one endpoint: window, count and code, or that the node does not have
//! it any more.
//!
//! An error that may mean absent state, and an empty answer, are never enough to say that something was not there.

use std::time::Duration;

use tokio::time::sleep;

use super::Source;
use crate::follow::failure::CycleError;
use crate::follow::head::no_answer;
use crate::follow::verify::Reading;
use crate::rpc::{self, Answer, Call, ErrorKind, Refusal};
use crate::views::{self, COUNT, Returned, Unread, WINDOW};

/// Nodes keep the state of about the last 128 blocks.
const RECENT_STATE: u64 = 100;

/// How often state is asked for that seems to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::follow) enum Persistence {
    /// A few times at once: a balancer may have nodes with and without it.
    Some,
    /// For seconds: what is gone now is taken to be gone for good.
    Proof,
}

impl Persistence {
    fn tries_and_pause(self) -> (u32, Duration) {
        match self {
            Self::Some => (3, Duration::ZERO),
            Self::Proof => (12, Duration::from_millis(500)),
        }
    }
}

impl Source {
    /// The coordination window in force at each of these blocks.
    pub(in crate::follow) async fn windows_at(&self, blocks: &[u64]) -> Result<Vec<Reading>, CycleError> {
        // Blocks below the horizon are not asked for.
        let asked: Vec<u64> = blocks.iter().copied().filter(|block| *block >= self.oldest_state).collect();
        let calls: Vec<_> = asked.iter().map(|block| self.view_call(WINDOW, *block)).collect();
        let mut answers = self.endpoint.send(&calls).await.into_iter();
        let mut readings = Vec::with_capacity(blocks.len());
        for block in blocks {
            if *block < self.oldest_state {
                readings.push(Reading::Unavailable);
                continue;
            }
            let answer = answers.next().unwrap_or_else(no_answer);
            readings.push(match self.available(self.reading(WINDOW, answer))? {
                Some(reading) => reading,
                None => self.window_at(*block, Persistence::Some).await?,
            });
        }
        Ok(readings)
    }

    /// The coordination window in force at a block.
    pub(in crate::follow) async fn window_at(
        &self,
        block: u64,
        tries: Persistence,
    ) -> Result<Reading, CycleError> {
        self.view_at(WINDOW, block, tries).await
    }

    /// The number of transactions ever buffered at a block.
    pub(in crate::follow) async fn count_at(&self, block: u64) -> Result<Reading, CycleError> {
        self.view_at(COUNT, block, Persistence::Some).await
    }

    /// Whether there was code at a block; `None` where the node does not have its state.
    pub(in crate::follow) async fn code_at(
        &self,
        block: u64,
        tries: Persistence,
    ) -> Result<Option<bool>, CycleError> {
        self.state(&views::code_call(self.contract, block), views::has_code, tries).await
    }

    async fn view_at(&self, view: &str, block: u64, tries: Persistence) -> Result<Reading, CycleError> {
        if block < self.oldest_state {
            return Ok(Reading::Unavailable);
        }
        let call = self.view_call(view, block);
        let reading = self.state(&call, |answer| self.reading(view, answer), tries).await?;
        Ok(reading.unwrap_or(Reading::Unavailable))
    }

    /// State at a block; `None` where it is gone, as far as asking as often as `tries` says shows.
    async fn state<T>(
        &self,
        call: &Call,
        read: impl Fn(Answer) -> Result<T, Unread>,
        tries: Persistence,
    ) -> Result<Option<T>, CycleError> {
        let (tries, pause) = tries.tries_and_pause();
        for done in 1..=tries {
            let answer = self.available(read(self.endpoint.ask(call.clone()).await))?;
            if answer.is_some() {
                return Ok(answer);
            }
            if done < tries {
                sleep(pause).await;
            }
        }
        Ok(None)
    }

    /// What a view returned; that an empty answer means that there is no such view is believed only where the head
    /// says so.
    fn reading(&self, view: &str, answer: Answer) -> Result<Reading, Unread> {
        Ok(match views::returned(view, answer)? {
            Returned::Value(value) => Reading::Known(value.into_uint()),
            Returned::NoView => Reading::Known(None),
            Returned::Nothing if self.absent.contains(&view) => Reading::Known(None),
            Returned::Nothing => Reading::Unavailable,
        })
    }

    /// What was read; `None` where the node said that it has no such state.
    fn available<T>(&self, read: Result<T, Unread>) -> Result<Option<T>, CycleError> {
        match read {
            Ok(value) => Ok(Some(value)),
            Err(Unread::Rpc(error)) if self.may_mean_no_state(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Window and count at the end of a range. `logged`: the contract is there.
    pub(super) fn state_at_end(
        &self,
        answers: Vec<Answer>,
        block: u64,
        logged: bool,
    ) -> Result<[Reading; 2], CycleError> {
        let mut state = [Reading::Unavailable; 2];
        for ((reading, view), answer) in state.iter_mut().zip([WINDOW, COUNT]).zip(answers) {
            let read = self.available(self.reading(view, answer))?;
            *reading = read.unwrap_or(Reading::Unavailable);
            // Every node keeps the state close to the head: there its absence is a replica that lags.
            let must_be_there = logged || read.is_none();
            if *reading == Reading::Unavailable && must_be_there && block + RECENT_STATE > self.head.number {
                return Err(CycleError::Inconsistent(format!("no state of block {block}")));
            }
        }
        Ok(state)
    }

    fn may_mean_no_state(&self, error: &rpc::Error) -> bool {
        match error.kind {
            ErrorKind::Rpc(Refusal::NoState) => true,
            ErrorKind::Rpc(Refusal::Other) => self.errors_persist,
            _ => false,
        }
    }
}
