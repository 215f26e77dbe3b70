//! The pages of networks: each state in plain words, and no word from outside as markup.

use tesseract_exporter::rpc::EndpointStats;
use tesseract_exporter::snapshot::Snapshot;

use crate::server::{Server, unknown, well};

const HOSTILE: &str = "</title><script>alert(1)</script>\"><svg onload=alert(2)>'&";

#[tokio::test(flavor = "multi_thread")]
async fn the_home_page_says_how_each_network_is() {
    let server = Server::start([well("base"), unknown("amoy")]).await;
    let home = server.ask("GET", "/", "").body;
    for shown in [
        "2 networks:",
        "<a href=\"networks/base\">base</a>",
        "<span class=\"badge well\">well</span> Followed up to the newest confirmed block",
        "<span class=\"badge ill\">ill</span> No endpoint answers: no endpoint answered",
        "<a href=\"runbooks/TesseractNodeDisconnected\">what to do</a>",
        "Version 1.2.3, revision abcdef",
        "href=\"metrics\"",
        "href=\"health\"",
        "href=\"-/ready\"",
    ] {
        assert!(home.contains(shown), "{shown} in {home}");
    }
    assert!(home.contains("http-equiv=\"refresh\""), "{home}");
    assert!(!server.ask("GET", "/?still", "").body.contains("http-equiv=\"refresh\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_link_to_dashboards_where_grafana_is_known() {
    let server = Server::start([well("base")]).await;
    for path in ["/", "/networks/base"] {
        assert!(!server.ask("GET", path, "").body.contains("Grafana"), "{path}");
    }
    server
        .follow
        .send_modify(|followed| followed.grafana_url = Some("https://grafana.example/sub".to_owned()));
    for (path, links) in [
        ("/", &["/d/tesseract-overview", "/d/tesseract-exporter"][..]),
        ("/networks/base", &["/d/tesseract-overview?var-network=base"]),
    ] {
        let page = server.ask("GET", path, "").body;
        for link in links {
            let link = format!("<a href=\"https://grafana.example/sub{link}\" rel=\"noreferrer\">");
            assert!(page.contains(&link), "{link} in {page}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_is_not_used_has_its_reason() {
    let stats = |healthy, problem: Option<&str>| EndpointStats {
        healthy,
        problem: problem.map(str::to_owned),
        ..EndpointStats::default()
    };
    let endpoints = vec![
        stats(Some(true), None),
        stats(Some(false), Some("connection refused")),
        stats(Some(true), Some("its head trails the other endpoints")),
        stats(None, None),
    ];
    let server = Server::start([Snapshot { endpoints, ..well("base") }]).await;
    let page = server.ask("GET", "/networks/base", "").body;
    for shown in [
        "<span class=\"badge well\">healthy</span>",
        "<span class=\"badge ill\">not used</span> connection refused",
        "<span class=\"badge attention\">passed over</span> its head trails the other endpoints",
        "not asked yet",
    ] {
        assert!(page.contains(shown), "{shown} in {page}");
    }
}

/// Whatever slipped into a page, a browser runs none of it; and it takes nothing that is no page for one.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_may_load_its_style_and_nothing_else() {
    let server = Server::start([well("base")]).await;
    let unknown = format!("/tx/0x{}", "0".repeat(64));
    let policy = "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
                  frame-ancestors 'none'";
    for (path, status, policy) in [
        ("/", 200, policy),
        ("/?still", 200, policy),
        ("/networks/base", 200, policy),
        ("/runbooks/", 200, policy),
        ("/runbooks/TesseractReorg", 200, policy),
        (&unknown, 404, policy),
        ("/tx/0x1", 404, ""),
        ("/runbooks", 308, ""),
        ("/runbooks/NoSuchAlert", 404, ""),
        ("/networks/none", 404, ""),
        ("/%3Cscript%3E", 404, ""),
        ("/health", 200, ""),
        ("/metrics", 200, ""),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = server.ask(method, path, "");
            assert_eq!((answer.status, answer.header("content-security-policy")), (status, policy), "{path}");
            assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
            let is_page = answer.header("content-type") == "text/html; charset=utf-8";
            assert_eq!(is_page, !policy.is_empty(), "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_from_outside_is_markup() {
    let mut of = well("base");
    of.problem = Some(HOSTILE.to_owned());
    of.explorer = Some(format!("https://explorer.example/{HOSTILE}"));
    of.endpoints = vec![EndpointStats {
        healthy: Some(false),
        problem: Some(HOSTILE.to_owned()),
        ..EndpointStats::default()
    }];
    let server = Server::start([of]).await;
    for path in ["/", "/networks/base"] {
        let page = server.ask("GET", path, "").body;
        assert!(
            page.contains("&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;&quot;&gt;&lt;svg"),
            "{page}"
        );
        for markup in ["<script", "<svg", "\"><"] {
            let from_outside = |at: usize| page[at..].starts_with(&HOSTILE[HOSTILE.find(markup).unwrap()..]);
            assert!(!page.match_indices(markup).any(|(at, _)| from_outside(at)), "{markup} in {page}");
        }
    }
}
