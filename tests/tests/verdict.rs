//! The last line of `tests/run` says no more than is true. The script is the real one, in a directory where `cargo`, the
//! set-up and the contracts' compiler are stand-ins; what leaves something out does it as the tests do.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use tesseract_tests::skip::skipped;

/// Runs this test program once more for what it skips, and fails at what `FAIL` names.
const CARGO: &str = r#"#!/bin/bash
case "$*" in
*"$FAIL"*) exit 1 ;;
*nextest*--no-run*) ;;
*nextest*) [[ -z $SKIPS ]] || "$SKIPS" --exact leaves_something_out --ignored ;;
esac
"#;

struct Run {
    root: TempDir,
    skips: bool,
    fail: &'static str,
}

impl Run {
    fn new() -> Self {
        let root = TempDir::with_prefix("verdict-").unwrap();
        let script = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/run")).unwrap();
        for (path, text) in [
            ("tests/run", &*script),
            ("tests/setup", "#!/bin/sh\n"),
            ("tests/contracts/build", "#!/bin/sh\n"),
            ("bin/cargo", CARGO),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self { root, skips: false, fail: "nothing" }
    }

    /// With a database of advisories at hand.
    fn database(self) -> Self {
        fs::create_dir_all(self.at("home/advisory-dbs/advisory-db-3157b0e258782691")).unwrap();
        self
    }

    /// The last line without the time, which ends in seconds.
    fn verdict(&self, arguments: &[&str]) -> (bool, String) {
        let path = format!("{}:{}", self.at("bin"), std::env::var("PATH").unwrap());
        let mut command = Command::new(self.at("tests/run"));
        command.args(arguments).env("PATH", path).env("CARGO_HOME", self.at("home")).env("FAIL", self.fail);
        let own = std::env::current_exe().unwrap();
        command.env("SKIPS", if self.skips { own.as_path() } else { Path::new("") });
        let output = command.output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let last = printed.lines().last().unwrap_or_else(|| panic!("{:?}", output.stderr));
        let (said, time) = last.split_once(" in 0 min ").unwrap_or((last, ""));
        (output.status.success(), format!("{said}{}", time.trim_start_matches(|it| it != ';')))
    }

    fn at(&self, path: &str) -> String {
        self.root.path().join(path).display().to_string()
    }
}

/// What one of the runs above runs; alone it says something and is no test.
#[test]
#[ignore = "run by the other tests"]
fn leaves_something_out() {
    skipped("the unit", "no systemd-analyze here");
    // As by two tests that lack the same.
    skipped("the unit", "no systemd-analyze here");
}

#[test]
fn everything_is_said_only_where_everything_ran() {
    let whole = Run::new().database();
    assert_eq!(whole.verdict(&[]), (true, "tests/run: everything passed".to_owned()));
    assert_eq!(
        whole.verdict(&["-E", "binary(reorg)"]),
        (true, "tests/run: the chosen tests passed".to_owned())
    );
}

#[test]
fn what_is_skipped_is_listed() {
    let lacking = Run { skips: true, ..Run::new() };
    let advisories = format!(
        "skipped: advisories: no database at {}/advisory-dbs/advisory-db-3157b0e258782691",
        lacking.at("home")
    );
    let skipped = format!("{advisories}; the unit: no systemd-analyze here");
    assert_eq!(lacking.verdict(&[]), (true, format!("tests/run: all that could run passed; {skipped}")));
    let chosen = lacking.verdict(&["reorg"]);
    assert_eq!(chosen, (true, format!("tests/run: the chosen tests passed; {skipped}")));
    // Of this run alone.
    let mended = Run { skips: false, ..lacking };
    assert_eq!(mended.verdict(&[]), (true, format!("tests/run: all that could run passed; {advisories}")));
}

#[test]
fn what_fails_is_named() {
    let unfit = Run { fail: "check --hide-inclusion-graph advisories", ..Run::new().database() };
    let part = "tests/run: FAILED in: licences, bans, sources, advisories";
    assert_eq!(unfit.verdict(&[]), (false, part.to_owned()));
    let failing = Run { fail: "--test-threads", ..Run::new() };
    assert_eq!(failing.verdict(&["reorg"]), (false, "tests/run: FAILED in: tests".to_owned()));
}
