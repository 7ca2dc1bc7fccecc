//! Section `alert`: who is told of what, by which way, and who comes after them.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::Deserialize;
use serde::Serialize;

use crate::alert::route::Rule;
use crate::alert::route::Service;
use crate::alert::schedule::Schedule;
use crate::domain::alert::WEBHOOK;
use crate::domain::alert::address;
use crate::domain::urgency::Urgency;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who is told, by name: `[alert.recipients.on_call]`.
    pub recipients: BTreeMap<String, Recipients>,
    /// Who of them is on call: `[alert.schedules.radiology]`.
    pub schedules: BTreeMap<String, Schedule>,
    /// Who hears first and who after: `[alert.services.stroke]`.
    pub services: BTreeMap<String, Service>,
    /// Which alert goes to which service; the first that holds.
    pub rules: Vec<Rule>,
    /// Days that count as `holiday` and as no weekday, for rules and for every schedule.
    pub holidays: Vec<Date>,
    /// Seconds for which an alert waits for an answer before the next are told, by its urgency.
    pub wait_critical_s: u64,
    pub wait_urgent_s: u64,
    pub wait_significant_s: u64,
    /// Seconds after which the next are told when no server has taken one message of a level.
    pub undelivered_s: u64,
    /// Seconds after which all are told again, from the beginning, when everyone was told and nobody
    /// has answered.
    pub again_s: u64,
    /// Messages that one address gets within an hour; what comes beyond is told together. Of
    /// critical findings every one is told at once.
    pub messages_per_hour_max: u32,
    /// Seconds for which alerts beyond that are gathered.
    pub group_s: u64,
    /// Hours for which the link to answer holds.
    pub link_hours: u64,
    /// Address of this node's web page as the recipients reach it; the links in an alert.
    /// Empty: an alert names the study by its UID alone, and is answered on the page.
    pub base_url: String,
    /// Puts name, ID and birth date of the patient into alerts.
    pub include_patient_name: bool,
    /// Puts the key picture into alerts, where its kind carries no burned-in text.
    pub include_picture: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            recipients: BTreeMap::new(),
            schedules: BTreeMap::new(),
            services: BTreeMap::new(),
            rules: Vec::new(),
            holidays: Vec::new(),
            wait_critical_s: 15 * 60,
            wait_urgent_s: 4 * 3600,
            wait_significant_s: 3 * 86_400,
            undelivered_s: 60,
            again_s: 1800,
            messages_per_hour_max: 20,
            group_s: 300,
            link_hours: 72,
            base_url: String::new(),
            include_patient_name: false,
            include_picture: true,
        }
    }
}

/// A person, or a list of people who are told together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipients {
    #[serde(default)]
    pub emails: Vec<String>,
    /// Names of `[deliver.webhook]`.
    #[serde(default)]
    pub webhooks: Vec<String>,
    /// Where no rule holds, they hear of findings at or above it.
    #[serde(default = "default_minimum")]
    pub minimum: Urgency,
    /// Where no rule holds, they hear of studies that the software could not read.
    #[serde(default = "default_review")]
    pub review: bool,
    /// They hear of what the technical staff has to look after: images that did not come, alerts
    /// that nobody answers, results that a destination does not get.
    #[serde(default)]
    pub technical: bool,
}

fn default_minimum() -> Urgency {
    Urgency::Urgent
}

