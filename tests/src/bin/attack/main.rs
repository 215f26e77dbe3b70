//! What a well-behaved scraper notices while others attack the exporter's port: the time of a scrape, idle and under each
//! attack, in one run.
//!
//! `cargo run --release -p tesseract-tests --bin attack` prints a table; it takes ten minutes. With the names of targets after
//! `--`, only those are attacked. Attackers come from another address, and then from the scraper's own, whose places they take;
//! they share the machine with it. Judges nothing: the times of a busy machine say little, those of one run beside each other do.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use procfs::process::Process;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tesseract_tests::process::{Exporter, Launch};
use tesseract_tests::rig::{Setup, named};
use tesseract_tests::sim::{Params, Sim};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use self::hostile::Attack;

mod hostile;

/// Scrapes of each kind in each row, and how far apart.
const SCRAPES: u32 = 400;
const PACE: Duration = Duration::from_millis(10);

/// A scrape that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// Blocks of history behind what is scraped.
const BLOCKS: u64 = 2000;

/// An attack goes on for this long before it is measured, as a server may take time to be full.
const HEAD_START: Duration = Duration::from_secs(1);

/// Where attackers are: elsewhere, or where the scraper is.
const WHENCE: [(&str, Ipv4Addr); 2] =
    [("elsewhere", Ipv4Addr::new(127, 0, 0, 2)), ("same address", Ipv4Addr::LOCALHOST)];

const NAME: &str = "exporter.example";
const USER: &str = "prometheus";
const PASSWORD: &str = "sesame";
/// Both.
const RIGHT: &str = "Authorization: Basic cHJvbWV0aGV1czpzZXNhbWU=\r\n";

/// What attacks at once, how many of each.
type Attackers = &'static [(Attack, u64)];

/// What the exporter serves, its name, and who attacks it. Of the last everything comes at once.
const PLAIN: &[(&str, Attackers)] = &[
    ("256 silent connections", &[(Attack::Silent, 256)]),
    ("1000 silent connections", &[(Attack::Silent, 1000)]),
    ("200 clients that pipeline and never read", &[(Attack::NeverRead, 200)]),
    ("256 slow first heads", &[(Attack::SlowHead, 256)]),
    ("8 clients that connect and leave", &[(Attack::Churn, 8)]),
    ("32 clients that scrape with gzip", &[(Attack::Gzip, 32)]),
];
const USERS: &[(&str, Attackers)] =
    &[("64 clients with wrong passwords (bcrypt)", &[(Attack::WrongPassword, 64)])];
const TLS: &[(&str, Attackers)] = &[
    ("256 TLS handshakes that never end", &[(Attack::Handshake, 256)]),
    ("256 HTTP/2 clients that never read", &[(Attack::NoWindow, 256)]),
];
const ALL: &[(&str, Attackers)] = &[
    ("700 handshakes that never end", &[(Attack::Handshake, 700)]),
    ("200 wrong passwords (bcrypt)", &[(Attack::WrongPassword, 200)]),
    ("50 scrapes with gzip", &[(Attack::Gzip, 50)]),
    ("50 HTTP/2 clients that never read", &[(Attack::NoWindow, 50)]),
    (
        "all 1000 of them",
        &[(Attack::Handshake, 700), (Attack::WrongPassword, 200), (Attack::Gzip, 50), (Attack::NoWindow, 50)],
    ),
];

/// What is listening at the address, and how it is scraped.
struct Target {
    name: &'static str,
    attacks: &'static [(&'static str, Attackers)],
    exporter: Exporter,
    tls: Option<Arc<ClientConfig>>,
    /// Further lines of a request's head.
    headers: String,
}

#[tokio::main]
async fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let sim = Sim::start(Params::default()).await.expect("a free port for the chain");
    sim.advance(BLOCKS);
    println!(
        "| exporter | attack | kept p50 ms | p99 | x idle | lost | new p50 ms | p99 | x idle | lost | MB |"
    );
    println!("|---|---|{}", "---:|".repeat(9));
    for target in [plain(&sim).await, users(&sim).await, tls(&sim).await, all(&sim).await] {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == target.name) {
            continue;
        }
        let target = Arc::new(target);
        let idle = measure(&target).await;
        idle.print(&target, "idle", &idle);
        for (what, attackers) in target.attacks {
            for (whence, from) in WHENCE {
                let under = under(&target, attackers, from).await;
                under.print(&target, &format!("{what}, {whence}"), &idle);
            }
        }
    }
}

async fn plain(sim: &Sim) -> Target {
    let exporter = launch(sim).start().await;
    Target {
        name: "plain",
        attacks: PLAIN,
        exporter: synced(exporter).await,
        tls: None,
        headers: String::new(),
    }
}

async fn users(sim: &Sim) -> Target {
    let launch = launch(sim).file("web.yml", user()).arg("--web.config.file=web.yml");
    Target {
        name: "users",
        attacks: USERS,
        exporter: launch.start().await,
        tls: None,
        headers: RIGHT.to_owned(),
    }
}

async fn tls(sim: &Sim) -> Target {
    let (launch, config) = secure(launch(sim), "");
    let exporter = launch.start().await;
    Target { name: "TLS", attacks: TLS, exporter, tls: Some(config), headers: String::new() }
}

/// TLS and users, scraped with gzip.
async fn all(sim: &Sim) -> Target {
    let (launch, config) = secure(launch(sim), &user());
    let exporter = launch.start().await;
    let headers = format!("{RIGHT}Accept-Encoding: gzip\r\n");
    Target { name: "all", attacks: ALL, exporter, tls: Some(config), headers }
}

