//! A stand-in for Grafana: it knows the shipped dashboards by their uid, and nothing else.

use std::convert::Infallible;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;

/// Starts it and returns its address; it runs as long as the test.
pub(crate) async fn start() -> String {
    let pages: Vec<_> = uids().into_iter().map(|uid| format!("/d/{uid}")).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let pages = pages.clone();
            tokio::spawn(async move {
                let service = service_fn(move |request: Request<_>| {
                    let known = pages.iter().any(|page| page == request.uri().path());
                    let status = if known { StatusCode::OK } else { StatusCode::NOT_FOUND };
                    let mut response = Response::new(Full::<Bytes>::default());
                    *response.status_mut() = status;
                    async { Ok::<_, Infallible>(response) }
                });
                let http = hyper::server::conn::http1::Builder::new();
                // A client that goes away is no matter.
                _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    url
}

fn uids() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards");
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let dashboards = files.filter(|path| path.extension().is_some_and(|it| it == "json"));
    let uid =
        |path| serde_json::from_str::<Value>(&fs::read_to_string(path).unwrap()).unwrap()["uid"].clone();
    dashboards.map(|path| uid(path).as_str().unwrap().to_owned()).collect()
}
