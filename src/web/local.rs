//! The command line's way to a node that runs: `<data>/node.json` says where it is, and only the
//! owner of the data folder can read it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use axum::Extension;
use axum::Json;
use axum::extract;
use axum::extract::Query;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse as _;
use axum::response::Response;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;
use serde::Serialize;

use crate::analysis::provider::GatewayView;
use crate::dicom::sources::Source;
use crate::domain::canary::Phase;
use crate::domain::origin::Origin;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::pipeline::alerting;
use crate::pipeline::canary::CanaryView;
use crate::pipeline::closing;
use crate::pipeline::compare;
use crate::pipeline::compare::Comparison;
use crate::pipeline::delivering;
use crate::pipeline::origins;
use crate::pipeline::replay;
use crate::pipeline::replay::Kept;
use crate::pipeline::whose;
use crate::pipeline::word;
use crate::store::AlertRow;
use crate::store::AuditPage;
use crate::store::AuditQuery;
use crate::store::ChainReport;
use crate::store::Hash;
use crate::store::Pace;
use crate::store::Progress;
use crate::store::RetentionReport;
use crate::store::StudyRow;
use crate::store::VerifyMode;
use crate::store::VerifyReport;
use crate::store::event::Event;
use crate::web::Web;
use crate::web::access::Viewer;
use crate::web::access::random_token;
use crate::web::answer;
use crate::web::files;
use crate::web::inspect;
use crate::web::inspect::QueueView;
use crate::web::inspect::StudyView;
use crate::web::inspect::UsageView;
use crate::web::problem::Failure;
use crate::web::words::Phrase;

const FILE: &str = "node.json";

/// How a look at the audit log itself stands in it.
pub const AUDIT_LOG: &str = "audit log";

/// Where the node that works on a data folder can be asked.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFile {
    /// Of the HTTP port, on this machine.
    pub address: SocketAddr,
    /// Bearer token of `/local/v1`, new at each start.
    pub token: String,
    pub pid: u32,
    /// Of the DICOM port, as it listens; of the one with TLS.
    #[serde(default)]
    pub dicom: Option<SocketAddr>,
    #[serde(default)]
    pub dicom_tls: Option<SocketAddr>,
    /// Of the HL7 port, and of the one with TLS.
    #[serde(default)]
    pub hl7: Option<SocketAddr>,
    #[serde(default)]
    pub hl7_tls: Option<SocketAddr>,
}

impl NodeFile {
    /// For a node that serves HTTP on `listening`. An address that stands for all is asked on
    /// loopback.
    pub fn new(listening: SocketAddr) -> NodeFile {
        let mut address = listening;
        if address.ip().is_unspecified() {
            address.set_ip(match address.ip() {
                std::net::IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
                std::net::IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
            });
        }
        NodeFile {
            address,
            token: random_token(),
            pid: std::process::id(),
            dicom: None,
            dicom_tls: None,
            hl7: None,
            hl7_tls: None,
        }
    }

    /// Puts the file in the data folder, mode 0600.
    pub fn write(&self, data: &Path) -> std::io::Result<()> {
        let path = data.join(format!("{FILE}.tmp"));
        let _ = std::fs::remove_file(&path);
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        drop(file);
        std::fs::rename(path, data.join(FILE))
    }

