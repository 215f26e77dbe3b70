//! The compose stack in a Docker engine: it comes up healthy, an alert of the demo reaches a stand-in for
//! Slack, a restart loses nothing, and it goes down without a trace.
//!
//! No image can be pulled where this runs, so the images are stand-ins under the real names: Prometheus and
//! Alertmanager are Debian's, the exporter and the simulated chain are built by their Dockerfiles on stand-in
//! bases, and Grafana is a script that checks what is mounted. The image of a release is made and run in the same way.
//! Where no engine can start, the test says why.
#![allow(clippy::unwrap_used)]

mod engine;

use std::time::Duration;

use engine::{Engine, HOST};
use serde_json::Value;
use tesseract_tests::http::get;
use tesseract_tests::process::free_port;
use tesseract_tests::skip::skipped;
use tesseract_tests::stand_in::{Service, StandIn};
use tokio::time::{interval, timeout};

/// What is left out where no engine can start.
const WHAT: &str = "the compose stack";

const DEMO: [&str; 2] = ["--env-file", "demo.env"];

#[tokio::test]
async fn the_stack_comes_up_alerts_survives_a_restart_and_goes_down() {
    if !engine::inside() {
        let own = "the_stack_comes_up_alerts_survives_a_restart_and_goes_down";
        if let Err(why) = engine::run_inside(own).await {
            skipped(WHAT, &why);
        }
        return;
    }
    let engine = match Engine::start().await {
        Ok(engine) => engine,
        Err(why) => {
            skipped(WHAT, &why);
            return;
        }
    };
    engine.import_stand_ins().await;
    a_release_has_an_image_that_runs_alone(&engine).await;
    without_a_chain_it_says_what_to_set(&engine).await;
    a_node_that_is_down_holds_up_nothing(&engine).await;
    a_new_container_takes_the_file_that_an_editor_replaced(&engine).await;
    the_demo(&engine).await;
    engine.stop().await;
}

/// The step of the release script, and the line of the README.
async fn a_release_has_an_image_that_runs_alone(engine: &Engine) {
    let version = env!("CARGO_PKG_VERSION");
    println!("{}", engine.release(&[&format!("v{version}"), "image", "checksums"]).await);

    let line = documented("README.md", "docker run ");
    assert!(line.ends_with(" -e TESSERACT_RPC_URL -e TESSERACT_CONTRACT tesseract-exporter"), "{line}");
    let port = free_port();
    let contract = format!("TESSERACT_CONTRACT=0x{:040x}", 1);
    let line = line
        .replace("docker run", "run --detach")
        .replace("127.0.0.1:8000:", &format!("127.0.0.1:{port}:"))
        .replace("TESSERACT_RPC_URL", "TESSERACT_RPC_URL=http://127.0.0.1:9")
        .replace("TESSERACT_CONTRACT", &contract);
    let line = format!("{line}:{version}");
    let container = engine.docker_must(&line.split(' ').collect::<Vec<_>>()).await.trim().to_owned();
    let mut ticks = interval(Duration::from_millis(100));
    let serves = async {
        while !get(&format!("http://127.0.0.1:{port}/-/healthy"), &[]).await.is_ok_and(|it| it.status == 200)
        {
            ticks.tick().await;
        }
    };
    timeout(Duration::from_secs(30), serves).await.expect("it serves");
    let asked = ["exec", &container, "/usr/local/bin/tesseract-exporter", "health"];
    assert_eq!(engine.docker_must(&asked).await, "http://127.0.0.1:8000/-/healthy: 200 OK\n");
    engine.docker_must(&["stop", &container]).await;
    let status = engine.docker_must(&["inspect", "--format", "{{.State.ExitCode}}", &container]).await;
    assert_eq!(status, "0\n");
    engine.docker_must(&["rm", &container]).await;
}

async fn without_a_chain_it_says_what_to_set(engine: &Engine) {
    for command in ["ps", "logs", "down"] {
        engine.compose_must(&[], &[command]).await;
    }
    let environment = Ports::free().environment();
    let refused = engine.compose(&environment, &["up", "--wait", "--build"]).await;
    assert!(!refused.status.success(), "{}", String::from_utf8_lossy(&refused.stderr));
    let log = engine.compose_must(&environment, &["logs", "--no-log-prefix", "exporter"]).await;
    println!("$ docker compose logs exporter\n{log}");
    assert!(log.contains("set TESSERACT_RPC_URL and TESSERACT_CONTRACT"), "{log}");
    engine.compose_must(&environment, &["down", "--volumes"]).await;
}

