//! Hours of the week, as a site names them.

use jiff::civil::Date;
use jiff::civil::DateTime;
use jiff::civil::Time;
use jiff::civil::Weekday;
use serde::Deserialize;
use serde::Serialize;

/// Weekdays as they stand in the configuration.
pub const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// A day that the site calls a holiday; it counts as no weekday then.
const HOLIDAY: &str = "holiday";

/// `HH:MM`.
pub fn clock(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
}

/// Place in [`DAYS`].
pub fn day(weekday: Weekday) -> &'static str {
    DAYS[usize::from(weekday.to_monday_zero_offset().unsigned_abs())]
}

/// Hours of the week, local time. Empty: always.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hours {
    /// "mon" to "sun", and "holiday". Empty: every day. Hours that go on after midnight belong to
    /// the day on which they begin.
    pub days: Vec<String>,
    /// "HH:MM"; empty: midnight.
    pub from: String,
    /// "HH:MM"; empty: midnight. At or before `from`: of the next day.
    pub to: String,
}

impl Hours {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        let known = |day: &str| DAYS.contains(&day) || day == HOLIDAY;
        for day in self.days.iter().filter(|day| !known(day)) {
            problems.push(format!("{at}.days: {day:?} is none of mon to sun and holiday"));
        }
        for (key, time) in [("from", &self.from), ("to", &self.to)] {
            if !time.is_empty() && clock(time).is_none() {
                problems.push(format!("{at}.{key} = {time:?}: use HH:MM"));
            }
        }
    }

    /// Whether they hold at a local time.
    pub fn holds(&self, now: DateTime, holidays: &[Date]) -> bool {
        let time = |text: &str| clock(text).unwrap_or(Time::midnight());
        let (from, to) = (time(&self.from), time(&self.to));
        let begins = |date: Date| {
            let today = if holidays.contains(&date) { HOLIDAY } else { day(date.weekday()) };
            self.days.is_empty() || self.days.iter().any(|day| day == today)
        };
        let (today, clock) = (now.date(), now.time());
        match from < to {
            true => begins(today) && from <= clock && clock < to,
            false => {
                (begins(today) && from <= clock)
                    || (clock < to && today.yesterday().is_ok_and(begins))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_hold_on_their_days_and_over_midnight() {
        let hours = |days: &[&str], from: &str, to: &str| Hours {
            days: days.iter().map(|&day| day.to_owned()).collect(),
            from: from.into(),
            to: to.into(),
        };
        let work = hours(&["mon", "tue", "wed", "thu", "fri"], "08:00", "18:00");
        let night = hours(&[], "18:00", "08:00");
        let weekend = hours(&["sat", "sun", "holiday"], "", "");
        let friday_night = hours(&["fri"], "22:00", "06:00");
        let christmas = [jiff::civil::date(2026, 12, 25)];
        // 2026-12-24 is a Thursday.
        for (at, expected) in [
            ("2026-12-24T07:59", [false, true, false, false]),
            ("2026-12-24T08:00", [true, false, false, false]),
            ("2026-12-24T18:00", [false, true, false, false]),
            ("2026-12-25T10:00", [false, false, true, false]),
            ("2026-12-25T23:00", [false, true, true, false]),
            ("2026-12-18T23:00", [false, true, false, true]),
            ("2026-12-19T05:59", [false, true, true, true]),
            ("2026-12-19T06:00", [false, true, true, false]),
            ("2026-12-20T05:00", [false, true, true, false]),
        ] {
            let now: DateTime = at.parse().unwrap();
            let found = [&work, &night, &weekend, &friday_night];
            assert_eq!(found.map(|hours| hours.holds(now, &christmas)), expected, "{at}");
        }
        assert!(Hours::default().holds("2026-12-25T00:00".parse().unwrap(), &christmas));
    }

    #[test]
    fn a_day_or_time_that_is_none_is_named() {
        let wrong = Hours { days: vec!["Monday".into()], from: "8".into(), to: "25:00".into() };
        let mut problems = Vec::new();
        wrong.check("alert.rules.0.hours", &mut problems);
        assert_eq!(problems.len(), 3, "{problems:?}");
    }
}
