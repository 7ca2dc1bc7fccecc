//! The life of an alert: raised, told level by level until somebody answers, taken back when a
//! later revision does not bear it out. What it is and how far stands in the ledger.

use jiff::SignedDuration;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::alert;
use crate::alert::Alert;
use crate::alert::Known;
use crate::domain::alert::Answer;
use crate::domain::alert::Standing;
use crate::domain::alert::Unless;
use crate::domain::assessment::Assessment;
use crate::domain::uid;
use crate::domain::uid::StudyUid;
use crate::domain::urgency::Urgency;
use crate::pipeline::job;
use crate::pipeline::job::StepError;
use crate::pipeline::record;
use crate::pipeline::way::Kit;
use crate::pipeline::way::Way;
use crate::sr;
use crate::store::AlertRow;
use crate::store::AlertSending;
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
    metrics::counter!("prelim_alerts_raised_total", "urgency" => alert.urgency.as_str())
        .increment(1);
    let going = alert::Way { service: &service, kind: alert.kind, urgency: alert.urgency };
    let told = tell(way, &alert.key, &going, 0, "");
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
        urgency: row.urgency,
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

/// Tells the next level at which there is somebody, and sets the times after which the one after it
/// is told. Nobody left: the alert stays on the pages, and the operator is alarmed.
fn tell(way: &Way<'_>, key: &str, going: &alert::Way<'_>, from: u32, why: &str) -> Vec<Event> {
    let (config, now) = (&way.kit.alert, way.kit.clock.now());
    let next = alert::level(going, from, now, &way.kit.equipment.time_zone, config);
    let Some(level) = next else {
        metrics::counter!("prelim_alerts_exhausted_total").increment(1);
        tracing::error!(
            urgency = going.urgency.as_str(),
            why,
            "nobody is left to be told of an alert: only the pages show it"
        );
        let why = match why {
            "" => "nobody is named in the configuration",
            why => why,
        };
        return vec![Event::AlertExhausted {
            study_uid: way.study_uid.clone(),
            revision: way.revision,
            alert: key.to_owned(),
            why: why.to_owned(),
            at: now,
        }];
    };
    if level.number > 0 {
        metrics::counter!("prelim_alerts_escalated_total").increment(1);
        tracing::warn!(level = level.number, why, "an alert is escalated");
    }
    let mut events = vec![Event::AlertEscalated {
        study_uid: way.study_uid.clone(),
        revision: way.revision,
        alert: key.to_owned(),
        level: level.number,
        why: why.to_owned(),
        channels: level.channels.clone(),
        at: now,
    }];
    for channel in level.channels {
        events.push(way.next(JobKind::Alert {
            alert: key.to_owned(),
            channel,
            level: level.number,
        }));
    }
    let mut watch = |unless, after_s: u64| {
        let kind = JobKind::Escalate { alert: key.to_owned(), level: level.number, unless };
        let after = SignedDuration::from_secs(i64::try_from(after_s).unwrap_or(i64::MAX));
        let due = now.saturating_add(after).unwrap_or(Timestamp::MAX);
        events.push(way.at(kind, due));
    };
    if config.undelivered_s < level.wait_s {
        watch(Unless::Delivered, config.undelivered_s);
    }
    watch(Unless::Acknowledged, level.wait_s);
    events
}

/// The time of a level is over: tells the next, unless what it waited for has come about. A second
/// run finds the level told and does nothing.
pub fn escalate(
    way: &Way<'_>,
    key: &str,
    level: u32,
    unless: Unless,
) -> Result<Vec<Event>, StepError> {
    let Some(row) = row(way, key)? else { return Ok(Vec::new()) };
    if row.standing != Standing::Open || row.level != level {
        return Ok(Vec::new());
    }
    let why = match unless {
        Unless::Acknowledged => {
            let step = row.steps.iter().find(|step| step.level == level);
            let told_at = step.map_or(row.raised_at, |step| step.at);
            format!("nobody has answered since {}", way.local(told_at))
        }
        Unless::Delivered => {
            let store = &way.kit.store;
            let of_level = row.sendings.iter().filter(|sending| sending.level == level);
            for sending in of_level {
                let lately = store.channel(alert::address(&sending.channel));
                let is_held =
                    lately.map_err(StepError::passing)?.held.iter().any(|held| held.alert == key);
                if sending.state == DeliveryState::Done || is_held {
                    return Ok(Vec::new());
                }
            }
            "no server has taken the messages to those before".to_owned()
        }
        Unless::Never => {
            let by = row.declined.last().map_or("", |answer| answer.by.as_str());
            format!("{by} has handed it over")
        }
    };
    Ok(tell(way, key, &going(&row), level + 1, &why))
}

