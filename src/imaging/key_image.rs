//! One frame at its own resolution with regions, labels and lines of text drawn in. The text stands
//! in strips above and below: nothing of the image is hidden but what lies under a frame or a label.

use std::path::Path;

use dicom_dictionary_std::tags;

use crate::domain::key_image::Drawing;
use crate::domain::key_image::GreyPath;
use crate::domain::key_image::KeyImage;
use crate::domain::key_image::Lossy;
use crate::domain::key_image::Mark;
use crate::domain::key_image::Voi;
use crate::imaging::ImagingError;
use crate::imaging::decode::Image;
use crate::imaging::glyphs;
use crate::imaging::window;
use crate::imaging::window::Raster;

/// A narrower image stands between black margins: a line of text needs some room.
const WIDTH_MIN: usize = 320;
/// Letters in a line of text: large enough to be read when the image fills a screen.
const LETTERS: f64 = 52.0;
const LINES_MAX: usize = 24;

/// What is written on colour images, beside black; on grey ones it is white.
const YELLOW: [u8; 3] = [255, 210, 63];

/// Draws it.
///
/// # Errors
/// [`ImagingError`]: there is no such frame, no pixels, or they cannot be decoded.
pub fn draw(path: &Path, drawing: &Drawing) -> Result<KeyImage, ImagingError> {
    let mut image = Image::open(path)?;
    let number = drawing.frame.checked_sub(1).filter(|&n| n < image.shape.frames);
    let number = number.ok_or(ImagingError::NoPixels)?;
    let frame = image.frame(number)?;
    let asked = drawing
        .window
        .as_ref()
        .map(|of| window::Voi::Linear { center: of.center, width: of.width.max(1.0) });
    let (raster, shown) = window::render_with(&image, &frame, number, asked);
    let grey = shown.and_then(|(transform, voi)| grey_path(&transform, &voi, &frame));
    let canvas = compose(&raster, drawing);
    Ok(KeyImage {
        width: canvas.width as u32,
        height: canvas.height as u32,
        samples: canvas.samples as u32,
        grey,
        lossy: lossy(&image),
        aspect: image.stated_aspect(),
        pixels: canvas.pixels,
    })
}

fn grey_path(
    transform: &window::Transform,
    voi: &window::Voi,
    frame: &crate::imaging::decode::Frame,
) -> Option<GreyPath> {
    let rescale = match transform.modality {
        window::Modality::Rescale { slope, intercept } => {
            transform.has_modality.then_some([slope, intercept])
        }
        window::Modality::Table(_) => return None,
    };
    let voi = match voi {
        window::Voi::Linear { center, width } => Voi::Linear { center: *center, width: *width },
        // The same line in the form that every viewer knows (PS3.3 C.11.2.1.2.1 and C.11.2.1.3.2).
        window::Voi::LinearExact { center, width } => {
            Voi::Linear { center: center + 0.5, width: width + 1.0 }
        }
        window::Voi::Sigmoid { center, width } => Voi::Sigmoid { center: *center, width: *width },
        window::Voi::Table(table) => {
            let (first, entries) = table.in_16_bits();
            Voi::Table { first, entries }
        }
    };
    let is_inverse = frame.colour == crate::imaging::decode::Colour::Monochrome1;
    Some(GreyPath { rescale, voi, is_inverse })
}

/// What the header says of loss, and what the transfer syntax shows.
fn lossy(image: &Image) -> Option<Lossy> {
    let fields = image.data.fields();
    let method = match image.data.transfer_syntax.as_str() {
        "1.2.840.10008.1.2.4.50" | "1.2.840.10008.1.2.4.51" => Some("ISO_10918_1"),
        "1.2.840.10008.1.2.4.81" => Some("ISO_14495_1"),
        _ => None,
    };
    if fields.plain(tags::LOSSY_IMAGE_COMPRESSION) != "01" && method.is_none() {
        return None;
    }
    let mut of = Lossy {
        ratios: fields.plain_strings(tags::LOSSY_IMAGE_COMPRESSION_RATIO),
        methods: fields.plain_strings(tags::LOSSY_IMAGE_COMPRESSION_METHOD),
    };
    of.ratios.retain(|ratio| ratio.parse::<f64>().is_ok_and(|ratio| ratio > 0.0));
    of.methods.retain(|method| !method.is_empty());
    if of.methods.is_empty() {
        of.methods.extend(method.map(str::to_owned));
    }
    // One ratio for each method.
    let both = of.ratios.len().min(of.methods.len());
    of.ratios.truncate(both);
    Some(of)
}

