//! A key in an RPC URL or its headers comes out nowhere, however the endpoint fails.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tesseract_tests::hostile::{Fault, Proxy};
use tesseract_tests::process::{Launch, free_port};
use tesseract_tests::sim::{Params, Sim};
use tokio::net::TcpListener;

const WITHIN: Duration = Duration::from_secs(60);

/// Every form a secret can take in `user:sesame`: as written, and as sent.
const SECRETS: [&str; 2] = ["sesame", "dXNlcjpzZXNhbWU="];

fn network(name: &str, place: &str, contract: impl std::fmt::LowerHex) -> String {
    let (scheme, place) = place.split_once("://").unwrap();
    format!(
        "  - name: {name}
    rpc_urls:
      - url: {scheme}://user:sesame@{place}/sesame?key=sesame
        headers: {{X-Key: sesame}}
    contract: '{contract:#x}'
    poll_interval: 100ms
    request_timeout: 300ms
"
    )
}

#[tokio::test]
async fn no_way_to_fail_tells_a_key() {
    let sim = Sim::start(Params::default()).await.unwrap();
    sim.advance(100);
    let contract = sim.chain().contract();
    let mut config = "networks:\n".to_owned();
    config += &network("well", &sim.url(), contract);
    config += &network("refused", &format!("http://127.0.0.1:{}", free_port()), contract);
    config += &network("no-name", "https://nobody.invalid", contract);
    config += &network("no-tls", &sim.url().replace("http:", "https:"), contract);
    let mut proxies = Vec::new();
    for (index, fault) in Fault::all().enumerate() {
        let proxy = Proxy::start(&sim.url()).await;
        proxy.set(fault);
        config += &network(&format!("fault-{index}"), &proxy.url(), contract);
        proxies.push((fault.name(), proxy));
    }

    let exporter = Launch::config(&config).arg("--log.level=trace").start().await;
    for (name, proxy) in &proxies {
        let mut counts = proxy.watch();
        let met = tokio::time::timeout(WITHIN, counts.wait_for(|counts| counts.faulty >= 2)).await;
        assert!(met.is_ok(), "{name} was not met");
    }
    for network in ["refused", "no-name", "no-tls"] {
        let failed =
            |line: &str| line.contains("endpoint failed") && line.contains(&format!("\"{network}\""));
        exporter.wait_for_line(network, WITHIN, failed).await;
    }
    let well = "tesseract_synced{network=\"well\"}";
    exporter.wait_for("the key is right", WITHIN, |now| now.get(well) == Some(1.0)).await;

    let mut told = String::new();
    let pages = ["refused", "no-name", "no-tls", "well"].map(|name| format!("/networks/{name}"));
    let paths = ["/metrics", "/health", "/-/ready", "/-/healthy", "/", "/nowhere"];
    for path in paths.into_iter().chain(pages.iter().map(String::as_str)) {
        writeln!(told, "{path}: {}", exporter.get(path).await.text()).unwrap();
    }
    let openmetrics = [("accept", "application/openmetrics-text")];
    writeln!(told, "{}", exporter.get_with("/metrics", &openmetrics).await.text()).unwrap();
    told += &exporter.log().join("\n");
    for secret in SECRETS {
        let line = told.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "a secret is told");
    }
    let arguments = std::fs::read(format!("/proc/{}/cmdline", exporter.pid())).unwrap();
    assert!(!String::from_utf8_lossy(&arguments).contains("sesame"));
}

/// A key in each place where one can stand: path, query, user, password, a header, and behind a scheme.
const KEYS: [&str; 6] = [
    "path-key-1f0c",
    "query+key-2e7a==",
    "user-key-3d9b",
    "pass-key-4c51",
    "header-key-5b88",
    "bearer-key-6a43",
];

/// In how many ways a node repeats the request that it refuses.
const QUOTES: usize = 10;

/// And once as the result, where a block should be.
const AS_RESULT: usize = QUOTES;

