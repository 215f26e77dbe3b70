//! What the environment switches on: every combination, no secret where others see it, clear mistakes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use tesseract_tests::stand_in::{Service, StandIn};

use crate::alert;
use crate::server::{
    Alertmanager, PATIENCE, SWITCHES, alerting, entrypoint, program, receivers, shipped_alerts,
};

#[test]
fn the_plain_file_is_complete() {
    let output = Command::new(program("amtool"))
        .arg("check-config")
        .arg(alerting().join("alertmanager.yml"))
        .output()
        .unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{report}{}", String::from_utf8_lossy(&output.stderr));
    assert!(report.contains("8 receivers") && report.contains("1 templates"), "{report}");
}

#[test]
fn every_alert_has_its_receivers() {
    let config = alerting().join("alertmanager.yml");
    for (name, severity, kind) in shipped_alerts() {
        let expected = match (severity.as_str(), kind.as_str()) {
            ("critical", "event") => "webhook-events,slack-events,pagerduty-events",
            ("warning", "event") => "webhook-events,slack-events",
            ("critical", "contract" | "monitor") => "webhook,slack,pagerduty",
            ("warning", "contract" | "monitor") => "webhook,slack",
            ("none", "monitor") => "heartbeat",
            other => panic!("{name}: {other:?}"),
        };
        let labels = [("alertname", &*name), ("severity", &*severity), ("kind", &*kind)];
        assert_eq!(receivers(&config, &labels), expected, "{name}");
    }
}

#[test]
fn every_combination_of_switches_is_a_valid_configuration() {
    for combination in 0_u8..16 {
        let on = |index: usize| combination & (1 << index) != 0;
        let env: Vec<_> = SWITCHES
            .iter()
            .enumerate()
            .filter(|(index, _)| on(*index))
            .map(|(_, name)| (*name, SECRET))
            .collect();
        let dir = TempDir::new().unwrap();
        let output = entrypoint(dir.path(), Path::new("true"), &env).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{env:?}: {said}");
        assert!(!said.contains("hush"), "a secret in the log: {said}");

        let config = dir.path().join("run/alertmanager.yml");
        let checked = Command::new(program("amtool")).arg("check-config").arg(&config).output().unwrap();
        assert!(checked.status.success(), "{env:?}: {}", String::from_utf8_lossy(&checked.stdout));
        let expected = |wanted: &[(usize, &str)]| {
            let found: Vec<_> =
                wanted.iter().filter(|(index, _)| on(*index)).map(|(_, name)| *name).collect();
            if found.is_empty() { "nobody".to_owned() } else { found.join(",") }
        };
        let routed = |severity| receivers(&config, &[("alertname", "X"), ("severity", severity)]);
        assert_eq!(
            routed("critical"),
            expected(&[(2, "webhook"), (0, "slack"), (1, "pagerduty")]),
            "{env:?}"
        );
        assert_eq!(routed("warning"), expected(&[(2, "webhook"), (0, "slack")]), "{env:?}");
        assert_eq!(receivers(&config, &[("alertname", "TesseractWatchdog")]), "heartbeat", "{env:?}");

        for file in fs::read_dir(dir.path().join("run")).unwrap() {
            let file = file.unwrap();
            assert_eq!(
                file.metadata().unwrap().permissions().mode() & 0o077,
                0,
                "{:?} is open to others",
                file.path()
            );
        }
    }
}

#[test]
fn an_empty_variable_is_one_that_is_not_set() {
    let dir = TempDir::new().unwrap();
    let env = SWITCHES.map(|name| (name, ""));
    assert!(entrypoint(dir.path(), Path::new("true"), &env).status().unwrap().success());
    assert!(!dir.path().join("run/slack_webhook_url").exists());
    let config = dir.path().join("run/alertmanager.yml");
    assert_eq!(receivers(&config, &[("alertname", "X"), ("severity", "critical")]), "nobody");
}

