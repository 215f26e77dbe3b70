//! Prometheus exporter for Tesseract coordination contracts.
//!
//! The modules in the order in which data passes through them; nothing imports from further down:
//! config, rpc, chain, decode, plan, ledger, views, snapshot, state, follow, metrics, web. Around them: cli,
//! app, networks and supervise start and stop everything, log and progress report on it, health asks another process;
//! memory_limit warns; native counts in fine buckets for ledger and rpc; text serves whoever shows words from outside.

pub mod app;
pub mod chain;
pub mod cli;
pub mod config;
pub mod decode;
pub mod follow;
pub mod health;
pub mod ledger;
pub mod log;
mod memory_limit;
pub mod metrics;
pub mod native;
mod networks;
pub mod plan;
pub mod progress;
pub mod proof;
pub mod rpc;
pub mod snapshot;
pub mod state;
mod supervise;
mod text;
pub mod views;
pub mod web;