fn default_review() -> bool {
    true
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        self.check_base_url(at, problems);
        let names: Vec<&str> = self.recipients.keys().map(String::as_str).collect();
        for (name, list) in &self.recipients {
            let at = format!("{at}.recipients.{name}");
            check_name(&at, name, problems);
            if list.emails.is_empty() && list.webhooks.is_empty() {
                problems.push(format!("{at}.emails = []: name at least one address; nobody hears"));
            }
            for email in list.emails.iter().filter(|email| !is_address(email)) {
                problems.push(format!("{at}.emails: {email:?} is no address; nobody hears"));
            }
        }
        for (name, schedule) in &self.schedules {
            let at = format!("{at}.schedules.{name}");
            check_name(&at, name, problems);
            if self.recipients.contains_key(name) {
                problems.push(format!("{at}: [alert.recipients.{name}] has the same name"));
            }
            schedule.check(&at, &names, problems);
        }
        for (name, service) in &self.services {
            let at = format!("{at}.services.{name}");
            check_name(&at, name, problems);
            let known =
                |who: &str| self.recipients.contains_key(who) || self.schedules.contains_key(who);
            service.check(&at, &known, problems);
        }
        for (n, rule) in self.rules.iter().enumerate() {
            let known = self.services.contains_key(&rule.service);
            rule.check(&format!("{at}.rules.{n}"), known, problems);
        }
        self.check_limits(at, problems);
    }

    fn check_base_url(&self, at: &str, problems: &mut Vec<String>) {
        let is_url = self.base_url.starts_with("http://") || self.base_url.starts_with("https://");
        let is_plain =
            self.base_url.bytes().all(|b| b.is_ascii_graphic() && !b"\"'<>".contains(&b));
        let can_open = self.base_url.is_empty() || (is_url && is_plain);
        if !can_open {
            let found = &self.base_url;
            let allowed = "use http:// or https:// and the host, or leave it empty";
            problems.push(format!("{at}.base_url = {found:?}: {allowed}; the link would not open"));
        }
    }

    fn check_limits(&self, at: &str, problems: &mut Vec<String>) {
        let d = Config::default();
        let too_long = "a longer wait leaves a finding with nobody";
        let flood = "nobody reads more, and fewer hide what is urgent";
        for (key, n, range, usual, why) in [
            ("wait_critical_s", self.wait_critical_s, 1..=86_400, d.wait_critical_s, too_long),
            ("wait_urgent_s", self.wait_urgent_s, 1..=7 * 86_400, d.wait_urgent_s, too_long),
            (
                "wait_significant_s",
                self.wait_significant_s,
                1..=30 * 86_400,
                d.wait_significant_s,
                too_long,
            ),
            ("undelivered_s", self.undelivered_s, 1..=3600, d.undelivered_s, too_long),
            ("again_s", self.again_s, 1..=86_400, d.again_s, too_long),
            ("group_s", self.group_s, 1..=3600, d.group_s, too_long),
            (
                "link_hours",
                self.link_hours,
                1..=720,
                d.link_hours,
                "who answers late must be able to",
            ),
            (
                "messages_per_hour_max",
                u64::from(self.messages_per_hour_max),
                1..=250,
                u64::from(d.messages_per_hour_max),
                flood,
            ),
        ] {
            if !range.contains(&n) {
                let (low, high) = (range.start(), range.end());
                problems.push(format!(
                    "{at}.{key} = {n}: use {low} to {high} (default {usual}); {why}"
                ));
            }
        }
    }

    /// Webhooks that are named somewhere, with the key that names them.
    pub fn webhooks(&self) -> impl Iterator<Item = (&str, &str)> {
        self.recipients.iter().flat_map(|(name, list)| {
            list.webhooks.iter().map(move |hook| (name.as_str(), hook.as_str()))
        })
    }

    /// Seconds for which an alert of this urgency waits for an answer.
    pub fn wait_s(&self, urgency: Urgency) -> u64 {
        match urgency {
            Urgency::Critical => self.wait_critical_s,
            Urgency::Urgent => self.wait_urgent_s,
            Urgency::Significant | Urgency::Routine => self.wait_significant_s,
        }
    }

    /// The lists that hear of technical trouble.
    pub fn technical(&self) -> Vec<String> {
        let lists = self.recipients.iter().filter(|(_, list)| list.technical);
        lists.map(|(name, _)| name.clone()).collect()
    }

    /// One channel for each address of the lists: `<list>/<address>`. Each is a job of its own, so
    /// that one refused address keeps no other from hearing.
    pub fn channels(&self, lists: &[String]) -> Vec<String> {
        let lists = lists.iter().filter_map(|name| Some((name, self.recipients.get(name)?)));
        let mut channels: Vec<String> = lists
            .flat_map(|(name, list)| {
                let hooks = list.webhooks.iter().map(|hook| format!("{WEBHOOK}{hook}"));
                let ways = list.emails.iter().cloned().chain(hooks);
                ways.map(move |way| format!("{name}/{way}"))
            })
            .collect();
        let mut seen = std::collections::HashSet::new();
        channels.retain(|channel| seen.insert(address(channel).to_owned()));
        channels
    }
}

/// Names stand in job ids.
fn check_name(at: &str, name: &str, problems: &mut Vec<String>) {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if name.is_empty() || name.len() > 40 || !name.bytes().all(allowed) {
        let why = "the name stands in job ids";
        problems.push(format!("{at}: use 1 to 40 letters, digits, '-' or '_'; {why}"));
    }
}

/// Plain `local@domain`, ASCII: what every server takes.
fn is_address(email: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_graphic() && !b"<>()[],;:\\\"@/".contains(&b))
    };
    email.split_once('@').is_some_and(|(local, domain)| plain(local) && plain(domain))
}