fn compose(image: &Raster, drawing: &Drawing) -> Raster {
    let width = image.width.max(WIDTH_MIN);
    let scale = width as f64 / (LETTERS * glyphs::CELL.0);
    let line = (glyphs::CELL.1 * scale).ceil() as usize;
    let lines = |texts: &[String]| -> Vec<String> {
        let fit = (LETTERS as usize).saturating_sub(2);
        let all = texts.iter().flat_map(|text| glyphs::wrapped(text, fit));
        all.take(LINES_MAX).collect()
    };
    let (above, below) = (lines(&drawing.above), lines(&drawing.below));
    let gap = line / 2;
    let strip = |lines: &[String]| if lines.is_empty() { 0 } else { lines.len() * line + gap };
    let (top, left) = (strip(&above), (width - image.width) / 2);
    let height = top + image.height + strip(&below);
    let samples = image.samples;
    let mut canvas = Raster { width, height, samples, pixels: vec![0; width * height * samples] };
    for (row, pixels) in image.pixels.chunks_exact(image.width * samples).enumerate() {
        let start = ((top + row) * width + left) * samples;
        canvas.pixels[start..start + pixels.len()].copy_from_slice(pixels);
    }
    let within = Area {
        x0: left as f64,
        y0: top as f64,
        x1: (left + image.width) as f64,
        y1: (top + image.height) as f64,
    };
    let thick = (image.width.max(image.height) as f64 / 400.0).max(1.5);
    let boxes: Vec<Area> =
        drawing.marks.iter().map(|mark| outline(&mut canvas, mark, &within, thick)).collect();
    for (mark, around) in drawing.marks.iter().zip(&boxes) {
        label(&mut canvas, &mark.label, around, &within, scale);
    }
    let mut write = |lines: &[String], from: usize| {
        for (nth, text) in lines.iter().enumerate() {
            let y = (from + gap / 2 + nth * line) as f64;
            glyphs::draw(&mut canvas, text, glyphs::CELL.0 * scale * 0.5, y, scale);
        }
    };
    write(&above, 0);
    write(&below, top + image.height);
    canvas
}

/// A rectangle in pixels of the canvas.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Area {
    x0: f64,
    y0: f64,
    x1: f64,
    y1: f64,
}

impl Area {
    fn grown(&self, by: f64) -> Area {
        Area { x0: self.x0 - by, y0: self.y0 - by, x1: self.x1 + by, y1: self.y1 + by }
    }

    fn clipped(&self, to: &Area) -> Area {
        let (x0, x1) = (self.x0.clamp(to.x0, to.x1), self.x1.clamp(to.x0, to.x1));
        let (y0, y1) = (self.y0.clamp(to.y0, to.y1), self.y1.clamp(to.y0, to.y1));
        Area { x0, y0, x1, y1 }
    }
}

/// A light line between two dark ones, so that it shows on any ground, outside the region: what was
/// found stays visible. Returns its outer edge.
fn outline(canvas: &mut Raster, mark: &Mark, within: &Area, thick: f64) -> Area {
    let [x0, y0, x1, y1] = mark.region;
    let region = Area {
        x0: within.x0 + x0.min(x1),
        y0: within.y0 + y0.min(y1),
        x1: within.x0 + x0.max(x1),
        y1: within.y0 + y0.max(y1),
    };
    let outer = region.grown(thick * 2.0).clipped(within);
    let light = match canvas.samples {
        3 => YELLOW,
        _ => [255; 3],
    };
    ring(canvas, &outer, thick * 2.0, [0; 3]);
    ring(canvas, &outer.grown(-thick * 0.5), thick, light);
    outer
}

fn ring(canvas: &mut Raster, outer: &Area, thick: f64, ink: [u8; 3]) {
    let Area { x0, y0, x1, y1 } = *outer;
    let (right, lower) = ((x1 - thick).max(x0), (y1 - thick).max(y0));
    fill(canvas, &Area { y1: (y0 + thick).min(y1), ..*outer }, ink);
    fill(canvas, &Area { y0: lower, ..*outer }, ink);
    fill(canvas, &Area { x1: (x0 + thick).min(x1), ..*outer }, ink);
    fill(canvas, &Area { x0: right, ..*outer }, ink);
}

fn fill(canvas: &mut Raster, area: &Area, ink: [u8; 3]) {
    let whole = |edge: f64, most: usize| (edge.round().max(0.0) as usize).min(most);
    let (left, right) = (whole(area.x0, canvas.width), whole(area.x1, canvas.width));
    for y in whole(area.y0, canvas.height)..whole(area.y1, canvas.height) {
        for x in left..right {
            let start = (y * canvas.width + x) * canvas.samples;
            canvas.pixels[start..start + canvas.samples].copy_from_slice(&ink[..canvas.samples]);
        }
    }
}

