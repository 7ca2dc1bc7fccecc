//! A data set as DICOM JSON (PS3.18 F). Written flat into a buffer: no tree of the whole stands in
//! memory. Text is UTF-8 whatever the data set's character sets are.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dicom_core::DataDictionary as _;
use dicom_core::Tag;
use dicom_core::VR;
use dicom_core::dictionary::DataDictionaryEntry as _;
use dicom_core::dictionary::VirtualVr;
use dicom_dictionary_std::StandardDataDictionary;
use dicom_dictionary_std::tags;

use crate::imaging::dataset::DataSet;
use crate::imaging::dataset::Element;
use crate::imaging::dataset::Encoding;
use crate::imaging::dataset::Fields;

/// Sequences in sequences that are written; what lies deeper is left out.
const DEPTH_MAX: usize = 64;
const ITEMS_MAX: usize = 1 << 20;
/// Binary values up to this stand in the JSON itself; longer ones are named by a URI.
const INLINE_BYTES_MAX: usize = 1024;
/// The same for text that may be long (UC, UR, UT, LT, ST).
const TEXT_BYTES_MAX: usize = 64 << 10;
/// Characters of one value in an index.
const INDEX_CHARS_MAX: usize = 256;
const INDEX_VALUES_MAX: usize = 64;

/// What is written of a data set.
pub enum Part<'a> {
    /// Everything; bulk data is named by `<this URI>/<path of tags>`.
    Whole { bulk_uri: &'a str },
    /// These attributes of the top level alone, cut to what an index holds.
    Index(&'a [Tag]),
}

/// Writes the data set without file meta information.
pub fn write(opened: &DataSet, part: &Part<'_>) -> Vec<u8> {
    let top = opened.fields();
    let signed = top.count(tags::PIXEL_REPRESENTATION) == Some(1);
    let mut writer = Writer { out: Vec::new(), part, signed };
    writer.fields(&top, "", 0);
    // Pixel Data stands after all that is looked at.
    if let (Some(pixels), Part::Whole { bulk_uri }) = (&opened.pixels, part) {
        let vr = if pixels.length.is_none() { VR::OB } else { pixels.vr };
        let tag = hex(pixels.tag);
        let comma = if writer.out.ends_with(b"{") { "" } else { "," };
        let _ = write!(
            writer.out,
            "{comma}\"{tag}\":{{\"vr\":\"{vr}\",\"BulkDataURI\":\"{bulk_uri}/{tag}\"}}",
            vr = vr.to_string()
        );
    }
    writer.out.push(b'}');
    writer.out
}

/// Eight hexadecimal digits, as the names in DICOM JSON are.
pub fn hex(tag: Tag) -> String {
    format!("{:04X}{:04X}", tag.0, tag.1)
}

/// The VR that a value has, also where the file does not say it.
pub fn vr_of(element: &Element<'_>, signed: bool) -> VR {
    let unsaid = element.encoding.implicit || element.vr == VR::UN;
    match StandardDataDictionary.by_tag(element.tag).map(|entry| entry.vr()) {
        Some(VirtualVr::Xs) if unsaid => {
            if signed {
                VR::SS
            } else {
                VR::US
            }
        }
        Some(vr) if element.vr == VR::UN => vr.relaxed(),
        _ => element.vr,
    }
}

struct Writer<'a> {
    out: Vec<u8>,
    part: &'a Part<'a>,
    signed: bool,
}