fn user() -> String {
    let hash = bcrypt::hash(PASSWORD, 10).expect("a password to hash");
    format!("basic_auth_users:\n  {USER}: {hash}\n")
}

/// With TLS and this in its web configuration; and a client that trusts it.
fn secure(launch: Launch, more: &str) -> (Launch, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
    let launch = launch
        .file(
            "web.yml",
            format!("tls_server_config: {{cert_file: server.crt, key_file: server.key}}\n{more}"),
        )
        .file("server.crt", made.cert.pem())
        .file("server.key", made.signing_key.serialize_pem())
        .arg("--web.config.file=web.yml");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("its own authority");
    (launch, Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

fn launch(sim: &Sim) -> Launch {
    Launch::config(&Setup::new(&[&sim.url()], sim.chain().contract()).yaml(None))
}

async fn synced(exporter: Exporter) -> Exporter {
    let synced = |now: &tesseract_tests::series::Series| now.get(&named("tesseract_synced")) == Some(1.0);
    exporter.wait_for("it is synced", Duration::from_secs(60), synced).await;
    exporter
}

async fn under(target: &Arc<Target>, attackers: Attackers, from: Ipv4Addr) -> Times {
    let begun = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for (attack, count) in attackers {
        for _ in 0..*count {
            let (target, begun) = (Arc::clone(target), Arc::clone(&begun));
            tasks.spawn(async move {
                for round in 0_u64.. {
                    begun.fetch_add(1, Ordering::Relaxed);
                    // Whatever the exporter does about it, the next round follows.
                    let _ = attack.once(&target, from, round).await;
                }
            });
        }
    }
    let attackers: u64 = attackers.iter().map(|(_, count)| count).sum();
    let head_start = async {
        let mut looks = interval(HEAD_START);
        looks.tick().await;
        looks.tick().await;
        while begun.load(Ordering::Relaxed) < attackers {
            looks.tick().await;
        }
    };
    head_start.await;
    measure(target).await
}

/// How long scrapes took, sorted: over one connection that is kept, and over a new one each.
struct Times {
    kept: Vec<Duration>,
    new: Vec<Duration>,
    lost_kept: u32,
    lost_new: u32,
    /// What the exporter held in memory at the end, in bytes.
    resident: u64,
}

impl Times {
    fn print(&self, target: &Target, what: &str, idle: &Self) {
        let milliseconds = |times: &[Duration], percent: usize| {
            let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
            times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
        };
        let of = |times: &[Duration], idle: &[Duration]| {
            let (p50, p99) = (milliseconds(times, 50), milliseconds(times, 99));
            format!("{p50:.2} | {p99:.2} | {:.1}", p99 / milliseconds(idle, 99))
        };
        let (kept, new) = (of(&self.kept, &idle.kept), of(&self.new, &idle.new));
        let (name, lost_kept, lost_new) = (target.name, self.lost_kept, self.lost_new);
        let megabytes = self.resident >> 20;
        println!("| {name} | {what} | {kept} | {lost_kept} | {new} | {lost_new} | {megabytes} |");
    }
}

/// On a thread of its own, so that the attackers' runtime holds up no scrape.
async fn measure(target: &Arc<Target>) -> Times {
    let target = Arc::clone(target);
    tokio::task::spawn_blocking(move || times(&target)).await.expect("scrapes do not panic")
}

fn times(target: &Target) -> Times {
    let mut times = Times { kept: Vec::new(), new: Vec::new(), lost_kept: 0, lost_new: 0, resident: 0 };
    let mut kept = None;
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for _ in 0..SCRAPES {
        Handle::current().block_on(pace.tick());
        let begun = Instant::now();
        match scrape(target, kept.take()) {
            Ok(connection) => {
                kept = Some(connection);
                times.kept.push(begun.elapsed());
            }
            Err(_) => times.lost_kept += 1,
        }
        let begun = Instant::now();
        match scrape(target, None) {
            Ok(_) => times.new.push(begun.elapsed()),
            Err(_) => times.lost_new += 1,
        }
    }
    times.kept.sort_unstable();
    times.new.sort_unstable();
    let process = i32::try_from(target.exporter.pid()).ok().and_then(|pid| Process::new(pid).ok());
    let status = process.and_then(|process| process.status().ok());
    times.resident = status.and_then(|status| status.vmrss).expect("the exporter runs") * 1024;
    times
}

trait Connection: Read + Write {}
impl<T: Read + Write> Connection for T {}

/// One scrape over this connection or a new one, which is given back.
fn scrape(target: &Target, kept: Option<Box<dyn Connection>>) -> std::io::Result<Box<dyn Connection>> {
    let mut connection = match kept {
        Some(connection) => connection,
        None => connect(target)?,
    };
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {NAME}\r\n{}\r\n", target.headers);
    connection.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut part = [0; 1 << 14];
    loop {
        let read = connection.read(&mut part)?;
        answer.extend_from_slice(&part[..read]);
        match missing(&answer) {
            Some(0) => return Ok(connection),
            _ if read == 0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => {}
        }
    }
}

/// How much of the body is still to come; `None` before the head is whole. Panics at anything but success.
fn missing(answer: &[u8]) -> Option<usize> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
    let length: usize = length.trim().parse().expect("a length in digits");
    Some((end + length).saturating_sub(answer.len()))
}

fn connect(target: &Target) -> std::io::Result<Box<dyn Connection>> {
    let stream = TcpStream::connect_timeout(&target.exporter.address(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let Some(config) = &target.tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(NAME).expect("a name of our own");
    let session = ClientConnection::new(Arc::clone(config), name).expect("a session of our own");
    Ok(Box::new(StreamOwned::new(session, stream)))
}
