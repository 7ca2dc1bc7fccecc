//! Fragments of encapsulated Pixel Data (PS3.5 A.4) and which frame each belongs to.

use dicom_dictionary_std::tags;
use dicom_dictionary_std::uids;

use crate::imaging::ImagingError;
use crate::imaging::dataset::DataSet;
use crate::imaging::dataset::Span;
use crate::imaging::dataset::Unreadable;

/// Fragments of one value; a frame of the largest object has a few thousand.
const FRAGMENTS_MAX: usize = 4 << 20;
/// Compressed bytes of one frame.
const FRAME_BYTES_MAX: u64 = 512 << 20;

#[derive(Debug, Clone, Copy)]
struct Fragment {
    /// First byte of the value in the source.
    offset: u64,
    length: u32,
}

/// For each frame its fragments.
#[derive(Debug)]
pub struct Fragments {
    fragments: Vec<Fragment>,
    /// For each frame that came the number of its first fragment; one more at the end.
    first: Vec<usize>,
    /// As the header says.
    frames: u32,
}

impl Fragments {
    /// Walks the items from `offset` (the Basic Offset Table) and assigns them to frames. Of a cine
    /// that was stopped fewer frames may be there than the header says: those that came are the first.
    ///
    /// # Errors
    /// When the items break off or it is not certain which frame a fragment belongs to.
    pub fn find(data: &mut DataSet, offset: u64, frames: u32) -> Result<Fragments, ImagingError> {
        let announced = frames;
        let items = items(data, offset)?;
        let Some((table, fragments)) = items.split_first() else {
            return Err(ImagingError::undecodable("encapsulated pixels without any item"));
        };
        if fragments.is_empty() {
            return Err(ImagingError::undecodable("encapsulated pixels without any fragment"));
        }
        let frames = frames as usize;
        let fragments = fragments.to_vec();
        let mut first = match frames {
            1 => vec![0],
            _ => match by_offsets(data, table, &fragments, frames)? {
                Some(first) => first,
                None if fragments.len() == frames => (0..frames).collect(),
                // Each frame is one fragment (PS3.5 A.4.2).
                None if is_rle(data) && fragments.len() < frames => (0..fragments.len()).collect(),
                None => by_marker(data, &fragments, frames)?,
            },
        };
        first.push(fragments.len());
        Ok(Fragments { fragments, first, frames: announced })
    }

    fn of(&self, number: u32) -> Result<&[Fragment], ImagingError> {
        let number = number as usize;
        match self.first.get(number..number + 2) {
            Some([from, to]) => Ok(&self.fragments[*from..*to]),
            _ => Err(ImagingError::undecodable(format!(
                "{} of {} frames came",
                self.first.len() - 1,
                self.frames
            ))),
        }
    }

    /// Where the code stream of frame `number` (from 0) lies in the source.
    ///
    /// # Errors
    /// When the frame did not come.
    pub fn spans(&self, number: u32) -> Result<Vec<Span>, ImagingError> {
        let span = |f: &Fragment| Span { offset: f.offset, length: f.length.into() };
        Ok(self.of(number)?.iter().map(span).collect())
    }

    /// The code stream of frame `number` (from 0).
    ///
    /// # Errors
    /// When it did not come, is above the limit, or the file ends before it does.
    pub fn frame(&self, data: &mut DataSet, number: u32) -> Result<Vec<u8>, ImagingError> {
        let mine = self.of(number)?;
        let length: u64 = mine.iter().map(|fragment| u64::from(fragment.length)).sum();
        if length > FRAME_BYTES_MAX {
            return Err(ImagingError::undecodable("a compressed frame above the limit"));
        }
        let mut whole = Vec::with_capacity(length as usize);
        for fragment in mine {
            whole.extend_from_slice(&data.bytes(fragment.offset, fragment.length.into())?);
        }
        Ok(whole)
    }
}

