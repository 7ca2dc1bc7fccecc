//! Uncompressed pixels (PS3.5 8.1): bits, bytes and words in either order.

use crate::imaging::ImagingError;
use crate::imaging::dataset::DataSet;
use crate::imaging::dataset::Span;
use crate::imaging::decode::Decoded;
use crate::imaging::decode::Photometric;
use crate::imaging::decode::Shape;
use crate::imaging::decode::Values;

/// Where native Pixel Data lies; `big`: its words are big endian (also 8-bit samples in OW).
pub struct Source {
    pub offset: u64,
    pub length: u64,
    pub big: bool,
}

/// Reads one frame.
///
/// # Errors
/// When the value is shorter than the header's numbers need.
pub fn frame(
    data: &mut DataSet,
    shape: &Shape,
    source: &Source,
    number: u32,
) -> Result<(Values, Decoded), ImagingError> {
    let number = u64::from(number);
    if shape.bits_allocated == 1 {
        return bits(data, shape, source, number).map(|values| (values, Decoded::AsStored));
    }
    let bytes_per_sample = u64::from(shape.bits_allocated / 8);
    let (frame_bytes, subsampled) = frame_bytes(shape, source);
    if subsampled && (shape.columns % 2 == 1 || shape.bits_allocated != 8) {
        return Err(ImagingError::undecodable("4:2:2 with odd Columns or more than 8 bits"));
    }
    let start = number * frame_bytes;
    let bytes = match source.big && bytes_per_sample == 1 {
        true => read_swapped(data, source, start, frame_bytes)?,
        false => read(data, source, start, frame_bytes)?,
    };
    let bytes = if subsampled { upsample_422(&bytes) } else { bytes };
    let values = to_values(bytes, shape, source.big)?;
    let values = if shape.planar && !subsampled { interleave(values) } else { values };
    Ok((values, Decoded::AsStored))
}

/// Where frame `number` lies in the source, when its bytes are those of Explicit VR Little Endian.
pub fn span(shape: &Shape, source: &Source, number: u32) -> Option<Span> {
    if source.big || shape.bits_allocated < 8 {
        return None;
    }
    let (length, _) = frame_bytes(shape, source);
    let start = u64::from(number) * length;
    (start + length <= source.length).then_some(Span { offset: source.offset + start, length })
}

/// Bytes of one frame, and whether its chrominance is halved.
fn frame_bytes(shape: &Shape, source: &Source) -> (u64, bool) {
    let pixels = shape.pixels() as u64;
    let bytes_per_sample = u64::from(shape.bits_allocated / 8);
    let whole = pixels * shape.samples as u64 * bytes_per_sample;
    let is_422 = matches!(shape.photometric, Photometric::YbrFull422 | Photometric::YbrPartial422);
    let subsampled = is_422 && !holds_all_samples(whole, source.length, shape.frames);
    (if subsampled { pixels * 2 * bytes_per_sample } else { whole }, subsampled)
}

/// Whether a value declared 4:2:2 holds three samples for each pixel all the same (some
/// devices convert and leave the old Photometric Interpretation).
fn holds_all_samples(whole: u64, length: u64, frames: u32) -> bool {
    length >= whole.saturating_mul(frames.into())
}

/// 8-bit samples in big endian words stand in swapped pairs, and a frame may begin in the
/// middle of a word.
fn read_swapped(
    data: &mut DataSet,
    source: &Source,
    start: u64,
    length: u64,
) -> Result<Vec<u8>, ImagingError> {
    let from = start & !1;
    let upto = start.saturating_add(length).next_multiple_of(2);
    let mut bytes = read(data, source, from, upto - from)?;
    bytes.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
    let skip = (start - from) as usize;
    Ok(bytes[skip..skip + length as usize].to_vec())
}

/// `length` bytes from `start` of the value.
fn read(
    data: &mut DataSet,
    source: &Source,
    start: u64,
    length: u64,
) -> Result<Vec<u8>, ImagingError> {
    let end = start.saturating_add(length);
    let short = || {
        let have = source.length.min(data.available(source.offset));
        ImagingError::undecodable(format!(
            "the pixels are cut short: {have} bytes where {end} are needed"
        ))
    };
    if end > source.length.min(data.available(source.offset)) {
        return Err(short());
    }
    Ok(data.bytes(source.offset + start, length)?)
}

fn bits(
    data: &mut DataSet,
    shape: &Shape,
    source: &Source,
    number: u64,
) -> Result<Values, ImagingError> {
    if shape.samples != 1 {
        return Err(ImagingError::undecodable("1 bit with several samples per pixel"));
    }
    // Frames follow each other without padding (PS3.5 8.1.1), in words of 16 bits.
    let pixels = shape.pixels() as u64;
    let first = number * pixels;
    let (from, upto) = (first / 16 * 2, (first + pixels).div_ceil(16) * 2);
    let upto = upto.min(source.length);
    let bytes = read(data, source, from, upto.saturating_sub(from))?;
    let skip = (first - from * 8) as usize;
    if (bytes.len() * 8).saturating_sub(skip) < pixels as usize {
        return Err(ImagingError::undecodable("the pixels are cut short"));
    }
    let bit = |at: usize| {
        let byte = if source.big { (at / 8) ^ 1 } else { at / 8 };
        bytes.get(byte).map_or(0, |byte| byte >> (at % 8) & 1)
    };
    Ok(Values::U8((skip..skip + pixels as usize).map(bit).collect()))
}

