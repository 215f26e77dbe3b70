//! The Debian package.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tesseract_tests::skip::skipped;

use super::release::{every_link_leads_somewhere, is_the_program};
use super::{ROOT, must, read, run};

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

pub(crate) fn is_a_debian_package(package: &Path, root: &Path) {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        skipped("the Debian package", "no dpkg-deb here");
        return;
    }
    let field = |name| must(Command::new("dpkg-deb").arg("--field").arg(package).arg(name));
    assert_eq!(field("Package"), "tesseract-exporter\n");
    assert_eq!(field("Version"), concat!(env!("CARGO_PKG_VERSION"), "-1\n"));
    assert!(field("Depends").contains("libc6 (>="), "{}", field("Depends"));
    let conffiles = must(Command::new("dpkg-deb").arg("--info").arg(package).arg("conffiles"));
    assert_eq!(conffiles, "/etc/default/tesseract-exporter\n/etc/tesseract-exporter/exporter.yml.example\n");

    must(Command::new("dpkg-deb").arg("--extract").arg(package).arg(root));
    is_the_program(&root.join("usr/bin/tesseract-exporter"));
    for (installed, source) in [
        ("usr/lib/systemd/system/tesseract-exporter.service", "packaging/tesseract-exporter.service"),
        ("etc/default/tesseract-exporter", "packaging/tesseract-exporter.default"),
        ("etc/tesseract-exporter/exporter.yml.example", "exporter.example.yml"),
        (
            "usr/share/bash-completion/completions/tesseract-exporter",
            "packaging/completions/tesseract-exporter.bash",
        ),
        ("usr/share/zsh/vendor-completions/_tesseract-exporter", "packaging/completions/_tesseract-exporter"),
        ("usr/share/tesseract-exporter/rules/tesseract.alerts.yml", "rules/tesseract.alerts.yml"),
        ("usr/share/tesseract-exporter/alerting/alertmanager.yml", "alerting/alertmanager.yml"),
        (
            "usr/share/tesseract-exporter/alerting/templates/tesseract.tmpl",
            "alerting/templates/tesseract.tmpl",
        ),
    ] {
        assert!(fs::read_to_string(root.join(installed)).unwrap() == read(source), "{installed}");
    }
    every_link_leads_somewhere(&root.join("usr/share/doc/tesseract-exporter"));
    let copyright = fs::read_to_string(root.join("usr/share/doc/tesseract-exporter/copyright")).unwrap();
    let holder = "Copyright: 2026 The tesseract-exporter authors\nLicense: Apache-2.0\n";
    assert!(copyright.ends_with(&format!("{holder}{}", read("packaging/copyright"))), "{copyright}");
    // It may hold secrets.
    let mode = fs::metadata(root.join("etc/default/tesseract-exporter")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let page =
        must(Command::new("gunzip").arg("-c").arg(root.join("usr/share/man/man1/tesseract-exporter.1.gz")));
    assert_eq!(page, read("packaging/tesseract-exporter.1"));
}

/// By `dpkg` with all that it runs, on a layer above the machine's files that ends with the test.
pub(crate) fn can_be_installed_started_and_purged(package: &Path, layer: &Path) {
    let what = "the installed package";
    if !rustix::process::geteuid().is_root() {
        return skipped(what, "only root can install it on a layer of its own");
    }
    fs::create_dir(layer).unwrap();
    let script = format!("{ROOT}/tests/tests/packaging/install.sh");
    let unshare = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"];
    let output = Command::new("timeout")
        .args(["120", "unshare"])
        .args(unshare)
        .arg(script)
        .arg(layer)
        .arg(package)
        .output();
    let output = output.unwrap();
    let (said, why) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    // Before the first step, it is the layer that cannot be had.
    if !said.contains("== install") {
        return skipped(what, why.lines().last().unwrap_or("no layer above the machine's files"));
    }
    assert!(output.status.success(), "{}: {said}{why}", output.status);
    for shown in ["  - name: sepolia", "\"listening\"", "/-/healthy: 200 OK", "== purge"] {
        assert!(said.contains(shown), "{shown}: {said}{why}");
    }
}
