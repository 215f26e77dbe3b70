//! What a well-behaved scraper notices while others attack the exporter's port: the time of a scrape, idle and under each
//! attack, in one run.
//!
//! `cargo run --release -p tesseract-tests --bin attack` prints a table; it takes five minutes. Attackers come from
//! another address, and then from the scraper's own, whose places they take; they share the machine with it. Judges nothing: the times of a
//! busy machine say little, those of one run beside each other do.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tesseract_tests::process::{Exporter, Launch};
use tesseract_tests::rig::{Setup, named};
use tesseract_tests::sim::{Params, Sim};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::interval;

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
/// The user and any password of five digits: base64 of whatever begins like this and goes on.
const WRONG: &str = "Authorization: Basic cHJvbWV0aGV1czo";

/// What attackers do, each in a task of its own, again and again.
#[derive(Clone, Copy)]
enum Attack {
    /// Connects, and says nothing.
    Silent,
    /// Sends requests and never reads an answer.
    NeverRead,
    /// Sends the first head a byte at a time.
    SlowHead,
    /// Connects and leaves.
    Churn,
    /// Scrapes with gzip, one scrape after the other.
    Gzip,
    /// Begins a TLS handshake.
    Handshake,
    /// Sends a wrong password, another one each time.
    WrongPassword,
}

/// What is listening at the address, and how it is scraped.
struct Target {
    name: &'static str,
    exporter: Exporter,
    tls: Option<Arc<ClientConfig>>,
    /// Further lines of a request's head.
    headers: String,
}

#[tokio::main]
async fn main() {
    let sim = Sim::start(Params::default()).await.expect("a free port for the chain");
    sim.advance(BLOCKS);
    let [plain, users, tls] = [plain(&sim).await, users(&sim).await, tls(&sim).await];
    println!(
        "{:8} {:54} | {:>8} {:>8} {:>7} {:>5} | {:>8} {:>8} {:>7} {:>5}",
        "ms", "", "kept p50", "p99", "x idle", "lost", "new p50", "p99", "x idle", "lost"
    );
    for (target, attacks) in [
        (
            plain,
            &[
                ("256 silent connections", Attack::Silent, 256),
                ("1000 silent connections", Attack::Silent, 1000),
                ("200 clients that pipeline and never read", Attack::NeverRead, 200),
                ("256 slow first heads", Attack::SlowHead, 256),
                ("8 clients that connect and leave", Attack::Churn, 8),
                ("32 clients that scrape with gzip", Attack::Gzip, 32),
            ][..],
        ),
        (users, &[("64 clients with wrong passwords (bcrypt)", Attack::WrongPassword, 64)]),
        (tls, &[("256 TLS handshakes that never end", Attack::Handshake, 256)]),
    ] {
        let target = Arc::new(target);
        let idle = measure(&target).await;
        idle.print(target.name, "idle", &idle);
        for (what, attack, attackers) in attacks {
            for (whence, from) in WHENCE {
                let under = under(&target, *attack, from, *attackers).await;
                under.print(target.name, &format!("{what}, {whence}"), &idle);
            }
        }
    }
}

async fn plain(sim: &Sim) -> Target {
    let exporter = launch(sim).start().await;
    Target { name: "plain", exporter: synced(exporter).await, tls: None, headers: String::new() }
}

async fn users(sim: &Sim) -> Target {
    let hash = bcrypt::hash(PASSWORD, 10).expect("a password to hash");
    let config = format!("basic_auth_users:\n  {USER}: {hash}\n");
    let launch = launch(sim).file("web.yml", config).arg("--web.config.file=web.yml");
    Target { name: "users", exporter: launch.start().await, tls: None, headers: RIGHT.to_owned() }
}

async fn tls(sim: &Sim) -> Target {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).expect("a certificate");
    let launch = launch(sim)
        .file("web.yml", "tls_server_config: {cert_file: server.crt, key_file: server.key}\n")
        .file("server.crt", made.cert.pem())
        .file("server.key", made.signing_key.serialize_pem())
        .arg("--web.config.file=web.yml");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("its own authority");
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    Target {
        name: "TLS",
        exporter: launch.start().await,
        tls: Some(Arc::new(config)),
        headers: String::new(),
    }
}