/// Y1 Y2 Cb Cr for each two pixels to three samples for each pixel.
fn upsample_422(bytes: &[u8]) -> Vec<u8> {
    let pairs = bytes.chunks_exact(4);
    pairs.flat_map(|p| [p[0], p[2], p[3], p[1], p[2], p[3]]).collect()
}

/// Planes to samples side by side.
fn interleave(values: Values) -> Values {
    fn mix<T: Copy>(planes: &[T]) -> Vec<T> {
        let pixels = planes.len() / 3;
        (0..pixels).flat_map(|i| [planes[i], planes[pixels + i], planes[2 * pixels + i]]).collect()
    }
    match values {
        Values::U8(planes) => Values::U8(mix(&planes)),
        Values::I32(planes) => Values::I32(mix(&planes)),
        Values::F64(planes) => Values::F64(mix(&planes)),
    }
}

/// The stored bits of each container, sign-extended when Pixel Representation is 1. Bits
/// beside them (old overlays) are dropped (PS3.5 8.1.1).
fn to_values(bytes: Vec<u8>, shape: &Shape, big: bool) -> Result<Values, ImagingError> {
    let size = (shape.bits_allocated / 8) as usize;
    if shape.float {
        return Ok(Values::F64(floats(&bytes, size, big)));
    }
    if size == 1 {
        let plain = !shape.signed && shape.bits_stored == 8;
        return Ok(match plain {
            true => Values::U8(bytes),
            false => narrow(bytes.iter().map(|byte| u16::from(*byte)), shape),
        });
    }
    let word = |chunk: &[u8]| -> u64 {
        let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
        if big { chunk.iter().fold(0, add) } else { chunk.iter().rev().fold(0, add) }
    };
    Ok(match size {
        2 => {
            let words = bytes.chunks_exact(2);
            match big {
                true => narrow(words.map(|b| u16::from_be_bytes([b[0], b[1]])), shape),
                false => narrow(words.map(|b| u16::from_le_bytes([b[0], b[1]])), shape),
            }
        }
        _ => wide(bytes.chunks_exact(size).map(word), shape),
    })
}

/// Stored bits of containers of at most 16 bits: the way of most pixels, so loops without a branch.
pub fn narrow(words: impl Iterator<Item = u16>, shape: &Shape) -> Values {
    let down = shape.high_bit + 1 - shape.bits_stored;
    let unused = 32 - shape.bits_stored;
    // Checked shifts would be a branch for each pixel.
    let high = words.map(move |word| u32::from(word).wrapping_shr(down).wrapping_shl(unused));
    Values::I32(match shape.signed {
        true => high.map(|high| (high as i32).wrapping_shr(unused)).collect(),
        false => high.map(|high| high.wrapping_shr(unused) as i32).collect(),
    })
}

/// Stored bits of containers of 32 or 64 bits; as integers when they fit.
pub fn wide(words: impl Iterator<Item = u64>, shape: &Shape) -> Values {
    let fits = shape.bits_stored < 32 || (shape.bits_stored == 32 && shape.signed);
    match fits {
        true => Values::I32(stored(words, shape).map(|value| value as i32).collect()),
        false if shape.signed => {
            Values::F64(stored(words, shape).map(|value| value as f64).collect())
        }
        false => Values::F64(stored(words, shape).map(|value| value as u64 as f64).collect()),
    }
}

fn stored(words: impl Iterator<Item = u64>, shape: &Shape) -> impl Iterator<Item = i64> {
    let (bits, signed) = (shape.bits_stored, shape.signed);
    let down = shape.high_bit + 1 - bits;
    let unused = 64 - bits;
    words.map(move |word| {
        let high = (word >> down) << unused;
        if signed { (high as i64) >> unused } else { (high >> unused) as i64 }
    })
}

fn floats(bytes: &[u8], size: usize, big: bool) -> Vec<f64> {
    let value = |chunk: &[u8]| -> f64 {
        match (<[u8; 4]>::try_from(chunk), <[u8; 8]>::try_from(chunk)) {
            (Ok(b), _) if big => f32::from_be_bytes(b).into(),
            (Ok(b), _) => f32::from_le_bytes(b).into(),
            (_, Ok(b)) if big => f64::from_be_bytes(b),
            (_, Ok(b)) => f64::from_le_bytes(b),
            _ => 0.0,
        }
    };
    bytes.chunks_exact(size).map(value).collect()
}

/// The same for the native bytes of one frame that are in memory already.
///
/// # Errors
/// When they are fewer than the header needs.
pub fn in_memory(bytes: Vec<u8>, shape: &Shape) -> Result<Values, ImagingError> {
    if shape.bits_allocated == 1 {
        let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (at % 8) & 1);
        return Ok(Values::U8((0..shape.pixels() * shape.samples).map(bit).collect()));
    }
    let samples = shape.pixels() * shape.samples;
    let exact = samples * (shape.bits_allocated / 8) as usize;
    let bytes = bytes.get(..exact).map(<[u8]>::to_vec);
    let bytes = bytes.ok_or_else(|| ImagingError::undecodable("the pixels are cut short"))?;
    let values = to_values(bytes, shape, false)?;
    Ok(if shape.planar { interleave(values) } else { values })
}
