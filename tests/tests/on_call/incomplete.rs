//! Alerting tells what it lacks itself, each time and when it is over: one of the two files of rules, or, as
//! `stack.alerts.yml` has it, a server of the stack that fails.
//!
//! The figures of failing servers are scripted; the servers that tell of them are real and well.

use tesseract_tests::scripted::{Scripted, Value};

use crate::rig::{Rig, SLOWER, seconds, titles};

/// Both files of rules.
const BOTH: &str = "\"tesseract.*.yml\"";

/// What is loaded without the other one, and what it then says.
const ALONE: [(&str, &str); 2] = [
    ("\"tesseract.alerts.yml\"", "there is no threshold"),
    ("\"tesseract.rules.yml\"", "tesseract.alerts.yml is not loaded"),
];

/// The alerts of `stack.alerts.yml` that read a counter, and the series, but for the value of its label.
const FAILURES: [(&str, &str); 3] = [
    ("AlertmanagerFailedToSendAlerts", "alertmanager_notifications_failed_total{integration="),
    ("PrometheusErrorSendingAlerts", "prometheus_notifications_errors_total{alertmanager="),
    ("PrometheusRuleFailures", "prometheus_rule_evaluation_failures_total{rule_group="),
];
/// The one that does not.
const DOWN: &str = "AlertmanagerDown";

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_rules_without_the_other_is_told_each_time() {
    let alert = "TesseractRulesIncomplete";
    let rig = Rig::with(1, SLOWER, &[]).await;
    rig.watch(&["a"]).await;
    for (one, _) in ALONE {
        // A near miss: within the two minutes it is loaded again.
        rig.stack.reconfigure(BOTH, one).unwrap();
        rig.until_query(&format!("count(ALERTS{{alertname=\"{alert}\", alertstate=\"pending\"}})")).await;
        rig.stack.reconfigure(one, BOTH).unwrap();
        rig.until_query(&format!("absent(ALERTS{{alertname=\"{alert}\"}})")).await;
    }
    for (number, (one, says)) in (1..).zip(ALONE) {
        rig.stack.reconfigure(BOTH, one).unwrap();
        rig.told(says).await;
        rig.stack.reconfigure(one, BOTH).unwrap();
        let over = || async {
            titles(&rig, alert).iter().filter(|it| it.starts_with("[RESOLVED")).count() == number
        };
        rig.until(&format!("{alert} is called off"), over).await;
    }
    rig.told_at(alert, "Load tesseract.rules.yml", "critical").await;
    // The first file misses eleven thresholds at once, in one message.
    assert_eq!(titles(&rig, alert), ["[CRITICAL", "[RESOLVED", "[CRITICAL]", "[RESOLVED]"]);
}

/// A message tells of every series of its alert, so that one more would be in the titles: the near misses are silent.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_the_stack_that_fails_is_told_each_time() {
    let rig = Rig::with(1, SLOWER, &[]).await;
    let start = || async { Scripted::start(SLOWER).await.unwrap() };
    let (server, down) = (start().await, start().await);
    let set =
        |what: &str, value: Value| server.set(FAILURES.map(|(_, of)| (format!("{of}\"{what}\"}}"), value)));
    set("bad", Value::Is(0.0));
    set("near", Value::Is(0.0));
    scrape(&rig, "prometheus", &rig.stack.prometheus_url(), &[&server]);
    scrape(&rig, "alertmanager", &rig.stack.alertmanager_url(), &[&server, &down]);
    rig.until_query("count(up{job=\"alertmanager\"} == 1) == bool 2").await;
    for (_, of) in FAILURES {
        // By both jobs.
        rig.until_query(&format!("count({of}\"near\"}} == 0) == bool 2")).await;
    }

    // Near misses: one failure that is made good. Less than a minute away is for the rules' unit tests, as at this speed
    // that minute would be the machine's.
    set("near", Value::By(1.0));

    let mut wanted = Vec::new();
    for (fails, title) in [(true, "[CRITICAL]"), (false, "[RESOLVED]"), (true, "[CRITICAL]")] {
        set("bad", if fails { Value::Every(seconds(60)) } else { Value::Frozen });
        down.down(fails);
        wanted.push(title);
        for alert in FAILURES.map(|(alert, _)| alert).into_iter().chain([DOWN]) {
            rig.until(&format!("{alert}: {wanted:?}"), || async { titles(&rig, alert) == wanted }).await;
        }
    }
    for (alert, _) in FAILURES {
        rig.told_at(alert, "bad", "critical").await;
    }
    rig.told_at(DOWN, &down.address().to_string(), "critical").await;
}

/// Has Prometheus scrape these for a job of the stack, in place of the server itself.
fn scrape(rig: &Rig, job: &str, url: &str, stand_ins: &[&Scripted]) {
    let targets = |of: &str| format!("job_name: {job}\n    static_configs: [{{targets: [{of}]}}]");
    let real = format!("\"{}\"", url.trim_start_matches("http://"));
    let scripted: Vec<_> = stand_ins.iter().map(|it| format!("\"{}\"", it.address())).collect();
    rig.stack.reconfigure(&targets(&real), &targets(&scripted.join(", "))).unwrap();
}
