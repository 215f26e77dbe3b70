//! Puts the runbooks into the binary, and what it was built from and with.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rustc-env=TESSERACT_REVISION={}", revision().as_deref().unwrap_or("unknown"));
    println!("cargo::rustc-env=TESSERACT_RUSTC={}", rustc().as_deref().unwrap_or("unknown"));
    let out = PathBuf::from(env::var("OUT_DIR").map_err(io::Error::other)?);
    runbooks(&out.join("runbooks.rs"))
}

/// Writes a table of every `alerting/runbooks/<alert>.md`: its name and its Markdown. Without the
/// directory, as in an incomplete copy of the sources, nothing is built: links would lead nowhere.
fn runbooks(table: &Path) -> io::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../alerting/runbooks");
    println!("cargo::rerun-if-changed={}", directory.display());

    let mut pages = Vec::new();
    for entry in fs::read_dir(&directory)? {
        let page = entry?.path();
        if page.extension().is_some_and(|extension| extension == "md") {
            pages.push(page);
        }
    }
    pages.sort();

    let mut code = String::from("[\n");
    for page in &pages {
        let name = page.file_stem().unwrap_or_default().to_string_lossy();
        writeln!(code, "    ({name:?}, include_str!({:?})),", fs::canonicalize(page)?)
            .map_err(io::Error::other)?;
    }
    code.push_str("]\n");
    fs::write(table, code)
}

/// The commit: from the variable where it is set, as in a container build without the repository.
fn revision() -> Option<String> {
    println!("cargo::rerun-if-env-changed=TESSERACT_REVISION");
    if let Some(revision) = env::var("TESSERACT_REVISION").ok().filter(|it| !it.is_empty()) {
        return Some(revision);
    }
    // The log of HEAD grows with every commit and checkout. A file that does not exist would mean a
    // build every time.
    let head = output("git", &["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&head).exists() {
        println!("cargo::rerun-if-changed={head}");
    }
    output("git", &["rev-parse", "--short=12", "HEAD"])
}

/// The compiler's version, out of `rustc 1.95.0 (59807616e 2026-04-14)`.
fn rustc() -> Option<String> {
    let version = output(&env::var("RUSTC").ok()?, &["--version"])?;
    version.split(' ').nth(1).map(str::to_owned)
}

fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok().filter(|it| it.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
}
