//! Frames and bulk data as a viewer fetches them: where they lie in the file, or their bytes.
//!
//! What is handed on as it is stored is only located here: whoever sends it reads the file piece
//! by piece, so that a large object never stands in memory.

use std::path::Path;

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use serde::Deserialize;
use serde::Serialize;

use crate::imaging::ImagingError;
use crate::imaging::dataset::DataSet;
use crate::imaging::dataset::Fields;
use crate::imaging::dataset::Span;
use crate::imaging::decode::Frame;
use crate::imaging::decode::Image;
use crate::imaging::decode::Shape;
use crate::imaging::decode::Values;
use crate::imaging::encapsulated::Fragments;
use crate::imaging::json;

/// Frames of one instance; a longer cine is asked for in parts.
const FRAMES_MAX: u32 = 1 << 20;

/// One value that was asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// These parts of the file, one after the other.
    InFile(Vec<Span>),
    Bytes(Vec<u8>),
}

/// What the pixels of an instance are, before any of them is fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PixelFacts {
    pub transfer_syntax_uid: String,
    /// 0 when it has no pixels.
    pub frames: u32,
    /// Whether each frame is a code stream.
    pub encapsulated: bool,
}

/// Frames as stored: code streams, or the bytes of an uncompressed frame in little endian order.
///
/// - `numbers`: from 1. No value comes back when one of them is beyond the last frame.
///
/// # Errors
/// [`ImagingError`] when it is not certain where a frame lies.
pub fn stored(path: &Path, numbers: &[u32]) -> Result<(PixelFacts, Vec<Piece>), ImagingError> {
    let mut data = DataSet::open(path)?;
    let (facts, pixels) = match (facts(&data), data.pixels.clone()) {
        (facts, Some(pixels)) if has(&facts, numbers) => (facts, pixels),
        (facts, _) => return Ok((facts, Vec::new())),
    };
    let mut pieces = Vec::new();
    if facts.encapsulated {
        let fragments = Fragments::find(&mut data, pixels.offset, facts.frames)?;
        for number in numbers {
            pieces.push(match data.in_file {
                true => Piece::InFile(fragments.spans(number - 1)?),
                false => Piece::Bytes(fragments.frame(&mut data, number - 1)?),
            });
        }
        return Ok((facts, pieces));
    }
    let mut image = Image::of(data)?;
    for number in numbers {
        pieces.push(match image.native_span(number - 1) {
            Some(span) if image.data.in_file => Piece::InFile(vec![span]),
            Some(span) => Piece::Bytes(image.data.bytes(span.offset, span.length)?),
            None => Piece::Bytes(bytes_of(&image.frame(number - 1)?, &image.shape)),
        });
    }
    Ok((facts, pieces))
}

/// Frames as Explicit VR Little Endian has them; colour that was compressed comes out as RGB. As
/// many of `numbers` as fit into `bytes_max`, at least one.
///
/// # Errors
/// [`ImagingError`] when it cannot be decoded.
pub fn plain(
    path: &Path,
    numbers: &[u32],
    bytes_max: u64,
) -> Result<(PixelFacts, Vec<Piece>), ImagingError> {
    let data = DataSet::open(path)?;
    let facts = facts(&data);
    if !has(&facts, numbers) {
        return Ok((facts, Vec::new()));
    }
    if !facts.encapsulated {
        drop(data);
        return stored(path, numbers);
    }
    let mut image = Image::of(data)?;
    let (mut pieces, mut sum) = (Vec::new(), 0);
    for number in numbers {
        let bytes = bytes_of(&image.frame(number - 1)?, &image.shape);
        sum += bytes.len() as u64;
        if sum > bytes_max && !pieces.is_empty() {
            break;
        }
        pieces.push(Piece::Bytes(bytes));
    }
    Ok((facts, pieces))
}

/// The value at a path such as `54000100.1.54001010` (tag, item from 1, tag).
///
/// # Errors
/// [`ImagingError`] when the header cannot be read.
pub fn bulk(path: &Path, place: &[u32]) -> Result<Option<Piece>, ImagingError> {
    let mut data = DataSet::open(path)?;
    let tag_of = |number: u32| Tag((number >> 16) as u16, number as u16);
    let Some((&last, steps)) = place.split_last() else { return Ok(None) };
    if let Some(pixels) = data.pixels.clone()
        && steps.is_empty()
        && tag_of(last) == pixels.tag
    {
        let Some(length) = pixels.length else { return Ok(None) };
        let length = length.min(data.available(pixels.offset));
        let span = Span { offset: pixels.offset, length };
        return match data.in_file && !data.encoding().big {
            true => Ok(Some(Piece::InFile(vec![span]))),
            false => whole_pixels(data).map(Some),
        };
    }
    let outside = {
        let signed = data.fields().count(tags::PIXEL_REPRESENTATION) == Some(1);
        let mut fields: Fields<'_> = data.fields();
        for step in steps.chunks_exact(2) {
            let number = step[1] as usize;
            let item =
                fields.items(tag_of(step[0]), number).into_iter().nth(number.wrapping_sub(1));
            let Some(item) = item else { return Ok(None) };
            fields = item;
        }
        let found = fields.elements().iter().find(|element| element.tag == tag_of(last));
        match found {
            None => return Ok(None),
            Some(element) => match element.outside {
                Some(span) => span,
                None => {
                    let vr = json::vr_of(element, signed);
                    return Ok(Some(Piece::Bytes(json::little_endian(element, vr))));
                }
            },
        }
    };
    match data.in_file {
        true => Ok(Some(Piece::InFile(vec![outside]))),
        false => Ok(Some(Piece::Bytes(data.bytes(outside.offset, outside.length)?))),
    }
}

