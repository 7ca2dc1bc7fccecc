//! A stored object in Explicit VR Little Endian, not compressed: what every viewer reads.
//!
//! Values are copied byte by byte, text in its own character sets; only the order of bytes, the
//! VRs that the file does not say, and the pixels change.

use std::path::Path;

use dicom_core::Tag;
use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_dictionary_std::uids;
use dicom_object::FileMetaTableBuilder;

use crate::dicom::negotiation;
use crate::dicom::walk;
use crate::imaging::ImagingError;
use crate::imaging::dataset::DataSet;
use crate::imaging::dataset::Element;
use crate::imaging::dataset::Encoding;
use crate::imaging::dataset::Fields;
use crate::imaging::decode::Image;
use crate::imaging::decode::Photometric;
use crate::imaging::frames;
use crate::imaging::json;

const DEPTH_MAX: usize = 64;
const UNDEFINED: [u8; 4] = [0xff; 4];
const ITEM: Tag = Tag(0xfffe, 0xe000);
const ITEM_END: Tag = Tag(0xfffe, 0xe00d);
const SEQUENCE_END: Tag = Tag(0xfffe, 0xe0dd);

/// Writes the whole file anew. Compressed colour becomes RGB.
///
/// # Errors
/// [`ImagingError`] when the pixels cannot be decoded, a value cannot be carried over for certain,
/// or the file would have more than `bytes_max`.
pub fn to_plain(path: &Path, bytes_max: u64) -> Result<Vec<u8>, ImagingError> {
    let data = DataSet::open(path)?;
    if data.available(0) > bytes_max {
        return Err(too_large(bytes_max));
    }
    let fields = data.fields();
    let signed = fields.count(tags::PIXEL_REPRESENTATION) == Some(1);
    let pixels = match data.pixels.is_some() {
        true => Some(pixels(path, bytes_max)?),
        false => None,
    };
    let is_rgb = pixels.as_ref().is_some_and(|pixels| pixels.rgb);
    let mut out = head(&fields)?;
    for element in fields.elements() {
        match element.tag {
            tags::PHOTOMETRIC_INTERPRETATION if is_rgb => {
                put(&mut out, element.tag, VR::CS, b"RGB ");
            }
            tags::PLANAR_CONFIGURATION if is_rgb => put(&mut out, element.tag, VR::US, &[0, 0]),
            tags::EXTENDED_OFFSET_TABLE | tags::EXTENDED_OFFSET_TABLE_LENGTHS => {}
            _ => {
                if element.outside.is_some() {
                    return Err(not_certain("a value of some MB"));
                }
                write(&mut out, &fields, element, signed, 0)?;
            }
        }
        if out.len() as u64 > bytes_max {
            return Err(too_large(bytes_max));
        }
    }
    if let Some(Pixels { vr, bytes, .. }) = pixels {
        put(&mut out, tags::PIXEL_DATA, vr, &bytes);
    }
    Ok(out)
}

fn too_large(bytes_max: u64) -> ImagingError {
    ImagingError::Picture(format!("not compressed it has more than {bytes_max} bytes"))
}

fn not_certain(what: &str) -> ImagingError {
    ImagingError::Picture(format!("{what} is only sent as stored"))
}

/// Preamble and file meta information.
fn head(fields: &Fields<'_>) -> Result<Vec<u8>, ImagingError> {
    let meta = FileMetaTableBuilder::new()
        .media_storage_sop_class_uid(fields.plain(tags::SOP_CLASS_UID))
        .media_storage_sop_instance_uid(fields.plain(tags::SOP_INSTANCE_UID))
        .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
        .implementation_class_uid(negotiation::implementation_class_uid())
        .implementation_version_name(negotiation::IMPLEMENTATION_VERSION);
    let mut out = vec![0; 128];
    out.extend_from_slice(b"DICM");
    let written = meta.build().and_then(|meta| meta.write(&mut out));
    written.map_err(|_| ImagingError::Picture("no file meta information".into()))?;
    Ok(out)
}

struct Pixels {
    vr: VR,
    bytes: Vec<u8>,
    /// Whether what was another colour space is RGB now.
    rgb: bool,
}

