//! What real providers say when they refuse, as data.
//!
//! The wordings are those that clients and indexers have recorded; an answer is built from a row by
//! filling in the numbers of the request at hand. No row is interpreted here: who asks must manage
//! without knowing any of them.

use serde_json::{Value, json};

/// One provider's refusal.
#[derive(Debug, PartialEq)]
pub struct Refusal {
    /// Who says it.
    pub provider: &'static str,
    /// With which HTTP status.
    pub status: u16,
    /// The JSON-RPC code; `None` for a page of HTML instead of an answer.
    pub code: Option<i64>,
    /// The words. `{from}`, `{to}` and `{half}` are blocks in hexadecimal, `{from_dec}` and `{to_dec}` in
    /// decimal, `{span}` is the number of blocks asked for and `{cap}` the number allowed.
    pub message: &'static str,
    /// What it allows.
    pub cap: Cap,
}

/// How much of `eth_getLogs` a provider allows in one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    /// So many blocks.
    Blocks(u64),
    /// So many logs in the answer.
    Results(u64),
    /// Nothing, while it lasts.
    None,
}

impl Cap {
    /// The cap of a chain `scale` times shorter than a real one, never under ten, so that a test needs
    /// no real chain's length to meet it.
    pub fn scaled(self, scale: u64) -> Self {
        let shrink = |cap: u64| (cap / scale).max(cap.min(10));
        match self {
            Self::Blocks(cap) => Self::Blocks(shrink(cap)),
            Self::Results(cap) => Self::Results(shrink(cap)),
            Self::None => Self::None,
        }
    }
}

const fn row(provider: &'static str, status: u16, code: i64, message: &'static str, cap: Cap) -> Refusal {
    Refusal { provider, status, code: Some(code), message, cap }
}

const fn page(provider: &'static str, status: u16, message: &'static str, cap: Cap) -> Refusal {
    Refusal { provider, status, code: None, message, cap }
}

/// Refusals of an `eth_getLogs` that asks for too much.
#[rustfmt::skip]
pub static RANGES: [Refusal; 27] = [
    row("infura-results", 200, -32005, "query returned more than 10000 results. Try with this block range [{from}, {half}].", Cap::Results(10_000)),
    row("infura-blocks", 200, -32602, "range {span} exceeds limit of {cap}", Cap::Blocks(10_000)),
    row("alchemy-results", 400, -32602, "Log response size exceeded. You can make eth_getLogs requests with up to a 2K block range and no limit on the response size, or you can request any block range with a cap of 10K logs in the response. Based on your parameters and the response size limit, this block range should work: [{from}, {to}]", Cap::Results(10_000)),
    row("alchemy-free", 400, -32600, "Under the Free tier plan, you can make eth_getLogs requests with up to a 10 block range. Based on your parameters, this block range should work: [{from}, {half}]. Upgrade to PAYG for expanded block range.", Cap::Blocks(10)),
    row("quicknode", 413, -32614, "eth_getLogs is limited to a 10,000 range", Cap::Blocks(10_000)),
    row("ankr", 400, -32600, "block range is too wide", Cap::Blocks(3_000)),
    row("chainstack", 200, -32602, "Block range limit exceeded. See more details at https://docs.chainstack.com/docs/limits#evm-range-limits", Cap::Blocks(10_100)),
    row("blockdaemon", 200, -32002, "request timed out", Cap::Results(10_000)),
    row("blockpi", 200, -32602, "eth_getLogs is limited to 1024 block range. Please check the parameter requirements at  https://docs.blockpi.io/documentations/api-reference", Cap::Blocks(1_024)),
    row("drpc-free", 400, 35, "ranges over 10000 blocks are not supported on freetier", Cap::Blocks(10_000)),
    row("drpc-results", 200, -32000, "query returns too many logs, narrow your filter: 20000", Cap::Results(20_000)),
    row("publicnode", 200, -32701, "exceed maximum block range: 10000", Cap::Blocks(10_000)),
    row("llamanodes", 200, -32603, "eth_getLogs range is too large, max is 1k blocks", Cap::Blocks(1_000)),
    row("cloudflare", 200, -32047, "Invalid eth_getLogs request. 'fromBlock'-'toBlock' range too large. Max range: 800", Cap::Blocks(800)),
    row("tenderly", 200, -32602, "invalid params", Cap::Blocks(2_000)),
    row("thirdweb", 200, -32005, "Log response size exceeded. Maximum allowed number of requested blocks is 1000", Cap::Blocks(1_000)),
    row("zksync", 200, -32602, "Query returned more than 10000 results. Try with this block range [{from}, {to}].", Cap::Results(10_000)),
    row("reth-blocks", 200, -32602, "query exceeds max block range {cap}", Cap::Blocks(5_000)),
    row("reth-results", 200, -32602, "query exceeds max results 20000, retry with the range {from_dec}-{to_dec}", Cap::Results(20_000)),
    row("nethermind", 200, -32005, "Too many logs requested. Max logs per response is {cap}.", Cap::Results(20_000)),
    row("avalanche", 200, -32000, "requested too many blocks from {from_dec} to {to_dec}, maximum is set to {cap}", Cap::Blocks(2_048)),
    row("bnb", 200, -32000, "exceed maximum block range: 5000", Cap::Blocks(5_000)),
    row("polygon-zkevm", 200, -32005, "logs matched by query exceeds limit of 10000", Cap::Results(10_000)),
    row("morph", 200, -32000, "block range is larger than max block range, block range = {span}, max block range = {cap}", Cap::Blocks(5_000)),
    row("moonbeam", 200, -32603, "block range is too wide (maximum {cap})", Cap::Blocks(1_024)),
    page("nginx", 413, "413 Request Entity Too Large", Cap::Results(10_000)),
    page("varnish", 503, "503 Backend fetch failed", Cap::Blocks(2_000)),
];

