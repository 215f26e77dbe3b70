//! Pages for people: what they share, and the runbooks built into the binary.
//!
//! Made from snapshots alone. Every value is escaped by the template; markup that is not comes from files of
//! this repository.

use maud::{DOCTYPE, Markup, PreEscaped, html};
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, html as markdown};

use super::state::{Level, State};

mod home;
mod network;

pub(super) use home::home;
pub(super) use network::network;

/// Every runbook, by name: the alert's, and its Markdown.
static RUNBOOKS: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/runbooks.rs"));

/// The only style there is, at `/style.css`.
pub(super) const STYLE: &str = include_str!("pages/style.css");

/// Whether a page is loaded again by itself. Who reads slowly, or has it read aloud, can stop it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refresh {
    Every10Seconds,
    Stopped,
}

impl Refresh {
    /// By the query of the request.
    pub(super) fn wanted(query: Option<&str>) -> Self {
        if query == Some(STILL) { Self::Stopped } else { Self::Every10Seconds }
    }
}

/// The query of a page that stays as it is.
const STILL: &str = "still";

/// What a page is besides its content.
pub(super) struct Page<'a> {
    pub(super) title: &'a str,
    /// From the page to `/`. Links are relative, so that they hold behind a proxy.
    pub(super) root: &'a str,
    /// Whether it is loaded again by itself; `None` where it does not show the present.
    pub(super) refresh: Option<Refresh>,
}

impl Page<'_> {
    /// The whole document.
    pub(super) fn with(&self, content: &Markup) -> String {
        let title = if self.root.is_empty() {
            self.title.to_owned()
        } else {
            format!("{} – tesseract-exporter", self.title)
        };
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    title { (title) }
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    @if self.refresh == Some(Refresh::Every10Seconds) { meta http-equiv="refresh" content="10"; }
                    // None, so that a browser does not ask for one.
                    link rel="icon" href="data:,";
                    link rel="stylesheet" href={ (self.root) "style.css" };
                }
                body {
                    header {
                        nav aria-label="Pages" {
                            a href=(if self.root.is_empty() { "./" } else { self.root }) { "tesseract-exporter" }
                            a href={ (self.root) "runbooks/" } { "Runbooks" }
                        }
                        @match self.refresh {
                            Some(Refresh::Every10Seconds) => span.quiet {
                                "Reloads every 10 s, " a href={ "?" (STILL) } { "stop" }
                            },
                            Some(Refresh::Stopped) => span.quiet { "Stands still, " a href="?" { "go on" } },
                            None => {},
                        }
                    }
                    main { (content) }
                }
            }
        };
        page.into_string()
    }
}

/// A state as a word on a colour.
pub(super) fn badge(level: Level, word: &str) -> Markup {
    html! { span class={ "badge " (level.word()) } { (word) } }
}

/// A state with its reason, and what to do. `root` is the way from the page to `/`.
fn state_line(state: &State, root: &str) -> Markup {
    html! {
        (badge(state.level, state.level.word())) " " (state.text)
        @if let Some(runbook) = state.runbook {
            " – " a href={ (root) "runbooks/" (runbook) } { "what to do" }
        }
    }
}

/// A link to elsewhere that tells nothing there of where it stood.
pub(super) fn outside_link(to: &str, text: &Markup) -> Markup {
    html! { a href=(to) rel="noreferrer" { (text) } }
}

/// The list of runbooks, each with what its alert means.
pub(super) fn runbooks() -> String {
    let content = html! {
        h1 { "Runbooks" }
        p { "What each alert means, and what to do." }
        ul.runbooks {
            @for (name, text) in RUNBOOKS {
                li { a href=(name) { (name) } " " (PreEscaped(rendered(meaning(text)))) }
            }
        }
    };
    Page { title: "Runbooks", root: "../", refresh: None }.with(&content)
}

/// The runbook of an alert, if there is one.
pub(super) fn runbook(alert: &str) -> Option<String> {
    let (name, text) = RUNBOOKS.iter().find(|(name, _)| *name == alert)?;
    let content = html! {
        p { a href="./" { "All runbooks" } }
        (PreEscaped(rendered(text)))
    };
    Some(Page { title: name, root: "../", refresh: None }.with(&content))
}

/// The first sentence of what an alert means.
fn meaning(text: &str) -> &str {
    let paragraph = text.split("## Meaning").nth(1).unwrap_or("").trim_start().lines().next().unwrap_or("");
    paragraph.split_inclusive(". ").next().unwrap_or(paragraph).trim_end()
}

fn rendered(text: &str) -> String {
    let events = Parser::new_ext(text, Options::ENABLE_TABLES).map(|event| match event {
        Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
            Event::Start(Tag::Link { link_type, dest_url: as_served(dest_url), title, id })
        }
        other => other,
    });
    let mut body = String::new();
    markdown::push_html(&mut body, events);
    body
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

    #[test]
    fn every_runbook_says_in_a_sentence_what_it_is_about() {
        for (name, text) in RUNBOOKS {
            let meaning = meaning(text);
            assert!(meaning.len() > 10 && meaning.ends_with(['.', ':']), "{name}: {meaning:?}");
        }
    }
}
