//! Frames to pictures: windowed, scaled, encoded within a byte budget.

use std::path::Path;

use fast_image_resize::PixelType;
use fast_image_resize::ResizeOptions;
use fast_image_resize::Resizer;
use image::ExtendedColorType;
use image::ImageEncoder as _;
use image::codecs::png::PngEncoder;
use jpeg_encoder::ColorType;
use jpeg_encoder::Encoder;
use jpeg_encoder::SamplingFactor;
use sha2::Digest as _;
use sha2::Sha256;

use crate::domain::picture::ImageRef;
use crate::domain::picture::Masked;
use crate::domain::picture::Masks;
use crate::domain::picture::Picture;
use crate::domain::picture::PictureFormat;
use crate::domain::picture::PicturePlan;
use crate::domain::picture::PictureRef;
use crate::domain::picture::PixelRule;
use crate::domain::picture::Window;
use crate::domain::study::Excluded;
use crate::domain::study::Instance;
use crate::domain::study::Study;
use crate::domain::text;
use crate::imaging::ImagingError;
use crate::imaging::decode::Image;
use crate::imaging::select;
use crate::imaging::survey;
use crate::imaging::window;
use crate::imaging::window::Raster;

/// Edge and bytes that no plan may exceed: what gateways accept.
pub const EDGE_MAX_PX: u32 = 2048;
pub const BYTES_MAX: u64 = 5_000_000;
/// JPEG qualities tried before the picture is made smaller.
const QUALITIES: [u8; 6] = [90, 80, 70, 60, 50, 40];
const EDGE_MIN_PX: u32 = 64;

/// One frame in 8 bits of grey, VOI applied, MONOCHROME1 inverted (black is 0).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GreyFrame {
    pub width: u32,
    pub height: u32,
    pub pixels: Vec<u8>,
}

/// Makes the text of a frame black; what that was, or why it may not be shown.
pub type MaskText<'a> = &'a dyn Fn(&mut Raster, PixelRule) -> Result<Masked, String>;

type MaskFrame<'a> = &'a dyn Fn(&mut Raster) -> Result<Masked, ImagingError>;

/// Makes the pictures that `plan` asks for. An instance that cannot be decoded is listed with
/// its reason; the others are made.
///
/// - `mask_text`: for the instances of `masks`.
pub fn pictures(
    data: &Path,
    study: &Study,
    plan: &PicturePlan,
    masks: &Masks,
    mask_text: MaskText<'_>,
) -> (Vec<Picture>, Vec<Excluded>) {
    let mut broken = Vec::new();
    let (chosen, mut excluded) = select::choose(study, plan, &mut |seen: &select::Chosen<'_>| {
        let looked = Image::open(&data.join(&seen.instance.object)).and_then(|mut image| {
            let frame = image.frame(seen.frame)?;
            Ok(survey::look(&image, &frame, seen.frame, seen.instance.pixel_spacing_mm))
        });
        looked.map_err(|error| exclude(&mut broken, seen.instance, &error)).ok()
    });
    excluded.extend(broken);
    let mut made: Vec<Picture> = Vec::new();
    let mut open: Option<(&Instance, Result<Image, ImagingError>)> = None;
    for select::Chosen { instance, frame } in chosen {
        if open.as_ref().is_none_or(|(opened, _)| !std::ptr::eq(*opened, instance)) {
            open = Some((instance, Image::open(&data.join(&instance.object))));
        }
        let Some((_, opened)) = &mut open else { continue };
        let room = (plan.pictures_max as usize).saturating_sub(made.len());
        let result = match opened {
            Ok(image) => {
                let rule = masks.rules.get(&instance.sop_instance_uid);
                let edge_max_px = match rule {
                    Some(PixelRule::Text | PixelRule::TextAndOutsideRegions) => {
                        plan.edge_max_px.min(masks.edge_max_px)
                    }
                    Some(PixelRule::Instructions) | None => plan.edge_max_px,
                };
                let plan = &PicturePlan { edge_max_px, ..plan.clone() };
                let mask =
                    rule.map(|rule| |raster: &mut Raster| mask(*rule, instance, raster, mask_text));
                let mask = mask.as_ref().map(|mask| mask as MaskFrame<'_>);
                of_frame(image, instance, frame, plan, mask, room, made.len() as u32)
            }
            Err(error) => Err(ImagingError::Undecodable(reason(error))),
        };
        match result {
            Ok(pictures) => made.extend(pictures),
            Err(error) => exclude(&mut excluded, instance, &error),
        }
    }
    (made, excluded)
}

/// The words after "cannot decode: ", so that they are not said twice.
fn reason(error: &ImagingError) -> String {
    match error {
        ImagingError::Undecodable(why) => why.clone(),
        other => other.to_string(),
    }
}

