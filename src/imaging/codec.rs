//! Compressed frames: RLE, JPEG-LS, JPEG 2000, deflate; JPEG has its own file.
//!
//! A code stream is checked against the header before a codec sees it: size, components,
//! precision. The codecs are C and C++, which is why this runs in a worker.

use std::io::Read as _;

use dicom_dictionary_std::uids;

use crate::imaging::ImagingError;
use crate::imaging::decode::Decoded;
use crate::imaging::decode::Shape;
use crate::imaging::decode::Values;
use crate::imaging::jpeg;
use crate::imaging::native;

const DEFLATED_IMAGE_FRAME: &str = uids::DEFLATED_IMAGE_FRAME_COMPRESSION;
/// JPEG Full Progression (processes 10, 12): retired, still in archives.
const JPEG_PROGRESSIVE: &str = "1.2.840.10008.1.2.4.55";

/// Codecs by transfer syntax.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    Jpeg,
    JpegLs,
    Jpeg2000,
    Rle,
    Deflate,
}

fn codec_of(transfer_syntax: &str) -> Option<Codec> {
    match transfer_syntax {
        uids::JPEG_BASELINE8_BIT
        | uids::JPEG_EXTENDED12_BIT
        | JPEG_PROGRESSIVE
        | uids::JPEG_LOSSLESS
        | uids::JPEG_LOSSLESS_SV1 => Some(Codec::Jpeg),
        uids::JPEGLS_LOSSLESS | uids::JPEGLS_NEAR_LOSSLESS => Some(Codec::JpegLs),
        uids::JPEG2000_LOSSLESS
        | uids::JPEG2000
        | uids::HTJ2K_LOSSLESS
        | uids::HTJ2K_LOSSLESS_RPCL
        | uids::HTJ2K => Some(Codec::Jpeg2000),
        uids::RLE_LOSSLESS => Some(Codec::Rle),
        DEFLATED_IMAGE_FRAME => Some(Codec::Deflate),
        _ => None,
    }
}

/// Whether this software has a codec for a transfer syntax.
///
/// # Errors
/// Naming the transfer syntax when not.
pub fn supported(transfer_syntax: &str) -> Result<(), ImagingError> {
    if codec_of(transfer_syntax).is_some() {
        return Ok(());
    }
    let video = transfer_syntax.starts_with("1.2.840.10008.1.2.4.10");
    let kind = if video { "video, " } else { "" };
    Err(ImagingError::undecodable(format!("{kind}transfer syntax {transfer_syntax}")))
}

/// Decodes one frame.
///
/// # Errors
/// [`ImagingError::Undecodable`] when the stream is broken, cut short, or disagrees with the
/// header.
pub fn decode(
    transfer_syntax: &str,
    bytes: &[u8],
    shape: &Shape,
) -> Result<(Values, Decoded), ImagingError> {
    match codec_of(transfer_syntax) {
        Some(Codec::Jpeg) => jpeg::decode(bytes, shape),
        Some(Codec::JpegLs) => jpeg_ls(bytes, shape),
        Some(Codec::Jpeg2000) => jpeg_2000(bytes, shape, 0),
        Some(Codec::Rle) => rle(bytes, shape).map(|values| (values, Decoded::AsStored)),
        Some(Codec::Deflate) => deflate(bytes, shape).map(|values| (values, Decoded::AsStored)),
        None => Err(ImagingError::undecodable(format!("transfer syntax {transfer_syntax}"))),
    }
}

/// Whether [`decode_halved`] may do something.
pub fn halves(transfer_syntax: &str) -> bool {
    codec_of(transfer_syntax) == Some(Codec::Jpeg2000)
}

