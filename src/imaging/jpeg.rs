//! JPEG (T.81): baseline, extended, progressive and lossless frames.

use crate::imaging::ImagingError;
use crate::imaging::codec;
use crate::imaging::decode::Decoded;
use crate::imaging::decode::Photometric;
use crate::imaging::decode::Shape;
use crate::imaging::decode::Values;
use crate::imaging::jpeg12;

/// One marker segment: its marker's second byte and what follows the length.
pub struct Segment<'a> {
    pub marker: u8,
    pub content: &'a [u8],
}

/// Marker segments up to the first scan. Bounded by the stream: each step goes forward.
pub struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
    ended: bool,
}

impl<'a> Segments<'a> {
    pub fn of(bytes: &'a [u8]) -> Segments<'a> {
        Segments { bytes, at: 2, ended: !bytes.starts_with(&[0xff, 0xd8]) }
    }

    /// Segments of a stream whose start marker is of another family (JPEG 2000).
    pub fn after_start(bytes: &'a [u8]) -> Segments<'a> {
        Segments { bytes, at: 2, ended: bytes.len() < 2 }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    fn next(&mut self) -> Option<Segment<'a>> {
        if self.ended {
            return None;
        }
        while self.bytes.get(self.at) == Some(&0xff) && self.bytes.get(self.at + 1) == Some(&0xff) {
            self.at += 1;
        }
        let head = self.bytes.get(self.at..self.at + 4)?;
        if head[0] != 0xff {
            return None;
        }
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let content = self.bytes.get(self.at + 4..(self.at + 2).checked_add(length)?)?;
        self.at += 2 + length;
        self.ended = head[1] == 0xda;
        Some(Segment { marker: head[1], content })
    }
}

/// What a JPEG says of itself before its first scan.
struct Info {
    process: u8,
    precision: u32,
    width: u64,
    height: u64,
    component_ids: Vec<u8>,
    /// Transform of the Adobe APP14 segment.
    adobe: Option<u8>,
    jfif: bool,
}

impl Info {
    fn read(bytes: &[u8]) -> Option<Info> {
        let mut info = Info {
            process: 0,
            precision: 0,
            width: 0,
            height: 0,
            component_ids: Vec::new(),
            adobe: None,
            jfif: false,
        };
        for Segment { marker, content } in Segments::of(bytes) {
            match marker {
                0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf if info.process == 0 => {
                    let &[precision, y1, y0, x1, x0, count, ref rest @ ..] = content else {
                        return None;
                    };
                    info.process = marker;
                    info.precision = precision.into();
                    info.height = u16::from_be_bytes([y1, y0]).into();
                    info.width = u16::from_be_bytes([x1, x0]).into();
                    let components = rest.get(..3 * usize::from(count))?;
                    info.component_ids = components.chunks_exact(3).map(|c| c[0]).collect();
                }
                0xee if content.starts_with(b"Adobe") => info.adobe = content.get(11).copied(),
                0xe0 if content.starts_with(b"JFIF\0") => info.jfif = true,
                _ => {}
            }
        }
        (info.process != 0).then_some(info)
    }

    /// Whether the three components are YCbCr. The stream's own marks count before the
    /// header: Adobe's, component names, JFIF; without any the header decides (PS3.5 8.2.1).
    fn is_ybr(&self, shape: &Shape) -> bool {
        match (self.adobe, self.component_ids.as_slice()) {
            (Some(0), _) => false,
            (Some(_), _) => true,
            (None, b"RGB" | b"rgb") => false,
            (None, _) if self.jfif => true,
            (None, _) => shape.photometric != Photometric::Rgb,
        }
    }
}

/// Decodes one frame.
///
/// # Errors
/// [`ImagingError::Undecodable`].
pub fn decode(bytes: &[u8], shape: &Shape) -> Result<(Values, Decoded), ImagingError> {
    let broken = |why: &str| ImagingError::undecodable(format!("JPEG: {why}"));
    // Some writers put a byte of padding before the stream.
    let start = bytes.windows(3).take(4).position(|head| head == [0xff, 0xd8, 0xff]);
    let bytes = &bytes[start.ok_or_else(|| broken("no start of image"))?..];
    let info = Info::read(bytes).ok_or_else(|| broken("no frame header"))?;
    let size = (info.width, info.height, info.component_ids.len());
    codec::must_agree("JPEG", size, info.precision, shape)?;
    let lossless = info.process == 0xc3;
    match (info.process, info.precision) {
        (0xc0..=0xc2, 8) | (0xc3, 2..=16) => {}
        (0xc1, 12) if shape.samples == 1 => {
            let values = jpeg12::decode(bytes, shape.columns, shape.rows).map_err(broken)?;
            return Ok((codec::patterns(values, 12, shape), Decoded::AsStored));
        }
        (_, precision) => {
            return Err(broken(&format!(
                "process {} with {precision} bits",
                info.process.saturating_sub(0xc0)
            )));
        }
    }
    if lossless {
        check_lossless(bytes, shape).map_err(broken)?;
    }
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    decoder.set_color_transform(match shape.samples {
        1 => jpeg_decoder::ColorTransform::Grayscale,
        // As they are; the conversion is ours.
        _ => jpeg_decoder::ColorTransform::RGB,
    });
    decoder.set_max_decoding_buffer_size(shape.pixels() * shape.samples * 2);
    let decoded = decoder.decode().map_err(|e| broken(&short(&e.to_string())))?;
    let samples = shape.pixels() * shape.samples;
    let values: Vec<u16> = match decoded.len() {
        length if length == samples => decoded.into_iter().map(u16::from).collect(),
        length if length == samples * 2 => {
            decoded.chunks_exact(2).map(|b| u16::from_ne_bytes([b[0], b[1]])).collect()
        }
        _ => return Err(broken("the codec gave another size")),
    };
    let colour = match (shape.samples, lossless) {
        (1, _) => Decoded::AsStored,
        // Lossless code streams carry what the header says, untransformed.
        (_, true) => Decoded::AsStored,
        (_, false) if info.is_ybr(shape) => Decoded::YbrFull,
        (_, false) => Decoded::Rgb,
    };
    Ok((codec::patterns(values, info.precision, shape), colour))
}

/// What jpeg-decoder 0.3.2 decodes without an error and wrongly: it predicts across restart
/// intervals, predicts from shifted values, and mixes up scans of single components.
fn check_lossless(bytes: &[u8], shape: &Shape) -> Result<(), &'static str> {
    for Segment { marker, content } in Segments::of(bytes) {
        match (marker, content) {
            (0xdd, [0, 0]) => {}
            (0xdd, _) => return Err("lossless with restart intervals"),
            (0xda, [count, ..]) if usize::from(*count) != shape.samples => {
                return Err("lossless with a scan for each component");
            }
            (0xda, [.., approximation]) if approximation & 15 != 0 => {
                return Err("lossless with a point transform");
            }
            _ => {}
        }
    }
    Ok(())
}

/// A codec's words, without anything that could come from the file.
fn short(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii() && !c.is_control()).take(80).collect()
}