async fn a_node_that_is_down_holds_up_nothing(engine: &Engine) {
    let mut environment = Ports::free().environment();
    environment.push(("TESSERACT_RPC_URL", "http://127.0.0.1:9".to_owned()));
    environment.push(("TESSERACT_CONTRACT", format!("0x{:040x}", 1)));
    engine.compose_must(&environment, &["up", "--wait", "--build"]).await;
    all_healthy(engine, &environment, &[], 4).await;
    engine.compose_must(&environment, &["down", "--volumes"]).await;
}

/// The commands of the README for several networks.
async fn a_new_container_takes_the_file_that_an_editor_replaced(engine: &Engine) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("exporter.yml");
    let of_networks = |names: &[&str]| {
        let network = |name| {
            format!("- {{name: {name}, rpc_urls: ['http://127.0.0.1:9'], contract: '0x{:040x}'}}\n", 1)
        };
        let networks: String = names.iter().map(network).collect();
        format!("state_dir: /var/lib/tesseract-exporter\nnetworks:\n{networks}")
    };
    std::fs::write(&file, of_networks(&["first"])).unwrap();
    let ports = Ports::free();
    let mut environment = ports.environment();
    environment.push(("TESSERACT_CONFIG_FILE", file.to_str().unwrap().to_owned()));
    let compose = async |line: &str| {
        let line = line.split('#').next().unwrap().trim();
        let arguments: Vec<_> = line.split(' ').skip(2).collect();
        engine.compose_must(&environment, &arguments).await
    };

    let understood = compose(&documented("README.md", "docker compose run ")).await;
    assert!(understood.contains("name: first\n"), "{understood}");
    compose("docker compose up --wait --build exporter").await;
    let page = async || get(&format!("http://127.0.0.1:{}/", ports.exporter), &[]).await.unwrap().text();
    assert!(page().await.contains("first"));
    let replacement = dir.path().join("replacement");
    std::fs::write(&replacement, of_networks(&["first", "second"])).unwrap();
    std::fs::rename(&replacement, &file).unwrap();
    compose(&documented("README.md", "docker compose up --detach --force-recreate exporter")).await;
    compose("docker compose up --wait exporter").await;
    assert!(page().await.contains("second"));
    let healthy = compose("docker compose exec -T exporter /usr/local/bin/tesseract-exporter health").await;
    assert_eq!(healthy, "http://127.0.0.1:8000/-/healthy: 200 OK\n");
    compose("docker compose down --volumes").await;
}

async fn the_demo(engine: &Engine) {
    let slack = StandIn::bind(format!("{HOST}:0").parse().unwrap()).await.unwrap();
    let ports = Ports::free();
    let mut environment = ports.environment();
    environment.push(("SLACK_WEBHOOK_URL", slack.url(Service::Slack)));
    let compose =
        async |arguments: &[&str]| engine.compose_must(&environment, &[&DEMO, arguments].concat()).await;

    println!(
        "$ docker compose --env-file demo.env up --wait\n{}",
        compose(&["up", "--wait", "--build"]).await
    );
    println!("{}", compose(&["ps"]).await);
    all_healthy(engine, &environment, &DEMO, 5).await;

    let home = get(&format!("http://127.0.0.1:{}/", ports.exporter), &[]).await.unwrap().text();
    assert!(home.contains(&format!("\"http://localhost:{}/", ports.grafana)), "no link to Grafana: {home}");
    ports.wait("every target is scraped", "up == 1", |samples| samples.len() == 3).await;
    let settled = "tesseract_transactions_settled_total";
    ports
        .wait("three networks", &format!("count by (network) ({settled})"), |samples| samples.len() == 3)
        .await;
    let message = slack.wait_for("an alert of the demo", Duration::from_secs(240), |message| {
        message.service == Service::Slack
    });
    println!("the first message at Slack:\n{}", message.await.text());

    // What the first run has scraped, and a silence that somebody has set.
    let before = ports.query("min(timestamp(tesseract_synced))").await;
    let before = number(&before[0]);
    let line = documented("docker-compose.alertmanager.yml", "#     docker compose exec ")
        + &documented("docker-compose.alertmanager.yml", "#         silence add ");
    let line = line.replace(['#', '\\'], "").replace(" exec ", " exec -T ").replace('…', "None");
    let amtool: Vec<_> = line.split_whitespace().skip(2).collect();
    let silence = compose(&amtool).await;

    compose(&["restart"]).await;
    compose(&["up", "--wait"]).await;
    all_healthy(engine, &environment, &DEMO, 5).await;
    let kept = format!("count_over_time(tesseract_synced[10m] @ {before})");
    ports.wait("what was scraped before the restart", &kept, |samples| samples.len() == 3).await;
    let verb = amtool.iter().position(|argument| *argument == "add").unwrap();
    let silences = compose(&[&amtool[..verb], &["query", "--quiet"]].concat()).await;
    assert_eq!(silences.trim(), silence.trim(), "the silence set before the restart");
    let log = compose(&["logs", "--no-log-prefix", "exporter"]).await;
    assert_eq!(log.matches("resuming from saved state").count(), 3, "{log}");
    a_saved_state_is_deleted(engine, &environment).await;

    compose(&["down", "--volumes"]).await;
    for kind in ["container", "volume"] {
        let left = engine.docker_must(&[kind, "ls", "--quiet"]).await;
        assert!(left.is_empty(), "a {kind} is left: {left}");
    }
    let networks = engine.docker_must(&["network", "ls", "--quiet", "--filter", "type=custom"]).await;
    assert!(networks.is_empty(), "a network is left: {networks}");
}

