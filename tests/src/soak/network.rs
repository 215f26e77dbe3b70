//! One network of a soak: a contract of the chain behind a hostile node, and what must be shown of it.

use web3::types::Address;

use super::CONFIRMATIONS;
use crate::fold::{self, Block};
use crate::hostile::Proxy;
use crate::json_rpc::Client;
use crate::rig::{is_counter, raised};
use crate::series::Series;

/// A contract, and what an exporter showed of it last.
pub(super) struct Network {
    pub(super) name: &'static str,
    pub(super) contract: Address,
    pub(super) proxy: Proxy,
    /// The chain as far as it was read, without what a reorganisation took.
    blocks: Vec<Block>,
    /// What counters may not be below, and need not be above unless the truth is.
    low: Series,
    high: Series,
    /// Reorganisations of processed blocks: the running process must have seen the first number of them,
    /// and may have seen the second.
    reorgs: (u64, u64),
}

impl Network {
    pub(super) fn new(name: &'static str, contract: Address, proxy: Proxy) -> Self {
        let (low, high) = (Series::default(), Series::default());
        Self { name, contract, proxy, blocks: Vec::new(), low, high, reorgs: (0, 0) }
    }

    /// The exporter has been started anew.
    pub(super) fn restarted(&mut self) {
        self.low = Series::default();
        // One of this round may be news to the new process.
        self.reorgs = (0, 1);
    }

    /// So many of the newest blocks are others now.
    pub(super) fn reorganised(&mut self, depth: u64) {
        self.blocks.truncate(self.blocks.len().saturating_sub(usize::try_from(depth).unwrap_or(usize::MAX)));
        if depth > CONFIRMATIONS {
            self.reorgs = (self.reorgs.0 + 1, self.reorgs.1 + 1);
        }
    }

    /// Whether the confirmed series are shown, compared with the contract, and of this block.
    pub(super) fn is_read(&self, series: &Series, target: u64) -> bool {
        let own = self.key("tesseract_processed_block_number");
        let whole = series.0.contains_key(&self.key("tesseract_missing_events"));
        whole && series.get(&own) == Some(target as f64)
    }

    /// How many series were compared with the fold of the chain up to `target`, and what is wrong.
    pub(super) async fn compare(
        &mut self,
        node: &Client,
        target: u64,
        scrape: &Series,
    ) -> (u64, Vec<String>) {
        self.blocks.extend(fold::read(node, self.contract, self.blocks.len() as u64..=target).await);
        let truth = fold::truth(&self.blocks, target, self.name);
        let shown = scrape.of(self.name);
        let compared = truth.series.len() as u64;
        let mut wrong = fold::differences(&raised(&truth, &self.low), &shown);
        if !wrong.is_empty() {
            // After a restart the process may hold what it found in its state, up to what was shown last.
            let above = fold::differences(&raised(&truth, &self.high), &shown);
            wrong.retain(|line| above.contains(line) || !is_counter(line));
        }
        let reorgs = shown.get(&self.key("tesseract_reorgs_total")).unwrap_or(0.0) as u64;
        if !(self.reorgs.0..=self.reorgs.1).contains(&reorgs) {
            wrong.push(format!("{reorgs} reorganisations counted, expected {:?}", self.reorgs));
        }
        self.reorgs = (reorgs, reorgs);
        self.low = shown.clone();
        self.high = shown;
        (compared, wrong.into_iter().map(|line| format!("{}: {line}", self.name)).collect())
    }

    fn key(&self, name: &str) -> String {
        format!("{name}{{network=\"{}\"}}", self.name)
    }
}