/// Big endian or inflated pixels, frame by frame.
fn whole_pixels(data: DataSet) -> Result<Piece, ImagingError> {
    let mut image = Image::of(data)?;
    let mut all = Vec::new();
    for number in 0..image.shape.frames {
        all.extend(bytes_of(&image.frame(number)?, &image.shape));
    }
    Ok(Piece::Bytes(all))
}

fn facts(data: &DataSet) -> PixelFacts {
    let count = data.fields().count(tags::NUMBER_OF_FRAMES).unwrap_or(1).clamp(1, FRAMES_MAX);
    let transfer_syntax_uid = data.transfer_syntax.to_string();
    let encapsulated = data.pixels.as_ref().is_some_and(|pixels| pixels.length.is_none());
    let frames = if data.pixels.is_some() { count } else { 0 };
    PixelFacts { transfer_syntax_uid, frames, encapsulated }
}

fn has(facts: &PixelFacts, numbers: &[u32]) -> bool {
    facts.frames > 0 && numbers.iter().all(|number| (1..=facts.frames).contains(number))
}

/// Values in containers of Bits Allocated, little endian.
pub fn bytes_of(frame: &Frame, shape: &Shape) -> Vec<u8> {
    let size = (shape.bits_allocated / 8) as usize;
    if shape.bits_allocated == 1 {
        let mut bytes = vec![0; frame.values.len().div_ceil(8)];
        for at in (0..frame.values.len()).filter(|at| frame.values.get(*at) != 0.0) {
            bytes[at / 8] |= 1_u8 << (at % 8);
        }
        return bytes;
    }
    match &frame.values {
        Values::U8(bytes) if size == 1 => bytes.clone(),
        Values::U8(bytes) => {
            bytes.iter().flat_map(|b| u64::from(*b).to_le_bytes().into_iter().take(size)).collect()
        }
        Values::I32(words) => {
            words.iter().flat_map(|w| i64::from(*w).to_le_bytes().into_iter().take(size)).collect()
        }
        Values::F64(values) if shape.float && size == 4 => {
            values.iter().flat_map(|value| (*value as f32).to_le_bytes()).collect()
        }
        Values::F64(values) if shape.float => {
            values.iter().flat_map(|value| value.to_le_bytes()).collect()
        }
        Values::F64(values) => {
            let word =
                |value: &f64| if *value < 0.0 { *value as i64 as u64 } else { *value as u64 };
            values.iter().flat_map(|v| word(v).to_le_bytes().into_iter().take(size)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use dicom_dictionary_std::uids;

    use super::*;
    use crate::imaging::decode::tests::image;

    fn on_disk(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn a_frame_that_is_not_compressed_is_a_part_of_the_file() {
        let pixels: Vec<u8> = (0..24).collect();
        let bytes = image(uids::EXPLICIT_VR_LITTLE_ENDIAN, 2, 2, "3 ", &pixels);
        let file = on_disk(&bytes);
        let (facts, pieces) = stored(file.path(), &[3, 1]).unwrap();
        assert_eq!((facts.frames, facts.encapsulated), (3, false));
        let read = |piece: &Piece| match piece {
            Piece::InFile(spans) => {
                let part = |s: &Span| &bytes[s.offset as usize..][..s.length as usize];
                spans.iter().map(part).collect::<Vec<_>>().concat()
            }
            Piece::Bytes(bytes) => bytes.clone(),
        };
        assert_eq!(read(&pieces[0]), &pixels[16..24]);
        assert_eq!(read(&pieces[1]), &pixels[..8]);
        for bad in [0, 4] {
            assert_eq!(stored(file.path(), &[bad]).unwrap().1, [], "{bad}");
        }
        let whole = bulk(file.path(), &[0x7fe0_0010]).unwrap().unwrap();
        assert_eq!(read(&whole), pixels);
        assert_eq!(bulk(file.path(), &[0x0008_1234]).unwrap(), None);
    }
}