/// As the runbook says, where the project is not the demo, and with another image that has `rm`.
async fn a_saved_state_is_deleted(engine: &Engine, environment: &[(&str, String)]) {
    let compose =
        async |arguments: &[&str]| engine.compose_must(environment, &[&DEMO, arguments].concat()).await;
    let runbook = documented("alerting/runbooks/TesseractMissingEvents.md", "   - Compose: ");
    let commands: Vec<_> = runbook.split('`').skip(1).step_by(2).collect();
    let ["docker compose stop exporter", delete, "docker compose start exporter"] = commands[..] else {
        panic!("{runbook}")
    };
    let alertmanager = compose(&["config", "--images", "alertmanager"]).await;
    let delete = delete
        .replace("tesseract_", "tesseract-demo_")
        .replace("NAME", "base-demo")
        .replace("busybox rm", &format!("--user=0 --entrypoint=rm {}", alertmanager.trim()));
    compose(&["stop", "exporter"]).await;
    engine.docker_must(&delete.split(' ').skip(1).collect::<Vec<_>>()).await;
    compose(&["start", "exporter"]).await;
    compose(&["up", "--wait"]).await;
    let log = compose(&["logs", "--no-log-prefix", "exporter"]).await;
    assert_eq!(log.matches("resuming from saved state").count(), 3 + 2, "{log}");
}

/// The first line of a file that begins like this.
fn documented(file: &str, start: &str) -> String {
    let text = std::fs::read_to_string(engine::root().join(file)).unwrap();
    let line = text.lines().find(|line| line.starts_with(start));
    line.unwrap_or_else(|| panic!("{file}: no line {start}")).to_owned()
}

async fn all_healthy(engine: &Engine, environment: &[(&str, String)], flags: &[&str], count: usize) {
    let ps = engine.compose_must(environment, &[flags, &["ps", "--format", "json"]].concat()).await;
    let services: Vec<Value> = ps.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(services.len(), count, "{ps}");
    for service in services {
        assert_eq!(service["Health"], "healthy", "{service}");
    }
}

/// Where this run publishes its ports, so that it meets nothing that runs already.
struct Ports {
    exporter: u16,
    prometheus: u16,
    alertmanager: u16,
    grafana: u16,
}

impl Ports {
    fn free() -> Self {
        Self {
            exporter: free_port(),
            prometheus: free_port(),
            alertmanager: free_port(),
            grafana: free_port(),
        }
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let Self { exporter, prometheus, alertmanager, grafana } = self;
        let ports = [
            ("EXPORTER_PORT", exporter),
            ("PROMETHEUS_PORT", prometheus),
            ("ALERTMANAGER_PORT", alertmanager),
            ("GRAFANA_PORT", grafana),
        ];
        ports.map(|(name, port)| (name, port.to_string())).into()
    }

    /// The samples that Prometheus answers a query with.
    async fn query(&self, query: &str) -> Vec<Value> {
        let escaped: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let reply =
            get(&format!("http://127.0.0.1:{}/api/v1/query?query={escaped}", self.prometheus), &[]).await;
        let reply = reply.unwrap().json();
        reply["data"]["result"].as_array().unwrap_or_else(|| panic!("{query}: {reply}")).clone()
    }

    async fn wait(&self, what: &str, query: &str, condition: impl Fn(&[Value]) -> bool) {
        let mut ticks = interval(Duration::from_millis(500));
        let mut last = Vec::new();
        let waiting = async {
            while !condition(&last) {
                ticks.tick().await;
                last = self.query(query).await;
            }
        };
        assert!(timeout(Duration::from_secs(90), waiting).await.is_ok(), "{what}: {query}");
    }
}

fn number(sample: &Value) -> f64 {
    sample["value"][1].as_str().unwrap().parse().unwrap()
}
