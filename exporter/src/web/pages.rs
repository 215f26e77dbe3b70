//! Pages for people: the home page, and the runbooks built into the binary.

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, html};

use super::Site;

/// Every runbook, by name: the alert's, and its Markdown.
static RUNBOOKS: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/runbooks.rs"));

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;\
    color:#1f2328;background:#fff}code,pre{font:14px/1.4 ui-monospace,monospace;background:#f3f4f6;\
    border-radius:4px}code{padding:.1em .3em}pre{padding:.8rem;overflow:auto}pre code{padding:0}\
    table{border-collapse:collapse}td,th{border:1px solid #d1d9e0;padding:.3rem .6rem;text-align:left}\
    a{color:#0a58ca}@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}\
    code,pre{background:#1c2128}td,th{border-color:#3d444d}a{color:#6cb6ff}}";

/// Name, version, and links to the rest. Links are relative, so that they hold behind a proxy.
pub(super) fn home(site: &Site) -> String {
    let links = [
        (site.telemetry_path.trim_start_matches('/'), "metrics, for Prometheus"),
        ("health", "health of every network, as JSON"),
        ("-/ready", "readiness, with reasons"),
        ("-/healthy", "liveness"),
        ("runbooks/", "runbooks: what an alert means and what to do"),
    ];
    let items = links.map(|(to, what)| {
        let to = escape(to);
        format!("<li><a href=\"{to}\">/{to}</a> – {what}</li>\n")
    });
    let version = escape(site.build.version);
    let revision = escape(site.build.revision);
    let body = format!(
        "<h1>tesseract-exporter</h1>\n<p>Version {version}, revision {revision}.</p>\n<ul>\n{}</ul>\n",
        items.concat()
    );
    page("tesseract-exporter", &body)
}

/// The list of runbooks.
pub(super) fn runbooks() -> String {
    let items: String = RUNBOOKS
        .iter()
        .map(|(name, _)| format!("<li><a href=\"{0}\">{0}</a></li>\n", escape(name)))
        .collect();
    page("Runbooks", &format!("<p><a href=\"../\">Home</a></p>\n<h1>Runbooks</h1>\n<ul>\n{items}</ul>\n"))
}

/// The runbook of an alert, if there is one.
pub(super) fn runbook(alert: &str) -> Option<String> {
    let (name, markdown) = RUNBOOKS.iter().find(|(name, _)| *name == alert)?;
    let mut body = String::from("<p><a href=\"./\">All runbooks</a></p>\n");
    let events = Parser::new_ext(markdown, Options::ENABLE_TABLES).map(|event| match event {
        Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
            Event::Start(Tag::Link { link_type, dest_url: as_served(dest_url), title, id })
        }
        other => other,
    });
    html::push_html(&mut body, events);
    Some(page(name, &body))
}

/// A link from one Markdown file to another, as in the repository, becomes one between pages.
fn as_served(link: CowStr<'_>) -> CowStr<'_> {
    let (file, anchor) = link.split_once('#').map_or((&*link, None), |(file, anchor)| (file, Some(anchor)));
    match file.strip_suffix(".md") {
        Some(name) if RUNBOOKS.iter().any(|(of, _)| *of == name) => {
            let anchor = anchor.map(|anchor| format!("#{anchor}")).unwrap_or_default();
            format!("{name}{anchor}").into()
        }
        _ => link,
    }
}

pub(super) fn page(title: &str, body: &str) -> String {
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<style>{STYLE}</style></head>\n\
         <body>\n{body}</body>\n</html>\n"
    )
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_between_files_become_links_between_pages() {
        let table = [
            ("TesseractReorg.md", "TesseractReorg"),
            ("TesseractReorg.md#what-to-do", "TesseractReorg#what-to-do"),
            ("NoSuchAlert.md", "NoSuchAlert.md"),
            ("https://example.com/TesseractReorg.md", "https://example.com/TesseractReorg.md"),
            ("#meaning", "#meaning"),
        ];
        for (link, served) in table {
            assert_eq!(&*as_served(link.into()), served, "{link}");
        }
    }
}
