//! What can be said about the stack's files without an engine that runs them: every mount exists, no port
//! leaves the machine, nothing is unpinned or less confined than the rest, every setting is documented, and
//! the configurations in the documentation are ones that Prometheus accepts.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_yaml::Value;
use tesseract_tests::process::Launch;
use tesseract_tests::prometheus::{before_3_9, prometheus_3};

/// Built here; every other image comes from a registry.
const BUILT: [&str; 2] = ["exporter", "simchain"];

#[test]
fn every_mount_exists() {
    let compose = compose();
    for (name, service) in services() {
        for volume in list(&service["volumes"]) {
            let source = match &volume {
                Value::String(short) => short.split(':').next().unwrap().to_owned(),
                long => {
                    assert_eq!(
                        long["bind"]["create_host_path"], false,
                        "{name}: a missing file becomes a directory"
                    );
                    with_default(long["source"].as_str().unwrap())
                }
            };
            if source.starts_with("./") {
                assert!(root().join(&source).exists(), "{name} mounts {source}, which does not exist");
            } else {
                assert!(compose["volumes"].get(&source).is_some(), "{name}: {source} is no declared volume");
            }
        }
    }
}

#[test]
fn ports_are_on_loopback_only() {
    for (name, service) in services() {
        for port in list(&service["ports"]) {
            let port = port.as_str().unwrap();
            assert!(port.starts_with("127.0.0.1:"), "{name} publishes {port}");
        }
    }
}

/// Alertmanager has no login and answers any origin: a foreign page in a browser of this machine could silence it.
#[test]
fn alertmanager_is_published_only_on_request_and_prometheus_answers_no_foreign_page() {
    let compose = compose();
    assert!(compose["services"]["alertmanager"].get("ports").is_none());
    let on_request = yaml(&read("docker-compose.alertmanager.yml"));
    let port = on_request["services"]["alertmanager"]["ports"][0].as_str().unwrap();
    assert!(port.starts_with("127.0.0.1:"), "{port}");
    let flags = list(&compose["services"]["prometheus"]["command"]);
    assert!(flags.contains(&Value::from("--web.cors.origin=none")), "{flags:?}");
}

/// `down`, `ps` and `logs` work without any setting.
#[test]
fn no_variable_is_required() {
    assert!(!read("docker-compose.yml").contains(":?"));
}

#[test]
fn every_secret_may_come_as_a_file() {
    let compose = compose();
    let secrets = compose["secrets"].as_mapping().unwrap();
    let given = list(&compose["services"]["alertmanager"]["secrets"]);
    assert_eq!(given, secrets.keys().cloned().collect::<Vec<_>>());
    for (name, secret) in secrets {
        let variable = name.as_str().unwrap().to_uppercase();
        assert_eq!(secret["file"], format!("${{{variable}_FILE:-/dev/null}}").as_str(), "{name:?}");
        assert!(read("alerting/entrypoint.sh").contains(&variable), "{variable} is read by nothing");
    }
}

#[test]
fn images_are_pinned_to_a_version() {
    for (name, service) in services() {
        let image = service["image"].as_str().unwrap();
        let version = image.rsplit_once(':').map_or("", |(_, tag)| tag.trim_start_matches('v'));
        let numbers = version.split('.').filter(|part| part.parse::<u32>().is_ok()).count();
        assert_eq!(numbers, 3, "{name}: {image} is not pinned to a version");
        if BUILT.contains(&name.as_str()) {
            assert_eq!(version, env!("CARGO_PKG_VERSION"), "{name}: the version of the package");
            assert_eq!(service["pull_policy"], "build", "{name}: may be older than what it runs beside");
            let dockerfile = service["build"]["dockerfile"].as_str().unwrap();
            assert!(root().join(dockerfile).is_file(), "{name}: {dockerfile} does not exist");
        }
    }
}

#[test]
fn every_service_is_confined_and_watched() {
    for (name, service) in services() {
        assert_eq!(service["read_only"], true, "{name}: a root file system to write to");
        assert_eq!(service["cap_drop"], yaml("[ALL]"), "{name}: capabilities");
        assert_eq!(service["security_opt"], yaml("['no-new-privileges:true']"), "{name}: privileges to gain");
        assert!(
            service.get("cap_add").is_none() && service.get("privileged").is_none(),
            "{name}: privileges"
        );
        assert!(service["mem_limit"].is_string(), "{name}: no memory limit");
        assert!(service["pids_limit"].is_number(), "{name}: no limit on processes");
        assert_eq!(service["ulimits"]["core"], 0, "{name}: core dumps hold secrets");
        assert!(service["logging"]["options"]["max-size"].is_string(), "{name}: an unbounded log");
        assert_eq!(service["restart"], "unless-stopped", "{name}: not started again");
        let in_image =
            service["build"]["dockerfile"].as_str().is_some_and(|it| read(it).contains("\nHEALTHCHECK "));
        assert!(in_image || service["healthcheck"]["test"].is_sequence(), "{name}: no health check");
    }
}

