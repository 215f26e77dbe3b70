//! A scrape as series and values, read by the tests' own few lines rather than by a client library.
//!
//! Never lenient: what is not the Prometheus text format panics.

use std::collections::BTreeMap;

/// One scrape: series, with the labels sorted by name, to the value as it was written.
///
/// A key reads like the exposition: `tesseract_synced{network="a"}`, or a bare name without labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series(pub BTreeMap<String, String>);

impl Series {
    /// Reads the Prometheus text format; anything malformed panics.
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let mut series = BTreeMap::new();
        for line in samples {
            let (key, value) = sample(line).unwrap_or_else(|| panic!("not a sample: {line:?}"));
            assert!(series.insert(key, value).is_none(), "twice: {line:?}");
        }
        Self(series)
    }

    /// The value of one series, with its labels sorted by name.
    pub fn get(&self, key: &str) -> Option<f64> {
        self.0.get(key).map(|value| value.parse().unwrap_or_else(|_| panic!("{key}: {value:?} is no number")))
    }

    /// The series of one network.
    pub fn of(&self, network: &str) -> Self {
        let label = format!("network=\"{network}\"");
        let matches = |key: &str| key.contains(&format!("{{{label}")) || key.contains(&format!(",{label}"));
        Self(self.0.iter().filter(|(key, _)| matches(key)).map(|(k, v)| (k.clone(), v.clone())).collect())
    }
}

impl std::fmt::Display for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|(key, value)| writeln!(f, "{key} {value}"))
    }
}

fn sample(line: &str) -> Option<(String, String)> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let end = label_end(rest)?;
            labels.push(&rest[..end]);
            rest = rest[end..].strip_prefix(',').unwrap_or(&rest[end..]);
        }
        rest = &rest[1..];
    }
    labels.sort_unstable();
    let key = if labels.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", labels.join(",")) };
    let value = rest.strip_prefix(' ')?.split(' ').next()?;
    Some((key, value.to_owned()))
}

/// Where `name="value"` ends at the start of `text`; a quote after a backslash ends nothing.
fn label_end(text: &str) -> Option<usize> {
    let open = text.find("=\"")? + 2;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(open) {
        match byte {
            b'"' if !escaped => return Some(at + 1),
            b'\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::Series;

    #[test]
    fn labels_are_sorted_and_escapes_kept() {
        let text = "# HELP a b\n# TYPE a gauge\na{z=\"1\",b=\"x } \\\" , \\\\\"} 2.5\nplain 3 1700000000\n";
        let series = Series::parse(text);
        assert_eq!(series.get(r#"a{b="x } \" , \\",z="1"}"#), Some(2.5));
        assert_eq!(series.get("plain"), Some(3.0));
        assert_eq!(series.get("absent"), None);
    }

    #[test]
    fn one_network_of_several() {
        let series = Series::parse("a{network=\"x\"} 1\na{le=\"1\",network=\"y\"} 2\nb 3\n");
        assert_eq!(series.of("y").to_string(), "a{le=\"1\",network=\"y\"} 2\n");
    }
}
