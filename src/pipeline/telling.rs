//! What people are told, one person and one try at a time, and what the report says of it.

use jiff::SignedDuration;
use jiff::Timestamp;

use crate::alert;
use crate::alert::Alert;
use crate::alert::By;
use crate::alert::Closure;
use crate::analysis;
use crate::analysis::profile;
use crate::analysis::record::Basis;
use crate::deliver;
use crate::deliver::DeliverError;
use crate::deliver::Delivered;
use crate::domain::alert::Kind;
use crate::domain::alert::Standing;
use crate::domain::assessment::Assessment;
use crate::domain::message::Message;
use crate::domain::study::Study;
use crate::domain::uid;
use crate::domain::uid::StudyUid;
use crate::domain::urgency::Urgency;
use crate::pipeline::alerting;
use crate::pipeline::escalating;
use crate::pipeline::job;
use crate::pipeline::job::StepError;
use crate::pipeline::record;
use crate::pipeline::record::PlanRecord;
use crate::pipeline::way::Kit;
use crate::pipeline::way::Way;
use crate::report::Communication;
use crate::store::AlertRow;
use crate::store::AlertSending;
use crate::store::AlertStep;
use crate::store::DeliveryState;
use crate::store::HeldAlert;
use crate::store::JobState;
use crate::store::event::Event;
use crate::store::event::JobKind;
use crate::store::event::StudyState;

/// What fails within this time is told in one message.
const TOGETHER: SignedDuration = SignedDuration::from_secs(30);

/// Tries of an address that its server does not know, or of a receiver that says that it is gone:
/// within two minutes a directory that was away is there again.
const ADDRESS_TRIES: u32 = 6;
/// From this try on every second goes without the picture: a filter may drop what it does not like
/// without a word.
const BARE_FROM: u32 = 4;

/// One alert to one person. A second run is the same message: its id is fixed.
///
/// - `attempt`: from 1.
pub async fn tell(
    way: &Way<'_>,
    key: &str,
    channel: &str,
    level: u32,
    attempt: u32,
) -> Result<Vec<Event>, StepError> {
    let (config, now) = (&way.kit.alert, way.kit.clock.now());
    let row = alerting::row(way, key)?;
    let row = row.ok_or_else(|| StepError::lasting("there is no such alert"))?;
    if !row.standing.is_unanswered() {
        return Err(StepError::needless(format!("the alert is {} already", row.standing.as_str())));
    }
    let again = |step: &&AlertStep| {
        let of = |other: &String| alert::address(other) == alert::address(channel);
        step.level > level && step.channels.iter().any(of)
    };
    if let Some(step) = row.steps.iter().find(again) {
        let why = format!("the message of level {} says it to the same address", step.level);
        return Err(StepError::needless(why));
    }
    if let Some(until) = has_to_wait(way, &row, channel)? {
        return Ok(held(way, &row, channel, level, until));
    }
    let (alert, assessment) = alert_of(way, &row)?;
    let shown = assessment.pictures.iter().find(|p| Some(p.number) == assessment.key_picture);
    let bytes = match shown {
        Some(reference) => way.load_bytes(&reference.file)?,
        None => None,
    };
    let why = row.steps.iter().find(|step| step.level == level).map_or("", |step| &step.why[..]);
    let study = way.kit.store.study(way.study_uid).map_err(StepError::passing)?;
    let last_image_at = study.map(|study| study.last_received_at);
    let message = alert::compose(&alert::Telling {
        alert: &alert,
        assessment: &assessment,
        channel,
        level,
        why,
        doubt: row.doubt.as_ref().map(|doubt| &doubt.why[..]),
        picture: shown.zip(bytes.as_deref()),
        answer_url: answer_url(way, key, channel),
        last_image_at,
        now,
        config,
        zone: &way.kit.equipment.time_zone,
    });
    let mut message = message.map_err(StepError::lasting)?;
    if attempt >= BARE_FROM && attempt.is_multiple_of(2) {
        message = alert::without_picture(message);
    }
    let delivered = send_whole_or_bare(way, channel, message).await;
    let delivered = delivered.map_err(|error| untaken(error, attempt))?;
    metrics::counter!("prelim_alerts_sent_total").increment(1);
    if let Some(last) = last_image_at.filter(|_| level == 0) {
        let took = way.kit.clock.now().duration_since(last).as_secs_f64().max(0.0);
        metrics::histogram!("prelim_alert_seconds").record(took);
    }
    Ok(vec![sent(&row, channel, level, &delivered, way.kit.clock.now())])
}

