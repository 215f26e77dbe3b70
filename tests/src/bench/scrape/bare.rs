//! The floor of a scrape: a bare registry with as many series as an exposition has, encoded for every scrape,
//! behind hyper.
//!
//! Every series is a gauge, whatever it was: a line is a line. Never changes a value.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::series::Series;

type Labels = Vec<(String, String)>;
type Values = Family<Labels, Gauge<f64, AtomicU64>>;

/// The registry's own process: reads an exposition from standard input, and serves its series until it is killed.
pub async fn serve() {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).expect("read the exposition");
    let registry = Arc::new(registry(&Series::parse(&text)));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    println!("http://{}", listener.local_addr().expect("an address"));
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        // As the exporter does.
        let _ = stream.set_nodelay(true);
        let registry = Arc::clone(&registry);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let response = respond(&request, &registry);
                async { Ok::<_, Infallible>(response) }
            });
            // What goes wrong on a connection is the client's to notice.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn registry(series: &Series) -> Registry {
    let mut families: BTreeMap<&str, Values> = BTreeMap::new();
    for (key, value) in &series.0 {
        let (name, labels) = key.split_once('{').unwrap_or((key, "}"));
        let pairs = labels.trim_end_matches('}').split("\",").filter_map(|pair| pair.split_once("=\""));
        let labels = pairs.map(|(label, of)| (label.to_owned(), of.trim_end_matches('"').to_owned()));
        let values = families.entry(name).or_default();
        values.get_or_create(&labels.collect()).set(value.parse().expect("a number"));
    }
    let mut registry = Registry::default();
    for (name, values) in families {
        registry.register(name, "As the exporter has it", values);
    }
    registry
}

fn respond(request: &Request<Incoming>, registry: &Registry) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return Response::new(Full::from("ok\n"));
    }
    let mut text = String::new();
    prometheus_text::encode(&mut text, registry).expect("write to memory");
    let gzip = request.headers().contains_key(ACCEPT_ENCODING);
    let body = if gzip {
        let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
        encoder.write_all(text.as_bytes()).expect("write to memory");
        encoder.finish().expect("write to memory").into()
    } else {
        Bytes::from(text)
    };
    let mut response = Response::new(Full::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(prometheus_text::CONTENT_TYPE));
    if gzip {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}
