//! Every route, its headers and its formats.

use std::io::Read;

use tesseract_exporter::snapshot::Head;

use crate::server::{Server, well};

const PROTOBUF: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const VARY: &str = "Accept, Accept-Encoding";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_get_and_head_alike() {
    let server = Server::start([well("sepolia")]).await;
    let routes = [
        ("/metrics", 200, TEXT),
        ("/metrics?name[]=x", 200, TEXT),
        ("/health", 200, "application/json"),
        ("/-/healthy", 200, "text/plain; charset=utf-8"),
        ("/-/ready", 200, "text/plain; charset=utf-8"),
        ("/", 200, "text/html; charset=utf-8"),
        ("/style.css", 200, "text/css; charset=utf-8"),
        ("/networks/sepolia", 200, "text/html; charset=utf-8"),
        ("/networks/sepolia?still", 200, "text/html; charset=utf-8"),
        ("/networks/", 404, "text/plain; charset=utf-8"),
        ("/networks/base", 404, "text/plain; charset=utf-8"),
        ("/runbooks", 308, "text/plain; charset=utf-8"),
        ("/runbooks/", 200, "text/html; charset=utf-8"),
        ("/runbooks/NoSuchAlert", 404, "text/plain; charset=utf-8"),
        ("/runbooks/../Cargo.toml", 404, "text/plain; charset=utf-8"),
        ("/metrics/", 404, "text/plain; charset=utf-8"),
        ("/tx/0x1", 404, "text/plain; charset=utf-8"),
        ("/nothing", 404, "text/plain; charset=utf-8"),
        ("/%00%ff", 404, "text/plain; charset=utf-8"),
    ];
    for (path, status, content_type) in routes {
        let get = server.ask("GET", path, "");
        assert_eq!((get.status, get.header("content-type")), (status, content_type), "{path}");
        assert_eq!(get.header("content-length"), get.body.len().to_string(), "{path}");
        assert_eq!(get.header("x-content-type-options"), "nosniff", "{path}");
        assert!(!get.body.is_empty(), "{path}");

        let head = server.ask("HEAD", path, "");
        assert_eq!((head.status, head.header("content-type")), (status, content_type), "HEAD {path}");
        assert_eq!(head.body, "", "HEAD {path}");
        // The process's own figures change from one scrape to the next.
        if !path.starts_with("/metrics?") && path != "/metrics" {
            assert_eq!(head.header("content-length"), get.header("content-length"), "HEAD {path}");
        }
        assert_ne!(head.header("content-length"), "0", "HEAD {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_runbook_is_a_page_and_every_link_leads_somewhere() {
    let server = Server::start([well("sepolia")]).await;
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../alerting/runbooks")).unwrap();
    let alerts: Vec<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter_map(|file| Some(file.strip_suffix(".md")?.to_owned()))
        .collect();
    assert!(!alerts.is_empty());

    assert_eq!(server.ask("GET", "/runbooks", "").header("location"), "runbooks/");
    let mut pages = vec!["/".to_owned(), "/runbooks/".to_owned(), "/networks/sepolia".to_owned()];
    let index = server.ask("GET", "/runbooks/", "").body;
    for alert in &alerts {
        assert!(index.contains(&format!("<a href=\"{alert}\">")), "{alert} in {index}");
        let page = server.ask("GET", &format!("/runbooks/{alert}"), "").body;
        assert!(page.contains(&format!("<title>{alert} – tesseract-exporter</title>")), "{page}");
        assert!(
            page.contains(&format!("<h1>{alert}</h1>")) && page.contains("<h2>What to do</h2>"),
            "{page}"
        );
        assert_eq!(server.ask("GET", &format!("/runbooks/{alert}.md"), "").status, 404);
        pages.push(format!("/runbooks/{alert}"));
    }

    for page in pages {
        let directory = &page[..=page.rfind('/').unwrap()];
        let body = server.ask("GET", &page, "").body;
        for link in body.split(" href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()) {
            if link.contains("://") || link == "data:," {
                continue;
            }
            let target = match link {
                "./" => directory.to_owned(),
                query if query.starts_with('?') => format!("{page}{query}"),
                relative => relative
                    .strip_prefix("../")
                    .map_or_else(|| format!("{directory}{relative}"), |rest| format!("/{rest}")),
            };
            assert_eq!(server.ask("GET", &target, "").status, 200, "{link} in {page}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_methods_are_refused() {
    let server = Server::start([well("sepolia")]).await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"] {
        for path in ["/metrics", "/health", "/nothing"] {
            let answer = server.ask(method, path, "Content-Length: 5\r\n");
            assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"), "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_scraper_chooses_the_format() {
    let server = Server::start([well("sepolia")]).await;
    let text = server.ask("GET", "/metrics", "");
    assert_eq!((text.header("content-type"), text.header("vary")), (TEXT, VARY));
    assert!(text.body.contains("\ntesseract_synced{network=\"sepolia\"} 1\n"), "{}", text.body);
    assert!(text.body.contains("\nprocess_resident_memory_bytes "), "{}", text.body);
    assert!(!text.body.contains("# EOF"));

    let open_metrics = server.ask("GET", "/metrics", "Accept: application/openmetrics-text\r\n");
    assert_eq!((open_metrics.header("content-type"), open_metrics.header("vary")), (OPEN_METRICS, VARY));
    assert!(open_metrics.body.ends_with("\n# EOF\n"));

    let (head, body) = server.ask_bytes(&format!("Accept: {PROTOBUF}\r\n"));
    for line in [format!("content-type: {PROTOBUF}"), format!("vary: {VARY}")] {
        assert!(head.to_lowercase().contains(&format!("\r\n{}\r\n", line.to_lowercase())), "{head}");
    }
    let name = b"tesseract_synced";
    assert!(body.windows(name.len()).any(|it| it == name), "{}", String::from_utf8_lossy(&body));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_shows_the_last_snapshot() {
    let server = Server::start([well("sepolia")]).await;
    let answer = server.ask("GET", "/metrics", "");
    assert!(answer.body.contains("tesseract_head_block_number{network=\"sepolia\"} 120\n"));
    server.change("sepolia", |of| of.head = Some(Head { number: 121, timestamp: 1_700_000_012 }));
    let answer = server.ask("GET", "/metrics", "");
    assert!(answer.body.contains("tesseract_head_block_number{network=\"sepolia\"} 121\n"));
}

/// Appends the text of a compressed body.
type Decompress = fn(&[u8], &mut String) -> std::io::Result<usize>;

#[tokio::test(flavor = "multi_thread")]
async fn a_scrape_is_compressed_where_that_is_wanted() {
    let server = Server::start([well("sepolia")]).await;
    let gzip: Decompress = |body, text| flate2::read::GzDecoder::new(body).read_to_string(text);
    let zstd: Decompress = |body, text| zstd::Decoder::new(body)?.read_to_string(text);
    let open_metrics = "Accept: application/openmetrics-text\r\n";
    for (coding, decompress, accept) in
        [("gzip", gzip, ""), ("gzip", gzip, open_metrics), ("zstd", zstd, ""), ("zstd", zstd, open_metrics)]
    {
        // Twice: the second may be of the same bytes.
        for _ in 0..2 {
            // What the process shows of itself changes; what the networks show does not.
            let networks =
                |text: &str| text.split("# HELP tesseract_exporter_build").next().unwrap().to_owned();
            let plain = server.ask("GET", "/metrics", accept);
            assert_eq!(plain.header("content-encoding"), "");
            let (head, body) = server.ask_bytes(&format!("Accept-Encoding: {coding}\r\n{accept}"));
            assert!(head.contains(&format!("\r\ncontent-encoding: {coding}\r\n")), "{head}");
            assert!(head.contains(&format!("\r\ncontent-length: {}\r\n", body.len())), "{head}");
            let mut text = String::new();
            decompress(&body, &mut text).unwrap();
            assert_eq!(networks(&text), networks(&plain.body));
            assert!(text.len() > 3 * body.len(), "{} to {}", text.len(), body.len());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_scrape_at_once_get_the_last_snapshot() {
    let server = Server::start(std::array::from_fn::<_, 40, _>(|number| well(&format!("n{number}")))).await;
    for head in 1000..1010 {
        server.change("n7", |of| of.head = Some(Head { number: head, timestamp: 1_700_000_000 }));
        let expected = format!("tesseract_head_block_number{{network=\"n7\"}} {head}\n");
        let address = server.address;
        let scrapers: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(move || crate::server::ask(address, "GET", "/metrics", "").body))
            .collect();
        for scraper in scrapers {
            let body = scraper.join().unwrap();
            assert!(body.contains(&expected), "{body}");
        }
    }
}
