//! `--web.config.file`: TLS, client certificates, users, and what is refused.

use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tesseract_exporter::web::Access;
use tokio::io::AsyncReadExt;
use tokio_rustls::rustls::crypto::ring::{cipher_suite, kx_group};
use tokio_rustls::rustls::version::{TLS12, TLS13};

use crate::server::{Server, well};
use crate::tls::{Authority, Client};

pub(crate) const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";
pub(crate) const CLIENTS: &str = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n";

/// The password is `sesame`.
pub(crate) fn users() -> String {
    let hash = bcrypt::hash_with_salt("sesame", 10, [7; 16]).unwrap();
    format!("basic_auth_users:\n  alice: {hash}\n")
}

/// A directory with a server's certificate, its key, and the client authority.
pub(crate) fn directory(authority: &Authority) -> TempDir {
    let directory = TempDir::new().unwrap();
    authority.sign(&["localhost"]).write(directory.path());
    std::fs::write(directory.path().join("ca.crt"), &authority.pem).unwrap();
    directory
}

pub(crate) fn read(directory: &Path, text: &str) -> Result<Access, String> {
    let file = directory.join("web.yml");
    std::fs::write(&file, text).unwrap();
    Access::read(&file)
}

pub(crate) async fn start(directory: &Path, text: &str) -> Server {
    let access = read(directory, text).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    Server::with_access([well("sepolia")], access).await
}

fn basic(pair: &str) -> String {
    format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(pair))
}

