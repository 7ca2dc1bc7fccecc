//! Text in pictures: found by one network, read by another, made black.
//!
//! `models/text-detection-ppocrv4` gives for each pixel how likely it belongs to a line of text; what
//! lies together becomes a box. It takes anatomy for text, so `models/text-reading-ppocrv6` reads what
//! stands in each box, also tilted and upside down: what holds letters is text. Both folders say how
//! much is found and missed.

use fast_image_resize::PixelType;
use fast_image_resize::Resizer;
use fast_image_resize::images::Image;
use fast_image_resize::images::ImageRef;

use crate::deid::instruction;
use crate::deid::network;
use crate::deid::network::Network;
use crate::deid::reading;
use crate::deid::reading::Line;
use crate::deid::tilt::Tilted;
use crate::domain::picture::Masked;

const GRAPH: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/models/text-detection-ppocrv4/model.onnx"
));
static NETWORK: Network = Network::new(GRAPH);

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
/// Letters from which a level line of usual height is text. Anatomy is read as one letter that nobody
/// is sure of.
const LETTERS_MIN: f32 = 1.2;
/// The same for lines that stand upright, are tilted or are high: edges of bones and skin look like them, and real
/// ones are read well.
const LETTERS_SURE: f32 = 2.0;
/// A usual line is at most so high, as a share of the picture's longer edge.
const LINE_HIGH: f64 = 0.1;
/// What has fewer letters may be text of another script, or too faint to be read: when the detector is
/// as sure as this, and it is level and so many times as long as high.
const SURE: f32 = 0.97;
const LINE_LONG: f64 = 1.3;
/// Letters of a sentence, and how likely they are on average when they are read at all: Korean is read
/// as other letters at 0.5 to 0.7, what the network knows at 0.9 and more.
const SENTENCE_MIN: usize = 10;
const READ_MIN: f32 = 0.8;
/// Markers of sides and projections: the reader needs them, and they name nobody.
const MARKERS: [&str; 21] = [
    "l", "r", "lt", "rt", "left", "right", "ap", "pa", "lat", "cc", "mlo", "lcc", "rcc", "lmlo",
    "rmlo", "lml", "rml", "llat", "rlat", "supine", "erect",
];
/// Lines that are read of one picture; more are text without a look.
const LINES_MAX: usize = 400;
/// Lines of a picture that are read again, tilted or turned, when nothing was read; of more nobody can
/// say.
const TURNED_MAX: usize = 200;
/// A box so many times as high as it is wide is a line that stands upright.
const UPRIGHT: f64 = 1.5;

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

/// Where a box lies.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Lies {
    /// The line itself.
    line: Tilted,
    /// What is to be black when it is text.
    around: Tilted,
}

/// What the detector found.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Found {
    /// With edges along the picture's, and the smallest there is.
    level: Lies,
    tilted: Lies,
    /// How likely its pixels belong to text, on average.
    likely: f32,
}

/// What was looked at.
struct Judged {
    /// What is to be black when it is text.
    around: Tilted,
    holds: Holds,
    line: Line,
}

/// What stands in a box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Text,
    /// Nobody can say.
    Perhaps,
    /// A marker of a side or a projection.
    Marker,
    Nothing,
}

/// Which text becomes black.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    All,
    /// All of it where something speaks to a model, else what is as long as a sentence and cannot be
    /// read: it may do so.
    Instructions,
}

