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

/// How long the exporter may take to start.
const WITHIN: std::time::Duration = std::time::Duration::from_secs(20);

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/config")
}

/// Compares a text with the golden file of this name.
fn assert_golden(name: &str, text: &str) {
    assert!(!text.contains("sesame"), "{name}: a secret is shown:\n{text}");
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
        .file("ca.pem", std::fs::read(fixtures().join("ca.pem")).unwrap())
        .file("damaged.pem", "-----BEGIN CERTIFICATE-----\nsesame\n")
        .file("foreign.pem", "-----BEGIN CERTIFICATE-----\nc2VzYW1l\n-----END CERTIFICATE-----\n")
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

    let large = Launch::bare().file("exporter.yml", vec![b'#'; 1 << 19]).run().await;
    assert_refused("file_large", &large);

    let pipe = Launch::bare();
    let made = std::process::Command::new("mkfifo").arg(pipe.dir().join("exporter.yml")).status().unwrap();
    assert!(made.success());
    assert_refused("file_pipe", &pipe.run().await);

    let text = VALID.replace("'http://127.0.0.1:1'", "{url_file: pipe}");
    let pipe = Launch::config(&text);
    std::process::Command::new("mkfifo").arg(pipe.dir().join("pipe")).status().unwrap();
    assert_refused("url_file_pipe", &pipe.run().await);
}

#[tokio::test]
async fn what_is_huge_or_deep_is_refused_in_no_time() {
    let keys: String = (0..22_000).map(|key| format!("k{key}: 1\n")).collect();
    let networks = format!("networks:\n{}", "  - a\n".repeat(40_000));
    let lists = format!("networks: {}", "[".repeat(200_000));
    let mappings = format!("networks: {}", "{a: ".repeat(60_000));
    let dashes = format!("networks: {}", "\n- -".repeat(60_000));
    for (text, expected) in [
        (keys, "and 21981 more mistakes"),
        (networks, "and 39980 more mistakes"),
        (lists, "nested too deep"),
        (mappings, "nested too deep"),
        (dashes, "and 59980 more mistakes"),
    ] {
        // `run` waits 20 s; what grew with the square took minutes.
        let finished = Launch::config(&text).arg("--config.check").run().await;
        assert_eq!(finished.status.code(), Some(1));
        assert!(finished.stderr.contains(expected), "{}", finished.stderr);
        assert!(finished.stderr.lines().count() <= 21, "{}", finished.stderr);
    }
}

#[tokio::test]
async fn nothing_configured() {
    assert_refused("nothing", &Launch::bare().run().await);
    // Which may be but a mistyped name.
    let mistyped = Launch::bare().env("TESSERACT_RPCURL", "sesame").env("TESSERACT_ADDRESS", "sesame");
    assert_refused("mistyped_variables", &mistyped.run().await);
}

#[tokio::test]
async fn the_mistakes_of_both_files() {
    let config = VALID.replace("name: a", "name: ''");
    let launch = Launch::config(&config).file("web.yml", "nonsense: 1\nbasic_auth_users: {a: sesame}\n");
    let finished = launch.arg("--web.config.file=web.yml").arg("--config.check").run().await;
    assert_refused("both_files", &finished);
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
        .env("TESSERACT_EXPLORER_URL", "host.example/sesame")
        .env("TESSERACT_POLL_INTERVAL", "2")
        .env("TESSERACT_CONFIRMATION", "sesame")
        .run()
        .await;
    assert_refused("environment", &finished);
}

/// As an env file has it that a shell would read, and Docker and systemd do not.
#[tokio::test]
async fn what_only_a_shell_would_read_in_the_environment() {
    for (name, url) in [
        ("environment_variable", "$SESAME"),
        ("environment_variable", "https://host.example/${SESAME}"),
        ("environment_quotes", "\"https://host.example/sesame\""),
        ("environment_quotes", "'https://host.example/sesame'"),
    ] {
        let launch = Launch::bare().env("TESSERACT_CONTRACT", "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed");
        let finished = launch.env("TESSERACT_RPC_URL", url).env("TESSERACT_EXPLORER_URL", url).run().await;
        assert_refused(name, &finished);
    }
    let launch = Launch::config(&VALID.replace("'http://127.0.0.1:1'", "'${QUOTED}'"));
    assert_refused("quotes_of_a_variable", &launch.env("QUOTED", "\"https://sesame\"").run().await);
}

