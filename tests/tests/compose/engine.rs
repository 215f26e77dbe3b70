//! A Docker engine of the test's own, with stand-ins under the names of images that cannot be pulled.
//!
//! It runs in namespaces of its own: its bridge, its firewall rules, its mounts and whatever it starts end with them, and
//! an engine of the machine is not disturbed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tesseract_tests::process::binary;
use tesseract_tests::prometheus::before_3_9;
use tokio::process::{Child, Command};
use tokio::time::{interval, timeout};

/// An address of the host that every container can reach.
pub(crate) const HOST: &str = "10.230.0.1";

const PATIENCE: Duration = Duration::from_secs(60);

/// What `docker import` must be told of each stand-in, as the real image has it.
const STAND_INS: [(&str, &str, &[&str]); 5] = [
    ("build", "rust", &[]),
    ("run", "gcr.io/distroless/cc-debian13", &["USER 65532"]),
    (
        "prometheus",
        "prom/prometheus",
        &["ENTRYPOINT [\"/bin/prometheus\"]", "USER 65534", "WORKDIR /prometheus", "VOLUME /prometheus"],
    ),
    (
        "alertmanager",
        "prom/alertmanager",
        &[
            "ENTRYPOINT [\"/bin/alertmanager\"]",
            "USER 65534",
            "WORKDIR /alertmanager",
            "VOLUME /alertmanager",
        ],
    ),
    ("grafana", "grafana/grafana", &["ENTRYPOINT [\"/run.sh\"]", "USER 472"]),
];

pub(crate) struct Engine {
    daemon: Child,
    dir: TempDir,
}

/// Set in the namespaces.
const INSIDE: &str = "TESSERACT_TESTS_INSIDE";

