//! What a test leaves out where something that it needs is not there, told to whoever reads the verdict.
//!
//! Never decides whether to leave something out.

use std::fs::File;
use std::io::Write;

/// Says that `what` is left out and `why`: on standard error, and as a line of the file that `tests/run` names in `SKIPPED`
/// and reads for its verdict.
pub fn skipped(what: &str, why: &str) {
    let line = format!("{what}: {why}");
    eprintln!("SKIPPED {line}");
    let Some(path) = std::env::var_os("SKIPPED") else { return };
    let file = File::options().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()))
        .expect("write the list of what is skipped");
}
