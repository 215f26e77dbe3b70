//! The HTTP server over real sockets: routes, health, and clients that misbehave.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};
use tesseract_exporter::ledger::Counts;
use tesseract_exporter::snapshot::{Confirmed, Gauges, Head, Snapshot, Views};
use tesseract_exporter::web::{Build, Site, serve};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use web3::types::{H160, U256};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_get_and_head_alike() {
    let server = Server::start([well("sepolia")]).await;
    let routes = [
        ("/metrics", 200, TEXT),
        ("/metrics?name[]=x", 200, TEXT),
        ("/health", 200, "application/json"),
        ("/-/healthy", 200, "text/plain; charset=utf-8"),
        ("/-/ready", 200, "text/plain; charset=utf-8"),
        ("/", 200, "text/html; charset=utf-8"),
        ("/runbooks/", 200, "text/html; charset=utf-8"),
        ("/runbooks/NoSuchAlert", 404, "text/plain; charset=utf-8"),
        ("/runbooks/../Cargo.toml", 404, "text/plain; charset=utf-8"),
        ("/metrics/", 404, "text/plain; charset=utf-8"),
        ("/nothing", 404, "text/plain; charset=utf-8"),
        ("/%00%ff", 404, "text/plain; charset=utf-8"),
    ];
    for (path, status, content_type) in routes {
        let get = server.ask("GET", path, "");
        assert_eq!((get.status, get.header("content-type")), (status, content_type), "{path}");
        assert_eq!(get.header("content-length"), get.body.len().to_string(), "{path}");
        assert_eq!(get.header("x-content-type-options"), "nosniff", "{path}");
        assert!(!get.body.is_empty(), "{path}");

        let head = server.ask("HEAD", path, "");
        assert_eq!((head.status, head.header("content-type")), (status, content_type), "HEAD {path}");
        assert_eq!(head.body, "", "HEAD {path}");
        // The process's own figures change from one scrape to the next.
        if !path.starts_with("/metrics?") && path != "/metrics" {
            assert_eq!(head.header("content-length"), get.header("content-length"), "HEAD {path}");
        }
        assert_ne!(head.header("content-length"), "0", "HEAD {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_runbook_is_a_page_and_every_link_leads_somewhere() {
    let server = Server::start([well("sepolia")]).await;
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../alerting/runbooks")).unwrap();
    let alerts: Vec<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter_map(|file| Some(file.strip_suffix(".md")?.to_owned()))
        .collect();
    assert!(!alerts.is_empty());

    let mut pages = vec!["/".to_owned(), "/runbooks/".to_owned()];
    let index = server.ask("GET", "/runbooks/", "").body;
    for alert in &alerts {
        assert!(index.contains(&format!("<a href=\"{alert}\">")), "{alert} in {index}");
        let page = server.ask("GET", &format!("/runbooks/{alert}"), "").body;
        assert!(page.contains(&format!("<title>{alert}</title>")), "{page}");
        assert!(
            page.contains(&format!("<h1>{alert}</h1>")) && page.contains("<h2>What to do</h2>"),
            "{page}"
        );
        assert_eq!(server.ask("GET", &format!("/runbooks/{alert}.md"), "").status, 404);
        pages.push(format!("/runbooks/{alert}"));
    }

    for page in pages {
        let directory = &page[..=page.rfind('/').unwrap()];
        let body = server.ask("GET", &page, "").body;
        for link in body.split("<a href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            if link.contains("://") {
                continue;
            }
            let target = match link {
                "../" => "/".to_owned(),
                "./" => directory.to_owned(),
                relative => format!("{directory}{relative}"),
            };
            assert_eq!(server.ask("GET", &target, "").status, 200, "{link} in {page}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_are_refused() {
    let server = Server::start([well("sepolia")]).await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        for path in ["/metrics", "/health", "/nothing"] {
            let answer = server.ask(method, path, "Content-Length: 5\r\n");
            assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"), "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scraper_chooses_the_format() {
    let server = Server::start([well("sepolia")]).await;
    let text = server.ask("GET", "/metrics", "");
    assert_eq!((text.header("content-type"), text.header("vary")), (TEXT, "Accept"));
    assert!(text.body.contains("\ntesseract_synced{network=\"sepolia\"} 1\n"), "{}", text.body);
    assert!(text.body.contains("\nprocess_resident_memory_bytes "), "{}", text.body);
    assert!(!text.body.contains("# EOF"));

    let open_metrics = server.ask("GET", "/metrics", "Accept: application/openmetrics-text\r\n");
    assert_eq!((open_metrics.header("content-type"), open_metrics.header("vary")), (OPEN_METRICS, "Accept"));
    assert!(open_metrics.body.ends_with("\n# EOF\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_shows_the_last_snapshot() {
    let server = Server::start([well("sepolia")]).await;
    let answer = server.ask("GET", "/metrics", "");
    assert!(answer.body.contains("tesseract_head_block_number{network=\"sepolia\"} 120\n"));
    server.change("sepolia", |of| of.head = Some(Head { number: 121, timestamp: 1_700_000_012 }));
    let answer = server.ask("GET", "/metrics", "");
    assert!(answer.body.contains("tesseract_head_block_number{network=\"sepolia\"} 121\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn health_has_exactly_the_named_keys() {
    let server = Server::start([well("sepolia"), unknown("base")]).await;
    let before = unix_now();
    let answer = server.ask("GET", "/health", "");
    assert_eq!(answer.status, 503);

    let mut body: Value = serde_json::from_str(&answer.body).unwrap();
    for network in ["sepolia", "base"] {
        let timestamp = body["networks"][network]["timestamp"].take().as_u64().unwrap();
        assert!((before..=unix_now()).contains(&timestamp), "{timestamp}");
    }
    let last_success = body["networks"]["sepolia"]["last_success"].take().as_u64().unwrap();
    assert!((before - 60..=unix_now()).contains(&last_success), "{last_success}");
    let expected = json!({
        "healthy": false,
        "networks": {
            "sepolia": {
                "timestamp": null, "connected": true, "contract_exists": true,
                "owner": "0x1111111111111111111111111111111111111111", "paused": false, "transaction_count": 7,
                "block_number": 120, "synced": true, "processed_block": 118, "last_success": null,
            },
            "base": {
                "timestamp": null, "connected": false, "contract_exists": null, "owner": null, "paused": null,
                "transaction_count": null, "block_number": null, "synced": false, "processed_block": null,
                "last_success": null, "problem": "no endpoint answered",
            },
        },
    });
    assert_eq!(body, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_readiness_name_what_is_wrong() {
    let server = Server::start([well("sepolia"), well("base")]).await;
    let check = |change: fn(&mut Snapshot), health: u16, ready: u16, reasons: &str| {
        server.change("sepolia", |of| {
            *of = well("sepolia");
            change(of);
        });
        assert_eq!(server.ask("GET", "/health", "").status, health, "{reasons}");
        let answer = server.ask("GET", "/-/ready", "");
        assert_eq!((answer.status, answer.body.as_str()), (ready, reasons));
    };

    check(|_| (), 200, 200, "ready\n");
    check(|of| of.connected = false, 503, 200, "ready\n");
    check(|of| of.views.exists = Some(false), 503, 200, "ready\n");
    check(|of| of.views.exists = None, 503, 200, "ready\n");
    check(|of| of.views.paused = Some(true), 200, 200, "ready\n");
    check(|of| of.synced = false, 503, 503, "sepolia: first sync not done, 0 blocks left\n");
    let catching_up = |of: &mut Snapshot| {
        of.synced = false;
        of.sync_remaining = Some(1200);
        of.problem = Some("timeout".into());
    };
    check(catching_up, 503, 503, "sepolia: first sync not done, 1200 blocks left: timeout\n");
    check(|of| of.last_success = None, 503, 503, "sepolia: no full cycle yet\n");
    // A clock that was set back is no reason to alarm anyone.
    check(|of| of.last_success = Some(SystemTime::now() + Duration::from_secs(600)), 200, 200, "ready\n");

    server.change("sepolia", |of| {
        *of = well("sepolia");
        of.last_success = Some(SystemTime::now() - Duration::from_secs(90));
        of.problem = Some("rate limited".into());
    });
    server.change("base", |of| *of = unknown("base"));
    let answer = server.ask("GET", "/-/ready", "");
    assert_eq!(answer.status, 503);
    let mut lines = answer.body.lines();
    let stale = lines.next().unwrap();
    assert!(stale.starts_with("sepolia: no full cycle for 9"), "{stale}");
    assert!(stale.ends_with(" s: rate limited"), "{stale}");
    assert_eq!(lines.next(), Some("base: first sync not done: no endpoint answered"));
    assert_eq!(server.ask("GET", "/-/healthy", "").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_values_leave_the_json_valid() {
    let mut snapshot = well("\"quoted\\\n\u{7}");
    snapshot.views.transaction_count = Some(U256::MAX);
    snapshot.problem = Some("</script>\"\u{0}\u{2028}".into());
    let server = Server::start([snapshot]).await;
    let body: Value = serde_json::from_str(&server.ask("GET", "/health", "").body).unwrap();
    let network = &body["networks"]["\"quoted\\\n\u{7}"];
    assert_eq!(network["transaction_count"], U256::MAX.to_string());
    assert_eq!(network["problem"], "</script>\"\u{0}\u{2028}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_answered_or_cut_off_and_the_next_request_served() {
    let server = Server::start([well("sepolia")]).await;
    let long = "x".repeat(100_000);
    let nonsense = [
        "\r\n\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}".to_owned(),
        format!("GET /{long} HTTP/1.1\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nCookie: {long}\r\n\r\n"),
        "GET http://[::1 HTTP/1.1\r\n\r\n".to_owned(),
        "GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ];
    for bytes in nonsense {
        let mut stream = server.connect();
        // The server may close before it has read everything.
        let _ = stream.write_all(bytes.as_bytes());
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Ok(_) => (),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
    }
    assert_eq!(server.ask("GET", "/metrics", "").status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_hold_nobody_up() {
    let server = Server::start([well("sepolia")]).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        let mut stream = server.connect();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").unwrap();
        silent.push(stream);
    }
    assert_eq!(server.ask("GET", "/metrics", "").status, 200);
}

/// The clock is paused: with nothing else to do it jumps to the next timer, the one for a request's head.
#[tokio::test(start_paused = true)]
async fn a_head_that_does_not_end_is_cut_off() {
    let server = Server::start([well("sepolia")]).await;
    let mut stream = server.connect();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nX-Slow: ").unwrap();
    stream.set_nonblocking(true).unwrap();
    let started = tokio::time::Instant::now();
    let mut poll = tokio::time::interval(Duration::from_secs(1));
    loop {
        poll.tick().await;
        match stream.read(&mut [0; 1024]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => (),
            // An answer that says so, the end, or a reset: cut off either way.
            _ => break,
        }
        assert!(started.elapsed() < Duration::from_secs(600), "still open");
    }
    assert!(started.elapsed() >= Duration::from_secs(29), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut_off() {
    let server = Server::start([well("sepolia")]).await;
    let mut stream = server.connect();
    stream.set_nonblocking(true).unwrap();
    let started = tokio::time::Instant::now();
    let mut poll = tokio::time::interval(Duration::from_secs(1));
    loop {
        poll.tick().await;
        match stream.write(&b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100)) {
            Ok(_) => (),
            Err(error) if error.kind() == ErrorKind::WouldBlock => (),
            Err(_) => break,
        }
        assert!(started.elapsed() < Duration::from_secs(600), "still open");
    }
    assert!(started.elapsed() >= Duration::from_secs(299), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_in_time_with_connections_open() {
    let mut server = Server::start([well("sepolia")]).await;
    let _fresh = server.connect();
    let mut unfinished = server.connect();
    unfinished.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    let mut idle = server.connect();
    idle.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = [0; 1024];
    assert_ne!(idle.read(&mut answer).unwrap(), 0);

    let started = Instant::now();
    server.stop.send_replace(true);
    tokio::time::timeout(Duration::from_secs(5), &mut server.task).await.unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(TcpStream::connect(server.address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

struct Server {
    address: SocketAddr,
    feeds: Vec<watch::Sender<Arc<Snapshot>>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start<const N: usize>(networks: [Snapshot; N]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let feeds: Vec<_> =
            networks.into_iter().map(|network| watch::Sender::new(Arc::new(network))).collect();
        let (stop, shutdown) = watch::channel(false);
        let site = Site {
            feeds: feeds.iter().map(watch::Sender::subscribe).collect(),
            telemetry_path: "/metrics".into(),
            build: Build { version: "1.2.3", revision: "abcdef", rustc: "1.95.0" },
        };
        let task = tokio::spawn(serve(listener, site, shutdown));
        Self { address, feeds, stop, task }
    }

    fn change(&self, network: &str, change: impl FnOnce(&mut Snapshot)) {
        let feed = self.feeds.iter().find(|feed| feed.borrow().network == network).unwrap();
        feed.send_modify(|snapshot| change(Arc::make_mut(snapshot)));
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        let mut stream = self.connect();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        Answer::parse(&answer)
    }
}

struct Answer {
    status: u16,
    headers: HashMap<String, String>,
    body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        Self { status, headers, body: body.to_owned() }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

fn well(network: &str) -> Snapshot {
    Snapshot {
        chain_id: Some(11_155_111),
        connected: true,
        head: Some(Head { number: 120, timestamp: 1_700_000_000 }),
        views: Views {
            exists: Some(true),
            owner: Some(H160::repeat_byte(0x11)),
            paused: Some(false),
            circuit_breaker: Some(false),
            transaction_count: Some(7.into()),
            coordination_window: Some(30.into()),
            variant: Some("buffer"),
        },
        synced: true,
        processed: Some(Head { number: 118, timestamp: 1_699_999_976 }),
        sync_remaining: Some(0),
        last_success: Some(SystemTime::now()),
        problem: None,
        confirmed: Some(Confirmed {
            counts: Arc::new(Counts { buffered: 7, ..Counts::default() }),
            gauges: Some(Gauges {
                pending: 7,
                oldest_pending: None,
                next_deadline: None,
                last_failed: None,
                missing_events: Some(0),
            }),
        }),
        ..unknown(network)
    }
}

fn unknown(network: &str) -> Snapshot {
    Snapshot {
        network: network.into(),
        contract: H160::repeat_byte(0x22),
        chain_id: None,
        connected: false,
        head: None,
        views: Views::default(),
        owner_expected: None,
        synced: false,
        processed: None,
        sync_remaining: None,
        last_success: None,
        stale_after: Duration::from_secs(30),
        problem: Some("no endpoint answered".into()),
        confirmed: None,
        reorgs: 0,
        endpoints: Vec::new(),
    }
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}
