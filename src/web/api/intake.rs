//! Files go in, and are read.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Extension;
use axum::Json;
use axum::extract::FromRequest as _;
use axum::extract::Multipart;
use axum::extract::Request;
use axum::extract::State;
use axum::extract::multipart::Field;
use axum::extract::multipart::MultipartError;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse as _;
use axum::response::Response;
use serde::Serialize;
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;
use utoipa::ToSchema;

use crate::domain::picture::PictureFormat;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::web::Web;
use crate::web::access::Viewer;
use crate::web::api::shapes;
use crate::web::problem::Failure;

/// Takes what was uploaded the way of everything that is received: scanned, kept, in the ledger.
/// Bytes are hostile; the file is removed after the call.
#[async_trait]
pub trait Intake: Send + Sync + 'static {
    /// A DICOM Part 10 file.
    async fn dicom(&self, file: &Path, upload: &Upload) -> Result<Accepted, IntakeError>;
    /// A bare picture, which becomes an instance of a study of its own.
    async fn picture(
        &self,
        file: &Path,
        format: PictureFormat,
        upload: &Upload,
    ) -> Result<Accepted, IntakeError>;
}

/// What the sender says of a file. Text in DICOM's own forms, empty where nothing was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upload {
    /// CS, e.g. `CR`.
    pub modality: String,
    pub body_part: String,
    pub view: String,
    /// AS, e.g. `004Y`.
    pub age: String,
    /// `M`, `F`, `O` or empty.
    pub sex: String,
    pub clinical_notes: String,
    pub priority: Priority,
    /// Name of the profile by which it is read. Empty: as the headers say.
    pub profile: String,
    /// Who sent it, as the ledger names it.
    pub by: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    #[default]
    Routine,
    Urgent,
    Stat,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub study_uid: StudyUid,
    pub sop_instance_uid: SopInstanceUid,
    /// The revision of the study that it joined.
    pub revision: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The file is not what it says, or lacks what is needed; without data of the file.
    #[error("{0}")]
    Unusable(String),
    /// The same SOP Instance UID with other bytes is here already.
    #[error("{0}")]
    Conflict(String),
    #[error("there is no space for it")]
    NoSpace,
    #[error("{0}")]
    Failed(String),
}

