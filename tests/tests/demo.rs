//! The demo shows live figures of all its networks on a terminal of 80 columns, prints addresses that answer, and ends
//! cleanly.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tesseract_tests::demo::{Demo, networks, table};
use tesseract_tests::http::get;
use tesseract_tests::process::binary;
use tesseract_tests::sim::{Chain, Sim};
use tesseract_tests::skip::skipped;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::time::{interval, timeout};

#[tokio::test]
async fn every_network_is_live_and_moves() {
    binary();
    let dir = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(0, &dir.path().join("log")).await.unwrap();
    let first = demo.sims().iter().map(Sim::head).collect::<Vec<_>>();
    let mut ticks = interval(Duration::from_millis(200));
    let live = async {
        loop {
            ticks.tick().await;
            let shown = table(&demo.scrape().await.unwrap());
            // One that is paused at this very time of day is as well as a live one.
            let synced =
                |line: &&str| [" live", " paused", " breaker"].iter().any(|state| line.ends_with(state));
            let moved = demo.sims().iter().zip(&first).any(|(sim, first)| sim.head() > *first);
            if moved && shown.lines().skip(1).filter(synced).count() == 3 {
                break;
            }
        }
    };
    timeout(Duration::from_secs(120), live).await.unwrap();
    demo.stop().await.unwrap();
}

#[tokio::test]
async fn a_port_in_use_is_one_clear_line() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let problem = Demo::start(address.port(), Path::new("never-written")).await.err().unwrap();
    let expected = format!("cannot listen on {address}: ");
    assert!(problem.starts_with(&expected) && problem.ends_with("choose another --port"), "{problem}");
    assert_eq!(problem.lines().count(), 1);
}

/// On a terminal of 80 columns, for a line that wraps would make the table scroll away. Ctrl-C ends it, and the log stays.
#[tokio::test]
async fn on_a_terminal_it_fits_80_columns_and_ctrl_c_ends_it() {
    binary();
    let command = format!("stty columns 80 && exec {} --port 0", env!("CARGO_BIN_EXE_demo"));
    let mut terminal = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("script belongs to every Debian system");
    let (mut keys, mut screen) = (terminal.stdin.take().unwrap(), terminal.stdout.take().unwrap());
    let mut shown = Vec::new();
    let up = "\u{1b}[4A\u{1b}[J";
    timeout(Duration::from_secs(120), async {
        while String::from_utf8_lossy(&shown).matches(up).count() < 3 {
            assert_ne!(screen.read_buf(&mut shown).await.unwrap(), 0, "{}", String::from_utf8_lossy(&shown));
        }
        keys.write_all(b"\x03").await.unwrap();
        screen.read_to_end(&mut shown).await.unwrap();
        let status = terminal.wait().await.unwrap();
        assert!(status.success(), "{status}: {}", String::from_utf8_lossy(&shown));
    })
    .await
    .unwrap();
    let shown = String::from_utf8(shown).unwrap();
    let log = shown.lines().find_map(|line| line.strip_prefix("Log: ")).unwrap().trim();
    for line in shown.lines().filter(|line| !line.contains(log)) {
        // A table that knows fewer networks yet goes up by fewer lines.
        let line = line.rsplit("\u{1b}[J").next().unwrap().trim_end();
        // The terminal's own echo of Ctrl-C, wherever the cursor was.
        let line = line.replace("^C", "");
        assert!(line.chars().count() < 80, "{} columns: {line:?}", line.chars().count());
    }
    assert!(std::fs::read_to_string(log).unwrap().contains("\"stopped\""), "the log stays: {log}");
}

/// With what is installed: Debian's Prometheus has other pages than the project's own.
#[tokio::test]
async fn every_address_that_it_prints_answers() {
    for server in ["prometheus", "prometheus-alertmanager"] {
        if Command::new(server).arg("--version").output().await.is_err() {
            skipped(
                "the addresses of the demo's stack",
                &format!("no {server} here; tests/setup installs it"),
            );
            return;
        }
    }
    binary();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"))
        .args(["--port=0", "--stack", "--prometheus-port=0", "--alertmanager-port=0"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut printed = BufReader::new(demo.stdout.take().unwrap()).lines();
    let (mut addresses, mut replies) = (Vec::new(), Vec::new());
    timeout(Duration::from_secs(120), async {
        loop {
            let line = printed.next_line().await.unwrap().expect("it goes on until Ctrl-C");
            addresses
                .extend(line.split_whitespace().find(|word| word.starts_with("http://")).map(str::to_owned));
            if line == "Ctrl-C ends it." {
                break;
            }
        }
        for address in addresses {
            let mut reply = get(&address, &[]).await.unwrap();
            let server = address.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
            // One for where its pages are, one for the slash that is missing.
            for _ in 0..2 {
                if let Some(place) = reply.headers.get("location") {
                    reply = get(&format!("{server}{}", place.to_str().unwrap()), &[]).await.unwrap();
                }
            }
            replies.push((address, reply.status));
        }
        let pid = demo.id().and_then(|id| Pid::from_raw(id.try_into().unwrap())).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        while printed.next_line().await.unwrap().is_some() {}
        assert!(demo.wait().await.unwrap().success());
    })
    .await
    .unwrap();
    assert_eq!(replies.iter().map(|(_, status)| *status).collect::<Vec<_>>(), [200; 5], "{replies:?}");
    for (address, _) in &replies {
        assert!(get(address, &[]).await.is_err(), "{address} answers still");
    }
}

/// The compose demo names contracts that the simulated chain derives from its seed.
#[test]
fn the_compose_demo_follows_these_networks() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/demo.yml")).unwrap();
    let config: serde_yaml::Value = serde_yaml::from_str(&text).unwrap();
    let followed = config["networks"].as_sequence().unwrap().iter().map(|network| {
        let text = |key: &str| network[key].as_str().unwrap().to_owned();
        (text("name"), text("contract"), network["chain_id"].as_u64().unwrap())
    });
    let simulated = networks(1, 0).into_iter().map(|(name, params)| {
        let chain_id = params.chain_id;
        (name, format!("{:#x}", Chain::new(params).contract()), chain_id)
    });
    assert_eq!(followed.collect::<Vec<_>>(), simulated.collect::<Vec<_>>());
}