fn launch(sim: &Sim) -> Launch {
    Launch::config(&Setup::new(&[&sim.url()], sim.chain().contract()).yaml(None))
}

async fn synced(exporter: Exporter) -> Exporter {
    let synced = |now: &tesseract_tests::series::Series| now.get(&named("tesseract_synced")) == Some(1.0);
    exporter.wait_for("it is synced", Duration::from_secs(60), synced).await;
    exporter
}

async fn under(target: &Arc<Target>, attack: Attack, from: Ipv4Addr, attackers: u64) -> Times {
    let begun = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..attackers {
        let (address, begun) = (target.exporter.address(), Arc::clone(&begun));
        tasks.spawn(async move {
            for round in 0_u64.. {
                begun.fetch_add(1, Ordering::Relaxed);
                // Whatever the exporter does about it, the next round follows.
                let _ = once(attack, from, address, round).await;
            }
        });
    }
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

/// One round of an attacker, until the exporter ends the connection or nothing more can be done to it.
async fn once(attack: Attack, from: Ipv4Addr, address: SocketAddr, round: u64) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    let mut stream = socket.connect(address).await?;
    match attack {
        Attack::Churn => return Ok(()),
        Attack::Silent => {}
        // A record of 512 bytes is announced, a ClientHello, and never comes.
        Attack::Handshake => stream.write_all(&[0x16, 3, 1, 2, 0, 1]).await?,
        Attack::NeverRead => {
            let requests = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
            loop {
                stream.write_all(&requests).await?;
            }
        }
        Attack::SlowHead => {
            let mut paces = interval(Duration::from_millis(200));
            for byte in b"GET /metrics HTTP/1.1\r\nHost: ".iter().chain(std::iter::repeat(&b'x')) {
                paces.tick().await;
                stream.write_all(&[*byte]).await?;
            }
        }
        Attack::Gzip => {
            let request =
                b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n";
            stream.write_all(request).await?;
        }
        Attack::WrongPassword => {
            let request = format!(
                "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{WRONG}{:05}\r\n\r\n",
                round % 100_000
            );
            stream.write_all(request.as_bytes()).await?;
        }
    }
    let mut answer = [0; 1 << 14];
    while stream.read(&mut answer).await? > 0 {}
    Ok(())
}

/// How long scrapes took, sorted: over one connection that is kept, and over a new one each.
struct Times {
    kept: Vec<Duration>,
    new: Vec<Duration>,
    lost_kept: u32,
    lost_new: u32,
}

impl Times {
    fn print(&self, target: &str, what: &str, idle: &Self) {
        let milliseconds = |times: &[Duration], percent: usize| {
            let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
            times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
        };
        let of = |times: &[Duration], idle: &[Duration]| {
            let (p50, p99) = (milliseconds(times, 50), milliseconds(times, 99));
            format!("{p50:8.2} {p99:8.2} {:7.1}", p99 / milliseconds(idle, 99))
        };
        let (kept, new) = (of(&self.kept, &idle.kept), of(&self.new, &idle.new));
        println!("{target:8} {what:54} | {kept} {:5} | {new} {:5}", self.lost_kept, self.lost_new);
    }
}

/// On a thread of its own, so that the attackers' runtime holds up no scrape.
async fn measure(target: &Arc<Target>) -> Times {
    let target = Arc::clone(target);
    tokio::task::spawn_blocking(move || times(&target)).await.expect("scrapes do not panic")
}

fn times(target: &Target) -> Times {
    let mut times = Times { kept: Vec::new(), new: Vec::new(), lost_kept: 0, lost_new: 0 };
    let mut kept = None;
    for _ in 0..SCRAPES {
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
        std::thread::sleep(PACE);
    }
    times.kept.sort_unstable();
    times.new.sort_unstable();
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