fn sent(row: &AlertRow, channel: &str, level: u32, delivered: &Delivered, at: Timestamp) -> Event {
    Event::AlertSent {
        study_uid: row.study_uid.clone(),
        revision: row.revision,
        alert: row.alert.clone(),
        channel: channel.to_owned(),
        level,
        detail: delivered.detail.clone(),
        at,
    }
}

/// One try; a mail whose content is refused goes without its picture at once.
async fn send_whole_or_bare(
    way: &Way<'_>,
    channel: &str,
    message: Message,
) -> Result<Delivered, DeliverError> {
    match send(way, channel, &message).await {
        Err(DeliverError::ContentRefused { answer }) if message.picture.is_some() => {
            tracing::warn!(answer, "an alert is refused as it is: it goes without its picture");
            send(way, channel, &alert::without_picture(message)).await
        }
        sent => sent,
    }
}

/// What a failed try of a message of an alert means: somebody waits for it, so it is tried again, but
/// for an address that there is none.
fn untaken(error: DeliverError, attempt: u32) -> StepError {
    match error {
        DeliverError::NoSuchAddress { .. } if attempt >= ADDRESS_TRIES => StepError::lasting(error),
        DeliverError::NoSuchAddress { .. }
        | DeliverError::Unreachable { .. }
        | DeliverError::TimedOut { .. }
        | DeliverError::Deferred { .. }
        | DeliverError::Refused { .. }
        | DeliverError::ContentRefused { .. }
        | DeliverError::NotTaken { .. }
        | DeliverError::PartlyRefused { .. }
        | DeliverError::NotEncrypted
        | DeliverError::Settings { .. }
        | DeliverError::File { .. } => StepError::passing_after(error.wait(), error),
    }
}

/// One try by the way that a channel names.
async fn send(way: &Way<'_>, channel: &str, message: &Message) -> Result<Delivered, DeliverError> {
    let config = &way.kit.deliver;
    match alert::by(channel) {
        By::Email(_) => deliver::email::send(&config.email, message).await,
        By::Webhook(name) => match config.webhook.get(name) {
            Some(webhook) => deliver::webhook::send(webhook, message, way.kit.clock.now()).await,
            None => Err(DeliverError::Settings {
                what: format!("the webhook {name} is not in the configuration any more"),
            }),
        },
    }
}

/// Where this person answers. None where people cannot reach the node.
fn answer_url(way: &Way<'_>, key: &str, channel: &str) -> Option<String> {
    let config = &way.kit.alert;
    let base = config.base_url.trim_end_matches('/');
    let hours = SignedDuration::from_hours(i64::try_from(config.link_hours).unwrap_or(72));
    let until = way.kit.clock.now().saturating_add(hours).unwrap_or(Timestamp::MAX);
    let token = way.kit.links.token(key, channel, until).filter(|_| !base.is_empty())?;
    Some(format!("{base}/alert/{token}"))
}

