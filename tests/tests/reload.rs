//! SIGHUP: the configuration is read again. Networks come, go and change; the others never notice, and a file
//! with a mistake changes nothing.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::fs;
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;
use tesseract_tests::hostile::Proxy;
use tesseract_tests::process::{Exporter, Launch};
use tesseract_tests::rig::fallen;
use tesseract_tests::series::Series;
use tesseract_tests::sim::{Params, Sim};
use web3::types::H160;

const PATIENCE: Duration = Duration::from_secs(60);

const SUCCESSFUL: &str = "tesseract_exporter_config_last_reload_successful";
const TIMESTAMP: &str = "tesseract_exporter_config_last_reload_success_timestamp_seconds";

/// A chain, and a proxy that counts what each network asks of it.
struct Rig {
    sim: Sim,
    proxies: Vec<Proxy>,
}

impl Rig {
    async fn start(networks: usize) -> Self {
        let sim = Sim::start(Params::default()).await.unwrap();
        sim.advance(200);
        let mut proxies = Vec::new();
        for _ in 0..networks {
            proxies.push(Proxy::start(&sim.url()).await);
        }
        Self { sim, proxies }
    }

    /// `exporter.yml` with these networks: name, where it asks, what else is configured.
    fn config(&self, networks: &[(&str, &str, &str)]) -> String {
        let contract: H160 = self.sim.chain().contract();
        let mut text = "state_dir: state\nnetworks:\n".to_owned();
        for (name, rpc, more) in networks {
            let _ = write!(
                text,
                "  - name: {name}\n    rpc_urls: [{rpc}]\n    contract: '{contract:#x}'\n    \
                 poll_interval: 100ms\n{more}"
            );
        }
        text
    }

    fn url(&self, proxy: usize) -> String {
        format!("'{}'", self.proxies[proxy].url())
    }

    fn asked(&self, proxy: usize, method: &str) -> u64 {
        self.proxies[proxy].counts().of(method)
    }
}

/// A connection that sends what is not HTTP, which is a line at the level of debugging.
fn break_connection(exporter: &Exporter) {
    let mut stream = TcpStream::connect(exporter.address()).unwrap();
    stream.write_all(b"no request\r\n\r\n").unwrap();
    stream.read_to_end(&mut Vec::new()).unwrap();
}

/// Writes `exporter.yml` and sends SIGHUP; how many readings the log tells of before must be known to wait for it.
fn reload(exporter: &Exporter, config: &str) {
    fs::write(exporter.dir().join("exporter.yml"), config).unwrap();
    exporter.signal(Signal::HUP);
}

async fn lines(exporter: &Exporter, number: usize, what: &str) -> Vec<String> {
    exporter.wait_for_lines(number, what, PATIENCE).await
}

fn of(network: &str, name: &str) -> String {
    format!("{name}{{network=\"{network}\"}}")
}

fn follows(series: &Series, network: &str, head: u64) -> bool {
    series.get(&of(network, "tesseract_processed_block_number")) == Some((head - 2) as f64)
        && series.get(&of(network, "tesseract_node_connected")) == Some(1.0)
        && series.get(&of(network, "tesseract_transactions_pending")).is_some()
}

