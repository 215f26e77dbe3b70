//! What each test runs: scripted exporters, Prometheus and Alertmanager at speed, and the people as stand-ins.

use std::time::Duration;

use tesseract_tests::scripted::healthy::{healthy, series};
use tesseract_tests::scripted::{Scripted, Value};
use tesseract_tests::stack::{Settings, Stack};
use tesseract_tests::stand_in::{Message, Service, StandIn};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::{interval, timeout};

/// A minute of what is shipped is a second here.
pub(crate) const SPEED: u64 = 60;

/// A third of that, where Prometheus has more to do, or where a short time must not be missed.
pub(crate) const SLOWER: u64 = 20;

/// For anything that is to come; by the clock.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// So many minutes, as the stack counts them.
pub(crate) const fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}

/// So many seconds, as the stack counts them.
pub(crate) const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Everything from the exporters to the people.
pub(crate) struct Rig {
    pub(crate) exporters: Vec<Scripted>,
    pub(crate) stack: Stack,
    pub(crate) people: StandIn,
    speed: u64,
    /// Held until the end, so that no other one runs beside one that has much to do.
    _turn: Turn,
}

/// A test with many networks, which is also less fast, has the machine to itself.
static MACHINE: RwLock<()> = RwLock::const_new(());

enum Turn {
    Shared(#[expect(dead_code, reason = "held, not read")] RwLockReadGuard<'static, ()>),
    Alone(#[expect(dead_code, reason = "held, not read")] RwLockWriteGuard<'static, ()>),
}

impl Rig {
    /// With so many exporters, which are up and expose no network yet, and every receiver on.
    pub(crate) async fn start(exporters: usize) -> Self {
        Self::with(exporters, SPEED, &[]).await
    }

    /// With other texts in place of some of `prometheus.yml` or `alertmanager.yml`, at another speed.
    pub(crate) async fn with(exporters: usize, speed: u64, replace: &[(&'static str, &'static str)]) -> Self {
        let turn = if speed < SPEED {
            Turn::Alone(MACHINE.write().await)
        } else {
            Turn::Shared(MACHINE.read().await)
        };
        let people = StandIn::start().await.unwrap();
        let mut running = Vec::new();
        for _ in 0..exporters {
            let exporter = Scripted::start(speed).await.unwrap();
            exporter.set([
                ("tesseract_exporter_config_last_reload_successful", Value::Is(1.0)),
                ("process_start_time_seconds", Value::Is(1_700_000_000.0)),
            ]);
            running.push(exporter);
        }
        let on = [
            ("SLACK_WEBHOOK_URL", people.url(Service::Slack)),
            ("PAGERDUTY_KEY", "0123456789abcdef0123456789abcdef".to_owned()),
            ("PAGERDUTY_URL", people.url(Service::PagerDuty)),
            ("ALERT_WEBHOOK_URL", people.url(Service::Webhook)),
            ("HEARTBEAT_URL", people.url(Service::Heartbeat)),
            ("EXPORTER_URL", "http://exporter.example".to_owned()),
            ("GRAFANA_URL", "http://grafana.example".to_owned()),
        ];
        let settings = Settings {
            exporters: running.iter().map(Scripted::address).collect(),
            environment: on.map(|(name, value)| (name.to_owned(), value)).into(),
            replace: replace.to_vec(),
            speed: Some(speed),
            ..Settings::default()
        };
        let stack = Stack::start(&settings).await.unwrap();
        let rig = Self { exporters: running, stack, people, speed, _turn: turn };
        rig.settle(exporters).await;
        rig
    }

    /// Prometheus takes up to 5 s, at any speed, until it scrapes for the first time. Waits for that, until the absence
    /// that it took for one is called off, and forgets what people were told of it.
    async fn settle(&self, exporters: usize) {
        self.until_query(&format!("count(up{{job=\"tesseract\"}} == 1) == bool {exporters}")).await;
        let absent = "count(last_over_time(ALERTS{alertname=\"TesseractExporterDown\"}[1h]))";
        if self.holds(absent).await {
            self.pass(minutes(1)).await;
            self.until("the absence is called off", || async {
                let told = |service| {
                    let messages = self.people.messages_for(service).into_iter();
                    messages.filter(|it| it.text().contains("TesseractExporterDown")).count()
                };
                // Told and called off, or neither.
                [Service::Slack, Service::PagerDuty].into_iter().all(|it| told(it) % 2 == 0)
            })
            .await;
        }
        self.people.forget();
    }

    /// Exposes these networks, all well, at the first exporter, and waits until the rules know each of them.
    pub(crate) async fn watch(&self, networks: &[&str]) {
        for network in networks {
            self.exporters[0].set(healthy(network));
        }
        self.known(networks.len()).await;
    }

    /// Waits until the rules know so many networks: what happens from then on is news.
    pub(crate) async fn known(&self, networks: usize) {
        let known = "count(tesseract:events:announced{of=\"failed\", reason=\"other\"} \
                     and on (network) tesseract:state:known_before{of=\"window\"})";
        self.until("the rules know every network", || async {
            self.stack.query(known).await == Ok(vec![networks as f64])
        })
        .await;
    }

    /// Changes series of a network at the first exporter; a name without `tesseract_` and without the network.
    pub(crate) fn set(&self, network: &str, changes: &[(&str, Value)]) {
        self.exporters[0].set(changes.iter().map(|(name, value)| (series(network, name), *value)));
    }

    /// Waits until a query gives a number above zero.
    pub(crate) async fn until_query(&self, query: &str) {
        self.until(query, || async { self.holds(query).await }).await;
    }

    /// Waits until the stack's time has gone on so far: for what is *not* to come meanwhile.
    pub(crate) async fn pass(&self, time: Duration) {
        let now = self.stack.query("time()").await.unwrap()[0];
        let end = now + time.as_secs_f64() / self.speed as f64;
        self.until_query(&format!("time() > bool {end}")).await;
    }

    /// Whether a query gives a number above zero now.
    pub(crate) async fn holds(&self, query: &str) -> bool {
        self.stack.query(query).await.unwrap().iter().any(|it| *it > 0.0)
    }

    /// Waits until something holds; when it does not, what everybody said is what to look at.
    pub(crate) async fn until<F: Future<Output = bool>>(&self, what: &str, condition: impl Fn() -> F) {
        let mut ticks = interval(Duration::from_millis(50));
        let waiting = async {
            while !condition().await {
                ticks.tick().await;
            }
        };
        if timeout(PATIENCE, waiting).await.is_err() {
            let slack: Vec<_> = self.slack().iter().map(title).collect();
            panic!("{what}: not in time\nSlack: {slack:#?}\n{}", self.stack.logs());
        }
    }

    /// Waits for a message at Slack with this text in it.
    pub(crate) async fn told(&self, text: &str) -> Message {
        let at_slack = |it: &Message| it.service == Service::Slack && it.text().contains(text);
        self.people.wait_for(text, PATIENCE, at_slack).await
    }

    /// Waits until an alert of this severity, about this, has been told wherever it is to be, with a runbook; returns
    /// where that is. A warning wakes nobody.
    pub(crate) async fn told_at(&self, alert: &str, about: &str, severity: &str) -> Vec<&'static str> {
        let parts = [alert, about, "http://exporter.example/runbooks/"];
        let wanted = |it: &Message| parts.iter().all(|part| it.text().contains(part));
        let at = |service: Service| self.people.messages_for(service).iter().any(wanted);
        let mut places = vec![("Slack", Service::Slack), ("webhook", Service::Webhook)];
        if severity == "critical" {
            places.push(("PagerDuty", Service::PagerDuty));
        }
        for (place, service) in &places {
            self.until(&format!("{alert} at {place}"), || async { at(*service) }).await;
        }
        assert!(severity == "critical" || !at(Service::PagerDuty), "{alert}: a {severity} wakes nobody");
        places.into_iter().map(|(place, _)| place).collect()
    }

    /// What Slack has taken, in order.
    pub(crate) fn slack(&self) -> Vec<Message> {
        self.people.messages_for(Service::Slack)
    }

    /// What Slack has taken about an alert.
    pub(crate) fn slack_about(&self, alert: &str) -> Vec<Message> {
        self.slack().into_iter().filter(|it| title(it).contains(alert)).collect()
    }
}

/// What Slack was told of an alert, in order, by the first word of the title: `[CRITICAL]`, `[RESOLVED]` and so on.
pub(crate) fn titles(rig: &Rig, alert: &str) -> Vec<String> {
    let messages = rig.slack_about(alert);
    messages.iter().map(|it| title(it).split(' ').next().unwrap().to_owned()).collect()
}

/// The title of a message at Slack.
pub(crate) fn title(message: &Message) -> String {
    message.body["attachments"][0]["title"].as_str().unwrap_or_default().to_owned()
}