/// Until when an alert waits to be told with others, because its address has had its share of
/// messages. What is critical never waits.
fn has_to_wait(
    way: &Way<'_>,
    row: &AlertRow,
    channel: &str,
) -> Result<Option<Timestamp>, StepError> {
    let (config, now) = (&way.kit.alert, way.kit.clock.now());
    if row.urgency == Some(Urgency::Critical) || row.kind == Kind::Drill {
        return Ok(None);
    }
    let lately = way.kit.store.channel(alert::address(channel)).map_err(StepError::passing)?;
    let hour_ago = now.checked_sub(SignedDuration::from_hours(1)).unwrap_or(Timestamp::MIN);
    // A clock that was ahead has left times that are yet to come.
    let sent = lately.sent.iter().filter(|sent| (hour_ago..=now).contains(*sent)).count();
    // The end of the group that is being gathered, the same for all that come within it.
    let group_s = i64::try_from(config.group_s.max(1)).unwrap_or(300);
    let until = Timestamp::from_second((now.as_second().div_euclid(group_s) + 1) * group_s);
    let is_over = sent >= usize::try_from(config.messages_per_hour_max).unwrap_or(usize::MAX);
    Ok(until.ok().filter(|_| is_over))
}

fn held(way: &Way<'_>, row: &AlertRow, channel: &str, level: u32, until: Timestamp) -> Vec<Event> {
    metrics::counter!("prelim_alerts_held_total").increment(1);
    let kind = JobKind::Digest { channel: alert::address(channel).to_owned(), until };
    vec![
        Event::AlertHeld {
            study_uid: row.study_uid.clone(),
            revision: row.revision,
            alert: row.alert.clone(),
            channel: channel.to_owned(),
            level,
            until,
            at: way.kit.clock.now(),
        },
        way.at(kind, until),
    ]
}

/// Whether an alert is told by the message of this time: it was gathered for it, or the job of its
/// own time is over without having told it.
fn is_of(
    way: &Way<'_>,
    held: &HeldAlert,
    address: &str,
    until: Timestamp,
) -> Result<bool, StepError> {
    let Some(own) = held.until.filter(|own| *own != until) else { return Ok(true) };
    let kind = JobKind::Digest { channel: address.to_owned(), until: own };
    let id = job::job(kind, &held.study_uid, held.revision, own).id;
    let row = way.kit.store.job(&id).map_err(StepError::passing)?;
    Ok(row.is_none_or(|row| !matches!(row.state, JobState::Waiting | JobState::Running)))
}

/// The alerts that were gathered for one address until this time, in one message. Each study has such
/// a job: one at a time, so that the first tells all and the others find nothing left. A second run
/// is the same message.
pub async fn tell_together(
    way: &Way<'_>,
    address: &str,
    until: Timestamp,
    attempt: u32,
) -> Result<Vec<Event>, StepError> {
    let _turn = way.kit.digests.lock(address).await;
    let lately = way.kit.store.channel(address).map_err(StepError::passing)?;
    let mut gathered = Vec::new();
    for held in lately.held {
        if is_of(way, &held, address, until)? {
            gathered.push(held);
        }
    }
    let mut waiting = Vec::new();
    for held in &gathered {
        let of = Way { kit: way.kit, study_uid: &held.study_uid, revision: held.revision };
        let row = alerting::row(&of, &held.alert)?.filter(|row| row.standing.is_unanswered());
        waiting.extend(row.map(|row| (held, row)));
    }
    let Some((first, _)) = waiting.first() else { return Ok(Vec::new()) };
    let channel = first.channel.clone();
    waiting.sort_by_key(|(held, row)| {
        (std::cmp::Reverse(row.urgency), row.raised_at, row.alert.clone(), held.level)
    });
    // Gathered at two levels for one person, it is told once.
    let mut each = waiting.clone();
    each.dedup_by(|(_, later), (_, first)| later.alert == first.alert);
    let alerts = each
        .iter()
        .map(|(held, row)| alert::Entry {
            key: row.alert.clone(),
            urgency: row.urgency,
            titles: row.findings.clone(),
            raised_at: row.raised_at,
            answer_url: answer_url(way, &row.alert, &held.channel),
            study_url: alert::study_url(&way.kit.alert, &row.study_uid),
        })
        .collect();
    let of_all = gathered.iter().map(|held| (held.alert.as_str(), held.level)).collect();
    let now = way.kit.clock.now();
    let digest = alert::Digest { channel: &channel, gathered: of_all, alerts, now };
    let delivered = send(way, &channel, &alert::digest(&digest)).await;
    let delivered = delivered.map_err(|error| untaken(error, attempt))?;
    metrics::counter!("prelim_alerts_sent_total").increment(1);
    // One moment: they are one message.
    let at = way.kit.clock.now();
    let told = waiting.iter();
    let told = told.map(|(held, row)| sent(row, &held.channel, held.level, &delivered, at));
    // Before the next of them looks.
    way.kit.store.commit(told.collect()).await.map_err(StepError::passing)?;
    Ok(Vec::new())
}

