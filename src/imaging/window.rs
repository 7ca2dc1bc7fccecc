//! Stored values to grey levels: modality LUT, VOI LUT or window (PS3.3 C.11.1, C.11.2).

use dicom_dictionary_std::tags;

use crate::domain::picture::Window;
use crate::imaging::dataset::Fields;
use crate::imaging::decode::Colour;
use crate::imaging::decode::Frame;
use crate::imaging::decode::Image;
use crate::imaging::decode::Values;

/// Percentiles that become black and white when a header gives no usable window.
const PERCENTILES: [f64; 2] = [0.5, 99.5];
/// Values looked at for percentiles; more change nothing that an eye could see.
const SAMPLES: usize = 200_000;

/// A frame as it is looked at: 8 bits, one sample (0 black) or three (RGB).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raster {
    pub width: usize,
    pub height: usize,
    pub samples: usize,
    pub pixels: Vec<u8>,
}

/// From stored values to modality units.
#[derive(Debug, Clone, PartialEq)]
pub enum Modality {
    Rescale { slope: f64, intercept: f64 },
    Table(Table),
}

impl Modality {
    pub fn apply(&self, stored: f64) -> f64 {
        match self {
            Modality::Rescale { slope, intercept } => stored * slope + intercept,
            Modality::Table(table) => table.look_up(stored),
        }
    }
}

/// A look-up table (LUT Descriptor and LUT Data, PS3.3 C.11.1.1.1).
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    first: f64,
    /// Greatest output that the descriptor allows.
    top: f64,
    entries: Vec<u16>,
}

impl Table {
    fn of(item: &Fields<'_>, signed: bool) -> Option<Table> {
        let descriptor: Vec<u16> = item.words(item.get(tags::LUT_DESCRIPTOR)?).collect();
        let &[count, first, bits] = descriptor.as_slice() else { return None };
        let count = if count == 0 { 65_536 } else { usize::from(count) };
        let data = item.get(tags::LUT_DATA)?;
        let entries: Vec<u16> = match bits <= 8 && data.bytes.len() < 2 * count {
            true => data.bytes.iter().map(|byte| u16::from(*byte)).collect(),
            false => item.words(data).collect(),
        };
        if entries.len() < count {
            return None;
        }
        let entries = entries[..count].to_vec();
        let greatest = f64::from(entries.iter().copied().max().unwrap_or(0));
        let stated = f64::from(1u32 << bits.clamp(1, 16)) - 1.0;
        // Some devices state 16 bits for tables of 12: nearly black then.
        let plausible = greatest <= stated && greatest * 8.0 > stated;
        let top = if plausible { stated } else { greatest.max(1.0) };
        let first = if signed { f64::from(first as i16) } else { f64::from(first) };
        Some(Table { first, top, entries })
    }

    /// The value of the first entry, and all entries over the whole range of 16 bits.
    pub fn in_16_bits(&self) -> (i32, Vec<u16>) {
        let scaled = |entry: &u16| (f64::from(*entry) / self.top * 65_535.0).round() as u16;
        (self.first as i32, self.entries.iter().map(scaled).collect())
    }

    fn look_up(&self, value: f64) -> f64 {
        let last = (self.entries.len() - 1) as f64;
        self.entries[(value - self.first).clamp(0.0, last) as usize].into()
    }
}

/// From modality units to 0 (black) to 1 (white); MONOCHROME1 is inverted afterwards.
#[derive(Debug, Clone, PartialEq)]
pub enum Voi {
    Linear { center: f64, width: f64 },
    LinearExact { center: f64, width: f64 },
    Sigmoid { center: f64, width: f64 },
    Table(Table),
}

impl Voi {
    /// Center and width; of a table, those of all that it tells apart.
    pub fn extent(&self) -> (f64, f64) {
        match self {
            Voi::Linear { center, width }
            | Voi::LinearExact { center, width }
            | Voi::Sigmoid { center, width } => (*center, *width),
            Voi::Table(table) => {
                let width = table.entries.len() as f64;
                (table.first + width / 2.0, width)
            }
        }
    }

    pub fn is_table(&self) -> bool {
        matches!(self, Voi::Table(_))
    }

