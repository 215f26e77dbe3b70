//! A real Prometheus scrapes over each kind of TLS and authentication, and is refused without.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::process::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tesseract_tests::process::{Exporter, Launch};
use tesseract_tests::prometheus::Prometheus;
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};
use tokio_rustls::TlsConnector;

/// A Prometheus starts within a second; a busy machine may take longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nobody answers there; that is no matter here.
const CONFIG: &str = "
networks:
  - name: a
    rpc_urls: ['http://127.0.0.1:1']
    contract: '0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed'
";

const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";
/// Whoever makes a certificate may read.
const ANY_CLIENT: &str = "  client_auth_type: RequireAnyClientCert\n";
const OPEN: &str = "anybody who reaches the port can read what is served";
const CLIENTS: &str = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n";

/// An authority, and what it signed: `ca.crt`, `server.crt`, `server.key`, `client.crt`, `client.key`.
struct Certificates {
    directory: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Certificates {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let write = |name: &str, text: String| std::fs::write(directory.path().join(name), text).unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        write("ca.crt", authority.self_signed(&key).unwrap().pem());
        let made = Self { issuer: Issuer::new(authority, key), directory };
        for name in ["server", "client"] {
            made.sign(name, made.directory.path());
        }
        made
    }

    /// `NAME.crt` and `NAME.key` in a directory, new ones.
    fn sign(&self, name: &str, directory: &Path) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![format!("{name}.example")]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(directory.join(format!("{name}.crt")), certificate.pem()).unwrap();
        fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn launch(&self, web_config: &str) -> Launch {
        let mut launch = Launch::config(CONFIG).file("web.yml", web_config).arg("--web.config.file=web.yml");
        for name in ["ca.crt", "server.crt", "server.key"] {
            launch = launch.file(name, fs::read(self.path(name)).unwrap());
        }
        launch
    }

    async fn exporter(&self, web_config: &str) -> Exporter {
        self.launch(web_config).start().await
    }

