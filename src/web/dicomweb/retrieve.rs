//! WADO-RS: whole instances and their headers (PS3.18 10.4.1.1, 10.4.1.1.2).

use std::sync::Arc;

use axum::Extension;
use axum::extract::Path;
use axum::extract::Query;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::header;
use axum::response::IntoResponse as _;
use axum::response::Response;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use crate::imaging::dataset::Span;
use crate::store::InstanceRow;
use crate::web::Web;
use crate::web::access::Viewer;
use crate::web::dicomweb;
use crate::web::dicomweb::Named;
use crate::web::dicomweb::Target;
use crate::web::dicomweb::media;
use crate::web::dicomweb::media::Accept;
use crate::web::dicomweb::multipart::Writer;
use crate::web::dicomweb::not_acceptable;
use crate::web::dicomweb::send;
use crate::web::dicomweb::send::Broken;
use crate::web::problem::Failure;
use crate::worker::HeaderPart;
use crate::worker::Object;

const DICOM: &str = "application/dicom";
/// Headers read in one task: large ones (enhanced multi-frame) have some MB each.
const HEADERS_AT_ONCE: usize = 16;
/// Size of an instance that is written anew in another syntax: it stands in memory.
const TRANSCODED_BYTES_MAX: u64 = 256 << 20;

#[derive(Debug, Deserialize)]
pub struct AcceptQuery {
    pub accept: Option<String>,
}

/// In which form instances are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Parts { plain: bool },
    Single { plain: bool },
}

pub async fn objects(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    headers: HeaderMap,
    Path(named): Path<Named>,
    Query(query): Query<AcceptQuery>,
) -> Result<Response, Failure> {
    let target = Target::parse(&named)?;
    let accept = Accept::of(&headers, query.accept.as_deref());
    let rows = target.rows(&web).await?;
    let form = form(&accept, &rows)?;
    web.audit.look(Some(&target.study), "DICOMweb: instances", &viewer).await;
    let etag = dicomweb::etag(&rows, &format!("{form:?}"));
    if let Some(answer) = dicomweb::unchanged(&headers, &etag) {
        return Ok(answer);
    }
    let place = send::place(&web).await?;
    let response = match form {
        Form::Single { plain } => single(&web, place, rows, plain).await?,
        Form::Parts { plain } => parts(&web, place, rows, plain).await?,
    };
    Ok(dicomweb::cached(response, &etag))
}

/// The first member of Accept that can be met.
fn form(accept: &Accept, rows: &[InstanceRow]) -> Result<Form, Failure> {
    let stored_plain = |row: &InstanceRow| row.receipt.transfer_syntax_uid.as_str() == media::PLAIN;
    for asked in accept.members() {
        let multipart = asked.multipart || asked.any;
        if !asked.takes(DICOM) || (!multipart && rows.len() > 1) {
            continue;
        }
        let stored = |syntax: &str| {
            rows.iter().all(|row| row.receipt.transfer_syntax_uid.as_str() == syntax)
        };
        let plain = match asked.transfer_syntax.as_deref() {
            // Who asks for none gets what was received: nothing is lost on the way.
            None | Some("*") => false,
            Some(media::PLAIN) => !rows.iter().all(stored_plain),
            Some(syntax) if stored(syntax) => false,
            Some(_) => continue,
        };
        return Ok(if multipart { Form::Parts { plain } } else { Form::Single { plain } });
    }
    let mut syntaxes: Vec<&str> =
        rows.iter().map(|row| row.receipt.transfer_syntax_uid.as_str()).collect();
    syntaxes.sort_unstable();
    syntaxes.dedup();
    syntaxes.truncate(8);
    Err(not_acceptable(format!(
        "Given are application/dicom in multipart/related (a single instance also without), as \
         stored ({}) or with transfer-syntax={}.",
        syntaxes.join(", "),
        media::PLAIN
    )))
}

/// The bytes of one instance, read or made.
enum Source {
    File { path: std::path::PathBuf, bytes: u64 },
    Bytes(Bytes),
}

async fn source(web: &Web, row: &InstanceRow, plain: bool) -> Result<Source, Failure> {
    let receipt = &row.receipt;
    if plain && receipt.transfer_syntax_uid.as_str() != media::PLAIN {
        let (data, pool) = (web.node.store.data(), &web.dicomweb.pool);
        let made = pool.transcode(data, &receipt.object, TRANSCODED_BYTES_MAX).await;
        return Ok(Source::Bytes(made.map_err(dicomweb::of_worker)?.into()));
    }
    let path = web.node.store.data().join(&receipt.object);
    let about = tokio::fs::metadata(&path).await.map_err(|_| {
        Failure::internal("The file of an instance cannot be read; see prelim verify.")
    })?;
    Ok(Source::File { path, bytes: about.len() })
}

