//! Stored pixel values, frame by frame, right or refused: never a wrong picture.
//!
//! The header says what must come out; a code stream that says something else is refused.

use std::path::Path;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_dictionary_std::uids;

use crate::imaging::ImagingError;
use crate::imaging::codec;
use crate::imaging::dataset;
use crate::imaging::dataset::DataSet;
use crate::imaging::dataset::PixelElement;
use crate::imaging::dataset::Span;
use crate::imaging::encapsulated::Fragments;
use crate::imaging::native;
use crate::imaging::palette::Palette;

/// Samples in one frame: 11,000 x 11,000 grey, and 512 MiB as we hold them.
pub const FRAME_SAMPLES_MAX: u64 = 128 << 20;
/// Samples in all frames; a longer cine is not decoded in one task anyway.
const FRAMES_MAX: u64 = 1 << 20;

/// Stored values of one frame, row by row, samples of a pixel side by side.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    U8(Vec<u8>),
    I32(Vec<i32>),
    /// Float pixel data, and integers of more than 31 bits.
    F64(Vec<f64>),
}

impl Values {
    pub fn len(&self) -> usize {
        match self {
            Values::U8(values) => values.len(),
            Values::I32(values) => values.len(),
            Values::F64(values) => values.len(),
        }
    }

    pub fn get(&self, at: usize) -> f64 {
        match self {
            Values::U8(values) => values[at].into(),
            Values::I32(values) => values[at].into(),
            Values::F64(values) => values[at],
        }
    }
}

/// What the values of a decoded frame mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// The lowest value is white.
    Monochrome1,
    Monochrome2,
    Palette,
    /// Three samples, red green blue.
    Rgb,
}

/// One decoded frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    pub rows: usize,
    pub columns: usize,
    pub colour: Colour,
    pub values: Values,
}

#[cfg(test)]
impl Frame {
    pub fn samples(&self) -> usize {
        match self.colour {
            Colour::Rgb => 3,
            Colour::Monochrome1 | Colour::Monochrome2 | Colour::Palette => 1,
        }
    }
}

/// Photometric Interpretation (0028,0004) as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Photometric {
    Monochrome1,
    Monochrome2,
    Palette,
    Rgb,
    YbrFull,
    YbrFull422,
    YbrPartial422,
    YbrIct,
    YbrRct,
}

/// The attributes that decide how pixel bytes are read (PS3.3 C.7.6.3).
#[derive(Debug, Clone)]
pub struct Shape {
    pub rows: usize,
    pub columns: usize,
    pub frames: u32,
    pub samples: usize,
    pub bits_allocated: u32,
    pub bits_stored: u32,
    pub high_bit: u32,
    pub signed: bool,
    pub planar: bool,
    pub photometric: Photometric,
    /// Float (4) or Double Float (8) Pixel Data.
    pub float: bool,
}

impl Shape {
    pub fn pixels(&self) -> usize {
        self.rows * self.columns
    }

