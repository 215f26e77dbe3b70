//! Puts the runbooks into the binary.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
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
