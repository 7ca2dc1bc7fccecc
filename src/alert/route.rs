//! Which service hears of an alert, and who of it when. Pure: the ledger keeps how far an alert is.

use std::ops::RangeInclusive;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::Serialize;

use crate::alert::Alert;
use crate::alert::config::Config;
use crate::alert::config::Recipients;
use crate::domain::alert::Kind;
use crate::domain::hours::Hours;
use crate::domain::urgency::Urgency;

/// Who is told of an alert, one level after the other until somebody answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub steps: Vec<Step>,
    /// How often all of them are told again.
    #[serde(default = "default_repeats")]
    pub repeats: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Names of recipients and of schedules.
    pub tell: Vec<String>,
    /// Seconds for an answer. 0: by the urgency.
    #[serde(default)]
    pub wait_s: u64,
}

fn default_repeats() -> u32 {
    1
}

/// Sends alerts to a service. All that it names must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub service: String,
    /// At least so urgent.
    #[serde(default)]
    pub urgency: Urgency,
    /// One of these findings, by key. Empty: any, also of studies that could not be read.
    #[serde(default)]
    pub findings: Vec<String>,
    /// One of the findings at least so probable, by the model's word.
    #[serde(default)]
    pub probability_min: f64,
    /// Where the patient is, as the order or the images say: part of it, in any case. Empty: anywhere.
    #[serde(default)]
    pub locations: Vec<String>,
    /// Calling AE titles of who sent the study. Empty: any.
    #[serde(default)]
    pub sources: Vec<String>,
    /// Local time of the site at which the alert is raised.
    #[serde(default)]
    pub hours: Hours,
}

/// What of the world around an alert decides where it goes.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    pub source: &'a str,
    pub location: &'a str,
    pub now: Timestamp,
    /// The site's.
    pub zone: &'a TimeZone,
}

impl Service {
    pub fn check(&self, at: &str, known: &dyn Fn(&str) -> bool, problems: &mut Vec<String>) {
        if self.steps.is_empty() {
            problems.push(format!("{at}.steps = []: name at least one; nobody hears"));
        }
        if self.repeats > 100 {
            let found = self.repeats;
            problems.push(format!(
                "{at}.repeats = {found}: use 0 to 100 (default 1); who does not answer then does not"
            ));
        }
        for (n, step) in self.steps.iter().enumerate() {
            let at = format!("{at}.steps.{n}");
            if step.tell.is_empty() {
                problems.push(format!("{at}.tell = []: name at least one; nobody hears"));
            }
            for who in step.tell.iter().filter(|who| !known(who)) {
                problems.push(format!(
                    "{at}.tell: {who:?} is none of [alert.recipients] and [alert.schedules]; nobody hears"
                ));
            }
            if step.wait_s > 30 * 86_400 {
                problems.push(format!("{at}.wait_s = {}: use 0 to 2592000", step.wait_s));
            }
        }
    }
}

impl Step {
    fn wait_s(&self, way: &Way<'_>, config: &Config) -> u64 {
        if self.wait_s > 0 { self.wait_s } else { config.wait_s(way.urgency) }
    }
}

impl Rule {
    pub fn check(&self, at: &str, known: bool, problems: &mut Vec<String>) {
        if !known {
            let name = &self.service;
            problems.push(format!("{at}.service: {name:?} is none of [alert.services]"));
        }
        if !(0.0..=1.0).contains(&self.probability_min) {
            problems.push(format!("{at}.probability_min = {}: use 0 to 1", self.probability_min));
        }
        self.hours.check(&format!("{at}.hours"), problems);
    }

    fn holds(&self, alert: &Alert, around: &Around<'_>, holidays: &[Date]) -> bool {
        let location = around.location.to_lowercase();
        let is_there = |place: &String| location.contains(&place.to_lowercase());
        let of_finding = match self.findings.is_empty() {
            true => true,
            false => alert.told.iter().any(|told| self.findings.contains(&told.key)),
        };
        alert.urgency >= self.urgency
            && of_finding
            && (self.probability_min <= 0.0
                || alert.probability.is_some_and(|p| p >= self.probability_min))
            && (self.locations.is_empty() || self.locations.iter().any(is_there))
            && (self.sources.is_empty() || self.sources.iter().any(|ae| ae == around.source))
            && self.hours.holds(around.now.to_zoned(around.zone.clone()).datetime(), holidays)
    }
}

