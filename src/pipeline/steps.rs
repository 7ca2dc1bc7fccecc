//! The way of a study, step by step. Each step loads what it needs, calls its stage, keeps what
//! comes back, and names the next step.
//!
//! A step may run twice (a kill between its work and its commit): it writes the same files
//! again under the same names, and what it enqueues has the same ids.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::Timestamp;

use crate::alert;
use crate::analysis;
use crate::analysis::plan::Plan;
use crate::analysis::plan::Route;
use crate::analysis::provider::local;
use crate::analysis::record::Basis;
use crate::analysis::record::LocalResult;
use crate::deliver::backoff::Schedule;
use crate::deliver::pacs::Artefact;
use crate::domain::assessment::Assessment;
use crate::domain::assessment::Outcome;
use crate::domain::finding::Presence;
use crate::domain::origin::Origin;
use crate::domain::picture::PictureRef;
use crate::domain::priority::Priority;
use crate::domain::profile::Profile;
use crate::domain::study::Excluded;
use crate::domain::study::Patient;
use crate::domain::study::Study;
use crate::domain::uid::SopInstanceUid;
use crate::pipeline::alerting;
use crate::pipeline::commitment;
use crate::pipeline::comparing;
use crate::pipeline::composing;
use crate::pipeline::delivering;
use crate::pipeline::disputes;
use crate::pipeline::earlier;
use crate::pipeline::escalating;
use crate::pipeline::job;
use crate::pipeline::job::Failure;
use crate::pipeline::job::StepError;
use crate::pipeline::leaving;
use crate::pipeline::meeting;
use crate::pipeline::ordering;
use crate::pipeline::origins;
use crate::pipeline::proving;
use crate::pipeline::reading;
use crate::pipeline::record;
use crate::pipeline::record::AnswerRecord;
use crate::pipeline::record::Answered;
use crate::pipeline::record::PicturesRecord;
use crate::pipeline::record::PlanRecord;
use crate::pipeline::record::Request;
use crate::pipeline::record::Run;
use crate::pipeline::telling;
use crate::pipeline::way::Kit;
use crate::pipeline::way::Way;
use crate::pipeline::whose;
use crate::pipeline::whose::Whose;
use crate::store::ClaimedJob;
use crate::store::InstanceRow;
use crate::store::OriginRow;
use crate::store::event::Event;
use crate::store::event::Job;
use crate::store::event::JobKind;
use crate::store::event::StudyState;
use crate::worker::Object;
use crate::worker::WorkerError;

/// Longest pause between two tries at a gateway.
const PAUSE_MAX: Duration = Duration::from_secs(300);
const PAUSE_URGENT_MAX: Duration = Duration::from_secs(60);

/// One try of one step: the events that its end brings, or why it failed.
///
/// - `began`: when this try did.
pub async fn run(
    kit: &Kit,
    claimed: &ClaimedJob,
    began: Timestamp,
) -> Result<Vec<Event>, StepError> {
    let (job, attempt) = (&claimed.job, claimed.attempt);
    let way = Way { kit, study_uid: &job.study_uid, revision: job.revision };
    if job.kind != JobKind::Plan
        && (job.kind.is_reading() || job.kind.destination().is_some())
        && is_of_whom_unknown(&way)?
    {
        return Err(StepError::needless("a person has to say first whose study it is"));
    }
    // Whether no further try follows when this one fails.
    let is_last = || began >= waits_until(kit, claimed);
    match &job.kind {
        JobKind::Plan => plan(&way).await,
        JobKind::Picture => picture(&way).await,
        JobKind::Analyse { .. } => reading::analyse(&way, is_last()).await,
        JobKind::ReadAgain { gateway } => reading::read_again(&way, gateway).await,
        JobKind::Shadow { gateway } => reading::shadow(&way, gateway, is_last()).await,
        JobKind::Judge => judge(&way).await,
        JobKind::Compose => composing::compose(&way).await,
        JobKind::Deliver { artefact, destination } => {
            delivering::deliver(&way, artefact, destination).await
        }
        JobKind::Prove { artefact, destination } => {
            proving::prove(&way, artefact, destination, attempt).await
        }
        JobKind::Alert { alert, channel, level } => {
            telling::tell(&way, alert, channel, *level, attempt).await
        }
        JobKind::Escalate { alert, level, unless } => {
            escalating::escalate(&way, alert, *level, *unless).await
        }
        JobKind::Withdraw { alert, channel, doubt } => {
            telling::tell_later(&way, alert, channel, *doubt, attempt).await
        }
        JobKind::Digest { channel, until } => {
            telling::tell_together(&way, channel, *until, attempt).await
        }
        JobKind::Drill { service, .. } => alerting::drill(&way, service),
        JobKind::Notice { channel } => telling::tell_missing(&way, channel, attempt).await,
        JobKind::Undelivered { destination, channel } => {
            telling::tell_undelivered(&way, destination, channel, attempt).await
        }
        JobKind::Commit { transaction_uid, request } => {
            commitment::report(kit, transaction_uid, request).await
        }
    }
}

