//! Where the exporter's program is, built first if need be.
//!
//! Never takes one that lies elsewhere: what is tested is what these sources say.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The exporter's binary, built on first use next to the program that asks, with the same profile.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let exe = std::env::current_exe().expect("the path of this program");
        // target/<profile>/demo, or target/<profile>/deps/<test>-<hash>
        let dir = exe.parent().expect("a program lies in a directory");
        let dir = if dir.ends_with("deps") { dir.parent().expect("deps has a parent") } else { dir };
        let profile = match dir.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // The cargo that runs this program told it of its package; build scripts of dependencies would take
        // that for a change, and compile them again each time.
        let inherited = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        for name in inherited.filter(|n| n.starts_with("CARGO_PKG_") || n.starts_with("CARGO_MANIFEST_")) {
            cargo.env_remove(name);
        }
        // All members at once: cargo then picks the same features, and compiles no dependency twice.
        let status = cargo
            .args(["build", "--quiet", "--locked", "--workspace", "--bin", "tesseract-exporter"])
            .args(["--profile", profile])
            .arg("--target-dir")
            .arg(dir.parent().expect("a profile lies in the target directory"))
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .status()
            .expect("run cargo");
        assert!(status.success(), "cargo build of the exporter: {status}");
        dir.join(format!("tesseract-exporter{}", std::env::consts::EXE_SUFFIX))
    })
}
