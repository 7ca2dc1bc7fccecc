//! Sheets: several pictures on one, for a gateway that takes few in a request. Made of the encoded
//! pictures, so nothing is on a sheet that is not on a picture, and what was masked stays masked.

use image::DynamicImage;
use sha2::Digest as _;
use sha2::Sha256;

use crate::domain::picture::Picture;
use crate::domain::picture::PictureFormat;
use crate::domain::picture::PicturePlan;
use crate::domain::picture::PictureRef;
use crate::domain::picture::Tile;
use crate::domain::text;
use crate::imaging::ImagingError;
use crate::imaging::picture;
use crate::imaging::picture::BYTES_MAX;
use crate::imaging::picture::EDGE_MAX_PX;
use crate::imaging::window::Raster;

/// Above each tile, for its number; never on the picture itself.
const STRIP_PX: u32 = 22;
const GAP_PX: u32 = 4;
/// Each dot of a digit.
const DOT_PX: usize = 2;
/// Digits of 5 x 7 dots, a row each from the top, the leftmost dot in bit 4.
const DIGITS: [[u8; 7]; 10] = [
    [14, 17, 19, 21, 25, 17, 14],
    [4, 12, 4, 4, 4, 4, 14],
    [14, 17, 1, 2, 4, 8, 31],
    [31, 2, 4, 2, 1, 17, 14],
    [2, 6, 10, 18, 31, 2, 2],
    [31, 16, 30, 1, 1, 17, 14],
    [6, 8, 16, 30, 17, 17, 14],
    [31, 1, 2, 4, 8, 8, 8],
    [14, 17, 17, 14, 17, 17, 14],
    [14, 17, 17, 15, 1, 2, 12],
];

/// Puts pictures on at most `sheets_max` sheets, in their order; each keeps its number, which is
/// drawn above it.
///
/// - `pictures`: as `picture::pictures` made them. As many as there may be or fewer come back as
///   they are.
///
/// # Errors
/// [`ImagingError::Picture`] when one cannot be opened or a sheet cannot be written.
pub fn sheets(pictures: Vec<Picture>, sheets_max: u32) -> Result<Vec<Picture>, ImagingError> {
    let each = pictures.len().div_ceil(sheets_max.max(1) as usize);
    if each <= 1 {
        return Ok(pictures);
    }
    (1..).zip(pictures.chunks(each)).map(|(number, tiles)| sheet(number, tiles)).collect()
}

fn sheet(number: u32, pictures: &[Picture]) -> Result<Picture, ImagingError> {
    let columns = (pictures.len() as f64).sqrt().ceil() as u32;
    let rows = (pictures.len() as u32).div_ceil(columns);
    let edge = |of: &dyn Fn(&PictureRef) -> u32| {
        pictures.iter().map(|picture| of(&picture.reference)).max().unwrap_or(1)
    };
    let wide = edge(&|p| p.width_px).min(EDGE_MAX_PX / columns - GAP_PX);
    let high = edge(&|p| p.height_px).min(EDGE_MAX_PX / rows - GAP_PX - STRIP_PX);
    let opened: Vec<Raster> =
        pictures.iter().map(|p| fitted(p, wide, high)).collect::<Result<_, _>>()?;
    let samples = opened.iter().map(|raster| raster.samples).max().unwrap_or(1);
    let (width, height) = (columns * (wide + GAP_PX), rows * (high + GAP_PX + STRIP_PX));
    let (wide_px, high_px) = (f64::from(width), f64::from(height));
    let (width, height) = (width as usize, height as usize);
    let mut page = Raster { width, height, samples, pixels: vec![0; width * height * samples] };
    let mut tiles = Vec::new();
    for ((at, picture), raster) in (0..).zip(pictures).zip(&opened) {
        let (row, column) = (at / columns, at % columns);
        let left = (column * (wide + GAP_PX)) as usize;
        let top = (row * (high + GAP_PX + STRIP_PX)) as usize;
        write(&mut page, picture.reference.number, left, top + 4);
        let top = top + STRIP_PX as usize;
        put(&mut page, raster, left, top);
        let (x0, y0) = (left as f64, top as f64);
        let (x1, y1) = (x0 + raster.width as f64, y0 + raster.height as f64);
        tiles.push(Tile {
            picture: picture.reference.clone(),
            row: row + 1,
            column: column + 1,
            place: [x0 / wide_px, y0 / high_px, x1 / wide_px, y1 / high_px],
        });
    }
    let format = match pictures[0].media_type {
        "image/png" => PictureFormat::Png,
        _ => PictureFormat::Jpeg,
    };
    let plan = PicturePlan {
        format,
        edge_max_px: EDGE_MAX_PX,
        bytes_max: BYTES_MAX,
        ..PicturePlan::default()
    };
    let encoded = picture::encode(&page, 1.0, &plan)?;
    Ok(Picture {
        reference: PictureRef {
            number,
            image: pictures[0].reference.image.clone(),
            window: pictures[0].reference.window.clone(),
            width_px: encoded.width,
            height_px: encoded.height,
            source_columns: width as u32,
            source_rows: height as u32,
            file: String::new(),
            digest: text::hex(&Sha256::digest(&encoded.bytes)),
            masked: None,
            unsure: 0,
            unread: 0,
            speaks: false,
            tiles,
        },
        media_type: picture::media_type(format),
        bytes: encoded.bytes,
    })
}