/// Word to one of those who were told of what became of an alert. A second run is the same message.
///
/// - `doubt`: the revision that does not show it, where it goes on.
pub async fn tell_later(
    way: &Way<'_>,
    key: &str,
    channel: &str,
    doubt: Option<u32>,
    attempt: u32,
) -> Result<Vec<Event>, StepError> {
    let Some(row) = alerting::row(way, key)? else { return Ok(Vec::new()) };
    let doubted = row.doubt.as_ref().filter(|one| doubt == Some(one.by_revision));
    let (how, at) = match (&row.standing, doubt, doubted) {
        (Standing::Withdrawn { why, at }, None, _) => (Closure::Withdrawn { why }, *at),
        (Standing::Closed(answer), None, _) => {
            (Closure::Closed { by: &answer.by, why: &answer.note }, answer.at)
        }
        (Standing::Open | Standing::Exhausted { .. }, _, Some(doubt)) => {
            (Closure::Doubted { by_revision: doubt.by_revision, why: &doubt.why }, doubt.at)
        }
        (Standing::Acknowledged(_), _, Some(doubt)) => {
            (Closure::Doubted { by_revision: doubt.by_revision, why: &doubt.why }, doubt.at)
        }
        (_, _, _) => return Ok(Vec::new()),
    };
    let (alert, _) = alert_of(way, &row)?;
    let message = alert::ended(&alert::Ended {
        alert: &alert,
        how,
        is_answered: matches!(row.standing, Standing::Acknowledged(_)),
        raised_at: row.raised_at,
        at,
        channel,
        study_url: alert::study_url(&way.kit.alert, way.study_uid),
        zone: &way.kit.equipment.time_zone,
    });
    send(way, channel, &message).await.map_err(|error| untaken(error, attempt))?;
    Ok(Vec::new())
}

/// Word to the technical staff that images of a study did not come; one job for each address.
pub fn raise_missing(way: &Way<'_>) -> Vec<Event> {
    let channels = way.kit.alert.channels(&way.kit.alert.technical());
    channels.into_iter().map(|channel| way.next(JobKind::Notice { channel })).collect()
}

/// The same to one of them. A second run is the same message: its Message-ID is fixed.
pub async fn tell_missing(
    way: &Way<'_>,
    channel: &str,
    attempt: u32,
) -> Result<Vec<Event>, StepError> {
    let study = way.kit.store.study(way.study_uid).map_err(StepError::passing)?;
    let Some(study) = study else { return Err(StepError::lasting("the study is gone")) };
    let Some(shortfall) = study.shortfall else {
        // The rest has come meanwhile.
        return Ok(Vec::new());
    };
    let message = alert::missing(&alert::Missing {
        study_uid: way.study_uid,
        revision: way.revision,
        from: &study.calling_ae,
        what: &shortfall.what,
        at: study.last_received_at,
        to: alert::address(channel),
        config: &way.kit.alert,
        zone: &way.kit.equipment.time_zone,
    });
    send(way, channel, &message).await.map_err(|error| untaken(error, attempt))?;
    Ok(Vec::new())
}

