//! Clients that are silent, slow, many, or never read; and the scrape beside them.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::server::{Server, well};

mod http2;

/// More than the server serves at a time.
const MANY: usize = 300;

const REQUEST: &[u8] = b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n";

/// Under attack a scrape may take this many times as long as it does beside idle clients, by the median; a
/// scrape that waits for a place takes thousands.
const SLOWER: u32 = 50;

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_is_answered_beside_silent_connections() {
    let server = Server::start([well("sepolia")]).await;
    let idle = median_scrape(&server);
    let mut silent = Vec::new();
    for _ in 0..MANY {
        let mut stream = server.connect();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").unwrap();
        silent.push(stream);
    }
    let attacked = median_scrape(&server);
    println!("median scrape: {idle:?} idle, {attacked:?} beside {MANY} silent connections");
    assert!(attacked < idle * SLOWER, "{idle:?} idle, {attacked:?} attacked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_is_answered_while_connections_flood_in() {
    let server = Server::start([well("sepolia")]).await;
    let idle = median_scrape(&server);
    let address = server.address;
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let flood = tokio::spawn(async move {
        let mut open = std::collections::VecDeque::new();
        while !*stopped.borrow_and_update() {
            // Refused or reset is as good.
            open.extend(tokio::net::TcpStream::connect(address).await.ok());
            if open.len() > 2 * MANY {
                open.pop_front();
            }
        }
        open.len()
    });
    let attacked = median_scrape(&server);
    stop.send_replace(true);
    assert!(flood.await.unwrap() > 0);
    println!("median scrape: {idle:?} idle, {attacked:?} while connections flood in");
    assert!(attacked < idle * SLOWER, "{idle:?} idle, {attacked:?} attacked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_is_answered_beside_clients_that_never_read() {
    let server = Server::start([well("sepolia")]).await;
    let idle = median_scrape(&server);
    let mut deaf = Vec::new();
    for _ in 0..200 {
        let mut stream = server.connect();
        stream.set_nonblocking(true).unwrap();
        // Until nothing more fits, here or there.
        let requests = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
        while stream.write(&requests).is_ok() {}
        deaf.push(stream);
    }
    let attacked = median_scrape(&server);
    let held = queued_bytes(server.address) / deaf.len();
    println!(
        "median scrape: {idle:?} idle, {attacked:?} beside {} that never read, {held} bytes each",
        deaf.len()
    );
    assert!(attacked < idle * SLOWER, "{idle:?} idle, {attacked:?} attacked");
    // Twice the buffer in each direction.
    assert!(held <= 4 * 64 * 1024, "{held}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_cannot_push_out_another() {
    let server = Server::start([well("sepolia")]).await;
    let mut other = connect_from("127.0.0.2", server.address);
    assert_eq!(ask(&mut other), 200);
    let mut own = server.connect();
    assert_eq!(ask(&mut own), 200);

    let mut flood: Vec<_> = (0..MANY).map(|_| server.connect()).collect();
    // The last is served: all before it have been accepted.
    assert_eq!(ask(flood.last_mut().unwrap()), 200);
    assert_eq!(ask(&mut other), 200);
    // Who was answered goes after who never asked, also at the same address.
    assert_eq!(ask(&mut own), 200);

    for stream in &mut flood {
        // Those that were closed say nothing.
        let _ = stream.write_all(REQUEST);
        let _ = stream.read(&mut [0; 1024]);
    }
    // Now all of its own have been answered: the oldest goes, and never another's.
    let mut more = Vec::new();
    for _ in 0..MANY {
        let mut stream = server.connect();
        assert_eq!(ask(&mut stream), 200);
        more.push(stream);
    }
    assert_eq!(ask(&mut other), 200);
    assert!(is_closed(&mut own));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_names_one_host() {
    let server = Server::start([well("sepolia")]).await;
    let table = [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET http://a/ HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n", 200),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200),
    ];
    for (request, status) in table {
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        // To its end: a refusal closes.
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(status_of(answer.as_bytes()), Some(status), "{request:?}: {answer}");
    }
}

/// The clock is paused: with nothing else to do it jumps to the next timer.
#[tokio::test(start_paused = true)]
async fn a_first_head_has_five_seconds_and_so_has_each_later_one() {
    let server = Server::start([well("sepolia")]).await;
    for (first, then) in [(&b""[..], &b""[..]), (b"", b"GET / HT"), (REQUEST, b"GET / HT")] {
        let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        if !first.is_empty() {
            stream.write_all(first).await.unwrap();
            assert_ne!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
        }
        let started = tokio::time::Instant::now();
        stream.write_all(then).await.unwrap();
        let ended = stream.read(&mut [0; 1024]).await;
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        let took = started.elapsed().as_secs_f64();
        assert!((4.9..6.0).contains(&took), "{took} s for {then:?} after {first:?}");
    }
}

/// A byte now and then does not make a head any younger.
#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_in_is_cut_off() {
    let server = Server::start([well("sepolia")]).await;
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let started = tokio::time::Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    stream.write_all(b"GET / HTTP/1.1\r\nX-Slow: ").await.unwrap();
    let mut answer = [0; 1024];
    loop {
        tokio::select! {
            ended = stream.read(&mut answer) => {
                assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
                break;
            }
            _ = ticks.tick() => if stream.write_all(b"x").await.is_err() { break },
        }
    }
    let took = started.elapsed().as_secs_f64();
    assert!((4.9..7.0).contains(&took), "{took} s");
}

#[tokio::test(start_paused = true)]
async fn an_established_scraper_keeps_its_connection() {
    let server = Server::start([well("sepolia")]).await;
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    for _ in 0..20 {
        stream.write_all(REQUEST).await.unwrap();
        let mut answer = [0; 1024];
        let read = stream.read(&mut answer).await.unwrap();
        assert_eq!(status_of(&answer[..read]), Some(200));
        tokio::time::advance(Duration::from_secs(120)).await;
    }
    // Nobody needs it any more.
    let started = tokio::time::Instant::now();
    assert_eq!(stream.read(&mut [0; 1024]).await.unwrap(), 0);
    assert!(started.elapsed() < Duration::from_secs(300));
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
        assert!(started.elapsed() < Duration::from_secs(60), "still open");
    }
    assert!(started.elapsed() >= Duration::from_secs(10), "{:?}", started.elapsed());
}

/// The median of some scrapes, each over a connection of its own.
fn median_scrape(server: &Server) -> Duration {
    let mut took: Vec<_> = (0..51)
        .map(|_| {
            let started = Instant::now();
            assert_eq!(server.ask("GET", "/metrics", "").status, 200);
            started.elapsed()
        })
        .collect();
    took.sort();
    took[took.len() / 2]
}

/// Asks over an open connection; the answer's status.
fn ask(stream: &mut TcpStream) -> u16 {
    stream.write_all(REQUEST).unwrap();
    let mut answer = [0; 1024];
    let read = stream.read(&mut answer).unwrap();
    status_of(&answer[..read]).unwrap_or_else(|| panic!("closed: {read}"))
}

fn status_of(answer: &[u8]) -> Option<u16> {
    std::str::from_utf8(answer).ok()?.split(' ').nth(1)?.parse().ok()
}

fn is_closed(stream: &mut TcpStream) -> bool {
    let _ = stream.write_all(REQUEST);
    match stream.read(&mut [0; 1024]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

/// A connection from another address of this machine.
fn connect_from(address: &str, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from: SocketAddr = format!("{address}:0").parse().unwrap();
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// What the kernel holds for the server's end of all connections: not yet read by the client, or by the server.
fn queued_bytes(server: SocketAddr) -> usize {
    let port = format!(":{:04X}", server.port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let mut sum = 0;
    for line in table.lines().skip(1) {
        let columns: Vec<_> = line.split_whitespace().collect();
        if columns[1].ends_with(&port) {
            let (sent, received) = columns[4].split_once(':').unwrap();
            let bytes = |hex: &str| usize::from_str_radix(hex, 16).unwrap();
            sum += bytes(sent) + bytes(received);
        }
    }
    sum
}
