//! Who looked at, changed, sent or answered what: read from the ledger, the newest first.

use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use memchr::memmem;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::agreement::Origin;
use crate::domain::uid::StudyUid;
use crate::store::commit::Body;
use crate::store::commit::Shared;
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::event::JobKind;
use crate::store::folder;
use crate::store::ledger;
use crate::store::ledger::Found;

/// Rows of a page, whatever is asked for.
pub const ROWS_MAX: usize = 1000;
/// Read for one page: a rare name is then looked for over several pages.
const BYTES_MAX: u64 = 128 << 20;
/// How the history names what a person closed ([`Event::RevisionClosed`]).
const BY_WORD: [&str; 3] = ["complete by word of ", "read again by word of ", "uploaded by "];
/// How it names what a person held back ([`Event::StateChanged`]).
const HELD: &str = "held by word of ";

/// Who accounts are changed by, where they are in a file.
const ACCOUNTS: &str = "accounts file";

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Deed {
    /// Patient data were shown.
    Looked,
    /// Came in or went, or was not let in.
    Login,
    /// Something stands otherwise by someone's word, or by a rule.
    Changed,
    /// Something left the node.
    Sent,
    /// A person's word on a finding or an alert.
    Answered,
}

impl Deed {
    /// Lowercase English word, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Deed::Looked => "looked",
            Deed::Login => "login",
            Deed::Changed => "changed",
            Deed::Sent => "sent",
            Deed::Answered => "answered",
        }
    }
}

/// Where a row stands in the ledger: `record.event`, in the order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Place {
    /// Number of the record, from 1.
    pub record: u64,
    /// Of the event within it, from 0.
    pub event: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.record, self.event)
    }
}

impl From<Place> for String {
    fn from(place: Place) -> String {
        place.to_string()
    }
}

impl FromStr for Place {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Place, &'static str> {
        let wrong = "a place in the ledger is two numbers with a dot between them";
        let (record, event) = text.split_once('.').ok_or(wrong)?;
        let number = |part: &str| part.parse().map_err(|_| wrong);
        Ok(Place { record: number(record)?, event: number(event)? })
    }
}

impl TryFrom<String> for Place {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Place, &'static str> {
        text.parse()
    }
}

/// One deed. No identity of the patient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRow {
    pub place: Place,
    /// When it was written down.
    pub at: Timestamp,
    pub deed: Deed,
    /// Who, as the ledger names them; `node` for what the node does by its rules.
    pub by: String,
    pub what: String,
    pub study_uid: Option<StudyUid>,
}

/// What is asked for; the default is all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct AuditQuery {
    /// From this time on, and before that one.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// Part of who did it, in any case.
    pub who: Option<String>,
    pub study: Option<StudyUid>,
    pub deed: Option<Deed>,
    /// What stands before this: [`AuditPage::next`] of the page before.
    pub before: Option<Place>,
    /// Rows at most; 0, and more than [`ROWS_MAX`], for that many.
    pub limit: usize,
}

/// Some rows, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct AuditPage {
    pub rows: Vec<AuditRow>,
    /// Where the next page begins; it may have no rows. `None` at the beginning of the ledger.
    pub next: Option<Place>,
}

/// Reads the files of the ledger from the last to the first until the page is full. Records that
/// cannot be read are left out: `prelim audit verify` names them.
pub fn page(shared: &Shared, query: &AuditQuery) -> Result<AuditPage, StoreError> {
    let last = shared.committed().number;
    let limit = if query.limit == 0 { ROWS_MAX } else { query.limit.min(ROWS_MAX) };
    let folder = shared.data.join(folder::LEDGER);
    let mut page = AuditPage::default();
    let mut read_bytes = 0;
    let segments = ledger::segments(&folder)?;
    for (nth, &segment) in segments.iter().enumerate().rev() {
        let path = ledger::segment_path(&folder, segment);
        let first = ledger::read_head(&path).map(|(_, before)| before.number + 1);
        if first.zip(query.before).is_some_and(|(first, before)| before.record < first) {
            continue;
        }
        if read_bytes >= BYTES_MAX {
            return Ok(page);
        }
        read_bytes += std::fs::metadata(&path).map_or(0, |file| file.len());
        let left = limit - page.rows.len();
        let newest = newest_of(&folder, segment, nth + 1 == segments.len(), last, query, left + 1)?;
        let is_oldest =
            query.since.is_some_and(|since| newest.begins_at.is_some_and(|at| at < since));
        let has_more = newest.rows.len() > left;
        page.rows.extend(newest.rows.into_iter().rev().take(left));
        if has_more {
            page.next = page.rows.last().map(|row| row.place);
            return Ok(page);
        }
        if is_oldest || nth == 0 {
            page.next = None;
            return Ok(page);
        }
        page.next = first.map(|record| Place { record, event: 0 }).or(page.next);
    }
    page.next = None;
    Ok(page)
}