/// Decodes one frame halved as often as it keeps an edge of `edge_px`, from the wavelet levels of a
/// JPEG 2000 stream: a quarter of the work for each halving. Columns and rows are halved with it.
/// `None` where it is to be decoded in full.
pub fn decode_halved(
    bytes: &[u8],
    shape: &Shape,
    edge_px: usize,
) -> Option<(Values, Decoded, Shape)> {
    let stream = &bytes[codestream_start(bytes)?..];
    let longest = shape.columns.max(shape.rows);
    let levels = wavelet_levels(stream)?;
    let halvings = (1..=levels).take_while(|n| longest >> n >= edge_px.max(1)).last()?;
    // Both start at the origin, else sizes are rounded another way.
    if stream.get(16..24)? != [0; 8] || stream.get(32..40)? != [0; 8] {
        return None;
    }
    let less = |edge: usize| edge.div_ceil(1 << halvings);
    let smaller = Shape { columns: less(shape.columns), rows: less(shape.rows), ..shape.clone() };
    let (values, decoded) = jpeg_2000(bytes, shape, halvings).ok()?;
    Some((values, decoded, smaller))
}

/// Checks a code stream's own numbers against the header.
pub fn must_agree(
    what: &str,
    (width, height, components): (u64, u64, usize),
    precision: u32,
    shape: &Shape,
) -> Result<(), ImagingError> {
    if (width, height) != (shape.columns as u64, shape.rows as u64) {
        return Err(ImagingError::undecodable(format!(
            "{what} is {width} x {height}, the header says {} x {}",
            shape.columns, shape.rows
        )));
    }
    if components != shape.samples {
        return Err(ImagingError::undecodable(format!(
            "{what} has {components} components, the header says {}",
            shape.samples
        )));
    }
    if precision > shape.bits_allocated {
        return Err(ImagingError::undecodable(format!(
            "{what} has {precision} bits, the header allocates {}",
            shape.bits_allocated
        )));
    }
    Ok(())
}

/// Values of a code stream that knows no sign: bit patterns of `precision` bits. With Pixel
/// Representation 1 they are two's complement of that many bits.
pub fn patterns(values: Vec<u16>, precision: u32, shape: &Shape) -> Values {
    if !shape.signed {
        return match shape.bits_allocated {
            8 => Values::U8(values.into_iter().map(|value| value as u8).collect()),
            _ => Values::I32(values.into_iter().map(i32::from).collect()),
        };
    }
    // A stream written with 16 bits holds the sign at Bits Stored, or carried on to the top.
    let bits = precision.min(shape.bits_stored).clamp(1, 16);
    let unused = 32 - bits;
    let extend = |value: u16| (i32::from(value) << unused) >> unused;
    Values::I32(values.into_iter().map(extend).collect())
}

fn jpeg_ls(bytes: &[u8], shape: &Shape) -> Result<(Values, Decoded), ImagingError> {
    let broken = |e: charls::Error| ImagingError::undecodable(format!("JPEG-LS: {e}"));
    let mut codec = charls::CharLS::default();
    let info = codec.get_frame_info(bytes).map_err(broken)?;
    let size = (u64::from(info.width), u64::from(info.height), info.component_count as usize);
    let precision = info.bits_per_sample.clamp(0, 64) as u32;
    must_agree("JPEG-LS", size, precision, shape)?;
    let decoded = charls::CharLS::default().decode(bytes).map_err(broken)?;
    let samples = shape.pixels() * shape.samples;
    let values: Vec<u16> = match decoded.len() {
        length if length == samples => decoded.into_iter().map(u16::from).collect(),
        length if length == samples * 2 => {
            decoded.chunks_exact(2).map(|b| u16::from_ne_bytes([b[0], b[1]])).collect()
        }
        _ => return Err(ImagingError::undecodable("JPEG-LS gave another size")),
    };
    let values = match (shape.samples, jpeg_ls_interleave(bytes)) {
        (3, Some(0)) => {
            let n = shape.pixels();
            (0..n).flat_map(|i| [values[i], values[n + i], values[2 * n + i]]).collect()
        }
        (3, None) => return Err(ImagingError::undecodable("JPEG-LS without a scan header")),
        _ => values,
    };
    Ok((patterns(values, precision, shape), Decoded::AsStored))
}

