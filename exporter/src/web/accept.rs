//! What a client accepts: which exposition format, whether JSON or a page, and how it is to be compressed.
//!
//! Pure. Refuses nobody: what is not understood is passed over.

use hyper::header::HeaderValue;

use crate::metrics::Format;

/// Every format, the default first.
const FORMATS: [Format; 3] = [Format::PrometheusText, Format::OpenMetrics, Format::Protobuf];

/// The acceptable format of the highest quality; among equals the one named first, then the default.
/// Where nothing that is offered is acceptable the default is sent all the same, as every client
/// library does: a scraper that speaks neither says so better than a 406 would.
pub(super) fn negotiate<'a>(accept: impl IntoIterator<Item = &'a HeaderValue>) -> Format {
    preferred(accept, FORMATS, Range::specificity)
}

/// Whether a page is rather wanted as JSON than as HTML, which is the default.
pub(super) fn prefers_json<'a>(accept: impl IntoIterator<Item = &'a HeaderValue>) -> bool {
    let html_or_json = [false, true];
    preferred(accept, html_or_json, |range, json| match json {
        false => range.names("text", "html"),
        true => range.names("application", "json"),
    })
}

/// One of those that are offered, the default first. Each range tells how closely it names one.
fn preferred<'a, T: Copy, const N: usize>(
    accept: impl IntoIterator<Item = &'a HeaderValue>,
    offered: [T; N],
    names: impl Fn(&Range<'a>, T) -> Option<u8>,
) -> T {
    let ranges: Vec<Range<'_>> = accept
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(Range::parse)
        .collect();

    let mut best = (offered[0], 0.0, usize::MAX);
    for one in offered {
        // Of several ranges that match, the most specific one speaks; of equally specific ones the first.
        let matching = ranges.iter().enumerate().filter_map(|(place, range)| {
            names(range, one).map(|specificity| (specificity, usize::MAX - place, range.quality))
        });
        let Some((_, place, quality)) = matching.max_by_key(|(specificity, place, _)| (*specificity, *place))
        else {
            continue;
        };
        let place = usize::MAX - place;
        if quality > best.1 || (quality == best.1 && quality > 0.0 && place < best.2) {
            best = (one, quality, place);
        }
    }
    best.0
}

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Zstd,
}

impl Coding {
    /// Every one, that of whoever takes anything first.
    pub(super) const ALL: [Self; 2] = [Self::Gzip, Self::Zstd];

    /// The value of the `Content-Encoding` header.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// How an answer is to be compressed: as an `Accept-Encoding` prefers, among equals as the one named first. `None` where
/// nothing that is offered is wanted at least as much as a plain one.
pub(super) fn coding<'a>(accept: impl IntoIterator<Item = &'a HeaderValue>) -> Option<Coding> {
    let (mut named, mut identity, mut any) = (Vec::new(), 0.0, None);
    let values = accept.into_iter().filter_map(|value| value.to_str().ok());
    for element in values.flat_map(|value| value.split(',')) {
        let (coding, parameters) = element.split_once(';').unwrap_or((element, ""));
        let mut parameters = parameters.split(';').filter_map(parameter);
        let Some(quality) = parameters.find(|(name, _)| name == "q").map_or(Some(1.0), |(_, q)| quality(q))
        else {
            continue;
        };
        match coding.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => named.push((Coding::Gzip, quality)),
            "zstd" => named.push((Coding::Zstd, quality)),
            "identity" => identity = quality,
            "*" => any = Some(quality),
            _ => (),
        }
    }
    let unnamed = Coding::ALL.into_iter().filter(|coding| named.iter().all(|(of, _)| of != coding));
    let unnamed: Vec<_> = unnamed.filter_map(|coding| Some((coding, any?))).collect();
    let wanted =
        named.into_iter().chain(unnamed).filter(|(_, quality)| *quality > 0.0 && *quality >= identity);
    // Of equals the last one is the greatest, and so the first one in reverse.
    wanted.rev().max_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(coding, _)| coding)
}

/// Name in small letters and value of `name=value`.
fn parameter(text: &str) -> Option<(String, &str)> {
    let (name, value) = text.split_once('=')?;
    Some((name.trim().to_ascii_lowercase(), value.trim().trim_matches('"')))
}

/// `None` for what is no quality.
fn quality(text: &str) -> Option<f32> {
    text.parse().ok().filter(|q| (0.0..=1.0).contains(q))
}

/// One element of an `Accept` header.
struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    version: Option<&'a str>,
    proto: Option<&'a str>,
    encoding: Option<&'a str>,
    quality: f32,
}

