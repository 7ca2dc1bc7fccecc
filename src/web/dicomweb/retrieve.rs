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
use crate::web::dicomweb::Glance;
use crate::web::dicomweb::Named;
use crate::web::dicomweb::Rows;
use crate::web::dicomweb::Target;
use crate::web::dicomweb::media;
use crate::web::dicomweb::media::Accept;
use crate::web::dicomweb::multipart::Writer;
use crate::web::dicomweb::not_acceptable;
use crate::web::dicomweb::send;
use crate::web::dicomweb::send::Broken;
use crate::web::dicomweb::send::Place;
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
    Extension(place): Extension<Place>,
    headers: HeaderMap,
    Path(named): Path<Named>,
    Query(query): Query<AcceptQuery>,
) -> Result<Response, Failure> {
    let target = Target::parse(&named)?;
    let accept = Accept::of(&headers, query.accept.as_deref());
    let glance = target.glance(&web).await?;
    let form = form(&accept, &glance)?;
    web.audit.look(Some(&target.study), "DICOMweb: instances", &viewer).await;
    let etag = glance.etag(&format!("{form:?}"));
    if let Some(answer) = dicomweb::unchanged(&headers, &etag) {
        return Ok(answer);
    }
    let response = match form {
        Form::Single { plain } => single(&web, place, Rows::of(target), plain).await?,
        Form::Parts { plain } => parts(&web, place, Rows::of(target), plain).await?,
    };
    Ok(dicomweb::cached(response, &etag))
}

/// The first member of Accept that can be met.
fn form(accept: &Accept, glance: &Glance) -> Result<Form, Failure> {
    let all_are = |syntax: &str| glance.syntaxes.iter().all(|stored| stored == syntax);
    for asked in accept.members() {
        let multipart = asked.multipart || asked.any;
        if !asked.takes(DICOM) || (!multipart && glance.count > 1) {
            continue;
        }
        let plain = match asked.transfer_syntax.as_deref() {
            // Who asks for none gets what was received: nothing is lost on the way.
            None | Some("*") => false,
            Some(media::PLAIN) => !all_are(media::PLAIN),
            Some(syntax) if all_are(syntax) => false,
            Some(_) => continue,
        };
        return Ok(if multipart { Form::Parts { plain } } else { Form::Single { plain } });
    }
    let syntaxes: Vec<&str> = glance.syntaxes.iter().take(8).map(String::as_str).collect();
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

async fn single(web: &Web, place: Place, mut rows: Rows, plain: bool) -> Result<Response, Failure> {
    let row = &first(web, &mut rows).await?;
    let syntax = if plain { media::PLAIN } else { row.receipt.transfer_syntax_uid.as_str() };
    let kind = format!("{DICOM}; transfer-syntax={syntax}");
    let mut response = match source(web, row, plain).await? {
        Source::Bytes(bytes) => bytes.into_response(),
        Source::File { path, bytes } => {
            let span = Span { offset: 0, length: bytes };
            let body = send::body(web, place, async move |mut out| out.spans(&path, &[span]).await);
            let mut response = body.into_response();
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
            response
        }
    };
    let kind = HeaderValue::from_str(&kind).map_err(|_| Failure::internal("a syntax"))?;
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

async fn parts(web: &Web, place: Place, mut rows: Rows, plain: bool) -> Result<Response, Failure> {
    // The first is looked at before anything is promised.
    let row = first(web, &mut rows).await?;
    let source_of_first = source(web, &row, plain).await?;
    let mut next = Some((row, source_of_first));
    let mut writer = Writer::new();
    let kind = writer.content_type(DICOM);
    let node = Arc::clone(web);
    let body = send::body(web, place, async move |mut out| {
        while let Some((row, source_of_row)) = next.take() {
            let syntax =
                if plain { media::PLAIN } else { row.receipt.transfer_syntax_uid.as_str() };
            let kind = format!("{DICOM}; transfer-syntax={syntax}");
            match source_of_row {
                Source::Bytes(bytes) => {
                    out.bytes(writer.head(&kind, Some(bytes.len() as u64), "")).await?;
                    out.bytes(bytes).await?;
                }
                Source::File { path, bytes } => {
                    out.bytes(writer.head(&kind, Some(bytes), "")).await?;
                    out.spans(&path, &[Span { offset: 0, length: bytes }]).await?;
                }
            }
            let broken = |failure: Failure| Broken::Source(failure.said());
            if let Some(row) = rows.next(&node, 1).await.map_err(broken)?.pop() {
                let source = source(&node, &row, plain).await.map_err(broken)?;
                next = Some((row, source));
            }
        }
        out.bytes(writer.end()).await
    });
    Ok(([(header::CONTENT_TYPE, kind)], body).into_response())
}

async fn first(web: &Web, rows: &mut Rows) -> Result<InstanceRow, Failure> {
    let first = rows.next(web, 1).await?.pop();
    first.ok_or_else(|| Failure::not_found("No such instance."))
}

pub async fn metadata(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Extension(place): Extension<Place>,
    headers: HeaderMap,
    Path(named): Path<Named>,
    Query(query): Query<AcceptQuery>,
) -> Result<Response, Failure> {
    let target = Target::parse(&named)?;
    let accept = Accept::of(&headers, query.accept.as_deref());
    dicomweb::json_is_accepted(&accept)?;
    let glance = target.glance(&web).await?;
    web.audit.look(Some(&target.study), "DICOMweb: headers", &viewer).await;
    let base = dicomweb::base(&web, &headers);
    let etag = glance.etag(&format!("metadata {base}"));
    if let Some(answer) = dicomweb::unchanged(&headers, &etag) {
        return Ok(answer);
    }
    let mut rows = Rows::of(target);
    let first = read(&web, &rows.next(&web, HEADERS_AT_ONCE).await?, &base).await?;
    let node = Arc::clone(&web);
    let body = send::body(&web, place, async move |mut out| {
        let broken = |failure: Failure| Broken::Source(failure.said());
        out.bytes(first).await?;
        loop {
            let batch = rows.next(&node, HEADERS_AT_ONCE).await.map_err(broken)?;
            if batch.is_empty() {
                return out.bytes(Bytes::from_static(b"]")).await;
            }
            let more = read(&node, &batch, &base).await.map_err(broken)?;
            out.bytes(Bytes::from_static(b",")).await?;
            out.bytes(more.slice(1..)).await?;
        }
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
