//! Prometheus exporter for Tesseract coordination contracts.
//!
//! The modules in the order in which data passes through them; nothing imports from further down:
//! config, rpc, chain, decode, plan, ledger, views, snapshot, state, follow, metrics, web.

pub mod chain;
pub mod config;
pub mod decode;
pub mod follow;
pub mod ledger;
pub mod metrics;
pub mod plan;
pub mod rpc;
pub mod snapshot;
pub mod state;
pub mod views;
pub mod web;
