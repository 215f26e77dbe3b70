//! Clients that misbehave, and a server that stops.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tokio::time::Instant;

use crate::server::{Server, well};

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