/// Whether this process is in namespaces of its own.
pub(crate) fn inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs a test of this program once more, in namespaces of its own, or says why it cannot.
pub(crate) async fn run_inside(test: &str) -> Result<(), String> {
    if !prepared().join("docker-config").is_dir() {
        return Err("tests/compose/prepare has not been run".to_owned());
    }
    if !rustix::process::geteuid().is_root() {
        return Err("only root can start a Docker engine".to_owned());
    }
    // Built out here, where a compiler may ask the network.
    binary();
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
        command.kill_on_drop(true);
        command
    };
    let tried = unshare().arg("true").output().await.map_err(|error| format!("unshare: {error}"))?;
    if !tried.status.success() {
        return Err(String::from_utf8_lossy(&tried.stderr).trim().to_owned());
    }
    let again = unshare()
        .args(["sh", "-c", "ip link set lo up && exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().map_err(|error| error.to_string())?)
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .await
        .map_err(|error| format!("unshare: {error}"))?;
    print!("{}", String::from_utf8_lossy(&again.stdout));
    assert!(again.status.success(), "{}: {}", again.status, String::from_utf8_lossy(&again.stderr));
    Ok(())
}

impl Engine {
    /// Starts one, or says why it cannot.
    pub(crate) async fn start() -> Result<Self, String> {
        let dir = TempDir::with_prefix("tesseract-docker-").map_err(|error| error.to_string())?;
        let log = File::create(dir.path().join("log")).map_err(|error| error.to_string())?;
        let at = |name: &str| dir.path().join(name).display().to_string();
        let daemon = Command::new("dockerd")
            .args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")])
            .args(["--host", &format!("unix://{}", at("socket"))])
            .args(["--bip", &format!("{HOST}/24"), "--default-address-pool", "base=10.231.0.0/16,size=24"])
            .stdout(log.try_clone().map_err(|error| error.to_string())?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("dockerd: {error}"))?;
        configure_older_prometheus(dir.path()).map_err(|error| error.to_string())?;
        let mut engine = Self { daemon, dir };
        if timeout(PATIENCE, engine.ready()).await == Ok(true) {
            return Ok(engine);
        }
        let log = fs::read_to_string(engine.dir.path().join("log")).unwrap_or_default();
        Err(format!("the engine does not start: {}", log.lines().last().unwrap_or("no word of it")))
    }

    async fn ready(&mut self) -> bool {
        let mut ticks = interval(Duration::from_millis(100));
        while self.daemon.try_wait().is_ok_and(|ended| ended.is_none()) {
            ticks.tick().await;
            if self.docker(&["info"]).await.status.success() {
                return true;
            }
        }
        false
    }

    /// Makes the stand-ins known under the names and tags that the compose file and the Dockerfiles use.
    pub(crate) async fn import_stand_ins(&self) {
        let used =
            [read("docker-compose.yml"), read("exporter/Dockerfile"), read("tests/Dockerfile")].concat();
        for (tar, name, changes) in STAND_INS {
            let reference = used.split_whitespace().find(|word| word.starts_with(&format!("{name}:")));
            let reference = reference.unwrap_or_else(|| panic!("{name} is used nowhere"));
            let tar = prepared().join(format!("{tar}.tar")).display().to_string();
            let changes = changes.iter().flat_map(|change| ["--change", change]);
            let arguments: Vec<_> = ["import"].into_iter().chain(changes).chain([&*tar, reference]).collect();
            self.docker_must(&arguments).await;
        }
        self.put_into_build_base().await;
    }

    /// The programs that the stand-in for cargo hands out.
    async fn put_into_build_base(&self) {
        let context = self.dir.path().join("prebuilt");
        fs::create_dir(&context).unwrap();
        for program in [binary(), Path::new(env!("CARGO_BIN_EXE_simchain"))] {
            fs::copy(program, context.join(program.file_name().unwrap())).unwrap();
        }
        let dockerfile = read("exporter/Dockerfile");
        let base = dockerfile
            .lines()
            .find(|line| line.starts_with("FROM rust:"))
            .unwrap()
            .split(' ')
            .nth(1)
            .unwrap();
        fs::write(
            context.join("Dockerfile"),
            format!("FROM {base}\nCOPY tesseract-exporter simchain /prebuilt/\n"),
        )
        .unwrap();
        self.docker_must(&["build", "--tag", base, &context.display().to_string()]).await;
    }

    /// Runs `docker` against this engine.
    pub(crate) async fn docker(&self, arguments: &[&str]) -> Output {
        self.command("docker").args(arguments).output().await.expect("docker is installed")
    }

    /// The same, which must succeed; returns what it printed.
    pub(crate) async fn docker_must(&self, arguments: &[&str]) -> String {
        checked(arguments, &self.docker(arguments).await)
    }

    /// Runs `docker compose` as a user does, in the root of the repository, with these variables set.
    pub(crate) async fn compose(&self, environment: &[(&str, String)], arguments: &[&str]) -> Output {
        let environment = environment.iter().map(|(name, value)| (name, value));
        self.command("docker")
            .arg("compose")
            .envs(environment)
            .args(arguments)
            .output()
            .await
            .expect("docker is installed")
    }

    /// The same, which must succeed; returns what it printed.
    pub(crate) async fn compose_must(&self, environment: &[(&str, String)], arguments: &[&str]) -> String {
        checked(arguments, &self.compose(environment, arguments).await)
    }

    /// Stops the engine and all that runs in it.
    pub(crate) async fn stop(mut self) {
        let pid = self.daemon.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let status =
            timeout(PATIENCE, self.daemon.wait()).await.expect("dockerd ends when asked to").unwrap();
        assert!(status.success(), "dockerd: {status}");
    }

    /// Runs `packaging/release`, which must succeed, beside what a real release would make: its image is of stand-ins.
    /// Returns what it printed.
    pub(crate) async fn release(&self, arguments: &[&str]) -> String {
        let dist = self.dir.path().join("dist");
        let mut command = self.command("packaging/release");
        let output = command.args(arguments).env("DIST", &dist).output().await.expect("run the script");
        let printed = checked(arguments, &output);
        let image = fs::read_dir(&dist).unwrap().map(|entry| entry.unwrap().file_name());
        let image: Vec<_> = image.filter(|name| name != "SHA256SUMS").collect();
        assert_eq!(image.len(), 1, "{printed}");
        assert!(fs::metadata(dist.join(&image[0])).unwrap().len() > 1_000_000, "{printed}");
        printed
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("DOCKER_HOST", format!("unix://{}", self.dir.path().join("socket").display()))
            .env("DOCKER_CONFIG", prepared().join("docker-config"))
            .env("DOCKER_BUILDKIT", "1")
            .env(
                "COMPOSE_FILE",
                format!("docker-compose.yml:{}", self.dir.path().join("older.yml").display()),
            )
            .current_dir(root());
        command
    }
}

/// The stand-in for Prometheus is older than the image, and is given the shipped configuration without what is newer.
fn configure_older_prometheus(dir: &Path) -> std::io::Result<()> {
    let rules = dir.join("rules");
    fs::create_dir(&rules)?;
    for entry in fs::read_dir(root().join("rules"))? {
        let path = entry?.path();
        fs::copy(&path, rules.join(path.file_name().unwrap_or_default()))?;
    }
    fs::write(rules.join("prometheus.yml"), before_3_9(&read("rules/prometheus.yml")))?;
    let volume = format!("{}:/etc/prometheus:ro", rules.display());
    fs::write(dir.join("older.yml"), format!("services: {{prometheus: {{volumes: [\"{volume}\"]}}}}\n"))
}

fn checked(arguments: &[&str], output: &Output) -> String {
    let text = [&*output.stdout, &*output.stderr].map(String::from_utf8_lossy).concat();
    assert!(output.status.success(), "{arguments:?}: {}\n{text}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What tests/compose/prepare has made.
fn prepared() -> PathBuf {
    root().join("target/compose")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}
