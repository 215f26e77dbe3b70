//! Numbers and times as people read them. Pure; the time is passed in.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use web3::types::{H256, U256};

use crate::snapshot::hex;

/// The end of the year 9999, beyond which no date can be written.
const LATEST: u64 = 253_402_300_799;

/// A moment, `14 Nov 2023 22:13:20 UTC`; in seconds since the Unix epoch.
pub(super) fn utc(seconds: u64) -> String {
    if seconds > LATEST {
        return "after the year 9999".to_owned();
    }
    // `Tue, 14 Nov 2023 22:13:20 GMT`, every field of which has a fixed width.
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
    format!("{} UTC", date.get(5..25).unwrap_or(&date))
}

/// The same of a number of any size.
pub(super) fn utc_wide(seconds: U256) -> String {
    utc(u64::try_from(seconds).unwrap_or(u64::MAX))
}

/// Seconds since the Unix epoch.
pub(super) fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whoever waits longer does not count the days.
const CENTURY: u64 = 36_525 * 86_400;

/// A length of time by its two largest units: `45 s`, `2 min 5 s`, `3 h 20 min`, `12 d 4 h`.
pub(super) fn duration(seconds: u64) -> String {
    if seconds >= CENTURY {
        return "over 100 years".to_owned();
    }
    let units = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let Some(first) = units.iter().position(|(length, _)| seconds >= *length) else {
        return "0 s".to_owned();
    };
    let (length, name) = units[first];
    let (whole, rest) = (seconds / length, seconds % length);
    match units.get(first + 1).map(|(length, name)| (rest / length, name)) {
        Some((part, small)) if part > 0 => format!("{whole} {name} {part} {small}"),
        _ => format!("{whole} {name}"),
    }
}

/// How long ago a moment was, or in how long it will be.
pub(super) fn relative(then: u64, now: u64) -> String {
    match (then.checked_sub(now), now.checked_sub(then)) {
        (Some(0), _) => "now".to_owned(),
        (Some(left), _) => format!("in {}", duration(left)),
        (None, past) => format!("{} ago", duration(past.unwrap_or_default())),
    }
}

/// Thousands apart: `5,200,002`.
pub(super) fn count(number: impl Into<U256>) -> String {
    let digits = number.into().to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 block`, `5,000 blocks`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// A hash that fits a narrow column, by its two ends.
pub(super) fn short(hash: &H256) -> String {
    let whole = hex(hash);
    format!("{}…{}", &whole[..10], &whole[60..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        assert_eq!(utc(1_700_000_000), "14 Nov 2023 22:13:20 UTC");
        assert_eq!(utc(0), "01 Jan 1970 00:00:00 UTC");
        assert_eq!(utc(LATEST), "31 Dec 9999 23:59:59 UTC");
        assert_eq!(utc(LATEST + 1), "after the year 9999");
        assert_eq!(utc_wide(U256::MAX), "after the year 9999");
        let table = [(100, 100, "now"), (90, 100, "10 s ago"), (160, 100, "in 1 min")];
        for (then, now, expected) in table {
            assert_eq!(relative(then, now), expected);
        }
    }

    #[test]
    fn durations() {
        let table = [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (125, "2 min 5 s"),
            (3600, "1 h"),
            (3605, "1 h"),
            (12_000, "3 h 20 min"),
            (1_051_200, "12 d 4 h"),
            (u64::MAX, "over 100 years"),
        ];
        for (seconds, expected) in table {
            assert_eq!(duration(seconds), expected);
        }
    }

    #[test]
    fn numbers() {
        for (number, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), expected);
        }
        assert_eq!(counted(1, "block"), "1 block");
        assert_eq!(counted(0, "block"), "0 blocks");
        assert_eq!(short(&H256::repeat_byte(0xab)), "0xabababab…ababab");
    }
}
