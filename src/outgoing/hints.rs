//! How long a gateway says that it wants to be left alone, in any of the ways in which they say it.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header;
use reqwest::header::HeaderMap;

/// Longest wait that a gateway can ask for.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// Words after which the wait stands in the body of an error, as gateways write them.
const BEFORE: [&str; 8] = [
    "try again in",
    "retry in",
    "retry after",
    "retry_after_seconds",
    "retry_after",
    "retry-after",
    "retrydelay",
    "wait",
];

/// What headers and body of an answer say. The headers count first.
pub fn wait(headers: &HeaderMap, body: &str, now: Timestamp) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let in_ms = text("retry-after-ms").and_then(|value| value.trim().parse::<f64>().ok());
    let in_ms = in_ms.and_then(|ms| Duration::try_from_secs_f64(ms / 1000.0).ok());
    let by_header = || text(header::RETRY_AFTER.as_str()).and_then(|value| by_header(value, now));
    let found = in_ms.or_else(by_header).or_else(|| by_words(body));
    found.map(|wait| wait.min(WAIT_MAX))
}

/// Retry-After (RFC 9110 10.2.3): seconds or a date. Some send a fraction.
fn by_header(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if value.starts_with(|c: char| c.is_ascii_digit())
        && value.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    {
        // More digits than a number has are more than an hour.
        let seconds = value.parse::<f64>().ok()?;
        return Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Duration::from_secs(u64::try_from(at.as_second() - now.as_second()).unwrap_or(0)))
}

/// `Please try again in 1m20.5s`, `retry after 20 seconds`, `"retryDelay": "20s"`. Nothing else of
/// the body is looked at: it may repeat the request.
fn by_words(body: &str) -> Option<Duration> {
    let body = body.to_ascii_lowercase();
    let after = |words: &&str| {
        let places = body.match_indices(*words).map(|(at, words)| &body[at + words.len()..]);
        places.filter_map(span).next()
    };
    BEFORE.iter().find_map(after)
}

/// A span of time at the beginning, behind quotes and colons. A number without a unit is of seconds.
fn span(text: &str) -> Option<Duration> {
    let mut rest = text.trim_start_matches(['"', '\'', ':', '=', ' ', '\\']);
    let (mut seconds, mut is_any) = (0.0, false);
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let Ok(number) = rest[..end].trim_end_matches('.').parse::<f64>() else { break };
        let unit = rest[end..].trim_start();
        let letters = unit.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(unit.len());
        is_any = true;
        seconds += number
            * match &unit[..letters] {
                "ms" | "milliseconds" => 0.001,
                "m" | "min" | "minute" | "minutes" => 60.0,
                "h" | "hour" | "hours" => 3600.0,
                _ => 1.0,
            };
        rest = &unit[letters..];
    }
    is_any.then(|| Duration::try_from_secs_f64(seconds).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_understood_however_it_is_said() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let ms = Duration::from_millis;
        for (name, value, body, expected) in [
            ("retry-after", "0", "", Some(ms(0))),
            ("retry-after", "7", "try again in 90s", Some(ms(7000))),
            ("retry-after", " 30 ", "", Some(ms(30_000))),
            ("retry-after", "1.5", "", Some(ms(1500))),
            ("retry-after", "3600", "", Some(ms(3_600_000))),
            ("retry-after", "99999999999999999999999", "", Some(WAIT_MAX)),
            ("retry-after", "Fri, 02 Jan 2026 03:05:05 GMT", "", Some(ms(60_000))),
            ("retry-after", "Fri, 02 Jan 2026 03:00:00 GMT", "", Some(ms(0))),
            ("retry-after", "Sat, 02 Jan 2027 03:04:05 GMT", "", Some(WAIT_MAX)),
            ("retry-after", "", "", None),
            ("retry-after", "-5", "", None),
            ("retry-after", "soon", "", None),
            ("retry-after-ms", "1500", "", Some(ms(1500))),
            ("x", "", r#"{"error": {"message": "Please try again in 20s."}}"#, Some(ms(20_000))),
            ("x", "", "Rate limit reached. Try again in 1m20.5s. See", Some(ms(80_500))),
            ("x", "", "try again in 250ms", Some(ms(250))),
            ("x", "", r#"{"@type": "RetryInfo", "retryDelay": "34s"}"#, Some(ms(34_000))),
            ("x", "", r#"{"detail": {"retry_after": 12}}"#, Some(ms(12_000))),
            ("x", "", "Please retry after 6 seconds", Some(ms(6_000))),
            ("x", "", "Retry in 2 minutes", Some(ms(120_000))),
            ("x", "", "please wait a moment", None),
            ("x", "", "You exceeded your current quota", None),
        ] {
            let mut headers = HeaderMap::new();
            let name: header::HeaderName = name.parse().unwrap();
            headers.insert(name.clone(), value.parse().unwrap());
            assert_eq!(wait(&headers, body, now), expected, "{name}: {value:?} {body}");
        }
    }
}
