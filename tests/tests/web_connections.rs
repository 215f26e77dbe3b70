//! Clients that take every connection they get, and what the exporter does meanwhile.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use tesseract_tests::process::Launch;
use tesseract_tests::rig::{NETWORK, Setup};
use tesseract_tests::sim::{Params, Sim};
use tokio::net::TcpStream;

const WITHIN: Duration = Duration::from_secs(30);

/// As few as a service manager may leave it.
const DESCRIPTORS: u32 = 64;

#[tokio::test]
async fn with_few_file_descriptors_clients_do_not_starve_the_chain() {
    let sim = Sim::start(Params::default()).await.unwrap();
    sim.advance(50);
    let setup = Setup::new(&[&sim.url()], sim.chain().contract());
    let exporter = Launch::config(&setup.yaml(None)).descriptors(DESCRIPTORS).start().await;
    let mut silent = Vec::new();
    for _ in 0..4 * DESCRIPTORS {
        silent.push(TcpStream::connect(exporter.address()).await.unwrap());
    }
    let line =
        exporter.wait_for_line("it says so", WITHIN, |line| line.contains("too many connections")).await;
    assert!(line.contains("\"limit\":16"), "{line}");
    let number = format!("tesseract_processed_block_number{{network=\"{NETWORK}\"}}");
    for _ in 0..5 {
        // Those that were closed come again.
        for stream in silent.iter_mut().rev().take(DESCRIPTORS as usize) {
            *stream = TcpStream::connect(exporter.address()).await.unwrap();
        }
        let head = sim.advance(3);
        let series =
            exporter.wait_for("it follows", WITHIN, |now| now.get(&number) == Some((head - 2) as f64)).await;
        assert!(series.get("process_open_fds").unwrap() < f64::from(DESCRIPTORS) / 2.0, "{series}");
        let failed = series.0.iter().filter(|(key, value)| {
            key.starts_with("tesseract_rpc_requests_total")
                && !key.contains("outcome=\"ok\"")
                && *value != "0"
        });
        assert_eq!(failed.count(), 0, "{series}");
    }
    let log = exporter.log();
    let told = |what: &str| log.iter().filter(|line| line.contains(what)).count();
    assert!(told("cannot accept") == 0 && told("too many connections") <= 2, "{log:#?}");
}