    fn of(opened: &DataSet, pixels: &PixelElement) -> Result<Shape, ImagingError> {
        let top = opened.fields();
        let count = |tag| top.count(tag);
        let missing = |what: &str| ImagingError::undecodable(format!("{what} is missing"));
        let rows = count(tags::ROWS).ok_or_else(|| missing("Rows"))?;
        let columns = count(tags::COLUMNS).ok_or_else(|| missing("Columns"))?;
        let frames = count(tags::NUMBER_OF_FRAMES).unwrap_or(1).max(1);
        let samples = count(tags::SAMPLES_PER_PIXEL).unwrap_or(1);
        let float = pixels.tag != tags::PIXEL_DATA;
        let bits_allocated = match (count(tags::BITS_ALLOCATED), pixels.tag) {
            (_, tags::FLOAT_PIXEL_DATA) => 32,
            (_, tags::DOUBLE_FLOAT_PIXEL_DATA) => 64,
            (Some(bits), _) => bits,
            (None, _) => return Err(missing("Bits Allocated")),
        };
        let bits_stored = match count(tags::BITS_STORED).unwrap_or(bits_allocated) {
            0 => bits_allocated,
            bits => bits,
        };
        let high_bit = count(tags::HIGH_BIT).unwrap_or(bits_stored.saturating_sub(1));
        let size = u64::from(rows)
            .checked_mul(columns.into())
            .and_then(|size| size.checked_mul(samples.into()))
            .ok_or_else(|| ImagingError::undecodable("the frame is too large"))?;
        let refuse = |why: String| Err(ImagingError::Undecodable(why));
        if size == 0 {
            return refuse("Rows or Columns is 0".into());
        }
        if size > FRAME_SAMPLES_MAX || u64::from(frames) > FRAMES_MAX {
            return refuse(format!(
                "{rows} x {columns} x {samples} samples, {frames} frames is above the limit \
                 of {FRAME_SAMPLES_MAX} samples and {FRAMES_MAX} frames"
            ));
        }
        if !matches!(samples, 1 | 3) {
            return refuse(format!("{samples} samples per pixel"));
        }
        if !matches!(bits_allocated, 1 | 8 | 16 | 32 | 64) {
            return refuse(format!("Bits Allocated {bits_allocated}"));
        }
        if bits_stored > bits_allocated || high_bit >= bits_allocated || high_bit + 1 < bits_stored
        {
            return refuse(format!(
                "Bits Stored {bits_stored} and High Bit {high_bit} in Bits Allocated {bits_allocated}"
            ));
        }
        let photometric = photometric(&top.plain(tags::PHOTOMETRIC_INTERPRETATION), samples)?;
        Ok(Shape {
            rows: rows as usize,
            columns: columns as usize,
            frames,
            samples: samples as usize,
            bits_allocated,
            bits_stored,
            high_bit,
            signed: count(tags::PIXEL_REPRESENTATION) == Some(1),
            planar: samples == 3 && count(tags::PLANAR_CONFIGURATION) == Some(1),
            photometric,
            float,
        })
    }
}

fn photometric(text: &str, samples: u32) -> Result<Photometric, ImagingError> {
    let text = text.to_ascii_uppercase();
    let found = match (text.as_str(), samples) {
        ("MONOCHROME1", 1) => Photometric::Monochrome1,
        ("MONOCHROME2", 1) => Photometric::Monochrome2,
        ("PALETTE COLOR", 1) => Photometric::Palette,
        ("RGB", 3) => Photometric::Rgb,
        ("YBR_FULL", 3) => Photometric::YbrFull,
        ("YBR_FULL_422", 3) => Photometric::YbrFull422,
        ("YBR_PARTIAL_422", 3) => Photometric::YbrPartial422,
        ("YBR_ICT", 3) => Photometric::YbrIct,
        ("YBR_RCT", 3) => Photometric::YbrRct,
        _ => {
            let known = text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_');
            let known: String = known.take(16).collect();
            return Err(ImagingError::undecodable(format!(
                "Photometric Interpretation '{known}' with {samples} samples per pixel"
            )));
        }
    };
    Ok(found)
}

/// How the bytes of Pixel Data are packed.
enum Packing {
    /// Native, whole value from `offset` with `length` bytes.
    Native {
        offset: u64,
        length: u64,
        big: bool,
    },
    Encapsulated(Fragments),
}

/// An opened image, decoded frame by frame.
pub struct Image {
    pub data: DataSet,
    pub shape: Shape,
    packing: Packing,
    palette: Option<Palette>,
}

impl Image {
    /// Opens a Part 10 file and checks what its header promises; decodes nothing yet.
    ///
    /// # Errors
    /// [`ImagingError`] when it cannot be decoded for certain, with the reason.
    pub fn open(path: &Path) -> Result<Image, ImagingError> {
        Image::of(DataSet::open(path)?)
    }

    pub fn of(mut data: DataSet) -> Result<Image, ImagingError> {
        let Some(pixels) = data.pixels.clone() else { return Err(ImagingError::NoPixels) };
        let shape = Shape::of(&data, &pixels)?;
        let packing = packing(&mut data, &pixels, &shape)?;
        let palette = match shape.photometric {
            Photometric::Palette => Some(Palette::of(&data.fields())?),
            _ => None,
        };
        Ok(Image { data, shape, packing, palette })
    }