impl From<IntakeError> for Failure {
    fn from(error: IntakeError) -> Failure {
        let status = match error {
            IntakeError::Unusable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            IntakeError::Conflict(_) => StatusCode::CONFLICT,
            IntakeError::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
            IntakeError::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Failure::new(status, error.to_string())
    }
}

const TEXT_BYTES_MAX: usize = 16 << 10;
const FIELDS_MAX: usize = 32;
/// Between two pieces of an upload.
const SILENCE_MAX: Duration = Duration::from_secs(30);
const FIELDS: &str = "file, modality, body_part, view, age, sex, clinical_notes, priority, profile";

/// What is uploaded where.
pub const PATHS: [&str; 2] = ["/api/v1/analyze", "/api/v1/batch-analyze"];
/// Files of one request.
const BATCH_MAX: usize = 100;

/// A file, and what is said of it.
#[derive(ToSchema)]
#[schema(as = UploadedFile)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes a multipart form, which is read piece by piece")]
struct Form {
    /// A DICOM Part 10 file, or a PNG or JPEG, which needs its modality.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    #[schema(required = false)]
    modality: shapes::CodeString,
    #[schema(required = false)]
    body_part: shapes::CodeString,
    #[schema(required = false)]
    view: shapes::CodeString,
    #[schema(required = false)]
    age: shapes::Age,
    #[schema(required = false)]
    sex: shapes::Sex,
    #[schema(required = false)]
    clinical_notes: shapes::Note,
    #[schema(required = false)]
    priority: shapes::Priority,
    /// By which it is read; else as the headers say.
    #[schema(required = false)]
    profile: shapes::ProfileName,
}

/// Up to 100 files; the other fields are of all of them.
#[derive(ToSchema)]
#[schema(as = UploadedFiles)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes a multipart form, which is read piece by piece")]
struct Forms {
    #[schema(value_type = Vec<String>, format = Binary, min_items = 1, max_items = 100)]
    file: Vec<Vec<u8>>,
    #[schema(required = false)]
    modality: shapes::CodeString,
    #[schema(required = false)]
    body_part: shapes::CodeString,
    #[schema(required = false)]
    view: shapes::CodeString,
    #[schema(required = false)]
    age: shapes::Age,
    #[schema(required = false)]
    sex: shapes::Sex,
    #[schema(required = false)]
    clinical_notes: shapes::Note,
    #[schema(required = false)]
    priority: shapes::Priority,
    #[schema(required = false)]
    profile: shapes::ProfileName,
}

/// A file that was taken.
#[derive(Serialize, ToSchema)]
pub struct Taken {
    /// Of the analysis.
    id: String,
    study_uid: String,
    sop_instance_uid: String,
    revision: u32,
    /// Its page.
    url: String,
    /// Where the analysis is asked for.
    status_url: String,
}

impl From<Accepted> for Taken {
    fn from(accepted: Accepted) -> Taken {
        let id = format!("{}-{}", accepted.study_uid, accepted.revision);
        Taken {
            status_url: format!("/api/v1/analyses/{id}"),
            url: format!("/studies/{}", accepted.study_uid),
            id,
            study_uid: accepted.study_uid.to_string(),
            sop_instance_uid: accepted.sop_instance_uid.to_string(),
            revision: accepted.revision,
        }
    }
}

/// Takes one file, answers as soon as it is kept, and reads it then.
#[utoipa::path(
    post, path = "/api/v1/analyze", tag = "analyses",
    request_body(content = Form, content_type = "multipart/form-data"),
    responses((status = 202, body = Taken)),
)]
pub async fn analyze(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    request: Request,
) -> Result<Response, Failure> {
    let bytes_max = web.node.config.upload_bytes_max;
    let form = read_form(&web, viewer, request, Limits { files: 1, bytes: bytes_max }).await?;
    let file = form.files.first().expect("a form has at least one file");
    let taken = Taken::from(keep(&web, file.file.path(), &form.upload).await?);
    metrics::counter!("prelim_uploads_total").increment(1);
    let status_url = taken.status_url.clone();
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, status_url)], Json(taken)).into_response())
}

/// What became of each file, in their order.
#[derive(Serialize, ToSchema)]
pub struct Batch {
    taken: usize,
    refused: usize,
    items: Vec<Item>,
}

#[derive(Serialize, ToSchema)]
pub struct Item {
    /// From 0, as sent.
    index: usize,
    /// 202 when it was taken.
    status: u16,
    analysis: Option<Taken>,
    /// Why it was not taken.
    problem: Option<String>,
}

/// Takes up to 100 files; each has an outcome of its own.
#[utoipa::path(
    post, path = "/api/v1/batch-analyze", tag = "analyses",
    request_body(content = Forms, content_type = "multipart/form-data"),
    responses((status = 200, body = Batch)),
)]
pub async fn batch_analyze(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    request: Request,
) -> Result<Json<Batch>, Failure> {
    let limits = Limits { files: BATCH_MAX, bytes: web.node.config.batch_bytes_max };
    let form = read_form(&web, viewer, request, limits).await?;
    let mut items = Vec::with_capacity(form.files.len());
    for (index, file) in form.files.iter().enumerate() {
        let outcome = match file.problem.clone() {
            Some(failure) => Err(failure),
            None => keep(&web, file.file.path(), &form.upload).await,
        };
        items.push(match outcome {
            Ok(accepted) => {
                metrics::counter!("prelim_uploads_total").increment(1);
                let status = StatusCode::ACCEPTED.as_u16();
                Item { index, status, analysis: Some(accepted.into()), problem: None }
            }
            Err(failure) => {
                let (status, detail) = (failure.status.as_u16(), failure.said());
                Item { index, status, analysis: None, problem: Some(detail) }
            }
        });
    }
    let taken = items.iter().filter(|item| item.analysis.is_some()).count();
    Ok(Json(Batch { taken, refused: items.len() - taken, items }))
}

