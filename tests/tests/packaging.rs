//! What is shipped beside the binary, held to the sources it speaks of. Builds nothing and installs nothing.
#![allow(clippy::unwrap_used)]

use std::process::Command;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

#[test]
fn third_party_notices_are_of_this_lock_file() {
    let output = Command::new("packaging/notices").arg("--check").current_dir(ROOT).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