fn is_of_whom_unknown(way: &Way<'_>) -> Result<bool, StepError> {
    let row = way.kit.store.study(way.study_uid).map_err(StepError::passing)?;
    Ok(row.is_some_and(|row| row.is_of_whom_unknown()))
}

/// A worker that died or ran over its limits may have been brought down by what it was given.
pub fn unworked(error: WorkerError) -> StepError {
    let verdict = match (error.is_poison(), error.is_transient()) {
        (true, _) => Failure::Poison,
        (false, true) => Failure::Passing { wait: None },
        (false, false) => Failure::Lasting,
    };
    StepError { verdict, cause: error.to_string() }
}

/// What is it, and who reads it how? Parses the headers, matches a profile.
async fn plan(way: &Way<'_>) -> Result<Vec<Event>, StepError> {
    let started_at = way.kit.clock.now();
    let known = origins::undecided(way.kit, way.study_uid).await?;
    if !known.is_empty() {
        way.kit.store.commit(known).await.map_err(StepError::passing)?;
    }
    let Headers { mut study, odd, beside, has_images, patients } = inspect(way).await?;
    let whose = whose::of_images(way, &patients).await?;
    if let Whose::Unknown(found) = &whose {
        // Nobody's name stands over it until a person has said whose it is.
        study.patient = Patient::default();
        way.save(record::STUDY, &study)?;
        let mut events = vec![describe(way, &study, "Not read")];
        events.extend(whose::unknown(way, found)?);
        return Ok(events);
    }
    if let Whose::Settled { patient, .. } = &whose {
        study.patient = patient.clone();
    }
    let asked = ordering::look_up(way.kit, &mut study).await;
    let whole = study;
    let (study, mut not_read) = analysis::plan::readable(&whole);
    not_read.extend(beside);
    let described = |examination: &str| describe(way, &whole, examination);
    if let Some(read) = reading_that_stands(way)? {
        way.save(record::STUDY, &whole)?;
        let reason =
            format!("nothing to read came; the reading of revision {} stands", read.revision);
        let mut events = vec![described(&read.examination)];
        events.extend(comparing::with_reports(way, &read, &HashSet::new()).await?);
        events.push(way.state(StudyState::Held, reason));
        return Ok(events);
    }
    if !has_images {
        let reason = analysis::plan::held(&whole).unwrap_or_else(|| {
            "nothing in it is an image to read: results, reports and captures of others".to_owned()
        });
        return unasked(way, &whole, not_read, started_at, AnswerRecord::Held { reason });
    }
    let request: Request = way.load_if_there(record::REQUEST)?.unwrap_or_default();
    let (profiles, config) = (&way.kit.profiles, &way.kit.analysis);
    let planned = match request.profile.as_str() {
        "" => analysis::plan::plan(&whole, profiles, config),
        name => analysis::plan::plan_as(&whole, name, profiles, config),
    };
    let (profile, route, mut notes) = match planned {
        Plan::Read { profile, route, notes } => (*profile, route, notes),
        Plan::Hold { reason } => {
            return unasked(way, &whole, not_read, started_at, AnswerRecord::Held { reason });
        }
        Plan::Review { reason } if !whole.instances.is_empty() => {
            return unasked(
                way,
                &whole,
                not_read,
                started_at,
                AnswerRecord::NeedsReview { reason },
            );
        }
        Plan::Review { reason } => {
            way.save(record::STUDY, &whole)?;
            let mut events = vec![described("Unreadable")];
            events.extend(telling::needs_review(way, &reason));
            return Ok(events);
        }
    };
    notes.extend(whose.note());
    notes.extend(asked);
    let row = way.kit.store.study(way.study_uid).map_err(StepError::passing)?;
    let source = row.as_ref().map_or("", |row| row.calling_ae.as_str());
    // By now the order is known, and what kind of study it is.
    let (wanted, by) =
        meeting::wanted(way.kit, &whole, source).min((profile.study_priority, "its profile"));
    let prioritised = Event::PrioritySet {
        study_uid: way.study_uid.clone(),
        priority: wanted,
        by: by.to_owned(),
        at: way.kit.clock.now(),
    };
    let has_known = row.as_ref().is_none_or(|row| row.priority <= wanted);
    if let Some(missing) = row.and_then(|row| row.shortfall) {
        notes.push(format!("The study is not complete: {}.", missing.what));
    }
    let broken = study.unreadable.iter().filter(|one| one.reason.starts_with(NOT_PARSED)).count();
    let review = (broken > 0).then(|| {
        format!(
            "{broken} of {} instances are broken and were not read",
            broken + study.instances.len()
        )
    });
    notes.extend(review.clone());
    notes.extend(study.patient.name.is_damaged().then(|| {
        "The patient's name cannot be read in whole: its character set is not said, or not known."
            .to_owned()
    }));
    notes.extend((odd > 0).then(|| {
        format!("{odd} instances are not written as the standard says: what could be read was.")
    }));
    way.save(record::STUDY, &study)?;
    let title = profile.title.clone();
    way.save(record::PLAN, &PlanRecord { profile, route, notes, not_read, started_at, review })?;
    let reason = format!("read as {title}");
    let mut events = vec![described(&title)];
    events.extend((!has_known).then_some(prioritised));
    events.extend([way.state(StudyState::Analysing, reason), way.next(JobKind::Picture)]);
    Ok(events)
}

