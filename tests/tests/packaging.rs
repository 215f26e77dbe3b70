//! What is shipped beside the binary, held to the program and the sources it speaks of. Builds no package and installs
//! nothing.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};

use serde_json::Value;
use tesseract_tests::process::{Launch, binary};

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
    assert!(page.contains(&format!("tesseract-exporter {}", env!("CARGO_PKG_VERSION"))));
}

#[tokio::test]
async fn shells_complete_the_flags_of_help() {
    let help = help(&["--help"]).await + &help(&["health", "--help"]).await;
    for file in ["tesseract-exporter.bash", "_tesseract-exporter", "tesseract-exporter.fish"] {
        let text = read(&format!("packaging/completions/{file}")).replace(" -l ", " --");
        assert_eq!(words(&text, "--"), words(&help, "--"), "{file}");
        for value in ["error", "warn", "info", "debug", "trace", "json", "text", "health"] {
            assert!(text.contains(value), "{file}: {value}");
        }
    }
    let bash = "packaging/completions/tesseract-exporter.bash";
    assert!(run(Command::new("bash").args(["-n", bash])).status.success());
    let line = "COMP_WORDS=(tesseract-exporter --log.l) COMP_CWORD=1; compopt() { :; }; _tesseract_exporter; echo $COMPREPLY";
    let completed = run(Command::new("bash").args(["-c", &format!("source {bash}; {line}")]));
    assert_eq!(String::from_utf8_lossy(&completed.stdout), "--log.level=\n", "{completed:?}");
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
        eprintln!("skipped: no systemd-analyze here");
        return;
    }
    let unit = read("packaging/tesseract-exporter.service");
    assert!(unit.contains("\nLimitCORE=0\n"));
    // Where the program is before it is installed.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("tesseract-exporter.service");
    fs::write(&path, unit.replace("/usr/bin/tesseract-exporter", binary().to_str().unwrap())).unwrap();
    for arguments in [&["verify", "--man=no"][..], &["security", "--offline=true", MOST_EXPOSED]] {
        let output = run(Command::new("systemd-analyze").args(arguments).arg(&path));
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(!complaints.contains("tesseract-exporter.service:"), "{complaints}");
    }
}

#[test]
fn what_the_debian_package_takes_exists() {
    let output =
        run(Command::new(env!("CARGO")).args(["metadata", "--no-deps", "--offline", "--format-version=1"]));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let exporter = packages.iter().find(|it| it["name"] == "tesseract-exporter").unwrap();
    let deb = &exporter["metadata"]["deb"];
    let mut sources: Vec<&str> =
        deb["assets"].as_array().unwrap().iter().map(|asset| asset[0].as_str().unwrap()).collect();
    sources.extend(
        [&deb["license-file"][0], &deb["changelog"], &deb["maintainer-scripts"]]
            .map(|it| it.as_str().unwrap()),
    );
    // Made by cargo.
    sources.retain(|source| !source.starts_with("target/"));
    for source in &sources {
        let path = format!("{ROOT}/exporter/{}", source.split('*').next().unwrap());
        assert!(fs::exists(&path).unwrap(), "{source}");
    }
    assert!(sources.len() > 10, "{sources:?}");
}

/// The other steps take minutes, and are run by hand: see the script.
#[test]
fn a_release_is_of_one_version() {
    let check = |tag: &str| run(Command::new("packaging/release").args([tag, "check"]));
    let own = check(concat!("v", env!("CARGO_PKG_VERSION")));
    assert!(own.status.success(), "{own:?}");
    for (tag, why) in
        [("v99.0.0", "Cargo.toml is not of version 99.0.0"), ("0.1.0", "0.1.0 is no tag of a version")]
    {
        let refused = check(tag);
        assert!(!refused.status.success(), "{tag}");
        assert!(String::from_utf8_lossy(&refused.stderr).contains(why), "{refused:?}");
    }
    let workflow: serde_yaml::Value = serde_yaml::from_str(&read(".github/workflows/release.yml")).unwrap();
    let steps = workflow["jobs"]["release"]["steps"].as_sequence().unwrap();
    assert!(steps.iter().any(|step| step["run"] == "packaging/release \"$GITHUB_REF_NAME\""), "{steps:?}");
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
