//! A local stand-in for the three services that Alertmanager notifies: Slack's incoming webhook, PagerDuty's
//! events API v2 and a generic webhook; and for a heartbeat service.
//!
//! It refuses what the real ones would refuse, in their words, and keeps what they would take, in order of
//! arrival. It never shows a message to anybody and knows no secret: the path alone says which service is meant.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};

/// Larger messages are refused.
const MAX_MESSAGE_BYTES: usize = 4 << 20;

/// Who a message was meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Slack's incoming webhook, at `/slack`.
    Slack,
    /// PagerDuty's events API v2, at `/pagerduty`.
    PagerDuty,
    /// A generic webhook, at `/webhook`.
    Webhook,
    /// The receiver of the watchdog, at `/heartbeat`.
    Heartbeat,
}

/// A message that was taken.
#[derive(Clone, Debug)]
pub struct Message {
    /// Who it was meant for.
    pub service: Service,
    /// The body.
    pub body: Value,
    /// When it came.
    pub at: Instant,
}

impl Message {
    /// Every string of the body, a line each, as the receiver has them: without JSON's escapes.
    pub fn text(&self) -> String {
        let mut text = String::new();
        strings(&self.body, &mut |it| {
            text.push_str(it);
            text.push('\n');
        });
        text
    }

    /// Every address in the body that a reader can follow, once each, in order of appearance.
    pub fn links(&self) -> Vec<String> {
        let mut links = Vec::new();
        strings(&self.body, &mut |text| {
            for (start, _) in text.match_indices("http") {
                // A link that Slack shows ends with `|name>`; one in JSON ends with its string.
                let link = text[start..].split(['|', '>', ' ', '\n', '"', ')']).next().unwrap_or_default();
                let link = link.replace("&gt;", ">").replace("&lt;", "<").replace("&amp;", "&");
                let names_a_host = link.starts_with("http://") || link.starts_with("https://");
                if names_a_host && !links.contains(&link) {
                    links.push(link);
                }
            }
        });
        links
    }
}

/// What is answered in place of taking a message, by service.
type Outages = Arc<Mutex<Vec<(Service, StatusCode)>>>;

/// Takes messages on a socket until it is dropped.
pub struct StandIn {
    address: SocketAddr,
    messages: watch::Sender<Vec<Message>>,
    outages: Outages,
    server: JoinHandle<()>,
}

impl StandIn {
    /// On a free port of the loopback.
    pub async fn start() -> io::Result<Self> {
        Self::bind(([127, 0, 0, 1], 0).into()).await
    }

    /// On this address, so that a container can reach it.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let messages = watch::Sender::new(Vec::new());
        let outages = Outages::default();
        let server = tokio::spawn(accept(listener, messages.clone(), Arc::clone(&outages)));
        Ok(Self { address, messages, outages, server })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address to send messages for a service to.
    pub fn url(&self, service: Service) -> String {
        format!("http://{}{}", self.address, path(service))
    }

