//! An endpoint as a `web3` transport, so that web3's `Eth` namespace and its batches ride on it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use jsonrpc_core::{Call, Value};
use web3::error::{Error as Web3Error, Result as Web3Result, TransportError};
use web3::{BatchTransport, RequestId, Transport};

use super::{Endpoint, Error, Raw};

/// web3's batches keep their answers apart by this number; on the wire the endpoint has its own.
static NEXT_ID: AtomicUsize = AtomicUsize::new(0);

/// A shared endpoint in the shape that `web3` asks for.
#[derive(Clone, Debug)]
pub struct Node(pub Arc<Endpoint>);

impl Transport for Node {
    type Out = Pin<Box<dyn Future<Output = Web3Result<Value>> + Send>>;

    fn prepare(&self, method: &str, params: Vec<Value>) -> (RequestId, Call) {
        (NEXT_ID.fetch_add(1, Ordering::Relaxed), super::call(method, params))
    }

    fn send(&self, _: RequestId, request: Call) -> Self::Out {
        let endpoint = self.0.clone();
        Box::pin(async move { value(endpoint.send_one(request).await) })
    }
}

impl BatchTransport for Node {
    type Batch = Pin<Box<dyn Future<Output = Web3Result<Vec<Web3Result<Value>>>> + Send>>;

    fn send_batch<T: IntoIterator<Item = (RequestId, Call)>>(&self, requests: T) -> Self::Batch {
        let endpoint = self.0.clone();
        let calls = requests.into_iter().map(|(_, call)| call).collect();
        Box::pin(async move { Ok(endpoint.send(calls).await.into_iter().map(value).collect()) })
    }
}

fn value(result: Result<Raw, Error>) -> Web3Result<Value> {
    let raw = result.map_err(web3_error)?;
    serde_json::from_str(raw.get()).map_err(Into::into)
}

fn web3_error(error: Error) -> Web3Error {
    match error.code {
        Some(code) => {
            Web3Error::Rpc(jsonrpc_core::Error { code: code.into(), message: error.message, data: None })
        }
        None => Web3Error::Transport(TransportError::Message(error.message)),
    }
}
