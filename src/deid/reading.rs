//! Reads a line of text in a picture, which tells text from anatomy.
//!
//! `models/text-reading-ppocrv6` holds the network and how well it reads. It knows Latin letters,
//! digits and Chinese. Of Vietnamese it reads the letters without their marks; Korean it takes for
//! other letters, and is less sure. What is read is kept nowhere.

use crate::deid::network;
use crate::deid::network::Network;
use crate::deid::text::Pixels;
use crate::deid::text::TextError;
use crate::deid::tilt::Tilted;

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
/// Points of the picture that are averaged for a pixel of a strip, along each edge at most.
const STEPS_MAX: usize = 8;

/// A line that was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Line {
    pub text: String,
    /// How many letters it probably has: the sum of how likely each is.
    pub letters: f32,
}

/// Reads what stands in `area`, with the line turned by each of `quarters` clockwise, and takes what has
/// most letters.
pub fn read(picture: &Pixels<'_>, area: Tilted, quarters: &[usize]) -> Result<Line, TextError> {
    let mut best = Line::default();
    for quarter in quarters {
        let line = read_level(picture, area.turned(*quarter))?;
        if line.letters >= best.letters {
            best = line;
        }
    }
    Ok(best)
}

fn read_level(picture: &Pixels<'_>, area: Tilted) -> Result<Line, TextError> {
    let (w, h) = (area.wide(), area.high());
    if w < 2.0 || h < 2.0 {
        return Ok(Line::default());
    }
    let width = ((HEIGHT as f64 * w / h).ceil() as usize).clamp(WIDTH_MIN / 3, WIDTH_MAX);
    let strip = cut(picture, area, width);
    let samples = picture.samples;
    // A short one is set on grey, as in training.
    let wide = width.max(WIDTH_MIN);
    let mut seen = vec![0.0; 3 * HEIGHT * wide];
    let planes = network::planes(&strip, samples);
    for (to, from) in seen.chunks_exact_mut(wide).zip(planes.chunks_exact(width)) {
        to[..width].copy_from_slice(from);
    }
    letters(&NETWORK.answer(seen, wide, HEIGHT)?)
}

/// A part of the picture as a strip of [`HEIGHT`] rows; what is smaller there is averaged.
fn cut(picture: &Pixels<'_>, area: Tilted, columns: usize) -> Vec<u8> {
    let steps =
        |length: f64, count: usize| ((length / count as f64).ceil() as usize).clamp(1, STEPS_MAX);
    let (fine_x, fine_y) = (steps(area.wide(), columns), steps(area.high(), HEIGHT));
    let place = |at: usize, step: usize, fine: usize, count: usize| {
        2.0 * (at as f64 + (step as f64 + 0.5) / fine as f64) / count as f64 - 1.0
    };
    let mut strip = Vec::with_capacity(columns * HEIGHT * picture.samples);
    for row in 0..HEIGHT {
        for column in 0..columns {
            let mut sum = [0.0; 3];
            for (step_y, step_x) in (0..fine_y).flat_map(|y| (0..fine_x).map(move |x| (y, x))) {
                let along = place(column, step_x, fine_x, columns);
                add(&mut sum, picture, area.at(along, place(row, step_y, fine_y, HEIGHT)));
            }
            let count = (fine_x * fine_y) as f64;
            strip.extend(sum.iter().take(picture.samples).map(|sum| (sum / count).round() as u8));
        }
    }
    strip
}

/// Adds the value of the picture at a point between its pixels; beyond its edge it goes on.
fn add(sum: &mut [f64; 3], picture: &Pixels<'_>, point: [f64; 2]) {
    let near = |at: f64, count: usize| {
        let at = (at - 0.5).clamp(0.0, (count - 1) as f64);
        let first = at as usize;
        (first, (first + 1).min(count - 1), at - at.floor())
    };
    let (x0, x1, right) = near(point[0], picture.width);
    let (y0, y1, below) = near(point[1], picture.height);
    for (sample, sum) in sum.iter_mut().enumerate().take(picture.samples) {
        let value = |x: usize, y: usize| {
            f64::from(picture.values[(y * picture.width + x) * picture.samples + sample])
        };
        let line = |y: usize| value(x0, y) * (1.0 - right) + value(x1, y) * right;
        *sum += line(y0) * (1.0 - below) + line(y1) * below;
    }
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
                    let picture = &Pixels { width, height, samples, values };
                    let line = read(picture, Tilted::level(area), &[0, 1, 3]).unwrap();
                    assert!(line.letters > 8.0, "{line:?}");
                    lines.push(line.text);
                }
            }
            assert!(lines.iter().all(|line| *line == lines[0]), "{lines:?}");
        }
        let nothing = &mut [90; 64 * 32];
        let grey = Pixels { width: 64, height: 32, samples: 1, values: nothing };
        let nothing = |area| read(&grey, Tilted::level(area), &[0]).unwrap();
        assert!(nothing([0.0, 0.0, 64.0, 32.0]).letters < 0.5);
        assert_eq!(nothing([3.0, 3.0, 4.0, 3.5]), Line::default());
    }
}
