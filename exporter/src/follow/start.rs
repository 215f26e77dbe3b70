//! Where the history begins: the block of deployment, found by bisection over `eth_getCode`.

use super::fetch::Source;
use super::trouble::Trouble;
use crate::views;

/// The block at which the contract first has code; 0 with a warning where the node has no old state.
pub(super) async fn first_block(source: &Source, network: &str, range: u64) -> Result<u64, Trouble> {
    let (mut without, mut with) = (None, source.head.number);
    // Bisection between "no block" and the head, at which there is code.
    while with > without.map_or(0, |block| block + 1) {
        let low = without.map_or(0, |block| block + 1);
        let middle = low + (with - low) / 2;
        match views::exists_at(source.endpoint.clone(), source.contract, middle).await {
            Ok(true) => with = middle,
            Ok(false) => without = Some(middle),
            Err(error) if source.is_no_state(&error) => {
                let requests = source.head.number / range.max(1) + 1;
                tracing::warn!(network, %error, requests,
                    "the node has no old state to find the deployment block with: scanning begins at block 0, \
                     which takes at least that many requests; set `start_block` to avoid it");
                return Ok(0);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(with)
}