    /// The certificate that an exporter shows.
    async fn shown(&self, exporter: &Exporter) -> CertificateDer<'static> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ca.crt")).unwrap()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let stream = TcpStream::connect(exporter.address()).await.unwrap();
        let name = ServerName::try_from("server.example").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_what_it_may() {
    let files = Certificates::new();
    let users = format!("basic_auth_users:\n  prometheus: {}\n", bcrypt::hash("sesame", 10).unwrap());
    let plain = files.exporter(&users).await;
    let tls = files.exporter(TLS).await;
    let certificate = files.exporter(&format!("{TLS}{CLIENTS}")).await;
    let all = files.exporter(&format!("{TLS}{CLIENTS}{users}")).await;
    let auth = |kind: &str, more: &str| format!("{TLS}  client_auth_type: {kind}\n{more}");
    let requested = files.exporter(&auth("RequestClientCert", "")).await;
    let any = files.exporter(&auth("RequireAnyClientCert", "")).await;
    let if_given = files.exporter(&auth("VerifyClientCertIfGiven", "  client_ca_file: ca.crt\n")).await;
    let named =
        files.exporter(&format!("{TLS}{CLIENTS}  client_allowed_sans: [other, client.example]\n")).await;
    let other_named = files.exporter(&format!("{TLS}{CLIENTS}  client_allowed_sans: [other]\n")).await;
    let newest = files.exporter(&format!("{TLS}  min_version: TLS13\n")).await;

    let stranger = rcgen::generate_simple_self_signed(["client.example".to_owned()]).unwrap();
    std::fs::write(files.path("stranger.crt"), stranger.cert.pem()).unwrap();
    std::fs::write(files.path("stranger.key"), stranger.signing_key.serialize_pem()).unwrap();

    let password = "basic_auth: {username: prometheus, password: sesame}";
    let wrong = "basic_auth: {username: prometheus, password: open}";
    let trusts = format!("ca_file: {}, server_name: server.example", files.path("ca.crt"));
    let shows = format!("cert_file: {}, key_file: {}", files.path("client.crt"), files.path("client.key"));
    let https = format!("scheme: https, tls_config: {{{trusts}}}");
    let mutual = format!("scheme: https, tls_config: {{{trusts}, {shows}}}");
    let strange = mutual.replace("client.", "stranger.");
    let old = format!("scheme: https, tls_config: {{{trusts}, max_version: TLS12}}");
    // Name, exporter, what Prometheus is given, and whether it gets in.
    let jobs = [
        ("password", &plain, password.to_owned(), true),
        ("no_password", &plain, "scheme: http".to_owned(), false),
        ("wrong_password", &plain, wrong.to_owned(), false),
        ("tls", &tls, https.clone(), true),
        ("tls_spoken_to_plainly", &tls, "scheme: http".to_owned(), false),
        ("tls_of_a_stranger", &tls, "scheme: https".to_owned(), false),
        ("certificate", &certificate, mutual.clone(), true),
        ("no_certificate", &certificate, https.clone(), false),
        ("all", &all, format!("{mutual}, {password}"), true),
        ("all_but_the_password", &all, mutual.clone(), false),
        ("all_but_the_certificate", &all, format!("{https}, {password}"), false),
        ("certificate_of_a_stranger", &certificate, strange.clone(), false),
        ("requested", &requested, mutual.clone(), true),
        ("requested_and_none", &requested, https.clone(), true),
        ("any", &any, mutual.clone(), true),
        ("any_of_a_stranger", &any, strange.clone(), true),
        ("any_and_none", &any, https.clone(), false),
        ("if_given", &if_given, mutual.clone(), true),
        ("if_given_and_none", &if_given, https.clone(), true),
        ("if_given_of_a_stranger", &if_given, strange.clone(), false),
        ("named", &named, mutual.clone(), true),
        ("named_by_a_stranger", &named, strange, false),
        ("named_otherwise", &other_named, mutual.clone(), false),
        ("newest", &newest, https.clone(), true),
        ("newest_and_tls_1_2", &newest, old.clone(), false),
        ("tls_1_2", &tls, old, true),
    ];
    let mut config = "global: {scrape_interval: 1s}\nscrape_configs:\n".to_owned();
    for (name, exporter, given, _) in &jobs {
        let target = exporter.address();
        let job = format!("- {{job_name: {name}, {given}, static_configs: [{{targets: [\"{target}\"]}}]}}");
        writeln!(config, "{job}").unwrap();
    }
    let prometheus = Prometheus::start(&config, &[]).await;

    for (name, _, _, gets_in) in &jobs {
        // Three scrapes, so that the first is not all there is.
        let query = format!(
            "sum_over_time(up{{job=\"{name}\"}}[1m]) and count_over_time(up{{job=\"{name}\"}}[1m]) >= 3"
        );
        let scrapes = wait_until(&prometheus, &query).await;
        assert_eq!(scrapes >= 3.0, *gets_in, "{name}: {scrapes}: {}", targets(&prometheus).await);
        let series =
            prometheus.query(&format!("tesseract_exporter_build_info{{job=\"{name}\"}}")).await.unwrap();
        assert_eq!(!series.is_empty(), *gets_in, "{name}");
    }
}

#[tokio::test]
async fn health_asks_over_each_kind() {
    let files = Certificates::new();
    let users = format!("basic_auth_users:\n  prometheus: {}\n", bcrypt::hash("sesame", 4).unwrap());
    let excluded = "auth_excluded_paths: [/-/ready]\n";
    // What the exporter has, the scheme, the path, the exit status, and what is said after the URL.
    for (web_config, scheme, path, code, said) in [
        (users.clone(), "http", "", 0, "/-/healthy: 401 Unauthorized\n"),
        (TLS.to_owned(), "https", "", 0, "/-/healthy: 200 OK\n"),
        (TLS.to_owned(), "http", "", 1, "/-/healthy: the answer is not HTTP, expected an https URL"),
        (format!("{TLS}{users}"), "https", "", 0, "/-/healthy: 401 Unauthorized\n"),
        (format!("{TLS}{users}"), "https", "/-/ready", 1, "/-/ready: 401 Unauthorized\n"),
        (format!("{TLS}{users}{excluded}"), "https", "/-/ready", 1, "/-/ready: 503 Service Unavailable\n"),
        (format!("{TLS}{CLIENTS}"), "https", "", 0, "/-/healthy: a client certificate is demanded\n"),
        (
            format!("{TLS}{CLIENTS}  max_version: TLS12\n{users}"),
            "https",
            "",
            0,
            "/-/healthy: a client certificate is demanded\n",
        ),
        (format!("{TLS}{CLIENTS}"), "https", "/health", 1, "/health: a client certificate is demanded\n"),
        (String::new(), "https", "", 1, "/-/healthy: "),
    ] {
        let exporter = files.exporter(&web_config).await;
        let url = format!("{scheme}://{}", exporter.address());
        let asked = Launch::bare().arg("health").arg(format!("--url={url}{path}")).run().await;
        assert_eq!(asked.status.code(), Some(code), "{web_config}: {asked:?}");
        let answer = if code == 0 { asked.stdout } else { asked.stderr };
        assert!(answer.starts_with(&format!("{url}{said}")), "{web_config}: {answer}");
        assert_eq!(answer.lines().count(), 1, "{answer}");
    }
    let asked = Launch::bare().arg("health").arg("--url=https://user:sesame@127.0.0.1:1").run().await;
    assert_eq!(asked.status.code(), Some(1));
    let expected = "https://127.0.0.1:1/-/healthy: no password is sent to a server that is not verified";
    assert!(asked.stderr.starts_with(expected) && !asked.stderr.contains("sesame"), "{asked:?}");
}

/// What the process does with the flag: a mistake, and a certificate replaced while it runs.
#[tokio::test]
async fn the_flag_is_checked_before_the_start() {
    for args in [&["--config.check"][..], &[]] {
        let launch = Launch::config(CONFIG).file("web.yml", "basic_auth_users:\n  a: sesame\n");
        let launch = launch.arg("--web.config.file=web.yml").arg("--web.listen-address=127.0.0.1:0");
        let finished = args.iter().fold(launch, |launch, arg| launch.arg(*arg)).run().await;
        assert_eq!(finished.status.code(), Some(1), "{finished:?}");
        let expected = "web.yml:2: basic_auth_users.a: is not a bcrypt hash, expected a bcrypt hash, as of `htpasswd -nBC 10 \"\"`\n";
        assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("", expected));
    }
}

