//! WADO-RS: frames and bulk data (PS3.18 10.4.1.1.4, 10.4.1.1.5).

use std::sync::Arc;

use axum::Extension;
use axum::extract::Path;
use axum::extract::Query;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header;
use axum::response::IntoResponse as _;
use axum::response::Response;
use serde::Deserialize;

use crate::imaging::frames::Piece;
use crate::imaging::frames::PixelFacts;
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
use crate::web::dicomweb::retrieve::AcceptQuery;
use crate::web::dicomweb::send;
use crate::web::dicomweb::send::Broken;
use crate::web::dicomweb::send::Out;
use crate::web::dicomweb::send::Place;
use crate::web::problem::Failure;
use crate::worker::Values;

const OCTETS: &str = "application/octet-stream";
/// Frames in one request; a longer cine is asked for in parts.
pub const FRAMES_MAX: usize = 10_000;
/// Frames located, and bytes decoded, in one task.
const LOCATED_AT_ONCE: usize = 512;
const DECODED_AT_ONCE_BYTES: u64 = 8 << 20;
const ENCAPSULATED_DOCUMENT: u32 = 0x0042_0011;
/// Steps into sequences.
const STEPS_MAX: usize = 32;

#[derive(Debug, Clone, Deserialize)]
pub struct NamedFrames {
    study: String,
    series: String,
    instance: String,
    frames: String,
}

impl NamedFrames {
    pub fn target(&self) -> Result<Target, Failure> {
        let (study, series) = (self.study.clone(), Some(self.series.clone()));
        Target::parse(&Named { study, series, instance: Some(self.instance.clone()) })
    }

