//! Who is on call: rotations by hours of the week, with overrides and holidays. Pure.

use jiff::Timestamp;
use jiff::Unit;
use jiff::civil::Date;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::hours::Hours;

/// A place on duty that somebody holds at any time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Name of the IANA time zone in which its times stand. Empty: the site's.
    pub time_zone: String,
    /// Days that count as `holiday` and as no weekday, beside those of the site.
    pub holidays: Vec<Date>,
    /// Rotations; where several hold, the last one counts.
    pub layers: Vec<Layer>,
    /// Who stands in for whoever the layers name.
    pub overrides: Vec<Override>,
}

/// People who take turns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// Names of recipients, in the order of their turns.
    pub who: Vec<String>,
    /// When the first one's first turn begins, local time; handing over is at this time of the day.
    pub starts: DateTime,
    #[serde(default = "default_turn_hours")]
    pub turn_hours: u32,
    /// The hours in which this layer counts.
    #[serde(default)]
    pub hours: Hours,
}

fn default_turn_hours() -> u32 {
    7 * 24
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Override {
    pub who: String,
    pub from: DateTime,
    pub to: DateTime,
}

/// A stretch of time and who holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shift {
    pub from: Timestamp,
    pub to: Timestamp,
    /// None: nobody does.
    pub who: Option<String>,
}

impl Schedule {
    /// Adds one line to `problems` for each value that cannot work.
    ///
    /// - `known`: names of the recipients.
    pub fn check(&self, at: &str, known: &[&str], problems: &mut Vec<String>) {
        if let Err(why) = zone(&self.time_zone) {
            problems.push(format!("{at}.time_zone: {why}"));
        }
        if self.layers.is_empty() && self.overrides.is_empty() {
            problems.push(format!("{at}.layers = []: name at least one rotation; nobody hears"));
        }
        let mut is_known = |at: &str, who: &str| {
            if !known.contains(&who) {
                problems.push(format!("{at}: {who:?} is none of [alert.recipients]; nobody hears"));
            }
        };
        for (n, layer) in self.layers.iter().enumerate() {
            layer.who.iter().for_each(|who| is_known(&format!("{at}.layers.{n}.who"), who));
        }
        for (n, one) in self.overrides.iter().enumerate() {
            is_known(&format!("{at}.overrides.{n}.who"), &one.who);
        }
        for (n, layer) in self.layers.iter().enumerate() {
            let at = format!("{at}.layers.{n}");
            layer.hours.check(&format!("{at}.hours"), problems);
            if layer.who.is_empty() {
                problems.push(format!("{at}.who = []: name at least one; nobody hears"));
            }
            let hours = layer.turn_hours;
            if !(1..=8784).contains(&hours) {
                problems.push(format!(
                    "{at}.turn_hours = {hours}: use 1 to 8784 (default 168, a week)"
                ));
            }
        }
        for (n, one) in self.overrides.iter().enumerate().filter(|(_, one)| one.from >= one.to) {
            problems.push(format!("{at}.overrides.{n}: ends at {} before it begins", one.to));
        }
    }

    /// Who holds it.
    ///
    /// - `site`: the time zone for a schedule that names none.
    /// - `common`: holidays beside its own.
    pub fn on_call(&self, at: Timestamp, site: &TimeZone, common: &[Date]) -> Option<&str> {
        let zone = self.zone(site);
        self.at(at.to_zoned(zone).datetime(), &[&self.holidays, common].concat())
    }

    /// The time zone in which its times stand.
    pub fn zone(&self, site: &TimeZone) -> TimeZone {
        zone(&self.time_zone).ok().flatten().unwrap_or_else(|| site.clone())
    }

    fn at(&self, now: DateTime, holidays: &[Date]) -> Option<&str> {
        let stands_in = self.overrides.iter().rev().find(|one| one.from <= now && now < one.to);
        if let Some(one) = stands_in {
            return Some(&one.who);
        }
        let holds = |layer: &&Layer| layer.starts <= now && layer.hours.holds(now, holidays);
        self.layers.iter().rev().find(holds).and_then(|layer| layer.turn(now))
    }

    /// Who holds it from `from` on for so many days; to the minute.
    pub fn shifts(
        &self,
        from: Timestamp,
        days: u32,
        site: &TimeZone,
        common: &[Date],
    ) -> Vec<Shift> {
        let mut shifts: Vec<Shift> = Vec::new();
        for minute in 0..i64::from(days) * 24 * 60 {
            let Ok(at) = from.checked_add(jiff::SignedDuration::from_mins(minute)) else { break };
            let until = at.saturating_add(jiff::SignedDuration::from_mins(1)).unwrap_or(at);
            let who = self.on_call(at, site, common);
            match shifts.last_mut() {
                Some(last) if last.who.as_deref() == who => last.to = until,
                _ => shifts.push(Shift { from: at, to: until, who: who.map(str::to_owned) }),
            }
        }
        shifts
    }
}

