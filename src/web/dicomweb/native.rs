//! Attributes as XML: the Native DICOM Model (PS3.19 A.1), made of the JSON model (PS3.18 F).

use std::fmt::Write as _;

use dicom_core::DataDictionary as _;
use dicom_core::Tag;
use dicom_core::dictionary::DataDictionaryEntry as _;
use dicom_dictionary_std::StandardDataDictionary;
use serde_json::Map;
use serde_json::Value;

pub const DICOM_XML: &str = "application/dicom+xml";

/// One document.
///
/// - `attributes`: by tag as eight hexadecimal digits, each with `vr` and `Value`: texts, numbers and
///   items of sequences. Names of persons and bulk data do not occur in what is made of it.
pub fn document(attributes: &Map<String, Value>) -> String {
    let mut xml = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><NativeDicomModel \
         xmlns=\"http://dicom.nema.org/PS3.19/models/NativeDICOM\" xml:space=\"preserve\">",
    );
    put_all(&mut xml, attributes);
    xml.push_str("</NativeDicomModel>");
    xml
}

fn put_all(xml: &mut String, attributes: &Map<String, Value>) {
    for (tag, attribute) in attributes {
        let vr = attribute["vr"].as_str().unwrap_or("UN");
        let keyword = keyword(tag).map(|word| format!(" keyword=\"{word}\"")).unwrap_or_default();
        let _ = write!(xml, "<DicomAttribute tag=\"{}\" vr=\"{vr}\"{keyword}>", escaped(tag));
        for (value, number) in attribute["Value"].as_array().into_iter().flatten().zip(1..) {
            match value {
                Value::Object(item) => {
                    let _ = write!(xml, "<Item number=\"{number}\">");
                    put_all(xml, item);
                    xml.push_str("</Item>");
                }
                Value::Null => {}
                value => {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    let _ = write!(xml, "<Value number=\"{number}\">{}</Value>", escaped(&text));
                }
            }
        }
        xml.push_str("</DicomAttribute>");
    }
}

fn keyword(tag: &str) -> Option<&'static str> {
    let number = u32::from_str_radix(tag, 16).ok()?;
    let tag = Tag((number >> 16) as u16, number as u16);
    StandardDataDictionary.by_tag(tag).map(|entry| entry.alias())
}

fn escaped(text: &str) -> String {
    let escape = |c: char| match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        c => c.to_string(),
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_sequence_is_items_with_numbers_keywords_and_escaped_values() {
        let model = json!({"00081198": {"vr": "SQ", "Value": [
            {"00081155": {"vr": "UI", "Value": ["1.2.3"]}, "00081197": {"vr": "US", "Value": [43264]}},
            {"00081190": {"vr": "UR", "Value": ["http://a/?x=1&y=<2>"]}},
        ]}});
        let xml = document(model.as_object().unwrap());
        for part in [
            "xmlns=\"http://dicom.nema.org/PS3.19/models/NativeDICOM\"",
            "<DicomAttribute tag=\"00081198\" vr=\"SQ\" keyword=\"FailedSOPSequence\">",
            "<Item number=\"1\"><DicomAttribute tag=\"00081155\" vr=\"UI\" keyword=\"ReferencedSOPInstanceUID\">\
             <Value number=\"1\">1.2.3</Value></DicomAttribute>",
            "<Value number=\"1\">43264</Value></DicomAttribute></Item><Item number=\"2\">",
            "http://a/?x=1&amp;y=&lt;2&gt;</Value></DicomAttribute></Item></DicomAttribute></NativeDicomModel>",
        ] {
            assert!(xml.contains(part), "{part} in {xml}");
        }
    }
}