/// The service that hears of it. Empty: no rule holds, and the lists hear that ask for it.
pub fn service(alert: &Alert, around: &Around<'_>, config: &Config) -> String {
    let holding = config.rules.iter().find(|rule| rule.holds(alert, around, &config.holidays));
    holding.map(|rule| rule.service.clone()).unwrap_or_default()
}

/// What an alert is that is on its way.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// Empty: the lists that ask for it.
    pub service: &'a str,
    pub kind: Kind,
    pub urgency: Urgency,
}

/// Those who are told next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// From 0.
    pub number: u32,
    pub channels: Vec<String>,
    /// Seconds for an answer.
    pub wait_s: u64,
}

/// Where an alert is, for who is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Beginning,
    /// Those of this level were told.
    After(u32),
    /// Everyone was told, this level last: from the beginning, with numbers that go on.
    Again(u32),
}

/// The next level at which there is somebody to tell; `None` when everyone was told.
///
/// Nobody on call, a name that is gone from the configuration, a level without an address: the next
/// level is told at once.
pub fn level(
    way: &Way<'_>,
    from: From,
    now: Timestamp,
    site: &TimeZone,
    config: &Config,
) -> Option<Level> {
    let usual = Service { steps: vec![usual(way, config)], repeats: default_repeats() };
    let cycle = Cycle::of(way, &usual, config);
    // Those who look after the node hear last: nobody answers, and they may know why.
    let last = Step { tell: config.technical(), wait_s: 0 };
    let (first, of) = match from {
        From::Beginning => (0, 0),
        From::After(level) => (level.saturating_add(1), level),
        From::Again(level) => {
            let first = cycle.first(level).saturating_add(cycle.length());
            (first, first)
        }
    };
    let end = cycle.first(of).saturating_add(cycle.length());
    (first..end).find_map(|number| {
        let place = number - cycle.first(number);
        let step = match place < cycle.levels {
            true => cycle.service.steps.get(usize::try_from(place % cycle.steps).ok()?)?,
            false => &last,
        };
        let names: Vec<String> =
            step.tell.iter().filter_map(|name| holder(name, now, site, config)).collect();
        let channels = config.channels(&names);
        let wait_s = step.wait_s(way, config);
        (!channels.is_empty()).then_some(Level { number, channels, wait_s })
    })
}

/// Seconds for an answer of those of a level.
pub fn wait_s(way: &Way<'_>, level: u32, config: &Config) -> u64 {
    let usual = Service { steps: vec![usual(way, config)], repeats: default_repeats() };
    let cycle = Cycle::of(way, &usual, config);
    let place = level - cycle.first(level);
    let step = usize::try_from(place % cycle.steps).ok().and_then(|n| cycle.service.steps.get(n));
    let step = step.filter(|_| place < cycle.levels);
    step.map_or_else(|| config.wait_s(way.urgency), |step| step.wait_s(way, config))
}

/// The levels of the round that `level` belongs to: everyone of the service once, or the technical
/// staff at the end.
pub fn round(way: &Way<'_>, level: u32, config: &Config) -> RangeInclusive<u32> {
    let usual = Service { steps: vec![usual(way, config)], repeats: default_repeats() };
    let cycle = Cycle::of(way, &usual, config);
    let (first, place) = (cycle.first(level), level - cycle.first(level));
    match place < cycle.levels {
        true => {
            let first = first + place / cycle.steps * cycle.steps;
            first..=first.saturating_add(cycle.steps - 1)
        }
        false => level..=level,
    }
}

/// How levels are numbered: those of the service, as often as it says, then the technical staff; then
/// from the beginning.
struct Cycle<'a> {
    service: &'a Service,
    steps: u32,
    /// Without the technical staff.
    levels: u32,
}

