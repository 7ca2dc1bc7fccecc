//! Who must hear of a reading, what they are told, and who comes after them. Pure: the ledger keeps
//! how far an alert is, the outbox sends it.

mod compose;
mod config;
mod course;
mod later;
mod link;
mod route;
mod schedule;
mod technical;

pub use crate::domain::alert::By;
pub use crate::domain::alert::address;
pub use crate::domain::alert::by;
pub use compose::Telling;
pub use compose::compose;
pub use compose::local;
pub use compose::study_url;
pub use compose::without_picture;
pub use config::Config;
pub use course::Course;
pub use course::Sent;
pub use course::Then;
pub use course::Why;
pub use course::then;
pub use later::Closure;
pub use later::Digest;
pub use later::Ended;
pub use later::Entry;
pub use later::digest;
pub use later::ended;
pub use link::Signer;
pub use route::Around;
pub use route::From;
pub use route::Way;
pub use route::level;
pub use route::round;
pub use route::service;
pub use route::wait_s;
pub use schedule::Shift;
pub use technical::Missing;
pub use technical::Undelivered;
pub use technical::Untold;
pub use technical::missing;
pub use technical::undelivered;
pub use technical::untold;

use jiff::Timestamp;
use sha2::Digest as _;
use sha2::Sha256;

use crate::domain::alert::Kind;
use crate::domain::alert::Standing;
use crate::domain::alert::Told;
use crate::domain::assessment::Assessment;
use crate::domain::assessment::Outcome;
use crate::domain::finding::Finding;
use crate::domain::finding::Laterality;
use crate::domain::finding::Presence;
use crate::domain::text;
use crate::domain::uid::StudyUid;
use crate::domain::urgency::Urgency;

#[derive(Debug, Clone, PartialEq)]
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
    /// The same findings, as far as they decide whether people know of them already.
    pub told: Vec<Told>,
    /// The highest of those findings, by the model's word.
    pub probability: Option<f64>,
    pub found_at: Timestamp,
}

impl Alert {
    /// None where nobody can say how urgent it is: a reading that failed.
    pub fn assessed(&self) -> Option<Urgency> {
        self.kind.assessed(self.urgency)
    }
}

/// Whether someone must hear of this reading: of a finding at or above `alert_at` (the profile's),
/// of a study that the rules made as urgent, of a reading that failed.
pub fn decide(a: &Assessment, alert_at: Urgency) -> Option<Alert> {
    let kind = match &a.outcome {
        Outcome::Read
        | Outcome::NotCovered { .. }
        | Outcome::MeasuredOnly { .. }
        | Outcome::Held { .. } => Kind::Finding,
        Outcome::NeedsReview { .. } => Kind::Review,
    };
    let mut findings: Vec<&Finding> = a.present().filter(|f| f.urgency >= alert_at).collect();
    if findings.is_empty() && a.urgency >= Some(alert_at) {
        // The rules raised the study above its findings.
        findings = a.present().collect();
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.urgency));
    let urgency =
        findings.iter().map(|f| f.urgency).fold(a.urgency.unwrap_or_default(), Urgency::max);
    let must_hear = match kind {
        Kind::Finding | Kind::Drill => urgency >= alert_at,
        Kind::Review => true,
    };
    let told = |finding: &&Finding| Told {
        key: finding.key.clone(),
        laterality: finding.laterality,
        urgency: finding.urgency,
    };
    must_hear.then(|| Alert {
        id: digest_of(a, kind, &findings, Some(a.revision)),
        key: digest_of(a, kind, &findings, None),
        kind,
        urgency,
        titles: findings.iter().map(|finding| finding.title()).collect(),
        told: findings.iter().map(told).collect(),
        probability: findings.iter().filter_map(|f| f.probability).reduce(f64::max),
        findings: findings.iter().map(|finding| finding.id.clone()).collect(),
        found_at: a.finished_at,
    })
}

/// An alert of the same study that was raised before.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    pub key: &'a str,
    pub kind: Kind,
    pub urgency: Urgency,
    pub told: &'a [Told],
    pub standing: &'a Standing,
}

