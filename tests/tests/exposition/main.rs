//! The whole exposition: as golden files, through independent parsers, and through a real Prometheus.
//!
//! `UPDATE_GOLDEN=1` rewrites the golden files instead of comparing.
#![allow(clippy::unwrap_used)]

mod fixture;
mod golden;
mod prometheus;