    /// Answers every message for a service with this status from now on, and keeps none.
    pub fn refuse(&self, service: Service, status: StatusCode) {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner).push((service, status));
    }

    /// Takes messages for every service again.
    pub fn recover(&self) {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Forgets what has come so far.
    pub fn forget(&self) {
        self.messages.send_replace(Vec::new());
    }

    /// All messages so far.
    pub fn messages(&self) -> Vec<Message> {
        self.messages.borrow().clone()
    }

    /// All messages for one service so far.
    pub fn messages_for(&self, service: Service) -> Vec<Message> {
        self.messages().into_iter().filter(|it| it.service == service).collect()
    }

    /// Waits for a message, also among those that already came. Panics with all of them when none does.
    pub async fn wait_for(
        &self,
        what: &str,
        within: Duration,
        condition: impl Fn(&Message) -> bool,
    ) -> Message {
        let mut messages = self.messages.subscribe();
        let find = |all: &[Message]| all.iter().find(|it| condition(it)).cloned();
        let found = timeout(within, messages.wait_for(|all| find(all).is_some())).await;
        let found = found.ok().and_then(Result::ok).and_then(|all| find(&all));
        found.unwrap_or_else(|| {
            let came: Vec<_> =
                self.messages().iter().map(|it| format!("{:?} {}", it.service, it.body)).collect();
            panic!("{what}: no such message within {within:?}; these came:\n{}", came.join("\n"))
        })
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn accept(listener: TcpListener, messages: watch::Sender<Vec<Message>>, outages: Outages) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (messages, outages) = (messages.clone(), Arc::clone(&outages));
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, &messages, &outages));
            let connection = hyper::server::conn::http1::Builder::new();
            // A client that goes away mid-request is its own affair.
            _ = connection.serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(
    request: Request<Incoming>,
    messages: &watch::Sender<Vec<Message>>,
    outages: &Outages,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let reply = |status: StatusCode, text: &str| {
        let mut response = Response::new(Full::from(text.to_owned()));
        *response.status_mut() = status;
        Ok(response)
    };
    let all = [Service::Slack, Service::PagerDuty, Service::Webhook, Service::Heartbeat];
    let Some(service) = all.into_iter().find(|it| path(*it) == request.uri().path()) else {
        return reply(StatusCode::NOT_FOUND, "no_service");
    };
    if request.method() != Method::POST {
        return reply(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
    }
    let Ok(body) = Limited::new(request.into_body(), MAX_MESSAGE_BYTES).collect().await else {
        return reply(StatusCode::PAYLOAD_TOO_LARGE, "too_large");
    };
    let refused = outages.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if let Some((_, status)) = refused.into_iter().find(|(refused, _)| *refused == service) {
        return reply(status, "outage");
    }
    let Ok(body) = serde_json::from_slice(&body.to_bytes()) else {
        return reply(StatusCode::BAD_REQUEST, "invalid_payload");
    };
    if let Err(why) = check(service, &body) {
        return reply(StatusCode::BAD_REQUEST, why);
    }
    messages.send_modify(|all| all.push(Message { service, body, at: Instant::now() }));
    match service {
        Service::Slack => reply(StatusCode::OK, "ok"),
        Service::PagerDuty => {
            reply(StatusCode::ACCEPTED, r#"{"status":"success","message":"Event processed"}"#)
        }
        Service::Webhook | Service::Heartbeat => reply(StatusCode::OK, ""),
    }
}

fn path(service: Service) -> &'static str {
    match service {
        Service::Slack => "/slack",
        Service::PagerDuty => "/pagerduty",
        Service::Webhook => "/webhook",
        Service::Heartbeat => "/heartbeat",
    }
}

/// What the real services insist on.
fn check(service: Service, body: &Value) -> Result<(), &'static str> {
    let text = |value: &Value| value.as_str().is_some_and(|it| !it.is_empty());
    let links = |body: &Value| body["links"].as_array().cloned().unwrap_or_default().into_iter();
    match service {
        Service::Slack => {
            let attached = body["attachments"].as_array().is_some_and(|all| {
                !all.is_empty() && all.iter().all(|it| text(&it["text"]) && text(&it["fallback"]))
            });
            if text(&body["text"]) || attached { Ok(()) } else { Err("no_text") }
        }
        Service::PagerDuty if !text(&body["routing_key"]) => Err("'routing_key' is missing or blank"),
        Service::PagerDuty => match body["event_action"].as_str() {
            Some("trigger") => {
                let payload = &body["payload"];
                let severities = ["critical", "error", "warning", "info"];
                let severity = payload["severity"].as_str().unwrap_or_default();
                match () {
                    () if !text(&payload["summary"]) => Err("'payload.summary' is missing or blank"),
                    () if !text(&payload["source"]) => Err("'payload.source' is missing or blank"),
                    () if !severities.contains(&severity) => Err("'payload.severity' is invalid"),
                    () if !links(body).all(|it| text(&it["href"])) => Err("'links.href' is missing or blank"),
                    () => Ok(()),
                }
            }
            Some("resolve" | "acknowledge") if text(&body["dedup_key"]) => Ok(()),
            _ => Err("'event_action' is invalid, or 'dedup_key' is missing"),
        },
        Service::Webhook | Service::Heartbeat => {
            if body["alerts"].is_array() {
                Ok(())
            } else {
                Err("no alerts")
            }
        }
    }
}

fn strings(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(items) => items.iter().for_each(|it| strings(it, visit)),
        Value::Object(fields) => fields.values().for_each(|it| strings(it, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn links_are_what_a_reader_can_follow() {
        let body = json!({
            "text": "see <http://a.example/x?y=1&amp;z=%22|this> or http://b.example/ and http, then <http://a.example/x?y=1&amp;z=%22|again>",
            "links": [{"href": "https://c.example/#/d?filter=%7B%7D"}],
        });
        let message = Message { service: Service::Slack, body, at: Instant::now() };
        let expected =
            ["https://c.example/#/d?filter=%7B%7D", "http://a.example/x?y=1&z=%22", "http://b.example/"];
        assert_eq!(message.links(), expected);
    }

    #[test]
    fn it_refuses_what_the_services_refuse() {
        let page = json!({
            "routing_key": "k",
            "event_action": "trigger",
            "payload": {"summary": "s", "source": "s", "severity": "critical"},
            "links": [{"href": ""}],
        });
        let refusals = [
            (Service::Slack, json!({}), "no_text"),
            (Service::Slack, json!({"attachments": [{"text": "t"}]}), "no_text"),
            (Service::PagerDuty, json!({"event_action": "trigger"}), "'routing_key' is missing or blank"),
            (Service::PagerDuty, page, "'links.href' is missing or blank"),
            (Service::Webhook, json!({"alert": 1}), "no alerts"),
        ];
        for (service, body, why) in refusals {
            assert_eq!(check(service, &body), Err(why), "{service:?} {body}");
        }
        assert_eq!(check(Service::Slack, &json!({"attachments": [{"text": "t", "fallback": "f"}]})), Ok(()));
    }
}
