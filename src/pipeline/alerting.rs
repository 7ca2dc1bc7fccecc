//! The life of an alert: raised, told level by level until somebody answers, marked when a later
//! reading does not show it, closed by a person. What it is and how far stands in the ledger.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::alert;
use crate::alert::Alert;
use crate::alert::Known;
use crate::alert::Later;
use crate::alert::Said;
use crate::domain::agreement::Comparison;
use crate::domain::agreement::How;
use crate::domain::agreement::Origin;
use crate::domain::alert::Answer;
use crate::domain::alert::Kind;
use crate::domain::alert::Standing;
use crate::domain::alert::Unless;
use crate::domain::assessment::Assessment;
use crate::domain::uid;
use crate::domain::uid::StudyUid;
use crate::domain::urgency::Urgency;
use crate::pipeline::escalating;
use crate::pipeline::job;
use crate::pipeline::job::StepError;
use crate::pipeline::record;
use crate::pipeline::way::Kit;
use crate::pipeline::way::Way;
use crate::sr;
use crate::store::AlertRow;
use crate::store::DeliveryState;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::event::Event;
use crate::store::event::JobKind;

/// The alert, and one job for each of those who hear first. What people know of this study already,
/// or will, joins the alert that is out.
///
/// - `location`: where the patient is, as far as is known.
pub fn raise(way: &Way<'_>, alert: &Alert, location: &str) -> Result<Vec<Event>, StepError> {
    let store = &way.kit.store;
    let rows = store.alerts(way.study_uid).map_err(StepError::passing)?;
    let out: Vec<Known<'_>> = rows.iter().map(known).collect();
    if let Some(row) = alert::joins(alert, &out).and_then(|place| rows.get(place)) {
        return Ok(vec![join(way, row)]);
    }
    let study = store.study(way.study_uid).map_err(StepError::passing)?;
    let source = study.map(|study| study.calling_ae).unwrap_or_default();
    let around = alert::Around {
        source: &source,
        location,
        now: way.kit.clock.now(),
        zone: &way.kit.equipment.time_zone,
    };
    begin(way, alert, alert::service(alert, &around, &way.kit.alert))
}

/// The events of a new alert of a service.
fn begin(way: &Way<'_>, alert: &Alert, service: String) -> Result<Vec<Event>, StepError> {
    metrics::counter!("prelim_alerts_raised_total", "urgency" => alert.assessed().map_or("not_assessed", Urgency::as_str))
        .increment(1);
    let going = alert::Way { service: &service, kind: alert.kind, urgency: alert.urgency };
    let told = escalating::tell(way, &alert.key, &going, alert::From::Beginning, "");
    let mut events = vec![Event::AlertRaised {
        study_uid: way.study_uid.clone(),
        revision: way.revision,
        alert: alert.key.clone(),
        urgency: alert.urgency,
        findings: alert.titles.clone(),
        recipients: Vec::new(),
        kind: alert.kind,
        service: service.clone(),
        told: alert.told.clone(),
        at: way.kit.clock.now(),
    }];
    events.extend(told);
    Ok(events)
}

fn known(row: &AlertRow) -> Known<'_> {
    Known {
        key: &row.alert,
        kind: row.kind,
        urgency: row.urgency.unwrap_or_default(),
        told: &row.told,
        standing: &row.standing,
    }
}

fn join(way: &Way<'_>, row: &AlertRow) -> Event {
    metrics::counter!("prelim_alerts_joined_total").increment(1);
    Event::AlertJoined {
        study_uid: row.study_uid.clone(),
        revision: row.revision,
        alert: row.alert.clone(),
        by_revision: way.revision,
        at: way.kit.clock.now(),
    }
}

/// The alert of this revision.
pub fn row(way: &Way<'_>, key: &str) -> Result<Option<AlertRow>, StepError> {
    let rows = way.kit.store.alerts(way.study_uid).map_err(StepError::passing)?;
    Ok(rows.into_iter().find(|row| row.alert == key && row.revision == way.revision))
}