fn describe(way: &Way<'_>, study: &Study, examination: &str) -> Event {
    Event::StudyDescribed {
        study_uid: way.study_uid.clone(),
        revision: way.revision,
        modality: study.modalities().join("+"),
        examination: examination.to_owned(),
        at: way.kit.clock.now(),
    }
}

/// What nobody is to be asked about goes on to its record with the answer that the plan gives.
fn unasked(
    way: &Way<'_>,
    study: &Study,
    not_read: Vec<Excluded>,
    started_at: Timestamp,
    answer: AnswerRecord,
) -> Result<Vec<Event>, StepError> {
    let general = analysis::profile::general(&way.kit.profiles);
    let mut profile =
        general.cloned().ok_or_else(|| StepError::lasting("there is no profile at all"))?;
    if matches!(answer, AnswerRecord::Held { .. }) {
        profile.title = analysis::record::NOT_FOR_READING.to_owned();
    }
    let described = describe(way, study, &profile.title);
    let route = Route::Local;
    let (notes, review) = (Vec::new(), None);
    way.save(record::STUDY, study)?;
    way.save(record::PLAN, &PlanRecord { profile, route, notes, not_read, started_at, review })?;
    Ok(vec![described, answered(way, answer)?])
}

/// The reading that was composed of all the images, when no image came since. Reading the study again
/// would say the same.
fn reading_that_stands(way: &Way<'_>) -> Result<Option<Assessment>, StepError> {
    let store = &way.kit.store;
    let row = store.study(way.study_uid).map_err(StepError::passing)?;
    let Some(read) = row.and_then(|row| row.assessed_revision) else { return Ok(None) };
    if read >= way.revision {
        return Ok(None);
    }
    let instances = store.instances(way.study_uid).map_err(StepError::passing)?;
    let mut since = instances.into_iter().filter(|row| row.revision > read).peekable();
    if since.peek().is_none() {
        // Nothing came: somebody wants it read again.
        return Ok(None);
    }
    let origins = origins::of_study(store, way.study_uid).map_err(StepError::passing)?;
    let is_image = |row: InstanceRow| {
        origins.get(&row.receipt.sop_instance_uid).is_none_or(OriginRow::is_taken)
    };
    if since.any(is_image) {
        return Ok(None);
    }
    let artefacts = store.artefacts(way.study_uid, read).map_err(StepError::passing)?;
    if !artefacts.iter().any(|row| row.file == Artefact::Sr.file(1)) {
        return Ok(None);
    }
    let of = Way { kit: way.kit, study_uid: way.study_uid, revision: read };
    of.load_if_there(record::ASSESSMENT)
}

