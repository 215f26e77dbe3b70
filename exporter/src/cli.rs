//! The command line, and what each way of calling the program does. Starts no task itself.

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::{Config, Endpoint, VARIABLES, Variables};
use crate::web::Access;
use crate::{app, health, log};

const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (revision ",
    env!("TESSERACT_REVISION"),
    ", rustc ",
    env!("TESSERACT_RUSTC"),
    ")"
);

/// Follows Tesseract coordination contracts and exposes what happens there as Prometheus metrics.
#[derive(Debug, Parser)]
#[command(name = "tesseract-exporter", version = VERSION)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
// Texts stand below their flags: nothing breaks long lines.
#[command(next_line_help = true, after_help = variables())]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

/// How to run.
#[derive(Debug, Args)]
pub struct Options {
    /// Configuration file [default: exporter.yml, or without one the TESSERACT_* variables]
    #[arg(long = "config.file", value_name = "FILE")]
    pub config_file: Option<PathBuf>,

    /// Check the configuration, print what was understood with every secret masked, and exit
    #[arg(long = "config.check")]
    pub config_check: bool,

    /// Where to serve metrics and pages; :PORT is every IPv4 address
    #[arg(long = "web.listen-address", value_name = "HOST:PORT", default_value = "0.0.0.0:8000")]
    #[arg(value_parser = listen_address)]
    pub listen_address: String,

    /// TLS and users, in the format of every Prometheus component; see docs/web-config.md
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub web_config_file: Option<PathBuf>,

    /// Path of the metrics
    #[arg(long = "web.telemetry-path", value_name = "PATH", default_value = "/metrics")]
    #[arg(value_parser = telemetry_path)]
    pub telemetry_path: String,

    /// Lowest severity to log [default: info]
    #[arg(long = "log.level", value_name = "LEVEL")]
    pub log_level: Option<log::Level>,

    /// Log format [default: text on a terminal, json otherwise]
    #[arg(long = "log.format", value_name = "FORMAT")]
    pub log_format: Option<log::Format>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask a running exporter whether it serves; exit 0 if it does, else 1
    Health {
        /// The exporter's URL; without a path /-/healthy is asked
        ///
        /// Over https any certificate will do.
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8000")]
        url: Endpoint,
    },
}

/// Does what the command line says. Every failure is one clear line a mistake on standard error.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => match hint(&error, std::env::args()) {
            Some(hint) => {
                fail(format_args!("error: {hint}"));
                return ExitCode::from(2);
            }
            None => error.exit(),
        },
    };
    match cli.command {
        Some(Command::Health { url }) => match health::ask(&url) {
            Ok(answer) => say(answer),
            Err(problem) => fail(problem),
        },
        None => run(&cli.options),
    }
}

fn run(options: &Options) -> ExitCode {
    // One that is not Unicode is of no use to a configuration.
    let env = std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    let env: Variables = env.collect();
    let config = Config::find(options.config_file.as_deref(), &env);
    let access = options.web_config_file.as_deref().map_or_else(|| Ok(Access::open()), Access::read);
    let (config, access) = match app::both(config, access) {
        Ok(both) => both,
        Err(mistakes) => return fail(mistakes),
    };
    if options.config_check {
        return say(format!("{}{}", config.describe(), config.estimate()).trim_end());
    }
    match app::serve(options, env, config, access) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => fail(problem),
    }
}