    pub fn apply(&self, value: f64) -> f64 {
        let level = match self {
            Voi::Linear { center, width } if *width <= 1.0 => {
                if value > center - 0.5 {
                    1.0
                } else {
                    0.0
                }
            }
            Voi::Linear { center, width } => (value - (center - 0.5)) / (width - 1.0) + 0.5,
            Voi::LinearExact { center, width } => (value - center) / width + 0.5,
            Voi::Sigmoid { center, width } => 1.0 / (1.0 + (-4.0 * (value - center) / width).exp()),
            Voi::Table(table) => table.look_up(value) / table.top,
        };
        level.clamp(0.0, 1.0)
    }
}

/// Everything between stored values and grey levels, of one frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Transform {
    pub modality: Modality,
    /// Whether the header states modality units (a rescale or a table).
    pub has_modality: bool,
    /// The header's own view: VOI LUT, else window. `None` when it has none that works.
    pub own: Option<Voi>,
    /// Stored values that mean "no image here", both ends included.
    pub padding: Option<[f64; 2]>,
}

impl Transform {
    /// Reads the transforms of frame `number` (from 0): from its functional groups, the shared
    /// ones, or the top level.
    pub fn of(image: &Image, number: u32) -> Transform {
        let top = image.data.fields();
        let at = number as usize;
        let per_frame = tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE;
        let groups = [
            top.items(per_frame, at + 1).into_iter().nth(at),
            top.item(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE),
        ];
        let group = |tag| groups.iter().flatten().find_map(|group| group.item(tag));
        let transform = group(tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE);
        let view = group(tags::FRAME_VOILUT_SEQUENCE);
        let rescale = transform.as_ref().unwrap_or(&top);
        let signed = image.shape.signed;
        let (modality, has_modality) = modality(rescale, &top, signed);
        let in_units_signed = match &modality {
            Modality::Rescale { intercept, .. } => signed || *intercept < 0.0,
            Modality::Table(_) => false,
        };
        let own = voi(view.as_ref().unwrap_or(&top), in_units_signed)
            .or_else(|| voi(&top, in_units_signed));
        Transform { modality, has_modality, own, padding: padding(&top, signed) }
    }

    /// Whether a stored value means "no image here".
    pub fn is_padding(&self, stored: f64) -> bool {
        self.padding.is_some_and(|[low, high]| (low..=high).contains(&stored))
    }
}

fn modality(rescale: &Fields<'_>, top: &Fields<'_>, signed: bool) -> (Modality, bool) {
    let table = top.item(tags::MODALITY_LUT_SEQUENCE).and_then(|item| Table::of(&item, signed));
    if let Some(table) = table {
        return (Modality::Table(table), true);
    }
    let slope = rescale.number(tags::RESCALE_SLOPE).filter(|slope| *slope != 0.0);
    let intercept = rescale.number(tags::RESCALE_INTERCEPT);
    let stated = slope.is_some() && intercept.is_some();
    let (slope, intercept) = (slope.unwrap_or(1.0), intercept.unwrap_or(0.0));
    (Modality::Rescale { slope, intercept }, stated)
}

fn voi(fields: &Fields<'_>, signed: bool) -> Option<Voi> {
    let table = fields.item(tags::VOILUT_SEQUENCE).and_then(|item| Table::of(&item, signed));
    if let Some(table) = table {
        return Some(Voi::Table(table));
    }
    let centers = fields.numbers(tags::WINDOW_CENTER);
    let widths = fields.numbers(tags::WINDOW_WIDTH);
    let pairs = centers.into_iter().zip(widths);
    let function = fields.plain(tags::VOILUT_FUNCTION).to_ascii_uppercase();
    let least = if function == "LINEAR_EXACT" || function == "SIGMOID" { 0.0 } else { 1.0 };
    // The first window that the standard allows; some devices send width 0.
    let (center, width) = pairs.into_iter().find(|(_, width)| *width >= least && *width > 0.0)?;
    Some(match function.as_str() {
        "LINEAR_EXACT" => Voi::LinearExact { center, width },
        "SIGMOID" => Voi::Sigmoid { center, width },
        _ => Voi::Linear { center, width },
    })
}

/// Pixel Padding Value (0028,0120) and Range Limit (0028,0121).
fn padding(top: &Fields<'_>, signed: bool) -> Option<[f64; 2]> {
    let number = |tag| {
        let number = top.number(tag)?;
        // The VR is US or SS; implicit files and careless writers use US for both.
        let wrapped = signed && number > 32_767.0;
        Some(if wrapped { number - 65_536.0 } else { number })
    };
    let value = number(tags::PIXEL_PADDING_VALUE)?;
    let limit = number(tags::PIXEL_PADDING_RANGE_LIMIT).unwrap_or(value);
    Some([value.min(limit), value.max(limit)])
}