struct Limits {
    files: usize,
    bytes: u64,
}

/// What came in one request, on disk.
struct ReadForm {
    upload: Upload,
    /// At least one.
    files: Vec<Kept>,
}

struct Kept {
    file: NamedTempFile,
    /// Why it cannot be taken, where the others can.
    problem: Option<Failure>,
}

async fn read_form(
    web: &Web,
    viewer: Viewer,
    request: Request,
    limits: Limits,
) -> Result<ReadForm, Failure> {
    let Ok(_place) = Arc::clone(&web.uploads).try_acquire_owned() else {
        return Err(Failure::busy("Too many uploads at one time.", 5));
    };
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > limits.bytes + (1 << 20)) {
        return Err(too_large(web));
    }
    let multipart = match Multipart::from_request(request, &()).await {
        Ok(multipart) => multipart,
        Err(_) => {
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Failure::new(status, format!("Send multipart/form-data with {FIELDS}.")));
        }
    };
    let limit = Duration::from_secs(web.node.config.upload_timeout_s);
    let work = take(web, multipart, viewer, limits);
    match tokio::time::timeout(limit, work).await {
        Ok(form) => form,
        Err(_) => Err(timed_out()),
    }
}

fn too_large(web: &Web) -> Failure {
    let limit = web.node.config.upload_bytes_max;
    let detail = format!("A file has at most {limit} bytes here (http.upload_bytes_max).");
    Failure::new(StatusCode::PAYLOAD_TOO_LARGE, detail)
}

fn timed_out() -> Failure {
    Failure::new(StatusCode::REQUEST_TIMEOUT, "The upload took too long.")
}

fn broken(web: &Web, error: &MultipartError) -> Failure {
    match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(web),
        _ => Failure::bad_request("The multipart body is not complete or not well formed."),
    }
}

/// Within the time between two pieces.
async fn soon<T>(
    web: &Web,
    piece: impl Future<Output = Result<T, MultipartError>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(SILENCE_MAX, piece).await {
        Ok(piece) => piece.map_err(|error| broken(web, &error)),
        Err(_) => Err(timed_out()),
    }
}

async fn take(
    web: &Web,
    mut multipart: Multipart,
    viewer: Viewer,
    limits: Limits,
) -> Result<ReadForm, Failure> {
    let mut upload = Upload { by: viewer.name, ..Upload::default() };
    let mut files = Vec::new();
    let mut left = limits.bytes;
    for _ in 0..=FIELDS_MAX + limits.files {
        let Some(mut field) = soon(web, multipart.next_field()).await? else { break };
        let name = field.name().unwrap_or_default().to_owned();
        if name == "file" {
            if files.len() >= limits.files {
                let detail = match limits.files {
                    1 => "One file at a time; batch-analyze takes more.".to_owned(),
                    most => format!("At most {most} files at a time."),
                };
                return Err(Failure::bad_request(detail));
            }
            let kept = to_disk(web, &mut field, left).await?;
            left = left.saturating_sub(kept.file.as_file().metadata().map_or(0, |meta| meta.len()));
            files.push(kept);
        } else {
            let value = text(web, &mut field).await?;
            upload.say(&name, &value).map_err(Failure::bad_request)?;
        }
    }
    match files.iter().find_map(|kept| kept.problem.clone().filter(|_| limits.files == 1)) {
        Some(failure) => Err(failure),
        None if files.is_empty() => {
            Err(Failure::bad_request("There is no field 'file' with a file in it."))
        }
        None => Ok(ReadForm { upload, files }),
    }
}

