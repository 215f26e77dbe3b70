//! Nothing is lost between the exporter's series and the people on call: the shipped rules and configurations in a real
//! Prometheus and a real Alertmanager, sixty times as fast, between scripted exporters and stand-ins for those who are told.
//!
//! An hour here is a minute, in every duration of every file and in nothing else; `tesseract_tests::speed` says how. That
//! the exporter shows what happens on a chain is for other tests, above all `end_to_end`.
#![allow(clippy::unwrap_used)]

mod cases;
mod delivery;
mod every_alert;
mod incomplete;
mod rates;
mod rig;
mod states;
