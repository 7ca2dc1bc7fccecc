//! WADO-RS: rendered images and thumbnails (PS3.18 10.4.1.1.3, 8.3.5).

use std::sync::Arc;

use axum::Extension;
use axum::extract::Path;
use axum::extract::Query;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::header;
use axum::response::IntoResponse as _;
use axum::response::Response;
use bytes::Bytes;
use dicom_dictionary_std::uids;
use serde::Deserialize;

use crate::domain::picture::PictureFormat;
use crate::imaging::show::EDGE_MAX_PX;
use crate::imaging::show::Function;
use crate::imaging::show::Levels;
use crate::imaging::show::Region;
use crate::imaging::show::Shown;
use crate::imaging::show::View;
use crate::imaging::show::Which;
use crate::imaging::show::Window;
use crate::store::InstanceRow;
use crate::web::Web;
use crate::web::access::Viewer;
use crate::web::dicomweb;
use crate::web::dicomweb::Named;
use crate::web::dicomweb::Target;
use crate::web::dicomweb::media::Accept;
use crate::web::dicomweb::multipart::Writer;
use crate::web::dicomweb::not_acceptable;
use crate::web::dicomweb::send;
use crate::web::dicomweb::send::Place;
use crate::web::dicomweb::values;
use crate::web::dicomweb::values::NamedFrames;
use crate::web::problem::Failure;
use crate::worker::Values;
use crate::worker::WorkerError;

/// The window of a picture, for a viewer that begins with the one that the node chose.
const WINDOW: HeaderName = HeaderName::from_static("prelim-window");
/// Pictures in one answer, and instances that are tried for a thumbnail.
const PICTURES_MAX: usize = 2000;
const TRIES: usize = 5;
const QUALITY: u8 = 90;
const THUMBNAIL_PX: u32 = 128;
/// What a document is shown as (PS3.18 8.7.4, Text).
const PDF: &str = "application/pdf";

#[derive(Debug, Clone, Default, Deserialize)]
pub struct ViewQuery {
    accept: Option<String>,
    quality: Option<String>,
    window: Option<String>,
    viewport: Option<String>,
    annotation: Option<String>,
    iccprofile: Option<String>,
}

impl ViewQuery {
    fn view(&self, accept: &Accept) -> Result<View, Failure> {
        let taken = accept.members().iter().find_map(|asked| {
            [("image/jpeg", PictureFormat::Jpeg), ("image/png", PictureFormat::Png)]
                .into_iter()
                .find(|(media_type, _)| asked.takes(media_type))
        });
        let Some((_, format)) = taken else {
            return Err(not_acceptable("Pictures are given as image/jpeg and image/png."));
        };
        let bad = |what: &str| Failure::bad_request(what.to_owned());
        let quality = match self.quality.as_deref() {
            None => QUALITY,
            Some(text) => text
                .parse()
                .ok()
                .filter(|quality| (1..=100).contains(quality))
                .ok_or_else(|| bad("quality is a number from 1 to 100."))?,
        };
        let window = self.window.as_deref().map(|text| {
            window(text).ok_or_else(|| {
                bad("window is center,width,function with linear, linear-exact or sigmoid.")
            })
        });
        let viewport = self.viewport.as_deref().map(|text| {
            viewport(text).ok_or_else(|| bad("viewport is width,height[,left,top,width,height]."))
        });
        let (fit, region) = viewport.transpose()?.unzip();
        let (fit, region) = (fit, region.flatten());
        Ok(View { format, quality, window: window.transpose()?, fit, grow: true, region })
    }

    /// What was asked for and is not done.
    fn warning(&self) -> Option<&'static str> {
        let asked = self.annotation.as_deref().is_some_and(|a| !a.is_empty());
        let profile = self.iccprofile.as_deref().is_some_and(|p| p != "no");
        match (asked, profile) {
            (true, _) => Some("annotation is not burned in"),
            (false, true) => Some("no ICC profile is embedded"),
            (false, false) => None,
        }
    }
}

