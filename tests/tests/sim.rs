//! The simulated chain keeps the contract's rules, replays for ever, and answers as nodes do.
#![allow(clippy::unwrap_used)]

#[path = "sim/history.rs"]
mod history;
#[path = "sim/node.rs"]
mod node;
#[path = "sim/rules.rs"]
mod rules;