/// The last rows of one file, in its order.
struct Newest {
    rows: VecDeque<AuditRow>,
    /// Time of its first record.
    begins_at: Option<Timestamp>,
}

fn newest_of(
    folder: &std::path::Path,
    segment: u64,
    is_last: bool,
    last: u64,
    query: &AuditQuery,
    limit: usize,
) -> Result<Newest, StoreError> {
    let mut newest = Newest { rows: VecDeque::new(), begins_at: None };
    let study = query.study.as_ref().map(|uid| memmem::Finder::new(uid.as_str()));
    ledger::walk_file(folder, segment, is_last, &mut |found| {
        let Found::Record(record) = found else { return Ok(()) };
        let number = record.position.number;
        let is_after = query.before.is_some_and(|before| number > before.record);
        let may_be = study.as_ref().is_none_or(|study| study.find(record.payload).is_some());
        if number > last || is_after || (newest.begins_at.is_some() && !may_be) {
            return Ok(());
        }
        let Ok(body) = serde_json::from_slice::<Body>(record.payload) else { return Ok(()) };
        newest.begins_at.get_or_insert(body.at);
        for (event, what) in (0..).zip(body.commits.iter().flatten()) {
            let place = Place { record: number, event };
            let row = row(what, place, body.at);
            let Some(row) = row.filter(|row| is_wanted(row, query)) else { continue };
            newest.rows.push_back(row);
            if newest.rows.len() > limit {
                newest.rows.pop_front();
            }
        }
        Ok(())
    })?;
    Ok(newest)
}

fn is_wanted(row: &AuditRow, query: &AuditQuery) -> bool {
    let named = |who: &String| row.by.to_lowercase().contains(&who.to_lowercase());
    query.before.is_none_or(|before| row.place < before)
        && query.since.is_none_or(|since| row.at >= since)
        && query.until.is_none_or(|until| row.at < until)
        && query.study.as_ref().is_none_or(|uid| row.study_uid.as_ref() == Some(uid))
        && query.deed.is_none_or(|deed| row.deed == deed)
        && query.who.as_ref().is_none_or(named)
}

