//! A real Ethereum node (anvil) under the test's control, and contracts deployed on it.
//!
//! By default no block is mined but by [`Anvil::mine_at`], with the time that the test chooses, so hours of
//! chain time pass in seconds and every run of a seed is the same. The node is killed when dropped.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;
use web3::ethabi::{self, Token};
use web3::types::{Address, H256, U256};

use crate::json_rpc::Client;

/// Enough for the largest call of a test, so that the node need not estimate.
const GAS: u64 = 10_000_000;

/// How long the node may take to start.
const START: Duration = Duration::from_secs(30);

/// How to start the node.
#[derive(Clone, Debug)]
pub struct Options {
    /// What `eth_chainId` answers.
    pub chain_id: u64,
    /// Time of the genesis block, seconds since the Unix epoch.
    pub genesis: u64,
    /// Mines by itself this often (whole seconds) on wall-clock time; only when told to if absent.
    pub block_time: Option<Duration>,
    /// `safe` is this many blocks below the head, `finalized` twice as many.
    pub slots_in_an_epoch: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { chain_id: 31337, genesis: 1_700_000_000, block_time: None, slots_in_an_epoch: 32 }
    }
}

/// A running node.
pub struct Anvil {
    _child: Child,
    /// The states of old blocks, which would outlive the node elsewhere.
    _states: TempDir,
    rpc: Client,
    accounts: Vec<Address>,
}

impl Anvil {
    /// Starts a node on a free port of 127.0.0.1 and waits until it listens.
    pub async fn start(options: &Options) -> Self {
        let states = TempDir::with_prefix("anvil-").expect("a temporary directory");
        let mut command = Command::new(binary());
        command
            .args(["--port", "0", "--order", "fifo", "--disable-block-gas-limit"])
            .args(["--chain-id", &options.chain_id.to_string()])
            .args(["--timestamp", &options.genesis.to_string()])
            .args(["--slots-in-an-epoch", &options.slots_in_an_epoch.to_string()])
            // All that a test can mine: by default the oldest states are dropped.
            .args(["--max-persisted-states", "1000000", "--cache-path"])
            .arg(states.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true);
        match options.block_time {
            Some(time) => command.args(["--block-time", &time.as_secs().to_string()]),
            None => command.arg("--no-mining"),
        };
        let mut child = command.spawn().expect("start anvil");
        let stdout = child.stdout.take().expect("standard output is piped");
        let address = timeout(START, listening(stdout)).await.expect("anvil listens in time");
        let rpc = Client::new(format!("http://{address}"));
        let accounts = expect(&rpc, "eth_accounts", json!([])).await;
        Self {
            _child: child,
            _states: states,
            rpc,
            accounts: serde_json::from_value(accounts).expect("addresses"),
        }
    }

    /// `http://` and its address.
    pub fn url(&self) -> &str {
        self.rpc.url()
    }

    /// For whatever this module has no name for.
    pub fn rpc(&self) -> &Client {
        &self.rpc
    }

    /// Accounts with ample funds, which the node signs for. Contracts are deployed from the first.
    pub fn accounts(&self) -> &[Address] {
        &self.accounts
    }

    /// Deploys `tests/contracts/artifacts/<name>.json` in a block of its own at this time.
    pub async fn deploy(&self, name: &str, time: u64) -> Contract {
        let artifact = Artifact::load(name);
        let hash = self.transact(self.accounts[0], None, &artifact.bytecode).await;
        self.mine_at(time).await;
        let receipt = self.expect("eth_getTransactionReceipt", json!([hash])).await;
        assert_eq!(receipt["status"], "0x1", "deployment of {name}: {receipt}");
        let address = serde_json::from_value(receipt["contractAddress"].clone()).expect("an address");
        let block = number(&receipt["blockNumber"]);
        Contract { abi: artifact.abi, address, block }
    }

    /// Puts a call of a contract's function into the pool; it may revert once it is mined.
    pub async fn send(&self, from: Address, to: &Contract, function: &str, arguments: &[Token]) -> H256 {
        self.transact(from, Some(to.address), &to.encode(function, arguments)).await
    }

    /// Reads a view of a contract as at the head.
    pub async fn view(&self, of: &Contract, function: &str) -> Token {
        let call = json!([{"to": of.address, "data": hex(&of.encode(function, &[]))}, "latest"]);
        let answer = self.expect("eth_call", call).await;
        let function = of.abi.function(function).expect("a view of the contract");
        function.decode_output(&bytes(&answer)).expect("what the ABI says").remove(0)
    }

