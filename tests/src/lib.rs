//! What the tests, the demo and the soak share.

pub mod anvil;
pub mod bench;
pub mod demo;
pub mod fold;
pub mod hostile;
pub mod http;
pub mod json_rpc;
pub mod process;
pub mod prometheus;
pub mod protobuf;
pub mod rig;
pub mod scripted;
pub mod series;
pub mod sim;
pub mod simulation;
pub mod skip;
pub mod soak;
pub mod speed;
pub mod stack;
pub mod stand_in;
pub mod traffic;