fn window(text: &str) -> Option<Window> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let (center, width, function) = match parts.as_slice() {
        [center, width] => (center, width, "linear"),
        [center, width, function] => (center, width, *function),
        _ => return None,
    };
    let function = match function.to_ascii_lowercase().as_str() {
        "linear" => Function::Linear,
        "linear-exact" | "linear_exact" => Function::LinearExact,
        "sigmoid" => Function::Sigmoid,
        _ => return None,
    };
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
    let (center, width) = (number(center)?, number(width)?);
    let least = if function == Function::Linear { 1.0 } else { f64::MIN_POSITIVE };
    (width >= least).then_some(Window { center, width, function })
}

type Viewport = ((u32, u32), Option<Region>);

fn viewport(text: &str) -> Option<Viewport> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let edge =
        |text: &str| text.parse::<u32>().ok().filter(|edge| (1..=EDGE_MAX_PX).contains(edge));
    let number = |at: usize, unsaid: f64| match parts.get(at) {
        None | Some(&"") => Some(unsaid),
        Some(text) => text.parse::<f64>().ok().filter(|number| number.is_finite()),
    };
    let fit = (edge(parts.first()?)?, edge(parts.get(1)?)?);
    match parts.len() {
        2 => Some((fit, None)),
        4..=6 => {
            // What is not said is all of it.
            let all = f64::from(u32::MAX);
            let (left, top) = (number(2, 0.0)?, number(3, 0.0)?);
            let (width, height) = (number(4, all)?, number(5, all)?);
            let good = left >= 0.0 && top >= 0.0 && width != 0.0 && height != 0.0;
            good.then_some((fit, Some(Region { left, top, width, height })))
        }
        _ => None,
    }
}

fn media_type(view: &View) -> &'static str {
    crate::imaging::picture::media_type(view.format)
}

pub async fn rendered(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Extension(place): Extension<Place>,
    headers: HeaderMap,
    Path(named): Path<Named>,
    Query(query): Query<ViewQuery>,
) -> Result<Response, Failure> {
    let target = Target::parse(&named)?;
    let accept = Accept::of(&headers, query.accept.as_deref());
    let rows = target.rows(&web).await?;
    web.audit.look(Some(&target.study), "DICOMweb: images", &viewer).await;
    if let (Some(_), [row]) = (&target.instance, rows.as_slice())
        && row.receipt.sop_class_uid.as_str() == uids::ENCAPSULATED_PDF_STORAGE
        && accept.members().iter().any(|asked| asked.takes(PDF))
    {
        let etag = dicomweb::etag(&rows, PDF);
        return match dicomweb::unchanged(&headers, &etag) {
            Some(answer) => Ok(answer),
            None => Ok(dicomweb::cached(values::document(&web, place, row, PDF).await?, &etag)),
        };
    }
    let view = query.view(&accept)?;
    let etag = dicomweb::etag(&rows, &format!("{view:?}"));
    if let Some(answer) = dicomweb::unchanged(&headers, &etag) {
        return Ok(answer);
    }
    let response = match (&target.instance, rows.first()) {
        // One picture of an instance, its first frame: a JPEG or PNG has no more.
        (Some(_), Some(row)) => one(&web, row, Which::Number(1), &view).await?,
        _ => all(&web, place, rows, &view).await?,
    };
    Ok(dicomweb::cached(warned(response, &query), &etag))
}