/// Has a file taken the way of everything that is received.
async fn keep(web: &Web, file: &Path, upload: &Upload) -> Result<Accepted, Failure> {
    let intake = &web.node.intake;
    match file_kind(file) {
        Some(FileKind::Dicom) => Ok(intake.dicom(file, upload).await?),
        Some(FileKind::Picture(format)) => {
            if upload.modality.is_empty() {
                let detail = "A bare picture needs its modality, e.g. modality=CR.";
                return Err(Failure::new(StatusCode::UNPROCESSABLE_ENTITY, detail));
            }
            Ok(intake.picture(file, format, upload).await?)
        }
        None => Err(Failure::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "That is no DICOM Part 10 file, no PNG and no JPEG.",
        )),
    }
}

/// Into the folder that is emptied at a start, so that a crash leaves nothing.
///
/// - `left`: bytes that the request may still have.
async fn to_disk(web: &Web, field: &mut Field<'_>, left: u64) -> Result<Kept, Failure> {
    let folder = web.node.store.data().join("incoming");
    let space = |error: std::io::Error| {
        tracing::error!(%error, "an upload cannot be written");
        Failure::new(StatusCode::INSUFFICIENT_STORAGE, "The upload cannot be written to disk.")
    };
    // Refuses below the low-water mark, as receiving does.
    let opened = web
        .read(move |web| {
            drop(web.node.store.begin_object()?);
            let file = NamedTempFile::with_prefix_in("upload-", folder).map_err(space)?;
            let writer = file.reopen().map_err(space)?;
            Ok((file, writer))
        })
        .await;
    let (file, writer) = match opened {
        Ok(opened) => opened,
        Err(failure) => return Err(failure),
    };
    let mut writer = tokio::fs::File::from_std(writer);
    let mut size = 0_u64;
    while let Some(chunk) = soon(web, field.chunk()).await? {
        size += chunk.len() as u64;
        if size > left {
            return Err(too_large(web));
        }
        // The rest of a file that is too large is passed over: those after it may fit.
        if size <= web.node.config.upload_bytes_max {
            writer.write_all(&chunk).await.map_err(space)?;
        }
    }
    writer.flush().await.map_err(space)?;
    let problem = (size > web.node.config.upload_bytes_max).then(|| too_large(web));
    Ok(Kept { file, problem })
}

async fn text(web: &Web, field: &mut Field<'_>) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    while let Some(chunk) = soon(web, field.chunk()).await? {
        if bytes.len() + chunk.len() > TEXT_BYTES_MAX {
            return Err(Failure::bad_request(format!(
                "A text field has at most {TEXT_BYTES_MAX} bytes."
            )));
        }
        bytes.extend_from_slice(&chunk);
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(_) => Err(Failure::bad_request("A text field is not UTF-8.")),
    }
}

impl Upload {
    /// Puts one field into DICOM's form. An unknown one is a mistake that would go unseen.
    ///
    /// # Errors
    /// What is wrong with it, in words for the sender.
    pub fn say(&mut self, name: &str, value: &str) -> Result<(), String> {
        let value = value.trim();
        let wrong = |allowed: &str| format!("{name}: use {allowed}.");
        match name {
            "modality" | "body_part" | "view" => {
                let code = value.to_ascii_uppercase();
                let allowed =
                    |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_' || b == b' ';
                if code.len() > 16 || !code.bytes().all(allowed) {
                    return Err(wrong("at most 16 letters, digits, spaces or underscores"));
                }
                match name {
                    "modality" => self.modality = code,
                    "body_part" => self.body_part = code,
                    _ => self.view = code,
                }
            }
            "age" => {
                self.age = age(value).ok_or_else(|| {
                    wrong("years (4), or a number of three digits with D, W, M or Y (018M)")
                })?;
            }
            "sex" => {
                self.sex = match value.to_ascii_lowercase().as_str() {
                    "" => "",
                    "m" | "male" => "M",
                    "f" | "female" => "F",
                    "o" | "other" => "O",
                    _ => return Err(wrong("M, F or O")),
                }
                .into();
            }
            "clinical_notes" => {
                let keep = |c: &char| !c.is_control() || *c == '\n';
                self.clinical_notes = value.chars().filter(keep).take(10_240).collect();
            }
            "priority" => {
                self.priority = match value {
                    "" | "routine" => Priority::Routine,
                    "urgent" => Priority::Urgent,
                    "stat" => Priority::Stat,
                    _ => return Err(wrong("routine, urgent or stat")),
                };
            }
            "profile" => {
                let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
                if value.len() > 64 || !value.bytes().all(is_name) {
                    return Err(wrong("the name of a profile, at most 64 of a to z, 0 to 9 and _"));
                }
                self.profile = value.to_owned();
            }
            _ => {
                let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
                return Err(format!("Unknown field '{shown}'; known: {FIELDS}."));
            }
        }
        Ok(())
    }
}