#[tokio::test]
async fn networks_come_and_go_and_those_that_stay_never_notice() {
    let rig = Rig::start(3).await;
    let (a, b, c) = (rig.url(0), rig.url(1), rig.url(2));
    let exporter = Exporter::start(&rig.config(&[("a", &a, ""), ("b", &b, "")])).await;
    let head = rig.sim.head();
    let both = |now: &Series| follows(now, "a", head) && follows(now, "b", head);
    let before = exporter.wait_for("both follow", PATIENCE, both).await;
    let (code, ids) = (rig.asked(0, "eth_getCode"), rig.asked(0, "eth_chainId"));

    rig.sim.advance(5);
    // Another order, one gone, one new; and a place to link to.
    let config = rig.config(&[("c", &c, ""), ("a", &a, "")]);
    reload(&exporter, &format!("grafana_url: https://grafana.example\n{config}"));
    let head = rig.sim.head();
    let mut last = before.clone();
    let unchanged = |now: &Series| {
        // At every look, not only at the last one.
        assert_eq!(now.get(&of("a", "tesseract_synced")), Some(1.0), "{now}");
        assert_eq!(now.get(&of("a", "tesseract_node_connected")), Some(1.0), "{now}");
        assert!(now.get(&of("a", "tesseract_transactions_pending")).is_some(), "{now}");
        assert_eq!(fallen(&last.of("a"), &now.of("a")), Vec::<String>::new());
        last = now.clone();
        follows(now, "a", head) && follows(now, "c", head)
    };
    let unchanged = std::cell::RefCell::new(unchanged);
    let after = exporter.wait_for("a and c follow", PATIENCE, |now| (unchanged.borrow_mut())(now)).await;

    assert_eq!(after.of("b"), Series::default(), "the series of a network that is gone are gone");
    assert_eq!(after.get(SUCCESSFUL), Some(1.0));
    assert!(after.get(TIMESTAMP) > before.get(TIMESTAMP), "{after}");
    assert!(exporter.get("/").await.text().contains("https://grafana.example/d/tesseract-overview"));
    // A task that begins asks where the history begins; this one did not begin again.
    assert_eq!(rig.asked(0, "eth_getCode"), code);
    assert_eq!(exporter.log().iter().filter(|line| line.contains("resuming")).count(), 0);
    let begins = |line: &&String| line.contains("history begins") && line.contains("\"network\":\"a\"");
    assert_eq!(exporter.log().iter().filter(begins).count(), 1);
    assert!(rig.asked(0, "eth_chainId") >= ids, "it goes on asking");
    let said = exporter.log().into_iter().find(|line| line.contains("was reread")).unwrap();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&said["started"], &said["stopped"]), (&"c".into(), &"b".into()), "{said}");
    assert_eq!((&said["changed"], &said["unchanged"]), (&"".into(), &1.into()), "{said}");

    // What is gone asks nothing any more, and left its state behind: it goes on from it.
    assert!(exporter.dir().join("state/b.state").exists());
    let asked = rig.proxies[1].counts();
    reload(&exporter, &rig.config(&[("c", &c, ""), ("a", &a, ""), ("b", &b, "")]));
    exporter.wait_for("b is back", PATIENCE, |now| follows(now, "b", head)).await;
    let resumed = lines(&exporter, 1, "resuming from saved state").await;
    assert!(resumed.iter().all(|line| line.contains("\"network\":\"b\"")), "{resumed:?}");
    assert_eq!(rig.asked(1, "eth_getCode"), asked.of("eth_getCode"), "where it begins is known");
    assert_eq!(exporter.get("/-/ready").await.status, 200);
}

#[tokio::test]
async fn a_network_that_changed_goes_on_from_its_state_and_no_counter_falls() {
    let rig = Rig::start(2).await;
    let (a, b) = (rig.url(0), rig.url(1));
    let mut exporter = Exporter::start(&rig.config(&[("a", &a, "")])).await;
    let head = rig.sim.head();
    let before = exporter.wait_for("it follows", PATIENCE, |now| follows(now, "a", head)).await;

    rig.sim.advance(5);
    let head = rig.sim.head();
    let last = std::cell::RefCell::new(before);
    // Another endpoint, and one setting more.
    reload(&exporter, &rig.config(&[("a", &b, "    request_timeout: 3s\n")]));
    let goes_on = |now: &Series| {
        assert_eq!(fallen(&last.borrow().of("a"), &now.of("a")), Vec::<String>::new());
        assert_eq!(now.get(&of("a", "tesseract_synced")), Some(1.0), "{now}");
        last.replace(now.clone());
        rig.asked(1, "eth_getLogs") > 0 && follows(now, "a", head)
    };
    exporter.wait_for("it follows by the other endpoint", PATIENCE, goes_on).await;
    lines(&exporter, 1, "resuming from saved state").await;
    assert_eq!(rig.asked(1, "eth_getCode"), 0, "where it begins is known");
    assert!(rig.asked(1, "eth_getLogs") <= 3, "only the new blocks are read");

    // Several at once: the last one holds.
    for confirmations in [3, 4, 5] {
        let more = format!("    confirmations: {confirmations}\n");
        reload(&exporter, &rig.config(&[("a", &b, &more)]));
    }
    rig.sim.advance(10);
    let processed = of("a", "tesseract_processed_block_number");
    let target = (rig.sim.head() - 5) as f64;
    exporter.wait_for("the last one holds", PATIENCE, |now| now.get(&processed) == Some(target)).await;
    assert!(exporter.terminate().await.success());
}

