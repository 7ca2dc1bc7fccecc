//! Studies, and what was found in them.

use axum::Extension;
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use utoipa::IntoParams;
use utoipa::ToSchema;

use crate::domain::finding::Presence;
use crate::domain::origin::Origin;
use crate::domain::urgency::Urgency;
use crate::pipeline::closing;
use crate::store::StudyRow;
use crate::store::event::StudyState;
use crate::web::Shared;
use crate::web::Web;
use crate::web::access::Viewer;
use crate::web::answer::plain;
use crate::web::api::Body;
use crate::web::api::Page;
use crate::web::api::Path;
use crate::web::api::Query;
use crate::web::api::cursor;
use crate::web::api::judging::signed;
use crate::web::api::page_size;
use crate::web::api::shapes;
use crate::web::api::shapes::Finding;
use crate::web::api::shapes::Outcome;
use crate::web::api::shapes::Study;
use crate::web::api::shapes::StudyDetail;
use crate::web::api::study_uid;
use crate::web::inspect;
use crate::web::local;
use crate::web::problem::Failure;
use crate::web::query::word;

/// Which studies, and how many at once.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    state: Option<StudyState>,
    urgency: Option<Urgency>,
    outcome: Option<Outcome>,
    /// CT, MR, CR, …
    modality: Option<String>,
    /// Who sent it.
    calling_ae: Option<String>,
    /// Only those that changed at this time or later.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// At most so many in a page: 1 to 1000, else 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    #[param(pattern = "^[0-9]{1,19}$")]
    cursor: Option<String>,
}

impl Wanted {
    fn fits(&self, study: &Study) -> bool {
        let text = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        self.state.is_none_or(|state| state == study.state)
            && self.urgency.is_none_or(|urgency| study.urgency == Some(urgency))
            && self.outcome.is_none_or(|outcome| study.outcome == Some(word(&outcome)))
            && text(&self.modality, &study.modality)
            && text(&self.calling_ae, &study.calling_ae)
    }

    /// Those of one page, the newest change first, each made into `item`s until the page is full.
    pub fn page<T>(
        &self,
        web: &Shared,
        mut items_of: impl FnMut(&StudyRow, Study) -> Result<Vec<T>, Failure>,
    ) -> Result<Page<T>, Failure> {
        let limit = page_size(self.limit)?;
        let below = cursor(self.cursor.as_deref())?.unwrap_or(u64::MAX);
        let mut rows = Vec::new();
        let since = self.since;
        web.node.store.each_study(&mut |row| {
            if since.is_some_and(|since| row.changed_at < since) {
                return Ok(false);
            }
            if row.order < below {
                let study = Study::from(&row);
                rows.extend(self.fits(&study).then_some((row, study)));
            }
            Ok(rows.len() <= limit)
        })?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let last = rows.last().map(|(row, _)| row.order.to_string());
        let mut items = Vec::new();
        for (row, study) in rows {
            items.extend(items_of(&row, study)?);
        }
        Ok(Page { items, next: last.filter(|_| more) })
    }
}