fn pixels(path: &Path, bytes_max: u64) -> Result<Pixels, ImagingError> {
    let mut image = Image::open(path)?;
    let shape = image.shape.clone();
    let frame = (shape.pixels() * shape.samples) as u64 * u64::from(shape.bits_allocated) / 8;
    if frame.saturating_mul(shape.frames.into()) > bytes_max {
        return Err(too_large(bytes_max));
    }
    if shape.float || (shape.bits_allocated == 1 && shape.frames > 1) {
        return Err(not_certain("an image of this kind"));
    }
    let (mut bytes, mut decoded) = (Vec::new(), false);
    for number in 0..shape.frames {
        match image.native_span(number) {
            Some(span) => bytes.extend(image.data.bytes(span.offset, span.length)?),
            None => {
                decoded = true;
                bytes.extend(frames::bytes_of(&image.frame(number)?, &shape));
            }
        }
    }
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    let rgb = decoded && shape.samples == 3 && shape.photometric != Photometric::Palette;
    let vr = if shape.bits_allocated > 8 { VR::OW } else { VR::OB };
    Ok(Pixels { vr, bytes, rgb })
}

fn write(
    out: &mut Vec<u8>,
    fields: &Fields<'_>,
    element: &Element<'_>,
    signed: bool,
    depth: usize,
) -> Result<(), ImagingError> {
    if element.tag.1 == 0 && depth == 0 && element.tag.0 != 0 {
        // Group lengths are retired and would be wrong now.
        return Ok(());
    }
    let plain = !element.encoding.implicit && !element.encoding.big;
    let vr = if plain { element.vr } else { json::vr_of(element, signed) };
    if vr != VR::SQ {
        let bytes = match element.encoding.big {
            true => swapped(element.bytes, vr),
            false => element.bytes.to_vec(),
        };
        put(out, element.tag, vr, &bytes);
        return Ok(());
    }
    if depth >= DEPTH_MAX {
        return Err(not_certain("a deeply nested sequence"));
    }
    open(out, element.tag);
    if plain {
        out.extend_from_slice(element.bytes);
    } else {
        let mut sequence = *element;
        if element.vr == VR::UN {
            sequence.encoding = Encoding { implicit: true, big: false };
        }
        for item in fields.items_of(sequence, usize::MAX) {
            mark(out, ITEM, UNDEFINED);
            for element in item.elements() {
                write(out, &item, element, signed, depth + 1)?;
            }
            mark(out, ITEM_END, [0; 4]);
        }
    }
    mark(out, SEQUENCE_END, [0; 4]);
    Ok(())
}

fn tag(out: &mut Vec<u8>, tag: Tag) {
    out.extend_from_slice(&tag.0.to_le_bytes());
    out.extend_from_slice(&tag.1.to_le_bytes());
}

fn mark(out: &mut Vec<u8>, name: Tag, length: [u8; 4]) {
    tag(out, name);
    out.extend_from_slice(&length);
}

/// The head of a sequence of undefined length.
fn open(out: &mut Vec<u8>, name: Tag) {
    tag(out, name);
    out.extend_from_slice(b"SQ\0\0");
    out.extend_from_slice(&UNDEFINED);
}

/// One element. A value too long for the short form of its VR is UN (PS3.5 6.2.2).
fn put(out: &mut Vec<u8>, name: Tag, vr: VR, bytes: &[u8]) {
    tag(out, name);
    let short = u16::try_from(bytes.len()).ok().filter(|_| walk::has_short_length(vr));
    match short {
        Some(length) => {
            out.extend_from_slice(vr.to_string().as_bytes());
            out.extend_from_slice(&length.to_le_bytes());
        }
        None => {
            let vr = if walk::has_short_length(vr) { VR::UN } else { vr };
            out.extend_from_slice(vr.to_string().as_bytes());
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

fn swapped(bytes: &[u8], vr: VR) -> Vec<u8> {
    let size = match vr {
        VR::US | VR::SS | VR::OW | VR::AT => 2,
        VR::UL | VR::SL | VR::FL | VR::OF | VR::OL => 4,
        VR::FD | VR::OD | VR::UV | VR::SV | VR::OV => 8,
        _ => 1,
    };
    let mut bytes = bytes.to_vec();
    bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
    bytes
}
