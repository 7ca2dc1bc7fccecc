//! Files: the artefacts of a study as they were sent, and what the pages are made of.

use axum::Extension;
use axum::body::Body;
use axum::extract::Path;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header;
use axum::response::IntoResponse as _;
use axum::response::Response;
use rust_embed::RustEmbed;
use tokio_util::io::ReaderStream;

use crate::domain::uid::StudyUid;
use crate::web::Shared;
use crate::web::Web;
use crate::web::access::Viewer;
use crate::web::inspect;
use crate::web::problem::Failure;

#[derive(RustEmbed)]
#[folder = "templates/web/assets"]
struct Assets;

/// A report brings its own style and its own pictures, and nothing may run in it.
const REPORT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; \
                             font-src data:; frame-ancestors 'self'; sandbox";

pub async fn result(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path((uid, revision, file)): Path<(String, u32, String)>,
) -> Result<Response, Failure> {
    let unknown = || Failure::not_found("There is no such file.");
    let uid = StudyUid::parse(&uid).map_err(|_| unknown())?;
    if !is_file_name(&file) {
        return Err(unknown());
    }
    let (study, name) = (uid.clone(), file.clone());
    let found = web.read(move |web| open(web, &study, revision, &name)).await?;
    let Some((noted, size, open)) = found else { return Err(unknown()) };
    web.audit.look(Some(&uid), &format!("{file} of revision {revision}"), &viewer).await;
    let mut response = send(open, size, media_type(&file, &noted));
    let headers = response.headers_mut();
    if file.ends_with(".html") {
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(REPORT_POLICY));
    }
    if file.ends_with(".dcm") {
        let name = format!("attachment; filename=\"{file}\"");
        if let Ok(value) = HeaderValue::from_str(&name) {
            headers.insert(header::CONTENT_DISPOSITION, value);
        }
    }
    Ok(response)
}

/// Only what the ledger or the assessment names is served: a file that is still being written
/// is not. Returns the media type as noted, the size and the open file.
fn open(
    web: &Shared,
    study: &StudyUid,
    revision: u32,
    name: &str,
) -> Result<Option<(String, u64, std::fs::File)>, Failure> {
    let store = &web.node.store;
    let artefacts = store.artefacts(study, revision)?;
    let noted = match artefacts.into_iter().find(|row| row.file == name) {
        Some(row) => row.media_type,
        None if is_part_of_reading(web, study, revision, name)? => String::new(),
        None => return Ok(None),
    };
    let path = store.result_path(study, revision, name);
    let Some(Ok(file)) = path.map(std::fs::File::open) else { return Ok(None) };
    let Ok(about) = file.metadata() else { return Ok(None) };
    Ok(Some((noted, about.len(), file)))
}

/// The pictures that a reading rests on are no artefacts: nobody gets them but who looks here.
fn is_part_of_reading(
    web: &Shared,
    study: &StudyUid,
    revision: u32,
    name: &str,
) -> Result<bool, Failure> {
    let assessment = inspect::assessment_of(&web.node.store, study, revision)?;
    Ok(assessment.is_some_and(|assessment| {
        name == inspect::ASSESSMENT || assessment.pictures.iter().any(|shown| shown.file == name)
    }))
}

/// Streams a file, so that a large one does not stand in memory.
pub fn send(file: std::fs::File, size: u64, media_type: HeaderValue) -> Response {
    let stream = ReaderStream::with_capacity(tokio::fs::File::from_std(file), 64 << 10);
    let mut response = Body::from_stream(stream).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, media_type);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    response
}

/// Names that we give ourselves: `report.en.html`, `picture-07.jpg`.
fn is_file_name(name: &str) -> bool {
    (1..=100).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// By our own table where the ending is ours, so that nothing turns into a page by its name.
fn media_type(file: &str, noted: &str) -> HeaderValue {
    let known = match file.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "txt" => "text/plain; charset=utf-8",
        "json" => "application/json",
        "pdf" => "application/pdf",
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "dcm" => "application/dicom",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        _ if noted.starts_with("text/html") => "application/octet-stream",
        _ => noted,
    };
    HeaderValue::from_str(known).unwrap_or(HeaderValue::from_static("application/octet-stream"))
}

pub async fn asset(Path(file): Path<String>) -> Result<Response, Failure> {
    let Some(asset) = Assets::get(&file) else {
        return Err(Failure::not_found("There is no such file."));
    };
    let cache = HeaderValue::from_static("no-cache");
    let headers = [(header::CONTENT_TYPE, media_type(&file, "")), (header::CACHE_CONTROL, cache)];
    Ok((headers, asset.data.into_owned()).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_leads_nowhere_else() {
        for good in ["report.en.html", "picture-07.jpg", "assessment.json"] {
            assert!(is_file_name(good), "{good}");
        }
        for bad in ["", "..", ".hidden", "a/b", "a\\b", "%2e%2e", "a\0", "ä", &"a".repeat(101)] {
            assert!(!is_file_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn what_was_noted_as_a_page_is_one_only_by_its_name() {
        assert_eq!(media_type("x.html", "text/plain"), "text/html; charset=utf-8");
        assert_eq!(media_type("x.bin", "text/html"), "application/octet-stream");
        assert_eq!(media_type("x.hl7", "x-application/hl7-v2+er7"), "x-application/hl7-v2+er7");
    }
}
