//! From a number to the transaction behind it: what exemplars, failures and expiries name, `/tx/<tx_id>` tells of,
//! with the same values.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use tesseract_tests::process::Exporter;
use tesseract_tests::rig::{Setup, named};
use tesseract_tests::sim::{Params, Sim};

const PATIENCE: Duration = Duration::from_secs(60);

/// The values of a label on lines that begin like this, with what stands behind the labels.
fn labelled<'a>(text: &'a str, start: &str, label: &str) -> BTreeMap<&'a str, &'a str> {
    let start_of_value = format!("{label}=\"");
    let lines = text.lines().filter(|line| line.starts_with(start));
    lines
        .filter_map(|line| {
            let (_, rest) = line.split_once(&start_of_value)?;
            let (value, rest) = rest.split_once('"')?;
            Some((value, rest.rsplit_once("} ")?.1))
        })
        .collect()
}

#[tokio::test]
async fn whatever_names_a_transaction_leads_to_its_life() {
    let sim = Sim::start(Params::default()).await.unwrap();
    sim.advance(300);
    let setup = Setup::new(&[&sim.url()], sim.chain().contract());
    let exporter = Exporter::start(&setup.yaml(None)).await;
    let synced = named("tesseract_synced");
    let series = exporter.wait_for("it is synced", PATIENCE, |now| now.get(&synced) == Some(1.0)).await;
    let pending = series.get(&named("tesseract_transactions_pending")).unwrap();
    assert!(pending > 0.0, "{series}");
    let text = exporter.get_with("/metrics", &[("accept", "application/openmetrics-text")]).await.text();

    let life = async |id: &str| {
        let path = format!("/tx/{id}");
        let told = exporter.get_with(&path, &[("accept", "application/json")]).await;
        assert_eq!(told.status, 200, "{path}: {}", told.text());
        let page = exporter.get(&path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.text().contains(id), "{path}");
        told.json()["networks"][0].clone()
    };
    let took = [
        ("tesseract_resolution_time_seconds_bucket", "resolution_time_seconds"),
        ("tesseract_resolution_delay_seconds_bucket", "resolution_delay_seconds"),
    ];
    for (series, key) in took {
        let exemplars = labelled(&text, series, "tx_id");
        assert!(!exemplars.is_empty(), "{text}");
        for (id, value) in exemplars {
            let seconds: u64 = value.split(' ').next().unwrap().parse().unwrap();
            let life = life(id).await;
            assert_eq!(life[key], seconds, "{life}");
            assert!(
                life["events"].as_array().unwrap().iter().any(|it| it["event"] == "TransactionReady"),
                "{life}"
            );
        }
    }

    let number = |value: &str| value.parse::<f64>().unwrap() as u64;
    let has = |life: &Value, event: &str, at: u64| {
        life["events"].as_array().unwrap().iter().any(|it| it["event"] == event && it["timestamp"] == at)
    };
    for (series, event) in [
        ("tesseract_failed_transaction_timestamp_seconds", "TransactionFailed"),
        ("tesseract_expired_transaction_timestamp_seconds", "TransactionExpired"),
    ] {
        let named = labelled(&text, series, "tx_id");
        assert!(!named.is_empty(), "{text}");
        for (id, at) in named {
            let life = life(id).await;
            assert!(has(&life, event, number(at)), "{event} at {at}: {life}");
        }
    }

    // The page of the network lists the pending ones, and each has its own.
    let page = exporter.get("/networks/cell").await.text();
    let listed: Vec<_> = page.split("../tx/").skip(1).map(|rest| &rest[..66]).collect();
    let mut waiting = 0;
    for id in listed {
        waiting += u64::from(life(id).await["status"] == "pending");
    }
    assert!(waiting >= (pending as u64).min(20), "{waiting} of {pending}: {page}");
}
