//! What docs/configuration.md says beyond its lists of names: durations, the defaults of variables, examples. The lists
//! themselves are compared in `references`. Asks the program as a user does.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use tesseract_exporter::config::VARIABLES;
use tesseract_tests::process::{Finished, Launch};

const PAGE: &str = include_str!("../../docs/configuration.md");

const CONTRACT: &str = "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed";

/// A network with one more key.
async fn with(key: &str, value: &str) -> Finished {
    let network = format!("name: a, rpc_urls: ['http://127.0.0.1:1'], contract: '{CONTRACT}'");
    let config = format!("networks: [{{{network}, {key}: {value}}}]");
    Launch::config(&config).arg("--config.check").run().await
}

#[tokio::test]
async fn durations_have_the_units_and_bounds_of_the_page() {
    let paragraph =
        PAGE.split("\n\n").find(|text| text.starts_with("A duration")).expect("it says what one is");
    let unfit = with("poll_interval", "1").await.stderr;
    let units = unfit.split("one unit (").nth(1).unwrap().split(')').next().unwrap();
    for unit in units.split(", ") {
        assert!(paragraph.contains(&format!("`{unit}`")), "{unit}: {paragraph}");
    }
    for key in ["poll_interval", "request_timeout"] {
        for value in ["9ms", "2h"] {
            let said = with(key, value).await.stderr;
            let (shortest, longest) =
                said.trim().split_once("expected ").unwrap().1.split_once(" to ").unwrap();
            assert!(paragraph.contains(&format!("`{shortest}` at least")), "{shortest}: {paragraph}");
            assert!(
                paragraph.contains(&format!("`{key}` `{longest}` at most")),
                "{key}: {longest}: {paragraph}"
            );
            for bound in [shortest, longest] {
                assert!(with(key, bound).await.status.success(), "{key}: {bound}");
            }
        }
    }
}

/// The program's, the page's and those of `--help`. What has none in the program is called as the key of the file is.
#[tokio::test]
async fn variables_have_the_defaults_of_the_page() {
    let bare =
        Launch::bare().env("TESSERACT_RPC_URL", "http://127.0.0.1:1").env("TESSERACT_CONTRACT", CONTRACT);
    let described = bare.arg("--config.check").run().await.stdout;
    let described: BTreeMap<_, _> =
        described.lines().filter_map(|line| line.trim_start_matches([' ', '-']).split_once(": ")).collect();
    let row = |name: &str| -> Vec<&str> {
        let start = format!("| `{name}` | ");
        let row = PAGE.lines().find_map(|line| line.strip_prefix(&start));
        row.unwrap_or_else(|| panic!("{name} has no row")).trim_end_matches(" |").split(" | ").collect()
    };
    for (name, what) in VARIABLES {
        let [default, meaning] = row(name)[..] else { panic!("{name}") };
        let key = meaning.split('`').nth(1).unwrap();
        if let Some(value) = described.get(key).filter(|_| default != "required") {
            assert_eq!(default, format!("`{value}`"), "{name}");
            assert!(what.ends_with(&format!("[default: {value}]")), "{name}: {what}");
        } else {
            assert_eq!(default, row(key)[0], "{name}");
        }
    }
}

#[tokio::test]
async fn every_example_is_accepted() {
    let mut kinds = [0, 0];
    for block in PAGE.split("\n```").skip(1).step_by(2) {
        let (kind, text) = block.split_once('\n').unwrap();
        let launch = match kind {
            "yaml" => Launch::config(text).file("rpc_url", "https://rpc.example/v2/key"),
            "sh" => text
                .lines()
                .filter_map(|line| line.split_once('='))
                .fold(Launch::bare(), |launch, (name, value)| launch.env(name, value)),
            _ => panic!("{kind}"),
        };
        kinds[usize::from(kind == "sh")] += 1;
        let launch = launch.env("SEPOLIA_RPC_URL", "https://rpc.example/v2/key").env("BACKUP_TOKEN", "token");
        let checked = launch.arg("--config.check").run().await;
        assert!(checked.status.success(), "{block}: {checked:?}");
    }
    assert_eq!(kinds, [3, 1], "examples of the file and of variables");
}