/// A picture, scaled down where it is larger than its tile.
fn fitted(picture: &Picture, wide: u32, high: u32) -> Result<Raster, ImagingError> {
    let wrong = |e| ImagingError::Picture(format!("a picture for a sheet: {e}"));
    let raster = match image::load_from_memory(&picture.bytes).map_err(wrong)? {
        DynamicImage::ImageLuma8(grey) => Raster {
            width: grey.width() as usize,
            height: grey.height() as usize,
            samples: 1,
            pixels: grey.into_raw(),
        },
        other => {
            let rgb = other.into_rgb8();
            let (width, height) = (rgb.width() as usize, rgb.height() as usize);
            Raster { width, height, samples: 3, pixels: rgb.into_raw() }
        }
    };
    let (width, height) = (raster.width as f64, raster.height as f64);
    let scale = (f64::from(wide) / width).min(f64::from(high) / height).min(1.0);
    let whole = |length: f64| (length * scale).round().max(1.0) as u32;
    let (width, height) = (whole(width).min(wide), whole(height).min(high));
    let pixels = picture::resize(&raster, width, height)?;
    Ok(Raster { width: width as usize, height: height as usize, pixels, ..raster })
}

fn put(page: &mut Raster, raster: &Raster, left: usize, top: usize) {
    let samples = page.samples;
    for (y, line) in raster.pixels.chunks_exact(raster.width * raster.samples).enumerate() {
        let start = ((top + y) * page.width + left) * samples;
        let to = &mut page.pixels[start..start + raster.width * samples];
        match raster.samples == samples {
            true => to.copy_from_slice(line),
            false => to.chunks_exact_mut(samples).zip(line).for_each(|(to, grey)| to.fill(*grey)),
        }
    }
}

