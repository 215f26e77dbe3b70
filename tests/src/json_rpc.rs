//! A small JSON-RPC client for tests: one request or a batch to one URL.
//!
//! Never retries, caches or fails over: a test wants to see what the node said. Answers of a batch come
//! back in the order of the calls, whatever order the node chose.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::header::CONTENT_TYPE;
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

/// A node's answer to one call: its result, or its error (or what kept it from answering) as text.
pub type Answer = Result<Value, String>;

/// Speaks to one node.
#[derive(Clone, Debug)]
pub struct Client {
    url: String,
    http: Http<HttpConnector, Full<Bytes>>,
}

impl Client {
    /// `url` is plain `http://`.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), http: Http::builder(TokioExecutor::new()).build_http() }
    }

    /// Where the node is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// One call.
    pub async fn call(&self, method: &str, params: Value) -> Answer {
        result(self.post(&request(0, method, &params)).await?)
    }

    /// Many calls of one method in one request. Panics when the node answers with anything but a batch.
    pub async fn batch(&self, method: &str, params: &[Value]) -> Vec<Answer> {
        let calls = params.iter().enumerate().map(|(id, params)| request(id, method, params)).collect();
        let Ok(Value::Array(mut answers)) = self.post(&Value::Array(calls)).await else {
            panic!("{}: no batch in answer to {} times {method}", self.url, params.len());
        };
        assert_eq!(answers.len(), params.len(), "{}: answers to a batch of {method}", self.url);
        answers.sort_by_key(|answer| answer["id"].as_u64());
        answers.into_iter().map(result).collect()
    }

    async fn post(&self, body: &Value) -> Answer {
        let request = Request::post(&self.url)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_string()))
            .map_err(|error| error.to_string())?;
        let response = self.http.request(request).await.map_err(|error| format!("{error:?}"))?;
        let body = response.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
        serde_json::from_slice(&body)
            .map_err(|error| format!("{error} in {:?}", String::from_utf8_lossy(&body)))
    }
}

fn request(id: usize, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

fn result(mut answer: Value) -> Answer {
    match answer.get_mut("result") {
        Some(result) => Ok(result.take()),
        None => Err(answer["error"].to_string()),
    }
}
