//! Text in pictures: found by a network, made black.
//!
//! `models/text-detection-ppocrv4` holds the network, where it comes from, how much it finds and what
//! it misses. It gives for each pixel how likely it belongs to a line of text; what lies together
//! becomes a box. It reads nothing: neither letters nor words are known afterwards.

use std::sync::OnceLock;

use fast_image_resize::PixelType;
use fast_image_resize::Resizer;
use fast_image_resize::images::Image;
use fast_image_resize::images::ImageRef;
use rten::Model;
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;

static GRAPH: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/models/text-detection-ppocrv4/model.onnx"
));

/// Edges that the network can take are multiples of this.
const STEP: usize = 32;
/// Longest edge that it is given: memory and time grow with the square. Pictures that go out are not
/// larger: nothing can be read on them that it has not seen.
pub const EDGE_MAX: u32 = 1280;
/// A smaller picture is enlarged, at most so many times: letters of 8 pixels are found then.
const EDGE_MIN: f64 = 1024.0;
const ENLARGED_MAX: f64 = 2.0;
/// Likelihood above which a pixel belongs to text, and a box is one on average.
const PIXEL_MIN: f32 = 0.3;
const BOX_MIN: f32 = 0.5;
/// Shorter edge of a box, in pixels of the map.
const SHORT_MIN: usize = 3;
/// The network marks the middle of a line: the box grows by this times area over circumference
/// (the same as the authors' own), and by this share of its height for shadows and accents.
const UNCLIP: f64 = 1.6;
const MARGIN: f64 = 0.15;
/// At both ends of a line further by so many of its heights: there a letter over something bright is
/// missed first.
const ENDS: f64 = 2.0;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    #[error("the text detector cannot be used: {0}")]
    Model(String),
    #[error("the picture has {found} values for {columns} x {rows}")]
    Picture { found: usize, columns: usize, rows: usize },
    #[error("text takes {percent} % of the picture, more than {percent_max} %")]
    TooMuch { percent: u32, percent_max: u32 },
}

/// An 8-bit picture, row by row, `samples` values (1 or 3) for each pixel.
pub struct Pixels<'a> {
    pub width: usize,
    pub height: usize,
    pub samples: usize,
    pub values: &'a mut [u8],
}

/// Columns and rows from the first to before the second.
type Area = [usize; 4];

/// Makes all text black that is found. Returns the number of boxes.
///
/// # Errors
/// [`TextError`]: the picture may not be shown. [`TextError::TooMuch`] when it is mostly text: a
/// letter, a dose report, or something in which the detector is lost.
pub fn mask(picture: &mut Pixels<'_>, percent_max: u32) -> Result<u32, TextError> {
    let found = find(picture)?;
    let mut black = vec![false; picture.width * picture.height];
    for [x0, y0, x1, y1] in &found {
        for line in black.chunks_exact_mut(picture.width).take(*y1).skip(*y0) {
            line[*x0..*x1].fill(true);
        }
    }
    let share = black.iter().filter(|is_black| **is_black).count() * 100 / black.len();
    let percent = u32::try_from(share).unwrap_or(100);
    if percent > percent_max {
        return Err(TextError::TooMuch { percent, percent_max });
    }
    for (pixel, is_black) in picture.values.chunks_exact_mut(picture.samples).zip(black) {
        if is_black {
            pixel.fill(0);
        }
    }
    Ok(u32::try_from(found.len()).unwrap_or(u32::MAX))
}

/// Boxes around text, in pixels of the picture.
fn find(picture: &Pixels<'_>) -> Result<Vec<Area>, TextError> {
    let Pixels { width: columns, height: rows, samples, ref values } = *picture;
    let is_whole = values.len() == columns * rows * samples;
    if columns == 0 || rows == 0 || !matches!(samples, 1 | 3) || !is_whole {
        return Err(TextError::Picture { found: values.len(), columns, rows });
    }
    let [width, height] = seen(columns, rows);
    let small = resized(picture, width, height)?;
    let map = likelihood(&small, width, height, samples)?;
    let (across, down) = (columns as f64 / width as f64, rows as f64 / height as f64);
    let in_picture = |at: f64, scale: f64, end: usize| (at * scale).clamp(0.0, end as f64);
    let boxes = boxes(&map, width).into_iter().map(|[x0, y0, x1, y1]| {
        [
            in_picture(x0, across, columns).floor() as usize,
            in_picture(y0, down, rows).floor() as usize,
            in_picture(x1, across, columns).ceil() as usize,
            in_picture(y1, down, rows).ceil() as usize,
        ]
    });
    Ok(boxes.collect())
}

/// Size at which the network sees a picture.
fn seen(columns: usize, rows: usize) -> [usize; 2] {
    let longest = columns.max(rows) as f64;
    let scale = match f64::from(EDGE_MAX) / longest {
        smaller if smaller < 1.0 => smaller,
        _ => (EDGE_MIN / longest).clamp(1.0, ENLARGED_MAX),
    };
    [columns, rows].map(|edge| {
        let steps = (edge as f64 * scale / STEP as f64).round() as usize;
        steps.clamp(1, EDGE_MAX as usize / STEP) * STEP
    })
}