    /// Numbers from 1.
    pub fn numbers(&self) -> Result<Vec<u32>, Failure> {
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|number| *number > 0);
        let numbers: Option<Vec<u32>> = self.frames.split(',').map(number).collect();
        match numbers {
            Some(numbers) if numbers.len() <= FRAMES_MAX => Ok(numbers),
            Some(_) => Err(Failure::bad_request(format!("At most {FRAMES_MAX} frames at once."))),
            None => Err(Failure::bad_request("Frames are numbers from 1: 1,2,3.")),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Form {
    multipart: bool,
    /// Decoded where they are compressed.
    plain: bool,
    /// Of each part.
    media_type: &'static str,
    transfer_syntax: String,
}

pub async fn frames(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Extension(place): Extension<Place>,
    headers: HeaderMap,
    Path(named): Path<NamedFrames>,
    Query(query): Query<AcceptQuery>,
) -> Result<Response, Failure> {
    let (target, numbers) = (named.target()?, named.numbers()?);
    let accept = Accept::of(&headers, query.accept.as_deref());
    let rows = target.rows(&web).await?;
    let Some(row) = rows.first().cloned() else { return Err(Failure::not_found("none")) };
    let form = form(&accept, row.receipt.transfer_syntax_uid.as_str(), numbers.len())?;
    web.audit.look(Some(&target.study), "DICOMweb: images", &viewer).await;
    let etag = dicomweb::etag(&rows, &format!("{form:?} {numbers:?}"));
    if let Some(answer) = dicomweb::unchanged(&headers, &etag) {
        return Ok(answer);
    }
    Ok(dicomweb::cached(answer(&web, place, row, numbers, form).await?, &etag))
}

/// The first member of Accept that can be met.
fn form(accept: &Accept, stored: &str, count: usize) -> Result<Form, Failure> {
    let of_stored = media::of_frames(stored);
    let plain_stored = media::is_plain(stored);
    let stored_syntax = if plain_stored { media::PLAIN } else { stored };
    for asked in accept.members() {
        if !asked.multipart && !asked.any && count > 1 {
            continue;
        }
        let multipart = asked.multipart || asked.any;
        let as_stored = of_stored.map(|media_type| Form {
            multipart,
            plain: false,
            media_type,
            transfer_syntax: stored_syntax.to_owned(),
        });
        let decoded = Form {
            multipart,
            plain: !plain_stored,
            media_type: OCTETS,
            transfer_syntax: media::PLAIN.to_owned(),
        };
        let syntax = asked.transfer_syntax.as_deref();
        let is_stored =
            syntax == Some("*") || syntax == Some(stored) || syntax == Some(stored_syntax);
        let octets = asked.takes(OCTETS);
        let named = asked.of != "*/*" && !asked.of.ends_with("/*");
        let form = match syntax {
            // `type="application/octet-stream"; transfer-syntax=*` is what viewers say for
            // "as stored".
            Some(_) if is_stored && (octets || of_stored.is_some_and(|t| asked.takes(t))) => {
                as_stored
            }
            Some(media::PLAIN) if octets => Some(decoded),
            Some(_) => None,
            None if octets && (named || asked.any || asked.of == "*/*") => Some(decoded),
            None => as_stored.filter(|form| asked.takes(form.media_type)),
        };
        if let Some(form) = form {
            return Ok(form);
        }
    }
    Err(not_acceptable(format!(
        "Frames of this instance are given as {} in {stored_syntax}, or as {OCTETS} in {}, in \
         multipart/related (a single frame also without).",
        of_stored.unwrap_or("no single frames"),
        media::PLAIN
    )))
}

/// Values of frames, some at a time.
async fn located(
    web: &Web,
    row: &InstanceRow,
    numbers: &[u32],
    plain: bool,
) -> Result<(Option<PixelFacts>, Vec<Piece>), Failure> {
    let numbers = numbers[..numbers.len().min(LOCATED_AT_ONCE)].to_vec();
    let wanted = match plain {
        true => Values::Plain { numbers, bytes_max: DECODED_AT_ONCE_BYTES },
        false => Values::Stored(numbers),
    };
    let found = web.dicomweb.pool.values(web.node.store.data(), &row.receipt.object, wanted).await;
    found.map_err(dicomweb::of_worker)
}

async fn answer(
    web: &Web,
    place: Place,
    row: InstanceRow,
    numbers: Vec<u32>,
    form: Form,
) -> Result<Response, Failure> {
    // What cannot be given is known before anything is promised.
    let (facts, mut pieces) = located(web, &row, &numbers, form.plain).await?;
    let frames = facts.map_or(0, |facts| facts.frames);
    if let Some(number) = numbers.iter().find(|number| **number > frames) {
        let what = match frames {
            0 => "The instance has no pixels.".to_owned(),
            _ => format!("There is no frame {number}: the instance has {frames}."),
        };
        return Err(Failure::not_found(what));
    }
    let path = web.node.store.data().join(&row.receipt.object);
    let kind = format!("{}; transfer-syntax={}", form.media_type, form.transfer_syntax);
    if !form.multipart {
        let Some(piece) = pieces.pop() else { return Err(Failure::internal("no frame")) };
        let body = send::body(web, place, async move |mut out| write(&mut out, &path, piece).await);
        return Ok(([(header::CONTENT_TYPE, kind)], body).into_response());
    }
    let mut writer = Writer::new();
    let content_type = writer.content_type(form.media_type);
    let node = Arc::clone(web);
    let body = send::body(web, place, async move |mut out| {
        let mut left = &numbers[..];
        loop {
            if pieces.is_empty() {
                return Err(Broken::Source("frames are missing".into()));
            }
            left = &left[pieces.len().min(left.len())..];
            for piece in std::mem::take(&mut pieces) {
                out.bytes(writer.head(&kind, Some(length(&piece)), "")).await?;
                write(&mut out, &path, piece).await?;
            }
            if left.is_empty() {
                return out.bytes(writer.end()).await;
            }
            let more = located(&node, &row, left, form.plain).await;
            pieces = more.map_err(|failure| Broken::Source(failure.said()))?.1;
        }
    });
    Ok(([(header::CONTENT_TYPE, content_type)], body).into_response())
}

fn length(piece: &Piece) -> u64 {
    match piece {
        Piece::InFile(spans) => spans.iter().map(|span| span.length).sum(),
        Piece::Bytes(bytes) => bytes.len() as u64,
    }
}

async fn write(out: &mut Out, path: &std::path::Path, piece: Piece) -> Result<(), Broken> {
    match piece {
        Piece::InFile(spans) => out.spans(path, &spans).await,
        Piece::Bytes(bytes) => out.bytes(bytes.into()).await,
    }
}

#[derive(Debug, Clone, Deserialize)]
pub struct NamedBulk {
    study: String,
    series: String,
    instance: String,
    place: String,
}

/// `54000100.1.54001010`: tag, item from 1, tag.
fn steps(place: &str) -> Option<Vec<u32>> {
    let parts: Vec<&str> = place.split('.').collect();
    if parts.len() > STEPS_MAX || parts.len().is_multiple_of(2) {
        return None;
    }
    let step = |(at, part): (usize, &&str)| match at % 2 {
        0 if part.len() == 8 => u32::from_str_radix(part, 16).ok(),
        0 => None,
        _ => part.parse::<u32>().ok().filter(|number| *number > 0),
    };
    parts.iter().enumerate().map(step).collect()
}

pub async fn bulk(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Extension(place): Extension<Place>,
    headers: HeaderMap,
    Path(named): Path<NamedBulk>,
    Query(query): Query<AcceptQuery>,
) -> Result<Response, Failure> {
    let NamedBulk { study, series, instance, place: named } = named;
    let target = Target::parse(&Named { study, series: Some(series), instance: Some(instance) })?;
    let steps = steps(&named).ok_or_else(|| {
        Failure::bad_request("Bulk data is named by a tag (7FE00010) or tag.item.tag.")
    })?;
    let accept = Accept::of(&headers, query.accept.as_deref());
    let rows = target.rows(&web).await?;
    let Some(row) = rows.first().cloned() else { return Err(Failure::not_found("none")) };
    let stored = row.receipt.transfer_syntax_uid.as_str();
    web.audit.look(Some(&target.study), "DICOMweb: images", &viewer).await;
    let etag = dicomweb::etag(&rows, &format!("bulk {named} {accept:?}"));
    if let Some(answer) = dicomweb::unchanged(&headers, &etag) {
        return Ok(answer);
    }
    if steps == [0x7fe0_0010] && !media::is_plain(stored) {
        // Compressed pixels: each frame is a part.
        let (facts, _) = located(&web, &row, &[], false).await?;
        let frames = facts.map_or(0, |facts| facts.frames);
        let numbers: Vec<u32> = (1..=frames).collect();
        let form = form(&accept, stored, numbers.len())?;
        return Ok(dicomweb::cached(answer(&web, place, row, numbers, form).await?, &etag));
    }
    let fits = accept.members().iter().find(|asked| asked.takes(OCTETS));
    let Some(asked) = fits else {
        return Err(not_acceptable(format!("Bulk data is given as {OCTETS}.")));
    };
    let multipart = asked.multipart;
    let piece = value(&web, &row, steps).await?;
    let path = web.node.store.data().join(&row.receipt.object);
    let length = length(&piece);
    let mut writer = Writer::new();
    let kind = match multipart {
        true => writer.content_type(OCTETS),
        false => OCTETS.to_owned(),
    };
    let body = send::body(&web, place, async move |mut out| {
        if multipart {
            let kind = format!("{OCTETS}; transfer-syntax={}", media::PLAIN);
            out.bytes(writer.head(&kind, Some(length), "")).await?;
        }
        write(&mut out, &path, piece).await?;
        if multipart {
            out.bytes(writer.end()).await?;
        }
        Ok(())
    });
    let response = ([(header::CONTENT_TYPE, kind)], body).into_response();
    Ok(dicomweb::cached(response, &etag))
}

async fn value(web: &Web, row: &InstanceRow, steps: Vec<u32>) -> Result<Piece, Failure> {
    let (data, pool) = (web.node.store.data(), &web.dicomweb.pool);
    let found = pool.values(data, &row.receipt.object, Values::Bulk(steps)).await;
    let (_, mut pieces) = found.map_err(dicomweb::of_worker)?;
    pieces.pop().ok_or_else(|| Failure::not_found("The instance has no such bulk data."))
}

/// The document that an instance holds, as it is.
pub async fn document(
    web: &Web,
    place: Place,
    row: &InstanceRow,
    kind: &str,
) -> Result<Response, Failure> {
    let piece = value(web, row, vec![ENCAPSULATED_DOCUMENT]).await?;
    let path = web.node.store.data().join(&row.receipt.object);
    let length = length(&piece).to_string();
    let body = send::body(web, place, async move |mut out| write(&mut out, &path, piece).await);
    let headers = [(header::CONTENT_TYPE, kind), (header::CONTENT_LENGTH, &length)];
    Ok((headers, body).into_response())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_place_is_tags_and_items_in_turn() {
        assert_eq!(steps("7FE00010"), Some(vec![0x7fe0_0010]));
        assert_eq!(steps("54000100.2.54001010"), Some(vec![0x5400_0100, 2, 0x5400_1010]));
        for bad in ["", "7FE0", "7FE00010.1", "7FE00010.0.00080018", "..", "54000100.x.54001010"] {
            assert_eq!(steps(bad), None, "{bad}");
        }
    }

    #[test]
    fn frames_go_out_as_asked_for() {
        const JPEG_LS: &str = "1.2.840.10008.1.2.4.80";
        const IMPLICIT: &str = "1.2.840.10008.1.2";
        let octets = "multipart/related; type=\"application/octet-stream\"";
        let multi = |of: &str| format!("multipart/related; type=\"{of}\"");
        for (accept, stored, found) in [
            ("", JPEG_LS, Some((true, true, OCTETS))),
            ("*/*", IMPLICIT, Some((true, false, OCTETS))),
            (octets, JPEG_LS, Some((true, true, OCTETS))),
            (&format!("{octets}; transfer-syntax=*"), JPEG_LS, Some((true, false, "image/jls"))),
            (&format!("{octets}; transfer-syntax=*"), IMPLICIT, Some((true, false, OCTETS))),
            (
                &format!("{octets}; transfer-syntax=1.2.840.10008.1.2.1"),
                JPEG_LS,
                Some((true, true, OCTETS)),
            ),
            (&multi("image/jls"), JPEG_LS, Some((true, false, "image/jls"))),
            (&multi("image/*"), JPEG_LS, Some((true, false, "image/jls"))),
            (&multi("*/*"), JPEG_LS, Some((true, true, OCTETS))),
            ("application/octet-stream", JPEG_LS, Some((false, true, OCTETS))),
            ("image/jls", JPEG_LS, Some((false, false, "image/jls"))),
            (&multi("image/jp2"), JPEG_LS, None),
            ("text/html", JPEG_LS, None),
            (&format!("{octets}; transfer-syntax=1.2.3"), JPEG_LS, None),
            (&multi("image/jpeg"), IMPLICIT, None),
        ] {
            let mut headers = HeaderMap::new();
            if !accept.is_empty() {
                headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
            }
            let form = form(&Accept::of(&headers, None), stored, 1).ok();
            let form = form.map(|form| (form.multipart, form.plain, form.media_type));
            assert_eq!(form, found, "{accept} of {stored}");
        }
    }
}
