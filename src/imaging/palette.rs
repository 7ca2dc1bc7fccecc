//! PALETTE COLOR look-up tables (PS3.3 C.7.6.3.1.5), plain and segmented.

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use crate::imaging::ImagingError;
use crate::imaging::dataset::Fields;

/// Red, green and blue for each stored value.
#[derive(Debug, Clone, PartialEq)]
pub struct Palette {
    /// The stored value that the first entry stands for.
    first: i32,
    entries: Vec<[u8; 3]>,
}

struct Channel {
    descriptor: Tag,
    data: Tag,
    segmented: Tag,
}

const CHANNELS: [Channel; 3] = [
    Channel {
        descriptor: tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        data: tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        segmented: tags::SEGMENTED_RED_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    },
    Channel {
        descriptor: tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        data: tags::GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        segmented: tags::SEGMENTED_GREEN_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    },
    Channel {
        descriptor: tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DESCRIPTOR,
        data: tags::BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
        segmented: tags::SEGMENTED_BLUE_PALETTE_COLOR_LOOKUP_TABLE_DATA,
    },
];

impl Palette {
    /// Reads the three tables.
    ///
    /// # Errors
    /// When one is missing or has fewer entries than its descriptor says.
    pub fn of(top: &Fields<'_>) -> Result<Palette, ImagingError> {
        let broken = || ImagingError::undecodable("the palette is missing or broken");
        let mut channels = Vec::new();
        let mut first = 0;
        let signed = top.count(tags::PIXEL_REPRESENTATION) == Some(1);
        for channel in CHANNELS {
            let descriptor = top.get(channel.descriptor).ok_or_else(broken)?;
            let words: Vec<u16> = top.words(descriptor).collect();
            let &[count, start, bits] = words.as_slice() else { return Err(broken()) };
            let count = if count == 0 { 65_536 } else { usize::from(count) };
            first = if signed { i32::from(start as i16) } else { i32::from(start) };
            channels.push(table(top, &channel, count, bits).ok_or_else(broken)?);
        }
        let [red, green, blue] = channels.as_slice() else { return Err(broken()) };
        let entries: Vec<[u8; 3]> =
            red.iter().zip(green).zip(blue).map(|((r, g), b)| [*r, *g, *b]).collect();
        match entries.is_empty() {
            true => Err(broken()),
            false => Ok(Palette { first, entries }),
        }
    }

    /// The colour of a stored value; values beyond the table take its ends.
    pub fn colour(&self, value: f64) -> [u8; 3] {
        let at = (value - f64::from(self.first)).clamp(0.0, (self.entries.len() - 1) as f64);
        self.entries[at as usize]
    }
}

/// One channel as 8 bits.
fn table(top: &Fields<'_>, channel: &Channel, count: usize, bits: u16) -> Option<Vec<u8>> {
    let wide: Vec<u16> = match (top.get(channel.data), top.get(channel.segmented)) {
        // 8-bit entries, two in a word, or one in each word (PS3.3 C.7.6.3.1.6).
        (Some(data), _) if bits <= 8 && data.bytes.len() < 2 * count => {
            let big = data.encoding.big;
            let at = |i: usize| data.bytes.get(if big { i ^ 1 } else { i }).copied().map(u16::from);
            (0..count).map(at).collect::<Option<Vec<u16>>>()?
        }
        (Some(data), _) => top.words(data).take(count).collect(),
        (None, Some(data)) => expand(&top.words(data).collect::<Vec<u16>>(), count)?,
        (None, None) => return None,
    };
    if wide.len() < count {
        return None;
    }
    // 16-bit entries are scaled to the whole range; some writers fill only the low byte.
    let high = bits > 8 && wide.iter().any(|value| *value > 255);
    Some(
        wide.into_iter().map(|value| if high { (value >> 8) as u8 } else { value as u8 }).collect(),
    )
}

/// Segmented data (PS3.3 C.7.9.2): discrete, linear and indirect segments.
fn expand(words: &[u16], count: usize) -> Option<Vec<u16>> {
    let mut out: Vec<u16> = Vec::with_capacity(count);
    let mut at = 0;
    // Where to go on after an indirect segment's copies; those do not nest.
    let mut back: Option<(usize, usize)> = None;
    while out.len() < count {
        if let Some((left, resume)) = back
            && left == 0
        {
            at = resume;
            back = None;
        }
        let &[kind, length] = words.get(at..at + 2)? else { return None };
        let length = usize::from(length);
        match kind {
            0 => {
                out.extend_from_slice(words.get(at + 2..at + 2 + length)?);
                at += 2 + length;
            }
            1 => {
                let (from, to) = (f64::from(*out.last()?), f64::from(*words.get(at + 2)?));
                let step = |i: usize| from + (to - from) * i as f64 / length as f64;
                out.extend((1..=length).map(|i| step(i).round() as u16));
                at += 3;
            }
            2 if back.is_none() && length > 0 => {
                let low = usize::from(*words.get(at + 2)?);
                let high = usize::from(*words.get(at + 3)?);
                let target = (high << 16 | low) / 2;
                if target >= at {
                    return None;
                }
                back = Some((length + 1, at + 4));
                at = target;
            }
            _ => return None,
        }
        back = back.map(|(left, resume)| (left - 1, resume));
    }
    out.truncate(count);
    Some(out)
}