/// The interleave mode of the first scan: 0 by plane, 1 by line, 2 by sample (T.87 C.2.3).
fn jpeg_ls_interleave(bytes: &[u8]) -> Option<u8> {
    let scan = jpeg::Segments::of(bytes).find(|segment| segment.marker == 0xda)?;
    let components = usize::from(*scan.content.first()?);
    scan.content.get(1 + 2 * components + 1).copied()
}

/// - `halvings`: wavelet levels that are left out; the values are then as many times smaller.
fn jpeg_2000(
    bytes: &[u8],
    shape: &Shape,
    halvings: u32,
) -> Result<(Values, Decoded), ImagingError> {
    let start = codestream_start(bytes)
        .ok_or_else(|| ImagingError::undecodable("JPEG 2000: no code stream found"))?;
    let header = SizeMarker::read(&bytes[start..])
        .ok_or_else(|| ImagingError::undecodable("JPEG 2000: broken SIZ marker"))?;
    let size = (header.width, header.height, header.components.len());
    let precision = header.components.iter().map(|c| c.precision).max().unwrap_or(0);
    must_agree("JPEG 2000", size, precision, shape)?;
    if header.components.iter().any(|c| c.dx != 1 || c.dy != 1) {
        return Err(ImagingError::undecodable("JPEG 2000 with subsampled components"));
    }
    if header.components.windows(2).any(|pair| pair[0] != pair[1]) {
        return Err(ImagingError::undecodable("JPEG 2000 with components of different kinds"));
    }
    if header.tiles > 65_535 {
        return Err(ImagingError::undecodable("JPEG 2000 with too many tiles"));
    }
    if !is_whole(&bytes[start..]) {
        return Err(ImagingError::undecodable("JPEG 2000: the code stream is cut short"));
    }
    let options = jpeg2k::DecodeParameters::new().ignore_pclr_cmap_cdef().reduce(halvings);
    let image = jpeg2k::Image::from_bytes_with(&bytes[start..], options)
        .map_err(|_| ImagingError::undecodable("JPEG 2000: the codec refused it"))?;
    let components = image.components();
    let less = |edge: usize| edge.div_ceil(1 << halvings);
    let (columns, rows) = (less(shape.columns), less(shape.rows));
    let pixels = columns * rows;
    let fits =
        |c: &jpeg2k::ImageComponent| (c.width() as usize, c.height() as usize) == (columns, rows);
    if components.len() != shape.samples || !components.iter().all(fits) {
        return Err(ImagingError::undecodable("JPEG 2000 gave another size"));
    }
    let signed = header.components[0].signed;
    let unused = 32 - precision.clamp(1, 32);
    // The header decides the sign; the bit patterns are the same (as pydicom and dcmtk do).
    let sign = |value: i32| match (signed, shape.signed) {
        (false, true) => (value << unused) >> unused,
        (true, false) => ((value << unused) as u32 >> unused) as i32,
        (true, true) | (false, false) => value,
    };
    let planes: Vec<&[i32]> = components.iter().map(|c| c.data()).collect();
    let narrow = shape.bits_allocated == 8 && !shape.signed && precision <= 8;
    let values = match (narrow, planes.as_slice()) {
        (true, planes) => {
            let at = |i: usize| planes.iter().map(move |plane| sign(plane[i]) as u8);
            Values::U8((0..pixels).flat_map(at).collect())
        }
        (false, [grey]) => Values::I32(grey.iter().map(|value| sign(*value)).collect()),
        (false, planes) => {
            let at = |i: usize| planes.iter().map(move |plane| sign(plane[i]));
            Values::I32((0..pixels).flat_map(at).collect())
        }
    };
    use crate::imaging::decode::Photometric;
    let decoded = match shape.photometric {
        // The codec undoes the component transformation; the values are RGB.
        Photometric::YbrIct | Photometric::YbrRct => Decoded::Rgb,
        _ if header_uses_transform(&bytes[start..]) => Decoded::Rgb,
        _ => Decoded::AsStored,
    };
    Ok((values, decoded))
}