    /// Decodes frame `number` (from 0) to stored values, YBR converted to RGB.
    ///
    /// # Errors
    /// [`ImagingError::Undecodable`] with the reason; also when a codec panics, so that one
    /// broken instance does not take the others of its task with it.
    pub fn frame(&mut self, number: u32) -> Result<Frame, ImagingError> {
        let decoding = std::panic::AssertUnwindSafe(|| self.decode(number));
        std::panic::catch_unwind(decoding)
            .unwrap_or_else(|_| Err(ImagingError::undecodable("the decoder stumbled over it")))
    }

    /// The same for a picture of at most `edge_px`: smaller where the code stream can give it so for
    /// less work, and no value stands for something else than its grey level.
    ///
    /// # Errors
    /// As [`Image::frame`].
    pub fn frame_for(&mut self, number: u32, edge_px: u32) -> Result<Frame, ImagingError> {
        let padded = self.data.fields().get(tags::PIXEL_PADDING_VALUE).is_some();
        let blends = !padded && self.palette.is_none() && number < self.shape.frames;
        if !blends || !codec::halves(self.data.transfer_syntax.as_str()) {
            return self.frame(number);
        }
        let Image { data, shape, packing: Packing::Encapsulated(fragments), .. } = self else {
            return self.frame(number);
        };
        let halving = std::panic::AssertUnwindSafe(|| {
            let bytes = fragments.frame(data, number).ok()?;
            let halved = codec::decode_halved(&bytes, shape, edge_px as usize)?;
            let (values, decoded, smaller) = halved;
            let (values, colour) = to_colour(values, decoded, &smaller).ok()?;
            Some(Frame { rows: smaller.rows, columns: smaller.columns, colour, values })
        });
        match std::panic::catch_unwind(halving).unwrap_or_default() {
            Some(frame) => Ok(frame),
            None => self.frame(number),
        }
    }

    fn decode(&mut self, number: u32) -> Result<Frame, ImagingError> {
        if number >= self.shape.frames {
            return Err(ImagingError::undecodable(format!("there is no frame {}", number + 1)));
        }
        let Image { data, shape, packing, .. } = self;
        let (values, decoded) = match packing {
            Packing::Native { offset, length, big } => {
                let source = native::Source { offset: *offset, length: *length, big: *big };
                native::frame(data, shape, &source, number)?
            }
            Packing::Encapsulated(fragments) => {
                let bytes = fragments.frame(data, number)?;
                codec::decode(data.transfer_syntax.as_str(), &bytes, shape)?
            }
        };
        let pixels = shape.pixels();
        let (values, colour) = to_colour(values, decoded, shape)?;
        if values.len() != pixels * if colour == Colour::Rgb { 3 } else { 1 } {
            return Err(ImagingError::undecodable("the decoded frame has another size"));
        }
        Ok(Frame { rows: shape.rows, columns: shape.columns, colour, values })
    }

    /// Where frame `number` (from 0) lies in the source, when it is not compressed and its bytes
    /// are in the order of Explicit VR Little Endian.
    pub fn native_span(&self, number: u32) -> Option<Span> {
        match &self.packing {
            Packing::Native { offset, length, big } => {
                let source = native::Source { offset: *offset, length: *length, big: *big };
                native::span(&self.shape, &source, number)
            }
            Packing::Encapsulated(_) => None,
        }
    }

    /// Pixel Aspect Ratio (0028,0034) as written: height and width of a pixel.
    pub fn stated_aspect(&self) -> Option<[f64; 2]> {
        match self.data.fields().numbers(tags::PIXEL_ASPECT_RATIO)[..] {
            [vertical, horizontal] if vertical > 0.0 && horizontal > 0.0 => {
                Some([vertical, horizontal])
            }
            _ => None,
        }
    }

    /// The look-up table of a PALETTE COLOR image.
    pub fn palette(&self) -> Option<&Palette> {
        self.palette.as_ref()
    }
}

/// Whether pictures in a transfer syntax are decoded here.
pub fn is_decoded(transfer_syntax: &str) -> bool {
    is_native(transfer_syntax) || codec::supported(transfer_syntax).is_ok()
}

fn is_native(transfer_syntax: &str) -> bool {
    matches!(
        transfer_syntax,
        uids::IMPLICIT_VR_LITTLE_ENDIAN
            | uids::EXPLICIT_VR_LITTLE_ENDIAN
            | dataset::BIG_ENDIAN
            | uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
            | dataset::GE_PRIVATE
    )
}

