//! The last line of `tests/run` says no more than is true. The script is the real one, in a directory where `cargo`, the
//! set-up and the contracts' compiler are stand-ins, and so is a test that leaves something out.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tempfile::TempDir;

/// Leaves out what `SKIPS` says, twice, as two tests that lack the same would; fails at what `FAIL` names.
const CARGO: &str = r#"#!/bin/bash
case "$*" in
*"$FAIL"*) exit 1 ;;
*nextest*--no-run*) ;;
*nextest*) [[ -z $SKIPS ]] || printf '%s\n' "$SKIPS" "$SKIPS" >>"$SKIPPED" ;;
esac
"#;

struct Run {
    root: TempDir,
    skips: &'static str,
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
        Self { root, skips: "", fail: "nothing" }
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
        command.env("SKIPS", self.skips);
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
    let lacking = Run { skips: "the unit: no systemd-analyze here", ..Run::new() };
    let advisories = format!(
        "skipped: advisories: no database at {}/advisory-dbs/advisory-db-3157b0e258782691",
        lacking.at("home")
    );
    let skipped = format!("{advisories}; the unit: no systemd-analyze here");
    assert_eq!(lacking.verdict(&[]), (true, format!("tests/run: all that could run passed; {skipped}")));
    let chosen = lacking.verdict(&["reorg"]);
    assert_eq!(chosen, (true, format!("tests/run: the chosen tests passed; {skipped}")));
    // Of this run alone.
    let mended = Run { skips: "", ..lacking };
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
