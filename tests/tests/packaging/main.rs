//! What is shipped beside the binary, held to the program and the sources it speaks of; and a release, packed as a real
//! one is, but of the binary that the tests have. Changes nothing of the machine: what is installed is installed on a
//! layer of the test's own.
#![allow(clippy::unwrap_used)]

mod completions;
mod debian;
mod release;

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};

use tesseract_tests::process::{Launch, binary};
use tesseract_tests::skip::skipped;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// `systemd-analyze security` gives 0 to what can do nothing and 100 to what can do all; it calls up to 20 "OK".
const MOST_EXPOSED: &str = "--threshold=20";

#[test]
fn third_party_notices_are_of_this_lock_file() {
    let output = run(Command::new("packaging/notices").arg("--check"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn the_man_page_says_what_help_says() {
    let (help, health) = (help(&["--help"]).await, help(&["health", "--help"]).await);
    let page = read("packaging/tesseract-exporter.1").replace("\\-", "-");
    let page = page.replace("\\fI", "").replace("\\fR", "");
    assert_eq!(words(&page, "--"), words(&(help.clone() + &health), "--"));
    assert_eq!(words(&page, "TESSERACT_"), words(&help, "TESSERACT_"));
    for text in [&help, &health] {
        for default in text.split("[default: ").skip(1).filter_map(|rest| rest.split(']').next()) {
            // Those in words are said in others.
            let default = default.split(", or ").next().unwrap();
            assert!(page.to_lowercase().contains(&format!("default: {default}")), "{default}");
        }
    }
    let version = env!("CARGO_PKG_VERSION");
    let changes = read("CHANGELOG.md");
    let released = changes.lines().find_map(|line| line.strip_prefix(&format!("## [{version}] - "))).unwrap();
    let title = format!(".TH TESSERACT-EXPORTER 1 \"{released}\" \"tesseract-exporter {version}\"");
    assert!(page.contains(&title), "{title}");
}

#[tokio::test]
async fn the_default_file_names_every_variable() {
    let file = read("packaging/tesseract-exporter.default");
    let mut expected = words(&help(&["--help"]).await, "TESSERACT_");
    // The first lines speak of all of them.
    expected.insert("TESSERACT_".to_owned());
    assert_eq!(words(&file, "TESSERACT_"), expected);
    let unit = read("packaging/tesseract-exporter.service");
    assert!(unit.contains("\nEnvironmentFile=-/etc/default/tesseract-exporter\n"), "{unit}");
    assert!(unit.contains("\nExecStart=/usr/bin/tesseract-exporter $ARGS\n"), "{unit}");
}

#[test]
fn the_unit_is_right_and_can_do_little() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        skipped("the unit", "no systemd-analyze here");
        return;
    }
    let unit = read("packaging/tesseract-exporter.service");
    assert!(unit.contains("\nLimitCORE=0\n"));
    // Where the program is before it is installed.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tesseract-exporter.service");
    // What it only suggests is right too.
    assert!(unit.contains("\n#LoadCredential="));
    let unit = unit.replace("\n#LoadCredential=", "\nLoadCredential=");
    fs::write(&path, unit.replace("/usr/bin/tesseract-exporter", binary().to_str().unwrap())).unwrap();
    for arguments in [&["verify", "--man=no"][..], &["security", "--offline=true", MOST_EXPOSED]] {
        let output = run(Command::new("systemd-analyze").args(arguments).arg(&path));
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(!complaints.contains("tesseract-exporter.service:"), "{complaints}");
    }
}

/// What it printed; it must succeed.
fn must(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The flags or variables in a text: whatever begins like this and goes on in the characters of names.
fn words(text: &str, start: &str) -> BTreeSet<String> {
    let part_of_name = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let names =
        text.match_indices(start).filter(|(at, _)| !text[..*at].ends_with(part_of_name)).map(|(at, _)| {
            let name = text[at..].split(|c| !part_of_name(c)).next().unwrap();
            name.trim_end_matches(['.', '-']).to_owned()
        });
    names.filter(|name| !name.is_empty()).collect()
}

async fn help(arguments: &[&str]) -> String {
    let launch = arguments.iter().fold(Launch::bare(), |launch, argument| launch.arg(*argument));
    let finished = launch.run().await;
    assert!(finished.status.success(), "{finished:?}");
    finished.stdout
}

fn read(path: &str) -> String {
    fs::read_to_string(format!("{ROOT}/{path}")).unwrap()
}

fn run(command: &mut Command) -> Output {
    command.current_dir(ROOT).output().unwrap()
}
