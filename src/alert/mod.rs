//! Who must hear of a reading, and what they are told. Pure: the store keeps the alert, the outbox
//! sends it.

mod compose;
mod missing;

pub use compose::compose;
pub use missing::Missing;
pub use missing::missing;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;

use crate::domain::assessment::Assessment;
use crate::domain::assessment::Outcome;
use crate::domain::finding::Finding;
use crate::domain::text;
use crate::domain::urgency::Urgency;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who is told, by name: `[alert.recipients.on_call]`.
    pub recipients: BTreeMap<String, Recipients>,
    /// Address of this node's web page as the recipients reach it; the link in an alert.
    /// Empty: an alert names the study by its UID alone.
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
            base_url: String::new(),
            include_patient_name: false,
            include_picture: true,
        }
    }
}

/// A list of people who are told together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipients {
    pub emails: Vec<String>,
    /// They hear of findings at or above it.
    #[serde(default = "default_minimum")]
    pub minimum: Urgency,
    /// They hear of studies that the software could not read.
    #[serde(default = "default_review")]
    pub review: bool,
    /// They hear of what the technical staff has to look after: images that did not come.
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
        let is_url = self.base_url.starts_with("http://") || self.base_url.starts_with("https://");
        let is_plain =
            self.base_url.bytes().all(|b| b.is_ascii_graphic() && !b"\"'<>".contains(&b));
        let can_open = self.base_url.is_empty() || (is_url && is_plain);
        if !can_open {
            let found = &self.base_url;
            let allowed = "use http:// or https:// and the host, or leave it empty";
            problems.push(format!("{at}.base_url = {found:?}: {allowed}; the link would not open"));
        }
        for (name, list) in &self.recipients {
            let at = format!("{at}.recipients.{name}");
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
            if name.is_empty() || name.len() > 40 || !name.bytes().all(allowed) {
                let why = "the name stands in job ids";
                problems.push(format!("{at}: use 1 to 40 letters, digits, '-' or '_'; {why}"));
            }
            if list.emails.is_empty() {
                problems.push(format!("{at}.emails = []: name at least one address; nobody hears"));
            }
            for email in list.emails.iter().filter(|email| !is_address(email)) {
                problems.push(format!("{at}.emails: {email:?} is no address; nobody hears"));
            }
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
        let addresses = lists.iter().filter_map(|name| Some((name, self.recipients.get(name)?)));
        let channel = |name: &String, email: &String| format!("{name}/{email}");
        let mut channels: Vec<String> = addresses
            .flat_map(|(name, list)| list.emails.iter().map(move |email| channel(name, email)))
            .collect();
        let mut seen = std::collections::HashSet::new();
        channels.retain(|channel| seen.insert(address(channel).to_owned()));
        channels
    }
}

/// The address of a channel.
pub fn address(channel: &str) -> &str {
    channel.split_once('/').map_or(channel, |(_, address)| address)
}

/// Plain `local@domain`, ASCII: what every server takes.
fn is_address(email: &str) -> bool {
    let plain = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_graphic() && !b"<>()[],;:\\\"@/".contains(&b))
    };
    email.split_once('@').is_some_and(|(local, domain)| plain(local) && plain(domain))
}

/// Why someone must hear.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Something that cannot wait was marked.
    Finding,
    /// The software could not read the study: it may hold anything.
    Review,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Finding => "finding",
            Kind::Review => "review",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Decided by study, revision, kind and findings: deciding again gives the same alert.
    pub id: String,
    /// The same without the revision: a later revision with the same findings joins this alert.
    pub key: String,
    pub kind: Kind,
    pub urgency: Urgency,
    /// Ids of the findings within the assessment, most urgent first.
    pub findings: Vec<String>,
    /// What was found, for lists: "Pneumothorax, left". No identity of the patient.
    pub titles: Vec<String>,
    /// Names of the lists that are told. Empty: nobody is configured; the page shows it all the same.
    pub recipients: Vec<String>,
    pub found_at: Timestamp,
}

/// Whether someone must hear of this reading: of a finding at or above `alert_at` (the profile's),
/// of a study that the rules made as urgent, of a reading that failed.
pub fn decide(a: &Assessment, alert_at: Urgency, config: &Config) -> Option<Alert> {
    let kind = match &a.outcome {
        Outcome::Read => Kind::Finding,
        Outcome::NotCovered { .. } => Kind::Finding,
        Outcome::NeedsReview { .. } => Kind::Review,
    };
    let mut findings: Vec<&Finding> = a.present().filter(|f| f.urgency >= alert_at).collect();
    if findings.is_empty() && a.urgency >= alert_at {
        // The rules raised the study above its findings.
        findings = a.present().collect();
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.urgency));
    let urgency = findings.iter().map(|f| f.urgency).fold(a.urgency, Urgency::max);
    let must_hear = match kind {
        Kind::Finding => urgency >= alert_at,
        Kind::Review => true,
    };
    let hears = |list: &Recipients| match kind {
        Kind::Finding => list.minimum <= urgency,
        // Also those who asked for urgent findings: this study may hold one.
        Kind::Review => list.review || (!findings.is_empty() && list.minimum <= urgency),
    };
    let recipients = config.recipients.iter().filter(|(_, list)| hears(list));
    must_hear.then(|| Alert {
        id: digest(a, kind, &findings, Some(a.revision)),
        key: digest(a, kind, &findings, None),
        kind,
        urgency,
        titles: findings.iter().map(|finding| finding.title()).collect(),
        findings: findings.iter().map(|finding| finding.id.clone()).collect(),
        recipients: recipients.map(|(name, _)| name.clone()).collect(),
        found_at: a.finished_at,
    })
}

/// 32 hexadecimal digits.
fn digest(a: &Assessment, kind: Kind, findings: &[&Finding], revision: Option<u32>) -> String {
    let mut parts = vec![
        "alert".to_owned(),
        a.study.study_uid.as_str().to_owned(),
        revision.map(|n| n.to_string()).unwrap_or_default(),
        kind.as_str().to_owned(),
    ];
    let mut what: Vec<String> =
        findings.iter().map(|f| format!("{} {:?} {:?}", f.key, f.laterality, f.urgency)).collect();
    what.sort();
    parts.extend(what);
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    text::hex(&hash.finalize()[..16])
}

#[cfg(test)]
mod tests;