/// What this reading makes of the alerts of earlier revisions: one that it resolves is taken back, one
/// that it does not show is marked and goes on. Everyone who was told hears of it.
pub fn reconsider(way: &Way<'_>, assessment: &Assessment) -> Result<Vec<Event>, StepError> {
    let rows = way.kit.store.alerts(way.study_uid).map_err(StepError::passing)?;
    let (study_uid, at) = (way.study_uid, way.kit.clock.now());
    let mut events = Vec::new();
    for row in rows.iter().filter(|row| row.revision < way.revision) {
        let Some(later) = alert::superseded(&known(row), assessment) else { continue };
        let (study_uid, revision, alert) = (study_uid.clone(), row.revision, row.alert.clone());
        let doubt = match later {
            Later::Resolved(why) => {
                metrics::counter!("prelim_alerts_withdrawn_total").increment(1);
                events.push(Event::AlertWithdrawn { study_uid, revision, alert, why, at });
                None
            }
            // Once: another reading that does not show it either says nothing new.
            Later::Doubted(_) if row.doubt.is_some() => continue,
            Later::Doubted(why) => {
                metrics::counter!("prelim_alerts_doubted_total").increment(1);
                let by_revision = way.revision;
                let doubted =
                    Event::AlertDoubted { study_uid, revision, alert, by_revision, why, at };
                events.push(doubted);
                Some(by_revision)
            }
        };
        events.extend(tell_those_told(row, doubt, at));
    }
    Ok(events)
}

/// Jobs that tell all to whom a message of an alert went what became of it.
fn tell_those_told(row: &AlertRow, doubt: Option<u32>, at: Timestamp) -> Vec<Event> {
    let told = row.sendings.iter().filter(|sending| sending.state == DeliveryState::Done);
    let told: BTreeSet<&str> = told.map(|sending| sending.channel.as_str()).collect();
    let job = |channel: &str| {
        let (alert, channel) = (row.alert.clone(), channel.to_owned());
        let kind = JobKind::Withdraw { alert, channel, doubt };
        Event::JobEnqueued { job: job::job(kind, &row.study_uid, row.revision, at) }
    };
    told.into_iter().map(job).collect()
}

/// Raises a test of the whole loop: marked as one, of no patient.
pub fn drill(way: &Way<'_>, service: &str) -> Result<Vec<Event>, StepError> {
    if !service.is_empty() && !way.kit.alert.services.contains_key(service) {
        return Err(StepError::lasting("the service is not in the configuration"));
    }
    let alert = alert::drill(way.study_uid, way.kit.clock.now());
    begin(way, &alert, service.to_owned())
}

/// The job that raises a drill, and the key of its alert.
pub fn order_drill(service: &str, by: &str, now: Timestamp) -> (Event, String) {
    let study_uid = uid::derived(&["drill", by, &now.to_string()]);
    let study_uid = StudyUid::parse(&study_uid).expect("a derived UID is one");
    let key = alert::drill(&study_uid, now).key;
    let kind = JobKind::Drill { service: service.to_owned(), by: by.to_owned() };
    (Event::JobEnqueued { job: job::job(kind, &study_uid, 1, now) }, key)
}

/// A person takes the alert over. The first counts; every answer stands in the ledger.
pub async fn acknowledge(store: &Store, row: &AlertRow, answer: Answer) -> Result<(), StoreError> {
    if row.standing.is_unanswered() {
        let waited = answer.at.duration_since(row.raised_at).as_secs_f64().max(0.0);
        metrics::histogram!("prelim_alert_answer_seconds", "urgency" => row.urgency.map_or("not_assessed", Urgency::as_str))
            .record(waited);
    }
    let event = Event::AlertAcknowledged {
        study_uid: row.study_uid.clone(),
        revision: row.revision,
        alert: row.alert.clone(),
        answer,
    };
    store.commit(vec![event]).await.map(drop)
}

/// A person says why nobody has to look after the alert; those who were told hear of it. The first
/// word counts.
///
/// - `answer`: its note is the reason.
pub async fn close(store: &Store, row: &AlertRow, answer: Answer) -> Result<(), StoreError> {
    store.commit(closing(row, answer)).await.map(drop)
}

fn closing(row: &AlertRow, answer: Answer) -> Vec<Event> {
    let at = answer.at;
    let closed = Event::AlertClosed {
        study_uid: row.study_uid.clone(),
        revision: row.revision,
        alert: row.alert.clone(),
        answer,
    };
    match row.standing.is_unanswered() {
        true => [vec![closed], tell_those_told(row, None, at)].concat(),
        false => vec![closed],
    }
}

