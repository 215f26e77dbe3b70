//! Blocks that are confirmed after they were heads: their headers are known, and most of them hold nothing.
//!
//! Never believes a bloom to rule anything out before the endpoint's blooms have held (see `memory`).

use super::Source;
use crate::follow::failure::CycleError;
use crate::follow::trail::{Bloomed, Seen};
use crate::follow::verify::RawRange;
use crate::plan::Fetch;

/// Of more blocks than this the logs are cheaper to read as a range.
const MOST_BY_HASH: usize = 2;

impl Source {
    /// A range of known blocks, with the logs of those that may have some, by their hashes; `None` where it is to be
    /// read as any other.
    pub(super) async fn read_seen(&self, fetch: &Fetch) -> Result<Option<RawRange>, CycleError> {
        let Some(blocks) = self.seen_in(fetch).filter(|_| !self.thorough && self.unbound.is_none()) else {
            return Ok(None);
        };
        let may_hold = |seen: &&Seen| !(self.rules_out && seen.bloom == Bloomed::RuledOut);
        let asked: Vec<_> = blocks.iter().filter(may_hold).map(Seen::header).collect();
        let Some(last) = blocks.last().filter(|_| asked.len() <= MOST_BY_HASH) else { return Ok(None) };
        let end = last.block.number;
        let mut calls: Vec<_> = asked.iter().map(|header| self.block_logs_call(header.block.hash)).collect();
        if last.state.is_none() {
            calls.extend(self.state_calls(end));
        }
        let mut answers = self.endpoint.send(&calls).await;
        let state = answers.split_off(asked.len());
        let mut logs = Vec::new();
        for (answer, header) in answers.into_iter().zip(&asked) {
            // A replica that does not have the block yet: those that have are found in the other way.
            if answer.as_ref().is_err_and(|error| error.kind.is_behind()) {
                return Ok(None);
            }
            logs.extend(self.block_logs(answer, header).await?);
        }
        let [window, count] = match last.state {
            Some(state) => state,
            None => self.state_at_end(state, end, !logs.is_empty())?,
        };
        let headers = blocks.iter().map(Seen::header).collect();
        Ok(Some(RawRange { fetch: fetch.clone(), headers, logs, text: None, window, count }))
    }

    /// The blocks of a range, if all of them are known.
    pub(super) fn seen_in(&self, fetch: &Fetch) -> Option<&[Seen]> {
        let known = self.seen.first()?.block.number;
        let index = |number: u64| usize::try_from(number.checked_sub(known)?).ok();
        self.seen.get(index(*fetch.blocks.start())?..=index(*fetch.blocks.end())?)
    }
}
