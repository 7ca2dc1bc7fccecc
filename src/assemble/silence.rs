//! Who is missed: a source that usually sends by now and does not. Pure.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::ae_title::AeTitle;
use crate::domain::hours::DAYS;
use crate::domain::hours::clock;
use crate::domain::hours::day;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether each source's own weeks say when it is missed.
    pub learn: bool,
    /// Weeks that must be known before.
    pub weeks_min: u32,
    /// How unlikely a silence must be, judged by those weeks, before it is told.
    pub certainty: f64,
    /// Sources with hours of their own, by name: `[assemble.silence.sources.ct1]`.
    pub sources: BTreeMap<String, Source>,
}

impl Default for Config {
    fn default() -> Config {
        Config { learn: true, weeks_min: 3, certainty: 0.99, sources: BTreeMap::new() }
    }
}

/// Hours in which a source must send.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub ae_title: AeTitle,
    /// Longest silence within its hours.
    pub longest_s: u64,
    /// "mon" to "sun". Empty: every day.
    #[serde(default)]
    pub days: Vec<String>,
    /// "HH:MM", local time.
    #[serde(default = "midnight")]
    pub from: String,
    #[serde(default = "end_of_day")]
    pub to: String,
}

fn midnight() -> String {
    "00:00".to_owned()
}

fn end_of_day() -> String {
    "23:59".to_owned()
}

impl Config {
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        let weeks = self.weeks_min;
        if !(2..=6).contains(&weeks) {
            let why = "one week is no habit, and six are kept";
            problems.push(format!("{at}.weeks_min = {weeks}: use 2 to 6 (default 3); {why}"));
        }
        let certainty = self.certainty;
        if !(0.9..=0.9999).contains(&certainty) {
            let why = "less warns every quiet hour, more never warns";
            problems.push(format!(
                "{at}.certainty = {certainty}: use 0.9 to 0.9999 (default 0.99); {why}"
            ));
        }
        for (name, source) in &self.sources {
            let at = format!("{at}.sources.{name}");
            if source.longest_s == 0 || source.longest_s > 7 * 86_400 {
                let why = "it would be missed always or never";
                problems
                    .push(format!("{at}.longest_s = {}: use 1 to 604800; {why}", source.longest_s));
            }
            for day in source.days.iter().filter(|day| !DAYS.contains(&day.as_str())) {
                problems.push(format!("{at}.days: {day:?} is none of mon to sun"));
            }
            for (key, time) in [("from", &source.from), ("to", &source.to)] {
                if clock(time).is_none() {
                    problems.push(format!("{at}.{key} = {time:?}: use HH:MM"));
                }
            }
        }
    }
}

/// What is known of a source.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Hours since 1970 (UTC) in which something came, ascending.
    pub active_hours: &'a [u32],
    pub first_at: Timestamp,
    pub last_at: Timestamp,
}

/// Whether a source is silent that should not be, in words for people.
///
/// - `zone`: of the people who work there: a weekday and an hour are local.
pub fn silent(
    calling_ae: &str,
    seen: Seen<'_>,
    now: Timestamp,
    zone: &TimeZone,
    config: &Config,
) -> Option<String> {
    let since = now.duration_since(seen.last_at);
    let told = format!("{calling_ae} has sent nothing for {}", words(since));
    if let Some(source) =
        config.sources.values().find(|source| source.ae_title.as_str() == calling_ae)
    {
        let begun = opened(source, now, zone)?;
        let silence = now.duration_since(seen.last_at.max(begun));
        let longest = SignedDuration::from_secs(source.longest_s.min(7 * 86_400) as i64);
        return (silence > longest).then(|| format!("{told}; {} is its limit", words(longest)));
    }
    if !config.learn {
        return None;
    }
    let weeks = now.duration_since(seen.first_at).as_hours() / (7 * 24);
    let weeks = u32::try_from(weeks).ok()?.min(6);
    if weeks < config.weeks_min {
        return None;
    }
    let quiet = chance_of_silence(seen, now, zone, weeks);
    (quiet < 1.0 - config.certainty)
        .then(|| format!("{told}; in the last {weeks} weeks it did not pause so long at this time"))
}

/// How likely the full hours since the last arrival are all empty, by what the same hours of the
/// same weekdays were in the last `weeks`. One empty week more than were seen is added to each, so
/// that a few weeks prove nothing.
fn chance_of_silence(seen: Seen<'_>, now: Timestamp, zone: &TimeZone, weeks: u32) -> f64 {
    let hour_of = |time: Timestamp| time.as_second().div_euclid(3600);
    let slot = |hour: i64| {
        let time = Timestamp::from_second(hour * 3600).unwrap_or(Timestamp::UNIX_EPOCH);
        let local = time.to_zoned(zone.clone());
        (local.weekday(), local.hour())
    };
    let (last, this) = (hour_of(seen.last_at), hour_of(now));
    let oldest = last - i64::from(weeks) * 7 * 24;
    let mut active: BTreeMap<(i8, i8), u32> = BTreeMap::new();
    for hour in seen.active_hours.iter().map(|&hour| i64::from(hour)).filter(|h| *h >= oldest) {
        let (day, hour) = slot(hour);
        *active.entry((day.to_monday_zero_offset(), hour)).or_default() += 1;
    }
    let mut chance = 1.0;
    // A longer silence is no surer than one of a week.
    for hour in (last + 1).max(this - 7 * 24)..this {
        let (day, hour) = slot(hour);
        let times = active.get(&(day.to_monday_zero_offset(), hour)).copied().unwrap_or(0);
        chance *= 1.0 - f64::from(times.min(weeks)) / f64::from(weeks + 1);
    }
    chance
}