/// Studies, the newest change first.
#[utoipa::path(
    get, path = "/api/v1/studies", tag = "studies", params(Wanted),
    responses((status = 200, body = Page<Study>)),
)]
pub async fn list(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page<Study>>, Failure> {
    web.audit.look(None, "list of studies", &viewer).await;
    web.read(move |web| Ok(Json(wanted.page(web, |_, study| Ok(vec![study]))?))).await
}

/// One study with its reading, history, artefacts, deliveries and alerts.
#[utoipa::path(
    get, path = "/api/v1/studies/{uid}", tag = "studies",
    params(("uid" = shapes::StudyInstanceUid, Path)),
    responses((status = 200, body = StudyDetail)),
)]
pub async fn one(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path(uid): Path<String>,
) -> Result<Json<StudyDetail>, Failure> {
    let uid = study_uid(&uid)?;
    let of = uid.clone();
    let found = web.read(move |web| Ok(inspect::study(&web.node.store, &of)?)).await?;
    let Some(view) = found else {
        return Err(Failure::not_found("The node has no such study."));
    };
    web.audit.look(Some(&uid), "study", &viewer).await;
    let text = uid.to_string();
    let artefacts = view.artefacts.iter().map(|made| shapes::Artefact::new(&text, &made.row));
    let findings = view.reading.iter().flat_map(|reading| {
        let algorithm = reading.algorithm.label();
        let of = &text;
        reading
            .findings
            .iter()
            .map(move |finding| Finding::new(of, reading.revision, &algorithm, finding))
    });
    Ok(Json(StudyDetail {
        study: Study::from(&view.study),
        findings_of_reading: findings.collect(),
        reading: view.reading.as_ref().and_then(|reading| serde_json::to_value(reading).ok()),
        history: view.history.iter().map(shapes::Step::from).collect(),
        artefacts: artefacts.collect(),
        objects: view.objects.iter().map(shapes::Objects::from).collect(),
        deliveries: view.deliveries.iter().map(shapes::Delivery::from).collect(),
        alerts: view.alerts.iter().map(shapes::Alert::from).collect(),
        jobs: view.jobs.iter().map(shapes::Job::from).collect(),
        notice: inspect::NOTICE.to_owned(),
    }))
}

#[derive(Serialize, ToSchema)]
pub struct Completed {
    study_uid: String,
    /// The revision that takes no more instances and is read now.
    revision: u32,
}

/// Says that a study is whole: it is read now.
#[utoipa::path(
    post, path = "/api/v1/studies/{uid}/complete", tag = "studies",
    params(("uid" = shapes::StudyInstanceUid, Path)),
    request_body = shapes::Word,
    responses((status = 200, body = Completed)),
)]
pub async fn complete(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path(uid): Path<String>,
    Body(word): Body<shapes::Word>,
) -> Result<Json<Completed>, Failure> {
    let uid = study_uid(&uid)?;
    let by = signed(&plain(&word.by, 80), &viewer);
    let reason = local::Word { by, reason: word.note }.text();
    let (store, at) = (&web.node.store, web.node.clock.now());
    match closing::close_by_word(store, &uid, reason, at).await? {
        Some(revision) => Ok(Json(Completed { study_uid: uid.to_string(), revision })),
        None => Err(Failure::not_found("No study with this UID takes instances now.")),
    }
}

/// What objects are that came with a study, by the word of a person.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OriginWord {
    /// Series or SOP Instance UID of the study.
    of: String,
    /// Images are read; the others stand beside them.
    origin: Says,
    /// A person, where a program speaks for one; else the caller.
    #[serde(default)]
    #[schema(max_length = 80)]
    by: String,
    /// A reason.
    #[serde(default)]
    #[schema(max_length = 200)]
    note: String,
}

#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Says {
    Image,
    Derived,
    Report,
    Ours,
}

#[derive(Serialize, ToSchema)]
pub struct Changed {
    study_uid: String,
    /// How many objects it is about.
    instances: usize,
}

/// Says what objects of a study are. Images that come in or go out are a next revision.
#[utoipa::path(
    post, path = "/api/v1/studies/{uid}/origin", tag = "studies",
    params(("uid" = shapes::StudyInstanceUid, Path)),
    request_body = OriginWord,
    responses((status = 200, body = Changed)),
)]
pub async fn origin(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path(uid): Path<String>,
    Body(word): Body<OriginWord>,
) -> Result<Json<Changed>, Failure> {
    let uid = study_uid(&uid)?;
    let origin = match word.origin {
        Says::Image => Origin::Image,
        Says::Derived => Origin::Derived,
        Says::Report => Origin::Report,
        Says::Ours => Origin::Ours,
    };
    let by = signed(&plain(&word.by, 80), &viewer);
    let said = local::Said { of: word.of, origin, by, reason: word.note };
    let instances = local::say(&web, &uid, &said).await?;
    Ok(Json(Changed { study_uid: uid.to_string(), instances }))
}