/// Begins the reason of an instance that the receiver marked.
const NOT_PARSED: &str = "its data set is broken";

/// What the headers of a revision say.
struct Headers {
    /// Its images; where there is none, what came instead: a dose report, a document.
    study: Study,
    /// How many of what was read are marked by the receiver.
    odd: usize,
    /// What stands beside the images.
    beside: Vec<Excluded>,
    has_images: bool,
    /// What each image says whose it is, with the digest of its receipt, in the order of arrival.
    patients: Vec<(Patient, String)>,
}

/// The headers of all images of this revision and those before, and what stands beside them. An
/// instance that cannot be parsed is a note, not the end.
async fn inspect(way: &Way<'_>) -> Result<Headers, StepError> {
    let store = &way.kit.store;
    let instances = store.instances(way.study_uid).map_err(StepError::passing)?;
    let origins = origins::of_study(store, way.study_uid).map_err(StepError::passing)?;
    store.filed(way.study_uid).await.map_err(StepError::passing)?;
    let instances: Vec<_> =
        instances.into_iter().filter(|row| row.revision <= way.revision).collect();
    // What the receiver marked is kept as it came; the reader says what can be had of it.
    let mut marked: HashMap<SopInstanceUid, String> = instances
        .iter()
        .filter_map(|row| {
            let receipt = &row.receipt;
            Some((receipt.sop_instance_uid.clone(), receipt.unreadable.clone()?))
        })
        .collect();
    let is_image = |row: &InstanceRow| {
        origins.get(&row.receipt.sop_instance_uid).is_none_or(OriginRow::is_taken)
    };
    let (images, beside): (Vec<_>, Vec<_>) = instances.into_iter().partition(is_image);
    // What a person may miss in the report. Ours and a doctor's are no images to anyone.
    let excluded = |row: &InstanceRow| {
        let sop_instance_uid = row.receipt.sop_instance_uid.clone();
        let decided = origins.get(&sop_instance_uid)?.decided.as_ref()?;
        let reason = format!("a result of others: {}", decided.why.text());
        (decided.origin == Origin::Derived).then_some(Excluded { sop_instance_uid, reason })
    };
    let left_out = beside.iter().filter_map(excluded).collect();
    let has_images = !images.is_empty();
    let shown = if has_images { images } else { beside };
    let objects: Vec<Object> = shown.iter().map(origins::object).collect();
    let inspected = way.kit.pool.inspect(store.data(), objects).await;
    let (parsed, mut unreadable) = inspected.map_err(unworked)?;
    for one in &mut unreadable {
        if let Some(odd) = marked.remove(&one.sop_instance_uid) {
            one.reason = format!("{NOT_PARSED}, kept as it came: {odd}");
        }
    }
    let mut said: HashMap<SopInstanceUid, Patient> = parsed
        .iter()
        .map(|one| (one.instance.sop_instance_uid.clone(), one.patient.clone()))
        .collect();
    let of_row = |row: &InstanceRow| {
        Some((said.remove(&row.receipt.sop_instance_uid)?, row.receipt.digest.clone()))
    };
    let named = shown.iter().filter(|_| has_images);
    let patients = named.filter_map(of_row).collect();
    let odd = parsed.iter().filter(|one| marked.contains_key(&one.instance.sop_instance_uid));
    let odd = odd.count();
    let study = Study::gather(way.study_uid.clone(), parsed, unreadable);
    Ok(Headers { study, odd, beside: left_out, has_images, patients })
}

