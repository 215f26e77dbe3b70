//! Simulated networks on one port, each under its name, for the exporter to follow.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use serde_json::json;
use tesseract_tests::demo::{config, genesis_time, networks, up_to_now};
use tesseract_tests::json_rpc::Client;
use tesseract_tests::sim::{Params, Sim, Variant};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Serves simulated networks at http://ADDRESS/NAME and prints an exporter's configuration for them.
#[derive(Parser)]
#[command(name = "simchain", args_conflicts_with_subcommands = true)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8545")]
    listen: String,
    /// A network, instead of the three of the demo; may be repeated. Variants are simple, buffer and mixed
    #[arg(long = "network", value_name = "NAME:VARIANT:BLOCK_TIME", value_parser = network)]
    networks: Vec<(String, Variant, Duration)>,
    /// Another seed, another history
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// At least this much history, from a midnight (UTC) on, so that a restart finds the same chain
    #[arg(long, default_value = "6h", value_parser = duration)]
    history: Duration,
    /// How many times as fast as real time goes by
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    speed: f64,
}

#[derive(Subcommand)]
enum Command {
    /// Exits with 0 if a simulated network answers
    Health {
        /// The network to ask
        #[arg(long, default_value = "http://127.0.0.1:8545/arbitrum-demo")]
        url: String,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let result = match &options.command {
        Some(Command::Health { url }) => {
            Client::new(url).call("eth_blockNumber", json!([])).await.map(|head| println!("{head}"))
        }
        None => serve(&options).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("simchain: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(options: &Options) -> Result<(), String> {
    let (mut interrupt, mut terminate) =
        match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
            (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
            (Err(error), _) | (_, Err(error)) => return Err(format!("cannot wait for signals: {error}")),
        };
    let failed = |error| format!("cannot listen on {}: {error}", options.listen);
    let listener = TcpListener::bind(&options.listen).await.map_err(failed)?;
    let (names, params): (Vec<_>, Vec<_>) = chosen(options).into_iter().unzip();
    let chains = names.iter().cloned().zip(params.into_iter().map(up_to_now)).collect();
    let mut sims = Sim::serve(listener, chains).map_err(failed)?;
    print!("{}", config(&sims, &names));
    sims.iter_mut().for_each(|sim| sim.run(options.speed));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

fn chosen(options: &Options) -> Vec<(String, Params)> {
    let genesis_time = genesis_time(options.history);
    if options.networks.is_empty() {
        return networks(options.seed, genesis_time);
    }
    let params = |(place, (name, variant, block_time)): (usize, &(String, Variant, Duration))| {
        let (variant, block_time, chain_id) = (*variant, *block_time, 1_337_001 + place as u64);
        let seed = options.seed;
        (name.clone(), Params { seed, chain_id, variant, block_time, genesis_time, ..Params::default() })
    };
    options.networks.iter().enumerate().map(params).collect()
}

fn network(text: &str) -> Result<(String, Variant, Duration), String> {
    let parts: Vec<&str> = text.split(':').collect();
    let [name, variant, block_time] = parts[..] else {
        return Err("expected NAME:VARIANT:BLOCK_TIME, as in fast:simple:250ms".to_owned());
    };
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
        return Err(format!("name {name:?}: expected letters, digits, - and _"));
    }
    let variant = match variant {
        "simple" => Variant::Simple,
        "buffer" => Variant::Buffer,
        "mixed" => Variant::Mixed,
        _ => return Err(format!("variant {variant:?}: expected simple, buffer or mixed")),
    };
    Ok((name.to_owned(), variant, duration(block_time)?))
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let unit = match &text[digits..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("duration {text:?}: expected a number with ms, s, m, h or d, as in 250ms")),
    };
    let millis = text[..digits].parse().ok().and_then(|number: u64| number.checked_mul(unit));
    // A year of history is more than anybody waits for.
    match millis {
        Some(millis @ 1..=31_536_000_000) => Ok(Duration::from_millis(millis)),
        _ => Err(format!("duration {text:?}: expected 1ms to 365d")),
    }
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok().filter(|speed| (0.01..=100_000.0).contains(speed));
    speed.ok_or_else(|| format!("speed {text:?}: expected 0.01 to 100000"))
}