/// How far to the right it does: at once, and where a message is cut in the middle of a key.
const PADS: [usize; 4] = [0, 14, 160, 165];

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_repeats_the_key_is_not_quoted() {
    let [path, query, user, pass, header, bearer] = KEYS;
    let query = query.replace('+', "%2B");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    tokio::spawn(repeat_requests(listener));
    let mut ways: Vec<_> = (0..QUOTES).flat_map(|quote| PADS.map(|pad| (quote, pad))).collect();
    ways.push((AS_RESULT, 0));
    let networks = ways.iter().map(|(quote, pad)| {
        format!(
            "  - name: echo-{quote}-{pad}
    rpc_urls:
      - url: http://{user}:{pass}@{place}/{quote}/{pad}/{path}?apikey={query}&other=1
        headers: {{X-Key: {header}, X-Token: Bearer {bearer}}}
    contract: '0x00000000000000000000000000000000000000aa'
    poll_interval: 100ms
"
        )
    });
    let config = format!("networks:\n{}", networks.collect::<String>());
    let exporter = Launch::config(&config).arg("--log.level=trace").start().await;
    for (quote, pad) in &ways {
        let network = format!("\"echo-{quote}-{pad}\"");
        let words = if *quote == AS_RESULT { "not as expected" } else { "invalid key" };
        let quoted = |line: &str| line.contains(&network) && line.contains(words);
        exporter.wait_for_line(&network, WITHIN, quoted).await;
    }
    let mut told = exporter.log().join("\n");
    let pages = ways.iter().map(|(quote, pad)| format!("/networks/echo-{quote}-{pad}"));
    for path in ["/metrics", "/health", "/-/ready", "/"].map(str::to_owned).into_iter().chain(pages) {
        let path = path.as_str();
        write!(told, "\n{path}: {}", exporter.get(path).await.text()).unwrap();
    }
    for key in KEYS {
        // The better part of a key is as bad as the whole.
        let line = told.lines().find(|line| line.contains(&key[..key.len() - 3]));
        assert_eq!(line, None, "{key} is told");
    }
}

/// Refuses every request with an error, a plain text in the last way, or a result, that quotes a part of it:
/// which, and how far to the right, stands at the beginning of the path.
async fn repeat_requests(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(repeat_request));
        tokio::spawn(connection);
    }
}

async fn repeat_request(request: Request<Incoming>) -> hyper::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let header = |name: &str| head.headers[name].to_str().unwrap().to_owned();
    let mut path = head.uri.path().split('/').skip(1).map(|part| part.parse::<usize>().unwrap_or(0));
    let (quote, pad) = (path.next().unwrap(), path.next().unwrap());
    let quotes: [String; QUOTES] = [
        format!("http://node{}", head.uri),
        head.uri.to_string(),
        KEYS[0].to_owned(),
        KEYS[1].to_owned(),
        header("authorization"),
        format!("{}:{}", KEYS[2], KEYS[3]),
        format!("{} of {}", KEYS[3], KEYS[2]),
        header("x-key"),
        KEYS[5].to_owned(),
        format!("/v3/{}", KEYS[0]),
    ];
    let message = format!("invalid key {}{}", ".".repeat(pad), quotes[quote % QUOTES]);
    if quote == QUOTES - 1 {
        return Ok(Response::new(Full::from(message)));
    }
    let error = json!({"code": -32000, "message": message});
    let refuse = |call: &Value| match quote {
        AS_RESULT if call["method"] == "eth_chainId" => {
            json!({"jsonrpc": "2.0", "id": call["id"], "result": "0x1"})
        }
        AS_RESULT => json!({"jsonrpc": "2.0", "id": call["id"], "result": message}),
        _ => json!({"jsonrpc": "2.0", "id": call["id"], "error": error}),
    };
    let answer = match serde_json::from_slice(&body.collect().await?.to_bytes()).unwrap() {
        Value::Array(calls) => calls.iter().map(refuse).collect(),
        call => refuse(&call),
    };
    Ok(Response::new(Full::from(answer.to_string())))
}