impl Layer {
    /// Turns are counted in local hours: a day has 24 of them, also when clocks change.
    fn turn(&self, now: DateTime) -> Option<&str> {
        let hours = self.starts.until((Unit::Hour, now)).ok()?.get_hours();
        let turn = i64::from(hours) / i64::from(self.turn_hours.max(1));
        let place = usize::try_from(turn).ok()? % self.who.len().max(1);
        self.who.get(place).map(String::as_str)
    }
}

/// None for the empty name.
fn zone(name: &str) -> Result<Option<TimeZone>, String> {
    match name {
        "" => Ok(None),
        name => TimeZone::get(name)
            .map(Some)
            .map_err(|_| format!("{name:?} is no time zone; use e.g. \"Europe/Zurich\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(text: &str) -> Schedule {
        toml::from_str(text).unwrap()
    }

    const RADIOLOGY: &str = r#"
        time_zone = "Europe/Zurich"
        holidays = ["2026-12-25"]
        [[layers]]
        who = ["kim", "lee", "park"]
        starts = "2026-10-19T08:00"
        [[layers]]
        who = ["night_a", "night_b"]
        starts = "2026-10-19T08:00"
        turn_hours = 24
        hours = { from = "18:00", to = "08:00" }
        [[layers]]
        who = ["holiday_team"]
        starts = "2026-01-01T00:00"
        hours = { days = ["holiday"] }
        [[overrides]]
        who = "chief"
        from = "2026-11-03T12:00"
        to = "2026-11-03T14:00"
    "#;

    #[test]
    fn someone_is_on_call_by_turn_hour_holiday_and_override() {
        let radiology = schedule(RADIOLOGY);
        for (local, who) in [
            ("2026-10-18T12:00", None),
            ("2026-10-19T07:59", None),
            ("2026-10-19T08:00", Some("kim")),
            ("2026-10-19T18:00", Some("night_a")),
            ("2026-10-20T07:59", Some("night_a")),
            ("2026-10-20T18:00", Some("night_b")),
            // Clocks go back on 25 October: the hand-over stays at 8.
            ("2026-10-26T07:59", Some("night_a")),
            ("2026-10-26T08:00", Some("lee")),
            ("2026-11-02T08:00", Some("park")),
            ("2026-11-03T12:00", Some("chief")),
            ("2026-11-03T14:00", Some("park")),
            ("2026-11-09T08:00", Some("kim")),
            ("2026-12-25T12:00", Some("holiday_team")),
            ("2026-12-25T03:00", Some("holiday_team")),
        ] {
            let zone = TimeZone::get("Europe/Zurich").unwrap();
            let at = local.parse::<DateTime>().unwrap().to_zoned(zone).unwrap().timestamp();
            assert_eq!(radiology.on_call(at, &TimeZone::UTC, &[]), who, "{local}");
        }
    }

    #[test]
    fn shifts_show_who_and_when_nobody() {
        let days = schedule(
            "[[layers]]\nwho = [\"a\", \"b\"]\nstarts = \"2026-01-05T08:00\"\nturn_hours = 24\n\
             hours = { from = \"08:00\", to = \"20:00\" }",
        );
        let from: Timestamp = "2026-01-05T08:00:00Z".parse().unwrap();
        let shifts = days.shifts(from, 2, &TimeZone::UTC, &[]);
        let held: Vec<Option<&str>> = shifts.iter().map(|shift| shift.who.as_deref()).collect();
        assert_eq!(held, [Some("a"), None, Some("b"), None]);
        assert_eq!(shifts[0].to.to_string(), "2026-01-05T20:00:00Z");
        assert_eq!(shifts[3].to.to_string(), "2026-01-07T08:00:00Z");
    }

    #[test]
    fn a_schedule_that_cannot_work_is_named() {
        let mut problems = Vec::new();
        schedule(RADIOLOGY).check("alert.schedules.x", &["kim", "lee"], &mut problems);
        // park, two of the night, the holiday's team, the chief.
        assert_eq!(problems.len(), 5, "{problems:?}");
        let wrong = "time_zone = \"Zurich\"\n[[layers]]\nwho = []\nstarts = \"2026-01-01T00:00\"\n\
                     turn_hours = 0\nhours = { days = [\"x\"] }\n[[overrides]]\nwho = \"kim\"\n\
                     from = \"2026-01-02T00:00\"\nto = \"2026-01-01T00:00\"";
        problems.clear();
        schedule(wrong).check("alert.schedules.x", &["kim"], &mut problems);
        assert_eq!(problems.len(), 5, "{problems:?}");
    }
}
