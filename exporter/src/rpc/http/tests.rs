//! Everything a server can do to a request, over real sockets.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::*;

/// A server that handles one connection; stopped when dropped.
struct Server {
    port: u16,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start<F: Future<Output = ()> + Send>(
        serve: impl FnOnce(TcpStream) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            serve(stream).await;
        });
        Self { port, task }
    }

    /// Reads the head of the request, sends these bytes, and then closes.
    async fn answering(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |mut stream| async move {
            read_head(&mut stream).await;
            // A client that does not want the rest closes.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            // To close with something unread would take back what was sent.
            while stream.read_u8().await.is_ok() {}
        })
        .await
    }

    /// With TLS, a certificate chain and its key; answers `{}`.
    async fn tls(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Self {
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
        Self::start(move |stream| async move {
            // A client that refuses the certificate closes.
            let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else { return };
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
            let _ = stream.shutdown().await;
        })
        .await
    }

    async fn post(&self, scheme: &str) -> Result<Bytes, String> {
        self.post_with(scheme, None).await
    }

    /// The answer to a post, or the error as it would be shown.
    async fn post_with(
        &self,
        scheme: &str,
        authorities: Option<&config::Authorities>,
    ) -> Result<Bytes, String> {
        let url = format!("{scheme}://localhost:{}/v2/sesame", self.port);
        let endpoint = HttpEndpoint::new(&url.parse().unwrap(), http_client(authorities));
        endpoint.post(b"{}".to_vec()).await.map_err(|error| endpoint.redacted(error).message)
    }
}