/// Pictures within the profile's budget, and measurements.
async fn picture(way: &Way<'_>) -> Result<Vec<Event>, StepError> {
    let study: Study = way.load(record::STUDY)?;
    let plan: PlanRecord = way.load(record::PLAN)?;
    let (_, mut events) = make_pictures(way, &study, &plan, &plan.profile.pictures).await?;
    let gateway = match &plan.route {
        Route::Gateway { name, .. } => name.clone(),
        Route::Local | Route::Nobody { .. } => String::new(),
    };
    events.push(way.next(JobKind::Analyse { gateway }));
    Ok(events)
}

pub async fn make_pictures(
    way: &Way<'_>,
    study: &Study,
    plan: &PlanRecord,
    budget: &crate::domain::picture::PicturePlan,
) -> Result<(PicturesRecord, Vec<Event>), StepError> {
    let (pool, data) = (&way.kit.pool, way.kit.store.data());
    let leaving = leaving::of_study(way.kit, study, &plan.route);
    let mut shown = study.clone();
    let left_out: HashSet<&SopInstanceUid> =
        leaving.left_out.iter().map(|one| &one.sop_instance_uid).collect();
    shown.instances.retain(|instance| !left_out.contains(&instance.sop_instance_uid));
    let made = pool.pictures(data, shown, budget, &leaving.masks).await;
    let (pictures, mut excluded) = made.map_err(unworked)?;
    excluded.extend(leaving.left_out.iter().cloned());
    let mut events = Vec::new();
    for picture in &pictures {
        events.push(way.keep(&picture.reference.file, picture.media_type, &picture.bytes)?);
    }
    let measured = pool.measure(data, study).await;
    let (measurements, quality, unmeasured) = measured.map_err(unworked)?;
    excluded.extend(plan.not_read.iter().cloned());
    excluded.extend(study.unreadable.iter().cloned());
    for one in unmeasured {
        if !excluded.iter().any(|known| known.sop_instance_uid == one.sop_instance_uid) {
            excluded.push(one);
        }
    }
    let pictures: Vec<PictureRef> = pictures.into_iter().map(|picture| picture.reference).collect();
    let notes = leaving::notes(&pictures, leaving.as_they_are);
    let held = leaving::held(&leaving, &pictures);
    let for_outside = leaving.outside && held.is_none();
    let made =
        PicturesRecord { pictures, excluded, measurements, quality, notes, for_outside, held };
    way.save(record::PICTURES, &made)?;
    Ok((made, events))
}