    /// Mines one block with all that is in the pool, at this time, which must not be below the head's.
    pub async fn mine_at(&self, time: u64) {
        self.expect("evm_mine", json!([time])).await;
    }

    /// Number of the newest block.
    pub async fn head(&self) -> u64 {
        number(&self.expect("eth_blockNumber", json!([])).await)
    }

    /// The chain as it is now, for [`Self::revert`]; good for one return.
    pub async fn snapshot(&self) -> Value {
        self.expect("evm_snapshot", json!([])).await
    }

    /// Back to a snapshot: what was mined since is gone, and other blocks can take its place.
    pub async fn revert(&self, snapshot: &Value) {
        assert_eq!(self.expect("evm_revert", json!([snapshot])).await, true, "evm_revert");
    }

    /// Takes the newest `depth` blocks away, so that others can take their place.
    ///
    /// A node that has put the state of that block on disk forgets the code in it: these contracts, which
    /// must be older, get theirs back.
    pub async fn roll_back(&self, depth: u64, contracts: &[&Contract]) {
        let mut codes = Vec::new();
        for contract in contracts {
            codes.push(self.expect("eth_getCode", json!([contract.address, "latest"])).await);
        }
        self.expect("anvil_rollback", json!([depth])).await;
        for (contract, code) in contracts.iter().zip(codes) {
            self.expect("anvil_setCode", json!([contract.address, code])).await;
        }
    }

    async fn transact(&self, from: Address, to: Option<Address>, data: &[u8]) -> H256 {
        let transaction = json!([{"from": from, "to": to, "data": hex(data), "gas": U256::from(GAS)}]);
        let hash = self.expect("eth_sendTransaction", transaction).await;
        serde_json::from_value(hash).expect("a hash")
    }

    async fn expect(&self, method: &str, params: Value) -> Value {
        expect(&self.rpc, method, params).await
    }
}

/// A deployed contract.
#[derive(Clone, Debug)]
pub struct Contract {
    /// Its functions and events.
    pub abi: ethabi::Contract,
    /// Where it lives.
    pub address: Address,
    /// The block that deployed it.
    pub block: u64,
}

impl Contract {
    fn encode(&self, function: &str, arguments: &[Token]) -> Vec<u8> {
        let function = self.abi.function(function).expect("a function of the contract");
        function.encode_input(arguments).expect("arguments as the ABI says")
    }
}

/// A compiled contract.
pub struct Artifact {
    /// Its functions and events.
    pub abi: ethabi::Contract,
    /// What to deploy.
    pub bytecode: Vec<u8>,
}

impl Artifact {
    /// Reads `tests/contracts/artifacts/<name>.json`.
    pub fn load(name: &str) -> Self {
        #[derive(Deserialize)]
        struct File {
            abi: ethabi::Contract,
            bytecode: Value,
        }
        let path = root().join("contracts/artifacts").join(name).with_extension("json");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file: File = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self { abi: file.abi, bytecode: bytes(&file.bytecode) }
    }
}

/// A JSON-RPC quantity that fits into 64 bits.
pub fn number(quantity: &Value) -> u64 {
    let text = quantity.as_str().unwrap_or_else(|| panic!("not a quantity: {quantity}"));
    u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// JSON-RPC data as bytes.
pub fn bytes(data: &Value) -> Vec<u8> {
    let bytes: web3::types::Bytes =
        serde_json::from_value(data.clone()).unwrap_or_else(|error| panic!("{data}: {error}"));
    bytes.0
}

/// Bytes as JSON-RPC data.
pub fn hex(data: &[u8]) -> Value {
    json!(web3::types::Bytes(data.to_vec()))
}

async fn expect(rpc: &Client, method: &str, params: Value) -> Value {
    rpc.call(method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
}

async fn listening(stdout: tokio::process::ChildStdout) -> String {
    let mut lines = BufReader::new(stdout).lines();
    let mut said = Vec::new();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(address) = line.strip_prefix("Listening on ") {
            let address = address.to_owned();
            // The node goes on to log every request; unread, it would block.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return address;
        }
        said.push(line);
    }
    panic!("anvil ended before it listened:\n{}", said.join("\n"))
}

/// The node's own binary: npm's wrapper would outlive a kill.
fn binary() -> PathBuf {
    let packages = root().join("node_modules/@foundry-rs");
    let found = std::fs::read_dir(&packages).into_iter().flatten().flatten();
    let mut binaries = found.map(|package| package.path().join("bin/anvil")).filter(|path| path.exists());
    binaries.next().unwrap_or_else(|| panic!("no anvil in {}: run tests/setup", packages.display()))
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