/// Renders a frame with the header's own view (`window` = `None`) or with a named window in
/// modality units.
pub fn render(image: &Image, frame: &Frame, number: u32, window: Option<&Window>) -> Raster {
    let linear = |w: &Window| Voi::Linear { center: w.center, width: w.width.max(1.0) };
    render_by(image, frame, number, window.map(linear))
}

/// The same with any function from modality units to grey.
pub fn render_by(image: &Image, frame: &Frame, number: u32, voi: Option<Voi>) -> Raster {
    render_with(image, frame, number, voi).0
}

/// The same, and how the grey levels were made of the stored values; colour has none.
pub fn render_with(
    image: &Image,
    frame: &Frame,
    number: u32,
    voi: Option<Voi>,
) -> (Raster, Option<(Transform, Voi)>) {
    let (width, height) = (frame.columns, frame.rows);
    let raster = |samples, pixels| Raster { width, height, samples, pixels };
    match (frame.colour, image.palette()) {
        (Colour::Rgb, _) => (raster(3, rgb(&frame.values, image.shape.bits_stored)), None),
        (Colour::Palette, Some(palette)) => {
            let count = frame.values.len();
            let colours = (0..count).flat_map(|at| palette.colour(frame.values.get(at)));
            (raster(3, colours.collect()), None)
        }
        (Colour::Monochrome1 | Colour::Monochrome2 | Colour::Palette, _) => {
            let transform = Transform::of(image, number);
            let (pixels, voi) = grey(frame, &transform, voi);
            (raster(1, pixels), Some((transform, voi)))
        }
    }
}

/// One sample for each pixel, whatever the frame's colour.
pub fn to_grey(raster: Raster) -> Raster {
    if raster.samples == 1 {
        return raster;
    }
    let luma = |p: &[u8]| {
        let sum = 299 * u32::from(p[0]) + 587 * u32::from(p[1]) + 114 * u32::from(p[2]);
        ((sum + 500) / 1000) as u8
    };
    let pixels = raster.pixels.chunks_exact(3).map(luma).collect();
    Raster { samples: 1, pixels, ..raster }
}

fn rgb(values: &Values, bits_stored: u32) -> Vec<u8> {
    match values {
        Values::U8(bytes) => bytes.clone(),
        Values::I32(words) => {
            let top = f64::from(2u32.saturating_pow(bits_stored.min(31)) - 1);
            let level = |word: &i32| (f64::from(*word) / top * 255.0).round().clamp(0.0, 255.0);
            words.iter().map(|word| level(word) as u8).collect()
        }
        Values::F64(values) => values.iter().map(|value| value.clamp(0.0, 255.0) as u8).collect(),
    }
}

fn grey(frame: &Frame, transform: &Transform, asked: Option<Voi>) -> (Vec<u8>, Voi) {
    let is_asked = asked.is_some();
    let own = asked.or_else(|| transform.own.clone());
    let inverted = frame.colour == Colour::Monochrome1;
    if let Some(voi) = own {
        let pixels = map(&frame.values, transform, &voi, inverted);
        let is_flat = pixels.iter().all(|pixel| *pixel == pixels[0]);
        // A window of the profile may well show nothing; the object's own may not.
        if is_asked || !is_flat {
            return (pixels, voi);
        }
    }
    let voi = by_percentiles(&frame.values, transform);
    (map(&frame.values, transform, &voi, inverted), voi)
}

/// The window from the values themselves, padding left out.
pub fn by_percentiles(values: &Values, transform: &Transform) -> Voi {
    let mut found = sample(values, transform);
    let (low, high) = match found.len().checked_sub(1) {
        None => (0.0, 0.0),
        Some(last) => {
            let mut at = |percent: f64| {
                let at = (percent / 100.0 * last as f64).round() as usize;
                *found.select_nth_unstable_by(at, f64::total_cmp).1
            };
            match (at(PERCENTILES[0]), at(PERCENTILES[1])) {
                (low, high) if high <= low => (at(0.0), at(100.0)),
                both => both,
            }
        }
    };
    Voi::LinearExact { center: (low + high) / 2.0, width: (high - low).max(f64::MIN_POSITIVE) }
}