/// Turns the answer into the assessment, and says who must hear: the alert does not wait for
/// the report.
async fn judge(way: &Way<'_>) -> Result<Vec<Event>, StepError> {
    let study: Study = way.load(record::STUDY)?;
    let mut plan: PlanRecord = way.load(record::PLAN)?;
    let made: PicturesRecord = way.load(record::PICTURES)?;
    let Answered { answer, notes, review } = way.load(record::ANSWER)?;
    if plan.profile.is_free() {
        return keep_object(way, &plan.profile, answer);
    }
    plan.notes.extend(made.notes.iter().cloned());
    plan.notes.extend(notes);
    let request: Request = way.load_if_there(record::REQUEST)?.unwrap_or_default();
    let alert_at = plan.profile.alert_at;
    let why: Vec<String> = plan.review.take().into_iter().chain(review).collect();
    let mut assessment = assess(way, study, plan, made, answer, request);
    measure_nodules(way, &mut assessment).await;
    if !why.is_empty() {
        let runs: Option<Vec<Run>> = way.load_if_there(record::RUNS).unwrap_or_default();
        assessment.review(&why.join("; "), disputes::of(&runs.unwrap_or_default()));
    }
    earlier::compare(way, &mut assessment)?;
    let bytes = serde_json::to_vec_pretty(&assessment).map_err(StepError::lasting)?;
    let kept = way.keep(record::ASSESSMENT, "application/json", &bytes)?;
    let at = way.kit.clock.now();
    let reason = assessment.outcome.reason().unwrap_or("read").to_owned();
    let state = match assessment.outcome {
        Outcome::NeedsReview { .. } => StudyState::NeedsReview,
        Outcome::Held { .. } => StudyState::Held,
        Outcome::Read | Outcome::NotCovered { .. } | Outcome::MeasuredOnly { .. } => {
            StudyState::Judged
        }
    };
    if state == StudyState::NeedsReview {
        metrics::counter!("prelim_needs_review_total").increment(1);
    }
    let mut events = vec![
        kept,
        Event::Assessed {
            study_uid: way.study_uid.clone(),
            revision: way.revision,
            outcome: assessment.outcome.as_str().to_owned(),
            urgency: assessment.urgency,
            findings: assessment.present().map(|finding| finding.concept.meaning.clone()).collect(),
            patient: way.kit.marks.of(&assessment.study.patient),
            models_differ: models_differ(way),
            at,
        },
        way.state(state, reason),
    ];
    if state == StudyState::Held {
        // Nobody reads a report of it, and there is nothing in it to compare or to tell.
        return Ok(events);
    }
    events.extend(comparing::with_reports(way, &assessment, &HashSet::new()).await?);
    events.push(way.next(JobKind::Compose));
    events.extend(alerting::reconsider(way, &assessment)?);
    if let Some(alert) = alert::decide(&assessment, alert_at) {
        let location = assessment.study.patient_location();
        events.extend(alerting::raise(way, &alert, location)?);
    }
    Ok(events)
}

/// What a model answered by the schema of the profile: kept as it is, and that is all. Nothing of it
/// is a reading, so no report is made and nobody is alerted of findings.
fn keep_object(
    way: &Way<'_>,
    profile: &Profile,
    answer: AnswerRecord,
) -> Result<Vec<Event>, StepError> {
    match answer {
        AnswerRecord::Object { said } => {
            let bytes = serde_json::to_vec_pretty(&said.answer).map_err(StepError::lasting)?;
            let kept = way.keep(record::OBJECT, "application/json", &bytes)?;
            let reason = format!("answered by the schema of {}", profile.title);
            Ok(vec![kept, way.state(StudyState::Delivered, reason)])
        }
        AnswerRecord::NeedsReview { reason }
        | AnswerRecord::NotCovered { reason }
        | AnswerRecord::MeasuredOnly { reason }
        | AnswerRecord::Held { reason } => Ok(telling::needs_review(way, &reason)),
        AnswerRecord::Gateway { .. } | AnswerRecord::Local { .. } => {
            Err(StepError::lasting("the answer is a reading and not by the profile's schema"))
        }
    }
}

/// Density of nodules and what the guideline says to it. Only an addition: what a worker cannot
/// measure is told and holds nothing up.
async fn measure_nodules(way: &Way<'_>, assessment: &mut Assessment) {
    let regions = analysis::nodule::to_measure(assessment);
    if regions.is_empty() {
        return;
    }
    let count = regions.len();
    let measured = way.kit.pool.densities(way.kit.store.data(), regions).await;
    let densities = measured.unwrap_or_else(|error| vec![Err(error.to_string()); count]);
    analysis::nodule::advise(assessment, &densities);
}

/// Whether the models that read the study differ in what is there.
fn models_differ(way: &Way<'_>) -> Option<bool> {
    // A log that cannot be read is no reason to stop here.
    let runs: Option<Vec<Run>> = way.load_if_there(record::RUNS).unwrap_or_default();
    let runs = runs.unwrap_or_default();
    let found: Vec<BTreeSet<&str>> = runs
        .iter()
        .filter_map(|run| run.reading.as_ref())
        .map(|reading| {
            let all = reading.answer.findings.iter();
            all.filter(|f| f.presence == Presence::Present).map(|f| f.key.as_str()).collect()
        })
        .collect();
    (found.len() > 1).then(|| found.windows(2).any(|pair| pair[0] != pair[1]))
}

