//! The shipped configurations with time that runs faster: every duration in a copy divided by the same number, so that an
//! hour of waiting is a minute, and everything keeps its proportion to everything else.
//!
//! Knows how durations are written in Prometheus's and Alertmanager's files and in the rules, and nothing of what they mean.
//! Never touches what counts transactions or compares seconds of block time.

/// No interval becomes shorter than this: below it one would test the machine.
const LEAST_INTERVAL_MS: u64 = 200;

/// Keys whose value is how often something is done, or how long what belongs together may take to arrive.
const INTERVALS: [&str; 5] =
    ["scrape_interval", "scrape_timeout", "evaluation_interval", "interval", "group_wait"];

/// A rule file or a configuration, `speed` times as fast.
pub fn faster(text: &str, speed: u64) -> String {
    let mut faster = String::with_capacity(text.len());
    // Whether the value below is a threshold in seconds of the clock; the delay of a resolution is block time.
    let mut seconds = false;
    for line in text.split_inclusive('\n') {
        let key = line.trim_start().trim_start_matches("- ").split(':').next().unwrap_or_default();
        if line.trim_start().starts_with("- record: ") {
            let name = line.trim_end();
            seconds = name.ends_with("_seconds:threshold") && !name.contains("resolution_delay");
        }
        let least = if INTERVALS.contains(&key) { LEAST_INTERVAL_MS } else { 1 };
        let mut line = durations(line, speed, least);
        if seconds {
            line = numbers_after(&line, "vector(", speed);
        }
        faster += &numbers_after(&line, " - ", speed);
    }
    faster
}

/// `5m` → `5000ms` at 60, and so on; only where it is no part of a name.
fn durations(line: &str, speed: u64, least: u64) -> String {
    let mut out = String::with_capacity(line.len());
    let mut before = ' ';
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let part_of_a_name = before.is_ascii_alphanumeric() || before == '_' || before == '.';
        match duration(rest).filter(|_| !part_of_a_name) {
            Some((length, millis)) => {
                out += &format!("{}ms", (millis / speed).max(least));
                before = 's';
                rest = &rest[length..];
            }
            None => {
                out.push(first);
                before = first;
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    out
}

/// The duration that a text begins with: its length in bytes and in milliseconds.
fn duration(text: &str) -> Option<(usize, u64)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit: String = text[digits..].chars().take_while(char::is_ascii_alphabetic).collect();
    let millis = match unit.as_str() {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let ends = !text[digits + unit.len()..].starts_with(|it: char| it.is_ascii_alphanumeric() || it == '_');
    ends.then_some((digits + unit.len(), number * millis))
}

/// Seconds that an expression subtracts from a time, or that a threshold is; a factor has one digit.
fn numbers_after(line: &str, mark: &str, speed: u64) -> String {
    let Some(place) = line.find(mark) else { return line.to_owned() };
    let (before, number) = line.split_at(place + mark.len());
    let digits = number.bytes().take_while(u8::is_ascii_digit).count();
    match number[..digits].parse::<u64>() {
        Ok(seconds) if digits > 1 => {
            format!("{before}{}{}", seconds as f64 / speed as f64, &number[digits..])
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_and_no_name_is_divided() {
        let cases = [
            ("for: 10m\n", "for: 10000ms\n"),
            ("  - {name: x, interval: 5s}\n", "  - {name: x, interval: 83ms}\n"),
            ("scrape_interval: 5s\n", "scrape_interval: 200ms\n"),
            ("    interval: 5s\n", "    interval: 200ms\n"),
            (
                "last_over_time(a:known[1d:5m] offset 1s)",
                "last_over_time(a:known[1440000ms:5000ms] offset 16ms)",
            ),
            ("a:increase5m / b:p95_10m / c5m", "a:increase5m / b:p95_10m / c5m"),
            ("- record: tesseract:x:p95_10m\n", "- record: tesseract:x:p95_10m\n"),
            ("a > time() - 3600\n", "a > time() - 60\n"),
            ("l - 3 * sqrt(l / 60)", "l - 3 * sqrt(l / 60)"),
            (") - 300\n", ") - 5\n"),
            (
                "- record: a:age_seconds:threshold\n  expr: vector(120)\n- record: b\n  expr: vector(10)\n",
                "- record: a:age_seconds:threshold\n  expr: vector(2)\n- record: b\n  expr: vector(10)\n",
            ),
            (
                "- record: a:resolution_delay_seconds:threshold\n  expr: vector(60)\n",
                "- record: a:resolution_delay_seconds:threshold\n  expr: vector(60)\n",
            ),
        ];
        for (shipped, expected) in cases {
            assert_eq!(faster(shipped, 60), expected);
        }
    }
}
