//! Datatypes of FHIR R4 as JSON.

use jiff::Timestamp;
use jiff::civil;
use jiff::tz::TimeZone;
use serde_json::Value;
use serde_json::json;

use crate::domain::code::Code;
use crate::domain::finding::Presence;
use crate::domain::study::PersonName;
use crate::domain::uid;
use crate::report::plain;

pub const TERMINOLOGY: &str = "http://terminology.hl7.org/CodeSystem";

pub fn quantity(value: f64, unit: &str) -> Value {
    json!({"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit})
}

/// Absent, as FHIR's own value sets have it.
pub fn absent(presence: Presence) -> Code {
    match presence {
        Presence::Absent => Code::new("2667000", "SCT", "Absent"),
        other @ (Presence::Present | Presence::Undetermined) => other.code(),
    }
}

/// Whose identifiers and tags are ours.
pub fn system() -> String {
    format!("urn:oid:{}", uid::derived(&["identifiers", "prelim"]))
}

/// "Artificial Intelligence asserted".
pub fn label() -> Value {
    json!({"system": format!("{TERMINOLOGY}/v3-ObservationValue"), "code": "AIAST"})
}

pub fn dicom_uid(uid: &str) -> Value {
    json!({"system": "urn:dicom:uid", "value": format!("urn:oid:{uid}")})
}

pub fn uid_token(uid: &str) -> String {
    token("urn:dicom:uid", &format!("urn:oid:{uid}"))
}

/// `system|value` of a search, with what would end it or mean something escaped.
pub fn token(system: &str, value: &str) -> String {
    let escaped =
        value.replace('\\', "\\\\").replace('|', "\\|").replace(',', "\\,").replace('$', "\\$");
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b':' | b'/');
    let written = |text: &str| -> String {
        text.bytes()
            .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
            .collect()
    };
    format!("{}|{}", written(system), written(&escaped))
}

/// An identifier of a type of table 0203.
pub fn typed(kind: &str, value: &str, system: &str) -> Value {
    let kind = json!({"coding": [{"system": format!("{TERMINOLOGY}/v2-0203"), "code": kind}]});
    let mut identifier = json!({"type": kind, "value": value});
    if !system.is_empty() {
        identifier["system"] = system.into();
    }
    identifier
}

pub fn human_name(group: &str) -> Option<Value> {
    let parts: Vec<String> = group.split('^').map(plain::line).collect();
    let part = |n: usize| parts.get(n).cloned().unwrap_or_default();
    let text = plain::line(
        &PersonName { alphabetic: group.to_owned(), ..PersonName::default() }.display(),
    );
    let mut name = json!({"text": text});
    if text.is_empty() {
        return None;
    }
    if !part(0).is_empty() {
        name["family"] = part(0).into();
    }
    for (key, values) in [
        ("given", [part(1), part(2)]),
        ("prefix", [part(3), String::new()]),
        ("suffix", [part(4), String::new()]),
    ] {
        let values: Vec<String> = values.into_iter().filter(|value| !value.is_empty()).collect();
        if !values.is_empty() {
            name[key] = values.into();
        }
    }
    Some(name)
}

pub fn coding(code: &Code) -> Value {
    let system = match code.scheme.as_str() {
        "SCT" => "http://snomed.info/sct".to_owned(),
        "DCM" => "http://dicom.nema.org/resources/ontology/DCM".to_owned(),
        "LN" => "http://loinc.org".to_owned(),
        "UCUM" => "http://unitsofmeasure.org".to_owned(),
        "RADLEX" => "http://radlex.org".to_owned(),
        scheme => format!("urn:oid:{}", uid::derived(&["scheme", scheme])),
    };
    let value: String = code.value.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut coding = json!({"system": system, "code": plain::line(&value)});
    let meaning = plain::line(&code.meaning);
    if !meaning.is_empty() {
        coding["display"] = meaning.into();
    }
    coding
}

/// - `text`: in the language of the site; empty: the code alone says it.
pub fn concept(code: &Code, text: &str) -> Value {
    match text {
        "" => json!({"coding": [coding(code)]}),
        text => json!({"coding": [coding(code)], "text": text}),
    }
}

pub fn date(da: &str) -> Option<civil::Date> {
    let digits: String = da.trim().chars().filter(|c| !matches!(c, '.' | '-')).collect();
    civil::Date::strptime("%Y%m%d", &digits).ok()
}

pub fn instant(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_holds_nothing_but_its_value() {
        assert_eq!(token("urn:oid:1.2", "A-1"), "urn:oid:1.2|A-1");
        assert_eq!(token("urn:x", "a|b,c&d e$"), "urn:x|a%5C%7Cb%5C%2Cc%26d%20e%5C%24");
    }
}