    /// None when no node runs there, or none that ended in order.
    pub fn read(data: &Path) -> std::io::Result<Option<NodeFile>> {
        match std::fs::read(data.join(FILE)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the file, at an orderly end.
    pub fn remove(data: &Path) {
        let _ = std::fs::remove_file(data.join(FILE));
    }
}

#[derive(Deserialize)]
pub struct ListQuery {
    limit: Option<usize>,
}

pub(in crate::web) async fn studies(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Vec<StudyRow>>, Failure> {
    let limit = query.limit.unwrap_or(1000).min(100_000);
    let rows = web.read(move |web| Ok(web.node.store.studies(limit)?)).await?;
    // Each command asks for none of them, to see whether the node answers.
    if !rows.is_empty() {
        web.audit.look(None, "list of studies", &viewer).await;
    }
    Ok(Json(rows))
}

pub(in crate::web) async fn study(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    extract::Path(uid): extract::Path<String>,
) -> Result<Json<StudyView>, Failure> {
    let uid = StudyUid::parse(&uid).map_err(|error| Failure::bad_request(error.to_string()))?;
    let of = uid.clone();
    let found = web.read(move |web| Ok(inspect::study(&web.node.store, &of)?)).await?;
    let Some(view) = found else {
        return Err(Failure::not_found("The node has no such study."));
    };
    web.audit.look(Some(&uid), "study", &viewer).await;
    Ok(Json(view))
}

/// Files and reading of a study, to read it again elsewhere on this machine.
pub(in crate::web) async fn kept(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    extract::Path(uid): extract::Path<String>,
) -> Result<Json<Kept>, Failure> {
    let uid = StudyUid::parse(&uid).map_err(|error| Failure::bad_request(error.to_string()))?;
    let of = uid.clone();
    let found = web.read(move |web| Ok(replay::kept(&web.node.store, &of)?)).await?;
    let Some(kept) = found else {
        return Err(Failure::not_found("The node has no such study, or not its images any more."));
    };
    web.audit.look(Some(&uid), "study to be read again", &viewer).await;
    Ok(Json(kept))
}

/// Who says that a study is complete, and why.
#[derive(Serialize, Deserialize)]
pub struct Word {
    pub by: String,
    pub reason: String,
}

impl Word {
    /// As the study's history shows it.
    pub fn text(&self) -> String {
        let plain =
            |text: &str| -> String { text.chars().filter(|c| !c.is_control()).take(200).collect() };
        let (by, reason) = (plain(&self.by), plain(&self.reason));
        match reason.is_empty() {
            true => format!("complete by word of {by}"),
            false => format!("complete by word of {by}: {reason}"),
        }
    }
}

pub(in crate::web) async fn complete(
    State(web): State<Web>,
    extract::Path(uid): extract::Path<String>,
    Json(word): Json<Word>,
) -> Result<Json<u32>, Failure> {
    let uid = StudyUid::parse(&uid).map_err(|error| Failure::bad_request(error.to_string()))?;
    let (store, at) = (&web.node.store, web.node.clock.now());
    match closing::close_by_word(store, &uid, word.text(), at).await? {
        Some(revision) => Ok(Json(revision)),
        None => Err(Failure::not_found("No study with this UID takes instances now.")),
    }
}

/// What objects of a study are, by the word of a person.
#[derive(Serialize, Deserialize)]
pub struct Said {
    pub of: String,
    pub origin: Origin,
    pub by: String,
    pub reason: String,
}

pub(in crate::web) async fn origin(
    State(web): State<Web>,
    extract::Path(uid): extract::Path<String>,
    Json(said): Json<Said>,
) -> Result<Json<usize>, Failure> {
    let uid = StudyUid::parse(&uid).map_err(|error| Failure::bad_request(error.to_string()))?;
    Ok(Json(say(&web, &uid, &said).await?))
}

/// One way for page, API and command line.
pub(in crate::web) async fn say(web: &Web, uid: &StudyUid, said: &Said) -> Result<usize, Failure> {
    if !Origin::BY_PERSON.contains(&said.origin) {
        return Err(Failure::bad_request("origin: use image, derived, report or ours."));
    }
    let word = origins::Word {
        by: answer::plain(&said.by, WORD_CHARS_MAX),
        reason: answer::plain(&said.reason, WORD_CHARS_MAX),
    };
    let (store, at) = (&web.node.store, web.node.clock.now());
    Ok(origins::change(store, uid, &said.of, said.origin, &word, at).await?)
}

/// Whose a study is, by the word of a person: a number of [`whose::patients`], from 1.
#[derive(Serialize, Deserialize)]
pub struct Holds {
    pub number: usize,
    pub by: String,
    pub reason: String,
}

pub(in crate::web) async fn identity(
    State(web): State<Web>,
    extract::Path(uid): extract::Path<String>,
    Json(holds): Json<Holds>,
) -> Result<Json<()>, Failure> {
    let uid = StudyUid::parse(&uid).map_err(|error| Failure::bad_request(error.to_string()))?;
    Ok(Json(settle(&web, &uid, &holds).await?))
}

/// One way for page, API and command line.
pub(in crate::web) async fn settle(
    web: &Web,
    uid: &StudyUid,
    holds: &Holds,
) -> Result<(), Failure> {
    let word = origins::Word {
        by: answer::plain(&holds.by, WORD_CHARS_MAX),
        reason: answer::plain(&holds.reason, WORD_CHARS_MAX),
    };
    let (store, at) = (&web.node.store, web.node.clock.now());
    Ok(whose::settle(store, uid, holds.number, &word, at).await?)
}

const WORD_CHARS_MAX: usize = 200;

/// The Part 10 file as it was received.
pub(in crate::web) async fn object(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    extract::Path(sop): extract::Path<String>,
) -> Result<Response, Failure> {
    let sop = SopInstanceUid::parse(&sop).map_err(|e| Failure::bad_request(e.to_string()))?;
    let found = web
        .read(move |web| {
            let Some(row) = web.node.store.instance(&sop)? else { return Ok(None) };
            web.node.store.file(&row.receipt.study_uid)?;
            let path = web.node.store.data().join(&row.receipt.object);
            let file = std::fs::File::open(path).map_err(|_| {
                Failure::internal("The file of this instance cannot be read; see prelim verify.")
            })?;
            Ok(Some((row, file)))
        })
        .await?;
    let Some((row, file)) = found else {
        return Err(Failure::not_found("The node has no such instance."));
    };
    let what = format!("instance {}", row.receipt.sop_instance_uid);
    web.audit.look(Some(&row.receipt.study_uid), &what, &viewer).await;
    let dicom = HeaderValue::from_static("application/dicom");
    Ok(files::send(file, row.receipt.size_bytes, dicom))
}

pub(in crate::web) async fn queue(State(web): State<Web>) -> Result<Json<QueueView>, Failure> {
    web.read(|web| Ok(Json(inspect::queue(&web.node.store)?))).await
}

/// Who sends, and who was refused; those seen last first.
pub(in crate::web) async fn sources(State(web): State<Web>) -> Json<Vec<Source>> {
    Json(web.node.sources.list())
}

#[derive(Deserialize)]
pub struct Days {
    first: Date,
    last: Date,
}

/// What was asked of models on these days.
pub(in crate::web) async fn usage(
    State(web): State<Web>,
    Query(days): Query<Days>,
) -> Result<Json<UsageView>, Failure> {
    web.read(move |web| {
        let currency = &web.node.currency;
        Ok(Json(inspect::usage(&web.node.store, days.first, days.last, currency)?))
    })
    .await
}

#[derive(Deserialize)]
pub struct Since {
    since: Timestamp,
}

/// The models that read the studies that changed since then.
pub(in crate::web) async fn comparison(
    State(web): State<Web>,
    Query(Since { since }): Query<Since>,
) -> Result<Json<Comparison>, Failure> {
    web.read(move |web| Ok(Json(compare::compare(&compare::gather(&web.node.store, since)?)))).await
}

#[derive(Deserialize)]
pub struct AlertsQuery {
    study: Option<String>,
}

/// Alerts that nobody has answered, the most urgent first; of one study, all.
pub(in crate::web) async fn alerts(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Query(query): Query<AlertsQuery>,
) -> Result<Json<Vec<AlertRow>>, Failure> {
    let study = query.study.as_deref().map(StudyUid::parse).transpose();
    let study = study.map_err(|error| Failure::bad_request(error.to_string()))?;
    Ok(Json(answer::alerts_for(&web, study, &viewer).await?))
}

pub(in crate::web) async fn alert(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    extract::Path(key): extract::Path<String>,
) -> Result<Json<AlertRow>, Failure> {
    Ok(Json(answer::alert_for(&web, key, &viewer).await?))
}

/// A person's word on an alert, by the command line.
#[derive(Serialize, Deserialize)]
pub struct AlertWord {
    /// `take`, `decline` or `close`.
    pub answer: String,
    pub by: String,
    #[serde(default)]
    pub note: String,
}

pub(in crate::web) async fn answer_alert(
    State(web): State<Web>,
    extract::Path(key): extract::Path<String>,
    Json(word): Json<AlertWord>,
) -> Result<Json<AlertRow>, Failure> {
    let of = key.clone();
    let row = web.read(move |web| answer::find(web, &of)).await?;
    let by = answer::plain(&word.by, 80);
    answer::answer(&web, &row, &word.answer, by, "command line", &word.note).await?;
    web.read(move |web| Ok(Json(answer::find(web, &key)?))).await
}

/// Asks for a test of the whole loop.
#[derive(Serialize, Deserialize)]
pub struct DrillWord {
    /// Empty: the lists that hear where no rule holds.
    pub service: String,
    pub by: String,
}

/// The key of the drill's alert.
pub(in crate::web) async fn drill(
    State(web): State<Web>,
    Json(word): Json<DrillWord>,
) -> Result<Json<String>, Failure> {
    if !word.service.is_empty() && !(web.node.services)().contains(&word.service) {
        let names = (web.node.services)().join(", ");
        return Err(Failure::bad_request(format!(
            "There is no service of this name; the configuration has: {names}"
        )));
    }
    let by = answer::plain(&word.by, 80);
    let (job, key) = alerting::order_drill(&word.service, &by, web.node.clock.now());
    web.node.store.commit(vec![job]).await?;
    Ok(Json(key))
}

pub(in crate::web) async fn gateways(State(web): State<Web>) -> Json<Vec<GatewayView>> {
    Json((web.node.gateways)())
}

pub(in crate::web) async fn canaries(
    State(web): State<Web>,
) -> Result<Json<Vec<CanaryView>>, Failure> {
    web.read(|web| Ok(Json((web.node.canaries)()?))).await
}

/// An operator's word on a canary.
#[derive(Serialize, Deserialize)]
pub struct CanaryWord {
    pub canary: String,
    /// `promote`, `rollback` or `restart`.
    pub to: String,
    pub by: String,
}

pub(in crate::web) async fn move_canary(
    State(web): State<Web>,
    Json(word): Json<CanaryWord>,
) -> Result<Json<CanaryWord>, Failure> {
    Ok(Json(set_canary(&web, word).await?))
}

pub(in crate::web) async fn set_canary(web: &Web, word: CanaryWord) -> Result<CanaryWord, Failure> {
    let views = web.read(|web| Ok((web.node.canaries)()?)).await?;
    let Some(view) = views.into_iter().find(|view| view.name == word.canary) else {
        return Err(Failure::not_found("There is no canary of this name."));
    };
    let phase = match word.to.as_str() {
        "promote" => Phase::Promoted,
        "rollback" => Phase::RolledBack,
        "restart" => Phase::Stage { number: 0 },
        _ => return Err(Failure::bad_request("Say promote, rollback or restart.")),
    };
    let event = Event::CanaryMoved {
        canary: view.name,
        candidate: view.candidate,
        phase,
        why: "by hand".to_owned(),
        by: word.by.chars().filter(|c| !c.is_control()).take(64).collect(),
        at: web.node.clock.now(),
    };
    web.node.store.commit(vec![event]).await?;
    Ok(word)
}

#[derive(Serialize, Deserialize)]
pub struct Retry {
    pub id: String,
    pub by: String,
}

pub(in crate::web) async fn retry(
    State(web): State<Web>,
    Json(wanted): Json<Retry>,
) -> Result<Json<Retry>, Failure> {
    retry_job(&web, &wanted.id, &wanted.by).await?;
    Ok(Json(wanted))
}

#[derive(Serialize, Deserialize)]
pub struct Cancel {
    pub id: String,
    pub by: String,
}

pub(in crate::web) async fn cancel(
    State(web): State<Web>,
    Json(wanted): Json<Cancel>,
) -> Result<Json<Cancel>, Failure> {
    cancel_job(&web, &wanted.id, &wanted.by).await?;
    Ok(Json(wanted))
}

/// Takes a delivery out of the queue. What tells of an alert is not cancelled: it is answered, or closed
/// with a reason.
pub(in crate::web) async fn cancel_job(web: &Web, id: &str, by: &str) -> Result<(), Failure> {
    let wanted = id.to_owned();
    let row = web.read(move |web| Ok(web.node.store.job(&wanted)?)).await?;
    if row.as_ref().is_some_and(|row| row.job.kind.is_of_alert()) {
        return Err(Failure::new(StatusCode::CONFLICT, Phrase::new("problem.alert_job")));
    }
    let no = || Failure::not_found("No delivery or message with this id waits or was given up.");
    let job = row.filter(|row| row.may_be_cancelled()).ok_or_else(no)?.job;
    let (id, by, at) = (id.to_owned(), answer::plain(by, 80), web.node.clock.now());
    let store = &web.node.store;
    store.commit(vec![Event::JobCancelled { id, by, at }]).await?;
    // It may have been the last that the study waited for.
    Ok(delivering::settle(store, &job.study_uid, job.revision, at).await?)
}

/// Has a job done now that was given up, or that waits, or all that were given up of a destination.
pub(in crate::web) async fn retry_job(web: &Web, id: &str, by: &str) -> Result<(), Failure> {
    let wanted = id.to_owned();
    let (by, at) = (answer::plain(by, 80), web.node.clock.now());
    let events =
        web.read(move |web| Ok(word::trying_again(&web.node.store, &wanted, &by, at)?)).await?;
    if events.is_empty() {
        return Err(Failure::not_found(
            "No job with this id waits or was given up, and none for a destination of this name.",
        ));
    }
    Ok(web.node.store.commit(events).await?)
}

/// What would go.
pub(in crate::web) async fn retention(
    State(web): State<Web>,
) -> Result<Json<RetentionReport>, Failure> {
    web.read(|web| Ok(Json(web.node.store.retention_plan()?))).await
}

/// Removes it.
pub(in crate::web) async fn retain(
    State(web): State<Web>,
) -> Result<Json<RetentionReport>, Failure> {
    web.read(|web| Ok(Json(web.node.store.retention_now()?))).await
}

#[derive(Deserialize)]
pub struct VerifyQuery {
    #[serde(default)]
    full: bool,
    #[serde(default)]
    gentle: bool,
}

/// What came of settings that were read again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reloaded {
    /// Whether they are in force; else those from before are.
    pub taken: bool,
    /// What changed and what waits for a restart, or what is wrong with them.
    pub lines: Vec<String>,
}

pub(in crate::web) async fn reload(State(web): State<Web>) -> Result<Json<Reloaded>, Failure> {
    web.read(|web| Ok(Json((web.node.reload)()))).await
}

#[derive(Deserialize)]
pub struct ChainQuery {
    /// A head that was written down before.
    head: Option<Hash>,
}

/// The hash chain of the ledger, up to what is acknowledged now.
pub(in crate::web) async fn verify_chain(
    State(web): State<Web>,
    Query(query): Query<ChainQuery>,
) -> Result<Json<ChainReport>, Failure> {
    web.read(move |web| Ok(Json(web.node.store.verify_chain_running(query.head)?))).await
}

/// Who looked at, changed, sent or answered what; the newest first.
pub(in crate::web) async fn audit(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Json(query): Json<AuditQuery>,
) -> Result<Json<AuditPage>, Failure> {
    web.audit.look(None, AUDIT_LOG, &viewer).await;
    web.read(move |web| Ok(Json(web.node.store.audit(&query)?))).await
}

/// A line of the answer to a check.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifyLine {
    Progress(Progress),
    Verified(Verified),
    /// It could not be done.
    Problem(String),
}

/// Between two lines about how far it is.
const TOLD: Duration = Duration::from_millis(500);

/// What a check found, for a program and for a person.
#[derive(Debug, Serialize, Deserialize)]
pub struct Verified {
    pub complete: bool,
    /// True when a node worked on the folder, so that index and stray files were not compared.
    pub node_was_running: bool,
    /// `VerifyReport`, as JSON.
    pub report: serde_json::Value,
    /// One line for each gap.
    pub gaps: Vec<String>,
}

impl Verified {
    pub fn new(report: &VerifyReport, node_was_running: bool) -> Verified {
        Verified {
            complete: report.is_complete(),
            node_was_running,
            report: serde_json::to_value(report).unwrap_or_default(),
            gaps: report.gaps.iter().map(ToString::to_string).collect(),
        }
    }
}

/// As lines of JSON: how far it is, and at the end what was found.
pub(in crate::web) async fn verify(
    State(web): State<Web>,
    Query(query): Query<VerifyQuery>,
) -> Response {
    let mode = if query.full { VerifyMode::Full } else { VerifyMode::Quick };
    let (lines, answer) = tokio::sync::mpsc::channel::<VerifyLine>(16);
    let work = move || {
        let mut told = Instant::now();
        let mut pace = Pace::new(query.gentle);
        let verified = web.node.store.verify_running(mode, &mut |at| {
            pace.rest();
            if told.elapsed() > TOLD {
                told = Instant::now();
                // Whoever does not read is not waited for.
                let _ = lines.try_send(VerifyLine::Progress(at));
            }
        });
        let line = match verified {
            Ok(report) => VerifyLine::Verified(Verified::new(&report, true)),
            Err(error) => VerifyLine::Problem(error.to_string()),
        };
        let _ = lines.blocking_send(line);
    };
    tokio::task::spawn_blocking(work);
    let lines = futures_util::stream::unfold(answer, |mut answer| async {
        let line = answer.recv().await?;
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        Some((Ok::<_, std::convert::Infallible>(text), answer))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (kind, axum::body::Body::from_stream(lines)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_file_is_for_its_owner_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        assert!(NodeFile::read(folder.path()).unwrap().is_none());
        let node = NodeFile::new("0.0.0.0:8080".parse().unwrap());
        node.write(folder.path()).unwrap();
        node.write(folder.path()).unwrap();
        let meta = std::fs::metadata(folder.path().join(FILE)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        let read = NodeFile::read(folder.path()).unwrap().unwrap();
        assert_eq!(read.address.to_string(), "127.0.0.1:8080");
        assert_eq!((read.token.len(), read.token == node.token), (64, true));
        NodeFile::remove(folder.path());
        assert!(NodeFile::read(folder.path()).unwrap().is_none());
    }
}