impl Writer<'_> {
    /// An object without its closing brace. `path` is that of the item, with a dot at its end.
    fn fields(&mut self, fields: &Fields<'_>, path: &str, depth: usize) {
        self.out.push(b'{');
        let mut first = true;
        if depth == 0 && matches!(self.part, Part::Whole { .. }) {
            self.out.extend_from_slice(br#""00080005":{"vr":"CS","Value":["ISO_IR 192"]}"#);
            first = false;
        }
        let mut last = None;
        for element in fields.elements() {
            let tag = element.tag;
            let asked = match self.part {
                Part::Whole { .. } => true,
                Part::Index(tags) => depth > 0 || tags.contains(&tag),
            };
            // Group lengths, and what stands twice: a name may stand once in an object.
            let told = tag.1 == 0 || tag == tags::SPECIFIC_CHARACTER_SET || last == Some(tag);
            if !asked || told {
                continue;
            }
            last = Some(tag);
            let vr = vr_of(element, self.signed);
            let comma = if first { "" } else { "," };
            first = false;
            let _ = write!(self.out, "{comma}\"{}\":{{\"vr\":\"{}\"", hex(tag), vr.to_string());
            self.value(fields, element, vr, path, depth);
            self.out.push(b'}');
        }
    }

    fn value(
        &mut self,
        fields: &Fields<'_>,
        element: &Element<'_>,
        vr: VR,
        path: &str,
        depth: usize,
    ) {
        let place = || format!("{path}{}", hex(element.tag));
        if element.outside.is_some() {
            return self.by_uri(&place());
        }
        match vr {
            VR::SQ => self.items(fields, element, path, depth),
            VR::OB | VR::OD | VR::OF | VR::OL | VR::OV | VR::OW | VR::UN => {
                match element.bytes.len() {
                    0 => {}
                    1..=INLINE_BYTES_MAX => self.inline(element, vr),
                    _ => self.by_uri(&place()),
                }
            }
            VR::LT | VR::ST | VR::UC | VR::UR | VR::UT if element.bytes.len() > TEXT_BYTES_MAX => {
                self.by_uri(&place());
            }
            VR::US => self.numbers(element, 2, |b, _| u16::from_le_bytes([b[0], b[1]]).to_string()),
            VR::SS => self.numbers(element, 2, |b, _| i16::from_le_bytes([b[0], b[1]]).to_string()),
            VR::UL => self.numbers(element, 4, |b, _| four(b, u32::from_le_bytes).to_string()),
            VR::SL => self.numbers(element, 4, |b, _| four(b, i32::from_le_bytes).to_string()),
            VR::UV => self.numbers(element, 8, |b, _| eight(b, u64::from_le_bytes).to_string()),
            VR::SV => self.numbers(element, 8, |b, _| eight(b, i64::from_le_bytes).to_string()),
            VR::FL => self.numbers(element, 4, |b, _| {
                // As written by hand: 0.1, not 0.10000000149.
                float(four(b, f32::from_le_bytes).to_string())
            }),
            VR::FD => {
                self.numbers(element, 8, |b, _| float(eight(b, f64::from_le_bytes).to_string()))
            }
            VR::AT => self.numbers(element, 4, |b, _| {
                let word = |at: usize| u16::from_le_bytes([b[at], b[at + 1]]);
                format!("\"{:04X}{:04X}\"", word(0), word(2))
            }),
            VR::PN => self.names(fields.texts(*element, vr)),
            VR::DS | VR::IS => self.decimals(fields.texts(*element, vr)),
            _ => self.texts(fields.texts(*element, vr)),
        }
    }

    fn by_uri(&mut self, place: &str) {
        if let Part::Whole { bulk_uri } = self.part {
            let _ = write!(self.out, ",\"BulkDataURI\":\"{bulk_uri}/{place}\"");
        }
    }

    fn inline(&mut self, element: &Element<'_>, vr: VR) {
        if matches!(self.part, Part::Index(_)) {
            return;
        }
        let bytes = little_endian(element, vr);
        let _ = write!(self.out, ",\"InlineBinary\":\"{}\"", STANDARD.encode(bytes));
    }

    fn items(&mut self, fields: &Fields<'_>, element: &Element<'_>, path: &str, depth: usize) {
        if depth >= DEPTH_MAX || element.bytes.is_empty() {
            return;
        }
        let max = if matches!(self.part, Part::Index(_)) { INDEX_VALUES_MAX } else { ITEMS_MAX };
        let mut element = *element;
        if element.vr == VR::UN {
            // PS3.5 6.2.2: what is written as UN is implicit inside.
            element.encoding = Encoding { implicit: true, big: false };
        }
        let items = fields.items_of(element, max);
        if items.is_empty() {
            return;
        }
        self.out.extend_from_slice(b",\"Value\":[");
        for (number, item) in items.iter().enumerate() {
            if number > 0 {
                self.out.push(b',');
            }
            let path = format!("{path}{}.{}.", hex(element.tag), number + 1);
            self.fields(item, &path, depth + 1);
            self.out.push(b'}');
        }
        self.out.push(b']');
    }

    fn numbers(
        &mut self,
        element: &Element<'_>,
        size: usize,
        number: impl Fn(&[u8], usize) -> String,
    ) {
        let swap = |chunk: &[u8]| -> Vec<u8> {
            match (element.encoding.big, size) {
                (false, _) => chunk.to_vec(),
                // AT is a pair of words.
                (true, 4) if element.vr == VR::AT => {
                    vec![chunk[1], chunk[0], chunk[3], chunk[2]]
                }
                (true, _) => chunk.iter().rev().copied().collect(),
            }
        };
        let values = element.bytes.chunks_exact(size).map(|chunk| number(&swap(chunk), size));
        self.list(values.collect());
    }

    fn texts(&mut self, values: Vec<String>) {
        let quoted = |text: String| match text.is_empty() {
            true => "null".to_owned(),
            false => quote(self.cut(&text)),
        };
        let values = values.into_iter().map(quoted).collect();
        self.list(values);
    }

    /// DS and IS as numbers; what is none stays text (PS3.18 F.2.3).
    fn decimals(&mut self, values: Vec<String>) {
        let decimal = |text: String| {
            let number = text.trim();
            if number.is_empty() {
                return "null".to_owned();
            }
            let found = number.parse::<i64>().map(|n| n.to_string()).ok().or_else(|| {
                let value = number.parse::<f64>().ok().filter(|n| n.is_finite())?;
                serde_json::Number::from_f64(value).map(|n| n.to_string())
            });
            found.unwrap_or_else(|| quote(self.cut(number)))
        };
        let values = values.into_iter().map(decimal).collect();
        self.list(values);
    }

    fn names(&mut self, values: Vec<String>) {
        let name = |text: String| {
            let text = self.cut(&text);
            let groups = ["Alphabetic", "Ideographic", "Phonetic"].into_iter().zip(text.split('='));
            let groups = groups.filter(|(_, group)| !group.is_empty());
            let groups: Vec<String> =
                groups.map(|(key, group)| format!("\"{key}\":{}", quote(group))).collect();
            match groups.is_empty() {
                true => "null".to_owned(),
                false => format!("{{{}}}", groups.join(",")),
            }
        };
        let values = values.into_iter().map(name).collect();
        self.list(values);
    }

    fn cut<'t>(&self, text: &'t str) -> &'t str {
        match (self.part, text.char_indices().nth(INDEX_CHARS_MAX)) {
            (Part::Index(_), Some((end, _))) => &text[..end],
            _ => text,
        }
    }

    fn list(&mut self, mut values: Vec<String>) {
        if matches!(self.part, Part::Index(_)) {
            values.truncate(INDEX_VALUES_MAX);
        }
        if values.iter().all(|value| value == "null") {
            return;
        }
        let _ = write!(self.out, ",\"Value\":[{}]", values.join(","));
    }
}

