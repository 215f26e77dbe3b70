//! A real Prometheus scrapes over each kind of TLS and authentication, and is refused without.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustix::process::Signal;
use tempfile::TempDir;
use tesseract_tests::process::{Exporter, Launch};
use tesseract_tests::prometheus::Prometheus;
use tokio::time::{interval, timeout};

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
const CLIENTS: &str = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n";

/// An authority, and what it signed: `ca.crt`, `server.crt`, `server.key`, `client.crt`, `client.key`.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let write = |name: &str, text: String| std::fs::write(directory.path().join(name), text).unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        write("ca.crt", authority.self_signed(&key).unwrap().pem());
        let issuer = Issuer::new(authority, key);
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![format!("{name}.example")]).unwrap();
            write(&format!("{name}.crt"), params.signed_by(&key, &issuer).unwrap().pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Self(directory)
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    async fn exporter(&self, web_config: &str) -> Exporter {
        let mut launch = Launch::config(CONFIG).file("web.yml", web_config).arg("--web.config.file=web.yml");
        for name in ["ca.crt", "server.crt", "server.key"] {
            launch = launch.file(name, std::fs::read(self.path(name)).unwrap());
        }
        launch.start().await
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