/// Closes the unanswered alerts of which a doctor says that nothing they are about is there: by
/// disagreeing with each of their findings, or by a final report that denies them.
///
/// - `assessment`: what the comparison is with.
pub fn corrected(
    store: &Store,
    assessment: &Assessment,
    comparison: &Comparison,
    at: Timestamp,
) -> Result<Vec<Event>, StoreError> {
    let study_uid = &assessment.study.study_uid;
    let rows = store.alerts(study_uid)?;
    let unanswered = rows.iter().filter(|row| row.standing.is_unanswered());
    let of_finding = unanswered.filter(|row| row.kind == Kind::Finding);
    if of_finding.clone().next().is_none() {
        return Ok(Vec::new());
    }
    let mut before = store.comparisons(study_uid)?;
    before.retain(|row| row.revision == assessment.revision);
    let all = before.iter().map(|row| &row.comparison).chain([comparison]);
    let said: Vec<Said<'_>> = all.flat_map(|one| said(assessment, one)).collect();
    let closed = of_finding.filter(|row| alert::is_denied(&row.told, &said));
    let (how, why) = match &comparison.origin {
        Origin::Feedback { comment, .. } if comment.is_empty() => {
            ("feedback", "a doctor disagrees with it".to_owned())
        }
        Origin::Feedback { comment, .. } => {
            ("feedback", format!("a doctor disagrees with it: {comment}"))
        }
        Origin::Final { .. } => ("final report", "the final report denies it".to_owned()),
    };
    let by = match comparison.by.as_str() {
        "" => how,
        by => by,
    };
    let answer = Answer { by: by.to_owned(), how: how.to_owned(), note: why, at };
    Ok(closed.flat_map(|row| closing(row, answer.clone())).collect())
}

/// A person who was told is not the one: the next are told at once.
pub async fn decline(store: &Store, row: &AlertRow, answer: Answer) -> Result<(), StoreError> {
    if row.standing != Standing::Open {
        return Ok(());
    }
    let kind =
        JobKind::Escalate { alert: row.alert.clone(), level: row.level, unless: Unless::Never };
    let job = job::job(kind, &row.study_uid, row.revision, answer.at);
    let declined = Event::AlertDeclined {
        study_uid: row.study_uid.clone(),
        revision: row.revision,
        alert: row.alert.clone(),
        answer,
    };
    store.commit(vec![declined, Event::JobEnqueued { job }]).await.map(drop)
}

/// What a comparison says of the findings of a reading. That a report does not speak of one denies
/// nothing.
fn said<'a>(assessment: &Assessment, comparison: &'a Comparison) -> Vec<Said<'a>> {
    let place = match &comparison.origin {
        Origin::Feedback { finding, .. } => {
            let of = assessment.findings.iter().find(|one| one.id == *finding);
            of.map(|one| one.laterality)
        }
        Origin::Final { .. } => None,
    };
    let spoken = comparison.findings.iter().filter(|one| one.how != How::Silence);
    let said =
        spoken.filter_map(|one| one.truth.map(|is_there| Said { key: &one.key, place, is_there }));
    said.collect()
}