/// The one record of the reading, for each way the answer can be.
fn assess(
    way: &Way<'_>,
    study: Study,
    plan: PlanRecord,
    made: PicturesRecord,
    answer: AnswerRecord,
    request: Request,
) -> Assessment {
    // What a site has set for its profile counts more than the model's manifest.
    let pneumonia_from = plan.profile.thresholds.get("pneumonia").copied();
    let told = [request.clinical_notes.as_str(), &study.attributes.reason_for_request];
    let told = if study.order().is_some() { &told[..] } else { &told[..1] };
    let told: Vec<&str> = told.iter().copied().filter(|text| !text.trim().is_empty()).collect();
    let clinical_information = told.join("\n");
    let basis = Basis {
        study,
        revision: way.revision,
        profile: plan.profile,
        pictures: made.pictures,
        measurements: made.measurements,
        quality: made.quality,
        excluded: made.excluded,
        notes: plan.notes,
        clinical_information,
        started_at: plan.started_at,
        finished_at: way.kit.clock.now(),
    };
    match answer {
        AnswerRecord::Gateway { reading } => analysis::record::read(basis, &reading),
        AnswerRecord::Object { .. } => {
            analysis::record::needs_review(basis, "the answer is no reading", None)
        }
        AnswerRecord::NotCovered { reason } => analysis::record::not_covered(basis, &reason),
        AnswerRecord::MeasuredOnly { reason } => analysis::record::measured_only(basis, &reason),
        AnswerRecord::Held { reason } => analysis::record::held(basis, &reason),
        AnswerRecord::NeedsReview { reason } => {
            analysis::record::needs_review(basis, &reason, None)
        }
        AnswerRecord::Local { instance, reading } => {
            let threshold = pneumonia_from.unwrap_or(local::manifest().threshold);
            let result = LocalResult {
                probability: reading.probability,
                threshold,
                threshold_low: threshold,
                algorithm: local::algorithm(),
                implausible: reading.implausible(),
            };
            analysis::record::pneumonia(basis, &instance, &result)
        }
    }
}

/// Until when a step waits for a gateway before a person hears of the study: by the profile, else by
/// how soon it is wanted.
fn waits_until(kit: &Kit, claimed: &ClaimedJob) -> Timestamp {
    let job = &claimed.job;
    let wait_s = match &job.kind {
        JobKind::ReadAgain { .. } => kit.analysis.waits.read_again_s,
        _ => {
            let way = Way { kit, study_uid: &job.study_uid, revision: job.revision };
            let plan: Option<PlanRecord> = way.load_if_there(record::PLAN).unwrap_or_default();
            let own = plan.and_then(|plan| plan.profile.gateway_wait_s);
            own.unwrap_or(kit.analysis.waits.of(claimed.rank.priority))
        }
    };
    let wait = SignedDuration::from_secs(i64::try_from(wait_s).unwrap_or(i64::MAX));
    claimed.since.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

/// When this job is tried again: deliveries and alerts by their schedules over days, what waits for
/// a gateway as long as it may, the other steps of the reading a few times. `None`: a person must
/// look.
pub fn next_try(
    kit: &Kit,
    claimed: &ClaimedJob,
    began: Timestamp,
    error: &StepError,
    now: Timestamp,
) -> Option<Timestamp> {
    let (job, attempt) = (&claimed.job, claimed.attempt);
    let schedule = match &job.kind {
        JobKind::Deliver { .. } | JobKind::Prove { .. } => kit.deliver.schedule(),
        JobKind::Alert { .. }
        | JobKind::Escalate { .. }
        | JobKind::Withdraw { .. }
        | JobKind::Digest { .. }
        | JobKind::Drill { .. }
        | JobKind::Notice { .. }
        | JobKind::Undelivered { .. } => Schedule::ALERT,
        JobKind::Commit { .. } => commitment::schedule(&kit.commitment),
        JobKind::Analyse { .. } | JobKind::ReadAgain { .. } | JobKind::Shadow { .. } => {
            let times = (began, waits_until(kit, claimed));
            let pause_max = match claimed.rank.priority {
                Priority::Stat | Priority::Urgent => PAUSE_URGENT_MAX,
                Priority::Routine => PAUSE_MAX,
            };
            return job::next_try_until(times, pause_max, attempt, error.verdict, now);
        }
        JobKind::Plan | JobKind::Picture | JobKind::Judge | JobKind::Compose => {
            return job::next_try(attempt, kit.pipeline.tries_max, error.verdict, now);
        }
    };
    match error.verdict {
        Failure::Lasting | Failure::Poison | Failure::Needless => None,
        Failure::NotYet { until } => Some(until),
        Failure::Passing { wait } => {
            let next = schedule.next_try(attempt, now, rand::random())?;
            let wait =
                wait.and_then(|wait| SignedDuration::try_from(wait).ok()).unwrap_or_default();
            Some(next.max(now.saturating_add(wait).unwrap_or(next)))
        }
    }
}

fn said<'a>(kit: &'a Kit, job: &'a Job, cause: &str) -> (String, Way<'a>) {
    let reason = format!("{} failed: {cause}", job::step_name(&job.kind));
    (reason, Way { kit, study_uid: &job.study_uid, revision: job.revision })
}

