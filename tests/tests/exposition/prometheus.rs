//! A real Prometheus scrapes the exporter's server, in both formats, and has every value afterwards.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tesseract_exporter::metrics::{Format, encode};
use tesseract_exporter::web::{Access, Followed, Reload, Site, Source, serve};
use tesseract_tests::http::{Reply, get};
use tesseract_tests::prometheus::Prometheus;
use tesseract_tests::series::Series;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{interval, timeout};

use crate::fixture;

/// A Prometheus starts within a second; a busy machine may take longer.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_stores_what_is_exposed() {
    let (_stop, exporter) = start_exporter().await;
    let text_only = start_text_only(exporter).await;
    let prometheus = Prometheus::start(&config(&[("openmetrics", exporter), ("text", text_only)]), &[]).await;

    for (job, format) in [("openmetrics", Format::OpenMetrics), ("text", Format::PrometheusText)] {
        wait_until(&prometheus, &format!("sum(up{{job=\"{job}\"}}) == 1")).await;
        let text = String::from_utf8(encode(fixture::exposition(), format).unwrap()).unwrap();
        let expected = steady(&Series::parse(&text));
        let stored = steady(&series(&prometheus, job).await);
        assert!(expected.len() > 300, "{}", expected.len());
        for (key, value) in &expected {
            assert_eq!(stored.get(key), Some(value), "{job}: {key}");
        }
        let unexpected: Vec<_> = stored.keys().filter(|key| !expected.contains_key(*key)).collect();
        assert!(unexpected.is_empty(), "{job}: {unexpected:?}");
    }

    let targets = prometheus.api("targets").await.unwrap();
    for target in targets["activeTargets"].as_array().unwrap() {
        assert_eq!((&target["health"], &target["lastError"]), (&"up".into(), &"".into()), "{target}");
    }
    let units = prometheus.api("metadata?metric=tesseract_resolution_time_seconds").await.unwrap();
    let kinds = units["tesseract_resolution_time_seconds"].as_array().unwrap();
    assert!(kinds.iter().any(|kind| kind["unit"] == "seconds"), "OpenMetrics was chosen by itself: {units}");

    let exemplars = prometheus
        .api("query_exemplars?query=tesseract_resolution_time_seconds_bucket&start=0&end=4102444800")
        .await
        .unwrap();
    let exemplars = exemplars.as_array().unwrap();
    let stored: usize = exemplars.iter().map(|of| of["exemplars"].as_array().unwrap().len()).sum();
    assert_eq!(stored, 4, "{exemplars:?}");
}

/// The exporter's own server on the fixed snapshots.
async fn start_exporter() -> (watch::Sender<bool>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, shutdown) = watch::channel(false);
    let source = |network| Source { feed: watch::channel(network).1, progress: watch::channel(None).1 };
    let sources = fixture::networks().into_iter().map(source).collect();
    let reload = Reload { successful: true, last_success: SystemTime::now() };
    let site = Site {
        followed: watch::channel(Followed { sources, grafana_url: None, reload }).1,
        telemetry_path: "/metrics".into(),
        build: fixture::BUILD,
        access: Arc::new(Access::open()),
    };
    tokio::spawn(serve(listener, site, shutdown));
    (stop, address)
}

/// A front that passes on what the exporter answers to a client that asks for nothing in particular:
/// this Prometheus always asks for OpenMetrics and cannot be told otherwise.
async fn start_text_only(exporter: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url: Arc<str> = format!("http://{exporter}/metrics").into();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let url = Arc::clone(&url);
            let service = service_fn(move |_| {
                let url = Arc::clone(&url);
                async move {
                    let Reply { headers, body, .. } = get(&url, &[]).await.unwrap();
                    let mut response = Response::new(Full::<Bytes>::new(body));
                    assert_eq!(headers[CONTENT_TYPE], Format::PrometheusText.content_type());
                    let content_type = HeaderValue::from_static(Format::PrometheusText.content_type());
                    response.headers_mut().insert(CONTENT_TYPE, content_type);
                    Ok::<_, Infallible>(response)
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

/// A configuration that scrapes each of these addresses under its name.
fn config(jobs: &[(&str, SocketAddr)]) -> String {
    let job =
        |(job, address)| format!("- {{job_name: {job}, static_configs: [{{targets: [\"{address}\"]}}]}}\n");
    let jobs: String = jobs.iter().copied().map(job).collect();
    format!("global: {{scrape_interval: 1s}}\nscrape_configs:\n{jobs}")
}

/// Waits until a query gives a result.
async fn wait_until(prometheus: &Prometheus, query: &str) {
    let mut last = Ok(Vec::new());
    let waiting = async {
        let mut ticks = interval(Duration::from_millis(100));
        while last.as_ref().is_ok_and(Vec::is_empty) {
            ticks.tick().await;
            last = prometheus.query(query).await;
        }
    };
    let done = timeout(PATIENCE, waiting).await;
    assert!(done.is_ok() && last.is_ok(), "{query}: nothing within {PATIENCE:?}; the last answer: {last:?}");
}

/// What was scraped from a job, without the labels and series that Prometheus adds.
async fn series(prometheus: &Prometheus, job: &str) -> Series {
    let mut series = BTreeMap::new();
    for sample in prometheus.query(&format!("{{job=\"{job}\"}}")).await.unwrap() {
        let labels = sample["metric"].as_object().unwrap();
        let name = labels["__name__"].as_str().unwrap();
        if name == "up" || name.starts_with("scrape_") {
            continue;
        }
        let labels: Vec<String> = labels
            .iter()
            .filter(|(name, _)| !["__name__", "job", "instance"].contains(&name.as_str()))
            .map(|(name, value)| format!("{name}=\"{}\"", escape(value.as_str().unwrap())))
            .collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        series.insert(format!("{name}{labels}"), sample["value"][1].as_str().unwrap().to_owned());
    }
    Series(series)
}

/// The values as numbers, without those that the running process decides.
fn steady(series: &Series) -> BTreeMap<String, f64> {
    let running =
        |key: &str| key.starts_with("process_") || key.contains("config_last_reload_success_timestamp");
    let steady = series.0.iter().filter(|(key, _)| !running(key));
    steady.map(|(key, value)| (key.clone(), value.parse().unwrap())).collect()
}

/// A label's value as the exposition writes it.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