/// Whose a study is, by the word of a person.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityWord {
    /// Of the patients that its page shows, from 1.
    #[schema(minimum = 1)]
    number: u32,
    /// A person, where a program speaks for one; else the caller.
    #[serde(default)]
    #[schema(max_length = 80)]
    by: String,
    /// A reason.
    #[serde(default)]
    #[schema(max_length = 200)]
    note: String,
}

#[derive(Serialize, ToSchema)]
pub struct Settled {
    study_uid: String,
}

/// Says whose a study is whose images name more than one patient. It goes on as its next revision.
#[utoipa::path(
    post, path = "/api/v1/studies/{uid}/identity", tag = "studies",
    params(("uid" = shapes::StudyInstanceUid, Path)),
    request_body = IdentityWord,
    responses((status = 200, body = Settled)),
)]
pub async fn identity(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path(uid): Path<String>,
    Body(word): Body<IdentityWord>,
) -> Result<Json<Settled>, Failure> {
    let uid = study_uid(&uid)?;
    let by = signed(&plain(&word.by, 80), &viewer);
    let number = usize::try_from(word.number).unwrap_or_default();
    local::settle(&web, &uid, &local::Holds { number, by, reason: word.note }).await?;
    Ok(Json(Settled { study_uid: uid.to_string() }))
}

/// What was found, study by study, the newest change first.
///
/// A page holds the findings of at most `limit` studies.
#[utoipa::path(
    get, path = "/api/v1/findings", tag = "studies", params(Wanted, Of),
    responses((status = 200, body = Page<Finding>)),
)]
pub async fn findings(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Query(asked): Query<AskedFindings>,
) -> Result<Json<Page<Finding>>, Failure> {
    web.audit.look(None, "findings of many studies", &viewer).await;
    web.read(move |web| {
        let (wanted, of) = asked.parts();
        let page = wanted.page(web, |row, _| findings_of(web, row, &of))?;
        Ok(Json(page))
    })
    .await
}

/// What a reading may say of a finding.
#[derive(Clone, Copy, Default, PartialEq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stated {
    #[default]
    Present,
    Absent,
    Undetermined,
    All,
}

impl Stated {
    fn takes(self, presence: Presence) -> bool {
        match self {
            Stated::Present => presence == Presence::Present,
            Stated::Absent => presence == Presence::Absent,
            Stated::Undetermined => presence == Presence::Undetermined,
            Stated::All => true,
        }
    }
}

/// Which findings.
#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Of {
    /// Our key, e.g. pneumothorax.
    key: Option<String>,
    /// Else present.
    presence: Option<Stated>,
}

/// [`Wanted`] and [`Of`] in one query (serde's `flatten` reads no numbers from a query).
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AskedFindings {
    state: Option<StudyState>,
    urgency: Option<Urgency>,
    outcome: Option<Outcome>,
    modality: Option<String>,
    calling_ae: Option<String>,
    since: Option<Timestamp>,
    limit: Option<u32>,
    cursor: Option<String>,
    key: Option<String>,
    presence: Option<Stated>,
}

impl AskedFindings {
    fn parts(self) -> (Wanted, Of) {
        let wanted = Wanted {
            state: self.state,
            urgency: self.urgency,
            outcome: self.outcome,
            modality: self.modality,
            calling_ae: self.calling_ae,
            since: self.since,
            limit: self.limit,
            cursor: self.cursor,
        };
        (wanted, Of { key: self.key, presence: self.presence })
    }
}

fn findings_of(web: &Shared, row: &StudyRow, of: &Of) -> Result<Vec<Finding>, Failure> {
    let Some(revision) = row.assessed_revision else { return Ok(Vec::new()) };
    let found = inspect::assessment_of(&web.node.store, &row.study_uid, revision)?;
    let Some(assessment) = found else { return Ok(Vec::new()) };
    let (uid, algorithm) = (row.study_uid.to_string(), assessment.algorithm.label());
    let said = of.presence.unwrap_or_default();
    let findings = assessment.findings.iter();
    let all = findings.map(|finding| Finding::new(&uid, revision, &algorithm, finding));
    Ok(all
        .filter(|finding| said.takes(finding.presence))
        .filter(|finding| of.key.as_ref().is_none_or(|key| *key == finding.key))
        .collect())
}