/// Word to the technical staff of deliveries that were given up: of each destination at most once
/// in an hour, when what fails together has failed.
pub fn raise_undelivered(kit: &Kit, destination: &str) -> Vec<Event> {
    let now = kit.clock.now();
    let hour = now.as_second().div_euclid(3600).to_string();
    let of = uid::derived(&["undelivered", destination, &hour]);
    let of = StudyUid::parse(&of).expect("a derived UID is one");
    let due = now.saturating_add(TOGETHER).unwrap_or(Timestamp::MAX);
    let channels = kit.alert.channels(&kit.alert.technical()).into_iter();
    let jobs = channels.map(|channel| {
        let kind = JobKind::Undelivered { destination: destination.to_owned(), channel };
        Event::JobEnqueued { job: job::job(kind, &of, 1, due) }
    });
    jobs.collect()
}

/// The same to one of them. A second run is the same message.
pub async fn tell_undelivered(
    way: &Way<'_>,
    destination: &str,
    channel: &str,
    attempt: u32,
) -> Result<Vec<Event>, StepError> {
    if let Some(by) = destination.strip_prefix(ALERTS_BY) {
        return tell_untold(way, by, channel, attempt).await;
    }
    let given_up = way.kit.store.given_up(destination).map_err(StepError::passing)?;
    let Some(last) = given_up.last() else {
        // Somebody has seen to it meanwhile.
        return Ok(Vec::new());
    };
    let message = alert::undelivered(&alert::Undelivered {
        id: way.study_uid.as_str(),
        destination,
        count: given_up.len(),
        cause: &last.cause,
        at: last.due,
        to: alert::address(channel),
        config: &way.kit.alert,
    });
    send(way, channel, &message).await.map_err(|error| untaken(error, attempt))?;
    Ok(Vec::new())
}

/// Begins the destination of word that alerts do not go out; the way follows.
const ALERTS_BY: &str = "alerts by ";

/// Word to the technical staff of a way by which alerts do not go out: once for all that were raised
/// within the same hour.
pub fn raise_untold(kit: &Kit, by: &str, raised_at: Timestamp) -> Vec<Event> {
    let hour = raised_at.as_second().div_euclid(3600).to_string();
    let of = uid::derived(&["untold", by, &hour]);
    let of = StudyUid::parse(&of).expect("a derived UID is one");
    let now = kit.clock.now();
    let channels = kit.alert.channels(&kit.alert.technical()).into_iter();
    let jobs = channels.map(|channel| {
        let kind = JobKind::Undelivered { destination: format!("{ALERTS_BY}{by}"), channel };
        Event::JobEnqueued { job: job::job(kind, &of, 1, now) }
    });
    jobs.collect()
}

/// The same to one of them. A second run is the same message.
async fn tell_untold(
    way: &Way<'_>,
    by: &str,
    channel: &str,
    attempt: u32,
) -> Result<Vec<Event>, StepError> {
    let rows = way.kit.store.unanswered().map_err(StepError::passing)?;
    let untold = rows.iter().flat_map(escalating::untold);
    let untold: Vec<&AlertSending> =
        untold.filter(|sending| alert::by(&sending.channel).server() == by).collect();
    let Some(last) = untold.iter().max_by_key(|sending| sending.at) else {
        // It has passed meanwhile.
        return Ok(Vec::new());
    };
    let message = alert::untold(&alert::Untold {
        id: way.study_uid.as_str(),
        way: by,
        count: untold.len(),
        cause: &last.cause,
        at: last.at,
        to: alert::address(channel),
        config: &way.kit.alert,
    });
    send(way, channel, &message).await.map_err(|error| untaken(error, attempt))?;
    Ok(Vec::new())
}