#[test]
fn a_secret_may_come_as_a_file() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("secret");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    let names = SWITCHES.map(|name| format!("{name}_FILE"));
    let env: Vec<_> = names.iter().map(|name| (&**name, file.to_str().unwrap())).collect();
    let output = entrypoint(dir.path(), Path::new("true"), &env).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let config = dir.path().join("run/alertmanager.yml");
    let labels = [("alertname", "X"), ("severity", "critical")];
    assert_eq!(receivers(&config, &labels), "webhook,slack,pagerduty");
    assert_eq!(fs::read_to_string(dir.path().join("run/slack_webhook_url")).unwrap(), SECRET);

    let missing = entrypoint(dir.path(), Path::new("true"), &[("PAGERDUTY_KEY_FILE", "/nowhere")]).output();
    let missing = missing.unwrap();
    assert_eq!(missing.status.code(), Some(1));
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    // Who has to be able to: in the stack a file of root's alone is not for Alertmanager's user.
    let uid = rustix::process::geteuid().as_raw();
    let expected = format!("alertmanager: PAGERDUTY_KEY_FILE cannot be read by uid {uid}\n");
    assert!(said.ends_with(&expected), "{said}");
}

#[test]
fn a_receiver_that_was_on_leaves_no_secret_behind() {
    let dir = TempDir::new().unwrap();
    let env = SWITCHES.map(|name| (name, SECRET));
    assert!(entrypoint(dir.path(), Path::new("true"), &env).status().unwrap().success());
    assert!(entrypoint(dir.path(), Path::new("true"), &[]).status().unwrap().success());
    for file in fs::read_dir(dir.path().join("run")).unwrap() {
        let path = file.unwrap().path();
        assert!(!fs::read_to_string(&path).unwrap().contains("hush"), "{}", path.display());
    }
}

#[test]
fn a_mistake_is_one_clear_line_without_the_secret() {
    for name in ["SLACK_WEBHOOK_URL", "ALERT_WEBHOOK_URL", "HEARTBEAT_URL", "PAGERDUTY_URL"] {
        let dir = TempDir::new().unwrap();
        let output =
            entrypoint(dir.path(), Path::new("true"), &[(name, "hooks.example/hush")]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said, format!("alertmanager: {name} does not begin with http:// or https://\n"));
    }
}

#[tokio::test]
async fn no_secret_shows_in_the_process_list_the_environment_or_the_log() {
    let env = SWITCHES.map(|name| (name, SECRET));
    let alertmanager = Alertmanager::start(&env).await;
    for file in ["cmdline", "environ"] {
        let seen = fs::read(format!("/proc/{}/{file}", alertmanager.pid())).unwrap();
        let seen = String::from_utf8_lossy(&seen);
        assert!(!seen.contains("hush"), "{file}: {seen}");
    }
    assert!(!alertmanager.log().contains("hush"), "{}", alertmanager.log());
}

#[tokio::test]
async fn with_nothing_switched_on_nothing_fails() {
    let alertmanager = Alertmanager::start(&[]).await;
    alertmanager
        .post(&[alert("TesseractContractPaused", "a", "critical"), alert("TesseractWatchdog", "", "none")])
        .await;
    alertmanager
        .wait_for("both are active", async || {
            alertmanager.states().await.iter().filter(|(_, state)| state == "active").count() == 2
        })
        .await;
    assert!(alertmanager.counter("alertmanager_notifications_failed_total").await.abs() < 0.5);
    assert!(!alertmanager.log().contains("level=error"), "{}", alertmanager.log());
}

#[tokio::test]
async fn the_watchdog_reaches_the_heartbeat_again_and_again_and_nobody_else() {
    let stand_in = StandIn::start().await.unwrap();
    let (heartbeat, slack) = (stand_in.url(Service::Heartbeat), stand_in.url(Service::Slack));
    let webhook = stand_in.url(Service::Webhook);
    let alertmanager = Alertmanager::start(&[
        ("HEARTBEAT_URL", &heartbeat),
        ("SLACK_WEBHOOK_URL", &slack),
        ("ALERT_WEBHOOK_URL", &webhook),
    ])
    .await;
    alertmanager.post(&[alert("TesseractWatchdog", "", "none")]).await;
    alertmanager
        .wait_for("a second beat", async || stand_in.messages_for(Service::Heartbeat).len() > 1)
        .await;
    // Posted later, so whatever the watchdog would have caused elsewhere has had its time.
    alertmanager.post(&[alert("TesseractReorg", "a", "warning")]).await;
    stand_in.wait_for("the reorganisation", PATIENCE, |it| it.service == Service::Slack).await;
    let others = stand_in.messages().into_iter().filter(|it| it.service != Service::Heartbeat);
    assert!(others.clone().count() > 0);
    for message in others {
        assert!(!message.text().contains("Watchdog"), "{}", message.body);
    }
}

/// With a quote, which YAML must not trip over.
const SECRET: &str = "https://hooks.example/hush'hush?a=1&b=\"2\"";
