//! The pages as people see them: in a real Chromium, wide and narrow, light and dark, while networks are syncing,
//! well and ill. Screenshots are left in `target/pages`; with `UPDATE_GOLDEN=1` those that the documents show replace them.
#![allow(clippy::unwrap_used)]

mod fixture;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tesseract_exporter::web::{Access, Build, Followed, Reload, Site, Source, serve};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::timeout;

/// What `docs/page-NAME.png` shows.
const DOCUMENTED: [(&str, &str); 7] = [
    ("home", "home-wide-dark"),
    ("home-light", "home-wide-light"),
    ("well", "well-wide-light"),
    ("ill", "ill-wide-dark"),
    ("phone", "ill-phone-dark"),
    ("syncing", "syncing-wide-light"),
    ("transaction", "transaction-expired-wide-dark"),
];

/// A browser starts within seconds; a busy machine may take longer.
const PATIENCE: Duration = Duration::from_secs(240);

/// A page to look at.
#[derive(Serialize)]
struct Page {
    url: String,
    name: String,
    width: u32,
    dark: bool,
}

/// What was seen there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    name: String,
    console: Vec<String>,
    violations: Vec<String>,
    content_width: u32,
    styled: bool,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_reads_well_in_a_browser() {
    let (_stop, address) = start_exporter().await;
    let mut pages = Vec::new();
    for (name, path) in [
        ("home", "/".to_owned()),
        ("well", "/networks/base".to_owned()),
        ("ill", "/networks/sepolia".to_owned()),
        ("syncing", "/networks/arbitrum".to_owned()),
        ("unreachable", "/networks/amoy".to_owned()),
        ("transaction-expired", format!("/tx/{}", fixture::EXPIRED)),
        ("transaction-pending", format!("/tx/{}", fixture::PENDING)),
        ("transaction-unknown", format!("/tx/0x{}", "ee".repeat(32))),
        ("runbooks", "/runbooks/".to_owned()),
        ("runbook", "/runbooks/TesseractNodeDisconnected".to_owned()),
    ] {
        for (width, dark) in [(1280, false), (1280, true), (768, false), (390, false), (390, true)] {
            let look = format!(
                "{}-{}",
                match width {
                    390 => "phone",
                    768 => "tablet",
                    _ => "wide",
                },
                if dark { "dark" } else { "light" }
            );
            pages.push(Page {
                url: format!("http://{address}{path}"),
                name: format!("{name}-{look}"),
                width,
                dark,
            });
        }
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/pages");
    let seen = timeout(PATIENCE, look(&pages, &directory)).await.expect("the browser is done in time");
    assert_eq!(seen.len(), pages.len());
    for (page, seen) in pages.iter().zip(seen) {
        assert_eq!(page.name, seen.name);
        // What a browser says of the status of a page that says that there is nothing.
        let expected = |line: &String| page.name.starts_with("transaction-unknown") && line.contains("404");
        let said: Vec<_> = seen.console.into_iter().filter(|line| !expected(line)).collect();
        assert_eq!(said, Vec::<String>::new(), "{}: the console", page.name);
        assert_eq!(seen.violations, Vec::<String>::new(), "{}: accessibility", page.name);
        assert!(seen.styled, "{}: the style was loaded", page.name);
        assert_eq!(seen.content_width, page.width, "{}: nothing stands beyond the edge", page.name);
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|it| it == "1") {
        let documents = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
        for (name, page) in DOCUMENTED {
            let shown = documents.join(format!("page-{name}.png"));
            std::fs::copy(directory.join(format!("{page}.png")), shown).unwrap();
        }
    }
}

async fn look(pages: &[Page], directory: &PathBuf) -> Vec<Seen> {
    std::fs::create_dir_all(directory).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/browser/check.mjs");
    let mut child = Command::new("node")
        .arg(script)
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("start node; tests/setup installs it, and chromium");
    let list = serde_json::to_vec(pages).unwrap();
    child.stdin.take().unwrap().write_all(&list).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "tests/browser/check.mjs: {}", output.status);
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn start_exporter() -> (watch::Sender<bool>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, shutdown) = watch::channel(false);
    let reload = Reload { successful: true, last_success: SystemTime::now() };
    let source = |(network, progress)| Source {
        feed: watch::channel(Arc::new(network)).1,
        progress: watch::channel(progress).1,
    };
    let sources = fixture::networks().into_iter().map(source).collect();
    let grafana_url = Some("https://grafana.example".to_owned());
    let site = Site {
        followed: watch::channel(Followed { sources, grafana_url, reload }).1,
        telemetry_path: "/metrics".into(),
        build: Build { version: "1.2.3", revision: "0123456789ab", rustc: "1.95.0" },
        access: Arc::new(Access::open()),
    };
    tokio::spawn(serve(listener, site, shutdown));
    (stop, address)
}