impl<'a> Cycle<'a> {
    /// - `usual`: for a service that is gone from the configuration, or where no rule holds.
    fn of(way: &Way<'_>, usual: &'a Service, config: &'a Config) -> Cycle<'a> {
        let service = config.services.get(way.service).unwrap_or(usual);
        let steps = u32::try_from(service.steps.len()).unwrap_or(u32::MAX).max(1);
        Cycle { service, steps, levels: steps.saturating_mul(service.repeats.min(100) + 1) }
    }

    fn length(&self) -> u32 {
        self.levels.saturating_add(1)
    }

    /// The first level of the cycle that `level` belongs to.
    fn first(&self, level: u32) -> u32 {
        level / self.length() * self.length()
    }
}

/// Whoever holds the place, else the recipients of that name.
fn holder(name: &str, now: Timestamp, site: &TimeZone, config: &Config) -> Option<String> {
    match config.schedules.get(name) {
        Some(schedule) => schedule.on_call(now, site, &config.holidays).map(str::to_owned),
        None => Some(name.to_owned()),
    }
}

/// The lists that ask for alerts of this kind and urgency.
fn usual(way: &Way<'_>, config: &Config) -> Step {
    let hears = |list: &Recipients| match way.kind {
        Kind::Finding | Kind::Drill => list.minimum <= way.urgency,
        // Also those who asked for urgent findings, where it holds one.
        Kind::Review => list.review || list.minimum <= way.urgency,
    };
    let lists = config.recipients.iter().filter(|(_, list)| hears(list));
    Step { tell: lists.map(|(name, _)| name.clone()).collect(), wait_s: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::Told;

    fn config() -> Config {
        toml::from_str(
            r#"
            [recipients.kim]
            emails = ["kim@h.example"]
            webhooks = ["pager"]
            [recipients.lee]
            emails = ["lee@h.example"]
            minimum = "critical"
            review = false
            [recipients.chief]
            emails = ["chief@h.example"]
            minimum = "critical"
            review = false
            [schedules.neuro]
            [[schedules.neuro.layers]]
            who = ["lee"]
            starts = "2026-01-01T00:00"
            hours = { from = "08:00", to = "18:00" }
            [services.stroke]
            repeats = 1
            steps = [{ tell = ["neuro"], wait_s = 300 }, { tell = ["kim", "chief"] }]
            [[rules]]
            service = "stroke"
            urgency = "urgent"
            findings = ["intracranial_haemorrhage"]
            probability_min = 0.6
            locations = ["emerg", "icu"]
            sources = ["CT1"]
            hours = { days = ["mon", "tue", "wed", "thu", "fri"] }
            "#,
        )
        .unwrap()
    }

    fn alert(key: &str, urgency: Urgency, probability: Option<f64>) -> Alert {
        let told = Told { key: key.into(), laterality: None, urgency };
        Alert {
            id: String::new(),
            key: String::new(),
            kind: Kind::Finding,
            urgency,
            findings: vec![],
            titles: vec![],
            told: vec![told],
            probability,
            found_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_rule_holds_when_all_that_it_names_does() {
        let config = config();
        let monday: Timestamp = "2026-11-23T03:00:00Z".parse().unwrap();
        let sunday: Timestamp = "2026-11-22T03:00:00Z".parse().unwrap();
        let good =
            ("intracranial_haemorrhage", Urgency::Critical, 0.9, "CT1", "Emergency 2", monday);
        for (found, expected) in [
            (good, "stroke"),
            (("pneumothorax", good.1, good.2, good.3, good.4, good.5), ""),
            ((good.0, Urgency::Significant, good.2, good.3, good.4, good.5), ""),
            ((good.0, good.1, 0.59, good.3, good.4, good.5), ""),
            ((good.0, good.1, good.2, "CT2", good.4, good.5), ""),
            ((good.0, good.1, good.2, good.3, "Ward 3", good.5), ""),
            ((good.0, good.1, good.2, good.3, "", good.5), ""),
            ((good.0, good.1, good.2, good.3, good.4, sunday), ""),
        ] {
            let (key, urgency, probability, source, location, now) = found;
            let around = Around { source, location, now, zone: &TimeZone::UTC };
            let alert = alert(key, urgency, Some(probability));
            assert_eq!(service(&alert, &around, &config), expected, "{found:?}");
        }
        let around = Around { source: "CT1", location: "ICU", now: monday, zone: &TimeZone::UTC };
        let unsaid = alert("intracranial_haemorrhage", Urgency::Critical, None);
        assert_eq!(service(&unsaid, &around, &config), "", "no word is no probability");
    }

    #[test]
    fn each_level_tells_who_is_there_and_the_last_is_followed_by_none() {
        let config = config();
        let way = Way { service: "stroke", kind: Kind::Finding, urgency: Urgency::Critical };
        let told = |from: From, hour: u32| {
            let now = format!("2026-11-23T{hour:02}:00:00Z").parse().unwrap();
            let level = level(&way, from, now, &TimeZone::UTC, &config)?;
            Some((level.number, level.channels, level.wait_s))
        };
        let strings = |all: &[&str]| all.iter().map(|&one| one.to_owned()).collect::<Vec<_>>();
        let second = strings(&["kim/kim@h.example", "kim/webhook:pager", "chief/chief@h.example"]);
        let first = strings(&["lee/lee@h.example"]);
        assert_eq!(told(From::Beginning, 9), Some((0, first.clone(), 300)));
        // Nobody is on call at night: the next are told at once.
        assert_eq!(told(From::Beginning, 20), Some((1, second.clone(), 900)));
        assert_eq!(told(From::After(0), 9), Some((1, second.clone(), 900)));
        assert_eq!(told(From::After(1), 9), Some((2, first.clone(), 300)));
        assert_eq!(told(From::After(2), 9), Some((3, second.clone(), 900)));
        assert_eq!(told(From::After(3), 9), None);
        // After a pause from the beginning, with numbers that go on: 4 is the technical staff's.
        assert_eq!(told(From::Again(3), 9), Some((5, first, 300)));
        assert_eq!(told(From::After(5), 9), Some((6, second, 900)));
        assert_eq!(told(From::After(8), 9), None);
        assert_eq!(told(From::Again(8), 20).unwrap().0, 11);
        let rounds = [(0, 0..=1), (1, 0..=1), (2, 2..=3), (4, 4..=4), (5, 5..=6), (8, 7..=8)];
        for (of, levels) in rounds {
            assert_eq!(round(&way, of, &config), levels, "{of}");
        }
        let waits = [0, 1, 2, 4, 5].map(|level| wait_s(&way, level, &config));
        assert_eq!(waits, [300, 900, 300, 900, 300]);
        let mut config = config;
        config.recipients.get_mut("kim").unwrap().technical = true;
        let now = Timestamp::UNIX_EPOCH;
        let last = level(&way, From::After(3), now, &TimeZone::UTC, &config).unwrap();
        assert_eq!((last.number, last.channels.len()), (4, 2), "the technical staff hears last");
        assert_eq!(level(&way, From::After(4), now, &TimeZone::UTC, &config), None);
    }

    #[test]
    fn where_no_rule_holds_the_lists_hear_that_ask_for_it() {
        let config = config();
        let told = |kind, urgency| {
            let way = Way { service: "", kind, urgency };
            let now = Timestamp::UNIX_EPOCH;
            let level = level(&way, From::Beginning, now, &TimeZone::UTC, &config);
            level.map(|level| level.channels.len())
        };
        assert_eq!(told(Kind::Finding, Urgency::Critical), Some(4), "all");
        assert_eq!(told(Kind::Finding, Urgency::Urgent), Some(2), "kim by both ways");
        assert_eq!(told(Kind::Review, Urgency::Routine), Some(2));
        assert_eq!(told(Kind::Finding, Urgency::Significant), None);
        let gone = Way { service: "gone", kind: Kind::Finding, urgency: Urgency::Urgent };
        let now = Timestamp::UNIX_EPOCH;
        let never_silent = level(&gone, From::Beginning, now, &TimeZone::UTC, &config);
        assert!(never_silent.is_some());
    }

    #[test]
    fn services_and_rules_that_cannot_work_are_named() {
        let mut config = config();
        config.services.get_mut("stroke").unwrap().steps[0].tell = vec!["nobody".into()];
        config.rules[0].service = "trauma".into();
        config.rules[0].probability_min = 60.0;
        config.recipients.get_mut("kim").unwrap().emails = vec!["kim".into()];
        let mut problems = Vec::new();
        config.check("alert", &mut problems);
        assert_eq!(problems.len(), 4, "{problems:?}");
    }
}