/// Makes text black. Returns the number of boxes.
///
/// # Errors
/// [`TextError`]: the picture may not be shown. [`TextError::TooMuch`] when it is mostly text: a
/// letter, a dose report, or something in which the detector is lost.
pub fn mask(picture: &mut Pixels<'_>, which: Which, percent_max: u32) -> Result<Masked, TextError> {
    let judged = judge(picture)?;
    let speaks = {
        let lines = judged.iter().filter(|one| one.holds == Holds::Text);
        let lines: Vec<&str> = lines.map(|one| one.line.text.as_str()).collect();
        instruction::is_burned_in(&lines)
    };
    let mut masked = Masked { speaks, ..Masked::default() };
    let mut black = vec![false; picture.width * picture.height];
    for Judged { around, holds, line, .. } in judged {
        let is_unread = is_unread(&line);
        let is_meant = match which {
            Which::All => true,
            Which::Instructions => speaks || is_unread,
        };
        if is_unread && matches!(holds, Holds::Text | Holds::Perhaps) {
            masked.unread += 1;
        }
        match holds {
            Holds::Text if is_meant => {}
            Holds::Perhaps if is_meant => masked.unsure += 1,
            Holds::Text | Holds::Perhaps | Holds::Marker | Holds::Nothing => continue,
        }
        masked.boxes += 1;
        for (row, line) in black.chunks_exact_mut(picture.width).enumerate() {
            line[around.touched(row, picture.width)].fill(true);
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
    Ok(masked)
}

/// What there is in a picture, from the top down.
fn judge(picture: &Pixels<'_>) -> Result<Vec<Judged>, TextError> {
    let longer = picture.width.max(picture.height) as f64;
    let mut judged = Vec::new();
    let mut again = 0;
    for (number, found) in find(picture)?.into_iter().enumerate() {
        let (around, likely) = (found.level.around, found.likely);
        if number >= LINES_MAX {
            judged.push(Judged { around, holds: Holds::Text, line: Line::default() });
            continue;
        }
        let area = found.level.line;
        let level = reading::read(picture, area, quarters(area))?;
        let mut one = Judged { around, holds: holds(area, likely, &level, longer), line: level };
        let is_read = match one.holds {
            Holds::Text => true,
            Holds::Marker => !found.tilted.line.is_tilted(),
            Holds::Perhaps | Holds::Nothing => false,
        };
        if !is_read && again == TURNED_MAX {
            one.holds = Holds::Perhaps;
        } else if !is_read {
            again += 1;
            let (lies, quarters) = turned(&found);
            let line = reading::read(picture, lies.line, quarters)?;
            if line.letters >= LETTERS_SURE && line.letters > one.line.letters {
                let holds = holds(lies.line, likely, &line, longer);
                one = Judged { around: lies.around, holds, line };
            }
        }
        judged.push(one);
    }
    Ok(judged)
}

/// Quarters of a turn after which a level box is read first: a line that stands upright may run up or
/// down.
fn quarters(area: Tilted) -> &'static [usize] {
    if area.high() >= UPRIGHT * area.wide() { &[1, 3, 0] } else { &[0] }
}

/// How a box lies that was not read as it stands, and the quarters of a turn after which it is read.
fn turned(found: &Found) -> (Lies, &'static [usize]) {
    let is_tilted = found.tilted.line.is_tilted();
    let lies = if is_tilted { found.tilted } else { found.level };
    let is_long = |wide: f64, high: f64| wide >= UPRIGHT * high;
    let (wide, high) = (lies.line.wide(), lies.line.high());
    let quarters: &[usize] = match is_tilted {
        _ if is_long(high, wide) => &[2],
        true if is_long(wide, high) => &[0, 2],
        true => &[0, 1, 2, 3],
        false if is_long(wide, high) => &[2],
        false => &[1, 2, 3],
    };
    (lies, quarters)
}

/// - `longer`: edge of the picture.
fn holds(area: Tilted, likely: f32, line: &Line, longer: f64) -> Holds {
    let (wide, high) = (area.wide(), area.high());
    let is_usual = wide >= high && high <= LINE_HIGH * longer;
    let letters_min = if is_usual { LETTERS_MIN } else { LETTERS_SURE };
    let is_long = is_usual && wide >= LINE_LONG * high;
    let said: String = line.text.chars().filter(|c| c.is_alphanumeric()).collect();
    if MARKERS.contains(&said.to_lowercase().as_str()) {
        Holds::Marker
    } else if line.letters >= letters_min {
        Holds::Text
    } else if is_long && likely >= SURE {
        Holds::Perhaps
    } else {
        Holds::Nothing
    }
}

/// Whether it is as long as a sentence, and of another script.
fn is_unread(line: &Line) -> bool {
    let count = line.text.chars().filter(|c| !c.is_whitespace()).count();
    count >= SENTENCE_MIN && line.letters < READ_MIN * count as f32
}

/// Boxes in pixels of the picture.
fn find(picture: &Pixels<'_>) -> Result<Vec<Found>, TextError> {
    let Pixels { width: columns, height: rows, samples, ref values } = *picture;
    let is_whole = values.len() == columns * rows * samples;
    if columns == 0 || rows == 0 || !matches!(samples, 1 | 3) || !is_whole {
        return Err(TextError::Picture { found: values.len(), columns, rows });
    }
    let [width, height] = seen(columns, rows);
    let small = resized(picture, width, height)?;
    let map = likelihood(&small, width, height, samples)?;
    let (across, down) = (columns as f64 / width as f64, rows as f64 / height as f64);
    let scaled = |lies: Lies| {
        let of = |one: Tilted| one.scaled(across, down);
        Lies { line: of(lies.line), around: of(lies.around) }
    };
    let within = |lies: Lies| Lies { line: lies.line.within(columns, rows), ..lies };
    let boxes = boxes(&map, width).into_iter();
    Ok(boxes
        .map(|found| Found {
            level: within(scaled(found.level)),
            tilted: scaled(found.tilted),
            ..found
        })
        .collect())
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
    let map = NETWORK.answer(network::planes(values, samples), width, height)?;
    match map.len() == width * height {
        true => Ok(map),
        false => Err(TextError::Model("the answer is no map of the picture".into())),
    }
}

/// Boxes around what lies together in a map, in its pixels, grown to cover whole letters.
fn boxes(map: &[f32], width: usize) -> Vec<Found> {
    let height = map.len() / width;
    let mut is_open: Vec<bool> = map.iter().map(|value| *value > PIXEL_MIN).collect();
    let mut found = Vec::new();
    let mut around = Vec::new();
    // First column of a box and the one after its last, for each row.
    let mut runs = vec![(width, 0); height];
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
            let (first, last) = &mut runs[y];
            (*first, *last) = ((*first).min(x), (*last).max(x + 1));
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
            let own: Vec<_> = (y0..y1).map(|y| (y, runs[y].0, runs[y].1)).collect();
            let level = Tilted::level([x0, y0, x1, y1].map(|edge| edge as f64));
            found.push(Found {
                level: lies(level),
                tilted: lies(Tilted::around(&own)),
                likely: sum / count,
            });
        }
        runs[y0..y1].fill((width, 0));
    }
    found
}

