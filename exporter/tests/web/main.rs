//! The HTTP server over real sockets: routes, health, and clients that misbehave.
#![allow(clippy::unwrap_used)]

mod access;
mod clients;
mod connections;
mod health;
mod pages;
mod reread;
mod routes;
mod server;
mod tls;
mod transaction;