/// Bytes before the code stream: none, or the boxes of a JP2 file.
fn codestream_start(bytes: &[u8]) -> Option<usize> {
    const SOC_SIZ: [u8; 4] = [0xff, 0x4f, 0xff, 0x51];
    if bytes.starts_with(&SOC_SIZ) {
        return Some(0);
    }
    let is_jp2 = bytes.get(4..8) == Some(b"jP  ");
    let found = bytes.windows(4).take(1 << 20).position(|four| four == SOC_SIZ);
    found.filter(|_| is_jp2)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Component {
    precision: u32,
    signed: bool,
    dx: u8,
    dy: u8,
}

/// The SIZ marker segment (T.800 A.5.1).
struct SizeMarker {
    width: u64,
    height: u64,
    tiles: u64,
    components: Vec<Component>,
}

impl SizeMarker {
    fn read(stream: &[u8]) -> Option<SizeMarker> {
        let at = |at: usize| -> Option<u64> {
            let b = stream.get(at..at + 4)?;
            Some(u32::from_be_bytes([b[0], b[1], b[2], b[3]]).into())
        };
        let (x1, y1, x0, y0) = (at(8)?, at(12)?, at(16)?, at(20)?);
        let (tile_width, tile_height, tx0, ty0) = (at(24)?, at(28)?, at(32)?, at(36)?);
        let count = stream.get(40..42)?;
        let count = usize::from(u16::from_be_bytes([count[0], count[1]]));
        if x1 <= x0 || y1 <= y0 || tile_width == 0 || tile_height == 0 || tx0 > x0 || ty0 > y0 {
            return None;
        }
        let component = |b: &[u8]| Component {
            precision: u32::from(b[0] & 0x7f) + 1,
            signed: b[0] & 0x80 != 0,
            dx: b[1],
            dy: b[2],
        };
        let components = stream.get(42..42 + 3 * count)?.chunks_exact(3).map(component);
        Some(SizeMarker {
            width: x1 - x0,
            height: y1 - y0,
            tiles: (x1 - tx0).div_ceil(tile_width) * (y1 - ty0).div_ceil(tile_height),
            components: components.collect(),
        })
    }
}

/// Whether the main header's COD marker switches the multiple component transformation on.
fn header_uses_transform(stream: &[u8]) -> bool {
    let mut segments = jpeg::Segments::after_start(stream);
    let cod = segments.find(|segment| segment.marker == 0x52);
    cod.and_then(|cod| cod.content.get(4).copied()) == Some(1)
}

/// Wavelet levels that every component of every tile has: of the main header's COD, where nothing
/// later states another number.
fn wavelet_levels(stream: &[u8]) -> Option<u32> {
    let mut levels = None;
    for segment in jpeg::Segments::after_start(stream).take_while(|s| s.marker != 0x90) {
        match segment.marker {
            0x52 => levels = segment.content.get(5).map(|levels| u32::from(*levels)),
            0x53 => return None,
            _ => {}
        }
    }
    levels.filter(|levels| *levels <= 32)
}

/// Whether all tile-parts are there: each SOT says how long its tile-part is (T.800 A.4.2).
/// OpenJPEG decodes what it has of a cut stream and says nothing.
fn is_whole(stream: &[u8]) -> bool {
    let mut at = 2;
    // The main header.
    loop {
        let Some(head) = stream.get(at..at + 4) else { return false };
        if head[0] != 0xff {
            return false;
        }
        if head[1] == 0x90 {
            break;
        }
        at += 2 + usize::from(u16::from_be_bytes([head[2], head[3]]));
    }
    loop {
        match stream.get(at..at + 2) {
            Some([0xff, 0xd9]) => return true,
            Some([0xff, 0x90]) => {}
            // Some writers leave the end marker out; the tile-parts are complete.
            None => return at >= stream.len(),
            Some(rest) => return rest.iter().all(|byte| *byte == 0),
        }
        let Some(length) = stream.get(at + 6..at + 10) else { return false };
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        if length == 0 {
            // The last tile-part runs up to the end marker.
            let end = stream.iter().rposition(|byte| *byte != 0).unwrap_or(0);
            return end > at && stream[end - 1..=end] == [0xff, 0xd9];
        }
        at = match at.checked_add(length) {
            Some(next) if next <= stream.len() && length >= 12 => next,
            _ => return false,
        };
    }
}

/// RLE Lossless (PS3.5 G): one segment for each byte of each sample, most significant first.
fn rle(bytes: &[u8], shape: &Shape) -> Result<Values, ImagingError> {
    let broken = |why: &str| ImagingError::undecodable(format!("RLE: {why}"));
    let pixels = shape.pixels();
    if shape.bits_allocated == 1 {
        return Err(broken("1 bit allocated"));
    }
    let size = (shape.bits_allocated / 8) as usize;
    let word = |at: usize| -> Option<usize> {
        let b = bytes.get(at * 4..at * 4 + 4)?;
        Some(u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize)
    };
    let count = word(0).ok_or_else(|| broken("no header"))?;
    if count != shape.samples * size || count > 15 {
        return Err(broken("another number of segments than the header needs"));
    }
    let segment = |number: usize| -> Result<Vec<u8>, ImagingError> {
        let start = word(number + 1).ok_or_else(|| broken("no header"))?;
        let end = match number + 1 < count {
            true => word(number + 2).ok_or_else(|| broken("no header"))?,
            false => bytes.len(),
        };
        let packed = bytes.get(start..end).ok_or_else(|| broken("a segment beyond the end"))?;
        unpack(packed, pixels).ok_or_else(|| broken("a segment is cut short"))
    };
    if (shape.samples, size) == (1, 2) {
        let (high, low) = (segment(0)?, segment(1)?);
        let words = high.iter().zip(&low).map(|(high, low)| u16::from_be_bytes([*high, *low]));
        return Ok(native::narrow(words, shape));
    }
    let mut containers = vec![0u64; pixels * shape.samples];
    for number in 0..count {
        let (sample, byte) = (number / size, number % size);
        let shift = 8 * (size - 1 - byte);
        for (at, value) in segment(number)?.into_iter().enumerate() {
            containers[at * shape.samples + sample] |= u64::from(value) << shift;
        }
    }
    let plain = size == 1 && !shape.signed && shape.bits_stored == 8;
    let containers = containers.into_iter();
    Ok(match (plain, size) {
        (true, _) => Values::U8(containers.map(|value| value as u8).collect()),
        (false, 1 | 2) => native::narrow(containers.map(|value| value as u16), shape),
        (false, _) => native::wide(containers, shape),
    })
}

/// PackBits; exactly `length` bytes, or `None` when there are fewer.
fn unpack(packed: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(length);
    let mut at = 0;
    while out.len() < length {
        let control = *packed.get(at)?;
        at += 1;
        match control {
            0..=127 => {
                let run = usize::from(control) + 1;
                out.extend_from_slice(packed.get(at..at + run)?);
                at += run;
            }
            128 => {}
            129..=255 => {
                let value = *packed.get(at)?;
                at += 1;
                out.resize(out.len() + 257 - usize::from(control), value);
            }
        }
    }
    out.truncate(length);
    Some(out)
}

/// Deflated Image Frame Compression (PS3.5 A.4.11): each frame a raw deflate stream of its
/// native bytes.
fn deflate(bytes: &[u8], shape: &Shape) -> Result<Values, ImagingError> {
    let samples = shape.pixels() * shape.samples;
    let expected = match shape.bits_allocated {
        1 => samples.div_ceil(8),
        bits => samples * (bits / 8) as usize,
    };
    let mut native = Vec::new();
    let mut stream = flate2::read::DeflateDecoder::new(bytes).take(expected as u64 + 2);
    stream.read_to_end(&mut native).map_err(|_| ImagingError::undecodable("broken deflate"))?;
    if native.len() < expected || native.len() > expected + 1 {
        return Err(ImagingError::undecodable("a deflated frame of another size"));
    }
    native::in_memory(native, shape)
}