/// A message that was given up. When no other of its level can arrive, the next are told at once.
pub fn undeliverable(way: &Way<'_>, key: &str, channel: &str, level: u32) -> Vec<Event> {
    let row = match row(way, key) {
        Ok(Some(row)) => row,
        // The time for an answer runs all the same.
        Ok(None) | Err(_) => return Vec::new(),
    };
    let may_arrive = |sending: &AlertSending| {
        sending.level == level
            && sending.channel != channel
            && matches!(sending.state, DeliveryState::Queued | DeliveryState::Done)
    };
    if row.standing != Standing::Open || row.level != level || row.sendings.iter().any(may_arrive) {
        return Vec::new();
    }
    let why = "the messages to those before could not be delivered";
    tell(way, key, &going(&row), level + 1, why)
}

fn going(row: &AlertRow) -> alert::Way<'_> {
    alert::Way { service: &row.service, kind: row.kind, urgency: row.urgency }
}

/// The alert of this revision.
pub fn row(way: &Way<'_>, key: &str) -> Result<Option<AlertRow>, StepError> {
    let rows = way.kit.store.alerts(way.study_uid).map_err(StepError::passing)?;
    Ok(rows.into_iter().find(|row| row.alert == key && row.revision == way.revision))
}

/// Takes back the alerts of earlier revisions that this reading does not bear out. Everyone who was
/// told hears of it.
pub fn withdraw(way: &Way<'_>, assessment: &Assessment) -> Result<Vec<Event>, StepError> {
    let rows = way.kit.store.alerts(way.study_uid).map_err(StepError::passing)?;
    let mut events = Vec::new();
    for row in rows.iter().filter(|row| row.revision < way.revision) {
        let Some(why) = alert::superseded(&known(row), assessment) else { continue };
        metrics::counter!("prelim_alerts_withdrawn_total").increment(1);
        events.push(Event::AlertWithdrawn {
            study_uid: way.study_uid.clone(),
            revision: row.revision,
            alert: row.alert.clone(),
            why,
            at: way.kit.clock.now(),
        });
        let of = Way { kit: way.kit, study_uid: way.study_uid, revision: row.revision };
        let mut told: Vec<&str> = row
            .sendings
            .iter()
            .filter(|sending| sending.state == DeliveryState::Done)
            .map(|sending| sending.channel.as_str())
            .collect();
        told.sort_unstable();
        told.dedup();
        for channel in told {
            let (alert, channel) = (row.alert.clone(), channel.to_owned());
            events.push(of.next(JobKind::Withdraw { alert, channel }));
        }
    }
    Ok(events)
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
        metrics::histogram!("prelim_alert_answer_seconds", "urgency" => row.urgency.as_str())
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

/// One alert as a record for people: what, when found, who was told by what and when, who answered.
fn record(row: &AlertRow, zone: &TimeZone) -> Vec<String> {
    let when = |at: Timestamp| alert::local(at, zone);
    let what = match row.findings.is_empty() {
        true => "the study needs review".to_owned(),
        false => row.findings.join("; "),
    };
    let (urgency, raised) = (row.urgency.as_str(), when(row.raised_at));
    let mut lines = vec![format!("{what} ({urgency}), found by software and alerted at {raised}.")];
    let sent = row.sendings.iter().filter(|sending| sending.state == DeliveryState::Done);
    lines.extend(sent.map(|sending| {
        let (to, by) = (alert::address(&sending.channel), alert::by(&sending.channel).as_str());
        format!("Told {to} by {by} at {}: {}.", when(sending.at), sending.detail)
    }));
    let later = row.steps.iter().filter(|step| step.level > 0);
    lines.extend(later.map(|step| format!("Escalated at {}: {}.", when(step.at), step.why)));
    let handed = |answer: &Answer| format!("{} handed it over at {}.", answer.by, when(answer.at));
    lines.extend(row.declined.iter().map(handed));
    lines.push(match &row.standing {
        Standing::Open => "Nobody has acknowledged it yet.".to_owned(),
        Standing::Exhausted { at } => {
            format!("Everyone had been told by {}; nobody has acknowledged it.", when(*at))
        }
        Standing::Withdrawn { why, at } => format!("Withdrawn at {}: {why}.", when(*at)),
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

/// Not answered in its time by anyone who was told, in words; none when all is as it should be.
pub fn attention(rows: &[AlertRow], now: Timestamp) -> Option<String> {
    let left: Vec<&AlertRow> =
        rows.iter().filter(|row| matches!(row.standing, Standing::Exhausted { .. })).collect();
    let oldest = left.iter().map(|row| row.raised_at).min()?;
    let most = left.iter().map(|row| row.urgency).max().unwrap_or(Urgency::Routine);
    let minutes = now.duration_since(oldest).as_mins().max(0);
    Some(format!(
        "{} alert{} that nobody has answered, the most urgent {}, the oldest of {minutes} min ago: \
         answer on the page of the study",
        left.len(),
        if left.len() == 1 { "" } else { "s" },
        most.as_str()
    ))
}