/// When the hours of a source began, if they are now.
fn opened(source: &Source, now: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let local = now.to_zoned(zone.clone());
    let day = day(local.weekday());
    let works = source.days.is_empty() || source.days.iter().any(|one| one == day);
    let (from, to) = (clock(&source.from)?, clock(&source.to)?);
    let within = works && from <= local.time() && local.time() <= to;
    let begun = local.date().to_datetime(from).to_zoned(zone.clone()).ok()?;
    within.then(|| begun.timestamp())
}

fn words(time: SignedDuration) -> String {
    let minutes = time.as_mins();
    match minutes {
        ..2 => format!("{} s", time.as_secs()),
        2..120 => format!("{minutes} min"),
        120..2880 => format!("{} h", minutes / 60),
        _ => format!("{} days", minutes / 1440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday, 2026-01-05, 00:00 UTC.
    const MONDAY: i64 = 1_767_571_200;

    /// `week`, day (0 is Monday), hour and minute after the first Monday.
    fn at(week: i64, day: i64, hour: i64, minute: i64) -> Timestamp {
        let second = ((week * 7 + day) * 24 + hour) * 3600 + minute * 60;
        Timestamp::from_second(MONDAY + second).unwrap()
    }

    /// A scanner that works from 8 to 17, Monday to Friday, and sends every hour, until `last`.
    fn working_weeks(last: Timestamp) -> Vec<u32> {
        let mut hours = Vec::new();
        for (week, day, hour) in
            (0..8).flat_map(|w| (0..5).flat_map(move |d| (8..18).map(move |h| (w, d, h))))
        {
            let time = at(week, day, hour, 30);
            if time <= last {
                hours.push((time.as_second() / 3600) as u32);
            }
        }
        hours
    }

    fn learned(last: Timestamp, now: Timestamp, first: Timestamp) -> bool {
        let hours = working_weeks(last);
        let seen = Seen { active_hours: &hours, first_at: first, last_at: last };
        silent("CT1", seen, now, &TimeZone::UTC, &Config::default()).is_some()
    }

    #[test]
    fn a_source_is_missed_when_its_own_weeks_say_so() {
        let first = at(0, 0, 8, 0);
        for (name, last, now, expected) in [
            ("it has just sent", at(4, 2, 10, 30), at(4, 2, 10, 45), false),
            ("an hour or two is nothing", at(4, 2, 10, 30), at(4, 2, 13, 10), false),
            ("half a working day is", at(4, 2, 10, 30), at(4, 2, 14, 10), true),
            ("the night is quiet as always", at(4, 2, 17, 30), at(4, 3, 7, 50), false),
            ("the weekend too", at(4, 4, 17, 30), at(5, 0, 8, 50), false),
            ("Monday noon and nothing since Friday", at(4, 4, 17, 30), at(5, 0, 11, 50), true),
            ("two weeks are no habit", at(1, 4, 17, 30), at(2, 0, 13, 0), false),
        ] {
            assert_eq!(learned(last, now, first), expected, "{name}");
        }
    }

    #[test]
    fn hours_are_local() {
        let hours = working_weeks(at(4, 2, 10, 30));
        let first_at = at(0, 0, 8, 0);
        let seen = Seen { active_hours: &hours, first_at, last_at: at(4, 2, 10, 30) };
        let zone = TimeZone::fixed(jiff::tz::offset(9));
        let found = silent("CT1", seen, at(4, 2, 14, 10), &zone, &Config::default());
        let text = found.unwrap();
        assert!(text.starts_with("CT1 has sent nothing for 3 h"), "{text}");
    }

    #[test]
    fn hours_of_the_settings_go_before_what_was_learned() {
        let source = |days: &[&str]| Source {
            ae_title: AeTitle::parse("CT1").unwrap(),
            longest_s: 3600,
            days: days.iter().map(|&day| day.to_owned()).collect(),
            from: "08:00".into(),
            to: "18:00".into(),
        };
        let seen = |last_at| Seen { active_hours: &[], first_at: at(0, 0, 0, 0), last_at };
        for (name, days, last, now, expected) in [
            ("within the hour", &[][..], at(0, 0, 10, 0), at(0, 0, 10, 59), false),
            ("over it", &[], at(0, 0, 10, 0), at(0, 0, 11, 1), true),
            ("the night does not count", &[], at(0, 0, 17, 0), at(0, 1, 8, 30), false),
            ("an hour after the morning", &[], at(0, 0, 17, 0), at(0, 1, 9, 1), true),
            ("not in its hours", &[], at(0, 0, 10, 0), at(0, 0, 19, 0), false),
            ("not on its days", &["tue", "wed"], at(0, 0, 8, 0), at(0, 0, 12, 0), false),
            ("on its days", &["mon"], at(0, 0, 8, 0), at(0, 0, 12, 0), true),
        ] {
            let sources = BTreeMap::from([("ct1".to_owned(), source(days))]);
            let config = Config { sources, ..Config::default() };
            let found = silent("CT1", seen(last), now, &TimeZone::UTC, &config);
            assert_eq!(found.is_some(), expected, "{name}: {found:?}");
        }
        let mut problems = Vec::new();
        let bad = Source { longest_s: 0, from: "8".into(), ..source(&["monday"]) };
        let sources = BTreeMap::from([("ct1".to_owned(), bad)]);
        Config { sources, weeks_min: 1, certainty: 2.0, ..Config::default() }
            .check("assemble.silence", &mut problems);
        assert_eq!(problems.len(), 5, "{problems:?}");
    }
}