fn resized(picture: &Pixels<'_>, width: usize, height: usize) -> Result<Vec<u8>, TextError> {
    let kind = if picture.samples == 3 { PixelType::U8x3 } else { PixelType::U8 };
    let wrong = |e: &dyn std::fmt::Display| TextError::Model(format!("scaling: {e}"));
    let edges = [picture.width, picture.height, width, height].map(u32::try_from);
    let [Ok(columns), Ok(rows), Ok(width), Ok(height)] = edges else {
        return Err(wrong(&"too large"));
    };
    let source = ImageRef::new(columns, rows, picture.values, kind).map_err(|e| wrong(&e))?;
    let mut small = Image::new(width, height, kind);
    Resizer::new().resize(&source, &mut small, None).map_err(|e| wrong(&e))?;
    Ok(small.into_vec())
}

/// The network's map: 0 to 1 for each pixel.
fn likelihood(
    values: &[u8],
    width: usize,
    height: usize,
    samples: usize,
) -> Result<Vec<f32>, TextError> {
    let broken = |error: &dyn std::fmt::Display| TextError::Model(error.to_string());
    let model = model()?;
    let area = width * height;
    let mut planes = Vec::with_capacity(3 * area);
    // Blue, green, red, from -1 to 1: as it was trained.
    for channel in [2, 1, 0] {
        let channel = channel.min(samples - 1);
        let plane = values.iter().skip(channel).step_by(samples);
        planes.extend(plane.map(|value| f32::from(*value) / 127.5 - 1.0));
    }
    let input = NdTensor::from_data([1, 3, height, width], planes);
    let (Some(&from), Some(&to)) = (model.input_ids().first(), model.output_ids().first()) else {
        return Err(broken(&"no input or output"));
    };
    let results = model.run_n(vec![(from, input.view().into())], [to], None);
    let [result] = results.map_err(|e| broken(&e))?;
    let map: rten_tensor::Tensor<f32> =
        result.try_into().map_err(|_| broken(&"the answer is no map"))?;
    let map: Vec<f32> = map.iter().copied().collect();
    match map.len() == area && map.iter().all(|value| value.is_finite()) {
        true => Ok(map),
        false => Err(broken(&"the answer is no map of the picture")),
    }
}

fn model() -> Result<&'static Model, TextError> {
    static LOADED: OnceLock<Result<Model, String>> = OnceLock::new();
    let loaded = LOADED.get_or_init(|| Model::load_static_slice(GRAPH).map_err(|e| e.to_string()));
    loaded.as_ref().map_err(|error| TextError::Model(error.clone()))
}

