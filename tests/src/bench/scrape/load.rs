//! Scrapers that ask without a pause on connections that stay, and one that asks for something small meanwhile.
//!
//! Counts and times; the answers are read to their end and not looked at.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::interval;
use tokio_rustls::TlsConnector;

/// How a server is scraped.
#[derive(Default)]
pub(crate) struct Load {
    /// Without a path.
    pub url: String,
    pub connections: usize,
    pub gzip: bool,
    pub time: Duration,
    /// The value of a header that names user and password.
    pub authorization: Option<String>,
    /// TLS is spoken, to a server of this name.
    pub tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// What came of it.
pub(crate) struct Loaded {
    pub scrapes: u64,
    pub median: Duration,
    /// One in a hundred took longer.
    pub slow: Duration,
    /// Bytes of an answer.
    pub bytes: u64,
    /// As `slow`, of small requests meanwhile.
    pub beside: Duration,
}

/// Between two of the small requests.
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) async fn load(load: &Load) -> Loaded {
    // What is made on first use is made before.
    Scraper::new(load).await.ask("/metrics").await;
    let end = Instant::now() + load.time;
    let scraping = (0..load.connections).map(|_| async {
        let mut scraper = Scraper::new(load).await;
        tokio::spawn(async move {
            let (mut times, mut bytes) = (Vec::new(), 0);
            while Instant::now() < end {
                let begun = Instant::now();
                bytes = scraper.ask("/metrics").await;
                times.push(begun.elapsed());
            }
            (times, bytes)
        })
        .await
        .expect("the server answers")
    });
    let beside = async {
        let mut scraper = Scraper::new(load).await;
        let (mut times, mut ticks) = (Vec::new(), interval(PAUSE));
        while Instant::now() < end {
            ticks.tick().await;
            let begun = Instant::now();
            scraper.ask("/-/healthy").await;
            times.push(begun.elapsed());
        }
        times
    };
    let (scraped, mut beside) = tokio::join!(join_all(scraping), beside);
    let bytes = scraped.iter().map(|(_, bytes)| *bytes).max().unwrap_or_default();
    let mut times: Vec<_> = scraped.into_iter().flat_map(|(times, _)| times).collect();
    Loaded {
        scrapes: times.len() as u64,
        median: quantile(&mut times, 50),
        slow: quantile(&mut times, 99),
        bytes,
        beside: quantile(&mut beside, 99),
    }
}

/// The time that so many of a hundred do not exceed.
fn quantile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    times[(times.len() * percent / 100).min(times.len() - 1)]
}

struct Scraper {
    sender: SendRequest<Empty<Bytes>>,
    host: String,
    gzip: bool,
    authorization: Option<String>,
}

impl Scraper {
    async fn new(load: &Load) -> Self {
        let host = load.url.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(&host).await.expect("connect to the server");
        stream.set_nodelay(true).expect("set an option of a socket");
        let sender = match &load.tls {
            None => speak(stream).await,
            Some((tls, name)) => speak(tls.connect(name.clone(), stream).await.expect("speak TLS")).await,
        };
        Self { sender, host, gzip: load.gzip, authorization: load.authorization.clone() }
    }

    /// Asks, and returns the size of the answer.
    async fn ask(&mut self, path: &str) -> u64 {
        let mut request = Request::get(path).header("host", &self.host);
        if self.gzip {
            request = request.header("accept-encoding", "gzip");
        }
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let request = request.body(Empty::new()).expect("a request");
        self.sender.ready().await.expect("the server keeps the connection");
        let response = self.sender.send_request(request).await.expect("the server answers");
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let mut body = response.into_body();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            bytes += frame.expect("the server's answer").data_ref().map_or(0, Bytes::len) as u64;
        }
        bytes
    }
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> SendRequest<Empty<Bytes>> {
    let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("speak HTTP");
    tokio::spawn(connection);
    sender
}