/// The alert of a row, and the record that it is about: the study's assessment, else, for a step
/// that was given up, what is known of the study and why it needs review.
fn alert_of(way: &Way<'_>, row: &AlertRow) -> Result<(Alert, Assessment), StepError> {
    if row.kind == Kind::Drill {
        let assessment = unread(way, "this is a drill")?;
        return Ok((alert::drill(way.study_uid, row.raised_at), assessment));
    }
    let with_key = |assessment: Assessment, alert_at| {
        let alert = alert::decide(&assessment, alert_at).filter(|alert| alert.key == row.alert)?;
        Some((alert, assessment))
    };
    if let Some(assessment) = way.load_if_there(record::ASSESSMENT)? {
        let plan: PlanRecord = way.load(record::PLAN)?;
        if let Some(found) = with_key(assessment, plan.profile.alert_at) {
            return Ok(found);
        }
    }
    let revisions = way.kit.store.revisions(way.study_uid).map_err(StepError::passing)?;
    let revision = revisions.into_iter().find(|one| one.revision == way.revision);
    let reason = revision.map(|one| one.reason).unwrap_or_default();
    with_key(unread(way, &reason)?, Urgency::Critical)
        .ok_or_else(|| StepError::lasting("the reading raises this alert no more"))
}

/// A study that could not be read to its end: its state says so, and an alert for review.
pub fn needs_review(way: &Way<'_>, reason: &str) -> Vec<Event> {
    metrics::counter!("prelim_needs_review_total").increment(1);
    let mut events = vec![way.state(StudyState::NeedsReview, reason)];
    let raised = unread(way, reason).and_then(|assessment| {
        let location = assessment.study.patient_location();
        let alert = alert::decide(&assessment, Urgency::Critical);
        alert.map_or(Ok(Vec::new()), |alert| alerting::raise(way, &alert, location))
    });
    match raised {
        Ok(more) => events.extend(more),
        Err(error) => tracing::error!(cause = error.cause, "no alert could be raised for review"),
    }
    events
}

/// The record of a study that no step could bring to an assessment, with what is known of it.
fn unread(way: &Way<'_>, reason: &str) -> Result<Assessment, StepError> {
    let study: Option<Study> = way.load_if_there(record::STUDY).unwrap_or_default();
    let plan: Option<PlanRecord> = way.load_if_there(record::PLAN).unwrap_or_default();
    let general = || profile::general(&way.kit.profiles).cloned();
    let profile = plan.map(|plan| plan.profile).filter(|profile| !profile.is_free());
    let profile = profile.or_else(general);
    let profile = profile.ok_or_else(|| StepError::lasting("there is no profile at all"))?;
    let now = way.kit.clock.now();
    let basis = Basis {
        study: study
            .unwrap_or_else(|| Study::gather(way.study_uid.clone(), Vec::new(), Vec::new())),
        revision: way.revision,
        profile,
        pictures: Vec::new(),
        measurements: Vec::new(),
        quality: Vec::new(),
        excluded: Vec::new(),
        notes: Vec::new(),
        clinical_information: String::new(),
        started_at: now,
        finished_at: now,
    };
    Ok(analysis::record::needs_review(basis, reason, None))
}

/// Who was told of this study so far, for the report.
pub fn communications(way: &Way<'_>) -> Result<Vec<Communication>, StepError> {
    let alerts = way.kit.store.alerts(way.study_uid).map_err(StepError::passing)?;
    let sent = alerts.iter().flat_map(|row| {
        let answer = match &row.standing {
            Standing::Acknowledged(answer) => Some(answer),
            Standing::Open
            | Standing::Exhausted { .. }
            | Standing::Withdrawn { .. }
            | Standing::Closed(_) => None,
        };
        let done = row.sendings.iter().filter(|sending| sending.state == DeliveryState::Done);
        done.map(move |sending| Communication {
            at: sending.at,
            what: match row.findings.is_empty() {
                true => "needs review".to_owned(),
                false => row.findings.join("; "),
            },
            to: alert::address(&sending.channel).to_owned(),
            by: "Prelim".to_owned(),
            how: alert::by(&sending.channel).as_str().to_owned(),
            acknowledged_at: answer.map(|answer| answer.at),
            acknowledged_by: answer.map(|answer| answer.by.clone()).unwrap_or_default(),
        })
    });
    Ok(sent.collect())
}