pub async fn frames(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Extension(place): Extension<Place>,
    headers: HeaderMap,
    Path(named): Path<NamedFrames>,
    Query(query): Query<ViewQuery>,
) -> Result<Response, Failure> {
    let (target, numbers) = (named.target()?, named.numbers()?);
    let view = query.view(&Accept::of(&headers, query.accept.as_deref()))?;
    let rows = target.rows(&web).await?;
    let Some(row) = rows.first().cloned() else { return Err(Failure::not_found("none")) };
    web.audit.look(Some(&target.study), "DICOMweb: images", &viewer).await;
    let etag = dicomweb::etag(&rows, &format!("{view:?} {numbers:?}"));
    if let Some(answer) = dicomweb::unchanged(&headers, &etag) {
        return Ok(answer);
    }
    let response = match numbers.as_slice() {
        [number] => one(&web, &row, Which::Number(*number), &view).await?,
        numbers => {
            let pictures = numbers.iter().map(|number| (row.clone(), *number)).collect();
            many(&web, place, pictures, &view).await?
        }
    };
    Ok(dicomweb::cached(warned(response, &query), &etag))
}

pub async fn thumbnail(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    headers: HeaderMap,
    Path(named): Path<Named>,
    Query(query): Query<ViewQuery>,
) -> Result<Response, Failure> {
    let target = Target::parse(&named)?;
    small(&web, &viewer, &headers, &target, Which::Middle, &query).await
}

pub async fn frame_thumbnail(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    headers: HeaderMap,
    Path(named): Path<NamedFrames>,
    Query(query): Query<ViewQuery>,
) -> Result<Response, Failure> {
    let (target, numbers) = (named.target()?, named.numbers()?);
    let [number] = numbers.as_slice() else {
        return Err(Failure::bad_request("A thumbnail is of one frame."));
    };
    small(&web, &viewer, &headers, &target, Which::Number(*number), &query).await
}

/// The middle instance stands for the whole; where it has no picture, its neighbours.
async fn small(
    web: &Web,
    viewer: &Viewer,
    headers: &HeaderMap,
    target: &Target,
    which: Which,
    query: &ViewQuery,
) -> Result<Response, Failure> {
    let mut view = query.view(&Accept::of(headers, query.accept.as_deref()))?;
    view.fit = view.fit.or(Some((THUMBNAIL_PX, THUMBNAIL_PX)));
    view.grow = false;
    let rows = target.rows(web).await?;
    web.audit.look(Some(&target.study), "DICOMweb: images", viewer).await;
    let etag = dicomweb::etag(&rows, &format!("{view:?} {which:?} thumbnail"));
    if let Some(answer) = dicomweb::unchanged(headers, &etag) {
        return Ok(answer);
    }
    let middle = rows.len() / 2;
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|at| at.abs_diff(middle));
    let mut last = Failure::not_found("It has no picture.");
    for at in order.into_iter().take(TRIES) {
        match one(web, &rows[at], which, &view).await {
            Ok(response) => return Ok(dicomweb::cached(response, &etag)),
            Err(failure) => last = failure,
        }
    }
    Err(last)
}

async fn one(web: &Web, row: &InstanceRow, which: Which, view: &View) -> Result<Response, Failure> {
    let Shown { file, window } = picture(web, row, which, view).await?;
    let mut response = ([(header::CONTENT_TYPE, media_type(view))], file).into_response();
    let window = window.map(|window| HeaderValue::from_str(&said(&window)));
    if let Some(Ok(window)) = window {
        response.headers_mut().insert(WINDOW, window);
    }
    Ok(response)
}

async fn picture(
    web: &Web,
    row: &InstanceRow,
    which: Which,
    view: &View,
) -> Result<Shown, Failure> {
    let (data, pool) = (web.node.store.data(), &web.dicomweb.pool);
    let made = pool.show(data, &row.receipt.object, which, view.clone()).await;
    let made = made.map_err(dicomweb::of_worker)?;
    match made.file.is_empty() {
        true => Err(Failure::not_found("The instance has no such frame.")),
        false => Ok(made),
    }
}

/// `center,width`, and whether the node found it in the values of the frame.
fn said(window: &Levels) -> String {
    let computed = if window.computed { ",computed" } else { "" };
    format!("{:.1},{:.1}{computed}", window.center, window.width)
}