#[test]
fn every_mistake_is_told_with_file_line_and_key() {
    let authority = Authority::new();
    let directory = directory(&authority);
    std::fs::write(directory.path().join("empty"), "").unwrap();
    std::fs::write(directory.path().join("p521.key"), include_str!("keys/p521.pem")).unwrap();
    std::fs::write(directory.path().join("rsa1024.key"), include_str!("keys/rsa1024.pem")).unwrap();
    let tls = |more: &str| format!("{TLS}{more}");
    let table = [
        ("- a\n".to_owned(), vec!["1: is a list, expected a mapping with tls_server_config, http_server_config, basic_auth_users, auth_excluded_paths, rate_limit"]),
        ("tls_server_config: [\n".into(), vec!["2: not valid YAML: "]),
        ("\ntls: 1\n".into(), vec!["2: tls: unknown key, expected one of tls_server_config"]),
        ("tls_server_config:\n".into(), vec!["1: tls_server_config: is empty, expected a mapping with cert, cert_file"]),
        ("rate_limit: {burst: 1}\n".into(), vec!["1: rate_limit: is not supported"]),
        ("tls_server_config: {min_version: TLS12}\n".into(), vec![
            "1: tls_server_config.cert_file: is missing, expected cert_file or cert",
            "1: tls_server_config.key_file: is missing, expected key_file or key",
        ]),
        (tls("  cert: x\n"), vec!["4: tls_server_config.cert: stands beside cert_file, expected only one of the two"]),
        (tls("  cert_files: sesame\n"), vec!["4: tls_server_config.cert_files: unknown key, expected one of cert, "]),
        (TLS.replace("server.crt", "none.crt"), vec!["2: tls_server_config.cert_file: DIR/none.crt cannot be read: "]),
        (TLS.replace("server.crt", "."), vec!["2: tls_server_config.cert_file: DIR/. is a directory, expected a file"]),
        (TLS.replace("server.crt", "empty"), vec!["2: tls_server_config.cert_file: DIR/empty holds no certificates, expected PEM"]),
        (TLS.replace("server.key", "server.crt"), vec!["3: tls_server_config.key_file: DIR/server.crt holds no private key"]),
        (TLS.replace("server.key", "p521.key"), vec!["3: tls_server_config.key_file: DIR/p521.key holds a private key of a kind that is not supported, expected ECDSA P-256"]),
        (TLS.replace("server.key", "rsa1024.key"), vec!["3: tls_server_config.key_file: DIR/rsa1024.key holds a private key of a kind that is not supported, expected ECDSA P-256"]),
        ("tls_server_config:\n  cert_file: server.crt\n  key: sesame\n".into(), vec!["3: tls_server_config.key: holds no private key"]),
        (tls("  client_auth_type: Sometimes\n"), vec!["4: tls_server_config.client_auth_type: Sometimes is not supported, expected one of NoClientCert, "]),
        (tls("  client_auth_type: RequireAndVerifyClientCert\n"), vec!["4: tls_server_config.client_auth_type: verifies by nothing"]),
        (tls("  client_ca_file: ca.crt\n"), vec!["4: tls_server_config.client_ca_file: is not used by this client_auth_type"]),
        (tls("  client_allowed_sans: [a]\n"), vec!["4: tls_server_config.client_allowed_sans: needs a certificate of every client"]),
        (tls("  client_auth_type: RequireAnyClientCert\n  client_allowed_sans: [a, me@example.com]\n"), vec!["5: tls_server_config.client_allowed_sans[1]: is an e-mail address, which is not supported"]),
        (tls("  min_version: TLS10\n  max_version: SSL30\n"), vec![
            "4: tls_server_config.min_version: TLS10 is not supported, expected one of TLS12, TLS13",
            "5: tls_server_config.max_version: SSL30 is not supported",
        ]),
        (tls("  min_version: TLS13\n  max_version: TLS12\n"), vec!["5: tls_server_config.max_version: is below min_version"]),
        (tls("  cipher_suites:\n  - TLS_RSA_WITH_AES_128_CBC_SHA\n"), vec!["5: tls_server_config.cipher_suites[0]: TLS_RSA_WITH_AES_128_CBC_SHA is not supported, expected one of TLS_AES_128_GCM_SHA256, "]),
        (tls("  cipher_suites: []\n"), vec!["4: tls_server_config.cipher_suites: is an empty list"]),
        (tls("  max_version: TLS12\n  cipher_suites: [TLS_AES_128_GCM_SHA256]\n"), vec!["5: tls_server_config.cipher_suites: are of TLS 1.3 alone, which max_version leaves out, expected "]),
        (tls("  curve_preferences: [CurveP521]\n"), vec!["4: tls_server_config.curve_preferences[0]: CurveP521 is not supported, expected one of X25519, CurveP256, CurveP384"]),
        (tls("  prefer_server_cipher_suites: 1\n"), vec!["4: tls_server_config.prefer_server_cipher_suites: is a number, expected true or false"]),
        ("http_server_config: {http2: true}\n".into(), vec!["1: http_server_config.http2: is spoken over TLS only"]),
        ("http_server_config:\n  headers:\n    X-Frame-Options: allow\n    Server: x\n".into(), vec![
            "3: http_server_config.headers.X-Frame-Options: has another value, expected deny or sameorigin",
            "4: http_server_config.headers.Server: unknown key",
        ]),
        ("basic_auth_users:\n  alice: sesame\n  a:b: 1\n  \"c:d\": $2y$19$mDwo.lAisC94iLAyP81MCesa29IzH37oigHC/42V2pdJlUprsJPze\n".into(), vec![
            "2: basic_auth_users.alice: is not a bcrypt hash, expected a bcrypt hash",
            "3: basic_auth_users.?: has a colon in its name",
            "3: basic_auth_users.?: is a number, expected a bcrypt hash",
            "4: basic_auth_users.?: has a colon in its name",
            "4: basic_auth_users.?: has the cost 19, expected 4 to 18",
        ]),
        ("basic_auth_users: {}\n".into(), vec!["1: basic_auth_users: is empty"]),
        ("auth_excluded_paths: [/-/healthy]\n".into(), vec!["1: auth_excluded_paths: excepts from nothing"]),
        (users() + "auth_excluded_paths: [healthy]\n", vec!["3: auth_excluded_paths[0]: is not a path"]),
    ];
    let file = directory.path().join("web.yml");
    for (text, expected) in table {
        let mistakes = read(directory.path(), &text).err().unwrap_or_else(|| panic!("accepted: {text}"));
        assert!(!mistakes.contains("sesame"), "{mistakes}");
        let mistakes = mistakes
            .replace(&format!("{}:", file.display()), "")
            .replace(directory.path().to_str().unwrap(), "DIR");
        let lines: Vec<_> = mistakes.lines().collect();
        let fits = lines.len() == expected.len()
            && lines.iter().zip(&expected).all(|(line, start)| line.starts_with(start));
        assert!(fits, "{text}\n{mistakes}\nexpected {expected:#?}");
    }
    let missing = Access::read(Path::new("/nowhere/web.yml")).unwrap_err();
    assert!(missing.starts_with("/nowhere/web.yml: cannot be read: "), "{missing}");
    // Another key than the certificate's.
    std::fs::write(directory.path().join("server.key"), authority.sign(&["x"]).key).unwrap();
    let mistake = read(directory.path(), TLS).unwrap_err();
    assert!(mistake.contains(":1: tls_server_config: certificate and key cannot be used"), "{mistake}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_auth_type_does_what_go_does() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let directory = directory(&authority);
    let (trusted, untrusted) = (authority.sign(&["client"]), stranger.sign(&["client"]));
    // None, one of a stranger, one of the authority.
    let table = [
        ("NoClientCert", false, [true, true, true]),
        ("RequestClientCert", false, [true, true, true]),
        ("RequireClientCert", false, [false, true, true]),
        ("RequireAnyClientCert", false, [false, true, true]),
        ("VerifyClientCertIfGiven", true, [true, false, true]),
        ("RequireAndVerifyClientCert", true, [false, false, true]),
    ];
    for (name, needs_ca, expected) in table {
        let ca = if needs_ca { "  client_ca_file: ca.crt\n" } else { "" };
        let server = start(directory.path(), &format!("{TLS}  client_auth_type: {name}\n{ca}")).await;
        for version in [&TLS12, &TLS13] {
            let clients = [
                Client::new(&authority),
                Client::showing(&authority, &untrusted),
                Client::showing(&authority, &trusted),
            ];
            for (mut client, expected) in clients.into_iter().zip(expected) {
                client.versions = vec![version];
                let shows = client.shows.is_some();
                let scraped = client.scrape(&server).await;
                assert_eq!(
                    scraped.as_ref().ok(),
                    expected.then_some(&200),
                    "{name}, shows one: {shows}: {scraped:?}"
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_allowed_names_connect() {
    let authority = Authority::new();
    let directory = directory(&authority);
    let more = "  client_allowed_sans: [scraper.example, 192.0.2.7, 'spiffe://example/scraper']\n";
    let server = start(directory.path(), &format!("{TLS}{CLIENTS}{more}")).await;
    for (names, expected) in [
        (&["other.example", "scraper.example"][..], true),
        (&["192.0.2.7"], true),
        (&["spiffe://example/scraper"], true),
        (&["*.example", "192.0.2.8", "spiffe://example/other"], false),
        (&[], false),
    ] {
        let scraped = Client::showing(&authority, &authority.sign(names)).scrape(&server).await;
        assert_eq!(scraped.is_ok(), expected, "{names:?}: {scraped:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_suites_curves_and_protocols_are_those_of_the_file() {
    let authority = Authority::new();
    let directory = directory(&authority);
    let connects = async |more: &str, change: fn(&mut Client<'_>)| {
        let server = start(directory.path(), &format!("{TLS}{more}")).await;
        let mut client = Client::new(&authority);
        change(&mut client);
        client.connect(&server).await.ok().map(|stream| {
            let (_, session) = stream.get_ref();
            let suite = session.negotiated_cipher_suite().unwrap().suite();
            (suite.as_str().unwrap().to_owned(), session.alpn_protocol().map(<[u8]>::to_vec))
        })
    };
    let suite = |found: Option<(String, Option<Vec<u8>>)>| found.map(|(suite, _)| suite);
    let protocol = |found: Option<(String, Option<Vec<u8>>)>| found.and_then(|(_, protocol)| protocol);

    assert!(connects("", |it| it.versions = vec![&TLS12]).await.is_some());
    assert!(connects("  min_version: TLS13\n", |it| it.versions = vec![&TLS12]).await.is_none());
    assert!(connects("  max_version: TLS12\n", |it| it.versions = vec![&TLS13]).await.is_none());

    let chacha = "  cipher_suites: [TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256]\n";
    let found = suite(connects(chacha, |it| it.versions = vec![&TLS12]).await);
    assert_eq!(found.as_deref(), Some("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"));
    assert!(connects(chacha, |it| it.versions = vec![&TLS13]).await.is_some(), "those of TLS 1.3 stay");
    let found = suite(connects("  cipher_suites: [TLS_CHACHA20_POLY1305_SHA256]\n", |_| ()).await);
    assert_eq!(found.as_deref(), Some("TLS13_CHACHA20_POLY1305_SHA256"));
    let two = "  cipher_suites: [TLS_CHACHA20_POLY1305_SHA256, TLS_AES_128_GCM_SHA256]\n";
    let prefer = |it: &mut Client<'_>| {
        it.provider.cipher_suites =
            vec![cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_CHACHA20_POLY1305_SHA256];
    };
    assert_eq!(suite(connects(two, prefer).await).as_deref(), Some("TLS13_CHACHA20_POLY1305_SHA256"));
    let yields = format!("{two}  prefer_server_cipher_suites: false\n");
    assert_eq!(suite(connects(&yields, prefer).await).as_deref(), Some("TLS13_AES_128_GCM_SHA256"));

    let x25519 = |it: &mut Client<'_>| it.provider.kx_groups = vec![kx_group::X25519];
    assert!(connects("  curve_preferences: [X25519, CurveP256]\n", x25519).await.is_some());
    assert!(connects("  curve_preferences: [CurveP384]\n", x25519).await.is_none());

    let both = |it: &mut Client<'_>| it.protocols = &[b"http/1.1", b"h2"];
    assert_eq!(protocol(connects("", both).await).as_deref(), Some(&b"h2"[..]));
    let found = protocol(connects("http_server_config: {http2: false}\n", both).await);
    assert_eq!(found.as_deref(), Some(&b"http/1.1"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_served() {
    let authority = Authority::new();
    let directory = directory(&authority);
    let server = start(directory.path(), TLS).await;
    let client = Client { protocols: &[b"h2"], ..Client::new(&authority) };
    let stream = TokioIo::new(client.connect(&server).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    for _ in 0..3 {
        let request = Request::get("https://localhost/metrics").body(Empty::<bytes::Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains("tesseract_synced{network=\"sepolia\"} 1\n"));
    }
    drop(sender);
    connection.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn users_are_asked_for_a_password() {
    let directory = TempDir::new().unwrap();
    let text = users()
        + "auth_excluded_paths: [/-/healthy]\n\
           http_server_config:\n  headers:\n    X-Frame-Options: deny\n    Strict-Transport-Security:\n    X-XSS-Protection: 0\n";
    let server = start(directory.path(), &text).await;
    for (path, headers, status) in [
        ("/metrics", String::new(), 401),
        ("/", String::new(), 401),
        ("/nothing", String::new(), 401),
        ("/-/healthy", String::new(), 200),
        ("/-/healthy/", String::new(), 401),
        ("/metrics", basic("alice:wrong"), 401),
        ("/metrics", basic("bob:sesame"), 401),
        ("/metrics", basic("alice:sesame"), 200),
        ("/nothing", basic("alice:sesame"), 404),
    ] {
        let answer = server.ask("GET", path, &headers);
        assert_eq!(answer.status, status, "{path} {headers}");
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge.starts_with("Basic realm="), status == 401, "{path} {challenge}");
        let headers = ["x-frame-options", "strict-transport-security", "x-xss-protection"];
        assert_eq!(headers.map(|name| answer.header(name)), ["deny", "", "0"], "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_wrong_passwords_holds_up_nobody_who_is_known() {
    const SCRAPES: usize = 50;
    let directory = TempDir::new().unwrap();
    let server = start(directory.path(), &users()).await;
    let right = basic("alice:sesame");
    assert_eq!(server.ask("GET", "/metrics", &right).status, 200);
    let address = server.address;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let flood: Vec<_> = (0..32)
        .map(|number| {
            let stopped = stopped.clone();
            std::thread::spawn(move || {
                let mut statuses = Vec::new();
                while !*stopped.borrow() {
                    let headers = basic(&format!("user{number}:wrong{}", statuses.len()));
                    statuses.push(crate::server::ask(address, "GET", "/metrics", &headers).status);
                }
                statuses
            })
        })
        .collect();
    for _ in 0..SCRAPES {
        assert_eq!(server.ask("GET", "/metrics", &right).status, 200);
    }
    stop.send_replace(true);
    let statuses: Vec<_> = flood.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    assert!(statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
    // Had each scrape waited for a password to be checked, there were as many checks.
    let checked = statuses.iter().filter(|status| **status == 401).count();
    assert!(checked < SCRAPES, "{checked} wrong passwords checked within {SCRAPES} scrapes");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_handshakes_hold_up_no_scrape() {
    let authority = Authority::new();
    let directory = directory(&authority);
    let server = start(directory.path(), TLS).await;
    let silent: Vec<_> = (0..300).map(|_| server.connect()).collect();
    assert_eq!(Client::new(&authority).scrape(&server).await, Ok(200));
    drop(silent);
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_end_is_cut_off() {
    let authority = Authority::new();
    let directory = directory(&authority);
    let server = start(directory.path(), TLS).await;
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let started = tokio::time::Instant::now();
    let ended = stream.read(&mut [0; 64]).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    let took = started.elapsed().as_secs_f64();
    assert!((4.9..6.0).contains(&took), "{took} s");
}
