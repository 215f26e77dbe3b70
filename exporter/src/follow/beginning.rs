//! Where the history begins: the block of deployment, found by bisection over `eth_getCode`.

use super::failure::CycleError;
use super::source::{Persistence, Source};
use super::windows::Bisection;

/// The block at which the contract first has code, known to have some at the head; 0 with a warning where
/// the endpoint provably has no old state. What `search` has found stays found when a call fails.
pub(super) async fn find(
    source: &Source,
    search: &mut Bisection,
    network: &str,
    range: u64,
) -> Result<u64, CycleError> {
    while let Some(block) = search.question() {
        let mut code = source.code_at(block, Persistence::Some).await?;
        if code.is_none() {
            code = source.code_at(block, Persistence::Proof).await?;
        }
        let Some(code) = code else {
            let requests = source.head.number / range.max(1) + 1;
            tracing::warn!(
                network,
                block,
                requests,
                "the endpoint has no old state to find the deployment block with: scanning from block 0, \
                 which takes at least that many requests; set `start_block` to avoid it"
            );
            return Ok(0);
        };
        search.answer(block, code);
        // What was found stays found, so this use of the endpoint got something done.
        source.endpoint.record_completed();
    }
    Ok(search.first())
}