/// A closed standard output is an error, as the reader did not get what it asked for.
fn say(answer: impl Display) -> ExitCode {
    match writeln!(std::io::stdout(), "{answer}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(problem: impl Display) -> ExitCode {
    // Where standard error is closed nobody listens; the exit status still tells.
    let _ = writeln!(std::io::stderr(), "{problem}");
    ExitCode::FAILURE
}

/// The variables that describe a network where there is no file.
fn variables() -> String {
    let lines = VARIABLES.iter().map(|(name, what)| format!("\n  {name:<25} {what}"));
    format!("Environment, where there is no configuration file:{}", lines.collect::<String>())
}

/// What to write instead, for mistakes that are often made; of a flag only its name is shown.
fn hint(error: &clap::Error, args: impl Iterator<Item = String>) -> Option<String> {
    use ErrorKind::{ArgumentConflict, InvalidSubcommand, UnknownArgument};
    if !matches!(error.kind(), UnknownArgument | InvalidSubcommand | ArgumentConflict) {
        return None;
    }
    let program = Cli::command();
    let mut args = args.skip(1).peekable();
    let health = args.peek().and_then(|first| program.find_subcommand(first));
    let command = health.unwrap_or(&program);
    let plain = |name: &str| name.replace('-', ".");
    let meant = |written: &str| {
        let name = plain(written.trim_start_matches('-'));
        let mut flags = command.get_arguments().filter_map(clap::Arg::get_long);
        flags.find(|flag| plain(flag) == name && written.strip_prefix("--") != Some(flag)).map(str::to_owned)
    };
    let names = args.filter(|arg| arg.starts_with('-'));
    let mut names = names.filter_map(|arg| Some(arg.split('=').next()?.to_owned()));
    if let Some((written, flag)) = names.find_map(|written| Some((written.clone(), meant(&written)?))) {
        return Some(format!("unexpected flag {written}, expected --{flag}"));
    }
    // clap says which.
    if error.get(ContextKind::SuggestedSubcommand).is_some() {
        return None;
    }
    let ContextValue::String(arg) =
        error.get(ContextKind::InvalidSubcommand).or_else(|| error.get(ContextKind::InvalidArg))?
    else {
        return None;
    };
    if arg.starts_with('-') || program.find_subcommand(arg).is_some() {
        return None;
    }
    // A URL may hold a secret.
    let shown = if arg.contains("://") { "URL".to_owned() } else { format!("argument {arg:?}") };
    let expected = match health {
        Some(_) => "the URL of an exporter as --url=URL",
        None if arg.contains("://") => "it in the configuration, or in TESSERACT_RPC_URL",
        None => "a configuration file as --config.file=FILE",
    };
    Some(format!("unexpected {shown}, expected {expected}"))
}

/// `host:port`, or `:port` for `0.0.0.0:port`, which is every IPv4 address of this machine and none of IPv6.
fn listen_address(text: &str) -> Result<String, &'static str> {
    const EXPECTED: &str = "expected HOST:PORT, as in 127.0.0.1:8000, or :PORT";
    let (host, port) = text.rsplit_once(':').ok_or(EXPECTED)?;
    port.parse::<u16>().map_err(|_| EXPECTED)?;
    Ok(format!("{}:{port}", if host.is_empty() { "0.0.0.0" } else { host }))
}

/// An absolute path that no other page has.
fn telemetry_path(text: &str) -> Result<String, &'static str> {
    let taken = matches!(text, "/" | "/health" | "/-/healthy" | "/-/ready" | "/style.css" | "/runbooks")
        || ["/runbooks/", "/networks/", "/tx/"].iter().any(|pages| text.starts_with(pages));
    if taken {
        return Err("another page has this path, expected one like /metrics");
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    if !text.starts_with('/') || !text.bytes().all(fits) {
        return Err("expected a path like /metrics");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// Nothing breaks long lines: that would take one more crate.
    #[test]
    fn help_fits_a_hundred_columns() {
        let mut command = Cli::command();
        command.build();
        let mut health = command.find_subcommand("health").unwrap().clone();
        for command in [&mut command, &mut health] {
            for help in [command.render_help(), command.render_long_help()] {
                let help = help.to_string();
                assert!(help.lines().count() > 5, "{help}");
                let long: Vec<_> = help.lines().filter(|line| line.chars().count() > 100).collect();
                assert_eq!(long, Vec::<&str>::new());
            }
        }
    }

    #[test]
    fn addresses() {
        assert_eq!(listen_address(":8000").as_deref(), Ok("0.0.0.0:8000"));
        assert_eq!(listen_address("[::1]:80").as_deref(), Ok("[::1]:80"));
        for text in ["", "8000", "host", "host:", "host:65536", "http://host/"] {
            assert!(listen_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paths() {
        assert_eq!(telemetry_path("/probe/metrics").as_deref(), Ok("/probe/metrics"));
        for text in [
            "",
            "metrics",
            "/",
            "/health",
            "/runbooks/x",
            "/runbooks",
            "/tx/x",
            "/networks/x",
            "/style.css",
            "/a?b",
            "/a b",
        ] {
            assert!(telemetry_path(text).is_err(), "{text}");
        }
    }
}
