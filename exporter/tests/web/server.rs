//! A server on a free port, a plain client, and snapshots to serve.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tesseract_exporter::ledger::Counts;
use tesseract_exporter::snapshot::{Confirmed, Gauges, Head, Snapshot};
use tesseract_exporter::views::Views;
use tesseract_exporter::web::{Access, Build, Followed, Reload, Site, Source, serve};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use web3::types::H160;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) access: Arc<Access>,
    feeds: Vec<watch::Sender<Arc<Snapshot>>>,
    pub(crate) follow: watch::Sender<Followed>,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start<const N: usize>(networks: [Snapshot; N]) -> Self {
        Self::with_access(networks, Access::open()).await
    }

    pub(crate) async fn with_access<const N: usize>(networks: [Snapshot; N], access: Access) -> Self {
        let access = Arc::new(access);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let feeds: Vec<_> =
            networks.into_iter().map(|network| watch::Sender::new(Arc::new(network))).collect();
        let (stop, shutdown) = watch::channel(false);
        let reload = Reload { successful: true, last_success: SystemTime::now() };
        let source = |feed: &watch::Sender<Arc<Snapshot>>| Source {
            feed: feed.subscribe(),
            progress: watch::channel(None).1,
        };
        let followed = Followed { sources: feeds.iter().map(source).collect(), grafana_url: None, reload };
        let (follow, followed) = watch::channel(followed);
        let site = Site {
            followed,
            telemetry_path: "/metrics".into(),
            build: Build { version: "1.2.3", revision: "abcdef", rustc: "1.95.0" },
            access: Arc::clone(&access),
        };
        let task = tokio::spawn(serve(listener, site, shutdown));
        Self { address, access, feeds, follow, stop, task }
    }

    pub(crate) fn change(&self, network: &str, change: impl FnOnce(&mut Snapshot)) {
        let feed = self.feeds.iter().find(|feed| feed.borrow().network == network).unwrap();
        feed.send_modify(|snapshot| change(Arc::make_mut(snapshot)));
    }

    pub(crate) fn connect(&self) -> TcpStream {
        connect(self.address)
    }

    /// A scrape with these headers: the answer's head, and its body as it came.
    pub(crate) fn ask_bytes(&self, headers: &str) -> (String, Vec<u8>) {
        let mut stream = self.connect();
        let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        (String::from_utf8(answer[..end + 2].to_vec()).unwrap(), answer[end + 4..].to_vec())
    }

    pub(crate) fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        ask(self.address, method, path, headers)
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

pub(crate) fn ask(address: SocketAddr, method: &str, path: &str, headers: &str) -> Answer {
    let mut stream = connect(address);
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    Answer::parse(&answer)
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: HashMap<String, String>,
    pub(crate) body: String,
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

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

pub(crate) fn well(network: &str) -> Snapshot {
    Snapshot {
        explorer: None,
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
        unproven: Some(0),
        sync_remaining: Some(0),
        last_success: Some(SystemTime::now()),
        problem: None,
        confirmed: Some(Confirmed {
            counts: Arc::new(Counts { buffered: 7, ..Counts::default() }),
            gauges: Some(Gauges {
                pending: 7,
                oldest_pending: None,
                next_deadline: None,
                newest: Default::default(),
                missing_events: Some(0),
                ..Gauges::default()
            }),
        }),
        ..unknown(network)
    }
}

pub(crate) fn unknown(network: &str) -> Snapshot {
    Snapshot {
        network: network.into(),
        contract: H160::repeat_byte(0x22),
        explorer: None,
        chain_id: None,
        connected: false,
        head: None,
        views: Views::default(),
        owner_expected: None,
        synced: false,
        processed: None,
        unproven: None,
        sync_remaining: None,
        last_success: None,
        stale_after: Duration::from_secs(30),
        problem: Some("no endpoint answered".into()),
        confirmed: None,
        reorgs: 0,
        panics: 0,
        serving: None,
        endpoints: Vec::new(),
    }
}
