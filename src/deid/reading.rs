//! Reads a line of text in a picture, which tells text from anatomy.
//!
//! `models/text-reading-ppocrv6` holds the network and how well it reads. It knows Latin letters,
//! digits and Chinese. Of Vietnamese it reads the letters without their marks; Korean it takes for
//! other letters, and is less sure. What is read is kept nowhere.

use fast_image_resize::FilterType;
use fast_image_resize::PixelType;
use fast_image_resize::ResizeAlg;
use fast_image_resize::ResizeOptions;
use fast_image_resize::Resizer;
use fast_image_resize::images::Image;
use fast_image_resize::images::ImageRef;

use crate::deid::network;
use crate::deid::network::Network;
use crate::deid::text::Pixels;
use crate::deid::text::TextError;

static NETWORK: Network = Network::new(include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/models/text-reading-ppocrv6/model.onnx"
)));

/// Its letters, one a line. Before them stands "none", after them a space.
const LETTERS: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/models/text-reading-ppocrv6/letters.txt"));

/// Height of a line as the network sees it, and the widths between which it is brought.
const HEIGHT: usize = 48;
const WIDTH_MIN: usize = 48;
const WIDTH_MAX: usize = 1600;
/// A box so many times as high as it is wide is a line that stands upright.
const UPRIGHT: f64 = 1.5;

/// A line that was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Line {
    pub text: String,
    /// How many letters it probably has: the sum of how likely each is.
    pub letters: f32,
}

#[derive(Clone, Copy)]
enum Turned {
    No,
    Left,
    Right,
}

/// Reads what stands in `area` (columns and rows from the first to before the second), also
/// bottom up and top down.
pub fn read(picture: &Pixels<'_>, area: [f64; 4]) -> Result<Line, TextError> {
    let [x0, y0, x1, y1] = area;
    let is_upright = y1 - y0 >= UPRIGHT * (x1 - x0);
    let ways: &[Turned] = match is_upright {
        true => &[Turned::Left, Turned::Right, Turned::No],
        false => &[Turned::No],
    };
    let mut best = Line::default();
    for turned in ways {
        let line = read_turned(picture, area, *turned)?;
        if line.letters >= best.letters {
            best = line;
        }
    }
    Ok(best)
}

fn read_turned(
    picture: &Pixels<'_>,
    [x0, y0, x1, y1]: [f64; 4],
    turned: Turned,
) -> Result<Line, TextError> {
    let (w, h) = (x1 - x0, y1 - y0);
    if w < 2.0 || h < 2.0 {
        return Ok(Line::default());
    }
    let length = |along: f64, across: f64| {
        ((HEIGHT as f64 * along / across).ceil() as usize).clamp(WIDTH_MIN / 3, WIDTH_MAX)
    };
    let (columns, rows) = match turned {
        Turned::No => (length(w, h), HEIGHT),
        Turned::Left | Turned::Right => (HEIGHT, length(h, w)),
    };
    let strip = cut(picture, [x0, y0, w, h], columns, rows)?;
    let samples = picture.samples;
    let (strip, width) = match turned {
        Turned::No => (strip, columns),
        Turned::Left => (turn(&strip, columns, rows, samples, |x, y| (y, columns - 1 - x)), rows),
        Turned::Right => (turn(&strip, columns, rows, samples, |x, y| (rows - 1 - y, x)), rows),
    };
    // A short one is set on grey, as in training.
    let wide = width.max(WIDTH_MIN);
    let mut seen = vec![0.0; 3 * HEIGHT * wide];
    let planes = network::planes(&strip, samples);
    for (to, from) in seen.chunks_exact_mut(wide).zip(planes.chunks_exact(width)) {
        to[..width].copy_from_slice(from);
    }
    letters(&NETWORK.answer(seen, wide, HEIGHT)?)
}