impl<'a> Range<'a> {
    /// `None` for what is not a media range; it is passed over.
    fn parse(element: &'a str) -> Option<Self> {
        let mut parts = element.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let mut range = Self { kind, subtype, version: None, proto: None, encoding: None, quality: 1.0 };
        for (name, value) in parts.filter_map(parameter) {
            match name.as_str() {
                "q" => range.quality = quality(value)?,
                "version" => range.version = Some(value),
                "proto" => range.proto = Some(value),
                "encoding" => range.encoding = Some(value),
                _ => {}
            }
        }
        Some(range)
    }

    /// How closely the range names the format; `None` when it does not match.
    fn specificity(&self, format: Format) -> Option<u8> {
        let (kind, subtype, version) = match format {
            Format::PrometheusText => ("text", "plain", "0.0.4"),
            Format::OpenMetrics => ("application", "openmetrics-text", "1.0.0"),
            Format::Protobuf => return self.names_protobuf().then_some(3),
        };
        match (self.names(kind, subtype)?, self.version) {
            (2, Some(asked)) => (asked == version).then_some(3),
            (specificity, _) => Some(specificity),
        }
    }

    /// How closely the range names a media type, whatever its parameters; `None` when it does not match.
    fn names(&self, kind: &str, subtype: &str) -> Option<u8> {
        match (self.kind, self.subtype) {
            ("*", "*") => Some(0),
            (of, "*") if of.eq_ignore_ascii_case(kind) => Some(1),
            (of, name) if of.eq_ignore_ascii_case(kind) && name.eq_ignore_ascii_case(subtype) => Some(2),
            _ => None,
        }
    }