/// A number in white.
fn write(page: &mut Raster, number: u32, left: usize, top: usize) {
    let mut left = left + DOT_PX;
    for digit in number.to_string().bytes().map(|byte| DIGITS[usize::from(byte - b'0')]) {
        let dots = (0..7).flat_map(|y| (0..5).map(move |x| (x, y)));
        for (x, y) in dots.filter(|(x, y)| digit[*y] >> (4 - x) & 1 == 1) {
            for line in 0..DOT_PX {
                let start =
                    ((top + y * DOT_PX + line) * page.width + left + x * DOT_PX) * page.samples;
                page.pixels[start..start + DOT_PX * page.samples].fill(255);
            }
        }
        left += 6 * DOT_PX;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::picture::ImageRef;
    use crate::imaging::picture::compress;
    use crate::imaging::select::tests::slice;

    /// A picture in one grey level, or a colour.
    fn flat(number: u32, width: u32, height: u32, colour: &[u8]) -> Picture {
        let instance = slice(number as i32, 0.0);
        let pixels = colour.repeat((width * height) as usize);
        let format = PictureFormat::Png;
        let bytes = compress(&pixels, width, height, colour.len(), format, 90).unwrap();
        Picture {
            reference: PictureRef {
                number,
                image: ImageRef {
                    sop_class_uid: instance.sop_class_uid,
                    sop_instance_uid: instance.sop_instance_uid,
                    series_uid: instance.series_uid,
                    frame: None,
                },
                window: "lung".into(),
                width_px: width,
                height_px: height,
                source_columns: 512,
                source_rows: 512,
                file: format!("picture-{number:02}.png"),
                digest: String::new(),
                masked: None,
                unsure: 0,
                unread: 0,
                speaks: false,
                tiles: Vec::new(),
            },
            media_type: "image/png",
            bytes,
        }
    }

    #[test]
    fn as_many_as_there_may_be_stay_as_they_are() {
        let pictures: Vec<Picture> = (1..=4).map(|n| flat(n, 64, 64, &[9])).collect();
        assert_eq!(sheets(pictures.clone(), 4).unwrap(), pictures);
        assert_eq!(sheets(Vec::new(), 1).unwrap(), []);
    }

    /// Each picture in its own grey level: what lies at a tile's place on the sheet is that picture,
    /// all of it, and its number stands above.
    #[test]
    fn each_tile_lies_where_the_sheet_says() {
        for (count, sheets_max, sizes) in [
            (24, 6, vec![4; 6]),
            (24, 5, vec![5, 5, 5, 5, 4]),
            (7, 3, vec![3, 3, 1]),
            (64, 1, vec![64]),
            (2, 1, vec![2]),
        ] {
            let grey = |n: u32| (40 + n * 3) as u8;
            let sized = |n: u32| if n.is_multiple_of(3) { (200, 320) } else { (512, 384) };
            let pictures: Vec<Picture> =
                (1..=count).map(|n| flat(n, sized(n).0, sized(n).1, &[grey(n)])).collect();
            let made = sheets(pictures, sheets_max).unwrap();
            let found: Vec<usize> = made.iter().map(|sheet| sheet.reference.tiles.len()).collect();
            assert_eq!(found, sizes, "{count} pictures on {sheets_max}");
            let mut next = 0;
            for sheet in &made {
                assert!(sheet.reference.width_px <= 2048 && sheet.reference.height_px <= 2048);
                let page = image::load_from_memory(&sheet.bytes).unwrap().into_luma8();
                let at = |x: f64, y: f64| {
                    let (x, y) = (x * f64::from(page.width()), y * f64::from(page.height()));
                    page.get_pixel(x as u32, y as u32).0[0]
                };
                for Tile { picture, place: [x0, y0, x1, y1], .. } in &sheet.reference.tiles {
                    next += 1;
                    assert_eq!(picture.number, next);
                    let (x, y) = (0.5 / f64::from(page.width()), 0.5 / f64::from(page.height()));
                    for (x, y) in [(x0 + x, y0 + y), (x1 - x, y1 - y), (x0 + x, y1 - y)] {
                        assert_eq!(at(x, y), grey(next), "tile {next} of {count}");
                    }
                    assert!(at(x1 + x, y1 - y) != grey(next), "beyond tile {next}");
                    let wide = (x1 - x0) * f64::from(page.width());
                    let high = (y1 - y0) * f64::from(page.height());
                    let ratio = f64::from(sized(next).0) / f64::from(sized(next).1);
                    assert!((wide / high / ratio - 1.0).abs() < 0.02, "{wide} x {high}");
                    let top = (y0 * f64::from(page.height())) as u32;
                    let strip = (top - STRIP_PX..top).flat_map(|y| {
                        let left = (x0 * f64::from(page.width())) as u32;
                        (left..left + 30).map(move |x| (x, y))
                    });
                    let white = strip.filter(|(x, y)| page.get_pixel(*x, *y).0[0] == 255).count();
                    assert!(white >= 32, "no number above tile {next}");
                }
            }
        }
    }

    #[test]
    fn one_picture_in_colour_makes_a_sheet_in_colour() {
        let made =
            sheets(vec![flat(1, 64, 64, &[90]), flat(2, 64, 64, &[200, 10, 10])], 1).unwrap();
        let page = image::load_from_memory(&made[0].bytes).unwrap().into_rgb8();
        assert_eq!(page.get_pixel(30, 50).0, [90, 90, 90]);
        assert_eq!(page.get_pixel(100, 50).0, [200, 10, 10]);
        let broken = Picture { bytes: vec![1, 2, 3], ..flat(1, 8, 8, &[1]) };
        assert!(sheets(vec![broken, flat(2, 8, 8, &[1])], 1).is_err());
    }
}
