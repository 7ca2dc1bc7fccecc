//! Who must hear: alerts raised, sent one person at a time, and what the report says of it.

use crate::alert;
use crate::alert::Alert;
use crate::analysis;
use crate::analysis::record::Basis;
use crate::deliver;
use crate::domain::assessment::Assessment;
use crate::domain::study::Study;
use crate::domain::urgency::Urgency;
use crate::pipeline::job::StepError;
use crate::pipeline::record;
use crate::pipeline::record::PlanRecord;
use crate::pipeline::steps::undelivered;
use crate::pipeline::way::Way;
use crate::report::Communication;
use crate::store::DeliveryState;
use crate::store::event::Event;
use crate::store::event::JobKind;
use crate::store::event::StudyState;

/// The alert, and one job for each of its channels. A later revision with the same findings
/// joins the alert that is out already.
pub fn raise(way: &Way<'_>, alert: &Alert) -> Result<Vec<Event>, StepError> {
    let known = way.kit.store.alerts(way.study_uid).map_err(StepError::passing)?;
    if known.iter().any(|row| row.alert == alert.key) {
        return Ok(Vec::new());
    }
    if alert.recipients.is_empty() {
        tracing::warn!(
            urgency = alert.urgency.as_str(),
            "an alert has no recipient: only the page shows it"
        );
    }
    metrics::counter!("prelim_alerts_raised_total", "urgency" => alert.urgency.as_str())
        .increment(1);
    let mut events = vec![Event::AlertRaised {
        study_uid: way.study_uid.clone(),
        revision: way.revision,
        alert: alert.key.clone(),
        urgency: alert.urgency,
        findings: alert.titles.clone(),
        recipients: alert.recipients.clone(),
        at: way.kit.clock.now(),
    }];
    for channel in way.kit.alert.channels(&alert.recipients) {
        events.push(way.next(JobKind::Alert { alert: alert.key.clone(), channel }));
    }
    Ok(events)
}

/// One alert to one person. A second run is the same message: its Message-ID is fixed.
pub async fn tell(way: &Way<'_>, key: &str, channel: &str) -> Result<Vec<Event>, StepError> {
    let config = &way.kit.alert;
    let (alert, assessment) = alert_of(way, key)?;
    let shown = assessment.pictures.iter().find(|p| Some(p.number) == assessment.key_picture);
    let bytes = match shown {
        Some(reference) => way.load_bytes(&reference.file)?,
        None => None,
    };
    let picture = shown.zip(bytes.as_deref());
    let to = [alert::address(channel).to_owned()];
    let zone = &way.kit.equipment.time_zone;
    let message = alert::compose(&alert, &assessment, &to, picture, config, zone);
    let message = message.map_err(StepError::lasting)?;
    let sent = deliver::email::send(&way.kit.deliver.email, &message).await;
    let delivered = sent.map_err(undelivered)?;
    metrics::counter!("prelim_alerts_sent_total").increment(1);
    Ok(vec![Event::AlertSent {
        study_uid: way.study_uid.clone(),
        revision: way.revision,
        alert: key.to_owned(),
        channel: channel.to_owned(),
        detail: delivered.detail,
        at: way.kit.clock.now(),
    }])
}

/// Word to the technical staff that images of a study did not come; one job for each address.
pub fn raise_missing(way: &Way<'_>) -> Vec<Event> {
    let channels = way.kit.alert.channels(&way.kit.alert.technical());
    channels.into_iter().map(|channel| way.next(JobKind::Notice { channel })).collect()
}

/// The same to one of them. A second run is the same message: its Message-ID is fixed.
pub async fn tell_missing(way: &Way<'_>, channel: &str) -> Result<Vec<Event>, StepError> {
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
    let sent = deliver::email::send(&way.kit.deliver.email, &message).await;
    sent.map_err(undelivered)?;
    Ok(Vec::new())
}

/// The alert with this key, and the record that it is about: the study's assessment, else, for a
/// step that was given up, what is known of the study and why it needs review.
fn alert_of(way: &Way<'_>, key: &str) -> Result<(Alert, Assessment), StepError> {
    let config = &way.kit.alert;
    let with_key = |assessment: Assessment, alert_at| {
        let alert =
            alert::decide(&assessment, alert_at, config).filter(|alert| alert.key == key)?;
        Some((alert, assessment))
    };
    if let Some(assessment) = way.load_if_there(record::ASSESSMENT)? {
        let plan: PlanRecord = way.load(record::PLAN)?;
        if let Some(found) = with_key(assessment, plan.profile.alert_at) {
            return Ok(found);
        }
    }
    let revisions = way.kit.store.revisions(way.study_uid).map_err(StepError::passing)?;
    let row = revisions.into_iter().find(|row| row.revision == way.revision);
    let reason = row.map(|row| row.reason).unwrap_or_default();
    with_key(unread(way, &reason)?, Urgency::Critical)
        .ok_or_else(|| StepError::lasting("the reading raises this alert no more"))
}

/// A study that could not be read to its end: its state says so, and an alert for review.
pub fn needs_review(way: &Way<'_>, reason: &str) -> Vec<Event> {
    metrics::counter!("prelim_needs_review_total").increment(1);
    let mut events = vec![way.state(StudyState::NeedsReview, reason)];
    let raised = unread(way, reason).and_then(|assessment| {
        let alert = alert::decide(&assessment, Urgency::Critical, &way.kit.alert);
        alert.map_or(Ok(Vec::new()), |alert| raise(way, &alert))
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
    let readers = || way.kit.profiles.iter().filter(|profile| !profile.is_free());
    let general = || readers().min_by_key(|profile| profile.priority).cloned();
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
        let done = row.sendings.iter().filter(|sending| sending.state == DeliveryState::Done);
        done.map(|sending| Communication {
            at: sending.at,
            what: match row.findings.is_empty() {
                true => "needs review".to_owned(),
                false => row.findings.join("; "),
            },
            to: alert::address(&sending.channel).to_owned(),
            by: "Prelim".to_owned(),
            how: "e-mail".to_owned(),
            acknowledged_at: None,
            acknowledged_by: String::new(),
        })
    });
    Ok(sent.collect())
}
