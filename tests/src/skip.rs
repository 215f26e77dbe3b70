//! What a test leaves out where something that it needs is not there, told to whoever reads the verdict.
//!
//! Never decides whether to leave something out.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Says that `what` is left out and `why`: on standard error, and as a line of the file that `tests/run` names in `SKIPPED`
/// and reads for its verdict.
pub fn skipped(what: &str, why: &str) {
    let line = format!("{what}: {why}");
    eprintln!("SKIPPED {line}");
    if let Some(list) = std::env::var_os("SKIPPED") {
        add(list.as_ref(), &line).expect("write the list of what is skipped");
    }
}

/// One write, as other tests add lines at the same time.
fn add(list: &Path, line: &str) -> io::Result<()> {
    File::options().append(true).create(true).open(list)?.write_all(format!("{line}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_adds_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let list = directory.path().join("skipped");
        add(&list, "the unit: no systemd-analyze here").unwrap();
        add(&list, "compose: not root").unwrap();
        let lines = std::fs::read_to_string(list).unwrap();
        assert_eq!(lines, "the unit: no systemd-analyze here\ncompose: not root\n");
    }
}