fn packing(
    data: &mut DataSet,
    pixels: &PixelElement,
    shape: &Shape,
) -> Result<Packing, ImagingError> {
    let syntax = data.transfer_syntax.as_str().to_owned();
    match (is_native(&syntax), pixels.length) {
        (true, Some(length)) => {
            let big = data.encoding().big || syntax == dataset::GE_PRIVATE;
            let swapped = big && (shape.bits_allocated > 8 || pixels.vr != VR::OB);
            Ok(Packing::Native { offset: pixels.offset, length, big: swapped })
        }
        (true, None) => Err(ImagingError::undecodable(
            "the pixels are encapsulated, the transfer syntax says they are not",
        )),
        (false, Some(_)) => Err(ImagingError::undecodable(
            "the pixels are not encapsulated, the transfer syntax says they are",
        )),
        (false, None) => {
            codec::supported(&syntax)?;
            Ok(Packing::Encapsulated(Fragments::find(data, pixels.offset, shape.frames)?))
        }
    }
}

/// What came out of a codec, before the colour conversion that is still due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoded {
    /// As the header's Photometric Interpretation says.
    AsStored,
    /// The codec has already made RGB.
    Rgb,
    /// Luminance and chrominance, full range, whatever the header says.
    YbrFull,
}

fn to_colour(
    values: Values,
    decoded: Decoded,
    shape: &Shape,
) -> Result<(Values, Colour), ImagingError> {
    let bits = shape.bits_stored;
    match (decoded, shape.photometric) {
        (_, Photometric::Monochrome1) => Ok((values, Colour::Monochrome1)),
        (_, Photometric::Monochrome2) => Ok((values, Colour::Monochrome2)),
        (_, Photometric::Palette) => Ok((values, Colour::Palette)),
        (Decoded::Rgb, _) | (Decoded::AsStored, Photometric::Rgb) => Ok((values, Colour::Rgb)),
        (Decoded::YbrFull, _)
        | (Decoded::AsStored, Photometric::YbrFull | Photometric::YbrFull422) => {
            Ok((ybr_to_rgb(values, bits, false)?, Colour::Rgb))
        }
        (Decoded::AsStored, Photometric::YbrPartial422) => {
            Ok((ybr_to_rgb(values, bits, true)?, Colour::Rgb))
        }
        (Decoded::AsStored, Photometric::YbrIct | Photometric::YbrRct) => {
            Err(ImagingError::undecodable("a JPEG 2000 colour space without JPEG 2000 compression"))
        }
    }
}

