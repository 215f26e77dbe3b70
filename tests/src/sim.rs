//! A simulated chain: a node that answers JSON-RPC over HTTP and holds one Tesseract contract.
//!
//! It serves the tests, the benchmarks and the demo. A history is a function of [`Params`] and of the calls and
//! reorganisations by hand, so a seed that showed something once shows it for ever. The node is honest:
//! what goes wrong with real ones is put in front of it. It is not a virtual machine: the contract's rules are
//! written out in [`contract`], as the real ones' facts tell.
//!
//! `traffic` calls `contract`, which writes `event`s into the `chain`; `node` answers from it, on the `server`'s
//! socket.

mod chain;
mod contract;
mod event;
mod multicall;
mod node;
mod server;
mod traffic;

pub use chain::{Chain, Params, PlacedLog, Regular};
pub use contract::{Call, DEFAULT_WINDOW, Revert, Views};
pub use event::{RawLog, Variant, address, topic};
pub use multicall::ADDRESS as MULTICALL;
pub use node::{answer, block_object, log_object};
pub use server::Sim;