/// A binary value with its words in little endian order (PS3.18 F.2.7).
pub fn little_endian(element: &Element<'_>, vr: VR) -> Vec<u8> {
    let size = match vr {
        VR::OW => 2,
        VR::OF | VR::OL => 4,
        VR::OD | VR::OV => 8,
        _ => 1,
    };
    let mut bytes = element.bytes.to_vec();
    if element.encoding.big && size > 1 {
        bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
    bytes
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// JSON knows no infinity.
fn float(text: String) -> String {
    let finite = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    if finite { text } else { "null".to_owned() }
}

fn four<T>(b: &[u8], of: fn([u8; 4]) -> T) -> T {
    of([b[0], b[1], b[2], b[3]])
}

fn eight<T>(b: &[u8], of: fn([u8; 8]) -> T) -> T {
    of([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
}

#[cfg(test)]
mod tests {
    use dicom_dictionary_std::uids;
    use serde_json::Value;
    use serde_json::json;

    use super::*;
    use crate::imaging::dataset::tests::long;
    use crate::imaging::dataset::tests::part10;
    use crate::imaging::dataset::tests::short;

    fn whole(elements: &[Vec<u8>]) -> Value {
        let file = part10(uids::EXPLICIT_VR_LITTLE_ENDIAN, &elements.concat());
        let opened = DataSet::of(file).unwrap();
        serde_json::from_slice(&write(&opened, &Part::Whole { bulk_uri: "http://x/bulkdata" }))
            .unwrap()
    }

    #[test]
    fn each_vr_has_its_form() {
        let found = whole(&[
            short(tags::SPECIFIC_CHARACTER_SET, b"CS", b"\\ISO 2022 IR 149 "),
            short(tags::IMAGE_TYPE, b"CS", b"ORIGINAL\\\\AXIAL "),
            short(Tag(0x0009, 0x0000), b"UL", &[4, 0, 0, 0]),
            short(Tag(0x0009, 0x0010), b"LO", b"ACME"),
            long(Tag(0x0009, 0x1001), b"UN", 3, &[1, 2, 3]),
            short(
                tags::PATIENT_NAME,
                b"PN",
                b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=",
            ),
            short(tags::PATIENT_ID, b"LO", b""),
            short(tags::SLICE_THICKNESS, b"DS", b"2.50"),
            short(tags::FRAME_INCREMENT_POINTER, b"AT", &[0x18, 0, 0x63, 0x10]),
            short(tags::INSTANCE_NUMBER, b"IS", b"7 "),
            short(tags::IMAGE_POSITION_PATIENT, b"DS", b"-1e2\\abc\\"),
            short(tags::ROWS, b"US", &[0, 2]),
            short(tags::PIXEL_PADDING_VALUE, b"SS", &[0x30, 0xf8]),
            long(tags::RED_PALETTE_COLOR_LOOKUP_TABLE_DATA, b"OW", 2000, &[7; 2000]),
        ]);
        let expected = json!({
            "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
            "00080008": {"vr": "CS", "Value": ["ORIGINAL", null, "AXIAL"]},
            "00090010": {"vr": "LO", "Value": ["ACME"]},
            "00091001": {"vr": "UN", "InlineBinary": "AQID"},
            "00100010": {"vr": "PN", "Value": [
                {"Alphabetic": "Hong^Gildong", "Ideographic": "洪^吉洞"}]},
            "00100020": {"vr": "LO"},
            "00180050": {"vr": "DS", "Value": [2.5]},
            "00280009": {"vr": "AT", "Value": ["00181063"]},
            "00200013": {"vr": "IS", "Value": [7]},
            "00200032": {"vr": "DS", "Value": [-100.0, "abc", null]},
            "00280010": {"vr": "US", "Value": [512]},
            "00280120": {"vr": "SS", "Value": [-2000]},
            "00281201": {"vr": "OW", "BulkDataURI": "http://x/bulkdata/00281201"},
        });
        assert_eq!(found, expected, "{found:#}");
    }

    #[test]
    fn a_sequence_is_a_list_of_items_and_names_bulk_data_by_its_path() {
        let document = long(Tag(0x5400, 0x1010), b"OW", 4000, &[1; 4000]);
        let item = |content: &[u8]| {
            let head = [&[0xfe, 0xff, 0x00, 0xe0][..], &(content.len() as u32).to_le_bytes()];
            [&head.concat(), content].concat()
        };
        let items = [item(&[]), item(&document)].concat();
        let found = whole(&[long(Tag(0x5400, 0x0100), b"SQ", items.len() as u32, &items)]);
        assert_eq!(
            found["54000100"]["Value"],
            json!([{}, {"54001010": {"vr": "OW",
                "BulkDataURI": "http://x/bulkdata/54000100.2.54001010"}}])
        );
    }

    #[test]
    fn an_index_holds_what_it_asked_for_and_no_more() {
        let long_text = "x".repeat(2000);
        let file = part10(
            uids::EXPLICIT_VR_LITTLE_ENDIAN,
            &[
                short(tags::PATIENT_ID, b"LO", long_text.as_bytes()),
                short(tags::PATIENT_SEX, b"CS", b"F "),
                short(tags::ROWS, b"US", &[0, 2]),
            ]
            .concat(),
        );
        let part = Part::Index(&[tags::PATIENT_ID, tags::ROWS]);
        let found: Value =
            serde_json::from_slice(&write(&DataSet::of(file).unwrap(), &part)).unwrap();
        assert_eq!(found["00100020"]["Value"][0].as_str().unwrap().len(), 256);
        assert_eq!(found["00280010"]["Value"][0], 512);
        assert_eq!(found.as_object().unwrap().len(), 2);
    }
}
