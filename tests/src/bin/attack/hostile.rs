//! What attackers do to the port, each in a task of its own, again and again. Never waits for anything but the exporter.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::interval;
use tokio_rustls::TlsConnector;

use super::{NAME, RIGHT, Target};

/// The user and any password of five digits: base64 of whatever begins like this and goes on.
const WRONG: &str = "Authorization: Basic cHJvbWV0aGV1czo";

/// As many as the exporter takes over one HTTP/2 connection.
const STREAMS: usize = 8;

/// What one does.
#[derive(Clone, Copy)]
pub(crate) enum Attack {
    /// Connects, and says nothing.
    Silent,
    /// Sends requests and never reads an answer.
    NeverRead,
    /// The same over HTTP/2, where no window is opened for the answers.
    NoWindow,
    /// Sends the first head a byte at a time.
    SlowHead,
    /// Connects and leaves.
    Churn,
    /// Scrapes with gzip, one scrape after the other. Where there are users it is one.
    Gzip,
    /// Begins a TLS handshake.
    Handshake,
    /// Sends a wrong password, another one each time.
    WrongPassword,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

type Failure = Box<dyn std::error::Error + Send + Sync>;

impl Attack {
    /// One round, until the exporter ends the connection or nothing more can be done to it.
    pub(crate) async fn once(self, target: &Target, from: Ipv4Addr, round: u64) -> Result<(), Failure> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let tcp = socket.connect(target.exporter.address()).await?;
        let shakes_hands = !matches!(self, Self::Silent | Self::Churn | Self::Handshake);
        let mut stream: Box<dyn Stream> = match &target.tls {
            Some(config) if shakes_hands => {
                let mut config = (**config).clone();
                if matches!(self, Self::NoWindow) {
                    config.alpn_protocols = vec![b"h2".to_vec()];
                }
                let name = ServerName::try_from(NAME)?;
                Box::new(TlsConnector::from(Arc::new(config)).connect(name, tcp).await?)
            }
            _ => Box::new(tcp),
        };
        match self {
            Self::Churn => return Ok(()),
            Self::Silent => {}
            // A record of 512 bytes is announced, a ClientHello, and never comes.
            Self::Handshake => stream.write_all(&[0x16, 3, 1, 2, 0, 1]).await?,
            Self::NeverRead => {
                let requests = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
                loop {
                    stream.write_all(&requests).await?;
                }
            }
            Self::NoWindow => return no_window(stream).await,
            Self::SlowHead => {
                let mut paces = interval(Duration::from_millis(200));
                for byte in b"GET /metrics HTTP/1.1\r\nHost: ".iter().chain(std::iter::repeat(&b'x')) {
                    paces.tick().await;
                    stream.write_all(&[*byte]).await?;
                }
            }
            Self::Gzip => {
                let user = if target.headers.contains(RIGHT) { RIGHT } else { "" };
                let request = format!(
                    "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n{user}\r\n"
                );
                stream.write_all(request.as_bytes()).await?;
            }
            Self::WrongPassword => {
                let request = format!(
                    "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{WRONG}{:05}\r\n\r\n",
                    round % 100_000
                );
                stream.write_all(request.as_bytes()).await?;
            }
        }
        let mut answer = [0; 1 << 14];
        while stream.read(&mut answer).await? > 0 {}
        Ok(())
    }
}

/// Scrapes as a user, as often as it may at a time, and takes none of the answers.
async fn no_window(stream: Box<dyn Stream>) -> Result<(), Failure> {
    let client = h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(stream);
    let (sender, connection) = client.await?;
    let asks = async {
        let mut sender = sender.ready().await?;
        let mut answers = Vec::new();
        for _ in 0..STREAMS {
            let (name, value) = RIGHT.trim().split_once(": ").expect("a header");
            let request = Request::get(format!("https://{NAME}/metrics")).header(name, value).body(())?;
            answers.push(sender.send_request(request, true)?.0);
            sender = sender.ready().await?;
        }
        // For as long as the connection is open.
        std::future::pending::<()>().await;
        drop(answers);
        Ok::<_, Failure>(())
    };
    tokio::select! {
        ended = connection => Ok(ended?),
        failed = asks => failed,
    }
}
