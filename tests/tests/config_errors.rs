//! Wrong input, and what the exporter says to it.
//!
//! Each `fixtures/config/*.yml` has its exact message beside it in `*.expected`; with `UPDATE_GOLDEN=1` the
//! messages are rewritten instead of compared. Every secret in a fixture and its variables is `sesame`.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use tesseract_tests::process::{Exporter, Finished, Launch};

/// A configuration with nothing wrong.
const VALID: &str = "
networks:
  - name: a
    rpc_urls: ['http://127.0.0.1:1']
    contract: '0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed'
";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/config")
}

/// Compares a text with the golden file of this name.
fn assert_golden(name: &str, text: &str) {
    assert!(!text.contains("sesame"), "{name}: a secret is told:\n{text}");
    let path = fixtures().join(name).with_extension("expected");
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|it| it == "1") {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, expected, "{name}; UPDATE_GOLDEN=1 accepts what is new");
}

/// Refused: exit status 1, the golden message on standard error, nothing on standard output.
fn assert_refused(name: &str, finished: &Finished) {
    assert_eq!(finished.status.code(), Some(1), "{name}: {finished:?}");
    assert_eq!(finished.stdout, "", "{name}");
    assert_golden(name, &finished.stderr);
}

/// With the variables and the secret file that the fixtures speak of.
fn launch(config: &str) -> Launch {
    Launch::config(config)
        .env("RPC_URL", "https://user:sesame@host.example:8545/sesame?key=sesame")
        .env("TOKEN", "sesame")
        .env("EMPTY", "")
        .file("secret", "https://mounted.example/sesame\n")
        .file("no_url", "sesame")
        .arg("--config.file=exporter.yml")
}

#[tokio::test]
async fn every_mistake_has_its_line() {
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path.extension().is_none_or(|extension| extension != "yml") || name == "full" {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let checked = launch(&text).arg("--config.check").run().await;
        assert_refused(name, &checked);
        // A start says the same, and does not start.
        let started = launch(&text).arg("--web.listen-address=127.0.0.1:0").run().await;
        assert_eq!(started.stderr, checked.stderr, "{name}");
        assert_eq!(started.status, checked.status, "{name}");
    }
}

#[tokio::test]
async fn a_check_prints_all_but_the_secrets() {
    let text = std::fs::read_to_string(fixtures().join("full.yml")).unwrap();
    let checked = launch(&text).arg("--config.check").run().await;
    assert_eq!((checked.status.code(), checked.stderr.as_str()), (Some(0), ""));
    assert_golden("full", &checked.stdout);
}

#[tokio::test]
async fn a_file_that_is_none() {
    let missing = Launch::bare().arg("--config.file=exporter.yml").run().await;
    assert_refused("file_missing", &missing);

    let directory = Launch::bare();
    std::fs::create_dir(directory.dir().join("exporter.yml")).unwrap();
    // Also found without being named.
    assert_refused("file_directory", &directory.run().await);

    let binary = Launch::bare().file("exporter.yml", b"networks: \xff\xfe").run().await;
    assert_refused("file_binary", &binary);

    let large = Launch::bare().file("exporter.yml", vec![b'#'; 2 << 20]).run().await;
    assert_refused("file_large", &large);
}

#[tokio::test]
async fn nothing_configured() {
    assert_refused("nothing", &Launch::bare().run().await);
}

#[tokio::test]
async fn mistakes_in_the_environment() {
    let finished = Launch::bare()
        .env("TESSERACT_RPC_URL", "https://host.example/sesame,host.example/sesame")
        .env("TESSERACT_NETWORK", "a b")
        .env("TESSERACT_CHAIN_ID", "main")
        .env("TESSERACT_START_BLOCK", "")
        .env("TESSERACT_CONFIRMATIONS", "-1")
        .env("TESSERACT_EXPECTED_OWNER", "https://host.example/sesame")
        .run()
        .await;
    assert_refused("environment", &finished);
}

#[tokio::test]
async fn the_environment_alone_is_enough() {
    let checked = Launch::bare()
        .env("TESSERACT_RPC_URL", "https://user:sesame@host.example/sesame,https://backup.example")
        .env("TESSERACT_CONTRACT", "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed")
        .env("TESSERACT_STATE_DIR", "/var/lib/tesseract-exporter")
        .arg("--config.check")
        .run()
        .await;
    assert_eq!((checked.status.code(), checked.stderr.as_str()), (Some(0), ""));
    assert_golden("environment_described", &checked.stdout);
}

#[tokio::test]
async fn a_file_wins_over_the_environment() {
    let checked =
        Launch::config(VALID).env("TESSERACT_RPC_URL", "nonsense").arg("--config.check").run().await;
    assert_eq!((checked.status.code(), checked.stderr.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut finished = Launch::config(VALID).arg(format!("--web.listen-address={address}")).run().await;
    finished.stderr = finished.stderr.replace(&address.to_string(), "127.0.0.1:PORT");
    assert_refused("port_in_use", &finished);
}

#[tokio::test]
async fn a_state_dir_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let config = format!("state_dir: {}{VALID}", directory.path().display());
    let _holder = Exporter::start(&config).await;
    let mut finished = Launch::config(&config).arg("--web.listen-address=127.0.0.1:0").run().await;
    finished.stderr = finished.stderr.replace(directory.path().to_str().unwrap(), "DIRECTORY");
    assert_refused("state_dir_in_use", &finished);
}

#[tokio::test]
async fn a_wrong_command_line() {
    for (name, args) in [
        ("flag_unknown", &["--config-file=x"][..]),
        ("flag_listen_address", &["--web.listen-address=8000"]),
        ("flag_telemetry_path", &["--web.telemetry-path=/health"]),
        ("flag_log_level", &["--log.level=loud"]),
        ("flag_health_url", &["health", "--url=127.0.0.1:8000/sesame"]),
    ] {
        let finished = args.iter().fold(Launch::config(VALID), |launch, arg| launch.arg(*arg)).run().await;
        assert_eq!(finished.status.code(), Some(2), "{name}: {finished:?}");
        let line = finished.stderr.lines().next().unwrap_or_default().replace("/sesame", "/…");
        assert_golden(name, &format!("{line}\n"));
    }
}