#[tokio::test]
async fn a_changed_file_is_taken_over_or_refused_while_it_runs() {
    let files = Certificates::new();
    let mut exporter = files.exporter(TLS).await;
    let file = exporter.dir().join("web.yml");
    let write = |text: &str| std::fs::write(Path::new(&file), text).unwrap();
    write(&format!("{TLS}  min_version: TLS14\n"));
    let line = exporter.wait_for_line("it is refused", PATIENCE, |line| line.contains("rejected")).await;
    assert!(line.contains("web.yml:4: tls_server_config.min_version: TLS14 is not supported"), "{line}");
    write(&format!("{TLS}  min_version: TLS13\n"));
    exporter.wait_for_line("it is taken over", PATIENCE, |line| line.contains("was reread")).await;
    exporter.signal(Signal::TERM);
    assert_eq!(exporter.wait(Duration::from_secs(5)).await.code(), Some(0));
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_over_at_sighup() {
    let files = Certificates::new();
    let exporter = files.exporter(TLS).await;
    let on_disk = || CertificateDer::from_pem_file(exporter.dir().join("server.crt")).unwrap();
    let old = on_disk();
    assert_eq!(files.shown(&exporter).await, old);
    files.sign("server", exporter.dir());
    assert_ne!(on_disk(), old);
    exporter.signal(Signal::HUP);
    let reread = |line: &str| line.contains("SIGHUP: the configuration was reread");
    exporter.wait_for_line("all is read again", PATIENCE, reread).await;
    // At once, and not only once the files are looked at.
    assert_eq!(files.shown(&exporter).await, on_disk());
}

#[tokio::test]
async fn what_is_refused_shows_in_the_metrics_until_the_files_are_right() {
    let headers = "http_server_config: {headers: {X-Frame-Options: deny}}\n";
    let launch = Launch::config(CONFIG).file("web.yml", headers).arg("--web.config.file=web.yml");
    let exporter = launch.start().await;
    let write = |name: &str, text: &str| fs::write(exporter.dir().join(name), text).unwrap();
    let shows = async |what: &str, value: f64| {
        let successful = "tesseract_exporter_config_last_reload_successful";
        exporter.wait_for(what, PATIENCE, |now| now.get(successful) == Some(value)).await;
    };
    shows("it has what the files say", 1.0).await;
    write("web.yml", "nonsense: 1\n");
    shows("it has not", 0.0).await;
    write("web.yml", headers);
    shows("it has again", 1.0).await;

    write("exporter.yml", "nonsense: 1\n");
    exporter.signal(Signal::HUP);
    shows("the other file is refused", 0.0).await;
    write("web.yml", &headers.replace("deny", "sameorigin"));
    exporter.wait_for_lines(2, "the web configuration has changed and was reread", PATIENCE).await;
    assert_eq!(exporter.get("/").await.headers["x-frame-options"], "sameorigin");
    shows("the other file is refused still", 0.0).await;
    write("exporter.yml", CONFIG);
    exporter.signal(Signal::HUP);
    shows("both are right", 1.0).await;
}

#[tokio::test]
async fn an_open_port_is_warned_of_at_the_start_and_whenever_the_files_are_reread() {
    let files = Certificates::new();
    let users = format!("basic_auth_users:\n  prometheus: {}\n", bcrypt::hash("sesame", 4).unwrap());
    let everywhere = "0.0.0.0:0";
    // What is set up, where it listens, and whether anybody can read.
    for (web_config, listen, is_open) in [
        (String::new(), everywhere, true),
        (String::new(), "127.0.0.1:0", false),
        (TLS.to_owned(), everywhere, true),
        (format!("{TLS}{ANY_CLIENT}"), everywhere, true),
        (format!("{TLS}{ANY_CLIENT}  client_allowed_sans: [client.example]\n"), everywhere, true),
        (
            format!("{TLS}{}", CLIENTS.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven")),
            everywhere,
            true,
        ),
        (format!("{TLS}{CLIENTS}"), everywhere, false),
        (users.clone(), everywhere, false),
        (format!("{TLS}{ANY_CLIENT}{users}"), everywhere, false),
    ] {
        let mut exporter = files.launch(&web_config).listen(listen).start().await;
        if is_open {
            exporter.wait_for_lines(1, OPEN, PATIENCE).await;
        }
        fs::write(exporter.dir().join("web.yml"), format!("{web_config}# again\n")).unwrap();
        exporter.signal(Signal::HUP);
        exporter.wait_for_lines(1, "SIGHUP: the configuration was reread", PATIENCE).await;
        if is_open {
            exporter.wait_for_lines(2, OPEN, PATIENCE).await;
        }
        assert!(exporter.terminate().await.success());
        let warned = exporter.log().iter().any(|line| line.contains(OPEN));
        assert_eq!(warned, is_open, "{web_config}: {:#?}", exporter.log());
    }
}

/// Waits until a query gives a value.
async fn wait_until(prometheus: &Prometheus, query: &str) -> f64 {
    let mut ticks = interval(Duration::from_millis(100));
    let waiting = async {
        loop {
            ticks.tick().await;
            if let Some(sample) = prometheus.query(query).await.unwrap().first() {
                return sample["value"][1].as_str().unwrap().parse().unwrap();
            }
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{query}: nothing within {PATIENCE:?}"))
}

async fn targets(prometheus: &Prometheus) -> String {
    let targets = prometheus.api("targets").await.unwrap();
    let targets = targets["activeTargets"].as_array().unwrap();
    targets.iter().map(|of| format!("{}: {}\n", of["scrapePool"], of["lastError"])).collect()
}