fn exclude(excluded: &mut Vec<Excluded>, instance: &Instance, error: &ImagingError) {
    let sop_instance_uid = instance.sop_instance_uid.clone();
    if excluded.iter().all(|e| e.sop_instance_uid != sop_instance_uid) {
        excluded.push(Excluded { sop_instance_uid, reason: error.to_string() });
    }
}

fn of_frame(
    image: &mut Image,
    instance: &Instance,
    frame: u32,
    plan: &PicturePlan,
    mask: Option<MaskFrame<'_>>,
    room: usize,
    already: u32,
) -> Result<Vec<Picture>, ImagingError> {
    // What is masked is masked pixel by pixel.
    let decoded = match mask {
        Some(_) => image.frame(frame)?,
        None => image.frame_for(frame, plan.edge_max_px.min(EDGE_MAX_PX))?,
    };
    let windows = windows_for(instance, image, plan);
    let mut made = Vec::new();
    for window in windows.into_iter().take(room) {
        let mut raster = window::render(image, &decoded, frame, window);
        let masked = mask.map(|mask| mask(&mut raster)).transpose()?;
        let number = already + made.len() as u32 + 1;
        let encoded = encode(&raster, aspect(image, instance), plan)?;
        let extension = match plan.format {
            PictureFormat::Jpeg => "jpg",
            PictureFormat::Png => "png",
        };
        made.push(Picture {
            reference: PictureRef {
                number,
                image: ImageRef {
                    sop_class_uid: instance.sop_class_uid.clone(),
                    sop_instance_uid: instance.sop_instance_uid.clone(),
                    series_uid: instance.series_uid.clone(),
                    frame: (instance.number_of_frames > 1).then_some(frame + 1),
                },
                window: window.map_or("default".into(), |window| window.name.clone()),
                width_px: encoded.width,
                height_px: encoded.height,
                source_columns: image.shape.columns as u32,
                source_rows: image.shape.rows as u32,
                file: format!("picture-{number:02}.{extension}"),
                digest: text::hex(&Sha256::digest(&encoded.bytes)),
                tiles: Vec::new(),
                masked: masked.map(|masked| masked.boxes),
                unsure: masked.unwrap_or_default().unsure,
                unread: masked.unwrap_or_default().unread,
                speaks: masked.unwrap_or_default().speaks,
            },
            media_type: media_type(plan.format),
            bytes: encoded.bytes,
        });
    }
    Ok(made)
}

pub fn media_type(format: PictureFormat) -> &'static str {
    match format {
        PictureFormat::Jpeg => "image/jpeg",
        PictureFormat::Png => "image/png",
    }
}

/// The plan's windows are in Hounsfield units: they are for CT with a rescale. Everything
/// else is shown by its own VOI.
fn windows_for<'p>(
    instance: &Instance,
    image: &Image,
    plan: &'p PicturePlan,
) -> Vec<Option<&'p Window>> {
    let in_units = instance.modality == "CT" && window::Transform::of(image, 0).has_modality;
    match in_units && !plan.windows.is_empty() && image.shape.samples == 1 {
        true => plan.windows.iter().map(Some).collect(),
        false => vec![None],
    }
}

/// Makes black what may not be shown.
fn mask(
    rule: PixelRule,
    instance: &Instance,
    raster: &mut Raster,
    mask_text: MaskText<'_>,
) -> Result<Masked, ImagingError> {
    match rule {
        PixelRule::Text | PixelRule::Instructions => {}
        PixelRule::TextAndOutsideRegions if instance.ultrasound_regions.is_empty() => {
            return Err(ImagingError::Picture("no ultrasound region in the header to keep".into()));
        }
        PixelRule::TextAndOutsideRegions => only_regions(instance, raster),
    }
    mask_text(raster, rule).map_err(ImagingError::NotShown)
}

fn only_regions(instance: &Instance, raster: &mut Raster) {
    let Raster { width, samples, pixels, .. } = raster;
    for (row, line) in pixels.chunks_exact_mut(*width * *samples).enumerate() {
        for (column, pixel) in line.chunks_exact_mut(*samples).enumerate() {
            let inside = instance.ultrasound_regions.iter().any(|[x0, y0, x1, y1]| {
                (*x0 as usize..=*x1 as usize).contains(&column)
                    && (*y0 as usize..=*y1 as usize).contains(&row)
            });
            if !inside {
                pixel.fill(0);
            }
        }
    }
}

