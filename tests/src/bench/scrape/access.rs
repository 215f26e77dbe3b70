//! What users and TLS add to a scrape, over connections that are kept: each setting of `--web.config.file` beside none.
//!
//! The first scrape, which costs a bcrypt, is made before; a handshake is part of no row.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

use super::load::{Load, load};
use super::{HISTORY, TRAFFIC};
use crate::bench::provider::Provider;
use crate::bench::setting::{Network, Setting, name as network_name};
use crate::bench::subject;
use crate::bench::table::Table;
use crate::process::Launch;

const NETWORKS: usize = 3;

const NAME: &str = "exporter.example";

/// User and password.
const AUTHORIZATION: &str = "Basic cHJvbWV0aGV1czpzZXNhbWU=";

/// Runs of each setting, in turns, so that what else the machine does meets all of them.
const ROUNDS: u32 = 8;

pub(super) async fn access(time: Duration) {
    let setting = Setting {
        networks: vec![Network::still(TRAFFIC, HISTORY); NETWORKS],
        latency: Duration::ZERO,
        rate: None,
    };
    let provider = Provider::start(&setting).await;
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("its own authority");
    let trusting = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let tls =
        (TlsConnector::from(Arc::new(trusting)), ServerName::try_from(NAME).expect("a name of our own"));

    let users =
        format!("basic_auth_users: {{prometheus: {}}}\n", bcrypt::hash("sesame", 10).expect("a hash"));
    let server = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n";
    let mut rows = Vec::new();
    for (name, web_config, authorization, tls) in [
        ("none", String::new(), None, None),
        ("users", users.clone(), Some(AUTHORIZATION), None),
        ("TLS", server.to_owned(), None, Some(tls.clone())),
        ("TLS and users", format!("{server}{users}"), Some(AUTHORIZATION), Some(tls)),
    ] {
        let exporter = Launch::config(&setting.configuration(provider.url()))
            .file("web.yml", web_config)
            .file("server.crt", made.cert.pem())
            .file("server.key", made.signing_key.serialize_pem())
            .arg("--web.config.file=web.yml")
            .start()
            .await;
        for number in 0..NETWORKS {
            let network = format!("\"{}\"", network_name(number));
            let synced = |line: &str| line.contains("first sync done") && line.contains(&network);
            exporter.wait_for_line("a network is synced", subject::PATIENCE, synced).await;
        }
        let how = Load {
            url: exporter.url(),
            connections: 1,
            time: time / ROUNDS,
            authorization: authorization.map(str::to_owned),
            tls,
            ..Load::default()
        };
        rows.push((name, exporter, how, Vec::new()));
    }
    for _ in 0..ROUNDS {
        for (_, _, how, medians) in &mut rows {
            medians.push(load(how).await.median.as_secs_f64() * 1e3);
        }
    }

    let mut table = Table::new(["", "p50 ms", "x none"]);
    let mut none = None;
    for (name, _, _, medians) in &rows {
        let median = medians.iter().copied().fold(f64::INFINITY, f64::min);
        let ratio = median / *none.get_or_insert(median);
        table.row([(*name).to_owned(), format!("{median:.3}"), format!("{ratio:.2}")]);
    }
    println!("\n### scrape: users and TLS\n\n{table}\nthe lowest of {ROUNDS} rounds, which took turns\n");
}