#[tokio::test]
async fn what_a_changed_network_reads_again_is_no_news() {
    let rig = Rig::start(1).await;
    let stateless = |more| rig.config(&[("a", &rig.url(0), more)]).replace("state_dir: state\n", "");
    let exporter = Exporter::start(&stateless("")).await;
    let head = rig.sim.head();
    exporter.wait_for("it follows", PATIENCE, |now| follows(now, "a", head)).await;
    let asked = rig.asked(0, "eth_getLogs");
    reload(&exporter, &stateless("    request_timeout: 3s\n"));
    let read_again = |now: &Series| rig.asked(0, "eth_getLogs") > asked && follows(now, "a", head);
    let last = exporter.wait_for("all is read again", PATIENCE, read_again).await;
    assert!(last.get(&of("a", "tesseract_transactions_buffered_total")) > Some(0.0), "there are events");
    let is_news = |line: &&String| line.contains("\"contract event\"");
    let block = |line: &String| serde_json::from_str::<serde_json::Value>(line).unwrap()["block"].as_u64();
    let told: Vec<_> = exporter.log().iter().filter(is_news).map(block).collect();
    assert!(told.iter().all(|block| *block > Some(head / 2)), "{told:?}");
}

#[tokio::test]
async fn a_bad_configuration_is_refused_whole() {
    let rig = Rig::start(2).await;
    let (a, b) = (rig.url(0), rig.url(1));
    let good = rig.config(&[("a", &a, "")]);
    let launch = Launch::config(&good).file("web.yml", "");
    let exporter = launch.arg("--web.config.file=web.yml").start().await;
    let head = rig.sim.head();
    let before = exporter.wait_for("it follows", PATIENCE, |now| follows(now, "a", head)).await;
    assert_eq!(before.get(SUCCESSFUL), Some(1.0));

    let both = rig.config(&[("a", &a, ""), ("b", &b, "")]);
    let moved = both.replace("state_dir: state", "state_dir: elsewhere");
    let mistake = both.replace("100ms", "soon");
    let refused = "new configuration rejected, keeping the current one";
    for (number, config, web, says) in [
        (2, mistake.as_str(), "", "exporter.yml:6: networks[0].poll_interval"),
        (3, &moved, "", "exporter.yml: state_dir is another one; restart to change that"),
        (4, &both, "nonsense: 1\n", "web.yml:1: nonsense"),
        (7, &mistake, "strange: 1\n", "web.yml:1: strange"),
    ] {
        fs::write(exporter.dir().join("web.yml"), web).unwrap();
        reload(&exporter, config);
        let said = lines(&exporter, number, refused).await;
        assert!(said.iter().any(|line| line.contains(says)), "{says}: {said:#?}");
        let refused = |now: &Series| now.get(SUCCESSFUL) == Some(0.0);
        let after = exporter.wait_for("it is shown", PATIENCE, refused).await;
        assert_eq!(after.get(TIMESTAMP), before.get(TIMESTAMP));
        assert!(follows(&after, "a", head), "everything goes on as it was: {after}");
        assert_eq!(after.of("b"), Series::default());
    }
    // Each mistake was said: that of the first file twice, once for each network; and those of both files together.
    assert_eq!(lines(&exporter, 7, refused).await.len(), 7);
    assert_eq!(rig.proxies[1].counts().total(), 0);

    fs::write(exporter.dir().join("web.yml"), "").unwrap();
    reload(&exporter, &both);
    let mended = |now: &Series| now.get(SUCCESSFUL) == Some(1.0) && follows(now, "b", head);
    let after = exporter.wait_for("the mended one holds", PATIENCE, mended).await;
    assert!(after.get(TIMESTAMP) > before.get(TIMESTAMP));
}