/// Refusals of any request, because there were too many before it.
#[rustfmt::skip]
pub static RATES: [Refusal; 8] = [
    row("infura-rate", 200, -32005, "project ID request rate exceeded", Cap::None),
    row("alchemy-rate", 429, 429, "Your app has exceeded its compute units per second capacity. If you have retries enabled, you can safely ignore this message.", Cap::None),
    row("quicknode-rate", 429, -32007, "50/second request limit reached - reduce calls per second or upgrade your account", Cap::None),
    row("base-rate", 429, -32016, "over rate limit", Cap::None),
    row("merkle-rate", 200, -32005, "Rate limit exceeded", Cap::None),
    row("bnb-rate", 200, -32005, "limit exceeded", Cap::None),
    row("geth-proxy-rate", 200, -32000, "Too many requests", Cap::None),
    page("cloudflare-rate", 429, "error code: 1015", Cap::None),
];

impl Refusal {
    /// The error object for a request of these blocks under this cap.
    pub fn error(&self, from: u64, to: u64, cap: Cap) -> Value {
        let allowed = match cap {
            Cap::Blocks(cap) | Cap::Results(cap) => cap,
            Cap::None => 0,
        };
        let message = self
            .message
            .replace("{from}", &format!("{from:#x}"))
            .replace("{to}", &format!("{to:#x}"))
            .replace("{half}", &format!("{:#x}", from + (to - from) / 2))
            .replace("{from_dec}", &from.to_string())
            .replace("{to_dec}", &to.to_string())
            .replace("{span}", &(to - from + 1).to_string())
            .replace("{cap}", &allowed.to_string());
        let mut error = json!({"code": self.code, "message": message});
        if self.provider == "tenderly" {
            let payload = format!("range {} is bigger than range limit {allowed}", to - from + 1);
            error["data"] = json!({"payload": payload});
        }
        error
    }

    /// The page of HTML for a refusal that is no JSON at all.
    pub fn html(&self) -> String {
        html(self.message)
    }
}

/// A page as gateways make them.
pub(super) fn html(title: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html><head><title>{title}</title></head>\n<body><h1>{title}</h1><hr></body></html>\n"
    )
}