async fn single(
    web: &Web,
    place: tokio::sync::OwnedSemaphorePermit,
    rows: Vec<InstanceRow>,
    plain: bool,
) -> Result<Response, Failure> {
    let Some(row) = rows.first() else { return Err(Failure::not_found("No such instance.")) };
    let syntax = if plain { media::PLAIN } else { row.receipt.transfer_syntax_uid.as_str() };
    let kind = format!("{DICOM}; transfer-syntax={syntax}");
    let mut response = match source(web, row, plain).await? {
        Source::Bytes(bytes) => bytes.into_response(),
        Source::File { path, bytes } => {
            let span = Span { offset: 0, length: bytes };
            let body = send::body(web, place, async move |out| out.spans(&path, &[span]).await);
            let mut response = body.into_response();
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
            response
        }
    };
    let kind = HeaderValue::from_str(&kind).map_err(|_| Failure::internal("a syntax"))?;
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

async fn parts(
    web: &Web,
    place: tokio::sync::OwnedSemaphorePermit,
    rows: Vec<InstanceRow>,
    plain: bool,
) -> Result<Response, Failure> {
    // The first is looked at before anything is promised.
    let Some(row) = rows.first() else { return Err(Failure::not_found("No such instance.")) };
    let mut first = Some(source(web, row, plain).await?);
    let mut writer = Writer::new();
    let kind = writer.content_type(DICOM);
    let node = Arc::clone(web);
    let body = send::body(web, place, async move |out| {
        for row in &rows {
            let source = match first.take() {
                Some(source) => source,
                None => source(&node, row, plain).await.map_err(|f| Broken::Source(f.said()))?,
            };
            let syntax =
                if plain { media::PLAIN } else { row.receipt.transfer_syntax_uid.as_str() };
            let kind = format!("{DICOM}; transfer-syntax={syntax}");
            match source {
                Source::Bytes(bytes) => {
                    out.bytes(writer.head(&kind, Some(bytes.len() as u64), "")).await?;
                    out.bytes(bytes).await?;
                }
                Source::File { path, bytes } => {
                    out.bytes(writer.head(&kind, Some(bytes), "")).await?;
                    out.spans(&path, &[Span { offset: 0, length: bytes }]).await?;
                }
            }
        }
        out.bytes(writer.end()).await
    });
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

pub async fn metadata(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    headers: HeaderMap,
    Path(named): Path<Named>,
    Query(query): Query<AcceptQuery>,
) -> Result<Response, Failure> {
    let target = Target::parse(&named)?;
    let accept = Accept::of(&headers, query.accept.as_deref());
    dicomweb::json_is_accepted(&accept)?;
    let rows = target.rows(&web).await?;
    web.audit.look(Some(&target.study), "DICOMweb: headers", &viewer).await;
    let base = dicomweb::base(&web, &headers);
    let etag = dicomweb::etag(&rows, &format!("metadata {base}"));
    if let Some(answer) = dicomweb::unchanged(&headers, &etag) {
        return Ok(answer);
    }
    let place = send::place(&web).await?;
    let mut batches = rows.chunks(HEADERS_AT_ONCE).map(<[InstanceRow]>::to_vec);
    let first = batches.next().unwrap_or_default();
    let first = read(&web, &first, &base).await?;
    let rest: Vec<Vec<InstanceRow>> = batches.collect();
    let node = Arc::clone(&web);
    let body = send::body(&web, place, async move |out| {
        out.bytes(first).await?;
        for batch in rest {
            let more = read(&node, &batch, &base).await.map_err(|f| Broken::Source(f.said()))?;
            out.bytes(Bytes::from_static(b",")).await?;
            out.bytes(more.slice(1..)).await?;
        }
        out.bytes(Bytes::from_static(b"]")).await
    });
    let response = ([(header::CONTENT_TYPE, dicomweb::DICOM_JSON)], body).into_response();
    Ok(dicomweb::cached(response, &etag))
}

/// Headers as the beginning of a JSON list: without its end.
async fn read(web: &Web, rows: &[InstanceRow], base: &str) -> Result<Bytes, Failure> {
    let object = |row: &InstanceRow| Object {
        object: row.receipt.object.clone(),
        sop_instance_uid: row.receipt.sop_instance_uid.clone(),
    };
    let uri = |row: &InstanceRow| format!("{}/bulkdata", address(base, row));
    let objects: Vec<Object> = rows.iter().map(object).collect();
    let wanted = HeaderPart::Whole(rows.iter().map(uri).collect());
    let pool = &web.dicomweb.pool;
    let found = pool.headers(web.node.store.data(), &objects, &wanted).await;
    let found = found.map_err(dicomweb::of_worker)?;
    let mut json = vec![b'['];
    for (row, header) in rows.iter().zip(found) {
        if json.len() > 1 {
            json.push(b',');
        }
        match header.is_empty() {
            true => json.extend_from_slice(unreadable(row).to_string().as_bytes()),
            false => json.extend_from_slice(&header),
        }
    }
    Ok(json.into())
}

/// What is known of an instance whose header cannot be read.
fn unreadable(row: &InstanceRow) -> serde_json::Value {
    let receipt = &row.receipt;
    json!({
        "00080016": {"vr": "UI", "Value": [receipt.sop_class_uid]},
        "00080018": {"vr": "UI", "Value": [receipt.sop_instance_uid]},
        "0020000D": {"vr": "UI", "Value": [receipt.study_uid]},
        "0020000E": {"vr": "UI", "Value": [receipt.series_uid]},
    })
}

/// Where an instance is.
pub fn address(base: &str, row: &InstanceRow) -> String {
    let receipt = &row.receipt;
    let (study, series) = (&receipt.study_uid, &receipt.series_uid);
    format!("{base}/studies/{study}/series/{series}/instances/{}", receipt.sop_instance_uid)
}