/// Prometheus comes up also while the chain is ill: what it waits for is that the exporter serves.
#[test]
fn the_order_of_start_is_gated_by_health() {
    let gates = [
        ("exporter", "simchain"),
        ("prometheus", "exporter"),
        ("prometheus", "alertmanager"),
        ("grafana", "prometheus"),
    ];
    let compose = compose();
    for (name, other) in gates {
        let condition = &compose["services"][name]["depends_on"][other]["condition"];
        assert_eq!(condition, "service_healthy", "{name} waits for {other}");
    }
    assert!(read("exporter/Dockerfile").contains(r#"CMD ["/usr/local/bin/tesseract-exporter", "health"]"#));
}

#[test]
fn images_built_here_run_as_nobody_and_without_a_shell() {
    for dockerfile in ["exporter/Dockerfile", "tests/Dockerfile"] {
        let text = read(dockerfile);
        let last = text.rsplit("\nFROM ").next().unwrap();
        assert!(last.contains("\nUSER 65532:65532\n"), "{dockerfile}");
        assert!(last.contains("\nENTRYPOINT [\""), "{dockerfile}: needs a shell");
        assert!(!last.contains("\nRUN "), "{dockerfile}: the last stage has no shell to run anything");
    }
}

#[test]
fn the_example_of_the_environment_names_exactly_what_is_used() {
    let documented: BTreeSet<_> = read(".env.example")
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once('='))
        .map(|(name, _)| name.to_owned())
        .filter(|name| name.chars().all(in_variable))
        .collect();
    let mut used = variables(&read("docker-compose.yml"));
    for (_, service) in services() {
        let environment = service["environment"].as_mapping().cloned().unwrap_or_default();
        let passed_on = environment.into_iter().filter(|(_, value)| value.is_null());
        used.extend(passed_on.map(|(name, _)| name.as_str().unwrap().to_owned()));
    }
    assert_eq!(documented, used, ".env.example (left) and docker-compose.yml (right)");
}

#[test]
fn the_demo_sets_only_what_the_stack_reads() {
    let compose = read("docker-compose.yml");
    let settings = read("demo.env");
    for (name, value) in settings.lines().filter_map(|line| line.split_once('=')) {
        assert!(name.starts_with("COMPOSE_") || compose.contains(name), "{name} is read by nothing");
        assert!(!value.starts_with("./") || root().join(value).is_file(), "{name}: {value} does not exist");
    }
}

#[tokio::test]
async fn the_exporter_accepts_the_example_of_several_networks() {
    let variables = variables(&read("exporter.example.yml"));
    let mut launch = Launch::config(&read("exporter.example.yml")).arg("--config.check");
    for name in variables {
        let value = if name == "TESSERACT_CONTRACT" {
            format!("0x{:040x}", 1)
        } else {
            "http://localhost".to_owned()
        };
        launch = launch.env(&name, &value);
    }
    let check = launch.run().await;
    assert!(check.status.success(), "{check:?}");
}

#[test]
fn prometheus_accepts_its_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let rules = root().join("rules").display().to_string();
    let config = before_3_9(&read("rules/prometheus.yml")).replace(
        "rule_files: [\"tesseract.*.yml\", \"stack.alerts.yml\"]",
        &format!("rule_files: [\"{rules}/*.alerts.yml\", \"{rules}/*.rules.yml\"]"),
    );
    assert!(config.contains(&rules), "{config}");
    fs::write(dir.path().join("prometheus.yml"), config).unwrap();
    promtool(&dir.path().join("prometheus.yml"));
}

/// The scrape configurations of rules/README.md, each in a file of its own.
#[test]
fn prometheus_accepts_the_documented_scrape_configurations() {
    let text = read("rules/README.md");
    let blocks = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let blocks: Vec<_> = blocks.filter(|block| block.contains("scrape_configs:")).collect();
    for kind in ["static_configs:", "dns_sd_configs:", "kubernetes_sd_configs:"] {
        assert!(blocks.iter().any(|block| block.contains(kind)), "no block with {kind}");
    }
    let dir = tempfile::tempdir().unwrap();
    let rules = root().join("rules").display().to_string();
    for (number, block) in blocks.iter().enumerate() {
        assert!(block.contains("job_name: tesseract\n"), "the rules select the job by this name:\n{block}");
        let file = dir.path().join(format!("{number}.yml"));
        let block = before_3_9(&block.replace("/etc/prometheus/tesseract", &rules));
        fs::write(&file, block).unwrap();
        promtool(&file);
    }
}

fn promtool(config: &Path) {
    // Debian's stable release leaves Kubernetes out; tests/compose/prepare fetches one that has it.
    let program = prometheus_3("promtool").unwrap_or_else(|| "promtool".into());
    let output = Command::new(program).args(["check", "config"]).arg(config).output();
    let output = output.expect("promtool is installed");
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}: {}", config.display(), String::from_utf8_lossy(&text));
}

/// Names behind `${`, comments left out.
fn variables(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let behind = lines.flat_map(|line| line.split("${").skip(1));
    behind.map(|rest| rest.chars().take_while(|it| in_variable(*it)).collect()).collect()
}

fn in_variable(it: char) -> bool {
    it.is_ascii_uppercase() || it.is_ascii_digit() || it == '_'
}

/// `${VAR:-default}` as it reads when the variable is not set.
fn with_default(text: &str) -> String {
    let inside = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    inside.and_then(|inside| inside.split_once(":-")).map_or(text, |(_, default)| default).to_owned()
}

fn services() -> Vec<(String, Value)> {
    let services = compose()["services"].as_mapping().unwrap().clone();
    services.into_iter().map(|(name, service)| (name.as_str().unwrap().to_owned(), service)).collect()
}

fn compose() -> Value {
    let mut compose = yaml(&read("docker-compose.yml"));
    compose.apply_merge().unwrap();
    compose
}

fn list(value: &Value) -> Vec<Value> {
    value.as_sequence().cloned().unwrap_or_default()
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