#[tokio::test]
async fn a_secret_that_was_rotated_is_a_change() {
    let rig = Rig::start(2).await;
    let secret = |proxy: usize| format!("{}/sesame-{proxy}", rig.proxies[proxy].url());
    let config =
        rig.config(&[("a", "url_file: rpc.url", "")]).replace("[url_file: rpc.url]", "[{url_file: rpc.url}]");
    let launch = Launch::config(&config).file("rpc.url", secret(0));
    let exporter = launch.start().await;
    let head = rig.sim.head();
    exporter.wait_for("it follows", PATIENCE, |now| follows(now, "a", head)).await;

    // The same content is no change.
    exporter.signal(Signal::HUP);
    let said = lines(&exporter, 1, "was reread").await;
    assert!(said[0].contains("\"unchanged\":1"), "{said:?}");
    assert_eq!(rig.proxies[1].counts().total(), 0);

    fs::write(exporter.dir().join("rpc.url"), secret(1)).unwrap();
    exporter.signal(Signal::HUP);
    let said = lines(&exporter, 2, "was reread").await;
    assert!(said[1].contains("\"changed\":\"a\""), "{said:?}");
    let moved = |now: &Series| {
        rig.asked(1, "eth_blockNumber") + rig.asked(1, "eth_getBlockByNumber") > 0 && follows(now, "a", head)
    };
    let shown = exporter.wait_for("the new one is asked", PATIENCE, moved).await;
    let asked = rig.proxies[0].counts();
    rig.sim.advance(3);
    let head = rig.sim.head();
    exporter.wait_for("it goes on", PATIENCE, |now| follows(now, "a", head)).await;
    assert_eq!(rig.proxies[0].counts(), asked, "the old one is asked no more");
    assert!(!exporter.log().concat().contains("sesame") && !shown.to_string().contains("sesame"));
}

const DEBUG_LINE: &str = "connection broke";

/// Nobody answers there; that is no matter here.
fn of_level(level: &str) -> String {
    let contract = "contract: '0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed'";
    format!("{level}networks: [{{name: a, rpc_urls: ['http://127.0.0.1:1'], {contract}}}]\n")
}

#[tokio::test]
async fn the_log_level_is_read_again() {
    let mut exporter = Exporter::start(&of_level("")).await;
    reload(&exporter, &of_level("log_level: debug\n"));
    lines(&exporter, 1, "was reread").await;
    break_connection(&exporter);
    lines(&exporter, 1, DEBUG_LINE).await;

    reload(&exporter, &of_level("log_level: loud\n"));
    let refused = lines(&exporter, 1, "new configuration rejected").await;
    let expected =
        "exporter.yml:1: log_level: \\\"loud\\\" does not fit, expected error, warn, info, debug or trace";
    assert!(refused[0].contains(expected), "{refused:?}");
    // Refused whole, though the level is right.
    reload(&exporter, &of_level("log_level: error\nnonsense: 1\n"));
    lines(&exporter, 2, "new configuration rejected").await;
    break_connection(&exporter);
    lines(&exporter, 2, DEBUG_LINE).await;

    reload(&exporter, &of_level(""));
    lines(&exporter, 2, "was reread").await;
    // Told, if at all, before it stops.
    break_connection(&exporter);
    assert!(exporter.terminate().await.success());
    assert_eq!(lines(&exporter, 0, DEBUG_LINE).await.len(), 2, "{:#?}", exporter.log());
}

#[tokio::test]
async fn a_log_level_on_the_command_line_wins() {
    for (flag, configured, shown) in [
        (None, "log_level: debug\n", true),
        (Some("--log.level=info"), "log_level: debug\n", false),
        (Some("--log.level=debug"), "log_level: info\n", true),
    ] {
        let launch = Launch::config(&of_level(configured));
        let mut exporter = flag.into_iter().fold(launch, Launch::arg).start().await;
        break_connection(&exporter);
        exporter.signal(Signal::HUP);
        lines(&exporter, 1, "was reread").await;
        break_connection(&exporter);
        assert!(exporter.terminate().await.success());
        let log = exporter.log();
        // At the start, and after SIGHUP.
        let told = log.iter().filter(|line| line.contains(DEBUG_LINE)).count();
        assert_eq!(told, if shown { 2 } else { 0 }, "{flag:?} {configured} {log:#?}");
    }
}