/// YBR to RGB (PS3.3 C.7.6.3.1.2). `partial`: luminance 16 to 235, chrominance 16 to 240.
fn ybr_to_rgb(values: Values, bits: u32, partial: bool) -> Result<Values, ImagingError> {
    if partial && bits != 8 {
        return Err(ImagingError::undecodable("YBR_PARTIAL_422 that is not 8 bits"));
    }
    let top = f64::from(2u32.saturating_pow(bits.min(31)) - 1);
    let half = f64::from(1u32 << (bits.clamp(1, 31) - 1));
    let convert = |ybr: [f64; 3]| -> [f64; 3] {
        let (y, b, r) = match partial {
            false => (ybr[0], ybr[1] - half, ybr[2] - half),
            true => {
                let scale = 255.0 / 224.0;
                let chroma = |c: f64| (c - 128.0) * scale;
                ((ybr[0] - 16.0) * 255.0 / 219.0, chroma(ybr[1]), chroma(ybr[2]))
            }
        };
        let rgb = [y + 1.402 * r, y - 0.344136 * b - 0.714136 * r, y + 1.772 * b];
        rgb.map(|sample| sample.round().clamp(0.0, top))
    };
    Ok(match values {
        Values::U8(mut bytes) => {
            for pixel in bytes.chunks_exact_mut(3) {
                let rgb = convert([pixel[0].into(), pixel[1].into(), pixel[2].into()]);
                pixel.copy_from_slice(&rgb.map(|sample| sample as u8));
            }
            Values::U8(bytes)
        }
        Values::I32(mut words) => {
            for pixel in words.chunks_exact_mut(3) {
                let rgb = convert([pixel[0].into(), pixel[1].into(), pixel[2].into()]);
                pixel.copy_from_slice(&rgb.map(|sample| sample as i32));
            }
            Values::I32(words)
        }
        Values::F64(_) => return Err(ImagingError::undecodable("colour of more than 16 bits")),
    })
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::imaging::dataset::tests::long;
    use crate::imaging::dataset::tests::part10;
    use crate::imaging::dataset::tests::short;

    /// A grey image whose header says what it is told to and whose pixels are what is given.
    pub fn image(syntax: &str, rows: u16, columns: u16, frames: &str, pixels: &[u8]) -> Vec<u8> {
        let number = |tag, value: u16| short(tag, b"US", &value.to_le_bytes());
        let mut set = short(tags::SOP_CLASS_UID, b"UI", b"1.2.840.10008.5.1.4.1.1.2\0");
        set.extend(short(tags::SOP_INSTANCE_UID, b"UI", b"1.2.3.4\0"));
        set.extend(short(tags::MODALITY, b"CS", b"CT"));
        set.extend(short(tags::STUDY_INSTANCE_UID, b"UI", b"1.2.3\0"));
        set.extend(short(tags::SERIES_INSTANCE_UID, b"UI", b"1.2.3.5\0"));
        set.extend(number(tags::SAMPLES_PER_PIXEL, 1));
        set.extend(short(tags::PHOTOMETRIC_INTERPRETATION, b"CS", b"MONOCHROME2 "));
        set.extend(short(tags::NUMBER_OF_FRAMES, b"IS", frames.as_bytes()));
        set.extend(number(tags::ROWS, rows));
        set.extend(number(tags::COLUMNS, columns));
        set.extend(number(tags::BITS_ALLOCATED, 16));
        set.extend(number(tags::BITS_STORED, 16));
        set.extend(number(tags::HIGH_BIT, 15));
        set.extend(number(tags::PIXEL_REPRESENTATION, 0));
        if syntax == uids::EXPLICIT_VR_LITTLE_ENDIAN {
            set.extend(long(tags::PIXEL_DATA, b"OW", pixels.len() as u32, pixels));
        } else {
            let item = |bytes: &[u8]| {
                let length = (bytes.len() as u32).to_le_bytes();
                [&[0xfe, 0xff, 0x00, 0xe0], &length[..], bytes].concat()
            };
            let end = [0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0].to_vec();
            let value = [item(&[]), item(pixels), end].concat();
            set.extend(long(tags::PIXEL_DATA, b"OB", u32::MAX, &value));
        }
        part10(syntax, &set)
    }

    fn refusal(file: Vec<u8>) -> String {
        let opened = Image::of(DataSet::of(file).unwrap());
        opened.and_then(|mut image| image.frame(0)).unwrap_err().to_string()
    }

    /// A JPEG 2000 main header of this size, and nothing behind it.
    pub fn j2k_header(width: u32, height: u32) -> Vec<u8> {
        let mut stream = vec![0xff, 0x4f, 0xff, 0x51, 0, 41, 0, 0];
        for number in [width, height, 0, 0, width, height, 0, 0] {
            stream.extend(number.to_be_bytes());
        }
        stream.extend([0, 1, 15, 1, 1]);
        stream.extend([0xff, 0x90, 0, 10, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0x93, 0x00, 0x00]);
        stream
    }

    #[test]
    fn sizes_are_bounded_before_anything_is_decoded() {
        let native = uids::EXPLICIT_VR_LITTLE_ENDIAN;
        let said = refusal(image(native, 65_535, 65_535, "2147483647", &[0; 4]));
        assert!(said.contains("above the limit"), "{said}");
        let said = refusal(image(native, 512, 512, "2147483647", &[0; 4]));
        assert!(said.contains("above the limit"), "{said}");
        let said = refusal(image(native, 512, 512, "1", &[0; 4]));
        assert!(said.contains("cut short"), "{said}");
        let said = refusal(image(native, 0, 512, "1", &[0; 4]));
        assert!(said.contains("is 0"), "{said}");
    }

    /// A cine that was stopped: the header says six frames, four came.
    #[test]
    fn the_frames_that_came_are_shown_and_the_others_are_said_to_be_missing() {
        // Two bytes of each of four pixels, one run each.
        let rle = |value: u8| {
            let mut frame = vec![0u8; 64];
            (frame[0], frame[4], frame[8]) = (2, 64, 66);
            frame.extend([253, 0, 253, value]);
            frame
        };
        let item = |bytes: &[u8]| {
            let length = (bytes.len() as u32).to_le_bytes();
            [&[0xfe, 0xff, 0x00, 0xe0], &length[..], bytes].concat()
        };
        let fragment = rle(0).len() as u32 + 8;
        let table = |offsets: &[u32]| offsets.iter().flat_map(|o| o.to_le_bytes()).collect();
        let all = [0, fragment, 2 * fragment, 3 * fragment];
        let tables: [Vec<u8>; 4] = [
            vec![],
            table(&all),
            table(&[&all[..], &[0, 0]].concat()),
            table(&[&all[..], &[4 * fragment, 5 * fragment]].concat()),
        ];
        for offsets in tables {
            // In the place of the only fragment that the sample knows.
            let whole = image(uids::RLE_LOSSLESS, 2, 2, "6 ", &[]);
            let head = whole.len() - 8 - 8 - 8;
            let mut file = whole[..head].to_vec();
            file.extend(item(&offsets));
            (10..14).for_each(|value| file.extend(item(&rle(value))));
            file.extend([0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0]);
            let mut opened = Image::of(DataSet::of(file).unwrap()).unwrap();
            for (number, value) in (0..4).zip(10..) {
                let frame = opened.frame(number).unwrap();
                assert_eq!(frame.values, Values::I32(vec![value; 4]), "{offsets:?} {number}");
            }
            for number in [4, 5] {
                let said = opened.frame(number).unwrap_err().to_string();
                assert!(said.contains("4 of 6 frames came"), "{offsets:?}: {said}");
            }
        }
    }

    #[test]
    fn a_code_stream_that_lies_or_breaks_off_is_refused() {
        let syntax = uids::JPEG2000_LOSSLESS;
        let said = refusal(image(syntax, 512, 512, "1", &j2k_header(65_535, 65_535)));
        assert!(said.contains("65535 x 65535, the header says 512 x 512"), "{said}");
        let said = refusal(image(syntax, 10_000, 10_000, "1", &j2k_header(10_000, 10_000)));
        assert!(said.contains("cut short"), "{said}");
        for syntax in [syntax, uids::JPEG_BASELINE8_BIT, uids::JPEGLS_LOSSLESS, uids::RLE_LOSSLESS]
        {
            for rubbish in [&[][..], &[0xff; 64], &[0xff, 0xd8, 0xff, 0xda, 0, 2], &[0; 64]] {
                let said = refusal(image(syntax, 8, 8, "1", rubbish));
                assert!(said.starts_with("cannot decode: "), "{said}");
            }
        }
        let said = refusal(image("1.2.840.10008.1.2.4.102", 8, 8, "1", &[0; 8]));
        assert!(said.contains("video"), "{said}");
    }

    #[test]
    fn unused_bits_are_dropped_and_signs_extended() {
        let mut shape = Shape {
            rows: 1,
            columns: 2,
            frames: 1,
            samples: 1,
            bits_allocated: 16,
            bits_stored: 12,
            high_bit: 11,
            signed: true,
            planar: false,
            photometric: Photometric::Monochrome2,
            float: false,
        };
        let words = || [0xf830u16, 0x1005].into_iter();
        assert_eq!(native::narrow(words(), &shape), Values::I32(vec![-2000, 5]));
        shape.signed = false;
        assert_eq!(native::narrow(words(), &shape), Values::I32(vec![0x830, 5]));
        shape.high_bit = 15;
        assert_eq!(native::narrow(words(), &shape), Values::I32(vec![0xf83, 0x100]));
    }

    #[test]
    fn ybr_becomes_rgb_as_the_standard_says() {
        let ybr = Values::U8(vec![76, 85, 255, 255, 128, 128, 0, 128, 128]);
        let rgb = ybr_to_rgb(ybr, 8, false).unwrap();
        assert_eq!(rgb, Values::U8(vec![254, 0, 0, 255, 255, 255, 0, 0, 0]));
    }
}
