//! How long one evaluation of the shipped rules takes with many networks and a day of data: a real Prometheus, a scripted
//! exporter, and the records of the day before as the rules would have written them, in its database from the start.
//!
//! Only what the rules look back at for more than an hour is written: nothing else of that day is read. The rest they gather
//! within the minutes that this runs.

use std::io::{BufWriter, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;
use tesseract_tests::scripted::Scripted;
use tesseract_tests::scripted::healthy::healthy;
use tesseract_tests::stack::{Settings, Stack};
use tokio::time::{Instant, sleep_until};

/// Seconds between two samples of the day before: what is remembered by the minute, and the totals as they are.
const STEPS: [usize; 2] = [60, 15];
const DAY: u64 = 86_400;

/// The records that are read from up to a day ago, with the labels beside the network.
const RECORDS: [(&str, &[&str]); 5] = [
    (
        "tesseract:events:announced:by_minute",
        &[
            "of=\"failed\",reason=\"expired\"",
            "of=\"failed\",reason=\"dependency\"",
            "of=\"failed\",reason=\"swap_group_timeout\"",
            "of=\"failed\",reason=\"other\"",
            "of=\"expired\"",
            "of=\"reorganised\"",
            "of=\"undecodable\"",
            "of=\"paused\"",
            "of=\"roles\"",
        ],
    ),
    (
        "tesseract:state:known:by_minute",
        &[
            "of=\"connected\"",
            "of=\"paused\"",
            "of=\"breaker\"",
            "of=\"exists\"",
            "of=\"owner_expected\"",
            "of=\"window\"",
            "of=\"missing_events\"",
            "of=\"head_age\"",
            "of=\"confirmation_lag\"",
        ],
    ),
    ("tesseract:contract_owner:known:by_minute", &["address=\"0xaa\""]),
    ("tesseract:transactions_buffered:total", &[""]),
    ("tesseract:transactions_settled:total", &["outcome=\"ready\"", "outcome=\"expired\""]),
];

#[derive(Parser)]
struct Flags {
    /// How many networks
    #[arg(long, default_value_t = 50)]
    networks: u32,
    /// How long to watch, in minutes
    #[arg(long, default_value_t = 3)]
    minutes: u64,
}

#[tokio::main]
async fn main() -> Result<(), String> {
    let flags = Flags::parse();
    let failed = |error: std::io::Error| error.to_string();
    let dir = tempfile::tempdir().map_err(failed)?;
    let history = dir.path().join("history.txt");
    eprintln!("writing a day of {} networks", flags.networks);
    write_history(&history, flags.networks).map_err(failed)?;
    let exporter = Scripted::start(1).await.map_err(failed)?;
    (0..flags.networks).for_each(|number| exporter.set(healthy(&name(number))));
    let settings =
        Settings { exporters: vec![exporter.address()], history: Some(history), ..Settings::default() };
    let stack = Stack::start(&settings).await.map_err(failed)?;
    eprintln!("watching for {} minutes", flags.minutes);
    sleep_until(Instant::now() + Duration::from_secs(60 * flags.minutes)).await;

    let of = |function: &str| {
        format!("{function}(prometheus_rule_group_last_duration_seconds[{}m])", flags.minutes)
    };
    let (means, worst) =
        (stack.samples(&of("avg_over_time")).await?, stack.samples(&of("max_over_time")).await?);
    let read = |sample: &serde_json::Value| {
        let group = sample["metric"]["rule_group"].as_str().unwrap_or_default();
        let group = group.rsplit(';').next().unwrap_or_default().to_owned();
        let seconds: f64 = sample["value"][1].as_str().and_then(|it| it.parse().ok()).unwrap_or(f64::NAN);
        (group, seconds * 1e3)
    };
    println!(
        "{:24}{:>10}{:>10}   milliseconds an evaluation, {} networks",
        "", "mean", "worst", flags.networks
    );
    let mut sum = 0.0;
    for sample in &means {
        let (group, mean) = read(sample);
        let worst = worst.iter().map(read).find(|(other, _)| *other == group).map_or(f64::NAN, |it| it.1);
        sum += mean;
        println!("{group:24}{mean:>10.1}{worst:>10.1}");
    }
    println!("{:24}{sum:>10.1}", "all, once each");
    let missed = stack.query("sum(prometheus_rule_group_iterations_missed_total)").await?;
    println!("evaluations missed: {}", missed.first().copied().unwrap_or_default());
    stack.stop().await.map_err(failed)
}

/// Counters that step now and then, and states that hold.
fn write_history(path: &std::path::Path, networks: u32) -> std::io::Result<()> {
    let end = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let mut file = BufWriter::new(std::fs::File::create(path)?);
    for (record, kinds) in RECORDS {
        writeln!(file, "# TYPE {record} gauge")?;
        for (network, labels) in (0..networks).flat_map(|it| kinds.iter().map(move |labels| (it, labels))) {
            let comma = if labels.is_empty() { "" } else { "," };
            let series = format!("{record}{{network=\"{}\"{comma}{labels}}}", name(network));
            let step = STEPS[usize::from(!record.ends_with(":by_minute"))];
            for at in (end - DAY..end).step_by(step) {
                writeln!(file, "{series} {} {at}", at / 3600)?;
            }
        }
    }
    writeln!(file, "# EOF")?;
    file.flush()
}

fn name(number: u32) -> String {
    format!("network-{number:03}")
}