/// Height of a pixel divided by its width.
fn aspect(image: &Image, instance: &Instance) -> f64 {
    let [vertical, horizontal] = instance.pixel_aspect(image.stated_aspect()).unwrap_or([1.0; 2]);
    let ratio = vertical / horizontal;
    if (0.1..=10.0).contains(&ratio) && (ratio - 1.0).abs() > 0.01 { ratio } else { 1.0 }
}

pub struct Encoded {
    pub width: u32,
    pub height: u32,
    pub bytes: Vec<u8>,
}

pub fn encode(raster: &Raster, aspect: f64, plan: &PicturePlan) -> Result<Encoded, ImagingError> {
    let bytes_max = plan.bytes_max.min(BYTES_MAX) as usize;
    let mut edge = plan.edge_max_px.clamp(1, EDGE_MAX_PX);
    loop {
        let (width, height) = scaled(raster.width, raster.height, aspect, edge);
        let pixels = resize(raster, width, height)?;
        let qualities: &[u8] = match plan.format {
            PictureFormat::Jpeg => &QUALITIES,
            PictureFormat::Png => &QUALITIES[..1],
        };
        for quality in qualities {
            let bytes = compress(&pixels, width, height, raster.samples, plan.format, *quality)?;
            if bytes.len() <= bytes_max {
                return Ok(Encoded { width, height, bytes });
            }
        }
        if edge <= EDGE_MIN_PX {
            return Err(ImagingError::Picture(format!("none fits into {bytes_max} bytes")));
        }
        edge = (width.max(height) * 3 / 4).max(EDGE_MIN_PX).min(edge - 1);
    }
}

/// The picture's size: longest edge at most `edge`, pixels square, never larger than the
/// frame's own.
fn scaled(width: usize, height: usize, aspect: f64, edge: u32) -> (u32, u32) {
    let (w, h) = (width as f64, height as f64);
    let (w, h) = if aspect >= 1.0 { (w, h * aspect) } else { (w / aspect, h) };
    let scale = (f64::from(edge) / w.max(h)).min(1.0);
    let whole = |length: f64| (length * scale).round().clamp(1.0, f64::from(edge)) as u32;
    (whole(w), whole(h))
}

pub fn resize(raster: &Raster, width: u32, height: u32) -> Result<Vec<u8>, ImagingError> {
    let (from_width, from_height) = (raster.width as u32, raster.height as u32);
    if (from_width, from_height) == (width, height) {
        return Ok(raster.pixels.clone());
    }
    let kind = if raster.samples == 3 { PixelType::U8x3 } else { PixelType::U8 };
    let wrong = |e: &dyn std::fmt::Display| ImagingError::Picture(format!("scaling: {e}"));
    let source =
        fast_image_resize::images::ImageRef::new(from_width, from_height, &raster.pixels, kind)
            .map_err(|e| wrong(&e))?;
    let mut scaled = fast_image_resize::images::Image::new(width, height, kind);
    let options = ResizeOptions::new();
    Resizer::new().resize(&source, &mut scaled, &options).map_err(|e| wrong(&e))?;
    Ok(scaled.into_vec())
}

pub fn compress(
    pixels: &[u8],
    width: u32,
    height: u32,
    samples: usize,
    format: PictureFormat,
    quality: u8,
) -> Result<Vec<u8>, ImagingError> {
    let failed = |e: &dyn std::fmt::Display| ImagingError::Picture(format!("encoding: {e}"));
    let mut out = Vec::new();
    match format {
        PictureFormat::Jpeg => {
            let short = |edge: u32| u16::try_from(edge).map_err(|e| failed(&e));
            let kind = if samples == 3 { ColorType::Rgb } else { ColorType::Luma };
            let mut encoder = Encoder::new(&mut out, quality);
            encoder.set_sampling_factor(SamplingFactor::F_1_1);
            let written = encoder.encode(pixels, short(width)?, short(height)?, kind);
            written.map_err(|e| failed(&e))?;
        }
        PictureFormat::Png => {
            let kind = if samples == 3 { ExtendedColorType::Rgb8 } else { ExtendedColorType::L8 };
            let written = PngEncoder::new(&mut out).write_image(pixels, width, height, kind);
            written.map_err(|e| failed(&e))?;
        }
    }
    Ok(out)
}

/// The first frame of an instance in grey, for a local model.
///
/// # Errors
/// [`ImagingError`] when it cannot be decoded.
pub fn grey_frame(data: &Path, instance: &Instance) -> Result<GreyFrame, ImagingError> {
    let mut image = Image::open(&data.join(&instance.object))?;
    let frame = image.frame(0)?;
    let raster = window::to_grey(window::render(&image, &frame, 0, None));
    let (width, height) = (raster.width as u32, raster.height as u32);
    Ok(GreyFrame { width, height, pixels: raster.pixels })
}