/// The place of the alert that this one adds nothing to: people know of all of it, or will.
pub fn joins(alert: &Alert, known: &[Known<'_>]) -> Option<usize> {
    let covers = |one: &Known<'_>| {
        let all = alert.told.iter().all(|told| one.told.iter().any(|known| known.covers(told)));
        match alert.kind {
            Kind::Drill => false,
            // What the study holds is not known to be the same.
            Kind::Review => one.key == alert.key,
            Kind::Finding if alert.told.is_empty() => one.key == alert.key,
            Kind::Finding => one.key == alert.key || all,
        }
    };
    let is_known = |one: &Known<'_>| match one.standing {
        Standing::Open | Standing::Exhausted { .. } | Standing::Acknowledged(_) => true,
        // Nobody looks after those: what is found again is news.
        Standing::Withdrawn { .. } | Standing::Closed(_) => false,
    };
    known.iter().position(|one| is_known(one) && one.urgency >= alert.urgency && covers(one))
}

/// What a later reading makes of an alert, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Later {
    /// There was nothing urgent in it but that nobody had read the study: it holds no more.
    Resolved(String),
    /// Two readings differ in something urgent: that is a person's matter, and the alert goes on with
    /// a mark.
    Doubted(String),
}

/// `None` while the later reading bears the alert out, or says nothing of it: only one that came to its
/// end does.
pub fn superseded(known: &Known<'_>, a: &Assessment) -> Option<Later> {
    let still = |told: &Told| {
        let same = |f: &&Finding| f.key == told.key && f.laterality == told.laterality;
        a.findings.iter().filter(same).any(|f| f.presence != Presence::Absent)
    };
    let revision = a.revision;
    match (&a.outcome, known.standing, known.kind) {
        (
            Outcome::NotCovered { .. }
            | Outcome::MeasuredOnly { .. }
            | Outcome::NeedsReview { .. }
            | Outcome::Held { .. },
            ..,
        ) => None,
        (_, Standing::Withdrawn { .. } | Standing::Closed(_), _) | (_, _, Kind::Drill) => None,
        (Outcome::Read, _, Kind::Review)
            if known.told.is_empty() && known.urgency < Urgency::Urgent =>
        {
            Some(Later::Resolved(format!("revision {revision} could be read")))
        }
        (Outcome::Read, _, Kind::Finding | Kind::Review) if known.told.is_empty() => {
            (known.kind == Kind::Review).then(|| {
                Later::Doubted(format!("revision {revision} could be read and shows nothing of it"))
            })
        }
        (Outcome::Read, _, Kind::Finding | Kind::Review) => {
            (!known.told.iter().any(still)).then(|| {
                Later::Doubted(format!(
                    "revision {revision}, read with all images that came since, does not show it"
                ))
            })
        }
    }
}

/// A doctor's word on whether a finding is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said<'a> {
    pub key: &'a str,
    /// At this place; `None`: wherever it is.
    pub place: Option<Option<Laterality>>,
    pub is_there: bool,
}

/// Whether doctors deny all that an alert told; of each finding their last word counts.
pub fn is_denied(told: &[Told], said: &[Said<'_>]) -> bool {
    let denied = |told: &Told| {
        let of = |said: &&Said<'_>| {
            said.key == told.key && said.place.is_none_or(|place| place == told.laterality)
        };
        said.iter().rev().find(of).is_some_and(|said| !said.is_there)
    };
    !told.is_empty() && told.iter().all(denied)
}

/// A test of the whole loop, of no patient.
pub fn drill(study_uid: &StudyUid, at: Timestamp) -> Alert {
    let key = key(&["drill".to_owned(), study_uid.as_str().to_owned()]);
    Alert {
        id: key.clone(),
        key,
        kind: Kind::Drill,
        urgency: Urgency::Critical,
        findings: Vec::new(),
        titles: vec!["Drill".to_owned()],
        told: Vec::new(),
        probability: None,
        found_at: at,
    }
}

fn digest_of(a: &Assessment, kind: Kind, findings: &[&Finding], revision: Option<u32>) -> String {
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
    key(&parts)
}

/// 32 hexadecimal digits.
fn key(parts: &[String]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    text::hex(&hash.finalize()[..16])
}

#[cfg(test)]
mod tests;