/// Goes on with this answer, which no reader gave. What was made of the images until then stays in
/// the result.
fn answered(way: &Way<'_>, answer: AnswerRecord) -> Result<Event, StepError> {
    let made: Option<PicturesRecord> = way.load_if_there(record::PICTURES)?;
    if made.is_none() {
        let (study, plan): (Study, PlanRecord) =
            (way.load(record::STUDY)?, way.load(record::PLAN)?);
        let mut excluded = plan.not_read;
        excluded.extend(study.unreadable);
        way.save(record::PICTURES, &PicturesRecord { excluded, ..PicturesRecord::default() })?;
    }
    way.save(record::ANSWER, &Answered { answer, notes: Vec::new(), review: None })?;
    Ok(way.next(JobKind::Judge))
}

/// What a step that is given up leaves behind: a reading that failed is a study that a person
/// must look at. A delivery or an alert that failed is a dead letter, on the page and counted; the
/// technical staff hears of deliveries.
pub fn given_up(kit: &Kit, job: &Job, cause: &str) -> Vec<Event> {
    match &job.kind {
        JobKind::Picture | JobKind::Analyse { .. } => {
            let (reason, way) = said(kit, job, cause);
            // Report, structured report and alert say that nobody has read the study, and why.
            let answer = AnswerRecord::NeedsReview { reason: reason.clone() };
            answered(&way, answer).map(|next| vec![next]).unwrap_or_else(|error| {
                tracing::error!(cause = error.cause, "no result can say that it was not read");
                telling::needs_review(&way, &reason)
            })
        }
        JobKind::Plan | JobKind::Judge | JobKind::Compose => {
            let (reason, way) = said(kit, job, cause);
            telling::needs_review(&way, &reason)
        }
        // Without effect on the patient, so without effect here.
        JobKind::Shadow { .. } => Vec::new(),
        // That it needs review was said when it was enqueued.
        JobKind::ReadAgain { .. } => Vec::new(),
        JobKind::Deliver { destination, .. } | JobKind::Prove { destination, .. } => {
            metrics::counter!("prelim_deliveries_dead_total", "destination" => destination.clone())
                .increment(1);
            telling::raise_undelivered(kit, destination)
        }
        // Those who come next are told in their time, whatever becomes of one message.
        JobKind::Alert { .. }
        | JobKind::Escalate { .. }
        | JobKind::Withdraw { .. }
        | JobKind::Digest { .. }
        | JobKind::Drill { .. }
        | JobKind::Notice { .. }
        | JobKind::Undelivered { .. } => {
            metrics::counter!("prelim_alerts_dead_total").increment(1);
            Vec::new()
        }
        JobKind::Commit { .. } => {
            metrics::counter!("prelim_commitments_total", "outcome" => "dead").increment(1);
            Vec::new()
        }
    }
}
