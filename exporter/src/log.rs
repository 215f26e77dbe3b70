//! Log lines on standard error: JSON for machines, or text for people.
//!
//! Only this program's own lines: a dependency that logs a URL at some level has no way out.

mod queue;

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write as _};
use std::time::Duration;

use clap::ValueEnum;
use indicatif::MultiProgress;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, reload};

use crate::supervise;
use queue::Queue;
pub use queue::dropped_lines;

/// At the end, lines that are not written yet are waited for for so long.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A JSON object a line.
    Json,
    /// For people; coloured on a terminal.
    Text,
}

/// The least important line that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum Level {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

/// In the words of the command line.
impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        LevelFilter::from(*self).fmt(f)
    }
}

/// What is logged until this is dropped is written, as far as standard error takes it.
pub struct Logging {
    queue: Queue,
    filter: reload::Handle<Targets, Registry>,
    /// On a terminal, where progress bars go; the lines step aside for them.
    pub bars: Option<MultiProgress>,
}

impl Logging {
    /// From now on nothing less important is written.
    pub fn set_level(&self, level: Level) {
        // Fails only where nothing logs any more.
        let _ = self.filter.reload(own_lines(level));
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.queue.finish(LAST_WAIT);
    }
}

/// Starts logging; without a `format` in what fits the reader: text on a terminal, else JSON.
///
/// # Errors
/// The system has no thread to give.
pub fn init(level: Level, format: Option<Format>) -> io::Result<Logging> {
    let terminal = io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal { Format::Text } else { Format::Json });
    let bars = terminal.then(MultiProgress::new);
    let shown = bars.clone();
    let queue = Queue::start(move |line| {
        // What cannot be written is lost: nobody reads it, and complaining would be written there too.
        let write = || {
            let _ = io::stderr().lock().write_all(line);
        };
        // A line in the middle of a bar would tear it.
        shown.as_ref().map_or_else(write, |bars| bars.suspend(write));
    })?;
    let layer = tracing_subscriber::fmt::layer().log_internal_errors(false).with_writer(Lines(queue.clone()));
    let layer = match format {
        Format::Json => layer.event_format(Json).boxed(),
        Format::Text => layer.with_ansi(terminal).boxed(),
    };
    let (own, filter) = reload::Layer::new(own_lines(level));
    Registry::default().with(layer.with_filter(own)).init();
    // A panic is a bug in one task; the others go on, and this says so in the log's own format.
    std::panic::set_hook(Box::new(supervise::log_panic));
    Ok(Logging { queue, filter, bars })
}

fn own_lines(level: Level) -> Targets {
    Targets::new().with_target(env!("CARGO_CRATE_NAME"), LevelFilter::from(level))
}

/// Takes one whole line at a time.
struct Lines(Queue);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> &'a Self {
        self
    }
}

impl io::Write for &Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `timestamp`, `level`, `message` and `logger`, then the fields in the order of the source.
struct Json;

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let level = metadata.level().as_str().to_ascii_lowercase();
        writer.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut writer)?;
        let (message, logger) = (Value::from(fields.message), Value::from(metadata.target()));
        writeln!(
            writer,
            "\",\"level\":\"{level}\",\"message\":{message},\"logger\":{logger}{}}}",
            fields.rest
        )
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    /// Each as `,"key":value`.
    rest: String,
}

impl Fields {
    fn push(&mut self, field: &Field, value: impl Into<Value>) {
        let value = value.into();
        if field.name() == "message" {
            self.message = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(self.rest, ",{}:{value}", Value::from(field.name()));
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Memory {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("no test panics while it writes").write(line)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `log` writes as JSON.
    fn written(log: impl FnOnce()) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let layer = tracing_subscriber::fmt::layer().event_format(Json).with_writer(move || writer.clone());
        tracing::subscriber::with_default(Registry::default().with(layer), log);
        let bytes = memory.0.lock().expect("no test panics while it writes").clone();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn keys_stand_at_the_top_in_order() {
        let line = written(|| tracing::warn!(zebra = 1, apple = %"x", ok = true, "two {}", "words"));
        let (head, rest) = line.split_at(r#"{"timestamp":""#.len());
        let (timestamp, rest) = rest.split_once('"').expect("a timestamp");
        assert_eq!(head, r#"{"timestamp":""#);
        assert!(timestamp.len() == 27 && timestamp.ends_with('Z'), "{timestamp}");
        assert_eq!(
            rest,
            concat!(
                r#","level":"warn","message":"two words","logger":"tesseract_exporter::log::tests","#,
                r#""zebra":1,"apple":"x","ok":true}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_number_that_json_lacks_is_null() {
        assert!(written(|| tracing::info!(rate = f64::NAN, "x")).ends_with("\"rate\":null}\n"));
    }

    proptest! {
        #[test]
        fn any_text_is_one_line_of_json(text in any::<String>()) {
            let line = written(|| tracing::info!(value = text.as_str(), shown = %text, "{text}"));
            prop_assert_eq!(line.matches('\n').count(), 1);
            let value: Value = serde_json::from_str(&line).expect("JSON");
            for key in ["message", "value", "shown"] {
                prop_assert_eq!(value[key].as_str(), Some(text.as_str()));
            }
        }
    }
}