    /// Protobuf is for those who ask for just these messages: whoever takes anything can read a text.
    fn names_protobuf(&self) -> bool {
        self.kind.eq_ignore_ascii_case("application")
            && self.subtype.eq_ignore_ascii_case("vnd.google.protobuf")
            && self.proto == Some("io.prometheus.client.MetricFamily")
            && self.encoding == Some("delimited")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: Format = Format::PrometheusText;
    const OPEN_METRICS: Format = Format::OpenMetrics;
    const PROTOBUF: Format = Format::Protobuf;

    #[test]
    fn prefers_what_the_scraper_prefers() {
        let table = [
            // Prometheus 2.42
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                OPEN_METRICS,
            ),
            // Prometheus 3
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                OPEN_METRICS,
            ),
            // Prometheus 3 with native histograms
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                PROTOBUF,
            ),
            // Prometheus 2.42 with native histograms
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0;q=0.8,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                PROTOBUF,
            ),
            // Other messages, another encoding, or not said which
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text,*/*;q=0.1",
                TEXT,
            ),
            (
                "application/vnd.google.protobuf;proto=openmetrics.MetricSet;encoding=delimited,*/*;q=0.1",
                TEXT,
            ),
            ("application/vnd.google.protobuf", TEXT),
            ("application/openmetrics-text;q=0.5,application/vnd.google.protobuf;q=0.9", OPEN_METRICS),
            // Less wanted than a text
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.4,text/plain;q=0.5",
                TEXT,
            ),
            // Prometheus 3 told to scrape text 0.0.4 only
            ("text/plain;version=0.0.4;q=0.3,*/*;q=0.2", TEXT),
            // A browser, curl
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", TEXT),
            ("*/*", TEXT),
            ("text/*", TEXT),
            ("application/*", OPEN_METRICS),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\"", OPEN_METRICS),
            ("application/openmetrics-text", OPEN_METRICS),
            // A version that is not spoken
            ("application/openmetrics-text;version=0.0.1", TEXT),
            ("application/openmetrics-text;version=2.0.0,text/plain;q=0.1", TEXT),
            // Equals: the first named
            ("text/plain,application/openmetrics-text", TEXT),
            ("application/openmetrics-text,text/plain", OPEN_METRICS),
            // The most specific range speaks, whatever its place
            ("text/*,text/plain;q=0.1,application/openmetrics-text;q=0.5", OPEN_METRICS),
            ("*/*;q=0.9,application/openmetrics-text;q=0.2", TEXT),
            ("text/plain;q=0,*/*;q=0.1", OPEN_METRICS),
            ("application/openmetrics-text;q=0,*/*", TEXT),
            // Nothing acceptable
            ("application/openmetrics-text;q=0", TEXT),
            ("text/plain;q=0,application/openmetrics-text;q=0", TEXT),
            ("image/png", TEXT),
            // Malformed elements are passed over, the rest counts
            ("", TEXT),
            (",;,/,;q=1,=", TEXT),
            ("openmetrics-text", TEXT),
            ("application/openmetrics-text;q=high", TEXT),
            ("application/openmetrics-text;q=NaN", TEXT),
            ("application/openmetrics-text;q=1.5", TEXT),
            ("application/openmetrics-text;q=-1", TEXT),
            ("text/plain;q=x,application/openmetrics-text;q=0.1", OPEN_METRICS),
            ("application/openmetrics-text;version;q=0.5;;", OPEN_METRICS),
        ];
        for (accept, expected) in table {
            let header = HeaderValue::from_str(accept).unwrap();
            assert_eq!(negotiate([&header]), expected, "{accept}");
        }
    }

    #[test]
    fn json_where_it_is_preferred() {
        let table = [
            // A browser, curl
            ("text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8", false),
            ("*/*", false),
            ("", false),
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            // A library for scripts in browsers
            ("application/json, text/plain, */*", true),
            ("application/*", true),
            ("text/plain, application/json;q=0.5", true),
            ("application/json, text/html", true),
            ("text/html, application/json", false),
            ("application/json;q=0.5, text/html", false),
            ("text/html;q=0.5, application/json", true),
            ("*/*;q=0.5, application/json", true),
            ("application/json;q=0, */*", false),
            ("application/json;q=0", false),
            ("text/html;q=0, */*;q=0.1", true),
            ("application/jsonp", false),
        ];
        for (accept, expected) in table {
            let header = HeaderValue::from_str(accept).unwrap();
            assert_eq!(prefers_json([&header]), expected, "{accept}");
        }
        let (html, json) = ("text/html;q=0.5", "application/json;q=0.9");
        assert!(prefers_json([html, json].map(HeaderValue::from_static).iter()));
    }

    #[test]
    fn compressed_as_it_is_wanted() {
        let (gzip, zstd) = (Some(Coding::Gzip), Some(Coding::Zstd));
        let table = [
            // Prometheus
            ("gzip", gzip),
            // Prometheus that was told to take zstd
            ("zstd", zstd),
            ("zstd, gzip", zstd),
            // curl --compressed, browsers
            ("gzip, deflate, br, zstd", gzip),
            ("zstd;q=1.0, gzip;q=0.5", zstd),
            ("gzip;q=0.5, zstd;q=1.0", zstd),
            ("zstd;q=0.4, gzip;q=0.5", gzip),
            ("GZIP", gzip),
            ("ZStd", zstd),
            ("x-gzip", gzip),
            ("*", gzip),
            ("zstd;q=0.5, *", gzip),
            ("zstd, *;q=0.5", zstd),
            ("gzip;q=0.5, identity;q=0.5", gzip),
            ("", None),
            ("identity", None),
            ("deflate", None),
            ("gzip;q=0", None),
            ("gzip;q=0, *", zstd),
            ("gzip;q=0, zstd;q=0, *", None),
            ("gzip;q=0.1, identity;q=0.5", None),
            ("gzip;q=0.1, zstd;q=0.6, identity;q=0.5", zstd),
            ("gzip; q=0.5;foo=1", gzip),
            ("gzip;foo=1;q=0.5, zstd;q=0.4", gzip),
            ("gzip;foo=1, zstd;q=0.4", gzip),
            ("gzip;Q=0.5, zstd;Q=0.4", gzip),
            ("gzip;foo=1;q=0", None),
            ("gzip;q=2", None),
            ("gzip;q=x", None),
        ];
        for (accept, expected) in table {
            let header = HeaderValue::from_str(accept).unwrap();
            assert_eq!(coding([&header]), expected, "{accept}");
        }
        assert_eq!(coding([]), None);
    }

    proptest::proptest! {
        #[test]
        fn anything_gets_an_answer(bytes: Vec<u8>, text in "[a-z*/;=q.0-9, \"]{0,80}") {
            let headers = [bytes, text.into_bytes()].map(|bytes| HeaderValue::from_bytes(&bytes));
            negotiate(headers.iter().flatten());
            prefers_json(headers.iter().flatten());
            coding(headers.iter().flatten());
        }
    }

    #[test]
    fn several_headers_read_as_one() {
        let text = HeaderValue::from_static("text/plain;q=0.5");
        let open_metrics = HeaderValue::from_static("application/openmetrics-text");
        assert_eq!(negotiate([&text, &open_metrics]), OPEN_METRICS);
        assert_eq!(negotiate([]), TEXT);
        let not_text = HeaderValue::from_bytes(b"\xff\xfe").unwrap();
        assert_eq!(negotiate([&not_text, &open_metrics]), OPEN_METRICS);
    }
}