async fn read_head(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

#[tokio::test]
async fn a_request_says_who_asks_and_for_what() {
    let (sender, head) = tokio::sync::oneshot::channel();
    let server = Server::start(|mut stream| async move {
        sender.send(read_head(&mut stream).await).unwrap();
        stream.write_all(answer("200 OK", "", "{}").as_bytes()).await.unwrap();
    })
    .await;
    assert_eq!(server.post("http").await.unwrap(), "{}");
    let head = head.await.unwrap();
    for line in [
        "POST /v2/sesame HTTP/1.1",
        concat!("user-agent: tesseract-exporter/", env!("CARGO_PKG_VERSION")),
        "accept-encoding: identity",
        "content-type: application/json",
    ] {
        assert!(head.lines().any(|it| it == line), "{line}: {head}");
    }
}

#[tokio::test]
async fn any_success_is_taken_and_nothing_else() {
    const RPC: &str = r#"{"id":1,"error":{"code":-32000,"message":"busy"}}"#;
    for status in ["200 OK", "201 Created", "202 Accepted", "206 Partial Content"] {
        let server = Server::answering(answer(status, "", "{}")).await;
        assert_eq!(server.post("http").await.unwrap(), "{}", "{status}");
    }
    let server = Server::answering(answer("500 Internal Server Error", "", RPC)).await;
    assert_eq!(server.post("http").await.unwrap(), RPC);
    for (status, headers, body, expected) in [
        ("503 Service Unavailable", "", "<html>", "HTTP 503 Service Unavailable"),
        ("429 Too Many Requests", "", RPC, "HTTP 429 Too Many Requests"),
        ("304 Not Modified", "", "", "HTTP 304 Not Modified"),
        (
            "200 OK",
            "content-encoding: gzip\r\n",
            "\x1f",
            "answer is compressed (\"gzip\"), which was not asked for",
        ),
        (
            "200 OK",
            "content-encoding: \u{fe}\r\n",
            "",
            "answer is compressed (\"\\xc3\\xbe\"), which was not asked for",
        ),
    ] {
        let server = Server::answering(answer(status, headers, body)).await;
        assert_eq!(server.post("http").await.unwrap_err(), expected);
    }
}

#[tokio::test]
async fn a_redirect_is_refused_with_its_target() {
    for (status, location, expected) in [
        ("301 Moved Permanently", "https://user:pw@other.example:444/key?k=1", "https://other.example:444"),
        ("302 Found", "//other.example/x", "http://other.example"),
        ("307 Temporary Redirect", "https://sesame.example", "https://***.example"),
        ("308 Permanent Redirect", ":", "what is not a URL"),
        ("303 See Other", "ht tp://x", "what is not a URL"),
    ] {
        let server = Server::answering(answer(status, &format!("location: {location}\r\n"), "{}")).await;
        let expected =
            format!("HTTP {status} to {expected}: redirects are not followed; set the URL to the final one");
        assert_eq!(server.post("http").await.unwrap_err(), expected);
    }
    let server = Server::answering(answer("308 Permanent Redirect", "location: /sesame/\r\n", "{}")).await;
    let message = server.post("http").await.unwrap_err();
    let own = format!("HTTP 308 Permanent Redirect to http://localhost:{}: ", server.port);
    assert!(message.starts_with(&own), "{message}");
}

#[tokio::test]
async fn the_size_of_an_answer_is_bounded() {
    let head = "HTTP/1.1 200 OK\r\n";
    let announced = format!("{head}content-length: {}\r\n\r\n", LARGEST_ANSWER + 1);
    let server = Server::answering(announced).await;
    assert_eq!(server.post("http").await.unwrap_err(), "answer of more than 16 MiB");

    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n");
    let server = Server::answering(format!("{chunked}{}", chunk.repeat(17))).await;
    assert_eq!(server.post("http").await.unwrap_err(), "answer of more than 16 MiB");
    let server = Server::answering(format!("{chunked}{}0\r\n\r\n", chunk.repeat(16))).await;
    assert_eq!(server.post("http").await.unwrap().len(), LARGEST_ANSWER);

    let pieces = "1\r\nx\r\n".repeat(MOST_PIECES + 1);
    let server = Server::answering(format!("{chunked}{pieces}")).await;
    let expected = format!("answer in more than {MOST_PIECES} pieces");
    assert_eq!(server.post("http").await.unwrap_err(), expected);

    let server = Server::answering(format!("{head}content-length: 5\r\n\r\nabc")).await;
    assert_eq!(server.post("http").await.unwrap_err(), "connection broke within the answer");
}

#[tokio::test]
async fn interim_answers_are_bounded_and_their_connection_is_closed() {
    let few = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(MOST_INTERIM);
    let server = Server::answering(format!("{few}{}", answer("200 OK", "", "{}"))).await;
    assert_eq!(server.post("http").await.unwrap(), "{}");

    let mut server = Server::start(|mut stream| async move {
        read_head(&mut stream).await;
        // Without an end, until the client hangs up.
        while stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_ok() {}
    })
    .await;
    assert_eq!(server.post("http").await.unwrap_err(), "more than 16 interim answers (HTTP 1xx)");
    (&mut server.task).await.unwrap();
}

#[tokio::test]
async fn the_wrong_scheme_is_named() {
    let plain = Server::start(|mut stream| async move {
        // As many servers answer to what is no HTTP.
        let mut hello = [0; 3];
        stream.read_exact(&mut hello).await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        while stream.read_u8().await.is_ok() {}
    })
    .await;
    let expected = "cannot connect: the server does not speak TLS; use an http URL";
    assert_eq!(plain.post("https").await.unwrap_err(), expected);

    let closing = Server::start(|mut stream| async move {
        stream.read_u8().await.unwrap();
    })
    .await;
    let expected = "cannot connect: the server closed the connection during the TLS handshake; if it expects \
                    no TLS, use an http URL";
    assert_eq!(closing.post("https").await.unwrap_err(), expected);

    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let tls = Server::tls(vec![certificate.der().clone()], &key).await;
    let expected = "request failed: the answer is not HTTP; if the server expects TLS, use an https URL";
    assert_eq!(tls.post("http").await.unwrap_err(), expected);

    // What nginx, Go and others answer at a TLS port.
    let polite = Server::answering(answer("400 Bad Request", "", "<html>plain HTTP at an HTTPS port")).await;
    let expected = "HTTP 400 Bad Request; if the server expects TLS, use an https URL";
    assert_eq!(polite.post("http").await.unwrap_err(), expected);
    let own = Server::answering(answer("400 Bad Request", "", r#"{"message":"range too wide"}"#)).await;
    assert_eq!(own.post("http").await.unwrap_err(), "HTTP 400 Bad Request");
}

#[tokio::test]
async fn a_certificate_that_is_not_right_is_named() {
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = Issuer::new(params, authority_key);
    let trusted = config::Authorities { file: "ca.pem".into(), certificates: vec![authority.der().clone()] };

    let key = KeyPair::generate().unwrap();
    let signed = |name: &str, from: i32, to: i32| {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        params.signed_by(&key, &issuer).unwrap().der().clone()
    };
    let good = signed("localhost", 2000, 2100);
    let server = Server::tls(vec![good.clone()], &key).await;
    assert_eq!(server.post_with("https", Some(&trusted)).await.unwrap(), "{}");

    let unknown = "cannot connect: the server's certificate is self-signed or from an unknown authority; \
                   name the authority's certificate in ca_file";
    let server = Server::tls(vec![good], &key).await;
    assert_eq!(server.post("https").await.unwrap_err(), unknown);
    let alone = CertificateParams::new(["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let server = Server::tls(vec![alone.der().clone()], &key).await;
    assert_eq!(server.post("https").await.unwrap_err(), unknown);
    // Such a one can be trusted by itself.
    let itself = config::Authorities { file: "ca.pem".into(), certificates: vec![alone.der().clone()] };
    let server = Server::tls(vec![alone.der().clone()], &key).await;
    assert_eq!(server.post_with("https", Some(&itself)).await.unwrap(), "{}");

    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let as_server = params.self_signed(&key).unwrap().der().clone();
    for (certificate, expected) in [
        (signed("localhost", 2000, 2001), "the server's certificate has expired"),
        (
            signed("localhost", 2100, 2101),
            "the server's certificate is not valid yet; is this machine's clock right?",
        ),
        (signed("other.example", 2000, 2100), "the server's certificate is for another host name"),
        (
            as_server,
            "the server's certificate is an authority's (CA:TRUE), expected one of a server, signed by it",
        ),
    ] {
        let server = Server::tls(vec![certificate], &key).await;
        let message = server.post_with("https", Some(&trusted)).await.unwrap_err();
        assert_eq!(message, format!("cannot connect: {expected}"));
    }
}

#[tokio::test]
async fn a_refused_connection_is_said_in_the_systems_words() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let gone = Server { port, task: tokio::spawn(async {}) };
    let message = gone.post("https").await.unwrap_err();
    assert_eq!(message, "cannot connect: Connection refused (os error 111)");
}