/// Items up to the Sequence Delimitation Item. A missing delimiter at the very end of the
/// file is forgiven: every fragment is there.
fn items(data: &mut DataSet, mut offset: u64) -> Result<Vec<Fragment>, ImagingError> {
    const ITEM: [u8; 4] = [0xfe, 0xff, 0x00, 0xe0];
    const END: [u8; 4] = [0xfe, 0xff, 0xdd, 0xe0];
    let mut items = Vec::new();
    loop {
        if data.available(offset) == 0 && items.len() > 1 {
            return Ok(items);
        }
        let head = data.bytes(offset, 8)?;
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        let malformed = |what| Unreadable::Malformed { what, at: offset };
        match [head[0], head[1], head[2], head[3]] {
            ITEM => {}
            END => return Ok(items),
            _ => return Err(malformed("no item in encapsulated pixels").into()),
        }
        offset += 8;
        if u64::from(length) > data.available(offset) {
            return Err(ImagingError::undecodable("the last fragment is cut short"));
        }
        if items.len() > FRAGMENTS_MAX {
            return Err(Unreadable::TooLarge("more fragments than the limit").into());
        }
        items.push(Fragment { offset, length });
        offset += u64::from(length);
    }
}

fn is_rle(data: &DataSet) -> bool {
    data.transfer_syntax.as_str() == uids::RLE_LOSSLESS
}

/// By the Extended Offset Table, else the Basic Offset Table. `None` when there is none, or
/// when it does not point at items: some writers fill it with rubbish. Of frames that did not come
/// it may say nothing, 0, or a place behind the last fragment.
fn by_offsets(
    data: &mut DataSet,
    table: &Fragment,
    fragments: &[Fragment],
    frames: usize,
) -> Result<Option<Vec<usize>>, ImagingError> {
    let extended = data.fields().get(tags::EXTENDED_OFFSET_TABLE).map(|element| {
        let chunks = element.bytes.chunks_exact(8);
        let offset = |b: &[u8]| u64::from_le_bytes(b.try_into().expect("chunks of eight"));
        chunks.map(offset).collect::<Vec<u64>>()
    });
    let offsets = match extended {
        Some(offsets) => offsets,
        None => {
            let bytes = data.bytes(table.offset, table.length.into())?;
            let chunks = bytes.chunks_exact(4);
            chunks.map(|b| u64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))).collect()
        }
    };
    if offsets.len() > frames || offsets.first() != Some(&0) {
        return Ok(None);
    }
    let base = fragments[0].offset;
    let end = fragments.last().map_or(0, |last| last.offset + u64::from(last.length) - base);
    let is_there = |offset: &&u64| **offset < end;
    let later = offsets.iter().skip(1).take_while(|offset| **offset > 0);
    let came = 1 + later.take_while(is_there).count();
    let offsets = &offsets[..came];
    let position = |offset: &u64| {
        let wanted = base.checked_add(*offset)?;
        fragments.binary_search_by_key(&wanted, |fragment| fragment.offset).ok()
    };
    let first: Option<Vec<usize>> = offsets.iter().map(position).collect();
    Ok(first.filter(|first| first.windows(2).all(|pair| pair[0] < pair[1])))
}

/// Without a table: a fragment that begins with a start-of-image marker begins a frame.
fn by_marker(
    data: &mut DataSet,
    fragments: &[Fragment],
    frames: usize,
) -> Result<Vec<usize>, ImagingError> {
    let mut first = Vec::new();
    for (number, fragment) in fragments.iter().enumerate() {
        if fragment.length < 4 {
            continue;
        }
        let head = data.bytes(fragment.offset, 4)?;
        if matches!(head[..], [0xff, 0xd8, 0xff, _] | [0xff, 0x4f, 0xff, 0x51]) {
            first.push(number);
        }
    }
    match first.len() <= frames && first.first() == Some(&0) {
        true => Ok(first),
        false => Err(ImagingError::undecodable(format!(
            "{} fragments for {frames} frames and no offset table",
            fragments.len()
        ))),
    }
}