/// VR AS (PS3.5 6.2).
fn age(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some(String::new());
    }
    let upper = text.to_ascii_uppercase();
    let (number, unit) = match upper.strip_suffix(['D', 'W', 'M', 'Y']) {
        Some(number) => (number, &upper[number.len()..]),
        None => (upper.as_str(), "Y"),
    };
    let digits = (1..=3).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| format!("{number:0>3}{unit}"))
}

#[derive(Debug, PartialEq, Eq)]
pub enum FileKind {
    Dicom,
    Picture(PictureFormat),
}

/// By its first bytes; what it is called and what its sender says count nothing.
pub fn file_kind(file: &Path) -> Option<FileKind> {
    let mut head = Vec::new();
    std::fs::File::open(file).ok()?.take(132).read_to_end(&mut head).ok()?;
    kind_of(&head)
}

fn kind_of(head: &[u8]) -> Option<FileKind> {
    match head {
        head if head.get(128..132) == Some(b"DICM") => Some(FileKind::Dicom),
        head if head.starts_with(b"\x89PNG\r\n\x1a\n") => {
            Some(FileKind::Picture(PictureFormat::Png))
        }
        head if head.starts_with(b"\xff\xd8\xff") => Some(FileKind::Picture(PictureFormat::Jpeg)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_out_in_the_forms_of_dicom() {
        let mut upload = Upload::default();
        for (name, value) in [
            ("modality", "cr"),
            ("body_part", "Chest"),
            ("age", "4"),
            ("sex", "female"),
            ("clinical_notes", "cough\u{1b}[31m\nfever"),
            ("priority", "stat"),
        ] {
            upload.say(name, value).unwrap();
        }
        assert_eq!((upload.modality.as_str(), upload.body_part.as_str()), ("CR", "CHEST"));
        assert_eq!((upload.age.as_str(), upload.sex.as_str()), ("004Y", "F"));
        assert_eq!(upload.clinical_notes, "cough[31m\nfever");
        assert_eq!(upload.priority, Priority::Stat);
        for (name, value) in
            [("modality", "C/R"), ("age", "old"), ("age", "1234"), ("sex", "x"), ("prio", "stat")]
        {
            let why = upload.say(name, value).unwrap_err();
            assert!(why.contains(name), "{name}={value}: {why}");
        }
    }

    #[test]
    fn an_age_is_three_digits_and_a_unit() {
        for (given, found) in [("4", "004Y"), ("18m", "018M"), ("018M", "018M"), ("", "")] {
            assert_eq!(age(given).as_deref(), Some(found), "{given}");
        }
        for given in ["-4", "Y", "1000", "4 y", "é"] {
            assert_eq!(age(given), None, "{given}");
        }
    }

    #[test]
    fn a_file_is_what_its_first_bytes_say() {
        let mut dicom = vec![0; 128];
        dicom.extend_from_slice(b"DICM");
        assert_eq!(kind_of(&dicom), Some(FileKind::Dicom));
        assert_eq!(kind_of(b"\x89PNG\r\n\x1a\n"), Some(FileKind::Picture(PictureFormat::Png)));
        assert_eq!(kind_of(b"\xff\xd8\xff\xe0"), Some(FileKind::Picture(PictureFormat::Jpeg)));
        assert_eq!(kind_of(b"<html>"), None);
        assert_eq!(kind_of(b""), None);
    }
}