/// What an event says of a deed; most say of none.
pub fn row(event: &Event, place: Place, at: Timestamp) -> Option<AuditRow> {
    const NODE: &str = "node";
    let (deed, by, what, study_uid): (Deed, &str, String, Option<&StudyUid>) = match event {
        Event::Accessed { study_uid, what, by, .. } => {
            let deed = match what.as_str() {
                "login" | "logout" | "login refused" | "token refused" => Deed::Login,
                what if what.starts_with("association refused") => Deed::Login,
                "node started" | "node stopped" | "settings read again" => Deed::Changed,
                what if by == ACCOUNTS || what.starts_with("changed ") => Deed::Changed,
                _ => Deed::Looked,
            };
            (deed, by, what.clone(), study_uid.as_ref())
        }
        Event::RevisionClosed { study_uid, revision, reason, .. } => {
            let said = BY_WORD.iter().find_map(|head| reason.strip_prefix(head))?;
            let by = said.split_once(": ").map_or(said, |(by, _)| by);
            (Deed::Changed, by, format!("revision {revision} closed: {reason}"), Some(study_uid))
        }
        Event::StateChanged { study_uid, revision, reason, .. } => {
            let said = reason.strip_prefix(HELD)?;
            let by = said.split_once(": ").map_or(said, |(by, _)| by);
            (Deed::Changed, by, format!("revision {revision} {reason}"), Some(study_uid))
        }
        Event::JobRetried { by, .. } if by.is_empty() => return None,
        Event::JobRetried { id, by, .. } => (Deed::Changed, by, format!("retried {id}"), None),
        Event::JobCancelled { id, by, .. } => (Deed::Changed, by, format!("cancelled {id}"), None),
        Event::JobEnqueued { job } => match &job.kind {
            JobKind::Drill { service, by } => {
                let service = if service.is_empty() { "the lists" } else { service };
                (Deed::Changed, by, format!("asked for a test of {service}"), None)
            }
            _ => return None,
        },
        Event::CanaryMoved { canary, why, by, .. } => {
            (Deed::Changed, by, format!("canary {canary} moved: {why}"), None)
        }
        Event::LedgerDamaged { what, .. } => (
            Deed::Changed,
            NODE,
            format!("a part of the ledger is lost: {}", what.join("; ")),
            None,
        ),
        Event::InstancesRemoved { study_uid, instances, reason, .. } => {
            (Deed::Changed, NODE, format!("{instances} images removed: {reason}"), Some(study_uid))
        }
        Event::StudyForgotten { study_uid, reason, .. } => {
            (Deed::Changed, NODE, format!("study removed: {reason}"), Some(study_uid))
        }
        Event::IdentitySettled { study_uid, settled, .. } => {
            (Deed::Changed, &settled.by, "said whose the study is".to_owned(), Some(study_uid))
        }
        Event::OriginDecided { study_uid, instances, origin, by, .. } if !by.is_empty() => {
            let what = format!("{} objects are {}", instances.len(), origin.as_str());
            (Deed::Changed, by, what, Some(study_uid))
        }
        Event::SentOut { study_uid, revision, gateway, host, pictures, .. } => {
            let pictures = pictures.len();
            let what =
                format!("{pictures} pictures of revision {revision} to gateway {gateway} ({host})");
            (Deed::Sent, NODE, what, Some(study_uid))
        }
        Event::Delivered { study_uid, revision, artefact, destination, .. } => {
            let what = format!("{artefact} of revision {revision} to {destination}");
            (Deed::Sent, NODE, what, Some(study_uid))
        }
        Event::AlertSent { study_uid, alert, channel, .. } => {
            (Deed::Sent, NODE, format!("alert {alert} to {channel}"), Some(study_uid))
        }
        Event::AlertAcknowledged { study_uid, alert, answer, .. } => {
            let what = format!("took alert {alert} ({})", answer.how);
            (Deed::Answered, &answer.by, what, Some(study_uid))
        }
        Event::AlertDeclined { study_uid, alert, answer, .. } => {
            let what = format!("handed alert {alert} over ({})", answer.how);
            (Deed::Answered, &answer.by, what, Some(study_uid))
        }
        Event::AlertClosed { study_uid, alert, answer, .. } => {
            let what = format!("closed alert {alert} ({})", answer.how);
            (Deed::Answered, &answer.by, what, Some(study_uid))
        }
        Event::ReadingCompared { study_uid, revision, comparison, .. } => {
            let what = match &comparison.origin {
                Origin::Feedback { finding, verdict, .. } => {
                    format!("{} on {finding} of revision {revision}", verdict.as_str())
                }
                Origin::Final { kind, .. } => {
                    format!("final report ({}) beside revision {revision}", kind.as_str())
                }
            };
            (Deed::Answered, &comparison.by, what, Some(study_uid))
        }
        _ => return None,
    };
    let (by, study_uid) = (by.to_owned(), study_uid.cloned());
    Some(AuditRow { place, at, deed, by, what, study_uid })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::testing;
    use crate::store::testing::study;

    fn look(number: u32, by: &str) -> Event {
        let at = testing::at(i64::from(number));
        Event::Accessed { study_uid: Some(study(number)), what: "page".into(), by: by.into(), at }
    }

    /// 25 looks in many small files, two in each record.
    async fn filled(data: &std::path::Path) -> Store {
        let (store, _) = testing::open(data);
        for number in 1..=25 {
            let other = look(100 + number, "token");
            store.commit(vec![look(number, "Dr Kim"), other]).await.unwrap();
        }
        store
    }

    fn all(store: &Store, query: &AuditQuery) -> Vec<u32> {
        let (mut found, mut query) = (Vec::new(), query.clone());
        loop {
            let page = store.audit(&query).unwrap();
            assert!(page.rows.len() <= query.limit);
            let number = |row: &AuditRow| {
                (1..200).find(|n| row.study_uid.as_ref() == Some(&study(*n))).unwrap()
            };
            found.extend(page.rows.iter().map(number));
            let Some(next) = page.next else { return found };
            query.before = Some(next);
        }
    }

    #[tokio::test]
    async fn pages_hold_each_deed_once_the_newest_first() {
        let dir = tempfile::tempdir().unwrap();
        let store = filled(dir.path()).await;
        let expected: Vec<u32> = (1..=25).rev().flat_map(|n| [100 + n, n]).collect();
        for limit in [1, 2, 3, 7, 50, 51] {
            assert_eq!(all(&store, &AuditQuery { limit, ..AuditQuery::default() }), expected);
        }
        let kim = AuditQuery { who: Some("kim".into()), limit: 4, ..AuditQuery::default() };
        assert_eq!(all(&store, &kim), (1..=25).rev().collect::<Vec<u32>>());
        let one = AuditQuery { study: Some(study(7)), limit: 4, ..AuditQuery::default() };
        assert_eq!(all(&store, &one), [7]);
        let none = AuditQuery { deed: Some(Deed::Sent), limit: 4, ..AuditQuery::default() };
        assert_eq!(all(&store, &none), Vec::<u32>::new());
        let later = Some(Timestamp::MAX);
        let none = AuditQuery { since: later, limit: 4, ..AuditQuery::default() };
        assert_eq!(all(&store, &none), Vec::<u32>::new());
        let place: Place = "12.3".parse().unwrap();
        assert_eq!((place.to_string().as_str(), "12".parse::<Place>().is_err()), ("12.3", true));
    }
}
