//! A key in an RPC URL or its headers comes out nowhere, however the endpoint fails.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::time::Duration;

use tesseract_tests::hostile::{Fault, Proxy};
use tesseract_tests::process::{Launch, free_port};
use tesseract_tests::sim::{Params, Sim};

const WITHIN: Duration = Duration::from_secs(60);

/// Every form a secret can take in `user:sesame`: as written, and as sent.
const SECRETS: [&str; 2] = ["sesame", "dXNlcjpzZXNhbWU="];

fn network(name: &str, place: &str, contract: impl std::fmt::LowerHex) -> String {
    let (scheme, place) = place.split_once("://").unwrap();
    format!(
        "  - name: {name}
    rpc_urls:
      - url: {scheme}://user:sesame@{place}/sesame?key=sesame
        headers: {{X-Key: sesame}}
    contract: '{contract:#x}'
    poll_interval: 100ms
    request_timeout: 300ms
"
    )
}

#[tokio::test]
async fn no_way_to_fail_tells_a_key() {
    let sim = Sim::start(Params::default()).await.unwrap();
    sim.advance(100);
    let contract = sim.chain().contract();
    let mut config = "networks:\n".to_owned();
    config += &network("well", &sim.url(), contract);
    config += &network("refused", &format!("http://127.0.0.1:{}", free_port()), contract);
    config += &network("no-name", "https://nobody.invalid", contract);
    config += &network("no-tls", &sim.url().replace("http:", "https:"), contract);
    let mut proxies = Vec::new();
    for (index, fault) in Fault::all().enumerate() {
        let proxy = Proxy::start(&sim.url()).await;
        proxy.set(fault);
        config += &network(&format!("fault-{index}"), &proxy.url(), contract);
        proxies.push((fault.name(), proxy));
    }

    let exporter = Launch::config(&config).arg("--log.level=trace").start().await;
    for (name, proxy) in &proxies {
        let mut counts = proxy.watch();
        let met = tokio::time::timeout(WITHIN, counts.wait_for(|counts| counts.faulty >= 2)).await;
        assert!(met.is_ok(), "{name} was not met");
    }
    for network in ["refused", "no-name", "no-tls"] {
        let failed =
            |line: &str| line.contains("endpoint failed") && line.contains(&format!("\"{network}\""));
        exporter.wait_for_line(network, WITHIN, failed).await;
    }
    let well = "tesseract_synced{network=\"well\"}";
    exporter.wait_for("the key is right", WITHIN, |now| now.get(well) == Some(1.0)).await;

    let mut told = String::new();
    for path in ["/metrics", "/health", "/-/ready", "/-/healthy", "/", "/nowhere"] {
        writeln!(told, "{path}: {}", exporter.get(path).await.text()).unwrap();
    }
    let openmetrics = [("accept", "application/openmetrics-text")];
    writeln!(told, "{}", exporter.get_with("/metrics", &openmetrics).await.text()).unwrap();
    told += &exporter.log().join("\n");
    for secret in SECRETS {
        let line = told.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "a secret is told");
    }
    let arguments = std::fs::read(format!("/proc/{}/cmdline", exporter.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&arguments).contains("sesame"));
}