/// Boxes around what lies together in a map, in its pixels, grown to cover whole letters.
fn boxes(map: &[f32], width: usize) -> Vec<[f64; 4]> {
    let height = map.len() / width;
    let mut is_open: Vec<bool> = map.iter().map(|value| *value > PIXEL_MIN).collect();
    let mut found = Vec::new();
    let mut around = Vec::new();
    for start in 0..map.len() {
        if !is_open[start] {
            continue;
        }
        is_open[start] = false;
        around.push(start);
        let ([mut x0, mut y0, mut x1, mut y1], mut sum, mut count) =
            ([width, height, 0, 0], 0.0, 0.0);
        while let Some(at) = around.pop() {
            let (x, y) = (at % width, at / width);
            (x0, y0, x1, y1) = (x0.min(x), y0.min(y), x1.max(x + 1), y1.max(y + 1));
            sum += map[at];
            count += 1.0;
            for row in y.saturating_sub(1)..(y + 2).min(height) {
                for column in x.saturating_sub(1)..(x + 2).min(width) {
                    if std::mem::take(&mut is_open[row * width + column]) {
                        around.push(row * width + column);
                    }
                }
            }
        }
        if (x1 - x0).min(y1 - y0) >= SHORT_MIN && sum / count >= BOX_MIN {
            let (w, h) = ((x1 - x0) as f64, (y1 - y0) as f64);
            let grow = UNCLIP * w * h / (2.0 * (w + h)) + MARGIN * w.min(h);
            let ends = grow + ENDS * w.min(h);
            let (across, down) = if w >= h { (ends, grow) } else { (grow, ends) };
            let [x0, y0, x1, y1] = [x0, y0, x1, y1].map(|edge| edge as f64);
            found.push([x0 - across, y0 - down, x1 + across, y1 + down]);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sha2::Digest as _;

    use super::*;
    use crate::domain::text;

    fn fixture(name: &str) -> image::GrayImage {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/text");
        image::open(folder.join(name)).unwrap().to_luma8()
    }

    fn seen_as(picture: &mut image::GrayImage) -> Pixels<'_> {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        Pixels { width, height, samples: 1, values: picture }
    }

    /// Where the fixture's text stands: x0, y0, x1, y1. See its SOURCES.md.
    const LINES: [[u32; 4]; 3] = [[8, 8, 188, 20], [90, 105, 218, 121], [30, 194, 128, 203]];

    #[test]
    fn the_card_is_of_this_graph() {
        let card = include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/models/text-detection-ppocrv4/MODEL_CARD.md"
        ));
        let digest = text::hex(&sha2::Sha256::digest(GRAPH));
        assert!(card.contains(&digest), "{digest}");
        assert!(GRAPH.len() < 6_000_000, "{} bytes", GRAPH.len());
    }

    /// The map of ONNX Runtime for the same picture stands beside it, in 255 steps.
    #[test]
    fn the_map_is_as_with_onnx_runtime() {
        let (picture, expected) = (fixture("lines.png"), fixture("lines-map.png"));
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let map = likelihood(picture.as_raw(), width, height, 1).unwrap();
        let apart = map.iter().zip(expected.as_raw());
        let apart = apart.map(|(a, b)| (a - f32::from(*b) / 255.0).abs()).fold(0.0, f32::max);
        let most = map.iter().copied().fold(0.0, f32::max);
        println!("largest difference {apart}, largest value {most}");
        assert!(apart < 0.004 && most > 0.9, "{apart} {most}");
    }

    #[test]
    fn text_becomes_black_and_the_rest_stays() {
        let whole = fixture("lines.png");
        let mut masked = whole.clone();
        let boxes = mask(&mut seen_as(&mut masked), 60).unwrap();
        assert!(boxes >= 3, "{boxes}");
        for [x0, y0, x1, y1] in LINES {
            let left = (y0..y1).flat_map(|y| (x0..x1).map(move |x| (x, y)));
            let left = left.filter(|(x, y)| masked.get_pixel(*x, *y).0[0] > 0);
            assert_eq!(left.count(), 0, "in {x0} {y0} {x1} {y1}");
        }
        let mut colour: Vec<u8> = whole.iter().flat_map(|value| [*value; 3]).collect();
        let (width, height) = (whole.width() as usize, whole.height() as usize);
        let rgb = &mut Pixels { width, height, samples: 3, values: &mut colour };
        mask(rgb, 60).unwrap();
        assert!(colour.iter().step_by(3).eq(masked.iter()), "colour is masked as grey is");
        let kept = whole.iter().zip(masked.iter()).filter(|(before, after)| before == after);
        assert!(kept.count() * 2 > whole.len(), "most of the picture is there");
    }

    #[test]
    fn a_picture_that_is_mostly_text_is_refused() {
        let found = mask(&mut seen_as(&mut fixture("lines.png")), 1);
        assert!(matches!(found, Err(TextError::TooMuch { percent_max: 1, .. })), "{found:?}");
    }

    #[test]
    fn a_picture_of_another_size_than_it_says_is_refused() {
        for (width, height, samples, count) in [(4, 4, 1, 15), (4, 4, 3, 16), (0, 0, 1, 0)] {
            let mut values = vec![0; count];
            let found = mask(&mut Pixels { width, height, samples, values: &mut values }, 30);
            assert!(matches!(found, Err(TextError::Picture { .. })), "{found:?}");
        }
        let mut values = vec![9; 7];
        let thin = &mut Pixels { width: 7, height: 1, samples: 1, values: &mut values };
        assert_eq!(mask(thin, 30), Ok(0));
    }

    #[test]
    fn the_network_sees_pictures_of_bounded_size() {
        for ([columns, rows], expected) in [
            ([1024, 1024], [1024, 1024]),
            ([1280, 1000], [1280, 992]),
            ([3072, 2614], [1280, 1088]),
            ([2048, 2487], [1056, 1280]),
            ([640, 480], [1024, 768]),
            ([320, 240], [640, 480]),
            ([1, 1], [32, 32]),
            ([100_000, 3], [1280, 32]),
        ] {
            assert_eq!(seen(columns, rows), expected, "{columns} x {rows}");
        }
    }

    #[test]
    fn boxes_are_around_what_lies_together() {
        // Width 12: a block of 5 x 3, a diagonal of three, a faint block, a line of one row.
        let rows = [
            "............",
            ".99999......",
            ".99999...9..",
            ".99999....9.",
            "...........9",
            "............",
            ".444........",
            ".444........",
            ".444..999999",
            "............",
        ];
        let map: Vec<f32> = rows
            .concat()
            .bytes()
            .map(|byte| if byte == b'.' { 0.0 } else { f32::from(byte - b'0') / 10.0 })
            .collect();
        let grow = |w: f64, h: f64| UNCLIP * w * h / (2.0 * (w + h)) + MARGIN * w.min(h);
        let (block, diagonal) = (grow(5.0, 3.0), grow(3.0, 3.0));
        let expected = [
            [1.0 - (block + 6.0), 1.0 - block, 6.0 + (block + 6.0), 4.0 + block],
            [9.0 - (diagonal + 6.0), 2.0 - diagonal, 12.0 + (diagonal + 6.0), 5.0 + diagonal],
        ];
        assert_eq!(boxes(&map, 12), expected);
    }
}