/// Above the box where there is room, else below it, else inside at its top.
fn label(canvas: &mut Raster, text: &str, around: &Area, within: &Area, scale: f64) {
    let text = glyphs::drawable(text);
    let (cell_width, cell_height) = (glyphs::CELL.0 * scale, glyphs::CELL.1 * scale);
    let (width, height) = (cell_width * (text.len() as f64 + 0.7), cell_height * 1.1);
    let y0 = match (around.y0 - height >= within.y0, around.y1 + height <= within.y1) {
        (true, _) => around.y0 - height,
        (false, true) => around.y1,
        (false, false) => around.y0,
    };
    let x0 = around.x0.min(within.x1 - width).max(within.x0);
    let tag = Area { x0, y0, x1: x0 + width, y1: y0 + height }.clipped(within);
    fill(canvas, &tag, [0; 3]);
    let y = y0 + cell_height * 0.1;
    glyphs::draw(canvas, &text, x0 + cell_width * 0.35, y, scale);
}

#[cfg(test)]
mod tests {
    use dicom_dictionary_std::uids;

    use super::*;
    use crate::imaging::decode::tests::image;

    fn drawing(marks: Vec<Mark>) -> Drawing {
        Drawing {
            frame: 1,
            window: None,
            marks,
            above: vec!["AI, PRELIMINARY, a model 1.0".into()],
            below: vec!["F1 something".into()],
        }
    }

    fn grey(width: usize, height: usize, value: u8) -> Raster {
        Raster { width, height, samples: 1, pixels: vec![value; width * height] }
    }

    /// Where the frame lies on the canvas of a 400 x 300 image.
    fn place(canvas: &Raster, image: &Raster) -> (usize, usize) {
        let line = (canvas.width as f64 / (LETTERS * 6.0) * 10.0).ceil() as usize;
        ((canvas.width - image.width) / 2, line + line / 2)
    }

    #[test]
    fn only_what_lies_under_a_frame_or_a_label_is_hidden() {
        let image = grey(400, 300, 100);
        let mark = Mark { region: [100.0, 120.0, 180.0, 200.0], label: "F1".into() };
        let canvas = compose(&image, &drawing(vec![mark]));
        let (left, top) = place(&canvas, &image);
        let at = |x: usize, y: usize| canvas.pixels[(top + y) * canvas.width + left + x];
        assert_eq!(canvas.height, 300 + 2 * top, "a strip above and one below");
        for (x, y) in [(101, 121), (179, 199), (140, 160), (0, 0), (399, 299)] {
            assert_eq!(at(x, y), 100, "{x} {y} is untouched");
        }
        let left_edge: Vec<u8> = (94..100).map(|x| at(x, 160)).collect();
        assert!(left_edge.contains(&255) && left_edge.contains(&0), "{left_edge:?}");
        let changed = canvas.pixels.iter().filter(|&&v| v != 100).count();
        assert!(changed < canvas.pixels.len() / 4, "{changed}");
        assert!(canvas.pixels[..top * canvas.width].contains(&255), "the banner");
    }

    #[test]
    fn any_region_stays_inside_the_image() {
        for (width, height) in [(1, 1), (40, 30), (400, 300)] {
            for samples in [1, 3] {
                let pixels = vec![7; width * height * samples];
                let image = Raster { width, height, samples, pixels };
                let marks = [
                    [-50.0, -50.0, 9999.0, 9999.0],
                    [0.0, 0.0, 0.5, 0.5],
                    [30.0, 20.0, 10.0, 5.0],
                    [399.0, 299.0, 400.0, 300.0],
                ];
                let marks = marks.map(|region| Mark { region, label: "F12".into() });
                let canvas = compose(&image, &drawing(marks.to_vec()));
                assert!(canvas.width >= WIDTH_MIN && canvas.height > height);
                assert_eq!(canvas.pixels.len(), canvas.width * canvas.height * samples);
            }
        }
    }

    #[test]
    fn a_frame_that_is_not_there_makes_no_key_image() {
        let pixels: Vec<u8> = (0..16).collect();
        let bytes = image(uids::EXPLICIT_VR_LITTLE_ENDIAN, 2, 2, "2 ", &pixels);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let of = |frame| draw(file.path(), &Drawing { frame, ..drawing(vec![]) });
        assert!(of(0).is_err() && of(3).is_err());
        let made = of(2).unwrap();
        assert_eq!((made.samples, made.lossy), (1, None));
        assert_eq!(made.pixels.len(), (made.width * made.height) as usize);
        assert!(made.grey.is_some());
    }
}