/// One alert as a record for people: what, when found, who was told by what and when, who answered.
fn record(row: &AlertRow, zone: &TimeZone) -> Vec<String> {
    let when = |at: Timestamp| alert::local(at, zone);
    let what = match row.findings.is_empty() {
        true => "the study needs review".to_owned(),
        false => row.findings.join("; "),
    };
    let urgency = row.urgency.map_or("not assessed", Urgency::as_str);
    let raised = when(row.raised_at);
    let mut lines = vec![format!("{what} ({urgency}), found by software and alerted at {raised}.")];
    let sent = row.sendings.iter().filter(|sending| sending.state == DeliveryState::Done);
    lines.extend(sent.map(|sending| {
        let (to, by) = (alert::address(&sending.channel), alert::by(&sending.channel).as_str());
        format!("Told {to} by {by} at {}: {}.", when(sending.at), sending.detail)
    }));
    let later = row.steps.iter().filter(|step| step.level > 0);
    lines.extend(later.map(|step| format!("Escalated at {}: {}.", when(step.at), step.why)));
    lines.extend(row.begun_again.iter().map(|at| format!("Begun again at {}.", when(*at))));
    lines.extend(row.doubt.iter().map(|doubt| {
        format!("A later reading does not show it, {}: {}.", when(doubt.at), doubt.why)
    }));
    let handed = |answer: &Answer| format!("{} handed it over at {}.", answer.by, when(answer.at));
    lines.extend(row.declined.iter().map(handed));
    lines.push(match &row.standing {
        Standing::Open => "Nobody has acknowledged it yet.".to_owned(),
        Standing::Exhausted { at } => {
            format!("Everyone had been told by {}; nobody has acknowledged it.", when(*at))
        }
        Standing::Withdrawn { why, at } => format!("Withdrawn at {}: {why}.", when(*at)),
        Standing::Closed(answer) => {
            let (by, at, how) = (&answer.by, when(answer.at), &answer.how);
            format!("Closed by {by} at {at} ({how}): {}.", answer.note)
        }
        Standing::Acknowledged(answer) => {
            let note = match answer.note.as_str() {
                "" => "No read-back was noted.".to_owned(),
                note => format!("Read-back or note: {note}"),
            };
            let (by, at, how) = (&answer.by, when(answer.at), &answer.how);
            format!("Acknowledged by {by} at {at} ({how}). {note}")
        }
    });
    lines
}

/// The record of all alerts of a study as an addendum, a Basic Text SR. None when there is no
/// reading, or no alert.
pub fn addendum(kit: &Kit, study_uid: &StudyUid) -> Result<Option<Vec<u8>>, StepError> {
    let rows = kit.store.alerts(study_uid).map_err(StepError::passing)?;
    let study = kit.store.study(study_uid).map_err(StepError::passing)?;
    let Some(revision) = study.and_then(|study| study.assessed_revision) else { return Ok(None) };
    let way = Way { kit, study_uid, revision };
    let assessment: Option<Assessment> = way.load_if_there(record::ASSESSMENT)?;
    let Some(assessment) = assessment.filter(|_| !rows.is_empty()) else { return Ok(None) };
    let zone = &kit.equipment.time_zone;
    let lines: Vec<String> = rows.iter().flat_map(|row| self::record(row, zone)).collect();
    let made = sr::communication(&assessment, &kit.equipment, &lines);
    made.map(Some).map_err(StepError::lasting)
}

/// Alerts that nobody has answered, the most urgent first, then the oldest.
pub fn unanswered(store: &Store) -> Result<Vec<AlertRow>, StoreError> {
    let mut rows = store.unanswered()?;
    rows.sort_by_key(|row| (std::cmp::Reverse(row.urgency), row.raised_at));
    Ok(rows)
}

/// Not answered in its time by anyone who was told, or not taken by any server, in words; none when
/// all is as it should be.
pub fn attention(rows: &[AlertRow], now: Timestamp) -> Option<String> {
    let nobody_answered = |row: &AlertRow| {
        matches!(row.standing, Standing::Exhausted { .. }) || !row.begun_again.is_empty()
    };
    let told_nobody = |row: &AlertRow| {
        !row.sendings.iter().any(|sending| sending.state == DeliveryState::Done)
            && escalating::untold(row).next().is_some()
    };
    let unanswered: Vec<&AlertRow> = rows.iter().filter(|row| nobody_answered(row)).collect();
    let untold: Vec<&AlertRow> =
        rows.iter().filter(|row| told_nobody(row) && !nobody_answered(row)).collect();
    let lines =
        [(unanswered, "that nobody has answered"), (untold, "of which no server takes a message")];
    let lines = lines.into_iter().filter_map(|(left, what)| {
        let oldest = left.iter().map(|row| row.raised_at).min()?;
        let most = left.iter().filter_map(|row| row.urgency).max();
        let most = most.map_or(String::new(), |most| format!(", the most urgent {}", most.as_str()));
        let minutes = now.duration_since(oldest).as_mins().max(0);
        Some(format!(
            "{} alert{} {what}{most}, the oldest of {minutes} min ago: answer on the page of the study",
            left.len(),
            if left.len() == 1 { "" } else { "s" },
        ))
    });
    let lines: Vec<String> = lines.collect();
    (!lines.is_empty()).then(|| lines.join("; "))
}