/// Every frame of every instance that has pixels.
async fn all(
    web: &Web,
    place: Place,
    rows: Vec<InstanceRow>,
    view: &View,
) -> Result<Response, Failure> {
    let mut pictures = Vec::new();
    for row in rows {
        let (data, pool) = (web.node.store.data(), &web.dicomweb.pool);
        let found = pool.values(data, &row.receipt.object, Values::Stored(Vec::new())).await;
        let frames = match found {
            Ok((facts, _)) => facts.map_or(0, |facts| facts.frames),
            // What cannot be decoded has no picture; the others have.
            Err(error) if error.is_poison() => 0,
            Err(WorkerError::Refused(_)) => 0,
            Err(error) => return Err(dicomweb::of_worker(error)),
        };
        pictures.extend((1..=frames).map(|number| (row.clone(), number)));
        if pictures.len() > PICTURES_MAX {
            return Err(not_acceptable(format!(
                "More than {PICTURES_MAX} pictures: ask for single series, instances or frames."
            )));
        }
    }
    many(web, place, pictures, view).await
}

async fn many(
    web: &Web,
    place: Place,
    pictures: Vec<(InstanceRow, u32)>,
    view: &View,
) -> Result<Response, Failure> {
    let mut pictures = pictures.into_iter();
    let mut last = Failure::not_found("It has no picture.");
    // The first that can be made is made before anything is promised.
    let first = loop {
        let Some((row, number)) = pictures.next() else { return Err(last) };
        match picture(web, &row, Which::Number(number), view).await {
            Ok(shown) => break Bytes::from(shown.file),
            Err(failure) => last = failure,
        }
    };
    let mut writer = Writer::new();
    let kind = media_type(view);
    let content_type = writer.content_type(kind);
    let (node, view) = (Arc::clone(web), view.clone());
    let body = send::body(web, place, async move |mut out| {
        out.bytes(writer.head(kind, Some(first.len() as u64), "")).await?;
        out.bytes(first).await?;
        for (row, number) in pictures {
            if let Ok(shown) = picture(&node, &row, Which::Number(number), &view).await {
                let bytes = Bytes::from(shown.file);
                out.bytes(writer.head(kind, Some(bytes.len() as u64), "")).await?;
                out.bytes(bytes).await?;
            }
        }
        out.bytes(writer.end()).await
    });
    Ok(([(header::CONTENT_TYPE, content_type)], body).into_response())
}

fn warned(mut response: Response, query: &ViewQuery) -> Response {
    if let Some(text) = query.warning()
        && let Ok(value) = HeaderValue::from_str(&format!("299 prelim \"{text}\""))
    {
        response.headers_mut().append(HeaderName::from_static("warning"), value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_center_width_and_function() {
        let found = window("40,400,linear").unwrap();
        assert_eq!((found.center, found.width, found.function), (40.0, 400.0, Function::Linear));
        assert_eq!(window("-600, 1500.5,SIGMOID").unwrap().function, Function::Sigmoid);
        for bad in ["", "40", "40,0", "40,400,cubic", "a,b", "40,inf,linear", "1,2,linear,4"] {
            assert!(window(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_window_that_was_found_in_the_values_is_told_from_the_objects_own() {
        let window = |computed| Levels { center: -512.25, width: 3000.0, computed };
        assert_eq!(said(&window(true)), "-512.2,3000.0,computed");
        assert_eq!(said(&window(false)), "-512.2,3000.0");
    }

    #[test]
    fn a_viewport_fits_and_may_cut() {
        assert_eq!(viewport("256,512").unwrap(), ((256, 512), None));
        let (_, region) = viewport("256,256,10,20,-100,50").unwrap();
        assert_eq!(region, Some(Region { left: 10.0, top: 20.0, width: -100.0, height: 50.0 }));
        assert!(viewport("256,256,,10").unwrap().1.is_some());
        for bad in ["", "256", "0,1", "256,5000", "1,2,3", "1,2,-1,0", "1,1,0,0,0,1", "a,b"] {
            assert!(viewport(bad).is_none(), "{bad}");
        }
    }
}
