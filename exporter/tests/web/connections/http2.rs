//! HTTP/2 clients that do not read: there a window for each answer holds it back, while the socket never blocks.

use std::time::Duration;

use h2::client::{Builder, SendRequest};
use hyper::{Request, StatusCode};
use tempfile::TempDir;
use tesseract_exporter::web::Access;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval};
use tokio_rustls::client::TlsStream;

use crate::server::{Server, well};
use crate::tls::{Authority, Client};

/// As many as the server takes of one connection.
const STREAMS: usize = 8;

async fn server(authority: &Authority) -> Server {
    let directory = TempDir::new().unwrap();
    authority.sign(&["localhost"]).write(directory.path());
    let file = directory.path().join("web.yml");
    std::fs::write(&file, "tls_server_config: {cert_file: server.crt, key_file: server.key}\n").unwrap();
    Server::with_access([well("sepolia")], Access::read(&file).unwrap()).await
}

/// A connection whose answers may each send so many bytes unread. The task ends with it.
async fn connect(
    server: &Server,
    authority: &Authority,
    window: u32,
) -> (SendRequest<bytes::Bytes>, JoinHandle<()>) {
    let client = Client { protocols: &[b"h2"], ..Client::new(authority) };
    let stream: TlsStream<TcpStream> = client.connect(server).await.unwrap();
    let (sender, connection) = Builder::new().initial_window_size(window).handshake(stream).await.unwrap();
    let ended = tokio::spawn(async move {
        // Cut off is as good as ended.
        let _ = connection.await;
    });
    (sender.ready().await.unwrap(), ended)
}

/// How many seconds after `started` a connection ends.
async fn took_to_end(ended: JoinHandle<()>, started: Instant) -> f64 {
    ended.await.unwrap();
    started.elapsed().as_secs_f64()
}

/// A scrape: its answer's body.
async fn scrape(sender: &mut SendRequest<bytes::Bytes>) -> Result<h2::RecvStream, h2::Error> {
    let request = Request::get("https://localhost/metrics").body(()).unwrap();
    let (answer, _) = sender.send_request(request, true)?;
    let answer = answer.await?;
    assert_eq!(answer.status(), StatusCode::OK);
    Ok(answer.into_body())
}

/// Reads what has come, and lets the server send as much again: how much it was, 0 at the end.
async fn read(body: &mut h2::RecvStream) -> Result<usize, h2::Error> {
    let Some(part) = body.data().await else { return Ok(0) };
    let part = part?.len();
    body.flow_control().release_capacity(part)?;
    Ok(part)
}

/// The clock is paused: with nothing else to do it jumps to the next timer.
#[tokio::test(start_paused = true)]
async fn a_client_that_opens_no_window_is_cut_off() {
    let authority = Authority::new();
    let server = server(&authority).await;
    // With one byte of window each answer is with the connection, and no longer with its stream.
    for window in [0, 1, 1000] {
        let (mut sender, ended) = connect(&server, &authority, window).await;
        let started = Instant::now();
        let mut unread = Vec::new();
        for _ in 0..STREAMS {
            unread.push(scrape(&mut sender).await.unwrap());
        }
        let took = took_to_end(ended, started).await;
        assert!((9.9..11.0).contains(&took), "{took} s with a window of {window}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_read_keeps_no_other_from_being_cut_off() {
    let authority = Authority::new();
    let server = server(&authority).await;
    let (mut sender, ended) = connect(&server, &authority, 1000).await;
    let started = Instant::now();
    let _unread = scrape(&mut sender).await.unwrap();
    let reads = async {
        let mut seconds = interval(Duration::from_secs(1));
        loop {
            seconds.tick().await;
            assert!(started.elapsed() < Duration::from_secs(60), "still open");
            let mut body = scrape(&mut sender).await?;
            while read(&mut body).await? > 0 {}
        }
    };
    let cut_off: Result<(), h2::Error> = reads.await;
    cut_off.unwrap_err();
    let took = took_to_end(ended, started).await;
    assert!((9.9..11.0).contains(&took), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn a_byte_now_and_then_is_not_read() {
    let authority = Authority::new();
    let server = server(&authority).await;
    let (mut sender, ended) = connect(&server, &authority, 1).await;
    let started = Instant::now();
    let mut body = scrape(&mut sender).await.unwrap();
    let mut seconds = interval(Duration::from_secs(1));
    while read(&mut body).await.is_ok_and(|part| part > 0) {
        seconds.tick().await;
        assert!(started.elapsed() < Duration::from_secs(60), "still open");
    }
    let took = took_to_end(ended, started).await;
    assert!((9.9..12.0).contains(&took), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn a_scraper_keeps_its_connection() {
    let authority = Authority::new();
    let server = server(&authority).await;
    let (mut sender, ended) = connect(&server, &authority, 1000).await;
    for _ in 0..5 {
        let mut body = scrape(&mut sender).await.unwrap();
        let mut bytes = 0;
        loop {
            match read(&mut body).await.unwrap() {
                0 => break,
                part => bytes += part,
            }
        }
        assert!(bytes > 4000, "{bytes}");
        tokio::time::advance(Duration::from_secs(120)).await;
    }
    assert!(!ended.is_finished());
}
