//! How the exporter starts, stops, and tells that it is well.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::time::Duration;

use tesseract_tests::process::{Exporter, Launch, free_port};
use tesseract_tests::series::Series;
use tesseract_tests::sim::{Params, Sim};

/// How long the exporter may take to do what it is about to be interrupted in.
const WITHIN: Duration = Duration::from_secs(20);

fn config(url: &str, contract: impl std::fmt::LowerHex, more: &str) -> String {
    format!(
        "networks:\n  - name: a\n    rpc_urls: ['{url}']\n    contract: '{contract:#x}'\n    \
         poll_interval: 100ms\n{more}"
    )
}

async fn assert_ends_well(mut exporter: Exporter) {
    let status = exporter.terminate().await;
    assert_eq!(status.code(), Some(0), "{:#?}", exporter.log());
    assert!(exporter.log().last().unwrap().contains("\"stopped\""), "{:#?}", exporter.log());
}

#[tokio::test]
async fn a_pipe_that_nobody_reads_holds_up_neither_the_chain_nor_a_scrape_nor_the_end() {
    let sim = Sim::start(Params::default()).await.unwrap();
    sim.advance(9000);
    let config = config(&sim.url(), sim.chain().contract(), "");
    // A line for each event of the history, which are more than a pipe and the queue hold.
    let launch =
        Launch::config(&config).arg("--log.level=debug").listen(&format!("127.0.0.1:{}", free_port()));
    let mut exporter = launch.start_unread().await;
    let dropped = |now: &Series| {
        now.get("tesseract_exporter_log_lines_dropped_total").is_some_and(|lines| lines > 0.0)
            && now.get("tesseract_synced{network=\"a\"}") == Some(1.0)
    };
    exporter.wait_for("lines are dropped and the first sync is done", WITHIN, dropped).await;
    assert_eq!(exporter.terminate().await.code(), Some(0));
}

#[tokio::test]
async fn stops_while_an_endpoint_refuses() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let exporter = Exporter::start(&config(&url, web3::types::H160::zero(), "")).await;
    exporter.wait_for_line("it noticed", WITHIN, |line| line.contains("endpoint failed")).await;
    assert_ends_well(exporter).await;
}

#[tokio::test]
async fn stops_while_an_endpoint_hangs() {
    // Connections are made by the system, and nobody ever answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let more = "    request_timeout: 1m\n";
    let exporter = Exporter::start(&config(&url, web3::types::H160::zero(), more)).await;
    silent.accept().unwrap();
    assert_ends_well(exporter).await;
}

#[tokio::test]
async fn stops_while_catching_up() {
    let sim = Sim::start(Params::default()).await.unwrap();
    sim.advance(5000);
    let config = config(&sim.url(), sim.chain().contract(), "    max_block_range: 1\n");
    let exporter = Exporter::start(&config).await;
    exporter
        .wait_for("it catches up", WITHIN, |now| {
            now.get("tesseract_sync_remaining_blocks{network=\"a\"}").is_some_and(|left| left > 0.0)
        })
        .await;
    assert_ends_well(exporter).await;
}

#[tokio::test]
async fn stops_while_following() {
    let sim = Sim::start(Params::default()).await.unwrap();
    sim.advance(50);
    let config = config(&sim.url(), sim.chain().contract(), "");
    let exporter = Exporter::start(&config).await;
    let processed = "tesseract_processed_block_number{network=\"a\"}";
    exporter.wait_for("it follows", WITHIN, |now| now.get(processed) == Some(48.0)).await;
    assert_ends_well(exporter).await;
}

#[tokio::test]
async fn stops_on_ctrl_c_with_a_client_that_never_ends_its_request() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let mut exporter = Exporter::start(&config(&url, web3::types::H160::zero(), "")).await;
    let mut client = std::net::TcpStream::connect(exporter.address()).unwrap();
    std::io::Write::write_all(&mut client, b"GET /metrics HTTP/1.1\r\nHost: ").unwrap();
    exporter.signal(rustix::process::Signal::INT);
    let status = exporter.wait(Duration::from_secs(5)).await;
    assert_eq!(status.code(), Some(0), "{:#?}", exporter.log());
}

#[tokio::test]
async fn health_tells_whether_it_serves() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let exporter = Exporter::start(&config(&url, web3::types::H160::zero(), "")).await;
    let ask = |url: String| Launch::bare().arg("health").arg(format!("--url={url}")).run();

    let well = ask(exporter.url()).await;
    assert_eq!(well.status.code(), Some(0), "{well:?}");
    assert_eq!(well.stdout, format!("{}/-/healthy: 200 OK\n", exporter.url()));

    let not_ready = ask(format!("{}/-/ready", exporter.url())).await;
    assert_eq!(not_ready.status.code(), Some(1));
    assert_eq!(not_ready.stderr, format!("{}/-/ready: 503 Service Unavailable\n", exporter.url()));

    let nobody = format!("http://127.0.0.1:{}", free_port());
    let down = ask(nobody.clone()).await;
    assert_eq!(down.status.code(), Some(1));
    let expected =
        format!("{nobody}/-/healthy: Connection refused (os error 111); is the exporter running there?\n");
    assert_eq!(down.stderr, expected);

    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let hung = ask(format!("http://{}", silent.local_addr().unwrap())).await;
    assert_eq!(hung.status.code(), Some(1));
    assert!(hung.stderr.ends_with("/-/healthy: no answer within 3s\n"), "{hung:?}");
}

#[tokio::test]
async fn says_what_it_is() {
    let version = Launch::bare().arg("--version").run().await;
    assert_eq!(version.status.code(), Some(0));
    let expected = format!("tesseract-exporter {} (revision ", env!("CARGO_PKG_VERSION"));
    assert!(version.stdout.starts_with(&expected), "{version:?}");
    let help = Launch::bare().arg("--help").run().await;
    for flag in [
        "--config.file",
        "--config.check",
        "--web.listen-address",
        "--web.telemetry-path",
        "--log.level",
        "--log.format",
        "health",
    ] {
        assert!(help.stdout.contains(flag), "{flag}");
    }
}

#[tokio::test]
async fn catching_up_logs_its_progress() {
    let sim = Sim::start(Params::default()).await.unwrap();
    sim.advance(100_000);
    let config = config(&sim.url(), sim.chain().contract(), "    max_block_range: 1\n");
    let exporter = Exporter::start(&config).await;
    let line = exporter.wait_for_line("progress", WITHIN, |line| line.contains("\"catching up\"")).await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "info");
    assert_eq!(line["network"], "a");
    for key in ["blocks_done", "blocks_left", "blocks_per_second", "seconds_left"] {
        assert!(line[key].as_f64().is_some_and(|value| value > 0.0), "{key}: {line}");
    }
}

#[tokio::test]
async fn an_address_without_code_is_said_in_the_log_and_by_readiness() {
    let sim = Sim::start(Params::default()).await.unwrap();
    sim.advance(50);
    let exporter = Exporter::start(&config(&sim.url(), web3::types::H160::repeat_byte(0xaa), "")).await;
    let said = "no code at 0xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    exporter.wait_for_line(said, WITHIN, |line| line.contains(said)).await;
    let ready = exporter.get("/-/ready").await;
    assert_eq!(ready.status, 503);
    assert!(ready.text().contains(said), "{}", ready.text());
}
