//! What shells complete, held to `--help` and, for bash, to a bash. Installs nothing.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use super::{ROOT, help, read, run, words};

const BASH: &str = "packaging/completions/tesseract-exporter.bash";

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
    assert!(run(Command::new("bash").args(["-n", BASH])).status.success());
}

/// Types into a bash on a terminal of its own, where the program is a function that shows its arguments.
#[test]
fn bash_completes_flags_and_paths() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("directory")).unwrap();
    for file in ["directory/exporter.yml", "with space.yml"] {
        fs::write(directory.path().join(file), "").unwrap();
    }
    let shown = |typed: &str| {
        let mut bash = Command::new("script");
        bash.args(["-qec", "bash --norc --noprofile -i", "/dev/null"]).current_dir(directory.path());
        bash.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("TERM", "dumb");
        let mut bash = bash.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let program = r#"tesseract-exporter() { printf '<%s>' "$@"; echo; }"#;
        let line = format!("source {ROOT}/{BASH}\n{program}\ntesseract-exporter {typed}\nexit\n");
        bash.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
        let output = bash.wait_with_output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let line = printed.lines().find(|line| line.starts_with('<')).map(|line| line.trim_end().to_owned());
        line.unwrap_or_else(|| panic!("{typed:?}: {printed}"))
    };
    for (typed, expected) in [
        ("--log.le\tdeb\t", "<--log.level=debug>"),
        ("--config.ch\thea\t", "<--config.check><health>"),
        // One directory, then a file in it.
        ("--config.file=dir\tex\t--config.ch\t", "<--config.file=directory/exporter.yml><--config.check>"),
        ("--config.file dir\tex\t", "<--config.file><directory/exporter.yml>"),
        ("--web.config.file=wi\t", "<--web.config.file=with space.yml>"),
    ] {
        assert_eq!(shown(typed), expected, "{typed:?}");
    }
}