/// Values in modality units, evenly taken, padding and what is no number left out.
pub fn sample(values: &Values, transform: &Transform) -> Vec<f64> {
    let step = (values.len() / SAMPLES).max(1);
    let stored = (0..values.len()).step_by(step).map(|at| values.get(at));
    let image = stored.filter(|value| value.is_finite() && !transform.is_padding(*value));
    image.map(|value| transform.modality.apply(value)).collect()
}

/// The value below which `percent` of the sorted values lie.
pub fn percentile(sorted: &[f64], percent: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let at = (percent / 100.0 * last as f64).round() as usize;
    sorted.get(at.min(last)).copied()
}

fn map(values: &Values, transform: &Transform, voi: &Voi, inverted: bool) -> Vec<u8> {
    let level = |stored: f64| -> u8 {
        if transform.is_padding(stored) || !stored.is_finite() {
            return 0;
        }
        let level = (voi.apply(transform.modality.apply(stored)) * 255.0).round() as u8;
        if inverted { 255 - level } else { level }
    };
    match values {
        Values::U8(bytes) => {
            let table: Vec<u8> = (0..=255).map(|value| level(f64::from(value))).collect();
            bytes.iter().map(|byte| table[usize::from(*byte)]).collect()
        }
        Values::I32(words) => {
            let both = |(low, high): (i32, i32), word: &i32| (low.min(*word), high.max(*word));
            let (low, high) = words.iter().fold((i32::MAX, i32::MIN), both);
            let range = i64::from(high) - i64::from(low);
            if range > 1 << 17 {
                return words.iter().map(|word| level(f64::from(*word))).collect();
            }
            let table: Vec<u8> = (low..=high).map(|value| level(f64::from(value))).collect();
            // No word is below the least; without a check for it the loop is twice as fast.
            words.iter().map(|word| table[word.wrapping_sub(low) as usize]).collect()
        }
        Values::F64(values) => values.iter().map(|value| level(*value)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(colour: Colour, values: Vec<i32>) -> Frame {
        Frame { rows: 1, columns: values.len(), colour, values: Values::I32(values) }
    }

    fn transform(own: Option<Voi>, padding: Option<[f64; 2]>) -> Transform {
        let modality = Modality::Rescale { slope: 1.0, intercept: -1024.0 };
        Transform { modality, has_modality: true, own, padding }
    }

    /// PS3.3 C.11.2.1.2.1, its own example: c = 2048, w = 4096 maps 0..4095 onto the whole range.
    #[test]
    fn the_linear_window_is_the_standards() {
        let voi = Voi::Linear { center: 2048.0, width: 4096.0 };
        assert_eq!(voi.apply(0.0), 0.0);
        assert_eq!(voi.apply(4095.0), 1.0);
        let narrow = Voi::Linear { center: 0.0, width: 1.0 };
        assert_eq!((narrow.apply(-0.5), narrow.apply(0.0)), (0.0, 1.0));
        let exact = Voi::LinearExact { center: 0.0, width: 100.0 };
        assert_eq!((exact.apply(-50.0), exact.apply(0.0), exact.apply(50.0)), (0.0, 0.5, 1.0));
        let sigmoid = Voi::Sigmoid { center: 0.0, width: 100.0 };
        assert_eq!(sigmoid.apply(0.0), 0.5);
    }

    #[test]
    fn a_profiles_window_is_in_hounsfield_units() {
        let window = Voi::Linear { center: -600.0, width: 1500.0 };
        let frame = frame(Colour::Monochrome2, vec![0, 424, 2000]);
        assert_eq!(grey(&frame, &transform(None, None), Some(window)).0, [55, 128, 255]);
    }

    #[test]
    fn monochrome1_is_inverted_and_padding_stays_black() {
        let own = Some(Voi::LinearExact { center: -824.0, width: 400.0 });
        let frame = frame(Colour::Monochrome1, vec![0, 400, -2000]);
        let transform = transform(own, Some([-2000.0, -2000.0]));
        assert_eq!(grey(&frame, &transform, None).0, [255, 0, 0]);
    }

    #[test]
    fn a_window_that_shows_nothing_gives_way_to_percentiles() {
        let own = Some(Voi::Linear { center: 50_000.0, width: 10.0 });
        let values: Vec<i32> = (0..1000).collect();
        let (shown, _) = grey(&frame(Colour::Monochrome2, values), &transform(own, None), None);
        assert_eq!((shown[0], shown[999]), (0, 255));
        assert!((126..=129).contains(&shown[500]), "{}", shown[500]);
    }
}