#[tokio::test]
async fn the_environment_alone_is_enough() {
    let checked = Launch::bare()
        // A dollar sign of its own.
        .env("TESSERACT_RPC_URL", "https://user:sesame$A@host.example/sesame,https://backup.example")
        .env("TESSERACT_CONTRACT", "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed")
        .env("TESSERACT_STATE_DIR", "/var/lib/tesseract-exporter")
        .env("TESSERACT_EXPLORER_URL", "https://explorer.example")
        .env("TESSERACT_POLL_INTERVAL", "500ms")
        .env("TESSERACT_EXPORTER_SERVICE_HOST", "a cluster's own")
        .env("TESSERACT_EXPORTER_PORT", "a cluster's own")
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

    let config = VALID.replace("name: a", "name: ${TESSERACT_NETWORK}");
    let exporter = Launch::config(&config)
        .env("TESSERACT_RPC_URL", "https://host.example/sesame")
        .env("TESSERACT_NETWORK", "a")
        .env("TESSERACT_CONFIRMATION", "1")
        .start()
        .await;
    let line = exporter.wait_for_line("said", WITHIN, |line| line.contains("not used")).await;
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["variables"], "TESSERACT_CONFIRMATION, TESSERACT_RPC_URL");
    assert_eq!(line["file"], "exporter.yml");
    let line = exporter.wait_for_line("listens", WITHIN, |line| line.contains("\"listening\"")).await;
    assert!(line.contains("\"configuration\":\"exporter.yml\""), "{line}");
}

#[tokio::test]
async fn the_environment_is_named_as_the_source() {
    let exporter = Launch::bare()
        .env("TESSERACT_RPC_URL", "http://127.0.0.1:1")
        .env("TESSERACT_CONTRACT", "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed")
        .start()
        .await;
    let line = exporter.wait_for_line("listens", WITHIN, |line| line.contains("\"listening\"")).await;
    assert!(line.contains("\"configuration\":\"TESSERACT_* variables\""), "{line}");
}

#[tokio::test]
async fn help_lists_the_variables() {
    let help = Launch::bare().arg("--help").run().await;
    for (name, what) in tesseract_exporter::config::VARIABLES {
        assert!(help.stdout.contains(&format!("{name:<25} {what}\n")), "{name}: {}", help.stdout);
    }
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
async fn an_address_of_another_machine() {
    // Of a range that is kept for documentation.
    let finished = Launch::config(VALID).arg("--web.listen-address=192.0.2.1:8000").run().await;
    assert_refused("foreign_address", &finished);
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
        ("flag_one_dash", &["-config.file=sesame"]),
        ("flag_one_dash_apart", &["-config.file", "sesame"]),
        ("bare_argument", &["other.yml"]),
        ("bare_argument_to_check", &["--config.check", "other.yml"]),
        ("bare_url", &["https://host.example/sesame"]),
        ("flag_listen_address", &["--web.listen-address=8000"]),
        ("flag_telemetry_path", &["--web.telemetry-path=/health"]),
        ("flag_log_level", &["--log.level=loud"]),
        ("health_mistyped", &["helth"]),
        ("health_bare_url", &["health", "https://host.example/sesame"]),
        ("health_bare_address", &["health", "127.0.0.1:8000"]),
        ("health_one_dash", &["health", "-url=https://host.example/sesame"]),
        ("flag_health_url", &["health", "--url=127.0.0.1:8000/sesame"]),
    ] {
        let finished = args.iter().fold(Launch::config(VALID), |launch, arg| launch.arg(*arg)).run().await;
        assert_eq!(finished.status.code(), Some(2), "{name}: {finished:?}");
        let (line, more) = finished.stderr.split_once('\n').unwrap_or_default();
        let tip = more.lines().find(|line| line.starts_with("  tip: ")).unwrap_or_default();
        assert_golden(name, &format!("{}\n{tip}", line.replace("/sesame", "/…")));
    }
}
