//! The contract's views, all at one block and in one round trip, through web3's `Eth` on our transport.
//!
//! A view that the contract does not have is told from one that could not be read.

use std::sync::Arc;

use futures_util::future::join_all;
use web3::api::{Eth, Namespace};
use web3::ethabi::Token;
use web3::transports::Batch;
use web3::types::{BlockNumber, Bytes, CallRequest, H160, U256};

use crate::decode::ABI;
use crate::rpc::{self, Endpoint, Node};

/// Every view, and no other call, in the order of their fields.
const VIEWS: [&str; 5] =
    ["owner", "paused", "circuit_breaker_active", "transaction_count", "coordination_window"];

/// The contract's views, all read at one block. A view that failed or does not exist is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Views {
    /// There is code at the address.
    pub exists: Option<bool>,
    /// `owner()`
    pub owner: Option<H160>,
    /// `paused()`
    pub paused: Option<bool>,
    /// `circuit_breaker_active()`
    pub circuit_breaker: Option<bool>,
    /// `transaction_count()`
    pub transaction_count: Option<U256>,
    /// `coordination_window()`, seconds
    pub coordination_window: Option<U256>,
    /// Which variant the views show: `buffer` where `paused()` exists, else `simple`.
    pub variant: Option<&'static str>,
}

/// All views at this block.
///
/// # Errors
/// The first view that could not be read, other than for the contract not having it.
pub async fn read(endpoint: Arc<Endpoint>, contract: H160, block: u64) -> Result<Views, rpc::Error> {
    let batch = Batch::new(Node(endpoint));
    let eth = Eth::new(batch.clone());
    let at = BlockNumber::Number(block.into());
    let code = eth.code(contract, Some(at));
    let calls: Vec<_> = VIEWS.iter().map(|view| eth.call(request(contract, view), Some(at.into()))).collect();
    batch.submit_batch().await.map_err(from_web3)?;
    let exists = !code.await.map_err(from_web3)?.0.is_empty();
    let mut values = VIEWS.iter().zip(join_all(calls).await).map(|(view, answer)| value(view, answer));
    let mut next = || values.next().transpose().map(Option::flatten);
    let (owner, paused, breaker, count, window) = (next()?, next()?, next()?, next()?, next()?);
    let paused = paused.and_then(Token::into_bool);
    Ok(Views {
        exists: Some(exists),
        owner: owner.and_then(Token::into_address),
        paused,
        circuit_breaker: breaker.and_then(Token::into_bool),
        transaction_count: count.and_then(Token::into_uint),
        coordination_window: window.and_then(Token::into_uint),
        variant: exists.then_some(if paused.is_some() { "buffer" } else { "simple" }),
    })
}

/// Whether there is code at the address at a block that may be long past.
///
/// # Errors
/// The node does not have the state of that block, or could not be asked.
pub async fn exists_at(endpoint: Arc<Endpoint>, contract: H160, block: u64) -> Result<bool, rpc::Error> {
    let at = BlockNumber::Number(block.into());
    let code = Eth::new(Node(endpoint)).code(contract, Some(at)).await.map_err(from_web3)?;
    Ok(!code.0.is_empty())
}

/// The call of a view, for a batch of the caller's own.
pub fn request(contract: H160, view: &str) -> CallRequest {
    // Views take no parameters, so the selector is the whole input.
    let input = ABI.function(view).map(|function| function.short_signature().to_vec());
    CallRequest { to: Some(contract), data: input.ok().map(Bytes), ..CallRequest::default() }
}

/// The value of a view, from what its call returned; `None` where the contract has no such view.
pub fn decode(view: &str, returned: &Bytes) -> Option<Token> {
    ABI.function(view).ok()?.decode_output(&returned.0).ok()?.pop()
}

fn value(view: &str, answer: web3::Result<Bytes>) -> Result<Option<Token>, rpc::Error> {
    match answer.map_err(from_web3) {
        Ok(returned) => Ok(decode(view, &returned)),
        Err(error) if error.is_revert() => Ok(None),
        Err(error) => Err(error),
    }
}

fn from_web3(error: web3::Error) -> rpc::Error {
    match error {
        web3::Error::Rpc(error) => rpc::Error::told(error.code.code(), error.message),
        // Its words quote the answer, which may quote a key.
        web3::Error::Decoder(_) => rpc::Error::new(rpc::Outcome::Invalid, "cannot read the answer to a call"),
        other => rpc::Error::new(rpc::Outcome::Invalid, other),
    }
}

#[cfg(test)]
mod tests {
    use web3::types::U256;

    use super::*;

    #[test]
    fn a_missing_view_is_told_from_a_failed_read() {
        let number = value("transaction_count", Ok(Bytes([0; 32].to_vec())));
        assert_eq!(number.unwrap(), Some(Token::Uint(U256::zero())));
        assert_eq!(value("paused", Ok(Bytes(vec![]))).unwrap(), None);
        let answer = |code: i64, message: &str| {
            Err(web3::Error::Rpc(jsonrpc_core::Error {
                code: code.into(),
                message: message.into(),
                data: None,
            }))
        };
        assert_eq!(value("paused", answer(3, "error 3: execution reverted")).unwrap(), None);
        assert_eq!(value("paused", answer(-32000, "execution reverted")).unwrap(), None);
        assert!(value("paused", answer(-32000, "missing trie node")).is_err());
    }

    #[test]
    fn every_view_is_in_the_abi() {
        for view in VIEWS {
            assert_eq!(request(H160::zero(), view).data.map(|data| data.0.len()), Some(4), "{view}");
        }
    }
}
