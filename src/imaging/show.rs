//! One frame as a picture for a browser (PS3.18 8.3.5.1.2 to 8.3.5.1.4): window, viewport, quality.

use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

use crate::domain::picture::PictureFormat;
use crate::imaging::ImagingError;
use crate::imaging::decode::Image;
use crate::imaging::picture;
use crate::imaging::window;
use crate::imaging::window::Raster;
use crate::imaging::window::Voi;

/// Edge of a picture.
pub const EDGE_MAX_PX: u32 = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Function {
    Linear,
    LinearExact,
    Sigmoid,
}

/// Center and width in modality units.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Window {
    pub center: f64,
    pub width: f64,
    pub function: Function,
}

/// The part of the frame that is shown, in its own pixels; a negative extent is a flip.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Region {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
}

/// How a frame is to be shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct View {
    pub format: PictureFormat,
    /// 1 to 100.
    pub quality: u8,
    /// None: the object's own.
    pub window: Option<Window>,
    /// Width and height that the picture fits into; none: the frame's own.
    pub fit: Option<(u32, u32)>,
    /// Whether a small frame grows to fit.
    pub grow: bool,
    pub region: Option<Region>,
}

/// Which frame: a number from 1, or the one that stands for the instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    Number(u32),
    Middle,
}

/// A picture, and the window by which its grey levels were made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shown {
    pub file: Vec<u8>,
    /// None of colour.
    pub window: Option<Levels>,
}

/// Center and width in modality units.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Levels {
    pub center: f64,
    pub width: f64,
    /// Nobody asked for it, and it is none of the object's own: found in the values of the frame, or
    /// all that a look-up table tells apart.
    pub computed: bool,
}

/// Makes the picture; an empty one where there is no such frame.
///
/// # Errors
/// [`ImagingError`]: no pixels, or they cannot be decoded.
pub fn show(path: &Path, which: Which, view: &View) -> Result<Shown, ImagingError> {
    let mut image = Image::open(path)?;
    let number = match which {
        Which::Number(number) if (1..=image.shape.frames).contains(&number) => number - 1,
        Which::Number(_) => return Ok(Shown::default()),
        Which::Middle => image.shape.frames / 2,
    };
    let frame = image.frame(number)?;
    let voi = view.window.map(|Window { center, width, function }| match function {
        Function::Linear => Voi::Linear { center, width: width.max(1.0) },
        Function::LinearExact => Voi::LinearExact { center, width },
        Function::Sigmoid => Voi::Sigmoid { center, width },
    });
    let is_asked = voi.is_some();
    let (raster, made) = window::render_with(&image, &frame, number, voi);
    let window = made.map(|(transform, voi)| {
        let is_own = matches!(&transform.own, Some(own) if *own == voi && !own.is_table());
        let (center, width) = voi.extent();
        Levels { center, width, computed: !is_asked && !is_own }
    });
    let raster = match &view.region {
        Some(region) => cut(&raster, region)?,
        None => raster,
    };
    let (width, height) = size(raster.width as u32, raster.height as u32, view);
    let pixels = picture::resize(&raster, width, height)?;
    let samples = raster.samples;
    let file = picture::compress(&pixels, width, height, samples, view.format, view.quality)?;
    Ok(Shown { file, window })
}

fn size(width: u32, height: u32, view: &View) -> (u32, u32) {
    let (fit_width, fit_height) = view.fit.unwrap_or((width, height));
    let by = |fit: u32, edge: u32| f64::from(fit.min(EDGE_MAX_PX)) / f64::from(edge.max(1));
    let scale = by(fit_width, width).min(by(fit_height, height));
    let scale = if view.grow { scale } else { scale.min(1.0) };
    let whole = |edge: u32| (f64::from(edge) * scale).round().clamp(1.0, EDGE_MAX_PX.into()) as u32;
    (whole(width), whole(height))
}

/// Cuts a region out and turns it over where its extent is negative.
fn cut(raster: &Raster, region: &Region) -> Result<Raster, ImagingError> {
    let span = |from: f64, extent: f64, edge: usize| {
        let from = from.max(0.0).round() as usize;
        let upto = from.saturating_add(extent.abs().round() as usize).min(edge);
        (from < upto).then_some((from, upto))
    };
    let columns = span(region.left, region.width, raster.width);
    let rows = span(region.top, region.height, raster.height);
    let (Some((left, right)), Some((top, bottom))) = (columns, rows) else {
        return Err(ImagingError::Picture("the viewport shows nothing of the image".into()));
    };
    let (width, height, samples) = (right - left, bottom - top, raster.samples);
    let mut pixels = Vec::with_capacity(width * height * samples);
    for row in 0..height {
        let row = if region.height < 0.0 { bottom - 1 - row } else { top + row };
        let line = &raster.pixels[(row * raster.width + left) * samples..][..width * samples];
        match region.width < 0.0 {
            true => line.chunks_exact(samples).rev().for_each(|p| pixels.extend_from_slice(p)),
            false => pixels.extend_from_slice(line),
        }
    }
    Ok(Raster { width, height, samples, pixels })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_viewport_cuts_and_flips() {
        let raster = Raster { width: 3, height: 2, samples: 1, pixels: vec![1, 2, 3, 4, 5, 6] };
        let region = |left, top, width, height| Region { left, top, width, height };
        let part = cut(&raster, &region(1.0, 0.0, -2.0, 2.0)).unwrap();
        assert_eq!((part.width, part.pixels), (2, vec![3, 2, 6, 5]));
        let part = cut(&raster, &region(0.0, 0.0, 9.0, -9.0)).unwrap();
        assert_eq!((part.height, part.pixels), (2, vec![4, 5, 6, 1, 2, 3]));
        assert!(cut(&raster, &region(3.0, 0.0, 1.0, 1.0)).is_err());
    }

    #[test]
    fn a_picture_fits_and_keeps_its_shape() {
        let view = |fit, grow| View {
            format: PictureFormat::Jpeg,
            quality: 90,
            window: None,
            fit,
            grow,
            region: None,
        };
        assert_eq!(size(100, 50, &view(None, true)), (100, 50));
        assert_eq!(size(100, 50, &view(Some((50, 50)), true)), (50, 25));
        assert_eq!(size(100, 50, &view(Some((400, 400)), true)), (400, 200));
        assert_eq!(size(100, 50, &view(Some((400, 400)), false)), (100, 50));
    }
}