/// What the network marked, grown.
fn lies(marked: Tilted) -> Lies {
    let (w, h) = (marked.wide(), marked.high());
    let line = UNCLIP * w * h / (2.0 * (w + h));
    let grow = line + MARGIN * w.min(h);
    let ends = grow + ENDS * w.min(h);
    let (along, down) = if w >= h { (ends, grow) } else { (grow, ends) };
    Lies { line: marked.grown(line, line), around: marked.grown(along, down) }
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
        let found = mask(&mut seen_as(&mut masked), Which::All, 60).unwrap();
        assert_eq!((found.boxes >= 3, found.speaks), (true, false), "{found:?}");
        for [x0, y0, x1, y1] in LINES {
            let left = (y0..y1).flat_map(|y| (x0..x1).map(move |x| (x, y)));
            let left = left.filter(|(x, y)| masked.get_pixel(*x, *y).0[0] > 0);
            assert_eq!(left.count(), 0, "in {x0} {y0} {x1} {y1}");
        }
        let mut colour: Vec<u8> = whole.iter().flat_map(|value| [*value; 3]).collect();
        let (width, height) = (whole.width() as usize, whole.height() as usize);
        let rgb = &mut Pixels { width, height, samples: 3, values: &mut colour };
        mask(rgb, Which::All, 60).unwrap();
        assert!(colour.iter().step_by(3).eq(masked.iter()), "colour is masked as grey is");
        let kept = whole.iter().zip(masked.iter()).filter(|(before, after)| before == after);
        assert!(kept.count() * 2 > whole.len(), "most of the picture is there");
    }

    /// A film that was laid askew.
    #[test]
    fn a_tilted_line_becomes_black() {
        let whole = fixture("lines.png");
        for degrees in [30.0_f64, 45.0, 180.0] {
            let (sin, cos) = degrees.to_radians().sin_cos();
            let from = |x: f64, y: f64| {
                let (x, y) = (x - 180.0, y - 180.0);
                (160.0 + x * cos + y * sin, 112.0 - x * sin + y * cos)
            };
            let mut tilted = image::GrayImage::from_fn(360, 360, |x, y| {
                let (x, y) = from(f64::from(x), f64::from(y));
                let value = image::imageops::interpolate_bilinear(&whole, x as f32, y as f32);
                value.unwrap_or(image::Luma([0]))
            });
            mask(&mut seen_as(&mut tilted), Which::All, 60).unwrap();
            let left = tilted.enumerate_pixels().filter(|(x, y, value)| {
                let (x, y) = from(f64::from(*x), f64::from(*y));
                let is_in = |[x0, y0, x1, y1]: [u32; 4]| {
                    (f64::from(x0)..f64::from(x1)).contains(&x)
                        && (f64::from(y0)..f64::from(y1)).contains(&y)
                };
                LINES.into_iter().any(is_in) && value.0[0] > 0
            });
            assert_eq!(left.count(), 0, "by {degrees} degrees");
            let kept = tilted.iter().filter(|value| **value > 0).count();
            assert!(kept * 2 > whole.len(), "most of the picture is there: {kept}");
        }
    }

    fn one(line: [f64; 4], likely: f32) -> (Tilted, f32) {
        (Tilted::level(line), likely)
    }

    #[test]
    fn what_holds_letters_is_text_and_what_is_drawn_like_one_is_not() {
        let level = |likely| one([0.0, 0.0, 60.0, 20.0], likely);
        let (upright, high) =
            (one([0.0, 0.0, 20.0, 60.0], 0.99), one([0.0, 0.0, 300.0, 90.0], 0.99));
        let square = one([0.0, 0.0, 20.0, 20.0], 0.99);
        for ((area, likely), text, letters, expected) in [
            (level(0.6), "DOE JANE", 6.9, Holds::Text),
            (level(0.6), "Lee", 1.3, Holds::Text),
            (upright, "DOE JANE", 6.9, Holds::Text),
            (high, "DOE", 2.9, Holds::Text),
            // A skull's edge, a rib, a spine of a cat.
            (upright, "1", 0.7, Holds::Nothing),
            (upright, "64a", 1.3, Holds::Nothing),
            (high, "在在位", 1.24, Holds::Nothing),
            (square, "0", 0.98, Holds::Nothing),
            (level(0.95), "", 0.0, Holds::Nothing),
            // A Korean name.
            (level(0.97), "召", 0.7, Holds::Perhaps),
            (level(0.99), "", 0.0, Holds::Perhaps),
            (level(0.95), "召", 0.7, Holds::Nothing),
            (level(0.99), "R", 1.0, Holds::Marker),
            (square, "L", 0.9, Holds::Marker),
            (level(0.99), "R-MLO", 3.9, Holds::Marker),
            (level(0.99), "R MLO DOE", 6.9, Holds::Text),
        ] {
            let line = Line { text: text.into(), letters };
            assert_eq!(holds(area, likely, &line, 512.0), expected, "{text} {area:?}");
        }
        let line = |text: &str, letters| Line { text: text.into(), letters };
        assert!(is_unread(&line("0型人膏卫导早人|叶卫", 7.0)));
        assert!(!is_unread(&line("0型人膏", 2.0)), "a name is no sentence");
        assert!(!is_unread(&line("TIS<0.4 MI=0.8", 12.0)));
    }

    #[test]
    fn a_picture_that_is_mostly_text_is_refused() {
        let found = mask(&mut seen_as(&mut fixture("lines.png")), Which::All, 1);
        assert!(matches!(found, Err(TextError::TooMuch { percent_max: 1, .. })), "{found:?}");
    }

    #[test]
    fn a_picture_of_another_size_than_it_says_is_refused() {
        for (width, height, samples, count) in [(4, 4, 1, 15), (4, 4, 3, 16), (0, 0, 1, 0)] {
            let mut values = vec![0; count];
            let picture = &mut Pixels { width, height, samples, values: &mut values };
            let found = mask(picture, Which::All, 30);
            assert!(matches!(found, Err(TextError::Picture { .. })), "{found:?}");
        }
        let mut values = vec![9; 7];
        let thin = &mut Pixels { width: 7, height: 1, samples: 1, values: &mut values };
        assert_eq!(mask(thin, Which::All, 30), Ok(Masked::default()));
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
        let line = |w: f64, h: f64| UNCLIP * w * h / (2.0 * (w + h));
        let grow = |w: f64, h: f64| line(w, h) + MARGIN * w.min(h);
        let (block, diagonal) = (grow(5.0, 3.0), grow(3.0, 3.0));
        let expected = [
            [1.0 - (block + 6.0), 1.0 - block, 6.0 + (block + 6.0), 4.0 + block],
            [9.0 - (diagonal + 6.0), 2.0 - diagonal, 12.0 + (diagonal + 6.0), 5.0 + diagonal],
        ];
        let found = boxes(&map, 12);
        assert_eq!(found.len(), expected.len());
        let inner = line(5.0, 3.0);
        let inner = [1.0 - inner, 1.0 - inner, 6.0 + inner, 4.0 + inner];
        let around = found.iter().map(|one| one.level.around).zip(expected);
        for (found, expected) in around.chain([(found[0].level.line, inner)]) {
            let [[x0, y0], _, [x1, y1], _] = found.corners();
            let is_near = |(a, b): (f64, f64)| (a - b).abs() < 1e-9;
            let mut edges = [x0, y0, x1, y1].into_iter().zip(expected);
            assert!(edges.all(is_near), "{found:?} {expected:?}");
        }
        assert!(found[1].tilted.line.is_tilted() && !found[0].tilted.line.is_tilted());
        assert!((found[0].likely - 0.9).abs() < 1e-6, "{}", found[0].likely);
    }

    /// What `measure.py` of the network that reads counts: a line of JSON for each picture.
    #[test]
    #[ignore = "a measurement"]
    #[expect(clippy::disallowed_methods, reason = "where the pictures of a measurement are")]
    fn measured() {
        let folder = std::env::var("PRELIM_TEXT").expect("PRELIM_TEXT names a folder of PNG files");
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "png") {
                continue;
            }
            let picture = image::open(&path).unwrap();
            let samples = if picture.color().has_color() { 3 } else { 1 };
            let (width, height) = (picture.width() as usize, picture.height() as usize);
            let mut values = match samples {
                3 => picture.to_rgb8().into_raw(),
                _ => picture.to_luma8().into_raw(),
            };
            let started = std::time::Instant::now();
            let picture = &mut Pixels { width, height, samples, values: &mut values };
            let judged = judge(picture).unwrap();
            let ms = started.elapsed().as_millis() as u64;
            let boxes = judged.iter().map(|Judged { around, holds, line }| {
                serde_json::json!({"holds": format!("{holds:?}"), "corners": around.corners(),
                    "text": line.text, "letters": line.letters})
            });
            let boxes: Vec<_> = boxes.collect();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let said = serde_json::json!({"file": name, "ms": ms, "boxes": boxes});
            println!("{said}");
        }
    }
}