/// A part of the picture, scaled.
fn cut(
    picture: &Pixels<'_>,
    [x, y, w, h]: [f64; 4],
    columns: usize,
    rows: usize,
) -> Result<Vec<u8>, TextError> {
    let wrong = |e: &dyn std::fmt::Display| TextError::Model(format!("scaling: {e}"));
    let kind = if picture.samples == 3 { PixelType::U8x3 } else { PixelType::U8 };
    let edges = [picture.width, picture.height, columns, rows].map(u32::try_from);
    let [Ok(width), Ok(height), Ok(columns), Ok(rows)] = edges else {
        return Err(wrong(&"too large"));
    };
    let source = ImageRef::new(width, height, picture.values, kind).map_err(|e| wrong(&e))?;
    let mut strip = Image::new(columns, rows, kind);
    let options = ResizeOptions::new()
        .crop(x, y, w, h)
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new().resize(&source, &mut strip, &options).map_err(|e| wrong(&e))?;
    Ok(strip.into_vec())
}

/// A picture whose columns are the rows of the one before. `to`: where a pixel goes.
fn turn(
    values: &[u8],
    columns: usize,
    rows: usize,
    samples: usize,
    to: impl Fn(usize, usize) -> (usize, usize),
) -> Vec<u8> {
    let mut turned = vec![0; values.len()];
    for (at, pixel) in values.chunks_exact(samples).enumerate() {
        let (x, y) = to(at % columns, at / columns);
        let start = (y * rows + x) * samples;
        turned[start..start + samples].copy_from_slice(pixel);
    }
    turned
}

/// Takes the most likely letter of each step; the same one in the next step is the same letter.
fn letters(answer: &[f32]) -> Result<Line, TextError> {
    let known: Vec<&str> = LETTERS.lines().collect();
    let classes = known.len() + 2;
    if !answer.len().is_multiple_of(classes) {
        return Err(TextError::Model("the answer has other letters than the list".into()));
    }
    let mut line = Line::default();
    let mut last = 0;
    for step in answer.chunks_exact(classes) {
        let (class, likely) = step.iter().enumerate().fold((0, f32::MIN), |best, (at, value)| {
            if *value > best.1 { (at, *value) } else { best }
        });
        if class != last && class != 0 {
            let letter = known.get(class - 1).copied().unwrap_or(" ");
            line.text.push_str(letter);
            if !letter.trim().is_empty() {
                line.letters += likely;
            }
        }
        last = class;
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sha2::Digest as _;

    use super::*;
    use crate::domain::text;

    #[test]
    fn the_card_is_of_this_graph_and_these_letters() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/text-reading-ppocrv6");
        let card = std::fs::read_to_string(folder.join("MODEL_CARD.md")).unwrap();
        for file in ["model.onnx", "letters.txt"] {
            let digest =
                text::hex(&sha2::Sha256::digest(std::fs::read(folder.join(file)).unwrap()));
            assert!(card.contains(&digest), "{file} {digest}");
        }
        assert_eq!(LETTERS.lines().count(), 6904);
    }

    /// The lines of the fixture (see its SOURCES.md), each also with the picture turned.
    #[test]
    fn a_line_is_read_level_and_upright_in_grey_and_in_colour() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text");
        let level = image::open(folder.join("lines.png")).unwrap().to_luma8();
        let turned = image::imageops::rotate270(&level);
        let width = f64::from(level.width());
        for [x0, y0, x1, y1] in [[5.0, 5.0, 191.0, 23.0], [87.0, 102.0, 221.0, 124.0]] {
            let mut lines = Vec::new();
            let upright = [y0, width - x1, y1, width - x0];
            for (picture, area) in [(&level, [x0, y0, x1, y1]), (&turned, upright)] {
                for samples in [1, 3] {
                    let values = picture.iter().flat_map(|value| vec![*value; samples]);
                    let (width, height) = (picture.width() as usize, picture.height() as usize);
                    let values = &mut values.collect::<Vec<u8>>();
                    let line = read(&Pixels { width, height, samples, values }, area).unwrap();
                    assert!(line.letters > 8.0, "{line:?}");
                    lines.push(line.text);
                }
            }
            assert!(lines.iter().all(|line| *line == lines[0]), "{lines:?}");
        }
        let nothing = &mut [90; 64 * 32];
        let grey = Pixels { width: 64, height: 32, samples: 1, values: nothing };
        assert!(read(&grey, [0.0, 0.0, 64.0, 32.0]).unwrap().letters < 0.5);
        assert_eq!(read(&grey, [3.0, 3.0, 4.0, 3.5]).unwrap(), Line::default());
    }
}
